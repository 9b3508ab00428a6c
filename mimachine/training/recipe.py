"""Training recipe: optimisation, warm-up and learning-rate schedule as values.

This module does not import torch, so the command line can check a recipe without that cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mimachine._support.checks import UNLIMITED, check_fields, whole
from mimachine.model.annealing import Annealing, Term
from mimachine.training.schedules import Cosine, Schedule, WarmupStableDecay

# Steps of training: the fewest, for the rows that they suffice for, the power of the number of rows
# that they grow with, and the most (`benchmarks/defaults.py`).
_FEWEST_STEPS, _FEW_ROWS, _GROWTH, _MOST_STEPS = 1000, 300, 0.6, 20_000


@dataclass(frozen=True)
class Warmup:
    """Linear warm-up: β = min(1, epoch / epochs), counted from epoch 1.

    By default the objective determines the terms that β multiplies: the two priors for MIM,
    Eq. (12), the KL divergence for a VAE. Both halves are used from the first step.

    The figures of the paper used another schedule, `Warmup(3, ("q_z_given_x", "q_x"),
    decoding="after", halves="sum")` for MIM: β on the encoding log-probabilities, decoding
    samples only once β = 1, halves summed. For images β also multiplied log p(z2) of a hierarchy
    p(z2) p(z1|z2), including its part in log q(x): `first_latent=True`.

    Attributes:
        epochs: Epochs until β reaches 1; 0 for none.
        terms: Log-probabilities that β multiplies; None for those of the objective.
        decoding: Whether to use decoding samples from the start or only after the warm-up.
        halves: Mean of the two halves (Algorithm 2), or their sum (the released code).
        first_latent: Whether β also multiplies the prior's log-density of the first latent; for a
            prior without hierarchy this is the whole log-density.
    """

    epochs: int = 10
    terms: tuple[Term, ...] | None = None
    decoding: Literal["always", "after"] = "always"
    halves: Literal["mean", "sum"] = "mean"
    first_latent: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "warmup.")
        whole("warmup.epochs", self.epochs, 0)

    def at(self, epoch: int) -> Annealing:
        """Warm-up state in an epoch, counted from 1."""
        beta = min(1.0, epoch / self.epochs) if self.epochs else 1.0
        # At β = 1 the choice of terms does not matter; None avoids the multiplications.
        terms = self.terms if beta < 1 else None
        decoding = self.decoding == "always" or beta >= 1
        return Annealing(beta, terms, decoding, self.halves, self.first_latent and beta < 1)


@dataclass(frozen=True)
class Training:
    """Training recipe: how to minimise a loss, and when to stop.

    Attributes:
        epochs: Maximal number of passes over the training data.
        batch_size: Number of rows per step; MIM adds the same number of decoding samples.
        learning_rate: Learning rate of the optimiser.
        schedule: Learning-rate schedule: `Constant`, `Cosine`, `WarmupStableDecay` or `Noam`; on
            the command line its name, with its numbers after colons, such as cosine or noam:3. None
            for a constant rate.
        warmup: Warm-up of the loss, Eq. (12); a number n means Warmup(n).
        patience: Number of epochs without a better held-out loss after which training stops. None:
            with a schedule whose rate decays at the end, never; otherwise the epochs of the
            warm-up, as in the paper, but at least 10.
        validation_noise: "common" for the same noise in every held-out loss, so that epochs differ
            only by their weights; "fresh" for new noise each time.
        seed: Seed of data order and noise.
        optimizer: "adam", or "muon": Muon for the matrices of layers and Adam for all other
            parameters, see `Muon`. `fit` also takes an optimiser of your own.
        weight_decay: Decoupled weight decay of the matrices of layers, as in AdamW.
        clip_norm: Largest L2 norm of the gradient of all parameters together, to which larger ones
            are scaled down; None for no limit. Of several models each has its own norm.
        gradient: Gradient for the optimiser: "plain", or "normalised", that of each parameter
            tensor divided by its L2 norm + 1e-7, as in the released image code.
        ema_decay: Decay per step of an exponential moving average of the weights, such as 0.999,
            which then gives the held-out losses and the final weights. None for no average.
        precision: "full" computes in the dtype of the weights; "bf16-mixed" computes networks in
            bfloat16, and densities, optimiser and weights in float32.
        compile: Whether to compile training with `torch.compile`: on a CPU, with Adam in full
            precision, whole steps in one graph; otherwise the loss. The first steps take seconds to
            minutes, so it pays for long trainings of small models. Convolutions on a CPU would be
            slower, so they are not compiled. The noise does not change. If compiling fails, for
            example without a C++ compiler, a warning is given and training continues uncompiled.
        cuda_graphs: Whether to run each step on a GPU as one CUDA graph, for models whose steps
            take longer to start than to compute. The step is captured once per β of the warm-up;
            noise and results do not change. This needs one process and one model, and no part that
            draws per row from a mixture or categories, which waits for the GPU. A smaller last
            batch runs without a graph.
        drop_last: Whether to leave out the last batch of an epoch if it is smaller than the others.
            Otherwise it is used, too; a single row that is left over joins the batch before if the
            model has batch normalisation, which cannot train on one row.
    """

    epochs: int = 500
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: Schedule | None = None
    warmup: Warmup | int = Warmup()
    patience: int | None = None
    validation_noise: Literal["common", "fresh"] = "common"
    seed: int = 0
    optimizer: Literal["adam", "muon"] = "adam"
    weight_decay: float = 0.0
    clip_norm: float | None = None
    gradient: Literal["plain", "normalised"] = "plain"
    ema_decay: float | None = None
    precision: Literal["full", "bf16-mixed"] = "full"
    compile: bool = False
    cuda_graphs: bool = False
    drop_last: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "training.")
        if isinstance(self.warmup, int):
            object.__setattr__(self, "warmup", Warmup(self.warmup))
        whole("training.epochs", self.epochs, 1)
        whole("training.batch_size", self.batch_size, 1, UNLIMITED)
        if not self.learning_rate > 0:
            raise ValueError(
                f"training.learning_rate must be positive and finite, got {self.learning_rate}"
            )
        if self.weight_decay < 0:
            raise ValueError(f"training.weight_decay must be 0 or more, got {self.weight_decay}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"training.clip_norm must be positive or None, got {self.clip_norm}")
        if self.patience is not None:
            whole("training.patience", self.patience, 1, UNLIMITED)
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"training.ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.annealing.epochs > self.epochs:
            raise ValueError(
                f"training.epochs must be at least the warm-up's {self.annealing.epochs}, "
                f"got {self.epochs}: the warm-up would never end; "
                "use more epochs or a smaller training.warmup.epochs"
            )

    @classmethod
    def for_rows(cls, count: int) -> Training:
        """Recipe of the command line for dense networks, by the number of training rows.

        The learning rate of Adam falls from 0.003 to 0 along a cosine, over 1,000 steps for few
        rows and 20,000 for 50,000 and more, with batches of up to 128 rows.

        Args:
            count: Number of training rows.

        Example:
            >>> recipe = Training.for_rows(1257)
            >>> recipe.epochs, recipe.batch_size, recipe.annealing.epochs
            (236, 128, 10)
        """
        count = whole("count", count, 1)
        batch_size = min(128, max(16, count // 8))
        steps = _FEWEST_STEPS * max(1.0, count / _FEW_ROWS) ** _GROWTH
        epochs = max(4, round(min(_MOST_STEPS, steps) / math.ceil(count / batch_size)))
        warmup = Warmup(min(10, epochs // 4))
        return cls(epochs, batch_size, 3e-3, schedule=Cosine(), warmup=warmup)

    @property
    def annealing(self) -> Warmup:
        """Warm-up as a `Warmup`."""
        return self.warmup if isinstance(self.warmup, Warmup) else Warmup(self.warmup)

    def learning_rate_at(self, epoch: int) -> float:
        """Learning rate in an epoch, counted from 1."""
        factor = 1.0 if self.schedule is None else self.schedule.factor(epoch, self.epochs)
        return self.learning_rate * factor

    @property
    def stop_after(self) -> int:
        """Number of epochs without improvement after which training stops."""
        if self.patience is not None:
            return self.patience
        # Stopping before the decay would lose what it is for.
        if isinstance(self.schedule, Cosine | WarmupStableDecay):
            return self.epochs
        return max(10, self.annealing.epochs)
