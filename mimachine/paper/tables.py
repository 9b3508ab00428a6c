"""Markdown tables that compare our results with the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mimachine.paper.curves import Panel
from mimachine.paper.paired import mean_difference, mean_ratio
from mimachine.paper.reference import Reading
from mimachine.paper.sweep import Measured

__all__ = ["beside_the_paper", "differences", "epoch_ratios", "markdown", "means"]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown table with a left-aligned first column; the others are right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def beside_the_paper(
    measured: Sequence[Measured],
    panels: Sequence[Panel],
    paper: Mapping[str, Mapping[tuple[str, float], Reading]],
    x_label: str,
) -> str:
    """Tables of our value, the paper's value and their difference, one per metric of the paper.

    Differences are in standard errors. If a marker hides the paper's error bar, the largest hidden
    error bar is assumed, and the difference is a lower bound (≥).
    """
    names = list(dict.fromkeys(each.cell.curve for each in measured))
    parts = []
    for panel in panels:
        points = paper.get(panel.reference or "", {})
        if not points:
            continue
        known = {curve for curve, _ in points}
        header = [x_label]
        for name in names:
            header += [name, "paper", "difference"] if name in known else [name]
        rows = []
        for x in dict.fromkeys(each.cell.x for each in measured):
            row = [f"{x:g}"]
            for name in names:
                compared = _compared(_at(measured, name, x), points.get((name, x)), panel)
                row += compared if name in known else compared[:1]
            rows.append(row)
        parts.append(f"**{panel.title}**\n\n{markdown(header, rows)}")
    return "\n\n".join(parts)


def means(measured: Sequence[Measured], panels: Sequence[Panel], x_label: str) -> str:
    """Table of mean and standard deviation of every metric, one row per point of each curve."""
    header = ["curve", x_label, *(panel.title for panel in panels), "best epoch", "epochs"]
    rows = []
    for each in measured:
        row = [each.cell.curve, f"{each.cell.x:g}"]
        for panel in panels:
            row.append(_mean(each.values(panel.metric), panel.digits))
        row += [_mean(np.array(n, dtype=float), 0) for n in (each.best_epochs, each.epochs)]
        rows.append(row)
    return markdown(header, rows)


def differences(
    measured: Sequence[Measured],
    panels: Sequence[Panel],
    pair: tuple[str, str],
    x_label: str,
) -> str:
    """Table of the differences of two curves, paired by seed, with 95 % intervals."""
    first, second = pair
    header = [x_label, *(panel.title for panel in panels)]
    rows = []
    for one, other in _pairs(measured, pair):
        row = [f"{one.cell.x:g}"]
        for panel in panels:
            each = mean_difference(one.values(panel.metric), other.values(panel.metric))
            row.append(each.shown(panel.digits))
        rows.append(row)
    title = f"**{first} - {second}**, mean over seeds of the difference and its 95 % interval"
    return f"{title}\n\n{markdown(header, rows)}"


def epoch_ratios(measured: Sequence[Measured], pair: tuple[str, str], x_label: str) -> str:
    """Table of the ratios of epochs to the best weights of two curves, paired by seed."""
    first, second = pair
    rows = []
    for one, other in _pairs(measured, pair):
        epochs = [np.array(each.best_epochs, dtype=float) for each in (one, other)]
        ratios = epochs[0] / epochs[1]
        ratios = ratios[np.isfinite(ratios)]
        span = f"{ratios.min():.2f} to {ratios.max():.2f}" if len(ratios) else "-"
        rows.append([f"{one.cell.x:g}", mean_ratio(*epochs).shown(2), span])
    title = f"**Epochs to the best weights, {first} over {second}**"
    header = [x_label, "geometric mean of the ratio over seeds, 95 % interval", "all seeds"]
    return f"{title}\n\n{markdown(header, rows)}"


def _pairs(measured: Sequence[Measured], pair: tuple[str, str]) -> list[tuple[Measured, Measured]]:
    """Points of two curves at the same x with the same seeds."""
    found = []
    for one in (each for each in measured if each.cell.curve == pair[0]):
        other = _at(measured, pair[1], one.cell.x)
        if other is not None and other.cell.seeds == one.cell.seeds:
            found.append((one, other))
    return found


def _at(measured: Sequence[Measured], curve: str, x: float) -> Measured | None:
    found = [each for each in measured if each.cell.curve == curve and each.cell.x == x]
    return found[0] if found else None


def _compared(ours: Measured | None, reading: Reading | None, panel: Panel) -> list[str]:
    theirs = "" if reading is None else _reading(reading, panel.digits)
    if ours is None:
        return ["", theirs, ""]
    values = ours.values(panel.metric)
    finite = values[np.isfinite(values)]
    if reading is None or len(finite) < 2:
        return [_mean(values, panel.digits), theirs, ""]
    difference = reading.difference(float(finite.mean()), float(finite.std(ddof=1)), len(finite))
    least = "≥ " if reading.hidden else ""
    return [_mean(values, panel.digits), theirs, f"{least}{abs(difference):.1f} s.e."]


def _reading(reading: Reading, digits: int) -> str:
    sign = "± <" if reading.hidden else "±"
    return f"{reading.mean:.{digits}f} {sign} {reading.std:.{digits}f}"


def _mean(values: NDArray[np.float64], digits: int) -> str:
    """Mean ± standard deviation of the finite values, and the number of diverged models."""
    finite = values[np.isfinite(values)]
    lost = "" if len(finite) == len(values) else f" ({len(values) - len(finite)} diverged)"
    if not len(finite):
        return f"-{lost}"
    spread = f" ± {finite.std(ddof=1):.{digits}f}" if len(finite) > 1 else ""
    return f"{finite.mean():.{digits}f}{spread}{lost}"
