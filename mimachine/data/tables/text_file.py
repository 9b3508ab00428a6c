"""Read a text file as a table: its encoding and dialect, its cells and their types."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mimachine.data.files.columns import Layout
from mimachine.data.files.text_stream import decoded
from mimachine.data.tables.dialect import layout_of
from mimachine.data.tables.frame import Frame
from mimachine.data.tables.names import chosen_columns
from mimachine.data.tables.number_text import NumberStyle, is_number
from mimachine.data.tables.text_cells import read_cells, read_texts
from mimachine.data.tables.text_columns import (
    Custom,
    Readings,
    Typed,
    custom_of,
    may_lose_digits,
    plain,
    readings_of,
    typed,
)
from mimachine.data.tables.text_rows import Places
from mimachine.data.tables.time_text import is_time

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Columns", "read_columns", "read_original_cells", "read_text_file"]

_NUMBERS = ("Int", "UInt", "Float", "Decimal")
_THOUSANDS = r"^[+-]?[0-9]{1,3}(\.[0-9]{3})+$"


def read_text_file(
    file: Path,
    header: bool | None,
    columns: Sequence[str] | None,
    types: Mapping[str, str],
    formats: Mapping[str, str],
) -> Frame:
    """Read a text file; see `read_frame`."""
    frame, notes = decoded(
        file, lambda encoding: _read(file, encoding, header, columns, types, formats)
    )
    return replace(frame, notes=notes + frame.notes)


def read_original_cells(file: Path, header: bool | None, names: Sequence[str]) -> pl.DataFrame:
    """Columns of a text file as they are written, as text; empty cells are null."""
    import polars as pl

    def read(encoding: str) -> pl.DataFrame:
        layout = layout_of(file, header, None, encoding)
        places, _ = chosen_columns(layout.names, layout.named, names, file.name)
        texts = read_texts(file, layout, places)
        return pl.DataFrame([texts[k].alias(n) for k, n in zip(places, names, strict=True)])

    return decoded(file, read)[0]


def _read(
    file: Path,
    encoding: str,
    header: bool | None,
    columns: Sequence[str] | None,
    types: Mapping[str, str],
    formats: Mapping[str, str],
) -> Frame:
    import polars as pl

    layout = layout_of(file, header, columns, encoding)
    chosen, names, notes = _chosen(layout, columns, file.name)
    known = {k: NumberStyle.parse(formats.get(names[k], "")) for k in chosen}
    commas = {k for k, style in known.items() if style is not None and style.decimal == ","}
    found = read_columns(file, layout, chosen, commas=commas)
    frame = Frame(pl.DataFrame(), file.name, layout.named, place=found.places)
    table = _Columns(frame, types, formats)
    for k, column in found.columns.items():
        table.add(names[k], column, found.custom)
    return table.frame(notes)


class Columns(NamedTuple):
    """Columns of a text file.

    Attributes:
        columns: By index: numbers, or text and what it may be.
        custom: How ambiguous text is read.
        places: Lines of the rows.
    """

    columns: dict[int, pl.Series | Readings]
    custom: Custom
    places: Places


def read_columns(
    file: Path,
    layout: Layout,
    chosen: Sequence[int],
    leading_zeros: bool = False,
    commas: Collection[int] = (),
) -> Columns:
    """Columns of a text file, given by their indices; see `read_cells`.

    In columns of `commas` numbers are known to have decimal commas.
    """
    import polars as pl

    cells, places = read_cells(file, layout, chosen, leading_zeros)
    found = {k: readings_of(each) for k, each in cells.items() if each.dtype == pl.String}
    custom = custom_of(found.values(), layout.delimiter)
    numbers = {k: column for k, column in cells.items() if k not in found}
    commas = numbers if custom.has_commas else commas
    if suspects := _suspects(numbers, commas):
        for k, text in read_texts(file, layout, suspects).items():
            found[k] = plain(text, _style(text, k in commas))
    return Columns({k: found.get(k, cells[k]) for k in chosen}, custom, places)


def _chosen(
    layout: Layout, columns: Sequence[str] | None, source: str
) -> tuple[list[int], dict[int, str], tuple[str, ...]]:
    """Indices and names of the columns to read, and notes."""
    rest = [k for k in range(len(layout.names)) if k not in layout.counters]
    notes = layout.notes
    if columns is not None:
        places, more = chosen_columns(layout.names, layout.named, columns, source)
        return places, dict(zip(places, columns, strict=True)), notes + more
    if len(rest) < len(layout.names):
        left_out = ", ".join(layout.called(k) for k in layout.counters)
        notes += (f"{left_out} only counts the rows; not used",)
    return rest, {k: layout.names[k] for k in rest}, notes


def _suspects(columns: Mapping[int, pl.Series], commas: Collection[int]) -> list[int]:
    """Columns of plain numbers whose text matters: long digits, and points between thousands."""
    import polars as pl

    suspects = []
    for k, column in columns.items():
        is_short = False
        if k in commas and column.dtype == pl.Float64:
            finite = column.filter(column.is_finite())
            is_short = bool((finite == finite.round(3)).all())
        if is_short or may_lose_digits(column):
            suspects.append(k)
    return suspects


def _style(text: pl.Series, has_commas: bool) -> NumberStyle:
    """Style of a column of plain numbers, whose points may be between thousands: "1.234"."""
    pointed = text.filter(text.str.contains(".", literal=True))
    if has_commas and len(pointed) and pointed.str.contains(_THOUSANDS).all():
        return NumberStyle(",", ".")
    return NumberStyle()


class _Columns:
    """Typed columns of a text file so far."""

    def __init__(self, frame: Frame, types: Mapping[str, str], formats: Mapping[str, str]) -> None:
        self._frame, self._types, self._known = frame, types, formats
        self._columns: list[pl.Series] = []
        self._formats: dict[str, str] = {}
        self._styles: dict[str, str] = {}
        self._mixed: dict[str, str] = {}
        self._notes: list[str] = []

    def add(self, name: str, found: pl.Series | Readings, custom: Custom) -> None:
        """Add a column: numbers, or text with what it may be."""
        import polars as pl

        kind = self._types.get(name, "")
        if not isinstance(found, Readings):
            is_empty = found.null_count() == len(found)
            result = Typed(found.cast(pl.Null) if is_empty else found)
        else:
            result = typed(found, custom, self._known.get(name))
            if name in self._types:
                result = self._expected(name, found, result, kind)
        data = result.data.alias(name)
        self._columns.append(data)
        is_time = data.dtype in (pl.Date, pl.Time) or isinstance(data.dtype, pl.Datetime)
        if result.format is not None:
            (self._formats if is_time else self._styles)[name] = result.format
        self._notes += [f"{self._frame.called(name)} {note}" for note in result.notes]
        if result.odd is not None and isinstance(found, Readings):
            self._mixed[name] = self._cell(found, result.odd)

    def frame(self, notes: tuple[str, ...]) -> Frame:
        """The table."""
        import polars as pl

        return replace(
            self._frame,
            data=pl.DataFrame(self._columns),
            notes=(*notes, *self._notes),
            formats=self._formats,
            styles=self._styles,
            mixed=self._mixed,
        )

    def _cell(self, found: Readings, row: int) -> str:
        return f"{str(found.cells[row])[:40]!r} in {self._frame.place(row)}"

    def _expected(self, name: str, found: Readings, result: Typed, kind: str) -> Typed:
        """A column as it was in another file; an error names a cell that cannot be read so."""
        import polars as pl

        if kind.startswith(("String", "Categorical", "Enum")):
            return typed(Readings(found.cells, found.marked, "text"), Custom())
        if result.data.dtype == pl.Null or kind == "Null":
            return result
        if kind.startswith(_NUMBERS):
            fits, what = result.data.dtype.is_numeric(), "numbers"
            if not fits and result.odd is None and found.kind == "number":
                plain = found.styles[0].plain(found.marked)
                return Typed(plain.cast(pl.Float64, strict=False), None, result.notes)
        elif kind == "Boolean":
            return self._flags(name, found)
        else:
            fits, what = str(result.data.dtype).startswith(kind[:4]), "dates or times"
        if fits:
            return result
        raise self._unlike(name, found, result, what)

    def _flags(self, name: str, found: Readings) -> Typed:
        lower = found.marked.str.to_lowercase()
        is_true, is_false = lower.is_in(["true", "yes"]), lower.is_in(["false", "no"])
        bad = ~(is_true | is_false).fill_null(True)
        if bad.any():
            raise self._error(name, found, int(bad.arg_max() or 0), "true and false")
        return Typed(is_true)

    def _unlike(self, name: str, found: Readings, result: Typed, what: str) -> ValueError:
        """The error for the first cell that is not as those of another file."""
        row = result.odd
        if row is None:
            row = _first_unlike(found, self._known.get(name), what)
        return self._error(name, found, row, what)

    def _error(self, name: str, found: Readings, row: int, what: str) -> ValueError:
        return ValueError(
            f"{self._frame.source} must have {what} in {self._frame.called(name)}, as in training; "
            f"got {self._cell(found, row)}"
        )


def _first_unlike(found: Readings, known: str | None, what: str) -> int:
    """Row of the first cell that is no number, or not of the known format."""
    test: Callable[[str], bool] = is_number if what == "numbers" else is_time
    for row, cell in enumerate(found.marked):
        if cell is not None and not test(cell):
            return row
    return int(found.marked.is_not_null().arg_max() or 0)
