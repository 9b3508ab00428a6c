"""Normalising flows as priors, encoders and decoders, and Gaussian pairs with inverse means.

The transformations are zuko's (the extra `flow`), imported only here when the first flow is made.
The distribution is our own: it draws noise out of place, as `torch.vmap(randomness="different")`
requires.

Flows expect values of order one, such as standardised data: the splines are the identity outside
[-bound, bound]. Only the smallest slope of the transformations, 1/1000 each, limits how narrow a
flow becomes; it has no floor as `Gaussian` has.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Size, Tensor, nn
from torch.distributions import AffineTransform, Distribution, Transform

from mimachine._support.checks import flag, function, instance, real, sizes, whole
from mimachine._support.process import exclusive
from mimachine.model.conditionals import checked_floor
from mimachine.model.distributions import DiagNormal, StandardNormal, draw

__all__ = [
    "Flow",
    "FlowConditional",
    "FlowPrior",
    "InvertibleGaussian",
    "InvertibleMap",
    "MaskedAutoregressive",
    "NeuralSpline",
    "RealNVP",
    "invertible_pair",
]


def _zuko() -> ModuleType:
    """Import zuko without its side effect on torch.

    The first import switches off argument validation for all distributions of the process.
    """
    if not sys.modules.get("zuko"):
        _import_zuko()
    # Flows come here in every step, which must not wait for other threads.
    import zuko

    return zuko  # type: ignore[no-any-return]


def _import_zuko() -> None:
    with exclusive():
        validation = Distribution._validate_args
        try:
            import zuko  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "normalising flows need the package zuko: pip install mimachine[flow]"
            ) from error
        finally:
            Distribution.set_default_validate_args(validation)


class FlowKind(Protocol):
    """Interface of the kind of layers of a flow."""

    def layer(self, features: int, **options: Any) -> nn.Module:
        """Create one layer, a lazy transformation of zuko."""
        ...


@dataclass(frozen=True)
class NeuralSpline:
    """Autoregressive layers of monotonic rational-quadratic splines.

    Attributes:
        bins: Number of bins of each spline.
        bound: The splines act on [-bound, bound].
        passes: Number of passes for sampling; None for one per feature, fully autoregressive. With
            2 the second half of the features depends only on the first half.

    References:
        Neural Spline Flows (Durkan et al., 2019), https://arxiv.org/abs/1906.04032
    """

    bins: int = 8
    bound: float = 5.0
    passes: int | None = None

    def __post_init__(self) -> None:
        whole("bins", self.bins, 2)
        real("bound", self.bound, 0, above=True)
        if self.passes is not None:
            whole("passes", self.passes, 1)

    def layer(self, features: int, **options: Any) -> nn.Module:
        """Create one layer."""
        spline = partial(_zuko().transforms.MonotonicRQSTransform, bound=self.bound)
        shapes = [(self.bins,), (self.bins,), (self.bins - 1,)]
        return _autoregressive(features, self.passes, univariate=spline, shapes=shapes, **options)


@dataclass(frozen=True)
class MaskedAutoregressive:
    """Autoregressive layers of shifts and scales; sampling takes one pass per feature.

    References:
        Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017),
        https://arxiv.org/abs/1705.07057
    """

    def layer(self, features: int, **options: Any) -> nn.Module:
        """Create one layer."""
        return _autoregressive(features, None, **options)


@dataclass(frozen=True)
class RealNVP:
    """Coupling layers of shifts and scales, one half of the features given the other.

    They are masked autoregressive layers with two passes. zuko's own coupling layers select
    features by masks, which `torch.vmap` cannot do for an ensemble.

    References:
        Density estimation using Real NVP (Dinh et al., 2016), https://arxiv.org/abs/1605.08803
    """

    def layer(self, features: int, **options: Any) -> nn.Module:
        """Create one layer."""
        return _autoregressive(features, 2, **options)


def _autoregressive(features: int, passes: int | None, **options: Any) -> nn.Module:
    module: nn.Module = _zuko().flows.MaskedAutoregressiveTransform(
        features, passes=passes, **options
    )
    return module


class _Layers(nn.Module):
    """Layers of a flow; the order of the features is reversed from layer to layer."""

    def __init__(
        self, features: int, context: int, transforms: int, hidden: Sequence[int], kind: FlowKind
    ) -> None:
        super().__init__()
        features, transforms = whole("features", features, 1), whole("transforms", transforms, 1)
        hidden = sizes("hidden", hidden)
        if isinstance(kind, type) or not callable(getattr(kind, "layer", None)):
            raise ValueError(f"kind must be a kind of flow such as RealNVP(), got {kind!r}")
        forwards = torch.arange(features)
        # Smooth, unlike zuko's default ReLU, whose corners would show in the density.
        options = {"context": context, "hidden_features": tuple(hidden), "activation": nn.SiLU}
        self.layers = nn.ModuleList(
            kind.layer(features, order=forwards.flip(0) if i % 2 else forwards, **options)
            for i in range(transforms)
        )
        self._described = (
            f"{features}, {f'context={context}, ' * bool(context)}transforms={transforms}, "
            f"hidden={tuple(hidden)}, kind={kind}"
        )

    def forward(self, context: Tensor | None = None) -> Transform:
        """Map from values to noise."""
        transform: Transform = _zuko().transforms.ComposedTransform(
            *(layer(context) for layer in self.layers)
        )
        return transform

    def __repr__(self) -> str:
        # The repr of the layers would draw from the global generator.
        return f"layers({self._described})"


class Flow(Distribution):
    """Distribution of a normalising flow: x such that f(x) is standard normal.

    Args:
        transform: The map f, from values to noise.
        base: Distribution of the noise, with the batch shape.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, transform: Transform, base: StandardNormal | DiagNormal) -> None:
        if not (isinstance(transform, Transform) and isinstance(base, Distribution)):
            instance("transform", transform, Transform, "a torch.distributions.Transform")
            instance("base", base, Distribution, "a distribution")
        # zuko adds a method `call_and_ladj` to every transformation, unknown to type checkers.
        self.transform: Any = transform
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Flow:
        """The same distribution with a larger batch."""
        return Flow(self.transform, self.base.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, shape (*sample, *batch)."""
        shape = torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        noise, log_det = self.transform.call_and_ladj(value.expand(shape))
        return self.base.log_prob(noise) + log_det  # type: ignore[no-any-return]

    def rsample_and_log_prob(self, sample_shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Draw reparameterised values with their log-densities, without inverting them again."""
        noise, log_prob, _ = draw(self.base, Size(sample_shape))
        value, log_det = self.transform.inv.call_and_ladj(noise)
        return value, log_prob - log_det

    def rsample(self, sample_shape: Any = Size()) -> Tensor:
        """Reparameterised values, shape (*sample_shape, *batch, *event)."""
        value: Tensor = self.transform.inv(self.base.rsample(Size(sample_shape)))
        return value

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Values without gradient, shape (*sample_shape, *batch, *event)."""
        with torch.no_grad():
            return self.rsample(sample_shape)


class FlowPrior(nn.Module):
    """Normalising flow as a prior, p(z) or q(x).

    Args:
        features: Number of features D.
        transforms: Number of layers.
        hidden: Sizes of the hidden layers of each layer's network.
        kind: `NeuralSpline`, `MaskedAutoregressive` or `RealNVP`.
        mean: Mean by which values are standardised, shape (D,); by default 0.
        std: Standard deviation by which values are standardised, shape (D,); by default 1. The
            layers see (value - mean) / std.

    Raises:
        ImportError: If zuko is not installed.
        ValueError: If `mean` or `std` has the wrong shape, or a standard deviation is not positive.

    Example:
        >>> mm.FlowPrior(2, kind=mm.RealNVP())().sample((5,)).shape
        torch.Size([5, 2])
    """

    loc: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        features: int,
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        kind: FlowKind = NeuralSpline(),
        *,
        mean: Tensor | None = None,
        std: Tensor | None = None,
    ) -> None:
        super().__init__()
        features = whole("features", features, 1)
        self.layers = _Layers(features, 0, transforms, hidden, kind)
        # Not saved with the weights: a constant, and a buffer only to follow `.to()`.
        self.register_buffer("loc", torch.zeros(features), persistent=False)
        mean = torch.zeros(features) if mean is None else mean
        std = torch.ones(features) if std is None else std
        for name, value in (("mean", mean), ("std", std)):
            if not isinstance(value, Tensor):
                raise ValueError(f"{name} must be a tensor, got a {type(value).__name__}")
            if value.shape != (features,):
                raise ValueError(f"{name} must have shape ({features},), got {tuple(value.shape)}")
        if not mean.isfinite().all():
            raise ValueError("mean must be finite")
        if not ((std > 0) & std.isfinite()).all():
            raise ValueError(f"std must be positive and finite, got {float(std.min()):.3g}")
        self.register_buffer("mean", mean.detach().clone())
        self.register_buffer("std", std.detach().clone())

    def forward(self) -> Flow:
        """Distribution of batch shape ()."""
        standardized = AffineTransform(-self.mean / self.std, 1 / self.std, event_dim=1)
        transform = _zuko().transforms.ComposedTransform(standardized, self.layers())
        return Flow(transform, StandardNormal(self.loc))


class FlowConditional(nn.Module):
    """Normalising flow given a context, as an encoder q(z|x) or a decoder p(x|z).

    Args:
        features: Number of features D of the values.
        context: Number of features of the context.
        transforms: Number of layers.
        hidden: Sizes of the hidden layers of each layer's network.
        kind: `NeuralSpline`, `MaskedAutoregressive` or `RealNVP`.
        network: Maps a condition to the context, (B, context); by default the identity.

    Raises:
        ImportError: If zuko is not installed.

    Example:
        >>> encoder = mm.FlowConditional(2, context=784)
        >>> encoder(torch.zeros(5, 784)).sample().shape
        torch.Size([5, 2])
    """

    loc: Tensor

    def __init__(
        self,
        features: int,
        context: int,
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        kind: FlowKind = NeuralSpline(),
        network: nn.Module | None = None,
    ) -> None:
        super().__init__()
        features, context = whole("features", features, 1), whole("context", context, 1)
        if network is not None:
            function("network", network, "a tensor")
        self.context, self.network = context, nn.Identity() if network is None else network
        self.layers = _Layers(features, context, transforms, hidden, kind)
        self.register_buffer("loc", torch.zeros(features), persistent=False)

    def forward(self, condition: Tensor) -> Flow:
        """Distribution of batch shape (B,) given (B, ...)."""
        context = self.network(condition)
        if context.shape != (len(condition), self.context):
            raise ValueError(
                f"FlowConditional: the context must have shape ({len(condition)}, {self.context})"
                f", got {tuple(context.shape)}"
            )
        return Flow(self.layers(context), StandardNormal(self.loc).expand((len(condition),)))


class InvertibleMap(nn.Module):
    """Invertible map from D features to D features, by the layers of a flow.

    Args:
        features: Number of features D.
        transforms: Number of layers.
        hidden: Sizes of the hidden layers of each layer's network.
        kind: `RealNVP`, the cheapest in both directions, `NeuralSpline` or
            `MaskedAutoregressive`.
    """

    def __init__(
        self,
        features: int,
        transforms: int = 4,
        hidden: Sequence[int] = (64, 64),
        kind: FlowKind = RealNVP(),
    ) -> None:
        super().__init__()
        self.features = whole("features", features, 1)
        self.layers = _Layers(features, 0, transforms, hidden, kind)

    def forward(self, value: Tensor) -> Tensor:
        """Map (..., D) to (..., D)."""
        mapped: Tensor = self.layers()(value)
        return mapped

    def inverse(self, value: Tensor) -> Tensor:
        """Map (..., D) back to (..., D)."""
        mapped: Tensor = self.layers().inv(value)
        return mapped

    def log_abs_det_jacobian(self, value: Tensor, inverse: bool = False) -> Tensor:
        """Log of the absolute value of the Jacobian's determinant at (..., D), shape (...)."""
        transform = self.layers()
        log_det: Tensor = (transform.inv if inverse else transform).call_and_ladj(value)[1]
        return log_det


class InvertibleGaussian(nn.Module):
    """Diagonal Gaussian whose mean is an invertible map of its condition.

    The standard deviations are learned, one per feature, and do not depend on the condition.

    Args:
        mean: The map.
        inverse: Whether the mean is the inverse of the map.
        floor: Smallest standard deviation. Without it the MIM loss of continuous data has no lower
            bound.
    """

    floor: Tensor

    def __init__(
        self, mean: InvertibleMap, inverse: bool = False, floor: float | Tensor = 1e-3
    ) -> None:
        super().__init__()
        instance("mean", mean, InvertibleMap, "an InvertibleMap")
        self.mean, self.inverse = mean, flag("inverse", inverse)
        self.log_scale = nn.Parameter(torch.zeros(mean.features))
        # A buffer, so that it is saved with the weights: likelihoods depend on it.
        self.register_buffer("floor", checked_floor(floor))

    def forward(self, condition: Tensor) -> DiagNormal:
        """Distribution of batch shape (B,) given (B, D)."""
        mean = self.mean.inverse(condition) if self.inverse else self.mean(condition)
        return DiagNormal(mean, self.log_scale.exp() + self.floor)


def invertible_pair(
    features: int,
    transforms: int = 4,
    hidden: Sequence[int] = (64, 64),
    kind: FlowKind = RealNVP(),
    floor: float | Tensor = 1e-3,
) -> tuple[InvertibleGaussian, InvertibleGaussian]:
    """Encoder N(f(x), σ²) and decoder N(f⁻¹(z), s²) that share one invertible map f.

    Their means are each other's inverse, so the mean code of an example decodes to the example
    itself. Training learns only where the codes lie and how wide the two distributions are.

    Args:
        features: Number of features of x and of z.
        transforms: Number of layers of f.
        hidden: Sizes of the hidden layers of each layer's network.
        kind: Kind of the layers, see `InvertibleMap`.
        floor: Smallest standard deviation of both.

    Raises:
        ImportError: If zuko is not installed.
    """
    mean = InvertibleMap(features, transforms, hidden, kind)
    return InvertibleGaussian(mean, floor=floor), InvertibleGaussian(mean, True, floor)
