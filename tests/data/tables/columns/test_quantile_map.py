"""The quantile map: monotone, close to normal, and fair to frequent values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import kstest

from mimachine.data.tables.columns.quantile_map import apply, map_of_counts, map_of_steps

DICE = np.random.default_rng(0)


def share(map_, low, high):
    """Share of the steps from low to high under the normal density."""
    ends = apply(np.array([low - 0.5, high + 0.5]), *map_)
    return float(np.diff(ndtr(ends))[0])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(-(2**24), 2**24), min_size=1, max_size=300))
def test_edges_and_scores_increase_and_enclose_all_values(values):
    steps = np.array(values)
    edges, scores = map_of_steps(steps)
    assert len(edges) == len(scores) >= 2
    assert (np.diff(edges) > 0).all()
    assert (np.diff(scores) > 0).all()
    assert (edges % 1 == 0.5).all()
    assert (edges[0], edges[-1]) == (steps.min() - 0.5, steps.max() + 0.5)
    end = -ndtri(1 / (2 * max(2, len(steps))))
    assert (scores[0], scores[-1]) == pytest.approx((-end, end), rel=1e-12)


@pytest.mark.parametrize("number", [300, 3000, 100_000])
@pytest.mark.parametrize("name", ["normal", "lognormal", "uniform", "bimodal", "t"])
def test_continuous_columns_become_standard_normal(name, number):
    values = {
        "normal": lambda: DICE.normal(size=number),
        "lognormal": lambda: np.exp(DICE.normal(size=number)),
        "uniform": lambda: DICE.uniform(size=number),
        "bimodal": lambda: np.where(DICE.random(number) < 0.3, 0, 9) + DICE.normal(size=number),
        "t": lambda: DICE.standard_t(3, number),
    }[name]()
    steps = np.rint(values / values.std() * 1000)
    edges, scores = map_of_steps(steps)
    assert len(edges) <= 140
    mapped = apply(steps + DICE.uniform(-0.5, 0.5, number), edges, scores)
    # Within the noise of samples, whose statistic is beyond 1.36 / √N once in twenty times.
    assert kstest(mapped, "norm").statistic < max(0.8 / np.sqrt(number), 0.006)
    assert abs(mapped.std() - 1) < 0.05


@pytest.mark.parametrize("fill", [0.1, 0.6, 0.97])
def test_a_frequent_value_keeps_its_share(fill):
    values = np.rint(1000 * np.exp(DICE.normal(size=20_000)))
    steps = np.where(DICE.random(20_000) < fill, 0, values)
    assert share(map_of_steps(steps), 0, 0) == pytest.approx((steps == 0).mean(), rel=0.01)


def test_levels_of_few_values_keep_their_shares():
    values = DICE.choice([0, 3, 4, 50], 5000, p=[0.4, 0.05, 0.35, 0.2])
    map_ = map_of_steps(values)
    for value in (0, 3, 4, 50):
        assert share(map_, value, value) == pytest.approx((values == value).mean(), rel=0.02)
    assert share(map_, 5, 49) < 0.01


def test_round_numbers_that_many_rows_have_take_an_interval():
    values = np.rint(DICE.normal(50_000, 10_000, 50_000))
    heaped = np.where(DICE.random(50_000) < 0.02, 40_000, values)
    expected = (heaped == 40_000).mean()
    assert share(map_of_steps(heaped), 40_000, 40_000) == pytest.approx(expected, rel=0.02)


def test_values_of_small_samples_are_not_remembered():
    # Every value is different, so none of them may be likelier than its neighbours.
    steps = np.rint(1000 * DICE.normal(size=60))
    map_ = map_of_steps(steps)
    at = np.array([share(map_, k, k) for k in steps])
    beside = np.array([share(map_, k + 25, k + 25) for k in steps])
    assert np.log(at / beside).mean() < 0.7


def test_gaps_have_nearly_no_mass():
    steps = np.concatenate([DICE.integers(0, 50, 4000), DICE.integers(10_000, 10_050, 4000)])
    map_ = map_of_steps(steps)
    assert share(map_, 50, 9_999) < 0.01
    assert share(map_, 0, 49) == pytest.approx(0.5, abs=0.01)


def test_the_map_goes_on_linearly():
    edges, scores = map_of_steps(np.rint(100 * DICE.normal(size=500)))
    beyond = apply(edges[-1] + np.array([0.0, 1000.0, 2000.0]), edges, scores)
    assert beyond[0] == pytest.approx(scores[-1])
    assert beyond[2] - beyond[1] == pytest.approx(beyond[1] - beyond[0])
    assert beyond[1] > beyond[0]


@pytest.mark.parametrize("counts", [(5, 0, 3, 2), (0, 5, 3, 0), (0, 0, 0, 7), (1, 0, 0, 0)])
def test_levels_without_rows_are_allowed(counts):
    edges, scores = map_of_counts(np.arange(4), np.array(counts))
    assert (np.diff(scores) > 0).all()
    assert (edges[0], edges[-1]) == (-0.5, 3.5)
    for level, count in enumerate(counts):
        if count == 0:
            assert share((edges, scores), level, level) < 0.2


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=2, max_size=9).filter(any))
def test_levels_without_rows_have_a_share_also_at_the_ends(counts):
    # As for ordered levels that no training row has.
    edges, scores = map_of_counts(np.arange(len(counts)), np.maximum(0.5, np.array(counts)))
    assert (np.diff(edges) > 0).all()
    assert (np.diff(scores) > 0).all()
