"""Random seeds: derive seeds from a run's seed, and seed the generators for one block.

torch's distributions draw from the global generators. A run with its own noise therefore seeds
them for a block and restores their state afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["derived_seed", "forked"]


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Derive a separate seed for each purpose, the same on every machine.

    Noise that is seeded per epoch needs no stored state: an epoch can be repeated.
    """
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def forked(seed: int, device: torch.device | str | None = None) -> Iterator[None]:
    """Seed the generators of the CPU and of one device; restore their state afterwards.

    Args:
        seed: Seed of both generators.
        device: The device; by default the current GPU, if one is in use.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_initialized() else "cpu"
    device = torch.device(device)
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
