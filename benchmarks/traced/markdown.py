"""Numbers in Markdown: rendered blocks, marked numbers, and those that are neither."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import ndiff
from typing import NamedTuple

from traced.keys import KeyProblem, Shown, evaluated
from traced.sources import Sources

__all__ = ["Loose", "Problem", "loose", "marks", "rendered", "unread"]

_NUMBER = r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
# A number, with an error or an interval.
_SHOWN = rf"{_NUMBER}(?: ± {_NUMBER}| \[{_NUMBER}, {_NUMBER}\])?"
MARK = re.compile(rf"(?<![\w.])({_SHOWN})<!--(?! )([^\n]+?)-->")
BLOCK = re.compile(r"^<!-- begin (\S+) -->\n(.*?)^<!-- end \1 -->$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

_UNITS = (
    r"nats?|%|times|seeds|standard\ errors?|s(?!\.e)|ms|seconds?|minutes?|hours?|days?"
    r"|[KMG]i?B|GFLOP(?:/s)?"
)
# Numbers in a list, such as "124, 104 and 93 nats", all have the unit of the last one.
_LIST = rf"{_NUMBER}(?:(?:,|,?\ +(?:to|and|or|of|against|[x×]))\ +{_NUMBER})*"
MEASURED = re.compile(
    rf"(?<![\w.,/-])(?:(?P<list>{_LIST})\ *(?:{_UNITS})(?![\w-])|-?[\d,]+\.\d+(?![\w.]*\w))",
    re.VERBOSE,
)
# What is no text: code, formulas, comments, targets of links, and numbers of sections and papers.
_NO_TEXT = re.compile(
    r"`[^`]*`|\$[^$\n]+\$|<!--.*?-->|\]\([^)]*\)|arXiv:[\d.]+|Section [\d.]+(?:, [\d.]+)*",
    re.DOTALL,
)


class Problem(NamedTuple):
    """A place of a page that is not as the results say.

    Attributes:
        line: Its line, from 1.
        key: Name of the block, or key of the number.
        shown: What the page says.
        wanted: What the results say; or what is wrong with the key, if `stuck`.
        stuck: Whether the page cannot be rendered there.
    """

    line: int
    key: str
    shown: str
    wanted: str
    stuck: bool = False

    def __str__(self) -> str:
        if self.stuck:
            return f"{self.key!r}: {self.wanted}"
        if "\n" not in self.shown:
            return f"{self.shown!r} is {self.wanted!r} by {self.key!r}"
        lines = ndiff(self.shown.splitlines(), self.wanted.splitlines())
        return "\n  ".join([f"block {self.key}", *(line for line in lines if line[0] in "-+")])


class Loose(NamedTuple):
    """A number that looks measured and has no source; and where it stands in the page."""

    line: int
    text: str
    start: int
    end: int


def rendered(
    page: str, blocks: Mapping[str, Callable[[Sources], str]], sources: Sources
) -> tuple[str, list[Problem]]:
    """A page with blocks and marked numbers as the results say, and what had to be changed.

    What cannot be rendered, such as a key with a mistake, stays as it is.
    """
    problems: list[Problem] = []

    def block(found: re.Match[str]) -> str:
        name, shown = found[1], found[2]
        line = _line(page, found.start())
        try:
            wanted = blocks[name](sources)
        except (LookupError, ValueError, OSError) as problem:
            problems.append(Problem(line, name, shown, repr(problem), stuck=True))
            return found[0]
        if shown != wanted:
            problems.append(Problem(line, name, shown, wanted))
        return f"<!-- begin {name} -->\n{wanted}<!-- end {name} -->"

    def mark(found: re.Match[str]) -> str:
        shown, key = found.groups()
        line = _line(whole, found.start())
        try:
            wanted = _like(shown, evaluated(key, sources))
        except (KeyProblem, OSError) as problem:
            problems.append(Problem(line, key, shown, str(problem), stuck=True))
            return found[0]
        if shown != wanted:
            problems.append(Problem(line, key, shown, wanted))
        return f"{wanted}<!--{key}-->"

    whole = BLOCK.sub(block, page)
    return MARK.sub(mark, whole), problems


def marks(page: str) -> list[tuple[str, str]]:
    """Text and key of each marked number."""
    return MARK.findall(page)


def unread(page: str) -> list[str]:
    """Comments that are neither the mark of a number nor the limits of a block."""
    rest = MARK.sub("", BLOCK.sub("", page))
    return re.findall(r"<!--.*?-->", FENCE.sub("", rest), re.DOTALL)


def loose(page: str) -> Iterator[Loose]:
    """Numbers that look measured and are neither marked nor in a block, code or formula.

    These are decimal fractions, and numbers with a unit.
    """
    text = page
    for pattern in (BLOCK, FENCE, MARK, _NO_TEXT):
        text = pattern.sub(lambda found: re.sub(r"[^\n]", "\0", found[0]), text)
    # A line break is a space within a sentence.
    flat = re.sub(r"\n(?=[^\n|])", " ", text)
    for found in MEASURED.finditer(flat):
        numbers = re.compile(_NUMBER) if found["list"] else re.compile(re.escape(found[0]))
        for number in numbers.finditer(flat, found.start(), found.end()):
            yield Loose(_line(page, number.start()), number[0], number.start(), number.end())


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _like(text: str, shown: Shown) -> str:
    """A number with the decimals of a text, which must have an error or an interval if it has."""
    forms = [" ± " in text, "[" in text]
    if forms != [shown.error is not None, shown.interval is not None]:
        raise KeyProblem(f"{text!r} does not have the form that its key gives, {shown}")
    decimals = [len(each.partition(".")[2]) for each in re.findall(_NUMBER, text)]
    parts = [shown.value]
    parts += [] if shown.error is None else [shown.error]
    parts += shown.interval or []
    rounded = [number(value, digits) for value, digits in zip(parts, decimals, strict=True)]
    if shown.interval is not None:
        return f"{rounded[0]} [{rounded[1]}, {rounded[2]}]"
    return " ± ".join(rounded)


def number(value: float, decimals: int) -> str:
    """A number with some decimals, and commas between thousands; zero without a sign.

    It is rounded as in the tables beside the results.
    """
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if not re.search("[1-9]", text) else text
