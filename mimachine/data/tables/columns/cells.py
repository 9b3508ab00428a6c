"""Values of a column as numbers with holes, and numbers as a column again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Cells", "cells", "column_of", "data_type", "text_of", "type_name"]

_MICROSECONDS = {"ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}
# Larger numbers would leave no room for arithmetic.
_INFINITE = 1e300
_DAY = 86_400_000_000
# First and last day, 0001-01-01 and 9999-12-31, that Python's dates have.
_DAYS = (-719_162, 2_932_896)


@dataclass(frozen=True)
class Cells:
    """Values of a column as numbers.

    Attributes:
        values: Shape (N,), int64, uint64 or float64; any number where a value is missing.
        present: Whether there is a value, shape (N,).
        infinite: Whether a value is infinite or beyond 1e300, shape (N,); it counts as missing.
        unread: Whether a value is no number, shape (N,); it counts as missing.
    """

    values: NDArray[Any]
    present: NDArray[np.bool_]
    infinite: NDArray[np.bool_]
    unread: NDArray[np.bool_]


def type_name(dtype: Any) -> str:
    """Name of a type of polars; an Enum's is short, since its levels are kept elsewhere."""
    import polars as pl

    return "Enum" if dtype == pl.Enum else str(dtype)


def data_type(name: str, levels: tuple[str, ...] = ()) -> Any:
    """The type of polars with a name; Enum has the levels."""
    import polars as pl

    if name == "Enum":
        return pl.Enum(list(levels))
    found = re.fullmatch(r"(\w+)\((.*)\)", name)
    if found is None:
        return getattr(pl, name)
    given = dict(re.findall(r"(\w+)=('[^']*'|\w+)", found[2]))
    read = {
        key: None if text == "None" else int(text) if text.isdigit() else text.strip("'")
        for key, text in given.items()
    }
    return getattr(pl, found[1])(**read)


def cells(column: pl.Series, kind: str, format: str | None = None) -> Cells:
    """The values of a column as numbers, in the units of a `Stepped` column of the kind.

    Text that is no number, date or time is marked as unread.
    """
    import polars as pl

    read, missing = column, _nulls(column)
    if column.dtype == pl.Null:
        read = column.cast(pl.Float64)
    elif column.dtype in (pl.String, pl.Categorical, pl.Enum):
        read = parsed(column.cast(pl.String), kind, format)
    elif kind == "date" and column.dtype == pl.Datetime:
        read = column.dt.date()
    elif kind == "datetime" and column.dtype == pl.Date:
        read = column.cast(pl.Datetime("us"))
    unread = _nulls(read) & ~missing
    numbers = _numbers(read)
    if numbers.dtype.kind == "f":
        missing = missing | np.isnan(numbers)
        infinite = (np.abs(numbers) > _INFINITE) & ~unread
        numbers = np.where(np.abs(numbers) <= _INFINITE, numbers, 0.0)
    else:
        infinite = np.zeros(len(numbers), dtype=np.bool_)
    return Cells(numbers, ~(missing | unread | infinite), infinite, unread)


def parsed(column: pl.Series, kind: str, format: str | None) -> pl.Series:
    """Text as numbers, dates or times; null where it is none."""
    import polars as pl

    if kind in ("number", "whole", "count"):
        stripped = column.str.strip_chars()
        whole = stripped.cast(pl.Int64, strict=False)
        if whole.null_count() == column.null_count():
            return whole
        return stripped.cast(pl.Float64, strict=False)
    types: dict[str, Any] = {"date": pl.Date, "datetime": pl.Datetime("us"), "time": pl.Time}
    if kind not in types or format is None:
        return pl.Series(column.name, [None] * len(column), dtype=pl.Float64)
    return column.str.strptime(types[kind], format, strict=False)


def _nulls(column: pl.Series) -> NDArray[np.bool_]:
    # Each call of polars takes about 1 ms, which hundreds of columns add up.
    if column.null_count() == 0:
        return np.zeros(len(column), dtype=np.bool_)
    return column.is_null().to_numpy()


def _filled(column: pl.Series) -> NDArray[Any]:
    return (column.fill_null(0) if column.null_count() else column).to_numpy()


def _numbers(column: pl.Series) -> NDArray[Any]:
    """Values as int64, uint64 or float64; zero where missing."""
    import polars as pl

    dtype = column.dtype
    if dtype == pl.Boolean:
        column = column.cast(pl.Int64)
    elif dtype in (pl.Int128, pl.UInt128):
        whole = column.cast(pl.Int64, strict=False)
        fits = whole.null_count() == column.null_count()
        column = whole if fits else column.cast(pl.Float64)
    elif isinstance(dtype, pl.Datetime | pl.Duration):
        times, parts = _MICROSECONDS[dtype.time_unit or "us"]
        return np.asarray(_filled(column.to_physical()) * times // parts)
    elif dtype == pl.Time:
        return np.asarray(_filled(column.to_physical()) // 1000)
    elif dtype == pl.Date:
        column = column.to_physical().cast(pl.Int64)
    elif dtype not in (pl.Int64, pl.UInt64, pl.Float64):
        column = column.cast(pl.Int64 if dtype.is_integer() else pl.Float64)
    return _filled(column)


def limits(kind: str, type: str) -> tuple[int, int] | None:
    """Smallest and largest value of a column, in the units of `Stepped.origin`; None for any."""
    if kind == "date":
        return _DAYS
    if kind == "datetime":
        return _DAYS[0] * _DAY, (_DAYS[1] + 1) * _DAY - 1
    if kind == "time":
        return 0, _DAY - 1
    if kind == "duration" or type == "Int64":
        return -(2**63), 2**63 - 1
    if found := re.fullmatch(r"(U?)Int(\d+)", type):
        bits = int(found[2])
        return (0, 2**bits - 1) if found[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (0, 1) if type == "Boolean" else None


def column_of(
    values: NDArray[Any],
    present: NDArray[np.bool_],
    name: str,
    kind: str,
    type: str,
    format: str | None = None,
) -> pl.Series:
    """A column of a type from values in the units of `Stepped.origin`; null where not present.

    With a format, dates and times become text. Numbers of a column of text stay numbers.
    """
    import polars as pl

    raw = pl.Series(name, values)
    if kind in ("number", "whole", "count"):
        wanted = type if type != "String" else "Int64" if values.dtype.kind == "i" else "Float64"
        column = raw.cast(data_type(wanted), strict=False)
    else:
        column = _temporal(raw, kind, type)
    if not present.all():
        column = pl.select(pl.when(pl.Series(present)).then(column).otherwise(None).alias(name))[
            name
        ]
    return column if format is None else column.dt.strftime(format)


def text_of(column: pl.Series) -> pl.Series:
    """A column as text; durations are written as in ISO 8601, such as PT36H."""
    import polars as pl

    if column.dtype == pl.Duration:
        return column.dt.to_string("iso")
    return column.cast(pl.String)


def _temporal(raw: pl.Series, kind: str, type: str) -> pl.Series:
    import polars as pl

    dtype = data_type(type)
    if kind == "date":
        days = raw.cast(pl.Int32).cast(pl.Date)
        if not isinstance(dtype, pl.Datetime):
            return days
        local = days.cast(pl.Datetime(dtype.time_unit))
        return local.dt.replace_time_zone(
            dtype.time_zone, ambiguous="earliest", non_existent="null"
        )
    if kind == "time":
        return (raw * 1000).cast(pl.Time)
    if kind == "duration":
        return raw.cast(pl.Duration("us")).dt.cast_time_unit(dtype.time_unit)
    moments = raw.cast(pl.Datetime("us"))
    if dtype == pl.Date:
        return moments.dt.date()
    if not isinstance(dtype, pl.Datetime):
        return moments
    in_unit = moments.dt.cast_time_unit(dtype.time_unit)
    zone = dtype.time_zone
    return (
        in_unit if zone is None else in_unit.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    )
