import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

import mimachine as mm
from mimachine.estimation.two_samples.classifier import _agreement, _placements


def test_placements_count_pairs_with_ties_by_half():
    """The identity of Mann and Whitney."""
    x, y = np.array([1.0, 3.0, 3.0, 7.0]), np.array([0.0, 3.0, 7.0])
    pairs = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    below, above = _placements(x, y)
    np.testing.assert_allclose(below, pairs.mean(1))
    np.testing.assert_allclose(above, pairs.mean(0))
    of_x = np.arange(7) < 4
    assert below.mean() == pytest.approx(roc_auc_score(of_x, np.concatenate([x, y])))
    assert above.mean() == pytest.approx(below.mean())


@pytest.mark.parametrize(("shift", "dimensions"), [(0.5, 1), (1.0, 2), (2.0, 3)])
def test_the_auc_of_shifted_normals_is_near_the_optimum_and_not_above(shift, dimensions):
    offset = shift * torch.nn.functional.normalize(torch.randn(dimensions), dim=0)
    x, y = offset + torch.randn(2000, dimensions), torch.randn(2000, dimensions)
    found, optimum = mm.two_sample_auc(x, y), norm.cdf(shift / math.sqrt(2))
    assert found.value < optimum + 4 * found.standard_error
    assert found.value > optimum - 4 * found.standard_error - 0.02


@pytest.mark.parametrize("sizes", [(400, 400), (900, 60)])
def test_samples_of_one_distribution_cannot_be_told_apart(sizes):
    x, y = torch.randn(sizes[0], 5), torch.randn(sizes[1], 5)
    found = mm.two_sample_auc(x, y)
    assert abs(found.value - 0.5) < 4 * found.standard_error
    assert found.standard_error < 2 / math.sqrt(12) * math.sqrt(1 / sizes[0] + 1 / sizes[1])


def test_two_samples_apart_are_always_told_apart_and_their_error_is_half_a_row():
    x, y = torch.rand(60, 2), 2 + torch.rand(40, 2)
    assert mm.two_sample_auc(x, y) == mm.Estimate(1.0, 0.5 / 40)


def test_a_constant_cannot_tell_anything():
    x = torch.ones(30, 2)
    found = mm.two_sample_auc(x, x)
    assert found.value == 0.5
    # DeLong's variance of scores that are all tied is 0.
    assert found.standard_error == pytest.approx(0.5 / 30)


def test_columns_of_other_units_and_sorted_rows_do_not_matter():
    x, y = torch.randn(300, 4) * 1.4, torch.randn(300, 4)
    order = x[:, 0].argsort()
    found = mm.two_sample_auc(x, y)
    for other in (
        mm.two_sample_auc(x[order] * 1e6, y * 1e6),
        mm.two_sample_auc(x.exp(), y.exp()),
        mm.two_sample_auc(y, x),
    ):
        # Of the same rows, so the error over samples is more than enough.
        assert abs(other.value - found.value) < 2 * found.standard_error
    assert found.value > 0.5 + 3 * found.standard_error


def test_wide_rows_are_compared_in_their_principal_components():
    direction = torch.nn.functional.normalize(torch.randn(150) * (torch.arange(150) < 40), dim=0)
    x, y = (torch.randn(300, 150) + 3 * torch.randn(300, 1) * direction for _ in range(2))
    units = torch.logspace(-3, 3, 150)
    same, shifted = mm.two_sample_auc(x * units, y * units), mm.two_sample_auc(x, y + 6 * direction)
    assert abs(same.value - 0.5) < 4 * same.standard_error
    # The best AUC of normals of width √10 whose means differ by 6 is Φ(6 / √20).
    assert 0.8 < shifted.value < norm.cdf(6 / math.sqrt(20)) + 4 * shifted.standard_error
    far = (y + 6 * direction) * units
    assert mm.two_sample_auc(x * units, far).value > 0.8
    # In other units the columns that differ have no share of the first components.
    hidden = mm.two_sample_auc(x * units, far, standardize=False)
    assert abs(hidden.value - 0.5) < 4 * hidden.standard_error


def test_the_seed_decides_rows_and_folds():
    x, y = torch.randn(200, 2), torch.randn(200, 2)
    first = mm.two_sample_auc(x, y, seed=1)
    assert mm.two_sample_auc(x, y, seed=1) == first
    assert mm.two_sample_auc(x, y, seed=2) != first
    fewer = mm.two_sample_auc(x, y, most=100)
    assert 1.2 * first.standard_error < fewer.standard_error < 1.7 * first.standard_error


def test_classifiers_agree_as_far_as_their_scores_do():
    one = [torch.randn(4000).numpy(), torch.randn(3000).numpy()]
    assert _agreement(one, [3 * part + 1 for part in one]) == pytest.approx(1)
    other = [torch.randn(4000).numpy(), torch.randn(3000).numpy()]
    assert _agreement(one, other) < 0.05
    halves = [a + b for a, b in zip(one, other, strict=True)]
    assert _agreement(one, halves) == pytest.approx(math.sqrt(0.5), abs=0.05)
    assert _agreement(one, [-part for part in one]) == 0
    assert _agreement(one, [np.ones(4000), np.ones(3000)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("shift", "dimensions"), [(0.0, 5), (0.7, 5), (3.0, 5), (0.0, 1)])
def test_the_error_of_the_auc_is_its_scatter(shift, dimensions):
    """Without the part of the training rows it would be 1.4 times too small at no shift."""
    found = [
        mm.two_sample_auc(
            torch.randn(100, dimensions) + shift / math.sqrt(dimensions),
            torch.randn(100, dimensions),
            seed=seed,
        )
        for seed in range(200)
    ]
    scatter = np.std([each.value for each in found], ddof=1)
    error = math.sqrt(np.mean([each.standard_error**2 for each in found]))
    # The scatter of 200 values has an error of 5 %.
    assert 0.8 * scatter < error < 1.3 * scatter
