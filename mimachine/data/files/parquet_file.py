"""Read parquet files with pyarrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from mimachine.data.files.columns import (
    Choice,
    Layout,
    check_unique,
    choose,
    missing_values,
    not_numeric,
)
from mimachine.data.files.table import Table, typed

__all__ = ["peek_parquet", "read_parquet"]

# Each access takes a time that grows with the number of all columns.
_VALUES_AT_ONCE = 1 << 20


def peek_parquet(file: Path, labels: str | None, drop: Sequence[str]) -> tuple[int, int]:
    """Shape of the values of a parquet file, from its metadata."""
    with _open(file) as opened:
        layout, rows = _layout(opened, file.name), opened.metadata.num_rows
    return rows, len(choose(layout, file.name, labels, drop, None).values)


def read_parquet(
    file: Path, labels: str | None, drop: Sequence[str], columns: Sequence[str] | None
) -> Table:
    """Read columns of a parquet file; an error names columns with text or nulls."""
    with _open(file) as opened:
        layout = _layout(opened, file.name)
        choice = choose(layout, file.name, labels, drop, columns)
        values, types = _values(opened, layout, choice, file.name)
        found = None
        if choice.label is not None:
            found = _labels(opened, layout.names[choice.label])
    booleans = np.array([kind.kind == "b" for kind in types])
    return Table(values, choice.columns, found, file.name, choice.notes, booleans, types=types)


@contextmanager
def _open(file: Path) -> Iterator[Any]:
    """An open parquet file."""
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
        import pyarrow.parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise ValueError(f"{file.name} requires pyarrow; `pip install pyarrow`") from error
    try:
        # Not by its name, which pyarrow needs to be UTF-8.
        with file.open("rb") as stream, pyarrow.parquet.ParquetFile(stream) as opened:
            yield opened
    except (pyarrow.ArrowException, OSError) as error:
        # System errors have an errno; pyarrow's errors about the content have none.
        if getattr(error, "errno", None) is not None:
            raise
        raise ValueError(f"{file.name} is damaged or not a parquet file: {error}") from error


def _layout(opened: Any, source: str) -> Layout:
    names = tuple(opened.schema_arrow.names)
    check_unique(names, source)
    if not opened.metadata.num_rows:
        raise ValueError(f"{source} has no rows")
    # Name that pandas gives to an index without a name.
    counters = [k for k, name in enumerate(names) if re.fullmatch(r"__index_level_\d+__", name)]
    return Layout(names, counters=tuple(counters))


def _values(
    opened: Any, layout: Layout, choice: Choice, source: str
) -> tuple[NDArray[Any], tuple[np.dtype[Any], ...]]:
    """Values (N, D), of which few columns are in memory twice; and the types of the columns."""
    kinds = {k: opened.schema_arrow.types[k] for k in choice.values}
    if other := {k: f"has type {kind}" for k, kind in kinds.items() if not _numeric(kind)}:
        raise not_numeric(other, layout, source)
    types = tuple(_dtype(kind) for kind in kinds.values())
    dtype = np.result_type(*set(types))
    shape = (opened.metadata.num_rows, len(choice.values))
    memory.check_fits(f"{source} as an array", shape, dtype.itemsize, "save it as .npy")
    values = np.empty(shape, dtype)
    missing = []
    at_once = max(1, _VALUES_AT_ONCE // shape[0])
    for column, k in enumerate(choice.values):
        if column % at_once == 0:
            names = [layout.names[each] for each in choice.values[column : column + at_once]]
            table = opened.read(columns=names)
            block = dict(zip(table.column_names, table.columns, strict=True))
        stored = block[layout.names[k]]
        if nulls := stored.null_count:
            first = int(stored.is_null().to_numpy().argmax()) + 1
            missing.append((k, counted(nulls, "null"), f"row {first}"))
            continue
        numbers = stored.to_numpy()
        # Before integers and decimals become floating-point numbers.
        check_integers(numbers[:, None], [layout.names[k]], source)
        values[:, column] = numbers
        if numbers.dtype.kind == "O":
            _check_decimals(numbers, values[:, column], layout.names[k], source)
    if missing:
        raise missing_values(missing, layout, source)
    return values, types


def _check_decimals(decimals: NDArray[Any], floats: NDArray[Any], name: str, source: str) -> None:
    """Check that floats (N,) have not made different decimal numbers equal."""
    if not with_many_digits(floats[:, None]).any():
        return
    column = Distinct()
    for number in decimals:
        if not column.takes(number, number.as_tuple().exponent >= 0):
            raise too_many_digits(source, 0, name, str(number))


def _labels(opened: Any, name: str) -> NDArray[Any]:
    """Labels from a column of any type; other than numbers they become text, and nulls empty."""
    from pyarrow import types

    stored = opened.read(columns=[name]).column(name)
    if types.is_decimal(stored.type):
        # Floating-point numbers may not tell them apart.
        return typed(np.array(["" if each is None else str(each) for each in stored.to_pylist()]))
    if _numeric(stored.type) and not stored.null_count:
        return np.asarray(stored.to_numpy(), dtype=_dtype(stored.type))
    return np.array(["" if label is None else str(label) for label in stored.to_pylist()])


def _numeric(kind: Any) -> bool:
    from pyarrow import types

    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal)
    return any(test(kind) for test in tests)


def _dtype(kind: Any) -> np.dtype[Any]:
    from pyarrow import types

    return np.dtype(np.float64 if types.is_decimal(kind) else kind.to_pandas_dtype())
