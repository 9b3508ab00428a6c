"""Pictures: figures that are part of a page, with words for those who cannot see them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from matplotlib.figure import Figure

__all__ = ["Picture", "picture"]

# A picture is stored with twice the pixels it is shown with, for screens that have them.
_SHOWN_DPI, _STORED_DPI = 100, 200


@dataclass(frozen=True)
class Picture:
    """A figure as a page holds it.

    Attributes:
        source: The file as a data URL.
        alt: What is to be seen, for those who cannot see it.
        caption: What is below it.
        width: Width on the page in pixels.
        height: Height on the page in pixels.
    """

    source: str
    alt: str
    caption: str
    width: int
    height: int


def picture(figure: Figure, alt: str, caption: str) -> Picture:
    """A figure as a PNG of a page; equal figures give equal files."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_STORED_DPI, metadata={"Software": None})
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(_SHOWN_DPI * inches) for inches in figure.get_size_inches())
    return Picture(source, alt, caption, width, height)
