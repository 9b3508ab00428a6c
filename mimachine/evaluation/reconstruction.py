"""What comes back after encoding and decoding? Errors of reconstructions."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.memory import rows_at_once
from mimachine.data.subspace import principal_residuals
from mimachine.estimation.codes.moments import Codes, closed_mean, mean_of
from mimachine.estimation.estimate import Estimate
from mimachine.evaluation.arrays import Encodings
from mimachine.evaluation.budgets import (
    DRAWN_VALUES,
    DRAWS,
    FEWEST_RECONSTRUCTED,
    PCA_ROWS,
    RECONSTRUCTED_ROWS,
    SQUARED_VALUES,
    fewer_if_wide,
    random_rows,
    subset_note,
)
from mimachine.evaluation.glossary import measured
from mimachine.evaluation.metric import Metric
from mimachine.evaluation.tables import columns_of, reconstruction_of_table
from mimachine.model.joint import Joint

__all__ = ["has_closed_mean", "reconstruction_of_arrays", "reconstruction_of_model"]


class _Errors(NamedTuple):
    """Errors of the rows' reconstructions, means over their values, each of shape (N,).

    Attributes:
        square: Squared errors.
        absolute: Absolute errors; NaN where the reconstruction is known from draws only.
    """

    square: Tensor
    absolute: Tensor

    @classmethod
    def of(cls, x: Tensor, reconstructed: Tensor) -> _Errors:
        """Errors of reconstructions (N, *X)."""
        difference = (reconstructed - x).flatten(1)
        return cls(difference.square().mean(1), difference.abs().mean(1))

    @classmethod
    def of_draws(cls, x: Tensor, draws: Tensor) -> _Errors:
        """Errors of the mean that draws (S, N, *X) come from.

        The square of the error of a mean of S draws is too large by their variance over S. There
        is no such correction of an absolute error.
        """
        square = (draws.mean(0) - x).square() - draws.var(0) / len(draws)
        mean = square.flatten(1).mean(1)
        return cls(mean, torch.full_like(mean, math.nan))

    @classmethod
    def joined(cls, parts: list[_Errors]) -> _Errors:
        """Errors of all rows, from those of blocks of rows."""
        return cls(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _error_metrics(
    errors: _Errors, reconstruction: str, unit: str | None = None, notes: tuple[str, ...] = ()
) -> list[Metric]:
    """Metrics of errors, the same for a model and for arrays."""
    square = Estimate.mean_of(errors.square)
    root = math.sqrt(max(0.0, square.value))
    error = square.standard_error / (2 * root) if root > 0 else math.nan
    rmse = measured(
        "reconstruction_rmse",
        Estimate(root, error),
        unit=unit,
        notes=notes,
        reconstruction=reconstruction,
    )
    if errors.absolute.isnan().any():
        return [rmse]
    mae = measured(
        "reconstruction_mae",
        Estimate.mean_of(errors.absolute),
        unit=unit,
        notes=notes,
        reconstruction=reconstruction,
    )
    return [rmse, mae]


# --- of a model ----------------------------------------------------------------------------------


def has_closed_mean(model: Joint, encoded: Codes) -> bool:
    """Whether the decoder's mean has a closed form, so that it needs no draws."""
    return closed_mean(model.decoder(encoded.mean[:2])) is not None


def reconstruction_of_model(model: Joint, x: Tensor, encoded: Codes, unit: str) -> list[Metric]:
    """Reconstruct data by the mean code, and by samples of code and data.

    Args:
        model: The model, in evaluation mode.
        x: Data, shape (N, *X).
        encoded: Codes of the data.
        unit: Unit of the data.
    """
    if columns_of(model) is not None:
        return reconstruction_of_table(model, x, encoded)
    known, count = has_closed_mean(model, encoded), len(x)
    if not known:
        affordable = DRAWN_VALUES // (DRAWS * x[0].numel())
        most = max(FEWEST_RECONSTRUCTED, min(RECONSTRUCTED_ROWS, affordable))
        rows = random_rows(count, most)
        x, encoded = x[rows], Codes(*(part[rows] for part in encoded))
    notes = subset_note(len(x), count)
    by_mean, distances = [], []
    size = rows_at_once(x.shape)
    for rows, mean, sample in zip(
        x.split(size), encoded.mean.split(size), encoded.sample.split(size), strict=True
    ):
        by_mean.append(_errors(model.decoder(mean), rows, known))
        distances.append((model.decoder(sample).sample() - rows).flatten(1).norm(dim=1))
    of_draws = f"from {DRAWS} draws of x per row, corrected for their variance"
    return [
        *_error_metrics(
            _Errors.joined(by_mean),
            "the decoder's mean at the mean code",
            unit,
            notes if known else (*notes, of_draws),
        ),
        measured(
            "sampled_reconstruction_distance",
            Estimate.mean_of(torch.cat(distances)),
            unit=unit,
            notes=notes,
        ),
    ]


def _errors(decoded: Distribution, x: Tensor, known: bool) -> _Errors:
    if known:
        return _Errors.of(x, mean_of(decoded))
    return _Errors.of_draws(x, decoded.sample(torch.Size((DRAWS,))).to(x.dtype))


# --- of arrays -----------------------------------------------------------------------------------


def reconstruction_of_arrays(data: Encodings) -> list[Metric]:
    """Errors of given reconstructions, and what PCA would keep; none without reconstructions."""
    if data.reconstructed is None:
        return []
    errors, total = _errors_and_totals(data.x, data.reconstructed)
    return [
        *_error_metrics(errors, "x_reconstructed"),
        measured("reconstruction_r2", _explained(errors.square, total)),
        measured(
            "reconstruction_r2_of_a_datum",
            # A row at the mean has no variance to explain.
            float((1 - errors.square / total)[total > 0].median()),
            notes=(_worst(errors.square, total),),
        ),
        *_linear(data),
    ]


def _errors_and_totals(x: Tensor, reconstructed: Tensor) -> tuple[_Errors, Tensor]:
    """Errors, and the mean square of each row about the mean of all rows, shape (N,)."""
    size = rows_at_once(x.shape)
    mean = sum(rows.double().sum(0) for rows in x.split(size)) / len(x)
    errors, total = [], []
    for rows, restored in zip(x.split(size), reconstructed.split(size), strict=True):
        errors.append(_Errors.of(rows, restored.double()))
        total.append((rows - mean).square().mean(1))
    return _Errors.joined(errors), torch.cat(total)


def _explained(error: Tensor, total: Tensor) -> Estimate:
    """1 - Σ error / Σ total, with the standard error of a ratio of means."""
    ratio = float(error.mean() / total.mean())
    scatter = Estimate.mean_of((error - ratio * total) / total.mean())
    return Estimate(1 - ratio, scatter.standard_error)


def _worst(error: Tensor, total: Tensor) -> str:
    rows = ((error - total) / total.mean()).topk(3).indices.tolist()
    return f"worst rows, counted from 0: {', '.join(map(str, rows))}"


def _linear(data: Encodings) -> list[Metric]:
    """Explained variance of as many principal components as there are latents."""
    components = data.mean.shape[1]
    if components >= data.x.shape[1]:
        return []
    rows = data.rows(fewer_if_wide(PCA_ROWS, SQUARED_VALUES, data.x.shape[1]))
    error, total = principal_residuals(data.x[rows].double(), components)
    notes = subset_note(len(rows), len(data.x))
    return [measured("pca_r2", _explained(error, total), notes=notes, components=components)]
