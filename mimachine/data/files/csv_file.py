"""Read text tables delimited by commas, semicolons, tabs or bars."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimachine._support.messages import counted
from mimachine.data.files.checks import Distinct, too_many_digits, with_many_digits
from mimachine.data.files.columns import Choice, Layout, choose, missing_values, not_numeric
from mimachine.data.files.csv_layout import layout_of
from mimachine.data.files.table import MISSING, Table, are_booleans, are_numbers, typed
from mimachine.data.files.text_stream import opened

__all__ = ["peek_text", "read_text"]

_COMMA = re.compile(r"[+-]?[\d.,]*\d,\d+([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
# Types of cells of true or false: most have few spaces. Cells that fill their type are errors.
_BOOLEAN, _PADDED_BOOLEAN = "U8", "U64"


def peek_text(
    file: Path, labels: str | None, drop: Sequence[str], header: bool | None = None
) -> tuple[int, int]:
    """Shape of the values of a text file, without parsing them."""
    layout = layout_of(file, header)
    rows = _count_rows(file, layout)
    return rows, len(choose(layout, file.name, labels, drop, None).values)


def read_text(
    file: Path,
    labels: str | None,
    drop: Sequence[str],
    columns: Sequence[str] | None,
    header: bool | None = None,
) -> Table:
    """Read columns of a text file; an error names the column and the row of a bad cell."""
    layout = layout_of(file, header, columns)
    choice = choose(layout, file.name, labels, drop, columns)
    try:
        values, found = _parsed(file, layout, choice)
    except ValueError as error:
        raise _explained(file, layout, choice, str(error)) from error
    if np.isnan(values).any():
        raise _explained(file, layout, choice, "NaN")
    _check_digits(file, layout, choice, values)
    booleans = np.isin(choice.values, layout.booleans)
    return Table(values, choice.columns, found, file.name, choice.notes, booleans)


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


def _parsed(file: Path, layout: Layout, choice: Choice) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Values (N, D) and labels (N,) of a text file."""
    try:
        return _parse(file, layout, choice, _BOOLEAN)
    except _NotBooleanError:
        return _parse(file, layout, choice, _PADDED_BOOLEAN)


class _NotBooleanError(ValueError):
    """A cell is neither true nor false, or does not fit."""


def _parse(
    file: Path, layout: Layout, choice: Choice, boolean: str
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    # Adjacent columns of the same type share a field, so that most tables need no copy. All
    # columns are parsed, otherwise rows that are too long would pass.
    kinds = _kinds(layout, choice, boolean)
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
    parts = [
        rows[str(k)] if kind == "f8" else _from_booleans(rows[str(k)])
        for k, (kind, _) in enumerate(runs)
        if kind in ("f8", boolean)
    ]
    texts = [rows[str(k)][:, 0] for k, (kind, _) in enumerate(runs) if kind == "O"]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    if choice.values != sorted(choice.values):
        values = values[:, np.searchsorted(sorted(choice.values), choice.values)]
    labels = typed(np.array([text.strip() for text in texts[0]])) if texts else None
    return np.ascontiguousarray(values), labels


def _kinds(layout: Layout, choice: Choice, boolean: str) -> list[str]:
    """Type of each column of the file: number, boolean, label or not used."""
    kinds = ["U1"] * len(layout.names)
    for k in choice.values:
        kinds[k] = boolean if k in layout.booleans else "f8"
    if choice.label is not None:
        kinds[choice.label] = "O"
    return kinds


def _from_booleans(cells: NDArray[Any]) -> NDArray[np.float64]:
    """Zeros and ones for false and true."""
    texts = np.char.lower(np.char.strip(cells))
    is_cut = (np.char.str_len(cells) == cells.dtype.itemsize // 4).any()
    if is_cut or not np.isin(texts, ("true", "false")).all():
        raise _NotBooleanError("a cell is neither true nor false")
    return np.asarray(texts == "true", dtype=np.float64)


def _check_digits(file: Path, layout: Layout, choice: Choice, values: NDArray[Any]) -> None:
    """Check that parsing has not made different numbers equal, such as long identifiers."""
    columns = {
        k: Distinct()
        for k, suspect in zip(choice.values, with_many_digits(values), strict=True)
        if suspect and k not in layout.booleans
    }
    for _, cells in _rows(file, layout) if columns else ():
        for k, column in columns.items():
            cell = cells[k].strip()
            if not column.takes(Decimal(cell), _WHOLE.fullmatch(cell) is not None):
                name = layout.names[k] if layout.named else None
                raise too_many_digits(file.name, k, name, cell)


def _explained(file: Path, layout: Layout, choice: Choice, reason: str) -> ValueError:
    """The error for a text file that cannot be parsed, found by reading it again."""
    places = [k for k in choice.values if k not in layout.booleans]
    booleans = [k for k in choice.values if k in layout.booleans]
    text: dict[int, tuple[str, str]] = {}
    missing: dict[tuple[int, str], tuple[int, str]] = {}
    for row, (line, cells) in enumerate(_rows(file, layout), 1):
        where = f"row {row} (line {line})"
        if len(cells) != len(layout.names):
            return ValueError(
                f"{file.name} must have {counted(len(layout.names), 'cell')} in each row, as in "
                f"its first line, got {len(cells)} in {where}"
            )
        bad = [k for k in booleans if not are_booleans([cells[k]])]
        if not bad and are_numbers([cells[k] for k in places]):
            continue
        for k in (*places, *bad):
            cell = cells[k].strip()
            if cell.lower() in MISSING:
                count, first = missing.get((k, cell), (0, where))
                missing[k, cell] = count + 1, first
            elif k in bad or not are_numbers([cell]):
                text[k] = cell, where
        # One example is enough.
        places = [k for k in places if k not in text]
        booleans = [k for k in booleans if k not in text]
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
