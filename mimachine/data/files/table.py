"""A table read from a file; checks of its path and its values."""

from __future__ import annotations

import csv
import gzip
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine._support.messages import Option, OptionError, counted, nearest, some

__all__ = [
    "MISSING",
    "MISSING_LABELS",
    "Table",
    "are_numbers",
    "check_finite",
    "checked",
    "readable",
    "suffix",
    "typed",
]


@dataclass(frozen=True)
class Table:
    """Values of a file, one row for each example.

    Attributes:
        values: Shape (N, *S); booleans, integers or floats as stored, float64 from text. In C
            order, or memory-mapped as stored.
        columns: Names of the columns, if the file has them and the values are (N, D).
        labels: Shape (N,); integers, floats or strings. None without labels.
        source: Name of the file in messages.
        notes: Decisions made in reading the file, to show to the user.
    """

    values: NDArray[Any]
    columns: tuple[str, ...] | None
    labels: NDArray[Any] | None
    source: str
    notes: tuple[str, ...] = ()


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


# How R, pandas, Excel, SQL, C and people write that a value is missing, in lower case.
_MISSING_CODES = (
    *("", "na", "n/a", "n.a.", "#n/a", "#na", "#n/a n/a", "<na>", "nan", "-nan", "+nan", "nat"),
    *("1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind", "null", "(null)", "\\n"),
    *("#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!"),
)
# Among labels these can be classes.
_MISSING_WORDS = ("none", "nil", "missing", "unknown", "not available", "?", ".", "-", "--", "*")
MISSING = frozenset((*_MISSING_CODES, *_MISSING_WORDS))
MISSING_LABELS = frozenset(_MISSING_CODES)


def are_numbers(cells: Sequence[str]) -> bool:
    """Whether numpy's parser reads all cells as numbers other than NaN."""
    text = "".join(cells)
    try:
        return not any(map(math.isnan, map(float, cells))) and "_" not in text and text.isascii()
    except ValueError:
        return False


def typed(labels: NDArray[Any]) -> NDArray[Any]:
    """Convert text labels to integers or floats if all are numbers; 007 counts as a name."""
    if labels.dtype.kind != "U":
        return labels
    try:
        whole = labels.astype(np.int64)
    except (ValueError, OverflowError):
        return labels if not are_numbers(labels.tolist()) else labels.astype(np.float64)
    return whole if (whole.astype(np.str_) == labels).all() else labels


_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npy", ".npz", ".parquet")


def suffix(file: Path) -> str:
    """Last suffix of a file's name, in lower case."""
    return file.suffix.lower()


def checked(path: str | os.PathLike[str], drop: Sequence[str], array: str | None) -> Path:
    """The path of a file, after checks that it exists and that its format and options fit."""
    file = Path(path).expanduser()
    suffixes = ", ".join(_SUFFIXES)
    if file.is_dir():
        raise ValueError(f"{file} is a folder; expected a file, one of {suffixes}")
    if not file.name.lower().endswith(_SUFFIXES):
        raise ValueError(f"{file} must have one of the suffixes {suffixes}")
    if not file.exists():
        folder = file.parent
        others = [other.name for other in folder.iterdir()] if folder.is_dir() else []
        raise FileNotFoundError(f"no file {file}{nearest(file.name, others)}")
    if array is not None and suffix(file) != ".npz":
        raise OptionError(Option("array", array), f" applies to .npz files only, got {file}")
    if drop and suffix(file) in (".npy", ".npz"):
        raise OptionError(
            Option("drop"), f" needs columns with names, and those of {file} have none"
        )
    return file


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Report a damaged file by its name, as a ValueError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.name} must be text in UTF-8, got the byte 0x{error.object[error.start]:02x}; "
            "save it as UTF-8"
        ) from error
    # zipfile raises RuntimeError for members it cannot decompress or decrypt.
    except (
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        zipfile.BadZipFile,
        RuntimeError,
        csv.Error,
    ) as error:
        raise ValueError(
            f"{file.name} is damaged, or its suffix does not match its format ({error})"
        ) from error
