import math

import numpy as np
import pytest
import torch
from scipy.special import hyp1f1
from torch.distributions import Independent, Normal, kl_divergence

import mimachine as mm
from mimachine.estimation.codes.aggregate import _distances_from_normal
from mimachine.estimation.two_samples.distances import concentration


def test_kl_per_dimension_is_that_of_torch_and_sums_to_the_rate():
    mean, std = torch.randn(50, 3, 2), torch.rand(50, 3, 2) + 0.1
    for centre, width in ((0.0, 1.0), (torch.randn(3, 2), torch.rand(3, 2) + 0.5)):
        expected = kl_divergence(Normal(mean, std), Normal(centre, width)).mean(0).flatten()
        found = mm.kl_per_dimension(mean, std, centre, width)
        torch.testing.assert_close(found.float(), expected)
    prior = Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 2)
    rate = kl_divergence(Independent(Normal(mean, std), 2), prior).mean()
    torch.testing.assert_close(mm.kl_per_dimension(mean, std).sum().float(), rate)
    assert not mm.kl_per_dimension(torch.zeros(5, 2), torch.ones(5, 2)).any()


def test_a_dimension_without_noise_has_an_infinite_kl():
    found = mm.kl_per_dimension(torch.randn(5, 2), torch.tensor([[0.0, 1.0]]).expand(5, 2))
    assert found.isinf().tolist() == [True, False]


def test_what_kl_cannot_use_is_refused_by_name():
    z = torch.randn(5, 2)
    with pytest.raises(ValueError, match=r"std must have mean's shape \(5, 2\), got \(2,\)"):
        mm.kl_per_dimension(z, torch.ones(2))
    with pytest.raises(ValueError, match="std must be 0 or more, got -1"):
        mm.kl_per_dimension(z, -torch.ones(5, 2))
    with pytest.raises(ValueError, match="prior_std must be positive, got 0"):
        mm.kl_per_dimension(z, z.exp(), 0.0, 0.0)
    with pytest.raises(ValueError, match=r"prior_mean must be a number or of shape \(2,\)"):
        mm.energy_distance_from_normal(z, torch.zeros(3))
    with pytest.raises(ValueError, match="z must have 4 samples or more, got 3"):
        mm.energy_distance_from_normal(z[:3])
    with pytest.raises(ValueError, match="z must be finite"):
        mm.energy_distance_from_normal(z / 0)


@pytest.mark.parametrize("dimensions", [1, 2, 5, 40])
def test_the_mean_distance_from_a_normal_is_that_of_a_non_central_chi(dimensions):
    norms = np.array([0.0, 1e-3, 0.5, 3.0, 10.0])
    central = math.sqrt(2) * math.exp(
        math.lgamma((dimensions + 1) / 2) - math.lgamma(dimensions / 2)
    )
    expected = central * hyp1f1(-0.5, dimensions / 2, -(norms**2) / 2)
    np.testing.assert_allclose(_distances_from_normal(norms, dimensions), expected, rtol=1e-12)


def test_the_mean_distance_of_a_far_point_is_its_norm():
    # |u - e| = |u| + (D - 1) / 2|u| + ..., the terms left out being O(D² / |u|³).
    norms = np.array([1e4, 1e8])
    for dimensions in (1, 784):
        expected = norms + (dimensions - 1) / (2 * norms)
        found = _distances_from_normal(norms, dimensions)
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def relative(mean, std):
    """The energy distance of N(mean, std²) in one dimension, from means of folded normals."""
    width = math.sqrt(1 + std**2)
    folded = width * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / (2 * width**2))
    folded += mean * math.erf(mean / (width * math.sqrt(2)))
    return (2 * folded - 2 * std / math.sqrt(math.pi)) / (2 / math.sqrt(math.pi)) - 1


# Of as many normals as dimensions, each of the same width about 0, the distance is known too.
CASES = [(0.0, 1.0, 1), (0.5, 1.0, 1), (-1.0, 0.3, 1), (0.0, 2.0, 1), (0.0, 1.0, 8), (0.0, 0.6, 8)]


@pytest.mark.parametrize(("mean", "std", "dimensions"), CASES)
def test_the_energy_distance_is_unbiased_and_its_error_is_its_scatter(mean, std, dimensions):
    repeats, count = 300, 60
    found = [
        mm.energy_distance_from_normal(mean + std * torch.randn(count, dimensions))
        for _ in range(repeats)
    ]
    values = torch.tensor([each.value for each in found]).double()
    if dimensions == 1:
        expected = relative(abs(mean), std)
    else:
        expected = math.sqrt(2 + 2 * std**2) - std - 1
    scatter = float(values.std())
    assert abs(float(values.mean()) - expected) < 5 * scatter / math.sqrt(repeats)
    # The scatter of 300 normal values has an error of 4 %, and these are somewhat skewed. At
    # the prior itself the noise of single pairs counts once too often, in few directions.
    error = math.sqrt(sum(each.standard_error**2 for each in found) / repeats)
    most = (1.8 if dimensions == 1 else 1.6) if (mean, std) == (0, 1) else 1.2
    assert 0.8 * scatter < error < most * scatter


def test_estimate_and_error_are_those_of_the_matrix_of_pairs():
    z = 2 + torch.randn(15, 3).double()
    norms, pairs = z.norm(dim=1), torch.cdist(z, z).numpy()
    of_prior = 2 * math.gamma(2) / math.gamma(1.5)
    from_prior = _distances_from_normal(norms.numpy(), 3)
    kernel = from_prior[:, None] + from_prior - pairs - of_prior
    others = ~np.eye(15, dtype=bool)
    rows = kernel[others].reshape(15, 14).mean(1)
    # Var(mean over others) = z1 + (z2 - z1) / (N - 1), with z1 and z2 Hoeffding's variances.
    second = kernel[others].var()
    # In one direction all of the noise of single pairs stays in the first of them.
    noise = (1 - concentration(z)) * second
    first = (rows.var(ddof=1) - noise / 14) / (1 - 1 / 14)
    variance = 4 * 13 / (15 * 14) * first + 2 / (15 * 14) * second
    found = mm.energy_distance_from_normal(z)
    assert found.value == pytest.approx(kernel[others].mean() / of_prior, rel=1e-9)
    assert found.standard_error == pytest.approx(math.sqrt(variance) / of_prior, rel=1e-9)


def test_a_shift_in_many_dimensions_is_half_its_square():
    found = mm.energy_distance_from_normal(0.3 + torch.randn(2000, 100))
    assert abs(found.value - 0.045) < 5 * found.standard_error + 0.002


def test_the_prior_may_be_any_diagonal_normal():
    centre, width = torch.randn(3).double(), (torch.rand(3) + 0.5).double()
    z = torch.randn(200, 3, dtype=torch.float64)
    moved = mm.energy_distance_from_normal(centre + width * z, centre, width)
    assert moved.value == pytest.approx(mm.energy_distance_from_normal(z).value, abs=1e-12)


def test_codes_that_are_numbers_are_those_of_one_dimension():
    z = torch.randn(50, 1, dtype=torch.float64)
    assert mm.energy_distance_from_normal(z[:, 0]) == mm.energy_distance_from_normal(z)


def test_the_energy_distance_does_not_depend_on_directions_or_order():
    z = torch.randn(150, 4, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.1, 1.0])
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    found, turned = (
        mm.energy_distance_from_normal(z),
        mm.energy_distance_from_normal((z @ rotation).flip(0)),
    )
    assert turned.value == pytest.approx(found.value, abs=1e-12)
    assert turned.standard_error == pytest.approx(found.standard_error, rel=1e-9)
