"""Read parquet files of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine._support.messages import counted
from mimachine.data.files.checks import (
    Distinct,
    check_integers,
    too_many_digits,
    with_many_digits,
)
from mimachine.data.files.columns import Choice, Layout, choose, missing_values, not_numeric
from mimachine.data.files.table import Table, typed
from mimachine.data.tables.parquet import is_index, parquet_types, read_parquet_columns

if TYPE_CHECKING:
    import polars as pl

__all__ = ["peek_parquet", "read_parquet"]

# Each access takes a time that grows with the number of all columns.
_VALUES_AT_ONCE = 1 << 20


def peek_parquet(file: Path, labels: str | None, drop: Sequence[str]) -> tuple[int, int]:
    """Shape of the values of a parquet file, from its metadata."""
    rows, types = parquet_types(file)
    layout = _layout(rows, types, file.name)
    return rows, len(choose(layout, file.name, labels, drop, None).values)


def read_parquet(
    file: Path, labels: str | None, drop: Sequence[str], columns: Sequence[str] | None
) -> Table:
    """Read columns of a parquet file; an error names columns with text or nulls."""
    rows, kinds = parquet_types(file)
    layout = _layout(rows, kinds, file.name)
    choice = choose(layout, file.name, labels, drop, columns)
    values, types = _values(file, rows, [kinds[name] for name in layout.names], layout, choice)
    found = None
    if choice.label is not None:
        name = layout.names[choice.label]
        found = _labels(read_parquet_columns(file, [name])[name])
    booleans = np.array([kind.kind == "b" for kind in types])
    return Table(values, choice.columns, found, file.name, choice.notes, booleans, types=types)


def _layout(rows: int, types: dict[str, pl.DataType], source: str) -> Layout:
    if not rows:
        raise ValueError(f"{source} has no rows")
    counters = [k for k, name in enumerate(types) if is_index(name)]
    return Layout(tuple(types), counters=tuple(counters))


def _values(
    file: Path, rows: int, kinds: list[pl.DataType], layout: Layout, choice: Choice
) -> tuple[NDArray[Any], tuple[np.dtype[Any], ...]]:
    """Values (N, D), of which few columns are in memory twice; and the types of the columns."""
    source = file.name
    dtypes = {k: _dtype(kinds[k]) for k in choice.values}
    if other := {k: f"has type {kinds[k]!s}".lower() for k, d in dtypes.items() if d is None}:
        raise not_numeric(other, layout, source)
    types = tuple(dtype for dtype in dtypes.values() if dtype is not None)
    dtype = np.result_type(*set(types))
    shape = (rows, len(choice.values))
    memory.check_fits(f"{source} as an array", shape, dtype.itemsize, "save it as .npy")
    values = np.empty(shape, dtype)
    missing = []
    at_once = max(1, _VALUES_AT_ONCE // rows)
    for column, k in enumerate(choice.values):
        name = layout.names[k]
        if column % at_once == 0:
            names = [layout.names[each] for each in choice.values[column : column + at_once]]
            block = read_parquet_columns(file, names)
        stored = block[name]
        if nulls := stored.null_count():
            first = int(stored.is_null().arg_max() or 0) + 1
            missing.append((k, counted(nulls, "null"), f"row {first}"))
            continue
        numbers = stored.cast(_float64()).to_numpy() if kinds[k].is_decimal() else stored.to_numpy()
        # Before integers become floating-point numbers.
        check_integers(numbers[:, None], [name], source)
        values[:, column] = numbers
        if kinds[k].is_decimal():
            _check_decimals(stored, numbers, name, source)
    if missing:
        raise missing_values(missing, layout, source)
    return values, types


def _check_decimals(decimals: pl.Series, floats: NDArray[Any], name: str, source: str) -> None:
    """Check that floats (N,) have not made different decimal numbers equal."""
    if not with_many_digits(floats[:, None]).any():
        return
    column = Distinct()
    for number in decimals.unique():
        if not column.takes(number, number.as_tuple().exponent >= 0):
            raise too_many_digits(source, 0, name, str(number))


def _labels(stored: pl.Series) -> NDArray[Any]:
    """Labels from a column of any type; other than numbers they become text, and nulls empty."""
    if stored.dtype.is_decimal():
        # Floating-point numbers may not tell them apart.
        return typed(np.array(["" if each is None else str(each) for each in stored]))
    if _dtype(stored.dtype) is not None and not stored.null_count():
        return np.asarray(stored.to_numpy())
    return np.array(["" if label is None else str(label) for label in stored.to_list()])


def _float64() -> type[pl.DataType]:
    import polars as pl

    return pl.Float64


def _dtype(kind: pl.DataType) -> np.dtype[Any] | None:
    """Type of a column of numbers, or true and false, as an array; None for others."""
    import polars as pl

    if kind.is_decimal():
        return np.dtype(np.float64)
    if not kind.is_numeric() and kind != pl.Boolean:
        return None
    dtype = pl.Series([], dtype=kind).to_numpy().dtype
    return dtype if dtype.kind in "biuf" else None
