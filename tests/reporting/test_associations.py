import zlib

import numpy as np
import pytest
from scipy import stats
from tablereports import data_of

from mimachine.reporting.tables.associations import associations, cramers_v, strongest
from mimachine.reporting.tables.cells import Cells, excess

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def seeded(request):
    seed = zlib.crc32(request.node.name.encode())
    RNG.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def random_cells(rows, *sizes):
    return np.stack([RNG.integers(0, size, rows) for size in sizes], 1)


def test_equal_columns_have_association_one_and_columns_that_do_not_vary_none():
    column = RNG.integers(0, 5, 100)
    found = associations(np.stack([column, column, np.zeros(100, dtype=int)], 1))
    assert found[:2, :2] == pytest.approx(np.ones((2, 2)), abs=1e-12)
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()


def test_independent_columns_have_association_near_zero():
    square = [float(associations(random_cells(1000, 6, 4))[0, 1]) ** 2 for _ in range(50)]
    # The squared statistic has standard deviation sqrt(2 (r-1)(c-1)) / (n (min(r, c) - 1)).
    deviation = np.sqrt(2 * 5 * 3) / (1000 * 3)
    assert max(square) < 5 * deviation
    # Without the correction the mean would be (r-1)(c-1) / (n-1) / 3, that is nearly 1.4 times it.
    assert np.mean(square) < 0.6 * deviation


def test_the_measure_without_correction_is_that_of_scipy():
    cells = random_cells(200_000, 3, 4)
    cells[:, 1] = np.where(RNG.random(200_000) < 0.3, cells[:, 0], cells[:, 1])
    counts = np.zeros((3, 4))
    np.add.at(counts, tuple(cells.T), 1)
    expected = stats.contingency.association(counts.astype(int), method="cramer")
    # With so many rows the correction is below 1e-4.
    assert associations(cells)[0, 1] == pytest.approx(expected, abs=1e-3)
    assert expected > 0.2


def test_neither_the_order_of_rows_and_columns_nor_names_of_cells_matter():
    cells = random_cells(300, 3, 4, 5)
    cells[:, 2] = np.where(RNG.random(300) < 0.5, cells[:, 0], cells[:, 2])
    found = associations(cells)
    assert found == pytest.approx(found.T, abs=1e-12)
    order = RNG.permutation(300)
    assert associations(cells[order][:, ::-1])[::-1, ::-1] == pytest.approx(found, abs=1e-9)
    renamed = cells.copy()
    renamed[:, 0] = np.array([2, 0, 1])[cells[:, 0]]
    # Cells that never occur change nothing.
    renamed[:, 1] = 3 * cells[:, 1] + 1
    assert associations(renamed) == pytest.approx(found, abs=1e-9)


def test_a_pair_is_compared_on_the_rows_in_which_both_are_known():
    cells = random_cells(200, 3, 3)
    cells[:, 1] = np.where(RNG.random(200) < 0.5, cells[:, 0], cells[:, 1])
    holes = RNG.random((200, 2)) < 0.2
    both = ~holes.any(1)
    found = associations(np.where(holes, -1, cells))[0, 1]
    assert found == pytest.approx(associations(cells[both])[0, 1], abs=1e-9)
    nothing = np.stack([cells[:, 0], np.full(200, -1)], 1)
    assert np.isnan(associations(nothing)[1]).all()
    assert np.isnan(associations(np.full((5, 2), -1))).all()


def test_tables_too_small_for_the_correction_have_no_value():
    assert np.isnan(cramers_v(np.eye(4)))
    assert cramers_v(2 * np.eye(4)) == pytest.approx(1)


def test_the_strongest_columns_are_kept_in_order():
    matrix = np.eye(5)
    matrix[1, 4] = matrix[4, 1] = 0.9
    matrix[0, 3] = matrix[3, 0] = 0.5
    matrix[2] = matrix[:, 2] = np.nan
    assert strongest(matrix, 2).tolist() == [1, 4]
    assert strongest(matrix, 4).tolist() == [0, 1, 3, 4]
    assert strongest(matrix, 30).tolist() == [0, 1, 2, 3, 4]


def columns(rows=500):
    value = RNG.normal(size=rows).round(2)
    return {"number": value, "level": RNG.choice(["a", "b", "c"], rows, p=(0.6, 0.3, 0.1))}


def test_cells_do_not_change_with_units_or_increasing_functions():
    plain = columns()
    scaled = {**plain, "number": 1000 * plain["number"] - 7}
    # A grid of steps stays one under a linear function.
    found = []
    for table in (plain, scaled):
        data = data_of(table)
        rows = data.test.double().numpy()
        found.append(Cells(rows, data.schema).of(rows))
    assert (found[0] == found[1]).all()
    data = data_of(plain)
    rows = data.test.double().numpy()
    curved = rows.copy()
    curved[:, 0] = np.exp(rows[:, 0] / 100)
    assert (Cells(curved, data.schema).of(curved) == found[0]).all()


def test_cells_of_numbers_hold_equal_shares_and_holes_have_none():
    data = data_of(columns())
    rows = data.test.double().numpy()
    rows[:50, 0] = np.nan
    cells = Cells(rows, data.schema).of(rows)
    assert (cells[:50, 0] == -1).all()
    counts = np.bincount(cells[50:, 0])
    assert len(counts) == 7
    assert counts == pytest.approx(np.full(7, 450 / 7), abs=5)


def test_rare_levels_share_a_cell():
    levels = [f"level {chr(97 + i)}" for i in range(20) for _ in range(40 - i)]
    data = data_of({"level": levels})
    rows = data.test.double().numpy()
    counts = np.bincount(Cells(rows, data.schema).of(rows)[:, 0])
    assert counts.tolist() == [*range(40, 29, -1), sum(range(21, 30))]


def test_rows_of_one_distribution_have_no_excess_and_others_their_distance():
    same = [excess(random_cells(1000, 8), random_cells(2000, 8))[0] for _ in range(50)]
    assert np.mean(same) < 0.01
    assert max(same) < 0.03
    # Half of the values moved to another cell.
    first, second = np.zeros((20_000, 1), dtype=int), np.zeros((20_000, 1), dtype=int)
    second[:10_000] = 1
    assert excess(first, second)[0] == pytest.approx(0.5, abs=0.01)
    holes = np.where(second == 1, -1, second)
    assert excess(first, holes)[0] == pytest.approx(0.5, abs=0.01)
    assert excess(first, first)[0] == 0
