"""Figures of trained models. Functions return a matplotlib `Figure` and open no window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mimachine import workflow
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.estimation.codes.moments import codes
from mimachine.model.joint import Joint
from mimachine.reporting.style import BARS, COLOURS, LINES, drawable, plain, short

__all__ = [
    "code_scatter",
    "image_grid",
    "image_reconstructions",
    "image_samples",
    "loss_curves",
    "plane",
]


Array = np.ndarray[Any, Any]
_NUM_POINTS = 200
_RED, _GREEN, _BLUE, _GREY = "#c8342b", "#2d8a4e", "#2b5fa8", "#555555"
# Longest class name in a legend, and most rows of a legend.
_MOST_LETTERS, _MOST_ROWS = 20, 6
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


def loss_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Plot training and validation loss by epoch, one panel per run."""
    figure, axes = _panels(1, len(runs), width=3.6, height=2.8)
    for axis, (name, records) in zip(axes[0], runs.items(), strict=True):
        epochs = [record["epoch"] for record in records]
        axis.plot(epochs, [r["train_loss"] for r in records], color=_GREY, label="training")
        val_losses = [r["val_loss"] for r in records]
        if None not in val_losses:
            axis.plot(epochs, val_losses, color=_BLUE, label="validation")
            warm = [i for i, record in enumerate(records) if record["beta"] >= 1]
            best = min(warm, key=lambda i: val_losses[i])
            axis.plot(epochs[best], val_losses[best], "o", color=_RED, label="best")
            # Early losses can be orders of magnitude larger than later ones.
            axis.set_ylim(*_span([*val_losses[1:], *(r["train_loss"] for r in records[1:])]))
        axis.set(title=plain(name), xlabel="epoch", ylabel="loss (nats)")
        axis.legend(frameon=False, fontsize=8)
    return figure


_PLANE_NUMBERS = (
    ("MI", "mutual_information_ksg", " nats"),
    ("error", "sampled_reconstruction_distance", ""),
)


def plane(
    models: Mapping[str, tuple[Joint, Mapping[str, float]]], data: Dataset, seed: int = 0
) -> Figure:
    """Plot 2-D data and 2-D latents as in the paper's figure 1.

    Top: contours of P(x), black, and sampled reconstructions of test points, red, with the mutual
    information and the mean reconstruction distance. Bottom: q(z|x) of the same points as ellipses
    of one standard deviation, green, and that of N(0, I), dashed.

    Args:
        models: Models with their metrics, see `Report.values`.
        data: The data; the first test points are shown.
        seed: Seed of the noise.
    """
    figure, axes = _panels(2, len(models), width=3.2, height=3.2)
    points = data.test[:_NUM_POINTS]
    for column, (name, (model, measured)) in enumerate(models.items()):
        with forked(derived_seed(seed, "plane")), torch.no_grad():
            encoded = codes(model, points)
            reconstructions = model.decoder(encoded.sample).sample()
        top, bottom = axes[:, column]
        _data_panel(top, reconstructions, data)
        top.set_title(plain(name))
        top.text(
            0.97,
            0.03,
            "\n".join(
                f"{label} {measured[metric]:.2g}{unit}"
                for label, metric, unit in _PLANE_NUMBERS
                # Some metrics need more test data.
                if metric in measured
            ),
            transform=top.transAxes,
            fontsize=9,
            horizontalalignment="right",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
        _latent_panel(bottom, encoded.mean, encoded.std)
    return figure


def image_reconstructions(
    models: Mapping[str, Joint], data: Dataset, count: int = 12, images: Tensor | None = None
) -> Figure:
    """Plot images, by default of the test split, and their reconstructions by each model.

    Reconstructions are decoder means, or samples if the mean has no closed form, as titles state.
    """
    originals = data.test[:count] if images is None else images[:count]
    rows = {"test data" if images is None else "data": originals}
    for name, model in models.items():
        drawn = workflow.reconstruct(model, originals)
        rows[name if drawn.mean is not None else f"{name}, samples"] = drawn.shown
    figure, axes = _panels(len(rows), 1, width=0.6 * count, height=0.9)
    for axis, (name, shown) in zip(axes[:, 0], rows.items(), strict=True):
        _show(axis, image_grid(shown, data, count))
        axis.set_title(plain(name), loc="left", fontsize=9)
    return figure


def image_samples(samples: Mapping[str, Tensor], data: Dataset, columns: int = 8) -> Figure:
    """Plot samples of each model, one panel per model."""
    figure, axes = _panels(1, len(samples), width=3.2, height=3.4)
    for axis, (name, images) in zip(axes[0], samples.items(), strict=True):
        _show(axis, image_grid(images, data, columns))
        axis.set_title(plain(name))
    return figure


def image_grid(images: Tensor, data: Dataset, columns: int = 8) -> Array:
    """Tile images (N, D) in a grid of bytes: shape (H', W') if grey, otherwise (H', W', 3).

    Raises:
        ValueError: If the data are not images.
    """
    if data.image_shape is None:
        raise ValueError(f"{data.name} does not consist of images")
    tiles = np.nan_to_num(_tiled(images, data.image_shape, columns), nan=0.5)
    if tiles.shape[-1] < 3:
        tiles = 1 - tiles[..., 0] if data.ink else tiles[..., 0]
    grid: Array = np.rint(255 * tiles).astype(np.uint8)
    return grid


def histogram(
    column: Array, samples: Mapping[str, Array], edges: Array, whole: bool = False
) -> Figure:
    """Plot the histogram of a column (n,), filled, and of samples, as lines.

    Args:
        column: The values.
        samples: Samples by label, each of shape (m,).
        edges: Edges of the bins.
        whole: Whether to put ticks at integers only.
    """
    figure = Figure(figsize=(2.5, 2.0), layout="constrained")
    axis = figure.subplots()
    axis.stairs(_shares(column, edges), edges, fill=True, color=BARS, label="test data")
    for index, (name, drawn) in enumerate(samples.items()):
        axis.stairs(
            _shares(drawn, edges),
            edges,
            color=COLOURS[(index + 1) % len(COLOURS)],
            linestyle=LINES[index % len(LINES)],
            linewidth=1.3,
            label=plain(name),
        )
    axis.set(yticks=[], xlim=(edges[0], edges[-1]))
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=whole))
    axis.ticklabel_format(axis="x", useOffset=False)
    axis.tick_params(labelsize=8)
    axis.spines[["left", "top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, handlelength=1.6)
    return figure


def _shares(column: Array, edges: Array) -> Array:
    """Fraction of all values in each bin; values outside or not finite are in no bin."""
    counted: Array = np.histogram(column[np.isfinite(column)], edges)[0] / max(1, len(column))
    return counted


def code_scatter(
    points: Array,
    labels: Array | None,
    axes: tuple[str, str],
    title: str,
    names: Sequence[str] = (),
) -> Figure:
    """Scatter plot of points (N, 2), with a colour, marker and name for each class.

    Args:
        points: The points.
        labels: Their classes, shape (N,), or None.
        axes: Labels of the axes.
        title: Title.
        names: Class names, indexed by label.
    """
    figure = Figure(figsize=(3.6, 4.0), layout="constrained")
    axis = figure.subplots()
    axis.set(title=plain(title), xlabel=axes[0], ylabel=axes[1])
    axis.set_aspect("equal", adjustable="datalim")
    if labels is None:
        axis.scatter(points[:, 0], points[:, 1], s=9, color=COLOURS[0], alpha=0.7, linewidths=0)
        return figure
    classes = {label: names[label] if names else str(label) for label in np.unique(labels)}
    for index, (label, name) in enumerate(classes.items()):
        _mark(axis, points[labels == label], index, name)
    figure.legend(
        loc="outside lower center",
        ncols=_legend_columns(list(classes.values())),
        columnspacing=1.2,
        handletextpad=0.3,
        frameon=False,
        markerscale=1.5,
    )
    return figure


def fits(names: Sequence[str]) -> bool:
    """Whether class names can be drawn: the font has their letters and the legend has room."""
    rows = -(-len(names) // _legend_columns(names))
    return rows <= _MOST_ROWS and all(drawable(short(name, _MOST_LETTERS)) for name in names)


def _legend_columns(names: Sequence[str]) -> int:
    longest = max(len(short(name, _MOST_LETTERS)) for name in names)
    return max(1, 24 // (4 + longest))


def _mark(axis: Axes, members: Array, index: int, name: str) -> None:
    """Draw the members of a class, with its name at their median."""
    # Markers shift by one after each cycle of colours, so that pairs repeat late.
    marker = _MARKERS[(index + index // len(COLOURS)) % len(_MARKERS)]
    colour = COLOURS[index % len(COLOURS)]
    label = plain(short(name, _MOST_LETTERS))
    x, y = members.T
    axis.scatter(x, y, s=12, color=colour, marker=marker, alpha=0.7, linewidths=0, label=label)
    axis.annotate(
        plain(short(name, _MOST_LETTERS // 2)),
        (np.median(x), np.median(y)),
        color=colour,
        weight="bold",
        fontsize=10 if len(name) < 3 else 8,
        ha="center",
        va="center",
        bbox={"facecolor": "white", "edgecolor": colour, "boxstyle": "round,pad=0.2"},
    )


def _panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=150)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [0, 95]) if values else (0.0, 1.0)
    margin = 0.08 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def _data_panel(axis: Axes, reconstructions: Tensor, data: Dataset) -> None:
    low = (data.test.min(0).values - 0.3).tolist()
    high = (data.test.max(0).values + 0.3).tolist()
    if data.distribution is not None:
        xs, ys = (np.linspace(a, b, 120) for a, b in zip(low, high, strict=True))
        grid = torch.as_tensor(np.stack(np.meshgrid(xs, ys), -1), dtype=torch.float32)
        density = data.distribution.log_prob(grid.reshape(-1, 2)).exp().reshape(len(ys), len(xs))
        axis.contour(xs, ys, density.numpy(), levels=6, colors="black", linewidths=0.6)
    axis.scatter(
        reconstructions[:, 0], reconstructions[:, 1], s=7, color=_RED, alpha=0.8, linewidths=0
    )
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axis.set(xlabel="$x_1$", ylabel="$x_2$")


def _latent_panel(axis: Axes, mean: Tensor, std: Tensor) -> None:
    sizes = 2 * std.numpy()
    ellipses = EllipseCollection(
        sizes[:, 0],
        sizes[:, 1],
        np.zeros(len(sizes)),
        units="xy",
        offsets=mean.numpy(),
        transOffset=axis.transData,
        facecolors="none",
        edgecolors=_GREEN,
        linewidths=0.7,
    )
    axis.add_collection(ellipses)
    # An ellipse can be far smaller than a pixel, so its centre is drawn too.
    x, y = mean.T.numpy()
    axis.scatter(x, y, s=1.5, color=_GREEN, linewidths=0)
    axis.add_patch(Circle((0, 0), 1, fill=False, linestyle="--", color="black"))
    reach = max(2.5, float((mean.abs() + std).max()) * 1.05)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axis.set(xlabel="$z_1$", ylabel="$z_2$")


def _tiled(images: Tensor, shape: tuple[int, int, int], columns: int) -> Array:
    """Tile images in a grid of shape (H', W', C), with one channel if grey, otherwise three."""
    channels, height, width = shape
    rows = math.ceil(len(images) / columns)
    # Mid-grey lines separate images on any background.
    tiles = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), 0.5)
    upright = images.reshape(-1, *shape).permute(0, 2, 3, 1).cpu().numpy()
    for index, image in enumerate(upright):
        top, left = (index // columns) * (height + 1), (index % columns) * (width + 1)
        tiles[top : top + height, left : left + width] = image
    return tiles[..., :3].clip(0, 1)


def _show(axis: Axes, pixels: Array) -> None:
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
