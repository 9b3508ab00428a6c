"""Probability distributions that torch lacks, and `draw`, the one way this library samples.

All are ordinary `torch.distributions.Distribution`s. They switch torch's argument validation off
for themselves, since it costs a synchronisation per call and cannot run under `torch.vmap`, and
they draw noise out of place, which `torch.vmap(randomness="different")` needs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, MultivariateNormal

__all__ = [
    "DiagNormal",
    "Draw",
    "FullNormal",
    "Mixture",
    "StandardNormal",
    "draw",
    "log_prob_of_drawn",
]


_LOG_2PI = math.log(2 * math.pi)
# Differences of values and components from which on a mixture is faster by matrix products.
_MANY_DIFFERENCES = 1 << 16


class Draw(NamedTuple):
    """A value with what its drawing knows of it.

    Gradients flow through `value` where the distribution is reparameterised. `score` is the
    log-probability of what was drawn without, whose gradient REINFORCE needs,
    ∇ E[f] = E[∇f + f ∇score] (C.2 of the paper): all of the value, or the index of a mixture's
    component alone. It is None where all is reparameterised.
    """

    value: Tensor
    log_prob: Tensor
    score: Tensor | None


def draw(distribution: Distribution, shape: Size | tuple[int, ...] = ()) -> Draw:
    """Draw a value together with its log-probability, in nats, reparameterised where possible.

    Distributions that can do this in one go (ours through `draw`, zuko's flows through
    `rsample_and_log_prob`) are asked to; a flow is then not inverted at its own sample.
    """
    shape = Size(shape)
    if hasattr(distribution, "draw"):
        drawn: Draw = distribution.draw(shape)
        return drawn
    if hasattr(distribution, "rsample_and_log_prob"):
        value, log_prob = distribution.rsample_and_log_prob(shape)
        return Draw(value, log_prob, None)
    if distribution.has_rsample:
        value = distribution.rsample(shape)
        return Draw(value, distribution.log_prob(value), None)
    value = distribution.sample(shape)
    log_prob = distribution.log_prob(value)
    return Draw(value, log_prob, log_prob)


def log_prob_of_drawn(distribution: Distribution, value: Tensor) -> Tensor:
    """Log-probability in nats of values that a model has drawn itself, in place of data.

    A network that is being trained may score data by statistics of their batch, which are not those
    that it draws by; its distribution then has a method of this name.
    """
    own = getattr(distribution, "log_prob_of_drawn", distribution.log_prob)
    log_prob: Tensor = own(value)
    return log_prob


def sum_last(x: Tensor, dims: int) -> Tensor:
    if dims == 1:
        return x.sum(-1)
    return x.sum(dim=tuple(range(-dims, 0))) if dims else x


class DiagNormal(Distribution):
    """Normal distribution with a diagonal covariance matrix, as one event.

    Args:
        loc: Means, shape (*batch, *event).
        scale: Standard deviations, of a shape that broadcasts to that of `loc`.
        event_dims: How many trailing axes form the event.
        floor: The smallest that the scale can be, a number or (*event), where it was bounded; it
            changes nothing here, and tells who looks at the scale what to compare it with.
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
        self.loc, self.scale, self.floor = loc, scale, floor
        split = loc.dim() - event_dims
        super().__init__(loc.shape[:split], loc.shape[split:], validate_args=False)

    def __getitem__(self, index: Any) -> DiagNormal:
        """The distributions at some places of the batch."""
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
        """A reparameterised value and its log-probability from the very noise that made it.

        The usual (x - loc) / scale would lose that noise to rounding where the scale is small.
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

        Two matrix products take the place of an array of all differences. They expand the square,
        which cancels: in float64 to an absolute error of about 1e-16 (value / scale)².

        Args:
            value: N values, shape (N, *event).

        Returns:
            Log-densities in nats, shape (N, K), in the values' type of numbers.
        """
        centre = self.loc.detach().mean(0)
        offset = (value - centre).double().flatten(1)
        loc, scale = (self.loc - centre).double().flatten(1), self.stddev.double().flatten(1)
        precision = scale.square().reciprocal()
        square, cross = offset.square() @ precision.T, offset @ (precision * loc).T
        own = (precision * loc.square()).sum(1) + 2 * scale.log().sum(1)
        log_density = _log_normaliser(self.event_shape) - 0.5 * (square - 2 * cross + own)
        return log_density.to(value.dtype)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles of each coordinate at probabilities in (0, 1).

        Its shape is (*sample, *batch, *event).
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
        # Small models spend their time on the number of operations, so as few as there can be.
        exponent = torch.addcmul(self.scale.log(), noise, noise, value=0.5)
        return _log_normaliser(self.event_shape) - sum_last(exponent, len(self.event_shape))


class FullNormal(MultivariateNormal):
    """Normal distribution with a full covariance matrix, as one event.

    torch's own, but for its log-density: that is by matrix products with the inverses of the
    Cholesky factors, in float64, which for the components of a mixture takes a small part of the
    time of solving with them for each value.

    Args:
        loc: Means, shape (*batch, D).
        scale_tril: Cholesky factors of the covariances, shape (*batch, D, D).
    """

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        # torch's checks would factorise every matrix again.
        super().__init__(loc, scale_tril=scale_tril, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, shape (*sample, *batch)."""
        factor = self._unbroadcasted_scale_tril.double()
        eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, eye, upper=False)
        offset = (value - self.loc).double()
        noise = torch.einsum("...d,...ed->...e", offset, inverse)
        log_volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        exponent = 0.5 * noise.square().sum(-1) + log_volume
        log_density: Tensor = _log_normaliser(self.event_shape) - exponent
        return log_density.to(value.dtype)


class StandardNormal(Distribution):
    """N(0, I) as one event, without the arithmetic of a mean and a scale.

    Args:
        loc: Zeros in the event's shape; they give the device and the type of numbers.
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

    The index of the component is discrete and has no reparameterisation; the rest of a draw has
    one where the components have. So `draw` scores the index alone, and `draw_each` does without
    a score, by a draw of every component.

    Args:
        logits: Unnormalised log-weights, shape (*batch, K) or (K,).
        components: Distribution of batch shape (*batch, K).
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, logits: Tensor, components: Distribution) -> None:
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
        # Within and between the components: E[x²] - E[x]² would cancel to nothing, or less, where
        # narrow components lie far from the origin.
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
        # A flow as component inverts its value, which has to have the batch's shape for that.
        each = value.unsqueeze(axis).expand(*value.shape[:axis], size, *self.event_shape)
        log_prob: Tensor = self.components.log_prob(each)
        return log_prob

    def draw(self, shape: Size = Size()) -> Draw:
        """A value of a random component, reparameterised where the components are.

        Its score is log w_k of the component k it came from, with the component's own score
        where that has one; where nothing is reparameterised it is the log-probability of the
        mixture, which is the mean of the other over k given the value and varies less. The
        log-probability is that of the mixture, and gradients reach it through the value too.
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
        """A value of every component, and the weights, (K, *batch), that they go with.

        Σ_k w_k f(v_k) has the mean of f(v) at a draw v, with less variance, and its gradient
        flows through the weights (Rao-Blackwell). All parts have the components as first axis:
        values (K, *batch, *event), log-probabilities of the mixture (K, *batch), and scores, where
        the components are not reparameterised, of the component's value alone.
        """
        each = draw(self.components)
        value = each.value.movedim(len(self.batch_shape), 0)
        score = None if each.score is None else each.score.movedim(-1, 0)
        return Draw(value, self.log_prob(value), score), self.log_weights.exp().movedim(-1, 0)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Values without gradient, shape (*sample_shape, *batch, *event)."""
        return self.sample_with_component(sample_shape)[0]

    def sample_with_component(self, sample_shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Values and the indices of the components they came from, (*sample_shape, *batch)."""
        shape = Size(sample_shape)
        with torch.no_grad():
            index = indices_of(self.log_weights, shape)
            if isinstance(self.components, DiagNormal):
                return self._chosen(self.components, index).sample(), index
            return _at(self.components.sample(shape), index), index

    def _chosen(self, components: DiagNormal, index: Tensor) -> DiagNormal:
        """One component for each place of the batch, so that no noise is drawn for the others."""
        shape = index.shape[: index.dim() - len(self.batch_shape)] + components.loc.shape
        loc, scale = components.loc.expand(shape), components.stddev.expand(shape)
        return DiagNormal(_at(loc, index), _at(scale, index), len(self.event_shape))

    def _weights(self) -> Tensor:
        shape = self.log_weights.shape + (1,) * len(self.event_shape)
        return self.log_weights.exp().reshape(shape)


def indices_of(log_weights: Tensor, shape: Size) -> Tensor:
    """Random places in the last axis of normalised log-weights, (*shape, *batch), no gradient."""
    with torch.no_grad():
        # Weights that are not numbers show in the log-probability, where training looks for them;
        # torch's multinomial stops the program, on a GPU for good.
        weights = log_weights.exp().nan_to_num(1.0)
        flat = weights.reshape(-1, weights.shape[-1])
        if shape.numel():
            index = torch.multinomial(flat, shape.numel(), replacement=True).T
        else:
            index = torch.empty(0, dtype=torch.long, device=flat.device)
        return index.reshape(shape + log_weights.shape[:-1])


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Values (*batch, K, *event) at one of the K for each place of the batch, (*batch, *event)."""
    axis = index.dim()
    event = values.shape[axis + 1 :]
    where = index.reshape(index.shape + (1,) * (1 + len(event)))
    return values.gather(axis, where.expand((*index.shape, 1, *event))).squeeze(axis)
