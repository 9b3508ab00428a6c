"""Verdicts on trainings, by curves of known shape and by trainings."""

import math
import random

import pytest
import torch

import mimachine as mm
from mimachine.training.convergence import convergence
from mimachine.training.recipe import Training
from mimachine.training.records import Epoch


def epochs(losses, schedule=None, warmup=0, count=None):
    count = count or len(losses)
    factor = (schedule or mm.Constant()).factor
    return [
        Epoch(e, min(1.0, e / warmup) if warmup else 1.0, 1e-3 * factor(e, count), loss, loss)
        for e, loss in enumerate(losses, 1)
    ]


def curve(count, rate, noise=0.0, seed=0):
    generator = random.Random(seed)
    return [100 + 50 * math.exp(-rate * e) + noise * generator.gauss(0, 1) for e in range(count)]


def verdict(losses, last=None, **options):
    records = epochs(losses, **options)
    return convergence(records, last or len(records)).verdict


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.5])
def test_a_loss_that_falls_at_the_last_epoch_is_told_from_one_that_does_not(noise):
    falling = [verdict(curve(100, 0.01, noise, seed)) for seed in range(20)]
    flat = [verdict(curve(400, 0.1, noise, seed)) for seed in range(20)]
    assert falling.count("still falling") >= (20 if noise < 0.5 else 8)
    # By chance the last tenth has the lowest of the plateau in a tenth of the trainings.
    assert flat.count("converged") >= 18


def test_a_training_that_stopped_before_its_last_epoch_has_converged():
    assert verdict(curve(100, 0.01), last=200) == "converged"


def test_a_rate_that_has_decayed_ends_a_training():
    records = epochs(curve(100, 0.01), schedule=mm.Cosine())
    found = convergence(records, 100)
    assert found.verdict == "converged"
    assert "the learning rate has decayed; the best epoch was 100 of 100" in found.reason
    assert verdict(curve(100, 0.01), schedule=mm.Noam(3)) == "still falling"


def test_few_epochs_that_end_with_the_best_were_too_few():
    assert verdict([3.0, 2.0, 1.0]) == "still falling"
    assert verdict([3.0, 1.0, 2.0]) == "converged"


def test_spikes_are_counted():
    losses = curve(100, 0.05, 0.02)
    losses[40] += 30
    losses[70] += 20
    found = convergence(epochs(losses), 100)
    assert found.verdict == "unstable"
    assert "2 spikes, in epoch 41, 71" in found.reason


def test_a_loss_that_rises_after_the_warm_up_was_best_at_its_start():
    rising = [10.0, 9.0, 8.0, *(8.0 + 0.1 * e for e in range(1, 30))]
    found = convergence(epochs(rising, warmup=3), len(rising))
    assert found.verdict == "best at the start"
    assert "epoch 3" in found.reason


def test_a_training_without_the_whole_objective_is_not_judged():
    assert verdict([3.0, 2.0], warmup=5) == "not warmed up"
    with pytest.raises(ValueError, match="at least one epoch"):
        convergence([], 3)


def test_each_of_several_models_is_judged():
    falling, flat = curve(100, 0.01), curve(100, 0.5)
    records = [
        Epoch(e, 1.0, 1e-3, list(pair), list(pair))
        for e, pair in enumerate(zip(falling, flat, strict=True), 1)
    ]
    diverged = [Epoch(e, 1.0, 1e-3, [1.0 / e, None], [1.0 / e, None]) for e in range(1, 5)]
    assert [each.verdict for each in convergence(records, 100)] == ["still falling", "converged"]
    assert [each.verdict for each in convergence(diverged, 4)] == ["still falling", "not warmed up"]


def test_trainings_of_a_table_are_judged():
    torch.manual_seed(0)
    x = torch.randn(300, 2) @ torch.randn(2, 6) + 0.1 * torch.randn(300, 6)

    def trained(recipe):
        torch.manual_seed(1)
        model = mm.Joint(
            mm.Gaussian(mm.MLP(6, 4, (32,))),
            mm.Gaussian(mm.MLP(2, 12, (32,))),
            mm.StandardNormal(2),
        )
        return mm.fit(mm.Loss(model, mm.VAE), x[:200], x[200:], recipe)

    short = trained(Training(20, 64, warmup=2))
    assert short.convergence.verdict == "still falling"
    decayed = trained(Training(150, 64, 3e-3, warmup=2, schedule=mm.Cosine(), patience=150))
    assert decayed.convergence.verdict == "converged"
