"""Convolutional networks of flat images, in place of multi-layer perceptrons."""

from __future__ import annotations

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

from mimachine._support.checks import sizes, whole

__all__ = ["ConvDecoder", "ConvEncoder"]

Shape = tuple[int, int, int]
# Sides are halved until the shorter one is at most this long.
_SHORT = 7


class ConvEncoder(nn.Module):
    """Numbers of flat images: strided convolutions, then two dense layers.

    Each convolution halves the sides, until the shorter one is at most 7; the first has `channels`
    outputs and the others twice as many.

    Args:
        shape: An image's channels, height and width.
        out_features: Number of outputs.
        channels: Channels of the first convolution.
        hidden: Size of the dense layer.

    Shape:
        (*batch, C H W) to (*batch, out_features).

    Raises:
        ValueError: If a size is not positive.

    Example:
        >>> mm.ConvEncoder((3, 32, 32), 40)(torch.rand(5, 3072)).shape
        torch.Size([5, 40])
    """

    def __init__(
        self, shape: Shape, out_features: int, channels: int = 32, hidden: int = 300
    ) -> None:
        super().__init__()
        self.shape = _checked(shape)
        channels, hidden = whole("channels", channels, 1), whole("hidden", hidden, 1)
        sides = _sides(self.shape)
        widths = (self.shape[0], channels, *[2 * channels] * len(sides))[: len(sides)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*pair, 3, stride=2, padding=1) for pair in itertools.pairwise(widths)
        )
        self.dense = nn.Linear(widths[-1] * math.prod(sides[-1]), hidden)
        self.head = nn.Linear(hidden, whole("out_features", out_features, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (*batch, C H W) to (*batch, out_features)."""
        features = x.reshape(-1, *self.shape)
        for convolution in self.convolutions:
            features = F.silu(convolution(features))
        outputs: Tensor = self.head(F.silu(self.dense(features.flatten(1))))
        return outputs.reshape(*x.shape[:-1], -1)


class ConvDecoder(nn.Module):
    """Maps of flat images: two dense layers, then convolutions that double the sides.

    Each convolution gives four times as many channels, which become pixels (Shi et al., 2016). The
    sides are those of `ConvEncoder` in reverse.

    Args:
        in_features: Number of inputs.
        shape: An image's channels, height and width.
        maps: Number of maps of an image's shape.
        channels: Channels before the last convolution; twice as many before the others.
        hidden: Size of the dense layer.

    Shape:
        (*batch, in_features) to (*batch, maps C H W).

    Raises:
        ValueError: If a size is not positive.

    References:
        Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
        Neural Network (Shi et al., 2016), https://arxiv.org/abs/1609.05158

    Example:
        >>> mm.ConvDecoder(10, (1, 28, 28), maps=2)(torch.randn(5, 10)).shape
        torch.Size([5, 1568])
    """

    def __init__(
        self, in_features: int, shape: Shape, maps: int = 1, channels: int = 32, hidden: int = 300
    ) -> None:
        super().__init__()
        self.shape, self.maps = _checked(shape), whole("maps", maps, 1)
        channels, hidden = whole("channels", channels, 1), whole("hidden", hidden, 1)
        *larger, smallest = _sides(self.shape)
        self.sides = tuple(reversed(larger))
        outputs = maps * self.shape[0]
        widths = [2 * channels] * max(0, len(larger) - 1) + [channels] * bool(larger) + [outputs]
        self.first = (widths[0], *smallest)
        self.dense = nn.Linear(whole("in_features", in_features, 1), hidden)
        self.spread = nn.Linear(hidden, math.prod(self.first))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(size, 4 * following, 3, padding=1)
            for size, following in itertools.pairwise(widths)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map (*batch, in_features) to (*batch, maps C H W)."""
        features: Tensor = self.spread(F.silu(self.dense(z))).reshape(-1, *self.first)
        for convolution, (height, width) in zip(self.convolutions, self.sides, strict=True):
            features = F.pixel_shuffle(convolution(F.silu(features)), 2)[..., :height, :width]
        return features.reshape(*z.shape[:-1], -1)


def _checked(shape: Shape) -> Shape:
    if not isinstance(shape, tuple | list) or len(sizes("shape", shape)) != 3:
        raise ValueError(f"shape must be (C, H, W), 1 or more each, got {shape!r}")
    channels, height, width = shape
    return channels, height, width


def _sides(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of an image, and after each halving."""
    sides = [shape[1:]]
    while min(sides[-1]) > _SHORT:
        sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
    return sides
