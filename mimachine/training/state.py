"""State of a training run: all that its later epochs depend on.

Data order and noise are functions of the seed and the epoch's number, so weights, optimiser, the
best weights so far and the records of the epochs are enough to go on to the same bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = [
    "Epoch",
    "MovingAverage",
    "State",
]


@dataclass(frozen=True)
class Epoch:
    """What is recorded of one epoch; losses in nats per datum.

    For several models trained as one, the losses are lists with an entry for each; None where it
    is not finite, or the model was done with before.
    """

    epoch: int
    beta: float
    learning_rate: float
    train_loss: float | list[float | None]
    val_loss: float | list[float | None] | None


@dataclass
class State:
    """Weights, optimiser, best weights and records, as they are after some epoch.

    Args:
        loss: What is trained.
        optimizer: Its optimiser.
        patience: Epochs without improvement after which training ends.
        ema_decay: Decay of the weights' moving average, which is measured and kept in place of
            the weights; None for none.
    """

    loss: nn.Module
    optimizer: torch.optim.Optimizer
    patience: int
    ema_decay: float | None = None
    epochs: list[Epoch] = field(default_factory=list)
    best: BestWeights = field(init=False)
    average: MovingAverage | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.best = BestWeights(self._tensors(), self.patience)
        if self.ema_decay is not None:
            self.average = MovingAverage(self._tensors(), self.ema_decay)

    @property
    def epoch(self) -> int:
        """Number of epochs that are done."""
        return len(self.epochs)

    def add(self, epoch: Epoch, val_loss: Tensor | None) -> None:
        """One more epoch is done; its weights may be the best, once the loss is warmed up."""
        if isinstance(epoch.train_loss, list):
            done = self.best.done.tolist() or [False] * len(epoch.train_loss)
            epoch = replace(
                epoch,
                train_loss=_of_live(epoch.train_loss, done),
                val_loss=_of_live(epoch.val_loss, done),
            )
        self.epochs.append(epoch)
        if val_loss is not None and epoch.beta >= 1:
            with self.measured():
                self.best.update(epoch.epoch, val_loss)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Give the model for a while the weights that held-out losses are of."""
        with nullcontext() if self.average is None else self.average.in_place():
            yield

    @torch.no_grad()
    def take(self) -> None:
        """Give the model the weights to keep: the best, or the last without held-out data."""
        if self.average is not None and not self.best.seen:
            self.average.take()
        self.best.take()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Give the model the weights to keep for a while."""
        tensors = self._tensors()
        present = [t.clone() for t in tensors]
        self.take()
        try:
            yield
        finally:
            for tensor, value in zip(tensors, present, strict=True):
                tensor.copy_(value)

    def to_dict(self) -> dict[str, Any]:
        """The state as tensors, numbers and containers, for `torch.save`."""
        return {
            "epoch": self.epoch,
            "tensors": self._tensors(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best.to_dict(),
            "average": None if self.average is None else self.average.to_dict(),
        }

    @torch.no_grad()
    def restore(self, saved: dict[str, Any], epochs: list[Epoch]) -> None:
        """Become what was saved.

        Raises:
            ValueError: If it belongs to another model or recipe, or an epoch's record is missing.
        """
        tensors = self._tensors()
        if [t.shape for t in tensors] != [t.shape for t in saved["tensors"]]:
            raise ValueError("the saved state belongs to another model")
        if len(epochs) != saved["epoch"]:
            raise ValueError(f"{saved['epoch']} epochs are saved, but {len(epochs)} are recorded")
        if (self.average is None) != (saved.get("average") is None):
            raise ValueError("the saved state belongs to another recipe: its ema_decay differs")
        for tensor, value in zip(tensors, saved["tensors"], strict=True):
            tensor.copy_(value)
        if self.average is not None:
            self.average.restore(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.best.restore(saved["best"])
        self.epochs = epochs

    def _tensors(self) -> list[Tensor]:
        parts = itertools.chain(self.loss.parameters(), self.loss.buffers())
        return [part.detach() for part in parts]


def _of_live(losses: Any, done: list[bool]) -> Any:
    """Losses of several models, None in place of what JSON or the reader has no use for."""
    if not isinstance(losses, list):
        return losses
    return [
        value if math.isfinite(value) and not is_done else None
        for value, is_done in zip(losses, done, strict=True)
    ]


class BestWeights:
    """The best weights so far, elementwise over independent models.

    A loss of shape (M,) belongs to tensors whose first axis has one entry for each model; a loss
    of shape () belongs to all of every tensor.

    Args:
        tensors: The weights, which change in place.
        patience: Epochs without improvement after which a model is done; what comes after in the
            training of others does not count for it.
    """

    def __init__(self, tensors: list[Tensor], patience: int) -> None:
        self.tensors, self.patience = tensors, patience
        self.saved: list[Tensor] = []
        self.loss = self.epoch = torch.empty(0)
        self.done = torch.zeros(0, dtype=torch.bool)

    @property
    def seen(self) -> bool:
        """Whether there are any yet."""
        return bool(self.saved)

    def update(self, epoch: int, loss: Tensor) -> None:
        """Keep the present weights of the models whose loss is their lowest so far."""
        if not self.seen:
            self.saved = [t.clone() for t in self.tensors]
            self.loss, self.epoch = loss.clone(), torch.full_like(loss, epoch, dtype=torch.long)
            self.done = ~torch.isfinite(loss)
            return
        better = (loss < self.loss) & torch.isfinite(loss) & ~self.done
        self.done |= ~better & (epoch - self.epoch >= self.patience) | ~torch.isfinite(loss)
        if not better.any():
            return
        self.loss = torch.where(better, loss, self.loss)
        self.epoch = torch.where(better, epoch, self.epoch)
        for saved, now in zip(self.saved, self.tensors, strict=True):
            mask = better.reshape(better.shape + (1,) * (now.dim() - better.dim()))
            torch.where(mask, now, saved, out=saved)

    @property
    def all_done(self) -> bool:
        """Whether no model is to be trained any more."""
        return self.seen and bool(self.done.all())

    def take(self) -> None:
        """Give the model the best weights for good, where there are any."""
        for tensor, value in zip(self.tensors, self.saved or self.tensors, strict=True):
            tensor.copy_(value)

    def to_dict(self) -> dict[str, Any]:
        """For `torch.save`."""
        return {"saved": self.saved, "loss": self.loss, "epoch": self.epoch, "done": self.done}

    def restore(self, value: dict[str, Any]) -> None:
        """Become what was saved."""
        device = self.tensors[0].device
        self.saved = [t.to(device) for t in value["saved"]]
        self.loss, self.epoch = value["loss"].to(device), value["epoch"].to(device)
        self.done = value["done"].to(device)


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
