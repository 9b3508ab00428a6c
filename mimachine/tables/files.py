"""Files of tables: which there are, of which formats, and which are damaged."""

from __future__ import annotations

import csv
import gzip
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mimachine._support.messages import nearest

__all__ = ["checked", "readable", "suffix"]

_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npy", ".npz", ".parquet")


def suffix(file: Path) -> str:
    """The end of a file's name that tells its format, in small letters."""
    return file.suffix.lower()


def checked(path: str | os.PathLike[str], drop: Sequence[str], array: str | None) -> Path:
    """A file that is there, of a format that is read and takes the given options."""
    file = Path(path).expanduser()
    suffixes = ", ".join(_SUFFIXES)
    if file.is_dir():
        raise ValueError(f"{file} is a folder; a file is expected, one of {suffixes}")
    if not file.name.lower().endswith(_SUFFIXES):
        raise ValueError(f"{file} must be one of {suffixes}, by its suffix")
    if not file.exists():
        folder = file.parent
        others = [other.name for other in folder.iterdir()] if folder.is_dir() else []
        raise FileNotFoundError(f"there is no file {file}{nearest(file.name, others)}")
    if array is not None and suffix(file) != ".npz":
        raise ValueError(f"--array {array!r} is for .npz files, which hold several; got {file}")
    if drop and suffix(file) in (".npy", ".npz"):
        raise ValueError(f"--drop is for columns with names, and those of {file} have none")
    return file


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Say of what is damaged that it is."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.name} must be text in UTF-8, and has the byte 0x{error.object[error.start]:02x}"
            " that is none; save it as UTF-8"
        ) from error
    # RuntimeError is zipfile's for what it cannot decompress or decrypt.
    except (
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        zipfile.BadZipFile,
        RuntimeError,
        csv.Error,
    ) as error:
        raise ValueError(
            f"{file.name} is damaged, or of another format than its name says ({error})"
        ) from error
