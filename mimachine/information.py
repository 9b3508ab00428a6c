"""Mutual information from samples: the estimator of Kraskov, Stögbauer and Grassberger (KSG)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma
from torch import Tensor

__all__ = ["MutualInformation", "mutual_information"]

# Above this many joint dimensions trees visit most points, and comparing all pairs is faster.
_TREE_DIMENSIONS = 12
_SATURATION_MARGIN = 1.5
_SATURATION_DRIFT = 0.3


@dataclass(frozen=True)
class MutualInformation:
    """KSG estimate of I(x; z) in nats; `float()` gives its value.

    Attributes:
        value: The estimate. It can be slightly negative where there is no information.
        ceiling: ψ(N) - ψ(k), which no estimate from N data can pass.
        k: Number of neighbours.
        num_data: Number N of data.
        value_of_half: The estimate from every second datum.
        tied: Share of the data with ties at the distance of their k-th neighbour. Data on a grid
            have many; the estimate then sees no detail below the grid.
    """

    value: float
    ceiling: float
    k: int
    num_data: int
    value_of_half: float
    tied: float = 0.0

    @property
    def saturated(self) -> bool:
        """Whether the value tells of the number of data rather than of the information.

        So it is within 1.5 nats of the ceiling, or where twice the data move it by 0.3 nats.
        """
        near = self.ceiling - self.value < _SATURATION_MARGIN
        return near or abs(self.value - self.value_of_half) > _SATURATION_DRIFT

    def __float__(self) -> float:
        return self.value


def mutual_information(x: Any, z: Any, k: int = 5) -> MutualInformation:
    r"""Estimate I(x; z) by KSG-1 with the maximum norm, without rescaling.

    .. math:: \psi(k) + \psi(N) - \langle \psi(n_x + 1) + \psi(n_z + 1) \rangle

    with n_x the number of points strictly nearer in x than the k-th neighbour in (x, z). Where
    ties put k' > k points within that distance, or it is 0, that point's term counts them all:
    ψ(k') with the points within the distance in x and in z in place of n_x + 1 and n_z + 1, which
    for data that coincide is the plug-in estimate of discrete variables (compare Gao et al., 2017).

    The bias grows with the dimension: for correlated Gaussians of 20 + 20 dimensions and N = 10,000
    the estimate is about a quarter of the truth. Above some dimensions use it only to compare
    models on the same data with the same N and k.

    Args:
        x: N points, shape (N,) or (N, ...), an array or a tensor.
        z: The N points that go with them, likewise.
        k: Number of neighbours, in [1, N / 2).

    Raises:
        ValueError: If the numbers of points differ, k is out of range, or a value is not finite.

    References:
        Estimating mutual information (Kraskov et al., 2004), Phys. Rev. E 69, 066138
        Estimating mutual information for discrete-continuous mixtures (Gao et al., 2017)
    """
    x_points, z_points = _points("x", x), _points("z", z)
    count = len(x_points)
    if len(z_points) != count:
        raise ValueError(f"x and z must have the same length, got {count} and {len(z_points)}")
    if not (k == int(k) and 1 <= k < count / 2):
        raise ValueError(
            f"k must be a whole number, at least 1 and below N / 2 = {count / 2:g}, got {k}"
        )
    value, tied = _ksg1(x_points, z_points, int(k))
    return MutualInformation(
        value=value,
        ceiling=float(digamma(count) - digamma(k)),
        k=int(k),
        num_data=count,
        value_of_half=_ksg1(x_points[::2], z_points[::2], int(k))[0],
        tied=tied,
    )


def _points(name: str, values: Any) -> NDArray[np.float64]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    points = np.asarray(values, dtype=np.float64)
    if points.ndim == 0:
        raise ValueError(f"{name} must have shape (N, ...), got a single number")
    if not points.size:
        raise ValueError(f"{name} must have data, got shape {points.shape}")
    if not np.isfinite(points).all():
        bad = np.flatnonzero(~np.isfinite(points.reshape(len(points), -1)).all(1))
        raise ValueError(f"{name} must be finite; rows {bad[:5].tolist()} are not")
    return np.ascontiguousarray(points.reshape(len(points), -1))


Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class _Neighbours(NamedTuple):
    """For each point, how many of the others are near it, in (x, z), in x and in z.

    Without ties at the k-th distance: k, and one more than are strictly nearer. With ties: all that
    are within the distance.
    """

    joint: Counts
    x: Counts
    z: Counts


def _ksg1(x: Floats, z: Floats, k: int) -> tuple[float, float]:
    """The estimate, and the share of points with ties."""
    trees = x.shape[1] + z.shape[1] <= _TREE_DIMENSIONS
    near = (_near_by_tree if trees else _near_by_pairs)(x, z, k)
    terms = digamma(near.joint) - digamma(near.x) - digamma(near.z)
    return float(digamma(len(x)) + np.mean(terms)), float(np.mean(near.joint > k))


def _near_by_tree(x: Floats, z: Floats, k: int) -> _Neighbours:
    joint = np.hstack([x, z])
    tree = cKDTree(joint)
    distances, _ = tree.query(joint, k + 1, p=np.inf, workers=-1)
    # The point itself is at distance 0, so the k-th other one is the (k + 1)-th in order.
    radius = distances[:, -1]

    def others_within(points: Floats, distance: Floats) -> Counts:
        found = cKDTree(points).query_ball_point(
            points, distance, p=np.inf, return_length=True, workers=-1
        )
        return np.asarray(found - 1, dtype=np.int64)

    within = others_within(joint, radius)
    tied = (within > k) | (radius == 0)
    # A ball includes its border, so the next smaller number makes the count strict.
    distance = np.where(tied, radius, np.nextafter(radius, 0))
    more = np.where(tied, 0, 1)
    return _Neighbours(
        np.where(tied, within, k),
        others_within(x, distance) + more,
        others_within(z, distance) + more,
    )


def _near_by_pairs(x: Floats, z: Floats, k: int, chunk_size: int = 500) -> _Neighbours:
    x_all, z_all = torch.from_numpy(x), torch.from_numpy(z)
    counts = []
    for start in range(0, len(x), chunk_size):
        rows = slice(start, start + chunk_size)
        x_distance = torch.cdist(x_all[rows], x_all, p=torch.inf)
        z_distance = torch.cdist(z_all[rows], z_all, p=torch.inf)
        joint = torch.maximum(x_distance, z_distance)
        radius = joint.kthvalue(k + 1, dim=1).values[:, None]
        within = (joint <= radius).sum(1) - 1
        tied = (within > k) | (radius[:, 0] == 0)
        near = [torch.where(tied, within, k)]
        for distance in (x_distance, z_distance):
            inclusive, strict = (distance <= radius).sum(1) - 1, (distance < radius).sum(1)
            # The point itself is strictly nearer, which is the one that the formula adds.
            near.append(torch.where(tied, inclusive, strict))
        counts.append(torch.stack(near))
    return _Neighbours(*torch.cat(counts, 1).numpy())
