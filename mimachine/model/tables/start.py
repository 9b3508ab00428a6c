"""Parameters by which the distribution of a table's rows starts: the shares of each column."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mimachine.model.table_columns import Choice
from mimachine.model.tables.layout import Edge, Layout
from mimachine.model.tables.logistics import start_of_logistics

__all__ = ["start_of_parameters", "start_of_tables"]

# Rows that each level of a parent gets in addition, spread by the levels' shares. A parent that
# settles its child leaves few contradictions, of which generated rows would show each.
_ADDED_ROWS = 0.1
# Smallest share of a level or a hole, whose logarithm must be finite.
_SMALLEST = 1e-6


def start_of_parameters(layout: Layout, floor: float) -> Tensor:
    """Parameters, shape (P,), of a distribution with the shares of the training rows.

    The logits of a column with a parent are 0, since its table holds its shares.
    """
    values = start_of_logistics(len(layout.grids), floor)
    for index in layout.roots:
        values += [math.log(share) for share in _shares(layout.choice(index))]
    for edge in layout.edges:
        values += [0.0] * edge.shape[1]
    for index in layout.holed:
        share = min(max(layout.columns[index].holes, _SMALLEST), 1 - _SMALLEST)
        values.append(math.log(share / (1 - share)))
    return torch.tensor(values, dtype=torch.get_default_dtype())


def start_of_tables(layout: Layout) -> Tensor:
    """Logarithms of the shares of levels given their parents' levels, of all edges, flattened."""
    tables = [_table(layout, edge).flatten() for edge in layout.edges]
    return torch.cat(tables) if tables else torch.zeros(0)


def _table(layout: Layout, edge: Edge) -> Tensor:
    column = layout.choice(edge.column)
    counts = torch.zeros(edge.shape, dtype=torch.float64)
    for parent, level, count in column.table:
        counts[parent, level] += count
    counts += _ADDED_ROWS * torch.tensor(_shares(column), dtype=torch.float64)
    return (counts / counts.sum(1, keepdim=True)).log().to(torch.get_default_dtype())


def _shares(column: Choice) -> list[float]:
    total = sum(column.frequencies)
    shares = [max(each / total, _SMALLEST) for each in column.frequencies]
    return [each / sum(shares) for each in shares]
