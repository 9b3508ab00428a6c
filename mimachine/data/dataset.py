"""Data set: tensors split for training, validation and test, with metadata for models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from torch import Tensor

from mimachine.data.files.splits import HoldOut
from mimachine.data.preprocessing import Preprocessing
from mimachine.data.rows import Rows
from mimachine.data.subspace import Subspace
from mimachine.data.tables.schema import Schema
from mimachine.model.distributions import Mixture

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Dataset"]


@dataclass(frozen=True)
class Dataset:
    """Data set in three splits, each of shape (N, D) with labels of shape (N,) or None.

    Attributes:
        name: Name of the data set.
        train: Training data.
        val: Validation data, for early stopping and the choice of the best epoch.
        test: Test data, for the reported numbers only.
        train_labels: Classes of the training data.
        val_labels: Classes of the validation data.
        test_labels: Classes of the test data.
        image_shape: Channels, height and width if rows are images, flattened in this order with
            values in [0, 1].
        levels: Number L of levels 0, 1/(L-1), ..., 1, if all values are on this grid.
        distribution: P(x), if known.
        subspace: Principal subspace of the training data, if rows are coordinates in it.
        versions: Versions of the training data, shape (K, N, D): in every epoch training uses a
            random one for each row. None if it uses `train` itself.
        ink: Whether a grey value of 1 is ink, shown as black.
        classes: Names of the classes, if labels are indices of them.
        preprocessing: Map between the values of a file and rows; None if rows are the data
            themselves, or those of a table with a `schema`.
        schema: Columns of a table, if rows are one number per column, see `TableDistribution`.
        held_out: How the rows for validation were chosen, if none are for a test.
        fingerprint: Hash of the values of a file, to detect changes.
        notes: Decisions made in reading the data, one sentence each.
        grey: Grey values that binary training data were drawn from, of the same shape; as bytes
            if they have 256 levels.
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
    schema: Schema | None = None
    held_out: HoldOut | None = None

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the columns of the file that the data come from, or None."""
        if self.schema is not None:
            return tuple(column.name for column in self.schema.modelled)
        return None if self.preprocessing is None else self.preprocessing.columns

    def table(self, rows: Tensor) -> pl.DataFrame:
        """Map rows (n, D) of a table with a `schema` back to its columns and types.

        Returns:
            A data frame of polars.

        Raises:
            ValueError: If the data have no schema.
        """
        from mimachine.data.tables.rows import decode

        if self.schema is None:
            raise ValueError(f"data must be a table with a schema, and {self.name} is not one")
        return decode(rows.cpu().numpy(), self.schema)

    def restore(self, rows: Tensor, drawn: bool = False) -> NDArray[Any]:
        """Map rows (n, D) back to the units and the shape of the file.

        For a table with a `schema` use `table`.

        Args:
            rows: Data, or output of a model.
            drawn: Whether they are data or samples of p(x|z), rather than means.
        """
        values = rows.cpu().numpy()
        if self.preprocessing is None:
            return values
        return self.preprocessing.restore(values, drawn)

    def restore_columns(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Split restored values (n, D) into blocks of columns of the types in the file."""
        if self.preprocessing is None:
            return [values]
        return self.preprocessing.restore_columns(values)

    @property
    def log_volume(self) -> float:
        """Log-density of rows minus log-density of the original values, in nats."""
        return 0.0 if self.preprocessing is None else self.preprocessing.log_volume

    @property
    def unit(self) -> str:
        """Unit of the rows' values."""
        if self.schema is not None:
            return "std of x"
        if self.preprocessing is None:
            return "units of x"
        if self.preprocessing.standardized:
            return "std of x"
        scale = float(self.preprocessing.scale)
        return "units of x" if scale == 1 else f"units of x / {scale:g}"
