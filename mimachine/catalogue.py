"""Catalogue: the data sets that commands know by name."""

from __future__ import annotations

from collections.abc import Callable

from mimachine._support.messages import unknown
from mimachine.clothing import pca_fashion_mnist, pca_fashion_mnist_published
from mimachine.datasets import Dataset, digits, mixture_2d, mixture_20d
from mimachine.imagesets import fashion_mnist, mnist, omniglot, omniglot_small

__all__ = ["DATASETS", "load"]

DATASETS: dict[str, Callable[[], Dataset]] = {
    "digits": digits,
    "mixture-2d": mixture_2d,
    "mixture-20d": mixture_20d,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "omniglot": omniglot,
    "omniglot-small": omniglot_small,
    "pca-fashion-mnist": pca_fashion_mnist,
    "pca-fashion-mnist-published": pca_fashion_mnist_published,
}


def load(name: str) -> Dataset:
    """Load a data set by its name.

    Raises:
        ValueError: If there is no such data set; the nearest name is suggested. If a file of it
            has other content than it should.
        FileNotFoundError: If a file of it is nowhere to be had.
    """
    if name not in DATASETS:
        raise ValueError(unknown("data", name, DATASETS))
    return DATASETS[name]()
