"""Check arrays of data, codes and reconstructions of any auto-encoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support.messages import counted, some
from mimachine._support.seeds import derived_seed

__all__ = ["Encodings", "encodings"]

_FEWEST = 10
# Types whose values float32 holds.
_SHORT = (np.float16, np.float32, np.int8, np.uint8, np.int16, np.uint16, np.bool_)


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
    _check_rows("z_mean", mean, count)
    return Encodings(
        x=data.flatten(1),
        mean=mean.flatten(1).double(),
        std=None if z_std is None else _widths(z_std, mean),
        reconstructed=None if x_reconstructed is None else _like(x_reconstructed, data),
        labels=None if labels is None else _classes(labels, count),
        seed=seed,
    )


def _values(name: str, values: Any) -> Tensor:
    """Finite numbers of shape (N, *S), with at least one axis S."""
    array = _array(name, values)
    if array.ndim == 0:
        raise ValueError(f"{name} must have shape (N, ...), got a single number")
    if array.size == 0:
        raise ValueError(f"{name} must have data, got shape {array.shape}")
    _check_finite(name, array.reshape(len(array), -1))
    tensor = torch.from_numpy(array)
    return tensor[:, None] if tensor.ndim == 1 else tensor


def _array(name: str, values: Any) -> NDArray[Any]:
    """Numbers as float32 or float64, in C order."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array, got rows of different shapes") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be of numbers, got the type {array.dtype}")
    kind = np.float32 if array.dtype.newbyteorder("=") in _SHORT else np.float64
    with np.errstate(over="ignore"):
        # A copy: torch warns about arrays that are not writable.
        return np.array(array, dtype=kind, order="C")


def _check_finite(name: str, rows: NDArray[Any]) -> None:
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise ValueError(
            f"{name} must be finite; {counted(len(bad), 'row')} of {len(rows):,} "
            f"{'is' if len(bad) == 1 else 'are'} not: {some(map(str, bad))} (counted from 0); "
            "leave them out of all arrays"
        )


def _check_rows(name: str, values: Tensor | NDArray[Any], count: int) -> None:
    if len(values) != count:
        raise ValueError(
            f"{name} must have a row for each of the {count:,} rows of x, got {len(values):,}"
        )


def _widths(z_std: Any, mean: Tensor) -> Tensor:
    """Standard deviations (N, D), from as many, from one for each dimension, or from a number."""
    array = _array("z_std", z_std)
    shapes = [(), tuple(mean.shape[1:]), tuple(mean.shape)]
    if mean.shape[1:] == (1,) and array.shape == (len(mean),):
        array = array[:, None]
    if array.shape not in shapes:
        raise ValueError(
            f"z_std must have z_mean's shape {shapes[2]}, or {shapes[1]}, or be a number, got "
            f"shape {array.shape}"
        )
    std = torch.from_numpy(array).expand(mean.shape).flatten(1).double()
    _check_finite("z_std", std.numpy())
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
    array = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array.flat):
        array = array.astype(np.str_)
    if array.dtype.kind not in "biufUS":
        raise ValueError(f"labels must be numbers or text, got the type {array.dtype}")
    array = array[:, 0] if array.shape[1:] == (1,) else array
    if array.ndim != 1:
        raise ValueError(
            f"labels must have shape (N,), got {array.shape}; of one-hot rows give labels.argmax(1)"
        )
    _check_rows("labels", array, count)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(
            f"labels must not be missing; row {int(np.isnan(array).argmax())} (counted from 0) is"
        )
    classes, numbers = np.unique(array, return_inverse=True)
    if len(classes) > count / 2:
        raise ValueError(
            f"labels must be classes, several rows of each; got {len(classes):,} different ones "
            f"in {count:,} rows"
        )
    return torch.from_numpy(numbers.reshape(-1))
