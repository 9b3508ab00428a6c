"""Hamiltonian Monte Carlo for tempered densities, many chains at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "LogDensities",
    "Point",
    "evaluated",
    "leapfrog",
    "transition",
]


# Steps of one length may bring a harmonic oscillator back to where it was (Neal 2011, 5.4.2.2).
_JITTER = 0.2
LogDensities = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Base b(z) and ratio r(z) of densities f_β = exp(b + β r), each (K, n), at latents (K, n, *Z)."""


@dataclass(frozen=True)
class Point:
    """Where K chains for each of n data are, with the log-densities there.

    Attributes:
        z: Latents, shape (K, n, *Z).
        base: Log of the density that is never tempered, in float64, shape (K, n).
        ratio: Log of the factor that is, in float64, shape (K, n).
        base_gradient: Gradient of the base by the latents, shape (K, n, *Z).
        ratio_gradient: Gradient of the ratio, likewise.
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
        """These for the chains that are chosen, shape (K, n), and those of another for the rest."""
        return Point(
            *(
                torch.where(_each(chosen, value), value, vars(other)[name])
                for name, value in vars(self).items()
            )
        )


def _each(values: Tensor, like: Tensor) -> Tensor:
    """Values with axes of size 1 behind, as many as another tensor has more."""
    return values.reshape(values.shape + (1,) * (like.dim() - values.dim()))


def evaluated(log_densities: LogDensities, z: Tensor) -> Point:
    """The point at latents (K, n, *Z); gradients are by autograd, of the latents alone.

    Latents that are not finite, or whose density is no number, have a density of 0. A gradient that
    is no finite number is 0 too: any field of forces gives trajectories that can be walked back.
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
    # A density that does not depend on the latents, or not smoothly, still leaves valid chains.
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
    """Follow Hamilton's equations by steps that keep volumes and can be walked back.

    Args:
        log_densities: Base and ratio.
        start: Where to start.
        momentum: Momenta of unit variance, shape (K, n, *Z).
        beta: Temperatures, shape (n,).
        step: Lengths of the steps, of a shape that broadcasts to (K, n, *Z): one for each
            coordinate stands for a diagonal matrix of masses.
        num_steps: Number of steps, each with one gradient.

    Returns:
        Where the trajectories end, and the momenta there.

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
    """One step of a Markov chain that leaves f_β invariant and is reversible.

    Fresh momenta, a trajectory of steps up to 20 % shorter or longer, and its end or its start by
    the rule of Metropolis. Trajectories that diverge are rejected.

    Args:
        log_densities: Base and ratio.
        point: Where the chains are.
        beta: Temperatures, shape (n,).
        step: Lengths of the steps, shape (n, *Z).
        num_steps: Number of steps of a trajectory.

    Returns:
        Where the chains are then, and the probabilities of acceptance, shape (K, n).
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
