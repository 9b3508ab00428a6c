"""Dataset: tensors in fixed splits, with what a model needs to know about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from mimachine.data.preprocessing import Preprocessing
from mimachine.data.rows import Rows
from mimachine.data.subspace import Subspace
from mimachine.model.distributions import Mixture

__all__ = [
    "Dataset",
]


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
