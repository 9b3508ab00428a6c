"""The language of keys, which say where a number of a page comes from; see benchmarks/pages.py."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mimachine.paper.paired import mean_difference, mean_ratio
from traced.rows import Number, Row, Vector, chosen
from traced.sources import Sources

__all__ = ["KeyProblem", "Shown", "evaluated"]


class KeyProblem(Exception):
    """A key that cannot be read, or that does not give one number."""


class Shown(NamedTuple):
    """What a key gives: one number, with an error or an interval if the key asks for it."""

    value: float
    error: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Address:
    """A metric of some rows of a source.

    Attributes:
        source: Short name of a file.
        selectors: What its rows must satisfy.
        metric: Name of a number.
        each: Whether every seed counts, not their mean.
        condition: Metric, "<" or ">", and a bound, which seeds must satisfy.
        spread: "sd", "se" or "error", if the number is shown with it.
    """

    source: str
    selectors: tuple[str, ...]
    metric: str
    each: bool = False
    condition: tuple[str, str, float] | None = None
    spread: str | None = None

    def numbers(self, sources: Sources) -> list[Number]:
        """The number of each row, of the seeds that satisfy the condition."""
        return [self._kept(row) for row in self._rows(sources)]

    def places(self, sources: Sources) -> list[str | float | None]:
        """Position of each row on the x axis."""
        return [row.labels.get("x") for row in self._rows(sources)]

    def _rows(self, sources: Sources) -> list[Row]:
        rows = chosen(sources.rows(self.source), self.selectors)
        rows = [row for row in rows if row.get(self.metric) is not None]
        if not rows:
            raise KeyProblem(f"no row of {self.source} has {self}")
        return rows

    def _kept(self, row: Row) -> Number:
        if self.condition is None:
            return row[self.metric]
        name, sign, bound = self.condition
        by = row[name].values
        kept = [(value < bound) == (sign == "<") for value in by]
        return Number(tuple(v for v, k in zip(row[self.metric].values, kept, strict=True) if k))

    def __str__(self) -> str:
        return " ".join([*self.selectors, self.metric])


@dataclass(frozen=True)
class Operation:
    """A difference or a ratio, with "-" or "/" between two parts."""

    sign: str
    first: Expression
    second: Expression


@dataclass(frozen=True)
class Call:
    """A function of some parts."""

    function: str
    parts: tuple[Expression, ...]


Expression = Address | Operation | Call | float


def evaluated(key: str, sources: Sources) -> Shown:
    """The number that a key names.

    Raises:
        KeyProblem: If the key cannot be read, or gives no number or several.
    """
    expression = _Parser(key).all()
    try:
        return _shown(expression, sources)
    except (KeyProblem, LookupError, ValueError) as problem:
        raise KeyProblem(f"{key!r}: {problem}") from problem


def _shown(expression: Expression, sources: Sources) -> Shown:
    if isinstance(expression, Call) and expression.function == "paired":
        found = _paired(expression, sources)
        return Shown(found[0], interval=(found[1], found[2]))
    value = _single(expression, sources)
    if isinstance(expression, Address) and expression.spread is not None:
        number = expression.numbers(sources)[0]
        error: float = getattr(number, expression.spread)
        if not math.isfinite(error):
            raise KeyProblem(f"there is no {expression.spread}")
        return Shown(value, error)
    return Shown(value)


def _single(expression: Expression, sources: Sources) -> float:
    values = _vector(expression, sources)
    if len(values) != 1:
        raise KeyProblem(f"{len(values)} numbers; use min(), max(), mean() or median()")
    if not math.isfinite(values[0]):
        raise KeyProblem("not a finite number")
    return float(values[0])


def _vector(expression: Expression, sources: Sources) -> Vector:
    """The numbers of an expression: one for each row, or for each row and seed."""
    if isinstance(expression, float):
        return np.array([expression])
    if isinstance(expression, Address):
        numbers = expression.numbers(sources)
        if expression.each:
            return np.concatenate([number.finite for number in numbers])
        return np.array([number.mean for number in numbers])
    if isinstance(expression, Operation):
        return _operated(expression, sources)
    if expression.function in SPECIAL:
        return SPECIAL[expression.function](expression, sources)
    return FUNCTIONS[expression.function](
        np.concatenate([_vector(part, sources) for part in expression.parts])
    )


def _operated(operation: Operation, sources: Sources) -> Vector:
    """A difference or ratio of each row, or with a single number."""
    first, second = (_vector(part, sources) for part in (operation.first, operation.second))
    places = [
        part.places(sources)
        for part in (operation.first, operation.second)
        if isinstance(part, Address)
    ]
    several = 1 not in (len(first), len(second))
    if several and (len(first) != len(second) or (len(places) == 2 and places[0] != places[1])):
        raise KeyProblem("the rows of the two sides do not belong together")
    return first - second if operation.sign == "-" else first / second


# --- functions -----------------------------------------------------------------------------------


FUNCTIONS: dict[str, Callable[[Vector], Vector]] = {
    "min": lambda values: values.min(keepdims=True),
    "max": lambda values: values.max(keepdims=True),
    "mean": lambda values: values.mean(keepdims=True),
    "median": lambda values: np.array([np.median(values)]),
    "count": lambda values: np.array([float(len(values))]),
    "abs": np.abs,
    "percent": lambda values: 100 * values,
}


def _geometric(call: Call, sources: Sources) -> Vector:
    """Geometric mean over seeds of a ratio, for each row."""
    (part,) = call.parts
    if not isinstance(part, Operation) or part.sign != "/":
        raise KeyProblem("geometric() takes a ratio of two metrics")
    first, second = part.first, part.second
    if not isinstance(first, Address) or not isinstance(second, Address):
        raise KeyProblem("geometric() takes a ratio of two metrics")
    pairs = zip(first.numbers(sources), second.numbers(sources), strict=True)
    return np.array([mean_ratio(np.array(a.values), np.array(b.values)).mean for a, b in pairs])


def _pair(call: Call, sources: Sources) -> tuple[Number, Number, str]:
    """Two numbers over the same seeds, given as `A - B`, `A / B` or `A, B`."""
    parts: tuple[Expression, ...] = call.parts
    sign = ","
    if len(parts) == 1 and isinstance(parts[0], Operation):
        sign, parts = parts[0].sign, (parts[0].first, parts[0].second)
    if len(parts) != 2 or not all(isinstance(part, Address) for part in parts):
        raise KeyProblem(f"{call.function}() takes two metrics of one row each")
    found = [part.numbers(sources) for part in parts if isinstance(part, Address)]
    if [len(each) for each in found] != [1, 1]:
        raise KeyProblem(f"{call.function}() takes two metrics of one row each")
    first, second = found[0][0], found[1][0]
    if len(first.values) != len(second.values):
        raise KeyProblem("the two do not have the same seeds")
    return first, second, sign


def _paired(call: Call, sources: Sources) -> tuple[float, float, float]:
    first, second, sign = _pair(call, sources)
    of = {"-": mean_difference, "/": mean_ratio}.get(sign)
    if of is None:
        raise KeyProblem("paired() takes a difference or a ratio")
    return tuple(of(np.array(first.values), np.array(second.values)))  # type: ignore[return-value]


def _interval_end(end: int) -> Callable[[Call, Sources], Vector]:
    return lambda call, sources: np.array([_paired(call, sources)[end]])


def _lower(call: Call, sources: Sources) -> Vector:
    """Number of seeds for which the first is lower than the second."""
    first, second, _ = _pair(call, sources)
    return np.array([float(sum(a < b for a, b in zip(first.values, second.values, strict=True)))])


def _errors(call: Call, sources: Sources) -> Vector:
    """Difference in standard errors: those of the file, or over seeds."""
    first, second, sign = _pair(call, sources)
    if sign != "-":
        raise KeyProblem("errors() takes a difference")
    variances = [n.error**2 if math.isfinite(n.error) else n.se**2 for n in (first, second)]
    return np.array([abs(first.mean - second.mean) / math.sqrt(sum(variances))])


def _seeds(call: Call, sources: Sources) -> Vector:
    """Number of seeds of a row; of all rows, which must have the same number."""
    (part,) = call.parts
    if not isinstance(part, Address):
        raise KeyProblem("seeds() takes a metric of a source")
    counts = {len(number.values) for number in part.numbers(sources)}
    if len(counts) != 1:
        raise KeyProblem(f"the rows have different numbers of seeds, {sorted(counts)}")
    return np.array([float(counts.pop())])


def _spread(call: Call, sources: Sources) -> Vector:
    """The standard deviation over seeds, or another error, of each row."""
    (part,) = call.parts
    if not isinstance(part, Address):
        raise KeyProblem(f"{call.function}() takes a metric of a source")
    return np.array([getattr(number, call.function) for number in part.numbers(sources)])


# Functions of what a key names, not of the numbers that it gives.
SPECIAL: dict[str, Callable[[Call, Sources], Vector]] = {
    "paired": _interval_end(0),
    "low": _interval_end(1),
    "high": _interval_end(2),
    "geometric": _geometric,
    "lower": _lower,
    "errors": _errors,
    "seeds": _seeds,
    "sd": _spread,
    "se": _spread,
    "error": _spread,
}


# --- reading -------------------------------------------------------------------------------------


# A quoted text, a bracket or comma, "name(", or a word. A word may contain brackets of its own.
_TOKEN = re.compile(r'\s*(?:"([^"]*)"|([a-z]+\()|([(),])|([^\s",()]+))')
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class _Parser:
    """Reads a key from left to right.

    expression: part, or parts with " - " between them, or with " / "
    part:       number, address, FUNCTION(expression, ...) or (expression)
    address:    SOURCE SELECTOR... METRIC [each] [if METRIC < NUMBER] [± sd]
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.tokens: list[tuple[str, bool]] = []
        at = 0
        while at < len(key.rstrip()):
            found = _TOKEN.match(key, at)
            if found is None:
                raise KeyProblem(f"{key!r}: cannot be read from {key[at:]!r} on")
            at = found.end()
            quoted = found[1] is not None
            self.tokens.append((found[1] if quoted else found[0].strip(), quoted))

    def all(self) -> Expression:
        """The whole key."""
        expression = self._expression()
        if self.tokens:
            raise KeyProblem(f"{self.key!r}: {self.tokens[0][0]!r} is not expected here")
        return expression

    def _next(self) -> str:
        """The next token unless it is quoted, empty at the end."""
        return self.tokens[0][0] if self.tokens and not self.tokens[0][1] else ""

    def _take(self) -> str:
        if not self.tokens:
            raise KeyProblem(f"{self.key!r}: something is missing at its end")
        return self.tokens.pop(0)[0]

    def _expression(self) -> Expression:
        found, sign = self._part(), ""
        while self._next() in ("-", "/"):
            if sign not in ("", self._next()):
                raise KeyProblem(f"{self.key!r}: put brackets around one of - and /")
            sign = self._take()
            found = Operation(sign, found, self._part())
        return found

    def _part(self) -> Expression:
        token = self._next()
        if _NUMBER.fullmatch(token):
            return float(self._take())
        if token == "(":
            return self._in_brackets()[0]
        if token.endswith("("):
            name = token[:-1]
            if name not in (*FUNCTIONS, *SPECIAL):
                raise KeyProblem(f"{self.key!r}: there is no function {name}()")
            return Call(name, self._in_brackets())
        return self._address()

    def _in_brackets(self) -> tuple[Expression, ...]:
        self._take()
        found = [self._expression()]
        while self._next() == ",":
            self._take()
            found.append(self._expression())
        if self._take() != ")":
            raise KeyProblem(f"{self.key!r}: a bracket is not closed")
        return tuple(found)

    def _address(self) -> Address:
        words: list[str] = []
        while self.tokens and self._next() not in ("-", "/", ",", ")", "each", "if", "±"):
            words.append(self._take())
        if len(words) < 2:
            raise KeyProblem(f"{self.key!r}: a source and a metric are expected, not {words}")
        each = self._next() == "each"
        if each:
            self._take()
        condition = self._condition() if self._next() == "if" else None
        spread = None
        if self._next() == "±":
            self._take()
            spread = self._take()
            if spread not in ("sd", "se", "error"):
                raise KeyProblem(f"{self.key!r}: ± sd, ± se or ± error is expected")
        return Address(words[0], tuple(words[1:-1]), words[-1], each, condition, spread)

    def _condition(self) -> tuple[str, str, float]:
        _, metric, sign, bound = (self._take() for _ in range(4))
        if sign not in ("<", ">") or not _NUMBER.fullmatch(bound):
            raise KeyProblem(f"{self.key!r}: if METRIC < NUMBER is expected")
        return metric, sign, float(bound)
