"""Rows as numbers for methods of scikit-learn: standardised numbers and indicators of levels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from tables.columns import Column, Floats, Levels, columns_of, to_floats

# More indicators of a column make the methods slow; rarer levels have none.
_MOST_LEVELS = 20


@dataclass(frozen=True)
class Indicators:
    """Encoding of rows, learnt from training rows.

    Attributes:
        columns: The columns.
        parts: Place of each column's values among the encoded ones.
        mean: Means of the encoded training values, shape (D',).
        deviation: Standard deviations of numbers, 1 for indicators, shape (D',).
    """

    columns: tuple[Column, ...]
    parts: tuple[slice, ...]
    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, train: pl.DataFrame) -> Indicators:
        """Learn from training rows."""
        columns = tuple(
            Levels.of(train[c.name], _MOST_LEVELS) if isinstance(c, Levels) else c
            for c in columns_of(train)
        )
        widths = [max(1, len(c.levels)) if isinstance(c, Levels) else 1 for c in columns]
        ends = np.cumsum([0, *widths])
        parts = tuple(slice(int(a), int(b)) for a, b in pairwise(ends))
        plain = cls(columns, parts, np.zeros(ends[-1]), np.ones(ends[-1]))
        values = plain.encode(train)
        # A column may have no value at all.
        empty = np.isnan(values).all(0)
        values[:, empty] = 0
        numbers = np.repeat([not isinstance(c, Levels) for c in columns], widths)
        deviation = np.nanstd(values, 0)
        return cls(
            columns,
            parts,
            np.where(numbers, np.nanmean(values, 0), 0.0),
            np.where(numbers & (deviation > 0), deviation, 1.0),
        )

    def encode(self, rows: pl.DataFrame) -> Floats:
        """Encoded rows, shape (N, D'), NaN where a value is missing."""
        encoded = np.zeros((len(rows), self.parts[-1].stop))
        for column, part in zip(self.columns, self.parts, strict=True):
            if isinstance(column, Levels):
                index = column.index(rows[column.name])
                count = len(column.levels)
                encoded[:, part] = index[:, None] == np.arange(part.stop - part.start)
                encoded[index == count, part] = np.nan
            else:
                encoded[:, part.start] = to_floats(rows[column.name])
        return (encoded - self.mean) / self.deviation

    def filled(self, rows: pl.DataFrame) -> Floats:
        """Encoded rows with 0 for missing values: the mean of numbers, and no level."""
        return np.nan_to_num(self.encode(rows))

    def numbers(self, encoded: Floats, place: int) -> Floats:
        """Values of a column of numbers, shape (N,)."""
        start = self.parts[place].start
        return encoded[:, start] * self.deviation[start] + self.mean[start]

    def decode(self, encoded: Floats) -> pl.DataFrame:
        """Rows from encoded ones without missing values: the level of the largest indicator."""
        columns = []
        for place, (column, part) in enumerate(zip(self.columns, self.parts, strict=True)):
            if isinstance(column, Levels):
                columns.append(column.series(encoded[:, part].argmax(1)))
            else:
                columns.append(column.series(self.numbers(encoded, place)))
        return pl.DataFrame(columns)
