"""One-dimensional models of the paper's appendices E.2 to E.4.

The paper gives the families: q(x), q(z|x), p(z) and p(x|z) are mixtures of 10 Gaussians, and the
conditionals are networks with two hidden layers of 10 units and swish activation. Our choices:

- The anchors, which the paper calls "GMMs with up to 3 components": `DATA` has three and `LATENT`
  two.
- Standard deviations of components lie above a floor, and those of conditionals less than `CEILING`
  above it. Without a floor, L_CE ends in two unrelated models. Without a ceiling, a component whose
  weight goes to 0 widens without limit; `Loss(components="sum")` still samples it, until its values
  overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mimachine as mm
from mimachine._support.seeds import derived_seed, forked

__all__ = ["CEILING", "COMPONENTS", "DATA", "Gaussians", "HIDDEN", "LATENT", "PriorFamily", "build"]

COMPONENTS, HIDDEN = 10, (10, 10)
CEILING = 2.0
PriorFamily = Literal["mixture", "normal", "standard"]
# Builders of one-dimensional priors from a floor: learned, learned, and fixed.
_PRIORS: dict[PriorFamily, Callable[[float], nn.Module]] = {
    "mixture": lambda floor: mm.GaussianMixture(1, COMPONENTS, floor),
    "normal": lambda floor: mm.LearnedNormal(1, floor),
    "standard": lambda floor: mm.StandardNormal(1),
}


@dataclass(frozen=True)
class Gaussians:
    """A one-dimensional mixture of Gaussians.

    Attributes:
        weights: Weights, which sum to 1.
        means: Means.
        deviations: Standard deviations.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def distribution(self, dtype: torch.dtype = torch.float32) -> mm.Mixture:
        """The mixture with events of shape (1,)."""
        weights, means, deviations = (
            torch.tensor(part, dtype=dtype) for part in (self.weights, self.means, self.deviations)
        )
        return mm.Mixture(weights.log(), mm.DiagNormal(means[:, None], deviations[:, None]))

    @property
    def deviation(self) -> float:
        """Standard deviation of the mixture."""
        return math.sqrt(float(self.distribution(torch.float64).variance))

    def __str__(self) -> str:
        parts = zip(self.weights, self.means, self.deviations, strict=True)
        return " + ".join(f"{w:g} N({m:g}, {s:g}²)" for w, m, s in parts)


DATA = Gaussians((0.35, 0.4, 0.25), (-1.8, 0.0, 1.7), (0.35, 0.25, 0.45))
LATENT = Gaussians((0.6, 0.4), (-1.2, 1.3), (0.5, 0.35))


class _Limited(nn.Module):
    """Bound the log-scales in outputs (..., 3K) of a one-dimensional `MixtureDensity`."""

    def forward(self, output: Tensor) -> Tensor:
        logits, means, scales = output.unflatten(-1, (-1, 3)).unbind(-1)
        scales = F.logsigmoid(scales) + math.log(CEILING)
        return torch.stack([logits, means, scales], -1).flatten(-2)


def build(data_prior: PriorFamily, prior: PriorFamily, floor: float, seed: int) -> mm.Joint:
    """Build an untrained model; its weights depend only on the seed.

    Args:
        data_prior: Family of q(x).
        prior: Family of p(z).
        floor: Smallest standard deviation.
        seed: The seed; the global generator is not changed.
    """

    def conditional() -> mm.MixtureDensity:
        network = mm.MLP(1, 3 * COMPONENTS, HIDDEN, nn.SiLU)
        return mm.MixtureDensity(nn.Sequential(network, _Limited()), COMPONENTS, floor)

    with forked(derived_seed(seed, "line", "weights")):
        encoder, decoder = conditional(), conditional()
        return mm.Joint(encoder, decoder, _PRIORS[prior](floor), _PRIORS[data_prior](floor))
