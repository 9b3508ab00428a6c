"""Training loop: `fit` minimises a loss on Lightning Fabric and keeps the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from mimachine._support.checks import flag, instance, real
from mimachine._support.products import faster_products
from mimachine.training.batches import (
    Data,
    check_fabric,
)
from mimachine.training.convergence import Convergence, convergence
from mimachine.training.optimizers import Factory
from mimachine.training.progress import Progress
from mimachine.training.recipe import Training
from mimachine.training.records import Epoch
from mimachine.training.reported import Reported, check_callbacks
from mimachine.training.run import Run
from mimachine.training.state import State
from mimachine.training.trainer import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.loggers.logger import Logger

__all__ = ["History", "fit"]


@dataclass(frozen=True)
class History:
    """Record of a training run.

    Attributes:
        epochs: Record of each epoch.
        best_epoch: Epoch of the weights that the model has now; None without held-out data.
        stopped_early: Whether training stopped before the last epoch of the recipe.
    """

    epochs: list[Epoch]
    best_epoch: int | list[int] | None
    stopped_early: bool

    @property
    def convergence(self) -> Convergence | list[Convergence]:
        """Whether training has converged, see `Convergence`; for several models a list."""
        return convergence(self.epochs, len(self.epochs) + self.stopped_early)


def fit(
    loss: nn.Module,
    train: Data,
    val: Data | None = None,
    training: Training = Training(),
    *,
    fabric: Fabric | None = None,
    run: Run | None = None,
    optimizer: Factory | None = None,
    on_epoch: Callable[[Epoch], object] | None = None,
    loggers: Sequence[Logger] = (),
    progress: bool | None = None,
    checkpoint_seconds: float = 10.0,
) -> History:
    """Train a model: minimise a loss and end with the weights of the best epoch.

    `loss(x, annealing)` must end in a batch axis: (B,) for one model, (M, B) for M independent
    models trained together. The held-out loss is that of the fully warmed-up objective; it counts
    from the first epoch with β = 1.

    Args:
        loss: Usually a `Loss`. Its model is trained in place.
        train: Training data of shape (N, *X), or a data source. Data are a tensor, an array, a data
            frame or a list of rows, of any real type; they take the type and the device of the
            model. Bytes stay bytes, grey values k / 255. The data of a source stay where they are
            and each batch is copied to the device, so a source of a tensor on the GPU avoids that
            copy. A torch dataset or `DataLoader` is taken, too, see `LoaderSource`; a loader has
            its own batch size.
        val: Held-out data, in the same forms. Without them there is no early stopping, and the
            model ends with the last weights.
        training: The recipe.
        fabric: Device, precision and strategy; by default one device, the best available, and the
            precision of the recipe. With several processes each takes its own batches, so a step
            uses their number times `batch_size` rows.
        run: Run directory that records the epochs, the best weights and the state. An interrupted
            run is resumed from its last state, and ends as if it had not been interrupted. Pass it
            in every process.
        optimizer: A function of the parameters and `lr` that returns an optimiser, such as
            `torch.optim.AdamW` or `functools.partial(torch.optim.SGD, momentum=0.9)`. The schedule
            multiplies the learning rates of its groups. By default the recipe's optimiser.
        on_epoch: Called after each epoch, in every process, with its record. If it raises `Stop`,
            training ends as if that epoch were the last.
        loggers: Loggers of Lightning Fabric, such as `lightning_fabric.loggers.TensorBoardLogger`,
            which get the losses, β and the learning rate of each epoch. Those of the fabric get
            them, too.
        progress: Whether to show a progress bar; by default only in a terminal.
        checkpoint_seconds: Minimal time between two writes of the state; an interruption loses at
            most that time and the current epoch.

    Returns:
        Record of the run.

    Raises:
        TypeError: If the optimizer, a logger or the fabric is none.
        ValueError: If the data or the recipe are invalid, the data, the parts of the model and the
            loss do not fit together, or nothing can be trained.
        RuntimeError: If `training.cuda_graphs` is set and a CUDA graph cannot capture the loss.
        FloatingPointError: If a loss is not finite. The message names the epoch and the step, the
            term and the rows with the largest values. The model then has the best weights so far.
            Of several models only those with a non-finite loss stop.
    """
    _check_options(fabric, run, progress, checkpoint_seconds)
    check_callbacks(on_epoch, loggers)
    trainer = Trainer(loss, train, val, training, fabric, optimizer)
    state, first = trainer.state, trainer.is_first_process
    if run is not None:
        run.resume(state, rewrite=first)
    own_run = run if first else None
    if own_run is not None and not state.epoch:
        # However training is interrupted, a run with weights has a state to resume from.
        own_run.save_state(state)
    with (
        faster_products(trainer.large_products),
        Progress(training.epochs, progress if first else False) as bar,
        _ending_with_best(state, own_run),
    ):
        reported = Reported(on_epoch, trainer.loggers(loggers))
        _train(trainer, own_run, bar, reported, checkpoint_seconds)
    best_epoch = state.best.epoch.tolist() if state.best.seen else None
    return History(state.epochs, best_epoch, state.epoch < training.epochs)


def _train(
    trainer: Trainer, run: Run | None, bar: Progress, reported: Reported, checkpoint_seconds: float
) -> None:
    """Train until the last epoch, or until all models have stopped, and record it."""
    state, saved_at = trainer.state, time.monotonic()
    trainer.retire(state.best.done)
    while state.epoch < trainer.training.epochs and not state.ended:
        state.add(*trainer.epoch(state.epoch + 1))
        trainer.retire(state.best.done)
        bar.update(state.epochs[-1])
        if run is not None:
            run.append_metrics(state.epochs[-1])
        state.stopped = reported(state.epochs[-1])
        if run is not None and time.monotonic() - saved_at >= checkpoint_seconds:
            run.checkpoint(state)
            saved_at = time.monotonic()
    if run is not None:
        run.checkpoint(state)
    reported.end()


@contextmanager
def _ending_with_best(state: State, run: Run | None) -> Iterator[None]:
    """Give the model and the run the best weights so far, however training ends."""
    try:
        yield
    finally:
        state.take()
        state.loss.eval()
        if run is not None and state.best.seen:
            run.save_weights(getattr(state.loss, "model", state.loss))


def _check_options(fabric: object, run: object, progress: object, seconds: float) -> None:
    check_fabric(fabric)
    if run is not None:
        instance("run", run, Run, "a Run")
    if progress is not None:
        flag("progress", progress)
    # An infinite time means that the state is written at the end only.
    if seconds != math.inf:
        real("checkpoint_seconds", seconds, 0)
