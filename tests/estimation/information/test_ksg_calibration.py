import math

import pytest
import torch

import mimachine as mm
from mimachine.estimation.information.ksg_calibration import (
    KSGCalibration,
    _correlated,
    ksg_of_gaussian,
)

FEW = (0.0, 1.0, 2.0, 4.0)


@pytest.mark.parametrize(("x_dim", "z_dim"), [(1, 1), (3, 2), (2, 5)])
def test_the_gaussians_have_the_information_that_is_said(x_dim, z_dim):
    generator = torch.Generator().manual_seed(0)
    x, noise = (
        torch.randn(20_000, dims, generator=generator, dtype=torch.float64)
        for dims in (x_dim, z_dim)
    )
    joint = torch.cat([x, _correlated(x, noise, 1.5)], 1)
    covariance = joint.T.cov()
    # log-determinants of sample covariances: the error of each correlation is 1/√N.
    information = 0.5 * (
        covariance[:x_dim, :x_dim].logdet()
        + covariance[x_dim:, x_dim:].logdet()
        - covariance.logdet()
    )
    assert float(information) == pytest.approx(1.5, abs=5 * math.sqrt(x_dim * z_dim / 20_000))


def test_a_curve_in_two_dimensions_is_that_of_the_truth():
    curve = mm.ksg_calibration(1, 1, 1000, FEW, num_draws=4)
    # The bias begins above 2 nats, as 1,000 points have a ceiling of 5.4.
    for truth, estimate in zip(curve.truths[:3], curve.estimates, strict=False):
        assert abs(estimate.value - truth) < 5 * estimate.standard_error + 0.02
        assert curve.estimate_of(truth) == pytest.approx(estimate.value)
        assert curve.truth_behind(curve.estimate_of(truth)) == pytest.approx(truth, abs=1e-6)
    assert curve.truth_behind(curve.estimate_of(3.0)) == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize(("x_dim", "z_dim", "k"), [(1, 1, 5), (3, 2, 1), (8, 12, 4)])
def test_a_single_value_is_that_of_the_calibration_of_one_draw(x_dim, z_dim, k):
    for truth in (0.0, 0.7, 8.0):
        curve = mm.ksg_calibration(x_dim, z_dim, 200, (truth,), k=k)
        assert ksg_of_gaussian(x_dim, z_dim, 200, truth, k) == curve.estimates[0].value


def test_in_many_dimensions_an_estimate_has_a_larger_truth_behind_it():
    curve = mm.ksg_calibration(15, 15, 400, (0, 2, 4, 8, 16))
    x = torch.randn(400, 15, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = torch.randn(400, 15, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    estimate = mm.mutual_information(x, _correlated(x, noise, 6.0))
    # Remaining scatter of KSG times the slope of the curve.
    slope = 4 / (curve.estimate_of(8) - curve.estimate_of(4))
    assert estimate.value < 3
    error = 5 * math.sqrt(2) * estimate.standard_error * slope
    assert abs(curve.truth_behind(estimate) - 6) < error
    assert f"KSG estimates {estimate.value:.2f} nats" in curve.statement(estimate)
    assert "15 + 15 dimensions and 400 points" in curve.statement(estimate)


def test_what_the_curve_does_not_reach_has_no_truth():
    curve = mm.ksg_calibration(1, 1, 100, (0.5, 1.0))
    assert curve.truth_behind(5.0) == math.inf
    assert "more than for a Gaussian" in curve.statement(5.0)
    assert curve.truth_behind(-1.0) == 0.5
    assert "less than for a Gaussian" in curve.statement(-1.0)
    assert "true information is 0.5" in curve.statement(-1.0)
    with pytest.raises(ValueError, match=r"must be in the calibrated range \[0.5, 1\], got 3"):
        curve.estimate_of(3)


def test_dips_of_noise_leave_the_curve_rising():
    estimates = tuple(mm.Estimate(value, 0.1) for value in (0.0, 1.0, 0.9, 2.0))
    curve = KSGCalibration(1, 1, 100, 5, "ksg1", FEW, estimates)
    assert curve.truth_behind(1.0) == 1.0
    assert 2 <= curve.truth_behind(1.5) < 4
    assert curve.estimate_of(2.0) == 1.0


def test_a_call_gives_the_same_curve_and_leaves_the_generator():
    state = torch.get_rng_state()
    first = mm.ksg_calibration(2, 1, 60, FEW)
    assert mm.ksg_calibration(2, 1, 60, FEW) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert str(first).splitlines()[1].startswith("truth 1 nats: KSG ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x_dim": 0}, "x_dim must be 1 or more, got 0"),
        ({"num_draws": 0}, "num_draws must be 1 or more, got 0"),
        ({"information": ()}, "one or more increasing numbers"),
        ({"information": (1.0, 0.5)}, "one or more increasing numbers"),
        ({"information": (-1.0, 0.5)}, "0 or more"),
        ({"information": (0.0, math.inf)}, "0 or more"),
        ({"k": 50}, "k must be a whole number"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        mm.ksg_calibration(**{"x_dim": 1, "z_dim": 1, "num_data": 50, **arguments})


def test_an_estimate_of_other_data_has_no_place_on_the_curve():
    curve = mm.ksg_calibration(1, 1, 100, FEW)
    other = mm.mutual_information(torch.randn(90), torch.randn(90))
    with pytest.raises(ValueError, match=r"N and k, \(100, 5\), got \(90, 5\)"):
        curve.truth_behind(other)
