"""Dates, date-times and times in text: their formats, and whether day or month comes first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TimeFormat", "is_time", "time_formats"]

# Patterns of dates and their formats; with two formats day and month may be exchanged.
_DATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    *((rf"\d{{4}}{s}\d{{1,2}}{s}\d{{1,2}}", (f"%Y{s}%m{s}%d",)) for s in ("-", "/", r"\.")),
    *(
        (rf"\d{{1,2}}{s}\d{{1,2}}{s}\d{{4}}", (f"%d{s}%m{s}%Y", f"%m{s}%d{s}%Y"))
        for s in ("-", "/")
    ),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y",)),
    (r"\d{1,2}/\d{1,2}/\d{2}", ("%d/%m/%y", "%m/%d/%y")),
    (r"\d{2}\.\d{2}\.\d{2}", ("%d.%m.%y",)),
    (r"\d{1,2} [A-Za-z]{3} \d{4}", ("%d %b %Y",)),
    (r"\d{1,2} [A-Za-z]{4,9} \d{4}", ("%d %B %Y",)),
    (r"\d{1,2}-[A-Za-z]{3}-\d{4}", ("%d-%b-%Y",)),
    (r"\d{1,2}-[A-Za-z]{3}-\d{2}", ("%d-%b-%y",)),
    (r"[A-Za-z]{3} \d{1,2}, \d{4}", ("%b %d, %Y",)),
    (r"[A-Za-z]{4,9} \d{1,2}, \d{4}", ("%B %d, %Y",)),
)
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?: ?[AaPp][Mm])?"
_OFFSET = r"(?:Z|[+-]\d{2}:?\d{2})?"
_MONTH = r"\d{4}-\d{2}"
_DATE = "|".join(pattern for pattern, _ in _DATES)
_ANY = re.compile(rf"(?:{_DATE})(?:[T ]{_CLOCK}{_OFFSET})?|{_CLOCK}|{_MONTH}", re.ASCII)


@dataclass(frozen=True)
class TimeFormat:
    """A format that all cells of a column have.

    Attributes:
        kind: What the cells are.
        format: Format as polars' `strptime` and `strftime` take it.
        order: Which of day and month comes first, where both may be numbers.
    """

    kind: Literal["date", "datetime", "time"]
    format: str
    order: Literal["day", "month", ""] = ""

    def read(self, cells: pl.Series) -> pl.Series:
        """Cells (N,) as dates, date-times in microseconds, or times; null where they are not.

        Date-times with an offset are in UTC.
        """
        import polars as pl

        if self.kind == "date":
            return cells.str.to_date(self.format, strict=False)
        if self.kind == "time":
            return cells.str.to_time(self.format, strict=False)
        if self.format.endswith("%z"):
            cells = cells.str.replace("Z$", "+00:00")
        found = cells.str.to_datetime(self.format, time_unit="us", strict=False)
        if self.format.endswith("Z"):
            return found.dt.replace_time_zone("UTC")
        return found.cast(pl.Datetime("us", "UTC")) if self.format.endswith("%z") else found

    def with_offset(self, ends_with_z: bool) -> TimeFormat:
        """The format with a time zone: Z, or an offset from UTC."""
        return TimeFormat(self.kind, self.format + ("Z" if ends_with_z else "%z"), self.order)


def is_time(cell: str) -> bool:
    """Whether a cell looks like a date, a date-time or a time."""
    return _ANY.fullmatch(cell) is not None


def time_formats(cells: pl.Series) -> list[TimeFormat]:
    """Formats of which all cells are: none, one, or two if day and month may be exchanged.

    Args:
        cells: Different texts, shape (N,), without missing ones.
    """
    first = str(cells[0])
    if not is_time(first):
        return []
    if re.fullmatch(_CLOCK, first):
        return _fitting(cells, _CLOCK, [TimeFormat("time", _clock(cells))])
    if re.fullmatch(_MONTH, first):
        return _fitting(cells, _MONTH, [TimeFormat("date", "%Y-%m")])
    for pattern, formats in _DATES:
        if found := re.match(rf"(?:{pattern})(?=$|[T ]\d)", first):
            rest = first[found.end() :]
            return _dates(cells, pattern, tuple(f.replace("\\", "") for f in formats), rest)
    return []


def _dates(cells: pl.Series, pattern: str, formats: tuple[str, ...], rest: str) -> list[TimeFormat]:
    """Formats of cells that begin with a date; `rest` is what follows in the first one."""
    orders: list[Literal["day", "month", ""]] = ["day", "month"] if len(formats) > 1 else [""]
    if not rest:
        dates = [TimeFormat("date", f, o) for f, o in zip(formats, orders, strict=True)]
        return _fitting(cells, pattern, dates)
    clock = rest[0] + _clock(cells)
    times = [TimeFormat("datetime", f + clock, o) for f, o in zip(formats, orders, strict=True)]
    ends = cells.str.contains("Z$")
    if ends.any() or cells.str.contains(r"[+-]\d{2}:?\d{2}$").any():
        times = [each.with_offset(bool(ends.all())) for each in times]
        return _fitting(cells, f"{pattern}{rest[0]}{_CLOCK}(?:Z|[+-]\\d{{2}}:?\\d{{2}})", times)
    return _fitting(cells, f"{pattern}{rest[0]}{_CLOCK}", times)


def _clock(cells: pl.Series) -> str:
    """Format of the time at the end of cells."""
    first = str(cells[0])
    found = re.search(_CLOCK, first)
    seconds = found is not None and found[0].count(":") == 2
    text = "%I:%M" if found is not None and found[0][-1] in "mM" else "%H:%M"
    if seconds:
        text += ":%S%.f" if cells.str.contains(r":\d{2}\.\d").any() else ":%S"
    if text.startswith("%I") and found is not None:
        text += " %p" if " " in found[0] else "%p"
    return text


def _fitting(cells: pl.Series, pattern: str, formats: list[TimeFormat]) -> list[TimeFormat]:
    """The formats that read all cells."""
    pattern = f"^(?:{pattern})$".replace(r"\d", "[0-9]")
    if not (cells.head(100).str.contains(pattern).all() and cells.str.contains(pattern).all()):
        return []
    return [each for each in formats if not each.read(cells).null_count()]
