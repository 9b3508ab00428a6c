"""Places of a table's columns among the parameters of its distribution, with constants.

The constants are kept for each device in place of buffers, since those of a module are converted
with its weights and the borders of bins need float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mimachine.model.table_columns import (
    LOGISTICS,
    Choice,
    Grid,
    TableColumn,
    check_columns,
    num_outputs,
    parents_first,
)
from mimachine.model.tables.quantile_map import QuantileMap, precise

__all__ = ["Bucket", "Constants", "Edge", "Layout"]


@dataclass(frozen=True)
class Edge:
    """A column with a parent.

    Attributes:
        column: Its index.
        parent: Index of its parent.
        logits: Place of its logits among all logits.
        table: Place of its table among all tables, flattened.
        shape: Numbers of levels (of the parent, of the column).
    """

    column: int
    parent: int
    logits: slice
    table: slice
    shape: tuple[int, int]


@dataclass(frozen=True)
class Bucket:
    """Columns without parent of about equally many levels.

    Attributes:
        columns: Number C of columns.
        levels: Number K of levels of the largest.
        logits: Place of their logits among all logits.
        is_full: Whether all have K levels, so the logits are (C, K) numbers in order.
    """

    columns: int
    levels: int
    logits: slice
    is_full: bool


@dataclass(frozen=True)
class Constants:
    """Tensors of a layout on one device.

    Attributes:
        maps: Quantile maps of the grids; None without grids.
        grids: Indices of the columns that are grids, shape (G,).
        roots: Indices of the choices without parent, in the order of their logits, shape (C,).
        first: Place of the first logit of each of `roots`, shape (C,).
        last: Last level of each of `roots`, shape (C,).
        padded: For each bucket, places of its logits, shape (C, K), or one past all logits where a
            column has fewer levels; None if it is full.
        kept: Indices of the grids, the roots and the edges, in this order, shape (D,).
        order: Place of each column among `kept`, shape (D,).
        holed: Indices of the columns with holes, shape (H,).
        low, high: Smallest and largest value of each column, infinite for none, shape (D,).
        slot_columns, slot_levels: Column and level of every level of every choice, in order.
    """

    maps: QuantileMap | None
    grids: Tensor
    roots: Tensor
    first: Tensor
    last: Tensor
    padded: tuple[Tensor | None, ...]
    kept: Tensor
    order: Tensor
    holed: Tensor
    low: Tensor
    high: Tensor
    slot_columns: Tensor
    slot_levels: Tensor


class Layout:
    """Places of D columns: parameters are those of grids, logits of choices, logits of holes.

    Logits are in the order of the roots, those with most levels first, and then of the edges.

    Args:
        columns: The columns.

    Attributes:
        columns: The columns, as a tuple.
        num_outputs: Number P of parameters.
        grids, choices, roots, holed: Indices of the grids, of the choices, of those without parent
            and of the columns with holes.
        edges: The choices with a parent, each after its parent.
        buckets: The roots by size.
        kinds: Numbers of parameters of grids, choices and holes.
        table_size: Number of entries of all tables.
    """

    def __init__(self, columns: Sequence[TableColumn]) -> None:
        self.columns = check_columns(columns)
        self.num_outputs = num_outputs(columns)
        self.grids = [i for i, each in enumerate(columns) if isinstance(each, Grid)]
        self.choices = [i for i in range(len(columns)) if i not in self.grids]
        self.holed = [i for i, each in enumerate(columns) if each.holes > 0]
        below = parents_first(columns)
        roots = [i for i in range(len(columns)) if i not in {*self.grids, *below}]
        self.roots = sorted(roots, key=lambda i: -self.choice(i).levels)
        self._first: dict[int, int] = {}
        place = 0
        for index in (*self.roots, *below):
            self._first[index] = place
            place += self.choice(index).levels
        self.kinds = (3 * LOGISTICS * len(self.grids), place, len(self.holed))
        self.edges = self._edges(below)
        self.table_size = self.edges[-1].table.stop if self.edges else 0
        self.buckets = self._buckets()
        # On the CPU at once, since compiled code cannot make them.
        cpu = torch.device("cpu")
        self._constants = {cpu: self._made(cpu)}

    def choice(self, index: int) -> Choice:
        """A column that is a choice."""
        column = self.columns[index]
        assert isinstance(column, Choice)
        return column

    def logits_of(self, index: int) -> slice:
        """Place of a choice's logits among all logits."""
        first = self._first[index]
        return slice(first, first + self.choice(index).levels)

    def children(self, index: int) -> list[Edge]:
        """The columns whose parent a column is."""
        return [edge for edge in self.edges if edge.parent == index]

    def on(self, device: torch.device) -> Constants:
        """The tensors on a device."""
        if device not in self._constants:
            # Tensors made in inference mode could not be used in training later.
            with torch.inference_mode(False):
                self._constants[device] = self._made(device)
        return self._constants[device]

    def __deepcopy__(self, memo: object) -> Layout:
        """Itself, since it does not change."""
        return self

    def __getstate__(self) -> dict[str, object]:
        """What to pickle: tensors are made again on the device where they are needed."""
        return {**vars(self), "_constants": {}}

    def _edges(self, below: Sequence[int]) -> tuple[Edge, ...]:
        edges, start = [], 0
        for index in below:
            parent = self.choice(index).parent
            assert parent is not None
            shape = self.choice(parent).levels, self.choice(index).levels
            table = slice(start, start + shape[0] * shape[1])
            edges.append(Edge(index, parent, self.logits_of(index), table, shape))
            start = table.stop
        return tuple(edges)

    def _buckets(self) -> tuple[Bucket, ...]:
        """Roots in runs whose largest has less than twice the levels of the smallest.

        So at most about half of the padded logits are padding, and few operations serve all.
        """
        runs: list[list[int]] = []
        for index in self.roots:
            if runs and 2 * self.choice(index).levels > self.choice(runs[-1][0]).levels:
                runs[-1].append(index)
            else:
                runs.append([index])
        buckets = []
        for run in runs:
            most, least = (self.choice(run[place]).levels for place in (0, -1))
            place = slice(self.logits_of(run[0]).start, self.logits_of(run[-1]).stop)
            buckets.append(Bucket(len(run), most, place, most == least))
        return tuple(buckets)

    def _made(self, device: torch.device) -> Constants:
        def whole(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        grids = [each for each in self.columns if isinstance(each, Grid)]
        limits = torch.tensor([_limits(each) for each in self.columns], dtype=precise(device))
        slots = [(i, k) for i in self.choices for k in range(self.choice(i).levels)]
        kept = [*self.grids, *self.roots, *(edge.column for edge in self.edges)]
        return Constants(
            maps=QuantileMap(grids, device) if grids else None,
            grids=whole(self.grids),
            roots=whole(self.roots),
            first=whole([self.logits_of(index).start for index in self.roots]),
            last=whole([self.choice(index).levels - 1 for index in self.roots]),
            padded=tuple(self._padded(bucket, device) for bucket in self.buckets),
            kept=whole(kept),
            order=whole([kept.index(index) for index in range(len(self.columns))]),
            holed=whole(self.holed),
            low=limits[:, 0].to(device),
            high=limits[:, 1].to(device),
            slot_columns=whole([index for index, _ in slots]),
            slot_levels=whole([level for _, level in slots]),
        )

    def _padded(self, bucket: Bucket, device: torch.device) -> Tensor | None:
        if bucket.is_full:
            return None
        past = self.kinds[1]
        rows = []
        for index in self.roots:
            place = self.logits_of(index)
            if bucket.logits.start <= place.start < bucket.logits.stop:
                places = list(range(place.start, place.stop))
                rows.append(places + [past] * (bucket.levels - len(places)))
        return torch.tensor(rows, device=device)


def _limits(column: TableColumn) -> tuple[float, float]:
    if isinstance(column, Choice):
        return 0.0, column.levels - 1.0
    low = -math.inf if column.low is None else column.low
    return low, math.inf if column.high is None else column.high
