"""Select the data to apply a trained model to."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from mimachine.data.catalogue import NAMES
from mimachine.data.dataset import Dataset
from mimachine.data.files.load import Encodable, read_rows
from mimachine.workflow.load_run import Trained
from mimachine.workflow.prepare_run import is_binarized, prepare

__all__ = ["select"]


def select(trained: Trained, data: str | None = None, split: str | None = None) -> Encodable:
    """Select the data to apply a trained model to.

    Args:
        trained: The run with the model.
        data: Name of a data set, or path of a file or folder; None: the training data of the run.
        split: "train", "val", "test", or "all", which is all rows of a file or folder in their
            order. Default: "all" for files and folders, "test" for named data sets.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the data do not have the format of the training data.
    """
    settings = trained.experiment
    name = settings.data.name if data is None else data
    own = name == settings.data.name or os.path.abspath(name) == settings.data.name
    if name in NAMES or (own and split not in (None, "all")):
        found = trained.data
        if not own and trained.data.preprocessing is not None:
            raise ValueError(
                f"data must be a file or a folder like {trained.data.name}, which the run was "
                f"trained on, got {name}"
            )
        if not own:
            chosen = replace(settings.data, name=name)
            found = prepare(replace(settings, data=chosen))
        return _rows_of_split(trained, found, split or "test")
    if split not in (None, "all"):
        raise ValueError(f"split must be all for {name}, which the run did not split; got {split}")
    learned = trained.data.preprocessing
    if learned is None:
        raise ValueError(
            f"data must be a named data set, because the run was trained on {trained.data.name}; "
            f"got {name}"
        )
    file = settings.data.file
    if not own and file.labels is not None and os.path.isfile(file.labels):
        # The label file belongs to the rows of the training file.
        file = replace(file, labels=None)
    read = read_rows(name, file, learned)
    if not is_binarized(settings, trained.data):
        return read
    note = "grey values are encoded without binarisation; training used binarised values"
    return read._replace(notes=(*read.notes, note))


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
