"""Frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Frame"]


@dataclass(frozen=True)
class Frame:
    """A table in memory."""

    data: pl.DataFrame
    source: str
    named: bool = True
    notes: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)
    mixed: Mapping[str, str] = field(default_factory=dict)
    place: Callable[[int], str] = field(default=lambda row: f"row {row + 1}", compare=False)
