"""Flattened images: convert a model of images to a model of rows, the form of data sets."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from mimachine._support.checks import sizes
from mimachine.model.conditionals import Conditional
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import Draw, draw, log_prob_of_drawn
from mimachine.model.joint import Joint, check_joint
from mimachine.model.priors import Marginal, Prior

__all__ = ["FlatImage", "flattened"]


def flattened(
    model: Joint, shape: tuple[int, int, int], data_prior: Prior | Marginal | None = None
) -> Joint:
    """Convert a model of images to a model of rows, flattened channel by channel and row by row.

    Args:
        model: Model of images (C, H, W); the new model shares its parts and weights.
        shape: C, H and W.
        data_prior: q(x) of rows, as for `Joint`; required if the model has one of images.

    Returns:
        The model, with data of shape (C · H · W,).

    Raises:
        ValueError: If the model has a data prior other than `Marginal` and none is given.

    Example:
        >>> model = mm.hvae((1, 8, 8), latents=(3, 2), hidden=10)
        >>> rows = mm.flattened(model, (1, 8, 8))
        >>> rows.decode(rows.encode(torch.rand(5, 64).round()).z).x.shape
        torch.Size([5, 64])
    """
    check_joint("model", model)
    if not isinstance(shape, tuple | list) or len(sizes("shape", shape)) != 3:
        raise ValueError(f"shape must be (C, H, W), 1 or more each, got {shape!r}")
    if data_prior is None:
        if not isinstance(model.data_prior, Marginal):
            raise ValueError(
                "data_prior must be given, since the model has a data prior of images, got None"
            )
        data_prior = model.data_prior
    encoder, decoder = _EncoderOfRows(model.encoder, shape), _DecoderOfRows(model.decoder)
    return Joint(encoder, decoder, cast(Prior, model.prior), data_prior)


class _EncoderOfRows(nn.Module):
    """q(z|x) of rows, by an encoder of images."""

    def __init__(self, encoder: Conditional, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.images, self.shape = cast(nn.Module, encoder), tuple(shape)

    def forward(self, x: Tensor) -> Distribution:
        """Distribution of latents given rows (B, C · H · W).

        Raises:
            ValueError: If rows do not have length C · H · W.
        """
        size = math.prod(self.shape)
        if x.dim() != 2 or x.shape[1] != size:
            raise ValueError(f"x must have shape (B, {size}), got {tuple(x.shape)}")
        given: Distribution = self.images(x.unflatten(1, self.shape))
        return given


class _DecoderOfRows(nn.Module):
    """p(x|z) of rows, by a decoder of images."""

    def __init__(self, decoder: Conditional) -> None:
        super().__init__()
        self.images = cast(nn.Module, decoder)

    def forward(self, z: Tensor) -> FlatImage:
        """Distribution of rows given latents (B, Z)."""
        return FlatImage(self.images(z))


class FlatImage(Distribution):
    """Distribution of flattened images, as rows.

    Args:
        image: Distribution of any event shape (*E,).

    Example:
        >>> image = mm.DiagNormal(torch.zeros(5, 1, 2, 3), torch.ones(()), event_dims=3)
        >>> FlatImage(image).sample((7,)).shape
        torch.Size([7, 5, 6])
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch declares it so)

    def __init__(self, image: Distribution) -> None:
        self.image = image
        event = Size((image.event_shape.numel(),))
        super().__init__(image.batch_shape, event, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether the distribution of images has reparameterised samples."""
        return self.image.has_rsample

    @property
    def is_discrete(self) -> bool:
        """Whether images have probabilities instead of a density."""
        return is_discrete(self.image)

    @property
    def mean(self) -> Tensor:
        """Means, shape (*batch, D).

        Raises:
            NotImplementedError: If there is no closed form, as for `AutoregressiveImage`.
        """
        return self._rows(self.image.mean)

    @property
    def variance(self) -> Tensor:
        """Variances, shape (*batch, D).

        Raises:
            NotImplementedError: If there is no closed form.
        """
        return self._rows(self.image.variance)

    def draw(self, shape: Size = Size()) -> Draw:
        """Draw rows with their log-probability and score, see `distributions.draw`."""
        drawn = draw(self.image, shape)
        return drawn._replace(value=self._rows(drawn.value))

    def rsample(self, sample_shape: Any = Size()) -> Tensor:
        """Reparameterised values, shape (*sample_shape, *batch, D)."""
        return self._rows(self.image.rsample(Size(sample_shape)))

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Values without gradient, shape (*sample_shape, *batch, D)."""
        with torch.no_grad():
            return self._rows(self.image.sample(Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, shape (*sample, *batch)."""
        log_prob: Tensor = self.image.log_prob(self.as_images(value))
        return log_prob

    def log_prob_of_drawn(self, value: Tensor) -> Tensor:
        """Log-probability of rows that a model drew, see `distributions.log_prob_of_drawn`."""
        return log_prob_of_drawn(self.image, self.as_images(value))

    def as_images(self, rows: Tensor) -> Tensor:
        """Unflatten rows (*sample, *batch, D) to images (*sample, *batch, *E)."""
        images: Tensor = rows.unflatten(-1, self.image.event_shape)
        return images

    def _rows(self, images: Tensor) -> Tensor:
        return images.flatten(-len(self.image.event_shape))
