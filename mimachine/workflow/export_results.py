"""Export codes, reconstructions and samples to .npz and .csv files."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support.checks import path
from mimachine._support.outputs import Outputs
from mimachine.data.tables.columns.cells import text_of

if TYPE_CHECKING:
    import polars as pl

    from mimachine.data.dataset import Dataset

__all__ = [
    "ARRAYS",
    "TABLES",
    "Columns",
    "named",
    "restored",
    "result_file",
    "write_results",
    "write_table",
]


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


ARRAYS, TABLES = (".npz", ".csv"), (".csv", ".parquet")


def result_file(
    name: str, file: str | os.PathLike[str], suffixes: tuple[str, str] = ARRAYS
) -> Path:
    """The path of a file of results, after a check that its suffix is that of a format.

    Args:
        name: Name of the argument.
        file: The path.
        suffixes: Suffixes of the formats, `ARRAYS` or `TABLES`.

    Raises:
        ValueError: If it ends in another suffix or in none, as the path of a directory does.
    """
    # `Path` would leave out a slash at the end.
    text = path(name, file)
    if not text.endswith(suffixes) or not Path(text).suffix:
        raise ValueError(f"{name} must end in {' or '.join(suffixes)}, got {text}")
    return Path(text)


def write_table(file: Path, table: pl.DataFrame, outputs: Outputs) -> None:
    """Write a table as .csv or .parquet.

    Args:
        file: The file; parents that do not exist are created.
        table: The table.
        outputs: Rules for writing, such as those of `outputs_of`.

    Raises:
        ValueError: If the file exists and may not be overwritten.
    """
    with outputs.replacing(file) as temporary, temporary.open("wb") as stream:
        if file.suffix == ".parquet":
            table.write_parquet(stream)
        else:
            durations = [each for each in table if str(each.dtype).startswith("Duration")]
            table.with_columns(map(text_of, durations)).write_csv(stream)


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
    file = result_file("file", file)
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
