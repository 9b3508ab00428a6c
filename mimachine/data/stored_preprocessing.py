"""Check that stored parameters of preprocessing are possible, and fit each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine._support.schema import is_number, shown

if TYPE_CHECKING:
    from mimachine.data.preprocessing import Preprocessing

__all__ = ["as_array", "as_flags", "check"]

_BYTES_OF_VALUE, _MOST_AXES, _MOST_LEVELS, _MOST_DECIMALS = 8, 32, 1 << 16, 15


def as_array(value: Any) -> NDArray[Any]:
    """A number, or a list of numbers, as an array.

    Raises:
        ValueError: If it is something else, or a number is not finite.
    """
    numbers = value if isinstance(value, list) else [value]
    for number in numbers:
        if not is_number(number):
            raise ValueError(f"must be finite numbers, got {shown(number)}")
    return np.asarray(value)


def as_flags(value: Any) -> NDArray[np.bool_]:
    """True or false, or a list of them, as an array.

    Raises:
        ValueError: If it is something else.
    """
    for flag in value if isinstance(value, list) else [value]:
        if type(flag) is not bool:
            raise ValueError(f"must be true or false, got {shown(flag)}")
    return np.asarray(value, dtype=np.bool_)


def check(learned: Preprocessing) -> None:
    """Check parameters that were read from a file.

    Raises:
        ValueError: If one of them is impossible or contradicts another.
    """
    _check_shape(learned)
    _check_kept(learned)
    _check_columns(learned)
    for name in ("shift", "scale", "floor"):
        _check(
            getattr(learned, name).shape in ((), (learned.num_features,)),
            f"{name} must be one number, or one for each of the {learned.num_features} features",
        )
    _check(bool((learned.scale > 0).all()), "scale must be positive")
    _check(bool((learned.floor >= 0).all()), "floor must be 0 or more")
    is_scaled = learned.scale.ndim or learned.floor.ndim or learned.kept is not None
    _check(learned.likelihood == "gaussian" or not is_scaled, _unscaled(learned))
    _check_levels(learned)
    _check_image(learned)
    _check_types(learned)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _unscaled(learned: Preprocessing) -> str:
    return f"scale and floor must be one number each for likelihood {learned.likelihood}"


def _check_shape(learned: Preprocessing) -> None:
    sides, most = learned.shape, memory.available() // _BYTES_OF_VALUE
    possible = len(sides) <= _MOST_AXES and all(side >= 1 for side in sides)
    _check(possible, f"shape must be positive sizes, got {shown(list(sides))}")
    size = math.prod(sides)
    _check(size <= most, f"shape must be of at most {most:,} values, as memory allows")


def _check_kept(learned: Preprocessing) -> None:
    kept, constants, size = learned.kept, learned.constants, math.prod(learned.shape)
    _check((kept is None) == (constants is None), "kept and constants must both be given or null")
    if kept is None or constants is None:
        return
    increases = kept.ndim == 1 and len(kept) > 0 and bool((np.diff(kept) > 0).all())
    inside = increases and kept.dtype.kind == "i" and kept[0] >= 0 and kept[-1] < size
    _check(bool(inside), f"kept must be increasing indices below {size}")
    _check(constants.shape == (size,), f"constants must be {size} numbers")


def _check_columns(learned: Preprocessing) -> None:
    columns = learned.columns
    if columns is not None:
        _check(learned.shape == (len(columns),), "columns must be as many as values")
        # The columns of another file are chosen by name.
        _check(len(set(columns)) == len(columns), "columns must have different names")


def _check_levels(learned: Preprocessing) -> None:
    levels = learned.levels
    _check(levels is None or 2 <= levels <= _MOST_LEVELS, "levels must be 2 or more")
    _check(
        levels is not None or learned.likelihood != "discretized-logistic",
        "levels must be given for likelihood discretized-logistic",
    )


def _check_image(learned: Preprocessing) -> None:
    """Check that the file's shape is that of the images, possibly without channels."""
    image, last = learned.image_shape, learned.channels_last
    if image is None:
        return
    channels, height, width = image
    shapes: list[tuple[int, ...]] = [(height, width, channels) if last else image]
    # Grey images need not have an axis of channels.
    shapes += [(height, width)] if channels == 1 and last else []
    _check(learned.shape in shapes, "image_shape must be that of shape")
    _check(learned.kept is None, "kept must be null for images")


def _check_types(learned: Preprocessing) -> None:
    """Check the types of the values in the file; older runs have none."""
    size, decimals = math.prod(learned.shape), learned.decimals
    for name in ("decimals", "booleans"):
        each = getattr(learned, name)
        _check(
            each is None or each.shape in ((), (size,)),
            f"{name} must be one value, or one for each of the {size} values",
        )
    possible = decimals is None or (
        decimals.dtype.kind == "i" and -1 <= decimals.min() <= decimals.max() <= _MOST_DECIMALS
    )
    _check(possible, f"decimals must be integers from -1 to {_MOST_DECIMALS}")
