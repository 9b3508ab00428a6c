"""Imputation: fill in missing entries of rows, with intervals and probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mimachine._support.checks import UNLIMITED, function, real, whole
from mimachine.estimation.tables.rows import columns_of, hidden, table_rows
from mimachine.estimation.tables.weights import Weighted, reliable, weighted_codes
from mimachine.model.conditionals import Conditional
from mimachine.model.joint import Joint
from mimachine.model.misfit import naming_misfits
from mimachine.model.table_columns import Choice, Grid, TableColumn

__all__ = ["Imputed", "impute"]

# Draws of completed rows that estimates are made of: the ends of an interval of 90 % are then at
# probabilities 0.05 ± 0.011 and 0.95 ± 0.011, and the error of a level's probability is 0.025 at
# most.
_COMPLETIONS = 400


@dataclass(frozen=True)
class Imputed:
    """Rows of a table whose missing entries are filled in. There are N rows and M entries.

    Values are those of rows: steps of a grid, or the index of a level.

    Attributes:
        rows: The rows with all entries, shape (N, D): for a grid the whole number next to the mean,
            for a column of levels the most probable level. Seen entries are unchanged.
        row: Index of the row of each filled entry, in ascending order, shape (M,).
        column: Index of its column, shape (M,).
        mean: Its mean in steps, not rounded, shape (M,), float64; NaN for levels.
        deviation: Its standard deviation in steps, shape (M,), float64; NaN for levels.
        lower: Lower bound of the central interval, shape (M,), float64; NaN for levels.
        upper: Upper bound, as `lower`.
        inside: Probability of the interval, bounds included, shape (M,), float64; NaN for levels.
            It is above `level` where few values are probable, as of counts.
        probabilities: For each column of K levels that has filled entries, by its index, the
            probabilities of the levels, shape (m, K), float64. The m entries are those of this
            column in the order of `row`.
        draws: Equally probable values of the filled entries, shape (keep, M), for multiple
            imputation. The entries of a row within a draw belong together, see `completed`.
        effective_sample_sizes: Effective number of draws of codes, (Σw)² / Σw², shape (N,); NaN for
            rows that were complete.
        pareto_k: Shape of the tail of the weights, shape (N,), see `pareto_k`; NaN as above.
        level: Probability of the intervals.
        num_draws: Draws of codes for each row.
    """

    rows: Tensor
    row: Tensor
    column: Tensor
    mean: Tensor
    deviation: Tensor
    lower: Tensor
    upper: Tensor
    inside: Tensor
    probabilities: Mapping[int, Tensor]
    draws: Tensor
    effective_sample_sizes: Tensor
    pareto_k: Tensor
    level: float
    num_draws: int

    @property
    def flagged(self) -> Tensor:
        """Which rows are unreliable, shape (N,); complete rows are not.

        These have fewer than 20 effective draws, or a Pareto-k above 0.7: a few codes carry the
        weight, so intervals are too narrow. A different proposal or more draws may help. Codes that
        the proposal misses are not detected.
        """
        incomplete = torch.zeros(len(self.rows), dtype=torch.bool, device=self.rows.device)
        incomplete[self.row] = True
        return incomplete & ~reliable(self.effective_sample_sizes, self.pareto_k)

    def completed(self, draw: int) -> Tensor:
        """The rows with the values of one of the draws, shape (N, D), for multiple imputation.

        Analyse each of several such tables, and combine the results by Rubin's rules: the variance
        between them shows how much is unknown because of missing values.

        Args:
            draw: Index of the draw.

        References:
            Multiple Imputation for Nonresponse in Surveys (Rubin, 1987)
        """
        number = whole("draw", draw, 0, max(0, len(self.draws) - 1))
        if not len(self.draws):
            raise ValueError("draw needs draws of completed rows; impute with keep of 1 or more")
        rows = self.rows.clone()
        rows[self.row, self.column] = self.draws[number]
        return rows


@torch.no_grad()
def impute(
    model: Joint,
    rows: Any,
    *,
    proposal: Conditional | None = None,
    draws: int = 1000,
    keep: int = 20,
    level: float = 0.9,
    seed: int = 0,
    chunk_size: int | None = None,
) -> Imputed:
    r"""Fill in missing entries of rows by importance resampling, with intervals.

    For each row with unknown entries, codes are drawn from a proposal and weighted by

    .. math:: w_s = p(x_\text{seen}|z_s)\, p(z_s) / q(z_s|x_\text{seen}),
        \quad z_s \sim q(z|x_\text{seen})

    Codes are then drawn by these weights, 400 for each row, and the unknown entries from
    :math:`p(x_\text{mis}|z, x_\text{seen})`. Estimates are statistics of these draws. The mean of a
    grid minimises the squared error, and the most probable level the number of wrong levels.

    Values are assumed to be missing at random, so holes (NaN) count as hidden entries (inf): that a
    value is missing says nothing of the row. No training row shows the values at codes that the
    holes themselves would point to.

    It decodes `draws` + 400 codes for each incomplete row. Complete rows cost nothing.

    Args:
        model: The model, used in evaluation mode, whose decoder is one of a table.
        rows: Shape (N, D); NaN is missing, inf is hidden. Both are filled in.
        proposal: q(z|x_seen), any conditional distribution of the latents given rows; by default
            the model's encoder. See `fit_proposal` for a better one.
        draws: Number S of codes drawn from the proposal for each row.
        keep: Number of draws of completed rows to return.
        level: Probability of the central intervals, in (0, 1).
        seed: Seed of the draws; the global generators keep their state.
        chunk_size: Largest number of pairs of row and draw that are decoded at once; bounds the
            memory. It changes the result by rounding only.

    Raises:
        ValueError: If an argument is out of range, the rows do not fit the model, or the proposal
            does not.

    References:
        Using the SIR algorithm to simulate posterior distributions (Rubin, 1988), Bayesian
        Statistics 3
    """
    rows = table_rows("rows", rows, model)
    draws, keep = whole("draws", draws, 1), whole("keep", keep, 0)
    level, seed = real("level", level, 0, above=True, below=1), whole("seed", seed)
    chunk_size = None if chunk_size is None else whole("chunk_size", chunk_size, 1, UNLIMITED)
    if proposal is not None:
        function("proposal", proposal, "a distribution")
    columns, unknown = columns_of(model), ~rows.isfinite()
    incomplete = unknown.any(1).nonzero().flatten()
    parts: list[_Part] = []
    with naming_misfits(model, rows, "rows"):
        blocks = weighted_codes(
            model, hidden(rows[incomplete]), proposal or model.encoder, draws,
            seed=seed, purpose="impute", chunk_size=chunk_size,
        )  # fmt: skip
        parts.extend(_of_block(block, columns, keep, level) for block in blocks)
    return _collected(rows, unknown, incomplete, len(columns), parts, (keep, level, draws))


@dataclass(frozen=True)
class _Part:
    """Estimates of the m unknown entries of a block of rows, in the order of rows."""

    values: Tensor  # value to fill in, mean, deviation, lower, upper, inside: (6, m)
    probabilities: dict[int, Tensor]
    draws: Tensor
    effective: Tensor
    shapes: Tensor


def _of_block(block: Weighted, columns: Sequence[TableColumn], keep: int, level: float) -> _Part:
    effective, shapes = block.diagnostics()
    unknown = ~block.rows.isfinite()
    drawn = block.completed(max(keep, _COMPLETIONS))[:, unknown]
    column = unknown.nonzero()[:, 1]
    values = drawn.new_full((6, drawn.shape[1]), math.nan, dtype=torch.float64)
    probabilities = {}
    for index in column.unique().tolist():
        kind, here = columns[index], column == index
        if isinstance(kind, Choice):
            shares = _shares(drawn[:, here], kind.levels)
            probabilities[index], values[0, here] = shares, shares.argmax(1).double()
        else:
            values[:, here] = _of_grid(drawn[:, here].double(), kind, level)
    return _Part(values, probabilities, drawn[:keep], effective, shapes)


def _of_grid(drawn: Tensor, grid: Grid, level: float) -> Tensor:
    """Statistics (6, m) of R draws (R, m) of values on a grid.

    The bounds are draws, the p (R + 1)-th from below and above, rounded outwards. A further draw
    lies between them with a probability of `level` at least.
    """
    count, tail = len(drawn), (1 - level) / 2
    first = max(0, math.floor(tail * (count + 1) + 1e-9) - 1)
    ordered = drawn.sort(0).values
    lower, upper = ordered[first], ordered[count - 1 - first]
    mean, inside = drawn.mean(0), (drawn >= lower) & (drawn <= upper)
    low, high = grid.low, grid.high
    # The mean of values between limits is between them, up to rounding.
    value = mean.round() if low is None and high is None else mean.round().clamp(low, high)
    statistics = (value, mean, drawn.std(0), lower, upper, inside.double().mean(0))
    return torch.stack(statistics)


def _shares(drawn: Tensor, levels: int) -> Tensor:
    """Shares (m, K) of K levels among draws (R, m)."""
    counts = drawn.new_zeros((drawn.shape[1], levels), dtype=torch.float64)
    ones = torch.ones_like(drawn.T, dtype=torch.float64)
    return counts.scatter_add_(1, drawn.T.long(), ones) / len(drawn)


def _collected(
    rows: Tensor,
    unknown: Tensor,
    incomplete: Tensor,
    num_columns: int,
    parts: Sequence[_Part],
    settings: tuple[int, float, int],
) -> Imputed:
    keep, level, draws = settings
    row, column = unknown.nonzero().T
    none = torch.empty((6, 0), dtype=torch.float64, device=rows.device)
    values = torch.cat([none, *(part.values for part in parts)], 1)
    kept = torch.cat([rows.new_empty((keep, 0)), *(part.draws for part in parts)], 1)
    completed = rows.clone()
    completed[row, column] = values[0].to(rows.dtype)
    diagnostics = torch.full((2, len(rows)), math.nan, dtype=torch.float64, device=rows.device)
    for index, found in enumerate(zip(*((p.effective, p.shapes) for p in parts), strict=True)):
        diagnostics[index, incomplete] = torch.cat(found)
    probabilities = {
        index: torch.cat([p.probabilities[index] for p in parts if index in p.probabilities])
        for index in range(num_columns)
        if any(index in p.probabilities for p in parts)
    }
    _, mean, deviation, lower, upper, inside = values
    return Imputed(
        completed, row, column, mean, deviation, lower, upper, inside, probabilities, kept,
        diagnostics[0], diagnostics[1], level, draws,
    )  # fmt: skip
