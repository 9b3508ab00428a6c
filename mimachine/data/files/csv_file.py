"""Read text tables delimited by commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
import gzip
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support.messages import counted, some
from mimachine.data.files.columns import (
    Choice,
    Layout,
    check_unique,
    choose,
    missing_values,
    not_numeric,
)
from mimachine.data.files.table import MISSING, Table, are_numbers, suffix, typed

__all__ = ["opened", "peek_text", "read_text"]

_DELIMITERS = "\t;|,"
_SAMPLE = 50
_COMMA = re.compile(r"[+-]?[\d.,]*\d,\d+([eE][+-]?\d+)?")
_INDEX = "Unnamed: 0"


def opened(file: Path) -> IO[str]:
    """Open a text file, which may be compressed, with any line ends."""
    if suffix(file) == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig")
    return file.open(encoding="utf-8-sig")


def peek_text(file: Path, labels: str | None, drop: Sequence[str]) -> tuple[int, int]:
    """Shape of the values of a text file, without parsing them."""
    layout = _layout(file)
    rows = _count_rows(file, layout)
    return rows, len(choose(layout, file.name, labels, drop, None).values)


def read_text(
    file: Path, labels: str | None, drop: Sequence[str], columns: Sequence[str] | None
) -> Table:
    """Read columns of a text file; an error names the column and the row of a bad cell."""
    layout = _layout(file)
    choice = choose(layout, file.name, labels, drop, columns)
    try:
        values, found = _parse(file, layout, choice)
    except ValueError as error:
        raise _explained(file, layout, choice, str(error)) from error
    if np.isnan(values).any():
        raise _explained(file, layout, choice, "NaN")
    return Table(values, choice.columns, found, file.name, choice.notes)


def _sample(file: Path) -> tuple[str, list[list[str]]]:
    """Delimiter and first rows of a text file."""
    lines: list[str] = []
    with opened(file) as stream:
        for line in stream:
            lines.append(line)
            # The limit on the size is for very long lines.
            if len(lines) == _SAMPLE or (len(lines) > 2 and sum(map(len, lines)) > 1 << 20):
                break
    first = next((line for line in lines if line != "\n"), "")
    # Others would read a whole line as one cell, and csv limits the size of a cell.
    delimiters = [d for d in _DELIMITERS if d in first] or [","]
    found = {d: [row for row in csv.reader(lines, delimiter=d) if row] for d in delimiters}
    for delimiter, rows in found.items():
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            return delimiter, rows
    # A row is malformed, which is reported later, or there is only one column.
    return max(found.items(), key=lambda item: len(item[1][0]) if item[1] else 0)


def _is_header(cells: list[str]) -> bool:
    """Whether a first row holds column names; pandas' default names are 0, 1, 2, ..."""
    numbers = [str(k) for k in range(len(cells))]
    if cells == numbers and len(cells) > 3:
        return True
    if not cells[0] and cells[1:] == numbers[:-1]:
        return len(cells) > 1
    return not all(are_numbers([cell]) or cell.lower() in MISSING for cell in cells)


def _layout(file: Path) -> Layout:
    """Columns of a text file, from its first rows."""
    delimiter, rows = _sample(file)
    if not rows:
        raise ValueError(f"{file.name} is empty; expected rows of numbers")
    first = [cell.strip() for cell in rows[0]]
    if not _is_header(first):
        names = tuple(str(k + 1) for k in range(len(first)))
        note = "the first line has only numbers and is read as a row, not as column names"
        return Layout(names, False, (), delimiter, (note,))
    if len(rows) == 1:
        raise ValueError(f"{file.name} has column names but no rows")
    names = tuple(name or f"Unnamed: {k}" for k, name in enumerate(first))
    check_unique(names, file.name)
    notes: tuple[str, ...] = ()
    if numbers := [name for name in names if are_numbers([name])]:
        notes += (f"the first line is read as column names, including {some(numbers, 3)}",)
    if names[0] != _INDEX or len(names) == 1:
        return Layout(names, True, (), delimiter, notes)
    counts = [row[0].strip() for row in rows[1:]]
    # pandas counts from 0, R from 1.
    if any(counts == [str(k + start) for k in range(len(counts))] for start in (0, 1)):
        return Layout(names, True, (0,), delimiter, notes)
    notes += (f"the first column has no name and is used as {_INDEX!r}; drop it if it is an index",)
    return Layout(names, True, (), delimiter, notes)


def _rows(file: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Line number (of the last line) and cells of each row."""
    with opened(file) as lines:
        reader = csv.reader(lines, delimiter=layout.delimiter)
        rows = ((reader.line_num, row) for row in reader if row)
        yield from itertools.islice(rows, int(layout.named), None)


def _count_rows(file: Path, layout: Layout) -> int:
    """Number of rows that are not blank."""
    count = 0
    with opened(file) as lines:
        for line in lines:
            if line.count('"') % 2:
                # A cell spans several lines.
                return sum(1 for _ in _rows(file, layout))
            count += line != "\n"
    return count - layout.named


def _parse(file: Path, layout: Layout, choice: Choice) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Values (N, D) and labels (N,) of a text file."""
    used = set(choice.values)
    kinds = [
        "f8" if k in used else "O" if k == choice.label else "U1" for k in range(len(layout.names))
    ]
    # Adjacent columns of the same type share a field, so that most tables need no copy. All
    # columns are parsed, otherwise rows that are too long would pass.
    runs = [(kind, len(list(run))) for kind, run in itertools.groupby(kinds)]
    with opened(file) as lines:
        if layout.named:
            next(row for row in csv.reader(lines, delimiter=layout.delimiter) if row)
        rows = np.loadtxt(
            lines,
            dtype=[(str(k), kind, (size,)) for k, (kind, size) in enumerate(runs)],
            delimiter=layout.delimiter,
            comments=None,
            quotechar='"',
            ndmin=1,
        )
    parts = [rows[str(k)] for k, (kind, _) in enumerate(runs) if kind == "f8"]
    texts = [rows[str(k)][:, 0] for k, (kind, _) in enumerate(runs) if kind == "O"]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    if choice.values != sorted(choice.values):
        values = values[:, np.searchsorted(sorted(choice.values), choice.values)]
    labels = typed(np.array([text.strip() for text in texts[0]])) if texts else None
    return np.ascontiguousarray(values), labels


def _explained(file: Path, layout: Layout, choice: Choice, reason: str) -> ValueError:
    """The error for a text file that cannot be parsed, found by reading it again."""
    places = choice.values
    text: dict[int, tuple[str, str]] = {}
    missing: dict[tuple[int, str], tuple[int, str]] = {}
    for row, (line, cells) in enumerate(_rows(file, layout), 1):
        where = f"row {row} (line {line})"
        if len(cells) != len(layout.names):
            return ValueError(
                f"{file.name} must have {counted(len(layout.names), 'cell')} in each row, as in "
                f"its first line, got {len(cells)} in {where}"
            )
        if are_numbers([cells[k] for k in places]):
            continue
        for k in places:
            cell = cells[k].strip()
            if cell.lower() in MISSING:
                count, first = missing.get((k, cell), (0, where))
                missing[k, cell] = count + 1, first
            elif not are_numbers([cell]):
                text[k] = cell, where
        # One example is enough.
        places = [k for k in places if k not in text]
    if text:
        return _text_cells(text, layout, file.name)
    if missing:
        found = [
            (
                k,
                f"{cell!r} in {counted(count, 'cell')}" if cell else counted(count, "empty cell"),
                at,
            )
            for (k, cell), (count, at) in missing.items()
        ]
        return missing_values(found, layout, file.name)
    return ValueError(f"{file.name} cannot be read as rows of numbers: {reason}")


def _text_cells(text: dict[int, tuple[str, str]], layout: Layout, source: str) -> ValueError:
    """The error for cells of text, or for numbers with decimal commas."""
    for k, (cell, where) in text.items():
        if _COMMA.fullmatch(cell):
            return ValueError(
                f"{source} must have numbers with decimal points and no other separators, got "
                f"{cell!r} in {layout.called(k)}, {where}; replace the commas within numbers"
            )
    found = {k: f"has {cell[:40]!r} in {where}" for k, (cell, where) in text.items()}
    return not_numeric(found, layout, source)
