"""Steps of columns: their own grids, round steps otherwise, and values that come back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimachine.data.tables.columns.steps import grid_of, indices, values_at

DICE = np.random.default_rng(0)
LARGEST = 2**24


def returned(values, grid, whole=False):
    steps = indices(values, grid.origin, grid.step)
    assert np.abs(steps).max() <= LARGEST
    assert (steps == steps.astype(np.float32)).all()
    return values_at(steps, grid.origin, grid.step, grid.decimals, whole)


@pytest.mark.parametrize(
    ("step", "start"), [(0.01, 0), (0.25, 0), (0.05, 0.02), (0.001, 7), (5.0, 3), (100.0, -1e5)]
)
def test_the_step_of_a_decimal_grid_is_found_and_values_come_back_exactly(step, start):
    values = np.round(start + step * DICE.integers(0, 5000, 400), 3)
    grid = grid_of(values, "number")
    assert grid.step == pytest.approx(step, rel=1e-12)
    assert not grid.coarsened
    np.testing.assert_array_equal(returned(values, grid), values)


@pytest.mark.parametrize("step", [1, 5, 12, 1000, 7])
def test_the_step_of_whole_numbers_is_their_common_divisor(step):
    values = 3 + step * DICE.integers(-500, 500, 300)
    grid = grid_of(values, "whole")
    assert grid.step == step
    np.testing.assert_array_equal(returned(values, grid, whole=True), values)


def test_a_divisor_of_few_values_may_be_by_chance():
    # Of the two values 10 and 30 alone, a later 15 would be lost.
    assert grid_of(np.array([10, 30, 10, 30] * 50), "whole").step == 1
    assert grid_of(np.array([0.5, 1.5] * 50), "number").step == 0.1


def test_counts_begin_at_zero():
    grid = grid_of(3 * DICE.integers(1, 400, 100), "count")
    assert (grid.origin, grid.step) == (0, 3)


def test_rounding_errors_of_sums_do_not_hide_a_grid():
    values = np.round(DICE.normal(size=500), 2) + np.round(DICE.normal(size=500), 2)
    assert (np.round(values, 2) != values).any()
    assert grid_of(values, "number").step == 0.01


def test_values_of_a_grid_that_is_no_decimal_number_come_back_up_to_rounding():
    values = (DICE.integers(0, 300, 1000) - 11) / 7
    grid = grid_of(values, "number")
    assert grid.step == pytest.approx(1 / 7)
    np.testing.assert_allclose(returned(values, grid), values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 0.3, 1.0, 4e5, 1e200])
def test_other_values_have_a_round_step_of_about_a_thousandth_of_their_deviation(scale):
    values = scale * DICE.normal(size=2000)
    grid = grid_of(values, "number")
    assert 0.35e-3 * scale < grid.step < 1.1e-3 * scale
    mantissa = grid.step / 10.0 ** np.floor(np.log10(grid.step) + 1e-9)
    assert min(abs(mantissa - digit) for digit in (1, 2, 5)) < 1e-6
    assert np.abs(returned(values, grid) - values).max() <= grid.step * 0.5000001
    assert grid.clipped == 0


@pytest.mark.parametrize("outlier", [1e300, -1e300, 1e17, 1e15])
def test_one_huge_value_does_not_change_the_steps_of_the_others(outlier):
    for values in (DICE.normal(size=500), np.round(100 * DICE.normal(size=500), 2)):
        without = grid_of(values, "number")
        grid = grid_of(np.append(values, outlier), "number")
        # One more value may change the deviation, and so the round step, to a neighbouring one.
        assert 0.39 < grid.step / without.step < 2.6
        assert grid.clipped == 1
        found = returned(np.append(values, outlier), grid)
        assert np.abs(found[:-1] - values).max() <= 0.5000001 * grid.step
        assert np.sign(found[-1]) == np.sign(outlier)


def test_nearly_constant_columns_have_steps():
    for other in (7.25, 1e300, np.pi, 5 + 1e-12):
        grid = grid_of(np.array([5.0] * 200 + [other]), "number")
        assert grid.step > 0
        assert returned(np.array([5.0]), grid)[0] == pytest.approx(5, abs=grid.step)


def test_wide_grids_are_coarsened_to_multiples_that_float32_counts():
    cents = np.round(DICE.uniform(0, 3e6, 2000), 2)
    grid = grid_of(cents, "number")
    assert grid.coarsened
    assert grid.own == 0.01
    assert grid.step == 0.1
    assert np.abs(returned(cents, grid) - cents).max() <= grid.step / 2 * 1.001


def test_times_are_coarsened_to_round_times():
    seconds = 1_000_000 * DICE.integers(1_500_000_000, 1_650_000_000, 3000)
    grid = grid_of(seconds, "datetime")
    assert grid.own == 1e6
    assert grid.step == 5e6
    assert np.abs(returned(seconds, grid, whole=True) - seconds).max() <= 2.5e6


@pytest.mark.parametrize("base", [0, 2**53 + 1, 2**62 + 3, -(2**62) - 1])
def test_whole_numbers_of_any_size_come_back_exactly(base):
    values = base + DICE.integers(0, 10**6, 1000)
    np.testing.assert_array_equal(returned(values, grid_of(values, "whole"), whole=True), values)


def test_unsigned_numbers_beyond_signed_ones_come_back_exactly():
    values = np.uint64(2**63 + 5) + DICE.integers(0, 1000, 100).astype(np.uint64)
    grid = grid_of(values, "whole")
    steps = indices(values, grid.origin, grid.step)
    found = values_at(steps, grid.origin, grid.step, 0, True, (0, 2**64 - 1))
    np.testing.assert_array_equal(found, values)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30))
def test_any_finite_numbers_have_steps_in_float32(values):
    numbers = np.array(values)
    grid = grid_of(numbers, "number")
    assert grid.step > 0
    assert np.isfinite(grid.origin)
    assert np.isfinite(grid.origin + LARGEST * grid.step)
    found = returned(numbers, grid)
    with np.errstate(over="ignore"):
        reached = np.abs(numbers / grid.step - grid.origin / grid.step) <= LARGEST
    half = grid.step / 2 + np.abs(numbers) * 1e-15
    assert (np.abs(found - numbers)[reached] <= 1.0001 * half[reached]).all()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_any_integers_have_steps_in_float32(values):
    numbers = np.array(values, dtype=np.int64)
    grid = grid_of(numbers, "whole")
    limits = (-(2**63), 2**63 - 1)
    steps = indices(numbers, grid.origin, grid.step)
    assert np.abs(steps).max() <= LARGEST
    found = values_at(steps, grid.origin, grid.step, grid.decimals, True, limits)
    off = np.array([abs(int(a) - int(b)) for a, b in zip(found, numbers, strict=True)])
    reached = np.abs(steps) < LARGEST
    assert (off[reached] <= grid.step / 2 + 2.0**11).all()
    if grid.step == 1 and not grid.clipped:
        assert (off == 0).all()
