"""Data frames and parquet files are compared with the values that they hold."""

import datetime
import subprocess
import sys
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from mimachine._support import memory
from mimachine.data.tables.read import outline, read_blocks, read_frame

pd = pytest.importorskip("pandas")

DAY = datetime.date(2020, 2, 1)
TIME = datetime.datetime(2020, 2, 1, 10, 30)
LONG = 2**60 + 1


def error(source, **kwargs):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_frame(source, **kwargs)
    return str(caught.value)


PANDAS = {
    "int": (pd.Series([1, 2, 3]), pl.Int64, [1, 2, 3]),
    "small int": (pd.Series([1, 2, 3], dtype="uint8"), pl.UInt8, [1, 2, 3]),
    "float": (pd.Series([1.5, np.nan, 3]), pl.Float64, [1.5, None, 3]),
    "half": (pd.Series([1.5, 2, 3], dtype="float16"), pl.Float32, [1.5, 2, 3]),
    "bool": (pd.Series([True, False, True]), pl.Boolean, [True, False, True]),
    "nullable int": (pd.Series([1, None, LONG], dtype="Int64"), pl.Int64, [1, None, LONG]),
    "nullable bool": (pd.Series([True, None], dtype="boolean"), pl.Boolean, [True, None]),
    "nullable float": (pd.Series([1.5, None, 3], dtype="Float64"), pl.Float64, [1.5, None, 3]),
    "nullable whole": (pd.Series([1, 2, 3], dtype="Int32"), pl.Int32, [1, 2, 3]),
    "string": (pd.Series(["a", None, "c"], dtype="string"), pl.String, ["a", None, "c"]),
    "object": (pd.Series(["a", None, np.nan]), pl.String, ["a", None, None]),
    "flags": (pd.Series([True, None, False], dtype=object), pl.Boolean, [True, None, False]),
    "integers": (pd.Series([1, None, 3], dtype=object), pl.Int64, [1, None, 3]),
    "numbers": (pd.Series([1, 2.5, None], dtype=object), pl.Float64, [1, 2.5, None]),
    "decimals": (pd.Series([Decimal("1.5"), None, Decimal(2)]), pl.Decimal, [1.5, None, 2]),
    "dates": (pd.Series([DAY, None, DAY]), pl.Date, [DAY, None, DAY]),
    "nothing": (pd.Series([None, None, None], dtype=object), pl.Null, [None] * 3),
    "category": (pd.Series(["a", None, "b"], dtype="category"), pl.Categorical, ["a", None, "b"]),
    "ordered": (
        pd.Series(pd.Categorical(["lo", "hi", None], ["lo", "hi"], ordered=True)),
        pl.Enum(["lo", "hi"]),
        ["lo", "hi", None],
    ),
    "numbered": (pd.Series([1, 2, 1], dtype="category"), pl.Categorical, ["1", "2", "1"]),
    "datetime": (
        pd.Series([TIME, None, TIME], dtype="datetime64[ns]"),
        pl.Datetime("ns"),
        [TIME, None, TIME],
    ),
    "seconds": (
        pd.Series([TIME, None]).astype("datetime64[s]"), pl.Datetime("us"), [TIME, None],
    ),
    "duration": (
        pd.Series([datetime.timedelta(1), None, datetime.timedelta(2)], dtype="timedelta64[ns]"),
        pl.Duration("ns"),
        [datetime.timedelta(1), None, datetime.timedelta(2)],
    ),
    "sparse": (pd.Series(pd.arrays.SparseArray([0, 0, 5])), pl.Int64, [0, 0, 5]),
}  # fmt: skip


@pytest.mark.parametrize("case", PANDAS)
def test_columns_of_pandas_keep_type_and_values(case):
    series, kind, values = PANDAS[case]
    found = read_frame(pd.DataFrame({"a": series}))
    assert found.data["a"].dtype == kind
    assert found.data["a"].to_list() == values
    assert (found.notes, found.named) == ((), True)


def test_time_zones_of_pandas_are_kept():
    times = pd.Series([TIME, None], dtype="datetime64[ns]").dt.tz_localize("Europe/Vienna")
    found = read_frame(pd.DataFrame({"a": times})).data["a"]
    assert found.dtype == pl.Datetime("ns", "Europe/Vienna")
    assert found[0] == times[0].to_pydatetime()
    assert found[1] is None


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        (pd.DataFrame({"a": ["x", 1, 2]}), "got int (2), str (1), such as 'x' in row 1"),
        (pd.DataFrame({"a": [[1], [2]]}), "must hold values of one type"),
        (pd.DataFrame({"a": [1 + 2j]}), "column 'a' of the data frame must hold"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns called 'a'"),
        (pd.DataFrame([[1, 2]], columns=["1", 1]), "several columns called '1'"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "2 levels of names"),
        (pd.DataFrame({"a": []}), "has no rows"),
        (pd.DataFrame(index=[0, 1]), "has no columns"),
        (pl.DataFrame({"a": [[1], [2]]}), "column 'a' is of type List(Int64)"),
        (pl.DataFrame({"a": [{"x": 1}]}), 'or leave it out with drop=["a"]'),
        (pl.DataFrame({"a": [b"x"]}), "convert it to text or numbers"),
        (pd.Series([1]), "must be the path of a file or folder, or a data frame of pandas"),
        (np.ones((2, 2)), "got a ndarray"),
    ],
)
def test_unusable_frames_are_refused_by_column(frame, part):
    assert part in error(frame)


def test_names_that_are_no_text_become_text_and_an_index_is_named():
    found = read_frame(pd.DataFrame([[1, 2], [3, 4]]))
    assert (found.data.columns, found.notes) == (["0", "1"], ())
    kept = pd.DataFrame({"a": [1, 2, 3]}, index=[0, 2, 5])
    assert "the index of the data frame is not used" in read_frame(kept).notes[0]
    indexed = pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
    assert "reset_index()" in read_frame(indexed).notes[0]


def test_frames_of_other_libraries():
    plain = pl.DataFrame({"a": [1.0, np.nan, np.inf], "b": ["x", None, "y"]})
    pyarrow = pytest.importorskip("pyarrow")
    for source in (plain, plain.lazy(), pyarrow.table({n: plain[n].to_list() for n in "ab"})):
        found = read_frame(source)
        assert found.data.rows() == [(1.0, "x"), (None, None), (None, "y")]
        assert found.notes == ("infinite numbers are read as missing: column 'a' has 1",)
        assert read_frame(source, columns=["b"]).data.columns == ["b"]
    assert "lacks 1 column" in error(plain, columns=["c"])
    assert read_frame(pl.DataFrame({"a": [1]}), types={"a": "String"}).data["a"].to_list() == ["1"]


def test_pandas_needs_no_pyarrow():
    code = """
import sys
sys.modules["pyarrow"] = None
import pandas as pd
from mimachine.data.tables.read import read_frame
frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"]),
    "d": pd.to_datetime(["2020-01-01", None]).tz_localize("UTC"),
    "e": pd.array([1, None], "Int64")})
found = read_frame(frame).data
assert found.shape == (2, 5), found
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_modules_of_tables_do_not_import_polars():
    code = """
import sys
import mimachine, mimachine.data.tables.read, mimachine.data.tables.frames
import mimachine.data.files.load
assert not {"polars", "narwhals", "pandas", "pyarrow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# Parquet.

TABLE = pl.DataFrame(
    {"a": range(100), "b": [f"w{k}" if k % 7 else None for k in range(100)], "c": [DAY] * 100}
)


def test_parquet_files_and_folders(tmp_path):
    TABLE.write_parquet(tmp_path / "a.parquet")
    found = read_frame(tmp_path / "a.parquet")
    assert found.data.equals(TABLE)
    assert (found.source, found.place(3)) == ("a.parquet", "row 4")
    folder = tmp_path / "folder [1]"
    folder.mkdir()
    TABLE[:30].write_parquet(folder / "part-0.parquet")
    TABLE[30:].write_parquet(folder / "part-1.parquet")
    (folder / "_SUCCESS").touch()
    assert read_frame(folder).data.equals(TABLE)
    assert (outline(folder).rows, outline(folder).types) == (100, dict(TABLE.schema))
    assert read_frame(folder, columns=["c", "a"]).data.equals(TABLE.select("c", "a"))
    blocks = list(read_blocks(folder, 40, columns=["b"]))
    assert [block.data.height for block in blocks] == [40, 40, 20]
    assert pl.concat([block.data for block in blocks]).equals(TABLE.select("b"))
    assert blocks[1].place(0) == "row 41"


def test_parquet_larger_than_memory_is_read_in_blocks(tmp_path, monkeypatch):
    TABLE.write_parquet(tmp_path / "a.parquet")
    monkeypatch.setattr(memory, "available", lambda: 1000)
    assert "read it in blocks of rows" in error(tmp_path / "a.parquet")
    assert sum(block.data.height for block in read_blocks(tmp_path / "a.parquet", 9)) == 100


def test_unusable_parquet_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"a": [1], "b": [[1, 2]]}).write_parquet(path)
    assert "column 'b' is of type List(Int64); make a column of each of its elements" in error(path)
    assert read_frame(path, columns=["a"]).data.rows() == [(1,)]
    for content in (b"", b"a,b\n1,2\n", b"PAR1 and so on PAR1"):
        path.write_bytes(content)
        assert "a.parquet is damaged or not a parquet file" in error(path)
    TABLE[:0].write_parquet(path)
    assert "has no rows" in error(path)
    (tmp_path / "none").mkdir()
    assert "must be a folder of .parquet files" in error(tmp_path / "none")
    assert "header=True applies to text files only" in error(path, header=True)


@pytest.mark.parametrize(
    ("other", "part"),
    [
        (TABLE.drop("b"), "1.parquet lacks column 'b' of 0.parquet"),
        (TABLE.with_columns(d=1), "1.parquet has column 'd', unlike 0.parquet"),
        (TABLE.cast({"a": pl.Float64}), "column 'a' of type Float64, not Int64 as in 0.parquet"),
        (TABLE.select("b", "a", "c"), "has its columns in another order than 0.parquet"),
    ],
)
def test_files_of_a_folder_must_have_the_same_columns(tmp_path, other, part):
    TABLE.write_parquet(tmp_path / "0.parquet")
    other.write_parquet(tmp_path / "1.parquet")
    assert part in error(tmp_path)


def test_the_index_of_pandas_in_parquet_is_left_out(tmp_path):
    pl.DataFrame({"a": [1], "__index_level_0__": [7]}).write_parquet(tmp_path / "a.parquet")
    found = read_frame(tmp_path / "a.parquet")
    assert found.data.columns == ["a"]
    assert "'__index_level_0__' only counts the rows" in found.notes[0]
