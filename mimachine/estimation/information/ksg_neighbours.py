"""Neighbour search for KSG: exact distances in (x, z) and neighbour counts in x and in z.

Distances are in the maximum norm of float64 values: the largest |a - b| over columns, each rounded
once. All results equal those of comparing all pairs. Rounding keeps the order, so every shortcut
here uses bounds of these distances, or the distances.
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

__all__ = ["Nearest", "Rows", "for_all_rows"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Coarse = NDArray[np.int16]
T = TypeVar("T")
# Up to this many joint dimensions trees are faster than comparing all pairs, and up to some more
# for many points (`benchmarks/ksg_speed.py --crossover`).
_TREE_DIMENSIONS = 4
_TREE_DIMENSIONS_OF_MANY, _MANY = 6, 20_000
# Pairs in a block. At two bytes each, coarse distances stay in the cache of a core.
_COARSE_PAIRS, _EXACT_PAIRS, _EXACT_PAIRS_ON_GPU = 2**18, 2**19, 2**24
# Numbers gathered at once to compare single pairs.
_GATHERED = 2**20
# Coarse differences fit 16 bits. Both points of a pair are rounded by half a step; the rest covers
# the float64 rounding of steps, below 1e-10 steps.
_STEPS, _MARGIN = 32_000, 1 + 2**-20
# With a smaller spread, steps would lose digits.
_SMALLEST_SPREAD = 1e-290


class Nearest(NamedTuple):
    """Neighbourhoods of n points in (x, z), each array of shape (n,).

    Attributes:
        radius: Distance of the k-th nearest other point.
        within: Number of other points within the radius, k if there are no ties.
        x_extent: Largest distance in x among the k nearest; meaningless if there are ties.
        z_extent: Largest distance in z among the k nearest; meaningless if there are ties.
    """

    radius: Floats
    within: Integers
    x_extent: Floats
    z_extent: Floats


class Rows(Protocol):
    """Neighbourhoods of a block of n points among all N points."""

    def nearest(self, k: int) -> Nearest:
        """The neighbourhoods of the k nearest others."""
        ...

    def x_within(self, distance: Floats) -> Integers:
        """Number of other points within a distance in x, one distance per point, shape (n,)."""
        ...

    def z_within(self, distance: Floats) -> Integers:
        """Number of other points within a distance in z, one distance per point, shape (n,)."""
        ...


def for_all_rows(x: Tensor, z: Tensor, work: Callable[[Rows], T]) -> list[T]:
    """Apply a function to all points, block by block, with the fastest algorithm.

    On a GPU all pairs are compared there. The CPU uses trees in few dimensions and all pairs in
    many, with torch's number of threads.

    Args:
        x: N points, shape (N, D), float64, on the CPU or a GPU.
        z: The points paired with x, shape (N, E), float64, on the same device.
        work: Function of a block of rows.

    Returns:
        The function's results for each block, in the order of the points.
    """
    count = len(x)
    if x.device.type != "cpu":
        return [work(ExactRows(x, z, rows)) for rows in _blocks(count, _EXACT_PAIRS_ON_GPU)]
    x_points, z_points = x.numpy(), z.numpy()
    spread = max(_spread(x_points), _spread(z_points))
    most = _TREE_DIMENSIONS if count < _MANY else _TREE_DIMENSIONS_OF_MANY
    # Trees do not find points at an infinite distance.
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
    """Run blocks in threads: NumPy releases the lock and starts no threads of its own."""
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
    """Arrays that one thread reuses for its blocks; fresh pages cost more than the distances."""

    def __init__(self, rows: int, count: int) -> None:
        self.x, self.z, self.other = (np.empty((rows, count), dtype=np.int16) for _ in range(3))
        self.possible, self.certain = (np.empty((rows, count), dtype=np.bool_) for _ in range(2))


class CoarsePairs:
    """All points, also rounded to 16-bit steps for fast comparison of all pairs.

    A distance in steps is wrong by at most one step. Pairs within about one step of the requested
    distance are compared in float64. If there are many of them, as on a grid, the whole block is.

    Args:
        x: The points in x, shape (N, D).
        z: The points in z, shape (N, E).
        spread: The largest difference in any column.
        most: Largest number of rows of a block.
    """

    def __init__(self, x: Floats, z: Floats, spread: float, most: int) -> None:
        self.x, self.z = x, z
        self.memory = _Memory(most, len(x))
        self.step = spread / _STEPS if spread else 1.0
        self.x_steps, self.z_steps = self._in_steps(x), self._in_steps(z)

    def _in_steps(self, points: Floats) -> Coarse:
        # Columns are contiguous, because blocks are compared column by column.
        return np.ascontiguousarray(np.rint((points - points.min(0)) / self.step).T, dtype=np.int16)

    def rows(self, rows: slice) -> CoarseRows:
        """A block of the points, valid until its thread takes the next."""
        return CoarseRows(self, rows)


class CoarseRows:
    """Distances of a block from all points in 16-bit steps, with float64 for close decisions."""

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
        # The bound of the radius in steps is at most one step too small, and so is each distance
        # in steps.
        limit = np.minimum(_bound_of_kth(steps, k).astype(np.int64) + 2, 2**15 - 1)
        column = limit.astype(np.int16)[:, None]
        near = np.flatnonzero(np.less_equal(steps, column, out=self.possible))
        if self._are_many(near):
            return self.exact.nearest(k)
        row, other = np.divmod(near, steps.shape[1])
        x_distance = _distances_of_pairs(self.pairs.x, row + self.rows.start, other)
        z_distance = _distances_of_pairs(self.pairs.z, row + self.rows.start, other)
        distance = np.maximum(x_distance, z_distance)
        # Every row has k + 1 or more pairs, in one run that starts at `first`.
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
        """Numbers of other points within the distance; None if too many pairs are close to it."""
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
    """Write the distances of the rows from all points; `other` is scratch memory."""
    distances[:] = 0
    for column in columns:
        np.subtract(column, column[rows, None], out=other)
        np.abs(other, out=other)
        np.maximum(distances, other, out=distances)


def _bound_of_kth(steps: Coarse, k: int) -> Coarse:
    """Upper bound of the (k + 1)-th smallest number of each row, shape (n,).

    It is the (k + 1)-th smallest of the minima of disjoint groups of the row's numbers.
    """
    count = steps.shape[1]
    size = max(1, min(32, count // (8 * (k + 1))))
    groups = steps[:, : count // size * size].reshape(len(steps), size, -1)
    return np.asarray(np.partition(groups.min(1), k, axis=1)[:, k])


def _whole(limit: Floats) -> Coarse:
    """Whole steps up to a limit, as a column."""
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
    """All points, in k-d trees."""

    def __init__(self, x: Floats, z: Floats) -> None:
        self.x, self.z = x, z

    def nearest(self, k: int) -> Nearest:
        joint = np.hstack([self.x, self.z])
        tree = cKDTree(joint)
        # One neighbour more than needed shows whether there are ties. If there are only k + 1
        # points, it is missing and at an infinite distance.
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
    # In one and two dimensions, ranks count points without visiting them. With trees, KSG takes up
    # to 3 times as long at 10,000 points (`trees_over_ranks` in results/ksg-speed.json).
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
    """Start and end, in sorted values, of those whose rounded distance is at most `distance`."""
    end = _count_up_to(values, centres, distance)
    return len(values) - _count_up_to(-values[::-1], -centres, distance), end


def _count_up_to(values: Floats, centres: Floats, distance: Floats) -> Integers:
    """Number of sorted values with value - centre <= distance, by bisection.

    Comparing values with centre + distance would round differently.
    """
    low, high = np.zeros(len(centres), dtype=np.int64), np.full(len(centres), len(values))
    for _ in range(len(values).bit_length()):
        middle = (low + high) // 2
        # Where the search has ended, low = high may be beyond the last value.
        inside = values[np.minimum(middle, len(values) - 1)] - centres <= distance
        inside &= middle < high
        low, high = np.where(inside, middle + 1, low), np.where(inside, high, middle)
    return low


def _in_rectangles(
    ranks: Integers, begin: Integers, end: Integers, low: Integers, high: Integers
) -> Integers:
    """Number of ranks[begin:end] in [low, high): points in rectangles, by a wavelet matrix.

    It counts the ranks below each bound bit by bit, from the highest bit. If the bound has a 1,
    all ranks of the range with a 0 are below it, and the search goes on among those with a 1;
    otherwise among those with a 0. The ranks are stably partitioned by the bit after each step, so
    a range of positions remains a range.

    Args:
        ranks: A permutation of 0 ... N - 1, shape (N,).
        begin: Starts of the ranges of positions, shape (n,).
        end: Ends of the ranges, shape (n,).
        low: Smallest ranks to count, in [0, N], shape (n,).
        high: Ends of the ranks to count, in [0, N], shape (n,).

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
        # Ranks with a 1 in this bit move behind those with a 0.
        left = np.where(up, zeros_before[-1] + left - left_zeros, left_zeros)
        right = np.where(up, zeros_before[-1] + right - right_zeros, right_zeros)
        ranks = np.concatenate([ranks[~ones], ranks[ones]])
    below_low, below_high = np.split(below, 2)
    return below_high - below_low
