"""Densities over x and z of a one-dimensional model, and distances between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

import mimachine as mm
from mimachine._support.seeds import derived_seed, forked
from mimachine.paper.line.densities import (
    Grid,
    JointTerms,
    carried,
    joint_terms,
    kl_divergence,
    log_density,
    mass,
    tabulate,
    wasserstein,
)
from mimachine.paper.line.models import DATA, LATENT, Gaussians

__all__ = ["Curves", "Route", "Samples", "Side", "curves", "distances", "samples"]

_STEP, _SMALLEST, _LARGEST = 0.02, 5.12, 41.0
# Probability that may be missing from the grid, or in excess because of its step.
_TOLERANCE = 1e-4
# How samples of a panel are made. "reconstruction": samples of the anchor, mapped to the other side
# and back, should match the anchor. "anchors": samples of the other side's anchor, mapped to this
# side, should match its anchor. "priors": the same for the priors.
Route = Literal["reconstruction", "anchors", "priors"]


@dataclass(frozen=True)
class Side:
    """Log-densities over x, or over z, on a grid, each of shape (N,), in nats.

    Attributes:
        grid: The grid.
        anchor: P(x), or P(z).
        prior: q(x), or p(z).
        reconstruction: ∫∫ P(x) q(z|x) p(x'|z), or ∫∫ P(z) p(x|z) q(z'|x).
        anchors: ∫ P(z) p(x|z), or ∫ P(x) q(z|x).
        priors: ∫ p(z) p(x|z), or ∫ q(x) q(z|x).
    """

    grid: Grid
    anchor: Tensor
    prior: Tensor
    reconstruction: Tensor
    anchors: Tensor
    priors: Tensor

    def pair(self, route: Route) -> tuple[Tensor, Tensor]:
        """Target density of the samples of a route, and their density."""
        return self.prior if route == "priors" else self.anchor, getattr(self, route)

    def fits(self) -> bool:
        """Whether the grid covers all densities.

        Raises:
            ValueError: If a density integrates to more than 1: the grid is too coarse.
        """
        fields = (self.anchor, self.prior, self.reconstruction, self.anchors, self.priors)
        masses = [mass(log_p, self.grid) for log_p in fields]
        if max(masses) > 1 + _TOLERANCE:
            raise ValueError(
                f"a density integrates to {max(masses):.6f} on a grid of step {self.grid.step}, "
                "which is too coarse"
            )
        return min(masses) > 1 - _TOLERANCE

    def numbers(self) -> dict[str, dict[str, float]]:
        """Distances of the prior to the anchor, and of samples to their targets."""
        pairs = {"prior": (self.anchor, self.prior)}
        pairs |= {route: self.pair(route) for route in get_args(Route)}
        return {name: distances(*pair, self.grid) for name, pair in pairs.items()}


def distances(log_p: Tensor, log_q: Tensor, grid: Grid) -> dict[str, float]:
    """1-Wasserstein distance, and KL(p ‖ q) in nats."""
    return {
        "wasserstein": wasserstein(log_p, log_q, grid),
        "kl": kl_divergence(log_p, log_q, grid),
    }


@dataclass(frozen=True)
class Curves:
    """Densities of a model on both sides, and the terms of its loss.

    Attributes:
        x: Densities over x.
        z: Densities over z.
        terms: L_MIM, L_CE, R_MIM, H(M_S), KL(M_S ‖ M_θ), in nats.
    """

    x: Side
    z: Side
    terms: JointTerms

    def numbers(self) -> dict[str, Any]:
        """Distances, loss terms and grids, as JSON values."""
        reaches = {"x": self.x.grid.reach, "z": self.z.grid.reach}
        return {
            "x": self.x.numbers(),
            "z": self.z.numbers(),
            "terms": asdict(self.terms),
            "grid": {"step": self.x.grid.step, "reach": reaches},
        }


@torch.no_grad()
def curves(
    model: mm.Joint, data: Gaussians = DATA, latent: Gaussians = LATENT, step: float = _STEP
) -> Curves:
    """Densities of a model on grids that cover all of them.

    Args:
        model: A model of one-dimensional x and z with an explicit q(x).
        data: P(x).
        latent: P(z).
        step: Step of both grids.

    Raises:
        ValueError: If a density extends beyond the largest grid, or is too narrow for the step.
    """
    assert isinstance(model.data_prior, nn.Module)
    # Mass missing from one grid is missing from the other too, so the sources come first.
    x = _covering((data.distribution(), model.data_prior()), step)
    z = _covering((latent.distribution(), model.prior()), step)
    while max(x.reach, z.reach) <= _LARGEST:
        found = _on_grids(model, data, latent, x, z)
        fits = found.x.fits(), found.z.fits()
        if all(fits):
            return found
        x, z = (grid if fit else _wider(grid) for grid, fit in zip((x, z), fits, strict=True))
    raise ValueError(
        f"model has densities that reach farther than {_LARGEST} from 0, with more than "
        f"{_TOLERANCE} of their probability"
    )


def _covering(distributions: Sequence[Distribution], step: float) -> Grid:
    """The smallest grid that covers all distributions, or one above the largest reach."""
    grid = Grid(_SMALLEST, step)
    while grid.reach <= _LARGEST and not all(
        mass(log_density(each, grid), grid) > 1 - _TOLERANCE for each in distributions
    ):
        grid = _wider(grid)
    return grid


def _wider(grid: Grid) -> Grid:
    return Grid(2 * grid.reach, grid.step)


def _on_grids(model: mm.Joint, data: Gaussians, latent: Gaussians, x: Grid, z: Grid) -> Curves:
    log_probs = tabulate(model, x, z)
    anchor_x = log_density(data.distribution(torch.float64), x)
    anchor_z = log_density(latent.distribution(torch.float64), z)
    prior_x, prior_z = log_probs.q_x[:, 0], log_probs.p_z[0]
    encoder, decoder = log_probs.q_z_given_x, log_probs.p_x_given_z.T
    # A side's `anchors` is the other side's anchor mapped here; mapped back, its reconstruction.
    encoded, decoded = carried(anchor_x, encoder, x), carried(anchor_z, decoder, z)
    return Curves(
        Side(
            x,
            anchor_x,
            prior_x,
            reconstruction=carried(encoded, decoder, z),
            anchors=decoded,
            priors=carried(prior_z, decoder, z),
        ),
        Side(
            z,
            anchor_z,
            prior_z,
            reconstruction=carried(decoded, encoder, x),
            anchors=encoded,
            priors=carried(prior_x, encoder, x),
        ),
        joint_terms(log_probs, anchor_x, anchor_z, x, z),
    )


class Samples(NamedTuple):
    """Samples of x and z of a route, each of shape (N,)."""

    x: Tensor
    z: Tensor


@torch.no_grad()
def samples(
    model: mm.Joint,
    route: Route,
    count: int,
    data: Gaussians = DATA,
    latent: Gaussians = LATENT,
    seed: int = 0,
) -> Samples:
    """Draw samples of a route, whose density `Side.pair` gives.

    Args:
        model: The model.
        route: How samples are made.
        count: Number of samples N.
        data: P(x).
        latent: P(z).
        seed: Seed of the noise; the global generator is not changed.
    """
    with forked(derived_seed(seed, "line", route)):
        x, z = (anchor.distribution().sample((count,)) for anchor in (data, latent))
        if route == "priors":
            assert isinstance(model.data_prior, nn.Module)
            x, z = model.data_prior().sample((count,)), model.prior().sample((count,))
        decoded, encoded = model.decoder(z).sample(), model.encoder(x).sample()
        if route == "reconstruction":
            decoded, encoded = model.decoder(encoded).sample(), model.encoder(decoded).sample()
    return Samples(decoded[:, 0], encoded[:, 0])
