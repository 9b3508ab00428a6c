"""A table: the values of a file, and whether all of them are finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine._support.messages import counted, some

__all__ = ["Table", "check_finite"]


@dataclass(frozen=True)
class Table:
    """Values of a file, a row for each datum.

    Attributes:
        values: Shape (N, *S); booleans, integers or floats as stored, float64 from text. In C
            order, or memory-mapped as they lie on disk.
        columns: Names of the columns, where the file has them and the values are (N, D).
        labels: Shape (N,); integers, strings, ..., or none.
        source: What to call the file in messages.
        notes: What was decided about the file and should be said aloud.
    """

    values: NDArray[Any]
    columns: tuple[str, ...] | None
    labels: NDArray[Any] | None
    source: str
    notes: tuple[str, ...] = ()


def check_finite(values: NDArray[Any], columns: Sequence[str] | None, source: str) -> None:
    """See that there is neither infinity nor NaN, block by block.

    Args:
        values: Shape (N, *S).
        columns: Names of the columns of (N, D).
        source: What to call the values in the error.

    Raises:
        ValueError: If there is one: how many there are, where, and in which row first.
    """
    if values.dtype.kind != "f":
        return
    counts = np.zeros(values.shape[1:], dtype=np.int64)
    first = np.zeros(values.shape[1:], dtype=np.int64)
    step = max(1, (1 << 22) // max(1, counts.size))
    for start in range(0, len(values), step):
        finite = np.isfinite(values[start : start + step])
        if not finite.all():
            here = (~finite).sum(axis=0)
            new = (counts == 0) & (here > 0)
            first[new] = (start + 1 + finite.argmin(axis=0))[new]
            counts += here
        memory.release(values)
    if counts.any():
        raise ValueError(f"{source} has {_not_finite(counts, first, columns)}")


def _not_finite(
    counts: NDArray[np.int64], first: NDArray[np.int64], columns: Sequence[str] | None
) -> str:
    """How many values of each place in a row are not finite, and the first row of each."""
    places = [tuple(place) for place in np.argwhere(counts).tolist()]
    total = int(counts.sum())
    what = f"{counted(total, 'value')} that {'is' if total == 1 else 'are'} not finite"
    advice = "fill them in, or leave out their rows; rows are counted from 1"
    if counts.ndim == 1:
        names = [f"column {k + 1}" if columns is None else repr(columns[k]) for (k,) in places]
        where = [
            f"{name} ({counts[place]:,}, first in row {first[place]})"
            for name, place in zip(names, places, strict=True)
        ]
        return f"{what} in {counted(len(places), 'column')}: {some(where)}; {advice}"
    place = min(places, key=lambda place: int(first[place]))
    position = tuple(k + 1 for k in place)
    return f"{what}, first in row {first[place]} at position {position}; {advice}, as positions are"
