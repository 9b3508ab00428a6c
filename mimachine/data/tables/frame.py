"""A table in memory, with the decisions made in reading it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Frame"]


@dataclass(frozen=True, eq=False)
class Frame:
    """A table in memory.

    Attributes:
        data: The columns with their types; missing values are nulls.
        source: Name for messages, such as the file's name.
        named: Whether column names come from the source; otherwise they are "1", "2", ...
        notes: Decisions made in reading, one sentence each.
        formats: Format of the date and time columns that were text, as polars' `strftime` takes it.
        mixed: Text columns nearly all of whose cells are numbers: a cell that is not, with its
            place, such as "'abt 40' in row 12 (line 13)".
        styles: Columns of numbers that were not written with a decimal point alone: how 1234.5 is
            written, such as "1.234,5".
        texts: Columns of a data frame or parquet file that are text there and something else in
            `data`, as they were, null where `data` is.
        place: The place of a row, counted from 0, such as "row 3 (line 4)".
    """

    data: pl.DataFrame
    source: str
    named: bool = True
    notes: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)
    mixed: Mapping[str, str] = field(default_factory=dict)
    styles: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, pl.Series] = field(default_factory=dict)
    place: Callable[[int], str] = lambda row: f"row {row + 1}"

    def called(self, name: str) -> str:
        """A column for messages: by its name, or by its number if it has none."""
        return f"column {name!r}" if self.named else f"column {name}"

    def as_text(self, names: Iterable[str]) -> Frame:
        """The table with these columns as text, of those that were text."""
        columns = [self.texts[name].alias(name) for name in names if name in self.texts]
        return replace(self, data=self.data.with_columns(columns)) if columns else self
