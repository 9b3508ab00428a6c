"""Text of messages: counts, lists and suggestions."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable

__all__ = ["counted", "hint", "nearest", "quoted", "some", "unknown"]


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
    return nearest(name, known) or f"; there are {some(map(repr, known), 12)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message about an unknown name, with the most similar known one."""
    names = list(known)
    return f"{kind} must be one of {', '.join(names)}; got {name!r}{nearest(name, names)}"
