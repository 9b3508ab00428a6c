"""Hamiltonian Monte Carlo for tempered densities, for many chains at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LogDensities", "Point", "evaluated", "leapfrog", "transition"]

# With a fixed length, trajectories may be periodic and return to their start (Neal 2011, 5.4.2.2).
_JITTER = 0.2
LogDensities = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Base b(z) and ratio r(z) of densities f_β = exp(b + β r), each (K, n), at latents (K, n, *Z)."""


@dataclass(frozen=True)
class Point:
    """States of K chains for each of n examples, with their log-densities.

    Attributes:
        z: Latents, shape (K, n, *Z).
        base: Log of the density that is not tempered, in float64, shape (K, n).
        ratio: Log of the factor that is tempered, in float64, shape (K, n).
        base_gradient: Gradient of the base with respect to the latents, shape (K, n, *Z).
        ratio_gradient: Gradient of the ratio with respect to the latents, shape (K, n, *Z).
    """

    z: Tensor
    base: Tensor
    ratio: Tensor
    base_gradient: Tensor
    ratio_gradient: Tensor

    def log_density(self, beta: Tensor) -> Tensor:
        """Log of f_β up to its normaliser, shape (K, n), at temperatures (n,); never NaN."""
        log_density = self.base + torch.where(beta > 0, beta * self.ratio, 0.0)
        return log_density.nan_to_num(-torch.inf, torch.inf, -torch.inf)

    def gradient(self, beta: Tensor) -> Tensor:
        """Gradient of the log of f_β, shape (K, n, *Z)."""
        factor = _each(beta, self.z[0]).to(self.z)
        return torch.addcmul(self.base_gradient, factor, self.ratio_gradient)

    def where(self, chosen: Tensor, other: Point) -> Point:
        """Keep the chosen chains, shape (K, n), and take the others from another point."""
        return Point(
            *(
                torch.where(_each(chosen, value), value, vars(other)[name])
                for name, value in vars(self).items()
            )
        )


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Append axes of size 1 to values, up to the number of axes of another tensor."""
    return values.reshape(values.shape + (1,) * (like.dim() - values.dim()))


def evaluated(log_densities: LogDensities, z: Tensor) -> Point:
    """Evaluate log-densities and their gradients at latents (K, n, *Z).

    Latents that are not finite, or whose density is NaN, have density 0. Gradients that are not
    finite are set to 0: trajectories are reversible for any field of forces.
    """
    finite = z.isfinite().flatten(2).all(2) if z.dim() > 2 else z.isfinite()
    safe = torch.where(_each(finite, z), z, 0).detach().requires_grad_(True)
    with torch.enable_grad():
        base, ratio = log_densities(safe)
        gradients = _gradient(base, safe), _gradient(ratio, safe)
    base, ratio = (
        torch.where(finite & ~log.isnan(), log, -torch.inf)
        for log in (base.detach().double(), ratio.detach().double())
    )
    return Point(z, base, ratio, *(force.nan_to_num(0.0, 0.0, 0.0) for force in gradients))


def _gradient(log_density: Tensor, z: Tensor) -> Tensor:
    # A density without a gradient is allowed: the chains remain valid.
    if not log_density.requires_grad:
        return torch.zeros_like(z)
    (gradient,) = torch.autograd.grad(
        log_density.sum(), z, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return gradient


def leapfrog(
    log_densities: LogDensities,
    start: Point,
    momentum: Tensor,
    beta: Tensor,
    step: Tensor,
    num_steps: int,
) -> tuple[Point, Tensor]:
    """Leapfrog integration of Hamilton's equations, which is reversible and preserves volume.

    Args:
        log_densities: Base and ratio.
        start: Starting point.
        momentum: Momenta of unit variance, shape (K, n, *Z).
        beta: Temperatures, shape (n,).
        step: Step sizes, of a shape that broadcasts to (K, n, *Z). Different sizes for the
            coordinates are equivalent to a diagonal mass matrix.
        num_steps: Number of steps, each with one gradient.

    Returns:
        End points of the trajectories, and the momenta there.

    References:
        MCMC Using Hamiltonian Dynamics (Neal, 2011), Eq. (5.18-5.20),
        https://arxiv.org/abs/1206.1901
    """
    point = start
    momentum = momentum + 0.5 * step * point.gradient(beta)
    for number in range(num_steps):
        point = evaluated(log_densities, point.z + step * momentum)
        share = 1.0 if number < num_steps - 1 else 0.5
        momentum = momentum + share * step * point.gradient(beta)
    return point, momentum


def transition(
    log_densities: LogDensities, point: Point, beta: Tensor, step: Tensor, num_steps: int
) -> tuple[Point, Tensor]:
    """One Hamiltonian Monte Carlo transition, which is reversible and leaves f_β invariant.

    It draws momenta, follows a trajectory with steps up to 20 % shorter or longer, and accepts or
    rejects its end by the Metropolis rule. Trajectories that diverge are rejected.

    Args:
        log_densities: Base and ratio.
        point: Current states of the chains.
        beta: Temperatures, shape (n,).
        step: Step sizes, shape (n, *Z).
        num_steps: Number of steps of a trajectory.

    Returns:
        New states of the chains, and the acceptance probabilities, shape (K, n).
    """
    momentum = torch.randn_like(point.z)
    jitter = 1 + _JITTER * (2 * torch.rand_like(point.base) - 1)
    steps = _each(jitter, point.z).to(step) * step
    end, last = leapfrog(log_densities, point, momentum, beta, steps, num_steps)
    gain = end.log_density(beta) - point.log_density(beta) + _kinetic(momentum) - _kinetic(last)
    probability = gain.clamp_max(0).exp().nan_to_num(0.0)
    accepted = torch.rand_like(probability) < probability
    return end.where(accepted, point), probability


def _kinetic(momentum: Tensor) -> Tensor:
    squares = momentum.double().square()
    return 0.5 * (squares.flatten(2).sum(2) if squares.dim() > 2 else squares)
