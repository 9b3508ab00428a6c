"""Errors of reconstructions, by a model and by arrays."""

import math

import torch
from oracles import LinearGaussian, draws, joint

import mimachine as mm


def test_a_model_and_its_arrays_have_the_same_errors():
    case = LinearGaussian.random(4, 2, seed=3)
    model, x = joint(case), draws(case.data, 2000)
    data = mm.datasets.Dataset("linear", x, x, x)
    report = mm.evaluate(model, data, num_samples=2)
    with torch.no_grad():
        encoded = mm.codes(model, x)
        reconstructed = model.decoder(encoded.mean).mean
    diagnosis = mm.diagnose(x, encoded.mean, encoded.std, reconstructed)
    for name, expected in (
        ("reconstruction_rmse", (reconstructed - x).square().mean().sqrt()),
        ("reconstruction_mae", (reconstructed - x).abs().mean()),
    ):
        for measured in (report[name], diagnosis[name]):
            torch.testing.assert_close(measured.value, float(expected), rtol=1e-6, atol=0)


def test_the_absolute_error_of_a_gaussian_is_that_of_its_deviation():
    case = LinearGaussian.random(3, 3, seed=1)
    x = draws(case.data, 20_000)
    scale = torch.tensor([0.5, 1.0, 2.0]).double()
    found = mm.diagnose(x, x, 0.1, x + scale * torch.randn_like(x))["reconstruction_mae"]
    # E|s e| = s (2 / pi)^(1/2) for a standard normal e.
    expected = float(scale.mean()) * math.sqrt(2 / math.pi)
    assert abs(found.value - expected) < 5 * found.standard_error
