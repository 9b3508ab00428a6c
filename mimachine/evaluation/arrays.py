"""Check arrays of data, codes and reconstructions of any auto-encoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mimachine._support.checks import whole
from mimachine._support.seeds import derived_seed
from mimachine.data.examples import as_tensor, check_finite, check_squares, class_numbers, numbers

__all__ = ["Encodings", "encodings"]

_FEWEST = 10
# Squares of smaller differences are lost to rounding in float64.
_SMALLEST_SPREAD = 1e-150
_LARGEST_STD = 1e148


@dataclass(frozen=True)
class Encodings:
    """Data with their codes: N rows in the same order.

    Attributes:
        x: Data, shape (N, F), float32 or float64.
        mean: Means of the codes, shape (N, D), float64.
        std: Standard deviations of the codes, shape (N, D), float64; None if unknown.
        reconstructed: Reconstructions, of the shape of x; None if unknown.
        labels: Number of each row's class, shape (N,); None without classes.
        seed: Seed of all random numbers.
    """

    x: Tensor
    mean: Tensor
    std: Tensor | None
    reconstructed: Tensor | None
    labels: Tensor | None
    seed: int

    @cached_property
    def sample(self) -> Tensor:
        """A sample of each code from a normal distribution; the means if the width is unknown."""
        if self.std is None:
            return self.mean
        noise = torch.randn(self.mean.shape, generator=self._generator("codes")).double()
        return self.mean + self.std * noise

    @cached_property
    def aggregate_std(self) -> Tensor:
        """Standard deviation of the aggregate posterior, shape (D,)."""
        variance = self.mean.var(0, correction=0)
        return (variance if self.std is None else variance + self.std.square().mean(0)).sqrt()

    def rows(self, most: int) -> Tensor:
        """Indices of all rows, or of `most` random ones: rows may be sorted."""
        if len(self.x) <= most:
            return torch.arange(len(self.x))
        return torch.randperm(len(self.x), generator=self._generator("rows"))[:most]

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derived_seed(self.seed, purpose))


def encodings(
    x: Any, z_mean: Any, z_std: Any, x_reconstructed: Any, labels: Any, seed: int
) -> Encodings:
    """Check arrays or tensors, and bring them to one form.

    Raises:
        ValueError: If an array cannot be used; the message names it.
    """
    data, mean = _values("x", x), _values("z_mean", z_mean)
    count = len(data)
    if count < _FEWEST:
        raise ValueError(f"x must have {_FEWEST} rows or more, got {count}")
    if (data == data[0]).all():
        raise ValueError(f"x must vary, got {count:,} rows that are all the same")
    if (spread := float((data - data[0]).abs().max())) < _SMALLEST_SPREAD:
        raise ValueError(
            f"x must vary by {_SMALLEST_SPREAD:g} or more, got {spread:.3g}; rescale it"
        )
    _check_rows("z_mean", mean, count)
    check_squares("z_mean", mean, _LARGEST_STD)
    return Encodings(
        x=data.flatten(1),
        mean=mean.flatten(1).double(),
        std=None if z_std is None else _widths(z_std, mean),
        reconstructed=None if x_reconstructed is None else _like(x_reconstructed, data),
        labels=None if labels is None else _classes(labels, count),
        # Generators take no larger seeds.
        seed=whole("seed", seed) % 2**63,
    )


def _values(name: str, values: Any) -> Tensor:
    """Finite numbers of shape (N, *S), with at least one axis S, on the CPU."""
    return numbers(name, values, squared=True).cpu()


def _check_rows(name: str, values: Tensor, count: int) -> None:
    if len(values) != count:
        raise ValueError(
            f"{name} must have a row for each of the {count:,} rows of x, got {len(values):,}"
        )


def _widths(z_std: Any, mean: Tensor) -> Tensor:
    """Standard deviations (N, D), from as many, from one for each dimension, or from a number."""
    given = as_tensor("z_std", z_std).cpu()
    shapes = [(), tuple(mean.shape[1:]), tuple(mean.shape)]
    if mean.shape[1:] == (1,) and given.shape == (len(mean),):
        given = given[:, None]
    if given.shape not in shapes:
        raise ValueError(
            f"z_std must have z_mean's shape {shapes[2]}, or {shapes[1]}, or be a number, got "
            f"shape {tuple(given.shape)}"
        )
    std = given.double().expand(mean.shape).flatten(1)
    check_finite("z_std", std)
    # Codes are drawn with them, which may be several standard deviations from the mean.
    check_squares("z_std", std, _LARGEST_STD)
    if (std < 0).any():
        row, column = (int(place) for place in torch.nonzero(std < 0)[0])
        raise ValueError(
            f"z_std must be 0 or more, got {float(std[row, column]):.4g} in row {row} (counted "
            "from 0); of a log-variance give exp(0.5 * log_variance)"
        )
    return std


def _like(x_reconstructed: Any, data: Tensor) -> Tensor:
    """Reconstructions (N, F); images may be flat on one side, or lack an axis of length 1."""
    values = _values("x_reconstructed", x_reconstructed)
    _check_rows("x_reconstructed", values, len(data))
    shapes = [tuple(n for n in each.shape[1:] if n != 1) for each in (values, data)]
    same_size = values[0].numel() == data[0].numel()
    if not same_size or (shapes[0] != shapes[1] and min(map(len, shapes)) > 1):
        raise ValueError(
            f"x_reconstructed must have x's shape {tuple(data.shape)}, got {tuple(values.shape)}"
        )
    return values.flatten(1)


def _classes(labels: Any, count: int) -> Tensor:
    """Number of each row's class."""
    (numbers_of_rows,) = class_numbers(labels=labels)
    _check_rows("labels", numbers_of_rows, count)
    classes = int(numbers_of_rows.max()) + 1
    if classes > count / 2:
        raise ValueError(
            f"labels must be classes, several rows of each; got {classes:,} different ones "
            f"in {count:,} rows"
        )
    return numbers_of_rows
