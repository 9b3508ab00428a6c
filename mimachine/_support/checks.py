"""Check arguments: numbers, objects and functions, and the fields of settings by their types.

Each function names the argument, what was expected and what came. NumPy's numbers are converted to
Python's. This module does not import torch.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
import os
import sys
import types
from collections.abc import Iterable
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

__all__ = [
    "UNLIMITED",
    "bounds",
    "check_fields",
    "flag",
    "function",
    "instance",
    "one_of",
    "path",
    "real",
    "sizes",
    "whole",
]

# No layer, data set or number of draws is larger: torch would overflow, or a loop never end.
_LARGEST = 2**31 - 1
# Limit of numbers that may stand for "all at once", such as the size of a batch.
UNLIMITED = sys.maxsize
_LONGEST = 60


def whole(name: str, value: Any, least: int | None = None, most: int = _LARGEST) -> int:
    """A whole number, `least` or more.

    Args:
        name: Name of the argument.
        value: The argument.
        least: Smallest number; None for any number, also for one above `most`.
        most: Largest number, if there is a smallest.

    Raises:
        ValueError: If it is of another type, such as 1.5 or True, too small or too large.
    """
    number = _index(value)
    if number is None:
        more = "" if least is None else f", {least} or more"
        raise ValueError(f"{name} must be a whole number{more}, got {_shown(value)}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be {least} or more, got {_shown(number)}")
    if least is not None and number > most:
        raise ValueError(f"{name} must be {most} or less, got {_shown(number)}")
    return number


def sizes(name: str, values: Any, least: int = 1) -> tuple[int, ...]:
    """Whole numbers, `least` or more, from one number or several.

    Raises:
        ValueError: As for `whole`.
    """
    one = isinstance(values, str) or not isinstance(values, Iterable) or _index(values) is not None
    several = (values,) if one else tuple(values)
    found = [_index(each) for each in several]
    if any(number is None or number < least for number in found):
        expected = "a whole number or several" if one else "whole numbers"
        raise ValueError(f"{name} must be {expected}, {least} or more, got {_shown(values)}")
    return tuple(whole(name, number, least) for number in found)


def instance(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> None:
    """Check that an argument is an object of a class.

    Args:
        name: Name of the argument.
        value: The argument.
        kind: The class, or several.
        expected: What it must be, such as "a torch.nn.Module".

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {expected}, got {_shown(value)}")


def function(name: str, value: Any, returns: str = "") -> None:
    """Check that an argument can be called.

    Args:
        name: Name of the argument.
        value: The argument.
        returns: What it must return, such as "a distribution", for the message.

    Raises:
        TypeError: If it cannot be called.
    """
    if not callable(value):
        what = f" and return {returns}" if returns else ""
        raise TypeError(f"{name} must be callable{what}, got {_shown(value)}")


def flag(name: str, value: Any) -> bool:
    """A truth value.

    Raises:
        ValueError: If it is something else, such as 1 or None.
    """
    if not _is_bool(value):
        raise ValueError(f"{name} must be True or False, got {_shown(value)}")
    return bool(value)


def path(name: str, value: Any) -> str:
    """A path as a string.

    Raises:
        TypeError: If it is neither a string nor an object of a path.
        ValueError: If it is empty, which would mean the current directory.
    """
    try:
        text = os.fspath(value)
    except TypeError:
        text = b""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a path, got {_shown(value)}")
    if not text:
        raise ValueError(f"{name} must be a path, got an empty string")
    return text


def real(
    name: str, value: Any, least: float = -math.inf, *, above: bool = False, below: float = math.inf
) -> float:
    """A finite number, `least` or more (or above it), and below a limit.

    Raises:
        ValueError: If it is of another type, such as True, NaN, infinite, or out of range.
    """
    number = _float(value)
    fits = number is not None and math.isfinite(number) and least <= number < below
    if number is not None and not (above or number >= least or math.isfinite(below)):
        raise ValueError(f"{name} must be {least:g} or more, got {_shown(value)}")
    if number is None or not fits or (above and number == least):
        raise ValueError(f"{name} must be {_range(least, above, below)}, got {_shown(value)}")
    return number


def _range(least: float, above: bool, below: float) -> str:
    if math.isfinite(below):
        return f"in {'(' if above else '['}{least:g}, {below:g})"
    if least == -math.inf:
        return "a finite number"
    if above:
        return "positive and finite" if least == 0 else f"a finite number above {least:g}"
    return f"a finite number, {least:g} or more"


def bounds(name: str, values: Any) -> tuple[float, float]:
    """A lower and a larger upper bound, two finite numbers.

    Raises:
        ValueError: If they are anything else.
    """
    found = [_float(each) for each in values] if isinstance(values, tuple | list) else []
    if len(found) == 2 and None not in found:
        lower, upper = float(found[0] or 0), float(found[1] or 0)
        if -math.inf < lower < upper < math.inf:
            return lower, upper
    raise ValueError(f"{name} must be (lower, upper) bounds, got {_shown(values)}")


def one_of(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Check that a value is one of several.

    Raises:
        ValueError: If it is not.
    """
    choices = tuple(choices)
    if not any(value is each or (type(value) is type(each) and value == each) for each in choices):
        raise ValueError(
            f"{name} must be one of {', '.join(map(str, choices))}, got {_shown(value)}"
        )


def _index(value: Any) -> int | None:
    """Convert to a Python integer; None if it is not a whole number, or a truth value."""
    if _is_bool(value):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _float(value: Any) -> float | None:
    """Convert to a Python float; None if it is not a real number, or a truth value."""
    is_real = isinstance(value, numbers.Real) and not _is_bool(value)
    if not is_real:
        return None
    try:
        return float(value)
    except OverflowError:  # A whole number beyond the range of floats.
        return math.inf if value > 0 else -math.inf


def _shown(value: Any) -> str:
    """An argument as it was given; its type instead of a long text."""
    kind = type(value).__name__
    kind = f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
    if isinstance(value, int):
        kind = f"a number of {value.bit_length():,} bits"
    try:
        text = repr(value)
    except Exception:  # Such as a whole number of more digits than Python writes.
        return kind
    return text if len(text) <= _LONGEST and "\n" not in text else kind


def _is_bool(value: Any) -> bool:
    """Whether it is a truth value, of Python, NumPy or torch: Python counts these as integers."""
    return isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))


# --- settings ------------------------------------------------------------------------------------


def check_fields(settings: Any, prefix: str = "") -> None:
    """Check the fields of a frozen dataclass by their annotated types, in `__post_init__`.

    Integers of NumPy become Python's, lists become tuples, and paths become strings. A field of
    type float takes whole numbers, but no NaN, no infinite number and no truth value.

    Args:
        settings: The dataclass.
        prefix: Put before the names of fields in messages, such as "training.".

    Raises:
        ValueError: If a field has the wrong type; the message names it.
    """
    cls: Any = type(settings)
    hints = _hints(cls)
    for field in dataclasses.fields(settings):
        given = getattr(settings, field.name)
        try:
            value = _fitting(given, hints[field.name])
        except _Unfit:
            expected = _described(hints[field.name])
            message = f"{prefix}{field.name} must be {expected}, got {_shown(given)}"
            raise ValueError(message) from None
        if value is not given:
            object.__setattr__(settings, field.name, value)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


class _Unfit(Exception):
    """A value is not of a type."""


def _fitting(value: Any, hint: Any) -> Any:
    """The value, or its equal of the annotated type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _of_union(value, arguments)
    if origin is Literal:
        return _or_unfit(value, any(type(value) is type(c) and value == c for c in arguments))
    if origin is tuple:
        return _of_tuple(value, arguments)
    if hint is int:
        number = _index(value)
        return value if type(value) is int else _or_unfit(number, number is not None)
    if hint is float:
        real_number = _float(value)
        fits = real_number is not None and math.isfinite(real_number)
        return _or_unfit(value if type(value) in (int, float) else real_number, fits)
    if hint is bool:
        _or_unfit(value, _is_bool(value))
        return value if isinstance(value, bool) else bool(value)
    if hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    return _or_unfit(value, isinstance(value, hint))


def _or_unfit(value: Any, fits: bool) -> Any:
    if not fits:
        raise _Unfit
    return value


def _of_union(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        try:
            return _fitting(value, choice)
        except _Unfit:
            continue
    raise _Unfit


def _of_tuple(value: Any, items: tuple[Any, ...]) -> Any:
    _or_unfit(value, isinstance(value, tuple | list))
    kinds = [items[0]] * len(value) if items[-1:] == (...,) else list(items)
    _or_unfit(value, len(kinds) == len(value))
    found = tuple(_fitting(each, kind) for each, kind in zip(value, kinds, strict=True))
    unchanged = isinstance(value, tuple) and all(a is b for a, b in zip(value, found, strict=True))
    return value if unchanged else found


_NAMES = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a string"}


def _described(hint: Any) -> str:
    """The type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_described(each) for each in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        several = arguments[-1:] == (...,)
        kinds = "any number of values" if several else f"{len(arguments)} values"
        return f"a tuple of {kinds}, each {_described(arguments[0])}"
    if hint is type(None):
        return "None"
    return _NAMES.get(hint) or f"a {hint.__name__}"
