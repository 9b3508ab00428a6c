"""What is said about the decisions of a schema: one sentence for each group of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mimachine._support.messages import some
from mimachine._support.schema import shown
from mimachine.data.tables.columns.cells import Cells
from mimachine.data.tables.columns.kinds import Found
from mimachine.data.tables.columns.overrides import Place
from mimachine.data.tables.columns.steps import Grid
from mimachine.data.tables.schema import LeftOut, Levels

if TYPE_CHECKING:
    import polars as pl

    from mimachine.data.tables.read import Frame

__all__ = ["Remarks"]

# Beginnings of the sentences, in their order; each is followed by columns.
_SENTENCES = {
    "category": "taken as categories: {}",
    "codes": "numbers taken as categories, without order: {}",
    "settled": "numbers taken as categories, since a category settles them: {}",
    "ordered": "taken as ordered levels: {}",
    "count": "taken as counts, never below 0: {}",
    "pooled": "rare levels are pooled: {}",
    "mixed": "cells that are not numbers count as missing: {}",
    "infinite": "infinite values count as missing: {}",
    "clipped": "values so far out that float32 cannot count their steps are moved inwards: {}",
    "coarsened": "values are rounded, as float32 cannot count steps so small: {}",
    "identifier": "left out as identifiers: {}",
    "text": "left out as text of too many kinds: {}",
    "constant": "left out as constant: {}",
    "empty": "left out as empty: {}",
    "unsupported": "left out, as such values cannot be modelled: {}",
    "parent": "settled by another column: {}",
    "equation": "given by other columns: {}; generated rows satisfy this only roughly, so leave "
    "such columns out and compute them",
    "time": "rows are in the order of {}, but are taken as exchangeable, so the order of a time "
    "series is not modelled",
}
_LEFT_OUT = ("identifier", "text", "constant", "empty", "unsupported", "dropped")
_DURATIONS = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


class Remarks:
    """Collects what is said about columns."""

    def __init__(self) -> None:
        self._said: dict[str, list[str]] = {}

    def add(self, topic: str, text: str) -> None:
        """Say something about a column under a topic."""
        self._said.setdefault(topic, []).append(text)

    def sentences(self) -> tuple[str, ...]:
        """One sentence for each topic."""
        return tuple(
            sentence.format(some(self._said[topic]))
            for topic, sentence in _SENTENCES.items()
            if topic in self._said
        )

    def left_out(self) -> str:
        """Why columns are left out."""
        parts = (f"{text} ({topic})" for topic in _LEFT_OUT for text in self._said.get(topic, ()))
        return some(parts)

    def guessed(self, name: str, found: Found) -> None:
        """Say what kind a column seems to be, where a user may know better."""
        if found.kind == "count":
            self.add("count", name)

    def is_settled(self, name: str, number: int) -> None:
        """Say that numbers are categories, since a category settles them, and so no counts."""
        counts = [other for other in self._said.pop("count", ()) if other != name]
        if counts:
            self._said["count"] = counts
        self.add("settled", f"{name} ({number})")

    def levels(self, column: Levels) -> None:
        """Say what levels a column has."""
        if column.kind == "boolean":
            return
        number = f"{column.name} ({len(column.levels)})"
        if column.kind == "ordered":
            order = " < ".join(map(str, column.levels[:5])) + (" ..." if column.levels[5:] else "")
            self.add("ordered", f"{column.name} ({order})")
        elif isinstance(column.levels[0], str):
            self.add("category", number)
        else:
            self.add("codes", number)
        if column.other:
            share = column.counts[-1] / max(1, sum(column.counts))
            self.add("pooled", f"{share:.1%} of {column.name} are {column.levels[-1]!r}")

    def leaves_out(self, column: LeftOut, why: str | None, values: pl.Series) -> None:
        """Say that a column is left out."""
        if column.reason == "constant":
            self.add("constant", f"{column.name} ({shown(values.drop_nulls()[0])})")
        else:
            self.add(column.reason, column.name if why is None else f"{column.name} ({why})")

    def cells(self, name: str, column: Cells, frame: Frame, place: Place) -> None:
        """Say which cells of a column of numbers count as missing."""
        if column.unread.any():
            row = int(column.unread.argmax())
            example = frame.mixed.get(name) or f"{shown(frame.data[name][row])} in {place(row)}"
            self.add("mixed", f"{int(column.unread.sum()):,} of {name}, such as {example}")
        if column.infinite.any():
            first = place(int(column.infinite.argmax()))
            self.add("infinite", f"{int(column.infinite.sum()):,} of {name}, first in {first}")

    def grid(self, name: str, kind: str, grid: Grid) -> None:
        """Say that the values of a column are rounded."""
        if grid.coarsened:
            self.add("coarsened", f"{name} to {_size(grid.step, kind)}")

    def clipped(self, name: str, number: int, example: str) -> None:
        """Say that values of a column are too far out."""
        self.add("clipped", f"{number:,} of {name}, such as {example}")

    def parent(self, name: str, parent: str, wrong: float) -> None:
        """Say that a column is settled by another."""
        but = f" but for {wrong:.2%} of the rows" if wrong else ""
        self.add("parent", f"{name} by {parent}{but}")

    def equation(self, text: str, holds: float) -> None:
        """Say that a column is a sum or multiple of others."""
        self.add("equation", text if holds == 100 else f"{text} ({holds} % of the rows)")


def _size(step: float, kind: str) -> str:
    """A step in words."""
    if kind in ("number", "whole", "count"):
        return f"multiples of {step:g}"
    seconds = step * 86_400 if kind == "date" else step / 1e6
    for size, unit in _DURATIONS:
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} seconds"
