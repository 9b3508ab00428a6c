"""Trainer of one epoch: a loss with its data, optimiser, state and device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from mimachine._support.products import products_pay
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.sources import TensorSource
from mimachine.model.annealing import Annealing
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating
from mimachine.training.batches import (
    Data,
    as_source,
    batches_of_process,
    check_sizes,
    normalises_batches,
    placed,
    whole_batches,
)
from mimachine.training.ensemble import Ensemble
from mimachine.training.one_device import OneDevice
from mimachine.training.optimizers import Factory, is_adam, make
from mimachine.training.recipe import Training
from mimachine.training.records import Epoch
from mimachine.training.state import State
from mimachine.training.steps.compilation import CompiledLoss, compiling_pays
from mimachine.training.steps.cuda_graphs import CudaGraphs, Replayed
from mimachine.training.steps.first_batch import check_first_batch
from mimachine.training.steps.nonfinite import explain
from mimachine.training.steps.step import Mean, Step, held_out
from mimachine.training.steps.whole_step import WholeStep, fits

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.loggers.logger import Logger

__all__ = ["Trainer"]


class Trainer:
    """A loss with its data, state and device; trains one epoch at a time.

    Args:
        loss, train, val, training, fabric, optimizer: As for `fit`.
    """

    def __init__(
        self,
        loss: nn.Module,
        train: Data,
        val: Data | None,
        training: Training,
        fabric: Fabric | None,
        optimizer: Factory | None,
    ) -> None:
        _check_types(loss, training)
        self.loss, self.training = loss, training
        self.optimizer = make(loss, training, optimizer)
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if fabric is not None and training.precision != "full":
            raise ValueError(
                'training.precision must be "full" if a fabric is given, which sets the precision; '
                f"got {training.precision!r}: use Fabric(precision={training.precision!r})"
            )
        self.fabric = _one_device(loss, training) if fabric is None else fabric
        device = self.fabric.device
        compiled = training.compile and compiling_pays(loss, device)
        self.is_whole = compiled and fabric is None and fits(loss, self.optimizer, training, device)
        called = _compiled(loss) if compiled and not self.is_whole else loss
        setup: Any = self.fabric.setup
        self.module, self.wrapped = setup(called, self.optimizer)
        _check_unscaled(self.fabric, training)
        # After the setup, which may have moved the weights.
        self.state = State(loss, self.optimizer, training.stop_after, training.ema_decay)
        self._step: Step | WholeStep = Step(self.module, self.wrapped, self.fabric, training)
        if self.is_whole:
            adam = cast(torch.optim.Adam, self.optimizer)
            self._step = WholeStep(loss, adam, self._step, training.batch_size)
        self._measure = held_out(self.module)
        self._replayed: Replayed | None = None
        self._rate: Tensor | None = None
        if training.cuda_graphs:
            _check_can_be_captured(loss, self.fabric, self.optimizer)
            self._capture()
        self._like = _floating_parameter(loss)
        self.train = as_source("train", train, self._like, training.seed, loss)
        self.val = None if val is None else as_source("val", val, self._like, None, loss)
        check_sizes(loss, self.train, training)
        self._joins_single = normalises_batches(loss)
        self._row: torch.Size | None = None

    def _capture(self) -> None:
        """Replay training steps and held-out losses as CUDA graphs."""
        graphs, size = CudaGraphs(self.fabric.device), self.training.batch_size
        self._replayed = Replayed(self._step, size, graphs)
        self._measure = Replayed(self._measure, size, graphs)
        # A number would be captured in the graph; a tensor can change. Adam's kernel reads it in
        # float32 whatever the dtype of the weights.
        self._rate = torch.zeros((), dtype=torch.float32, device=self.fabric.device)

    @property
    def is_first_process(self) -> bool:
        """Whether this process records the run."""
        return self.fabric.is_global_zero

    @property
    def large_products(self) -> bool:
        """Whether a step's matrix products are large enough for `faster_products`."""
        return self.training.precision == "full" and products_pay(
            self.loss, self.training.batch_size
        )

    def retire(self, done: Tensor) -> None:
        """Compute no more models that have stopped, shape () or (M,), if the loss can do so."""
        # A step that was compiled for all models computes all of them.
        retire = getattr(self.loss, "retire", None)
        if retire is not None and not self.is_whole:
            retire(done)

    def epoch(self, number: int) -> tuple[Epoch, Tensor | None]:
        """Train for one epoch; return its record and the held-out loss, () or (M,)."""
        annealing = self.training.annealing.at(number)
        rate = self.training.learning_rate_at(number)
        self._set_rate(rate / self.training.learning_rate)
        train_loss = self._train_epoch(number, annealing)
        with self.state.measured():
            val_loss = self._held_out_loss(number)
        held_out = None if val_loss is None else val_loss.tolist()
        return Epoch(number, annealing.beta, rate, train_loss.tolist(), held_out), val_loss

    def loggers(self, given: Sequence[Logger]) -> list[Logger]:
        """Loggers of the caller and of the fabric, in the first process."""
        return [*given, *self.fabric.loggers] if self.is_first_process else []

    def _train_epoch(self, number: int, annealing: Annealing) -> Tensor:
        fabric, training, device = self.fabric, self.training, self.fabric.device
        # Processes have different noise and different batches, the same number each.
        seed = derived_seed(training.seed, "train", fabric.global_rank, number)
        batches = batches_of_process(fabric, self._batches(number))
        # Checking every loss would make the CPU wait for the GPU.
        stride = 1 if device.type == "cpu" else 50
        losses, counts = [], []
        self.module.train()
        with forked(seed, device):
            for step, x in enumerate(batches, 1):
                is_checked = step % stride == 0
                here = placed(x, self._like)
                self._check_first(here)
                mean = self._advance(
                    here,
                    annealing,
                    partial(self._check, number, step, x) if is_checked else None,
                )
                if self.state.average is not None:
                    self.state.average.update()
                losses.append(mean.loss)
                counts.append(mean.num_data)
        total, count = _sums(losses, counts)
        if not torch.isfinite(total).any():
            raise FloatingPointError(f"the training loss is {total.tolist()} in epoch {number}")
        if not isinstance(fabric, OneDevice) and fabric.world_size > 1:
            total = fabric.all_reduce(total, reduce_op="sum")  # type: ignore[assignment]
            count = fabric.all_reduce(count, reduce_op="sum")  # type: ignore[assignment]
        return total / count

    @torch.no_grad()
    def _held_out_loss(self, number: int) -> Tensor | None:
        """Mean loss over all held-out data; every process computes the same value."""
        if self.val is None:
            return None
        training, device = self.training, self.fabric.device
        seed = number if training.validation_noise == "fresh" else 0
        warmed_up = Annealing(halves=training.annealing.halves)
        losses, counts = [], []
        self.module.eval()
        with forked(derived_seed(training.seed, "val", seed), device):
            for x in self.val.batches(training.batch_size, number):
                mean = self._measure(self._like_train(placed(x, self._like)), warmed_up)
                losses.append(mean.loss)
                counts.append(mean.num_data)
        total, count = _sums(losses, counts)
        if not torch.isfinite(total).any():
            raise FloatingPointError(f"the held-out loss is {total.tolist()} in epoch {number}")
        return total / count

    def _batches(self, number: int) -> Iterator[Tensor]:
        """Training batches of an epoch."""
        size, drop_last = self.training.batch_size, self.training.drop_last
        batches = self.train.batches(size, number)
        if not (drop_last or self._joins_single):
            return batches
        return whole_batches(
            batches,
            size,
            axis=1 if isinstance(self.loss, Ensemble) else 0,
            drop_last=drop_last,
            join_single=self._joins_single,
        )

    def _check_first(self, x: Tensor) -> None:
        """Check with the first batch that the data and the model fit together."""
        if self._row is None:
            called = self.loss if self.fabric.world_size == 1 else self.module
            with evaluating(called), forked(0, x.device):
                warmed_up = Annealing(halves=self.training.annealing.halves)
                check_first_batch(self.loss, called, x, warmed_up)
            self._row = x.shape[1 + isinstance(self.loss, Ensemble) :]

    def _like_train(self, x: Tensor) -> Tensor:
        """A held-out batch, whose rows must have the shape of the training data's."""
        row = x.shape[1 + isinstance(self.loss, Ensemble) :]
        if row != self._row:
            raise ValueError(
                f"val must have rows of train's shape {tuple(self._row or ())}, got {tuple(row)}"
            )
        return x

    def _advance(
        self, x: Tensor, annealing: Annealing, check: Callable[[Tensor], None] | None
    ) -> Mean:
        """Do a training step and check its loss."""
        if self._replayed is None:
            return self._step(x, annealing, check)
        mean = self._replayed(x, annealing)
        # A graph does not stop midway: the weights have already been updated.
        if check is not None:
            check(mean.loss)
        return mean

    def _set_rate(self, factor: float) -> None:
        """Set the learning rates to a factor of their initial values."""
        if self._rate is not None:
            self._rate.fill_(factor * self._rates[0])
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            # Both may have been restored from a run with other settings.
            group["lr"] = factor * rate if self._rate is None else self._rate
            if "capturable" in group:
                group["capturable"] = self._rate is not None

    def _check(self, number: int, step: int, x: Tensor, loss: Tensor) -> None:
        # The non-finite loss of one of several independent models does not affect the others.
        summed = loss.sum() if loss.dim() else loss
        if not (math.isfinite(summed.item()) or torch.isfinite(loss).any()):
            raise self._nonfinite_error(loss, number, step, x)

    def _nonfinite_error(
        self, loss: Tensor, number: int, step: int, x: Tensor
    ) -> FloatingPointError:
        rows = None
        if isinstance(self.train, TensorSource):
            batch = (step - 1) * self.fabric.world_size + self.fabric.global_rank
            start = batch * self.training.batch_size
            rows = self.train.order(number)[start : start + len(x)]
        return FloatingPointError(
            f"the training loss is {loss.tolist()} in epoch {number}, step {step}: "
            f"{explain(self.loss, x, rows)}"
        )


def _check_types(loss: object, training: object) -> None:
    if isinstance(loss, Joint):
        raise ValueError("loss must be a Loss, got a Joint: mm.Loss(model, mm.MIM) gives one")
    if not isinstance(loss, nn.Module):
        raise ValueError(f"loss must be a module, such as a Loss, got {type(loss).__name__}")
    if not isinstance(training, Training):
        raise ValueError(f"training must be a Training, got {type(training).__name__}")


def _floating_parameter(loss: nn.Module) -> Tensor:
    """The parameter whose type and device the data take."""
    return next(p for p in loss.parameters() if p.is_floating_point())


def _compiled(loss: nn.Module) -> nn.Module:
    if not isinstance(loss, Ensemble):
        return CompiledLoss(loss)
    loss.compile()
    return loss


def _one_device(loss: nn.Module, training: Training) -> Fabric | OneDevice:
    if training.precision == "full":
        return OneDevice()
    if any(p.dtype == torch.float64 for p in loss.parameters()):
        raise ValueError(
            f"training.precision {training.precision!r} needs weights of float32, got float64"
        )
    # Imported late: it loads more than all the rest.
    from lightning_fabric import Fabric

    return Fabric(devices=1, precision=training.precision)


def _check_unscaled(fabric: Fabric | OneDevice, training: Training) -> None:
    if not _scales_gradients(fabric):
        return
    given = {
        'gradient "normalised"': training.gradient == "normalised",
        "clip_norm": training.clip_norm is not None,
    }
    for name in (name for name, is_given in given.items() if is_given):
        raise ValueError(
            f"training.{name} needs unscaled gradients, and precision "
            f"{_precision(fabric)} scales them: use bf16-mixed"
        )


def _check_can_be_captured(
    loss: nn.Module, fabric: Fabric | OneDevice, optimizer: torch.optim.Optimizer
) -> None:
    if not is_adam(optimizer):
        raise ValueError(
            "training.cuda_graphs needs Adam, whose kernel reads its learning rate from the GPU, "
            f"got {type(optimizer).__name__}: cuda_graphs=False"
        )
    if len({group["lr"] for group in optimizer.param_groups}) > 1:
        raise ValueError(
            "training.cuda_graphs needs one learning rate, got an optimizer with several: "
            "cuda_graphs=False"
        )
    if fabric.device.type != "cuda":
        raise ValueError(
            f"training.cuda_graphs needs a CUDA device, got {fabric.device.type}: cuda_graphs=False"
        )
    if fabric.world_size > 1:
        raise ValueError(
            f"training.cuda_graphs needs one process, got {fabric.world_size}: cuda_graphs=False"
        )
    if isinstance(loss, Ensemble):
        raise ValueError(
            "training.cuda_graphs needs the loss of one model, got an Ensemble: "
            "use compile=True to speed it up"
        )
    if _scales_gradients(fabric):
        raise ValueError(
            "training.cuda_graphs needs unscaled gradients, and precision "
            f"{_precision(fabric)} scales them: use bf16-mixed"
        )


def _precision(fabric: Fabric | OneDevice) -> str:
    return "full" if isinstance(fabric, OneDevice) else fabric.strategy.precision.precision


def _scales_gradients(fabric: Fabric | OneDevice) -> bool:
    if isinstance(fabric, OneDevice):
        return False
    return getattr(fabric.strategy.precision, "scaler", None) is not None


def _sums(losses: list[Tensor], counts: list[int]) -> tuple[Tensor, Tensor]:
    """Sum the losses of an epoch from the means of its batches, and count its rows."""
    if not losses:
        raise ValueError("a data source gave no batch in an epoch")
    stacked = torch.stack(losses, -1)
    weights = torch.tensor(counts, dtype=stacked.dtype, device=stacked.device)
    return (stacked * weights).sum(-1), weights.sum()
