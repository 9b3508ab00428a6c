"""Two samples of numbers in one form and in one unit."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mimachine.data.examples import Examples, numbers

__all__ = ["Scaled", "in_units_of", "two_samples"]

# Standard deviation of a column, in units of its largest value, that rounding may cause.
_ROUNDING = 1e-14


def two_samples(x: Examples, y: Examples, least: int) -> tuple[Tensor, Tensor]:
    """Rows of both samples in float64, shapes (N, D) and (M, D), on the device of x."""
    first, second = numbers("x", x), numbers("y", y)
    if first[0].numel() != second[0].numel():
        raise ValueError(
            f"y must have rows of the size of x's, {tuple(first.shape[1:])}, got "
            f"{tuple(second.shape[1:])}"
        )
    for name, values in (("x", first), ("y", second)):
        if len(values) < least:
            raise ValueError(f"{name} must have {least} rows or more, got {len(values)}")
    first, second = (each.to(first.device).double().flatten(1) for each in (first, second))
    return first, second


class Scaled(NamedTuple):
    """Two samples in units in which squares are in range, relative to the mean of y.

    Attributes:
        x: First sample, shape (N, D).
        y: Second sample, shape (M, D).
        on_units: Effect of each row of y on the logarithms of the columns' units, shape (M, D);
            None if these do not depend on the rows.
    """

    x: Tensor
    y: Tensor
    on_units: Tensor | None = None


def in_units_of(x: Tensor, y: Tensor, standardize: bool) -> Scaled:
    """Both samples scaled, by the standard deviations of the columns in y if `standardize`."""
    on_units = None
    if standardize:
        largest = y.abs().amax(0)
        relative = y / torch.where(largest > 0, largest, 1.0)
        width = relative.std(0, correction=0)
        varies = width > _ROUNDING
        width = torch.where(varies, width, 1.0)
        on_units = (
            torch.where(varies, ((relative - relative.mean(0)) / width).square() - 1, 0.0) / 2
        )
        unit = torch.where(varies, width * largest, 1.0)
        x, y = x / unit, y / unit
    size = max(float(x.abs().max()), float(y.abs().max()), torch.finfo(x.dtype).tiny)
    x, y = x / size, y / size
    # Squares that are expanded lose the digits of a common offset.
    centre = y.mean(0)
    return Scaled(x - centre, y - centre, on_units)
