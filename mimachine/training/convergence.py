"""Whether a training has converged, from the records of its epochs."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mimachine._support.messages import counted
from mimachine.training.records import Epoch

__all__ = ["Convergence", "convergence"]

Verdict = Literal["converged", "still falling", "unstable", "best at the start", "not warmed up"]
# Rate, in units of its peak, below which the loss is not expected to fall further.
_DECAYED = 0.1
# A spike is a rise that is many times the usual change and a share of the whole fall.
_SPIKE, _SHARE = 10.0, 0.1
# Share of the whole fall that the last tenth of the epochs has at least while the loss falls.
_LEAST = 1e-3
# With fewer epochs noise and trend cannot be told apart.
_FEWEST = 10


@dataclass(frozen=True)
class Convergence:
    """Verdict on a training, and why.

    Attributes:
        verdict: "converged"; "still falling": training reached its last epoch while the held-out
            loss still fell, and the learning rate had not decayed; "unstable": the training loss
            had spikes; "best at the start": the held-out loss was lowest in the first epoch after
            the warm-up and rose then; "not warmed up": no epoch had β = 1.
        reason: One sentence with the numbers.
    """

    verdict: Verdict
    reason: str


def convergence(epochs: Sequence[Epoch], last: int) -> Convergence | list[Convergence]:
    """Judge a training.

    Without held-out losses those of training are used. Since the learning rate of a cosine ends at
    0, a loss that no longer falls does not say that twice the epochs would not do better.

    Args:
        epochs: Records of its epochs.
        last: Number of epochs of the recipe.

    Returns:
        The verdict; for several models trained together a list.

    Raises:
        ValueError: If there are no epochs.
    """
    if not epochs:
        raise ValueError("epochs must contain at least one epoch, got none")
    count = epochs[0].num_models
    if count is None:
        return _of_one(epochs, [_pair(epoch, None) for epoch in epochs], last)
    return [_of_one(epochs, [_pair(epoch, i) for epoch in epochs], last) for i in range(count)]


def _pair(epoch: Epoch, index: int | None) -> tuple[float | None, float | None]:
    """Training and held-out loss of a model; None where it has none."""
    train, val = _of_model(epoch.train_loss, index), _of_model(epoch.val_loss, index)
    return train, train if epoch.val_loss is None else val


def _of_model(loss: float | list[float | None] | None, index: int | None) -> float | None:
    if isinstance(loss, list):
        return None if index is None else loss[index]
    return loss


def _of_one(
    epochs: Sequence[Epoch], losses: Sequence[tuple[float | None, float | None]], last: int
) -> Convergence:
    judged = [
        (epoch, *pair)
        for epoch, pair in zip(epochs, losses, strict=True)
        if epoch.beta >= 1 and None not in pair
    ]
    if not judged:
        return Convergence("not warmed up", "no epoch had the whole objective, with β = 1")
    held_out = [value for _, _, value in judged if value is not None]
    best = held_out.index(min(held_out))
    # The model takes about as long as the warm-up to settle for the whole objective.
    settled = [(e.epoch, train) for e, train, _ in judged if e.epoch > 2 * judged[0][0].epoch]
    spikes = _spikes([train for _, train in settled if train is not None])
    if spikes:
        where = ", ".join(str(settled[i][0]) for i in spikes[:3])
        return Convergence(
            "unstable", f"the training loss had {counted(len(spikes), 'spike')}, in epoch {where}"
        )
    first, ending = judged[0][0].epoch, judged[-1][0].epoch
    if best == 0 and len(judged) > 2:
        return Convergence(
            "best at the start",
            f"the loss was lowest in epoch {first}, the first after the warm-up, and rose then",
        )
    peak = max(epoch.learning_rate for epoch in epochs)
    decayed = epochs[-1].learning_rate <= _DECAYED * peak
    if ending == last and not decayed and _falls(held_out, best):
        return Convergence(
            "still falling",
            f"the loss still fell when training reached its last epoch, {last}, and the learning "
            "rate had not decayed",
        )
    best_epoch = judged[best][0].epoch
    why = "the learning rate has decayed" if decayed else "the loss no longer fell"
    return Convergence("converged", f"{why}; the best epoch was {best_epoch} of {ending}")


def _spikes(losses: Sequence[float]) -> list[int]:
    """Indices of losses that are far above the one before."""
    rises = [after - before for before, after in itertools.pairwise(losses)]
    if len(rises) < _FEWEST:
        return []
    usual = statistics.median(map(abs, rises))
    least = max(_SPIKE * usual, _SHARE * (losses[0] - min(losses)))
    return [index for index, rise in enumerate(rises, 1) if rise > least]


def _falls(losses: Sequence[float], best: int) -> bool:
    """Whether the last tenth is lower than the tenth before, beyond noise."""
    part = max(1, len(losses) // 10)
    if best < len(losses) - part:
        return False
    if len(losses) < _FEWEST:
        return True
    fall = statistics.mean(losses[-2 * part : -part]) - statistics.mean(losses[-part:])
    changes = [after - before for before, after in itertools.pairwise(losses[-4 * part :])]
    # Of independent noise, changes have √2 times the deviation; the median is robust to the trend.
    middle = statistics.median(changes)
    deviation = 1.48 * statistics.median(abs(c - middle) for c in changes) / math.sqrt(2)
    least = _LEAST * (losses[0] - min(losses))
    return fall > max(least, 2 * deviation * math.sqrt(2 / part))
