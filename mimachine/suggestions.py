"""Suggestions: what a user may have meant by a name that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["nearest", "unknown"]


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint "; did you mean ...?" with the known name that is most like it, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A message about a name that is not known, with the nearest one that is."""
    names = list(known)
    return f"{kind} must be one of {', '.join(names)}; got {name!r}{nearest(name, names)}"
