"""Numbers as people write them: with decimal commas, separators of thousands, and a sign."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["NumberStyle", "is_number", "number_styles"]

_SIGNS = (
    *("%", "€", "$", "£", "¥", "₹", "zł", "kr", "USD", "EUR", "GBP", "CHF", "SEK", "NOK", "DKK"),
    *("US$", "JPY", "CNY", "INR", "PLN", "CAD", "AUD"),
)
_EXPONENT = r"(?:[eE][+-]?\d+)?"
# Spaces that separate thousands, besides the common one, and other forms of "-" and "'".
_SPACES = "[\u00a0\u2009\u202f]"
_OTHERS = (("−", "-"), ("’", "'"))
# Negative numbers as accountants write them, (1.50), and some programs, 1.50-.
_ACCOUNTED, _TRAILED = r"^\(([^()+-]+)\)$", r"^([^+-]+)-$"
_NEGATIVE = "^-"


@dataclass(frozen=True)
class NumberStyle:
    """How the numbers of a column are written.

    Attributes:
        decimal: Decimal point or comma.
        group: Separator of thousands; none if empty.
        sign: Sign of percent or of a currency before or after all numbers; none if empty.
    """

    decimal: str = "."
    group: str = ""
    sign: str = ""

    def __str__(self) -> str:
        return f"1{self.group}234{self.decimal}5{self.sign}"

    @classmethod
    def parse(cls, text: str) -> NumberStyle | None:
        """The style whose text is this; None if it is of no style."""
        found = re.fullmatch(r"1(\D?)234([.,])5(\D{0,3})", text)
        return cls(found[2], found[1], found[3]) if found else None

    @property
    def pattern(self) -> str:
        """Regular expression of a number, without the sign."""
        whole = r"\d+"
        if self.group:
            whole = rf"(?:\d+|\d{{1,3}}(?:{re.escape(self.group)}\d{{3}})+)"
        point = re.escape(self.decimal)
        return rf"^[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+){_EXPONENT}$"

    def plain(self, cells: pl.Series) -> pl.Series:
        """Cells (N,) of this style as computers write numbers."""
        cells = _usual(cells)
        if self.sign:
            cells = cells.str.replace_all(self.sign, "", literal=True).str.strip_chars()
        if self.group:
            cells = cells.str.replace_all(self.group, "", literal=True)
        if self.decimal != ".":
            cells = cells.str.replace_all(self.decimal, ".", literal=True)
        return cells


# Those without separators first: they are preferred where both fit.
_STYLES = tuple(
    NumberStyle(decimal, group)
    for decimal, groups in ((".", ("", ",", " ", "'")), (",", ("", ".", " ", "'")))
    for group in groups
)
_ANY = tuple(re.compile(style.pattern, re.ASCII) for style in _STYLES)


def is_number(cell: str) -> bool:
    """Whether a cell is a number in one of the styles, without a sign."""
    return any(pattern.match(cell) for pattern in _ANY)


def number_styles(cells: pl.Series) -> list[NumberStyle]:
    """Styles of which all cells are: none, one, or two if all commas may separate thousands.

    Args:
        cells: Different texts, shape (N,), without missing ones.
    """
    sign = ""
    usual = _usual(cells)
    first = usual[0]
    if usual.str.contains(_NEGATIVE).any() and cells.str.contains(r"^\(").all():
        # Numbers of notes, rather than negative ones.
        return []
    if signs := [each for each in _SIGNS if each in first]:
        sign = max(signs, key=len)
        inner = usual.str.strip_chars_end(" ") if sign == "%" else usual
        stripped = inner.str.replace(rf"^([+-]?){re.escape(sign)} ?|( ?){re.escape(sign)}$", "$1")
        if not (stripped.str.len_chars() < inner.str.len_chars()).all():
            return []
        usual = stripped
    fitting = [style for style in _STYLES if _all_match(usual, style.pattern)]
    if not usual.str.contains("[.,]").any():
        fitting = fitting[:1]
    return [NumberStyle(each.decimal, each.group, sign) for each in _different(fitting)]


def _different(styles: Iterable[NumberStyle]) -> list[NumberStyle]:
    """The first style with each decimal sign; the plain one alone if it fits."""
    first: dict[str, NumberStyle] = {}
    for style in styles:
        first.setdefault(style.decimal, style)
    if "." in first and not first["."].group:
        return [first["."]]
    return list(first.values())


def _usual(cells: pl.Series) -> pl.Series:
    cells = cells.str.replace_all(_SPACES, " ")
    for other, usual in _OTHERS:
        cells = cells.str.replace_all(other, usual, literal=True)
    return cells.str.replace(_ACCOUNTED, "-$1").str.replace(_TRAILED, "-$1")


def _all_match(cells: pl.Series, pattern: str) -> bool:
    # Rust's \d takes digits of all scripts.
    pattern = pattern.replace(r"\d", "[0-9]")
    return bool(cells.head(100).str.contains(pattern).all() and cells.str.contains(pattern).all())
