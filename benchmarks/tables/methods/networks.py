"""Training of the networks of the benchmark."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn


class Recipe(NamedTuple):
    """How a network is trained.

    Attributes:
        steps: Number of steps.
        batch: Rows of a batch.
        learning_rate: Adam's learning rate at the start.
        weight_decay: Of Adam, as an L2 penalty.
        cosine: Whether the learning rate falls to 0 along a cosine.
        every: Steps between measures of the held-out loss, whose best weights are kept; None keeps
            the last weights.
    """

    steps: int
    batch: int = 500
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    cosine: bool = False
    every: int | None = None


def mlp(inputs: int, outputs: int, hidden: Sequence[int]) -> nn.Sequential:
    """Layers with ReLU between them."""
    sizes = [inputs, *hidden]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))


def train(
    network: nn.Module,
    loss: Callable[[Tensor], Tensor],
    rows: int,
    recipe: Recipe,
    seed: int,
) -> None:
    """Minimise the mean loss of rows.

    Args:
        network: Holds the parameters.
        loss: From indices of rows, shape (B,), to their mean loss.
        rows: Number of rows, of which a tenth is held out if the best weights are kept.
        recipe: How.
        seed: Seed of batches and held-out rows.
    """
    order = np.random.default_rng(seed).permutation(rows)
    held = torch.from_numpy(order[: rows // 10] if recipe.every else order[:0])
    rest = torch.from_numpy(order[len(held) :])
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    best, kept = float("inf"), copy.deepcopy(network.state_dict())
    batch = min(recipe.batch, len(rest))
    shuffled = rest[:0]
    for step in range(1, recipe.steps + 1):
        if len(shuffled) < batch:
            shuffled = rest[torch.randperm(len(rest), generator=generator)]
        value = loss(shuffled[:batch])
        shuffled = shuffled[batch:]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if recipe.cosine:
            schedule.step()
        if recipe.every and (step % recipe.every == 0 or step == recipe.steps):
            with torch.no_grad():
                found = float(loss(held))
            if found < best:
                best, kept = found, copy.deepcopy(network.state_dict())
    if recipe.every:
        network.load_state_dict(kept)
