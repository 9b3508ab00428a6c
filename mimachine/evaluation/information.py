"""Informativeness: metrics of how much codes tell of data, by every estimator there is."""

from __future__ import annotations

import math

from torch import Tensor

from mimachine.estimation.estimate import Estimate
from mimachine.estimation.information.bounds import InformationBounds
from mimachine.estimation.information.ksg import MutualInformation, mutual_information
from mimachine.estimation.information.ksg_calibration import ksg_calibration
from mimachine.evaluation.metric import Metric

__all__ = [
    "bounds_metrics",
    "ksg_metric",
    "ksg_rows",
]


# KSG compares all pairs above a few dimensions. In more than 40 it takes as many data as cost no
# more than 10,000 in 40: its bias leaves nothing there that more data would tell.
_MOST_DATA, _CHEAP_DIMENSIONS = 10_000, 40
_TRUSTED_DIMENSIONS = 20
# Nats below the lower bound that leave an estimate of use.
_SMALL_BIAS = 0.1
_MANY_TIES = 0.05


def ksg_rows(dimensions: int) -> int:
    """How many data `ksg_metric` is to be given, of so many dimensions of x and z together."""
    return int(_MOST_DATA * min(1.0, math.sqrt(_CHEAP_DIMENSIONS / dimensions)))


def ksg_metric(
    x: Tensor,
    z: Tensor,
    bounds: InformationBounds | None,
    scaling: str,
    notes: tuple[str, ...] = (),
) -> Metric:
    """KSG, and what it makes of a Gaussian of as many dimensions whose information is known.

    Args:
        x: Data, shape (N, F).
        z: A code of each, shape (N, D).
        bounds: Bounds of the information, where there are any. The Gaussian has the lower one.
        scaling: How the data were scaled, for the definition.
        notes: What else is to be said.
    """
    dimensions = x.shape[1] + z.shape[1]
    k = min(5, (len(x) - 1) // 2)
    found = mutual_information(x, z, k)
    told = [f"ceiling {found.ceiling:.2f} nats at N = {found.num_data}"]
    if found.saturated:
        told.append("saturated: it tells of the number of data, the truth may be higher")
    if dimensions > _TRUSTED_DIMENSIONS:
        told.append(f"far too low in {dimensions} dimensions")
    if found.tied > _MANY_TIES:
        told.append(
            f"{found.tied:.0%} of the data have ties at their neighbours' distance: data on a "
            "grid, of which it sees no detail"
        )
    impossible = ""
    if bounds is not None:
        impossible = _impossible(found, bounds)
        told += _beside(found, bounds, impossible, x.shape[1], z.shape[1])
    return Metric.of(
        "mutual_information_ksg",
        Estimate(found.value, found.standard_error),
        "nats",
        f"I(x; z) by the estimator of Kraskov et al. (KSG-1, k = {k}), {scaling}",
        "sample",
        (*told, *notes),
        found.saturated or dimensions > _TRUSTED_DIMENSIONS or bool(impossible),
    )


def _impossible(found: MutualInformation, bounds: InformationBounds) -> str:
    """Why an estimate cannot be true, by more than two standard errors; "" if it can."""
    least, most = bounds.lower, bounds.least_upper
    if found.value > most.value + 2 * _error(found, most):
        return f"above the upper bound, {most.value:.3g} nats: bias"
    if found.value < least.value - _SMALL_BIAS - 2 * _error(found, least):
        return f"below the lower bound, {least.value:.3g} nats: bias"
    return ""


def _error(found: MutualInformation, bound: Estimate) -> float:
    errors = (found.standard_error, bound.standard_error)
    return math.hypot(*(error for error in errors if math.isfinite(error)))


def _beside(
    found: MutualInformation, bounds: InformationBounds, impossible: str, x_dim: int, z_dim: int
) -> list[str]:
    """What bounds say of an estimate, and what KSG makes of a Gaussian of the lower one."""
    near, told = bounds.lower.value, []
    if impossible:
        told.append(impossible)
    if near > 0:
        gaussian = ksg_calibration(x_dim, z_dim, found.num_data, (near,), k=found.k)
        told.append(
            f"of a Gaussian of as many dimensions with {near:.2f} nats, the lower bound, it says "
            f"{gaussian.estimates[0].value:.2f}"
        )
    return told


def bounds_metrics(bounds: InformationBounds, notes: tuple[str, ...] = ()) -> list[Metric]:
    """Mutual information from below and from above, by a known q(z|x)."""
    return [
        Metric.of(
            "mutual_information_lower",
            bounds.lower,
            "nats",
            f"lower bound of I(x; z), E log q(z|x) / q(z) with q(z) the mean over "
            f"{bounds.num_data:,} data, which cannot pass log N = {bounds.ceiling:.2f}",
            "sample",
            (bounds.statement, *notes),
        ),
        Metric.of(
            "mutual_information_upper",
            bounds.least_upper,
            "nats",
            "upper bound of I(x; z): the same with q(z) the mean over all data but the code's own, "
            "or the rate where that is smaller",
            "sample",
            notes,
        ),
    ]
