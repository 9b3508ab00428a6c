"""Wording: counts, lists and suggestions in messages."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable

__all__ = ["counted", "hint", "nearest", "quoted", "some", "unknown"]


def counted(count: int, noun: str) -> str:
    """A count and a noun that goes with it, as "1 row" or "2,000 rows"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def quoted(path: str | os.PathLike[str]) -> str:
    """A path as a shell reads it."""
    return shlex.quote(str(path))


def some(texts: Iterable[str], most: int = 6) -> str:
    """The first of many texts, and how many more there are."""
    texts = list(texts)
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint "; did you mean ...?" with the known name that is most like it, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def hint(name: str, known: Iterable[str]) -> str:
    """What may be meant by a name that is not known, or if none is like it, which names are."""
    known = list(known)
    return nearest(name, known) or f"; there are {some(map(repr, known), 12)}"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A message about a name that is not known, with the nearest one that is."""
    names = list(known)
    return f"{kind} must be one of {', '.join(names)}; got {name!r}{nearest(name, names)}"
