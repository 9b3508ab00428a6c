"""Torch datasets and data loaders: which examples they give, and all of them as one tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from mimachine._support.seeds import forked

__all__ = ["collected", "first_of", "is_torch_data"]

_AT_ONCE = 1024


def is_torch_data(data: object) -> bool:
    """Whether data are a torch dataset or a data loader."""
    return isinstance(data, DataLoader | Dataset)


def first_of(name: str, batch: Any) -> Any:
    """The examples of a batch: of a tuple, such as images with their classes, the first entry.

    Raises:
        ValueError: If the batch is a dictionary; the message names the argument.
    """
    x = batch[0] if isinstance(batch, list | tuple) and len(batch) else batch
    if isinstance(x, dict):
        raise ValueError(
            f"{name} must give tensors, or tuples whose first entry is one, got a dictionary of "
            f"{', '.join(map(repr, x))}: choose one in its __getitem__"
        )
    return x


def collected(name: str, data: Any) -> Tensor:
    """All examples in the order of the dataset or the loader, shape (N, *X).

    Raises:
        ValueError: If there are none, they are not of numbers, or a loader shuffles them.
    """
    if isinstance(data, DataLoader):
        if isinstance(data.sampler, RandomSampler):
            raise ValueError(
                f"{name} must not be shuffled, since results are in the order of the rows, got a "
                "DataLoader with shuffle=True: give its dataset"
            )
        loader = data
    else:
        loader = DataLoader(data, _AT_ONCE)
    parts = []
    # A loader draws a seed for its workers.
    with forked(0):
        for batch in loader:
            x = first_of(name, batch)
            if not isinstance(x, Tensor | np.ndarray):
                raise ValueError(
                    f"{name} must give tensors or arrays of numbers, got a {type(x).__name__}"
                )
            parts.append(torch.as_tensor(x))
    if not parts:
        raise ValueError(f"{name} must have rows, got an empty {type(data).__name__}")
    return torch.cat(parts)
