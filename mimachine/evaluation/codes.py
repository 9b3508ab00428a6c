"""What shape do the codes have? Active latents, width, floors, distance from the prior."""

from __future__ import annotations

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
_JACKKNIFE = 10


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
    if is_discrete(model.prior()):
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
            parts=_JACKKNIFE,
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

    # Rows may be sorted, so that parts in their order would be of different classes.
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


def prior_of_arrays(data: Encodings) -> list[Metric]:
    """Whether codes as a whole are distributed as N(0, I)."""
    rows = data.rows(min(ENERGY_ROWS, comparable(data.mean)))
    notes = subset_note(len(rows), len(data.x))
    if data.std is None:
        notes = ("for the codes as given: their width is unknown", *notes)
    centre = data.mean.mean(0)
    offset = float(centre.square().mean().sqrt())
    # What each row adds to the offset, to first order.
    shares = data.mean @ centre / (len(centre) * offset) if offset > 0 else data.mean[:, 0]
    return [
        measured(
            "aggregate_energy_distance",
            energy_distance_from_normal(data.sample[rows]),
            notes=notes,
            prior="N(0, I)",
        ),
        measured("aggregate_offset", Estimate(offset, Estimate.mean_of(shares).standard_error)),
        measured(
            "aggregate_std",
            float(data.aggregate_std.square().mean().sqrt()),
            latent="mean" if data.std is None else "sample",
        ),
    ]
