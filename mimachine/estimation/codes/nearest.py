"""Euclidean neighbours: the nearest points of a set, as comparing all pairs in float64 gives them.

The squared distance of a pair is the sum over columns of (a - b)² in float64, and of points equally
far the one that comes first is nearer. Faster formulas propose more candidates than are needed and
bound how far any other point must be; what a bound does not decide is compared in full.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "nearest",
    "nearest_others",
]


# Up to so many columns trees are faster than comparing all pairs.
_TREE_DIMENSIONS = 6
# Candidates beyond the number asked for: ties among fewer are decided without a second search.
_MORE = 4
_PAIRS, _PAIRS_ON_GPU, _GATHERED = 2**22, 2**26, 2**22


class _Candidates(NamedTuple):
    """Points that may be the nearest ones, of n queries.

    Attributes:
        places: Which points, shape (n, C).
        beyond: Squared distance that no other point is nearer than, but for rounding, shape (n,).
    """

    places: Tensor
    beyond: Tensor


def nearest(points: Tensor, queries: Tensor, k: int) -> Tensor:
    """Places of the k nearest points of each query, the nearest first, shape (M, k).

    On a GPU all pairs are compared there; on the CPU by scikit-learn, in few dimensions with trees.

    Args:
        points: N points, shape (N, *X), finite.
        queries: M points on the same device, shape (M, *X), finite.
        k: Number of neighbours, in [1, N].
    """
    points, queries = points.flatten(1).double(), queries.flatten(1).double()
    # Formulas that expand the square lose the digits that an offset common to all takes up.
    centre = points.mean(0)
    shifted, shifted_queries = points - centre, queries - centre
    slack = _slack(shifted, shifted_queries)
    found = _candidates(shifted, shifted_queries, min(k + _MORE, len(points)))
    places, squares = _first(points, queries, found.places, k)
    unsure = torch.nonzero(found.beyond - slack <= squares[:, -1]).flatten()
    if len(unsure):
        kept = torch.nonzero(_rank_among_equals(points) < k).flatten()
        size = max(1, _pairs(points) // len(kept))
        for rows in unsure.split(size):
            near = _squares_of_products(shifted_queries[rows], shifted[kept])
            near = near <= (squares[rows, -1] + slack[rows])[:, None]
            places[rows] = kept[_first_of_pairs(points[kept], queries[rows], near, k)]
    return places


def nearest_others(points: Tensor, k: int) -> Tensor:
    """Places of the k nearest others of each point, shape (N, k), for k in [1, N - 1]."""
    found = nearest(points, points, k + 1)
    itself = found == torch.arange(len(points), device=found.device)[:, None]
    # Among points that coincide it may not be in the list, whose last is one too many then.
    itself[:, -1] |= ~itself.any(1)
    return found[~itself].reshape(len(points), k)


def _slack(points: Tensor, queries: Tensor) -> Tensor:
    """What rounding may add to or take from the squared distances of each query, shape (M,).

    A sum of D products is off by D roundings of the product of the norms at most, and so are the
    squares; four more cover the sums of three terms, the centring and a square root.
    """
    epsilon = torch.finfo(points.dtype).eps
    reach = queries.norm(dim=1) + points.norm(dim=1).max()
    slack: Tensor = 2 * (points.shape[1] + 4) * epsilon * reach.square()
    return slack


def _candidates(points: Tensor, queries: Tensor, count: int) -> _Candidates:
    """The points that are nearest by a fast formula."""
    if count == len(points):
        places = torch.arange(count, device=points.device).expand(len(queries), count)
        return _Candidates(places, torch.full_like(queries[:, 0], torch.inf))
    if points.device.type == "cpu":
        return _by_scikit_learn(points, queries, count)
    found = [
        _squares_of_products(rows, points).topk(count, largest=False)
        for rows in queries.split(max(1, _pairs(points) // len(points)))
    ]
    return _Candidates(
        torch.cat([each.indices for each in found]),
        torch.cat([each.values.amax(1) for each in found]),
    )


def _by_scikit_learn(points: Tensor, queries: Tensor, count: int) -> _Candidates:
    from sklearn.neighbors import NearestNeighbors

    algorithm = "kd_tree" if points.shape[1] <= _TREE_DIMENSIONS else "brute"
    search = NearestNeighbors(n_neighbors=count, algorithm=algorithm).fit(points.numpy())
    distances, places = search.kneighbors(queries.numpy())
    return _Candidates(torch.from_numpy(places), torch.from_numpy(distances[:, -1]).square())


def _pairs(points: Tensor) -> int:
    """How many pairs to compare at once."""
    return _PAIRS if points.device.type == "cpu" else _PAIRS_ON_GPU


def _squares_of_products(queries: Tensor, points: Tensor) -> Tensor:
    """Squared distances of all pairs, by expanding the square, shape (n, N)."""
    squares = points.square().sum(1) + queries.square().sum(1)[:, None]
    return torch.addmm(squares, queries, points.T, alpha=-2)


def _first(points: Tensor, queries: Tensor, places: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of the candidates in order, and their squared distances, each (M, k)."""
    places = places.sort(1).values
    size = max(1, _GATHERED // (places.shape[1] * points.shape[1]))
    parts = [
        (points[near] - rows[:, None]).square().sum(2)
        for near, rows in zip(places.split(size), queries.split(size), strict=True)
    ]
    # A stable order leaves the first of equals before the others.
    squares, order = torch.cat(parts).sort(dim=1, stable=True)
    return places.gather(1, order[:, :k]), squares[:, :k]


def _rank_among_equals(points: Tensor) -> Tensor:
    """How many points before it each coincides with, shape (N,)."""
    _, group = points.unique(dim=0, return_inverse=True)
    order = group.argsort(stable=True)
    size = group.bincount()
    first = (size.cumsum(0) - size)[group[order]]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - first
    return rank


def _first_of_pairs(points: Tensor, queries: Tensor, near: Tensor, k: int) -> Tensor:
    """The k nearest points of each query among the pairs that may be near, shape (n, k).

    Args:
        points: N points, shape (N, D).
        queries: n points, shape (n, D).
        near: Which pairs to look at, k of each query at least, shape (n, N).
        k: Number of neighbours.
    """
    query, place = torch.nonzero(near, as_tuple=True)
    size = max(1, _GATHERED // points.shape[1])
    squares = torch.cat(
        [
            (points[p] - queries[q]).square().sum(1)
            for p, q in zip(place.split(size), query.split(size), strict=True)
        ]
    )
    # Places are in order already, and stable sorts keep them so among equals.
    order = squares.argsort(stable=True)
    order = order[query[order].argsort(stable=True)]
    count = near.sum(1)
    first = (count.cumsum(0) - count)[:, None] + torch.arange(k, device=count.device)
    return place[order[first]]
