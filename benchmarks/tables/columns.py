"""Columns of a table as numbers or as levels, the same for all measures and plain methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Columns whose values lie on no decimal grid up to this many places, or on one of more steps, count
# as continuous.
_MOST_DECIMALS, _MOST_STEPS = 6, 2**24


def is_number(column: pl.Series) -> bool:
    """Whether a column counts as numbers: numeric and temporal types with over two values."""
    kind = column.dtype
    return (kind.is_numeric() or kind.is_temporal()) and column.drop_nulls().n_unique() > 2


def numbers_of(frame: pl.DataFrame) -> list[str]:
    """Names of the columns of a table that count as numbers."""
    return [name for name in frame.columns if is_number(frame[name])]


def to_floats(column: pl.Series) -> Floats:
    """Values in float64, NaN where missing, shape (N,).

    Dates and date-times are days since 1970, times and durations seconds.
    """
    if column.dtype.is_temporal():
        day = column.dtype == pl.Date
        ticks = column.to_physical() if day else column.cast(_microseconds(column)).to_physical()
        unit = 1.0 if day else 1e6 if column.dtype in (pl.Time, pl.Duration) else 86400e6
        # A time is stored in nanoseconds, whatever its type says.
        unit *= 1000 if column.dtype == pl.Time else 1
        column = ticks.cast(pl.Float64) / unit
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy().astype(np.float64)


def _microseconds(column: pl.Series) -> Any:
    kinds = {pl.Datetime: pl.Datetime("us"), pl.Duration: pl.Duration("us")}
    return kinds.get(column.dtype.base_type(), column.dtype)


def to_series(name: str, values: Floats, kind: Any) -> pl.Series:
    """Inverse of `to_floats`: values, NaN where missing, as a column of a type."""
    found = pl.Series(name, values, dtype=pl.Float64).fill_nan(None)
    if kind == pl.Date:
        return found.round().cast(pl.Int32).cast(pl.Date)
    if kind == pl.Time:
        most = 86400e9 - 1
        return (found * 1e9).round().clip(0, most).cast(pl.Int64).cast(pl.Time)
    if kind.is_temporal():
        unit = 1e6 if kind == pl.Duration else 86400e6
        base = pl.Duration("us") if kind == pl.Duration else pl.Datetime("us")
        return (found * unit).round().cast(pl.Int64).cast(base).cast(kind)
    if kind.is_integer():
        return found.round().cast(kind)
    return found.cast(kind)


def decimals_of(values: Floats) -> int | None:
    """Smallest number of decimals that writes all values exactly; None if there is none."""
    seen = values[~np.isnan(values)]
    width = np.ptp(seen) if len(seen) else 0.0
    for places in range(_MOST_DECIMALS + 1):
        if places and width * 10.0**places > _MOST_STEPS:
            return None
        if np.allclose(np.round(seen, places), seen, rtol=1e-12, atol=10.0 ** -(places + 4)):
            return places
    return None


def step_of(values: Floats) -> float:
    """Step of the decimal grid of a column, or a thousandth of its standard deviation."""
    places = decimals_of(values)
    if places is not None:
        return 10.0**-places
    return float(np.nanstd(values)) / 1000


@dataclass(frozen=True)
class Numbers:
    """A column of numbers: how to write values as the training rows have them.

    Attributes:
        name: Name of the column.
        kind: Its polars type.
        decimals: Number of decimals of all training values; None if there is no such number.
        low: Smallest training value; NaN if there is none.
        high: Largest training value.
        missing: Share of missing training values.
    """

    name: str
    kind: Any
    decimals: int | None
    low: float
    high: float
    missing: float

    @classmethod
    def of(cls, column: pl.Series) -> Numbers:
        """Learn from training rows."""
        values = to_floats(column)
        seen = values[~np.isnan(values)]
        low, high = (float(seen.min()), float(seen.max())) if len(seen) else (np.nan, np.nan)
        return cls(
            column.name,
            column.dtype,
            decimals_of(values),
            low,
            high,
            float(np.isnan(values).mean()),
        )

    def series(self, values: Floats) -> pl.Series:
        """A column of values, rounded to the decimals and kept within the range of training."""
        kept = np.clip(values, self.low, self.high)
        rounded = kept if self.decimals is None else np.round(kept, self.decimals)
        return to_series(self.name, rounded, self.kind)


@dataclass(frozen=True)
class Levels:
    """A column of levels, most frequent first; a missing value is the level after the last.

    Attributes:
        name: Name of the column.
        kind: Its polars type.
        levels: The levels.
        counts: Their training rows, and last those where the value is missing.
    """

    name: str
    kind: Any
    levels: tuple[Any, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, column: pl.Series, most: int | None = None) -> Levels:
        """Learn from training rows, at most so many levels."""
        counted = column.drop_nulls().value_counts(sort=True, name="count")
        # Levels as frequent as each other are in alphabetical order, not in that of threads.
        pairs = sorted(counted.iter_rows(), key=lambda pair: (-pair[1], str(pair[0])))[:most]
        levels = tuple(pair[0] for pair in pairs)
        counts = (*(pair[1] for pair in pairs), column.null_count())
        return cls(column.name, column.dtype, levels, counts)

    def index(self, column: pl.Series) -> Ints:
        """Index of each value, K where missing, K + 1 where it is no level; shape (N,)."""
        own = {level: place for place, level in enumerate(self.levels)}
        own[None] = len(self.levels)
        other = len(self.levels) + 1
        return np.array([own.get(value, other) for value in column.to_list()], dtype=np.int64)

    def series(self, index: Ints) -> pl.Series:
        """A column of levels by index, missing from K on."""
        values = (*self.levels, None)
        last = len(self.levels)
        return pl.Series(
            self.name, [values[min(place, last)] for place in index.tolist()], dtype=self.kind
        )


Column = Numbers | Levels


def columns_of(train: pl.DataFrame) -> list[Column]:
    """All columns of a table, learnt from training rows."""
    numbers = set(numbers_of(train))
    return [Numbers.of(train[n]) if n in numbers else Levels.of(train[n]) for n in train.columns]
