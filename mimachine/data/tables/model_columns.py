"""Columns of a schema as a model sees them."""

from __future__ import annotations

import numpy as np

from mimachine.data.tables.columns.quantile_map import map_of_counts
from mimachine.data.tables.schema import Levels, Schema, Stepped
from mimachine.model.table_columns import Choice, Grid, TableColumn

__all__ = ["model_columns"]


def model_columns(schema: Schema) -> tuple[TableColumn, ...]:
    """The columns that are modelled, for `TableFeatures` and `TableDecoder`."""
    places = {column.name: place for place, column in enumerate(schema.modelled)}
    return tuple(_of(column, places) for column in schema.modelled)


def _of(column: Stepped | Levels, places: dict[str, int]) -> TableColumn:
    if isinstance(column, Stepped):
        # Counts have no values below 0.
        low = 0.0 if column.kind == "count" else None
        return Grid(column.edges, column.scores, low=low, holes=column.missing)
    if column.kind == "ordered" and len(column.levels) > 1:
        return _ordered(column)
    # A level that only later rows may have is as frequent as one that was seen half a time.
    counts = tuple(max(0.5, float(count)) for count in column.counts)
    parent = None if column.parent is None else places[column.parent]
    return Choice(counts, holes=column.missing, parent=parent, table=column.table)


def _ordered(column: Levels) -> Grid:
    """Ordered levels are a grid with an end on both sides: the cumulative shares are modelled."""
    counts = np.maximum(0.5, np.array(column.counts, dtype=np.float64))
    edges, scores = map_of_counts(np.arange(len(counts)), counts)
    last = float(len(counts) - 1)
    return Grid(
        tuple(edges.tolist()), tuple(scores.tolist()), low=0.0, high=last, holes=column.missing
    )
