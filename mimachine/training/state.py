"""Training state: weights, optimiser, best weights and epoch records, to resume from exactly.

Data order and noise are functions of the seed and the epoch number, so this state is enough to
resume training with identical results, to the bit.
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

from mimachine.training.optimizers import is_adam
from mimachine.training.records import Epoch
from mimachine.training.saved_state import check, with_digest

__all__ = ["MovingAverage", "State"]


@dataclass
class State:
    """Training state after an epoch: weights, optimiser, best weights and records.

    Args:
        loss: The loss that is minimised.
        optimizer: Its optimiser.
        patience: Number of epochs without improvement after which training stops.
        ema_decay: Decay of the weights' moving average, which replaces the weights in validation
            and in the result; None for no average.
    """

    loss: nn.Module
    optimizer: torch.optim.Optimizer
    patience: int
    ema_decay: float | None = None
    epochs: list[Epoch] = field(default_factory=list)
    stopped: bool = False
    best: BestWeights = field(init=False)
    average: MovingAverage | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.best = BestWeights(self._tensors(), self.patience)
        if self.ema_decay is not None:
            self.average = MovingAverage(self._tensors(), self.ema_decay)

    @property
    def epoch(self) -> int:
        """Number of completed epochs."""
        return len(self.epochs)

    @property
    def ended(self) -> bool:
        """Whether training stops before the last epoch of the recipe."""
        return self.stopped or self.best.all_done

    def add(self, epoch: Epoch, val_loss: Tensor | None) -> None:
        """Add a completed epoch; update the best weights if the warm-up is complete."""
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
        """Temporarily swap in the weights used for validation."""
        with nullcontext() if self.average is None else self.average.in_place():
            yield

    @torch.no_grad()
    def take(self) -> None:
        """Give the model its final weights: the best, or the last without held-out data."""
        if self.average is not None and not self.best.seen:
            self.average.take()
        self.best.take()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Temporarily swap in the weights of `take`."""
        tensors = self._tensors()
        present = [t.clone() for t in tensors]
        self.take()
        try:
            yield
        finally:
            for tensor, value in zip(tensors, present, strict=True):
                tensor.copy_(value)

    def to_dict(self) -> dict[str, Any]:
        """Convert to tensors, numbers and containers, for `torch.save`."""
        return with_digest(
            {
                "epoch": self.epoch,
                "tensors": self._tensors(),
                "optimizer": self.optimizer.state_dict(),
                "best": self.best.to_dict(),
                "average": None if self.average is None else self.average.to_dict(),
                "stopped": self.stopped,
            }
        )

    @torch.no_grad()
    def restore(self, saved: dict[str, Any], epochs: list[Epoch]) -> None:
        """Restore a saved state; nothing changes if it cannot be used.

        The hyperparameters of the optimiser stay, so that they are always those of the recipe.

        Raises:
            ValueError: If it is damaged, was changed, or belongs to another model or recipe, or an
                epoch's record is missing.
        """
        tensors, parameters = self._tensors(), self._parameters()
        count = getattr(self.loss, "num_models", None)
        averaged = self.average is not None
        check(saved, tensors, parameters, is_adam(self.optimizer), averaged, count, epochs)
        for tensor, value in zip(tensors, saved["tensors"], strict=True):
            tensor.copy_(value)
        if self.average is not None:
            self.average.restore(saved["average"])
        moments = {
            index: {name: _restored(each, parameters[index]) for name, each in value.items()}
            for index, value in saved["optimizer"]["state"].items()
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.best.restore(saved["best"])
        self.epochs, self.stopped = epochs, saved.get("stopped", False)

    def _parameters(self) -> list[Tensor]:
        """Parameters in the order of the optimiser's state."""
        return [p.detach() for group in self.optimizer.param_groups for p in group["params"]]

    def _tensors(self) -> list[Tensor]:
        parts = itertools.chain(self.loss.parameters(), self.loss.buffers())
        return [part.detach() for part in parts]


def _of_live(losses: Any, done: list[bool]) -> Any:
    """Replace losses of several models by None if not finite or if the model had stopped."""
    if not isinstance(losses, list):
        return losses
    return [
        value if math.isfinite(value) and not is_done else None
        for value, is_done in zip(losses, done, strict=True)
    ]


class BestWeights:
    """Best weights so far, for each of several independent models.

    A loss of shape (M,) belongs to tensors whose first axis has one entry per model; a loss of
    shape () belongs to whole tensors.

    Args:
        tensors: The weights, which change in place.
        patience: Number of epochs without improvement after which a model stops; later epochs, in
            which other models are trained, do not count for it.
    """

    def __init__(self, tensors: list[Tensor], patience: int) -> None:
        self.tensors, self.patience = tensors, patience
        self.saved: list[Tensor] = []
        self.loss = self.epoch = torch.empty(0)
        self.done = torch.zeros(0, dtype=torch.bool)

    @property
    def seen(self) -> bool:
        """Whether any weights are stored yet."""
        return bool(self.saved)

    def update(self, epoch: int, loss: Tensor) -> None:
        """Store the current weights of the models whose loss is their lowest so far."""
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
        """Whether all models have stopped."""
        return self.seen and bool(self.done.all())

    def take(self) -> None:
        """Copy the best weights, if any, into the model."""
        for tensor, value in zip(self.tensors, self.saved or self.tensors, strict=True):
            tensor.copy_(value)

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for `torch.save`."""
        return {"saved": self.saved, "loss": self.loss, "epoch": self.epoch, "done": self.done}

    def restore(self, value: dict[str, Any]) -> None:
        """Restore a saved state."""
        device = self.tensors[0].device
        saved = value["saved"]
        self.saved = [
            _copied(t, now) for t, now in zip(saved, self.tensors[: len(saved)], strict=True)
        ]
        self.loss, self.epoch, self.done = (
            value[name].to(device, copy=True) for name in ("loss", "epoch", "done")
        )


class MovingAverage:
    """Exponential moving average of tensors that change in place: a ← d a + (1 - d) w.

    It starts with the values of the first update. Buffers are averaged like weights, so that the
    running statistics of batch normalisation belong to the averaged weights. Tensors that are not
    in floating point, such as counts, or not finite, such as some masks, are copied.

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
        """Update the average with the current values."""
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
        """Temporarily swap in the averages."""
        present = [t.clone() for t in self.tensors]
        self.take()
        try:
            yield
        finally:
            torch._foreach_copy_(self.tensors, present)

    @torch.no_grad()
    def take(self) -> None:
        """Copy the averages into the tensors."""
        torch._foreach_copy_(self.tensors, self.values)

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for `torch.save`."""
        return {"values": self.values, "count": self.count}

    def restore(self, saved: dict[str, Any]) -> None:
        """Restore a saved state."""
        for value, stored in zip(self.values, saved["values"], strict=True):
            value.copy_(stored)
        self.count = saved["count"]


def _copied(value: Tensor, like: Tensor) -> Tensor:
    """A copy with the device and memory layout of another tensor, and memory of its own."""
    return torch.empty_like(like).copy_(value)


def _restored(value: Any, parameter: Tensor) -> Any:
    """A number or tensor of an optimiser's state; counts of steps stay in memory."""
    if not isinstance(value, Tensor):
        return value
    return _copied(value, parameter) if value.shape == parameter.shape else value.clone()


def _can_be_averaged(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isfinite().all())
