"""Data sets that need no files: digits and the paper's Gaussian mixtures."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.model.distributions import DiagNormal, Mixture

__all__ = ["digits", "mixture_20d", "mixture_2d"]

# Rows of scikit-learn's digits in training, validation and test data, one after the other.
_SPLIT = Path(__file__).with_name("digits_split.npy")


def digits() -> Dataset:
    """Handwritten digits of 8 × 8 pixels with 17 grey levels, from scikit-learn.

    1,257 training, 180 validation and 360 test images, each class split in the same proportions.

    References:
        Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), UCI repository
    """
    table = _digits_of_scikit_learn()[np.load(_SPLIT)]
    images = torch.as_tensor(table[:, :-1] / 16, dtype=torch.float32)
    labels = torch.as_tensor(table[:, -1], dtype=torch.long)
    train, val, test = images.split([1257, 180, 360])
    of_train, of_val, of_test = labels.split([1257, 180, 360])
    return Dataset(
        "digits",
        train,
        val,
        test,
        of_train,
        of_val,
        of_test,
        image_shape=(1, 8, 8),
        levels=17,
    )


def _digits_of_scikit_learn() -> NDArray[np.float64]:
    """Grey levels and class of each image.

    The file is read where scikit-learn has it: to import scikit-learn takes as long as torch.
    """
    found = importlib.util.find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.exists():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    return np.column_stack(load_digits(return_X_y=True))


def mixture_2d(num_data: int = 10_000) -> Dataset:
    """Two-dimensional Gaussian mixture of the paper's figures 1, 2, 7 and 8.

    Five isotropic components of weight 1/5 and standard deviation 0.25, one at the origin and
    four on the unit circle at 0, 72, 144 and 216 degrees. The paper does not give the means; they
    are from the authors' released code and match figure 1.

    Args:
        num_data: Number of draws in each split.
    """
    return _mixture("mixture-2d", _planar_means(), num_data)


def mixture_20d(num_data: int = 10_000) -> Dataset:
    """Gaussian mixture in 20 dimensions: `mixture_2d` and 18 more coordinates.

    These coordinates separate the components widely. The paper does not give their means; they
    are from the authors' released code: component i has the entries [i, 2:20] of 100 numbers from
    -50 to 50, evenly spaced, in shape (5, 20). The standard deviation is 0.25 in every coordinate,
    so the components do not overlap. The data are not standardised: they test bad scaling more
    than an objective.

    Args:
        num_data: Number of draws in each split.
    """
    further = torch.linspace(-50, 50, 100).reshape(5, 20)[:, 2:]
    means = torch.cat([_planar_means(), further], dim=1)
    return _mixture("mixture-20d", means, num_data)


def _planar_means() -> Tensor:
    """The origin and four vertices of a regular pentagon, shape (5, 2)."""
    angles = [2 * math.pi * i / 5 for i in range(4)]
    return torch.tensor([(0.0, 0.0), *((math.cos(a), math.sin(a)) for a in angles)])


def _mixture(name: str, means: Tensor, num_data: int) -> Dataset:
    """Draws from a mixture of K equal components with standard deviation 0.25 and means (K, D)."""
    components = DiagNormal(means, torch.full_like(means, 0.25))
    distribution = Mixture(torch.zeros(len(means)), components)

    def split(purpose: str) -> tuple[Tensor, Tensor]:
        with forked(derived_seed(0, name, purpose)):
            return distribution.sample_with_component((num_data,))

    (train, train_labels), (val, val_labels), (test, test_labels) = map(
        split, ("train", "val", "test")
    )
    return Dataset(
        name,
        train,
        val,
        test,
        train_labels,
        val_labels,
        test_labels,
        distribution=distribution,
    )
