"""Exact Euclidean nearest neighbours in float64, of a set of points or of its other points."""

from __future__ import annotations

import torch
from torch import Tensor

from mimachine._support.process import exclusive

__all__ = ["nearest", "nearest_others"]

# Up to this many columns, trees are faster than comparing all pairs.
_TREE_DIMENSIONS = 6
# Candidates beyond k, so that rounding and ties of the search rarely decide which points are found.
_MORE = 16
_PAIRS, _GATHERED = 2**26, 2**22


def nearest(points: Tensor, queries: Tensor, k: int) -> Tensor:
    """Indices of the k nearest points of each query, nearest first, shape (M, k).

    A fast search proposes k + 16 candidates, which are sorted by distance and then by index. So
    the smaller index wins a tie, unless more than 16 points are tied with the k-th: then the search
    decides which of them are candidates, which may depend on the numbers of threads and queries.
    In more than 6 columns, or on a GPU, the search does not resolve distances below about 1e-7
    times the largest distance from the points' mean.

    Args:
        points: N points, shape (N, *X), finite.
        queries: M points on the same device, shape (M, *X), finite.
        k: Number of neighbours, in [1, N].
    """
    points, queries = points.flatten(1).double(), queries.flatten(1).double()
    count = min(k + _MORE, len(points))
    # Expanded squares lose the digits that a common offset takes up.
    centre = points.mean(0)
    search = _by_scikit_learn if points.device.type == "cpu" else _by_all_pairs
    candidates = search(points - centre, queries - centre, count).sort(1).values
    size = max(1, _GATHERED // (count * points.shape[1]))
    squares = torch.cat(
        [
            (points[near] - rows[:, None]).square().sum(2)
            for near, rows in zip(candidates.split(size), queries.split(size), strict=True)
        ]
    )
    # Candidates are in the order of their indices, which a stable sort keeps among ties.
    order = squares.sort(dim=1, stable=True).indices
    return candidates.gather(1, order[:, :k])


def nearest_others(points: Tensor, k: int) -> Tensor:
    """Indices of the k nearest other points of each point, shape (N, k), for k in [1, N - 1]."""
    found = nearest(points, points, k + 1)
    itself = found == torch.arange(len(points), device=found.device)[:, None]
    # A point may be missing from its own list if others coincide with it: drop the last instead.
    itself[:, -1] |= ~itself.any(1)
    return found[~itself].reshape(len(points), k)


def _by_scikit_learn(points: Tensor, queries: Tensor, count: int) -> Tensor:
    from sklearn.neighbors import NearestNeighbors

    algorithm = "kd_tree" if points.shape[1] <= _TREE_DIMENSIONS else "brute"
    with exclusive():
        search = NearestNeighbors(n_neighbors=count, algorithm=algorithm).fit(points.numpy())
        return torch.from_numpy(search.kneighbors(queries.numpy(), return_distance=False))


def _by_all_pairs(points: Tensor, queries: Tensor, count: int) -> Tensor:
    blocks = queries.split(max(1, _PAIRS // len(points)))
    return torch.cat(
        [torch.cdist(rows, points).topk(count, largest=False).indices for rows in blocks]
    )
