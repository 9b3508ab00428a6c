"""Text of messages: counts, lists and suggestions."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "Option",
    "OptionError",
    "command_line",
    "counted",
    "hint",
    "nearest",
    "quoted",
    "some",
    "unknown",
    "visible",
]

# Controls, such as those that begin the escape sequences of terminals; separators of lines; marks
# that change the direction of text; and lone surrogates, which are not Unicode: in names of files
# Python has them for bytes that are not UTF-8.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str, keep: str = "") -> str:
    r"""Replace characters that a terminal would obey, not show, by their escapes.

    Args:
        text: The text.
        keep: Such characters to leave as they are.

    Example:
        >>> print(visible("a\x1b[2Jb\n"))
        a\x1b[2Jb\n
    """
    return _HIDDEN.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    byte = ord(character) - 0xDC00
    if 0x80 <= byte <= 0xFF:
        return f"\\x{byte:02x}"
    return character.encode("unicode_escape").decode()


def counted(count: int, noun: str) -> str:
    """Format a count and its noun, such as "1 row" or "2,000 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def quoted(path: str | os.PathLike[str]) -> str:
    r"""Quote a path for a shell; hidden characters are escaped.

    Example:
        >>> print(quoted("my run"), quoted("my\x1brun"))
        'my run' $'my\x1brun'
    """
    text = str(path)
    if visible(text) == text:
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{_HIDDEN.sub(lambda found: _bytes(found[0]), escaped)}'"


def _bytes(character: str) -> str:
    """The bytes of a character, as escapes that a shell understands."""
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", errors))


def command_line(words: Iterable[str]) -> str:
    """Join words to a command line for a shell."""
    return " ".join(map(quoted, words))


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
    if not known:
        return ""
    return nearest(name, known) or f"; the names are {some(map(repr, known), 12)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message about an unknown name, with the most similar known one."""
    names = list(known)
    if not names:
        return f"there is no {kind} to choose, got {name!r}"
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
        return command_line([f"--{self.name.replace('_', '-')}", *words])


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
