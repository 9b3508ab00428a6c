"""The recipe of a training run, as values."""

import math

import pytest

import mimachine as mm


@pytest.mark.parametrize("epochs", [1, 4, 10])
def test_warm_up_rises_linearly_to_one_and_stays(epochs):
    betas = [mm.Warmup(epochs).at(epoch).beta for epoch in range(1, 2 * epochs + 1)]
    assert betas[:epochs] == pytest.approx([(e + 1) / epochs for e in range(epochs)])
    assert betas[epochs - 1 :] == [1.0] * (epochs + 1)


def test_no_warm_up_is_the_full_objective_from_the_first_epoch():
    assert mm.Warmup(0).at(1) == mm.Annealing()
    assert mm.Warmup(0, decoding="after").at(1) == mm.Annealing()


def test_default_warm_up_takes_both_halves_and_leaves_the_terms_to_the_objective():
    assert mm.Warmup(4).at(1) == mm.Annealing(0.25, None, True, "mean")


def test_terms_are_placed_during_the_warm_up_alone():
    warmup = mm.Warmup(4, ("q_x", "p_z"))
    assert [warmup.at(e).terms for e in (1, 3, 4, 5)] == [("q_x", "p_z")] * 2 + [None] * 2


def test_published_warm_up():
    warmup = mm.Warmup(3, ("q_z_given_x", "q_x"), decoding="after", halves="sum")
    first, second, third = (warmup.at(epoch) for epoch in (1, 2, 3))
    assert first == mm.Annealing(1 / 3, ("q_z_given_x", "q_x"), False, "sum")
    assert second == mm.Annealing(2 / 3, ("q_z_given_x", "q_x"), False, "sum")
    assert third == warmup.at(100) == mm.Annealing(1.0, None, True, "sum")


def test_a_number_stands_for_a_warm_up():
    assert mm.Training(warmup=7) == mm.Training(warmup=mm.Warmup(7))
    assert mm.Training(warmup=7).annealing == mm.Warmup(7)
    warmup = mm.Warmup(7, halves="sum")
    assert mm.Training(warmup=warmup).annealing is warmup


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        (mm.Training(warmup=0), 10),
        (mm.Training(warmup=10), 10),
        (mm.Training(warmup=25), 25),
        (mm.Training(warmup=25, patience=3), 3),
        (mm.Training(schedule=mm.Noam()), 10),
        # The last epochs are those of the lowest rate.
        (mm.Training(90, schedule=mm.Cosine()), 90),
        (mm.Training(90, schedule=mm.WarmupStableDecay()), 90),
        (mm.Training(90, schedule=mm.Cosine(), patience=3), 3),
    ],
)
def test_patience_is_the_warm_up_and_at_least_ten_or_without_end_if_the_rate_decays(
    training, expected
):
    assert training.stop_after == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.Training(epochs=0), "training.epochs must be 1 or more, got 0"),
        (lambda: mm.Training(batch_size=0), "training.batch_size must be 1 or more, got 0"),
        (
            lambda: mm.Training(learning_rate=0.0),
            "learning_rate must be positive and finite, got 0.0",
        ),
        (
            lambda: mm.Training(learning_rate=math.nan),
            "learning_rate must be a finite number, got nan",
        ),
        (lambda: mm.Training(ema_decay=1.0), r"ema_decay must be in \[0, 1\), got 1.0"),
        (
            lambda: mm.Training(ema_decay=math.nan),
            "ema_decay must be a finite number or None, got nan",
        ),
        (lambda: mm.Training(gradient="clipped"), "training.gradient must be .* got 'clipped'"),
        (lambda: mm.Training(precision="half"), "training.precision must be .* got 'half'"),
        (lambda: mm.Training(patience=0), "training.patience must be 1 or more, got 0"),
        (
            lambda: mm.Training(epochs=5, warmup=6),
            "training.epochs must be at least the warm-up's 6, got 5",
        ),
        (lambda: mm.Warmup(-1), "warmup.epochs must be 0 or more, got -1"),
        (lambda: mm.Training(warmup=-1), "warmup.epochs must be 0 or more, got -1"),
        (lambda: mm.Noam(0), "schedule.warmup must be 1 or more, got 0"),
        (lambda: mm.Warmup(3, decoding="never"), "decoding must be .* got 'never'"),
        (lambda: mm.Warmup(3, halves="max"), "halves must be .* got 'max'"),
        (lambda: mm.Warmup(3, terms=("q_y",)), "terms must be .* got .*q_y"),
        (lambda: mm.Training(validation_noise="none"), "validation_noise must be .* got 'none'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_recipes_reject_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_warm_up_may_take_all_epochs():
    assert mm.Training(epochs=6, warmup=6).annealing.at(6) == mm.Annealing()
