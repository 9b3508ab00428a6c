"""Exact Euclidean nearest neighbours in float64, of a set of points or of its other points."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mimachine._support.process import exclusive
from mimachine._support.products import faster_products

__all__ = ["nearest", "nearest_others"]

# Up to this many columns, trees are faster than comparing all pairs.
_TREE_DIMENSIONS = 6
# Candidates beyond k, so that rounding and ties of the search rarely decide which points are found.
_MORE = 16
_PAIRS, _GATHERED = 2**26, 2**22
# Number of points from which on products in float32 are faster than scikit-learn's search.
_MANY = 4096
# Scores of a query whose minimum is taken first.
_BLOCK, _SCORES = 64, 2**23


def nearest(points: Tensor, queries: Tensor, k: int) -> Tensor:
    """Indices of the k nearest points of each query, nearest first, shape (M, k).

    A fast search proposes k + 16 candidates, which are sorted by distance and then by index. So
    the smaller index wins a tie, unless more than 16 points are tied with the k-th: then the search
    decides which of them are candidates, which may depend on the numbers of threads and queries.
    In more than 6 columns, or on a GPU, the search does not resolve distances below about 1e-7
    times the largest distance from the points' mean. Among many points a search in float32 comes
    first; where its rounding could matter, the other one decides.

    Args:
        points: N points, shape (N, *X), finite.
        queries: M points on the same device, shape (M, *X), finite.
        k: Number of neighbours, in [1, N].
    """
    points, queries = points.flatten(1).double(), queries.flatten(1).double()
    count = min(k + _MORE, len(points))
    # Expanded squares lose the digits that a common offset takes up.
    centre = points.mean(0)
    centred, asked = points - centre, queries - centre
    if points.device.type != "cpu":
        return _decided(_by_all_pairs(centred, asked, count), points, queries, k)[0]
    if points.shape[1] <= _TREE_DIMENSIONS or len(points) < _MANY or not _fit(centred, asked):
        return _decided(_by_scikit_learn(centred, asked, count), points, queries, k)[0]
    candidates, bounds = _by_products(centred, asked, count)
    found, farthest = _decided(candidates, points, queries, k)
    unsure = torch.nonzero(farthest >= bounds).squeeze(1)
    if len(unsure):
        candidates = _by_scikit_learn(centred, asked[unsure], count)
        found[unsure] = _decided(candidates, points, queries[unsure], k)[0]
    return found


def _decided(candidates: Tensor, points: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of the candidates, (M, k), and the squared distances of the k-th, (M,)."""
    candidates = candidates.sort(1).values
    size = max(1, _GATHERED // (candidates.shape[1] * points.shape[1]))
    squares = torch.cat(
        [
            (points[near] - rows[:, None]).square().sum(2)
            for near, rows in zip(candidates.split(size), queries.split(size), strict=True)
        ]
    )
    # Candidates are in the order of their indices, which a stable sort keeps among ties.
    ordered = squares.sort(dim=1, stable=True)
    return candidates.gather(1, ordered.indices[:, :k]), ordered.values[:, k - 1]


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


def _fit(points: Tensor, queries: Tensor) -> bool:
    """Whether float32 holds the squares of distances."""
    least, largest = torch.stack([torch.stack(x.aminmax()) for x in (points, queries)]).unbind(1)
    return float(torch.maximum(-least, largest).max()) * math.sqrt(points.shape[1]) < 1e18


def _by_products(points: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Candidates by products in float32, (M, count), and bounds for all other points, (M,).

    A point that is not a candidate has at least that squared distance from the query.
    """
    number, dims = points.shape
    lengths = torch.linalg.vector_norm(points, dim=1)
    # A product (-q, 1) · (p, |p|² / 2) is half the squared distance, less the same for all points.
    right = torch.zeros(-(-number // _BLOCK) * _BLOCK, dims + 1)
    right[:number, :dims] = points
    right[:, dims] = math.inf
    right[:number, dims] = lengths.square() / 2
    # Rounding of the inputs and of D + 1 products and sums, at worst.
    unit = torch.finfo(torch.float32).eps * (dims + 4)
    found, bounds = [], []
    with faster_products():
        for rows in queries.split(max(1, _SCORES // len(right))):
            left = nn.functional.pad(-rows.float(), (0, 1), value=1.0)
            values, indices = _smallest(left @ right.T, count)
            norms = torch.linalg.vector_norm(rows, dim=1)
            error = unit * lengths.max() * (norms + lengths.max())
            found.append(indices)
            bounds.append(2 * (values[:, -1].double() - error) + norms.square())
    return torch.cat(found), torch.cat(bounds)


def _smallest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The smallest scores of each row, ascending, and where they are.

    They are in the blocks with the smallest minima. Minima are found faster than an order.
    """
    blocks = scores.unflatten(1, (-1, _BLOCK))
    if blocks.shape[1] <= count:
        return scores.topk(count, largest=False)
    chosen = blocks.amin(2).topk(count, largest=False, sorted=False).indices
    kept = blocks.gather(1, chosen[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    values, places = kept.topk(count, largest=False)
    indices = chosen.gather(1, places // _BLOCK) * _BLOCK + places % _BLOCK
    return values, indices


def _by_all_pairs(points: Tensor, queries: Tensor, count: int) -> Tensor:
    blocks = queries.split(max(1, _PAIRS // len(points)))
    return torch.cat(
        [torch.cdist(rows, points).topk(count, largest=False).indices for rows in blocks]
    )
