"""Columns of a table as a model sees them: values on a grid, or one of several levels.

A row has one number per column, see `TableDistribution`. This module does not import torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from mimachine._support.checks import instance, real, whole

__all__ = [
    "LOGISTICS",
    "Choice",
    "Grid",
    "TableColumn",
    "check_columns",
    "num_features",
    "num_outputs",
    "parents_first",
]

# Components of the mixture of logistics of a `Grid`.
LOGISTICS = 3


@dataclass(frozen=True)
class Grid:
    """Column of ordered values on a grid: numbers, counts, dates, ordered categories.

    A value is a whole number k of steps. The quantile map T takes steps to normal scores, in which
    the column of the training rows is about N(0, 1); it is linear between the edges, and goes on
    with the outermost slopes beyond them.

    Args:
        edges: Places in steps where T is known, usually borders k - 1/2 of bins; strictly
            increasing, two or more.
        scores: T at the edges, strictly increasing.
        low: Smallest value, whose bin takes all mass below; None if there is none.
        high: Largest value, whose bin takes all mass above; None if there is none.
        holes: Share of missing values in the training rows, in [0, 1]. With 0 the model has no
            holes here: generated rows always have a value.

    Raises:
        ValueError: If an argument is out of range or does not fit the others.

    Example:
        >>> counts = mm.Grid(edges=(-0.5, 0.5, 3.5), scores=(-2.0, 0.0, 2.0), low=0)
    """

    edges: tuple[float, ...]
    scores: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    holes: float = 0.0

    def __post_init__(self) -> None:
        for name in ("edges", "scores"):
            values = _numbers(name, getattr(self, name))
            if len(values) < 2 or any(a >= b for a, b in itertools.pairwise(values)):
                raise ValueError(
                    f"{name} must be two or more strictly increasing numbers, got {_few(values)}"
                )
            object.__setattr__(self, name, values)
        if len(self.edges) != len(self.scores):
            raise ValueError(
                f"scores must be one for each of {len(self.edges)} edges, got {len(self.scores)}"
            )
        for name in ("low", "high"):
            limit = getattr(self, name)
            if limit is not None and not float(real(name, limit)).is_integer():
                raise ValueError(f"{name} must be a whole number of steps or None, got {limit}")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"high must be above low = {self.low:g}, got {self.high:g}")
        _check_share(self.holes)


@dataclass(frozen=True)
class Choice:
    """Column of one of K levels without order; a value is the level's number from 0 to K - 1.

    Args:
        frequencies: Shares or counts of the K levels in the training rows, which start the model.
        holes: Share of missing values in the training rows, in [0, 1]; 0 as for `Grid`.
        parent: Index, among the columns of the table, of a `Choice` that settles this one, as a
            city settles its region. The levels are then drawn given the parent's.
        table: Counts of the training rows, (parent's level, level, count), those above 0; they
            start the model of the levels given the parent's.

    Raises:
        ValueError: If an argument is out of range or does not fit the others.

    Example:
        >>> city = mm.Choice(frequencies=(0.5, 0.3, 0.2))
        >>> region = mm.Choice((0.8, 0.2), parent=0, table=((0, 0, 50), (1, 0, 30), (2, 1, 20)))
    """

    frequencies: tuple[float, ...]
    holes: float = 0.0
    parent: int | None = None
    table: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        values = _numbers("frequencies", self.frequencies)
        if not values or min(values) < 0 or not sum(values) > 0:
            raise ValueError(
                "frequencies must be one or more numbers, 0 or more and not all 0, got "
                f"{_few(values)}"
            )
        object.__setattr__(self, "frequencies", values)
        _check_share(self.holes)
        if self.parent is not None:
            whole("parent", self.parent, 0)
        elif self.table:
            raise ValueError("table must be empty without a parent, got counts")
        for entry in self.table:
            if len(entry) != 3 or not 0 <= entry[1] < len(values) or entry[0] < 0 or entry[2] < 0:
                raise ValueError(
                    "table must have entries (parent's level, level, count) with levels below "
                    f"{len(values)}, got {entry}"
                )

    @property
    def levels(self) -> int:
        """Number K of levels."""
        return len(self.frequencies)


TableColumn = Grid | Choice


def check_columns(columns: Sequence[TableColumn]) -> tuple[TableColumn, ...]:
    """The columns of a table as a tuple, checked together.

    Raises:
        TypeError: If one is neither a `Grid` nor a `Choice`.
        ValueError: If there are none, or a parent is no other `Choice`, has fewer levels than the
            table of counts says, or is its own descendant.
    """
    instance("columns", columns, Sequence, "a sequence of Grid and Choice")
    if not columns:
        raise ValueError("columns must be one or more, got none")
    for index, column in enumerate(columns):
        instance(f"columns[{index}]", column, (Grid, Choice), "a Grid or a Choice")
        if isinstance(column, Choice) and column.parent is not None:
            _check_parent(columns, index, column, column.parent)
    parents_first(columns)
    return tuple(columns)


def _check_parent(columns: Sequence[TableColumn], index: int, column: Choice, parent: int) -> None:
    above = columns[parent] if parent < len(columns) else None
    if not isinstance(above, Choice) or parent == index:
        raise ValueError(
            f"columns[{index}].parent must be the index of another Choice, got {parent}"
        )
    largest = max((entry[0] for entry in column.table), default=0)
    if largest >= above.levels:
        raise ValueError(
            f"columns[{index}].table must have levels of its parent below {above.levels}, got "
            f"{largest}"
        )


def parents_first(columns: Sequence[TableColumn]) -> list[int]:
    """Indices of the columns that have a parent, each after its parent.

    Raises:
        ValueError: If a column is its own descendant.
    """
    depths = {}
    for index in range(len(columns)):
        above, depth = _parent(columns[index]), 0
        while above is not None:
            above, depth = _parent(columns[above]), depth + 1
            if depth > len(columns):
                raise ValueError(
                    f"columns[{index}].parent must not lead in a circle, got "
                    f"{_parent(columns[index])}"
                )
        depths[index] = depth
    return sorted((index for index, depth in depths.items() if depth), key=depths.__getitem__)


def _parent(column: TableColumn) -> int | None:
    return column.parent if isinstance(column, Choice) else None


def num_features(columns: Sequence[TableColumn]) -> int:
    """Number F of features that `TableFeatures` makes of a row.

    That is one per `Grid`, one per level of each `Choice`, and one flag per column.
    """
    each = (column.levels if isinstance(column, Choice) else 1 for column in columns)
    return len(columns) + sum(each)


def num_outputs(columns: Sequence[TableColumn]) -> int:
    """Number P of parameters of a `TableDistribution`, the outputs of a decoder's network.

    That is nine per `Grid` (weight, location and log-scale of three logistics), one per level of
    each `Choice`, and one per column with holes.
    """
    each = (column.levels if isinstance(column, Choice) else 3 * LOGISTICS for column in columns)
    return sum(each) + sum(column.holes > 0 for column in columns)


def _numbers(name: str, values: Sequence[float]) -> tuple[float, ...]:
    instance(name, values, Sequence, "a sequence of numbers")
    return tuple(real(name, value) for value in values)


def _few(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:5])
    return f"({shown}{', ...' if len(values) > 5 else ''})"


def _check_share(holes: float) -> None:
    if not (isinstance(holes, int | float) and math.isfinite(holes) and 0 <= holes <= 1):
        raise ValueError(f"holes must be a share in [0, 1], got {holes!r}")
