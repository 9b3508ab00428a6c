import itertools
import math

import numpy as np
import pytest
import torch

import mimachine as mm
from mimachine.estimation.two_samples import distances, energy
from mimachine.estimation.two_samples.distances import concentration
from mimachine.estimation.two_samples.energy import (
    _Distances,
    _effects_of_rows,
)
from mimachine.estimation.two_samples.units import in_units_of


def folded(mean, variance):
    """E|v| for v ~ N(mean, variance)."""
    root = math.sqrt(variance)
    tail = mean * math.erf(mean / (root * math.sqrt(2)))
    return root * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / (2 * variance)) + tail


def relative(mean, std):
    """The energy distance of N(mean, std²) from N(0, 1), in one dimension."""
    within = folded(0, 2 * std**2), folded(0, 2)
    return (2 * folded(mean, 1 + std**2) - sum(within)) / within[1]


CASES = [(0.0, 1.0, 1), (0.5, 1.0, 1), (-1.0, 0.3, 1), (0.0, 2.0, 1), (0.0, 1.0, 8), (0.0, 0.6, 8)]


@pytest.mark.parametrize(("mean", "std", "dimensions"), CASES)
def test_the_energy_distance_is_unbiased_and_its_error_is_its_scatter(mean, std, dimensions):
    repeats, n, m = 300, 50, 80
    found = [
        mm.energy_distance(
            mean + std * torch.randn(n, dimensions), torch.randn(m, dimensions), standardize=False
        )
        for _ in range(repeats)
    ]
    values = torch.tensor([each.value for each in found]).double()
    # In several dimensions both are normals about 0, whose distances are χ times their width.
    closed = math.sqrt(2 + 2 * std**2) - std - 1
    expected = relative(abs(mean), std) if dimensions == 1 else closed
    scatter = float(values.std())
    # The mean distance in the denominator has a relative error of 0.7 / √80 and biases the ratio
    # by its square.
    bias = 0.01 * (1 + expected)
    assert abs(float(values.mean()) - expected) < 5 * scatter / math.sqrt(repeats) + bias
    # The scatter of 300 normal values has an error of 4 %, and these are somewhat skewed. Where
    # both samples are of one distribution the error is too large rather than too small.
    error = math.sqrt(sum(each.standard_error**2 for each in found) / repeats)
    most = 1.9 if (mean, std) == (0, 1) else 1.25
    assert 0.8 * scatter < error < most * scatter


@pytest.mark.parametrize(("n", "m"), [(15, 100), (100, 15), (40, 40)])
def test_the_error_of_one_distribution_is_that_of_pairs_in_many_directions(n, m):
    found = [mm.energy_distance(torch.randn(n, 60), torch.randn(m, 60)) for _ in range(300)]
    scatter = float(torch.tensor([each.value for each in found]).std())
    error = math.sqrt(sum(each.standard_error**2 for each in found) / len(found))
    # The scatter of 300 normal values has an error of 4 %, and some of the noise is not subtracted.
    assert 0.88 * scatter < error < 1.4 * scatter


def test_the_estimate_is_that_of_all_pairs():
    x, y = torch.randn(11, 2, 3).double(), 1 + torch.randn(7, 2, 3).double()
    x_rows, y_rows = x.flatten(1).numpy(), y.flatten(1).numpy()
    between = np.mean([np.linalg.norm(a - b) for a in x_rows for b in y_rows])
    of_x, of_y = (
        np.mean([np.linalg.norm(a - b) for a, b in itertools.combinations(rows, 2)])
        for rows in (x_rows, y_rows)
    )
    found = mm.energy_distance(x, y, standardize=False)
    assert found.value == pytest.approx((2 * between - of_x - of_y) / of_y, rel=1e-12)
    scaled = mm.energy_distance(x / y.std(0, correction=0), y / y.std(0, correction=0))
    assert mm.energy_distance(x, y).value == pytest.approx(scaled.value, rel=1e-12)


def test_the_distance_from_many_normals_is_that_from_the_normal():
    x = 0.3 + torch.randn(400, 4)
    sampled = mm.energy_distance(x, torch.randn(3000, 4), standardize=False)
    exact = mm.energy_distance_from_normal(x)
    # x is the same in both, so less than the error over samples remains.
    assert abs(sampled.value - exact.value) < 3 * sampled.standard_error
    assert sampled.standard_error == pytest.approx(exact.standard_error, rel=0.25)


def by_least_squares(pairs, distances, count):
    """Residual variance of distances of pairs of points, each the mean and two points' effects."""
    design = np.ones((len(pairs), 1 + count))
    design[:, 1:] = 0
    for row, (i, j) in enumerate(pairs):
        design[row, 1 + i] += 1
        design[row, 1 + j] += 1
    rank = np.linalg.matrix_rank(design)
    residual = distances - design @ np.linalg.lstsq(design, distances, rcond=None)[0]
    return residual @ residual / (len(pairs) - rank)


def test_the_variance_of_pairs_is_that_of_an_analysis_of_variance():
    x, y = torch.randn(6, 2).double(), torch.randn(9, 2).double()
    between, within = _Distances.of(x, y, slopes=False), _Distances.of(x, slopes=False)
    pairs = list(itertools.product(range(6), range(6, 15)))
    found = torch.cdist(x, y).flatten().numpy()
    assert between.pair_variance == pytest.approx(by_least_squares(pairs, found, 15), rel=1e-9)
    pairs = list(itertools.combinations(range(6), 2))
    found = np.array([float((x[i] - x[j]).norm()) for i, j in pairs])
    assert within.pair_variance == pytest.approx(by_least_squares(pairs, found, 6), rel=1e-9)


def test_effects_of_rows_are_estimated_without_bias():
    """E|x - x'| given x is the mean of a folded normal in one dimension."""
    x = torch.randn(4000, 1).double()
    expected = torch.tensor([folded(abs(float(value)), 1) for value in x[:50]]) - folded(0, 2)
    for of_pairs in (
        _Distances.of(x, slopes=False),
        _Distances.of(x, torch.randn(4000, 1).double(), slopes=False),
    ):
        effects = of_pairs.effects[0][:50]
        # Each is a mean of 4,000 distances, whose standard deviation is at most 1.
        assert (effects - expected).abs().max() < 5 / math.sqrt(4000)


def test_slopes_are_derivatives_by_the_units_of_columns():
    x, y = torch.randn(8, 3).double(), 1 + torch.randn(5, 3).double()
    for pair in ((x, y), (x, None)):
        found, step = _Distances.of(*pair, slopes=True).slopes, 1e-6
        for column in range(3):
            factor = torch.ones(3).double()
            factor[column] = math.exp(-step)
            moved = [part if part is None else part * factor for part in pair]
            means = [_Distances.of(*each, slopes=False).mean for each in (pair, moved)]
            assert float(found[column]) == pytest.approx((means[1] - means[0]) / step, rel=1e-4)


@pytest.mark.parametrize("standardize", [True, False])
def test_effects_of_rows_are_changes_without_them(standardize):
    """To first order, so that half of the effects by the units of columns would not do."""
    x, y = (torch.rand(count, 10).double() for count in (150, 200))
    x = x * torch.linspace(0.5, 1.5, 10) + 0.3
    scaled = in_units_of(x, y, standardize)
    between, of_x, of_y = (
        _Distances.of(*pair, slopes=standardize)
        for pair in ((scaled.x, scaled.y), (scaled.x,), (scaled.y,))
    )
    found = mm.energy_distance(x, y, standardize=standardize)
    effects = _effects_of_rows(between, of_x, of_y, 1 + found.value, scaled.on_units)
    if standardize:
        slopes = 2 * between.slopes - of_x.slopes - (1 + found.value) * of_y.slopes
        by_units = scaled.on_units @ slopes
        assert by_units.std() > 0.1 * effects[1].std()
    for name, rows, of_rows in zip("xy", (x, y), effects, strict=True):
        without = []
        for left_out in range(len(rows)):
            samples = {"x": x, "y": y}
            samples[name] = rows[torch.arange(len(rows)) != left_out]
            without.append(mm.energy_distance(**samples, standardize=standardize).value)
        changes = (len(rows) - 1) * (found.value - torch.tensor(without).double()) * of_y.mean
        most = 0.3 * by_units.std() if standardize and name == "y" else 0.03 * of_rows.std()
        assert (changes - changes.mean() - of_rows + of_rows.mean()).std() < most
        assert abs(float(of_rows.mean())) < 1e-9 * float(of_rows.std())


def test_the_concentration_is_one_in_one_direction_and_small_in_many():
    two_places = torch.arange(60)[:, None].double() % 2
    assert concentration(two_places) == pytest.approx(1)
    # Points at equal distances have n - 1 equal eigenvalues.
    assert concentration(torch.eye(50).double()) == pytest.approx(1 / math.sqrt(49))
    many = torch.randn(1000, 300).double()
    assert concentration(many) < 0.15 < concentration(many[:, :1])
    assert concentration(torch.zeros(9, 2).double()) == 1


def test_blocks_and_products_give_the_same_as_direct_distances(monkeypatch):
    x, y = torch.randn(40, 50).double() + 1e4, torch.randn(30, 50).double() + 1e4
    found = mm.energy_distance(x, y)
    for module, name, value in ((energy, "_PAIRS", 70), (distances, "_WIDE", 100)):
        monkeypatch.setattr(module, name, value)
        again = mm.energy_distance(x, y)
        assert again.value == pytest.approx(found.value, rel=1e-9, abs=1e-12)
        assert again.standard_error == pytest.approx(found.standard_error, rel=1e-9)


def test_units_and_order_do_not_matter():
    x, y = torch.randn(60, 3).double(), 0.5 + torch.randn(50, 3).double()
    units = torch.tensor([1e-150, 3.0, 1e150], dtype=torch.float64)
    expected, found = mm.energy_distance(x, y), mm.energy_distance(x.flip(0) * units, y * units)
    assert found.value == pytest.approx(expected.value, abs=1e-9)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-9)
    plain = mm.energy_distance(x, y, standardize=False)
    for factor in (1e-160, 1e160):
        large = mm.energy_distance(x * factor, y * factor, standardize=False)
        assert large.value == pytest.approx(plain.value, abs=1e-9)


def test_few_rows_have_no_error():
    x, y = torch.randn(3, 2), torch.randn(30, 2)
    for pair in ((x, y), (y, x)):
        found = mm.energy_distance(*pair)
        assert math.isfinite(found.value)
        assert math.isnan(found.standard_error)
    assert math.isfinite(mm.energy_distance(torch.randn(4, 2), torch.randn(4, 2)).standard_error)


OLD = [
    ((), {}),
    ((0.5,), {}),
    ((torch.zeros(3), 2.0), {}),
    ((), {"prior_std": 2.0}),
    (([0.1, 0.2, 0.3],), {}),
    ((np.zeros(3), np.ones(3)), {}),
]


@pytest.mark.parametrize(("args", "named"), OLD)
def test_the_old_form_is_the_distance_from_a_normal_with_a_warning(args, named):
    z = torch.randn(30, 3)
    with pytest.warns(DeprecationWarning, match="now energy_distance_from_normal") as caught:
        found = mm.energy_distance(z, *args, **named)
    assert caught[0].filename == __file__
    assert found == mm.energy_distance_from_normal(z, *args, **named)


@pytest.mark.parametrize("shapes", [((30, 3), (3, 3)), ((30,), (20,)), ((30, 2, 3), (2, 6))])
def test_two_samples_are_not_taken_for_the_old_form(shapes):
    # A DeprecationWarning is an error here.
    x, y = (torch.randn(shape) for shape in shapes)
    assert math.isfinite(mm.energy_distance(x, y).value)
    assert math.isfinite(mm.energy_distance(x, y=y.tolist()).value)
