"""Values, kinds and decisions of a table in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mimachine._support.messages import counted, visible
from mimachine.data.dataset import Dataset
from mimachine.data.tables.rows import decode
from mimachine.data.tables.schema import Column, LeftOut, Levels, Schema, Stepped
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.section import Cell, Listing, Section
from mimachine.reporting.style import short

__all__ = [
    "brief",
    "contradictions",
    "decisions",
    "percent",
    "shown_level",
    "shown_steps",
    "shown_value",
]

Array = np.ndarray[Any, Any]
_LETTERS, _MOST_LEVELS, _MOST_ROWS = 40, 5, 100
_REASONS = {
    "identifier": "a name or number for each row, which tells nothing about others",
    "constant": "always the same value; generated rows have it too",
    "text": "free text",
    "empty": "no values; generated rows have the empty column too",
    "dropped": "left out on request",
    "unsupported": "values of this type are not modelled",
}


def brief(text: str) -> str:
    """A name or value on one line of limited length, with hidden characters escaped."""
    return short(visible(" ".join(text.split())), _LETTERS)


def percent(share: float) -> str:
    """A share in words, such as 12% or 0.4%; "none" if it is not above 0."""
    if np.isnan(share):
        return "unknown"
    if share <= 0.0005:
        return "none" if share <= 0 else "under 0.1%"
    return f"{share:.1%}" if share < 0.0095 else f"{share:.0%}"


def shown_value(value: Any) -> str:
    """A cell of a table in words."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.10g}"
    return brief(str(value)) if str(value).strip() else "(empty)"


def shown_level(column: Levels, level: int) -> str:
    """A level in words; that of all rare ones as such."""
    if column.other and level == len(column.levels) - 1:
        return "rare levels"
    return shown_value(column.levels[level])


def shown_steps(steps: Array, column: Stepped) -> list[str]:
    """Steps (n,) as values of the file."""
    table = decode(steps[:, None], Schema((column,)))
    return [shown_value(value) for value in table[:, 0].to_list()]


def contradictions(outcome: Outcome) -> float | None:
    """Share of generated rows with a pair of levels that no training row has; None if unknown."""
    for name in ("fitted_prior_generated_contradictions", "generated_contradictions"):
        if outcome.report.has(name):
            return float(outcome.report[name].value)
    return None


def decisions(outcomes: Sequence[Outcome], data: Dataset) -> Section:
    """What was decided about the columns, and how well generated rows keep to it."""
    assert data.schema is not None
    every = data.schema.columns
    rows = [_decision(column) for column in every[:_MOST_ROWS]]
    texts = [
        "How each column is taken. To take one in another way, train again with an option such as "
        "--columns NAME=category; the kinds are number, whole, count, category, ordered, boolean, "
        "date, datetime, time, duration, identifier and drop."
    ]
    if len(every) > _MOST_ROWS:
        texts.append(f"{len(every) - _MOST_ROWS:,} more columns are not listed.")
    found = {outcome.name: contradictions(outcome) for outcome in outcomes}
    shares = [
        percent(share) + (f" of {name}" if len(found) > 1 else "")
        for name, share in found.items()
        if share is not None
    ]
    if shares:
        texts.append(
            "Generated rows with a pair of levels, one settled by the other, that no training row "
            f"has: {', '.join(shares)}."
        )
    caption = "Columns of the table in its order"
    header = ["Column", "Kind", "Values", "Missing", "Settled by"]
    return Section(
        "kinds", "Kinds of columns", tuple(texts), [], listings=(Listing(caption, header, rows),)
    )


def _decision(column: Column) -> list[Cell]:
    name = Cell(brief(column.name))
    if isinstance(column, LeftOut):
        reason = _REASONS[column.reason]
        kind = f"left out: {column.reason}"
        return [name, Cell(kind), Cell(reason), Cell("–"), Cell("–")]
    what = _of_steps(column) if isinstance(column, Stepped) else _of_levels(column)
    above = column.parent if isinstance(column, Levels) else None
    return [
        name,
        Cell(column.kind),
        Cell(what),
        Cell(percent(column.missing)),
        Cell("–" if above is None else brief(above)),
    ]


def _of_steps(column: Stepped) -> str:
    low, high = shown_steps(np.ceil([column.edges[0], column.edges[-1] - 1]), column)
    return f"{low} to {high} in steps of {_step(column)}"


def _step(column: Stepped) -> str:
    if column.kind in ("number", "whole", "count"):
        return f"{column.step:.6g}"
    if column.kind == "date":
        return counted(round(column.step), "day")
    seconds = column.step / 1e6
    for size, unit in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            return counted(round(seconds / size), unit)
    return f"{seconds:g} seconds"


def _of_levels(column: Levels) -> str:
    count = len(column.levels)
    own = range(count - column.other)
    order = own if column.kind == "ordered" else sorted(own, key=lambda k: -column.counts[k])
    first = ", ".join(brief(shown_value(column.levels[k])) for k in order[:_MOST_LEVELS])
    more = f" and {len(own) - _MOST_LEVELS} more" if len(own) > _MOST_LEVELS else ""
    text = f"{counted(len(own), 'level')}: {first}{more}"
    if column.other:
        text += f"; rare ones are taken together ({counted(column.counts[-1], 'row')})"
    return text
