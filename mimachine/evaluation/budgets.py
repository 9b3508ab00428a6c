"""Budgets: how many rows each measurement uses, so that it takes seconds.

A measurement that compares pairs is quadratic in rows, one that multiplies columns in columns, so
wide rows are fewer. The likelihood has a budget of time instead, see `evaluate`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "BOUND_PAIRS",
    "BOUND_QUERIES",
    "BOUND_ROWS",
    "DRAWN_VALUES",
    "DRAWS",
    "ENERGY_ROWS",
    "FEWEST_GENERATED",
    "FEWEST_PROBED",
    "FEWEST_RECONSTRUCTED",
    "GENERATED_ROWS",
    "NEIGHBOUR_ROWS",
    "PCA_ROWS",
    "PROBED_ROWS",
    "RECONSTRUCTED_ROWS",
    "REENCODED_ROWS",
    "SQUARED_VALUES",
    "VALUES",
    "comparable",
    "fewer_if_wide",
    "ksg_rows",
    "random_rows",
    "subset_note",
]

# Bounds of the information compare all pairs of these rows by a matrix product where q(z|x) is
# normal; otherwise this number of pairs, and at least this number of codes.
BOUND_ROWS, BOUND_PAIRS, BOUND_QUERIES = 10_000, 1_000_000, 100
# The energy distance compares all pairs of codes.
ENERGY_ROWS = 4000
# More training codes change an accuracy little, and cost as much as the training.
NEIGHBOUR_ROWS = 50_000
# Rows of a linear probe, and the fewest that it needs.
PROBED_ROWS, FEWEST_PROBED = 10_000, 20
PCA_ROWS, REENCODED_ROWS = 4000, 10_000
# Generated rows and data, each; a classifier of fewer learns too little.
GENERATED_ROWS, FEWEST_GENERATED = 2000, 20
# Where the decoder's mean is the mean of draws: draws of each row, values (such as pixels) drawn in
# all, which takes ten seconds with a PixelCNN, and rows.
DRAWS, DRAWN_VALUES, RECONSTRUCTED_ROWS, FEWEST_RECONSTRUCTED = 8, 2**21, 1000, 20
# Values of the rows that are compared, and their squares; rows are not reduced below `_FEWEST`.
VALUES, SQUARED_VALUES, _FEWEST = 2**22, 2**25, 1000
# KSG compares all pairs above a few dimensions. Above 40 dimensions it takes as many rows as cost
# no more than 10,000 in 40: its bias there leaves nothing that more rows would show.
_KSG_ROWS, _KSG_DIMENSIONS = 10_000, 40


def ksg_rows(dimensions: int) -> int:
    """Number of rows for KSG with this number of dimensions of x and z together."""
    return int(_KSG_ROWS * min(1.0, math.sqrt(_KSG_DIMENSIONS / dimensions)))


def fewer_if_wide(most: int, values: int, width: int) -> int:
    """Number of rows of this width: at most `most`, and at most `values` values."""
    return min(most, max(_FEWEST, values // width))


def comparable(codes: Tensor) -> int:
    """Number of codes (N, D) whose pairs can all be compared."""
    return math.isqrt(SQUARED_VALUES * 128 // codes.shape[1])


def random_rows(count: int, most: int) -> Tensor:
    """Indices of all rows, or of `most` random ones by the global generator: rows may be sorted."""
    return torch.arange(count) if count <= most else torch.randperm(count)[:most]


def subset_note(count: int, total: int) -> tuple[str, ...]:
    """A note that a metric uses a random subset of the rows; none if it uses all."""
    return () if count == total else (f"from {count:,} random rows of {total:,}",)
