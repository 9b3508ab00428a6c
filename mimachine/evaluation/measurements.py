"""Measurements: the metrics of encodings, each with its error, in time that is bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mimachine._support.memory import rows_at_once
from mimachine.data.subspace import principal_residuals
from mimachine.estimation.codes.aggregate import energy_distance, kl_terms
from mimachine.estimation.codes.collapse import diagnose_codes
from mimachine.estimation.codes.probes import leave_one_out_accuracy, linear_probe
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.information.bounds import InformationBounds, bounds_from_conditionals
from mimachine.evaluation.arrays import Encodings
from mimachine.evaluation.evaluate_model import latents_metrics
from mimachine.evaluation.information import bounds_metrics, ksg_metric, ksg_rows
from mimachine.evaluation.metric import Metric
from mimachine.model.distributions import DiagNormal, StandardNormal

__all__ = [
    "FEWEST_PROBED",
    "can_be_probed",
    "measurements",
    "varying",
]


# As many rows as take a second or two for each measurement, and fewer where they are long: of what
# compares pairs, and of what takes products of columns, so many values.
_MOST_BOUND_DATA, _MOST_ENERGY_DATA, _MOST_PCA_DATA, _MOST_PROBED = 5000, 4000, 4000, 5000
_FEWEST, _MOST_VALUES, _MOST_SQUARES = 1000, 2**22, 2**25
_NEIGHBOURS = 5
# Share of the rows of a probe that it is tested on, and how few it can do with.
_TESTED, FEWEST_PROBED = 0.25, 20
# Without a width, a latent whose variance is below this share of the largest does not vary.
_VARYING = 1e-4
_REPEATED = 0.95
_JACKKNIFE = 10


def measurements(data: Encodings) -> tuple[Metric, ...]:
    """All metrics that these encodings allow, those of one question together."""
    return (*_shape(data), *_prior(data), *_kept(data), *_classes(data))


def varying(data: Encodings) -> Tensor:
    """Which means differ from one datum to the other, more than by rounding, shape (D,)."""
    variance = data.mean.var(0, correction=0)
    rounding = 1e-6 * data.mean.abs().amax(0)
    return (variance > _VARYING * variance.max()) & (variance > rounding.square())


# --- shape of the codes --------------------------------------------------------------------------


def _shape(data: Encodings) -> list[Metric]:
    dimensions = data.mean.shape[1]
    if data.std is None:
        active = varying(data)
        first = Metric(
            "varying_units",
            float(active.sum()),
            f"of {dimensions}",
            f"latent dimensions in which the variance of the codes exceeds {_VARYING:g} of that of "
            "the widest",
            "mean",
        )
        metrics = [first]
    else:
        health = diagnose_codes(data.mean, data.std)
        active = health.active
        metrics = latents_metrics(health)
    if not active.any():
        return metrics
    rows = data.rows(_few(len(data.x), _MOST_VALUES, dimensions))
    return [
        *metrics,
        Metric.of(
            "effective_dimensions",
            _effective_dimensions(data, rows),
            f"of {dimensions}",
            "participation ratio (Σλ)² / Σλ² of the eigenvalues λ of the covariance of the means, "
            "each latent in units of its aggregate standard deviation; error by a jackknife of "
            f"{_JACKKNIFE} random parts",
            notes=_of_rows(rows, data),
        ),
        Metric(
            "repeated_units",
            float(_repeated(data.mean[rows][:, active])),
            f"of {int(active.sum())}",
            f"latents in use whose means have a correlation above {_REPEATED} with those of one "
            "before them, up to the sign",
            "mean",
            notes=_of_rows(rows, data),
        ),
    ]


def _effective_dimensions(data: Encodings, rows: Tensor) -> Estimate:
    """Participation ratio of the covariance, from its trace and its norm."""
    mean = data.mean[rows]
    square = torch.zeros_like(mean) if data.std is None else data.std[rows].square()

    def ratio(rows: Tensor) -> float:
        offset = mean[rows] - mean[rows].mean(0)
        aggregate = offset.square().mean(0) + square[rows].mean(0)
        scaled = offset / torch.where(aggregate > 0, aggregate, 1.0).sqrt()
        # Both products have the same trace and norm.
        wide = scaled.shape[1] > len(scaled)
        product = scaled @ scaled.T if wide else scaled.T @ scaled
        return float(product.trace().square() / product.square().sum())

    # Data may be sorted, so that parts in their order would be of different classes.
    order = torch.randperm(len(mean), generator=torch.Generator().manual_seed(data.seed))
    parts = order.chunk(_JACKKNIFE)
    without = torch.tensor(
        [ratio(torch.cat(parts[:i] + parts[i + 1 :])) for i in range(len(parts))]
    ).double()
    variance = (len(parts) - 1) * without.var(correction=0)
    return Estimate(ratio(order), float(variance.sqrt()))


def _repeated(codes: Tensor) -> int:
    if codes.shape[1] < 2:
        return 0
    correlation = codes.T.corrcoef().abs()
    return int((correlation.triu(1) > _REPEATED).any(0).sum())


# --- the prior -----------------------------------------------------------------------------------


def _prior(data: Encodings) -> list[Metric]:
    metrics = []
    if data.std is not None and (data.std > 0).all():
        rates = kl_terms(data.mean, data.std).sum(1)
        metrics.append(
            Metric.of(
                "rate",
                Estimate.mean_of(rates),
                "nats",
                "E KL(q(z|x) || N(0, I)), in closed form; an upper bound of the mutual "
                "information of the encoder",
            )
        )
    rows = data.rows(min(_MOST_ENERGY_DATA, _side(data)))
    notes = _of_rows(rows, data)
    if data.std is None:
        notes = ("of the codes as they are, for their width is unknown", *notes)
    metrics.append(
        Metric.of(
            "aggregate_energy_distance",
            energy_distance(data.sample[rows]),
            "",
            "energy distance of the codes from N(0, I), E|z-ε| twice less E|z-z'| and E|ε-ε'|, in "
            "units of the last; unbiased, so it is around 0 for codes that lie like the prior",
            notes=notes,
            latent="sample",
        )
    )
    centre = data.mean.mean(0)
    offset = float(centre.square().mean().sqrt())
    # What each datum adds to the offset, to first order.
    shares = data.mean @ centre / (len(centre) * offset) if offset > 0 else data.mean[:, 0]
    metrics.append(
        Metric.of(
            "aggregate_offset",
            Estimate(offset, Estimate.mean_of(shares).standard_error),
            "",
            "root over latents of the mean square of the mean code; 0 for the prior",
        )
    )
    metrics.append(
        Metric(
            "aggregate_std",
            float(data.aggregate_std.square().mean().sqrt()),
            "",
            "root over latents of the mean variance of the aggregate posterior; 1 for the prior",
            "sample" if data.std is not None else "mean",
        )
    )
    return metrics


# --- what the codes keep -------------------------------------------------------------------------


def _kept(data: Encodings) -> list[Metric]:
    return [*_information(data), *_reconstruction(data)]


def _information(data: Encodings) -> list[Metric]:
    """What codes tell of data, by every estimator that these arrays allow."""
    rows = data.rows(ksg_rows(data.x.shape[1] + data.mean.shape[1]))
    # A bijection changes no information, but the maximum norm needs both sides of one size.
    x, z = (_of_unit_size(each[rows].double()) for each in (data.x, data.sample))
    scaling = "x and z each divided by the root of its mean variance"
    notes = _of_rows(rows, data)
    if data.std is None or not (data.std > 0).all():
        note = "of the codes as they are; those without noise tell all that a float can"
        return [ksg_metric(x, z, None, scaling, (note, *notes))]
    bounds = _bounds(data)
    return [ksg_metric(x, z, bounds, scaling, notes), *bounds_metrics(bounds)]


def _bounds(data: Encodings) -> InformationBounds:
    """Bounds of the information of diagonal normals with these means and widths."""
    assert data.std is not None
    rows = data.rows(min(_MOST_BOUND_DATA, _side(data)))
    normals = DiagNormal(data.mean[rows], data.std[rows])
    prior = StandardNormal(torch.zeros_like(data.mean[0]))
    return bounds_from_conditionals([normals], z=data.sample[rows], prior=prior)


def _of_unit_size(values: Tensor) -> Tensor:
    """Values divided by the root of the mean variance of their columns, if anything varies."""
    return values / (math.sqrt(float(values.var(0, correction=0).mean())) or 1.0)


def _reconstruction(data: Encodings) -> list[Metric]:
    if data.reconstructed is None:
        return []
    error, total = _squares(data.x, data.reconstructed)
    square = Estimate.mean_of(error)
    root = math.sqrt(square.value)
    return [
        Metric.of(
            "reconstruction_rmse",
            Estimate(root, square.standard_error / (2 * root) if root > 0 else math.nan),
            "unit of x",
            "root of the mean squared difference of x and its reconstruction, over data and "
            "dimensions",
        ),
        Metric.of(
            "reconstruction_r2",
            _kept_share(error, total),
            "",
            "1 less the squared difference of x and its reconstruction over that of x and the "
            "mean of all x, each summed over data and dimensions",
        ),
        Metric(
            "reconstruction_r2_of_a_datum",
            # A datum at the mean has no variance to keep.
            float((1 - error / total)[total > 0].median()),
            "",
            "median over data of 1 less the squared difference of the datum and its "
            "reconstruction over that of the datum and the mean of all",
            "mean",
            notes=(_worst(error, total),),
        ),
        *_linear(data),
    ]


def _squares(x: Tensor, reconstructed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean square of each datum's error, and about the mean of all data, each of shape (N,)."""
    size = rows_at_once(x.shape)
    mean = sum(rows.double().sum(0) for rows in x.split(size)) / len(x)
    error, total = [], []
    for rows, restored in zip(x.split(size), reconstructed.split(size), strict=True):
        error.append((restored.double() - rows).square().mean(1))
        total.append((rows - mean).square().mean(1))
    return torch.cat(error), torch.cat(total)


def _kept_share(error: Tensor, total: Tensor) -> Estimate:
    """1 - Σ error / Σ total, with the standard error of a ratio of means."""
    ratio = float(error.mean() / total.mean())
    scatter = Estimate.mean_of((error - ratio * total) / total.mean())
    return Estimate(1 - ratio, scatter.standard_error)


def _worst(error: Tensor, total: Tensor) -> str:
    rows = ((error - total) / total.mean()).topk(3).indices.tolist()
    return f"worst rows, counted from 0: {', '.join(map(str, rows))}"


def _linear(data: Encodings) -> list[Metric]:
    components = data.mean.shape[1]
    if components >= data.x.shape[1]:
        return []
    rows = data.rows(_few(_MOST_PCA_DATA, _MOST_SQUARES, data.x.shape[1]))
    x = data.x[rows].double()
    error, total = principal_residuals(x, components)
    return [
        Metric.of(
            "pca_r2",
            _kept_share(error, total),
            "",
            f"the same for the first {components} principal components, of each half of the rows "
            "by those of the other half",
            notes=_of_rows(rows, data),
        )
    ]


# --- classes -------------------------------------------------------------------------------------


def can_be_probed(labels: Tensor) -> bool:
    """Whether there are classes to tell apart, and enough data."""
    return len(labels) >= FEWEST_PROBED and len(labels.unique()) > 1


def _classes(data: Encodings) -> list[Metric]:
    if data.labels is None:
        return []
    width = max(data.x.shape[1], data.mean.shape[1])
    rows = data.rows(_few(_MOST_PROBED, _MOST_VALUES, width))
    labels = data.labels[rows]
    # Rows may be sorted by class, and all of them may be few enough to be taken in order.
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(data.seed))
    test, train = order.split([int(_TESTED * len(rows)), len(rows) - int(_TESTED * len(rows))])
    if not can_be_probed(labels) or len(labels[train].unique()) < 2:
        return []
    notes = _of_rows(rows, data)
    metrics = []
    for suffix, what, points in _probed(data):
        metrics.append(
            Metric.of(
                f"knn_{_NEIGHBOURS}_accuracy{suffix}",
                leave_one_out_accuracy(points[rows], labels, _NEIGHBOURS),
                "",
                f"share of {what} whose class the {_NEIGHBOURS} nearest of the others vote for",
                notes=notes,
                latent="sample" if suffix == "_sampled" else "mean",
            )
        )
        if suffix == "_sampled":
            continue
        points = points[rows].double()
        metrics.append(
            Metric.of(
                f"linear_probe_accuracy{suffix}",
                linear_probe(points[train], labels[train], points[test], labels[test]),
                "",
                f"share of a random quarter of the {what} whose class a logistic regression of the "
                "others tells, its penalty chosen on a fifth of them",
                notes=notes,
            )
        )
    return metrics


def _probed(data: Encodings) -> Iterator[tuple[str, str, Tensor]]:
    """What is probed: how its metrics' names end, what to call it, and its points."""
    yield "", "codes' means", data.mean
    if data.std is not None and (data.std > 0).any():
        yield "_sampled", "codes, with their noise,", data.sample
    yield "_of_x", "data", data.x


# --- common --------------------------------------------------------------------------------------


def _side(data: Encodings) -> int:
    """How many codes to compare with as many: fewer where they are long."""
    return math.isqrt(_MOST_SQUARES * 128 // data.mean.shape[1])


def _few(most: int, values: int, width: int) -> int:
    """How many rows to take: at most so many, and fewer where so many values are reached."""
    return min(most, max(_FEWEST, values // width))


def _of_rows(rows: Tensor, data: Encodings) -> tuple[str, ...]:
    if len(rows) == len(data.x):
        return ()
    return (f"of {len(rows):,} random rows of {len(data.x):,}",)
