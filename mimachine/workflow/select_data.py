"""Select the data to apply a trained model to."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np

from mimachine._support.checks import one_of
from mimachine.data.catalogue import NAMES
from mimachine.data.dataset import Dataset
from mimachine.data.files.labels import is_label_file
from mimachine.data.files.load import Encodable, read_rows
from mimachine.data.files.splits import SPLITS
from mimachine.workflow.load_run import Trained
from mimachine.workflow.prepare_run import is_binarized, prepare
from mimachine.workflow.tables.stored_frame import is_frame

__all__ = ["select"]


def select(trained: Trained, data: str | Any | None = None, split: str | None = None) -> Encodable:
    """Select the data to apply a trained model to.

    Args:
        trained: The run with the model.
        data: Name of a data set, path of a file or folder, or for a run on a table a data frame;
            None: the training data of the run.
        split: "train", "val", "test", or "all", which is all rows of a file or folder in their
            order. Default: "all" for files and folders, "test" for named data sets.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the data do not have the format of the training data.
    """
    if split is not None:
        one_of("split", split, (*SPLITS, "all"))
    settings = trained.experiment
    if is_frame(data):
        return _of_frame(trained, data, split)
    name = settings.data.name if data is None else data
    own = name == settings.data.name or os.path.abspath(name) == settings.data.name
    is_split = split is not None and split != "all"
    if name in NAMES:
        return _rows_of_split(trained, _named(trained, name, own), split or "test")
    binarized = is_binarized(settings, trained.data)
    if own and is_split and binarized:
        # With the draws of the evaluation.
        return _rows_of_split(trained, trained.data, split or "test")
    if is_split and not own:
        raise ValueError(f"split must be all for {name}, which the run did not split; got {split}")
    learned = trained.data.schema or trained.data.preprocessing
    if learned is None:
        raise ValueError(
            f"data must be a named data set, because the run was trained on {trained.data.name}; "
            f"got {name}"
        )
    file = settings.data.file
    if not own and is_label_file(file.labels):
        # The label file belongs to the rows of the training file.
        file = replace(file, labels=None)
    held_out = trained.data.held_out
    read = read_rows(name, file, learned, split if is_split else None, held_out)
    if not binarized:
        return read
    note = "grey values are encoded without binarisation; training used binarised values"
    return read._replace(notes=(*read.notes, note))


def _of_frame(trained: Trained, data: Any, split: str | None) -> Encodable:
    """All rows of a data frame."""
    if trained.data.schema is None:
        raise ValueError(
            f"data must be a file or folder like {trained.data.name}, or a data set; data frames "
            "are for runs on tables"
        )
    if split not in (None, "all"):
        raise ValueError(f"split must be all for a data frame, got {split}")
    file = replace(trained.experiment.data.file, labels=None)
    return read_rows(data, file, trained.data.schema)


def _named(trained: Trained, name: str, own: bool) -> Dataset:
    """A named data set."""
    if own:
        return trained.data
    if trained.data.schema is not None or trained.data.preprocessing is not None:
        raise ValueError(
            f"data must be a file or a folder like {trained.data.name}, which the run was trained "
            f"on, got {name}"
        )
    settings = trained.experiment
    return prepare(replace(settings, data=replace(settings.data, name=name)))


def _rows_of_split(trained: Trained, data: Dataset, split: str) -> Encodable:
    if split == "all":
        raise ValueError(f"split must be train, val or test for {data.name}, got all")
    expected, actual = trained.data.train.shape[1], data.train.shape[1]
    if actual != expected:
        raise ValueError(
            f"data must have {expected} columns, as the run's {trained.data.name} has; "
            f"{data.name} has {actual}"
        )
    labels = getattr(data, f"{split}_labels")
    if labels is not None:
        labels = labels.numpy() if data.classes is None else np.array(data.classes)[labels.numpy()]
    return Encodable(getattr(data, split), labels, ())
