"""Pilot of the likelihood: the time of a row, and whether the encoder works as a proposal."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from mimachine._support.seeds import forked
from mimachine.estimation.likelihood.importance import (
    FEWEST_EFFECTIVE,
    LogLikelihood,
    log_likelihood,
)
from mimachine.model.joint import Joint

__all__ = ["Pilot", "pilot_of_model"]

# Rows of the pilot, which ends after the first of them if the encoder works for these.
_ROWS, _FIRST = 200, 64
# Where it does not, at most this number of estimates are unflagged, and the median Pareto-k is at
# least this: nearly 1, from where on weights have no mean. Of linear-Gaussian models whose encoders
# are too narrow, those with a smaller median are off by 0.3 nat at most, and those with a larger
# one by 0.6 to 30.
_MOST_UNFLAGGED, _WITHOUT_MEAN = 4, 0.9
# Share of the time for a pilot, if there is too little for all rows.
_SHARE = 0.3
# The first rows are timed, if one by one they would take no longer than these seconds.
_TIMED_SECONDS = 2.0


@dataclass(frozen=True)
class Pilot:
    """Likelihood of random rows, all of them with the full number of samples.

    Attributes:
        seconds: Time that a row takes.
        rows: Indices of the rows, shape (n,).
        estimates: Their estimates; None if the encoder works, so that all rows are worth it.
    """

    seconds: float
    rows: Tensor
    estimates: LogLikelihood | None


def pilot_of_model(model: Joint, x: Tensor, num_samples: int, end: float) -> Pilot:
    """Measure 200 random rows, to stop there if the encoder does not work as a proposal.

    Whether it stops depends on the seed alone, unless there is too little time for all rows.

    Args:
        model: The model, in evaluation mode.
        x: Data as the model sees them, shape (N, *X).
        num_samples: Importance samples per row.
        end: Time by `time.monotonic` at which the likelihood is to be done.
    """
    # A single row is mostly overhead where the model is small, so a block is timed if that is
    # quick.
    with forked(0, x.device):
        each = min(_timed(model, x[:1], num_samples)[1] for _ in range(2))
    rows = torch.randperm(len(x))[:_ROWS].to(x.device)
    first = x[rows[:_FIRST]]
    left = end - time.monotonic()
    affordable = len(x) * each <= left or _ROWS * each <= _SHARE * left
    # Estimates from fewer samples are all flagged, which says nothing about the encoder.
    useful = len(x) > _ROWS and num_samples >= FEWEST_EFFECTIVE and affordable
    if not useful and each * len(first) > _TIMED_SECONDS:
        return Pilot(each, rows, None)
    found, seconds = _timed(model, first, num_samples)
    each = min(each, seconds / len(first))
    if not useful or _works(found):
        return Pilot(each, rows, None)
    found = _joined(found, log_likelihood(model, x[rows[_FIRST:]], num_samples))
    return Pilot(each, rows, None if _works(found) else found)


def _timed(model: Joint, x: Tensor, num_samples: int) -> tuple[LogLikelihood, float]:
    start = time.monotonic()
    found = log_likelihood(model, x, num_samples)
    float(found.values.sum())
    # Clocks may stand still for a moment.
    return found, max(time.monotonic() - start, 1e-9)


def _works(found: LogLikelihood) -> bool:
    """Whether the mean of such estimates may be right."""
    without_mean = float(found.pareto_k.median()) >= _WITHOUT_MEAN
    return not without_mean or int((~found.flagged).sum()) > _MOST_UNFLAGGED


def _joined(first: LogLikelihood, second: LogLikelihood) -> LogLikelihood:
    names = [field.name for field in fields(first) if field.name != "num_samples"]
    parts: dict[str, Any] = {
        name: torch.cat([getattr(each, name) for each in (first, second)]) for name in names
    }
    return replace(first, **parts)
