"""Load a table of any columns as a data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine._support.messages import Option, OptionError, hint
from mimachine.data.dataset import Dataset
from mimachine.data.files.columns import check_label_file
from mimachine.data.files.labels import labelled, lost_labels
from mimachine.data.files.options import File, check_there
from mimachine.data.files.splits import SPLITS, HoldOut, check_unchanged, class_indices, split_rows
from mimachine.data.files.table import Table, typed
from mimachine.data.preprocessing import fingerprint
from mimachine.data.rows import Ready, Rows
from mimachine.data.tables.columns.given import Given, given_columns
from mimachine.data.tables.infer import infer
from mimachine.data.tables.load_blocks import encode_blocks, is_large
from mimachine.data.tables.parquet import is_index
from mimachine.data.tables.read import Frame, outline, read_cells, read_frame
from mimachine.data.tables.rows import encode
from mimachine.data.tables.schema import Schema

if TYPE_CHECKING:
    import polars as pl

__all__ = ["blank_table", "load_table", "read_table_rows"]


def load_table(
    path: str | os.PathLike[str] | Any,
    file: File = File(),
    stored: Mapping[str, Any] | None = None,
    held_out: HoldOut | None = None,
) -> Dataset:
    """Load a table and split its rows for training, validation and test.

    Args:
        path: A text or parquet file, a folder of parquet files, or a data frame.
        file: How to read it.
        stored: What a run stored about it, to encode it in the same way.
        held_out: Choice of the rows for validation, if none are for a test.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If it cannot be used, or differs from the table that the run was trained on.
    """
    known = None if stored is None else Schema.from_json(stored["schema"])
    is_path = isinstance(path, str | os.PathLike)
    if is_path:
        check_there(str(path))
    given = given_columns(file.columns) if known is None else Given({}, known)
    if is_path and held_out is None and is_large(path):
        encoded = _in_blocks(path, file, given, stored is not None)
    else:
        encoded = _at_once(path, file, given, stored is not None, held_out)
    values, schema, splits = encoded.table.values, encoded.schema, encoded.splits
    table = labelled(encoded.table, file.labels)
    if known is not None and file.labels is not None and table.labels is None:
        raise ValueError(lost_labels(file.labels, table.source))
    mark = fingerprint(values, table.labels)
    if stored is not None:
        check_unchanged(mark, stored["fingerprint"], table.source)
    indices, classes = class_indices(table)
    train, val, test = (Rows(values, places, Ready(values.shape[1])) for places in splits)
    train_labels, val_labels, test_labels = (
        None if indices is None else indices[torch.from_numpy(places)] for places in splits
    )
    return Dataset(
        Path(path).name if is_path else table.source,
        train if memory.stays_on_disk(train.num_bytes) else train.tensor(),
        val.tensor(),
        test.tensor(),
        train_labels,
        val_labels,
        test_labels,
        ink=False,
        classes=classes,
        schema=schema,
        held_out=held_out,
        fingerprint=mark,
        notes=table.notes,
    )


class _Encoded(NamedTuple):
    """Rows of a table, its schema and the splits of its rows."""

    table: Table
    schema: Schema
    splits: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def _at_once(
    path: str | os.PathLike[str] | Any,
    file: File,
    given: Given,
    is_stored: bool,
    held_out: HoldOut | None,
) -> _Encoded:
    frame, labels, _ = _read(path, file, given.schema, is_stored)
    given.check(frame.data.columns, frame.source)
    count = len(frame.data)
    if held_out is None:
        splits = split_rows(count, len(frame.data.columns), None, frame.source)
    else:
        splits = held_out.split(count)
    notes: tuple[str, ...] = ()
    if (schema := given.schema) is None:
        schema, notes = infer(frame, splits[0], given.kinds)
    values, more = encode(frame, schema)
    table = Table(values, None, labels, frame.source, (*frame.notes, *notes, *more))
    return _Encoded(table, schema, splits)


def _in_blocks(path: str | os.PathLike[str], file: File, given: Given, is_stored: bool) -> _Encoded:
    found, source = outline(path), Path(path).name
    names = [name for name in found.types if not is_index(name)]
    left, label, notes = _choice(names, file, source, is_stored)
    given.check(left, source)
    splits = split_rows(found.rows, len(left), None, source)
    encoded = encode_blocks(path, left, label, splits[0], given.schema, given.kinds)
    labels = None if encoded.labels is None else _labels(encoded.labels)
    table = Table(encoded.rows, None, labels, source, (*notes, *encoded.notes))
    return _Encoded(table, encoded.schema, splits)


def _read(
    path: str | os.PathLike[str] | Any, file: File, known: Schema | None, is_stored: bool = True
) -> tuple[Frame, NDArray[Any] | None, Frame]:
    """A table without its labels and the columns to drop, the labels if it has them, and all."""
    if isinstance(path, str | os.PathLike):
        check_there(str(path))
    types, formats = ({}, {}) if known is None else (known.types(), known.formats())
    frame = read_frame(path, header=file.header, types=types, formats=formats)
    left, label, notes = _choice(frame.data.columns, file, frame.source, is_stored)
    # As they are written, so that they are the names of classes.
    labels = None if label is None else _labels(frame.texts.get(label, frame.data[label]))
    values = dataclasses.replace(frame, data=frame.data.select(left), notes=(*frame.notes, *notes))
    return values, labels, frame


def _choice(
    names: Sequence[str], file: File, source: str, is_stored: bool
) -> tuple[list[str], str | None, tuple[str, ...]]:
    """Columns of values, the column of labels if there is one, and notes."""
    notes: tuple[str, ...] = ()
    label = file.labels if file.labels in names else None
    if file.labels is not None and label is None:
        notes = check_label_file(file.labels, "column", names, source, optional=is_stored)
    if not is_stored:
        for name in file.drop:
            if name not in names:
                raise OptionError(
                    Option("drop", [name]), f" is not a column of {source}{hint(name, names)}"
                )
        if label in file.drop:
            raise OptionError(Option("drop", [label]), f" is needed as labels of {source}")
    left = [name for name in names if name != label and name not in file.drop]
    if not left:
        raise ValueError(f"{source} has no columns left for values")
    return left, label, notes


def _labels(column: pl.Series) -> NDArray[Any]:
    """Labels of any type: numbers stay numbers, others become text, missing ones empty."""
    import polars as pl

    is_number = column.dtype.is_integer() or column.dtype.is_float()
    if is_number and not column.null_count():
        return column.to_numpy()
    text = column.cast(pl.String).fill_null("")
    return typed(np.array(text.to_list(), dtype=np.str_))


class TableRows(NamedTuple):
    """Rows of a table for a trained model.

    Attributes:
        rows: Shape (N, D).
        labels: Shape (N,), or None.
        notes: Decisions made in reading.
        table: The table with all its columns.
        cells: Reads the cells of the columns that have plain cells as text; None for other files
            than text.
    """

    rows: torch.Tensor
    labels: NDArray[Any] | None
    notes: tuple[str, ...]
    table: pl.DataFrame
    cells: Callable[[], pl.DataFrame | None]


def read_table_rows(
    path: str | os.PathLike[str] | Any,
    file: File,
    schema: Schema,
    split: str | None = None,
    held_out: HoldOut | None = None,
) -> TableRows:
    """Rows of a table for a trained model.

    Args:
        path: As for `load_table`, or a data frame.
        file: As for `load_table`.
        schema: Schema of the training table.
        split: "train", "val" or "test" as `load_table` splits the table; None for all rows.
        held_out: As for `load_table`.

    Raises:
        ValueError: If the table does not fit the schema.
    """
    frame, labels, whole = _read(path, dataclasses.replace(file, drop=()), schema)
    values, notes = encode(frame, schema)
    table = labelled(Table(values, None, labels, frame.source, frame.notes), file.labels)
    # Of all rows or none a column of numbers is in another style than plain.
    texts = [name for name in whole.texts if name not in whole.styles]
    rows, labels, chosen = torch.from_numpy(values), table.labels, None
    data = whole.as_text(texts).data
    if split is not None:
        # As in training: without the columns that were dropped.
        width = len([name for name in frame.data.columns if name not in file.drop])
        if held_out is None:
            splits = split_rows(len(data), width, None, frame.source)
        else:
            splits = held_out.split(len(data))
        chosen = splits[SPLITS.index(split)]
        rows, data = rows[torch.from_numpy(chosen)], data[chosen]
        labels = None if labels is None else labels[chosen]
    plain = [name for name in data.columns if name not in whole.styles]

    def cells() -> pl.DataFrame | None:
        if not isinstance(path, str | os.PathLike):
            return None
        found = read_cells(path, plain, file.header)
        return found if found is None or chosen is None else found[chosen]

    return TableRows(rows, labels, (*table.notes, *notes), data, cells)


def blank_table(schema: Schema, name: str, rows: int = 1) -> Dataset:
    """A data set of rows without values, to build a model without the table."""
    empty = torch.full((rows, len(schema.modelled)), torch.nan)
    return Dataset(name, empty, empty[:1], empty[:1], ink=False, schema=schema)
