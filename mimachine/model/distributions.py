"""Continuous distributions and mixtures, and `draw`, by which the library samples.

All are `torch.distributions.Distribution`s. They switch off torch's argument validation for
themselves, which costs a synchronisation per call and cannot run under `torch.vmap`. They draw
noise out of place, as `torch.vmap(randomness="different")` requires.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, MultivariateNormal

from mimachine._support.checks import instance, sizes, whole
from mimachine._support.process import exclusive

__all__ = [
    "DiagNormal",
    "Draw",
    "FullNormal",
    "Mixture",
    "StandardNormal",
    "draw",
    "log_prob_of_drawn",
    "without_validation",
]


_LOG_2PI = math.log(2 * math.pi)
# Number of value-component differences above which matrix products are faster.
_MANY_DIFFERENCES = 1 << 16
# Components, the likeliest of each value, whose differences are computed all the same.
_NEAREST = 4


class Draw(NamedTuple):
    """A drawn value with its log-probability and its score.

    Gradients flow through `value` if the distribution is reparameterised. `score` is the
    log-probability of what is not reparameterised: the whole value, or only the index of a
    mixture's component. REINFORCE needs its gradient, ∇ E[f] = E[∇f + f ∇score] (C.2 of the paper).
    It is None if everything is reparameterised.
    """

    value: Tensor
    log_prob: Tensor
    score: Tensor | None


def draw(distribution: Distribution, shape: Size | tuple[int, ...] = ()) -> Draw:
    """Draw a value with its log-probability, in nats, reparameterised if possible.

    Uses the methods `draw` (distributions of this library) or `rsample_and_log_prob` (flows of
    zuko) if there is one, so that a flow is not inverted at its own sample.
    """
    if not isinstance(shape, Size):
        shape = Size(() if shape == () else sizes("shape", shape, 0))
    if hasattr(distribution, "draw"):
        drawn: Draw = distribution.draw(shape)
        return drawn
    if hasattr(distribution, "rsample_and_log_prob"):
        value, log_prob = distribution.rsample_and_log_prob(shape)
        return Draw(value, log_prob, None)
    instance("distribution", distribution, Distribution, "a distribution")
    if distribution.has_rsample:
        value = distribution.rsample(shape)
        return Draw(value, distribution.log_prob(value), None)
    value = distribution.sample(shape)
    log_prob = distribution.log_prob(value)
    return Draw(value, log_prob, log_prob)


def log_prob_of_drawn(distribution: Distribution, value: Tensor) -> Tensor:
    """Log-probability in nats of values drawn by the model itself rather than data.

    A network in training may score data by statistics of their batch, but draw by running
    statistics; its distribution then has a method of this name.
    """
    own = getattr(distribution, "log_prob_of_drawn", distribution.log_prob)
    log_prob: Tensor = own(value)
    return log_prob


def _checked_dims(event_dims: object, loc: Tensor) -> int:
    """Number of axes of an event whose means are known.

    Raises:
        ValueError: If it is no whole number, or more than the axes of the means.
    """
    dims = whole("event_dims", event_dims, 0)
    if dims > loc.dim():
        raise ValueError(
            "event_dims must be at most the number of axes of loc, whose shape is "
            f"{tuple(loc.shape)}, got {dims}"
        )
    return dims


def sum_last(x: Tensor, dims: int) -> Tensor:
    if dims == 1:
        return x.sum(-1)
    return x.sum(dim=tuple(range(-dims, 0))) if dims else x


@contextmanager
def without_validation() -> Iterator[None]:
    """Switch off torch's validation of distributions' arguments for a block.

    It is a setting of the process, which raises an error for parameters that are not finite.
    """
    with exclusive():
        checking = Distribution._validate_args
        Distribution.set_default_validate_args(False)
        try:
            yield
        finally:
            Distribution.set_default_validate_args(checking)


class DiagNormal(Distribution):
    """Normal distribution with a diagonal covariance matrix, as one event.

    Args:
        loc: Means, shape (*batch, *event).
        scale: Standard deviations, of a shape that broadcasts to that of `loc`.
        event_dims: Number of trailing axes that form the event.
        floor: Smallest possible scale, a number or (*event), if it is bounded. Not used here;
            diagnostics compare the scale with it.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch declares it so)
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        event_dims: int = 1,
        *,
        floor: float | Tensor | None = None,
    ) -> None:
        if not (isinstance(loc, Tensor) and isinstance(scale, Tensor)):
            instance("loc", loc, Tensor, "a tensor")
            instance("scale", scale, Tensor, "a tensor")
        if type(event_dims) is not int or not 0 <= event_dims <= loc.dim():
            event_dims = _checked_dims(event_dims, loc)
        self.loc, self.scale, self.floor = loc, scale, floor
        split = loc.dim() - event_dims
        super().__init__(loc.shape[:split], loc.shape[split:], validate_args=False)

    def __getitem__(self, index: Any) -> DiagNormal:
        """Index the batch."""
        loc, scale = self.loc[index], self.stddev[index]
        return DiagNormal(loc, scale, len(self.event_shape), floor=self.floor)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagNormal:
        """The same distribution with a larger batch."""
        shape = Size(batch_shape) + self.event_shape
        loc, scale = self.loc.expand(shape), self.scale.expand(shape)
        return DiagNormal(loc, scale, len(self.event_shape), floor=self.floor)

    @property
    def mean(self) -> Tensor:
        """Means, shape (*batch, *event)."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """Modes, shape (*batch, *event)."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """Standard deviations, shape (*batch, *event)."""
        return self.scale.expand(self.loc.shape)

    @property
    def variance(self) -> Tensor:
        """Variances, shape (*batch, *event)."""
        return self.stddev.square()

    def draw(self, shape: Size = Size()) -> Draw:
        """Draw a reparameterised value with its log-probability, computed from the noise.

        The usual (x - loc) / scale would lose the noise to rounding if the scale is small.
        """
        noise = self._noise(shape)
        value = torch.addcmul(self.loc, self.scale, noise)
        return Draw(value, self._log_density(noise), None)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:
        """Reparameterised values, shape (*sample_shape, *batch, *event)."""
        return torch.addcmul(self.loc, self.scale, self._noise(Size(sample_shape)))

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Values without gradient, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, shape (*sample, *batch)."""
        return self._log_density((value - self.loc) / self.scale)

    def log_prob_of_each(self, value: Tensor) -> Tensor:
        """Log-densities of all values under each of K distributions, for a batch shape (K,).

        Two matrix products replace an array of all differences. Expanding the square causes
        cancellation: in float64 an absolute error of about 1e-16 (value / scale)². So the four
        likeliest distributions of each value, which decide the density of a mixture, are evaluated
        without expanding.

        Args:
            value: N values, shape (N, *event).

        Returns:
            Log-densities in nats, shape (N, K), in the dtype of the values.
        """
        # Each operand in double first: differences in single precision would lose the noise.
        loc, scale = self.loc.double().flatten(1), self.stddev.double().flatten(1)
        centre = loc.detach().mean(0)
        offset, loc = value.double().flatten(1) - centre, loc - centre
        precision = scale.square().reciprocal()
        square, cross = offset.square() @ precision.T, offset @ (precision * loc).T
        own = (precision * loc.square()).sum(1) + 2 * scale.log().sum(1)
        log_density = _log_normaliser(self.event_shape) - 0.5 * (square - 2 * cross + own)
        near = log_density.detach().topk(min(_NEAREST, len(loc)), -1).indices
        noise = (offset.unsqueeze(1) - loc[near]) / scale[near]
        exponent = 0.5 * noise.square().sum(-1) + scale.log().sum(1)[near]
        log_density = log_density.scatter(1, near, _log_normaliser(self.event_shape) - exponent)
        return log_density.to(value.dtype)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles of each coordinate at probabilities in (0, 1).

        The shape is (*sample, *batch, *event).
        """
        return torch.addcmul(self.loc, self.scale, torch.special.ndtri(value))

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape (*batch)."""
        log_scale = self.scale.log().expand(self.loc.shape)
        dims = len(self.event_shape)
        return sum_last(log_scale, dims) + 0.5 * self.event_shape.numel() * (1 + _LOG_2PI)

    def _noise(self, shape: Size) -> Tensor:
        return torch.randn_like(self.loc.expand(shape + self.loc.shape) if shape else self.loc)

    def _log_density(self, noise: Tensor) -> Tensor:
        # Small models spend their time on starting operations, so use as few as possible.
        exponent = torch.addcmul(self.scale.log(), noise, noise, value=0.5)
        return _log_normaliser(self.event_shape) - sum_last(exponent, len(self.event_shape))


class FullNormal(MultivariateNormal):
    """Normal distribution with a full covariance matrix, as one event.

    As torch's, except for the log-density: it uses matrix products with the inverse Cholesky
    factors, in float64. For the components of a mixture this is much faster than solving a linear
    system for each value.

    Args:
        loc: Means, shape (*batch, D).
        scale_tril: Cholesky factors of the covariances, shape (*batch, D, D).
    """

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        # Not by torch's own __init__, which imports sympy to broadcast shapes: half a second.
        self.loc, self._unbroadcasted_scale_tril = loc, scale_tril
        Distribution.__init__(self, loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, shape (*sample, *batch)."""
        factor = self._unbroadcasted_scale_tril.double()
        eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, eye, upper=False)
        offset = value.double() - self.loc.double()
        noise = torch.einsum("...d,...ed->...e", offset, inverse)
        log_volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        exponent = 0.5 * noise.square().sum(-1) + log_volume
        log_density: Tensor = _log_normaliser(self.event_shape) - exponent
        return log_density.to(value.dtype)


class StandardNormal(Distribution):
    """Standard normal distribution N(0, I) as one event, without arithmetic for mean and scale.

    Args:
        loc: Zeros in the event's shape; they set the device and the dtype.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(Size(), loc.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagNormal:
        """The same distribution with a batch."""
        return DiagNormal(self.loc, self.stddev, len(self.event_shape)).expand(batch_shape)

    @property
    def mean(self) -> Tensor:
        """Zeros, shape (*event)."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """Zeros, shape (*event)."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """Ones, shape (*event)."""
        return torch.ones_like(self.loc)

    @property
    def variance(self) -> Tensor:
        """Ones, shape (*event)."""
        return torch.ones_like(self.loc)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:
        """Values, shape (*sample_shape, *event)."""
        return torch.randn_like(self.loc.expand(Size(sample_shape) + self.loc.shape))

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Values, shape (*sample_shape, *event)."""
        return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, shape (*sample)."""
        square = sum_last(value.square(), len(self.event_shape))
        return _log_normaliser(self.event_shape) - 0.5 * square

    def entropy(self) -> Tensor:
        """Differential entropy in nats, shape ()."""
        return self.loc.new_tensor(0.5 * self.event_shape.numel() * (1 + _LOG_2PI))


def _log_normaliser(event_shape: Size) -> float:
    return -0.5 * event_shape.numel() * _LOG_2PI


class Mixture(Distribution):
    """Mixture of K components of one family: p(x) = Σ_k w_k p_k(x).

    The component's index is discrete and has no reparameterisation; the rest of a draw has one if
    the components have one. `draw` therefore gives a score of the index. `draw_each` draws every
    component and needs no score of the index.

    Args:
        logits: Unnormalised log-weights, shape (*batch, K) or (K,).
        components: Distribution of batch shape (*batch, K).
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, logits: Tensor, components: Distribution) -> None:
        if not (isinstance(logits, Tensor) and isinstance(components, Distribution)):
            instance("logits", logits, Tensor, "a tensor")
            instance("components", components, Distribution, "a distribution")
        self.log_weights = logits.log_softmax(-1).expand(components.batch_shape)
        self.components = components
        super().__init__(components.batch_shape[:-1], components.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean, shape (*batch, *event)."""
        axis = -len(self.event_shape) - 1
        return (self._weights() * self.components.mean).sum(axis)

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, shape (*batch, *event)."""
        axis = -len(self.event_shape) - 1
        # Variance within plus variance between components. E[x²] - E[x]² would cancel to zero or
        # below if narrow components lie far from the origin.
        offset = self.components.mean - self.mean.unsqueeze(axis)
        return (self._weights() * (self.components.variance + offset.square())).sum(axis)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, shape (*sample, *batch)."""
        return torch.logsumexp(self._log_prob_of_each(value) + self.log_weights, -1)

    def _log_prob_of_each(self, value: Tensor) -> Tensor:
        """Log-density under each component, shape (*sample, *batch, K)."""
        axis = value.dim() - len(self.event_shape)
        size = self.components.batch_shape[-1]
        many = value.numel() * size >= _MANY_DIFFERENCES
        if many and not self.batch_shape and isinstance(self.components, DiagNormal):
            rows = value.reshape(-1, *self.event_shape)
            return self.components.log_prob_of_each(rows).reshape(*value.shape[:axis], size)
        # A component that is a flow inverts its value, which must have the batch's shape.
        each = value.unsqueeze(axis).expand(*value.shape[:axis], size, *self.event_shape)
        log_prob: Tensor = self.components.log_prob(each)
        return log_prob

    def draw(self, shape: Size = Size()) -> Draw:
        """Draw a value of a random component, reparameterised if the components are.

        The score is log w_k of the drawn component k, plus the component's own score if there is
        one. If nothing is reparameterised, it is the log-probability of the mixture, whose gradient
        is the mean of the former's over k given the value and so varies less. The log-probability
        is that of the mixture; gradients reach it through the value too.
        """
        index = indices_of(self.log_weights, shape)
        log_weights = self.log_weights.expand(shape + self.log_weights.shape)
        score = _at(log_weights, index)
        if isinstance(self.components, DiagNormal):
            value = self._chosen(self.components, index).rsample()
            return Draw(value, self.log_prob(value), score)
        each = draw(self.components, shape)
        value = _at(each.value, index)
        log_prob = self.log_prob(value)
        if each.score is each.log_prob:
            score = log_prob
        elif each.score is not None:
            score = score + _at(each.score, index)
        return Draw(value, log_prob, score)

    def draw_each(self) -> tuple[Draw, Tensor]:
        """Draw a value v_k of every component k, with the weights w_k of shape (K, *batch).

        Σ_k w_k f(v_k) has the same mean as f(v) at a draw v, with less variance, and a gradient
        through the weights (Rao-Blackwell). The first axis of all parts is that of the components:
        values (K, *batch, *event); log-probabilities of the mixture (K, *batch); and, if the
        components are not reparameterised, scores of the component's value alone.
        """
        each = draw(self.components)
        value = each.value.movedim(len(self.batch_shape), 0)
        score = None if each.score is None else each.score.movedim(-1, 0)
        return Draw(value, self.log_prob(value), score), self.log_weights.exp().movedim(-1, 0)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Values without gradient, shape (*sample_shape, *batch, *event)."""
        return self.sample_with_component(sample_shape)[0]

    def sample_with_component(self, sample_shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Draw values and the indices of their components, shape (*sample_shape, *batch)."""
        shape = Size(sample_shape)
        with torch.no_grad():
            index = indices_of(self.log_weights, shape)
            if isinstance(self.components, DiagNormal):
                return self._chosen(self.components, index).sample(), index
            return _at(self.components.sample(shape), index), index

    def _chosen(self, components: DiagNormal, index: Tensor) -> DiagNormal:
        """Select a component per batch entry, so that no noise is drawn for the others."""
        shape = index.shape[: index.dim() - len(self.batch_shape)] + components.loc.shape
        loc, scale = components.loc.expand(shape), components.stddev.expand(shape)
        return DiagNormal(_at(loc, index), _at(scale, index), len(self.event_shape))

    def _weights(self) -> Tensor:
        shape = self.log_weights.shape + (1,) * len(self.event_shape)
        return self.log_weights.exp().reshape(shape)


def indices_of(log_weights: Tensor, shape: Size) -> Tensor:
    """Draw indices by normalised log-weights (*batch, K): (*shape, *batch), without gradient."""
    with torch.no_grad():
        # Weights of NaN give a log-probability of NaN, which training detects; torch's multinomial
        # would abort the program, on a GPU without recovery.
        weights = log_weights.exp().nan_to_num(1.0)
        flat = weights.reshape(-1, weights.shape[-1])
        if shape.numel():
            index = torch.multinomial(flat, shape.numel(), replacement=True).T
        else:
            index = torch.empty(0, dtype=torch.long, device=flat.device)
        return index.reshape(shape + log_weights.shape[:-1])


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Select one of K values (*batch, K, *event) per batch entry: (*batch, *event)."""
    axis = index.dim()
    event = values.shape[axis + 1 :]
    where = index.reshape(index.shape + (1,) * (1 + len(event)))
    return values.gather(axis, where.expand((*index.shape, 1, *event))).squeeze(axis)
