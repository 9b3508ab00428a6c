"""Labels of a table, from the same file or from a separate one."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mimachine._support.memory import check_fits
from mimachine._support.messages import Option, OptionError
from mimachine._support.reading import require_regular
from mimachine.data.files.numpy_file import check_labels, header
from mimachine.data.files.table import (
    MISSING_LABELS,
    Table,
    readable,
    suffix,
    typed,
)
from mimachine.data.files.text_stream import opened

__all__ = ["is_label_file", "labelled", "lost_labels"]

_SUFFIXES = (".npy", ".csv", ".txt")


def is_label_file(labels: str | None) -> TypeGuard[str]:
    """Whether the labels of a run are a file, whose path the run stores as absolute.

    The file may no longer exist. Other labels are columns or arrays.
    """
    return labels is not None and os.path.isabs(labels) and suffix(Path(labels)) in _SUFFIXES


def lost_labels(labels: str, source: str) -> str:
    """The error for labels that a run was trained with."""
    if not is_label_file(labels):
        return f"the labels {labels!r} of {source} can no longer be found"
    return (
        f"no file {labels}, the labels of {source}; restore it, or put it beside {source}, where "
        "it is found"
    )


def labelled(table: Table, labels: str | None) -> Table:
    """A table with checked labels, read first if they are in a separate file."""
    found, notes, what = table.labels, table.notes, f"labels of {table.source}"
    if found is None and labels is not None and (file := Path(labels).expanduser()).is_file():
        what = file.name
        with readable(file):
            found = _read_labels(file, table)
        if suffix(file) != ".npy" and len(found) == len(table.values) + 1:
            notes += (f"the first line of {file.name}, {str(found[0])!r}, is read as a header",)
            found = found[1:]
        found = typed(found)
        notes += (f"labels: file {labels}",)
    if found is None:
        return table
    if found.shape != (len(table.values),):
        raise ValueError(
            f"{what} must have one label for each of the {len(table.values):,} rows of "
            f"{table.source}, got shape {found.shape}"
        )
    if (missing := _missing_labels(found)).any():
        raise ValueError(
            f"{what} must have no missing values, got {missing.sum():,}, first in row "
            f"{missing.argmax() + 1} (counted from 1); fill them in, or remove these rows"
        )
    return replace(table, labels=found, notes=notes)


def _missing_labels(labels: NDArray[Any]) -> NDArray[np.bool_]:
    if labels.dtype.kind == "U":
        return np.isin(np.char.lower(labels), list(MISSING_LABELS))
    return np.isnan(labels) if labels.dtype.kind == "f" else np.zeros(len(labels), dtype=np.bool_)


def _read_labels(file: Path, table: Table) -> NDArray[Any]:
    """Labels from a separate file: an array, or one label per line."""
    require_regular(file)
    if suffix(file) == ".npy":
        with file.open("rb") as stream:
            stored = header(stream, file.name)
        check_labels(stored, len(table.values), file.name, table.source)
        check_fits(file.name, stored[0], stored[1].itemsize, "labels are one number or text a row")
        try:
            return np.asarray(np.load(file, allow_pickle=False)).reshape(len(table.values))
        except ValueError as error:
            raise ValueError(f"{file.name} is damaged: {error}") from error
    if suffix(file) not in _SUFFIXES:
        raise OptionError(
            Option("labels"),
            f" must be a .npy file, or a .csv or .txt file with one label per line, got {file}",
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
    """Cells without surrounding white space, and without empty cells at the end."""
    texts = [cell.strip() for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return np.array(texts, dtype=np.str_)
