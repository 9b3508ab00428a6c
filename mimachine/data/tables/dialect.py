"""Find the delimiter, the header and the columns of a text table from its first rows."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mimachine._support.messages import counted, some
from mimachine._support.process import long_cells
from mimachine.data.files.columns import Layout, check_unique
from mimachine.data.files.table import MISSING, are_booleans, are_numbers
from mimachine.data.files.text_stream import opened
from mimachine.data.tables.number_text import is_number
from mimachine.data.tables.time_text import is_time

__all__ = ["layout_of"]

_DELIMITERS = "\t;|,"
_SAMPLE = 50
# Most lines above a table, such as a title.
_MOST_ABOVE = 20
_COMMENTS = ("#", "//", "%", ";")
# The first line that tells spreadsheets the delimiter.
_SEPARATOR = re.compile(r'"?sep=([,;|\t])"?', re.IGNORECASE)
_INDEX = "Unnamed: 0"
# Fewest numbers of a first line that are taken for names because of their values.
_FEWEST_NUMBERS = 4
# The same, if they are only evenly spaced and not out of the range of other lines.
_FEWEST_EVEN = 6
# Difference of equal steps that were rounded, such as 0.33, 0.67, 1, as a share of the step.
_ROUNDED = 0.05


def layout_of(
    file: Path,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    encoding: str | None = None,
) -> Layout:
    """Columns of a text file, from its first rows.

    Args:
        file: The file.
        header: Whether the first line holds column names; by default decided by its cells.
        columns: Columns that a trained model expects. A first line with all of them is a header.
        encoding: Encoding of the text; by default UTF-8, or that of its byte order mark.

    Raises:
        ValueError: If the file is empty, or has names without rows or the same name twice.
    """
    sample = _sample(file, encoding)
    delimiter, rows, skipped = sample.delimiter, sample.rows, sample.skipped
    if not rows:
        raise ValueError(f"{file.name} is empty; expected rows of cells")
    first = [cell.strip() for cell in rows[0]]
    found, notes = (header, ()) if header is not None else _is_header(first, rows[1:], columns)
    notes = sample.notes + notes
    if not found:
        names = tuple(str(k + 1) for k in range(len(first)))
        booleans = _booleans(rows, len(first))
        return Layout(names, False, (), delimiter, notes, booleans, encoding, skipped)
    if len(rows) == 1:
        raise ValueError(f"{file.name} has column names but no rows")
    names = tuple(name or f"Unnamed: {k}" for k, name in enumerate(first))
    check_unique(names, file.name)
    counters, more = _counters(names, rows[1:])
    booleans = _booleans(rows[1:], len(first))
    return Layout(names, True, counters, delimiter, notes + more, booleans, encoding, skipped)


class _Sample(NamedTuple):
    """First rows of a text file, its delimiter, and how many lines are above the first row."""

    delimiter: str
    rows: list[list[str]]
    skipped: int = 0
    notes: tuple[str, ...] = ()


def _sample(file: Path, encoding: str | None) -> _Sample:
    """Delimiter and first rows of a text file."""
    lines: list[str] = []
    with opened(file, encoding) as stream:
        for line in stream:
            lines.append(line)
            # The limit on the size is for very long lines.
            if len(lines) == _SAMPLE or (len(lines) > 2 and sum(map(len, lines)) > 1 << 20):
                break
    first = next((line for line in lines if line != "\n"), "")
    if _is_json(first):
        raise ValueError(
            f"{file.name} must have rows of cells, got JSON; pandas.read_json makes a table of it"
        )
    if named := _SEPARATOR.fullmatch(first.strip()):
        skipped = lines.index(first) + 1
        return _Sample(named[1], _rows(lines[skipped:], named[1]), skipped)
    delimiters = [d for d in _DELIMITERS if d in first] or [","]
    found = {d: _rows(lines, d) for d in delimiters}
    for delimiter, rows in found.items():
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1 and not _is_title(rows[0]):
            return _Sample(delimiter, rows)
    if (below := _below_title(lines)) is not None:
        return below
    # A row is malformed, which is reported later, or there is only one column.
    return _Sample(*max(found.items(), key=lambda item: len(item[1][0]) if item[1] else 0))


def _rows(lines: list[str], delimiter: str) -> list[list[str]]:
    """Rows of the first lines of a file."""
    with long_cells():
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    # The sample may end within a cell.
    is_cut = len(lines) >= _SAMPLE - _MOST_ABOVE and sum(line.count('"') for line in lines) % 2
    return rows[:-1] if is_cut and len(rows) > 2 else rows


def _is_title(row: list[str]) -> bool:
    """Whether only the first cell of several has content, as in a title that was padded."""
    return len(row) > 2 and not any(cell.strip() for cell in row[1:])


def _below_title(lines: list[str]) -> _Sample | None:
    """The table below a title or comments; None if there is none.

    Lines above a table have fewer cells than all its rows, and are comments, of several words or
    set apart by a blank line, so that a short row is not taken for one.
    """
    for place in range(1, min(len(lines) - 1, _MOST_ABOVE)):
        for delimiter in (d for d in _DELIMITERS if d in lines[place]):
            rows = _rows(lines[place:], delimiter)
            width = len(rows[0]) if rows else 0
            if width < 2 or len(rows) < 3 or {len(row) for row in rows} != {width}:
                continue
            if _is_title(rows[0]):
                continue
            if all(_is_above(line, delimiter, width) for line in lines[:place]) and (
                lines[place - 1] == "\n" or _is_text(lines[place - 1], delimiter)
            ):
                above = [line.strip() for line in lines[:place] if line.strip(f"{delimiter} \n")]
                note = (
                    f"the first {counted(place, 'line')} are not of the table, and are left out: "
                    f"{some(repr(line[:60]) for line in above)}"
                )
                return _Sample(delimiter, rows, place, (note,) if above else ())
    return None


def _is_above(line: str, delimiter: str, width: int) -> bool:
    """Whether a line has fewer cells than the rows of a table, or is a comment."""
    if line.startswith("# "):
        return True
    cells = next(csv.reader([line], delimiter=delimiter), [])
    return len(cells) < width or not any(cell.strip() for cell in cells[1:])


def _is_text(line: str, delimiter: str) -> bool:
    """Whether a line is a comment or of several words."""
    text = line.strip(f"{delimiter} \n")
    return line.startswith(_COMMENTS) or " " in text or not text


def _is_json(line: str) -> bool:
    """Whether a first line is an object or a list of JSON, or begins a list of objects."""
    if not line.startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(line), dict | list)
    except ValueError:
        return False


def _is_header(
    first: list[str], others: list[list[str]], columns: Sequence[str] | None
) -> tuple[bool, tuple[str, ...]]:
    """Whether a first row holds column names, and a note if that is not obvious."""
    if columns is not None and set(columns) <= set(first):
        return True, ()
    values = [_is_value(k, cell, others) for k, cell in enumerate(first)]
    if not all(value or are_booleans([cell]) for value, cell in zip(values, first, strict=True)):
        numbers = [cell for cell in first if are_numbers([cell])]
        named = f"the first line is read as column names, including {some(numbers, 3)}"
        return True, (named,) if numbers else ()
    if _counts(first) or (not first[0] and len(first) > 1 and _counts(first[1:], 1)):
        return True, (f"the first line is read as column names, including {some(first, 3)}",)
    if reason := _axis(first, others):
        return True, (
            f"warning: the first line, {some(first, 3)}, is read as column names, because its "
            f"numbers are {reason} and unlike those of other lines; if it is a row, set "
            "header=False (--no-header)",
        )
    return False, (
        "the first line has only numbers and is read as a row; if it holds column names, "
        "set header=True (--header)",
    )


def _is_value(place: int, cell: str, others: list[list[str]]) -> bool:
    """Whether a cell is a number or missing, or a date above other dates."""
    if are_numbers([cell]) or cell.lower() in MISSING or is_number(cell):
        return True
    if not is_time(cell):
        return False
    below = [row[place].strip() for row in others if place < len(row)]
    dates = sum(map(is_time, below))
    return dates > 0 and dates >= 0.5 * len(below)


def _counts(cells: list[str], fewest: int = _FEWEST_NUMBERS) -> bool:
    """Whether cells are pandas' default names, 0, 1, 2, ..."""
    return len(cells) >= fewest and cells == [str(k) for k in range(len(cells))]


def _axis(first: list[str], others: list[list[str]]) -> str:
    """Why a row of numbers is an axis, such as wavelengths or years, and not measurements; or "".

    Its values are evenly spaced or at least in order, those of other rows are not, and most are out
    of the others' range. Rows of measurements may all be in order, but hardly evenly spaced, so an
    axis of many such values need only be of other values than theirs.
    """
    if len(first) < _FEWEST_NUMBERS or not are_numbers(first):
        return ""
    rows = [list(map(float, row)) for row in others if len(row) == len(first) and are_numbers(row)]
    axis = list(map(float, first))
    even = _evenly_spaced(axis)
    if not rows or not _in_order(axis) or any(map(_evenly_spaced if even else _in_order, rows)):
        return ""
    columns = list(zip(axis, zip(*rows, strict=True), strict=True))
    outside = sum(not min(column) <= value <= max(column) for value, column in columns)
    others_too = sum(value in column for value, column in columns)
    is_new = even and len(axis) >= _FEWEST_EVEN and others_too < 0.1 * len(axis)
    if not (is_new or outside > 0.9 * len(axis)):
        return ""
    return "evenly spaced" if even else "in order"


def _in_order(numbers: list[float]) -> bool:
    """Whether numbers only rise or only fall."""
    signs = {(b > a) - (b < a) for a, b in itertools.pairwise(numbers)}
    return signs in ({1}, {-1})


def _evenly_spaced(numbers: list[float]) -> bool:
    """Whether numbers rise or fall in equal steps, which may be rounded."""
    step = (numbers[-1] - numbers[0]) / (len(numbers) - 1)
    most = _ROUNDED * abs(step)
    steps = (b - a for a, b in itertools.pairwise(numbers))
    return step != 0 and all(abs(each - step) <= most for each in steps)


def _counters(
    names: tuple[str, ...], rows: list[list[str]]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The first column if it has no name and only counts the rows, and a note if it does not."""
    if names[0] != _INDEX or len(names) == 1:
        return (), ()
    counts = [row[0].strip() for row in rows]
    # pandas counts from 0, R from 1.
    if any(counts == [str(k + start) for k in range(len(counts))] for start in (0, 1)):
        return (0,), ()
    note = f"the first column has no name and is used as {_INDEX!r}; drop it if it is an index"
    return (), (note,)


def _booleans(rows: list[list[str]], width: int) -> tuple[int, ...]:
    """Columns whose first cells are all true or false."""
    complete = [row for row in rows if len(row) == width]
    if not complete:
        return ()
    return tuple(k for k in range(width) if are_booleans([row[k] for row in complete]))
