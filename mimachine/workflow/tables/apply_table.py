"""Apply a model of tables: draw rows, reconstruct them, and fill in missing values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support.checks import one_of, whole
from mimachine._support.messages import counted, some
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.data.tables.columns.cells import text_of
from mimachine.data.tables.columns.conditions import Conditions, conditions
from mimachine.data.tables.schema import LeftOut, Schema, Stepped
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.tables.conditional import sample_given
from mimachine.estimation.tables.held_out import HeldOut, held_out_coverage
from mimachine.estimation.tables.impute import Imputed, impute
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating
from mimachine.workflow.load_run import Trained
from mimachine.workflow.tables.proposal import table_proposal

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "FilledTable",
    "SampledTable",
    "fill_table",
    "filled_in",
    "holes_of",
    "prior_of",
    "reconstructed_table",
    "sample_table",
]

_AT_ONCE = 1024
# From here on, given values are said to contradict each other.
_MUCH_RARER = 1000.0


class SampledTable(NamedTuple):
    """Rows that a model of tables generated.

    Attributes:
        table: The rows, with the columns and types of the training table.
        notes: What to know about them.
    """

    table: pl.DataFrame
    notes: tuple[str, ...]


def prior_of(trained: Trained, prior: Literal["fitted", "model"]) -> Joint:
    """The model of a run with the prior fitted to its codes, or with that of training."""
    one_of("prior", prior, ("fitted", "model"))
    return trained.generator if prior == "fitted" else trained.model


@torch.no_grad()
def sample_table(
    trained: Trained,
    count: int,
    *,
    prior: Literal["fitted", "model"] = "fitted",
    given: Sequence[str] = (),
    complete: bool = False,
    seed: int = 0,
) -> SampledTable:
    """Draw rows of a table, optionally given some values.

    Args:
        trained: A run on a table.
        count: Number of rows.
        prior: Where latents are drawn from, see `Trained.generator`.
        given: Conditions such as city=Lyon; all rows have these values.
        complete: Whether all values are drawn; otherwise values are missing as often as in the
            training table. Rows with conditions are complete.
        seed: Seed of the draws; the global generators keep their state.

    Raises:
        ValueError: If the run is not on a table, a condition names no column, or its value cannot
            be one of the column.
    """
    count, schema = whole("count", count, 1), _schema(trained.data)
    model = prior_of(trained, prior)
    if given:
        return _sampled_given(trained, model, conditions(schema, given), count, seed)
    with forked(derived_seed(whole("seed", seed), "sample")), evaluating(model):
        z = model.prior().sample((count,))
        rows = [model.decoder(part).sample(complete=complete) for part in z.split(_AT_ONCE)]
    return SampledTable(trained.data.table(torch.cat(rows)), ())


def _sampled_given(
    trained: Trained, model: Joint, given: Conditions, count: int, seed: int
) -> SampledTable:
    row = torch.from_numpy(given.row)
    drawn = sample_given(model, row, count, seed=seed)
    notes = list(given.notes)
    rarer = 1.0 if given.contradictory else _rarer(model, row, seed)
    if rarer > _MUCH_RARER:
        times = "far" if rarer > 1e9 else f"{float(f'{rarer:.1g}'):,.0f} times"
        notes.append(
            f"warning: the given values hardly occur together: {times} less often than if they "
            "were independent of each other, so the rows are unlike the training rows"
        )
    if bool(drawn.flagged[0]):
        codes = max(1, round(float(drawn.effective_sample_sizes[0])))
        notes.append(
            f"warning: the given values are so rare that the {counted(count, 'row')} come from "
            f"about {counted(codes, 'different code')} of {drawn.num_draws:,}"
        )
    return SampledTable(trained.data.table(drawn.rows[0]), tuple(notes))


def _rarer(model: Joint, row: Tensor, seed: int) -> float:
    """How many times rarer given values are together than if each were independent of the others.

    Args:
        model: The model.
        row: The values, shape (1, D); inf for others.
        seed: Seed of the draws.
    """
    places = row[0].isfinite().nonzero().flatten()
    if len(places) < 2:
        return 1.0
    alone = torch.full((len(places), row.shape[1]), torch.inf)
    alone[torch.arange(len(places)), places] = row[0, places]
    found = sample_given(model, torch.cat([row, alone]), 1, seed=seed).log_probabilities
    return float((found[1:].sum() - found[0]).exp())


def _schema(data: Dataset) -> Schema:
    if data.schema is None:
        raise ValueError(
            f"the run must be on a table whose columns have kinds, and {data.name} is not one"
        )
    return data.schema


@torch.no_grad()
def reconstructed_table(trained: Trained, rows: Tensor) -> pl.DataFrame:
    """Rows decoded from their mean codes: medians of numbers and most probable levels, complete."""
    model, schema = trained.model, _schema(trained.data)
    assert schema.modelled
    with evaluating(model):
        mean = codes(model, rows).mean
        parts = [model.decoder(z).point() for z in mean.split(_AT_ONCE)]
    return trained.data.table(torch.cat(parts))


class FilledTable(NamedTuple):
    """A table whose missing values are filled in.

    Attributes:
        table: The table with all its columns; values that were there are unchanged.
        entries: One row for each value that was filled in: its row, counted from 1, its column,
            the value, the ends of the 90 % interval of numbers or the probability of the level, the
            effective number of draws, and whether it is unreliable.
        held_out: Errors and coverage at known values that were hidden, of the test rows.
        notes: What to know about them.
    """

    table: pl.DataFrame
    entries: pl.DataFrame
    held_out: HeldOut
    notes: tuple[str, ...]


def fill_table(
    trained: Trained,
    rows: Tensor,
    table: pl.DataFrame,
    *,
    cells: pl.DataFrame | None = None,
    draws: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    refit: bool = False,
) -> FilledTable:
    """Fill in the missing values of a table, and measure on the test rows how well.

    A proposal for the codes of rows known in part is fitted first, which takes some seconds. It is
    kept in the run, as table_proposal.safetensors.

    Args:
        trained: A run on a table.
        rows: Rows of the table to fill, shape (N, D), see `select`.
        table: The same rows as the file has them.
        cells: Cells of the file as text, to return values that are there as they are written.
        draws: Codes drawn for each row.
        level: Probability of the intervals.
        seed: Seed of all draws.
        refit: Whether a new proposal is fitted although the run has one.

    Raises:
        ValueError: If the run is not on a table, or an argument is out of range.
    """
    schema, model, data = _schema(trained.data), trained.generator, trained.data
    proposal = table_proposal(trained, refit)
    found = impute(model, rows, proposal=proposal, draws=draws, level=level, seed=seed)
    held_out = held_out_coverage(
        model, data.test, proposal=proposal, draws=draws, level=level, seed=seed
    )
    flagged = int(found.flagged.sum())
    notes = []
    if flagged:
        notes.append(
            f"warning: {counted(flagged, 'row')} with few effective draws; their intervals may be "
            "too narrow"
        )
    left = [c.name for c in schema.columns if isinstance(c, LeftOut) and c.name in table.columns]
    skipped = [name for name in left if table[name].null_count()]
    if skipped:
        notes.append(f"not modelled, so not filled in: {some(map(repr, skipped))}")
    holes = holes_of(table, schema, rows)
    filled = filled_in(table, data.table(found.rows), schema, holes, cells)
    return FilledTable(filled, _entries(found, data, holes), held_out, tuple(notes))


def holes_of(table: pl.DataFrame, schema: Schema, rows: Tensor) -> NDArray[np.bool_]:
    """Where values are filled in, shape (N, D).

    Levels that the training rows did not have are unknown to the model, but are not missing.
    """
    holes = (~rows.isfinite()).numpy()
    for place, column in enumerate(schema.modelled):
        if not isinstance(column, Stepped) and column.name in table.columns:
            holes[:, place] &= table[column.name].is_null().to_numpy()
    return holes


def filled_in(
    table: pl.DataFrame,
    complete: pl.DataFrame,
    schema: Schema,
    holes: NDArray[np.bool_],
    cells: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The table with values of `complete` in its holes; what is there stays as it is.

    Args:
        table: The table.
        complete: The modelled columns with all values.
        schema: Their schema.
        holes: Where values are filled in, shape (N, D), see `holes_of`.
        cells: Cells of the file as text, to return values that are there as they are written.
    """
    import polars as pl

    if cells is not None:
        table = table.with_columns(
            [each for each in cells.get_columns() if _is_plain(each, table[each.name])]
        )
    columns = []
    for place, column in enumerate(schema.modelled):
        values = complete[column.name]
        if column.name not in table.columns:
            columns.append(values)
            continue
        own, hole = table[column.name], pl.Series(holes[:, place])
        if own.dtype == pl.String:
            values = values.cast(pl.String)
        elif values.dtype == pl.String and own.dtype.is_temporal():
            values = _in_type(values, own.dtype, getattr(column, "format", None))
        elif not (own.dtype.is_numeric() and values.dtype.is_numeric()):
            values = values.cast(own.dtype)
        both = pl.DataFrame({"own": own, "value": values, "hole": hole})
        # Of whole numbers and decimals the type has room for both.
        taken = pl.when(pl.col("hole")).then(pl.col("value")).otherwise(pl.col("own"))
        columns.append(both.select(taken.alias(column.name))[column.name])
    return table.with_columns(columns)


def _is_plain(cells: pl.Series, column: pl.Series) -> bool:
    """Whether values of a column are written as this library writes others beside them."""
    import polars as pl

    if column.dtype != pl.Boolean:
        return True
    return bool(cells.drop_nulls().is_in(["true", "false"]).all())


def _in_type(texts: pl.Series, dtype: Any, format: str | None) -> pl.Series:
    """Dates and times from text."""
    return texts.str.strptime(dtype, format)


def _entries(found: Imputed, data: Dataset, holes: NDArray[np.bool_]) -> pl.DataFrame:
    import polars as pl

    names = data.columns or ()
    place, column = found.row.numpy(), found.column.numpy()
    values: list[Any] = [None] * len(place)
    low: list[Any] = [None] * len(place)
    high: list[Any] = [None] * len(place)
    probability: list[Any] = [None] * len(place)
    tables = [_as_text(data, found, each) for each in (None, found.lower, found.upper)]
    of_levels = {k: iter(p.max(1).values.tolist()) for k, p in found.probabilities.items()}
    for k, (row, index) in enumerate(zip(place.tolist(), column.tolist(), strict=True)):
        values[k] = tables[0][index][row]
        if index in of_levels:
            probability[k] = next(of_levels[index])
        else:
            low[k], high[k] = tables[1][index][row], tables[2][index][row]
    effective = found.effective_sample_sizes.numpy()[place]
    table = pl.DataFrame(
        {
            "row": place + 1,
            "column": [names[k] for k in column.tolist()],
            "value": pl.Series(values, dtype=pl.String),
            "lower": pl.Series(low, dtype=pl.String),
            "upper": pl.Series(high, dtype=pl.String),
            "probability": pl.Series(probability, dtype=pl.Float64),
            "effective_draws": np.round(effective, 1),
            "unreliable": found.flagged.numpy()[place],
        }
    )
    return table.filter(holes[place, column])


def _as_text(data: Dataset, found: Imputed, entries: Tensor | None) -> list[list[str | None]]:
    """All columns as text, with these values for the entries that were filled in."""
    rows = found.rows
    if entries is not None:
        rows = rows.clone()
        rows[found.row, found.column] = entries.to(rows.dtype)
    table = data.table(rows)
    return [text_of(table[name]).to_list() for name in data.columns or ()]
