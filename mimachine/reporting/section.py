"""Sections of a report: texts, figures and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mimachine.reporting.html_image import Picture

__all__ = ["Cell", "Listing", "Section", "Shares"]


class Shares(NamedTuple):
    """Table of what reconstructions explain by column, the lowest share first.

    Attributes:
        models: Names of the models, the header of the table.
        rows: Name of a column, and for each model its share in words and as the length of a bar.
        left_out: Number of columns not in the table.
        measure: What the shares are.
    """

    models: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]
    left_out: int
    measure: str = "R²"


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: What it says.
        odd: Whether it is marked as unusual.
    """

    text: str
    odd: bool = False


@dataclass(frozen=True)
class Listing:
    """A table below the figures.

    Attributes:
        caption: What the table has.
        header: Names of the columns.
        rows: Cells of each row, the first of which names it.
        wide: Whether cells keep to one line, so that the table may be wider than the page.
    """

    caption: str
    header: list[str]
    rows: list[list[Cell]]
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        name: Its anchor.
        title: Its heading.
        texts: Paragraphs that explain the figures.
        pictures: Its figures.
        stacked: Whether to put the figures below each other, for comparison.
        shares: Table next to the figures.
        listings: Tables below the figures.
    """

    name: str
    title: str
    texts: tuple[str, ...]
    pictures: list[Picture]
    stacked: bool = False
    shares: Shares | None = None
    listings: tuple[Listing, ...] = ()
