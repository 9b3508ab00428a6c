"""Averages: the exponential moving average of a model's weights over training steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["MovingAverage"]


class MovingAverage:
    """Exponential moving average of tensors that change in place: a ← d a + (1 - d) w.

    It begins with the first values it is told of. Buffers are averaged as weights are, so that the
    running statistics of a batch normalisation belong to the averaged weights. What is no
    floating-point number, such as a count, or is infinite, as a mask may be, is taken as it is.

    Args:
        tensors: The tensors.
        decay: The factor d, in [0, 1).
    """

    def __init__(self, tensors: list[Tensor], decay: float) -> None:
        self.tensors, self.decay = tensors, decay
        self.values = [t.clone() for t in tensors]
        self.count = 0
        self._averaged = [i for i, t in enumerate(tensors) if _can_be_averaged(t)]
        self._copied = sorted({*range(len(tensors))} - {*self._averaged})
        self._towards = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self) -> None:
        """Take the present values into the average."""
        self.count += 1
        if self.count == 1:
            torch._foreach_copy_(self.values, self.tensors)
            return
        values, tensors = self.values, self.tensors
        self._towards([values[i] for i in self._averaged], [tensors[i] for i in self._averaged], 0)
        for i in self._copied:
            values[i].copy_(tensors[i])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the tensors their averages for a while."""
        present = [t.clone() for t in self.tensors]
        self.take()
        try:
            yield
        finally:
            torch._foreach_copy_(self.tensors, present)

    @torch.no_grad()
    def take(self) -> None:
        """Give the tensors their averages for good."""
        torch._foreach_copy_(self.tensors, self.values)

    def to_dict(self) -> dict[str, Any]:
        """For `torch.save`."""
        return {"values": self.values, "count": self.count}

    def restore(self, saved: dict[str, Any]) -> None:
        """Become what was saved."""
        for value, stored in zip(self.values, saved["values"], strict=True):
            value.copy_(stored)
        self.count = saved["count"]


def _can_be_averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isfinite().all())
