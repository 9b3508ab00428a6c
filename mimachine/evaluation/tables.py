"""Metrics of models of tables: reconstructed values and generated rows, by kind of column."""

from __future__ import annotations

import torch
from torch import Tensor

from mimachine._support.memory import rows_at_once
from mimachine.estimation.codes.moments import Codes
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.two_samples.classifier import two_sample_auc
from mimachine.estimation.two_samples.energy import energy_distance
from mimachine.evaluation.budgets import (
    FEWEST_GENERATED,
    GENERATED_ROWS,
    VALUES,
    fewer_if_wide,
    random_rows,
    subset_note,
)
from mimachine.evaluation.glossary import measured
from mimachine.evaluation.metric import Metric
from mimachine.model.joint import Joint
from mimachine.model.table_columns import Choice, Grid, TableColumn
from mimachine.model.table_networks import TableDecoder, TableFeatures

__all__ = [
    "columns_of",
    "generated_of_table",
    "reconstruction_of_table",
    "without_holes",
]


def columns_of(model: Joint) -> tuple[TableColumn, ...] | None:
    """The columns of a model of tables; None for other models."""
    return model.decoder.columns if isinstance(model.decoder, TableDecoder) else None


def without_holes(model: Joint, rows: Tensor) -> Tensor:
    """Rows (N, *X) for metrics that leave out the probability of holes.

    Missing values of a table, NaN, become hidden ones, inf. Rows of other models stay as they are.
    """
    return rows if columns_of(model) is None else rows.masked_fill(rows.isnan(), torch.inf)


def reconstruction_of_table(model: Joint, x: Tensor, encoded: Codes) -> list[Metric]:
    """Reconstruct known values by the decoder's medians and most probable levels.

    Args:
        model: The model, in evaluation mode.
        x: Rows, shape (N, D).
        encoded: Their codes.
    """
    columns, size = columns_of(model) or (), rows_at_once(x.shape)
    parts = [model.decoder(mean).point() for mean in encoded.mean.split(size)]
    points, known = torch.cat(parts), x.isfinite()
    metrics = []
    grids = [k for k, column in enumerate(columns) if isinstance(column, Grid)]
    square = _squared_errors(points[:, grids], x[:, grids], known[:, grids])
    how = "medians of p(x|z) at the mean code, in standard deviations of each column of numbers"
    if square is not None:
        mean = Estimate.mean_of(square)
        root = mean.value**0.5
        error = mean.standard_error / (2 * root) if root > 0 else 0.0
        found = Estimate(root, error)
        metrics.append(measured("reconstruction_rmse", found, unit="std of x", reconstruction=how))
    choices = [k for k, column in enumerate(columns) if isinstance(column, Choice)]
    right, seen = (points == x)[:, choices], known[:, choices]
    if seen.any():
        rows = seen.any(1)
        share = (right & seen).sum(1)[rows] / seen.sum(1)[rows]
        metrics.append(measured("reconstruction_accuracy", Estimate.mean_of(share.double())))
    return metrics


def _squared_errors(points: Tensor, x: Tensor, known: Tensor) -> Tensor | None:
    """Mean squared error of each row in variances of the columns; None if no value is known."""
    values = torch.where(known, x, 0.0).double()
    count = known.sum(0).clamp_min(1)
    mean = values.sum(0) / count
    variance = (torch.where(known, values - mean, 0.0).square().sum(0)) / count
    varies = known & (variance > 0)
    rows = varies.any(1)
    if not rows.any():
        return None
    scale = torch.where(variance > 0, variance, 1.0)
    square = torch.where(varies, (points.double() - values).square() / scale, 0.0)
    return square[rows].sum(1) / varies[rows].sum(1)


def generated_of_table(model: Joint, x: Tensor) -> list[Metric]:
    """Compare rows that the model generates, with holes, with as many of the data.

    A classifier gets normal scores of numbers, numbers of levels and which values are missing. The
    energy distance is that of normal scores and levels, one-hot.

    Args:
        model: The model, in evaluation mode.
        x: Rows, shape (N, D), with their holes.
    """
    columns = columns_of(model) or ()
    rows = x[random_rows(len(x), fewer_if_wide(GENERATED_ROWS, VALUES, x.shape[1]))]
    if len(rows) < FEWEST_GENERATED:
        return []
    z = model.prior().sample(torch.Size((len(rows),)))
    parts = [model.decoder(some).sample() for some in z.split(rows_at_once(rows.shape, 512))]
    generated = torch.cat(parts)
    seed, notes = int(torch.randint(1 << 31, ())), subset_note(len(rows), len(x))
    features = TableFeatures(columns).to(x.device)
    pair = [features(each) for each in (generated, rows)]
    levels = [
        _with_numbers(columns, f, each) for f, each in zip(pair, (generated, rows), strict=True)
    ]
    auc = two_sample_auc(*levels, standardize=False, seed=seed)
    metrics = [measured("generated_auc", auc, notes=notes, count=len(rows))]
    if (pair[1] != pair[1][0]).any():
        distance = energy_distance(*pair, standardize=False)
        metrics.append(
            measured("generated_energy_distance", distance, notes=notes, count=len(rows))
        )
    share = _contradictions(columns, generated)
    if share is not None:
        metrics.append(measured("generated_contradictions", share, count=len(rows)))
    return metrics


def _with_numbers(columns: tuple[TableColumn, ...], features: Tensor, rows: Tensor) -> Tensor:
    """Features with one number for each column of levels, in place of one for each level."""
    grids = sum(isinstance(column, Grid) for column in columns)
    choices = [k for k, column in enumerate(columns) if isinstance(column, Choice)]
    levels = rows[:, choices].nan_to_num(nan=-1.0, posinf=-1.0)
    return torch.cat([features[:, :grids], levels, features[:, -len(columns) :]], 1)


def _contradictions(columns: tuple[TableColumn, ...], rows: Tensor) -> Estimate | None:
    """Share of rows with a pair of levels, one settled by the other, that no training row has."""
    found = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    settled = [(k, c) for k, c in enumerate(columns) if isinstance(c, Choice) and c.table]
    for place, column in settled:
        assert column.parent is not None
        above = columns[column.parent]
        assert isinstance(above, Choice)
        seen = torch.zeros(above.levels, column.levels, dtype=torch.bool, device=rows.device)
        for parent, level, count in column.table:
            seen[parent, level] = count > 0
        both = rows[:, [column.parent, place]]
        known = both.isfinite().all(1)
        pairs = both[known].long()
        found[known] |= ~seen[pairs[:, 0], pairs[:, 1]]
    return Estimate.of_share(float(found.double().mean()), len(rows)) if settled else None
