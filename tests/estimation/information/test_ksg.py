import math

import numpy as np
import pytest
import torch
from scipy.special import digamma

import mimachine as mm
from mimachine.estimation.information.ksg import MutualInformation, _ksg2, _neighbours
from mimachine.estimation.information.ksg_neighbours import (
    CoarsePairs,
    ExactRows,
    TreeRows,
    for_all_rows,
)


def correlated(count, dims, rho, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, dims))
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=(count, dims))


def brute_force(x, z, k, estimator="ksg1"):
    """Counts straight from the definition; for KSG-2 also which terms are its own."""
    others = ~np.eye(len(x), dtype=bool)
    dx, dz = (
        np.abs(points[:, None] - points).max(2)[others].reshape(len(x), len(x) - 1)
        for points in (x, z)
    )
    rows = []
    for to_x, to_z in zip(dx, dz, strict=True):
        joint = np.maximum(to_x, to_z)
        radius = np.sort(joint)[k - 1]
        near = joint <= radius
        sides = to_x[near].max(), to_z[near].max()
        alone = near.sum() == k and min(sides) > 0
        alone = alone and (to_x == sides[0]).sum() == 1 and (to_z == sides[1]).sum() == 1
        if estimator == "ksg2" and alone:
            rows.append((k, (to_x < sides[0]).sum() + 1, (to_z < sides[1]).sum() + 1, 1 / k))
        elif near.sum() > k or radius == 0:
            rows.append((near.sum(), (to_x <= radius).sum(), (to_z <= radius).sum(), 0))
        else:
            rows.append((k, (to_x < radius).sum() + 1, (to_z < radius).sum() + 1, 0))
    return np.array(rows).T


def awkward(kind):
    rng = np.random.default_rng(3)
    x, z = correlated(150, 2, 0.7, 4)
    if kind == "duplicates":
        x, z = np.repeat(x[:30], 5, 0), np.repeat(z[:30], 5, 0)
    elif kind == "some duplicates":
        x[100:], z[120:] = x[:50], z[:30]
    elif kind == "ties":
        x, z = rng.integers(0, 6, (150, 2)) / 4.0, rng.integers(0, 6, (150, 2)) / 4.0
    elif kind == "grid of no binary fractions":
        x, z = rng.integers(0, 30, (150, 2)) / 30, rng.integers(0, 256, (150, 2)) / 255
    elif kind == "classes":
        x = rng.integers(0, 3, (150, 1))
    elif kind == "constant columns":
        x, z = np.hstack([x, np.full((150, 1), 7.1)]), np.full((150, 1), 0.3)
    elif kind == "all one point":
        x, z = np.full((150, 2), 0.1), np.full((150, 3), 1e6)
    elif kind == "large offset":
        x, z = x + 1e6, z - 1e6
    elif kind == "offset that leaves few digits":
        x, z = x + 1e14, z - 3e13
    elif kind == "ties at a large offset":
        x, z = rng.integers(0, 6, (150, 2)) + 1e6, rng.integers(0, 6, (150, 2)) * 16.0
    elif kind == "tiny scale":
        x, z = x * 1e-12, z
    elif kind == "huge scale":
        x, z = x * 1e12, z
    elif kind == "differences below the rounding of the distance":
        x[:50] = rng.normal(size=(50, 2)) * 1e-18
        x[50:100] = 1
    elif kind == "heavy tails":
        x, z = rng.standard_cauchy((150, 2)), rng.standard_cauchy((150, 2))
    elif kind == "infinite distances":
        x = np.sign(x) * (1 + rng.random((150, 2))) * 0.8e308
    elif kind == "denormal":
        x, z = x * 1e-310, z * 1e-310
    elif kind == "20 + 20":
        x, z = correlated(150, 20, 0.7, 4)
    elif kind == "20 + 1":
        x = correlated(150, 20, 0.7, 4)[0]
    elif kind == "few":
        x, z = x[:11], z[:11]
    return np.asarray(x, dtype=float), np.asarray(z, dtype=float)


KINDS = [
    "plain",
    "duplicates",
    "some duplicates",
    "ties",
    "grid of no binary fractions",
    "classes",
    "constant columns",
    "all one point",
    "large offset",
    "offset that leaves few digits",
    "ties at a large offset",
    "tiny scale",
    "huge scale",
    "differences below the rounding of the distance",
    "heavy tails",
    "infinite distances",
    "denormal",
    "20 + 20",
    "20 + 1",
    "few",
]


def by_tree(x, z, work):
    return [work(TreeRows(x.numpy(), z.numpy()))]


def by_coarse_pairs(x, z, work):
    spread = float(max(np.ptp(x.numpy(), 0).max(), np.ptp(z.numpy(), 0).max()))
    pairs = CoarsePairs(x.numpy(), z.numpy(), spread, most=70)
    return [work(pairs.rows(slice(i, min(i + 70, len(x))))) for i in range(0, len(x), 70)]


def by_exact_pairs(x, z, work):
    return [work(ExactRows(x, z, slice(i, i + 70))) for i in range(0, len(x), 70)]


def counts(x, z, k, estimator):
    near = _neighbours(torch.tensor(x), torch.tensor(z), k, estimator)
    return near.joint, near.x, near.z, near.excess


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ["ksg1", "ksg2"])
@pytest.mark.filterwarnings("ignore:overflow")
def test_neighbour_counts_equal_brute_force(monkeypatch, estimator, kind):
    ways = [for_all_rows, by_exact_pairs]
    if kind not in ("infinite distances", "denormal"):
        ways += [by_tree, by_coarse_pairs]
    x, z = awkward(kind)
    for k in (1, 4):
        expected = brute_force(x, z, k, estimator)
        for way in ways:
            monkeypatch.setattr("mimachine.estimation.information.ksg.for_all_rows", way)
            for ours, theirs in zip(counts(x, z, k, estimator), expected, strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{way.__name__}, k = {k}")


@pytest.mark.parametrize("dims", [(1, 1), (2, 2), (3, 1), (20, 20)])
@pytest.mark.parametrize("count", [3, 4, 5, 12])
def test_the_largest_k_that_is_allowed_has_the_counts_of_brute_force(count, dims):
    rng = np.random.default_rng(count)
    x, z = rng.normal(size=(count, dims[0])), rng.normal(size=(count, dims[1]))
    k = (count - 1) // 2
    for ours, theirs in zip(counts(x, z, k, "ksg1"), brute_force(x, z, k), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert math.isfinite(mm.mutual_information(x, z, k).value_of_half)


@pytest.mark.parametrize("dims", [(1, 1), (2, 2), (3, 2), (6, 2), (20, 20)])
def test_thousands_of_points_have_the_counts_of_float64_pairs(dims):
    # In many blocks, with most pairs decided by bounds and some in float64.
    rng = np.random.default_rng(dims[0])
    x, z = rng.normal(size=(3000, dims[0])), rng.standard_t(3, (3000, dims[1]))
    z[:, 0] += x[:, 0]
    ours = counts(x, z, 5, "ksg2")
    rows = ExactRows(torch.tensor(x), torch.tensor(z), slice(None))
    for one, other in zip(ours, _ksg2(rows, 5)[:4], strict=True):
        np.testing.assert_array_equal(one, other)


def test_estimates_are_the_formulas_of_their_counts():
    x, z = correlated(400, 2, 0.8, seed=10)
    for estimator, less in (("ksg1", 0.0), ("ksg2", 1 / 3)):
        _, n_x, n_z, _ = brute_force(x, z, 3, estimator)
        expected = digamma(3) - less + digamma(400) - np.mean(digamma(n_x) + digamma(n_z))
        raw = {"estimator": estimator, "standardize": False}
        estimate = mm.mutual_information(x, z, 3, **raw)
        assert estimate.value == pytest.approx(expected, abs=1e-12)
        assert estimate.ceiling == pytest.approx(digamma(400) - digamma(3) - less, abs=1e-12)
        half = mm.mutual_information(x[::2], z[::2], 3, **raw)
        assert estimate.value_of_half == half.value


def test_threads_change_no_count():
    x, z = correlated(3000, 5, 0.8, seed=11)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = counts(x, z, 5, "ksg1")
        torch.set_num_threads(3)
        together = counts(x, z, 5, "ksg1")
    finally:
        torch.set_num_threads(before)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dims", [2, 20])
def test_a_gpu_gives_the_estimate_of_the_cpu(dims):
    x, z = (torch.tensor(points) for points in correlated(3000, dims, 0.8, seed=12))
    for estimator in ("ksg1", "ksg2"):
        expected = mm.mutual_information(x, z, estimator=estimator)
        assert mm.mutual_information(x.cuda(), z.cuda(), estimator=estimator) == expected
        assert mm.mutual_information(x.cuda(), z, estimator=estimator) == expected


@pytest.mark.parametrize(
    ("rho", "estimator"),
    [
        (0.5, "ksg1"),
        (0.9, "ksg2"),
        pytest.param(0.5, "ksg2", marks=pytest.mark.slow),
        pytest.param(0.9, "ksg1", marks=pytest.mark.slow),
    ],
)
def test_the_standard_error_is_the_scatter_around_the_information_of_gaussians(rho, estimator):
    repeats, count = 60, 500
    results = [
        mm.mutual_information(*correlated(count, 1, rho, seed=100 + i), estimator=estimator)
        for i in range(repeats)
    ]
    exact = -0.5 * math.log(1 - rho**2)
    scatter = np.mean([(result.value - exact) ** 2 for result in results])
    variance = np.mean([result.standard_error**2 for result in results])
    # Relative errors of a variance from `repeats` values, and of the mean of those from 20 each.
    error = math.sqrt(2 / repeats + 2 / (19 * repeats))
    assert abs(math.log(variance / scatter)) < 4 * error


def test_the_standard_error_covers_where_the_estimate_is_biased():
    """Disjoint tenths have another bias, and gave intervals that held 70 % of the estimates."""
    repeats = 80
    results = [mm.mutual_information(*correlated(600, 2, 0.99, seed=i)) for i in range(repeats)]
    values = np.array([result.value for result in results])
    errors = np.array([result.standard_error for result in results])
    held = (np.abs(values - values.mean()) < 1.96 * errors).mean()
    assert held > 0.95 - 4 * math.sqrt(0.95 * 0.05 / repeats)
    assert errors.mean() < 2 * values.std()


def test_there_is_no_standard_error_at_the_ceiling():
    x, noise = np.random.default_rng(0).normal(size=(2, 1000, 1))
    assert math.isnan(mm.mutual_information(x, x).standard_error)
    assert math.isnan(mm.mutual_information(x, x + 1e-6 * noise).standard_error)
    assert mm.mutual_information(x, x + 0.1 * noise).standard_error > 0


@pytest.mark.parametrize("copies", [2, 3, 6, 10, "bootstrap"])
@pytest.mark.parametrize("estimator", ["ksg1", "ksg2"])
def test_repeated_rows_are_flagged(copies, estimator):
    x, z = correlated(400, 1, 0.6, seed=8)
    assert not mm.mutual_information(x, z, estimator=estimator).flagged
    if copies == "bootstrap":
        rows = np.random.default_rng(1).integers(400, size=1000)
    else:
        # Three copies of each row have no ties at the fifth neighbour.
        rows = np.tile(np.arange(400), copies)
    found = mm.mutual_information(x[rows], z[rows], estimator=estimator)
    assert found.many_ties
    assert found.flagged


def test_the_standard_error_is_not_fooled_by_the_order_of_the_data():
    x, z = correlated(2000, 1, 0.8, seed=13)
    order = np.argsort(x[:, 0])
    given = mm.mutual_information(x, z).standard_error
    in_order = mm.mutual_information(x[order], z[order]).standard_error
    # Each has a relative error of 24 %.
    assert abs(math.log(in_order / given)) < 4 * 0.24 * math.sqrt(2)


def test_too_few_data_have_no_standard_error():
    x, z = correlated(200, 1, 0.8, seed=14)
    # 24 points, four for each neighbour, are needed after a twentieth is left out.
    assert math.isnan(mm.mutual_information(x[:25], z[:25]).standard_error)
    assert mm.mutual_information(x[:26], z[:26]).standard_error > 0


def test_ksg2_counts_its_few_ties_like_ksg1_and_stays_below_its_ceiling():
    for kind in KINDS:
        one = mm.mutual_information(*awkward(kind))
        two = mm.mutual_information(*awkward(kind), estimator="ksg2")
        assert two.value <= two.ceiling + 1e-12
        if two.tied == 1.0:
            assert two.value == one.value


@pytest.mark.parametrize("kind", KINDS)
def test_no_ties_nor_duplicates_bring_an_estimate_past_its_ceiling(kind):
    estimate = mm.mutual_information(*awkward(kind))
    assert estimate.value <= estimate.ceiling + 1e-12


def test_discrete_variables_have_their_plug_in_information():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    # The plug-in estimate is too high by (cells - rows - columns + 1) / 2N and scatters by as much.
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


@pytest.mark.parametrize("estimator", ["ksg1", "ksg2"])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("dims", [1, 2])
def test_correlated_gaussians_have_the_information_of_the_closed_form(rho, dims, estimator):
    x, z = correlated(10_000, dims, rho, seed=int(10 * rho) + dims)
    exact = -0.5 * dims * math.log(1 - rho**2)
    # KSG at N = 10,000 scatters by about 0.01 nats; its bias here is below 0.02.
    estimate = mm.mutual_information(x, z, estimator=estimator)
    assert float(estimate) == pytest.approx(exact, abs=0.05)


def test_trees_and_pairs_give_one_estimate_across_their_border():
    # Constant columns change no distance, but 14 dimensions use pairs where 4 use trees.
    x, z = correlated(2000, 2, 0.8, seed=9)
    padded = np.hstack([x, np.zeros((2000, 10))])
    assert float(mm.mutual_information(x, z)) == float(mm.mutual_information(padded, z))


def test_information_is_symmetric_and_does_not_change_under_common_shift_and_scale():
    x, z = correlated(1500, 2, 0.7, seed=5)
    value = float(mm.mutual_information(x, z))
    assert float(mm.mutual_information(z, x)) == pytest.approx(value, abs=1e-12)
    # A power of two does not change rounding.
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
    moving = MutualInformation(3.0, ceiling=7.7, k=5, num_data=10_000, value_of_half=2.6)
    resting = MutualInformation(3.0, ceiling=7.7, k=5, num_data=10_000, value_of_half=2.8)
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
        (
            np.array([[0.0], [np.nan], [1.0]]),
            np.zeros((3, 1)),
            1,
            "x must be finite; 1 row of 3 is not: 1",
        ),
        (np.zeros(3), np.float64(1.0), 1, "z must have shape"),
        (np.zeros((0, 2)), np.zeros((0, 2)), 1, "x must have data"),
        (np.zeros((10, 0)), np.zeros((10, 1)), 1, "x must have data"),
        (np.zeros((10, 1)), np.zeros((10, 1)), 2.5, "whole number"),
    ],
)
def test_input_that_makes_no_sense_is_refused_by_name(x, z, k, message):
    with pytest.raises(ValueError, match=message):
        mm.mutual_information(x, z, k)


def test_an_unknown_estimator_is_refused_by_name():
    with pytest.raises(ValueError, match="estimator must be one of ksg1, ksg2, got 'ksg3'"):
        mm.mutual_information(np.arange(9.0), np.arange(9.0), 2, estimator="ksg3")


@pytest.mark.parametrize("scale", [1e-300, 1e-3, -7.3, 1e6, 1e300])
def test_the_unit_of_a_column_does_not_matter(scale):
    x, z = correlated(400, 2, 0.8, seed=10)
    other = np.column_stack([x[:, 0], x[:, 1] * scale])
    assert mm.mutual_information(other, z).value == mm.mutual_information(x, z).value
    assert mm.mutual_information(z, other).value == mm.mutual_information(z, x).value


@pytest.mark.parametrize("constant", [0.0, 0.1 + 0.2, 1e300, -5e-324])
def test_a_constant_column_does_not_matter(constant):
    x, z = correlated(400, 1, 0.8, seed=11)
    wider = np.column_stack([x, np.full(400, constant)])
    assert mm.mutual_information(wider, z).value == mm.mutual_information(x, z).value
    assert abs(mm.mutual_information(wider[:, 1:], z).value) < 1e-12


def test_ties_on_a_grid_remain_ties_whatever_the_unit():
    grid = np.random.default_rng(0).integers(0, 6, (400, 2))
    first = mm.mutual_information(grid[:, 0], grid[:, 1])
    # Steps of the two columns differ, so few points have exactly k neighbours within a step.
    assert first.tied > 0.9
    for scale in (7, 1000, 2**-20):
        assert mm.mutual_information(grid[:, 0] * scale, grid[:, 1]) == first


def test_without_standardisation_the_unit_is_that_of_the_data():
    x, z = correlated(400, 1, 0.9, seed=12)
    wide = mm.mutual_information(x, 1e4 * z, standardize=False)
    assert abs(wide.value) < 0.1 < 0.5 < mm.mutual_information(x, 1e4 * z).value
