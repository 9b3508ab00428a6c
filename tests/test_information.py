import math

import numpy as np
import pytest
import torch
from scipy.special import digamma

import mimachine as mm
from mimachine.information import _near_by_pairs, _near_by_tree


def correlated(count, dims, rho, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dims))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=(count, dims))


def brute_force(x, z, k):
    """Counts straight from the definition, one point at a time."""
    rows = []
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        dx = np.abs(x - x[i]).max(1)[others]
        dz = np.abs(z - z[i]).max(1)[others]
        joint = np.maximum(dx, dz)
        radius = np.sort(joint)[k - 1]
        within = (joint <= radius).sum()
        if within > k or radius == 0:
            rows.append((within, (dx <= radius).sum(), (dz <= radius).sum()))
        else:
            rows.append((k, (dx < radius).sum() + 1, (dz < radius).sum() + 1))
    return np.array(rows).T


def awkward(kind):
    rng = np.random.default_rng(3)
    x, z = correlated(300, 2, 0.7, 4)
    if kind == "duplicates":
        x, z = np.repeat(x[:60], 5, 0), np.repeat(z[:60], 5, 0)
    elif kind == "ties":
        x, z = rng.integers(0, 6, (300, 2)) / 4.0, rng.integers(0, 6, (300, 2)) / 4.0
    elif kind == "large offset":
        x, z = x + 1e6, z - 1e6
    elif kind == "ties at a large offset":
        x, z = rng.integers(0, 6, (300, 2)) + 1e6, rng.integers(0, 6, (300, 2)) * 16.0
    elif kind == "tiny scale":
        x, z = x * 1e-12, z
    return np.asarray(x, dtype=float), np.asarray(z, dtype=float)


KINDS = ["plain", "duplicates", "ties", "large offset", "ties at a large offset", "tiny scale"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("near", [_near_by_tree, _near_by_pairs])
def test_neighbour_counts_equal_brute_force(near, kind, k):
    x, z = awkward(kind)
    for ours, expected in zip(near(x, z, k), brute_force(x, z, k), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_no_ties_nor_duplicates_bring_an_estimate_past_its_ceiling(kind):
    estimate = mm.mutual_information(*awkward(kind))
    assert estimate.value <= estimate.ceiling + 1e-12


def test_discrete_variables_have_their_plug_in_information():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    # The plug-in estimate is too high by (cells - rows - columns + 1) / 2N and scatters alike.
    assert float(mm.mutual_information(a, b)) == pytest.approx(0.0, abs=2e-3)
    assert float(mm.mutual_information(a, a)) == pytest.approx(math.log(2), abs=2e-3)
    assert float(mm.mutual_information(0 * a, 0 * a)) == pytest.approx(0.0, abs=1e-3)
    noisy = np.where(rng.random(4000) < 0.1, 1 - a, a)
    exact = math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9)
    assert float(mm.mutual_information(a, noisy)) == pytest.approx(exact, abs=0.04)
    assert mm.mutual_information(a, b).tied == 1.0


def test_independent_grids_have_no_information_and_are_known_by_their_ties():
    rng = np.random.default_rng(2)
    x, z = rng.integers(0, 17, (2000, 2)) / 16, rng.integers(0, 17, (2000, 2)) / 16
    estimate = mm.mutual_information(x, z)
    # Neighbourhoods of a few grid cells hold a few points each: 0.15 nats too high for these
    # numbers, where strict counts gave 8.5, past the ceiling of 6.1.
    assert -0.05 < estimate.value < 0.25
    assert estimate.tied > 0.5
    assert mm.mutual_information(*correlated(500, 1, 0.5, 0)).tied == 0.0


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("dims", [1, 2])
def test_correlated_gaussians_have_the_information_of_the_closed_form(rho, dims):
    x, z = correlated(10_000, dims, rho, seed=int(10 * rho) + dims)
    exact = -0.5 * dims * math.log(1 - rho**2)
    # KSG at N = 10,000 scatters by about 0.01 nats; its bias here is below 0.02.
    assert float(mm.mutual_information(x, z)) == pytest.approx(exact, abs=0.05)


def test_trees_and_pairs_give_one_estimate_across_their_border():
    # Constant columns change no distance, but 14 dimensions in place of 4 take the other way.
    x, z = correlated(2000, 2, 0.8, seed=9)
    padded = np.hstack([x, np.zeros((2000, 10))])
    assert float(mm.mutual_information(x, z)) == float(mm.mutual_information(padded, z))


def test_information_is_symmetric_and_does_not_change_under_common_shift_and_scale():
    x, z = correlated(1500, 2, 0.7, seed=5)
    value = float(mm.mutual_information(x, z))
    assert float(mm.mutual_information(z, x)) == pytest.approx(value, abs=1e-12)
    # A power of two changes no rounding.
    assert float(mm.mutual_information(4 * x, 4 * z)) == pytest.approx(value, abs=1e-12)


def test_no_estimate_passes_the_ceiling_and_identity_is_flagged_as_saturated():
    x, _ = correlated(1000, 2, 0.0, seed=6)
    rng = np.random.default_rng(0)
    estimate = mm.mutual_information(x, x + 1e-6 * rng.normal(size=x.shape))
    assert estimate.ceiling == pytest.approx(float(digamma(1000) - digamma(5)))
    assert estimate.value <= estimate.ceiling
    assert estimate.saturated


def test_moderate_information_is_not_flagged():
    assert not mm.mutual_information(*correlated(4000, 2, 0.6, seed=7)).saturated


def test_a_value_that_moves_with_the_number_of_data_is_flagged():
    moving = mm.MutualInformation(3.0, ceiling=7.7, k=5, num_data=10_000, value_of_half=2.6)
    resting = mm.MutualInformation(3.0, ceiling=7.7, k=5, num_data=10_000, value_of_half=2.8)
    assert moving.saturated
    assert not resting.saturated


def test_tensors_vectors_and_images_are_taken_like_arrays():
    x, z = correlated(400, 4, 0.5, seed=8)
    value = float(mm.mutual_information(x, z))
    assert (
        float(mm.mutual_information(torch.tensor(x).reshape(400, 2, 2), torch.tensor(z))) == value
    )
    assert math.isfinite(float(mm.mutual_information(x[:, 0], z[:, 0])))


@pytest.mark.parametrize(
    ("x", "z", "k", "message"),
    [
        (np.zeros((10, 1)), np.zeros((9, 1)), 2, "same length, got 10 and 9"),
        (np.zeros((10, 1)), np.zeros((10, 1)), 5, "at least 1 and below N / 2 = 5, got 5"),
        (np.zeros((10, 1)), np.zeros((10, 1)), 0, "at least 1 and below N / 2 = 5, got 0"),
        (np.array([[0.0], [np.nan], [1.0]]), np.zeros((3, 1)), 1, r"x must be finite; rows \[1\]"),
        (np.zeros(3), np.float64(1.0), 1, "z must have shape"),
        (np.zeros((0, 2)), np.zeros((0, 2)), 1, "x must have data"),
        (np.zeros((10, 0)), np.zeros((10, 1)), 1, "x must have data"),
        (np.zeros((10, 1)), np.zeros((10, 1)), 2.5, "whole number"),
    ],
)
def test_input_that_makes_no_sense_is_refused_by_name(x, z, k, message):
    with pytest.raises(ValueError, match=message):
        mm.mutual_information(x, z, k)
