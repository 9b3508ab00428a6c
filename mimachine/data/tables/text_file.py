"""Read a text file as a table: its encoding and dialect, its cells and their types."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mimachine.data.files.columns import Layout
from mimachine.data.files.text_stream import decoded
from mimachine.data.tables.columns.typed import TypedColumns
from mimachine.data.tables.dialect import layout_of
from mimachine.data.tables.frame import Frame
from mimachine.data.tables.names import chosen_columns
from mimachine.data.tables.number_text import NumberStyle
from mimachine.data.tables.text_cells import read_cells, read_texts
from mimachine.data.tables.text_columns import (
    Custom,
    Readings,
    custom_of,
    may_lose_digits,
    plain,
    readings_of,
)
from mimachine.data.tables.text_rows import Places

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Columns", "read_columns", "read_original_cells", "read_text_file"]

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
    table = TypedColumns(frame, types, formats)
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
