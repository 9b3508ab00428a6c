"""Pixel likelihoods: binary, grey-level or real-valued pixels, given the maps of a network.

A network gives one or more maps of an image's shape (C, H, W). They are the parameters of a
distribution of pixels that are independent given the maps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.checks import bounds, whole
from mimachine.model.discrete import Bernoulli, DiscretizedLogistic
from mimachine.model.distributions import DiagNormal

__all__ = ["BinaryPixels", "GreyPixels", "Pixels", "RealPixels", "check_pixels"]


class Pixels(Protocol):
    """Interface of a pixel likelihood.

    Attributes:
        maps: Number of maps of an image's shape that parameterise the distribution.
    """

    @property
    def maps(self) -> int:
        """Number of maps of an image's shape that parameterise the distribution."""
        ...

    def __call__(self, *maps: Tensor, event_dims: int) -> Distribution:
        """Distribution with an `icdf`, given maps of shape (*batch, *event)."""
        ...


def check_pixels(pixels: object) -> None:
    """Check that an argument is a pixel likelihood.

    Raises:
        ValueError: If it is something else, such as a class of them.
    """
    if isinstance(pixels, type) or not (callable(pixels) and hasattr(pixels, "maps")):
        raise ValueError(f"pixels must be a likelihood such as BinaryPixels(), got {pixels!r}")


@dataclass(frozen=True)
class BinaryPixels:
    """Binary pixels, 0 or 1; the map holds their logits."""

    maps: int = 1

    def __post_init__(self) -> None:
        if self.maps != 1:
            raise ValueError(f"maps must be 1, the map of logits, got {self.maps!r}")

    def __call__(self, *maps: Tensor, event_dims: int) -> Bernoulli:
        """Distribution given logits of shape (*batch, *event)."""
        (logits,) = maps
        return Bernoulli(logits, event_dims)


@dataclass(frozen=True)
class _Bounded:
    """Pixels with a location in [0, 1] and a scale whose logarithm is clamped."""

    log_scale: tuple[float, float] = (-4.5, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_scale", bounds("log_scale", self.log_scale))

    @property
    def maps(self) -> int:
        """2: the location before the sigmoid, and the log-scale."""
        return 2

    @property
    def floor(self) -> float:
        """Smallest possible scale."""
        return math.exp(self.log_scale[0])

    def _parameters(self, location: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        return location.sigmoid(), torch.exp(F.hardtanh(log_scale, *self.log_scale))


@dataclass(frozen=True)
class GreyPixels(_Bounded):
    """Grey levels 0, 1/(L-1), ..., 1, with a discretised logistic distribution.

    Args:
        log_scale: Bounds of the logarithm of the scale.
        levels: Number L of levels.
    """

    levels: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "levels", whole("levels", self.levels, 2))

    def __call__(self, *maps: Tensor, event_dims: int) -> DiscretizedLogistic:
        """Distribution given two maps of shape (*batch, *event)."""
        parameters = self._parameters(*maps)
        return DiscretizedLogistic(*parameters, self.levels, event_dims, floor=self.floor)


@dataclass(frozen=True)
class RealPixels(_Bounded):
    """Real-valued pixels with a mean in [0, 1], with a normal distribution.

    Args:
        log_scale: Bounds of the logarithm of the standard deviation. Without the lower bound the
            MIM loss of real values has no lower bound.
    """

    def __call__(self, *maps: Tensor, event_dims: int) -> DiagNormal:
        """Distribution given two maps of shape (*batch, *event)."""
        return DiagNormal(*self._parameters(*maps), event_dims=event_dims, floor=self.floor)
