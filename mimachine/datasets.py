"""Data sets: tensors in fixed splits, with what a model has to know of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support.seeds import derived_seed, forked
from mimachine.model.distributions import DiagNormal, Mixture
from mimachine.preprocessing import Preprocessing
from mimachine.rows import Rows
from mimachine.subspace import Subspace

__all__ = ["Dataset", "digits", "mixture_2d", "mixture_20d"]


@dataclass(frozen=True)
class Dataset:
    """Data in three splits, each of shape (N, D) with its own labels of shape (N,) or none.

    Attributes:
        name: What it is called.
        train: For the weights.
        val: For early stopping and the choice of the best epoch.
        test: For the numbers that are reported; nothing is chosen by it.
        train_labels: Classes of the training data.
        val_labels: Classes of the validation data.
        test_labels: Classes of the test data.
        image_shape: Channels, height and width where a row is an image, flattened in this order;
            values are in [0, 1].
        levels: Number of grid values 0, 1/(L-1), ..., 1 that the data take, if they do.
        distribution: P(x) where it is known.
        subspace: Where rows are coordinates of longer data in a subspace, that of the training
            data.
        versions: Versions of the training data, shape (K, N, D): training takes one of each
            datum, at random, in every epoch. None where it takes `train` itself.
        ink: Whether a grey value of 1 is ink, to be shown as black.
        classes: Names of the classes, where labels are places in them.
        preprocessing: How rows were made of a file's values, and are made values again; None where
            rows are the data themselves.
        fingerprint: Hash by which a file's values are known again.
        notes: What was decided when the data were read, a sentence each.
        grey: Where training data were drawn as zeros and ones, the grey values that they were
            drawn from, of the same shape; of 256 levels as bytes.
    """

    name: str
    train: Tensor | Rows
    val: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    val_labels: Tensor | None = None
    test_labels: Tensor | None = None
    image_shape: tuple[int, int, int] | None = None
    levels: int | None = None
    distribution: Mixture | None = None
    subspace: Subspace | None = None
    versions: Tensor | None = None
    ink: bool = True
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    fingerprint: str | None = None
    notes: tuple[str, ...] = ()
    grey: Tensor | None = None

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the columns of the file that the data come from, where it has them."""
        return None if self.preprocessing is None else self.preprocessing.columns

    def restore(self, rows: Tensor, drawn: bool = False) -> NDArray[Any]:
        """Rows (n, D) in the units and the shape that the data have in their file.

        Args:
            rows: Data, or what a model gives.
            drawn: Whether they are samples of p(x|z), or data themselves, and no means.
        """
        values = rows.cpu().numpy()
        if self.preprocessing is None:
            return values
        on_grid = drawn and self.preprocessing.likelihood != "gaussian"
        return self.preprocessing.restore(values, on_grid)

    @property
    def log_volume(self) -> float:
        """What a log-density of rows exceeds that of the original values by, in nats."""
        return 0.0 if self.preprocessing is None else self.preprocessing.log_volume

    @property
    def unit(self) -> str:
        """Unit of the rows' values."""
        if self.preprocessing is None:
            return "units of x"
        if self.preprocessing.standardized:
            return "std of x"
        scale = float(self.preprocessing.scale)
        return "units of x" if scale == 1 else f"units of x / {scale:g}"


def digits() -> Dataset:
    """Handwritten digits of 8 × 8 pixels in 17 grey levels that scikit-learn bundles.

    1,257 training, 180 validation and 360 test images, each class split in the same proportions.

    References:
        Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), UCI repository
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    x = torch.as_tensor(images / 16, dtype=torch.float32)
    y = torch.as_tensor(labels, dtype=torch.long)
    rest, test = train_test_split(range(len(x)), test_size=360, random_state=0, stratify=y)
    train, val = train_test_split(rest, test_size=180, random_state=0, stratify=y[rest])
    return Dataset(
        "digits",
        x[train],
        x[val],
        x[test],
        y[train],
        y[val],
        y[test],
        image_shape=(1, 8, 8),
        levels=17,
    )


def mixture_2d(num_data: int = 10_000) -> Dataset:
    """The two-dimensional mixture of the paper's figures 1, 2, 7 and 8.

    Five isotropic components of weight 1/5 and standard deviation 0.25, one at the origin and
    four on the unit circle at 0, 72, 144 and 216 degrees. The means are not in the paper; they
    are those of the authors' released code and can be seen in figure 1.

    Args:
        num_data: Number of draws in each split.
    """
    return _mixture("mixture-2d", _planar_means(), num_data)


def mixture_20d(num_data: int = 10_000) -> Dataset:
    """`mixture_2d` with 18 coordinates more that tell the components far apart.

    They are not in the paper, but in the authors' released code: of component i the entries
    [i, 2:20] of 100 numbers from -50 to 50, evenly spaced and laid out as (5, 20). The standard
    deviation is 0.25 in every coordinate, so that the components do not overlap, and the data are
    not standardised: a test of badly scaled data more than of an objective.

    Args:
        num_data: Number of draws in each split.
    """
    further = torch.linspace(-50, 50, 100).reshape(5, 20)[:, 2:]
    means = torch.cat([_planar_means(), further], dim=1)
    return _mixture("mixture-20d", means, num_data)


def _planar_means() -> Tensor:
    """The origin and four corners of a regular pentagon, shape (5, 2)."""
    angles = [2 * math.pi * i / 5 for i in range(4)]
    return torch.tensor([(0.0, 0.0), *((math.cos(a), math.sin(a)) for a in angles)])


def _mixture(name: str, means: Tensor, num_data: int) -> Dataset:
    """Draws from equally likely components of standard deviation 0.25 at means (K, D)."""
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
