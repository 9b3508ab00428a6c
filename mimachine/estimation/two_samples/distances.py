"""Distances between rows, and how few directions they lie in."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["concentration", "pairwise"]

# From this many columns on, distances are by matrix products: other ways take many times as long.
_WIDE = 32
# Rows whose distances are centred.
_CENTRED = 200


def pairwise(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances of all pairs of rows, shape (N, M)."""
    mode = "use_mm_for_euclid_dist" if x.shape[1] > _WIDE else "donot_use_mm_for_euclid_dist"
    return torch.cdist(x, y, compute_mode=mode)


def concentration(y: Tensor) -> float:
    """How few directions the differences of rows lie in: 1 for a single one, near 0 for many.

    It is the root of the sum of the squares of shares, which are those of the squared eigenvalues
    of the centred distances, from up to 200 rows.
    """
    rows = y[:: -(-len(y) // _CENTRED)]
    between = pairwise(rows, rows)
    centred = between - between.mean(0) - between.mean(1, keepdim=True) + between.mean()
    total = float(centred.square().sum())
    return float((centred @ centred).norm()) / total if total > 0 else 1.0
