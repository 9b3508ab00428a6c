"""Check that a stored schema is possible, and that its columns fit each other."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from mimachine._support.schema import shown

if TYPE_CHECKING:
    from mimachine.data.tables.schema import Column, LeftOut, Levels, Schema, Stepped

__all__ = ["LARGEST", "check"]

# Whole numbers up to here are exact in float32.
LARGEST = 2**24
_MOST_DECIMALS = 400

_UNIT = r"time_unit='(ms|us|ns)'"
_INTEGER = r"U?Int(8|16|32|64|128)"
_FLOAT = r"Float(16|32|64)|Decimal(\(precision=\d{1,2}, scale=\d{1,2}\))?"
_NUMBER = rf"{_INTEGER}|{_FLOAT}|Boolean|String"
_DAY = rf"Date|String|Datetime\({_UNIT}, time_zone=(None|'[\w/+:-]+')\)"
_TYPES = {
    **dict.fromkeys(("number", "whole", "count"), _NUMBER),
    **dict.fromkeys(("date", "datetime"), _DAY),
    "time": "Time|String",
    "duration": rf"Duration\({_UNIT}\)",
    **dict.fromkeys(("category", "ordered", "boolean"), rf"{_NUMBER}|Categorical|Enum"),
}
_TEXT = ("String", "Categorical", "Enum")


def check(schema: Schema) -> None:
    """Check a schema that was read from a file.

    Raises:
        ValueError: If an entry is impossible or contradicts another.
    """
    _check(bool(schema.modelled), "columns must have one that is not left out")
    for name, times in Counter(column.name for column in schema.columns).items():
        _check(times == 1, f"columns must have different names, got {shown(name)} {times} times")
    for column in schema.columns:
        place = f"column {shown(column.name)}: "
        # The classes are in the module that calls this one.
        if hasattr(column, "step"):
            _check_stepped(cast("Stepped", column), place)
        elif hasattr(column, "levels"):
            _check_levels(cast("Levels", column), place)
            _check_parent(cast("Levels", column), schema, place)
        else:
            _check_left_out(column, place)


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _check_type(column: Column, allowed: str, place: str) -> None:
    fits = re.fullmatch(allowed, column.type) is not None
    kind = getattr(column, "kind", "constant")
    _check(fits, f"{place}type {shown(column.type)} is none of a column of kind {kind}")


def _check_stepped(column: Stepped, place: str) -> None:
    _check_type(column, _TYPES[column.kind], place)
    is_temporal = column.kind in ("date", "datetime", "time")
    _check_format(column, is_temporal, place)
    _check(
        column.format is not None or not (is_temporal and column.type == "String"),
        f"{place}format must be given for dates and times of type String",
    )
    largest = abs(column.origin) + LARGEST * column.step
    _check(math.isfinite(largest), f"{place}step {column.step} is too large")
    _check(
        column.decimals is None or column.decimals <= _MOST_DECIMALS,
        f"{place}decimals must be {_MOST_DECIMALS} or less, got {column.decimals}",
    )
    for name in ("edges", "scores"):
        numbers = getattr(column, name)
        increases = all(a < b for a, b in itertools.pairwise(numbers))
        _check(increases and len(numbers) >= 2, f"{place}{name} must be increasing numbers")
    _check(
        max(map(abs, column.edges)) <= LARGEST + 0.5,
        f"{place}edges must be at most 2^24 steps from the origin",
    )
    _check(
        len(column.edges) == len(column.scores),
        f"{place}scores must be as many as edges, {len(column.edges)}, got {len(column.scores)}",
    )


def _check_format(column: Stepped | LeftOut, is_temporal: bool, place: str) -> None:
    _check(column.format is None or is_temporal, f"{place}format applies to dates and times only")
    _check(
        column.format is None or "%" in column.format,
        f"{place}format must be one of strptime such as %Y-%m-%d, got {shown(column.format)}",
    )


def _check_levels(column: Levels, place: str) -> None:
    _check_type(column, _TYPES[column.kind], place)
    levels, counts = column.levels, column.counts
    _check(bool(levels), f"{place}levels must be at least one value")
    _check(len(set(levels)) == len(levels), f"{place}levels must be different values")
    _check(
        len(counts) == len(levels),
        f"{place}counts must be as many as levels, {len(levels)}, got {len(counts)}",
    )
    _check(any(counts), f"{place}counts must not all be 0")
    _check(not column.other or len(levels) >= 2, f"{place}other needs more than one level")
    _check(
        not column.other or isinstance(levels[-1], str),
        f"{place}the last level must be text, such as 'other', as it stands for rare values",
    )
    own = levels[:-1] if column.other else levels
    for level in own:
        _check(_fits(level, column.type), f"{place}level {shown(level)} is not of {column.type}")


def _fits(value: object, stored: str) -> bool:
    if stored in _TEXT:
        return isinstance(value, str)
    if stored == "Boolean" or isinstance(value, bool):
        return stored == "Boolean" and isinstance(value, bool)
    return isinstance(value, int) or (isinstance(value, float) and "Int" not in stored)


def _check_parent(column: Levels, schema: Schema, place: str) -> None:
    if column.parent is None:
        _check(not column.table, f"{place}table needs a parent")
        return
    nodes = {c.name: c for c in schema.modelled if c.kind in ("category", "boolean")}
    parent = nodes.get(column.parent)
    _check(column.kind != "ordered", f"{place}an ordered column has no parent")
    _check(
        parent is not None,
        f"{place}parent must be a column of categories, got {shown(column.parent)}",
    )
    assert parent is not None
    _check_table(column.table, len(parent.levels), len(column.levels), place)
    seen, ancestor = {column.name}, parent
    while True:
        _check(ancestor.name not in seen, f"{place}its parents form a circle")
        seen.add(ancestor.name)
        if ancestor.parent is None or ancestor.parent not in nodes:
            return  # An unknown parent is reported with its column.
        ancestor = nodes[ancestor.parent]


def _check_table(
    table: Sequence[tuple[int, int, int]], rows: int, columns: int, place: str
) -> None:
    _check(bool(table), f"{place}table must be given with a parent")
    for first, second, count in table:
        _check(
            first < rows and second < columns and count >= 1,
            f"{place}table must be of [index below {rows}, index below {columns}, count of 1 or "
            f"more], got {[first, second, count]}",
        )
    pairs = {(first, second) for first, second, _ in table}
    _check(len(pairs) == len(table), f"{place}table must have each pair once")


def _check_left_out(column: LeftOut, place: str) -> None:
    if column.reason not in ("constant", "empty"):
        _check(column.value is None, f"{place}value applies to constant columns only")
        return
    temporal = rf"{_DAY.replace('String|', '')}|Time|{_TYPES['duration']}"
    _check_type(column, rf"{_TYPES['category']}|{temporal}|Null", place)
    if column.reason == "empty":
        _check(column.value is None, f"{place}value applies to constant columns only")
        return
    is_temporal = re.fullmatch(temporal, column.type) is not None
    _check_format(column, is_temporal, place)
    value = column.value
    whole = type(value) is int if is_temporal else _fits(value, column.type)
    _check(whole, f"{place}value {shown(value)} is not of type {column.type}")
