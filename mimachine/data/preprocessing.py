"""Preprocessing: map values of a file to the rows that a model sees, and back.

The parameters are learned from the training data and stored with the run, so that every later
command applies the same preprocessing and returns results in the original units.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine._support.schema import Checked, validated
from mimachine.data import stored_preprocessing

__all__ = ["Likelihood", "Preprocessing", "fingerprint", "rounding"]

Likelihood = Literal["gaussian", "bernoulli", "discretized-logistic"]
# Types of the fields of `Preprocessing`; in JSON a value or a list of values.
Array = Annotated[NDArray[Any], Checked(stored_preprocessing.as_array)]
Flags = Annotated[NDArray[np.bool_], Checked(stored_preprocessing.as_flags)]
_LARGEST_INT = 2.0**62


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """Parameters of preprocessing: a row is (values[kept] - shift) / scale, images as (C, H, W).

    Attributes:
        likelihood: The p(x|z), given by the user or chosen by the values.
        shape: Shape (*S) of one example in the file.
        columns: Names of the file's columns, if it has them.
        kept: Indices, in a flat example, of the D values that the model sees; None for all.
        constants: A flat example with the values that are not kept.
        shift: Shape (D,) or ().
        scale: Shape (D,) or (), positive.
        floor: Smallest standard deviation of a Gaussian p(x|z) in units of the row, (D,) or (): the
            step of the values' grid / √12, if there is one, and at least 1/1000 of the standard
            deviation.
        levels: Number of levels of the grid in [0, 1], if values are on a grid.
        image_shape: Channels, height and width, if examples are images.
        channels_last: Whether images in the file have their channels last.
        decimals: Number of decimals of the values of the file, 0 for integers and -1 for any, for
            each value of a flat example, or () for all; None if unknown.
        booleans: Whether the file stores a value as true or false, for each value of a flat
            example, or () for all; None if unknown.
    """

    likelihood: Likelihood
    shape: tuple[int, ...]
    columns: tuple[str, ...] | None
    kept: Array | None
    constants: Array | None
    shift: Array
    scale: Array
    floor: Array
    levels: int | None = None
    image_shape: tuple[int, int, int] | None = None
    channels_last: bool = True
    decimals: Array | None = None
    booleans: Flags | None = None

    @property
    def num_features(self) -> int:
        """Number D of values in a row."""
        return math.prod(self.shape) if self.kept is None else len(self.kept)

    @property
    def log_volume(self) -> float:
        r"""Log-density of rows minus log-density of values, in nats: the sum of the log scales.

        .. math:: \log p(\text{values}) = \log p(\text{row}) - \sum_i \log \text{scale}_i
        """
        if self.likelihood != "gaussian":
            return 0.0  # The likelihood is a probability, which has no units.
        scale = np.broadcast_to(self.scale, (self.num_features,))
        return float(np.log(scale).sum())

    @property
    def standardized(self) -> bool:
        """Whether each value of a row is in units of its standard deviation."""
        return self.scale.ndim > 0

    def apply(self, values: Array) -> NDArray[np.float32]:
        """Map values (n, *S) of a file to rows (n, D).

        Raises:
            ValueError: If the shape differs from the training data, or a value exceeds float32.
        """
        if values.shape[1:] != self.shape:
            raise ValueError(
                f"data must have rows of shape {self.shape}, as the training data, "
                f"got {values.shape[1:]}"
            )
        flat = self._channels_first(values).reshape(len(values), math.prod(self.shape))
        if flat.dtype == np.float16:
            # Differences and quotients in half precision would lose digits.
            flat = flat.astype(np.float32)
        if self.kept is not None:
            flat = flat[:, self.kept]
        with np.errstate(over="ignore", invalid="ignore"):
            rows: NDArray[np.float32] = ((flat - self.shift) / self.scale).astype(np.float32)
        if values.dtype == np.float16 and self.likelihood != "gaussian" and self.levels is not None:
            rows = (np.rint(rows * (self.levels - 1)) / (self.levels - 1)).astype(np.float32)
        if not np.isfinite(rows).all():
            place = tuple((np.argwhere(~np.isfinite(rows))[0] + 1).tolist())
            raise ValueError(
                f"data must be within the range of float32; value {place[1]} in row {place[0]} of "
                "a block is not"
            )
        return rows

    def restore(self, rows: Array, drawn: bool = False) -> Array:
        """Map rows (n, D) to values (n, *S) in the file's units and shape.

        Args:
            rows: Input or output of the model.
            drawn: Whether they are data or samples, rather than means. They are rounded to the
                grey levels, decimals, integers and booleans of the file. Where all values are
                integers or booleans, the result has such a type.
        """
        rows = rows.astype(np.float64)
        if drawn and self.levels is not None and self.likelihood != "gaussian":
            rows = np.rint(rows * (self.levels - 1)) / (self.levels - 1)
        flat = rows * self.scale + self.shift
        if self.kept is not None and self.constants is not None:
            full = np.tile(self.constants.astype(np.float64), (len(rows), 1))
            full[:, self.kept] = flat
            flat = full
        if self.image_shape is not None:
            channels, height, width = self.image_shape
            flat = flat.reshape(-1, channels, height, width)
            if self.channels_last:
                flat = np.moveaxis(flat, 1, -1)
        values = flat.reshape(len(rows), *self.shape)
        return values if not drawn else self._in_one_type(self._rounded(values))

    def in_file_type(self, values: Array) -> Array:
        """Values of a file, as integers or booleans if those of the training data all were.

        Values that this would change, such as decimals in later data, stay as they are.
        """
        with np.errstate(invalid="ignore"):
            cast = self._in_one_type(values)
        return cast if np.array_equal(cast, values) else values

    def restore_columns(self, values: Array) -> list[Array]:
        """Split values (n, D) of `restore` into blocks of adjacent columns of the same type.

        Returns:
            Arrays (n, any), from left to right: integers, booleans or floats, all rounded as in
            the file.
        """
        rounded = self._rounded(values)
        kinds = [self._kind(place) for place in range(values.shape[1])]
        blocks, start = [], 0
        for kind, run in itertools.groupby(kinds):
            stop = start + len(list(run))
            blocks.append(_cast(rounded[:, start:stop], kind))
            start = stop
        return blocks

    def _kind(self, place: int) -> str:
        """Type of a value of a flat example: "b", "i" or "f", as numpy names them."""
        if self.booleans is not None and self.booleans.flat[place % self.booleans.size]:
            return "b"
        if self.decimals is None or self.decimals.flat[place % self.decimals.size] != 0:
            return "f"
        return "i"

    def _rounded(self, values: Array) -> Array:
        """Values (n, *S) rounded to the decimals and booleans of the file."""
        if values.dtype.kind != "f":
            return values
        flat = values.reshape(len(values), -1)
        if self.decimals is not None:
            for count in np.unique(self.decimals[self.decimals >= 0]).tolist():
                flat = np.where(self.decimals == count, np.round(flat, count), flat)
        if self.booleans is not None:
            flat = np.where(self.booleans, np.clip(np.rint(flat), 0, 1), flat)
        return flat.reshape(values.shape)

    def _in_one_type(self, values: Array) -> Array:
        """Rounded values as integers or booleans, if all are."""
        if self.booleans is not None and self.booleans.all():
            return _cast(values, "b")
        if self.decimals is None or self.decimals.any():
            return values
        is_bytes = self.levels == 256 and self.scale.ndim == 0 and self.scale == 255
        return values.astype(np.uint8) if is_bytes else _cast(values, "i")

    def _channels_first(self, values: Array) -> Array:
        """Images (n, H, W, C) as (n, C, H, W), the order in which rows are flattened."""
        if self.image_shape is not None and self.channels_last and values.ndim == 4:
            return np.moveaxis(values, -1, 1)
        return values

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        value = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in value.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Inverse of `to_json`.

        Raises:
            ValueError: If an entry is missing, unknown, impossible or contradicts another.
        """
        learned = validated(cls, value, "preprocessing cannot be read")
        try:
            stored_preprocessing.check(learned)
        except ValueError as error:
            raise ValueError(f"preprocessing cannot be read: {error}") from error
        return learned


def rounding(levels: int, stored: np.dtype[Any]) -> float:
    """Distance from a grid of levels in [0, 1], in steps, that is due to the type of values."""
    eps = float(np.finfo(stored).eps) if stored.kind == "f" else 0.0
    return max(1e-3, eps * (levels - 1))


def _cast(values: Array, kind: str) -> Array:
    """Rounded values as booleans, integers or floats; integers that int64 lacks stay floats."""
    if kind == "b":
        return values.astype(np.bool_)
    if kind == "i" and values.dtype.kind == "f" and (np.abs(values) < _LARGEST_INT).all():
        return values.astype(np.int64)
    return values


def fingerprint(values: Array, labels: Array | None = None, splits: Array | None = None) -> str:
    """Hash of all values, labels and splits, to detect changes; the same on every machine."""
    digest = hashlib.blake2b(f"{values.shape} {values.dtype.str[1:]}".encode(), digest_size=16)
    native = values.dtype.newbyteorder("<")
    for block in memory.blocks(values):
        digest.update(np.ascontiguousarray(values[block], dtype=native).data)
    for names in (labels, splits):
        if names is not None:
            # Names of folders may not be UTF-8.
            text = "\0".join(map(str, names.tolist()))
            digest.update(text.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
