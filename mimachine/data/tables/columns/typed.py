"""Columns of text with their types, of a table so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mimachine.data.tables.frame import Frame
from mimachine.data.tables.number_text import is_number
from mimachine.data.tables.text_columns import Custom, Readings, Typed, typed
from mimachine.data.tables.time_text import is_time

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TypedColumns"]

_NUMBERS = ("Int", "UInt", "Float", "Decimal")


class TypedColumns:
    """Typed columns of a table so far.

    Args:
        frame: The source, and the places of its rows; its data do not matter.
        types: polars types of columns in another file, as text.
        formats: Formats and styles of columns in another file.
    """

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
