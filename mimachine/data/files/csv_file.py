"""Read text tables of numbers, true and false, and labels."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support.messages import counted
from mimachine.data.files.checks import Distinct, too_many_digits, with_many_digits
from mimachine.data.files.columns import Choice, Layout, choose, missing_values, not_numeric
from mimachine.data.files.table import MISSING, Table, are_booleans, are_numbers, typed
from mimachine.data.files.text_stream import decoded, opened
from mimachine.data.tables.dialect import layout_of
from mimachine.data.tables.text_cells import read_number_blocks, read_texts
from mimachine.data.tables.text_columns import Readings
from mimachine.data.tables.text_columns import typed as typed_column
from mimachine.data.tables.text_file import read_columns
from mimachine.data.tables.text_rows import blocks_of_rows

__all__ = ["peek_text", "read_text"]

_COMMA = re.compile(r"[+-]?[\d.,]*\d,\d+([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")


def peek_text(
    file: Path, labels: str | None, drop: Sequence[str], header: bool | None = None
) -> tuple[int, int]:
    """Shape of the values of a text file, without parsing them."""

    def shape(encoding: str) -> tuple[int, int]:
        layout = layout_of(file, header, encoding=encoding)
        rows = sum(block.count for block in blocks_of_rows(file, layout))
        return rows, len(choose(layout, file.name, labels, drop, None).values)

    return decoded(file, shape)[0]


def read_text(
    file: Path,
    labels: str | None,
    drop: Sequence[str],
    columns: Sequence[str] | None,
    header: bool | None = None,
) -> Table:
    """Read columns of a text file; an error names the column and the row of a bad cell."""

    def read(encoding: str) -> Table:
        layout = layout_of(file, header, columns, encoding)
        return _read(file, layout, choose(layout, file.name, labels, drop, columns))

    table, notes = decoded(file, read)
    return replace(table, notes=notes + table.notes)


class _Parsed(NamedTuple):
    """Values (N, D), the text of the labels (N,), and whether columns are of true and false."""

    values: NDArray[Any]
    labels: NDArray[Any] | None
    booleans: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


def _read(file: Path, layout: Layout, choice: Choice) -> Table:
    parsed = _plain(file, layout, choice)
    if parsed is None:
        parsed = _other(file, layout, choice)
    else:
        _check_digits(file, layout, choice, parsed.values)
    labels = None if parsed.labels is None else typed(parsed.labels)
    notes = choice.notes + parsed.notes
    return Table(parsed.values, choice.columns, labels, file.name, notes, parsed.booleans)


def _plain(file: Path, layout: Layout, choice: Choice) -> _Parsed | None:
    """A file of plain numbers; None if it has other cells."""
    width = len(choice.values)
    label = [] if choice.label is None else [choice.label]
    values = np.empty((0, width))
    texts: list[str] = []
    count = 0
    for found in read_number_blocks(file, layout, choice.values, label):
        if found is None or np.isnan(found[0]).any():
            return None
        block, labels = found
        if count + len(block) > len(values):
            # Memory that is not written to is not taken.
            values.resize((2 * count + len(block), width), refcheck=False)
        values[count : count + len(block)] = block
        count += len(block)
        for column in labels:
            texts += column.fill_null("").to_list()
    values.resize((count, width), refcheck=False)
    booleans = np.zeros(width, dtype=np.bool_)
    return _Parsed(values, np.array(texts, dtype=np.str_) if label else None, booleans)


def _other(file: Path, layout: Layout, choice: Choice) -> _Parsed:
    """A file with other cells: true and false, or numbers in another style."""
    found = read_columns(file, layout, choice.values, leading_zeros=True)
    columns, notes, lost = {}, [], {}
    for k, column in found.columns.items():
        if isinstance(column, Readings):
            result = typed_column(column, found.custom, leading_zeros=True)
            column = result.data
            notes += [f"{layout.called(k)} {note}" for note in result.notes]
            if result.lost is not None:
                lost[k] = result.lost
        columns[k] = column
    fine = {
        k
        for k, column in columns.items()
        if (column.dtype.is_numeric() or str(column.dtype) == "Boolean")
        and not column.null_count()
        and not (column.dtype.is_float() and column.is_nan().any())
    }
    if set(choice.values) - fine - set(lost):
        raise _explained(file, layout, choice, fine | set(lost))
    for k, example in lost.items():
        raise too_many_digits(file.name, k, layout.names[k] if layout.named else None, example)
    values = np.empty((len(columns[choice.values[0]]), len(choice.values)))
    for place, k in enumerate(choice.values):
        values[:, place] = columns[k].to_numpy()
    labels = None
    if choice.label is not None:
        text = read_texts(file, layout, [choice.label])[choice.label]
        labels = np.array(text.fill_null("").to_list(), dtype=np.str_)
    booleans = np.array([str(columns[k].dtype) == "Boolean" for k in choice.values])
    return _Parsed(values, labels, booleans, tuple(notes))


def _rows(file: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Line number (of the last line) and cells of each row."""
    with opened(file, layout.encoding) as lines:
        below = itertools.islice(lines, layout.skipped, None)
        reader = csv.reader(below, delimiter=layout.delimiter)
        rows = ((layout.skipped + reader.line_num, row) for row in reader if row)
        yield from itertools.islice(rows, int(layout.named), None)


def _check_digits(file: Path, layout: Layout, choice: Choice, values: NDArray[Any]) -> None:
    """Check that parsing has not made different numbers equal, such as long identifiers."""
    if not len(values):
        return
    suspects = with_many_digits(values)
    chosen = [k for k, suspect in zip(choice.values, suspects, strict=True) if suspect]
    for k, column in read_texts(file, layout, chosen).items() if chosen else ():
        exact = Distinct()
        for cell in column.unique(maintain_order=True):
            if not exact.takes(Decimal(cell), _WHOLE.fullmatch(cell) is not None):
                name = layout.names[k] if layout.named else None
                raise too_many_digits(file.name, k, name, cell)


def _explained(file: Path, layout: Layout, choice: Choice, fine: Collection[int]) -> ValueError:
    """The error for columns that are not `fine`, found by reading the file again."""
    places = [k for k in choice.values if k not in layout.booleans and k not in fine]
    booleans = [k for k in choice.values if k in layout.booleans and k not in fine]
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
    return ValueError(f"{file.name} cannot be read as rows of numbers")


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
