"""User's data: a file or a folder of one's own as a data set, treated alike by every command."""

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
from mimachine.data import preprocessing
from mimachine.data.dataset import Dataset
from mimachine.data.files.image_folder import read_images
from mimachine.data.files.options import File, check_there
from mimachine.data.files.read_table import read_table
from mimachine.data.files.table import Table, check_finite
from mimachine.data.preprocessing import Preprocessing
from mimachine.data.rows import Rows

__all__ = [
    "Encodable",
    "blank_dataset",
    "data_record",
    "load_file",
    "read_rows",
]


_FEWEST = 10
_MOST_HELD_OUT = 10_000
_MOST_HELD_OUT_VALUES = 1 << 26


def load_file(
    path: str | os.PathLike[str],
    file: File = File(),
    likelihood: str = "auto",
    stored: Mapping[str, Any] | None = None,
) -> Dataset:
    """Read a file or a folder of images and split it.

    A tenth of the rows is for validation and a fifth for the test, at most 10,000 rows each and
    fewer if they are long; which ones is the same each time.

    Args:
        path: A .npy, .npz, .csv, .tsv or .parquet file, or a folder of images.
        file: How to read it.
        likelihood: As in `experiment.Model`.
        stored: What `record` gave when a model was trained on it; the data are treated as then.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If the data cannot be used: what is wrong with them, and where. If they are not
            those that were stored.
    """
    learned = None if stored is None else Preprocessing.from_json(stored["preprocessing"])
    table = _read(Path(path), file, learned)
    count = len(table.values)
    if count < _FEWEST:
        raise ValueError(
            f"{table.source} must have {_FEWEST} rows or more for a training, a validation and a "
            f"test split, got {count}"
        )
    if learned is not None and file.labels is not None and table.labels is None:
        raise ValueError(f"--labels {file.labels} of {table.source} are not there any more")
    mark = preprocessing.fingerprint(table.values, table.labels)
    if stored is not None and mark != stored["fingerprint"]:
        raise ValueError(
            f"{table.source} has changed since the run began; its rows would be split otherwise. "
            "Put the old file back, or train a new run"
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
        _held(Rows(table.values, train, learned)),
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
    """What a run has to keep of a user's data, as JSON values."""
    if data.preprocessing is None:
        raise ValueError(f"{data.name} is no user's data: there is nothing to keep")
    return {"fingerprint": data.fingerprint, "preprocessing": data.preprocessing.to_json()}


class Encodable(NamedTuple):
    """Rows ready for a trained model, such as all of a file in its order.

    Attributes:
        rows: Shape (N, D).
        labels: Shape (N,), as the file has them, or none.
        notes: What was decided when the file was read.
    """

    rows: Tensor | Rows
    labels: NDArray[Any] | None
    notes: tuple[str, ...]


def read_rows(path: str | os.PathLike[str], file: File, learned: Preprocessing) -> Encodable:
    """Read all rows of a file for a model that was trained on data like them.

    Args:
        path: As for `load`.
        file: As for `load`.
        learned: The preprocessing that the model was trained with.

    Raises:
        FileNotFoundError: If there is nothing at `path`.
        ValueError: If the data cannot be used, or are not like those.
    """
    table = _read(Path(path), file, learned)
    if table.values.shape[1:] != learned.shape:
        raise ValueError(
            f"{table.source} must have rows of shape {learned.shape}, as the training data had, "
            f"got {table.values.shape[1:]}"
        )
    _check_range(table, learned)
    rows = Rows(table.values, np.arange(len(table.values)), learned)
    return Encodable(_held(rows), table.labels, table.notes)


def _check_range(table: Table, learned: Preprocessing) -> None:
    """Grey levels and bits have a range and a grid, which data in other units miss."""
    if learned.likelihood == "gaussian":
        return
    scale = float(learned.scale)
    for start in range(0, len(table.values), 1000):
        block = np.asarray(table.values[start : start + 1000], dtype=np.float64)
        low, high = block.min(), block.max()
        if low < 0 or high > scale:
            raise ValueError(
                f"{table.source} must have values in [0, {scale:g}], as the training data had, "
                f"got [{low:g}, {high:g}]"
            )
        steps = block * ((learned.levels or 1) - 1) / scale
        if np.abs(steps - np.rint(steps)).max() > 1e-3:
            raise ValueError(
                f"{table.source} must have values on the {learned.levels} levels from 0 to "
                f"{scale:g}, as the training data had, got others in [{low:g}, {high:g}]"
            )
        memory.release(table.values)


def _read(path: Path, file: File, learned: Preprocessing | None) -> Table:
    """Values and labels of a file or a folder, all finite."""
    check_there(str(path))
    _check_options(path, file)
    if path.is_dir():
        colour = None if learned is None else len(learned.shape) == 3
        images = read_images(path, resize=file.resize, colour=colour)
        return Table(images.values, None, images.labels, images.source, images.notes)
    table = read_table(
        path,
        labels=file.labels,
        # The columns that a model expects are taken by name, where they have names.
        drop=file.drop if learned is None or learned.columns is None else (),
        array=file.array,
        columns=None if learned is None else learned.columns,
    )
    check_finite(table.values, table.columns, table.source)
    if file.image_shape is None:
        return table
    if np.prod(file.image_shape) != np.prod(table.values.shape[1:]):
        raise ValueError(
            f"image_shape must have as many pixels as a row of {table.source}, "
            f"{np.prod(table.values.shape[1:])}, got {file.image_shape}"
        )
    values = table.values.reshape(len(table.values), *file.image_shape)
    return Table(values, None, table.labels, table.source, table.notes)


def _check_options(path: Path, file: File) -> None:
    """Refuse options that would have no effect."""
    of_tables = {
        "--labels": file.labels,
        "--drop": file.drop,
        "--array": file.array,
        "--image-shape": file.image_shape,
    }
    given = [name for name, value in of_tables.items() if value]
    if path.is_dir() and given:
        raise ValueError(f"{given[0]} is for files; {path} is a folder of images")
    if file.resize is not None and not path.is_dir():
        raise ValueError(f"--resize is for folders of images; {path} is a file")
    sides = file.image_shape
    if sides is not None and (len(sides) not in (2, 3) or min(sides) < 1):
        raise ValueError(
            f"image_shape must be a height and a width, and channels if there are several, all 1 "
            f"or more, got {sides}"
        )


def blank_dataset(stored: Mapping[str, Any], name: str, rows: int = 1) -> Dataset:
    """A data set of zeros in the place of a user's data, to build their model without them.

    Args:
        stored: What `record` gave.
        name: What to call it.
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
    """Places of the rows for training, validation and test."""
    count, features = len(values), max(1, int(np.prod(values.shape[1:])))
    most = max(1, min(_MOST_HELD_OUT, _MOST_HELD_OUT_VALUES // features))
    num_val, num_test = min(count // 10, most), min(count // 5, most)
    # numpy keeps what this generator draws the same for ever.
    order = np.random.RandomState(0).permutation(count)
    return order[num_val + num_test :], order[:num_val], order[num_val : num_val + num_test]


def _held(rows: Rows) -> Tensor | Rows:
    """Rows as a tensor, if that takes little of the memory."""
    return rows if memory.stays_on_disk(rows.num_bytes) else rows.tensor()


def _classes(table: Table) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Labels (N,) as places in the names of the classes."""
    if table.labels is None:
        return None, None
    names, places = np.unique(table.labels, return_inverse=True)
    if len(names) > max(20, len(places) // 2):
        raise ValueError(
            f"labels of {table.source} must be classes; {len(names)} different ones in "
            f"{len(places)} rows are none"
        )
    return torch.from_numpy(places.reshape(-1)), tuple(str(name) for name in names)
