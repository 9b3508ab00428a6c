"""Informativeness: metrics of how much codes tell of data, by every estimator there is."""

from __future__ import annotations

import math

from torch import Tensor

from mimachine.bounds import InformationBounds
from mimachine.calibration import ksg_calibration
from mimachine.estimates import Estimate
from mimachine.information import MutualInformation, mutual_information
from mimachine.metrics import Metric

__all__ = ["bounds_metrics", "ksg_metric", "ksg_rows"]

# KSG compares all pairs above a few dimensions. In more than 40 it takes as many data as cost no
# more than 10,000 in 40: its bias leaves nothing there that more data would tell.
_MOST_DATA, _CHEAP_DIMENSIONS = 10_000, 40
_TRUSTED_DIMENSIONS = 20
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
    impossible = bounds is not None and _is_above(found, bounds)
    if bounds is not None:
        told += _beside(found, bounds, impossible, x.shape[1], z.shape[1])
    return Metric.of(
        "mutual_information_ksg",
        Estimate(found.value, found.standard_error),
        "nats",
        f"I(x; z) by the estimator of Kraskov et al. (KSG-1, k = {k}), {scaling}",
        "sample",
        (*told, *notes),
        found.saturated or dimensions > _TRUSTED_DIMENSIONS or impossible,
    )


def _is_above(found: MutualInformation, bounds: InformationBounds) -> bool:
    """Whether an estimate is above the upper bound by more than two standard errors."""
    most = bounds.least_upper
    errors = [e for e in (most.standard_error, found.standard_error) if math.isfinite(e)]
    return found.value > most.value + 2 * math.hypot(*errors)


def _beside(
    found: MutualInformation, bounds: InformationBounds, impossible: bool, x_dim: int, z_dim: int
) -> list[str]:
    """What bounds say of an estimate, and what KSG makes of a Gaussian of the lower one."""
    near, told = bounds.lower.value, []
    if impossible:
        told.append(f"above the upper bound, {bounds.least_upper.value:.3g} nats: bias")
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
