"""Levels of a column of categories, and the index of each value among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimachine.data.tables.columns.cells import cells, type_name
from mimachine.data.tables.columns.kinds import FREQUENT, MOST_LEVELS
from mimachine.data.tables.schema import Levels, Value

if TYPE_CHECKING:
    import polars as pl

__all__ = ["UNKNOWN", "is_text", "levels_of", "places"]

# Index of a value that is none of the levels, and of a missing one.
UNKNOWN, _MISSING = -1, -2


def is_text(type: str) -> bool:
    """Whether the cells of a column of a type are text."""
    return type in ("String", "Categorical", "Enum")


def levels_of(
    column: pl.Series,
    kind: Literal["category", "ordered", "boolean"],
    pooled: bool = False,
    levels: tuple[Any, ...] | None = None,
) -> Levels:
    """A column of categories from its training rows.

    Args:
        column: Training rows.
        kind: Kind of the column.
        pooled: Whether all levels but the frequent ones become one, "other".
        levels: All levels in order; by default those of the training rows.
    """
    import polars as pl

    stored = type_name(column.dtype)
    missing = column.null_count() / max(1, len(column))
    if levels is not None:
        empty = Levels(column.name, kind, stored, levels, (0,) * len(levels), missing)
        found = places(column, empty)
        counts = np.bincount(found[found >= 0], minlength=len(levels)).tolist()
        return Levels(column.name, kind, stored, levels, tuple(counts), missing)
    if column.dtype == pl.Boolean:
        seen = column.drop_nulls().sum()
        counts = [len(column) - column.null_count() - seen, seen]
        return Levels(column.name, kind, stored, (False, True), tuple(counts), missing)
    own, counts = _counted(column, by_count=kind == "category" and is_text(stored))
    other = False
    if pooled:
        own, counts = _pooled(own, counts)
        other = True
    return Levels(column.name, kind, stored, tuple(own), tuple(counts), missing, other)


def _counted(column: pl.Series, by_count: bool) -> tuple[list[Value], list[int]]:
    """Levels and their rows, the most frequent first or in order."""
    if is_text(type_name(column.dtype)):
        import polars as pl

        text = column.drop_nulls().cast(pl.String).alias("level")
        tally = text.value_counts(name="rows")
        order = (
            {"by": ["rows", "level"], "descending": [True, False]} if by_count else {"by": "level"}
        )
        tally = tally.sort(**order)
        return tally["level"].to_list(), tally["rows"].to_list()
    numbers = cells(column, "number")
    distinct, counts = np.unique(numbers.values[numbers.present], return_counts=True)
    if by_count:
        order_of = np.argsort(-counts, kind="stable")
        distinct, counts = distinct[order_of], counts[order_of]
    return distinct.tolist(), counts.tolist()


def _pooled(own: list[Value], counts: list[int]) -> tuple[list[Value], list[int]]:
    order = np.argsort(-np.asarray(counts), kind="stable")
    kept = [k for k in order[: MOST_LEVELS - 1].tolist() if counts[k] >= FREQUENT]
    name = "other"
    while name in own:
        name = f"({name})"
    rest = sum(counts) - sum(counts[k] for k in kept)
    return [*(own[k] for k in kept), name], [*(counts[k] for k in kept), rest]


def places(column: pl.Series, levels: Levels) -> NDArray[np.int64]:
    """Index of each value, `UNKNOWN` for one that is no level, another negative one if missing.

    Values of another type are compared by what they mean: 1.0 is 1, and "1" in a column of text.
    """
    own = levels.levels[:-1] if levels.other else levels.levels
    missing = column.is_null().to_numpy()
    if is_text(levels.type):
        found = _places_of_text(column, [str(level) for level in own])
    else:
        found = _places_of_numbers(column, np.asarray(own))
    if column.dtype.is_float():
        missing = missing | column.is_nan().fill_null(True).to_numpy()
    return np.where(missing, _MISSING, found)


def _places_of_text(column: pl.Series, own: list[str]) -> NDArray[np.int64]:
    import polars as pl

    if column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        column = whole if (whole == column).all() else column
    spelling = {level.lower(): level for level in own}
    if column.dtype == pl.Boolean or spelling.keys() == {"true", "false"}:
        # As the levels are written: True, TRUE or true.
        column = column.cast(pl.String).str.to_lowercase().replace(spelling)
    text = column.cast(pl.String)
    found = text.replace_strict(
        pl.Series(own, dtype=pl.String),
        pl.Series(range(len(own)), dtype=pl.Int64),
        default=UNKNOWN,
        return_dtype=pl.Int64,
    )
    return found.to_numpy()


def _places_of_numbers(column: pl.Series, own: NDArray[Any]) -> NDArray[np.int64]:
    import polars as pl

    if own.dtype.kind == "b" and is_text(type_name(column.dtype)):
        column = column.cast(pl.String).str.strip_chars().str.to_lowercase()
        column = column.replace({"true": "1", "false": "0"})
    found = cells(column, "number")
    order = np.argsort(own, kind="stable")
    ordered = own[order].astype(np.float64 if own.dtype.kind == "f" else np.int64)
    near = np.clip(np.searchsorted(ordered, found.values), 0, len(own) - 1)
    same = found.present & (ordered[near] == found.values)
    return np.where(same, order[near], UNKNOWN)
