"""Diagram of a MIM: its encoding and decoding factorisations, and the sample distribution."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch

__all__ = ["factorisations"]

_RED, _GREEN, _GREY = "#c8342b", "#2d8a4e", "#555555"
# Positions and radius of the nodes.
_X, _Z, _RADIUS = (0.0, 0.0), (0.0, 1.5), 0.24


def factorisations() -> Figure:
    """Draw the two factorisations of the joint distribution that MIM learns (paper, figure 6).

    Left: the encoding factorisation. Middle: the decoding factorisation. Right: the sample
    distribution M_S, Eq. (4). Samples come from an anchor, P(x) or P(z); the model prior next to
    it, q(x) or p(z), is evaluated at them.
    """
    figure = Figure(figsize=(9.0, 3.45), layout="constrained", dpi=150)
    axes = figure.subplots(1, 3)
    titles = ("encoding", "decoding", "what is sampled")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(xlim=(-1.35, 1.35), ylim=(-0.8, 2.3), aspect="equal")
        axis.axis("off")
        axis.text(0, 2.1, title, fontsize=12, horizontalalignment="center")
        _node(axis, _X, "$x$", "#e6e6e6")
        _node(axis, _Z, "$z$", "white")
    encoding, decoding, samples = axes
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
    """Draw an arrow into a node: solid from an anchor on the left, dashed from a prior."""
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
    """Draw an arrow between nodes, bent to its left by a fraction of its length."""
    up = 1 if end[1] > start[1] else -1
    gap = up * (_RADIUS + 0.04)
    shift = -0.1 * up if bend else 0.0
    _arrow(axis, (shift, start[1] + gap), (shift, end[1] - gap), colour, "-", bend)
    left = bool(bend) and up > 0
    offset = (-1 if left else 1) * (0.3 if bend else 0.1)
    _label(axis, (offset, (start[1] + end[1]) / 2), name, colour, left)


def _label(axis: Axes, place: tuple[float, float], name: str, colour: str, left: bool) -> None:
    """Draw text that ends (left) or begins (right) at a position."""
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
