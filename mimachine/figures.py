"""Pictures of trained models. Each function returns a matplotlib `Figure` and draws no window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from torch import Tensor

from mimachine.datasets import Dataset
from mimachine.evaluation import Report
from mimachine.joint import Joint
from mimachine.randomness import derived_seed, forked
from mimachine.representation import codes

__all__ = ["factorisations", "image_reconstructions", "image_samples", "loss_curves", "plane"]

_NUM_POINTS = 200
_RED, _GREEN, _BLUE, _GREY = "#c8342b", "#2d8a4e", "#2b5fa8", "#555555"
# Places and size of the nodes in the diagram of the factorisations.
_X, _Z, _RADIUS = (0.0, 0.0), (0.0, 1.5), 0.24


def loss_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Training and held-out loss by epoch, a panel for each run's records of its epochs."""
    figure, axes = _panels(1, len(runs), width=3.6, height=2.8)
    for axis, (name, records) in zip(axes[0], runs.items(), strict=True):
        epochs = [record["epoch"] for record in records]
        axis.plot(epochs, [r["train_loss"] for r in records], color=_GREY, label="training")
        held_out = [r["val_loss"] for r in records]
        if None not in held_out:
            axis.plot(epochs, held_out, color=_BLUE, label="held out")
            warm = [i for i, record in enumerate(records) if record["beta"] >= 1]
            best = min(warm, key=lambda i: held_out[i])
            axis.plot(epochs[best], held_out[best], "o", color=_RED, label="kept")
            # Early losses can be orders of magnitude larger than all that follow.
            axis.set_ylim(*_span([*held_out[1:], *(r["train_loss"] for r in records[1:])]))
        axis.set(title=name, xlabel="epoch", ylabel="loss (nats)")
        axis.legend(frameon=False, fontsize=8)
    return figure


def plane(models: Mapping[str, tuple[Joint, Report]], data: Dataset, seed: int = 0) -> Figure:
    """The panels of the paper's figure 1, for data and latents of two dimensions.

    Top: level sets of P(x), black, and sampled reconstructions of test points, red, with the
    mutual information and the mean reconstruction distance. Bottom: q(z|x) of the same points as
    ellipses of one standard deviation, green, and that of N(0, I), dashed.
    """
    figure, axes = _panels(2, len(models), width=3.2, height=3.2)
    points = data.test[:_NUM_POINTS]
    for column, (name, (model, report)) in enumerate(models.items()):
        with forked(derived_seed(seed, "plane")), torch.no_grad():
            encoded = codes(model, points)
            reconstructions = model.decoder(encoded.sample).sample()
        top, bottom = axes[:, column]
        _data_panel(top, reconstructions, data)
        top.set_title(name)
        top.text(
            0.97,
            0.03,
            f"MI {report['mutual_information_ksg'].value:.2g} nats\n"
            f"error {report['sampled_reconstruction_distance'].value:.2g}",
            transform=top.transAxes,
            fontsize=9,
            horizontalalignment="right",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )
        _latent_panel(bottom, encoded.mean, encoded.std)
    return figure


def image_reconstructions(models: Mapping[str, Joint], data: Dataset, count: int = 12) -> Figure:
    """Test images, and under them what each model makes of their codes' means."""
    shape = _image_shape(data)
    originals = data.test[:count]
    rows = {"test data": originals}
    for name, model in models.items():
        with torch.no_grad():
            rows[name] = model.decoder(codes(model, originals).mean).mean
    figure, axes = _panels(len(rows), 1, width=0.6 * count, height=0.9)
    for axis, (name, images) in zip(axes[:, 0], rows.items(), strict=True):
        _show(axis, _tiled(images, shape, columns=count), data.ink)
        axis.set_title(name, loc="left", fontsize=9)
    return figure


def image_samples(samples: Mapping[str, Tensor], data: Dataset, columns: int = 8) -> Figure:
    """Images drawn from each model, a block for each."""
    shape = _image_shape(data)
    figure, axes = _panels(1, len(samples), width=3.2, height=3.4)
    for axis, (name, images) in zip(axes[0], samples.items(), strict=True):
        _show(axis, _tiled(images, shape, columns), data.ink)
        axis.set_title(name)
    return figure


def factorisations() -> Figure:
    """What MIM learns, as in the paper's figure 6: two factorisations of one joint distribution.

    Left the encoding factorisation, in the middle the decoding one, right the distribution M_S
    of Eq. (4) that samples come from. An anchor, P(x) or P(z), gives samples; the model prior
    beside it, q(x) or p(z), is evaluated at them.
    """
    figure, axes = _panels(1, 3, width=3.0, height=3.45)
    titles = ("encoding", "decoding", "what is sampled")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set(xlim=(-1.35, 1.35), ylim=(-0.8, 2.3), aspect="equal")
        axis.axis("off")
        axis.text(0, 2.1, title, fontsize=12, horizontalalignment="center")
        _node(axis, _X, "$x$", "#e6e6e6")
        _node(axis, _Z, "$z$", "white")
    encoding, decoding, samples = axes[0]
    for axis, end, letter, model in ((encoding, _X, "x", "q"), (decoding, _Z, "z", "p")):
        _entry(axis, end, f"$P({letter})$", "black", left=True)
        _entry(axis, end, f"${model}({letter})$", _GREY, left=False)
    _edge(encoding, _X, _Z, "$q(z|x)$", _GREEN)
    _edge(decoding, _Z, _X, "$p(x|z)$", _RED)
    for end, letter in ((_X, "x"), (_Z, "z")):
        _entry(samples, end, f"$P({letter})$", "black", left=True)
    _edge(samples, _X, _Z, "$q(z|x)$", _GREEN, bend=-0.22)
    _edge(samples, _Z, _X, "$p(x|z)$", _RED, bend=-0.22)
    for axis, line in (
        (encoding, "$q(x,z) = q(z|x)\\,q(x)$"),
        (decoding, "$p(x,z) = p(x|z)\\,p(z)$"),
        (samples, "$M_S = \\frac{1}{2}\\,q(z|x)P(x) + \\frac{1}{2}\\,p(x|z)P(z)$"),
    ):
        axis.text(0, -0.66, line, fontsize=11, horizontalalignment="center")
    return figure


def _node(axis: Axes, place: tuple[float, float], name: str, colour: str) -> None:
    axis.add_patch(Circle(place, _RADIUS, facecolor=colour, edgecolor="black", linewidth=1.2))
    axis.text(*place, name, fontsize=14, ha="center", va="center")


def _entry(axis: Axes, node: tuple[float, float], name: str, colour: str, left: bool) -> None:
    """An arrow into a node from the side: from an anchor on the left, dashed from a prior."""
    side = -1 if left else 1
    far, near = (side * 0.78, node[1]), (side * (_RADIUS + 0.03), node[1])
    _arrow(axis, far, near, colour, "-" if left else "--")
    _label(axis, (side * 0.83, node[1]), name, colour, left)


def _edge(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    name: str,
    colour: str,
    bend: float = 0.0,
) -> None:
    """An arrow from node to node, bent to its left by a share of its length."""
    up = 1 if end[1] > start[1] else -1
    gap = up * (_RADIUS + 0.04)
    shift = -0.1 * up if bend else 0.0
    _arrow(axis, (shift, start[1] + gap), (shift, end[1] - gap), colour, "-", bend)
    left = bool(bend) and up > 0
    offset = (-1 if left else 1) * (0.3 if bend else 0.1)
    _label(axis, (offset, (start[1] + end[1]) / 2), name, colour, left)


def _label(axis: Axes, place: tuple[float, float], name: str, colour: str, left: bool) -> None:
    """Text that ends, or else begins, at a place."""
    axis.text(*place, name, color=colour, fontsize=12, va="center", ha="right" if left else "left")


def _arrow(
    axis: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    line: str,
    bend: float = 0.0,
) -> None:
    patch = FancyArrowPatch(
        start,
        end,
        arrowstyle="-|>",
        mutation_scale=13,
        shrinkA=0,
        shrinkB=0,
        color=colour,
        linestyle=line,
        linewidth=1.5,
        connectionstyle=f"arc3,rad={bend}",
    )
    axis.add_patch(patch)


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
    # An ellipse can be far smaller than a pixel; its centre shows that it is there.
    x, y = mean.T.numpy()
    axis.scatter(x, y, s=1.5, color=_GREEN, linewidths=0)
    axis.add_patch(Circle((0, 0), 1, fill=False, linestyle="--", color="black"))
    reach = max(2.5, float((mean.abs() + std).max()) * 1.05)
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axis.set(xlabel="$z_1$", ylabel="$z_2$")


def _image_shape(data: Dataset) -> tuple[int, int, int]:
    if data.image_shape is None:
        raise ValueError(f"{data.name} does not consist of images")
    return data.image_shape


def _tiled(images: Tensor, shape: tuple[int, int, int], columns: int) -> np.ndarray[Any, Any]:
    """Images in a grid, as one of shape (H', W', C) with one channel for grey or three."""
    channels, height, width = shape
    rows = math.ceil(len(images) / columns)
    # A border of half-grey separates the images whatever their background is.
    tiles = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), 0.5)
    upright = images.reshape(-1, *shape).permute(0, 2, 3, 1).cpu().numpy()
    for index, image in enumerate(upright):
        top, left = (index // columns) * (height + 1), (index % columns) * (width + 1)
        tiles[top : top + height, left : left + width] = image
    return tiles[..., :3].clip(0, 1)


def _show(axis: Axes, image: np.ndarray[Any, Any], ink: bool) -> None:
    if image.shape[-1] < 3:
        colours = "gray_r" if ink else "gray"
        axis.imshow(image[..., 0], cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    else:
        axis.imshow(image, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
