"""Cells: which texts are numbers, which stand for a value that is missing, and which are words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MISSING", "are_numbers", "typed"]

MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "?"))


def are_numbers(cells: Sequence[str]) -> bool:
    """Whether numpy's parser takes all of the cells as numbers, which NaN is not."""
    text = "".join(cells)
    try:
        return not any(map(math.isnan, map(float, cells))) and "_" not in text and text.isascii()
    except ValueError:
        return False


def typed(labels: NDArray[Any]) -> NDArray[Any]:
    """Texts as integers or floats where all of them are; 007 is none, but a name."""
    if labels.dtype.kind != "U":
        return labels
    try:
        whole = labels.astype(np.int64)
    except (ValueError, OverflowError):
        return labels if not are_numbers(labels.tolist()) else labels.astype(np.float64)
    return whole if (whole.astype(np.str_) == labels).all() else labels
