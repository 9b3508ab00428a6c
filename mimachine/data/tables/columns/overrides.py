"""Kinds of columns that a user gives, checked against the values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support.messages import hint, unknown
from mimachine._support.schema import shown
from mimachine.data.tables.columns import words
from mimachine.data.tables.columns.cells import cells, parsed, type_name
from mimachine.data.tables.columns.kinds import FREQUENT, MOST_LEVELS, Found, guess
from mimachine.data.tables.columns.levels import is_text
from mimachine.data.tables.schema import KINDS

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Place", "check_names", "forced"]

# Where a row is, such as "row 3 (line 4)", by its index.
Place = Callable[[int], str]

_DATES = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d")
_TIMES = ("%H:%M:%S%.f", "%H:%M", "%I:%M %p", "%I:%M:%S %p")
_FORMATS = {
    "date": _DATES,
    "datetime": tuple(f"{d}{by}{t}" for d in _DATES for by in " T" for t in _TIMES),
    "time": _TIMES,
}


def check_names(overrides: Mapping[str, str], columns: Iterable[str]) -> None:
    """Check that overrides are for columns that there are, and of kinds that there are.

    Raises:
        ValueError: If not; it suggests the nearest name.
    """
    columns = list(columns)
    for name, kind in overrides.items():
        if name not in columns:
            raise ValueError(
                f"kinds has {name!r}, which is no column of the table{hint(name, columns)}"
            )
        if kind not in KINDS:
            raise ValueError(f"column {name!r}: {unknown('kind', str(kind), KINDS)}")


def forced(
    column: pl.Series, kind: str, place: Place, is_mixed: bool = False
) -> tuple[Found, str | None]:
    """What a column is if it must be of a kind, and the format of its text if it is a date or time.

    Args:
        column: All rows of the column.
        kind: The kind.
        place: Says where a row is.
        is_mixed: Whether cells that are no numbers count as missing.

    Raises:
        ValueError: If a value cannot be of the kind; it names the column, kind, value and row.
    """
    if kind == "identifier":
        return Found("identifier"), None
    if kind == "drop":
        found = guess(column, is_mixed)
        return found if found.kind in ("constant", "empty", "text") else Found("dropped"), None
    if column.null_count() == len(column):
        return Found("empty"), None
    refused = _Refusal(column, kind, place)
    if kind in ("date", "datetime", "time", "duration"):
        return Found(kind), _format(column, kind, refused)
    if not (column.dtype.is_numeric() or is_text(type_name(column.dtype)) or _is_flag(column)):
        raise refused(_first(column.is_not_null().to_numpy()), f"is of type {column.dtype}")
    if kind in ("number", "whole", "count"):
        return _number(column, kind, refused, is_mixed), None
    if kind == "boolean":
        return _boolean(column, refused), None
    return (_ordered if kind == "ordered" else _category)(column, refused), None


def _is_flag(column: pl.Series) -> bool:
    import polars as pl

    return column.dtype == pl.Boolean


class _Refusal:
    """Makes the error about a value that cannot be of a kind."""

    def __init__(self, column: pl.Series, kind: str, place: Place) -> None:
        self.column, self.kind, self.place = column, kind, place

    def __call__(self, row: int, why: str) -> ValueError:
        value = self.column[row]
        return ValueError(
            f"column {self.column.name!r} cannot be of kind {self.kind}: {shown(value)} in "
            f"{self.place(row)} {why}"
        )


def _first(rows: NDArray[np.bool_]) -> int:
    return int(rows.argmax())


def _number(column: pl.Series, kind: str, refused: _Refusal, is_mixed: bool) -> Found:
    numbers = cells(column, kind)
    if numbers.unread.any() and not is_mixed:
        raise refused(_first(numbers.unread), "is no number")
    values, present = numbers.values, numbers.present
    if not present.any():
        return Found("empty")
    if kind != "number" and values.dtype.kind == "f":
        broken = present & (np.rint(values) != values)
        if broken.any():
            raise refused(_first(broken), "is no whole number")
    if kind == "count" and (negative := present & (values < 0)).any():
        raise refused(_first(negative), "is negative")
    seen = values[present]
    if seen.min() == seen.max() and present.all():
        return Found("constant")
    return Found(kind)


def _boolean(column: pl.Series, refused: _Refusal) -> Found:
    if _is_flag(column):
        return Found("boolean")
    distinct = column.drop_nulls().unique(maintain_order=True)
    if len(distinct) > 2:
        row = _first((column == distinct[2]).fill_null(False).to_numpy())
        raise refused(row, f"is neither {shown(distinct[0])} nor {shown(distinct[1])}")
    return Found("constant") if _is_constant(column) else Found("boolean", levels=_sorted(distinct))


def _sorted(distinct: pl.Series) -> tuple[Any, ...]:
    import polars as pl

    if is_text(type_name(distinct.dtype)):
        distinct = distinct.cast(pl.String)
    elif distinct.dtype.is_decimal():
        distinct = distinct.cast(pl.Float64)
    return tuple(distinct.sort().to_list())


def _is_constant(column: pl.Series) -> bool:
    return not column.null_count() and column.n_unique() == 1


def _category(column: pl.Series, refused: _Refusal) -> Found:
    import polars as pl

    if _is_constant(column):
        return Found("constant")
    if isinstance(column.dtype, pl.Enum) and len(column.dtype.categories) <= MOST_LEVELS:
        return Found("category", levels=tuple(column.dtype.categories.to_list()))
    present = column.drop_nulls().alias("level")
    tally = present.value_counts(sort=True, name="rows")
    if len(tally) <= MOST_LEVELS:
        return Found("category")
    rows = tally["rows"].head(MOST_LEVELS - 1)
    if 2 * rows.filter(rows >= FREQUENT).sum() < len(present):
        why = f"is one of {len(tally):,} different values, of which few have {FREQUENT} rows"
        raise refused(_first(column.is_not_null().to_numpy()), why)
    return Found("category", pooled=True)


def _ordered(column: pl.Series, refused: _Refusal) -> Found:
    import polars as pl

    if _is_constant(column):
        return Found("constant")
    if isinstance(column.dtype, pl.Enum):
        levels = tuple(column.dtype.categories.to_list())
        if len(levels) <= MOST_LEVELS:
            return Found("ordered", levels=levels)
    distinct = _sorted(column.drop_nulls().unique())
    first = _first(column.is_not_null().to_numpy())
    if len(distinct) > MOST_LEVELS:
        raise refused(first, f"is one of {len(distinct):,} levels, more than {MOST_LEVELS}")
    if not is_text(type_name(column.dtype)):
        return Found("ordered", levels=distinct)
    order = words.ordered(distinct, fewest=1) or _in_order_of_numbers(distinct)
    if order is None:
        raise refused(first, "is of no order that is known; use an Enum, or numbers")
    return Found("ordered", levels=tuple(order))


def _in_order_of_numbers(levels: Iterable[str]) -> list[str] | None:
    try:
        return sorted(levels, key=float)
    except ValueError:
        return None


def _format(column: pl.Series, kind: str, refused: _Refusal) -> str | None:
    """Format of dates or times that are text; None if they are none."""
    import polars as pl

    fitting = {
        "date": (pl.Date, pl.Datetime),
        "datetime": (pl.Date, pl.Datetime),
        "time": (pl.Time,),
        "duration": (pl.Duration,),
    }
    if isinstance(column.dtype, fitting[kind]):
        return None
    first = _first(column.is_not_null().to_numpy())
    if not is_text(type_name(column.dtype)) or kind not in _FORMATS:
        raise refused(first, f"is of type {column.dtype}")
    text = column.cast(pl.String)
    failures = {format: _unread(text, kind, format) for format in _FORMATS[kind]}
    best = min(failures, key=lambda format: int(failures[format].sum()))
    if failures[best].any():
        raise refused(_first(failures[best]), f"is no {kind} of a known format")
    return best


def _unread(text: pl.Series, kind: str, format: str) -> NDArray[np.bool_]:
    return (parsed(text, kind, format).is_null() & text.is_not_null()).to_numpy()
