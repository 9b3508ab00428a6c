"""Learning-rate schedules."""

import math

import pytest

import mimachine as mm
from mimachine.experiment import default, from_json, to_json
from mimachine.training import schedules

SCHEDULES = (
    mm.Noam(4),
    mm.Constant(2),
    mm.Cosine(3, 0.1),
    mm.WarmupStableDecay(2, 7, 0.01),
    *(mm.Noam(), mm.Constant(), mm.Cosine(), mm.WarmupStableDecay()),
)


def factors(schedule, epochs):
    return [schedule.factor(epoch, epochs) for epoch in range(1, epochs + 1)]


def test_noam_rises_linearly_and_falls_like_the_root():
    factors = [mm.Noam(3).factor(epoch, 12) for epoch in range(1, 13)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert factors[3:] == pytest.approx([math.sqrt(3 / epoch) for epoch in range(4, 13)])


@pytest.mark.parametrize("warmup", [1, 3, 10])
def test_noam_is_the_schedule_of_vaswani_et_al_at_a_peak_of_one(warmup):
    def published(step, width):
        return width**-0.5 * min(step**-0.5, step * warmup**-1.5)

    for epoch in range(1, 40):
        expected = published(epoch, 512) / published(warmup, 512)
        assert mm.Noam(warmup).factor(epoch, 40) == pytest.approx(expected)


def test_a_constant_rate_is_reached_in_equal_steps():
    assert factors(mm.Constant(), 3) == [1, 1, 1]
    assert factors(mm.Constant(3), 5) == [0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize(("epochs", "final"), [(1, 0.0), (10, 0.0), (9, 0.2)])
def test_a_cosine_is_that_of_the_middles_of_the_epochs(epochs, final):
    found = factors(mm.Cosine(final=final), epochs)
    assert found == sorted(found, reverse=True)
    # Antisymmetric about the middle, so its mean is that of both ends.
    for first, last in zip(found, reversed(found), strict=True):
        assert first + last == pytest.approx(1 + final)
    whole = [mm.Cosine().factor(epoch, 100_000) for epoch in (1, 25_000, 50_000, 100_000)]
    assert whole == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, 0], abs=1e-4)


def test_a_warm_up_of_the_rate_comes_before_its_decay():
    found = factors(mm.Cosine(4), 20)
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert found[4:] == pytest.approx(factors(mm.Cosine(), 16))


def test_a_stable_rate_does_not_depend_on_the_number_of_epochs():
    schedule = mm.WarmupStableDecay(2, 5)
    short, long = factors(schedule, 15), factors(schedule, 100)
    assert short[:10] == long[:10] == pytest.approx([1 / 3, 2 / 3, *[1] * 8])
    assert short[10:] == long[95:]
    # 1 - √t in the middle of each epoch.
    assert short[10:] == pytest.approx([1 - math.sqrt(t) for t in (0.1, 0.3, 0.5, 0.7, 0.9)])
    assert factors(mm.WarmupStableDecay(0, 5, 0.1), 15)[-1] > 0.1


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_is_read_again_from_its_text_and_from_json(schedule):
    assert schedules.named(schedules.text(schedule)) == schedule
    settings = default("digits")
    training = mm.Training(schedule=schedule)
    changed = type(settings)(training=training)
    assert from_json(to_json(changed)) == changed
    assert all(0 < factor <= 1 for factor in factors(schedule, 30))


def test_a_stored_schedule_without_a_kind_is_the_first_one():
    stored = to_json(default("digits"))
    stored["training"]["schedule"] = {"warmup": 5}
    assert from_json(stored).training.schedule == mm.Noam(5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cosin", "schedule must be one of constant, cosine, .*got 'cosin'.*cosine"),
        ("noam:x", "schedule.warmup must be a number, got 'x'"),
        ("noam:0", "schedule.warmup must be 1 or more, got 0"),
        ("cosine:0:1", r"schedule.final must be in \[0, 1\), got 1"),
        ("cosine:1:0:3", "schedule must be cosine:warmup:final at most"),
        ("warmup-stable-decay:1:0", "schedule.decay must be 1 or more, got 0"),
        ("", "schedule must be one of"),
    ],
)
def test_what_is_no_schedule_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        schedules.named(words)
