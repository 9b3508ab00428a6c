"""Text of messages: counts, lists and suggestions."""

from __future__ import annotations

import difflib
import json
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Option", "OptionError", "counted", "hint", "nearest", "quoted", "some", "unknown"]


def counted(count: int, noun: str) -> str:
    """Format a count and its noun, such as "1 row" or "2,000 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def quoted(path: str | os.PathLike[str]) -> str:
    """Quote a path for a shell."""
    return shlex.quote(str(path))


def some(texts: Iterable[str], most: int = 6) -> str:
    """Join the first few texts and count the others."""
    texts = list(texts)
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the most similar known name: "; did you mean ...?", or nothing if none is similar."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def hint(name: str, known: Iterable[str]) -> str:
    """Suggest the most similar known name, or list the known names if none is similar."""
    known = list(known)
    return nearest(name, known) or f"; the names are {some(map(repr, known), 12)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message about an unknown name, with the most similar known one."""
    names = list(known)
    return f"{kind} must be one of {', '.join(names)}; got {name!r}{nearest(name, names)}"


@dataclass(frozen=True)
class Option:
    """An option in a message: an argument in Python, a flag on the command line.

    Attributes:
        name: Name of the argument.
        value: String, number, boolean, or list or tuple of these; None for the option without a
            value.

    Example:
        >>> str(Option("drop", ["home town"])), Option("drop", ["home town"]).flag
        ('drop=["home town"]', "--drop 'home town'")
    """

    name: str
    value: object = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={_literal(self.value)}"

    @property
    def flag(self) -> str:
        """The option as a shell reads it."""
        if isinstance(self.value, bool):
            return f"--{'' if self.value else 'no-'}{self.name.replace('_', '-')}"
        values = self.value if isinstance(self.value, list | tuple) else [self.value]
        words = [] if self.value is None else [str(value) for value in values]
        return shlex.join([f"--{self.name.replace('_', '-')}", *words])


def _literal(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


class OptionError(ValueError):
    """A ValueError whose message names arguments in Python and flags on the command line.

    Args:
        parts: Text and options, joined without spaces.

    Example:
        >>> error = OptionError("leave it out with ", Option("drop", ["age"]))
        >>> str(error), error.with_flags
        ('leave it out with drop=["age"]', 'leave it out with --drop age')
    """

    def __init__(self, *parts: str | Option) -> None:
        super().__init__(*parts)

    def __str__(self) -> str:
        return "".join(map(str, self.args))

    @property
    def with_flags(self) -> str:
        """The message for the command line."""
        return "".join(part.flag if isinstance(part, Option) else part for part in self.args)
