"""Colours, lines and names of figures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.font_manager import FontProperties, findfont, get_font

from mimachine._support.messages import visible

__all__ = ["BARS", "COLOURS", "LINES", "drawable", "labels", "plain", "short"]

COLOURS = (
    *("#4477aa", "#cc3311", "#228833", "#aa3377", "#8a6500"),
    *("#117788", "#555555", "#b85500", "#6644cc", "#000000"),
)
LINES = ("-", (0, (4, 1.5)), (0, (1, 1)), "-.")
# Data, behind or beside what a model generates.
BARS = "#b4bcc4"


def plain(name: str) -> str:
    """Escape dollar signs, which matplotlib reads as mathematics."""
    return name.replace("$", r"\$")


def short(name: str, most: int) -> str:
    """Shorten a name to one line of at most `most` letters."""
    name = " ".join(name.split())
    return name if len(name) <= most else name[: most - 1] + "…"


def drawable(text: str) -> bool:
    """Whether the font of figures has all letters of a text."""
    font = get_font(findfont(FontProperties()))
    return all(font.get_char_index(ord(letter)) for letter in text)


def labels(names: Sequence[str], most: int) -> tuple[list[str], str]:
    """Names as a figure shows them, on one line of at most `most` letters each.

    Names with letters that the font lacks, and names that would look alike, are shown as numbers
    such as #3, counted from 1.

    Returns:
        The labels, and a sentence for the caption that tells which number is which name; "" if
        there are no numbers.
    """
    cut = [short(visible(" ".join(name.split())), most) for name in names]
    alike = {label for label in cut if cut.count(label) > 1}
    numbered = [label in alike or not drawable(label) for label in cut]
    key = ", ".join(
        f"#{number} is {short(name, 2 * most)}"
        for number, (name, is_number) in enumerate(zip(names, numbered, strict=True), 1)
        if is_number
    )
    shown = [
        f"#{number}" if is_number else plain(label)
        for number, (label, is_number) in enumerate(zip(cut, numbered, strict=True), 1)
    ]
    return shown, f" Here {key}." if key else ""
