"""Figures of tables: distributions of columns, and matrices of associations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mimachine.reporting.style import BARS, COLOURS, LINES, plain, short
from mimachine.reporting.tables.units import Bins

__all__ = ["Missing", "distribution", "matrix", "paired_bars"]

Array = np.ndarray[Any, Any]
_WIDTH, _HEIGHT, _ROW = 2.75, 2.1, 0.15
_MOST_LETTERS = 18
# Columns up to which a matrix is small, and widths of small and large ones, in inches.
_SMALL, _WIDTHS = 14, (3.7, 5.6)
_LEAST, _DIFFERENT = "#ffffff", ("#b3261e", "#ffffff", "#1f5fa8")


class Missing(NamedTuple):
    """Shares of missing values.

    Attributes:
        real: Of the test rows.
        generated: Of generated rows, by model.
    """

    real: float
    generated: Sequence[float]

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return max(self.real, *self.generated) > 0


def distribution(
    bins: Bins, real: Array, generated: Mapping[str, Array], missing: Missing
) -> Figure:
    """Plot a column of numbers: real values filled, or as bars, and generated ones as lines.

    Args:
        bins: The bins.
        real: Steps of the test rows, shape (n,), NaN where missing.
        generated: Steps of generated rows by model, each of shape (m,).
        missing: Shares of missing values, shown beside if there are any.
    """
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    if missing.any:
        axis, beside = figure.subplots(1, 2, width_ratios=(4, 1))
        _beside(beside, missing)
    else:
        axis = figure.subplots()
    if bins.single:
        _counted(axis, bins, real, generated)
    else:
        _outlined(axis, bins, real, generated)
    bins.dress(axis)
    axis.set(yticks=[], xlim=(bins.edges[0], bins.edges[-1]))
    axis.set_xlabel(bins.label, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.spines[["left", "top", "right"]].set_visible(False)
    _legend(figure, axis)
    return figure


def _outlined(axis: Axes, bins: Bins, real: Array, generated: Mapping[str, Array]) -> None:
    axis.stairs(bins.heights(real), bins.edges, fill=True, color=BARS, label="test data")
    for index, (name, values) in enumerate(generated.items()):
        axis.stairs(
            bins.heights(values),
            bins.edges,
            color=_colour(index),
            linestyle=LINES[index % len(LINES)],
            linewidth=1.3,
            label=plain(short(name, _MOST_LETTERS)),
        )


def _counted(axis: Axes, bins: Bins, real: Array, generated: Mapping[str, Array]) -> None:
    """Bars beside each other for each whole number."""
    places, width = bins.edges[:-1] + 0.5, 0.84 / (1 + len(generated))
    shown = {"test data": real, **generated}
    for index, (name, values) in enumerate(shown.items()):
        offset = width * (index - len(generated) / 2)
        colour = _colour(index - 1) if index else BARS
        label = plain(short(name, _MOST_LETTERS))
        axis.bar(places + offset, bins.heights(values), width, color=colour, label=label)


def _beside(axis: Axes, missing: Missing) -> None:
    """Bars of the shares of missing values, with their numbers."""
    shares = [missing.real, *missing.generated]
    colours = [BARS, *[_colour(index) for index in range(len(missing.generated))]]
    axis.bar(range(len(shares)), shares, 0.84, color=colours)
    if len(shares) == 2:
        for place, share in enumerate(shares):
            text = f"{share:.0%}" if share >= 0.01 or share == 0 else "<1%"
            axis.annotate(
                text, (place, share), (0, 1), textcoords="offset points", ha="center", fontsize=6.5
            )
    axis.set(xticks=[], yticks=[], ylim=(0, 1.6 * max(shares)), xlim=(-0.7, len(shares) - 0.3))
    axis.set_xlabel("missing", fontsize=8)
    axis.spines[["left", "top", "right"]].set_visible(False)


def paired_bars(labels: Sequence[str], real: Array, generated: Mapping[str, Array]) -> Figure:
    """Plot shares (K,) of levels in test rows and in generated rows, as bars below each other.

    Args:
        labels: Names of the levels, as they are shown.
        real: Shares in the test rows.
        generated: Shares in generated rows by model.
    """
    bars = 1 + len(generated)
    height = max(_HEIGHT, _ROW * bars * len(labels) * 0.72 + 0.7)
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axis = figure.subplots()
    places, width = np.arange(len(labels)), 0.84 / bars
    for index, (name, shares) in enumerate({"test data": real, **generated}.items()):
        offset = width * (index - len(generated) / 2)
        colour = _colour(index - 1) if index else BARS
        label = plain(short(name, _MOST_LETTERS))
        axis.barh(places + offset, shares, width, color=colour, label=label)
    axis.set_yticks(places, labels, fontsize=8)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.xaxis.set_major_formatter(lambda value, place: f"{100 * value:.3g}%")
    axis.locator_params(axis="x", nbins=4)
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    axis.spines[["left", "top", "right"]].set_visible(False)
    _legend(figure, axis)
    return figure


def _colour(index: int) -> str:
    """Colour of the generated rows of a model."""
    return COLOURS[(index + 1) % len(COLOURS)]


def _legend(figure: Figure, axis: Axes) -> None:
    """A legend of the bars or lines of one axis, below the figure."""
    handles, names = axis.get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8,
        handlelength=1.4,
        columnspacing=1.2,
    )


def matrix(values: Array, labels: Sequence[str], title: str, reach: float | None = None) -> Figure:
    """Plot a matrix (D, D) of associations from 0 to 1, or of their differences.

    Args:
        values: The matrix; cells that are NaN stay empty.
        labels: Names of the columns, as they are shown.
        title: Title.
        reach: Largest difference, whose colour is the strongest; None for associations.
    """
    size = _WIDTHS[len(labels) > _SMALL]
    figure = Figure(figsize=(size, size), layout="constrained")
    axis = figure.subplots()
    colours = (_LEAST, "#1f5fa8", "#0b2545") if reach is None else _DIFFERENT
    image = axis.pcolormesh(
        np.ma.masked_invalid(values),
        cmap=LinearSegmentedColormap.from_list("association", colours),
        vmin=0.0 if reach is None else -reach,
        vmax=1.0 if reach is None else reach,
        edgecolors="#d5dbe1",
        linewidth=0.4,
    )
    axis.set_aspect("equal")
    axis.invert_yaxis()
    letters = 8 if len(labels) <= 20 else 7
    places = np.arange(len(labels)) + 0.5
    axis.set_xticks(places, labels, rotation=90, fontsize=letters)
    axis.set_yticks(places, labels, fontsize=letters)
    axis.tick_params(length=0)
    axis.set_title(plain(title), fontsize=10)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, shrink=0.5, aspect=15, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    return figure
