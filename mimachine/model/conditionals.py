"""Conditional distributions q(z|x) and p(x|z): modules that map a tensor to a distribution.

Any module that does so can be an encoder or a decoder, including normalising flows and your own
modules. The classes here put a likelihood on top of a network.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine._support.checks import bounds, real, whole
from mimachine.model import discrete, distributions

__all__ = [
    "Bernoulli",
    "Categorical",
    "ClampedGaussian",
    "Conditional",
    "DiscretizedLogistic",
    "Gaussian",
    "MixtureDensity",
    "OneHotCategorical",
    "checked_floor",
    "full_precision",
]


class Conditional(Protocol):
    """Interface of an encoder or a decoder: maps a batch to a distribution."""

    def __call__(self, condition: Tensor, /) -> Distribution:
        """Distribution of batch shape (B,) given conditions of shape (B, ...)."""
        ...


class _NetworkConditional(nn.Module):
    """A network whose output parameterises a distribution of events with `event_dims` axes."""

    def __init__(self, network: nn.Module, event_dims: int) -> None:
        super().__init__()
        _check_network(network)
        self.network, self.event_dims = network, whole("event_dims", event_dims, 1)

    def _output(self, condition: Tensor) -> Tensor:
        """Output of the network, in float32 at least, see `full_precision`."""
        return full_precision(self.network(condition))

    def _location_and_scale(
        self, condition: Tensor, floor: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        output = self._output(condition)
        if output.shape[-self.event_dims] % 2:
            raise ValueError(
                f"{type(self).__name__}: network must give a location and a log-scale, so its "
                f"output axis {-self.event_dims} must have even size, got {tuple(output.shape)}"
            )
        location, log_scale = output.chunk(2, -self.event_dims)
        if self.event_dims > 1:
            # Noise is drawn in the order of memory, which for channels depends on the network.
            location = location.contiguous()
        return location, log_scale.exp() + floor


class Gaussian(_NetworkConditional):
    """Diagonal Gaussian; the network's output is (mean, log-scale), split along one axis.

    With a constant `scale` the output is the mean alone.

    Args:
        network: Maps (B, ...) to (B, 2F) or, for events of more axes, (B, 2C, H, W); with `scale`
            to (B, F) or (B, C, H, W).
        floor: Smallest standard deviation, a number or a tensor of the event's shape; the scale
            is exp(log-scale) + floor. Without it the MIM loss of continuous data has no lower
            bound.
        event_dims: Number of trailing axes that form the event.
        scale: A constant standard deviation, a positive number.

    Raises:
        ValueError: If `floor` is negative or `scale` is not positive.
    """

    floor: Tensor
    scale: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        floor: float | Tensor = 1e-3,
        event_dims: int = 1,
        *,
        scale: float | None = None,
    ) -> None:
        super().__init__(network, event_dims)
        # A buffer, so that it is saved with the weights: likelihoods depend on it.
        self.register_buffer("floor", checked_floor(floor))
        _register_scale(self, scale)

    def forward(self, condition: Tensor) -> distributions.DiagNormal:
        """Distribution of batch shape (B,) given (B, ...)."""
        if self.scale is not None:
            return distributions.DiagNormal(self._output(condition), self.scale, self.event_dims)
        location, scale = self._location_and_scale(condition, self.floor)
        return distributions.DiagNormal(location, scale, self.event_dims, floor=self.floor)


def _register_scale(conditional: nn.Module, scale: float | None) -> None:
    """Save a constant standard deviation with the weights: likelihoods depend on it."""
    constant = None if scale is None else torch.tensor(real("scale", scale, 0, above=True))
    conditional.register_buffer("scale", constant)


class ClampedGaussian(nn.Module):
    """Diagonal Gaussian with a clamped log-variance; separate layers for mean and log-variance.

    Between the bounds the log-variance is linear in the features. Beyond them it stays at the
    bound and has no gradient. With a constant `scale` there is no log-variance.

    Args:
        network: Maps (..., *condition) to features (..., features).
        features: Number of features.
        size: Size of an event.
        log_variance: Bounds of the log-variance. A-MIM does not penalise narrow posteriors and
            ends at the lower bound, which is therefore part of the model.
        scale: A constant standard deviation, a positive number.
    """

    scale: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        features: int,
        size: int,
        log_variance: tuple[float, float] = (-6.0, 2.0),
        *,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        _check_network(network)
        features, size = whole("features", features, 1), whole("size", size, 1)
        self.network, self.bounds = network, bounds("log_variance", log_variance)
        self.mean = nn.Linear(features, size)
        if scale is None:
            self.log_variance = nn.Linear(features, size)
        _register_scale(self, scale)

    def forward(self, condition: Tensor) -> distributions.DiagNormal:
        """Distribution of batch shape (...) given (..., *condition)."""
        features = self.network(condition)
        mean = full_precision(self.mean(features))
        if self.scale is not None:
            return distributions.DiagNormal(mean, self.scale)
        log_variance = F.hardtanh(full_precision(self.log_variance(features)), *self.bounds)
        floor = math.exp(0.5 * self.bounds[0])
        return distributions.DiagNormal(mean, torch.exp(0.5 * log_variance), floor=floor)


class MixtureDensity(_NetworkConditional):
    """Mixture of K diagonal Gaussians of F features; the network gives weights and components.

    Each component takes 1 + 2F outputs: log-weight, means, log-scales. As an encoder or a decoder,
    see `components` of `Loss` for the gradient to the choice of a component.

    Args:
        network: Maps (B, ...) to (B, K (1 + 2F)).
        components: Number K of components.
        floor: Smallest standard deviation, a number or a tensor of shape (F,).

    References:
        Mixture Density Networks (Bishop, 1994), https://publications.aston.ac.uk/id/eprint/373/
    """

    floor: Tensor

    def __init__(self, network: nn.Module, components: int, floor: float | Tensor = 1e-3) -> None:
        super().__init__(network, event_dims=1)
        self.components = whole("components", components, 1)
        self.register_buffer("floor", checked_floor(floor))

    def forward(self, condition: Tensor) -> distributions.Mixture:
        """Distribution of batch shape (B,) given (B, ...)."""
        output = self._output(condition)
        size, rest = divmod(output.shape[-1], self.components)
        if rest or size < 3 or size % 2 == 0:
            raise ValueError(
                f"{type(self).__name__}: network must give a log-weight, F means and F log-scales "
                f"for each of {self.components} components, so its output axis -1 must have size "
                f"{self.components} (1 + 2F), got {tuple(output.shape)}"
            )
        each = output.unflatten(-1, (self.components, size))
        logits, loc, log_scale = each.split([1, size // 2, size // 2], -1)
        scale = log_scale.exp() + self.floor
        normals = distributions.DiagNormal(loc, scale, floor=self.floor)
        return distributions.Mixture(logits.squeeze(-1), normals)


class Bernoulli(_NetworkConditional):
    """Independent binary values; the network's output is their logits.

    Args:
        network: Maps (B, ...) to (B, *event).
        event_dims: Number of trailing axes that form the event.
    """

    def __init__(self, network: nn.Module, event_dims: int = 1) -> None:
        super().__init__(network, event_dims)

    def forward(self, condition: Tensor) -> discrete.Bernoulli:
        """Distribution of batch shape (B,) given (B, ...)."""
        return discrete.Bernoulli(self._output(condition), self.event_dims)


class _LogitsConditional(_NetworkConditional):
    """A network whose output holds the logits of variables with K categories each."""

    def __init__(self, network: nn.Module, categories: int, event_dims: int) -> None:
        super().__init__(network, event_dims)
        self.categories = whole("categories", categories, 2)

    def _logits(self, condition: Tensor, axis: int) -> Tensor:
        """Logits (..., K): split an axis of the output into variables and categories."""
        output = self._output(condition)
        if output.shape[axis] % self.categories:
            raise ValueError(
                f"{type(self).__name__}: network must give {self.categories} logits for each "
                f"variable, so its output axis {axis} must have a size that "
                f"{self.categories} divides, got {tuple(output.shape)}"
            )
        # Unflattening puts the categories after the variables, at the same `axis` from the end.
        logits: Tensor = output.unflatten(axis, (-1, self.categories)).movedim(axis, -1)
        return logits


class Categorical(_LogitsConditional):
    """Independent categorical values as category numbers; the network's output is their logits.

    The numbers are in floating point, like all data of the library.

    Args:
        network: Maps (B, ...) to (B, V K) for V values or, for events of more axes,
            (B, C K, H, W).
        categories: Number K of categories.
        event_dims: Number of trailing axes that form the event.
    """

    def __init__(self, network: nn.Module, categories: int, event_dims: int = 1) -> None:
        super().__init__(network, categories, event_dims)

    def forward(self, condition: Tensor) -> discrete.Categorical:
        """Distribution of batch shape (B,) given (B, ...)."""
        logits = self._logits(condition, -self.event_dims)
        return discrete.Categorical(logits, self.event_dims)


class OneHotCategorical(_LogitsConditional):
    """Independent categorical values, one-hot on the last axis; the network's output is logits.

    Args:
        network: Maps (B, ...) to (B, K) for one value, or to (B, V K) for V values with
            `event_dims` 2.
        categories: Number K of categories.
        event_dims: Number of trailing axes that form the event: 1 for (K,), 2 for (V, K), more for
            more axes of variables.
    """

    def __init__(self, network: nn.Module, categories: int, event_dims: int = 1) -> None:
        super().__init__(network, categories, event_dims)

    def forward(self, condition: Tensor) -> discrete.OneHotCategorical:
        """Distribution of batch shape (B,) given (B, ...)."""
        logits = self._logits(condition, min(-1, 1 - self.event_dims))
        if self.event_dims == 1:
            logits = self._single(logits)
        return discrete.OneHotCategorical(logits, self.event_dims)

    def _single(self, logits: Tensor) -> Tensor:
        if logits.shape[-2] != 1:
            raise ValueError(
                f"{type(self).__name__}: network must give {self.categories} logits, one for each "
                f"category, got {logits.shape[-2]} times as many; event_dims=2 makes them "
                "separate values"
            )
        return logits.squeeze(-2)


class DiscretizedLogistic(_NetworkConditional):
    """Grid values in [0, 1], such as grey levels; the network gives (location, log-scale).

    Args:
        network: Maps (B, ...) to (B, 2F) or, for events of more axes, (B, 2C, H, W).
        levels: Number L of grid values 0, 1/(L-1), ..., 1.
        floor: Smallest scale as a fraction of a grid step.
        event_dims: Number of trailing axes that form the event.
    """

    def __init__(
        self, network: nn.Module, levels: int = 256, floor: float = 1e-2, event_dims: int = 1
    ) -> None:
        super().__init__(network, event_dims)
        self.levels = whole("levels", levels, 2)
        self.floor = real("floor", floor, 0) / (self.levels - 1)

    def forward(self, condition: Tensor) -> discrete.DiscretizedLogistic:
        """Distribution of batch shape (B,) given (B, ...)."""
        location, scale = self._location_and_scale(condition, self.floor)
        return discrete.DiscretizedLogistic(
            location, scale, self.levels, self.event_dims, floor=self.floor
        )


def _check_network(network: object) -> None:
    if not callable(network):
        raise ValueError(
            f"network must be a module that maps tensors to tensors, got a {type(network).__name__}"
        )


def full_precision(output: Tensor) -> Tensor:
    """Convert a network's half-precision output to float32, since densities need the precision."""
    return output.float() if output.dtype in (torch.bfloat16, torch.float16) else output


def checked_floor(floor: float | Tensor) -> Tensor:
    """Convert a smallest standard deviation to a tensor.

    Raises:
        ValueError: If it is negative or not finite.
    """
    if not isinstance(floor, Tensor):
        floor = real("floor", floor, 0)
    elif not ((floor >= 0) & floor.isfinite()).all():
        raise ValueError(f"floor must be 0 or more, got {floor}")
    return torch.as_tensor(floor, dtype=torch.get_default_dtype()).clone()
