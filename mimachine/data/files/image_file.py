"""Read the header and the pixels of an image file.

Images are read as viewers show them: rotated as EXIF says, transparency on white, and the first
frame of an animation. Colour profiles are not applied.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from mimachine._support.process import ignoring_warnings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = [
    "Header",
    "Levels",
    "SUFFIXES",
    "TRAITS",
    "deep_levels",
    "in_threads",
    "no_bombs",
    "read_header",
    "read_pixels",
]

SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
# Traits of an image in its header, and how they are handled.
TRAITS = {
    "turned": "rotated or mirrored: turned upright according to EXIF",
    "transparent": "with transparency: shown on white",
    "deep": "with more than 8 bits: scaled to 8 bits",
    "animated": "with several frames: the first is read",
}
# Accepted formats, whatever the suffix. Some others, such as PostScript, start programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_ORIENTATION = 0x0112
# Pillow's transpositions that undo EXIF's orientations.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_BLOCK, _THREADS = 32, 8
Read = TypeVar("Read")
Item = TypeVar("Item")


class Header(NamedTuple):
    """Header of an image file; height and width are those of the upright image."""

    height: int
    width: int
    grey: bool
    traits: tuple[str, ...]


def read_header(file: Path) -> Header | str:
    """Header of an image file, or the reason why it cannot be read."""
    return _attempt(_described, file)


def read_pixels(
    file: Path, resize: tuple[int, int] | None, in_colour: bool
) -> NDArray[np.uint8] | str:
    """Pixels of an upright image, (H, W) or (H, W, 3), or the reason why it cannot be read.

    Args:
        file: The image file.
        resize: Height and width to crop and scale it to; None for its own size.
        in_colour: Whether to convert it to colour, otherwise to grey.
    """
    return _attempt(lambda image: _pixels(image, resize, in_colour), file)


class Levels(NamedTuple):
    """Different grey levels of an image with more than 8 bits.

    Attributes:
        stored: Those in the file, in order.
        kept: Those that are left with 8 bits.
        white: The level of white.
    """

    stored: NDArray[Any]
    kept: NDArray[np.uint8]
    white: int


def deep_levels(file: Path) -> Levels | None:
    """Grey levels of an image with more than 8 bits; None if it cannot be read."""

    def levels(image: Image.Image) -> Levels:
        stored = np.unique(np.asarray(image))
        return Levels(stored, np.unique(np.asarray(_eight_bits(image))), _white(image))

    found = _attempt(levels, file)
    return None if isinstance(found, str) else found


def in_threads(work: Callable[[Item], Read], items: Sequence[Item]) -> list[Read]:
    """Apply a function to each item in threads; results are in the order of the items."""
    from PIL import Image

    Image.init()  # Register the formats before any thread starts.

    # In blocks: each task takes memory, and there may be millions of images.
    def block(start: int) -> list[Read]:
        return [work(item) for item in items[start : start + _BLOCK]]

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as executor:
        blocks = executor.map(block, range(0, len(items), _BLOCK))
        return [result for results in blocks for result in results]


@contextmanager
def no_bombs() -> Iterator[None]:
    """Turn Pillow's warning of decompression bombs into an error, and ignore its others."""
    from PIL import Image

    with ignoring_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _attempt(read: Callable[[Image.Image], Read], file: Path) -> Read | str:
    """Result of reading an open image, or the reason why it cannot be read."""
    from PIL import Image

    try:
        # Opening a pipe would wait for ever.
        if not stat.S_ISREG(os.stat(file).st_mode):
            return "is a pipe or a device"
        with Image.open(file, formats=_FORMATS) as image:
            return read(image)
    except Exception as error:  # Damaged files make Pillow raise any exception.
        return _reason(file, error)


def _reason(file: Path, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels, make it smaller"
    if isinstance(error, UnidentifiedImageError):
        with file.open("rb") as opened:
            start = opened.read(24)
        return f"is damaged or not an image: it begins with {start!r}" if start else "is empty"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    return f"cannot be decoded: {error or type(error).__name__}"


def _described(image: Image.Image) -> Header:
    orientation, grey = _orientation(image), _is_grey(image)
    width, height = image.size if orientation < 5 else image.size[::-1]
    found = {
        "turned": orientation > 1,
        "transparent": _is_transparent(image),
        "deep": _is_deep(image),
        # Last, since a GIF moves on to its second frame to find out.
        "animated": getattr(image, "is_animated", False),
    }
    traits = tuple(trait for trait, is_so in found.items() if is_so)
    return Header(height, width, grey, traits)


def _is_grey(image: Image.Image) -> bool:
    """Whether the mode or the palette of an image allows only grey."""
    if image.mode == "P" and image.palette is not None:
        order, entries = image.palette.getdata()
        colours = np.frombuffer(bytes(entries), np.uint8)
        # TIFF stores all red, all green, then all blue values; others store colour by colour.
        planes = order.endswith(";L")
        colours = colours.reshape(3, -1).T if planes else colours.reshape(-1, len(order))
        return bool((colours[:, :1] == colours[:, 1:3]).all())
    return _is_deep(image) or image.mode in ("1", "L", "LA")


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _is_transparent(image: Image.Image) -> bool:
    return image.mode.endswith("A") or "transparency" in image.info


def _orientation(image: Image.Image) -> int:
    """EXIF orientation of an image: 1 is upright, 5 to 8 swap height and width."""
    from PIL import Image

    if image.format == "TIFF":  # Pillow turns it on loading, and reports the upright size.
        return 1
    try:
        # A PNG's own method would decode the image.
        number = Image.Image.getexif(image).get(_ORIENTATION)
    except Exception:  # Viewers show images with damaged EXIF, whatever the damage.
        return 1
    return number if number in _TURNS else 1


def _pixels(
    image: Image.Image, resize: tuple[int, int] | None, in_colour: bool
) -> NDArray[np.uint8]:
    """Pixels of an upright image, (H, W) or (H, W, 3)."""
    from PIL import Image, ImageOps

    if resize is not None:
        # Decodes a much larger JPEG at a half, a quarter or an eighth of its size.
        image.draft(None, (2 * max(resize), 2 * max(resize)))
    image.load()
    orientation = _orientation(image)
    shown = _eight_bits(image) if _is_deep(image) else image
    if _is_transparent(shown):
        white = Image.new("RGBA", shown.size, "white")
        shown = Image.alpha_composite(white, shown.convert("RGBA"))
    shown = shown.convert("RGB" if in_colour else "L")
    if orientation > 1:
        shown = shown.transpose(Image.Transpose(_TURNS[orientation]))
    return np.asarray(shown if resize is None else ImageOps.fit(shown, resize[::-1]))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Integers up to 65,535, or floats up to 1, scaled to 256 levels.

    Raises:
        ValueError: If values are out of that range, so that the value of white is unknown.
    """
    from PIL import Image

    values, white = np.asarray(image), _white(image)
    if not (values.min() >= 0 and values.max() <= white):
        found = f"[{values.min():g}, {values.max():g}]"
        raise ValueError(f"grey values must be in [0, {white}], got {found}, save it with 8 bits")
    levels = np.rint(values * np.float32(255 / white)).astype(np.uint8)
    # A grey value that a PNG declares transparent.
    if (key := image.info.get("transparency")) is not None:
        levels[values == key] = 255
    return Image.fromarray(levels)


def _white(image: Image.Image) -> int:
    """Largest grey level of an image with more than 8 bits."""
    return 1 if image.mode == "F" else 65_535
