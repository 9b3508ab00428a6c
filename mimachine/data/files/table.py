"""A table read from a file; its cells of text and the checks of its path."""

from __future__ import annotations

import csv
import gzip
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support.messages import Option, OptionError, nearest
from mimachine._support.reading import require_regular

__all__ = [
    "MISSING",
    "MISSING_LABELS",
    "Table",
    "are_booleans",
    "are_numbers",
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
        booleans: Whether each of D columns of values (N, D) is stored as true and false; None if
            the type of the values says so.
        types: Types of the D columns of values (N, D) in the file, if they differ: together they
            become the widest. None if they are that of the values.
        splits: Split that the file names for each row, "train", "val" or "test", shape (N,); None
            if it does not name any.
    """

    values: NDArray[Any]
    columns: tuple[str, ...] | None
    labels: NDArray[Any] | None
    source: str
    notes: tuple[str, ...] = ()
    booleans: NDArray[np.bool_] | None = None
    splits: NDArray[Any] | None = None
    types: tuple[np.dtype[Any], ...] | None = None

    @property
    def boolean_columns(self) -> NDArray[np.bool_]:
        """Whether columns hold true and false, shape (D,); or () for all values."""
        if self.booleans is None:
            return np.asarray(self.values.dtype.kind == "b")
        return self.booleans


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


def are_booleans(cells: Sequence[str]) -> bool:
    """Whether all cells are true or false, in upper or lower case."""
    return all(cell.strip().lower() in ("true", "false") for cell in cells)


def typed(labels: NDArray[Any]) -> NDArray[Any]:
    """Convert text labels to integers or floats if all are numbers; 007 counts as a name."""
    if labels.dtype.kind != "U":
        return labels
    try:
        whole = labels.astype(np.int64)
    except OverflowError:  # Floating-point numbers would make different labels equal.
        return labels
    except ValueError:
        return _as_floats(labels)
    return whole if (whole.astype(np.str_) == labels).all() else labels


def _as_floats(labels: NDArray[Any]) -> NDArray[Any]:
    """Text labels as floats if all are numbers, and different numbers stay different."""
    texts = np.unique(labels).tolist()
    if not are_numbers(texts):
        return labels
    floats = labels.astype(np.float64)
    return floats if len(np.unique(floats)) == len(set(map(Decimal, texts))) else labels


_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npy", ".npz", ".parquet")


def suffix(file: Path) -> str:
    """Last suffix of a file's name, in lower case."""
    return file.suffix.lower()


def checked(
    path: str | os.PathLike[str],
    drop: Sequence[str] = (),
    array: str | None = None,
    header: bool | None = None,
) -> Path:
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
    require_regular(file)
    if array is not None and suffix(file) != ".npz":
        raise OptionError(Option("array", array), f" applies to .npz files only, got {file}")
    if header is not None and suffix(file) in (".npy", ".npz", ".parquet"):
        raise OptionError(
            Option("header", header), f" applies to .csv and .tsv files only, got {file}"
        )
    if drop and suffix(file) in (".npy", ".npz"):
        raise OptionError(
            Option("drop"), f" needs columns with names, and those of {file} have none"
        )
    return file


_DAMAGES = (
    *(EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile),
    *(RuntimeError, csv.Error),
)


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
    except MemoryError as error:
        raise ValueError(
            f"{file.name} does not fit into memory; save it as .npy, which is read from the disk"
        ) from error
    # zipfile raises RuntimeError for members it cannot decompress or decrypt.
    except (*_DAMAGES, OSError) as error:
        # System errors have an errno; those about the content of a file have none.
        if not isinstance(error, _DAMAGES) and error.errno is not None:
            raise
        raise ValueError(
            f"{file.name} is damaged, or its suffix does not match its format ({error})"
        ) from error
