"""Random seeds: derive seeds from a run's seed, and seed the generators for one block.

torch's distributions draw from the global generators. A function with its own noise therefore
seeds them for a block and restores their state afterwards. These blocks exclude each other in
threads, see `process.exclusive`.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch

from mimachine._support.checks import whole
from mimachine._support.process import exclusive

__all__ = ["derived_seed", "forked", "own_noise", "seed_everything"]

_of_thread = threading.local()


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch, on all devices.

    Networks and priors are initialised from the global generator of torch, so call this before you
    build a model to get the same model and results again. What mimachine draws itself, in training
    and in estimators, depends only on their own seeds, such as `Training.seed`.

    Args:
        seed: The seed, from 0 to 2³² - 1.

    Raises:
        ValueError: If the seed is out of range.
    """
    seed = whole("seed", seed, 0, 2**32 - 1)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (for the code of others, that uses it)
    torch.manual_seed(seed)


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Derive a separate seed for each purpose, the same on every machine.

    Noise that is seeded per epoch needs no stored state: an epoch can be repeated.
    """
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def forked(seed: int, device: torch.device | str | None = None) -> Iterator[None]:
    """Seed the generators of the CPU and of one device; restore their state afterwards.

    Other threads that enter such a block wait until this one ends, so each has the noise that it
    would have alone.

    Args:
        seed: Seed of both generators.
        device: The device; by default the current GPU, if one is in use.
    """
    with exclusive():
        generators = _generators(device)
        states = [generator.get_state() for generator in generators]
        depth: int = vars(_of_thread).get("depth", 0)
        try:
            _of_thread.depth = depth + 1
            for generator in generators:
                generator.manual_seed(seed)
            yield
        finally:
            _of_thread.depth = depth
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def _generators(device: torch.device | str | None) -> list[torch.Generator]:
    if device is None:
        device = "cuda" if torch.cuda.is_initialized() else "cpu"
    device = torch.device(device)
    if device.type != "cuda":
        return [torch.default_generator]
    index = torch.cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, torch.cuda.default_generators[index]]


def own_noise(
    seed: int | None, purpose: str, device: torch.device | str | None = None
) -> AbstractContextManager[None]:
    """Noise of a public function, which leaves the global generators as they were.

    Args:
        seed: Seed of the noise. None continues the noise of the `forked` block that this thread is
            in, as for a measurement that is part of another; outside of such a block it means 0.
        purpose: What the noise is for, so that functions with one seed have separate noise.
        device: As for `forked`.

    Raises:
        ValueError: If the seed is no whole number.
    """
    seed = None if seed is None else whole("seed", seed)
    if seed is None and vars(_of_thread).get("depth", 0):
        return nullcontext()
    return forked(derived_seed(0 if seed is None else seed, purpose), device)
