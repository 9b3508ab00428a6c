"""Load a file or a folder of images as a data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support import memory
from mimachine._support.messages import Option, OptionError, some
from mimachine.data.dataset import Dataset
from mimachine.data.files.image_folder import read_images
from mimachine.data.files.labels import is_label_file, lost_labels
from mimachine.data.files.options import File, check_there, is_table
from mimachine.data.files.read_table import read_table
from mimachine.data.files.splits import (
    NO_TEST,
    SPLITS,
    HoldOut,
    check_unchanged,
    class_indices,
    split_rows,
)
from mimachine.data.files.table import Table
from mimachine.data.learn_preprocessing import learn
from mimachine.data.preprocessing import Preprocessing, fingerprint, rounding
from mimachine.data.rows import Rows
from mimachine.data.tables.load import blank_table, load_table, read_table_rows
from mimachine.data.tables.schema import Schema

__all__ = [
    "Encodable",
    "blank_dataset",
    "data_record",
    "load_array",
    "load_file",
    "read_rows",
]

# Standard deviations from the mean beyond which a value is probably an error.
_FAR = 1000


def load_file(
    path: str | os.PathLike[str],
    file: File = File(),
    likelihood: str = "auto",
    stored: Mapping[str, Any] | None = None,
) -> Dataset:
    """Load a file or a folder of images and split it for training, validation and test.

    Tables are loaded as `load_table` does, unless the likelihood or an option asks for numbers.

    A tenth of the rows are for validation and a fifth for the test, at most 10,000 rows each and
    fewer if rows are long. The split is random but always the same.

    Args:
        path: A .npy, .npz, .csv, .tsv or .parquet file, or a folder of images.
        file: How to read it.
        likelihood: As in `experiment.Model`, or "numbers": "auto" for an array of numbers.
        stored: Result of `data_record` from training, to apply the same preprocessing.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If the data cannot be used, or differ from those of `stored`.
    """
    held_out = None if stored is None else _held_out(stored)
    if _by_columns(path, file, likelihood, stored):
        return _with_note(load_table(path, file, stored, held_out))
    learned = None if stored is None else Preprocessing.from_json(stored["preprocessing"])
    table = _read(Path(path), file, learned)
    splits, notes = _split(table, held_out), table.notes
    if learned is not None and file.labels is not None and table.labels is None:
        raise ValueError(lost_labels(file.labels, table.source))
    mark = fingerprint(table.values, table.labels, table.splits)
    if stored is not None:
        check_unchanged(mark, stored["fingerprint"], table.source)
    if learned is None:
        learned, more = _learn(table, splits[0], file, likelihood)
        notes += more
    data = _dataset(Path(path).name, table, splits, learned)
    for name, rows in (("validation", data.val), ("test", data.test)):
        notes += _far_notes(rows, learned, f"the {name} rows")
    return _with_note(dataclasses.replace(data, fingerprint=mark, notes=notes, held_out=held_out))


def _with_note(data: Dataset) -> Dataset:
    """Data with a note if no rows are for a test."""
    return (
        data if data.held_out is None else dataclasses.replace(data, notes=(*data.notes, NO_TEST))
    )


def load_array(values: NDArray[Any], likelihood: str, held_out: HoldOut, source: str) -> Dataset:
    """An array in memory as a data set.

    Args:
        values: Finite values, shape (N, *S).
        likelihood: As for `load_file`.
        held_out: Choice of the rows for validation.
        source: Name of the data in messages.

    Raises:
        ValueError: If the values do not fit the likelihood, or no column varies.
    """
    table = Table(values, None, None, source)
    splits = held_out.split(len(values))
    learned, notes = _learn(table, splits[0], File(), likelihood)
    data = _dataset(source, table, splits, learned)
    mark = fingerprint(values)
    return dataclasses.replace(data, fingerprint=mark, notes=notes, held_out=held_out)


def _by_columns(
    path: str | os.PathLike[str], file: File, likelihood: str, stored: Mapping[str, Any] | None
) -> bool:
    """Whether data are a table whose columns have kinds, in place of an array of numbers."""
    if stored is not None:
        return stored.get("schema") is not None
    given = [
        name
        for name, used in (
            ("image_shape", file.image_shape is not None),
            ("standardize", not file.standardize),
        )
        if used
    ]
    fits = not given and is_table(path)
    if likelihood == "columns" and not fits:
        what = f"with {' and '.join(given)}" if given else f"of {path}"
        raise ValueError(
            f'model.likelihood "columns" is for tables, .csv, .tsv and .parquet, got data {what}'
        )
    by_columns = fits and likelihood in ("auto", "columns")
    if by_columns:
        _check_other_options(path, file)
    if file.columns and not by_columns:
        raise OptionError(
            Option("columns", list(file.columns)),
            f" is for tables whose columns have kinds, got {path}",
        )
    return by_columns


def _learn(
    table: Table, train: NDArray[Any], file: File, likelihood: str
) -> tuple[Preprocessing, tuple[str, ...]]:
    chosen = np.zeros(len(table.values), dtype=bool)
    chosen[train] = True
    return learn(
        table.values,
        chosen,
        likelihood,
        columns=table.columns,
        booleans=table.boolean_columns,
        types=table.types,
        standardize=file.standardize,
        source=table.source,
    )


def _dataset(
    name: str, table: Table, splits: tuple[NDArray[Any], ...], learned: Preprocessing
) -> Dataset:
    train, val, test = splits
    labels, classes = class_indices(table)
    train_labels, val_labels, test_labels = (
        None if labels is None else labels[places] for places in splits
    )
    return Dataset(
        name,
        _in_memory_if_small(Rows(table.values, train, learned)),
        Rows(table.values, val, learned).tensor(),
        Rows(table.values, test, learned).tensor(),
        train_labels,
        val_labels,
        test_labels,
        image_shape=learned.image_shape,
        levels=learned.levels,
        ink=False,
        classes=classes,
        preprocessing=learned,
    )


def data_record(data: Dataset) -> dict[str, Any]:
    """What a run stores about data from a file, as JSON values."""
    record: dict[str, Any] = {"fingerprint": data.fingerprint}
    if data.held_out is not None:
        record["held_out"] = dataclasses.asdict(data.held_out)
    if data.schema is not None:
        return {**record, "preprocessing": None, "schema": data.schema.to_json()}
    if data.preprocessing is None:
        raise ValueError(f"data must come from a file or folder, got {data.name}")
    return {**record, "preprocessing": data.preprocessing.to_json()}


def _held_out(stored: Mapping[str, Any]) -> HoldOut | None:
    found = stored.get("held_out")
    return None if found is None else HoldOut(**found)


class Encodable(NamedTuple):
    """Rows of a file, ready for a trained model to encode.

    Attributes:
        rows: Shape (N, D), in the order of the file.
        labels: Shape (N,), as stored in the file; None without labels.
        notes: Decisions made in reading the file.
        values: Values of the rows as the file has them, shape (N, *S); None if they are not read
            from a file.
        table: The rows as the file has them, if it is a table whose columns have kinds; a data
            frame of polars.
        cells: Reads the cells of such a table as text, as the file has them; the result is None for
            other files than text.
    """

    rows: Tensor | Rows
    labels: NDArray[Any] | None
    notes: tuple[str, ...]
    values: NDArray[Any] | None = None
    table: Any = None
    cells: Callable[[], Any] | None = None


def read_rows(
    path: str | os.PathLike[str],
    file: File,
    learned: Preprocessing | Schema,
    split: str | None = None,
    held_out: HoldOut | None = None,
) -> Encodable:
    """Read rows of a file for a trained model to encode.

    Args:
        path: As for `load_file`.
        file: As for `load_file`.
        learned: Preprocessing of the training data, or the schema of a table.
        split: "train", "val" or "test" as `load_file` splits the file; None: all rows.
        held_out: Choice of the rows for validation, if none are for a test.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If the data cannot be used, or differ in shape or range from the training data.
    """
    if isinstance(learned, Schema):
        found = read_table_rows(path, file, learned, split, held_out)
        return Encodable(
            found.rows, found.labels, found.notes, table=found.table, cells=found.cells
        )
    table = _read(Path(path), file, learned)
    if table.values.shape[1:] != learned.shape:
        raise ValueError(
            f"{table.source} must have rows of shape {learned.shape}, as the training data, "
            f"got {table.values.shape[1:]}"
        )
    _check_range(table, learned)
    notes = table.notes + _constant_notes(table, learned)
    places, values, labels = np.arange(len(table.values)), table.values, table.labels
    if split is not None:
        places = dict(zip(SPLITS, _split(table, held_out), strict=True))[split]
        values, labels = values[places], None if labels is None else labels[places]
    rows = _in_memory_if_small(Rows(table.values, places, learned))
    notes += _far_notes(rows, learned, table.source)
    return Encodable(rows, labels, notes, values)


def _constant_notes(table: Table, learned: Preprocessing) -> tuple[str, ...]:
    """A warning if values that were constant in training, and are not used, differ now."""
    if learned.kept is None or learned.constants is None:
        return ()
    left_out = np.setdiff1d(np.arange(learned.constants.size), learned.kept)
    differing = np.zeros(len(left_out), dtype=bool)
    for rows in memory.blocks(table.values):
        block = table.values[rows]
        flat = block.reshape(len(block), -1)[:, left_out]
        differing |= (flat != learned.constants[left_out]).any(0)
    places = left_out[differing]
    if not len(places):
        return ()
    if len(places) > 1:
        return (
            f"warning: columns {_names(learned, places)} of {table.source} have values other than "
            "the only one of each in training; they are not used",
        )
    return (
        f"warning: column {_names(learned, places)} of {table.source} has values other than "
        f"{learned.constants[places[0]]:g}, the only one in training; they are not used",
    )


def _names(learned: Preprocessing, places: Iterable[int]) -> str:
    """Some columns by name, or by number from 1."""
    return some(repr(learned.columns[k]) if learned.columns else str(k + 1) for k in places)


def _far_notes(rows: Tensor | Rows, learned: Preprocessing, where: str) -> tuple[str, ...]:
    """A warning if values are very far from those of the training rows; names the columns."""
    if not learned.standardized:
        return ()
    extremes = torch.zeros(rows.shape[1])
    for block in rows.split(memory.rows_at_once(tuple(rows.shape))):
        size, at = block.abs().max(0)
        extremes = torch.where(size > extremes.abs(), block.gather(0, at[None])[0], extremes)
    far = extremes.abs().numpy()
    values = learned.restore(extremes[None].numpy()).reshape(-1)
    places = np.arange(len(far)) if learned.kept is None else learned.kept
    worst, *others = [k for k in np.argsort(-far, kind="stable") if far[k] >= _FAR] or [None]
    if worst is None:
        return ()
    what = "column" if len(others) == 1 else "columns"
    also = f", and {what} {_names(learned, places[others])} have such values too" if others else ""
    return (
        f"warning: column {_names(learned, places[[worst]])} of {where} has the value "
        f"{values[places[worst]]:.6g}, {far[worst]:,.0f} standard deviations from the mean of the "
        f"training rows{also}; if it marks a missing value or is an error, remove the row",
    )


def _check_range(table: Table, learned: Preprocessing) -> None:
    """Check that grey levels or bits are in the range and on the grid of the training data."""
    if learned.likelihood == "gaussian":
        return
    scale = float(learned.scale)
    for start in range(0, len(table.values), 1000):
        block = np.asarray(table.values[start : start + 1000], dtype=np.float64)
        low, high = block.min(), block.max()
        if low < 0 or high > scale:
            raise ValueError(
                f"{table.source} must have values in [0, {scale:g}], as the training data, "
                f"got [{low:g}, {high:g}]"
            )
        steps = block * ((learned.levels or 1) - 1) / scale
        if np.abs(steps - np.rint(steps)).max() > rounding(learned.levels or 1, table.values.dtype):
            raise ValueError(
                f"{table.source} must have values on the {learned.levels} levels from 0 to "
                f"{scale:g}, as the training data, got others in [{low:g}, {high:g}]"
            )
        memory.release(table.values)


def _read(path: Path, file: File, learned: Preprocessing | None) -> Table:
    """Read finite values, and labels, from a file or folder."""
    check_there(str(path))
    _check_options(path, file)
    if path.is_dir():
        colour = None if learned is None else len(learned.shape) == 3
        # Another folder, to encode, need not have the sub-folders of the training data.
        splits = file.split_folders if learned is None or file.split_folders is False else None
        images = read_images(path, resize=file.resize, colour=colour, split_folders=splits)
        return Table(
            images.values, None, images.labels, images.source, images.notes, splits=images.splits
        )
    lost = learned is not None and is_label_file(file.labels) and not os.path.isfile(file.labels)
    table = read_table(
        path,
        labels=None if lost else file.labels,
        # The columns that a model expects are matched by name, if they have names.
        drop=file.drop if learned is None or learned.columns is None else (),
        array=file.array,
        columns=None if learned is None else learned.columns,
        header=file.header,
    )
    if lost:
        table = dataclasses.replace(
            table, notes=(*table.notes, f"no labels: no file {file.labels}")
        )
    if file.image_shape is None:
        return table
    if np.prod(file.image_shape) != np.prod(table.values.shape[1:]):
        raise OptionError(
            Option("image_shape"),
            f" must have as many pixels as a row of {table.source} has values, "
            f"{np.prod(table.values.shape[1:])}, got {file.image_shape}",
        )
    values = table.values.reshape(len(table.values), *file.image_shape)
    return Table(values, None, table.labels, table.source, table.notes)


def _check_other_options(path: str | os.PathLike[str], file: File) -> None:
    """Reject options of images and arrays for a table, where they would have no effect."""
    for name in ("resize", "split_folders"):
        if getattr(file, name) is not None:
            raise OptionError(
                Option(name), f" applies to folders of images only; {path} is a table"
            )
    if file.array is not None:
        raise OptionError(Option("array", file.array), f" applies to .npz files only, got {path}")


def _check_options(path: Path, file: File) -> None:
    """Reject options that would have no effect, and impossible sizes."""
    defaults = File()
    given = [
        f.name
        for f in dataclasses.fields(file)
        if getattr(file, f.name) != getattr(defaults, f.name)
    ]
    of_folders, of_both = ("resize", "split_folders"), ("standardize",)
    for name in given:
        if path.is_dir() and name not in (*of_folders, *of_both):
            raise OptionError(Option(name), f" applies to files only; {path} is a folder of images")
        if not path.is_dir() and name in of_folders:
            raise OptionError(Option(name), f" applies to folders of images only; {path} is a file")
    sides = file.image_shape
    if sides is not None and (len(sides) not in (2, 3) or min(sides) < 1):
        raise OptionError(
            Option("image_shape"),
            f" must be a height, a width and optionally channels, all at least 1, got {sides}",
        )


def blank_dataset(stored: Mapping[str, Any], name: str, rows: int = 1) -> Dataset:
    """A data set of zeros, to build a model without the file it was trained on.

    Args:
        stored: Result of `data_record`.
        name: Name of the data set.
        rows: Number of training rows.
    """
    if stored.get("schema") is not None:
        blank = blank_table(Schema.from_json(stored["schema"]), name, rows)
        return dataclasses.replace(blank, held_out=_held_out(stored))
    learned = Preprocessing.from_json(stored["preprocessing"])
    zeros = torch.zeros(rows, learned.num_features)
    return Dataset(
        name,
        zeros,
        zeros[:1],
        zeros[:1],
        image_shape=learned.image_shape,
        levels=learned.levels,
        ink=False,
        preprocessing=learned,
        held_out=_held_out(stored),
    )


def _split(
    table: Table, held_out: HoldOut | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Indices of the rows of a table for training, validation and test."""
    if held_out is not None:
        return held_out.split(len(table.values))
    features = int(np.prod(table.values.shape[1:]))
    return split_rows(len(table.values), features, table.splits, table.source)


def _in_memory_if_small(rows: Rows) -> Tensor | Rows:
    """Rows as a tensor if they are small, otherwise unchanged."""
    return rows if memory.stays_on_disk(rows.num_bytes) else rows.tensor()
