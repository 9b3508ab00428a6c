"""Flattened images: an image model as a model of rows, which is what data sets consist of."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from mimachine.model.conditionals import Conditional
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import Draw, draw, log_prob_of_drawn
from mimachine.model.joint import Joint
from mimachine.model.priors import Marginal, Prior

__all__ = [
    "FlatImage",
    "flattened",
]


def flattened(
    model: Joint, shape: tuple[int, int, int], data_prior: Prior | Marginal | None = None
) -> Joint:
    """The same model for images as rows, channel by channel and row by row.

    Args:
        model: A model of images (C, H, W); the new one shares its parts, and so its weights.
        shape: C, H and W.
        data_prior: q(x) of rows, as for `Joint`; that of images cannot be taken over.

    Returns:
        The model, with data of shape (C · H · W,).

    Raises:
        ValueError: If the model has a data prior with parameters and no other is given.

    Example:
        >>> model = mm.hvae((1, 8, 8), latents=(3, 2), hidden=10)
        >>> rows = mm.flattened(model, (1, 8, 8))
        >>> rows.decode(rows.encode(torch.rand(5, 64).round()).z).x.shape
        torch.Size([5, 64])
    """
    if data_prior is None:
        if not isinstance(model.data_prior, Marginal):
            raise ValueError(
                "data_prior must be given, for that of the model is of images, got None"
            )
        data_prior = model.data_prior
    encoder, decoder = _EncoderOfRows(model.encoder, shape), _DecoderOfRows(model.decoder)
    return Joint(encoder, decoder, cast(Prior, model.prior), data_prior)


class _EncoderOfRows(nn.Module):
    """q(z|x) of rows, by that of images."""

    def __init__(self, encoder: Conditional, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.images, self.shape = cast(nn.Module, encoder), tuple(shape)

    def forward(self, x: Tensor) -> Distribution:
        """Distribution of latents given rows (B, C · H · W).

        Raises:
            ValueError: If rows are of another length.
        """
        size = math.prod(self.shape)
        if x.dim() != 2 or x.shape[1] != size:
            raise ValueError(f"x must have shape (B, {size}), got {tuple(x.shape)}")
        given: Distribution = self.images(x.unflatten(1, self.shape))
        return given


class _DecoderOfRows(nn.Module):
    """p(x|z) of rows, by that of images."""

    def __init__(self, decoder: Conditional) -> None:
        super().__init__()
        self.images = cast(nn.Module, decoder)

    def forward(self, z: Tensor) -> FlatImage:
        """Distribution of rows given latents (B, Z)."""
        return FlatImage(self.images(z))


class FlatImage(Distribution):
    """A distribution of images as one of rows.

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
        """Whether images can be reparameterised."""
        return self.image.has_rsample

    @property
    def is_discrete(self) -> bool:
        """Whether images have probabilities and no density."""
        return is_discrete(self.image)

    @property
    def mean(self) -> Tensor:
        """Means, shape (*batch, D).

        Raises:
            NotImplementedError: If there is no closed form, as of an `AutoregressiveImage`.
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
        """A value with its log-probability and its score, as images are drawn."""
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
        """The same of rows that were drawn, see `distributions.log_prob_of_drawn`."""
        return log_prob_of_drawn(self.image, self.as_images(value))

    def as_images(self, rows: Tensor) -> Tensor:
        """Rows (*sample, *batch, D) as images, shape (*sample, *batch, *E)."""
        images: Tensor = rows.unflatten(-1, self.image.event_shape)
        return images

    def _rows(self, images: Tensor) -> Tensor:
        return images.flatten(-len(self.image.event_shape))
