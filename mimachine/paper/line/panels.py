"""Plot the panels of figures 9 to 11 of the paper: densities and histograms of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

import mimachine as mm
from mimachine.paper.line.curves import Curves, Route, Side, distances, samples

__all__ = ["Column", "panels"]

_RED, _BLUE, _GREEN, _YELLOW = "#c8342b", "#2b5fa8", "#7cc08d", "#f0c75e"
_NUM_SAMPLES = 20_000
# Density below which a curve is outside of the limits.
_FAINT = 0.004


class _Look(NamedTuple):
    """Labels and colours of the densities of a side."""

    variable: str
    anchor: str
    prior: str
    dashes: Literal["--", ":"]
    line: str
    filling: str


_LOOKS = (
    _Look("x", "P(x)", "q(x)", "--", _RED, _GREEN),
    _Look("z", "P(z)", "p(z)", ":", _BLUE, _YELLOW),
)


class Column(NamedTuple):
    """A panel over x and one over z below it.

    Attributes:
        title: Title.
        model: The model.
        curves: Its densities.
        route: How samples are made.
    """

    title: str
    model: mm.Joint
    curves: Curves
    route: Route


def panels(blocks: Sequence[tuple[str, Sequence[Column]]], title: str) -> Figure:
    """Plot blocks of two rows of panels, over x and over z, below each other.

    Each panel has the anchor, black; the model prior, red or blue; a histogram of samples, cut off
    at twice the height of the curves; and the 1-Wasserstein distance and the KL divergence in nats
    from the target density of the samples to their density, by quadrature.

    Args:
        blocks: Name and columns of each block; all have the same number of columns.
        title: Title of the figure.
    """
    width = len(blocks[0][1])
    figure = Figure(figsize=(2.35 * width, 4.1 * len(blocks) + 0.9), layout="constrained", dpi=150)
    figure.suptitle(title, fontsize=11)
    parts = figure.subfigures(len(blocks), 1, squeeze=False)[:, 0]
    for part, (name, columns) in zip(parts, blocks, strict=True):
        if name:
            part.suptitle(name, fontsize=10, weight="bold")
        axes = part.subplots(2, width, squeeze=False)
        for row, look in zip(axes, _LOOKS, strict=True):
            limits = _limits([getattr(column.curves, look.variable) for column in columns])
            for axis, column in zip(row, columns, strict=True):
                _panel(axis, column, look, limits)
        for axis, column in zip(axes[0], columns, strict=True):
            axis.set_title(column.title, fontsize=9.5)
    figure.legend(
        handles=[handle for look in _LOOKS for handle in _legend(look)],
        loc="outside lower center",
        ncols=6 if width > 3 else 3,
        frameon=False,
        fontsize=9,
    )
    return figure


def _panel(axis: Axes, column: Column, look: _Look, limits: tuple[float, float]) -> None:
    side: Side = getattr(column.curves, look.variable)
    drawn = getattr(samples(column.model, column.route, _NUM_SAMPLES), look.variable)
    points, anchor, prior = (
        values.numpy() for values in (side.grid.points, side.anchor.exp(), side.prior.exp())
    )
    edges = np.linspace(*limits, 71)
    counts, _ = np.histogram(drawn.numpy(), edges)
    heights = counts / (len(drawn) * (edges[1] - edges[0]))
    # Cut off spikes, so that the curves stay readable.
    curves = max(anchor.max(), prior.max())
    tallest = min(2 * curves, max(curves, heights.max()))
    axis.stairs(heights.clip(max=tallest), edges, fill=True, color=look.filling)
    axis.plot(points, prior, color=look.line, linewidth=1.6)
    axis.plot(points, anchor, look.dashes, color="black", linewidth=1.5)
    axis.set(xlim=limits, ylim=(0, 1.45 * tallest))
    axis.set_yticks([])
    axis.tick_params(labelsize=8)
    axis.set_xlabel(f"${look.variable}$", fontsize=9, labelpad=1)
    axis.spines[["left", "top", "right"]].set_visible(False)
    found = distances(*side.pair(column.route), side.grid)
    target = look.prior if column.route == "priors" else look.anchor
    axis.text(
        0.98,
        0.98,
        f"to ${target}$: $W_1$ {found['wasserstein']:.3f}\nKL {_short(found['kl'])} nats",
        transform=axis.transAxes,
        fontsize=8,
        horizontalalignment="right",
        verticalalignment="top",
    )


def _short(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.3g}"


def _limits(sides: Sequence[Side]) -> tuple[float, float]:
    """Limits of the x axis that include all curves where they are not faint."""
    low, high = 0.0, 0.0
    for side in sides:
        shown = side.grid.points[_above(side.anchor) | _above(side.prior)]
        low, high = min(low, float(shown.min())), max(high, float(shown.max()))
    return low, high


def _above(log_p: Tensor) -> Tensor:
    return log_p.exp() > _FAINT


def _legend(look: _Look) -> list[Line2D | Patch]:
    return [
        Line2D([], [], color="black", linestyle=look.dashes, label=f"anchor ${look.anchor}$"),
        Line2D([], [], color=look.line, label=f"prior ${look.prior}$"),
        Patch(color=look.filling, label=f"samples of ${look.variable}$"),
    ]
