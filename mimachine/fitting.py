"""Training: `fit` minimises a loss on Lightning Fabric and keeps the best weights."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mimachine.progress import Progress
from mimachine.randomness import derived_seed, forked
from mimachine.runs import Run
from mimachine.sources import Source, TensorSource
from mimachine.training import Annealing, Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Epoch", "History", "fit"]


@dataclass(frozen=True)
class Epoch:
    """What is recorded of one epoch; losses in nats per datum.

    For several models trained as one, the losses are lists with an entry for each.
    """

    epoch: int
    beta: float
    learning_rate: float
    train_loss: float | list[float]
    val_loss: float | list[float] | None
    seconds: float


@dataclass
class History:
    """Record of a training run."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int | list[int] | None = None
    """Epoch whose weights the model has now; None if there were no held-out data."""
    stopped_early: bool = False
    """Whether the held-out loss stopped improving before the epochs ran out."""


def fit(
    loss: nn.Module,
    train: Tensor | Source,
    val: Tensor | Source | None = None,
    training: Training = Training(),
    *,
    fabric: Fabric | None = None,
    run: Run | None = None,
    progress: bool | None = None,
) -> History:
    """Minimise a loss; the model ends with the weights of its best epoch.

    All that `fit` knows of `loss` is that `loss(x, annealing)` ends in a batch axis: (B,) for one
    model, (M, B) for M independent models trained as one. The held-out loss is taken at the
    objective fully warmed up, and it counts from the first epoch that is.

    Args:
        loss: Usually a `Loss`. Its model is trained in place.
        train: Training data, a tensor of shape (N, *X) or a data source.
        val: Held-out data, likewise. Without them there is no early stopping, and the last
            weights stay.
        training: The recipe.
        fabric: Device, precision and strategy; by default one device, the best there is.
        run: Where to record the epochs and the best weights.
        progress: Whether to show a progress bar; by default only in a terminal.

    Returns:
        The record of the run.

    Raises:
        ValueError: If the data or the recipe make no sense, or nothing can be trained.
        FloatingPointError: If a loss is not finite; the best weights so far are restored first.
    """
    alone = fabric is None
    fabric = _one_device(loss) if fabric is None else fabric
    train_source = _as_source(train, fabric.device, training.seed)
    val_source = None if val is None else _as_source(val, fabric.device, None)
    optimizer = _adam(loss, training)
    module, wrapped = fabric.setup(loss, optimizer)
    if alone:
        # On one device in full precision the wrapper does nothing, for 6 % of a small step's time.
        module = loss
    history, best = History(), _BestWeights(loss)
    with Progress(training.epochs, show=progress) as bar:
        for epoch in range(1, training.epochs + 1):
            start, annealing = time.perf_counter(), training.annealing.at(epoch)
            rate = training.learning_rate * (
                training.schedule.factor(epoch) if training.schedule else 1.0
            )
            for group in optimizer.param_groups:
                group["lr"] = rate
            module.train()
            batches = _share(fabric, train_source.batches(training.batch_size, epoch))
            with forked(_noise_seed(training, fabric, "train", epoch), fabric.device):
                train_loss = _train_epoch(fabric, module, wrapped, batches, annealing)
            val_loss = None
            if val_source is not None:
                module.eval()
                batches = _share(fabric, val_source.batches(training.batch_size, epoch))
                fresh = epoch if training.validation_noise == "fresh" else 0
                with forked(_noise_seed(training, fabric, "val", fresh), fabric.device):
                    val_loss = _held_out_loss(fabric, module, batches)
            record = Epoch(
                epoch,
                annealing.beta,
                rate,
                train_loss.tolist(),
                None if val_loss is None else val_loss.tolist(),
                time.perf_counter() - start,
            )
            _require_finite(record, train_loss, val_loss, best)
            history.epochs.append(record)
            improved = False
            if val_loss is not None and annealing.beta >= 1:
                improved = best.update(epoch, val_loss)
            if run is not None and fabric.is_global_zero:
                run.append_metrics(asdict(record))
                if improved or not best.seen:
                    run.save_weights(getattr(loss, "model", loss))
            bar.update(record)
            if best.seen and best.epochs_without(epoch) >= training.stop_after:
                history.stopped_early = epoch < training.epochs
                break
    if best.seen:
        best.restore()
        history.best_epoch = best.epoch.tolist()
    module.eval()
    return history


def _train_epoch(
    fabric: Fabric,
    module: nn.Module,
    optimizer: Any,
    batches: Iterator[Tensor],
    annealing: Annealing,
) -> Tensor:
    losses, counts = [], []
    for x in batches:
        value = module(x.to(fabric.device, non_blocking=True), annealing)
        loss = value.mean(-1)
        optimizer.zero_grad(set_to_none=True)
        # Independent models add up and do not meet in any gradient.
        fabric.backward(loss.sum() if loss.dim() else loss)
        optimizer.step()
        losses.append(loss.detach())
        counts.append(value.shape[-1])
    return _averaged(fabric, losses, counts)


@torch.no_grad()
def _held_out_loss(fabric: Fabric, module: nn.Module, batches: Iterator[Tensor]) -> Tensor:
    losses, counts = [], []
    for x in batches:
        value = module(x.to(fabric.device, non_blocking=True), Annealing())
        losses.append(value.mean(-1))
        counts.append(value.shape[-1])
    return _averaged(fabric, losses, counts)


class _BestWeights:
    """The best weights so far, elementwise over independent models.

    A loss of shape (M,) belongs to tensors whose first axis has one entry for each model; a loss
    of shape () belongs to all of every tensor.
    """

    def __init__(self, loss: nn.Module) -> None:
        self.tensors = [t.detach() for t in itertools.chain(loss.parameters(), loss.buffers())]
        self.saved: list[Tensor] = []
        self.loss = self.epoch = torch.empty(0)

    @property
    def seen(self) -> bool:
        return bool(self.saved)

    def update(self, epoch: int, loss: Tensor) -> bool:
        """Keep the present weights where the loss is the lowest so far; say if it is anywhere."""
        if not self.seen:
            self.saved = [t.clone() for t in self.tensors]
            self.loss, self.epoch = loss.clone(), torch.full_like(loss, epoch, dtype=torch.long)
            return True
        better = loss < self.loss
        if not better.any():
            return False
        self.loss = torch.where(better, loss, self.loss)
        self.epoch = torch.where(better, epoch, self.epoch)
        for saved, now in zip(self.saved, self.tensors, strict=True):
            mask = better.reshape(better.shape + (1,) * (now.dim() - better.dim()))
            torch.where(mask, now, saved, out=saved)
        return True

    def epochs_without(self, epoch: int) -> int:
        """Epochs since the last improvement of any model."""
        return epoch - int(self.epoch.max())

    def restore(self) -> None:
        for now, saved in zip(self.tensors, self.saved, strict=True):
            now.copy_(saved)


def _require_finite(
    record: Epoch, train_loss: Tensor, val_loss: Tensor | None, best: _BestWeights
) -> None:
    for name, value in (("training", train_loss), ("held-out", val_loss)):
        if value is not None and not torch.isfinite(value).all():
            if best.seen:
                best.restore()
            raise FloatingPointError(
                f"the {name} loss is {value.tolist()} in epoch {record.epoch} "
                f"(learning rate {record.learning_rate:g}); "
                + ("the best weights so far are kept" if best.seen else "no weights are kept")
            )


def _one_device(loss: nn.Module) -> Fabric:
    from lightning_fabric import Fabric

    double = any(p.dtype == torch.float64 for p in loss.parameters())
    return Fabric(devices=1, precision="64-true" if double else "32-true")


def _adam(loss: nn.Module, training: Training) -> torch.optim.Adam:
    parameters = [p for p in loss.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("loss has no parameter that can be trained")
    return torch.optim.Adam(parameters, lr=training.learning_rate, fused=True)


def _as_source(data: Tensor | Source, device: torch.device, order_seed: int | None) -> Source:
    if not isinstance(data, Tensor):
        return data
    return TensorSource(data.to(device), seed=order_seed or 0, shuffle=order_seed is not None)


def _noise_seed(training: Training, fabric: Fabric, purpose: str, epoch: int) -> int:
    return derived_seed(training.seed, purpose, epoch, fabric.global_rank)


def _share(fabric: Fabric, batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """The share of this process in the batches; all processes take the same number of steps."""
    if fabric.world_size == 1:
        return batches
    rounds = zip(*[iter(batches)] * fabric.world_size, strict=False)
    return (group[fabric.global_rank] for group in rounds)


def _averaged(fabric: Fabric, losses: list[Tensor], counts: list[int]) -> Tensor:
    """Mean over all data of an epoch, from the means over its batches."""
    if not losses:
        raise ValueError("a data source gave no batch in an epoch")
    stacked = torch.stack(losses, -1)
    weights = torch.tensor(counts, dtype=stacked.dtype, device=stacked.device)
    mean = (stacked * weights).sum(-1) / weights.sum()
    if fabric.world_size == 1:
        return mean
    reduced = fabric.all_reduce(mean, reduce_op="mean")
    assert isinstance(reduced, Tensor)
    return reduced
