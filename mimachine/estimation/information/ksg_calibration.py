"""Calibration of KSG: its estimates for Gaussians of known mutual information."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mimachine._support.checks import instance, real, whole
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.information.ksg import (
    MutualInformation,
    ksg_value,
    mutual_information,
)

__all__ = ["KSGCalibration", "ksg_calibration", "ksg_of_gaussian"]

_TRUTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass(frozen=True)
class KSGCalibration:
    """KSG estimates for Gaussians of known mutual information, in nats.

    Attributes:
        x_dim: Number of dimensions of x.
        z_dim: Number of dimensions of z.
        num_data: Number N of points.
        k: Number of neighbours.
        estimator: "ksg1" or "ksg2".
        truths: True informations of the Gaussians, increasing.
        estimates: KSG estimate for each: the mean over draws with its standard error, or for a
            single draw its value and the standard error of KSG.
    """

    x_dim: int
    z_dim: int
    num_data: int
    k: int
    estimator: Literal["ksg1", "ksg2"]
    truths: tuple[float, ...]
    estimates: tuple[Estimate, ...]

    def estimate_of(self, truth: float) -> float:
        """Interpolate the KSG estimate for a true information in nats.

        Raises:
            ValueError: If the truth is outside the calibrated range.
        """
        if not self.truths[0] <= truth <= self.truths[-1]:
            raise ValueError(
                f"truth must be in the calibrated range [{self.truths[0]:g}, {self.truths[-1]:g}], "
                f"got {truth:g}"
            )
        curve = self._curve()
        if len(curve) == 1:
            return float(curve[0])
        from scipy.interpolate import PchipInterpolator

        return float(PchipInterpolator(self.truths, curve)(truth))

    def truth_behind(self, estimate: MutualInformation | float) -> float:
        """The true information of a Gaussian with this KSG estimate, in nats.

        Infinite if the estimate is above the whole curve, the smallest calibrated truth if it is
        below.

        Raises:
            ValueError: If the estimate has another number of points or neighbours.
        """
        if isinstance(estimate, MutualInformation):
            theirs, ours = (estimate.num_data, estimate.k), (self.num_data, self.k)
            if theirs != ours:
                raise ValueError(
                    f"estimate must have the calibration's N and k, {ours}, got {theirs}"
                )
        value, curve = float(estimate), self._curve()
        if value > curve[-1]:
            return math.inf
        # Each value once, with the smallest truth that has it.
        _, first = np.unique(curve, return_index=True)
        if value <= curve[0] or len(first) == 1:
            return self.truths[0]
        from scipy.interpolate import PchipInterpolator

        return float(PchipInterpolator(curve[first], np.array(self.truths)[first])(value))

    def statement(self, estimate: MutualInformation | float) -> str:
        """Compare an estimate with the truth for a Gaussian, as a sentence."""
        truth = self.truth_behind(estimate)
        gaussian = (
            f"a Gaussian of {self.x_dim} + {self.z_dim} dimensions and {self.num_data} points"
        )
        if math.isinf(truth):
            return (
                f"KSG estimates {float(estimate):.2f} nats, more than for {gaussian} whose true "
                f"information is {self.truths[-1]:g}"
            )
        if float(estimate) < self._curve()[0]:
            return (
                f"KSG estimates {float(estimate):.2f} nats, less than for {gaussian} whose true "
                f"information is {truth:g}"
            )
        return (
            f"KSG estimates {float(estimate):.2f} nats, as for {gaussian} whose true information "
            f"is {truth:.2f}"
        )

    def __str__(self) -> str:
        pairs = zip(self.truths, self.estimates, strict=True)
        return "\n".join(f"truth {truth:g} nats: KSG {estimate}" for truth, estimate in pairs)

    def _curve(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The estimates, made monotonic."""
        return np.maximum.accumulate([estimate.value for estimate in self.estimates])


def ksg_calibration(
    x_dim: int,
    z_dim: int,
    num_data: int,
    information: Sequence[float] = _TRUTHS,
    *,
    k: int = 5,
    estimator: Literal["ksg1", "ksg2"] = "ksg1",
    num_draws: int = 1,
) -> KSGCalibration:
    r"""Calibrate KSG on Gaussians of known mutual information.

    min(D_x, D_z) pairs of coordinates of x and z have the same correlation ρ, all others are
    independent:

    .. math:: I = -\tfrac12 \min(D_x, D_z) \log(1 - \rho^2)

    Data near a surface of few dimensions have less bias than a Gaussian that fills the space. So
    for images the calibration shows how large the bias may be, but is no correction.

    Each information and draw takes one call of `mutual_information`: for 10,000 points and 5
    neighbours one or two seconds in 20 + 20 dimensions, and seven times as long in 784 + 40.

    Args:
        x_dim: Number of dimensions of x.
        z_dim: Number of dimensions of z.
        num_data: Number N of points of the estimate to be judged.
        information: True informations in nats, 0 or more, increasing.
        k: Number of neighbours of that estimate.
        estimator: "ksg1" or "ksg2".
        num_draws: Number of data sets for each information.

    Raises:
        ValueError: If a number of dimensions or draws is not positive, an information is negative
            or they do not increase, or as for `mutual_information`.
    """
    sizes = {"x_dim": x_dim, "z_dim": z_dim, "num_data": num_data, "num_draws": num_draws}
    for name, number in sizes.items():
        whole(name, number, 1)
    instance("information", information, Iterable, "one or more increasing numbers")
    truths = tuple(real("information", truth, 0) for truth in information)
    increasing = all(a < b for a, b in itertools.pairwise(truths))
    if not truths or not increasing:
        raise ValueError(
            f"information must be one or more increasing numbers, 0 or more, got {truths}"
        )
    noise = _noise(x_dim, z_dim, num_data, num_draws)
    estimates = []
    for truth in truths:
        found = [
            # All coordinates have unit variance as drawn.
            mutual_information(
                x, _correlated(x, other, truth), k, estimator=estimator, standardize=False
            )
            for x, other in noise
        ]
        if num_draws == 1:
            estimates.append(Estimate(found[0].value, found[0].standard_error))
        else:
            values = torch.tensor([estimate.value for estimate in found], dtype=torch.float64)
            estimates.append(Estimate.mean_of(values))
    return KSGCalibration(x_dim, z_dim, num_data, k, estimator, truths, tuple(estimates))


def ksg_of_gaussian(x_dim: int, z_dim: int, num_data: int, information: float, k: int) -> float:
    """KSG-1 estimate of `ksg_calibration` for one information and draw, without its error.

    Args:
        x_dim: Number of dimensions of x.
        z_dim: Number of dimensions of z.
        num_data: Number N of points.
        information: The information of the Gaussian in nats, 0 or more.
        k: Number of neighbours, in [1, N / 2).
    """
    ((x, other),) = _noise(x_dim, z_dim, num_data, 1)
    return ksg_value(x, _correlated(x, other, information), k)


def _noise(x_dim: int, z_dim: int, num_data: int, num_draws: int) -> list[list[Tensor]]:
    """Independent normals for x and z, the same for each information: the curve is smooth."""
    generator = torch.Generator().manual_seed(0)
    return [
        [
            torch.randn(num_data, dims, generator=generator, dtype=torch.float64)
            for dims in (x_dim, z_dim)
        ]
        for _ in range(num_draws)
    ]


def _correlated(x: Tensor, noise: Tensor, information: float) -> Tensor:
    """Noise (N, E) whose first coordinates are mixed with those of x (N, D)."""
    pairs = min(x.shape[1], noise.shape[1])
    # 1 - ρ², without cancellation where ρ is nearly 1.
    unexplained = math.exp(-2 * information / pairs)
    explained = -math.expm1(-2 * information / pairs)
    z = noise.clone()
    z[:, :pairs] = math.sqrt(explained) * x[:, :pairs] + math.sqrt(unexplained) * noise[:, :pairs]
    return z
