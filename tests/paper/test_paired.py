import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from mimachine.paper.paired import mean_difference, mean_ratio


def test_the_interval_of_a_difference_is_that_of_a_paired_t_test():
    first, second = np.random.default_rng(0).normal(size=(2, 10))
    first += 0.5
    found = mean_difference(first, second)
    expected = ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx((first - second).mean())
    # What both share cancels.
    shared = 100 * np.random.default_rng(1).normal(size=10)
    assert mean_difference(first + shared, second + shared) == pytest.approx(found)


def test_intervals_hold_the_mean_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = [
        found.low < 0.3 < found.high
        for found in (
            mean_difference(generator.normal(0.3, 1, 5), np.zeros(5)) for _ in range(2000)
        )
    ]
    assert abs(np.mean(held) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_ratios_are_the_same_either_way():
    first, second = np.array([2.0, 8.0, 3.0]), np.array([1.0, 2.0, 6.0])
    found, inverse = mean_ratio(first, second), mean_ratio(second, first)
    assert found.mean == pytest.approx((2 * 4 * 0.5) ** (1 / 3))
    assert inverse == pytest.approx((1 / found.mean, 1 / found.high, 1 / found.low))


def test_models_that_diverged_are_left_out_and_one_has_no_interval():
    lost = np.array([1.0, math.nan, 3.0])
    assert mean_difference(lost, np.zeros(3)) == mean_difference(lost[[0, 2]], np.zeros(2))
    single = mean_difference(lost[:1], np.zeros(1))
    assert (single.mean, single.low, single.high) == (1.0, -math.inf, math.inf)
    assert single.shown(2) == "1.00"
    assert math.isnan(mean_difference(lost[1:2], np.zeros(1)).mean)
