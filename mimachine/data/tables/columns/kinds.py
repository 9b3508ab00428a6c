"""Kind of a column, guessed from its type, its values and its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimachine.data.tables.columns import words
from mimachine.data.tables.columns.cells import Cells, cells

if TYPE_CHECKING:
    import polars as pl

__all__ = ["FREQUENT", "MOST_LEVELS", "Found", "guess"]

MOST_LEVELS = 100
# Least number of rows of a frequent level.
FREQUENT = 5
_COVERED = 0.8
_NEARLY_UNIQUE = 0.95
_FEWEST_ROWS = 10
_MOST_RATINGS, _MOST_CODES, _ROWS_OF_CODE = 11, 50, 10
_BINARY = ({0, 1}, {1, 2}, {-1, 1})
_EXAMPLES = 200


@dataclass(frozen=True)
class Found:
    """Kind of a column.

    Attributes:
        kind: A kind of `Stepped` or `Levels`, or the reason of `LeftOut`.
        why: What to say about it, such as "paths of images".
        pooled: Whether rare levels are pooled.
        levels: Levels of an ordered column, in order.
    """

    kind: str
    why: str | None = None
    pooled: bool = False
    levels: tuple[Any, ...] | None = None


def guess(column: pl.Series, is_mixed: bool = False) -> Found:
    """Guess the kind of a column from its training rows.

    Args:
        column: Training rows of the column.
        is_mixed: Whether it is text that is to be read as numbers.
    """
    import polars as pl

    dtype = column.dtype
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return Found("unsupported", f"values of type {dtype}")
    if column.null_count() == len(column):
        return Found("empty")
    if is_mixed:
        return _of_numbers(column.name, cells(column, "number"))
    if dtype == pl.Boolean:
        return _unless_constant(column, Found("boolean"))
    if isinstance(dtype, pl.Enum) and len(dtype.categories) <= MOST_LEVELS:
        found = Found("ordered", levels=tuple(dtype.categories.to_list()))
        return _unless_constant(column, found)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _of_text(column.cast(pl.String))
    for kind, of in (("date", pl.Date), ("datetime", pl.Datetime), ("time", pl.Time)):
        if dtype == of:
            return _unless_constant(column, Found(kind))
    if dtype == pl.Duration:
        return _unless_constant(column, Found("duration"))
    if dtype.is_numeric():
        return _of_numbers(column.name, cells(column, "number"))
    return Found("unsupported", f"values of type {dtype}")


def _unless_constant(column: pl.Series, found: Found) -> Found:
    present = column.drop_nulls()
    if present.n_unique() > 1:
        return found
    return _constant(column.null_count() > 0, found)


def _constant(has_holes: bool, found: Found) -> Found:
    """A constant; where it is missing now and then, its holes are all that varies."""
    if not has_holes:
        return Found("constant")
    return Found("category") if found.kind == "number" else found


def _of_numbers(name: str, column: Cells) -> Found:
    values = column.values[column.present]
    if not len(values):
        return Found("empty")
    if values.min() == values.max():
        return _constant(not column.present.all(), Found("number"))
    if values.dtype.kind == "f":
        if not (np.rint(values) == values).all() or np.abs(values).max() >= 2.0**53:
            return Found("category" if _are_two(values) else "number")
        values = values.astype(np.int64)
    return _of_wholes(name, values)


def _are_two(values: NDArray[Any]) -> bool:
    """Whether there are two values, each in many rows."""
    counts = np.unique(values[:_EXAMPLES], return_counts=True)[1]
    if len(counts) != 2:
        return False
    counts = np.unique(values, return_counts=True)[1]
    return len(counts) == 2 and bool((counts >= _ROWS_OF_CODE).all())


def _of_wholes(name: str, values: NDArray[Any]) -> Found:
    distinct, number = np.unique(values), len(values)
    low, high = int(distinct[0]), int(distinct[-1])
    if len(distinct) == number and words.names_identifier(name) and number > 1:
        return Found("identifier")
    if set(distinct.tolist()) in _BINARY:
        return Found("category")
    is_short = 3 <= len(distinct) <= _MOST_RATINGS and low in (0, 1) and high < _MOST_RATINGS
    if is_short and words.names_rating(name):
        return Found("ordered", levels=tuple(range(low, high + 1)))
    codes = len(distinct) <= _MOST_CODES and number >= _ROWS_OF_CODE * len(distinct)
    if codes and words.names_code(name):
        return Found("category")
    near_zero = 0 <= low <= max(1.0, float(np.median(values)) / 10)
    return Found("count" if near_zero else "whole")


def _of_text(column: pl.Series) -> Found:
    present = column.drop_nulls()
    tally = present.alias("level").value_counts(sort=True, name="rows")
    counts = tally["rows"].to_numpy()
    number, distinct = len(present), len(tally)
    if distinct == 1:
        return _constant(column.null_count() > 0, Found("category"))
    unique = distinct >= _NEARLY_UNIQUE * number
    if unique and words.names_identifier(column.name) and number > 1:
        return Found("identifier")
    if unique and number >= _FEWEST_ROWS:
        return _of_unique(present)
    if distinct <= MOST_LEVELS and (number >= 2 * distinct or distinct <= _FEWEST_ROWS):
        order = words.ordered(tally["level"].to_list())
        return Found("category") if order is None else Found("ordered", levels=tuple(order))
    frequent = counts[: MOST_LEVELS - 1]
    if frequent[frequent >= FREQUENT].sum() >= _COVERED * number:
        return Found("category", pooled=True)
    seen = words.appearance(present.head(_EXAMPLES).to_list())
    return Found("text", seen or f"{distinct:,} different values")


def _of_unique(present: pl.Series) -> Found:
    """Text that is different in nearly every row: names of the rows, or sentences, paths, ..."""
    seen = words.appearance(present.head(_EXAMPLES).to_list())
    return Found("identifier") if seen is None else Found("text", seen)
