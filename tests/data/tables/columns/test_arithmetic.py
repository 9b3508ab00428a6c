"""Sums, differences and multiples among columns of numbers."""

import numpy as np
import pytest

from mimachine.data.tables.columns.arithmetic import equations

DICE = np.random.default_rng(0)


def amounts(columns, rows=3000):
    return np.round(DICE.gamma(2, 50, (rows, columns)), 2)


def texts(values, steps=0.01):
    names = "abcdefghijklmnop"
    found = equations(values, np.full(values.shape[1], steps))
    return [each.text(names) for each in found]


def test_a_sum_is_found():
    x = amounts(4)
    assert texts(np.column_stack([x, x[:, :3].sum(axis=1)])) == ["e = a + b + c"]


def test_a_difference_is_named_as_the_sum():
    x = amounts(3)
    assert texts(np.column_stack([x, x[:, 0] - x[:, 2]])) == ["a = c + d"]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda a: 12 * a, "b = 12 * a"),
        (lambda a: a / 4, "a = 4 * b"),
        (lambda a: np.round(1.19 * a, 2), "b = 1.19 * a"),
        (lambda a: 1.8 * a + 32, "b = 1.8 * a + 32"),
        (lambda a: 100 - a, "b = -a + 100"),
        (lambda a: a, "b = a"),
    ],
)
def test_multiples_are_found(make, expected):
    a = amounts(1)
    found = equations(np.column_stack([a, make(a), amounts(2)]), np.array([0.01] * 4))
    assert len(found) == 1
    assert found[0].text("abcd") == expected


def test_anomalies_and_holes_do_not_hide_a_sum():
    x = amounts(8)
    values = np.column_stack([x, x[:, 0] + x[:, 5], 2 * x[:, 3]])
    wrong = DICE.random(3000) < 0.01
    values[wrong, 8] = amounts(1)[wrong, 0]
    values[wrong, 9] = amounts(1)[wrong, 0]
    values[DICE.random(values.shape) < 0.03] = np.nan
    assert set(texts(values)) == {"i = a + f", "j = 2 * d"}


def test_several_sums_are_found():
    x = amounts(6)
    values = np.column_stack([x, x[:, 0] + x[:, 1], x[:, 2] - x[:, 3]])
    assert set(texts(values)) == {"g = a + b", "c = d + h"}


def test_columns_that_are_merely_correlated_are_not_equal():
    a = DICE.normal(size=3000)
    values = np.column_stack([a, a + 0.05 * DICE.normal(size=3000), DICE.normal(size=3000)])
    assert texts(values, 0.001) == []


def test_unrelated_columns_have_no_equation():
    counts = DICE.poisson(0.3, (500, 12)).astype(float)
    assert texts(counts, 1.0) == []
    assert texts(amounts(12, 60)) == []
    assert texts(DICE.integers(0, 3, (40, 6)).astype(float), 1.0) == []


def test_zero_inflated_terms_are_terms():
    x = amounts(3) * (DICE.random((3000, 3)) < 0.4)
    assert texts(np.column_stack([x, x.sum(axis=1)])) == ["d = a + b + c"]


def test_constant_and_empty_columns_are_passed_over():
    x = amounts(2)
    values = np.column_stack([x, x.sum(axis=1), np.full(3000, 7.0), np.full(3000, np.nan)])
    assert texts(values) == ["c = a + b"]


def test_hundreds_of_columns_take_seconds_at_most():
    values = amounts(200, 4000)
    values[:, 150] = values[:, 3] + values[:, 99]
    found = equations(values, np.full(200, 0.01))
    assert [(each.column, each.terms) for each in found] == [(150, (3, 99))]


def test_a_column_of_few_values_is_not_another_one_rounded():
    size = np.round(DICE.uniform(0, 2.4, 500), 1)
    found = equations(np.column_stack([size, np.rint(0.9 * size)]), np.array([0.1, 1.0]))
    assert found == []
