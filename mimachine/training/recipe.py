"""The recipe of a training run, as values: `Training`, `Warmup`, `Noam`.

Nothing here needs torch, so a command line can show and check a recipe before paying for its
import.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mimachine.model.annealing import Annealing, Term


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


@dataclass(frozen=True)
class Warmup:
    """Linear warm-up: β = min(1, epoch / epochs), counted from epoch 1.

    By default β stands where the objective puts it: on the two priors for MIM, Eq. (12), on the
    KL divergence for a VAE; both halves take part from the first step.

    The figures of the paper were made with another schedule, `Warmup(3, ("q_z_given_x", "q_x"),
    decoding="after", halves="sum")` for MIM: β on the encoding log-probabilities, decoding
    samples only once β = 1, halves summed. That for images had β on log p(z2) besides, of a
    hierarchy p(z2) p(z1|z2), also where it is part of log q(x): `first_latent=True`.

    Attributes:
        epochs: Epochs until β reaches 1; 0 for none.
        terms: Log-probabilities that β multiplies, in place of those the objective chooses.
        decoding: Whether decoding samples take part from the start or only after the warm-up.
        halves: Mean of the two halves (Algorithm 2), or their sum (the released code).
        first_latent: Whether β multiplies the log-density of the first latent of the prior too; of
            a prior without hierarchy that is all of it.
    """

    epochs: int = 10
    terms: tuple[Term, ...] | None = None
    decoding: Literal["always", "after"] = "always"
    halves: Literal["mean", "sum"] = "mean"
    first_latent: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"warmup.epochs must be 0 or more, got {self.epochs}")
        _check_choice("warmup.decoding", self.decoding, ("always", "after"))
        _check_choice("warmup.halves", self.halves, ("mean", "sum"))
        for term in self.terms or ():
            _check_choice("warmup.terms", term, get_args(Term))

    def at(self, epoch: int) -> Annealing:
        """State in one epoch, counted from 1."""
        beta = min(1.0, epoch / self.epochs) if self.epochs else 1.0
        # At β = 1 every placement is the same; leaving `terms` out spares the multiplications.
        terms = self.terms if beta < 1 else None
        decoding = self.decoding == "always" or beta >= 1
        return Annealing(beta, terms, decoding, self.halves, self.first_latent and beta < 1)


@dataclass(frozen=True)
class Noam:
    """Learning-rate schedule of Vaswani et al. (2017), stepped once an epoch, peak at `warmup`.

    The factor on the learning rate in epoch e is √w · min(e · w^-3/2, e^-1/2): linear up to 1 at
    e = w, then √(w / e).

    Attributes:
        warmup: Epoch w in which the learning rate peaks.
    """

    warmup: int = 3

    def __post_init__(self) -> None:
        if self.warmup < 1:
            raise ValueError(f"schedule.warmup must be 1 or more, got {self.warmup}")

    def factor(self, epoch: int) -> float:
        """Factor on the learning rate in one epoch, counted from 1."""
        return min(epoch / self.warmup, math.sqrt(self.warmup / epoch))


@dataclass(frozen=True)
class Training:
    """How to minimise a loss with Adam, and when to stop.

    Attributes:
        epochs: Most passes over the training data.
        batch_size: Data in a step; MIM adds as many decoding samples.
        learning_rate: Adam's learning rate.
        schedule: Learning-rate schedule; None keeps it constant.
        warmup: Warm-up of the loss (Eq. 12); a number stands for Warmup(number).
        patience: Stop after so many epochs without a better held-out loss; None: as many as the
            warm-up has, as in the paper, and at least 10.
        validation_noise: The same noise in every held-out loss, so that epochs differ by their
            weights alone; or new noise each time.
        seed: Seed of data order and noise.
        gradient: What Adam is given: the gradient as it is, or each parameter tensor's divided by
            its L2 norm + 1e-7, as in the released image code.
        ema_decay: Decay per step of an exponential moving average of the weights, such as 0.999;
            held-out losses are those of the average then, and so are the weights that are kept.
            None for none.
        precision: "full" computes in the numbers that the weights are of, "bf16-mixed" networks in
            bfloat16 and densities, optimiser and weights in float32 as before.
        compile: Whether `torch.compile` fuses the loss. It takes seconds to minutes at the first
            steps, and the noise stays what it is. Where it fails, as without a C++ compiler, a
            warning says so and training goes on without.
        cuda_graphs: Whether a GPU is given each step as one CUDA graph, for models whose steps take
            longer to start than to compute. A step is captured once, and once for each β of the
            warm-up; the noise and the results stay what they are. Of one process and one model,
            none of whose parts draws from a mixture or categories for each datum, which waits for
            the GPU. A smaller last batch is worked on without.
    """

    epochs: int = 500
    batch_size: int = 128
    learning_rate: float = 1e-3
    schedule: Noam | None = None
    warmup: Warmup | int = Warmup()
    patience: int | None = None
    validation_noise: Literal["common", "fresh"] = "common"
    seed: int = 0
    gradient: Literal["plain", "normalised"] = "plain"
    ema_decay: float | None = None
    precision: Literal["full", "bf16-mixed"] = "full"
    compile: bool = False
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.warmup, int):
            object.__setattr__(self, "warmup", Warmup(self.warmup))
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be 1 or more, got {getattr(self, name)}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(
                f"training.learning_rate must be positive and finite, got {self.learning_rate}"
            )
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"training.patience must be 1 or more, got {self.patience}")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"training.ema_decay must be in [0, 1), got {self.ema_decay}")
        _check_choice("training.precision", self.precision, ("full", "bf16-mixed"))
        _check_choice("training.gradient", self.gradient, ("plain", "normalised"))
        _check_choice("training.validation_noise", self.validation_noise, ("common", "fresh"))
        if self.annealing.epochs > self.epochs:
            raise ValueError(
                f"training.epochs must be at least the warm-up's {self.annealing.epochs}, "
                f"got {self.epochs}: the loss would never be fully warmed up; "
                "more epochs, or a smaller training.warmup.epochs"
            )

    @property
    def annealing(self) -> Warmup:
        """The warm-up, always as a `Warmup`."""
        return self.warmup if isinstance(self.warmup, Warmup) else Warmup(self.warmup)

    def learning_rate_at(self, epoch: int) -> float:
        """Learning rate in one epoch, counted from 1."""
        return self.learning_rate * (self.schedule.factor(epoch) if self.schedule else 1.0)

    @property
    def stop_after(self) -> int:
        """Epochs without improvement after which training stops."""
        return self.patience if self.patience is not None else max(10, self.annealing.epochs)
