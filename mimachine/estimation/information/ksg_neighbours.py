"""Exact distances to neighbours in (x, z), and numbers of neighbours in x and in z.

All in the maximum norm of float64 values, as comparing every pair would give it: the distance of
two points is the largest |a - b| of their columns, each rounded once. Rounding keeps the order, so
every shortcut here is decided by numbers that bound those distances, or by the distances.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from threading import local
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

__all__ = [
    "Nearest",
    "Rows",
    "for_all_rows",
]


Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Coarse = NDArray[np.int16]
T = TypeVar("T")
# Up to so many joint dimensions trees are faster than comparing all pairs, and up to some more
# where the data are many (`benchmarks/ksg_speed.py --crossover`).
_TREE_DIMENSIONS = 4
_TREE_DIMENSIONS_OF_MANY, _MANY = 6, 20_000
# Pairs in a block: at two bytes each the distances stay in the cache of a core.
_COARSE_PAIRS, _EXACT_PAIRS, _EXACT_PAIRS_ON_GPU = 2**18, 2**19, 2**24
# Numbers gathered at once to look at single pairs.
_GATHERED = 2**20
# Coarse differences fit 16 bits. Both points of a pair are rounded by half a step; the rest covers
# that the steps are computed in float64, with errors below 1e-10 steps.
_STEPS, _MARGIN = 32_000, 1 + 2**-20
# Steps of a spread below this would lose digits.
_SMALLEST_SPREAD = 1e-290


class Nearest(NamedTuple):
    """Neighbourhoods of n points in (x, z), each array of shape (n,).

    Attributes:
        radius: Distance of the k-th nearest of the other points.
        within: How many of the others are within it, k where there are no ties.
        x_extent: Largest distance in x among the k nearest; of no meaning where there are ties.
        z_extent: Likewise in z.
    """

    radius: Floats
    within: Integers
    x_extent: Floats
    z_extent: Floats


class Rows(Protocol):
    """Some n of the N points, seen with their distances from all."""

    def nearest(self, k: int) -> Nearest:
        """The neighbourhoods of the k nearest others."""
        ...

    def x_within(self, distance: Floats) -> Integers:
        """How many others are at most so far in x; one distance for each point, shape (n,)."""
        ...

    def z_within(self, distance: Floats) -> Integers:
        """How many others are at most so far in z."""
        ...


def for_all_rows(x: Tensor, z: Tensor, work: Callable[[Rows], T]) -> list[T]:
    """Do the work on all points, a block of rows after the other, by the way that is fastest.

    On a GPU all pairs are compared there. On the CPU it is trees in few dimensions and all pairs in
    many, by as many threads as torch uses.

    Args:
        x: N points, shape (N, D), float64, on the CPU or a GPU.
        z: The points that go with them, shape (N, E), likewise.
        work: What to do with a block of rows.

    Returns:
        What the work gave for each block, in the order of the points.
    """
    count = len(x)
    if x.device.type != "cpu":
        return [work(ExactRows(x, z, rows)) for rows in _blocks(count, _EXACT_PAIRS_ON_GPU)]
    x_points, z_points = x.numpy(), z.numpy()
    spread = max(_spread(x_points), _spread(z_points))
    most = _TREE_DIMENSIONS if count < _MANY else _TREE_DIMENSIONS_OF_MANY
    # An infinite distance is none that trees would find.
    if x.shape[1] + z.shape[1] <= most and np.isfinite(spread):
        return [work(TreeRows(x_points, z_points))]
    if not (spread == 0 or _SMALLEST_SPREAD < spread < np.inf):
        return [work(ExactRows(x, z, rows)) for rows in _blocks(count, _EXACT_PAIRS)]
    blocks = _blocks(count, _COARSE_PAIRS)
    pairs = CoarsePairs(x_points, z_points, spread, most=blocks[0].stop)
    return _in_threads(lambda rows: work(pairs.rows(rows)), blocks)


def _spread(points: Floats) -> float:
    with np.errstate(over="ignore"):
        return float(np.ptp(points, axis=0).max())


def _blocks(count: int, pairs: int) -> list[slice]:
    size = max(1, pairs // count)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _in_threads(work: Callable[[slice], T], blocks: list[slice]) -> list[T]:
    """NumPy lets other threads run, and has none of its own to wait for."""
    threads = torch.get_num_threads()
    if threads == 1:
        return [work(block) for block in blocks]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, blocks))


class ExactRows:
    """Float64 distances of a block from all points, on the device of the points."""

    def __init__(self, x: Tensor, z: Tensor, rows: slice) -> None:
        self.x_distances = torch.cdist(x[rows], x, p=torch.inf)
        self.z_distances = torch.cdist(z[rows], z, p=torch.inf)

    def nearest(self, k: int) -> Nearest:
        joint = torch.maximum(self.x_distances, self.z_distances)
        # The point itself is at distance 0, so the k-th other one is the (k + 1)-th in order.
        found = joint.topk(k + 1, largest=False)
        radius = found.values[:, -1].cpu().numpy()
        x_extent = self.x_distances.gather(1, found.indices).amax(1)
        z_extent = self.z_distances.gather(1, found.indices).amax(1)
        return Nearest(
            radius, _others(joint, radius), x_extent.cpu().numpy(), z_extent.cpu().numpy()
        )

    def x_within(self, distance: Floats) -> Integers:
        return _others(self.x_distances, distance)

    def z_within(self, distance: Floats) -> Integers:
        return _others(self.z_distances, distance)


def _others(distances: Tensor, most: Floats) -> Integers:
    inside = distances <= torch.from_numpy(most).to(distances.device)[:, None]
    return np.asarray(inside.sum(1).cpu().numpy() - 1, dtype=np.int64)


class _Memory(local):
    """What the blocks of one thread write to in turn; fresh pages cost more than the distances."""

    def __init__(self, rows: int, count: int) -> None:
        self.x, self.z, self.other = (np.empty((rows, count), dtype=np.int16) for _ in range(3))
        self.possible, self.certain = (np.empty((rows, count), dtype=np.bool_) for _ in range(2))


class CoarsePairs:
    """All points, and all points in whole steps of one width, so that differences fit 16 bits.

    A distance in steps is wrong by one step at most. It decides all pairs but those within a step
    or so of the distance asked for, and these are decided in float64. Where they are many, as on a
    grid, the block is.

    Args:
        x: The points in x, shape (N, D).
        z: The points in z, shape (N, E).
        spread: The largest difference in any column.
        most: The most rows that a block has.
    """

    def __init__(self, x: Floats, z: Floats, spread: float, most: int) -> None:
        self.x, self.z = x, z
        self.memory = _Memory(most, len(x))
        self.step = spread / _STEPS if spread else 1.0
        self.x_steps, self.z_steps = self._in_steps(x), self._in_steps(z)

    def _in_steps(self, points: Floats) -> Coarse:
        # One column after the other: rows of a block are compared by columns.
        return np.ascontiguousarray(np.rint((points - points.min(0)) / self.step).T, dtype=np.int16)

    def rows(self, rows: slice) -> CoarseRows:
        """A block of the points, which holds until its thread takes the next."""
        return CoarseRows(self, rows)


class CoarseRows:
    """Distances in steps of a block from all points, with float64 to decide."""

    def __init__(self, pairs: CoarsePairs, rows: slice) -> None:
        self.pairs, self.rows = pairs, rows
        size, memory = rows.stop - rows.start, pairs.memory
        self.x_steps, self.z_steps, self.other = (
            memory.x[:size],
            memory.z[:size],
            memory.other[:size],
        )
        self.possible, self.certain = memory.possible[:size], memory.certain[:size]
        _distances_in_steps(pairs.x_steps, rows, self.x_steps, self.other)
        _distances_in_steps(pairs.z_steps, rows, self.z_steps, self.other)

    @cached_property
    def exact(self) -> ExactRows:
        """The same block in float64."""
        x, z = torch.from_numpy(self.pairs.x), torch.from_numpy(self.pairs.z)
        return ExactRows(x, z, self.rows)

    def nearest(self, k: int) -> Nearest:
        steps = np.maximum(self.x_steps, self.z_steps, out=self.other)
        # True distances within the radius are at most one step beyond a bound of it in steps, which
        # is itself one step too small at most.
        limit = np.minimum(_bound_of_kth(steps, k).astype(np.int64) + 2, 2**15 - 1)
        column = limit.astype(np.int16)[:, None]
        near = np.flatnonzero(np.less_equal(steps, column, out=self.possible))
        if self._are_many(near):
            return self.exact.nearest(k)
        row, other = np.divmod(near, steps.shape[1])
        x_distance = _distances_of_pairs(self.pairs.x, row + self.rows.start, other)
        z_distance = _distances_of_pairs(self.pairs.z, row + self.rows.start, other)
        distance = np.maximum(x_distance, z_distance)
        # Every row has k + 1 or more, in one run that begins at `first`.
        first = np.searchsorted(row, np.arange(len(steps)))
        radius = distance[np.lexsort((distance, row))][first + k]
        inside = distance <= radius[row]
        return Nearest(
            radius,
            np.add.reduceat(inside, first, dtype=np.int64) - 1,
            np.maximum.reduceat(np.where(inside, x_distance, 0), first),
            np.maximum.reduceat(np.where(inside, z_distance, 0), first),
        )

    def x_within(self, distance: Floats) -> Integers:
        count = self._within(self.x_steps, self.pairs.x, distance)
        return self.exact.x_within(distance) if count is None else count

    def z_within(self, distance: Floats) -> Integers:
        count = self._within(self.z_steps, self.pairs.z, distance)
        return self.exact.z_within(distance) if count is None else count

    def _within(self, steps: Coarse, points: Floats, distance: Floats) -> Integers | None:
        """Numbers of others within the distance; none where too many pairs are near it."""
        limit = distance / self.pairs.step
        possible = np.less_equal(steps, _whole(limit + _MARGIN), out=self.possible)
        certain = np.less_equal(steps, _whole(limit - _MARGIN), out=self.certain)
        unsure = np.flatnonzero(np.not_equal(possible, certain, out=certain))
        if self._are_many(unsure):
            return None
        row, other = np.divmod(unsure, steps.shape[1])
        outside = _distances_of_pairs(points, row + self.rows.start, other) > distance[row]
        count = np.array([np.count_nonzero(inside) for inside in possible])
        # The point itself is always inside.
        return np.asarray(count - np.bincount(row[outside], minlength=len(steps)) - 1)

    def _are_many(self, pairs: Integers) -> bool:
        """Whether it is faster to compare the whole block in float64."""
        return 16 * len(pairs) > self.x_steps.size


def _distances_in_steps(columns: Coarse, rows: slice, distances: Coarse, other: Coarse) -> None:
    """Write the distances of the rows from all points, with memory for one more such array."""
    distances[:] = 0
    for column in columns:
        np.subtract(column, column[rows, None], out=other)
        np.abs(other, out=other)
        np.maximum(distances, other, out=distances)


def _bound_of_kth(steps: Coarse, k: int) -> Coarse:
    """A bound of the (k + 1)-th smallest number of each row, shape (n,).

    It is the (k + 1)-th smallest of the minima of disjoint groups, each of which is in the row.
    """
    count = steps.shape[1]
    size = max(1, min(32, count // (8 * (k + 1))))
    groups = steps[:, : count // size * size].reshape(len(steps), size, -1)
    return np.asarray(np.partition(groups.min(1), k, axis=1)[:, k])


def _whole(limit: Floats) -> Coarse:
    """Whole steps up to a limit, as a column to compare with."""
    whole = np.floor(np.clip(limit, -1, 2**15 - 1))
    return np.asarray(whole[:, None], dtype=np.int16)


def _distances_of_pairs(points: Floats, first: Integers, second: Integers) -> Floats:
    size = max(1, _GATHERED // points.shape[1])
    parts = [
        np.abs(points[first[start : start + size]] - points[second[start : start + size]]).max(1)
        for start in range(0, len(first), size)
    ]
    return np.concatenate([np.empty(0), *parts])


class TreeRows:
    """All points, in KD-trees."""

    def __init__(self, x: Floats, z: Floats) -> None:
        self.x, self.z = x, z

    def nearest(self, k: int) -> Nearest:
        joint = np.hstack([self.x, self.z])
        tree = cKDTree(joint)
        # One more than needed tells whether there are ties. Of k + 1 points at least, the point
        # itself at distance 0, that one may be missing, and is then infinitely far.
        distances, found = tree.query(joint, k + 2, p=np.inf, workers=torch.get_num_threads())
        radius, neighbours = distances[:, k], found[:, : k + 1]
        within = np.full(len(joint), k, dtype=np.int64)
        tied = distances[:, k + 1] == radius
        if tied.any():
            within[tied] = _in_balls(tree, joint[tied], radius[tied])
        return Nearest(
            np.ascontiguousarray(radius),
            within,
            np.abs(self.x[neighbours] - self.x[:, None]).max((1, 2)),
            np.abs(self.z[neighbours] - self.z[:, None]).max((1, 2)),
        )

    def x_within(self, distance: Floats) -> Integers:
        return _others_within(self.x, distance)

    def z_within(self, distance: Floats) -> Integers:
        return _others_within(self.z, distance)


def _others_within(points: Floats, distance: Floats) -> Integers:
    if points.shape[1] > 2:
        return _in_balls(cKDTree(points), points, distance)
    # In one and two dimensions ranks count without visiting the neighbours.
    first = np.argsort(points[:, 0], kind="stable")
    begin, end = _interval(points[first, 0], points[:, 0], distance)
    if points.shape[1] == 1:
        return end - begin - 1
    second = np.argsort(points[:, 1], kind="stable")
    ranks = np.empty_like(second)
    ranks[second] = np.arange(len(second))
    low, high = _interval(points[second, 1], points[:, 1], distance)
    return _in_rectangles(ranks[first], begin, end, low, high) - 1


def _in_balls(tree: cKDTree, centres: Floats, distance: Floats) -> Integers:
    found = tree.query_ball_point(
        centres, distance, p=np.inf, return_length=True, workers=torch.get_num_threads()
    )
    return np.asarray(found - 1, dtype=np.int64)


def _interval(values: Floats, centres: Floats, distance: Floats) -> tuple[Integers, Integers]:
    """Where in sorted values those begin and end whose rounded distance is at most the given."""
    end = _count_up_to(values, centres, distance)
    return len(values) - _count_up_to(-values[::-1], -centres, distance), end


def _count_up_to(values: Floats, centres: Floats, distance: Floats) -> Integers:
    """How many sorted values have value - centre <= distance, by bisection on the difference.

    To compare values with centre + distance would round another sum.
    """
    low, high = np.zeros(len(centres), dtype=np.int64), np.full(len(centres), len(values))
    for _ in range(len(values).bit_length()):
        middle = (low + high) // 2
        # Where the search is over, low = high may be beyond the last value.
        inside = values[np.minimum(middle, len(values) - 1)] - centres <= distance
        inside &= middle < high
        low, high = np.where(inside, middle + 1, low), np.where(inside, high, middle)
    return low


def _in_rectangles(
    ranks: Integers, begin: Integers, end: Integers, low: Integers, high: Integers
) -> Integers:
    """How many of ranks[begin:end] are in [low, high), by a wavelet matrix.

    Args:
        ranks: A permutation of 0 ... N - 1, shape (N,).
        begin: Beginnings of the ranges of positions, shape (n,).
        end: Their ends.
        low: Smallest rank that counts, in [0, N].
        high: Rank from which on none counts.

    References:
        The wavelet matrix (Claude & Navarro, 2012), String Processing and Information Retrieval
    """
    bounds = np.concatenate([low, high])
    left, right = np.tile(begin, 2), np.tile(end, 2)
    below = np.zeros(len(bounds), dtype=np.int64)
    for bit in reversed(range(len(ranks).bit_length())):
        ones = (ranks >> bit) & 1 == 1
        zeros_before = np.concatenate([[0], np.cumsum(~ones)])
        left_zeros, right_zeros = zeros_before[left], zeros_before[right]
        up = (bounds >> bit) & 1 == 1
        below += np.where(up, right_zeros - left_zeros, 0)
        # Ranks with this bit move behind those without.
        left = np.where(up, zeros_before[-1] + left - left_zeros, left_zeros)
        right = np.where(up, zeros_before[-1] + right - right_zeros, right_zeros)
        ranks = np.concatenate([ranks[~ones], ranks[ones]])
    below_low, below_high = np.split(below, 2)
    return below_high - below_low
