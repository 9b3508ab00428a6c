"""Levels of the columns without parent: a softmax for each, computed for many at once."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Size, Tensor

from mimachine.model.distributions import indices_of
from mimachine.model.tables.layout import Bucket, Constants, Layout

__all__ = ["Levels", "at", "broadcast"]


class Levels:
    """Independent choices, one softmax for each, for each entry of a batch.

    Args:
        layout: Places of the columns.
        constants: Tensors of the layout on the device of the logits.
        logits: Logits of all choices, shape (*batch, L).
    """

    def __init__(self, layout: Layout, constants: Constants, logits: Tensor) -> None:
        self.layout, self.constants, self.logits = layout, constants, logits
        padded = logits
        if any(places is not None for places in constants.padded):
            none = logits.new_full((*logits.shape[:-1], 1), -math.inf)
            padded = torch.cat([logits, none], -1)
        self.tables = [
            self._table(padded, bucket, places)
            for bucket, places in zip(layout.buckets, constants.padded, strict=True)
        ]

    @staticmethod
    def _table(padded: Tensor, bucket: Bucket, places: Tensor | None) -> Tensor:
        """Logits (*batch, C, K) of a bucket's columns, -inf beyond a column's last level."""
        if places is None:
            flat = padded[..., bucket.logits]
        else:
            flat = padded.index_select(-1, places.flatten())
        table: Tensor = flat.unflatten(-1, (bucket.columns, bucket.levels))
        return table

    def log_prob(self, levels: Tensor) -> Tensor:
        """Log-probabilities in nats, shape (*sample, *batch, C), of levels in range.

        Args:
            levels: Levels of the columns without parent, whole, shape (*sample, *batch, C).
        """
        normaliser = torch.cat([table.logsumexp(-1) for table in self.tables], -1)
        return at(self.logits, levels + self.constants.first) - normaliser

    def sample(self, shape: Size) -> Tensor:
        """Levels without gradient, shape (*shape, *batch, C)."""
        drawn = [indices_of(table.log_softmax(-1), shape) for table in self.tables]
        return torch.cat(drawn, -1)

    def most_probable(self) -> Tensor:
        """The most probable level of each column, shape (*batch, C)."""
        return torch.cat([table.argmax(-1) for table in self.tables], -1)


def at(values: Tensor, index: Tensor) -> Tensor:
    """Entries of the last axis: values (*batch, K) at indices (*sample, *batch, C)."""
    shape = broadcast(values.shape[:-1], index.shape[:-1])
    return values.expand(*shape, values.shape[-1]).gather(-1, index.expand(*shape, index.shape[-1]))


def broadcast(first: Size, second: Size) -> Size:
    """The common shape; that of torch loads its symbolic shapes, which takes half a second."""
    return Size(np.broadcast_shapes(first, second))
