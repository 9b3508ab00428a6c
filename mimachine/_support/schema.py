"""Check JSON values against a dataclass: names, types and limits of all entries."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

__all__ = [
    "Checked",
    "Count",
    "Finite",
    "Index",
    "NotNegative",
    "Number",
    "is_number",
    "shown",
    "validated",
]

T = TypeVar("T")
_MOST_MISTAKES, _MOST_LETTERS = 3, 60
# Larger integers are no counts, and not exact as floating-point numbers.
_LARGEST_INTEGER = 2**53


class Checked:
    """Annotation of a field whose JSON value a function checks and converts.

    Args:
        check: Takes a JSON value; returns the value of the field, or raises a ValueError that says
            what it must be.

    Example:
        >>> from typing import Annotated
        >>> Even = Annotated[int, Checked(lambda value: value // 2 * 2)]
    """

    def __init__(self, check: Callable[[Any], Any]) -> None:
        self.check = check

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The check as a schema of pydantic, which calls this."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self.check)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number; true and false are none."""
    if type(value) is int:
        return abs(value) <= _LARGEST_INTEGER
    return type(value) is float and math.isfinite(value)


def _finite(value: Any) -> Any:
    if not is_number(value):
        raise ValueError(f"must be a finite number, got {shown(value)}")
    return value


def _not_negative(value: Any) -> Any:
    if not is_number(value) or value < 0:
        raise ValueError(f"must be a number of 0 or more, got {shown(value)}")
    return value


def _whole(least: int) -> Checked:
    def check(value: Any) -> Any:
        if type(value) is not int or not least <= value <= _LARGEST_INTEGER:
            raise ValueError(f"must be an integer of {least} or more, got {shown(value)}")
        return value

    return Checked(check)


def _number(value: Any) -> Any:
    return math.nan if value is None else _finite(value)


Finite = Annotated[float, Checked(_finite)]
NotNegative = Annotated[float, Checked(_not_negative)]
Count = Annotated[int, _whole(1)]
Index = Annotated[int, _whole(0)]
# A number that may be infinite or not a number, which JSON does not have; null becomes NaN.
Number = Annotated[float, Checked(_number)]


def validated(kind: type[T], value: Any, place: str) -> T:
    """Convert a JSON value to a dataclass, whose fields say what its entries must be.

    Entries of fields with a default may be missing. A bool is no number, a string is no number, and
    a float is no integer.

    Args:
        kind: The dataclass.
        value: The value.
        place: Begins the message, such as "run/data.json is damaged".

    Raises:
        ValueError: If an entry is missing, unknown or of the wrong kind; the message names each.
    """
    # Imported late: it takes longer than all else that a command line without arguments does.
    from pydantic import ValidationError

    try:
        # From text, where tuples are lists also if types are strict.
        schema: Any = kind  # Types are hashable, which mypy does not know of their variables.
        text = json.dumps(value, ensure_ascii=False)
        encoded = _shifted(text, _LONE, _SHIFT)
        read: T = _adapter(schema).validate_json(encoded, strict=True, extra="forbid")
        return read if encoded == text else _with_lone(read)
    except ValidationError as error:
        raise ValueError(f"{place}: {_mistakes(error)}") from error
    except (TypeError, RecursionError) as error:
        raise ValueError(f"{place}: must be values of JSON: {error}") from error


# Lone surrogates, which Python has in names of files that are not UTF-8 and pydantic refuses, stand
# in plane 16, for private use, while a value is checked.
_LONE, _MOVED = re.compile("[\ud800-\udfff]"), re.compile("[\U0010d800-\U0010dfff]")
_SHIFT = 0x100000


def _shifted(text: str, pattern: re.Pattern[str], shift: int) -> str:
    return pattern.sub(lambda found: chr(ord(found[0]) + shift), text)


def _with_lone(value: Any) -> Any:
    """A value whose strings have their lone surrogates again."""
    if isinstance(value, str):
        return _shifted(value, _MOVED, -_SHIFT)
    if isinstance(value, list | tuple):
        return type(value)(map(_with_lone, value))
    if isinstance(value, dict):
        return {_with_lone(key): _with_lone(each) for key, each in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _with_lone(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


@functools.cache
def _adapter(kind: type[Any]) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _mistakes(error: Any) -> str:
    """What a ValidationError of pydantic says, in one line."""
    found = [
        ": ".join(filter(None, (".".join(map(_named, item["loc"])), _said(item["msg"]))))
        for item in error.errors(include_url=False, include_input=False)
    ]
    more = f"; and {len(found) - _MOST_MISTAKES} more" if len(found) > _MOST_MISTAKES else ""
    return "; ".join(found[:_MOST_MISTAKES]) + more


def shown(value: Any) -> str:
    """A value in a message: short and in one line."""
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return "a very large integer"
    text = repr(value) if not isinstance(value, dict | list) else f"a {type(value).__name__}"
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} ..."


def _named(part: object) -> str:
    """Part of the name of an entry, which may have been written by anybody."""
    text = str(part)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]} ..."


def _said(message: str) -> str:
    return " ".join(message.removeprefix("Value error, ").split())
