"""Seconds of several ways to do the same work, in turns, and their ratios to one of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from timing import in_turns, rounded

CPU = torch.device("cpu")

Seconds = Mapping[str, list[float]]


def clocked(work: Callable[[], object]) -> float:
    """Seconds of the processor that a call takes, those of compilers that it starts included."""

    def now() -> float:
        times = os.times()
        return time.process_time() + times.children_user + times.children_system

    start = now()
    work()
    return now() - start


def by_slope(
    ways: Mapping[str, Callable[[int], object]],
    lengths: tuple[int, int],
    steps: int,
    repeats: int,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of a step of each way of training, and of its first call.

    A step takes the difference of a long and a short training, divided by the difference of their
    steps, so that it includes neither compilation nor what a training costs once.

    Args:
        ways: Trains for a number of epochs, by name.
        lengths: Numbers of epochs of the short and of the long training.
        steps: Number of steps of an epoch.
        repeats: Number of rounds.

    Returns:
        Seconds of a step in each round, the best round first; seconds that the first call of each
        way took in excess of the best short training.
    """
    short, long = lengths
    first = {name: clocked(partial(train, short)) for name, train in ways.items()}
    taken = in_turns(
        {(name, n): partial(train, n) for name, train in ways.items() for n in lengths},
        repeats,
        CPU,
    )
    count = (long - short) * steps
    slopes, in_excess = {}, {}
    for name in ways:
        pairs = list(zip(taken[name, short], taken[name, long], strict=True))
        # Both ends of the best slope are bests, as the round with the smallest difference may be
        # the one whose short training was disturbed.
        best = min(taken[name, long]) - min(taken[name, short])
        slopes[name] = [each / count for each in (best, *(b - a for a, b in pairs))]
        in_excess[name] = first[name] - min(taken[name, short])
    return slopes, in_excess


def of_whole(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, the best round first."""
    taken = in_turns(ways, repeats, CPU)
    return {name: [min(each), *each] for name, each in taken.items()}


def compared(
    seconds: Seconds, baseline: str, compiling: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Seconds of each way and their ratio to those of the baseline.

    Args:
        seconds: The best, and then that of each round, by way.
        baseline: Name of the baseline.
        compiling: Seconds of compiling, of the ways that compile.

    Returns:
        For each way its best seconds, their ratio to the baseline's best, and the range of the
        ratios of the rounds.
    """
    compiling = compiling or {}
    of_baseline, found = seconds[baseline], []
    for name, each in seconds.items():
        best, *ratios = (own / other for own, other in zip(each, of_baseline, strict=True))
        row = {"way": name, "seconds": rounded(each[0]), "over_baseline": rounded(best)}
        row["range"] = [rounded(min(ratios)), rounded(max(ratios))]
        if name in compiling:
            row["compile_seconds"] = rounded(compiling[name])
        found.append(row)
    return found
