"""Types of columns of text: numbers in other styles, true and false, dates and times, or text.

A column has a type if all its cells have it or are missing. Where a cell could be read in two ways,
the other cells of the column decide, then the other columns, then custom, and a note says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from mimachine.data.files.checks import Distinct, with_many_digits
from mimachine.data.files.table import MISSING, MISSING_LABELS
from mimachine.data.tables.number_text import NumberStyle, number_styles
from mimachine.data.tables.time_text import TimeFormat, time_formats

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "Custom",
    "Readings",
    "Typed",
    "custom_of",
    "may_lose_digits",
    "plain",
    "readings_of",
    "typed",
]

_TRUE, _FALSE = ("true", "yes"), ("false", "no")
# Marks of missing values among words; a column of signs may have them as classes.
_MARKS = ("?", ".", "-", "--", "*", "missing", "not available")
# Smallest share of numbers in a column of text that is said to be mixed.
_MIXED = 0.9
LEADING_ZERO = "^[+-]?0[0-9]"
_LARGEST_WHOLE = 1 << 53
_WHOLE = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Readings:
    """What a column of text may be.

    Attributes:
        cells: The cells, shape (N,), null where a code says that they are missing.
        marked: The same, null also where a word may say so.
        kind: What they are.
        styles: Styles of numbers.
        formats: Formats of dates and times.
    """

    cells: pl.Series
    marked: pl.Series
    kind: Literal["empty", "boolean", "number", "time", "text"]
    styles: tuple[NumberStyle, ...] = ()
    formats: tuple[TimeFormat, ...] = ()


@dataclass(frozen=True)
class Custom:
    """How ambiguous numbers and dates are read.

    Attributes:
        decimal: Whether a single comma in a number is a decimal comma.
        day_first: Whether the day comes first in a date such as 1/2/2020.
        because: Why.
        has_commas: Whether a column certainly has decimal commas.
    """

    decimal: bool = False
    day_first: bool = False
    because: str = "as in the United States"
    has_commas: bool = False


@dataclass(frozen=True)
class Typed:
    """A column with its type.

    Attributes:
        data: The column, shape (N,).
        format: Format of dates and times, or style of numbers, if there is one.
        notes: What was decided, without the name of the column.
        odd: Row of the first cell that is no number, if nearly all others are.
        lost: A number that floating-point numbers do not tell from others, if the column is text
            for that reason.
    """

    data: pl.Series
    format: str | None = None
    notes: tuple[str, ...] = field(default=())
    odd: int | None = None
    lost: str | None = None


def readings_of(cells: pl.Series) -> Readings:
    """What a column of text may be, from all its cells (N,)."""
    lower = cells.str.to_lowercase()
    cells = _without(cells, lower.is_in(list(MISSING_LABELS)))
    marked = _without(cells, lower.is_in(list(MISSING)))
    values = marked.drop_nulls().unique(maintain_order=True)
    if not len(values):
        return Readings(cells, marked, "text" if cells.null_count() < len(cells) else "empty")
    words = set(values.head(8).str.to_lowercase())
    if (words <= {"true", "false"} or words == {"yes", "no"}) and set(
        values.str.to_lowercase()
    ) == words:
        return Readings(cells, marked, "boolean")
    if styles := number_styles(values):
        return Readings(cells, marked, "number", styles=tuple(styles))
    if formats := time_formats(values):
        return Readings(cells, marked, "time", formats=tuple(formats))
    return Readings(cells, marked, "text")


def plain(cells: pl.Series, style: NumberStyle) -> Readings:
    """A column of text (N,) that is known to be of numbers in a style, or missing."""
    missing = cells.str.to_lowercase().is_in(list(MISSING))
    return Readings(cells, _without(cells, missing), "number", (style,))


def may_lose_digits(numbers: pl.Series) -> bool:
    """Whether floating-point numbers may make different numbers (N,) of text equal."""
    import polars as pl

    if numbers.dtype == pl.Int64:
        low, high = numbers.min(), numbers.max()
        return any(isinstance(end, int) and abs(end) > _LARGEST_WHOLE for end in (low, high))
    finite = numbers.filter(numbers.is_finite())
    return bool(len(finite) and with_many_digits(finite.to_numpy()[:, None]).any())


def custom_of(columns: Iterable[Readings], delimiter: str) -> Custom:
    """How ambiguous cells are read, from the columns that are not ambiguous."""
    columns = list(columns)
    decimals = {each.styles[0].decimal for each in columns if len(each.styles) == 1}
    orders = {each.formats[0].order for each in columns if len(each.formats) == 1} - {""}
    comma = "," in decimals or (delimiter == ";" and "." not in decimals)
    day = "day" in orders or ("month" not in orders and comma)
    if "," in decimals or orders:
        return Custom(comma, day, "as in other columns", "," in decimals)
    return Custom(comma, day, "as in files with semicolons") if comma else Custom()


def typed(
    found: Readings, custom: Custom, known: str | None = None, leading_zeros: bool = False
) -> Typed:
    """A column with its type.

    Args:
        found: What it may be.
        custom: How ambiguous cells are read.
        known: Format or style of the column in another file, which is taken if it fits.
        leading_zeros: Whether numbers may have them; otherwise the column is text.
    """
    import polars as pl

    if found.kind == "empty":
        return Typed(pl.Series(found.cells.name, [None] * len(found.cells), dtype=pl.Null))
    if found.kind == "boolean":
        return Typed(found.marked.str.to_lowercase().is_in(list(_TRUE)))
    if found.kind == "number":
        return _number(found, custom, known, leading_zeros)
    if found.kind == "time":
        return _time(found, custom, known)
    return _text(found)


def _without(cells: pl.Series, are_missing: pl.Series) -> pl.Series:
    import polars as pl

    if not are_missing.any():
        return cells
    return cells.zip_with(~are_missing.fill_null(True), pl.Series([None], dtype=pl.String))


def _number(found: Readings, custom: Custom, known: str | None, leading_zeros: bool) -> Typed:
    style = found.styles[0]
    notes: tuple[str, ...] = ()
    if len(found.styles) > 1:
        comma = next(each for each in found.styles if each.decimal == ",")
        style = comma if custom.decimal else next(s for s in found.styles if s is not comma)
        if other := NumberStyle.parse(known or ""):
            style = next(each for each in found.styles if each.decimal == other.decimal)
        else:
            meant = "a decimal comma" if style is comma else "separators of thousands"
            example = found.marked.drop_nulls().filter(
                found.marked.drop_nulls().str.contains(",", literal=True)
            )[0]
            notes = (f"may have decimal commas or separators of thousands, such as {example!r}; "
                     f"read as {meant}, {custom.because}",)  # fmt: skip
    other = NumberStyle.parse(known or "")
    if other is not None and other.decimal == "," and style == NumberStyle(sign=style.sign):
        pointed = NumberStyle(",", ".", style.sign)
        cells = style.plain(found.marked).drop_nulls()
        if cells.str.contains(pointed.pattern.replace(r"\d", "[0-9]")).all():
            style = pointed
    plain = style.plain(found.marked)
    if not leading_zeros and (zeros := plain.filter(plain.str.contains(LEADING_ZERO))).len():
        note = f"is kept as text, because of leading zeros as in {zeros[0]!r}"
        return Typed(found.cells, None, (note,))
    numbers = _as_numbers(plain)
    if example := _lost_digits(plain, numbers):
        note = f"is kept as text, because numbers such as {example} have too many digits"
        return Typed(found.cells, None, (note,), lost=example)
    if style.sign:
        notes += (f"has numbers with the sign {style.sign}, which is left out",)
    is_plain = style == NumberStyle()
    return Typed(numbers, None if is_plain else str(style), notes)


def _as_numbers(plain: pl.Series) -> pl.Series:
    """Text of numbers as computers write them, as Int64 or Float64."""
    import polars as pl

    whole = plain.cast(pl.Int64, strict=False)
    if whole.null_count() == plain.null_count():
        return whole
    return plain.cast(pl.Float64, strict=False)


def _lost_digits(plain: pl.Series, numbers: pl.Series) -> str | None:
    """A number that floating-point numbers do not tell from the others of its column."""
    if not may_lose_digits(numbers):
        return None
    column = Distinct()
    for cell in plain.drop_nulls().unique(maintain_order=True):
        number = Decimal(cell)
        if number.is_finite() and not column.takes(number, _WHOLE.fullmatch(cell) is not None):
            return str(cell)
    return None


def _time(found: Readings, custom: Custom, known: str | None) -> Typed:
    chosen = found.formats[0]
    notes: tuple[str, ...] = ()
    if len(found.formats) > 1:
        day, month = found.formats
        chosen = day if custom.day_first else month
        if known in (day.format, month.format):
            chosen = day if known == day.format else month
        else:
            example = found.marked.drop_nulls()[0]
            order = "day" if chosen is day else "month"
            notes = (f"may have the day or the month first, as in {example!r}; read with the "
                     f"{order} first, {custom.because}",)  # fmt: skip
    if chosen.format.endswith("%z"):
        notes += ("date-times with offsets are converted to UTC",)
    return Typed(chosen.read(found.marked), chosen.format, notes)


def _text(found: Readings) -> Typed:
    cells = found.cells
    notes: tuple[str, ...] = ()
    values = cells.drop_nulls().unique(maintain_order=True)
    marks = values.filter(values.str.to_lowercase().is_in(list(_MARKS)))
    others = values.filter(~values.is_in(marks.to_list()))
    if len(marks) and len(others) and others.str.contains(r"[\pL\pN]").all():
        cells = _without(cells, cells.is_in(marks.to_list()))
        notes = (f"has {', '.join(map(repr, marks))}, read as missing",)
    is_number = found.marked.is_null() | _numbers(found.marked)
    seen = len(found.marked) - found.marked.null_count()
    count = int(is_number.sum()) - found.marked.null_count()
    odd = None
    if seen and _MIXED * seen <= count < seen:
        odd = int((~is_number).arg_max() or 0)
    return Typed(cells, None, notes, odd)


def _numbers(cells: pl.Series) -> pl.Series:
    """Whether cells (N,) are numbers in a common style."""
    import polars as pl

    plain = cells.cast(pl.Float64, strict=False).is_not_null()
    comma = cells.str.contains(NumberStyle(",", ".").pattern.replace(r"\d", "[0-9]"))
    point = cells.str.contains(NumberStyle(".", ",").pattern.replace(r"\d", "[0-9]"))
    return (plain | comma | point).fill_null(False)
