"""Cut a text table into blocks of whole rows, and check that all have the same number of cells.

Most files have quotes only around whole cells. Their rows are found by the parity of quotes, block
by block, without going through the cells. From a quote within a cell on, Python's `csv` decides.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support.messages import counted
from mimachine._support.process import long_cells
from mimachine.data.files.columns import Layout
from mimachine.data.files.text_stream import opened

__all__ = ["Places", "TextRows", "blocks_of_rows"]

_BLOCK = 1 << 20
# Fewest characters of a block for each column, as every column of a block takes time of its own.
_OF_A_COLUMN = 1 << 11
_LONGEST_ROW = 64 << 20
_QUOTE, _NEWLINE = b'"\n'


@dataclass(frozen=True)
class TextRows:
    """Whole rows of a text table.

    Attributes:
        text: The rows in UTF-8, each ended by a line feed, without blank lines.
        count: Number of rows.
        lines: Line of the file on which each row ends, counted from 1, shape (count,).
        is_quoted: Whether there are quotes.
    """

    text: bytes
    count: int
    lines: range | NDArray[np.int64]
    is_quoted: bool


@dataclass
class Places:
    """Lines of the rows of a text file."""

    _starts: list[int] = field(default_factory=list)
    _lines: list[range | NDArray[np.int64]] = field(default_factory=list)
    _rows: int = 0

    def add(self, block: TextRows) -> None:
        """Take the lines of the next rows."""
        self._starts.append(self._rows)
        self._lines.append(block.lines)
        self._rows += block.count

    def __call__(self, row: int) -> str:
        """The place of a row, counted from 0, such as "row 3 (line 4)"."""
        block = bisect_right(self._starts, row) - 1
        return f"row {row + 1} (line {int(self._lines[block][row - self._starts[block]])})"


def blocks_of_rows(file: Path, layout: Layout, columns: int = 1) -> Iterator[TextRows]:
    """Rows of a text file below its header, in blocks that fit into memory.

    Args:
        file: The file.
        layout: Its dialect and columns.
        columns: Number of columns to tell apart; blocks of many are larger.

    Raises:
        ValueError: If a row has more or fewer cells than the first line; names row and line.
    """
    size, row = max(_BLOCK, columns * _OF_A_COLUMN), 0
    skipped = not layout.named
    with opened(file, layout.encoding) as stream:
        for _ in range(layout.skipped):
            stream.readline()
        line = layout.skipped
        rest = b""
        while True:
            piece = stream.read(size)
            data = rest + piece.encode()
            if not piece and data and not data.endswith(b"\n"):
                data += b"\n"
            marks = _Marks(data, layout.delimiter)
            if marks.is_irregular:
                blocks = _by_csv(data.decode(), stream, layout, line)
                yield from _without_header(blocks, file, layout, row, skipped)
                return
            block, rest = data[: marks.cut], data[marks.cut :]
            if block:
                rows = marks.rows(line)
                line += block.count(b"\n")
                if rows.count and not skipped:
                    rows, skipped = _tail(rows, marks), True
                _check_widths(marks, rows, file, layout, row)
                row += rows.count
                if rows.count:
                    yield rows
            if not piece:
                if rest:
                    raise ValueError(f"{file.name} has a quote that is not closed, after row {row}")
                return
            if len(rest) > _LONGEST_ROW:
                raise ValueError(
                    f"{file.name} has a quote after line {line} that is not closed within "
                    f"{_LONGEST_ROW >> 20} MiB"
                )


class _Marks:
    """Ends of rows and of cells in UTF-8 text that begins with a row."""

    def __init__(self, data: bytes, delimiter: str) -> None:
        self.data = data
        self.is_quoted = b'"' in data
        self.cut = data.rfind(b"\n") + 1
        self.is_irregular = False
        self._delimiter = ord(delimiter)
        self._removed: NDArray[np.int64] | None = None
        if self.is_quoted:
            self._find_rows()

    def _find_rows(self) -> None:
        codes = np.frombuffer(self.data, np.uint8)
        is_quote = codes == _QUOTE
        # Counts of quotes wrap around, which does not change their parity.
        within = (np.cumsum(is_quote, dtype=np.uint8) & 1).astype(bool)
        self.is_irregular = _irregular(codes, is_quote, within, self._delimiter)
        ends = np.flatnonzero((codes == _NEWLINE) & ~within)
        self.cut = int(ends[-1]) + 1 if len(ends) else 0
        self._within = within

    def rows(self, line: int) -> TextRows:
        """The whole rows, of which the first begins on the line after `line`."""
        data = self.data[: self.cut]
        count = data.count(b"\n")
        self.codes = codes = np.frombuffer(data, np.uint8)
        if not self.is_quoted and not data.startswith(b"\n") and b"\n\n" not in data:
            self.cells = codes[(codes == self._delimiter) | (codes == _NEWLINE)]
            return TextRows(data, count, range(line + 1, line + 1 + count), False)
        outside = ~self._within[: self.cut] if self.is_quoted else np.ones(len(codes), dtype=bool)
        ends = np.flatnonzero((codes == _NEWLINE) & outside)
        lines = line + np.searchsorted(np.flatnonzero(codes == _NEWLINE), ends, "right")
        blank = np.diff(ends, prepend=-1) == 1
        keep = np.ones(len(codes), dtype=bool)
        keep[ends[blank]] = False
        marks = ((codes == self._delimiter) | (codes == _NEWLINE)) & outside & keep
        self.cells = codes[marks]
        text = codes[keep].tobytes() if blank.any() else data
        return TextRows(text, int((~blank).sum()), lines[~blank].astype(np.int64), self.is_quoted)


def _irregular(
    codes: NDArray[np.uint8], is_quote: NDArray[np.bool_], within: NDArray[np.bool_], delimiter: int
) -> bool:
    """Whether a quote is neither around a whole cell nor doubled within one."""
    places = np.flatnonzero(is_quote)
    opens = places[within[places]]
    closes = places[~within[places]]
    # The neighbours of quotes; the first cell begins after nothing, and the last may go on.
    before = codes[opens[opens > 0] - 1]
    after = codes[closes[closes < len(codes) - 1] + 1]
    fine = np.array([_QUOTE, _NEWLINE, delimiter], dtype=np.uint8)
    return not (np.isin(before, fine).all() and np.isin(after, fine).all())


def _tail(rows: TextRows, marks: _Marks) -> TextRows:
    """Rows without the first, which holds the names."""
    width = int(np.flatnonzero(marks.cells == _NEWLINE)[0]) + 1
    marks.cells = marks.cells[width:]
    start, inside = 0, False
    while True:
        end = rows.text.index(b"\n", start)
        inside ^= bool(rows.text.count(b'"', start, end) % 2)
        start = end + 1
        if not inside:
            return TextRows(rows.text[start:], rows.count - 1, rows.lines[1:], rows.is_quoted)


def _check_widths(marks: _Marks, rows: TextRows, file: Path, layout: Layout, before: int) -> None:
    width = len(layout.names)
    ends = marks.cells[width - 1 :: width]
    if len(marks.cells) == width * rows.count and (ends == _NEWLINE).all():
        return
    widths = np.diff(np.flatnonzero(marks.cells == _NEWLINE), prepend=-1)
    place = int((widths != width).argmax())
    raise _wrong_width(file, layout, int(widths[place]), before + place, int(rows.lines[place]))


def _wrong_width(file: Path, layout: Layout, width: int, row: int, line: int) -> ValueError:
    return ValueError(
        f"{file.name} must have {counted(len(layout.names), 'cell')} in each row, as in its first "
        f"line, got {width} in row {row + 1} (line {line})"
    )


def _by_csv(
    text: str, stream: IO[str], layout: Layout, line: int
) -> Iterator[tuple[list[list[str]], list[int]]]:
    """Rows and their lines, as Python's csv reads them."""
    # Quotes after delimiters and spaces, as some programs write them.
    spaced = re.search(f'{re.escape(layout.delimiter)} +"', text) is not None
    reader: Any = csv.reader(
        _lines(text, stream), delimiter=layout.delimiter, skipinitialspace=spaced
    )
    numbered = ((row, line + reader.line_num) for row in reader if row)
    at_once = max(1, (1 << 19) // len(layout.names))
    while True:
        with long_cells():
            pairs = list(itertools.islice(numbered, at_once))
        if not pairs:
            return
        yield [row for row, _ in pairs], [line for _, line in pairs]


def _lines(text: str, stream: IO[str]) -> Iterator[str]:
    """Lines of a text that the stream goes on with."""
    *whole, part = text.split("\n")
    yield from (f"{each}\n" for each in whole)
    for each in stream:
        yield part + each
        part = ""
    if part:
        yield part


def _without_header(
    blocks: Iterator[tuple[list[list[str]], list[int]]],
    file: Path,
    layout: Layout,
    before: int,
    skipped: bool,
) -> Iterator[TextRows]:
    """Blocks of rows, written so that all quotes are around whole cells."""
    for rows, lines in blocks:
        rows, lines = (rows, lines) if skipped else (rows[1:], lines[1:])
        skipped = True
        for k, row in enumerate(rows):
            if len(row) != len(layout.names):
                raise _wrong_width(file, layout, len(row), before + k, lines[k])
        written = io.StringIO()
        csv.writer(written, delimiter=layout.delimiter, lineterminator="\n").writerows(rows)
        before += len(rows)
        if rows:
            yield TextRows(written.getvalue().encode(), len(rows), np.array(lines), True)
