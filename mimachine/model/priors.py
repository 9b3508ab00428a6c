"""Priors p(z) and q(x): modules that return a distribution without a condition.

A prior also serves as the anchor P(z). The decoder's marginal as q(x) is `Marginal`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

from mimachine._support.checks import function, one_of, real, sizes, whole
from mimachine.model import distributions
from mimachine.model.conditionals import Conditional
from mimachine.model.discrete import OneHotCategorical
from mimachine.model.distributions import DiagNormal, FullNormal, Mixture
from mimachine.model.networks import parameters_by_place

__all__ = [
    "Anchor",
    "Fixed",
    "FullGaussianMixture",
    "GaussianMixture",
    "LearnedNormal",
    "LearnedOneHot",
    "Marginal",
    "Prior",
    "StandardNormal",
    "UniformOneHot",
    "VampPrior",
    "unit_interval",
]


class Prior(Protocol):
    """Interface of a model prior: a callable that returns a distribution."""

    def __call__(self) -> Distribution:
        """Distribution of batch shape (); its event is one x or one z."""
        ...


class Samplable(Protocol):
    """Interface of a source of samples without a density."""

    def sample(self, sample_shape: Any = ..., /) -> Tensor:
        """Values of shape (*sample_shape, *event)."""
        ...


class Anchor(Protocol):
    """Interface of an anchor P(z): a callable that returns a source of samples."""

    def __call__(self) -> Samplable:
        """Source of samples, such as a distribution."""
        ...


class StandardNormal(nn.Module):
    """Standard normal prior N(0, I), fixed.

    Args:
        shape: Number of latents, or the shape of one latent event.
    """

    loc: Tensor

    def __init__(self, shape: int | tuple[int, ...]) -> None:
        super().__init__()
        # Not saved with the weights: a constant, and a buffer only to follow `.to()`.
        self.register_buffer("loc", torch.zeros(sizes("shape", shape)), persistent=False)

    def forward(self) -> distributions.StandardNormal:
        """Distribution of batch shape ()."""
        return distributions.StandardNormal(self.loc)


class LearnedNormal(nn.Module):
    """Diagonal normal prior with learned mean and standard deviation, initially N(0, I).

    Args:
        shape: Number of latents, or the shape of one latent event.
        floor: Smallest standard deviation.
    """

    def __init__(self, shape: int | tuple[int, ...], floor: float = 1e-3) -> None:
        super().__init__()
        shape = sizes("shape", shape)
        self.loc = nn.Parameter(torch.zeros(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))
        self.floor = real("floor", floor, 0)

    def forward(self) -> DiagNormal:
        """Distribution of batch shape ()."""
        return DiagNormal(self.loc, self.log_scale.exp() + self.floor, self.loc.dim())


class GaussianMixture(nn.Module):
    """Mixture of diagonal normal distributions with learned weights, means and scales.

    The means are initialised with draws from N(0, I), so that components differ.

    Args:
        features: Number of latents D.
        components: Number of components K.
        floor: Smallest standard deviation.
    """

    def __init__(self, features: int, components: int = 10, floor: float = 1e-3) -> None:
        super().__init__()
        features, components = whole("features", features, 1), whole("components", components, 1)
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, features))
        self.log_scale = nn.Parameter(torch.zeros(components, features))
        self.floor = real("floor", floor, 0)

    def forward(self) -> Mixture:
        """Distribution of batch shape ()."""
        components = DiagNormal(self.loc, self.log_scale.exp() + self.floor)
        return Mixture(self.logits, components)


class FullGaussianMixture(nn.Module):
    """Mixture of normal distributions with full covariance matrices, all learned.

    The means are initialised with draws from N(0, I), so that components differ, and the
    covariances with I. `refit_prior` fits one to codes by EM, faster than gradients do.

    Args:
        features: Number of latents D.
        components: Number of components K.
        floor: Smallest standard deviation of a latent given those before it, so that no density
            exceeds (2π)^(-D/2) floor^-D.
    """

    floor: Tensor

    def __init__(self, features: int, components: int = 10, floor: float = 1e-3) -> None:
        super().__init__()
        features, components = whole("features", features, 1), whole("components", components, 1)
        floor = real("floor", floor, 0)
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, features))
        self.log_diagonal = nn.Parameter(torch.zeros(components, features))
        self.below_diagonal = nn.Parameter(torch.zeros(components, features, features))
        # A buffer, so that it is saved with the weights: likelihoods depend on it.
        self.register_buffer("floor", torch.tensor(floor, dtype=torch.get_default_dtype()))

    @classmethod
    def of(cls, weights: Tensor, loc: Tensor, scale_tril: Tensor) -> FullGaussianMixture:
        """Create a mixture from weights (K,), means (K, D) and Cholesky factors (K, D, D).

        The floor is half the smallest standard deviation of a latent given those before it.
        """
        diagonal = scale_tril.diagonal(dim1=-2, dim2=-1)
        components, features = loc.shape
        mixture = cls(features, components, float(diagonal.min()) / 2).to(loc.dtype)
        with torch.no_grad():
            mixture.logits.copy_(weights.log())
            mixture.loc.copy_(loc)
            mixture.log_diagonal.copy_((diagonal - mixture.floor).log())
            mixture.below_diagonal.copy_(scale_tril.tril(-1))
        return mixture

    def forward(self) -> Mixture:
        """Distribution of batch shape ()."""
        diagonal = self.log_diagonal.exp() + self.floor
        scale_tril = self.below_diagonal.tril(-1) + diagonal.diag_embed()
        return Mixture(self.logits, FullNormal(self.loc, scale_tril))


class Fixed(nn.Module):
    """Fixed distribution, such as a known P(x), as a prior or an anchor.

    Args:
        distribution: Distribution of batch shape (). Its tensors, and those of distributions that
            it consists of, follow the module to another device or dtype.
    """

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        if not isinstance(distribution, Distribution):
            raise ValueError(
                f"distribution must be a Distribution, got a {type(distribution).__name__}"
            )
        self.distribution = distribution

    def forward(self) -> Distribution:
        """Distribution of batch shape ()."""
        return self.distribution

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fixed:
        super()._apply(fn, recurse)
        self.distribution = _mapped(fn, self.distribution)
        return self


def _mapped(fn: Callable[[Tensor], Tensor], distribution: Distribution) -> Distribution:
    """Copy a distribution with a function applied to its tensors."""
    copied = copy.copy(distribution)
    for name, value in vars(distribution).items():
        if isinstance(value, Tensor):
            vars(copied)[name] = fn(value)
        elif isinstance(value, Distribution):
            vars(copied)[name] = _mapped(fn, value)
    return copied


class UniformOneHot(nn.Module):
    """Uniform prior of one-hot values, fixed.

    Args:
        shape: Number of categories K, or the shape (V, K) of V independent values.
    """

    logits: Tensor

    def __init__(self, shape: int | tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(sizes("shape", shape)), persistent=False)

    def forward(self) -> OneHotCategorical:
        """Distribution of batch shape ()."""
        return OneHotCategorical(self.logits, self.logits.dim())


class LearnedOneHot(nn.Module):
    """Prior of one-hot values with learned probabilities, initially uniform.

    Args:
        shape: Number of categories K, or the shape (V, K) of V independent values.
    """

    def __init__(self, shape: int | tuple[int, ...]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(sizes("shape", shape)))

    def forward(self) -> OneHotCategorical:
        """Distribution of batch shape ()."""
        return OneHotCategorical(self.logits, self.logits.dim())


class VampPrior(nn.Module):
    """VampPrior: mixture of posteriors p(z) = 1/K Σ_k q(z|u_k), with learned pseudo-inputs u_k.

    Args:
        encoder: The model's encoder q(z|x), shared with the model, or the first part of a
            hierarchical encoder.
        pseudo_inputs: Initial pseudo-inputs, shape (K, *X); training data are a good choice.
        constraint: Applied to the pseudo-inputs before encoding, such as `unit_interval` for pixels
            in [0, 1]. By default they are unconstrained.

    References:
        VAE with a VampPrior (Tomczak and Welling, 2018), https://arxiv.org/abs/1705.07120
    """

    logits: Tensor

    def __init__(
        self,
        encoder: Conditional,
        pseudo_inputs: Tensor,
        constraint: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(pseudo_inputs, Tensor):
            raise ValueError(
                f"pseudo_inputs must be a tensor (K, *X), got a {type(pseudo_inputs).__name__}"
            )
        if pseudo_inputs.dim() < 2 or not len(pseudo_inputs):
            raise ValueError(
                f"pseudo_inputs must have shape (K, *X), got {tuple(pseudo_inputs.shape)}"
            )
        function("encoder", encoder, "a distribution")
        if constraint is not None:
            function("constraint", constraint, "a tensor")
        self.encoder = cast(nn.Module, encoder)
        self.pseudo_inputs = nn.Parameter(_as_floats(pseudo_inputs).detach().clone())
        self.constraint = constraint
        self.register_buffer("logits", torch.zeros(len(pseudo_inputs)), persistent=False)

    def forward(self) -> Mixture:
        """Distribution of batch shape ()."""
        inputs: Tensor = self.pseudo_inputs
        if self.constraint is not None:
            inputs = self.constraint(inputs)
        return Mixture(self.logits, self.encoder(inputs))


def _as_floats(inputs: Tensor) -> Tensor:
    """Pseudo-inputs in floating point, as they are learned; bytes k are grey values k / 255."""
    if inputs.is_complex():
        raise ValueError(f"pseudo_inputs must be of real numbers, got the type {inputs.dtype}")
    floats = inputs if inputs.is_floating_point() else inputs.to(torch.get_default_dtype())
    if not floats.isfinite().all():
        raise ValueError("pseudo_inputs must be finite, but some are not")
    return floats / 255 if inputs.dtype == torch.uint8 else floats


def unit_interval(value: Tensor) -> Tensor:
    """Clamp values to [0, 1], with a gradient that brings values outside back.

    Plain clamping has no gradient outside the interval. Values outside, such as half of the black
    pixels of images with a little noise, would never move again. Here a gradient passes if a step
    against it leads towards the interval, and is dropped if it leads away, so that values do not
    drift off.
    """
    return cast(Tensor, _ClampedToUnit.apply(value))


class _ClampedToUnit(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor) -> Tensor:
        return value.clamp(0, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (value,), (gradient,) = ctx.saved_tensors, gradients
        away = ((value < 0) & (gradient > 0)) | ((value > 1) & (gradient < 0))
        return torch.where(away, 0.0, gradient)


@dataclass(frozen=True)
class Marginal:
    """Marginal of the decoder as q(x), q(x) = E_{p(z)} p(x|z), Eq. (23), from one sample.

    On encoding samples log q(x) is estimated by importance sampling with the sample's latent,
    log p(x|z) + log p(z) - log q(z|x). On decoding samples there are two ways:

    - "conditional": log p(x|z) at the latent from which x was decoded. This is Algorithm 2 of the
      paper, used for its figures. It overestimates log q(x) by the pointwise mutual information.
      The loss is then not an upper bound of the joint entropy and rewards mutual information
      directly, on the decoding half by I(x;z)/2.
    - "importance": importance sampling with a second latent drawn from the encoder, as in the
      authors' released code for low-dimensional data.
    """

    decoding: Literal["conditional", "importance"] = "conditional"

    def __post_init__(self) -> None:
        one_of("decoding", self.decoding, ("conditional", "importance"))


def sample_without_gradient(anchor: Samplable, num_samples: int) -> Tensor:
    """Sample from an anchor without gradient, shape (num_samples, *event).

    Raises:
        TypeError: If it gave something else than an object with a method `sample`.
    """
    if not hasattr(anchor, "sample"):
        raise TypeError(
            f"anchor must give an object with a method sample, got a {type(anchor).__name__}"
        )
    with torch.no_grad():
        return anchor.sample(Size((num_samples,)))


def without_gradient(part: Callable[..., Any], *conditions: Tensor) -> Any:
    """Call a part of a model without gradient to its parameters, to evaluate its density."""
    if not isinstance(part, nn.Module):
        return part(*conditions)
    fixed = {place: tensor.detach() for place, tensor in parameters_by_place(part).items()}
    return functional_call(part, fixed, conditions, tie_weights=False)
