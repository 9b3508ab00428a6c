"""Registry of the tables of the pages."""

from __future__ import annotations

from collections.abc import Callable

from traced.sources import Sources

__all__ = ["BLOCKS", "Render", "block"]

Render = Callable[[Sources], str]
BLOCKS: dict[str, Render] = {}


def block(name: str) -> Callable[[Render], Render]:
    """Register the function that renders the block of this name."""

    def register(function: Render) -> Render:
        assert name not in BLOCKS, name
        BLOCKS[name] = function
        return function

    return register
