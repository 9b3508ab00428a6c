"""Rows of numbers from a table, and a table from rows.

A row has one float32 for each modelled column: steps from the origin, or the index of a level. NaN
stands for a value that is missing in the table, and infinity for one that is hidden.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support.messages import some
from mimachine._support.schema import shown
from mimachine.data.tables.columns.cells import cells, column_of, data_type, limits
from mimachine.data.tables.columns.levels import UNKNOWN, is_text, places
from mimachine.data.tables.columns.steps import indices, values_at
from mimachine.data.tables.schema import LeftOut, Levels, Schema, Stepped
from mimachine.data.tables.stored_schema import LARGEST

if TYPE_CHECKING:
    import polars as pl

    from mimachine.data.tables.columns.overrides import Place
    from mimachine.data.tables.read import Frame

__all__ = ["decode", "encode"]

# A note names rare and new values if their share exceeds that of the training rows by this factor.
_MORE_OTHERS, _FEW_OTHERS = 1.5, 0.01


def encode(frame: Frame, schema: Schema) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Rows of a table.

    Args:
        frame: The training table or another with the same columns, in any order.
        schema: Its schema.

    Returns:
        Rows (N, D), and notes on columns and values that differ from the training table.

    Raises:
        ValueError: If a value cannot be of the kind of its column; it names the column, the row and
            the value.
    """
    modelled = schema.modelled
    names, there = {column.name for column in modelled}, set(frame.data.columns)
    missing = [column.name for column in modelled if column.name not in there]
    if len(missing) == len(modelled):
        raise ValueError(
            f"{frame.source} must have columns of the training table such as "
            f"{some(map(repr, sorted(names)), 3)}, got {some(map(repr, frame.data.columns), 3)}"
        )
    of_text = (c.name for c in modelled if isinstance(c, Levels) and is_text(c.type))
    frame = frame.as_text(of_text)
    rows = np.full((len(frame.data), len(modelled)), np.nan, dtype=np.float32)
    notes = _on_columns(frame, schema, missing)
    for k, column in enumerate(modelled):
        if column.name in there:
            notes += _fill(frame, column, rows[:, k])
    return rows, tuple(notes)


def _on_columns(frame: Frame, schema: Schema, missing: list[str]) -> list[str]:
    notes, known = [], {column.name: None for column in schema.columns}
    there = set(frame.data.columns)
    if missing:
        notes.append(f"{frame.source} lacks columns, whose values are unknown: {some(missing)}")
    more = [name for name in frame.data.columns if name not in known]
    if more:
        notes.append(f"columns that the training table did not have are left out: {some(more)}")
    order = [name for name in frame.data.columns if name in known]
    if order != [name for name in known if name in there]:
        notes.append(
            f"columns of {frame.source} are in another order than in training, and are matched by "
            "name"
        )
    return notes


def _fill(frame: Frame, column: Stepped | Levels, out: NDArray[np.float32]) -> list[str]:
    """Write a column into `out`; returns notes."""
    if isinstance(column, Stepped):
        return _encode_steps(frame, column, out)
    return _encode_levels(frame, column, out)


def _encode_steps(frame: Frame, column: Stepped, out: NDArray[np.float32]) -> list[str]:
    """Write the steps of a column into `out`."""
    series, place = frame.data[column.name], frame.place
    found, notes = cells(series, column.kind, column.format), []
    if not _is_possible(series, column):
        row = int(series.is_not_null().to_numpy().argmax())
        raise _refusal(column, series, row, place)
    if found.unread.any():
        row, number = int(found.unread.argmax()), int(found.unread.sum())
        if not (column.type == "String" and column.format is None):
            raise _refusal(column, series, row, place)
        notes.append(
            f"{number:,} cells of {column.name} that are not numbers count as missing, first "
            f"{shown(series[row])} in {place(row)}"
        )
    if found.infinite.any():
        number, first = int(found.infinite.sum()), place(int(found.infinite.argmax()))
        notes.append(
            f"{number:,} infinite values of {column.name} count as missing, first in {first}"
        )
    steps = indices(found.values, column.origin, column.step)
    steps = np.maximum(steps, 0) if column.kind == "count" else steps
    out[found.present] = steps[found.present]
    return notes + _on_values(found.values, found.present, column, place)


def _is_possible(series: pl.Series, column: Stepped) -> bool:
    """Whether a type can be that of a column; text may be, and its cells are read."""
    import polars as pl

    if series.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        return True
    if series.null_count() == len(series):
        return True
    if column.kind in ("number", "whole", "count"):
        return series.dtype.is_numeric() or series.dtype == pl.Boolean
    if column.kind in ("date", "datetime"):
        return series.dtype in (pl.Date, pl.Datetime)
    return bool(series.dtype == (pl.Time if column.kind == "time" else pl.Duration))


def _refusal(column: Stepped | Levels, series: pl.Series, row: int, place: Place) -> ValueError:
    return ValueError(
        f"column {column.name!r} must be of kind {column.kind}, as in the training table, got "
        f"{shown(series[row])} in {place(row)}"
    )


def _on_values(
    values: NDArray[Any], present: NDArray[np.bool_], column: Stepped, place: Place
) -> list[str]:
    """Notes on values that the steps of a column do not reach."""
    numbers = values.astype(np.float64)
    with np.errstate(over="ignore"):
        distance = numbers / column.step - column.origin / column.step
    beyond = present & (np.abs(distance) > LARGEST + 0.5)
    if column.kind == "count":
        beyond |= present & (numbers < 0)
    if not beyond.any():
        return []
    row = int(beyond.argmax())
    return [
        f"{int(beyond.sum()):,} values of {column.name} are beyond what its steps reach, and are "
        f"moved to the nearest, first {values[row].item():.6g} in {place(row)}"
    ]


def _encode_levels(frame: Frame, column: Levels, out: NDArray[np.float32]) -> list[str]:
    """Write the indices of the levels of a column into `out`."""
    series, place = frame.data[column.name], frame.place
    found = places(series, column)
    unknown = found == UNKNOWN
    known = found >= 0
    out[known] = found[known]
    if not unknown.any():
        return []
    row, number = int(unknown.argmax()), int(unknown.sum())
    if column.kind == "boolean":
        raise _refusal(column, series, row, place)
    if column.other:
        out[unknown] = len(column.levels) - 1
        usual = column.counts[-1] / sum(column.counts)
        if number / max(1, int((unknown | known).sum())) <= _MORE_OTHERS * usual + _FEW_OTHERS:
            return []
        fate = f"taken as {column.levels[-1]!r}"
    else:
        fate = "taken as missing"
    return [
        f"{number:,} values of {column.name} are levels that the training rows did not have, and "
        f"are {fate}, first {shown(series[row])} in {place(row)}"
    ]


def decode(rows: NDArray[Any], schema: Schema) -> pl.DataFrame:
    """A table from rows, with the names, order and types of the training table.

    Constant and empty columns come back; identifiers, text and what else was left out do not.
    Numbers of a column of text that also had words come as numbers.

    Args:
        rows: Shape (N, D). Values that are NaN or infinite become null; others are rounded to whole
            numbers.
        schema: Schema of the training table.

    Raises:
        ValueError: If the rows have another number of columns.
    """
    import polars as pl

    rows, number = np.asarray(rows), len(schema.modelled)
    if rows.ndim != 2 or rows.shape[1] != number:
        raise ValueError(f"rows must have shape (N, {number}), got {rows.shape}")
    columns, k = [], 0
    for column in schema.columns:
        if isinstance(column, LeftOut):
            if column.reason in ("constant", "empty"):
                columns.append(_decode_constant(column, len(rows)))
        else:
            if isinstance(column, Stepped):
                columns.append(_decode_steps(rows[:, k], column))
            else:
                columns.append(_decode_levels(rows[:, k], column))
            k += 1
    return pl.DataFrame(columns)


def _decode_steps(steps: NDArray[Any], column: Stepped) -> pl.Series:
    present = np.isfinite(steps)
    steps = np.clip(np.where(present, steps, 0), -LARGEST, LARGEST)
    steps = np.maximum(steps, 0) if column.kind == "count" else steps
    bounds = limits(column.kind, column.type)
    is_number = column.kind in ("number", "whole", "count")
    whole = not is_number or "Int" in column.type or column.type == "Boolean"
    if column.type == "String" and is_number:
        whole = column.origin % 1 == 0 and column.step % 1 == 0 and column.decimals == 0
    values = values_at(steps, column.origin, column.step, column.decimals, whole, bounds)
    return column_of(values, present, column.name, column.kind, column.type, column.format)


def _decode_levels(places: NDArray[Any], column: Levels) -> pl.Series:
    import polars as pl

    present, last = np.isfinite(places), len(column.levels) - 1
    index = np.clip(np.rint(np.where(present, places, 0)), 0, last).astype(np.int64)
    levels: list[Any] = list(column.levels)
    if is_text(column.type):
        # A pooled Enum has a level that is not its own.
        dtype = pl.String if column.other and column.type == "Enum" else None
        dtype = dtype or data_type(column.type, tuple(map(str, levels)))
        values = pl.Series(levels, dtype=pl.String).cast(dtype)
    else:
        if column.other:
            levels[-1] = None  # No number stands for others.
        values = pl.Series(levels, strict=False).cast(data_type(column.type))
    chosen = pl.Series(np.where(present, index, -1)).cast(pl.Int64)
    chosen = pl.select(pl.when(chosen >= 0).then(chosen).otherwise(None))[:, 0].alias("")
    return values.gather(chosen).alias(column.name)


def _decode_constant(column: LeftOut, number: int) -> pl.Series:
    import polars as pl

    if column.value is None:
        dtype = pl.Enum([]) if column.type == "Enum" else data_type(column.type)
        return pl.Series(column.name, [None] * number, dtype=dtype)
    kinds = {"Date": "date", "Datetime": "datetime", "Time": "time", "Duration": "duration"}
    kind = kinds.get(column.type.partition("(")[0])
    if kind is not None:
        values = np.full(number, int(column.value), dtype=np.int64)
        every = np.ones(number, dtype=np.bool_)
        return column_of(values, every, column.name, kind, column.type, column.format)
    dtype = data_type(column.type, (str(column.value),))
    return pl.Series(column.name, [column.value], dtype=dtype).new_from_index(0, number)
