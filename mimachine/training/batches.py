"""Batches of an epoch: from a caller's data, of one process, with or without a small last one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mimachine.data.examples import examples, reader_of_missing
from mimachine.data.loaders import LoaderSource
from mimachine.data.rows import Rows
from mimachine.data.sources import Source, TensorSource
from mimachine.data.torch_data import is_torch_data
from mimachine.model.networks import evaluating
from mimachine.training.one_device import OneDevice
from mimachine.training.recipe import Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "Data",
    "as_source",
    "batches_of_process",
    "check_fabric",
    "check_sizes",
    "normalises_batches",
    "placed",
    "whole_batches",
]

Data = Tensor | np.ndarray[Any, Any] | Rows | Source | Any


def check_fabric(fabric: object) -> None:
    """Check that an argument is a fabric of Lightning, from either of its packages, or None.

    Raises:
        TypeError: If it is not.
    """
    if fabric is not None and not (hasattr(fabric, "setup") and hasattr(fabric, "device")):
        raise TypeError(f"fabric must be a lightning_fabric.Fabric, got a {type(fabric).__name__}")


def as_source(
    name: str, data: Data, like: Tensor, order_seed: int | None, model: object = None
) -> Source:
    """Convert data to a source with the device and dtype of a parameter; a source stays.

    Args:
        name: Name of the argument, for messages.
        data: The data.
        like: The parameter.
        order_seed: Seed of the order; None for the order of the rows.
        model: The model or its loss, which may take missing values, see `reader_of_missing`.

    Raises:
        ValueError: If the data cannot be used; the message names the argument.
    """
    if callable(getattr(data, "batches", None)):
        return cast(Source, data)
    reader, seed, shuffle = reader_of_missing(model), order_seed or 0, order_seed is not None
    if is_torch_data(data):
        return LoaderSource(name, data, like, seed, shuffle, reader)
    rows = examples(name, data, like, keep_bytes=True, reader=reader)
    return TensorSource(rows, seed, shuffle, dtype=like.dtype, missing=reader is not None)


def placed(x: Tensor, like: Tensor) -> Tensor:
    """A batch on the device and with the dtype of a parameter; bytes k become k / 255.

    Whole numbers stay, for models that look them up in a table.
    """
    x = x.to(like.device, non_blocking=True)
    if x.dtype == torch.uint8:
        return x.to(like.dtype).div_(255)
    return x.to(like.dtype) if x.is_floating_point() else x


def check_sizes(loss: nn.Module, train: Source, training: Training) -> None:
    """Check that every epoch has a batch to train on, of two rows where the loss needs them.

    Raises:
        ValueError: If it has not.
    """
    count, size = _length(train), training.batch_size
    if training.drop_last and count is not None and count < size:
        raise ValueError(
            f"training.drop_last leaves nothing to train on: train has {count} rows, fewer than "
            f"training.batch_size {size}"
        )
    if normalises_batches(loss) and (size == 1 or count == 1):
        raise ValueError(
            "the loss has batch normalisation, which needs two rows or more in a batch to train "
            f"on, got {'1 row of train' if count == 1 else 'training.batch_size 1'}"
        )


def _length(source: Source) -> int | None:
    try:
        return len(source)
    except (TypeError, NotImplementedError):
        return None


def normalises_batches(loss: nn.Module) -> bool:
    """Whether a module of the loss normalises by the statistics of a training batch."""
    # The model of an ensemble is not one of its modules.
    models = (loss, *getattr(loss, "parts", ()))
    with evaluating(loss):
        for model in models:
            model.train()
        parts = itertools.chain.from_iterable(model.modules() for model in models)
        return any(isinstance(part, _BatchNorm) and part.training for part in parts)


def whole_batches(
    batches: Iterable[Tensor], size: int, axis: int, *, drop_last: bool, join_single: bool
) -> Iterator[Tensor]:
    """Batches of an epoch, without a last one that is too small.

    Args:
        batches: The batches of a source.
        size: Number of rows of a whole batch.
        axis: Axis of the rows.
        drop_last: Whether to leave out the last batch if it is smaller.
        join_single: Whether to join the last batch to the one before if it is a single row.
    """
    before: Tensor | None = None
    for x in batches:
        if before is not None and join_single and x.shape[axis] == 1:
            x = torch.cat([before, x], axis)
        elif before is not None:
            yield before
        before = x
    if before is not None and not (drop_last and before.shape[axis] < size):
        yield before


def batches_of_process(fabric: Fabric | OneDevice, batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """Batches of this process; all processes do the same number of steps."""
    if fabric.world_size == 1:
        return batches
    rounds = zip(*[iter(batches)] * fabric.world_size, strict=False)
    return (group[fabric.global_rank] for group in rounds)
