"""Rows of a table as tensors: which entries are seen, and what kinds their columns are of."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine.data.examples import as_tensor, like
from mimachine.model.joint import Joint, check_joint

__all__ = ["Kind", "filled", "hidden", "kinds", "table_rows"]


class Kind(NamedTuple):
    """What an estimator has to know of a column.

    Attributes:
        levels: Number K of levels, whose values are 0 to K - 1; None for values on a grid.
        low: Smallest value of a grid, if it has one.
        high: Largest value of a grid, if it has one.
    """

    levels: int | None = None
    low: float | None = None
    high: float | None = None


def table_rows(name: str, rows: Any, model: Joint) -> Tensor:
    """Rows (N, D) in the dtype and on the device of a model; NaN is missing, inf is hidden.

    Raises:
        ValueError: If the rows are no numbers, have another number of columns than the model, or
            an entry is -inf.
    """
    check_joint("model", model)
    tensor = as_tensor(name, rows)
    if tensor.dim() != 2 or not tensor.numel():
        raise ValueError(f"{name} must have shape (N, D), got {tuple(tensor.shape)}")
    width = len(kinds(model))
    if tensor.shape[1] != width:
        raise ValueError(
            f"{name} must have a column for each of the model's {width}, got {tensor.shape[1]}"
        )
    if tensor.isneginf().any():
        row, column = tensor.isneginf().nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be finite, NaN (missing) or inf (hidden), got -inf in row {row}, "
            f"column {column} (counted from 0)"
        )
    place = like(model)
    dtype = torch.get_default_dtype() if place is None else place.dtype
    return tensor.to(tensor.device if place is None else place.device, dtype)


def kinds(model: Joint) -> tuple[Kind, ...]:
    """Kinds of the columns that a model's decoder has.

    Raises:
        ValueError: If the decoder is none of a table.
    """
    columns = getattr(model.decoder, "columns", None)
    if columns is None:
        raise ValueError(
            "model must have a decoder of a table, with an attribute columns, got a "
            f"{type(model.decoder).__name__}"
        )
    return tuple(_kind(column) for column in columns)


def _kind(column: Any) -> Kind:
    frequencies = getattr(column, "frequencies", None)
    if frequencies is not None:
        return Kind(levels=len(frequencies))
    return Kind(low=getattr(column, "low", None), high=getattr(column, "high", None))


def hidden(rows: Tensor) -> Tensor:
    """The rows with missing entries hidden, so that the holes have no probability themselves."""
    return torch.where(rows.isnan(), torch.inf, rows)


def filled(distribution: Distribution, rows: Tensor) -> Tensor:
    """Rows (n, D) whose unknown entries are drawn from p(x_mis | z, x_seen), of batch shape (n,).

    A `TableDistribution` has a method `complete` for that, since its columns may depend on each
    other given z; the columns of other distributions are taken as independent given z.
    """
    complete = getattr(distribution, "complete", None)
    if complete is not None:
        return cast(Tensor, complete(rows))
    return torch.where(rows.isfinite(), rows, distribution.sample())
