"""Export codes, reconstructions and samples to .npz and .csv files."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support.files import replacing
from mimachine.data.dataset import Dataset

__all__ = ["Columns", "named", "write_results"]


class Columns(NamedTuple):
    """A table with named columns.

    Attributes:
        names: Names of all columns.
        parts: Arrays of shape (N, any), which contain the columns from left to right.
    """

    names: tuple[str, ...]
    parts: tuple[NDArray[Any], ...]


def named(data: Dataset, values: NDArray[Any]) -> Columns:
    """Make a table of restored data of shape (N, *S), with the names and types of the file.

    Columns of integers and booleans are rounded. Default names are x1, x2, ...
    """
    flat = values.reshape(len(values), -1)
    names = data.columns or tuple(f"x{i}" for i in range(1, flat.shape[1] + 1))
    return Columns(names, tuple(data.restore_columns(flat)))


def write_results(file: Path, arrays: Mapping[str, NDArray[Any]], table: Columns) -> None:
    """Write all arrays to an .npz file, or the table to a .csv file.

    Raises:
        ValueError: If the file's name ends in neither .npz nor .csv.
    """
    if file.suffix not in (".npz", ".csv"):
        raise ValueError(f"out must end in .npz or .csv, got {file}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        if file.suffix == ".npz":
            with temporary.open("wb") as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]
            return
        with temporary.open("w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text)
            writer.writerow(table.names)
            for row in zip(*table.parts, strict=True):
                writer.writerow([value for part in row for value in part.tolist()])
