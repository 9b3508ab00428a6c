import math
from dataclasses import replace

import pytest
import torch
from oracles import Discrete, LinearGaussian

import mimachine as mm
from mimachine.evaluation import generated
from mimachine.evaluation.generated import generated_of_model

NAMES = {"generated_auc", "generated_energy_distance"}


def measured(model, x):
    encoded = mm.codes(model, x)
    return {each.name: each for each in generated_of_model(model.eval(), x, encoded)}


def exact(count):
    """A linear-Gaussian model of its data, with rows."""
    case = LinearGaussian.consistent(3, 2, seed=1)
    root = torch.linalg.cholesky(case.data.covariance)
    x = case.data.mean + torch.randn(count, 3, dtype=torch.float64) @ root.T
    return case, x


def joint(case):
    encoder, decoder, _, _, _ = case.modules()
    return mm.Joint(encoder, decoder, mm.StandardNormal(2).double())


def test_generated_rows_of_a_shifted_decoder_are_at_the_distance_of_shifted_normals():
    """Against the distance of other samples of both normals, and the AUC of the best rule."""
    case, x = exact(1500)
    shift = torch.tensor([0.8, -0.4, 0.2]).double()
    found = measured(joint(replace(case, b=case.b + shift)), x)
    root = torch.linalg.cholesky(case.data.covariance)
    one, other = (case.data.mean + torch.randn(3000, 3).double() @ root.T for _ in range(2))
    expected = mm.energy_distance(one + shift, other, standardize=False)
    distance = found["generated_energy_distance"]
    error = math.hypot(distance.standard_error, expected.standard_error)
    assert abs(distance.value - expected.value) < 4 * error
    assert distance.value > 5 * distance.standard_error
    # Mahalanobis' distance δ of the means gives an AUC of Φ(δ / √2).
    delta = torch.linalg.solve_triangular(root, shift[:, None], upper=False).norm()
    best = float(torch.special.ndtr(delta / math.sqrt(2)))
    auc = found["generated_auc"]
    assert best - 0.05 < auc.value < best + 4 * auc.standard_error


def test_images_are_generated_and_fewer_where_pixels_are_drawn_in_turn(monkeypatch):
    torch.manual_seed(0)
    model = mm.pixel_hvae((1, 4, 4), latents=(2, 3), hidden=4, channels=2)
    x = torch.rand(60, 1, 4, 4).round()
    found = measured(model, x)
    assert set(found) == NAMES
    assert found["generated_auc"].notes == ()
    monkeypatch.setattr(generated, "DRAWN_VALUES", 8 * 16 * 30)
    assert measured(model, x)["generated_auc"].notes == ("from 30 random rows of 60",)
    monkeypatch.setattr(generated, "DRAWN_VALUES", 1)
    assert measured(model, x)["generated_auc"].notes == ("from 20 random rows of 60",)


def test_generated_rows_of_a_table_are_those_of_its_marginal():
    case = Discrete.consistent(3, 4, 0)
    encoder, decoder, prior, _, _ = case.modules()
    x = torch.multinomial(case.P_x, 800, replacement=True)[:, None].double()
    found = measured(mm.Joint(encoder, decoder, prior), x)
    for name, expected in (("generated_auc", 0.5), ("generated_energy_distance", 0.0)):
        assert abs(found[name].value - expected) < 4 * found[name].standard_error


def test_what_cannot_be_compared_is_left_out():
    case, x = exact(30)
    assert set(measured(joint(case), x)) == NAMES
    assert not measured(joint(case), x[:19])
    assert set(measured(joint(case), x[:1].expand(30, 3))) == {"generated_auc"}
    assert not measured(joint(replace(case, b=case.b / 0)), x)


@pytest.mark.parametrize("count", [1, 5, 19])
def test_evaluate_leaves_generated_rows_out_where_there_are_few(count):
    case, x = exact(count)
    report = mm.evaluate(joint(case), mm.Dataset("few", x, x, x), num_samples=2)
    assert not any(report.has(name) for name in NAMES)
