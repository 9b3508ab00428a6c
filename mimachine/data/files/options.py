"""Options for reading a file or folder.

This module does not import torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mimachine._support.checks import check_fields
from mimachine._support.messages import hint
from mimachine._support.reading import require_regular
from mimachine.data.catalogue import NAMES

__all__ = ["DataChangedError", "File", "check_there", "is_table"]

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
            duration, identifier or drop.
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
        check_fields(self, "file.")


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
