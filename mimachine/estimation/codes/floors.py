"""Which standard deviations of a distribution are at their lower bound."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine.model.distributions import Mixture
from mimachine.model.flattening import FlatImage
from mimachine.model.hierarchy import Chain
from mimachine.model.pixelcnn import AutoregressiveImage

__all__ = ["Scales", "at_floor", "scales"]

_AT_FLOOR = 1.01


def at_floor(scale: Tensor, floor: float | Tensor) -> Tensor:
    """Which scales are within 1 % of their lower bound; none if the bound is 0."""
    return scale <= _AT_FLOOR * torch.as_tensor(floor, device=scale.device)


class Scales(NamedTuple):
    """Scales of a part of a distribution, shape (*batch, *event), and their lower bound."""

    scale: Tensor
    floor: float | Tensor

    @property
    def at_floor(self) -> Tensor:
        """Which scales are within 1 % of their lower bound."""
        return at_floor(self.scale, self.floor)


def scales(distribution: Distribution, value: Tensor) -> list[Scales]:
    """Scales of a distribution's parts that have a lower bound, in the order of the parts.

    Args:
        distribution: A distribution of batch shape (B,), or () if it is unconditional.
        value: Values, shape (B, *event), that later parts are conditioned on.
    """
    if isinstance(distribution, Chain):
        return [each for part in distribution.parts(value) for each in scales(*part)]
    if isinstance(distribution, FlatImage):
        return scales(distribution.image, distribution.as_images(value))
    if isinstance(distribution, AutoregressiveImage):
        return scales(distribution.pixels_given(value), value)
    if isinstance(distribution, Mixture):
        return scales(distribution.components, value)
    loc, scale, floor = (getattr(distribution, name, None) for name in ("loc", "scale", "floor"))
    if loc is None or scale is None or floor is None:
        return []
    return [Scales(scale.expand(loc.shape), floor)]
