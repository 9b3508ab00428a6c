"""Imputation measured: hide entries that are known, fill them in, and compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mimachine._support.checks import real, whole
from mimachine._support.seeds import derived_seed
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.tables.impute import Imputed, impute
from mimachine.estimation.tables.rows import columns_of, table_rows
from mimachine.model.conditionals import Conditional
from mimachine.model.joint import Joint
from mimachine.model.table_columns import Choice

__all__ = ["HeldOut", "HeldOutColumn", "held_out_coverage"]


@dataclass(frozen=True)
class HeldOutColumn:
    """Imputation of the hidden entries of one column.

    Attributes:
        column: Index of the column.
        entries: Number of entries that were hidden.
        rmse: Root mean squared error of the means, in standard deviations of the column's seen
            values; a column's mean has 1. None for levels, or if the values are all equal.
        coverage: Share of the entries in their intervals, bounds included. None for levels.
        accuracy: Share of entries whose most probable level is right. None for a grid.
        expected: What the model expects of the coverage or the accuracy: the mean probability of
            the intervals, which is above the level where few values are probable; or that of the
            most probable levels.
        most_frequent: Share of entries of the level that is the most frequent of the column, the
            accuracy without a model. None for a grid.
    """

    column: int
    entries: int
    rmse: Estimate | None = None
    coverage: Estimate | None = None
    accuracy: Estimate | None = None
    expected: float = math.nan
    most_frequent: float | None = None


@dataclass(frozen=True)
class HeldOut:
    """Imputation of hidden entries.

    Attributes:
        columns: By column, of those with hidden entries.
        coverage: Share of all hidden entries of grids that are in their intervals; None without
            such entries. Its error takes entries of one row as dependent.
        expected: Mean probability of these intervals by the model; NaN without such entries.
        rmse: Root mean squared error in standard deviations of the column, over these entries.
        accuracy: Share of all hidden levels that are right; None without such entries.
        level: Probability of the intervals that was asked for.
        rows: Number of rows.
        flagged: Share of the rows with hidden entries whose weights are unreliable.
    """

    columns: tuple[HeldOutColumn, ...]
    coverage: Estimate | None
    expected: float
    rmse: Estimate | None
    accuracy: Estimate | None
    level: float
    rows: int
    flagged: float


def held_out_coverage(
    model: Joint,
    rows: Any,
    *,
    share: float = 0.1,
    most_rows: int = 1000,
    proposal: Conditional | None = None,
    draws: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    chunk_size: int | None = None,
) -> HeldOut:
    """Hide a tenth of the seen entries at random, fill them in, and measure the errors.

    Take rows that neither model nor proposal were trained on. Entries are hidden completely at
    random; real ones may be missing for reasons that their values depend on, and then the errors
    are larger. Entries that are missing stay so.

    Args:
        model: The model.
        rows: Shape (N, D); NaN is missing, inf is hidden.
        share: Share of the seen entries to hide, in (0, 1).
        most_rows: Largest number of rows to use, taken at random, since each takes as long as a row
            of `impute`. 1,000 rows give the coverage of a column of numbers up to 0.03.
        proposal: As for `impute`.
        draws: As for `impute`.
        level: As for `impute`.
        seed: Seed of the choices and the draws.
        chunk_size: As for `impute`.

    Raises:
        ValueError: If no seen entry is left to hide, and as for `impute`.
    """
    table = table_rows("rows", rows, model)
    share = real("share", share, 0, above=True, below=1)
    most_rows, seed = whole("most_rows", most_rows, 1), whole("seed", seed)
    generator = torch.Generator().manual_seed(derived_seed(seed, "held-out entries"))
    order = torch.randperm(len(table), generator=generator)
    chosen = table[order[:most_rows].sort().values.to(table.device)]
    hide = torch.rand(chosen.shape, generator=generator).to(table.device) < share
    seen = chosen.isfinite()
    hide &= seen
    if not hide.any() and seen.any():
        # Of few entries perhaps none was drawn.
        places = seen.nonzero()
        place = places[int(torch.randint(len(places), (), generator=generator))]
        hide[place[0], place[1]] = True
    if not hide.any():
        raise ValueError("rows must have seen entries to hide, got none; give more rows")
    # The rows without a hidden entry tell nothing, so they are not filled in.
    used = hide.any(1)
    chosen, hide = chosen[used], hide[used]
    imputed = impute(
        model, chosen.masked_fill(hide, math.inf), proposal=proposal, draws=draws, keep=0,
        level=level, seed=derived_seed(seed, "held-out imputation"), chunk_size=chunk_size,
    )  # fmt: skip
    return _compared(
        table, chosen, hide, imputed, [isinstance(each, Choice) for each in columns_of(model)]
    )


def _compared(
    table: Tensor, rows: Tensor, hide: Tensor, imputed: Imputed, is_choice: Sequence[bool]
) -> HeldOut:
    at = hide[imputed.row, imputed.column]
    truth = rows[imputed.row, imputed.column].double()
    deviation = _deviations(table)[imputed.column]
    error = (imputed.mean - truth) / torch.where(deviation > 0, deviation, math.nan)
    covered = ((truth >= imputed.lower) & (truth <= imputed.upper)).double()
    right = (imputed.rows[imputed.row, imputed.column].double() == truth).double()
    columns = []
    for index in imputed.column[at].unique().tolist():
        here = at & (imputed.column == index)
        if not is_choice[index]:
            columns.append(_of_grid(index, error[here], covered[here], imputed.inside[here]))
        else:
            of_column = imputed.column == index
            shares = imputed.probabilities[index][at[of_column]]
            seen = table[:, index][table[:, index].isfinite()]
            columns.append(_of_levels(index, truth[here], right[here], shares, seen))
    of_levels = torch.tensor(is_choice, device=rows.device)[imputed.column]
    grid, choice = at & ~of_levels, at & of_levels
    return HeldOut(
        columns=tuple(columns),
        coverage=_share(covered[grid], imputed.row[grid]),
        expected=float(imputed.inside[grid].mean()),
        rmse=_root(error[grid]),
        accuracy=_share(right[choice], imputed.row[choice]),
        level=imputed.level,
        rows=len(rows),
        flagged=float(imputed.flagged.double().mean()),
    )


def _of_grid(index: int, error: Tensor, covered: Tensor, inside: Tensor) -> HeldOutColumn:
    count = len(error)
    return HeldOutColumn(
        index,
        count,
        rmse=_root(error),
        coverage=Estimate.of_share(float(covered.mean()), count),
        expected=float(inside.mean()),
    )


def _of_levels(
    index: int, truth: Tensor, right: Tensor, shares: Tensor, seen: Tensor
) -> HeldOutColumn:
    count = len(truth)
    return HeldOutColumn(
        index,
        count,
        accuracy=Estimate.of_share(float(right.mean()), count),
        expected=float(shares.amax(1).mean()),
        most_frequent=float((truth == seen.double().mode().values).double().mean()),
    )


def _deviations(table: Tensor) -> Tensor:
    """Standard deviation of the seen values of each column, shape (D,)."""
    seen = table.isfinite()
    values = torch.where(seen, table, 0).double()
    count = seen.sum(0)
    mean = values.sum(0) / count
    return (torch.where(seen, values - mean, 0).square().sum(0) / count).sqrt()


def _root(error: Tensor) -> Estimate | None:
    """Root mean square of errors, with its standard error by the delta method."""
    error = error[~error.isnan()]
    if not len(error):
        return None
    square = Estimate.mean_of(error.square(), error.new_tensor(math.nan))
    root = math.sqrt(square.value)
    return Estimate(root, square.standard_error / (2 * root) if root else 0.0)


def _share(right: Tensor, row: Tensor) -> Estimate | None:
    """Share of right entries, of several in a row; rows are independent, their entries are not.

    The error is that of a ratio of means over rows; for shares near 0 and 1 at least that of as
    many rows with one entry each, which is not 0.
    """
    if not len(right):
        return None
    share = float(right.mean())
    _, which = row.unique(return_inverse=True)
    offsets = right.new_zeros(int(which.max()) + 1).index_add_(0, which, right - share)
    error = float(offsets.square().sum().sqrt()) / len(right)
    return Estimate(share, max(error, Estimate.of_share(share, len(right)).standard_error))
