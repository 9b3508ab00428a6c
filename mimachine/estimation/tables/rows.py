"""Rows of a table as tensors: which entries are seen, and what kinds their columns are of."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine.data.examples import all_examples
from mimachine.model.joint import Joint, check_joint
from mimachine.model.table_columns import TableColumn

__all__ = ["columns_of", "filled", "hidden", "table_rows"]


def table_rows(name: str, rows: Any, model: Joint) -> Tensor:
    """Rows (N, D) in the dtype and on the device of a model; NaN is missing, inf is hidden.

    Raises:
        ValueError: If the rows cannot be used, or do not have the columns of the model.
    """
    check_joint("model", model)
    width = len(columns_of(model))
    tensor = all_examples(name, rows, model)
    if tensor.shape[1:] != (width,):
        raise ValueError(
            f"{name} must have shape (N, {width}), as the model has {width} columns, got "
            f"{tuple(tensor.shape)}"
        )
    return tensor


def columns_of(model: Joint) -> tuple[TableColumn, ...]:
    """Columns that a model's decoder has.

    Raises:
        ValueError: If the decoder is none of a table.
    """
    columns = getattr(model.decoder, "columns", None)
    if columns is None:
        raise ValueError(
            "model must have a decoder of a table, such as mm.TableDecoder, got a "
            f"{type(model.decoder).__name__}"
        )
    return tuple(columns)


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
