"""Hierarchical latents: p(a) p(b|a) as one event, for encoders and priors of two levels.

To the rest of the library a hierarchy is one latent z = (z2, z1), concatenated on the last axis in
the order in which they are drawn, with encoder q(z2|x) q(z1|x, z2) and prior p(z2) p(z1|z2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from mimachine._support.checks import function, instance, whole
from mimachine.model.conditionals import Conditional
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import DiagNormal, Draw, StandardNormal, draw
from mimachine.model.networks import Bound
from mimachine.model.priors import Prior

__all__ = ["Chain", "ChainConditional", "ChainPrior", "Given", "weigh_first"]


class Chain(Distribution):
    """Distribution p(a) p(b|a) of one event (a, b), concatenated on the last axis.

    Args:
        first: p(a), with an event of shape (F,).
        second: p(b|a): maps values (*sample, *batch, F) to a distribution of that batch shape
            (*sample, *batch) with an event of shape (G,).
        second_size: G.

    Example:
        >>> normal = mm.DiagNormal(torch.zeros(5, 2), torch.ones(5, 2))
        >>> chain = Chain(normal, lambda a: mm.DiagNormal(a.sum(-1, keepdim=True), a[..., :1]), 1)
        >>> chain.event_shape, chain.sample((7,)).shape
        (torch.Size([3]), torch.Size([7, 5, 3]))
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch declares it so)

    def __init__(
        self, first: Distribution, second: Callable[[Tensor], Distribution], second_size: int
    ) -> None:
        if not isinstance(first, Distribution):
            instance("first", first, Distribution, "a distribution")
        if not callable(second):
            function("second", second, "a distribution")
        if len(first.event_shape) != 1:
            raise ValueError(
                f"first must have events of one axis, (F,), got {tuple(first.event_shape)}"
            )
        self.first, self.second = first, second
        self.sizes = (first.event_shape[0], whole("second_size", second_size, 1))
        super().__init__(first.batch_shape, Size((sum(self.sizes),)), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether p(a) has reparameterised samples; for p(b|a) only a draw can show it."""
        return self.first.has_rsample

    @property
    def is_discrete(self) -> bool:
        """Whether a part has probabilities instead of a density."""
        if is_discrete(self.first):
            return True
        try:
            a = self.first.mean
        except (NotImplementedError, AttributeError):
            a = self.first.sample()
        return is_discrete(self._given(a))

    def draw(self, shape: Size = Size()) -> Draw:
        """Draw a value with its log-probability, each part by `distributions.draw`.

        Gradients flow through the parts that are reparameterised. The score is that of the other
        parts, such as the component of a mixture.
        """
        a, log_prob_of_a, score_of_a = draw(self.first, shape)
        b, log_prob_of_b, score_of_b = draw(self._given(a))
        scores = [score for score in (score_of_a, score_of_b) if score is not None]
        score = torch.stack(scores).sum(0) if scores else None
        return Draw(torch.cat([a, b], -1), log_prob_of_a + log_prob_of_b, score)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:
        """Reparameterised values, shape (*sample_shape, *batch, F + G).

        Raises:
            NotImplementedError: If a part has no reparameterised samples.
        """
        value, _, score = self.draw(Size(sample_shape))
        if score is not None:
            raise NotImplementedError("a part of the chain has no reparameterised samples")
        return value

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Values without gradient, shape (*sample_shape, *batch, F + G)."""
        with torch.no_grad():
            a = self.first.sample(Size(sample_shape))
            return torch.cat([a, self._given(a).sample()], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(a) + log p(b|a) in nats, shape (*sample, *batch)."""
        a, b = value.split(self.sizes, -1)
        log_prob: Tensor = self.first.log_prob(a) + self._given(a).log_prob(b)
        return log_prob

    def parts(self, value: Tensor) -> list[tuple[Distribution, Tensor]]:
        """Split values (*sample, *batch, F + G): p(a) and p(b|a), each with its part."""
        a, b = value.split(self.sizes, -1)
        return [(self.first, a), (self._given(a), b)]

    @property
    def mean(self) -> Tensor:
        """Means, shape (*batch, F + G); those of b by the cubature of `variance`.

        Raises:
            NotImplementedError: If p(a) is not a diagonal normal distribution.
        """
        return self._moments[0]

    @property
    def variance(self) -> Tensor:
        """Variances, shape (*batch, F + G).

        Those of a are exact. E[b] = E[E(b|a)] and Var[b] = E[Var(b|a)] + Var[E(b|a)] are averages
        over a normal a, computed from 2F points with its mean and covariance. This is exact for
        polynomials of degree 3 or less in a. It has no noise, which would look like activity in
        dimensions without information.

        Raises:
            NotImplementedError: If p(a) is not a diagonal normal distribution.

        References:
            Cubature Kalman Filters (Arasaratnam and Haykin, 2009),
            https://doi.org/10.1109/TAC.2009.2019800
        """
        return self._moments[1]

    def _given(self, a: Tensor) -> Distribution:
        second = self.second(a)
        if second.batch_shape != a.shape[:-1] or second.event_shape != self.sizes[1:]:
            raise ValueError(
                f"second must give a distribution of batch shape {tuple(a.shape[:-1])} and event "
                f"shape ({self.sizes[1]},) for values of shape {tuple(a.shape)}, got "
                f"{tuple(second.batch_shape)} and {tuple(second.event_shape)}"
            )
        return second

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        if not isinstance(self.first, DiagNormal | StandardNormal):
            raise NotImplementedError(
                "the moments of a chain need a first part that is a diagonal normal distribution, "
                f"got {type(self.first).__name__}"
            )
        a, std = self.first.mean, self.first.stddev
        # Two opposite points at a time, to use no more memory than a few draws.
        steps = [offset * std for offset in _offsets(self.sizes[0]).to(a)]
        parts = [self._given(torch.stack([a + step, a - step])) for step in steps]
        means = torch.cat([part.mean for part in parts])
        within = torch.cat([part.variance for part in parts]).mean(0)
        variance = torch.cat([std.square(), within + means.var(0, correction=0)], -1)
        return torch.cat([a, means.mean(0)], -1), variance


def _offsets(size: int) -> Tensor:
    """Cubature points: orthogonal, of squared length F, shape (F, F), in standard deviations.

    They are the basis of a cosine transform, so all coordinates of a point are about one standard
    deviation, like those of a draw. Points on the axes would have one coordinate of √F.
    """
    steps = torch.arange(size, dtype=torch.float64)
    waves = torch.cos(math.pi / size * steps[:, None] * (steps + 0.5))
    waves[1:] *= math.sqrt(2)
    return waves


class Given(Protocol):
    """Interface of q(b|x, a) in two steps, so that features of x are computed once per x."""

    def __call__(self, x: Tensor, /) -> Callable[[Tensor], Distribution]:
        """Given data (B, *X), return a function of values (*sample, B, F) that gives q(b|x, a)."""
        ...


class ChainConditional(nn.Module):
    """Hierarchical encoder q(a|x) q(b|x, a), such as q(z2|x) q(z1|x, z2).

    Args:
        first: q(a|x).
        second: q(b|x, a), a module that maps x to a function from a to a distribution of b.
        second_size: Size of b.
    """

    def __init__(self, first: Conditional, second: Given, second_size: int) -> None:
        super().__init__()
        function("first", first, "a distribution")
        function("second", second, "a function that returns a distribution")
        self.first, self.second = cast(nn.Module, first), cast(nn.Module, second)
        self.second_size = whole("second_size", second_size, 1)

    def forward(self, x: Tensor) -> Chain:
        """Distribution of batch shape (B,) given (B, *X)."""
        return Chain(self.first(x), self.second(x), self.second_size)


class ChainPrior(nn.Module):
    """Hierarchical prior p(a) p(b|a), such as p(z2) p(z1|z2).

    Args:
        first: p(a), such as a `VampPrior` of the encoder's first part.
        second: p(b|a).
        second_size: Size of b.
    """

    def __init__(self, first: Prior, second: Conditional, second_size: int) -> None:
        super().__init__()
        function("first", first, "a distribution")
        instance("second", second, nn.Module, "a module that returns a distribution")
        self.first, self.second = cast(nn.Module, first), cast(nn.Module, second)
        self.second_size = whole("second_size", second_size, 1)

    def forward(self) -> Chain:
        """Distribution of batch shape ()."""
        return Chain(self.first(), Bound(self.second), self.second_size)


def weigh_first(prior: Distribution, weight: float) -> Distribution:
    """Multiply a prior's log-density of the first latent by a weight.

    For a chain p(a) p(b|a) this is log p(a), for any other prior the whole log-density. The result
    has densities, which may not be normalised, and no samples.
    """
    if isinstance(prior, Chain):
        return Chain(_Weighed(prior.first, weight), prior.second, prior.sizes[1])
    return _Weighed(prior, weight)


class _Weighed(Distribution):
    """Log-density multiplied by a weight."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, base: Distribution, weight: float) -> None:
        self.base, self.weight = base, weight
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """The weight times the log-density in nats, shape (*sample, *batch)."""
        log_prob: Tensor = self.base.log_prob(value)
        return self.weight * log_prob
