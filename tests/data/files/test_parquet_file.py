"""Parquet files are compared with what pyarrow and polars wrote."""

import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tablefiles import message, quick, same, tables

from mimachine.data.files.read_table import peek, read_table


@quick
@given(values=tables, dtype=st.sampled_from(["f8", "f4", "f2", "i4", "u1", "?"]))
def test_numbers_come_back_from_parquet_bit_for_bit(tmp_path, values, dtype):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = np.clip(values, 0, 100).astype(dtype)
    names = tuple(f"a.{k}" for k in range(values.shape[1]))
    columns = {name: pyarrow.array(values[:, k]) for k, name in enumerate(names)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "data.parquet")
    table = read_table(tmp_path / "data.parquet")
    same(table.values, values)
    assert table.columns == names
    assert peek(tmp_path / "data.parquet") == (len(values), values.shape[1:])


def write_parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


def test_parquet_columns_of_several_types_become_one_array(tmp_path):
    path = write_parquet(
        tmp_path / "data.parquet",
        a=[1, 2],
        kind=["x", "y"],
        b=[0.5, 1.5],
        c=[True, False],
        __index_level_0__=[7, 3],
    )
    table = read_table(path, labels="kind")
    same(table.values, np.array([[1, 0.5, 1], [2, 1.5, 0]]))
    assert table.columns == ("a", "b", "c")
    assert table.labels.tolist() == ["x", "y"]
    assert table.notes == ("column '__index_level_0__' only counts the rows; not used",)
    assert peek(path, labels="kind", drop=["b"]) == (2, (2,))
    same(read_table(path, columns=["c", "a"]).values, np.array([[1, 1], [0, 2]]))


def test_parquet_without_numbers_or_with_nulls_is_refused(tmp_path):
    path = write_parquet(tmp_path / "data.parquet", a=[1, None, None], city=["x", None, "y"])
    assert "column 'city' has type string. Leave them out with drop=[\"city\"]" in message(path)
    assert "column 'a' has 2 nulls, first in row 2" in message(path, drop=["city"])
    assert "must have no missing values, got 1, first in row 2" in message(
        write_parquet(tmp_path / "data.parquet", a=[1, 2, 3], city=["x", None, "y"]), labels="city"
    )
    assert "has no rows" in message(write_parquet(tmp_path / "data.parquet", a=[]))
    path.write_bytes(b"PAR1 and so on PAR1")
    assert "data.parquet is damaged or not a parquet file" in message(path)
    path.write_bytes(b"a,b\n1,2\n")
    assert "data.parquet is damaged or not a parquet file" in message(path)


def test_parquet_is_read_without_pyarrow(tmp_path, monkeypatch):
    pl.DataFrame({"a": [1.5, 2.5]}).write_parquet(tmp_path / "data.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    same(read_table(tmp_path / "data.parquet").values, np.array([[1.5], [2.5]]))


def test_parquet_columns_of_the_same_name_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "data.parquet")
    assert "several columns of the same name" in message(tmp_path / "data.parquet")
