"""Discrete distributions: Bernoulli, categorical, one-hot and discretised logistic."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.distributions import Distribution

from mimachine.model.distributions import Mixture, indices_of, sum_last

__all__ = ["Bernoulli", "Categorical", "DiscretizedLogistic", "OneHotCategorical", "is_discrete"]


def is_discrete(distribution: Distribution) -> bool:
    """Whether values have probabilities instead of densities, as far as this can be determined.

    A distribution of several parts is discrete if one of its parts is. A distribution can declare
    it by an attribute `is_discrete`.
    """
    if isinstance(distribution, Mixture):
        return is_discrete(distribution.components)
    if isinstance(known := getattr(distribution, "is_discrete", None), bool):
        return known
    if isinstance(distribution, Bernoulli | Categorical | OneHotCategorical | DiscretizedLogistic):
        return True
    try:
        support = distribution.support
    except (NotImplementedError, AttributeError):
        return False
    return support is not None and bool(support.is_discrete)


class Bernoulli(Distribution):
    """Independent binary values as one event.

    Args:
        logits: log p / (1 - p), shape (*batch, *event).
        event_dims: Number of trailing axes that form the event.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, logits: Tensor, event_dims: int = 1) -> None:
        self.logits = logits
        split = logits.dim() - event_dims
        super().__init__(logits.shape[:split], logits.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Probabilities p of 1, shape (*batch, *event)."""
        return self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        """Variances p (1 - p), shape (*batch, *event)."""
        return self.mean * (1 - self.mean)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Zeros and ones without gradient, shape (*sample_shape, *batch, *event).

        Logits of NaN give zeros here and a log-probability of NaN, which training detects. torch's
        own sampling would abort the program, on a GPU without recovery.
        """
        with torch.no_grad():
            probability = self.mean.expand(self._extended_shape(sample_shape))
            return (torch.rand_like(probability) < probability).to(self.logits.dtype)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles of each coordinate at probabilities in [0, 1): 1 above 1 - p, otherwise 0.

        The shape is (*sample, *batch, *event).
        """
        return (1 - value < self.mean).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, shape (*sample, *batch)."""
        each = torch.addcmul(F.softplus(self.logits), value, self.logits, value=-1)
        return -sum_last(each, len(self.event_shape))


class Categorical(Distribution):
    """Independent categorical values as one event, each a category number from 0 to K-1.

    The numbers are labels, so there is no mean. They are in floating point like all data of the
    library, so a network with an embedding needs `.long()`; `log_prob` takes whole numbers of any
    dtype.

    Args:
        logits: Unnormalised log-probabilities, shape (*batch, *event, K).
        event_dims: Number of trailing axes of a value that form the event.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, logits: Tensor, event_dims: int = 1) -> None:
        self.log_probabilities = logits.log_softmax(-1)
        shape, split = logits.shape[:-1], logits.dim() - 1 - event_dims
        super().__init__(shape[:split], shape[split:], validate_args=False)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Category numbers without gradient, shape (*sample_shape, *batch, *event)."""
        index = indices_of(self.log_probabilities, Size(sample_shape))
        return index.to(self.log_probabilities.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, shape (*sample, *batch); -inf for an unknown category."""
        index = value.long()
        # An index out of range would abort the program, on a GPU without recovery.
        last = self.log_probabilities.shape[-1] - 1
        known = (index == value) & (index >= 0) & (index <= last)
        places = index.clamp(0, last).unsqueeze(-1)
        places, table = torch.broadcast_tensors(places, self.log_probabilities)
        each = table.gather(-1, places[..., :1]).squeeze(-1)
        return sum_last(torch.where(known, each, -math.inf), len(self.event_shape))


class OneHotCategorical(Distribution):
    """Independent categorical values as one event, one-hot on the last axis.

    Args:
        logits: Unnormalised log-probabilities, shape (*batch, *event); the last axis of the event
            has size K.
        event_dims: Number of trailing axes that form the event, 1 or more.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, logits: Tensor, event_dims: int = 1) -> None:
        self.log_probabilities = logits.log_softmax(-1)
        split = logits.dim() - event_dims
        super().__init__(logits.shape[:split], logits.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Probabilities, shape (*batch, *event)."""
        return self.log_probabilities.exp()

    @property
    def variance(self) -> Tensor:
        """Variances p (1 - p), shape (*batch, *event)."""
        return self.mean * (1 - self.mean)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """One-hot values without gradient, shape (*sample_shape, *batch, *event)."""
        index = indices_of(self.log_probabilities, Size(sample_shape))
        numbers = torch.arange(self.event_shape[-1], device=index.device)
        return (index.unsqueeze(-1) == numbers).to(self.log_probabilities.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, shape (*sample, *batch)."""
        # A category of probability 0 has a log-probability of -inf, and 0 times -inf is NaN.
        each = value * torch.where(value == 0, 0.0, self.log_probabilities)
        return sum_last(each, len(self.event_shape))


class DiscretizedLogistic(Distribution):
    """Logistic distribution on the grid {0, 1/(L-1), ..., 1}, one event of independent pixels.

    Each grid value has the mass of its cell. The outermost cells extend to infinity, so the
    probabilities sum to one (Kingma et al. 2016, Salimans et al. 2017).

    Args:
        loc: Locations, shape (*batch, *event).
        scale: Scales, the same shape.
        levels: Number L of grid values, 2 or more.
        event_dims: Number of trailing axes that form the event.
        floor: Smallest possible scale, as in `DiagNormal`.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        levels: int,
        event_dims: int = 1,
        *,
        floor: float | Tensor | None = None,
    ) -> None:
        self.loc, self.scale, self.levels, self.floor = loc, scale, levels, floor
        split = loc.dim() - event_dims
        super().__init__(loc.shape[:split], loc.shape[split:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean over the grid, shape (*batch, *event)."""
        # E[x] for x = k/(L-1) is the sum of P(x > edge) over the inner edges, over L-1.
        total = torch.zeros_like(self.loc)
        for k in range(self.levels - 1):
            edge = (k + 0.5) / (self.levels - 1)
            total = total + torch.sigmoid((self.loc - edge) / self.scale)
        return total / (self.levels - 1)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Grid values without gradient, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            shape = self._extended_shape(sample_shape)
            return self.icdf(torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device))

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles of each coordinate at probabilities in [0, 1).

        The shape is (*sample, *batch, *event).
        """
        tiny = torch.finfo(value.dtype).tiny
        noise = value.clamp_min(tiny).log() - torch.log1p(-value).clamp_min(-1e3)
        steps = self.levels - 1
        return ((self.loc + self.scale * noise).clamp(0, 1) * steps).round() / steps

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats of values on the grid, shape (*sample, *batch)."""
        half = 0.5 / (self.levels - 1)
        offset = (value - self.loc) / self.scale
        width = half / self.scale
        # log[σ(a) - σ(b)] = log σ(a) + log σ(-b) + log(1 - e^(b-a)), with a - b = 2 width.
        below = F.logsigmoid(offset + width)
        above = F.logsigmoid(width - offset)
        inner = below + above + torch.log(-torch.expm1(-2 * width))
        bottom, top = value < half, value > 1 - half
        pixel = torch.where(bottom, below, torch.where(top, above, inner))
        return sum_last(pixel, len(self.event_shape))
