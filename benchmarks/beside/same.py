"""Whether two implementations compute the same: nothing is timed beside another thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from beside.bare import BareModel, BareVae
from beside.library import loss as loss_of

TOLERANCE = 1e-4


class NotTheSame(Exception):
    """An implementation computes something else than the one that it is compared with."""


def check(what: str, found: Any, expected: Any) -> float:
    """Largest difference of two arrays, relative to the largest number, or to 1.

    Raises:
        NotTheSame: If it is above 1e-4, or not a number.
    """
    found, expected = (np.asarray(each, dtype=np.float64) for each in (found, expected))
    if found.shape != expected.shape:
        raise NotTheSame(f"{what} has shape {found.shape}, expected {expected.shape}")
    gap = float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))
    if not gap < TOLERANCE:
        raise NotTheSame(f"{what} differs by {gap:.1e}, relative to its largest number")
    return gap


def check_gradients(what: str, found: Sequence[Any], expected: Sequence[Any]) -> float:
    """Largest difference of two lists of gradients, each relative to its own largest number.

    Raises:
        NotTheSame: If it is above 1e-4, or not a number.
    """
    gaps = []
    for index, (own, other) in enumerate(zip(found, expected, strict=True)):
        size = float(np.abs(np.asarray(other)).max())
        name = f"gradient {index} of {what}"
        gaps.append(check(name, np.asarray(own) / size, np.asarray(other) / size))
    return max(gaps)


def gradients(value: Tensor, *networks: nn.Module) -> list[Tensor]:
    parameters = [p for network in networks for p in network.parameters()]
    return list(torch.autograd.grad(value, parameters))


def seeded(bare: BareModel, x: Tensor) -> Tensor:
    """Losses of a plain model with the noise of seed 1."""
    torch.manual_seed(1)
    return bare.losses(x)


def library(bare: BareModel, x: Tensor) -> float:
    """Difference of this library's loss and gradient from those of the plain model."""
    loss = loss_of(bare)
    torch.manual_seed(1)
    own, expected = loss(x), seeded(bare, x)
    return max(
        check("the library's loss", own.detach(), expected.detach()),
        check_gradients(
            "the library",
            gradients(own.mean(), loss.model.encoder, loss.model.decoder),
            gradients(expected.mean(), bare.encoder, bare.decoder),
        ),
    )


def scan(bare: BareModel, x: Tensor) -> float:
    """Difference of JAX's loss, gradient and Adam from those of the plain model."""
    import jax

    from beside import of_jax

    expected = seeded(bare, x)
    bare.optimizer.zero_grad()
    expected.mean().backward()
    torch.manual_seed(1)
    noise = [of_jax.array(each) for each in bare.noise(len(x))]
    weights, rows, loss = of_jax.networks(bare), of_jax.array(x), of_jax.loss_of(bare)
    own = jax.grad(lambda weights: loss(weights, rows, noise).mean())(weights)
    of_torch = of_jax.networks(bare, lambda p: p.grad)
    gap = max(
        check("JAX's loss", loss(weights, rows, noise), expected.detach()),
        check_gradients("JAX", jax.tree.leaves(own), jax.tree.leaves(of_torch)),
    )
    bare.optimizer.zero_grad()
    return max(gap, adam())


def adam(steps: int = 5) -> float:
    """Difference of the steps of Adam in JAX from torch's, by the same gradients."""
    from beside import of_jax

    generator = torch.Generator().manual_seed(0)
    # From zero, so that a small step is not lost in the rounding of a large weight.
    weight = nn.Parameter(torch.zeros(7))
    optimizer = torch.optim.Adam([weight], lr=1e-3)
    own = of_jax.array(weight)
    state = of_jax.started(own)
    for _ in range(steps):
        weight.grad = torch.randn(7, generator=generator)
        optimizer.step()
        own, state = of_jax.advanced(own, state, of_jax.array(weight.grad))
    return check("JAX's Adam", 1e3 * own, 1e3 * weight.detach())


def pythae(bare: BareVae, x: Tensor) -> float:
    """Difference of pythae's loss and gradient from the plain ones with the closed divergence."""
    from beside import of_pythae

    model = of_pythae.model(bare)
    torch.manual_seed(1)
    own = of_pythae.losses(model, x)
    torch.manual_seed(1)
    expected = bare.losses_by_closed_divergence(x).mean()
    # The last layer of the encoder has another parametrisation.
    return max(
        check("pythae's loss", own.detach(), expected.detach()),
        check_gradients(
            "pythae",
            gradients(own, model.encoder.trunk, model.decoder.network),
            gradients(expected, *list(bare.encoder)[:-1], bare.decoder),
        ),
    )
