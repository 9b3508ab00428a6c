"""Tables: a user's own file as an array with a row for each datum, or the reason why not.

=====================  ====================================================================
.npy                   one array, memory-mapped where it is large
.npz                   one of its arrays, and another one for the labels
.csv, .tsv             numbers between commas, semicolons, tabs or bars; also compressed, .gz
.parquet               columns of numbers; needs pyarrow
=====================  ====================================================================

Rows are counted from 1, without a header, and so are columns that have no names. A table is
parsed in C; only one that cannot be is read a second time, to say which cell is in the way.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import math
import os
import re
import shlex
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine import memory
from mimachine.memory import stays_on_disk
from mimachine.suggestions import nearest

__all__ = ["Table", "check_finite", "peek", "read_table"]

_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".npy", ".npz", ".parquet")
_DELIMITERS = "\t;|,"
_SAMPLE = 50
_MISSING = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "?"))
# A class may well be called so.
_MISSING_LABELS = _MISSING - {"none", "?"}
_COMMA = re.compile(r"[+-]?[\d.,]*\d,\d+([eE][+-]?\d+)?")
_INDEX = "Unnamed: 0"
_VALUES, _LABELS = ("x", "X", "data"), ("y", "labels", "target")


@dataclass(frozen=True)
class Table:
    """Values of a file, a row for each datum.

    Attributes:
        values: Shape (N, *S); booleans, integers or floats as stored, float64 from text. In C
            order, or memory-mapped as they lie on disk.
        columns: Names of the columns, where the file has them and the values are (N, D).
        labels: Shape (N,); integers, strings, ..., or none.
        source: What to call the file in messages.
        notes: What was decided about the file and should be said aloud.
    """

    values: NDArray[Any]
    columns: tuple[str, ...] | None
    labels: NDArray[Any] | None
    source: str
    notes: tuple[str, ...] = ()


def read_table(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    drop: Sequence[str] = (),
    array: str | None = None,
    columns: Sequence[str] | None = None,
) -> Table:
    """Read values and labels of a file.

    Args:
        path: The file; its suffix tells the format.
        labels: Column or array of labels, else a file with one label for each row. Columns
            without names go by their number, from 1, here and in `drop`.
        drop: Columns to leave out.
        array: Array of an .npz file.
        columns: Columns that a trained model expects, taken by name and in this order. Labels
            may then be absent.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not what it should be: damaged, with a value that is missing or no
            number, or without a column or array that is asked for.
    """
    file = _checked(path, drop, array)
    with _readable(file):
        if _suffix(file) == ".npy":
            table = _expecting(_read_npy(file, labels, columns), columns)
        elif _suffix(file) == ".npz":
            table = _expecting(_read_npz(file, labels, array, columns), columns)
        elif _suffix(file) == ".parquet":
            table = _read_parquet(file, labels, drop, columns)
        else:
            table = _read_text(file, labels, drop, columns)
    return _labelled(table, labels)


def peek(
    path: str | os.PathLike[str],
    *,
    labels: str | None = None,
    drop: Sequence[str] = (),
    array: str | None = None,
) -> tuple[int, tuple[int, ...]]:
    """Number of rows of a file and shape of one row, without parsing its values.

    Args:
        path: As for `read_table`.
        labels: As for `read_table`.
        drop: As for `read_table`.
        array: As for `read_table`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If that much is clear already: it cannot be read.
    """
    file = _checked(path, drop, array)
    with _readable(file):
        if _suffix(file) == ".npy":
            shape = _npy_shape(file)
        elif _suffix(file) == ".npz":
            headers = _npz_headers(file)
            name = _pick(headers, file.name, labels, array, False)[0]
            shape = _check_array(*headers[name], f"array {name!r} of {file.name}")
        else:
            if _suffix(file) == ".parquet":
                with _parquet(file) as opened:
                    layout, rows = _parquet_layout(opened, file.name), opened.metadata.num_rows
            else:
                layout = _text_layout(file)
                rows = _count_rows(file, layout)
            shape = (rows, len(_choose(layout, file.name, labels, drop, None).values))
    return shape[0], shape[1:]


def check_finite(values: NDArray[Any], columns: Sequence[str] | None, source: str) -> None:
    """See that there is neither infinity nor NaN, block by block.

    Args:
        values: Shape (N, *S).
        columns: Names of the columns of (N, D).
        source: What to call the values in the error.

    Raises:
        ValueError: If there is one: how many there are, where, and in which row first.
    """
    if values.dtype.kind != "f":
        return
    counts = np.zeros(values.shape[1:], dtype=np.int64)
    first = np.zeros(values.shape[1:], dtype=np.int64)
    step = max(1, (1 << 22) // max(1, counts.size))
    for start in range(0, len(values), step):
        finite = np.isfinite(values[start : start + step])
        if not finite.all():
            here = (~finite).sum(axis=0)
            new = (counts == 0) & (here > 0)
            first[new] = (start + 1 + finite.argmin(axis=0))[new]
            counts += here
        memory.release(values)
    if counts.any():
        raise ValueError(f"{source} has {_not_finite(counts, first, columns)}")


def _not_finite(
    counts: NDArray[np.int64], first: NDArray[np.int64], columns: Sequence[str] | None
) -> str:
    """How many values of each place in a row are not finite, and the first row of each."""
    places = [tuple(place) for place in np.argwhere(counts).tolist()]
    total = int(counts.sum())
    what = f"{_number(total, 'value')} that {'is' if total == 1 else 'are'} not finite"
    advice = "fill them in, or leave out their rows; rows are counted from 1"
    if counts.ndim == 1:
        names = [f"column {k + 1}" if columns is None else repr(columns[k]) for (k,) in places]
        where = [
            f"{name} ({counts[place]:,}, first in row {first[place]})"
            for name, place in zip(names, places, strict=True)
        ]
        return f"{what} in {_number(len(places), 'column')}: {_some(where)}; {advice}"
    place = min(places, key=lambda place: int(first[place]))
    position = tuple(k + 1 for k in place)
    return f"{what}, first in row {first[place]} at position {position}; {advice}, as positions are"


# What all formats share.


class _Layout(NamedTuple):
    """The columns of a file, before any is chosen.

    Attributes:
        names: To choose columns by; their numbers where they have no names.
        named: Whether these are the file's own names.
        counters: Places of columns that only count the rows.
        delimiter: What is between cells of text.
        notes: What was decided so far.
    """

    names: tuple[str, ...]
    named: bool = True
    counters: tuple[int, ...] = ()
    delimiter: str = ","
    notes: tuple[str, ...] = ()

    def called(self, place: int) -> str:
        return f"column {self.names[place]!r}" if self.named else f"column {place + 1}"


class _Choice(NamedTuple):
    """Places of the columns of values, in order, and of the labels; what the former are called."""

    values: list[int]
    label: int | None
    columns: tuple[str, ...] | None
    notes: tuple[str, ...]


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _some(texts: Iterable[str], most: int = 6) -> str:
    """The first of many texts, and how many more there are."""
    texts = list(texts)
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _hint(name: str, known: Iterable[str]) -> str:
    known = list(known)
    return nearest(name, known) or f"; there are {_some(map(repr, known), 12)}"


def _suffix(file: Path) -> str:
    return file.suffix.lower()


def _checked(path: str | os.PathLike[str], drop: Sequence[str], array: str | None) -> Path:
    """A file that is there, of a format that is read and takes the given options."""
    file = Path(path).expanduser()
    suffixes = ", ".join(_SUFFIXES)
    if file.is_dir():
        raise ValueError(f"{file} is a folder; a file is expected, one of {suffixes}")
    if not file.name.lower().endswith(_SUFFIXES):
        raise ValueError(f"{file} must be one of {suffixes}, by its suffix")
    if not file.exists():
        folder = file.parent
        others = [other.name for other in folder.iterdir()] if folder.is_dir() else []
        raise FileNotFoundError(f"there is no file {file}{nearest(file.name, others)}")
    if array is not None and _suffix(file) != ".npz":
        raise ValueError(f"--array {array!r} is for .npz files, which hold several; got {file}")
    if drop and _suffix(file) in (".npy", ".npz"):
        raise ValueError(f"--drop is for columns with names, and those of {file} have none")
    return file


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Say of what is damaged that it is."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.name} must be text in UTF-8, and has the byte 0x{error.object[error.start]:02x}"
            " that is none; save it as UTF-8"
        ) from error
    # RuntimeError is zipfile's for what it cannot decompress or decrypt.
    except (
        EOFError,
        zlib.error,
        gzip.BadGzipFile,
        zipfile.BadZipFile,
        RuntimeError,
        csv.Error,
    ) as error:
        raise ValueError(
            f"{file.name} is damaged, or of another format than its name says ({error})"
        ) from error


def _choose(
    layout: _Layout,
    source: str,
    labels: str | None,
    drop: Sequence[str],
    columns: Sequence[str] | None,
) -> _Choice:
    """Columns of values and of labels, by name."""
    places = {name: place for place, name in enumerate(layout.names)}
    label = None if labels is None else places.get(labels)
    notes = layout.notes
    if labels is not None and label is None:
        notes += _elsewhere(labels, "column", places, source, optional=columns is not None)
    if both := sorted(set(drop) & {labels, *(columns or ())}):
        raise ValueError(f"--drop {shlex.join(both)} is needed as labels or values of {source}")
    if label is not None and labels in (columns or ()):
        raise ValueError(f"--labels {labels!r} is one of the columns that the model was trained on")
    if columns is None:
        for name in drop:
            if name not in places:
                raise ValueError(f"--drop {name!r} is no column of {source}{_hint(name, places)}")
    rest = [k for k, name in enumerate(layout.names) if k != label and name not in drop]
    values = [k for k in rest if k not in layout.counters]
    if columns is not None and layout.named:
        return _choose_expected(layout, source, rest, label, tuple(columns), notes)
    if columns is not None:
        notes += _in_order((len(values),), columns, source)
        return _Choice(values, label, tuple(columns), notes)
    if not values:
        raise ValueError(f"{source} has no columns left for values, of {_some(layout.names)}")
    if len(values) < len(rest):
        left_out = _some(layout.called(k) for k in layout.counters)
        notes += (f"{left_out} counts the rows and is left out",)
    names = tuple(layout.names[k] for k in values)
    return _Choice(values, label, names if layout.named else None, notes)


def _choose_expected(
    layout: _Layout,
    source: str,
    rest: list[int],
    label: int | None,
    columns: tuple[str, ...],
    notes: tuple[str, ...],
) -> _Choice:
    """Columns that a trained model expects; `rest` are all but labels and what is dropped."""
    places = {layout.names[k]: k for k in rest}
    if lacking := [name for name in columns if name not in places]:
        raise ValueError(
            f"{source} lacks {_number(len(lacking), 'column')} that the model was trained with: "
            f"{_some(map(repr, lacking))}{nearest(lacking[0], places)}"
        )
    values = [places[name] for name in columns]
    if values != sorted(values):
        notes += ("columns are in another order than in training; taken by name",)
    if extra := [k for k in rest if k not in {*values, *layout.counters}]:
        notes += (f"not used: {_some(layout.called(k) for k in extra)}",)
    return _Choice(values, label, columns, notes)


def _in_order(shape: tuple[int, ...], columns: Sequence[str], source: str) -> tuple[str, ...]:
    """Note that columns without names are taken for the expected ones; their number must fit."""
    if shape != (len(columns),):
        raise ValueError(
            f"{source} must have the {_number(len(columns), 'column')} that the model was trained "
            f"with, {_some(map(repr, columns))}; got rows of shape {shape} without names"
        )
    return (f"columns have no names and are taken in order as {_some(map(repr, columns))}",)


def _expecting(table: Table, columns: Sequence[str] | None) -> Table:
    """An array as the columns that a trained model expects."""
    if columns is None:
        return table
    note = _in_order(table.values.shape[1:], columns, table.source)
    return replace(table, columns=tuple(columns), notes=table.notes + note)


# Labels.


def _elsewhere(
    labels: str, kind: str, known: Iterable[str], source: str, optional: bool
) -> tuple[str, ...]:
    """Whether labels that are not in a file are in one of their own; a note if they are not."""
    if Path(labels).expanduser().is_file():
        return ()
    if optional:
        return (f"there are no labels: no {kind} {labels!r}, nor a file of that name",)
    raise ValueError(
        f"--labels {labels!r} is no {kind} of {source}, nor a file{_hint(labels, known)}"
    )


def _labelled(table: Table, labels: str | None) -> Table:
    """A table with its labels checked, which are read if they are in a file of their own."""
    found, notes, what = table.labels, table.notes, f"--labels of {table.source}"
    if found is None and labels is not None and (file := Path(labels).expanduser()).is_file():
        what = file.name
        with _readable(file):
            found = _read_labels(file)
        if _suffix(file) != ".npy" and len(found) == len(table.values) + 1:
            notes += (f"the first line of {file.name}, {str(found[0])!r}, is taken as a header",)
            found = found[1:]
        found = _typed(found)
        notes += (f"labels: file {labels}",)
    if found is None:
        return table
    if found.shape != (len(table.values),):
        raise ValueError(
            f"{what} must have a label for each of the {len(table.values):,} rows of "
            f"{table.source}, got shape {found.shape}"
        )
    if (missing := _missing_labels(found)).any():
        raise ValueError(
            f"{what} has {_number(int(missing.sum()), 'missing label')}, first in row "
            f"{missing.argmax() + 1} (counted from 1); fill them in, or leave out these rows"
        )
    return replace(table, labels=found, notes=notes)


def _missing_labels(labels: NDArray[Any]) -> NDArray[np.bool_]:
    if labels.dtype.kind == "U":
        return np.isin(np.char.lower(labels), list(_MISSING_LABELS))
    return np.isnan(labels) if labels.dtype.kind == "f" else np.zeros(len(labels), dtype=np.bool_)


def _check_labels(dtype: np.dtype[Any], what: str) -> None:
    if dtype.kind not in "biufU":
        raise ValueError(
            f"{what} must have labels that are numbers or text, got the type {dtype}; save them "
            "with .astype(str)"
        )


def _read_labels(file: Path) -> NDArray[Any]:
    """Labels of a file of their own: an array, or a label a line."""
    if _suffix(file) == ".npy":
        with file.open("rb") as stream:
            _check_labels(_header(stream, file.name)[1], file.name)
        return np.asarray(np.load(file, allow_pickle=False))
    if _suffix(file) not in (".csv", ".txt"):
        raise ValueError(
            f"--labels {file} must be a .npy file, or .csv or .txt with a label a line"
        )
    with _opened(file) as lines:
        if _suffix(file) == ".txt":
            return _stripped(lines)
        rows = [row or [""] for row in csv.reader(lines)]
    for number, row in enumerate(rows, 1):
        if len(row) > 1:
            raise ValueError(
                f"{file.name} must have one label in each row; row {number} has {len(row)} cells"
            )
    return _stripped(row[0] for row in rows)


def _stripped(cells: Iterable[str]) -> NDArray[Any]:
    """Texts without the white space around them, and without empty ones at the end."""
    texts = [cell.strip() for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return np.array(texts, dtype=np.str_)


def _typed(labels: NDArray[Any]) -> NDArray[Any]:
    """Texts as integers or floats where all of them are; 007 is none, but a name."""
    if labels.dtype.kind != "U":
        return labels
    try:
        whole = labels.astype(np.int64)
    except (ValueError, OverflowError):
        return labels if not _are_numbers(labels.tolist()) else labels.astype(np.float64)
    return whole if (whole.astype(np.str_) == labels).all() else labels


# Text.


def _opened(file: Path) -> IO[str]:
    """Lines of a text file, whichever way they end."""
    if _suffix(file) == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig")
    return file.open(encoding="utf-8-sig")


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether numpy's parser takes all of the cells as numbers, which NaN is not."""
    text = "".join(cells)
    try:
        return not any(map(math.isnan, map(float, cells))) and "_" not in text and text.isascii()
    except ValueError:
        return False


def _sample(file: Path) -> tuple[str, list[list[str]]]:
    """What is between cells, and the first rows."""
    lines: list[str] = []
    with _opened(file) as stream:
        for line in stream:
            lines.append(line)
            # The limit by size is for very long lines.
            if len(lines) == _SAMPLE or (len(lines) > 2 and sum(map(len, lines)) > 1 << 20):
                break
    first = next((line for line in lines if line != "\n"), "")
    # One that does not occur would make a cell of a line, and csv limits the size of cells.
    delimiters = [d for d in _DELIMITERS if d in first] or [","]
    found = {d: [row for row in csv.reader(lines, delimiter=d) if row] for d in delimiters}
    for delimiter, rows in found.items():
        if len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            return delimiter, rows
    # Some row is broken, which will be told, or there is one column.
    return max(found.items(), key=lambda item: len(item[1][0]) if item[1] else 0)


def _is_header(cells: list[str]) -> bool:
    """Whether a first row is one of names; pandas' own names for columns are 0, 1, 2, ..."""
    numbers = [str(k) for k in range(len(cells))]
    if cells == numbers and len(cells) > 3:
        return True
    if not cells[0] and cells[1:] == numbers[:-1]:
        return len(cells) > 1
    return not all(_are_numbers([cell]) or cell.lower() in _MISSING for cell in cells)


def _text_layout(file: Path) -> _Layout:
    """Columns of a text file, by its first rows."""
    delimiter, rows = _sample(file)
    if not rows:
        raise ValueError(f"{file.name} is empty; rows of numbers are expected")
    first = [cell.strip() for cell in rows[0]]
    if not _is_header(first):
        names = tuple(str(k + 1) for k in range(len(first)))
        note = "the first line is taken as a row, not as names of columns: it has only numbers"
        return _Layout(names, False, (), delimiter, (note,))
    if len(rows) == 1:
        raise ValueError(f"{file.name} has names of columns and no rows")
    names = tuple(name or f"Unnamed: {k}" for k, name in enumerate(first))
    _check_unique(names, file.name)
    notes: tuple[str, ...] = ()
    if numbers := [name for name in names if _are_numbers([name])]:
        notes += (f"the first line is taken as names of columns, {_some(numbers, 3)} too",)
    if names[0] != _INDEX or len(names) == 1:
        return _Layout(names, True, (), delimiter, notes)
    counted = [row[0].strip() for row in rows[1:]]
    # pandas writes it from 0 and R from 1.
    if any(counted == [str(k + start) for k in range(len(counted))] for start in (0, 1)):
        return _Layout(names, True, (0,), delimiter, notes)
    notes += (f"the first column has no name and is used as {_INDEX!r}; --drop it if it is none",)
    return _Layout(names, True, (), delimiter, notes)


def _check_unique(names: Sequence[str], source: str) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"{source} has several columns called {_some(map(repr, twice))}; rename them"
        )


def _rows(file: Path, layout: _Layout) -> Iterator[tuple[int, list[str]]]:
    """Number of the last line and cells of each row."""
    with _opened(file) as lines:
        reader = csv.reader(lines, delimiter=layout.delimiter)
        rows = ((reader.line_num, row) for row in reader if row)
        yield from itertools.islice(rows, int(layout.named), None)


def _count_rows(file: Path, layout: _Layout) -> int:
    """Number of rows that are not blank."""
    count = 0
    with _opened(file) as lines:
        for line in lines:
            if line.count('"') % 2:
                # A cell of several lines.
                return sum(1 for _ in _rows(file, layout))
            count += line != "\n"
    return count - layout.named


def _read_text(
    file: Path, labels: str | None, drop: Sequence[str], columns: Sequence[str] | None
) -> Table:
    layout = _text_layout(file)
    choice = _choose(layout, file.name, labels, drop, columns)
    try:
        values, found = _parse(file, layout, choice)
    except ValueError as error:
        raise _explained(file, layout, choice, str(error)) from error
    if np.isnan(values).any():
        raise _explained(file, layout, choice, "NaN")
    return Table(values, choice.columns, found, file.name, choice.notes)


def _parse(
    file: Path, layout: _Layout, choice: _Choice
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Values (N, D) and labels (N,) of a text file."""
    used = set(choice.values)
    kinds = [
        "f8" if k in used else "O" if k == choice.label else "U1" for k in range(len(layout.names))
    ]
    # Neighbours of a kind are one field, so that most tables are one array as they come. All
    # columns are parsed, or rows that are too long would pass.
    runs = [(kind, len(list(run))) for kind, run in itertools.groupby(kinds)]
    with _opened(file) as lines:
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
    labels = _typed(np.array([text.strip() for text in texts[0]])) if texts else None
    return np.ascontiguousarray(values), labels


def _explained(file: Path, layout: _Layout, choice: _Choice, reason: str) -> ValueError:
    """What is wrong with a text file that was not parsed, found in reading it again."""
    places = choice.values
    text: dict[int, tuple[str, str]] = {}
    missing: dict[tuple[int, str], tuple[int, str]] = {}
    for row, (line, cells) in enumerate(_rows(file, layout), 1):
        where = f"row {row} (line {line})"
        if len(cells) != len(layout.names):
            return ValueError(
                f"{file.name} must have {_number(len(layout.names), 'cell')} in each row, as in "
                f"its first line, got {len(cells)} in {where}"
            )
        if _are_numbers([cells[k] for k in places]):
            continue
        for k in places:
            cell = cells[k].strip()
            if cell.lower() in _MISSING:
                count, first = missing.get((k, cell), (0, where))
                missing[k, cell] = count + 1, first
            elif not _are_numbers([cell]):
                text[k] = cell, where
        # One example is enough.
        places = [k for k in places if k not in text]
    if text:
        return _text_found(text, layout, file.name)
    if missing:
        found = [
            (
                k,
                f"{cell!r} in {_number(count, 'cell')}" if cell else _number(count, "empty cell"),
                at,
            )
            for (k, cell), (count, at) in missing.items()
        ]
        return _missing_found(found, layout, file.name)
    return ValueError(f"{file.name} cannot be read as rows of numbers: {reason}")


def _text_found(text: dict[int, tuple[str, str]], layout: _Layout, source: str) -> ValueError:
    """The error for cells of text, or for numbers in another notation."""
    for k, (cell, where) in text.items():
        if _COMMA.fullmatch(cell):
            return ValueError(
                f"{source} must have numbers with a decimal point and no other separators, got "
                f"{cell!r} in {layout.called(k)}, {where}; replace the commas within numbers"
            )
    found = {k: f"has {cell[:40]!r} in {where}" for k, (cell, where) in text.items()}
    return _no_numbers(found, layout, source)


def _no_numbers(found: dict[int, str], layout: _Layout, source: str) -> ValueError:
    """The error for columns that hold no numbers, with an example of each."""
    listed = _some(f"{layout.called(k)} {example}" for k, example in found.items())
    names = [layout.names[k] for k in found]
    # As in a file without names, with numbers and a class in its first line.
    doubt = ""
    if layout.named and any(_are_numbers([name]) for name in layout.names):
        doubt = ". Its first line is taken as names of columns; put one there if it is none"
    return ValueError(
        f"{source} must have numbers; {listed}. Leave out by --drop {shlex.join(names)}, or take "
        f"one as classes by --labels {shlex.quote(names[0])}{doubt}"
    )


def _missing_found(found: list[tuple[int, str, str]], layout: _Layout, source: str) -> ValueError:
    """The error for missing values: columns, how many of which kind, and the first row."""
    listed = _some(f"{layout.called(k)} has {what}, first in {at}" for k, what, at in found)
    names = dict.fromkeys(layout.names[k] for k, _, _ in found)
    return ValueError(
        f"{source} has missing values: {listed}; fill them in, leave out their rows, or --drop "
        f"{shlex.join(names)}"
    )


# Arrays.

_Header = tuple[tuple[int, ...], np.dtype[Any]]


def _header(stream: IO[bytes], what: str) -> _Header:
    """Shape and type of an array in numpy's format; the stream then stands at its values."""
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_2_0
        if version == (1, 0):
            read = np.lib.format.read_array_header_1_0
        shape, _, dtype = read(stream)
    except (OSError, zipfile.BadZipFile):
        raise
    except Exception as error:
        # The header is a Python expression, and a damaged one fails in any way that these do.
        raise ValueError(f"{what} is not an array as numpy.save writes it: {error}") from error
    return shape, dtype


def _check_array(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> tuple[int, ...]:
    """The shape of values that can be used."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ValueError(
            f"{what} must have booleans, integers or floats of up to 64 bits, got the type "
            f"{dtype}; convert it, as by .astype(numpy.float32)"
        )
    if len(shape) == 1:
        raise ValueError(
            f"{what} has one axis {shape}, and rows and columns are expected; reshape(-1, 1) if "
            "it is one column"
        )
    if 0 in shape or not shape:
        raise ValueError(f"{what} must have rows of values, got the shape {shape}")
    return shape


def _npy_shape(file: Path) -> tuple[int, ...]:
    """Shape of an array that is there to its end."""
    with file.open("rb") as stream:
        shape, dtype = _header(stream, file.name)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
    _check_array(shape, dtype, file.name)
    if (found := file.stat().st_size) < size:
        raise ValueError(f"{file.name} is cut off: it must have {size:,} bytes, got {found:,}")
    return shape


def _read_npy(file: Path, labels: str | None, columns: Sequence[str] | None) -> Table:
    _npy_shape(file)
    notes: tuple[str, ...] = ()
    if labels is not None:
        notes = _elsewhere(labels, "column", (), file.name, columns is not None)
    mapped = stays_on_disk(file.stat().st_size)
    values = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    return Table(values if mapped else _native(values), None, None, file.name, notes)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Values in C order, their bytes in this machine's."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _npz_headers(file: Path) -> dict[str, _Header]:
    """Shapes and types of the arrays of an archive."""
    headers = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                name = member.removesuffix(".npy")
                with archive.open(member) as stream:
                    headers[name] = _header(stream, f"array {name!r} of {file.name}")
    return headers


def _pick(
    headers: dict[str, _Header],
    source: str,
    labels: str | None,
    array: str | None,
    optional: bool,
) -> tuple[str, str | None, tuple[str, ...]]:
    """Names of the arrays of values and of labels, and notes."""
    if array is not None and array not in headers:
        raise ValueError(f"--array {array!r} is no array of {source}{_hint(array, headers)}")
    label = labels if labels in headers else None
    notes: tuple[str, ...] = ()
    if labels is not None and label is None:
        notes = _elsewhere(labels, "array", headers, source, optional)
    if array is None:
        array = _only(headers, source, label)
    if labels is None:
        fitting = [name for name in _LABELS if name in headers and name != array]
        rows = headers[array][0][:1]
        label = next((name for name in fitting if headers[name][0] == rows), None)
    notes = (f"values: array {array!r}", *notes)
    return array, label, notes if label is None else (*notes, f"labels: array {label!r}")


def _only(headers: dict[str, _Header], source: str, label: str | None) -> str:
    """The array of values: the one so called, else the one with rows and columns."""
    usual = [name for name in _VALUES if name in headers and name != label]
    tables = [name for name, (shape, _) in headers.items() if len(shape) > 1 and name != label]
    for found in (usual, tables, [name for name in headers if name != label]):
        if len(found) == 1:
            return found[0]
        if found:
            break
    arrays = [f"{name} {shape}" for name, (shape, _) in headers.items()]
    raise ValueError(
        f"{source} must have one array of values, got {_some(arrays, 12) or 'none'}; say which by "
        "--array NAME"
    )


def _read_npz(
    file: Path, labels: str | None, array: str | None, columns: Sequence[str] | None
) -> Table:
    headers = _npz_headers(file)
    name, label, notes = _pick(headers, file.name, labels, array, columns is not None)
    _check_array(*headers[name], f"array {name!r} of {file.name}")
    found = None
    with np.load(file, allow_pickle=False) as arrays:
        values = _native(arrays[name])
        if label is not None:
            _check_labels(headers[label][1], f"array {label!r} of {file.name}")
            found = arrays[label]
    return Table(values, None, found, file.name, notes)


# Parquet.


@contextmanager
def _parquet(file: Path) -> Iterator[Any]:
    """An open parquet file."""
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
        import pyarrow.parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise ValueError(f"{file.name} needs pyarrow to be read; `pip install pyarrow`") from error
    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            yield opened
    except (pyarrow.ArrowException, OSError) as error:
        # The system's own errors have a number; pyarrow's about the content have none.
        if getattr(error, "errno", None) is not None:
            raise
        raise ValueError(f"{file.name} is damaged, or no parquet file: {error}") from error


def _parquet_layout(opened: Any, source: str) -> _Layout:
    names = tuple(opened.schema_arrow.names)
    _check_unique(names, source)
    if not opened.metadata.num_rows:
        raise ValueError(f"{source} has no rows")
    # As pandas calls an index that has no name.
    counters = [k for k, name in enumerate(names) if re.fullmatch(r"__index_level_\d+__", name)]
    return _Layout(names, counters=tuple(counters))


def _read_parquet(
    file: Path, labels: str | None, drop: Sequence[str], columns: Sequence[str] | None
) -> Table:
    with _parquet(file) as opened:
        layout = _parquet_layout(opened, file.name)
        choice = _choose(layout, file.name, labels, drop, columns)
        values = _parquet_values(opened, layout, choice.values, file.name)
        found = None
        if choice.label is not None:
            found = _parquet_labels(opened, layout.names[choice.label])
    return Table(values, choice.columns, found, file.name, choice.notes)


def _parquet_values(opened: Any, layout: _Layout, places: list[int], source: str) -> NDArray[Any]:
    """Values (N, D), read column by column so that they are in memory once."""
    kinds = {k: opened.schema_arrow.field(k).type for k in places}
    if other := {k: f"is of type {kind}" for k, kind in kinds.items() if not _numeric(kind)}:
        raise _no_numbers(other, layout, source)
    dtype = np.result_type(*{np.dtype(kind.to_pandas_dtype()) for kind in kinds.values()})
    values = np.empty((opened.metadata.num_rows, len(places)), dtype)
    missing = []
    for column, k in enumerate(places):
        stored = opened.read(columns=[layout.names[k]]).column(layout.names[k])
        if stored.null_count:
            first = int(stored.is_null().to_numpy().argmax()) + 1
            missing.append((k, _number(stored.null_count, "null"), f"row {first}"))
        else:
            values[:, column] = stored.to_numpy()
    if missing:
        raise _missing_found(missing, layout, source)
    return values


def _parquet_labels(opened: Any, name: str) -> NDArray[Any]:
    """Labels of a column of any type; what is no number becomes text, and a null empty."""
    stored = opened.read(columns=[name]).column(name)
    if _numeric(stored.type) and not stored.null_count:
        return np.asarray(stored.to_numpy())
    return np.array(["" if label is None else str(label) for label in stored.to_pylist()])


def _numeric(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind))
