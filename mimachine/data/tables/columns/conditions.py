"""Values that generated rows are to have, such as city=Lyon, checked against the training table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support.messages import Option, OptionError, nearest, some
from mimachine.data.tables.frame import Frame
from mimachine.data.tables.rows import decode, encode
from mimachine.data.tables.schema import LeftOut, Levels, Schema, Stepped

__all__ = ["Conditions", "conditions"]


class Conditions(NamedTuple):
    """Values that all generated rows are to have.

    Attributes:
        row: The given values, shape (1, D), float32; infinite for the others.
        notes: Warnings about values that no training row had.
        contradictory: Whether a note says that values contradict each other.
    """

    row: NDArray[np.float32]
    notes: tuple[str, ...]
    contradictory: bool


def conditions(schema: Schema, given: Sequence[str]) -> Conditions:
    """Values such as city=Lyon as a row.

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
    notes = [_unseen(column, rows[0, k], found) for k, column in enumerate(schema.modelled)]
    against = _contradictions(rows[0], schema)
    row = np.where(np.isnan(rows), np.float32(np.inf), rows)
    return Conditions(row, (*filter(None, notes), *against), bool(against))


def _unseen(column: Stepped | Levels, place: float, found: dict[str, list[str]]) -> str | None:
    """A warning about a given value that no training row had."""
    if column.name not in found:
        return None
    pair = f"{column.name}={found[column.name][0]}"
    if isinstance(column, Levels):
        if not column.counts[int(place)]:
            return f"warning: no training row has {pair}"
        if column.other and int(place) == len(column.levels) - 1:
            level = column.levels[-1]
            if found[column.name][0] != level:
                return f"warning: {pair} is no level of the training rows; taken as {level!r}"
        return None
    low, high = math.ceil(column.edges[0]), math.floor(column.edges[-1])
    if low <= place <= high:
        return None
    ends = decode(np.array([[low], [high]], dtype=np.float32), Schema((column,)))[:, 0]
    return (
        f"warning: {pair} is outside the values of the training rows, {ends[0]} to {ends[1]}, so "
        "the rows are an extrapolation"
    )


def _contradictions(row: NDArray[np.float32], schema: Schema) -> list[str]:
    """Warnings about given values of columns that settle each other, which no training row had.

    Levels that a column may have are passed on from those that it settles, up to the root.
    """
    modelled = {column.name: k for k, column in enumerate(schema.modelled)}
    trees = [c for c in schema.modelled if isinstance(c, Levels)]
    parents = {c.name: c.parent for c in trees if c.parent is not None}
    warnings = []
    for root in (c for c in trees if c.parent is None):
        found = _possible(root, row, schema)
        if not found.any():
            inside = [c for c in trees if _root_of(c.name, parents) == root.name]
            pairs = [
                f"{c.name}={c.levels[int(row[modelled[c.name]])]}"
                for c in inside
                if np.isfinite(row[modelled[c.name]])
            ]
            warnings.append(f"warning: no training row has {' and '.join(pairs)} together")
    return warnings


def _root_of(name: str, parents: dict[str, str]) -> str:
    while name in parents:
        name = parents[name]
    return name


def _possible(column: Levels, row: NDArray[np.float32], schema: Schema) -> NDArray[np.bool_]:
    """Which levels a column had in training rows with the given values of all below it."""
    possible = np.ones(len(column.levels), dtype=np.bool_)
    for k, child in enumerate(schema.modelled):
        if child is column and np.isfinite(row[k]):
            possible = np.arange(len(possible)) == int(row[k])
    for child in schema.modelled:
        if isinstance(child, Levels) and child.parent == column.name:
            below = _possible(child, row, schema)
            seen = np.zeros((len(possible), len(below)), dtype=np.bool_)
            places = np.array(child.table, dtype=np.int64)
            seen[places[:, 0], places[:, 1]] = True
            # Where a level's children were always missing, anything is possible.
            possible &= (seen & below).any(1) | ~seen.any(1)
    return possible


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
