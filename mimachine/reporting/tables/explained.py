"""How well reconstructions without noise match each column of a table."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from mimachine._support.memory import rows_at_once
from mimachine.data.dataset import Dataset
from mimachine.data.tables.schema import Stepped
from mimachine.estimation.codes.moments import mean_of
from mimachine.estimation.tables.rows import columns_of, hidden
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating
from mimachine.model.table_columns import Grid
from mimachine.model.tables.quantile_map import QuantileMap
from mimachine.reporting.columns import chosen

__all__ = ["Fits", "fits"]

Array = np.ndarray[Any, Any]
# Medians take far longer than the rest: a million values take seconds.
_FEWEST_ROWS, _MOST_VALUES = 500, 400_000


class Fits(NamedTuple):
    """Reconstructions of each column from mean codes, on the known values of the test rows.

    Attributes:
        shares: For numbers the share of the variance of normal scores that is explained, R²; for
            levels the share of values that are right. NaN where nothing varies or is known.
        guesses: For levels the share of the most frequent one in the test rows, which is right
            without any code; NaN for numbers.
    """

    shares: Array
    guesses: Array

    @property
    def gains(self) -> Array:
        """Share of the error of the best constant guess that the codes remove; R² for numbers."""
        with np.errstate(invalid="ignore", divide="ignore"):
            gains = (self.shares - self.guesses) / (1 - self.guesses)
        return np.where(
            np.isnan(self.guesses), self.shares, np.where(self.guesses < 1, gains, np.nan)
        )


@torch.no_grad()
def fits(model: Joint, data: Dataset) -> Fits:
    """Compare the test rows of a table with medians and most probable levels at their mean codes.

    Normal scores, which are ranks among the training rows on the scale of a normal distribution,
    keep a few values that are far out from deciding R². Of many test rows a random part is taken.
    """
    assert data.schema is not None
    numbers = [k for k, each in enumerate(data.schema.modelled) if isinstance(each, Stepped)]
    columns = columns_of(model)
    grids = [column for k in numbers if isinstance(column := columns[k], Grid)]
    count = max(_FEWEST_ROWS, _MOST_VALUES // data.test.shape[1])
    rows = hidden(data.test[chosen(len(data.test), count)])
    with evaluating(model):
        parts = [_points(model, part) for part in rows.split(rows_at_once(rows.shape, 512))]
    points = torch.cat(parts)
    shares, guesses = np.full((2, rows.shape[1]), math.nan)
    if numbers:
        scale = QuantileMap(grids, torch.device("cpu"))
        scores = [
            scale.scores_at(torch.where(each.isfinite(), each, 0.0).double()).numpy()
            for each in (rows[:, numbers].cpu(), points[:, numbers].cpu())
        ]
        known = rows[:, numbers].isfinite().cpu().numpy()
        for place, k in enumerate(numbers):
            shares[k] = _explained(*(each[known[:, place], place] for each in scores))
    for k in set(range(rows.shape[1])) - set(numbers):
        seen = rows[:, k].isfinite()
        if seen.any():
            levels, restored = (each[seen, k].cpu().numpy() for each in (rows, points))
            shares[k] = (levels == restored).mean()
            guesses[k] = np.unique(levels, return_counts=True)[1].max() / len(levels)
    return Fits(shares, guesses)


def _points(model: Joint, rows: torch.Tensor) -> torch.Tensor:
    decoder: Any = model.decoder(mean_of(model.encoder(rows)))
    points: torch.Tensor = decoder.point()
    return points


def _explained(values: Array, restored: Array) -> float:
    """R² of values (n,); NaN if they do not vary."""
    variance = float(values.var()) if len(values) else 0.0
    return 1 - float(np.square(values - restored).mean()) / variance if variance > 0 else math.nan
