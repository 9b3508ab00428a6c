"""Checks of the values of tables, the same for all formats."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine._support.messages import Option, OptionError, counted, some

__all__ = ["Distinct", "check_finite", "check_integers", "too_many_digits", "with_many_digits"]

# Beyond 2^53 float64 no longer distinguishes all integers.
_LARGEST_WHOLE = 1 << 53
# A column of values closer than this, relative to their size, may be one of rounded values.
_CLOSE = 1e-9


def check_finite(values: NDArray[Any], columns: Sequence[str] | None, source: str) -> None:
    """Check for infinite values and NaN, block by block.

    Args:
        values: Shape (N, *S).
        columns: Names of the D columns of values (N, D).
        source: Name of the values in the error.

    Raises:
        ValueError: If a value is not finite. Reports the number, the columns and the first row.
    """
    if values.dtype.kind != "f":
        return
    counts = np.zeros(values.shape[1:], dtype=np.int64)
    first = np.zeros(values.shape[1:], dtype=np.int64)
    for block in memory.blocks(values):
        finite = np.isfinite(values[block])
        if not finite.all():
            here = (~finite).sum(axis=0)
            new = (counts == 0) & (here > 0)
            first[new] = (block.start + 1 + finite.argmin(axis=0))[new]
            counts += here
    if counts.any():
        raise ValueError(f"{source} has {_not_finite(counts, first, columns)}")


def _not_finite(
    counts: NDArray[np.int64], first: NDArray[np.int64], columns: Sequence[str] | None
) -> str:
    """Describe non-finite values by their counts and first rows, for each position in a row."""
    places = [tuple(place) for place in np.argwhere(counts).tolist()]
    total = int(counts.sum())
    what = f"{counted(total, 'value')} that {'is' if total == 1 else 'are'} not finite"
    advice = "fill them in, or remove these rows; rows are counted from 1"
    if counts.ndim == 1:
        names = [f"column {k + 1}" if columns is None else repr(columns[k]) for (k,) in places]
        where = [
            f"{name} ({counts[place]:,}, first in row {first[place]})"
            for name, place in zip(names, places, strict=True)
        ]
        return f"{what} in {counted(len(places), 'column')}: {some(where)}; {advice}"
    place = min(places, key=lambda place: int(first[place]))
    position = tuple(k + 1 for k in place)
    return f"{what}, first in row {first[place]} at position {position}; {advice}, like positions"


def check_integers(values: NDArray[Any], columns: Sequence[str] | None, source: str) -> None:
    """Check that floating-point numbers can distinguish integers, block by block.

    Args:
        values: Shape (N, *S).
        columns: Names of the D columns of values (N, D).
        source: Name of the values in the error.

    Raises:
        ValueError: If integers beyond 2^53 occur; names a column.
    """
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8:
        return
    for rows in memory.blocks(values):
        block = values[rows]
        # Python integers: the magnitude of the smallest int64 is not an int64.
        if max(int(block.max()), -int(block.min())) > _LARGEST_WHOLE:
            place = np.argwhere((block > _LARGEST_WHOLE) | (block < -_LARGEST_WHOLE))[0]
            column = int(np.ravel_multi_index(tuple(place[1:]), values.shape[1:]))
            name = None if columns is None else columns[column]
            raise too_many_digits(source, column, name, str(block[tuple(place)]))


def with_many_digits(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Columns of decimal numbers (N, D) that floats may have made equal, such as identifiers."""
    low, high = values.min(0), values.max(0)
    size = np.maximum(-low, high)
    with np.errstate(over="ignore", invalid="ignore"):
        close = (size > 0) & (high - low <= _CLOSE * size)
    many: NDArray[np.bool_] = (size > _LARGEST_WHOLE) | close
    return many


class Distinct:
    """Decimal numbers of one column so far, to find those that floats make equal."""

    def __init__(self) -> None:
        self._exact: dict[float, Decimal] = {}

    def takes(self, number: Decimal, is_whole: bool) -> bool:
        """Whether floats tell a number from the others; long whole numbers are refused as such."""
        if is_whole and abs(number) > _LARGEST_WHOLE:
            return False
        return self._exact.setdefault(float(number), number) == number


def too_many_digits(source: str, place: int, name: str | None, example: str) -> OptionError:
    """The error for a column whose values are too long for floating-point numbers.

    Args:
        source: Name of the file.
        place: Index of the column.
        name: Its name, if it has one.
        example: One of its values.
    """
    start = (
        f"column {place + 1 if name is None else repr(name)} of {source} has values such as "
        f"{example[:40]}, too large or too long to distinguish as floating-point numbers, which "
        "have 15 digits; "
    )
    if name is None:
        return OptionError(start, "remove the column, or subtract an offset")
    return OptionError(
        start, "leave it out with ", Option("drop", [name]), ", or subtract an offset"
    )
