"""The table of results/peers.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from traced.cells import table

HEADER = ["work", "way", "time", "relative", "compiling"]


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of measured rows, and lines for the machines that they were measured on.

    Times are the best of the rounds; "relative" is to the way in italics.
    """
    lines, machines = [], dict[str, list[str]]()
    for row in rows:
        title = row["title"]
        for way in row["ways"]:
            lines.append([title, *cells(row, way)])
            title = ""
        machines.setdefault(machine(row), []).append(row["row"])
    measured = [f"{', '.join(keys)}: {text}" for text, keys in machines.items()]
    loads = ", ".join(f"{row['load_average_at_start']} ({row['row']})" for row in rows)
    notes = [*measured, f"Load average at the start: {loads}"]
    return "\n".join([table(HEADER, lines, left=2), *notes, ""])


def cells(row: Mapping[str, Any], way: Mapping[str, Any]) -> list[str]:
    """Name, time, ratio and seconds of compiling of a way."""
    scale = 1e3 if row["unit"].startswith("ms") else 1.0
    name, is_baseline = way["way"], way["way"] == row["baseline"]
    compiling = way.get("compile_seconds")
    return [
        f"*{name}*" if is_baseline else name,
        f"{scale * way['seconds']:.3g} {row['unit']}",
        "1" if is_baseline else f"{way['over_baseline']:.2g}",
        "" if compiling is None else f"{compiling:.2g} s",
    ]


def machine(row: Mapping[str, Any]) -> str:
    """Processor, threads and versions, in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    threads = "one thread" if row["threads"] == 1 else f"{row['threads']} threads"
    return f"{row['processor']}, {threads}; {versions}"
