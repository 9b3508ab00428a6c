"""Find the delimiter, the header and the columns of a text table from its first rows."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from mimachine._support.messages import some
from mimachine._support.process import long_cells
from mimachine.data.files.columns import Layout, check_unique
from mimachine.data.files.table import MISSING, are_booleans, are_numbers
from mimachine.data.files.text_stream import opened
from mimachine.data.tables.number_text import is_number
from mimachine.data.tables.time_text import is_time

__all__ = ["layout_of"]

_DELIMITERS = "\t;|,"
_SAMPLE = 50
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
    delimiter, rows = _sample(file, encoding)
    if not rows:
        raise ValueError(f"{file.name} is empty; expected rows of cells")
    first = [cell.strip() for cell in rows[0]]
    found, notes = (header, ()) if header is not None else _is_header(first, rows[1:], columns)
    if not found:
        names = tuple(str(k + 1) for k in range(len(first)))
        booleans = _booleans(rows, len(first))
        return Layout(names, False, (), delimiter, notes, booleans, encoding)
    if len(rows) == 1:
        raise ValueError(f"{file.name} has column names but no rows")
    names = tuple(name or f"Unnamed: {k}" for k, name in enumerate(first))
    check_unique(names, file.name)
    counters, more = _counters(names, rows[1:])
    booleans = _booleans(rows[1:], len(first))
    return Layout(names, True, counters, delimiter, notes + more, booleans, encoding)


def _sample(file: Path, encoding: str | None) -> tuple[str, list[list[str]]]:
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
    delimiters = [d for d in _DELIMITERS if d in first] or [","]
    with long_cells():
        found = {d: [row for row in csv.reader(lines, delimiter=d) if row] for d in delimiters}
    if len(lines) >= _SAMPLE and sum(line.count('"') for line in lines) % 2:
        # The sample ends within a cell.
        found = {d: rows[:-1] if len(rows) > 2 else rows for d, rows in found.items()}
    for delimiter, rows in found.items():
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            return delimiter, rows
    # A row is malformed, which is reported later, or there is only one column.
    return max(found.items(), key=lambda item: len(item[1][0]) if item[1] else 0)


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
