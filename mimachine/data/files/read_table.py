"""Tables: a user's own file as an array with a row for each datum, or the reason why not.

=====================  ====================================================================
.npy                   one array, memory-mapped where it is large
.npz                   one of its arrays, and another one for the labels
.csv, .tsv             numbers between commas, semicolons, tabs or bars; also compressed, .gz
.parquet               columns of numbers; needs pyarrow
=====================  ====================================================================

Rows are counted from 1, without a header, and so are columns that have no names. A table is
parsed in C; only one that cannot be is read a second time, to say which cell is in the way.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mimachine.data.files.csv_file import peek_text, read_text
from mimachine.data.files.labels import labelled
from mimachine.data.files.numpy_file import peek_npy, peek_npz, read_arrays, read_npy, read_npz
from mimachine.data.files.parquet_file import peek_parquet, read_parquet
from mimachine.data.files.table import Table, checked, readable, suffix

__all__ = [
    "peek",
    "read_archive",
    "read_table",
]


def read_table(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    drop: Sequence[str] = (),
    array: str | None = None,
    columns: Sequence[str] | None = None,
) -> Table:
    """Read values and labels of a file.

    Args:
        path: The file; its suffix tells the format.
        labels: Column or array of labels, else a file with one label for each row. Columns
            without names go by their number, from 1, here and in `drop`.
        drop: Columns to leave out.
        array: Array of an .npz file.
        columns: Columns that a trained model expects, taken by name and in this order. Labels
            may then be absent.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not what it should be: damaged, with a value that is missing or no
            number, or without a column or array that is asked for.
    """
    file = checked(path, drop, array)
    with readable(file):
        if suffix(file) == ".npy":
            table = read_npy(file, labels, columns)
        elif suffix(file) == ".npz":
            table = read_npz(file, labels, array, columns)
        elif suffix(file) == ".parquet":
            table = read_parquet(file, labels, drop, columns)
        else:
            table = read_text(file, labels, drop, columns)
    return labelled(table, labels)


def peek(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    drop: Sequence[str] = (),
    array: str | None = None,
) -> tuple[int, tuple[int, ...]]:
    """Number of rows of a file and shape of one row, without parsing its values.

    Args:
        path: As for `read_table`.
        labels: As for `read_table`.
        drop: As for `read_table`.
        array: As for `read_table`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If that much is clear already: it cannot be read.
    """
    file = checked(path, drop, array)
    shape: tuple[int, ...]
    with readable(file):
        if suffix(file) == ".npy":
            shape = peek_npy(file)
        elif suffix(file) == ".npz":
            shape = peek_npz(file, labels, array)
        elif suffix(file) == ".parquet":
            shape = peek_parquet(file, labels, drop)
        else:
            shape = peek_text(file, labels, drop)
    return shape[0], shape[1:]


def read_archive(
    path: str | os.PathLike[str],
    wanted: Mapping[str, str | None],
    required: Collection[str] = (),
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read arrays of an .npz file by what they are for.

    Args:
        path: The file.
        wanted: For each purpose the array's name that was asked for; None is the purpose's own.
        required: Purposes that an array must be there for.

    Returns:
        The arrays that are there by their purposes, and the names of the other ones.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no archive, is damaged, has not what is asked for, or what is asked
            for holds objects.
    """
    if suffix(Path(path)) != ".npz":
        raise ValueError(f"{path} must be an .npz file, as numpy.savez writes it")
    file = checked(path, (), None)
    with readable(file):
        return read_arrays(file, wanted, required)
