"""Apply a model of tables: draw rows, reconstruct them, and fill in missing values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support.checks import one_of, whole
from mimachine._support.messages import Option, OptionError, counted, nearest, some
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.data.tables.read import Frame
from mimachine.data.tables.rows import encode
from mimachine.data.tables.schema import LeftOut, Schema, Stepped
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.tables.conditional import sample_given
from mimachine.estimation.tables.held_out import HeldOut, held_out_coverage
from mimachine.estimation.tables.impute import Imputed, impute
from mimachine.estimation.tables.proposal import fit_proposal
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating
from mimachine.workflow.load_run import Trained

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "FilledTable",
    "SampledTable",
    "conditions",
    "fill_table",
    "prior_of",
    "reconstructed_table",
    "sample_table",
]

_AT_ONCE, _MOST_FITTED = 1024, 200_000


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
        drawn = sample_given(model, conditions(schema, given), count, seed=seed)
        notes = []
        if bool(drawn.flagged[0]):
            notes.append(
                f"warning: the given values are so rare that the rows come from about "
                f"{float(drawn.effective_sample_sizes[0]):.0f} different codes"
            )
        return SampledTable(trained.data.table(drawn.rows[0]), tuple(notes))
    with forked(derived_seed(whole("seed", seed), "sample")), evaluating(model):
        z = model.prior().sample((count,))
        rows = [model.decoder(part).sample(complete=complete) for part in z.split(_AT_ONCE)]
    return SampledTable(trained.data.table(torch.cat(rows)), ())


def conditions(schema: Schema, given: Sequence[str]) -> Tensor:
    """A row (1, D) with the given values, such as city=Lyon; the others are hidden.

    Raises:
        OptionError: If a condition has no name or value, names no column that is modelled, or its
            value cannot be one of the column.
    """
    import polars as pl

    found: dict[str, list[str]] = {}
    names = [column.name for column in schema.modelled]
    for entry in given:
        name, is_pair, value = entry.partition("=")
        if name in found:
            raise OptionError(Option("given", [entry]), f" gives {name!r} a second value")
        if not (is_pair and name):
            raise OptionError(Option("given", [entry]), " must be COLUMN=VALUE, such as city=Lyon")
        if name not in names:
            left = {column.name for column in schema.columns if isinstance(column, LeftOut)}
            why = "is not modelled" if name in left else "is not a column of the training table"
            raise OptionError(Option("given", [entry]), f": {name!r} {why}{nearest(name, names)}")
        found[name] = [value]
    frame = Frame(pl.DataFrame(found, schema=dict.fromkeys(found, pl.String)), "--given")
    try:
        rows, _ = encode(frame, schema)
    except ValueError as error:
        raise OptionError(Option("given", list(given)), f": {error}") from error
    _check_steps(rows[0], found, schema)
    for place, column in enumerate(schema.modelled):
        if column.name in found and np.isnan(rows[0, place]):
            known = "" if isinstance(column, Stepped) else f": {some(map(str, column.levels))}"
            raise OptionError(
                Option("given", [f"{column.name}={found[column.name][0]}"]),
                f" must be a value of a column of kind {column.kind}{known}",
            )
    return torch.from_numpy(np.where(np.isnan(rows), np.float32(np.inf), rows))


def _check_steps(row: NDArray[np.float32], found: dict[str, list[str]], schema: Schema) -> None:
    """Check that numbers are given that the columns can have, not only ones near to them."""
    for place, column in enumerate(schema.modelled):
        if not isinstance(column, Stepped) or column.kind not in ("number", "whole", "count"):
            continue
        if column.name not in found or not np.isfinite(row[place]):
            continue
        text = found[column.name][0]
        nearest_value = column.origin + column.step * float(row[place])
        distance = abs(_number(text, nearest_value) - nearest_value)
        # Decimals are rounded to those of the column.
        if distance > column.step * (0.5001 if column.kind == "number" else 1e-6):
            raise OptionError(
                Option("given", [f"{column.name}={text}"]),
                f" must be a value that the column can have; the nearest is {nearest_value:.10g}",
            )


def _number(text: str, otherwise: float) -> float:
    try:
        return float(text)
    except ValueError:
        return otherwise


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
) -> FilledTable:
    """Fill in the missing values of a table, and measure on the test rows how well.

    A proposal for the codes of rows known in part is fitted first, which takes some seconds.

    Args:
        trained: A run on a table.
        rows: Rows of the table to fill, shape (N, D), see `select`.
        table: The same rows as the file has them.
        cells: Cells of the file as text, to return values that are there as they are written.
        draws: Codes drawn for each row.
        level: Probability of the intervals.
        seed: Seed of all draws.

    Raises:
        ValueError: If the run is not on a table, or an argument is out of range.
    """
    schema, model, data = _schema(trained.data), trained.generator, trained.data
    proposal = fit_proposal(model, data.train[:_MOST_FITTED], data.val, seed=seed, progress=False)
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
    holes = _holes(table, schema, rows)
    filled = _filled(table, data.table(found.rows), schema, holes, cells)
    return FilledTable(filled, _entries(found, data, holes), held_out, tuple(notes))


def _holes(table: pl.DataFrame, schema: Schema, rows: Tensor) -> NDArray[np.bool_]:
    """Where values are filled in, shape (N, D).

    Levels that the training rows did not have are unknown to the model, but are not missing.
    """
    holes = (~rows.isfinite()).numpy()
    for place, column in enumerate(schema.modelled):
        if not isinstance(column, Stepped) and column.name in table.columns:
            holes[:, place] &= table[column.name].is_null().to_numpy()
    return holes


def _filled(
    table: pl.DataFrame,
    complete: pl.DataFrame,
    schema: Schema,
    holes: NDArray[np.bool_],
    cells: pl.DataFrame | None,
) -> pl.DataFrame:
    """The table with values of `complete` in its holes; what is there stays as it is."""
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
    import polars as pl

    rows = found.rows
    if entries is not None:
        rows = rows.clone()
        rows[found.row, found.column] = entries.to(rows.dtype)
    table = data.table(rows)
    return [table[name].cast(pl.String).to_list() for name in data.columns or ()]
