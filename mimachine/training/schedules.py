"""Learning-rate schedules: a factor on the learning rate in each epoch.

This module does not import torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from mimachine._support.checks import check_fields, whole
from mimachine._support.messages import unknown

__all__ = [
    "KINDS",
    "Constant",
    "Cosine",
    "Noam",
    "Schedule",
    "WarmupStableDecay",
    "named",
    "text",
]


@dataclass(frozen=True)
class Noam:
    """Noam schedule (Vaswani et al., 2017), stepped per epoch, with its peak at `warmup`.

    The factor on the learning rate in epoch e is √w · min(e · w^-3/2, e^-1/2): linear up to 1 at
    e = w, then √(w / e).

    Attributes:
        warmup: Epoch w of the peak learning rate.
    """

    warmup: int = 3
    kind: Literal["noam"] = "noam"

    def __post_init__(self) -> None:
        check_fields(self, "schedule.")
        whole("schedule.warmup", self.warmup, 1)

    def factor(self, epoch: int, epochs: int) -> float:
        """Factor on the learning rate in an epoch, counted from 1, of all epochs."""
        return min(epoch / self.warmup, math.sqrt(self.warmup / epoch))


@dataclass(frozen=True)
class Constant:
    """Constant learning rate, after a linear warm-up of the rate if one is given.

    Attributes:
        warmup: Number of epochs before the full rate.
    """

    warmup: int = 0
    kind: Literal["constant"] = "constant"

    def __post_init__(self) -> None:
        _check(self)

    def factor(self, epoch: int, epochs: int) -> float:
        """Factor on the learning rate in an epoch, counted from 1, of all epochs."""
        return _rise(epoch, self.warmup)


@dataclass(frozen=True)
class Cosine:
    """Cosine decay (Loshchilov & Hutter, 2017) over all epochs, after a linear warm-up if given.

    Attributes:
        warmup: Number of epochs before the full rate.
        final: Factor on the learning rate that the decay ends at.
    """

    warmup: int = 0
    final: float = 0.0
    kind: Literal["cosine"] = "cosine"

    def __post_init__(self) -> None:
        _check(self)

    def factor(self, epoch: int, epochs: int) -> float:
        """Factor on the learning rate in an epoch, counted from 1, of all epochs."""
        done = _done(epoch - self.warmup, epochs - self.warmup)
        decay = self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
        return min(_rise(epoch, self.warmup), decay)


@dataclass(frozen=True)
class WarmupStableDecay:
    """Linear warm-up, constant rate, then a decay over the last epochs (Hu et al., 2024).

    The rate is the same for any number of epochs until the decay begins. So a decay can be branched
    from a long training at any time, see `Run.branch`, and the training goes on.

    Attributes:
        warmup: Number of epochs before the full rate.
        decay: Number of epochs of the decay, at the end.
        final: Factor on the learning rate that the decay ends at.
    """

    warmup: int = 0
    decay: int = 20
    final: float = 0.0
    kind: Literal["warmup-stable-decay"] = "warmup-stable-decay"

    def __post_init__(self) -> None:
        _check(self)
        whole("schedule.decay", self.decay, 1)

    def factor(self, epoch: int, epochs: int) -> float:
        """Factor on the learning rate in an epoch, counted from 1, of all epochs.

        The decay is 1 - √t at the share t of it that is done, which ends lower than a linear one
        (Hägele et al., 2024).
        """
        done = _done(epoch - (epochs - self.decay), self.decay)
        return min(_rise(epoch, self.warmup), self.final + (1 - self.final) * (1 - math.sqrt(done)))


# A stored schedule without a kind is the first one.
Schedule = Noam | Constant | Cosine | WarmupStableDecay
KINDS: dict[str, type[Schedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "warmup-stable-decay": WarmupStableDecay,
    "noam": Noam,
}


def named(words: str) -> Schedule:
    """A schedule from its name and numbers, such as "cosine" or "noam:3".

    Raises:
        ValueError: If there is no such schedule, or a number is not one of its settings'.
    """
    name, *numbers = words.split(":")
    if name not in KINDS:
        raise ValueError(unknown("schedule", name, KINDS))
    settings = [field for field in fields(KINDS[name]) if field.name != "kind"]
    if len(numbers) > len(settings):
        most = ":".join([name, *(field.name for field in settings)])
        raise ValueError(f"schedule must be {most} at most, got {words!r}")
    given: dict[str, Any] = {}
    for field, number in zip(settings, numbers, strict=False):
        try:
            given[field.name] = float(number) if field.type == "float" else int(number)
        except ValueError:
            raise ValueError(f"schedule.{field.name} must be a number, got {number!r}") from None
    return KINDS[name](**given)


def text(schedule: Schedule) -> str:
    """Name and numbers of a schedule, from which `named` makes it again."""
    settings = [field for field in fields(schedule) if field.name != "kind"]
    while settings and getattr(schedule, settings[-1].name) == settings[-1].default:
        settings.pop()
    return ":".join([schedule.kind, *(str(getattr(schedule, each.name)) for each in settings)])


def _check(schedule: Constant | Cosine | WarmupStableDecay) -> None:
    check_fields(schedule, "schedule.")
    whole("schedule.warmup", schedule.warmup, 0)
    if not isinstance(schedule, Constant) and not 0 <= schedule.final < 1:
        raise ValueError(f"schedule.final must be in [0, 1), got {schedule.final}")


def _rise(epoch: int, warmup: int) -> float:
    return min(1.0, epoch / (warmup + 1))


def _done(epoch: int, epochs: int) -> float:
    """Share of a decay of some epochs that is done in the middle of one, counted from 1."""
    return min(1.0, max(0.0, (epoch - 0.5) / max(1, epochs)))
