"""Pictures: what a page shows as an image, with words for those who cannot see it.

A page is white or dark as its reader likes. Drawings have no ground of their own, and the page
turns their lightness round where it is dark; pixels of data are shown as they are everywhere.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

__all__ = [
    "Picture",
    "drawing",
    "pixels",
]


# A drawing is stored with twice the pixels it is shown with, for screens that have them.
_SHOWN_DPI, _STORED_DPI = 100, 200
# Pixels on the page; images of data are enlarged by a whole factor to about so much.
_WIDTH = 400


@dataclass(frozen=True)
class Picture:
    """An image of a page.

    Attributes:
        source: The file as a data URL.
        alt: What is to be seen, for those who cannot see it.
        caption: What is below it.
        width: Width on the page in pixels.
        height: Height on the page in pixels.
        kind: Ink without a ground, or pixels of data.
    """

    source: str
    alt: str
    caption: str
    width: int
    height: int
    kind: Literal["ink", "pixels"]


def drawing(figure: Figure, alt: str, caption: str) -> Picture:
    """A figure as ink without a ground; equal figures give equal files."""
    file = io.BytesIO()
    nameless = {"Software": None}
    figure.savefig(file, format="png", dpi=_STORED_DPI, transparent=True, metadata=nameless)
    width, height = (round(_SHOWN_DPI * inches) for inches in figure.get_size_inches())
    return Picture(_url(file), alt, caption, width, height, "ink")


def pixels(image: np.ndarray[Any, Any], alt: str, caption: str) -> Picture:
    """Bytes of shape (H, W) or (H, W, 3), a pixel for each, or fewer if they are very many."""
    stored = Image.fromarray(image)
    if stored.width > 2 * _WIDTH:
        height = max(1, round(stored.height * 2 * _WIDTH / stored.width))
        stored = stored.resize((2 * _WIDTH, height), Image.Resampling.BOX)
    times = max(1, round(_WIDTH / stored.width))
    file = io.BytesIO()
    stored.save(file, format="png", optimize=True)
    return Picture(_url(file), alt, caption, times * stored.width, times * stored.height, "pixels")


def _url(file: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
