"""Timing of image benchmarks: alternate between implementations in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call.

    CPU time with one thread on a CPU, which other processes do not affect; otherwise wall time.
    """
    of_process = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if of_process else time.perf_counter
    _wait(device)
    start = clock()
    work()
    _wait(device)
    return clock() - start


def in_turns(
    ways: Mapping[Name, Callable[[], object]], repeats: int, device: torch.device
) -> dict[Name, list[float]]:
    """Seconds of alternating calls, after a discarded first round."""
    taken: dict[Name, list[float]] = {name: [] for name in ways}
    for _ in range(1 + repeats):
        for name, work in ways.items():
            taken[name].append(seconds(work, device))
    return {name: each[1:] for name, each in taken.items()}


def medians(taken: Mapping[str, list[float]]) -> dict[str, float]:
    """Median seconds of each implementation."""
    return {name: rounded(statistics.median(each)) for name, each in taken.items()}


def ratios(taken: Mapping[str, list[float]], baseline: str) -> dict[str, float]:
    """Median over rounds of time(baseline) / time(implementation)."""
    return {
        name: rounded(statistics.median(map(lambda slow, own: slow / own, taken[baseline], each)))
        for name, each in taken.items()
        if name != baseline
    }


def rounded(number: float) -> float:
    """Round to three significant digits."""
    return float(f"{number:.3g}")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
