"""One malformed table, and the plain table that most of them are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER = ("age", "city", "joined", "income", "member")
CITIES = ("Aldham", "Brora", "Lydd")


@dataclass(frozen=True)
class Case:
    """A table, and what reading it must do.

    Attributes:
        name: Unique name, a few words.
        content: Makes the bytes of a file or a data frame.
        error: Whether reading must fail; None if it may.
        words: What the message contains if it fails, whatever the case of the letters.
        suffix: End of the file's name; None for a data frame.
    """

    name: str
    content: Callable[[], Any]
    error: bool | None
    words: tuple[str, ...] = ()
    suffix: str | None = ".csv"

    @property
    def is_file(self) -> bool:
        """Whether the content is the bytes of a file."""
        return self.suffix is not None

    def write(self, folder: Path) -> Path:
        """Write the file into a folder.

        Returns:
            Its path.
        """
        path = folder / f"table{self.suffix}"
        path.write_bytes(self.content())
        return path


def of_text(
    name: str, text: str, error: bool | None, *words: str, suffix: str = ".csv", code: str = "utf-8"
) -> Case:
    """A case of a text file."""
    return Case(name, lambda: text.encode(code), error, words, suffix)


def rows(count: int = 40) -> list[list[str]]:
    """Cells of a proper table: a whole number, a text, a date, money and a flag."""
    return [
        [
            str(20 + 7 * k % 50),
            CITIES[k * k % 3],
            f"20{20 + k % 4}-{1 + k % 12:02}-{1 + 5 * k % 28:02}",
            f"{1000 + 137 * k % 900}.{k % 100:02}",
            ("true", "false")[k % 3 == 0],
        ]
        for k in range(count)
    ]


def text(
    cells: Sequence[Sequence[str]],
    header: Sequence[str] | None = HEADER,
    *,
    delimiter: str = ",",
    end: str = "\n",
) -> str:
    """A delimited file of cells as they are, without quotes."""
    lines = [*([] if header is None else [header]), *cells]
    return "".join(delimiter.join(line) + end for line in lines)


def with_cell(cell: str, column: str, row: int = 12, count: int = 40) -> str:
    """The proper table with another cell in a row, counted from 1."""
    cells = rows(count)
    cells[row - 1][HEADER.index(column)] = cell
    return text(cells)


def with_column(values: Sequence[str], name: str = "extra") -> str:
    """The proper table with a column more, whose values are repeated as needed."""
    cells = rows()
    longer = [[*cells[k], values[k % len(values)]] for k in range(len(cells))]
    return text(longer, (*HEADER, name))
