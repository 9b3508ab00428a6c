"""The type in which a file stores numbers of few digits does not change what is learned of them."""

import numpy as np
import pytest

from mimachine.data.files.load import load_file, read_rows
from mimachine.data.files.options import File
from mimachine.data.files.read_table import read_table
from mimachine.data.resolution import column_grids, count_decimals

HALF, SINGLE, DOUBLE = TYPES = (np.float16, np.float32, np.float64)
DICE = np.random.default_rng(0)
# Up to three digits, which half precision holds, with one, no and two decimals.
TENTHS = DICE.integers(-90, 90, 200) / 10
WHOLES = DICE.integers(-200, 200, 200).astype(float)
HUNDREDTHS = DICE.integers(-300, 300, 200) / 100
TABLE = np.stack([TENTHS, WHOLES, HUNDREDTHS], 1)


def save(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize("kind", TYPES)
def test_decimals_and_grids_are_those_of_the_digits_in_any_type(kind):
    values = TABLE.astype(kind)
    decimals = count_decimals(values, np.zeros(3, dtype=bool))
    assert decimals.tolist() == [1, 0, 2]
    steps = column_grids(values.astype(np.float64), decimals)
    np.testing.assert_allclose(steps, [0.1, 1, 0.01], rtol=1e-6)


def test_more_decimals_than_a_type_holds_are_not_a_number_of_decimals():
    values = DICE.normal(size=(200, 1))
    for kind in (SINGLE, DOUBLE):
        assert count_decimals(values.astype(kind), np.zeros(1, dtype=bool)).tolist() == [-1]


@pytest.mark.parametrize("kind", TYPES)
def test_a_table_is_learned_alike_in_any_type(kind, tmp_path):
    np.save(tmp_path / "x.npy", TABLE.astype(kind))
    columns = {name: TABLE[:, k].astype(kind) for k, name in enumerate("abc")}
    for path in (tmp_path / "x.npy", save(tmp_path / "x.parquet", **columns)):
        data = load_file(path, File(), "numbers")
        learned = data.preprocessing
        assert learned.decimals.tolist() == [1, 0, 2]
        np.testing.assert_allclose(learned.floor * learned.scale * 12**0.5, [0.1, 1, 0.01], 1e-3)
        # Samples have the digits of the file, whatever its type.
        restored = data.restore(data.train, drawn=True)
        assert {tuple(row) for row in restored} <= {tuple(row) for row in TABLE}
        assert read_rows(path, File(), learned).values.dtype == kind


@pytest.mark.parametrize(
    "kinds", [(HALF, SINGLE), (HALF, DOUBLE), (SINGLE, DOUBLE), (HALF, np.int64), (HALF, np.int16)]
)
def test_columns_of_several_types_keep_the_decimals_of_each(kinds, tmp_path):
    pair = TENTHS.astype(kinds[0]), (WHOLES if kinds[1] in (np.int64, np.int16) else HUNDREDTHS)
    path = save(tmp_path / "x.parquet", a=pair[0], b=pair[1].astype(kinds[1]))
    assert read_table(path).values.dtype == np.result_type(*kinds)
    expected = 0 if np.issubdtype(kinds[1], np.integer) else 2
    assert load_file(path, File(), "numbers").preprocessing.decimals.tolist() == [1, expected]


def test_large_values_in_half_precision_do_not_overflow(tmp_path):
    values = DICE.uniform(-60_000, 60_000, (200, 2)).astype(HALF)
    np.save(tmp_path / "x.npy", values)
    learned = load_file(tmp_path / "x.npy", File()).preprocessing
    train = read_rows(tmp_path / "x.npy", File(), learned, "train").values.astype(np.float64)
    np.testing.assert_allclose(learned.scale, train.std(0), rtol=1e-12)
    np.testing.assert_allclose(learned.shift, train.mean(0), rtol=1e-12)


def test_grey_levels_in_half_precision_are_on_their_grid(tmp_path):
    levels = DICE.integers(0, 256, (60, 4, 4))
    levels[0, 0, :2] = 0, 255
    np.save(tmp_path / "x.npy", (levels / 255).astype(HALF))
    data = load_file(tmp_path / "x.npy", File())
    assert data.levels == 256
    assert data.preprocessing.likelihood == "discretized-logistic"
    rows = read_rows(tmp_path / "x.npy", File(), data.preprocessing).rows
    np.testing.assert_array_equal(rows, (levels.reshape(60, 16) / 255).astype(SINGLE))
    np.save(tmp_path / "y.npy", DICE.uniform(size=(60, 4, 4)).astype(HALF))
    assert load_file(tmp_path / "y.npy", File()).levels is None
