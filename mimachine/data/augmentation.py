"""Random affine augmentation and dequantisation of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from mimachine._support.seeds import derived_seed

__all__ = ["Affine", "Augmentation", "augmented", "dequantised", "versions", "warp"]

# Images warped at once; the draws of `versions` depend on it.
_BATCH = 5_000


class Affine(NamedTuple):
    r"""Affine maps about the centre of an image, one for each of N images.

    A point at (x, y) from the centre, x to the right and y down, is mapped to

    .. math:: s R(a) \begin{pmatrix} 1 & -\tan h \\ 0 & 1 \end{pmatrix} (x, y) + t

    where R(a) is the clockwise rotation by a, as in torchvision.

    Attributes:
        angle: Angles a in radians, shape (N,).
        shear: Angles h in radians, shape (N,).
        scale: Factors s, shape (N,).
        shift: Shifts t in pixels, shape (N, 2).
    """

    angle: Tensor
    shear: Tensor
    scale: Tensor
    shift: Tensor

    def inverse(self) -> Tensor:
        """Matrices (N, 2, 3) of the inverse maps."""
        cos, sin, tan = self.angle.cos(), self.angle.sin(), self.shear.tan()
        # Inverse shear times inverse rotation.
        rows = (cos - tan * sin, sin + tan * cos, -sin, cos)
        linear = torch.stack(rows, dim=1).reshape(-1, 2, 2) / self.scale[:, None, None]
        return torch.cat([linear, -linear @ self.shift[:, :, None]], dim=2)


@dataclass(frozen=True)
class Augmentation:
    """Parameters of random affine augmentation; defaults of the paper's released code.

    The distribution is that of torchvision's RandomAffine: angle, shear and scale are uniform, and
    so is each shift, rounded to whole pixels.

    Attributes:
        probability: Probability that an image is changed.
        rotation: Largest angle of the rotation, in degrees.
        shear: Largest angle of the shear along x, in degrees.
        scale: Smallest and largest factor.
        shift: Largest shift, as a fraction of the image's width or height.
    """

    probability: float = 0.5
    rotation: float = 10.0
    shear: float = 5.0
    scale: tuple[float, float] = (0.8, 1.2)
    shift: float = 0.1

    def draw(self, count: int, shape: tuple[int, int], generator: torch.Generator) -> Affine:
        """Draw maps for `count` images of shape (H, W)."""

        def uniform(low: float, high: float) -> Tensor:
            return torch.empty(count).uniform_(low, high, generator=generator)

        angle = torch.deg2rad(uniform(-self.rotation, self.rotation))
        shear = torch.deg2rad(uniform(-self.shear, self.shear))
        height, width = (self.shift * size for size in shape)
        shift = torch.stack([uniform(-width, width), uniform(-height, height)], dim=1)
        return Affine(angle, shear, uniform(*self.scale), shift.round())


def warp(images: Tensor, affine: Affine) -> Tensor:
    """Warp images (N, H, W) by an affine map each; pixels from outside are 0.

    Interpolation is nearest-neighbour, torchvision's default, so grey levels stay on their grid.
    """
    _, height, width = images.shape
    matrix = affine.inverse()
    # torch's coordinates are in units of half the image's width and height.
    half = torch.tensor([width / 2, height / 2])
    matrix = matrix * torch.cat([half, torch.ones(1)]) / half[:, None]
    grid = affine_grid(matrix, [len(images), 1, height, width], align_corners=False)
    warped = grid_sample(
        images[:, None], grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    return warped[:, 0]


def augmented(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Warp a random subset of images (N, H, W)."""
    chosen = torch.rand(len(images), generator=generator) < augmentation.probability
    if not chosen.any():
        return images
    height, width = images.shape[1:]
    result = images.clone()
    affine = augmentation.draw(int(chosen.sum()), (height, width), generator)
    result[chosen] = warp(images[chosen], affine)
    return result


def dequantised(images: Tensor, generator: torch.Generator, margin: float = 1e-3) -> Tensor:
    """Dequantise grey values x = 0, 1/255, ..., 1 to (255 x + u) / 256, u uniform in [0, 1).

    Args:
        images: Grey values, of any shape.
        generator: Generator of u.
        margin: Values are clamped to [margin, 1 - margin].
    """
    noise = torch.rand(images.shape, generator=generator)
    return ((255 * images + noise) / 256).clamp(margin, 1 - margin)


def versions(
    images: Tensor,
    augmentation: Augmentation,
    number: int,
    seed: int,
    project: Callable[[Tensor], Tensor],
) -> Tensor:
    """Independently augmented and dequantised versions of images, shape (K, N, D).

    Each version decides for each image whether to warp it, so a version taken at random has the
    distribution of a new draw.

    Args:
        images: Grey values on the grid of 256 levels, shape (N, H, W).
        augmentation: Parameters of the augmentation.
        number: Number K of versions.
        seed: Seed of the draws.
        project: Maps flat images (n, H W) to rows (n, D).

    Raises:
        ValueError: If `number` is less than 1.
    """
    if number < 1:
        raise ValueError(f"number must be 1 or more, got {number}")
    made = []
    for version in range(number):
        generator = torch.Generator().manual_seed(derived_seed(seed, "version", version))
        rows = [
            project(dequantised(augmented(part, augmentation, generator), generator).flatten(1))
            for part in images.split(_BATCH)
        ]
        made.append(torch.cat(rows))
    return torch.stack(made)
