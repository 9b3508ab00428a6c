"""Priors: modules that give a distribution without a condition.

A prior serves as p(z), as q(x), or as the anchor P(z).
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
    """What a model prior has to be."""

    def __call__(self) -> Distribution:
        """Distribution of batch shape (); its event is one x or one z."""
        ...


class Samplable(Protocol):
    """Something that can be sampled and need not be evaluated."""

    def sample(self, sample_shape: Any = ..., /) -> Tensor:
        """Values of shape (*sample_shape, *event)."""
        ...


class Anchor(Protocol):
    """What an anchor P(z) has to be: a prior does, and so does all that can only be sampled."""

    def __call__(self) -> Samplable:
        """A source of samples."""
        ...


class StandardNormal(nn.Module):
    """N(0, I), fixed.

    Args:
        shape: Number of latents, or the shape of one latent event.
    """

    loc: Tensor

    def __init__(self, shape: int | tuple[int, ...]) -> None:
        super().__init__()
        # Not saved with the weights: a constant, kept as a buffer to follow `.to()`.
        self.register_buffer("loc", torch.zeros(shape), persistent=False)

    def forward(self) -> distributions.StandardNormal:
        """Distribution of batch shape ()."""
        return distributions.StandardNormal(self.loc)


class LearnedNormal(nn.Module):
    """Diagonal normal distribution with learned mean and standard deviation, N(0, I) at first.

    Args:
        shape: Number of latents, or the shape of one latent event.
        floor: Smallest standard deviation.
    """

    def __init__(self, shape: int | tuple[int, ...], floor: float = 1e-3) -> None:
        super().__init__()
        _check_floor(floor)
        self.loc = nn.Parameter(torch.zeros(shape))
        self.log_scale = nn.Parameter(torch.zeros(shape))
        self.floor = floor

    def forward(self) -> DiagNormal:
        """Distribution of batch shape ()."""
        return DiagNormal(self.loc, self.log_scale.exp() + self.floor, self.loc.dim())


class GaussianMixture(nn.Module):
    """Mixture of diagonal normal distributions, weights, means and deviations learned.

    The means start as draws of N(0, I), so that no two components are alike.

    Args:
        features: Number of latents D.
        components: Number of components K.
        floor: Smallest standard deviation.
    """

    def __init__(self, features: int, components: int = 10, floor: float = 1e-3) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"components must be 1 or more, got {components}")
        _check_floor(floor)
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, features))
        self.log_scale = nn.Parameter(torch.zeros(components, features))
        self.floor = floor

    def forward(self) -> Mixture:
        """Distribution of batch shape ()."""
        components = DiagNormal(self.loc, self.log_scale.exp() + self.floor)
        return Mixture(self.logits, components)


class FullGaussianMixture(nn.Module):
    """Mixture of normal distributions with full covariance matrices, all learned.

    The means start as draws of N(0, I), so that no two components are alike, and the covariances
    as I. `refit_prior` fits one to codes by EM, which is faster than by gradients.

    Args:
        features: Number of latents D.
        components: Number of components K.
        floor: Smallest standard deviation of a latent given those before it, so that no density
            exceeds (2π)^(-D/2) floor^-D.
    """

    floor: Tensor

    def __init__(self, features: int, components: int = 10, floor: float = 1e-3) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"components must be 1 or more, got {components}")
        _check_floor(floor)
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, features))
        self.log_diagonal = nn.Parameter(torch.zeros(components, features))
        self.below_diagonal = nn.Parameter(torch.zeros(components, features, features))
        # A buffer, so that it is saved with the weights: likelihoods depend on it.
        self.register_buffer("floor", torch.tensor(floor, dtype=torch.get_default_dtype()))

    @classmethod
    def of(cls, weights: Tensor, loc: Tensor, scale_tril: Tensor) -> FullGaussianMixture:
        """The mixture of given weights (K,), means (K, D) and Cholesky factors (K, D, D).

        Its floor is half the smallest standard deviation of a latent given those before it.
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
    """A given distribution, such as a known P(x), as a prior or an anchor; nothing is learned.

    Args:
        distribution: Distribution of batch shape (). Its tensors, and those of distributions that
            it consists of, follow the module to another device or type of numbers.
    """

    def __init__(self, distribution: Distribution) -> None:
        super().__init__()
        self.distribution = distribution

    def forward(self) -> Distribution:
        """Distribution of batch shape ()."""
        return self.distribution

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Fixed:
        super()._apply(fn, recurse)
        self.distribution = _mapped(fn, self.distribution)
        return self


def _mapped(fn: Callable[[Tensor], Tensor], distribution: Distribution) -> Distribution:
    """A copy of a distribution with a function applied to its tensors."""
    copied = copy.copy(distribution)
    for name, value in vars(distribution).items():
        if isinstance(value, Tensor):
            vars(copied)[name] = fn(value)
        elif isinstance(value, Distribution):
            vars(copied)[name] = _mapped(fn, value)
    return copied


class UniformOneHot(nn.Module):
    """One-hot values of which all are as likely, fixed.

    Args:
        shape: Number of categories K, or the shape (V, K) of V independent values.
    """

    logits: Tensor

    def __init__(self, shape: int | tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("logits", torch.zeros(shape), persistent=False)

    def forward(self) -> OneHotCategorical:
        """Distribution of batch shape ()."""
        return OneHotCategorical(self.logits, self.logits.dim())


class LearnedOneHot(nn.Module):
    """One-hot values with learned probabilities, all as likely at first.

    Args:
        shape: Number of categories K, or the shape (V, K) of V independent values.
    """

    def __init__(self, shape: int | tuple[int, ...]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(shape))

    def forward(self) -> OneHotCategorical:
        """Distribution of batch shape ()."""
        return OneHotCategorical(self.logits, self.logits.dim())


class VampPrior(nn.Module):
    """Mixture of posteriors, p(z) = 1/K Σ_k q(z|u_k), with learned pseudo-inputs u_k.

    Args:
        encoder: The model's encoder q(z|x), shared with it, or the part of a hierarchical one
            that has this prior.
        pseudo_inputs: First pseudo-inputs, shape (K, *X); training data are a good choice.
        constraint: Applied to the pseudo-inputs before they are encoded: `unit_interval` keeps
            pixels where pixels are. By default they are free.

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
        if pseudo_inputs.dim() < 2 or not len(pseudo_inputs):
            raise ValueError(
                f"pseudo_inputs must have shape (K, *X), got {tuple(pseudo_inputs.shape)}"
            )
        self.encoder = cast(nn.Module, encoder)
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())
        self.constraint = constraint
        self.register_buffer("logits", torch.zeros(len(pseudo_inputs)), persistent=False)

    def forward(self) -> Mixture:
        """Distribution of batch shape ()."""
        inputs: Tensor = self.pseudo_inputs
        if self.constraint is not None:
            inputs = self.constraint(inputs)
        return Mixture(self.logits, self.encoder(inputs))


def unit_interval(value: Tensor) -> Tensor:
    """Values clamped to [0, 1], which gradients can bring back from outside.

    Outside of the interval clamping alone has no gradient, and what has once left it, as half of
    the black pixels of images with a little noise on them have, never moves again. Here a gradient
    passes if a step against it leads towards the interval. One that leads away is dropped, so that
    nothing drifts off.
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
    """q(x) as the marginal of the decoder, q(x) = E_{p(z)} p(x|z), from one sample (Eq. 23).

    On encoding samples log q(x) is estimated by importance sampling with the latent at hand,
    log p(x|z) + log p(z) - log q(z|x). On decoding samples there are two ways:

    - "conditional": log p(x|z) at the latent that x came from. This is Algorithm 2 of the paper
      and what its figures were made with. It overestimates log q(x) by the pointwise mutual
      information, so the loss is no upper bound of the joint entropy and rewards mutual
      information directly, on the decoding half by I(x;z)/2.
    - "importance": importance sampling with a second latent drawn from the encoder, as in the
      authors' released code for low-dimensional data.
    """

    decoding: Literal["conditional", "importance"] = "conditional"

    def __post_init__(self) -> None:
        if self.decoding not in ("conditional", "importance"):
            raise ValueError(
                f'decoding must be "conditional" or "importance", got {self.decoding!r}'
            )


def sample_without_gradient(anchor: Samplable, num_samples: int) -> Tensor:
    """Samples of shape (num_samples, *event) that no gradient reaches the anchor through."""
    with torch.no_grad():
        return anchor.sample(Size((num_samples,)))


def without_gradient(part: Callable[..., Any], *conditions: Tensor) -> Any:
    """What a part gives, for its density: no gradient reaches the parameters of a module."""
    if not isinstance(part, nn.Module):
        return part(*conditions)
    fixed = {place: tensor.detach() for place, tensor in parameters_by_place(part).items()}
    return functional_call(part, fixed, conditions, tie_weights=False)


def _check_floor(floor: float) -> None:
    if not floor >= 0:
        raise ValueError(f"floor must be 0 or more, got {floor}")
