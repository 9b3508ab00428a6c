"""Load a file or a folder of images as a data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support import memory
from mimachine._support.messages import Option, OptionError
from mimachine.data import preprocessing
from mimachine.data.dataset import Dataset
from mimachine.data.files.image_folder import read_images
from mimachine.data.files.options import File, check_there
from mimachine.data.files.read_table import read_table
from mimachine.data.files.table import Table, check_finite
from mimachine.data.preprocessing import Preprocessing
from mimachine.data.rows import Rows

__all__ = ["Encodable", "blank_dataset", "data_record", "load_file", "read_rows"]

_FEWEST = 10
_MOST_HELD_OUT = 10_000
_MOST_HELD_OUT_VALUES = 1 << 26


def load_file(
    path: str | os.PathLike[str],
    file: File = File(),
    likelihood: str = "auto",
    stored: Mapping[str, Any] | None = None,
) -> Dataset:
    """Load a file or a folder of images and split it for training, validation and test.

    A tenth of the rows are for validation and a fifth for the test, at most 10,000 rows each and
    fewer if rows are long. The split is random but always the same.

    Args:
        path: A .npy, .npz, .csv, .tsv or .parquet file, or a folder of images.
        file: How to read it.
        likelihood: As in `experiment.Model`.
        stored: Result of `data_record` from training, to apply the same preprocessing.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If the data cannot be used, or differ from those of `stored`.
    """
    learned = None if stored is None else Preprocessing.from_json(stored["preprocessing"])
    table = _read(Path(path), file, learned)
    count = len(table.values)
    if count < _FEWEST:
        raise ValueError(
            f"{table.source} must have {_FEWEST} rows or more for training, validation and test "
            f"splits, got {count}"
        )
    if learned is not None and file.labels is not None and table.labels is None:
        raise OptionError(
            Option("labels", file.labels), f" of {table.source} can no longer be found"
        )
    mark = preprocessing.fingerprint(table.values, table.labels)
    if stored is not None and mark != stored["fingerprint"]:
        raise ValueError(
            f"{table.source} has changed since the run began, so its splits would differ. "
            "Restore the old file, or train a new run"
        )
    splits, notes = _split(table.values), table.notes
    if learned is None:
        learned, more = _learn(table, splits[0], file, likelihood)
        notes += more
    data = _dataset(Path(path).name, table, splits, learned)
    return dataclasses.replace(data, fingerprint=mark, notes=notes)


def _learn(
    table: Table, train: NDArray[Any], file: File, likelihood: str
) -> tuple[Preprocessing, tuple[str, ...]]:
    chosen = np.zeros(len(table.values), dtype=bool)
    chosen[train] = True
    return preprocessing.learn(
        table.values,
        chosen,
        likelihood,
        columns=table.columns,
        standardize=file.standardize,
        source=table.source,
    )


def _dataset(
    name: str, table: Table, splits: tuple[NDArray[Any], ...], learned: Preprocessing
) -> Dataset:
    train, val, test = splits
    labels, classes = _classes(table)
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
    if data.preprocessing is None:
        raise ValueError(f"data must come from a file or folder, got {data.name}")
    return {"fingerprint": data.fingerprint, "preprocessing": data.preprocessing.to_json()}


class Encodable(NamedTuple):
    """Rows of a file, ready for a trained model to encode.

    Attributes:
        rows: Shape (N, D), in the order of the file.
        labels: Shape (N,), as stored in the file; None without labels.
        notes: Decisions made in reading the file.
    """

    rows: Tensor | Rows
    labels: NDArray[Any] | None
    notes: tuple[str, ...]


def read_rows(path: str | os.PathLike[str], file: File, learned: Preprocessing) -> Encodable:
    """Read all rows of a file for a trained model to encode.

    Args:
        path: As for `load_file`.
        file: As for `load_file`.
        learned: Preprocessing of the training data.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If the data cannot be used, or differ in shape or range from the training data.
    """
    table = _read(Path(path), file, learned)
    if table.values.shape[1:] != learned.shape:
        raise ValueError(
            f"{table.source} must have rows of shape {learned.shape}, as the training data, "
            f"got {table.values.shape[1:]}"
        )
    _check_range(table, learned)
    rows = Rows(table.values, np.arange(len(table.values)), learned)
    return Encodable(_in_memory_if_small(rows), table.labels, table.notes)


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
        if np.abs(steps - np.rint(steps)).max() > 1e-3:
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
        images = read_images(path, resize=file.resize, colour=colour)
        return Table(images.values, None, images.labels, images.source, images.notes)
    table = read_table(
        path,
        labels=file.labels,
        # The columns that a model expects are matched by name, if they have names.
        drop=file.drop if learned is None or learned.columns is None else (),
        array=file.array,
        columns=None if learned is None else learned.columns,
    )
    check_finite(table.values, table.columns, table.source)
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


def _check_options(path: Path, file: File) -> None:
    """Reject options that would have no effect, and impossible sizes."""
    given = [name for name in ("labels", "drop", "array", "image_shape") if getattr(file, name)]
    if path.is_dir() and given:
        raise OptionError(Option(given[0]), f" applies to files only; {path} is a folder of images")
    if file.resize is not None and not path.is_dir():
        raise OptionError(Option("resize"), f" applies to folders of images only; {path} is a file")
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
    )


def _split(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Indices of the rows for training, validation and test."""
    count, features = len(values), max(1, int(np.prod(values.shape[1:])))
    most = max(1, min(_MOST_HELD_OUT, _MOST_HELD_OUT_VALUES // features))
    num_val, num_test = min(count // 10, most), min(count // 5, most)
    # The draws of this generator never change between versions of numpy.
    order = np.random.RandomState(0).permutation(count)
    return order[num_val + num_test :], order[:num_val], order[num_val : num_val + num_test]


def _in_memory_if_small(rows: Rows) -> Tensor | Rows:
    """Rows as a tensor if they are small, otherwise unchanged."""
    return rows if memory.stays_on_disk(rows.num_bytes) else rows.tensor()


def _classes(table: Table) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Labels (N,) as indices of classes, and the names of the classes."""
    if table.labels is None:
        return None, None
    names, places = np.unique(table.labels, return_inverse=True)
    if len(names) > max(20, len(places) // 2):
        raise ValueError(
            f"labels of {table.source} must be classes, got {len(names)} different labels in "
            f"{len(places)} rows"
        )
    return torch.from_numpy(places.reshape(-1)), tuple(str(name) for name in names)
