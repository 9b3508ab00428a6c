"""Images of an HTML page as data URLs with alternative text.

Pages have a light and a dark colour scheme. Plots have a transparent background, and the dark
scheme inverts their lightness; images of data are shown unchanged in both.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

__all__ = ["Picture", "drawing", "pixels"]

# Plots are stored at twice the shown resolution, for high-resolution screens.
_SHOWN_DPI, _STORED_DPI = 100, 200
# Width on the page in pixels; images of data are enlarged by an integer factor to about this.
_WIDTH = 400


@dataclass(frozen=True)
class Picture:
    """An image of an HTML page.

    Attributes:
        source: The file as a data URL.
        alt: Alternative text.
        caption: Text below the image.
        width: Width on the page in pixels.
        height: Height on the page in pixels.
        kind: "ink" for a plot with a transparent background, "pixels" for images of data.
    """

    source: str
    alt: str
    caption: str
    width: int
    height: int
    kind: Literal["ink", "pixels"]


def drawing(figure: Figure, alt: str, caption: str) -> Picture:
    """Convert a figure to a PNG with a transparent background; equal figures give equal files."""
    file = io.BytesIO()
    # The name and version of matplotlib would make files differ.
    no_software = {"Software": None}
    figure.savefig(file, format="png", dpi=_STORED_DPI, transparent=True, metadata=no_software)
    width, height = (round(_SHOWN_DPI * inches) for inches in figure.get_size_inches())
    return Picture(_url(file), alt, caption, width, height, "ink")


def pixels(image: np.ndarray[Any, Any], alt: str, caption: str) -> Picture:
    """Convert bytes (H, W) or (H, W, 3) to a PNG, reduced in size if it is very wide."""
    stored = Image.fromarray(image)
    if stored.width > 2 * _WIDTH:
        height = max(1, round(stored.height * 2 * _WIDTH / stored.width))
        stored = stored.resize((2 * _WIDTH, height), Image.Resampling.BOX)
    scale = max(1, round(_WIDTH / stored.width))
    file = io.BytesIO()
    stored.save(file, format="png", optimize=True)
    return Picture(_url(file), alt, caption, scale * stored.width, scale * stored.height, "pixels")


def _url(file: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
