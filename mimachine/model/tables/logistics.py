"""Mixtures of logistics in the space of normal scores, with the probabilities of their bins."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Size, Tensor

from mimachine.model.distributions import indices_of
from mimachine.model.table_columns import LOGISTICS
from mimachine.model.tables.quantile_map import QuantileMap, precise

__all__ = ["Logistics", "start_of_logistics"]

# The mixture of equal weights and scales closest to N(0, 1): its divergence from it is 0.0015 nats.
_START_LOC, _START_SCALE = 0.75, 0.44
# Scales beyond these change no probability that matters, but overflow.
_LOG_SCALES = (-20.0, 8.0)
# Of the bracket of a quantile; 2^-60 of a score is below the rounding of float64.
_HALVINGS = 60


def start_of_logistics(grids: int, floor: float) -> list[float]:
    """Parameters of the mixtures of G grids that are about N(0, 1), 9 G numbers."""
    scale = math.log(max(_START_SCALE - floor, 1e-3))
    locations = [-_START_LOC, 0.0, _START_LOC] * grids
    return [0.0] * (LOGISTICS * grids) + locations + [scale] * (LOGISTICS * grids)


class Logistics:
    r"""Mixtures of three logistics for G grids, one for each entry of a batch.

    A whole step k has the mass of its bin between T(k - 1/2) and T(k + 1/2),

    .. math:: \sum_j w_j [\sigma((T(k + 1/2) - \mu_j) / s_j) - \sigma((T(k - 1/2) - \mu_j) / s_j)],

    and the bins of the smallest and the largest value, if there are such, all mass beyond. So the
    probabilities sum to 1.

    Args:
        parameters: Log-weights, locations and log-scales, shape (*batch, 9 G): of each of the three
            kinds first the three logistics of the first grid, then those of the second, and so on.
        maps: The quantile maps.
        floor: Smallest scale; the scale is exp(log-scale) + floor.
    """

    def __init__(self, parameters: Tensor, maps: QuantileMap, floor: float) -> None:
        kinds = parameters.unflatten(-1, (3, -1, LOGISTICS))
        logits, loc, log_scale = kinds.unbind(-3)
        self.log_weights = logits.log_softmax(-1)
        kind = precise(parameters.device)
        self.loc = loc.to(kind)
        self.scale = log_scale.to(kind).clamp(*_LOG_SCALES).exp() + floor
        self.maps = maps

    def log_prob(self, steps: Tensor) -> Tensor:
        """Log-probabilities in nats of whole steps within the limits, shape (*sample, *batch, G).

        Args:
            steps: Shape (*sample, *batch, G), of the type `precise`.
        """
        bins = self.maps.bins(steps)
        lower, upper, increase = (each.unsqueeze(-1) for each in bins)
        # log[σ(b) - σ(a)] = log σ(b) + log σ(-a) + log(1 - e^(a-b)), where a difference of
        # probabilities near 1 would lose all digits.
        below = F.logsigmoid((upper - self.loc) / self.scale)
        above = F.logsigmoid((self.loc - lower) / self.scale)
        inner = torch.log(-torch.expm1(-increase / self.scale))
        least = (steps <= self.maps.low).unsqueeze(-1)
        most = (steps >= self.maps.high).unsqueeze(-1)
        each = torch.where(least, below, torch.where(most, above, below + above + inner))
        return torch.logsumexp(each + self.log_weights, -1)

    def cdf(self, steps: Tensor) -> Tensor:
        """Probabilities of values up to steps, shape (*sample, *batch, G)."""
        inside = self._cdf_of_score(self.maps.scores_at(steps.floor() + 0.5))
        inside = torch.where(steps < self.maps.low, 0.0, inside)
        return torch.where(steps >= self.maps.high, 1.0, inside)

    def _cdf_of_score(self, score: Tensor) -> Tensor:
        each = torch.sigmoid((score.unsqueeze(-1) - self.loc) / self.scale)
        total: Tensor = (self.log_weights.exp() * each).sum(-1)
        return total

    def quantile(self, probability: Tensor) -> Tensor:
        """Smallest steps up to which the values have a probability.

        Args:
            probability: In (0, 1), of a shape that broadcasts to (*sample, *batch, G).

        Returns:
            Shape (*sample, *batch, G).
        """
        probability = probability.to(self.loc.dtype)
        # The quantile of a mixture is between the outermost ones of its components.
        each = self.loc + self.scale * torch.logit(probability).unsqueeze(-1)
        low, high = each.amin(-1), each.amax(-1)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            is_above = self._cdf_of_score(middle) >= probability
            low, high = torch.where(is_above, low, middle), torch.where(is_above, middle, high)
        return self.maps.steps_of(high)

    def sample(self, shape: Size) -> Tensor:
        """Whole steps without gradient, shape (*shape, *batch, G)."""
        index = indices_of(self.log_weights, shape).unsqueeze(-1)
        full = index.shape[:-1] + self.loc.shape[-1:]
        loc = self.loc.expand(full).gather(-1, index).squeeze(-1)
        scale = self.scale.expand(full).gather(-1, index).squeeze(-1)
        noise = torch.rand_like(loc).clamp_min(torch.finfo(loc.dtype).tiny)
        return self.maps.steps_of(loc + scale * (noise.log() - torch.log1p(-noise)))
