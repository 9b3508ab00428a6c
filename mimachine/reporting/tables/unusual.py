"""The test rows that fit the model worst, with their values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mimachine.estimation.codes.moments import codes
from mimachine.estimation.tables.rows import hidden
from mimachine.estimation.tables.scores import score
from mimachine.reporting.columns import chosen
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.section import Cell, Listing, Section
from mimachine.reporting.style import short
from mimachine.reporting.tables.words import brief, shown_value

__all__ = ["unusual"]

Array = np.ndarray[Any, Any]
_MOST_ROWS, _OF_EACH, _MOST_COLUMNS = 10, 5, 30
_LETTERS = 24
# Training rows to compare with: fewer if they are long.
_FEWEST, _MOST, _VALUES = 200, 1000, 100_000
# Share of training rows whose value of a column is more usual, from which a value is marked.
_ODD = 0.99


class _Worst(NamedTuple):
    """The rows with the most surprising codes.

    Attributes:
        rows: Their indices in the test split, the worst first.
        code: Surprise of their codes in nats.
        usual: Share of training rows with a less surprising code.
        odd: Whether each value is unusual, shape (n, D).
    """

    rows: list[int]
    code: list[float]
    usual: list[float]
    odd: Array


def unusual(outcomes: Sequence[Outcome]) -> Section:
    """Section of the test rows that fit worst, a table for each model."""
    most = _MOST_ROWS if len(outcomes) == 1 else _OF_EACH
    listings = [_listing(outcome, most, len(outcomes) > 1) for outcome in outcomes]
    text = (
        "The test rows with the most surprising codes: -log p(z) at the mean of q(z|x) is largest, "
        "in nats, and the percentile is its rank among training rows. Values that given the code "
        "are less likely than those of 99% of the training rows are marked, and their columns come "
        "first. Rows are counted from 1 in the test split, as by mimachine score --split test."
    )
    return Section("unusual", "Unusual rows", (text,), [], listings=tuple(listings))


def _listing(outcome: Outcome, most: int, several: bool) -> Listing:
    worst, data = _worst(outcome, most), outcome.trained.data
    assert data.columns is not None
    table = data.table(data.test[worst.rows])
    order = np.argsort(~worst.odd.any(0), kind="stable")
    kept = order[:_MOST_COLUMNS]
    caption = "The test rows that fit worst"
    if several:
        caption += f", by {outcome.name}"
    if len(order) > len(kept):
        caption += f"; {len(order) - len(kept):,} more columns are not shown"
    rows = []
    for place, (row, code, usual) in enumerate(
        zip(worst.rows, worst.code, worst.usual, strict=True)
    ):
        values = [
            Cell(
                short(shown_value(table[data.columns[k]][place]), _LETTERS),
                bool(worst.odd[place, k]),
            )
            for k in kept
        ]
        first = [
            Cell(f"Row {row + 1:,}"),
            Cell(f"{code:.1f}"),
            Cell(f"{math.floor(1000 * usual) / 10:g}%"),
        ]
        rows.append([*first, *values])
    header = ["Test row", "Surprise", "Percentile", *[brief(data.columns[k]) for k in kept]]
    return Listing(caption, header, rows, wide=True)


@torch.no_grad()
def _worst(outcome: Outcome, most: int) -> _Worst:
    model, data = outcome.trained.generator, outcome.trained.data
    surprise = _surprise(outcome, data.test)
    order = torch.argsort(surprise, descending=True, stable=True)[:most]
    count = max(_FEWEST, min(_MOST, _VALUES // data.test.shape[1]))
    references = data.train[chosen(len(data.train), count)]
    known = score(model, references, num_samples=0)
    found = score(model, data.test[order], num_samples=0)
    ranks = found.percentiles(known)
    # A column of few training rows has no percentile, and then no odd values.
    odd = (ranks.columns > _ODD).cpu().numpy()
    return _Worst(order.tolist(), found.code.tolist(), ranks.code.tolist(), odd)


def _surprise(outcome: Outcome, rows: Tensor) -> Tensor:
    """-log p(z) at the mean of q(z|x), shape (N,)."""
    model = outcome.trained.generator
    log_prob: Tensor = model.prior().log_prob(codes(model, hidden(rows)).mean)
    return -log_prob.double().cpu()
