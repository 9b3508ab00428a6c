"""Relations between the columns of a schema: parents, prices that a category settles, sums."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimachine.data.tables.columns.arithmetic import equations
from mimachine.data.tables.columns.cells import cells
from mimachine.data.tables.columns.determined import contradictions, settled
from mimachine.data.tables.columns.levels import levels_of
from mimachine.data.tables.columns.remarks import Remarks
from mimachine.data.tables.rows import encode
from mimachine.data.tables.schema import Column, Levels, Schema, Stepped

if TYPE_CHECKING:
    from mimachine.data.tables.read import Frame

__all__ = ["relate"]

_NUMBERS = ("number", "whole", "count")
_MOST_CODES, _ROWS_OF_SUMS = 50, 4000


def relate(
    schema: Schema, frame: Frame, train: NDArray[Any], remarks: Remarks, fixed: Collection[str]
) -> Schema:
    """The schema with the columns that settle others; says which numbers others give.

    Args:
        schema: Schema without relations.
        frame: The table.
        train: Indices of the training rows.
        remarks: Collects what is said.
        fixed: Names of columns whose kind stays.
    """
    schema = _with_codes(schema, frame, train, remarks, fixed)
    schema = _with_parents(schema, frame, train, remarks)
    _say_equations(schema, frame, train, remarks)
    return schema


def _nodes(schema: Schema) -> dict[int, Levels]:
    """Columns that can settle others, by their place in a row."""
    return {
        k: column
        for k, column in enumerate(schema.modelled)
        if isinstance(column, Levels) and column.kind != "ordered"
    }


def _with_codes(
    schema: Schema, frame: Frame, train: NDArray[Any], remarks: Remarks, fixed: Collection[str]
) -> Schema:
    """The schema with numbers as categories that a category settles, such as the price of a plan.

    Otherwise generated rows would have pairs that contradict each other.
    """
    nodes = _nodes(schema)
    rows = encode(frame, schema)[0][train]
    changed: dict[str, Column] = {}
    for k, column in enumerate(schema.modelled):
        if column.kind not in _NUMBERS or column.name in fixed:
            continue
        codes, number = _codes(rows[:, k])
        for j, node in nodes.items():
            shape = len(node.levels), number
            if number <= shape[0] and _settles(rows[:, j], codes, shape, node.other):
                series = frame.data[column.name].gather(train)
                changed[column.name] = levels_of(series, "category")
                remarks.is_settled(column.name, number)
                break
    return _changed(schema, changed)


def _settles(
    parent: NDArray[Any], codes: NDArray[Any], shape: tuple[int, int], is_pooled: bool
) -> bool:
    return contradictions(parent, codes, shape, is_pooled) is not None


def _codes(steps: NDArray[Any]) -> tuple[NDArray[np.float64], int]:
    """Indices of the different values of a column, and their number; too many are not counted."""
    seen = np.isfinite(steps)
    few = np.unique(steps[seen][:_ROWS_OF_SUMS])
    if not 2 <= len(few) <= _MOST_CODES:
        return steps, len(steps) + 1
    distinct, places = np.unique(steps[seen], return_inverse=True)
    codes = np.full(len(steps), np.nan)
    codes[seen] = places
    return codes, len(distinct)


def _changed(schema: Schema, changed: dict[str, Column]) -> Schema:
    return Schema(tuple(changed.get(column.name, column) for column in schema.columns))


def _with_parents(schema: Schema, frame: Frame, train: NDArray[Any], remarks: Remarks) -> Schema:
    """The schema with the columns that settle others as their parents."""
    nodes = _nodes(schema)
    rows = encode(frame, schema)[0][train]
    found = settled(
        {k: rows[:, k] for k in nodes},
        {k: len(column.levels) for k, column in nodes.items()},
        [k for k, column in nodes.items() if column.other],
    )
    changed: dict[str, Column] = {}
    for k, (parent, table, wrong) in found.items():
        name = nodes[k].name
        changed[name] = replace(nodes[k], parent=nodes[parent].name, table=table)
        remarks.parent(name, nodes[parent].name, wrong)
    return _changed(schema, changed)


def _say_equations(schema: Schema, frame: Frame, train: NDArray[Any], remarks: Remarks) -> None:
    """Say which numbers are sums, differences or multiples of others."""
    columns = [
        column
        for column in schema.modelled
        if isinstance(column, Stepped) and column.kind in _NUMBERS
    ]
    some = train[:: max(1, len(train) // _ROWS_OF_SUMS)]
    rows = np.full((len(some), len(columns)), np.nan)
    for k, column in enumerate(columns):
        found = cells(frame.data[column.name].gather(some), column.kind)
        rows[found.present, k] = found.values[found.present]
    names = [column.name for column in columns]
    for equation in equations(rows, np.array([column.step for column in columns])):
        remarks.equation(equation.text(names), math.floor(1000 * equation.holds) / 10)
