r"""Quadrature of one-dimensional densities: marginals, distances and divergences.

For models with one-dimensional x and z. Densities are stored as logarithms in float64 on an even
grid, so ratios are accurate even where both densities underflow. An integral is the sum over the
grid times its step: the trapezoidal rule for functions that vanish at both ends. For a Gaussian of
standard deviation s its relative error is about 2 exp(-2 π² s² / step²).
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine.model.conditionals import Conditional
from mimachine.model.joint import Joint, LogProbs
from mimachine.model.objectives import cross_entropy, mim
from mimachine.model.priors import Marginal

__all__ = [
    "Grid",
    "JointTerms",
    "carried",
    "joint_terms",
    "kl_divergence",
    "log_conditionals",
    "log_density",
    "mass",
    "tabulate",
    "wasserstein",
]


# Most elements of a temporary tensor.
_CHUNK = 2_000_000


@dataclass(frozen=True)
class Grid:
    """Even grid of points -reach, -reach + step, ..., reach.

    Attributes:
        reach: Largest point, a multiple of the step.
        step: Distance of neighbouring points.

    Raises:
        ValueError: If one of them is not positive and finite, or the reach is below the step.
    """

    reach: float
    step: float

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.reach < math.inf:
            raise ValueError(
                "step and reach must be positive and finite, and the reach at least the step, got "
                f"step {self.step} and reach {self.reach}"
            )

    @property
    def points(self) -> Tensor:
        """The points in float64, shape (N,)."""
        half = round(self.reach / self.step)
        return torch.arange(-half, half + 1, dtype=torch.float64) * self.step


@torch.no_grad()
def log_density(distribution: Distribution, grid: Grid) -> Tensor:
    """Log-density of a distribution of batch shape () and events of shape (1,), shape (N,)."""
    _check_event(distribution)
    log_prob: Tensor = distribution.log_prob(grid.points[:, None])
    return log_prob


@torch.no_grad()
def log_conditionals(conditional: Conditional, conditions: Grid, values: Grid) -> Tensor:
    """Log-density of each value given each condition.

    Args:
        conditional: Maps float64 conditions (B, 1) to a distribution of events of shape (1,).
        conditions: Grid of C conditions.
        values: Grid of V values.

    Returns:
        Shape (C, V), in nats.
    """
    rows, points = conditions.points[:, None], values.points
    # Temporaries of a mixture have several elements per pair; 12 is an estimate.
    size = max(1, _CHUNK // (12 * len(points)))
    return torch.cat([_log_rows(conditional(part), points) for part in rows.split(size)])


def _log_rows(distribution: Distribution, points: Tensor) -> Tensor:
    _check_event(distribution)
    (count,) = distribution.batch_shape
    log_prob: Tensor = distribution.log_prob(points[:, None, None].expand(-1, count, 1))
    return log_prob.T


def _check_event(distribution: Distribution) -> None:
    if distribution.event_shape != (1,):
        raise ValueError(
            "quadrature on a line needs events of one number, shape (1,), got "
            f"{tuple(distribution.event_shape)}"
        )


def carried(log_source: Tensor, log_conditional: Tensor, conditions: Grid) -> Tensor:
    """Log-density of values, marginalised over conditions: log ∫ p(c) p(v|c) dc.

    Args:
        log_source: Log-density of the conditions, shape (C,), in nats.
        log_conditional: Log-density of values given conditions, shape (C, V), in nats.
        conditions: Grid of the conditions.

    Returns:
        Shape (V,), in nats.
    """
    return torch.logsumexp(log_source[:, None] + log_conditional, 0) + math.log(conditions.step)


def mass(log_p: Tensor, grid: Grid) -> float:
    """Integral of a density over the grid: 1 unless the grid is too small or too coarse."""
    return float(log_p.exp().sum()) * grid.step


def kl_divergence(log_p: Tensor, log_q: Tensor, grid: Grid) -> float:
    """KL(p ‖ q) = ∫ p log p/q of two densities on a grid, shape (N,), in nats."""
    return float((log_p.exp() * (log_p - log_q)).sum()) * grid.step


def wasserstein(log_p: Tensor, log_q: Tensor, grid: Grid) -> float:
    """1-Wasserstein distance ∫ |F - G| of two densities on a grid, in units of the grid."""
    difference = (log_p.exp() - log_q.exp()).cumsum(0) * grid.step
    return float(difference.abs().sum()) * grid.step


def tabulate(model: Joint, x: Grid, z: Grid) -> LogProbs:
    """The four log-probabilities of a model at all pairs of grid points, in float64 nats.

    Args:
        model: A model of one-dimensional x and z with an explicit q(x), on the CPU.
        x: Grid of X points.
        z: Grid of Z points.

    Returns:
        Conditionals of shape (X, Z), q_x of shape (X, 1) and p_z of shape (1, Z).

    Raises:
        ValueError: If q(x) is the decoder's marginal, or x or z is not one-dimensional.
    """
    if isinstance(model.data_prior, Marginal):
        raise ValueError("data_prior must be explicit, got the decoder's marginal")
    exact = copy.deepcopy(model).double().eval()
    assert isinstance(exact.data_prior, nn.Module)
    return LogProbs(
        log_conditionals(exact.encoder, x, z),
        log_density(exact.data_prior(), x)[:, None],
        log_conditionals(exact.decoder, z, x).T,
        log_density(exact.prior(), z)[None],
    )


@dataclass(frozen=True)
class JointTerms:
    """Terms of a model's MIM loss, in nats; see `mimachine.decompose`.

    Attributes:
        loss: L_MIM, Eq. (8).
        cross_entropy: L_CE, Eq. (7).
        regulariser: R_MIM, Eq. (10).
        sample_entropy: H(M_S).
        kl_model: KL(M_S ‖ M_θ).
        sample_mass: Integral of M_S over the grid.
    """

    loss: float
    cross_entropy: float
    regulariser: float
    sample_entropy: float
    kl_model: float
    sample_mass: float


def joint_terms(
    log_probs: LogProbs, log_data: Tensor, log_anchor: Tensor, x: Grid, z: Grid
) -> JointTerms:
    """Expectations under M_S, Eq. (4), by quadrature over x and z.

    Args:
        log_probs: From `tabulate`.
        log_data: log P(x), shape (X,).
        log_anchor: log P(z), shape (Z,).
        x: Grid of x.
        z: Grid of z.
    """
    anchored = log_probs._replace(q_x=log_data[:, None], p_z=log_anchor[None])
    minus_log_sample, minus_log_model = cross_entropy(anchored), cross_entropy(log_probs)
    weight = (-minus_log_sample).exp() * (x.step * z.step)

    def mean(values: Tensor) -> float:
        return float((weight * values).sum())

    loss, bound, entropy = (
        mean(mim(log_probs)),
        mean(minus_log_model),
        mean(minus_log_sample),
    )
    return JointTerms(loss, bound, loss - bound, entropy, bound - entropy, float(weight.sum()))
