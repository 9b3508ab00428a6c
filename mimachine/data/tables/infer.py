"""Infer the schema of a table: the kind, resolution and levels of each column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mimachine.data.tables.columns import words
from mimachine.data.tables.columns.cells import Cells, cells, type_name
from mimachine.data.tables.columns.kinds import Found, guess
from mimachine.data.tables.columns.levels import levels_of
from mimachine.data.tables.columns.overrides import Place, check_names, forced
from mimachine.data.tables.columns.quantile_map import map_of_steps
from mimachine.data.tables.columns.relations import relate
from mimachine.data.tables.columns.remarks import Remarks
from mimachine.data.tables.columns.steps import Grid, grid_of, indices
from mimachine.data.tables.schema import Column, LeftOut, Schema, Stepped

if TYPE_CHECKING:
    import polars as pl

    from mimachine.data.tables.read import Frame

__all__ = ["infer"]

_STEPPED = ("number", "whole", "count", "date", "datetime", "time", "duration")
_SHORT: dict[str, np.dtype[Any]] = {
    "Float32": np.dtype(np.float32),
    "Float16": np.dtype(np.float16),
}
_FEWEST_TIMES = 10
# Kinds of text; other text of numbers is numbers.
_OF_TEXT = ("category", "ordered", "identifier")


def infer(
    frame: Frame, train_rows: NDArray[Any], overrides: Mapping[str, str] | None = None
) -> tuple[Schema, tuple[str, ...]]:
    """Infer the schema of a table.

    Args:
        frame: The table.
        train_rows: Indices of the training rows, or a flag for each row. Levels, steps and quantile
            maps are learned from them alone.
        overrides: Kinds of columns by name, instead of what would be inferred: number, whole,
            count, category, ordered, boolean, date, datetime, time, duration, identifier or drop.

    Returns:
        The schema, and one sentence for each group of decisions that a user may want to change.

    Raises:
        ValueError: If a column or kind of `overrides` is unknown, a value cannot be of the kind, or
            no column can be modelled.
    """
    overrides = overrides or {}
    check_names(overrides, frame.data.columns)
    rows = np.asarray(train_rows)
    rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    if not len(rows):
        raise ValueError(f"{frame.source} must have training rows, got none")
    frame = frame.as_text(name for name, kind in overrides.items() if kind in _OF_TEXT)
    chosen = _Rows(frame, rows, frame.place, Remarks())
    columns = [_column(chosen, name, overrides.get(name)) for name in frame.data.columns]
    schema = Schema(tuple(columns))
    if not schema.modelled:
        raise ValueError(
            f"{frame.source} has no column that can be modelled: {chosen.remarks.left_out()}"
        )
    fixed = [*overrides, *frame.mixed]
    schema = relate(schema, frame, rows, chosen.remarks, fixed)
    return schema, chosen.remarks.sentences()


@dataclass(frozen=True)
class _Rows:
    """A table and its training rows, and what is to be said about them."""

    frame: Frame
    rows: NDArray[Any]
    place: Place
    remarks: Remarks

    def all_of(self, name: str) -> pl.Series:
        return self.frame.data[name]

    def training(self, name: str, as_text: bool = False) -> pl.Series:
        column = self.frame.data[name]
        column = self.frame.texts.get(name, column) if as_text else column
        is_all = len(self.rows) == len(column) and bool((np.diff(self.rows) == 1).all())
        return column if is_all else column.gather(self.rows)


def _column(table: _Rows, name: str, override: str | None) -> Column:
    column, is_mixed = table.training(name), name in table.frame.mixed
    format = table.frame.formats.get(name)
    if override is None:
        found = guess(column, is_mixed)
        table.remarks.guessed(name, found)
    else:
        found, own = forced(table.all_of(name), override, table.place, is_mixed)
        found, format = _in_training(column, found), format or own
    if found.kind == "category":
        column = table.training(name, as_text=True)
    stored = type_name(column.dtype)
    if found.kind in _STEPPED:
        return _stepped(table, name, found, format)
    if found.kind in ("category", "ordered", "boolean"):
        kind = cast(Any, found.kind)
        levels = levels_of(column, kind, found.pooled, found.levels)
        if override is None:
            table.remarks.levels(levels)
        return levels
    value = _constant(column, is_mixed) if found.kind == "constant" else None
    left = LeftOut(
        name, cast(Any, found.kind), stored, value, format if value is not None else None
    )
    if override is None or found.kind != "dropped":
        table.remarks.leaves_out(left, found.why, column)
    return left


def _in_training(column: pl.Series, found: Found) -> Found:
    """A kind that a user gives, unless the training rows have no value at all."""
    if found.kind in ("identifier", "dropped") or column.null_count() < len(column):
        return found
    return Found("empty")


def _constant(column: pl.Series, is_mixed: bool) -> Any:
    """The value of a constant column, as JSON has it."""
    import polars as pl

    kinds: dict[Any, str] = {
        pl.Date: "date", pl.Datetime: "datetime", pl.Time: "time", pl.Duration: "duration"
    }  # fmt: skip
    present = column.drop_nulls()
    kind = next((kinds[dtype] for dtype in kinds if column.dtype == dtype), "number")
    if is_mixed or kind != "number" or column.dtype.is_numeric():
        numbers = cells(present, kind)
        value = numbers.values[numbers.present][0].item()
        return str(value) if is_mixed else value
    value = present[0]
    return value if isinstance(value, bool) else str(value)


def _stepped(table: _Rows, name: str, found: Found, format: str | None) -> Column:
    column = table.training(name)
    kind, stored = found.kind, type_name(column.dtype)
    numbers = cells(column, kind, format)
    table.remarks.cells(name, cells(table.all_of(name), kind, format), table.frame, table.place)
    values = numbers.values[numbers.present]
    if not len(values):
        return LeftOut(name, "empty", stored)
    short = _SHORT.get(stored)
    grid = grid_of(values, kind, short)
    table.remarks.grid(name, kind, grid)
    _say_far_out(table, name, numbers, grid)
    steps = indices(values, grid.origin, grid.step)
    edges, scores = map_of_steps(steps)
    if _is_time(name, kind, values, numbers):
        table.remarks.add("time", name)
    return Stepped(
        name,
        cast(Any, kind),
        stored,
        grid.origin,
        grid.step,
        grid.decimals,
        tuple(edges.tolist()),
        tuple(scores.tolist()),
        (len(column) - len(values)) / len(column),
        format,
    )


def _say_far_out(table: _Rows, name: str, numbers: Cells, grid: Grid) -> None:
    if not grid.clipped:
        return
    with np.errstate(over="ignore"):
        distance = np.abs(numbers.values / grid.step - grid.origin / grid.step)
    row = int(np.argmax(np.where(numbers.present, distance, -1)))
    place = table.place(int(table.rows[row]))
    table.remarks.clipped(name, grid.clipped, f"{numbers.values[row].item():.6g} in {place}")


def _is_time(name: str, kind: str, values: NDArray[Any], numbers: Cells) -> bool:
    """Whether the rows are in the order of a column of times."""
    is_named = kind in ("date", "datetime") or (
        kind in ("whole", "count") and words.names_time(name)
    )
    if not is_named or not numbers.present.all() or len(np.unique(values[:1000])) < _FEWEST_TIMES:
        return False
    later = values[1:] >= values[:-1]
    return bool(later.all() or (values[1:] <= values[:-1]).all())
