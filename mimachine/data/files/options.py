"""Options for reading a file or folder.

This module does not import torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimachine._support.checks import check_fields
from mimachine._support.messages import hint
from mimachine._support.reading import require_regular
from mimachine.data.catalogue import NAMES

__all__ = ["DataChangedError", "File", "check_there", "is_columns", "is_table"]

_TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")


class DataChangedError(ValueError):
    """A file or folder has other content than when a run was trained on it."""


@dataclass(frozen=True)
class File:
    """How to read a file or folder.

    Attributes:
        labels: Class labels: a column of a .csv or .parquet file, an array of an .npz file, or a
            file with one label per line. The model does not see them. Images are labelled by
            their folders.
        drop: Columns to leave out.
        columns: Kinds of columns of a table, such as city=category age=count, where they should not
            be inferred: number, whole, count, category, ordered, boolean, date, datetime, time,
            duration, identifier or drop. Or a .json file of them, {"city": "category"}, or with the
            schema of another table, data.json of its run, which is then read alike: the same
            levels, order and steps.
        array: Array of an .npz file to read; by default x, or the only one.
        image_shape: Height and width, or height, width and channels, if each row is an image.
        resize: Height and width to which the images of a folder are scaled.
        header: Whether the first line of a .csv or .tsv file holds column names. By default it does
            unless all its cells are values.
        split_folders: Whether sub-folders of images called train, val and test are splits, whose
            own sub-folders are the classes. By default they are if there is train and another one,
            and no other sub-folder.
        standardize: Scale columns to mean 0 and standard deviation 1 if p(x|z) is Gaussian.
            Likelihoods are still those of the original values.
    """

    labels: str | None = None
    drop: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    array: str | None = None
    image_shape: tuple[int, ...] | None = None
    resize: tuple[int, int] | None = None
    standardize: bool = True
    header: bool | None = None
    split_folders: bool | None = None

    def __post_init__(self) -> None:
        # In Python also an object of kinds, or one path.
        columns: Any = self.columns
        if isinstance(columns, Mapping):
            columns = (_as_json(columns),)
        elif isinstance(columns, str | os.PathLike):
            columns = (os.fspath(columns),)
        object.__setattr__(self, "columns", columns)
        check_fields(self, "file.")


def _as_json(columns: Mapping[str, Any]) -> str:
    try:
        return json.dumps(columns)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"file.columns must be of names and kinds, or a schema as JSON has it: {error}"
        ) from error


def is_columns(entry: str) -> bool:
    """Whether an entry of `File.columns` is a .json file or its content, in place of NAME=KIND."""
    return entry.startswith("{") or entry.lower().endswith(".json")


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a table: a text or parquet file by its name, or a folder of parquet."""
    place = Path(path).expanduser()
    if place.is_dir():
        return any(place.glob("*.parquet"))
    return place.name.lower().endswith(_TABLES)


def check_there(path: str) -> None:
    """Check that a file or folder exists, or suggest the name of a data set.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If it looks like a misspelt name of a data set; suggests the nearest one. Also
            if it is a pipe or a device.
    """
    place = os.path.expanduser(path)
    if os.path.exists(place):
        if not os.path.isdir(place):
            require_regular(place)
        return
    if os.path.basename(path) == path and "." not in path:
        raise ValueError(f"no data set or file called {path!r}{hint(path, NAMES)}")
    raise FileNotFoundError(f"no file or folder {path}")
