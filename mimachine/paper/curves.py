"""Plot means over seeds together with the paper's curves, as in figures 2, 3 and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mimachine.paper.reference import Reading
from mimachine.paper.sweep import Measured

__all__ = ["Panel", "curves"]

COLOURS = {
    **{"MIM": "#2b5fa8", "MIM-H": "#2b5fa8", "VAE": "#c8342b", "VAE+H": "#c8342b"},
    **{"MIM-H, true": "#aa3377", "auto-encoder": "#555555"},
    **{"MIM, Algorithm 2": "#2b5fa8", "MIM, importance": "#6a9bdc", "MIM, P(x)": "#79c3c9"},
    **{"MIM-H, true, Algorithm 2": "#aa3377", "MIM-H, true, importance": "#e08a3c"},
    **{"MIM-H, true, P(x)": "#b8a11e"},
}


@dataclass(frozen=True)
class Panel:
    """A metric of a sweep.

    Attributes:
        metric: Its name in our reports.
        title: Its title in figures and tables.
        reference: Its name in reference.json; None if the paper does not report it.
        digits: Decimals to print.
        logarithmic: Whether to use a logarithmic axis.
    """

    metric: str
    title: str
    reference: str | None = None
    digits: int = 2
    logarithmic: bool = False


def curves(
    measured: Sequence[Measured],
    panels: Sequence[Panel],
    paper: Mapping[str, Mapping[tuple[str, float], Reading]],
    x_label: str,
) -> Figure:
    """Plot one panel per metric: every seed, and mean and standard deviation of each curve.

    Our curves have filled markers and solid lines, the paper's open markers and dashed lines.
    """
    figure = Figure(figsize=(3.3 * len(panels), 3.5), layout="constrained", dpi=150)
    names = list(dict.fromkeys(each.cell.curve for each in measured))
    for axis, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for name in names:
            _our_curve(axis, [each for each in measured if each.cell.curve == name], panel)
            _paper_curve(axis, name, paper.get(panel.reference or "", {}))
        axis.set(title=panel.title, xlabel=x_label)
        axis.grid(alpha=0.25)
        if panel.logarithmic:
            axis.set_yscale("log")
    known = {curve for points in paper.values() for curve, _ in points}
    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=COLOURS[name],
            marker="o",
            markersize=5,
            label=f"{name}, ours" if known else name,
        )
        for name in names
    ]
    handles += [
        Line2D([], [], color=COLOURS[name], label=f"{name}, paper", **_PAPER_STYLE)
        for name in names
        if name in known
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


_PAPER_STYLE: dict[str, Any] = {
    "linestyle": (0, (3, 2)),
    "marker": "o",
    "markerfacecolor": "white",
    "markersize": 6,
    "alpha": 0.6,
}


def _our_curve(axis: Axes, measured: Sequence[Measured], panel: Panel) -> None:
    x = [each.cell.x for each in measured]
    values = [each.values(panel.metric) for each in measured]
    colour = COLOURS[measured[0].cell.curve]
    # Every seed: where they fall into two groups, a mean shows neither.
    for place, of_seeds in zip(x, values, strict=True):
        all_at = [place] * len(of_seeds)
        axis.scatter(all_at, of_seeds, s=7, color=colour, alpha=0.35, linewidths=0)
    _bars(axis, x, values, color=colour, marker="o", markersize=5, capsize=3, linewidth=1.5)


def _bars(
    axis: Axes, x: Sequence[float], values: Sequence[NDArray[np.float64]], **style: Any
) -> None:
    finite = [each[np.isfinite(each)] for each in values]
    means = [float(each.mean()) if len(each) else np.nan for each in finite]
    deviations = [float(each.std(ddof=1)) if len(each) > 1 else 0.0 for each in finite]
    axis.errorbar(x, means, yerr=deviations, **style)


def _paper_curve(axis: Axes, name: str, points: Mapping[tuple[str, float], Reading]) -> None:
    found = [(x, reading) for (curve, x), reading in points.items() if curve == name]
    if not found:
        return
    axis.errorbar(
        [x for x, _ in found],
        [reading.mean for _, reading in found],
        yerr=[0.0 if reading.hidden else reading.std for _, reading in found],
        color=COLOURS[name],
        capsize=3,
        linewidth=1.2,
        **_PAPER_STYLE,
    )
