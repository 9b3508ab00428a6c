"""Labels: those of a table, from its own file or from one beside it."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support.messages import counted
from mimachine.data.files.csv_file import opened
from mimachine.data.files.numpy_file import check_labels, header
from mimachine.data.files.table import MISSING, Table, readable, suffix, typed

__all__ = [
    "labelled",
]


# A class may well be called so.
_MISSING_LABELS = MISSING - {"none", "?"}


def labelled(table: Table, labels: str | None) -> Table:
    """A table with its labels checked, which are read if they are in a file of their own."""
    found, notes, what = table.labels, table.notes, f"--labels of {table.source}"
    if found is None and labels is not None and (file := Path(labels).expanduser()).is_file():
        what = file.name
        with readable(file):
            found = _read_labels(file)
        if suffix(file) != ".npy" and len(found) == len(table.values) + 1:
            notes += (f"the first line of {file.name}, {str(found[0])!r}, is taken as a header",)
            found = found[1:]
        found = typed(found)
        notes += (f"labels: file {labels}",)
    if found is None:
        return table
    if found.shape != (len(table.values),):
        raise ValueError(
            f"{what} must have a label for each of the {len(table.values):,} rows of "
            f"{table.source}, got shape {found.shape}"
        )
    if (missing := _missing_labels(found)).any():
        raise ValueError(
            f"{what} has {counted(int(missing.sum()), 'missing label')}, first in row "
            f"{missing.argmax() + 1} (counted from 1); fill them in, or leave out these rows"
        )
    return replace(table, labels=found, notes=notes)


def _missing_labels(labels: NDArray[Any]) -> NDArray[np.bool_]:
    if labels.dtype.kind == "U":
        return np.isin(np.char.lower(labels), list(_MISSING_LABELS))
    return np.isnan(labels) if labels.dtype.kind == "f" else np.zeros(len(labels), dtype=np.bool_)


def _read_labels(file: Path) -> NDArray[Any]:
    """Labels of a file of their own: an array, or a label a line."""
    if suffix(file) == ".npy":
        with file.open("rb") as stream:
            check_labels(header(stream, file.name)[1], file.name)
        return np.asarray(np.load(file, allow_pickle=False))
    if suffix(file) not in (".csv", ".txt"):
        raise ValueError(
            f"--labels {file} must be a .npy file, or .csv or .txt with a label a line"
        )
    with opened(file) as lines:
        if suffix(file) == ".txt":
            return _stripped(lines)
        rows = [row or [""] for row in csv.reader(lines)]
    for number, row in enumerate(rows, 1):
        if len(row) > 1:
            raise ValueError(
                f"{file.name} must have one label in each row; row {number} has {len(row)} cells"
            )
    return _stripped(row[0] for row in rows)


def _stripped(cells: Iterable[str]) -> NDArray[Any]:
    """Texts without the white space around them, and without empty ones at the end."""
    texts = [cell.strip() for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return np.array(texts, dtype=np.str_)
