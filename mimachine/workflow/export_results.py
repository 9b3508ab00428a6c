"""Export codes, reconstructions and samples to .npz and .csv files."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support.outputs import Outputs

if TYPE_CHECKING:
    from mimachine.data.dataset import Dataset

__all__ = ["Columns", "check_suffix", "named", "restored", "write_results"]


class Columns(NamedTuple):
    """A table with named columns.

    Attributes:
        names: Names of all columns.
        parts: Arrays of shape (N, any), which contain the columns from left to right.
    """

    names: tuple[str, ...]
    parts: tuple[NDArray[Any], ...]


def named(names: tuple[str, ...] | None, values: NDArray[Any]) -> Columns:
    """Make a table of data of shape (N, *S); default names are x1, x2, ..."""
    flat = values.reshape(len(values), -1)
    return Columns(names or tuple(f"x{i}" for i in range(1, flat.shape[1] + 1)), (flat,))


def restored(data: Dataset, values: NDArray[Any]) -> Columns:
    """Make a table of restored values (N, *S), with the names of the file's columns.

    Columns have the types of the file: decimals, integers and booleans are rounded.
    """
    table = named(data.columns, values)
    return table._replace(parts=tuple(data.restore_columns(table.parts[0])))


def check_suffix(file: Path) -> None:
    """Check that results can be written in the format of a file's suffix.

    Raises:
        ValueError: If the file's name ends in neither .npz nor .csv.
    """
    if file.suffix not in (".npz", ".csv"):
        raise ValueError(f"out must end in .npz or .csv, got {file}")


def write_results(
    file: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    table: Columns,
    *,
    force: bool = False,
    outputs: Outputs | None = None,
) -> None:
    """Write all arrays to an .npz file, or the table to a .csv file.

    Args:
        file: The file; parents that do not exist are created.
        arrays: Arrays by name.
        table: The table.
        force: Whether a file that exists may be overwritten.
        outputs: Rules for this instead of `force`, such as those of `outputs_of`.

    Raises:
        ValueError: If the file's name ends in neither .npz nor .csv, or if the file exists and may
            not be overwritten.
    """
    file = Path(file)
    check_suffix(file)
    with (outputs or Outputs(force=force)).replacing(file) as temporary:
        if file.suffix == ".npz":
            with temporary.open("wb") as stream:
                np.savez(stream, **arrays)  # type: ignore[arg-type]
            return
        # Labels may be names of folders, whose bytes need not be UTF-8.
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as text:
            writer = csv.writer(text)
            writer.writerow(table.names)
            for row in zip(*table.parts, strict=True):
                writer.writerow([value for part in row for value in part.tolist()])
