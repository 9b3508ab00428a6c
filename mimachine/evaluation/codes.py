"""What shape do the codes have? Active latents, width, floors, distance from the prior."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.memory import rows_at_once
from mimachine.estimation.codes.aggregate import energy_distance_from_normal
from mimachine.estimation.codes.collapse import Health, diagnose_codes
from mimachine.estimation.codes.floors import scales
from mimachine.estimation.codes.moments import Codes
from mimachine.estimation.codes.reencoding import reencode
from mimachine.estimation.estimate import Estimate
from mimachine.evaluation.arrays import Encodings
from mimachine.evaluation.budgets import (
    ENERGY_ROWS,
    FEWEST_RECONSTRUCTED,
    REENCODED_ROWS,
    VALUES,
    comparable,
    fewer_if_wide,
    random_rows,
    subset_note,
)
from mimachine.evaluation.glossary import measured
from mimachine.evaluation.metric import Metric
from mimachine.evaluation.reconstruction import has_closed_mean
from mimachine.evaluation.tables import columns_of
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import DiagNormal, StandardNormal
from mimachine.model.hierarchy import Chain
from mimachine.model.joint import Joint

__all__ = [
    "aggregate_of_model",
    "floors_of_model",
    "prior_of_arrays",
    "reencoding_of_model",
    "shape_of_arrays",
    "width_metrics",
    "varying",
]

# Without a width, a latent whose variance is below this share of the largest does not vary.
_VARYING = 1e-4
_REPEATED = 0.95


def width_metrics(health: Health) -> list[Metric]:
    """How many latents are active, and how wide codes are."""
    return [
        measured("active_units", float(health.active.sum()), unit=f"of {health.active.numel()}"),
        measured("relative_posterior_std", health.relative_std),
    ]


# --- of a model ----------------------------------------------------------------------------------


def floors_of_model(model: Joint, x: Tensor, encoded: Codes) -> list[Metric]:
    """Share of scales at their floor, for the parts of a model that have one."""
    prior = model.prior()
    found: dict[str, list[Tensor]] = {}
    size = rows_at_once(x.shape)
    # Scales without a floor, as of binary pixels, need no pass of the decoder over all data.
    with_decoder = bool(scales(model.decoder(encoded.mean[:2]), x[:2]))
    for rows, mean, sample in zip(
        x.split(size), encoded.mean.split(size), encoded.sample.split(size), strict=True
    ):
        parts = _parts_of_latents(model.encoder(rows), prior, sample)
        if with_decoder:
            parts.append(("decoder", model.decoder(mean), rows))
        for name, distribution, value in parts:
            masks = [each.at_floor.flatten() for each in scales(distribution, value)]
            found.setdefault(name, []).extend(masks)
    return [
        measured(
            f"{name}_share_at_floor",
            float(torch.cat(masks).double().mean()),
            latent="sample" if isinstance(prior, Chain) and name == "encoder" else None,
        )
        for name, masks in found.items()
        if masks
    ]


def _parts_of_latents(
    encoder: Distribution, prior: Distribution, z: Tensor
) -> list[tuple[str, Distribution, Tensor]]:
    """Distributions of latents by name, each with the values to look at."""
    parts = [("encoder", encoder, z)]
    if isinstance(encoder, Chain):
        first, second = encoder.parts(z)
        parts.append(("encoder_first", *first))
        parts.append(("encoder_second", *second))
    if isinstance(prior, Chain):
        parts.append(("prior_second", *prior.parts(z)[1]))
    return parts


def reencoding_of_model(model: Joint, x: Tensor, encoded: Codes) -> list[Metric]:
    """Distance between codes and the codes of their reconstructions."""
    # Codes of levels have no distance to those of a mean of levels.
    if is_discrete(model.prior()) or columns_of(model) is not None:
        return []
    known = has_closed_mean(model, encoded)
    some = x[random_rows(len(x), REENCODED_ROWS if known else FEWEST_RECONSTRUCTED)]
    offset = reencode(model, some).offset
    notes = subset_note(len(some), len(x))
    return [
        measured(
            "reencoding_offset",
            float(offset.square().mean().sqrt()),
            notes=notes if known else (*notes, "the decoder's mean is the mean of 64 draws"),
        )
    ]


def aggregate_of_model(prior: Distribution, encoded: Codes) -> list[Metric]:
    """Distance of the codes from a normal prior; none for other priors."""
    if not isinstance(prior, DiagNormal | StandardNormal):
        return []
    rows = random_rows(len(encoded.sample), ENERGY_ROWS)
    distance = energy_distance_from_normal(encoded.sample[rows], prior.mean, prior.stddev)
    notes = subset_note(len(rows), len(encoded.sample))
    return [measured("aggregate_energy_distance", distance, notes=notes, prior="the prior")]


# --- of arrays -----------------------------------------------------------------------------------


def varying(data: Encodings) -> Tensor:
    """Which means vary over rows by more than rounding, shape (D,)."""
    variance = data.mean.var(0, correction=0)
    rounding = 1e-6 * data.mean.abs().amax(0)
    return (variance > _VARYING * variance.max()) & (variance > rounding.square())


def shape_of_arrays(data: Encodings) -> list[Metric]:
    """How many latents are used, how wide codes are, and how many dimensions they fill."""
    dimensions = data.mean.shape[1]
    if data.std is None:
        active = varying(data)
        count = float(active.sum())
        metrics = [measured("varying_units", count, unit=f"of {dimensions}", share=_VARYING)]
    else:
        health = diagnose_codes(data.mean, data.std)
        active = health.active
        metrics = width_metrics(health)
    if not active.any():
        return metrics
    rows = data.rows(fewer_if_wide(len(data.x), VALUES, dimensions))
    notes = subset_note(len(rows), len(data.x))
    return [
        *metrics,
        measured(
            "effective_dimensions",
            _effective_dimensions(data, rows),
            unit=f"of {dimensions}",
            notes=notes,
        ),
        measured(
            "repeated_units",
            float(_repeated(data.mean[rows][:, active])),
            unit=f"of {int(active.sum())}",
            notes=notes,
            correlation=_REPEATED,
        ),
    ]


def _effective_dimensions(data: Encodings, rows: Tensor) -> Estimate:
    """Participation ratio T² / Q of the scaled covariance C of the means: T = tr C, Q = tr C².

    The error is by the infinitesimal jackknife: the standard error of the mean of the rows' effects
    on the ratio, through the covariance and through the variances that it is scaled by.
    """
    mean = data.mean[rows]
    offset = mean - mean.mean(0)
    square = torch.zeros_like(mean) if data.std is None else data.std[rows].square()
    aggregate = offset.square().mean(0) + square.mean(0)
    width = torch.where(aggregate > 0, aggregate, 1.0)
    scaled = offset / width.sqrt()
    # Effects of each row on the logarithms of the variances.
    widths = scaled.square() + square / width - 1
    products = _covariance_products(scaled)
    trace, total = float(products.diagonal.sum()), float(products.of_square.sum())
    of_trace = scaled.square().sum(1) - trace - widths @ products.diagonal
    of_total = 2 * (products.of_rows - total - widths @ products.of_square)
    effects = (2 * trace / total) * of_trace - (trace / total) ** 2 * of_total
    return Estimate(trace**2 / total, Estimate.mean_of(effects).standard_error)


class _Products(NamedTuple):
    """What is needed of the covariance C of rows u (N, D) about 0.

    Attributes:
        diagonal: Diagonal of C, shape (D,).
        of_square: Diagonal of C², shape (D,).
        of_rows: u C u of each row, shape (N,).
    """

    diagonal: Tensor
    of_square: Tensor
    of_rows: Tensor


def _covariance_products(rows: Tensor) -> _Products:
    count = len(rows)
    diagonal = rows.square().mean(0)
    if rows.shape[1] > count:
        gram = rows @ rows.T / count
        return _Products(
            diagonal, ((gram @ rows) * rows).sum(0) / count, gram.square().sum(1) * count
        )
    covariance = rows.T @ rows / count
    return _Products(diagonal, covariance.square().sum(0), ((rows @ covariance) * rows).sum(1))


def _repeated(codes: Tensor) -> int:
    if codes.shape[1] < 2:
        return 0
    correlation = codes.T.corrcoef().abs()
    return int((correlation.triu(1) > _REPEATED).any(0).sum())


def prior_of_arrays(data: Encodings) -> list[Metric]:
    """Whether codes as a whole are distributed as N(0, I)."""
    rows = data.rows(min(ENERGY_ROWS, comparable(data.mean)))
    notes = subset_note(len(rows), len(data.x))
    if data.std is None:
        notes = ("for the codes as given: their width is unknown", *notes)
    return [
        measured(
            "aggregate_energy_distance",
            energy_distance_from_normal(data.sample[rows]),
            notes=notes,
            prior="N(0, I)",
        ),
        measured("aggregate_offset", _offset(data)),
        measured(
            "aggregate_std",
            float(data.aggregate_std.square().mean().sqrt()),
            latent="mean" if data.std is None else "sample",
        ),
    ]


def _offset(data: Encodings) -> Estimate:
    """Root mean square of the mean code m, with an error from the variance of |m|² = Σ m_d².

    Where m is no larger than its noise, the error to first order is only that along m, whichever
    direction it happens to have.
    """
    centre = data.mean.mean(0)
    square = float(centre.square().sum())
    if square == 0:
        return Estimate(0.0, 0.0 if not data.mean.any() else math.nan)
    rows = data.mean[data.rows(fewer_if_wide(len(data.mean), VALUES, len(centre)))]
    of_square = float(_covariance_products(rows - rows.mean(0)).of_square.sum())
    along, count = float((data.mean @ centre).var()), len(data.mean)
    variance = 4 * along / count + 2 * of_square / count**2
    root = math.sqrt(square)
    error = math.sqrt(variance) / (2 * root)
    return Estimate(root / math.sqrt(len(centre)), error / math.sqrt(len(centre)))
