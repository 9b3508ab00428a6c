"""Cells of tables: numbers as text, with their errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from traced.markdown import number
from traced.rows import Number, Row, chosen

__all__ = [
    "mean",
    "of_paper",
    "one",
    "percent",
    "table",
    "with_error",
    "with_one_digit",
    "with_sd",
    "with_se",
    "with_two_digits",
]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; columns after the first ones are aligned to the right."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    lines = [header, *rows]
    body = ["|" + "".join(f" {cell} |" if cell else " |" for cell in line) for line in lines]
    return "\n".join([body[0], f"|{'|'.join(rule)}|", *body[1:]]) + "\n"


def one(rows: Iterable[Row], *selectors: str) -> Row:
    """The only row that satisfies the selectors.

    Raises:
        LookupError: If there is none, or more than one.
    """
    found = chosen(rows, selectors)
    if len(found) != 1:
        raise LookupError(f"{len(found)} rows satisfy {selectors}")
    return found[0]


def mean(found: Number, digits: int) -> str:
    """Mean over seeds."""
    return number(found.mean, digits)


def with_sd(found: Number, digits: int) -> str:
    """Mean ± standard deviation over seeds, and the number of seeds that diverged."""
    lost = len(found.values) - len(found.finite)
    note = f" ({lost} diverged)" if lost else ""
    return f"{number(found.mean, digits)} ± {number(found.sd, digits)}{note}"


def with_se(found: Number, digits: int) -> str:
    """Mean ± standard error over seeds; the value alone of a single seed, "-" without any."""
    if not len(found.finite):
        return "-"
    error = "" if math.isnan(found.se) else f" ± {number(found.se, digits)}"
    return number(found.mean, digits) + error


def with_error(found: Number, digits: int) -> str:
    """Value ± the error that the file gives with it."""
    return f"{number(found.mean, digits)} ± {number(found.error, digits)}"


def with_one_digit(found: Number) -> str:
    """Value ± error, to one digit of the error but at most three decimals.

    An error of 100 or more has two digits.
    """
    if found.error >= 100:
        place = 10 ** (math.floor(math.log10(found.error)) - 1)
        value, error = (round(each / place) * place for each in (found.mean, found.error))
        return f"{value:,} ± {error:,}"
    digits = 3 if found.error < 1e-3 else -math.floor(math.log10(found.error))
    if found.error > 0 and round(found.error, digits) >= 10 ** (1 - digits):
        digits -= 1
    digits = max(1, min(3, digits))
    return with_error(found, digits)


def with_two_digits(found: Number) -> str:
    """Mean ± standard error over seeds, to two digits of the error or five decimals."""
    if not found.se > 0:
        return with_se(found, 2)
    return with_se(found, min(5, max(0, 1 - math.floor(math.log10(found.se)))))


def percent(found: Number, digits: int = 0) -> str:
    """A share in percent, "-" if there is none."""
    return "-" if math.isnan(found.mean) else f"{number(100 * found.mean, digits)} %"


def of_paper(row: Row, metric: str, digits: int) -> str:
    """The paper's mean ± standard deviation, "± <" where its marker hides the error bar."""
    found = row[f"{metric}:paper"]
    sign = "±" if row.get(f"{metric}:apart_read") else "± <"
    return f"{number(found.mean, digits)} {sign} {number(found.error, digits)}"
