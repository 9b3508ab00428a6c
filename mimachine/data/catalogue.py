"""Load data sets by name.

This module does not import torch: `load` imports the module that reads a data set when needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from mimachine._support.messages import unknown

if TYPE_CHECKING:
    from mimachine.data.dataset import Dataset

__all__ = ["BINARISED", "CATALOGUE", "IMAGES", "LOW_DIMENSIONAL", "NAMES", "NamedSet", "load"]


class NamedSet(NamedTuple):
    """How to load a named data set, and what default settings depend on.

    Attributes:
        module: Module of `mimachine.data` that loads it.
        function: Function of the module; it takes no arguments and returns a `Dataset`.
        rows: Number of training rows.
        images: Whether rows are images. The other data sets have few continuous dimensions.
        binarised: Whether image models binarise it, as the paper does.
    """

    module: str
    function: str
    rows: int
    images: bool = False
    binarised: bool = False


CATALOGUE = {
    "digits": NamedSet("bundled", "digits", 1257, images=True),
    "mixture-2d": NamedSet("bundled", "mixture_2d", 10_000),
    "mixture-20d": NamedSet("bundled", "mixture_20d", 10_000),
    "mnist": NamedSet("image_sets", "mnist", 50_000, images=True, binarised=True),
    "fashion-mnist": NamedSet("image_sets", "fashion_mnist", 50_000, images=True, binarised=True),
    "omniglot": NamedSet("image_sets", "omniglot", 23_000, images=True, binarised=True),
    "omniglot-small": NamedSet("image_sets", "omniglot_small", 3388, images=True, binarised=True),
    "pca-fashion-mnist": NamedSet("fashion_pca", "pca_fashion_mnist", 50_000),
    "pca-fashion-mnist-published": NamedSet("fashion_pca", "pca_fashion_mnist_published", 60_000),
}

NAMES = tuple(CATALOGUE)
IMAGES = tuple(name for name, entry in CATALOGUE.items() if entry.images)
BINARISED = tuple(name for name, entry in CATALOGUE.items() if entry.binarised)
LOW_DIMENSIONAL = tuple(name for name, entry in CATALOGUE.items() if not entry.images)


def load(name: str) -> Dataset:
    """Load a data set by its name.

    Args:
        name: One of `NAMES`.

    Raises:
        ValueError: If the name is unknown (suggests the nearest one), or if a file of the data
            set has unexpected content.
        FileNotFoundError: If a file of the data set is missing and cannot be downloaded.
    """
    if name not in CATALOGUE:
        raise ValueError(unknown("data", str(name), NAMES))
    entry = CATALOGUE[name]
    module = importlib.import_module(f"mimachine.data.{entry.module}")
    found: Dataset = getattr(module, entry.function)()
    return found
