"""Share of standard deviations that lie at their lower bound."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine.model.distributions import Mixture
from mimachine.model.flattening import FlatImage
from mimachine.model.hierarchy import Chain
from mimachine.model.pixelcnn import AutoregressiveImage

__all__ = [
    "Scales",
    "at_floor",
    "scales",
]


_AT_FLOOR = 1.01


def at_floor(scale: Tensor, floor: float | Tensor) -> Tensor:
    """Which scales are within 1 % of the smallest they can be; none if that is 0."""
    return scale <= _AT_FLOOR * torch.as_tensor(floor, device=scale.device)


class Scales(NamedTuple):
    """Scales of a part of a distribution, (*batch, *event), and the smallest that they can be."""

    scale: Tensor
    floor: float | Tensor

    @property
    def at_floor(self) -> Tensor:
        """Which scales are within 1 % of the smallest they can be."""
        return at_floor(self.scale, self.floor)


def scales(distribution: Distribution, value: Tensor) -> list[Scales]:
    """The scales of a distribution's parts that are bounded below, in the order of the parts.

    Args:
        distribution: Of batch shape (B,), or (), for what does not depend on a condition.
        value: Values (B, *event); parts that are given others are given theirs.
    """
    if isinstance(distribution, Chain):
        return [each for part in distribution.parts(value) for each in scales(*part)]
    if isinstance(distribution, FlatImage):
        return scales(distribution.image, distribution.as_images(value))
    if isinstance(distribution, AutoregressiveImage):
        return scales(distribution.pixels_given(value), value)
    if isinstance(distribution, Mixture):
        return scales(distribution.components, value)
    floor = getattr(distribution, "floor", None)
    if floor is None:
        return []
    loc, scale = distribution.loc, distribution.scale  # type: ignore[attr-defined]
    return [Scales(scale.expand(loc.shape), floor)]
