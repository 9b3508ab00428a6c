"""Options for reading a file or folder of your own.

This module does not import torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mimachine._support.messages import unknown
from mimachine.data.catalogue import NAMES

__all__ = [
    "File",
    "check_there",
]


@dataclass(frozen=True)
class File:
    """How to read a file or a folder of one's own.

    Attributes:
        labels: Column of a .csv or .parquet file, or array of an .npz file, with the classes of
            the rows; or a file of one class a line. The model does not see them. Images have the
            names of their folders.
        drop: Columns to leave out.
        array: Array of an .npz file to read; by default x, or the only one.
        image_shape: Height and width, or height, width and channels, of the images that rows are.
        resize: Height and width to bring the images of a folder to.
        standardize: Bring columns to mean 0 and standard deviation 1 where p(x|z) is Gaussian.
            Likelihoods are those of the original values all the same.
    """

    labels: str | None = None
    drop: tuple[str, ...] = ()
    array: str | None = None
    image_shape: tuple[int, ...] | None = None
    resize: tuple[int, int] | None = None
    standardize: bool = True


def check_there(path: str) -> None:
    """See that there is a file or folder; a word may be the misspelt name of a data set.

    Raises:
        FileNotFoundError: If there is none at what looks like a path.
        ValueError: If it looks like a name; the nearest name is suggested.
    """
    if os.path.exists(path):
        return
    if os.path.basename(path) == path and "." not in path:
        raise ValueError(f"{unknown('data', path, NAMES)}; nor is there a file or folder of it")
    raise FileNotFoundError(f"there is no file or folder {path}")
