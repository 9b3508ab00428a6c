"""Training: `fit` minimises a loss on Lightning Fabric and keeps the best weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mimachine.progress import Progress
from mimachine.randomness import derived_seed, forked
from mimachine.runs import Run
from mimachine.sources import Source, TensorSource
from mimachine.state import Epoch, State
from mimachine.training import Annealing, Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["History", "fit"]

Data = Tensor | np.ndarray[Any, Any] | Source


@dataclass(frozen=True)
class History:
    """Record of a training run.

    Attributes:
        epochs: What was recorded of each epoch.
        best_epoch: Epoch whose weights the model has now; None if there were no held-out data.
        stopped_early: Whether the held-out loss stopped improving before the epochs ran out.
    """

    epochs: list[Epoch]
    best_epoch: int | list[int] | None
    stopped_early: bool


def fit(
    loss: nn.Module,
    train: Data,
    val: Data | None = None,
    training: Training = Training(),
    *,
    fabric: Fabric | None = None,
    run: Run | None = None,
    progress: bool | None = None,
    checkpoint_seconds: float = 10.0,
) -> History:
    """Minimise a loss; the model ends with the weights of its best epoch.

    All that `fit` knows of `loss` is that `loss(x, annealing)` ends in a batch axis: (B,) for one
    model, (M, B) for M independent models trained as one. The held-out loss is taken at the
    objective fully warmed up, and it counts from the first epoch that is.

    Args:
        loss: Usually a `Loss`. Its model is trained in place.
        train: Training data, a tensor or array of shape (N, *X) or a data source.
        val: Held-out data, likewise. Without them there is no early stopping, and the last
            weights stay.
        training: The recipe.
        fabric: Device, precision and strategy; by default one device, the best there is. Of
            several processes each takes its own batches, so a step sees their number times
            `batch_size` data.
        run: Where to record the epochs, the best weights and the state. A run whose training was
            interrupted goes on from its last state, and ends as if it had not been. Give it to
            every process.
        progress: Whether to show a progress bar; by default only in a terminal.
        checkpoint_seconds: Least time between two writes of the state; an interruption costs no
            more than that and the epoch it falls in.

    Returns:
        The record of the run.

    Raises:
        ValueError: If the data or the recipe make no sense, or nothing can be trained.
        FloatingPointError: If a loss is not finite; the best weights so far are restored first.
    """
    alone = fabric is None
    fabric = _one_device(loss) if fabric is None else fabric
    optimizer = _adam(loss, training)
    module, wrapped = fabric.setup(loss, optimizer)
    parameter = next(loss.parameters())
    train_source = _as_source(train, parameter, training.seed)
    val_source = None if val is None else _as_source(val, parameter, None)
    if alone:
        # On one device in full precision the wrapper does nothing, for 6 % of a small step's time.
        module = loss
    state = State(loss, optimizer, training.stop_after)
    if run is not None:
        run.resume(state, rewrite=fabric.is_global_zero)
    saved_at = time.monotonic()
    warmed_up = Annealing(halves=training.annealing.halves)
    # Processes differ in their training noise; each measures all held-out data, to the same value.
    own_noise = (training.seed, "train", fabric.global_rank)
    show = progress if fabric.is_global_zero else False
    with Progress(training.epochs, show=show) as bar, _ending_with_best(module, state):
        while state.epoch < training.epochs and not state.best.all_done:
            epoch = state.epoch + 1
            annealing, rate = training.annealing.at(epoch), training.learning_rate_at(epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with forked(derived_seed(*own_noise, epoch), fabric.device):
                batches = _share(fabric, train_source.batches(training.batch_size, epoch))
                train_loss = _train_epoch(fabric, module, wrapped, batches, annealing)
            val_loss = None
            if val_source is not None:
                fresh = epoch if training.validation_noise == "fresh" else 0
                with forked(derived_seed(training.seed, "val", fresh), fabric.device):
                    batches = val_source.batches(training.batch_size, epoch)
                    val_loss = _held_out_loss(fabric, module, batches, warmed_up)
            _require_finite(epoch, train_loss, val_loss, state)
            held_out = None if val_loss is None else val_loss.tolist()
            state.epochs.append(Epoch(epoch, annealing.beta, rate, train_loss.tolist(), held_out))
            if val_loss is not None and annealing.beta >= 1:
                state.best.update(epoch, val_loss)
            if run is not None and fabric.is_global_zero:
                run.append_metrics(state.epochs[-1])
                if time.monotonic() - saved_at >= checkpoint_seconds:
                    run.checkpoint(state)
                    saved_at = time.monotonic()
            bar.update(state.epochs[-1])
        if run is not None and fabric.is_global_zero:
            run.checkpoint(state)
    best_epoch = state.best.epoch.tolist() if state.best.seen else None
    return History(state.epochs, best_epoch, state.epoch < training.epochs)


@contextmanager
def _ending_with_best(module: nn.Module, state: State) -> Iterator[None]:
    """However training ends, the model has its best weights then and is in evaluation mode."""
    try:
        yield
    finally:
        state.best.take()
        module.eval()


def _train_epoch(
    fabric: Fabric,
    module: nn.Module,
    optimizer: Any,
    batches: Iterator[Tensor],
    annealing: Annealing,
) -> Tensor:
    module.train()
    losses, counts, device = [], [], fabric.device
    for x in batches:
        value = module(x.to(device, non_blocking=True), annealing)
        loss = value.mean(-1)
        optimizer.zero_grad(set_to_none=True)
        # Independent models add up and do not meet in any gradient.
        fabric.backward(loss.sum() if loss.dim() else loss)
        optimizer.step()
        losses.append(loss.detach())
        counts.append(value.shape[-1])
    total, count = _sums(losses, counts)
    if fabric.world_size > 1:
        total = fabric.all_reduce(total, reduce_op="sum")  # type: ignore[assignment]
        count = fabric.all_reduce(count, reduce_op="sum")  # type: ignore[assignment]
    return total / count


@torch.no_grad()
def _held_out_loss(
    fabric: Fabric, module: nn.Module, batches: Iterator[Tensor], warmed_up: Annealing
) -> Tensor:
    module.eval()
    losses, counts = [], []
    for x in batches:
        value = module(x.to(fabric.device, non_blocking=True), warmed_up)
        losses.append(value.mean(-1))
        counts.append(value.shape[-1])
    total, count = _sums(losses, counts)
    return total / count


def _require_finite(epoch: int, train_loss: Tensor, val_loss: Tensor | None, state: State) -> None:
    for name, value in (("training", train_loss), ("held-out", val_loss)):
        if value is not None and not torch.isfinite(value).all():
            raise FloatingPointError(
                f"the {name} loss is {value.tolist()} in epoch {epoch}; "
                + ("the best weights so far are kept" if state.best.seen else "no weights are kept")
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


def _as_source(data: Data, like: Tensor, order_seed: int | None) -> Source:
    """Arrays and tensors as a source on the device and in the precision of a parameter."""
    if isinstance(data, np.ndarray):
        data = torch.as_tensor(data)
    if not isinstance(data, Tensor):
        return data
    if data.is_floating_point():
        data = data.to(like.device, like.dtype)
    return TensorSource(data, seed=order_seed or 0, shuffle=order_seed is not None)


def _share(fabric: Fabric, batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """The share of this process in the batches; all processes take the same number of steps."""
    if fabric.world_size == 1:
        return batches
    rounds = zip(*[iter(batches)] * fabric.world_size, strict=False)
    return (group[fabric.global_rank] for group in rounds)


def _sums(losses: list[Tensor], counts: list[int]) -> tuple[Tensor, Tensor]:
    """Sum over all data of an epoch, from the means over its batches, and their number."""
    if not losses:
        raise ValueError("a data source gave no batch in an epoch")
    stacked = torch.stack(losses, -1)
    weights = torch.tensor(counts, dtype=stacked.dtype, device=stacked.device)
    return (stacked * weights).sum(-1), weights.sum()
