"""Columns that settle others, and those that only seem to."""

import numpy as np
import pytest

from mimachine.data.tables.columns.determined import contradictions, settled, strength

DICE = np.random.default_rng(0)


def crossed(parent, child):
    table = np.zeros((parent.max() + 1, child.max() + 1), dtype=int)
    np.add.at(table, (parent, child), 1)
    return table


def places(rows=2000, cities=12):
    """City, region, country and a column of no influence."""
    city = DICE.integers(0, cities, rows)
    return {0: city, 1: city // 3, 2: city // 6, 3: DICE.integers(0, 4, rows)}


def found_in(columns, pooled=()):
    columns = {k: np.asarray(column, dtype=float) for k, column in columns.items()}
    levels = {k: int(np.nanmax(column)) + 1 for k, column in columns.items()}
    return settled(columns, levels, pooled)


def test_the_nearest_parent_is_found_and_independent_columns_have_none():
    found = found_in(places())
    assert {k: each.parent for k, each in found.items()} == {1: 0, 2: 1}
    assert all(each.wrong == 0 for each in found.values())


def test_the_table_has_the_rows_of_each_pair():
    columns = places()
    for child, (parent, table, _) in found_in(columns).items():
        for first, second, count in table:
            assert count == ((columns[parent] == first) & (columns[child] == second)).sum() > 0
        assert sum(count for *_, count in table) == 2000


def test_missing_values_are_left_aside():
    columns = {k: column.astype(float) for k, column in places().items()}
    for column in columns.values():
        column[DICE.random(2000) < 0.1] = np.nan
    found = found_in(columns)
    assert {k: each.parent for k, each in found.items()} == {1: 0, 2: 1}
    both = np.isfinite(columns[0]) & np.isfinite(columns[1])
    assert sum(count for *_, count in found[1].table) == both.sum()


def test_columns_that_name_the_same_settle_each_other_one_way():
    city = DICE.integers(0, 9, 1000)
    found = found_in({0: city, 1: DICE.permutation(9)[city], 2: city // 3})
    assert found[1].parent == 0
    assert 0 not in found
    assert found[2].parent in (0, 1)


@pytest.mark.parametrize("wrong", [0.0, 0.005, 0.03])
def test_nearly_settled_columns_count_up_to_one_row_in_a_hundred(wrong):
    city = DICE.integers(0, 12, 20_000)
    region = np.where(DICE.random(20_000) < wrong * 4 / 3, DICE.integers(0, 4, 20_000), city // 3)
    found = found_in({0: city, 1: region})
    assert (1 in found) == (wrong < 0.01)
    if found:
        assert found[1].wrong == pytest.approx((region != city // 3).mean(), abs=1e-9)


def test_small_tables_do_not_seem_settled_by_chance():
    false = 0
    for _ in range(400):
        rows = int(DICE.integers(5, 40))
        columns = {
            k: DICE.integers(0, levels, rows) for k, levels in enumerate((2, 2, 3, 8, rows, rows))
        }
        false += len(found_in(columns))
    assert false == 0


def test_a_level_for_each_row_settles_nothing():
    rows = np.arange(300)
    assert strength(crossed(rows, DICE.integers(0, 3, 300))) is None
    # Nor do pairs of rows, of which half agree by chance.
    assert strength(crossed(rows // 2, DICE.integers(0, 2, 300))) is None


def test_a_small_table_that_is_settled_is_found():
    city = DICE.integers(0, 6, 60)
    assert found_in({0: city, 1: city // 2})[1].parent == 0


def test_a_column_with_one_frequent_level_is_not_settled_by_all():
    rare = (DICE.random(5000) < 0.005).astype(int)
    assert strength(crossed(DICE.integers(0, 5, 5000), rare)) is None


def test_a_level_that_pools_rare_ones_settles_nothing_and_does_not_hide_the_others():
    city = DICE.integers(0, 12, 5000)
    region = city // 3
    other = DICE.random(5000) < 0.1
    city[other], region[other] = 12, DICE.integers(0, 4, other.sum())
    assert found_in({0: city, 1: region}, pooled=[0])[1].parent == 0
    assert found_in({0: city, 1: region}) == {}


def test_sorted_tables_are_judged_by_all_rows():
    city = np.sort(DICE.integers(0, 12, 60_000)).astype(float)
    assert contradictions(city, city // 3, (12, 4)) == 0


def test_each_row_is_predicted_from_the_others():
    """Against counting it row by row."""
    for _ in range(30):
        parent, child = DICE.integers(0, 8, 200), DICE.integers(0, 3, 200)
        child = np.where(DICE.random(200) < 0.97, parent % 3, child)
        right = repeated = 0
        for k in range(200):
            others = child[(parent == parent[k]) & (np.arange(200) != k)]
            if not len(others):
                continue
            repeated += 1
            counts = np.bincount(others, minlength=3)
            best = np.flatnonzero(counts == counts.max())
            right += len(best) == 1 and best[0] == child[k]
        table = crossed(parent, child)
        assert strength(table, most_wrong=1.0) in (None, pytest.approx(1 - right / repeated))
