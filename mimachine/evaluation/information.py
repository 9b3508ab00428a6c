"""How much do codes say about the data? Mutual information by KSG and between two bounds."""

from __future__ import annotations

import math

from torch import Tensor

from mimachine.estimation.codes.moments import Codes
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.information.bounds import (
    InformationBounds,
    bounds_from_conditionals,
    information_bounds,
)
from mimachine.estimation.information.ksg import MutualInformation, mutual_information
from mimachine.estimation.information.ksg_calibration import ksg_of_gaussian
from mimachine.evaluation.arrays import Encodings
from mimachine.evaluation.budgets import (
    BOUND_PAIRS,
    BOUND_QUERIES,
    BOUND_ROWS,
    comparable,
    ksg_rows,
    random_rows,
    subset_note,
)
from mimachine.evaluation.glossary import measured
from mimachine.evaluation.metric import Metric, Reason
from mimachine.evaluation.tables import columns_of
from mimachine.model.distributions import DiagNormal, StandardNormal
from mimachine.model.joint import Joint

__all__ = ["information_of_arrays", "information_of_model"]

_TRUSTED_DIMENSIONS = 20
# Nats below the lower bound at which an estimate is still useful.
_SMALL_BIAS = 0.1


def information_of_model(model: Joint, x: Tensor, encoded: Codes) -> list[Metric]:
    """Mutual information by KSG, and between two bounds from the known density q(z|x).

    Args:
        model: The model, in evaluation mode.
        x: Data, shape (N, *X).
        encoded: Codes of the data.
    """
    rows = x[random_rows(len(x), BOUND_ROWS)]
    product = isinstance(model.encoder(rows[:2]), DiagNormal)
    queries = len(rows) if product else max(BOUND_QUERIES, BOUND_PAIRS // len(rows))
    bounds = information_bounds(model, rows, num_queries=min(queries, len(rows)))
    found = _bounds(bounds, subset_note(len(rows), len(x)))
    if columns_of(model) is not None:
        # KSG is for numbers, and rows of a table have levels and holes.
        return found
    data, sample = x.flatten(1), encoded.sample.flatten(1)
    some = random_rows(len(data), ksg_rows(data.shape[1] + sample.shape[1]))
    notes = subset_note(len(some), len(data))
    # As in the paper, whose figures show this metric.
    by_ksg = _ksg(data[some], sample[some], bounds, notes, standardize=False)
    return [by_ksg, *found]


def information_of_arrays(data: Encodings) -> list[Metric]:
    """Mutual information by KSG and, where the codes' width is known, between two bounds."""
    rows = data.rows(ksg_rows(data.x.shape[1] + data.mean.shape[1]))
    x, z = data.x[rows], data.sample[rows]
    notes = subset_note(len(rows), len(data.x))
    if data.std is None or not (data.std > 0).all():
        note = "for the codes without noise, which identify their row up to float precision"
        return [_ksg(x, z, None, (note, *notes), standardize=True)]
    bounds = _bounds_of_normals(data, data.std)
    used = subset_note(bounds.num_data, len(data.x))
    return [_ksg(x, z, bounds, notes, standardize=True), *_bounds(bounds, used)]


def _bounds_of_normals(data: Encodings, std: Tensor) -> InformationBounds:
    rows = data.rows(min(BOUND_ROWS, comparable(data.mean)))
    normals = DiagNormal(data.mean[rows], std[rows])
    prior = StandardNormal(data.mean.new_zeros(data.mean.shape[1]))
    return bounds_from_conditionals([normals], z=data.sample[rows], prior=prior)


def _ksg(
    x: Tensor,
    z: Tensor,
    bounds: InformationBounds | None,
    notes: tuple[str, ...] = (),
    *,
    standardize: bool,
) -> Metric:
    """KSG, with its estimate for a Gaussian of the same dimensions and known information.

    Args:
        x: Data, shape (N, F).
        z: A code of each row, shape (N, D).
        bounds: Bounds on the information, if known; the Gaussian has the lower one.
        notes: Notes to add.
        standardize: Whether to divide columns by their standard deviations.
    """
    dimensions = x.shape[1] + z.shape[1]
    k = min(5, (len(x) - 1) // 2)
    found = mutual_information(x, z, k, standardize=standardize)
    limits = [*_limits(found, dimensions), *_outside(found, bounds)]
    texts = [f"ceiling {found.ceiling:.2f} nats at N = {found.num_data}"]
    texts += [text for _, text in limits]
    texts += _calibration(found, bounds, x.shape[1], z.shape[1])
    reasons = tuple(reason for reason, _ in limits)
    return measured(
        "mutual_information_ksg",
        Estimate(found.value, found.standard_error),
        notes=(*texts, *notes),
        flagged=bool(reasons),
        reasons=reasons,
        k=k,
        scaling="each column divided by its standard deviation" if standardize else "no rescaling",
    )


def _limits(found: MutualInformation, dimensions: int) -> list[tuple[Reason, str]]:
    """What limits an estimate, whatever the bounds are."""
    limits: list[tuple[Reason, str]] = []
    if found.saturated:
        text = "saturated: limited by the number of rows, the true value may be higher"
        limits.append(("saturated", text))
    if dimensions > _TRUSTED_DIMENSIONS:
        limits.append(("many-dimensions", f"far too low in {dimensions} dimensions"))
    if found.many_ties:
        text = (
            f"{found.tied:.0%} of the rows have ties at their neighbours' distance: data on a "
            "grid, whose details KSG does not see, or repeated rows, which count as information"
        )
        limits.append(("many-ties", text))
    return limits


def _outside(
    found: MutualInformation, bounds: InformationBounds | None
) -> list[tuple[Reason, str]]:
    """Why an estimate cannot be true, by more than two standard errors."""
    if bounds is None:
        return []
    least, most = bounds.lower, bounds.least_upper
    if found.value > most.value + 2 * _error(found, most):
        return [("outside-bounds", f"above the upper bound, {most.value:.3g} nats: bias")]
    if found.value < least.value - _SMALL_BIAS - 2 * _error(found, least):
        return [("outside-bounds", f"below the lower bound, {least.value:.3g} nats: bias")]
    return []


def _error(found: MutualInformation, bound: Estimate) -> float:
    errors = (found.standard_error, bound.standard_error)
    return math.hypot(*(error for error in errors if math.isfinite(error)))


def _calibration(
    found: MutualInformation, bounds: InformationBounds | None, x_dim: int, z_dim: int
) -> list[str]:
    """The estimate of KSG on a Gaussian that has the lower bound's information."""
    if bounds is None or not bounds.lower.value > 0:
        return []
    near = bounds.lower.value
    value = ksg_of_gaussian(x_dim, z_dim, found.num_data, near, found.k)
    return [
        f"on a Gaussian of the same dimensions and {near:.2f} nats (the lower bound) KSG gives "
        f"{value:.2f}"
    ]


def _bounds(bounds: InformationBounds, notes: tuple[str, ...]) -> list[Metric]:
    return [
        measured(
            "mutual_information_lower",
            bounds.lower,
            notes=(bounds.statement, *notes),
            num_data=bounds.num_data,
            ceiling=bounds.ceiling,
        ),
        measured("mutual_information_upper", bounds.least_upper, notes=notes),
    ]
