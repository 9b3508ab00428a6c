"""Observations: what a pixel is, given what a network says of it.

A network gives one or more maps, each of an image's shape (C, H, W); these values make a
distribution of pixels of them, which are independent given the maps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from mimachine.model.discrete import Bernoulli, DiscretizedLogistic
from mimachine.model.distributions import DiagNormal

__all__ = [
    "BinaryPixels",
    "GreyPixels",
    "Pixels",
    "RealPixels",
]


class Pixels(Protocol):
    """What pixels are.

    Attributes:
        maps: How many maps of an image's shape their distribution takes.
    """

    @property
    def maps(self) -> int:
        """How many maps of an image's shape their distribution takes."""
        ...

    def __call__(self, *maps: Tensor, event_dims: int) -> Distribution:
        """Distribution with an `icdf`, given maps of shape (*batch, *event)."""
        ...


@dataclass(frozen=True)
class BinaryPixels:
    """Zeros and ones; the map is that of their logits."""

    maps: int = 1

    def __call__(self, *maps: Tensor, event_dims: int) -> Bernoulli:
        """Distribution given logits of shape (*batch, *event)."""
        (logits,) = maps
        return Bernoulli(logits, event_dims)


@dataclass(frozen=True)
class _Bounded:
    """Pixels of a location in [0, 1] and a scale whose logarithm is clamped."""

    log_scale: tuple[float, float] = (-4.5, 0.0)

    def __post_init__(self) -> None:
        if not self.log_scale[0] < self.log_scale[1]:
            raise ValueError(f"log_scale must be (lower, upper) bounds, got {self.log_scale}")

    @property
    def maps(self) -> int:
        """A location before its sigmoid, and a log-scale."""
        return 2

    @property
    def floor(self) -> float:
        """The smallest that a scale can be."""
        return math.exp(self.log_scale[0])

    def _parameters(self, location: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        return location.sigmoid(), torch.exp(F.hardtanh(log_scale, *self.log_scale))


@dataclass(frozen=True)
class GreyPixels(_Bounded):
    """Grey levels 0, 1/(L-1), ..., 1, by a discretised logistic distribution.

    Args:
        log_scale: Bounds of the logarithm of the scale.
        levels: Number L of levels.
    """

    levels: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels < 2:
            raise ValueError(f"levels must be 2 or more, got {self.levels}")

    def __call__(self, *maps: Tensor, event_dims: int) -> DiscretizedLogistic:
        """Distribution given two maps of shape (*batch, *event)."""
        parameters = self._parameters(*maps)
        return DiscretizedLogistic(*parameters, self.levels, event_dims, floor=self.floor)


@dataclass(frozen=True)
class RealPixels(_Bounded):
    """Real values with a mean in [0, 1], by a normal distribution.

    Args:
        log_scale: Bounds of the logarithm of the standard deviation. The MIM loss of real values
            has no lower bound without the lower one.
    """

    def __call__(self, *maps: Tensor, event_dims: int) -> DiagNormal:
        """Distribution given two maps of shape (*batch, *event)."""
        return DiagNormal(*self._parameters(*maps), event_dims=event_dims, floor=self.floor)
