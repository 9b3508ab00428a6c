"""Random numbers: seeds derived from a run's seed, and a place to use them in.

torch's distributions draw from the global generator. A run that is to own its noise therefore
puts its own state there for a while and leaves the generator as it found it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["derived_seed", "forked"]


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A seed of its own for each purpose, the same on every machine.

    Noise that is seeded for each epoch needs no state to be stored: an epoch can be done again.
    """
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def forked(seed: int, device: torch.device | str | None = None) -> Iterator[None]:
    """Seed the generators of the processor and of one device here, and restore them after.

    Args:
        seed: The seed of both.
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
