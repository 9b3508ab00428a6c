"""Read tables from .csv, .tsv, .npy, .npz and .parquet files.

=====================  ====================================================================
.npy                   one array, memory-mapped if large
.npz                   one array of values, and optionally one of labels
.csv, .tsv             delimited by commas, semicolons, tabs or bars; also compressed, .gz
.parquet               columns of numbers, or of true and false
=====================  ====================================================================

Rows are counted from 1, without a header, and so are columns without names. polars parses
text and parquet files; only if a cell is no number is the file read again, to find that cell.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mimachine._support.memory import check_fits
from mimachine.data.files.checks import check_finite, check_integers
from mimachine.data.files.csv_file import peek_text, read_text
from mimachine.data.files.labels import labelled
from mimachine.data.files.numpy_file import peek_npy, peek_npz, read_arrays, read_npy, read_npz
from mimachine.data.files.parquet_file import peek_parquet, read_parquet
from mimachine.data.files.table import Table, checked, readable, suffix

__all__ = ["peek", "read_archive", "read_table"]


def read_table(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    drop: Sequence[str] = (),
    array: str | None = None,
    columns: Sequence[str] | None = None,
    header: bool | None = None,
) -> Table:
    """Read values and labels from a file.

    Args:
        path: The file; its suffix determines the format.
        labels: Column or array of labels, otherwise a file with one label for each row. Columns
            without names are given by their number, from 1, here and in `drop`.
        drop: Columns to leave out.
        array: Array of an .npz file.
        columns: Columns that a trained model expects, matched by name and in this order. Labels
            may then be absent.
        header: Whether the first line of a .csv or .tsv file holds column names; by default
            decided by its cells.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, a value is missing or not a finite number, integers are
            too large for floating-point numbers, or a column or array does not exist.
    """
    file = checked(path, drop, array, header)
    with readable(file):
        if suffix(file) == ".npy":
            table = read_npy(file, labels, columns)
        elif suffix(file) == ".npz":
            table = read_npz(file, labels, array, columns)
        elif suffix(file) == ".parquet":
            table = read_parquet(file, labels, drop, columns)
        else:
            table = read_text(file, labels, drop, columns, header)
        # The same checks for all formats.
        check_finite(table.values, table.columns, table.source)
        check_integers(table.values, table.columns, table.source)
        return labelled(table, labels)


def peek(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    drop: Sequence[str] = (),
    array: str | None = None,
    header: bool | None = None,
) -> tuple[int, tuple[int, ...]]:
    """Number of rows of a file and shape of one row, without parsing its values.

    Args:
        path: As for `read_table`.
        labels: As for `read_table`.
        drop: As for `read_table`.
        array: As for `read_table`.
        header: As for `read_table`.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is already clear that the file cannot be read, or does not fit into
            memory.
    """
    file = checked(path, drop, array, header)
    shape: tuple[int, ...]
    with readable(file):
        if suffix(file) == ".npy":
            shape = peek_npy(file)
        elif suffix(file) == ".npz":
            shape = peek_npz(file, labels, array)
        elif suffix(file) == ".parquet":
            shape = peek_parquet(file, labels, drop)
        else:
            shape = peek_text(file, labels, drop, header)
            check_fits(f"{file.name} as numbers", shape, 8, "save it as .npy")
    return shape[0], shape[1:]


def read_archive(
    path: str | os.PathLike[str],
    wanted: Mapping[str, str | None],
    required: Collection[str] = (),
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read arrays of an .npz file by purpose.

    Args:
        path: The file.
        wanted: Name of the array for each purpose; None for the name of the purpose itself.
        required: Purposes that must have an array.

    Returns:
        The arrays found, by purpose, and the names of unused arrays.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not an .npz file or damaged, or if an array is missing or holds
            objects.
    """
    if suffix(Path(path)) != ".npz":
        raise ValueError(f"{path} must be an .npz file, as written by numpy.savez")
    file = checked(path)
    with readable(file):
        return read_arrays(file, wanted, required)
