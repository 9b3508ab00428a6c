"""Pixels: what the file of an image says of it, and the image as it is seen.

It is read as viewers show it: turned upright as its file says, on white where it is transparent,
and of an animation the first frame. Colour profiles are not applied.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = [
    "Header",
    "SUFFIXES",
    "TRAITS",
    "in_threads",
    "no_bombs",
    "read_header",
    "read_pixels",
]


SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
# What a header may say of an image, and what is done about it.
TRAITS = {
    "turned": "on a side or mirrored: turned upright, as the files say",
    "transparent": "with transparency: shown on white",
    "deep": "of more than 8 bits: scaled to 8 bits",
    "animated": "of several frames: the first is read",
}
# Whatever a file is called: of other formats some start programs, as PostScript does.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_ORIENTATION = 0x0112
# What Pillow calls the transpositions that bring EXIF's orientations upright.
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_BLOCK, _THREADS = 32, 8
Read = TypeVar("Read")
Item = TypeVar("Item")


class Header(NamedTuple):
    """What a file says of its image before it is decoded; height and width are those upright."""

    height: int
    width: int
    grey: bool
    traits: tuple[str, ...]


def read_header(file: Path) -> Header | str:
    """What a file says of its image, or why it cannot be read."""
    return _attempt(_described, file)


def read_pixels(
    file: Path, resize: tuple[int, int] | None, in_colour: bool
) -> NDArray[np.uint8] | str:
    """An image as it is seen, (H, W) or (H, W, 3), or why it cannot be read.

    Args:
        file: Where it is.
        resize: Height and width to cut and scale it to, if any.
        in_colour: Whether to read it in colour, whatever it is.
    """
    return _attempt(lambda image: _pixels(image, resize, in_colour), file)


def in_threads(work: Callable[[Item], Read], items: Sequence[Item]) -> list[Read]:
    """Results of the work on each file, in the order of the files."""
    from PIL import Image

    Image.init()  # The formats are registered by one thread.

    # In blocks: a task takes memory, and there may be millions of images.
    def block(start: int) -> list[Read]:
        return [work(item) for item in items[start : start + _BLOCK]]

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as executor:
        blocks = executor.map(block, range(0, len(items), _BLOCK))
        return [result for results in blocks for result in results]


@contextmanager
def no_bombs() -> Iterator[None]:
    """Far too large images are errors; other warnings, of odd metadata, do not name the file."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _attempt(read: Callable[[Image.Image], Read], file: Path) -> Read | str:
    """What is read of an image, or why it cannot be read."""
    from PIL import Image

    try:
        with Image.open(file, formats=_FORMATS) as image:
            return read(image)
    except Exception as error:  # Pillow raises whatever a damaged file leads it to.
        return _reason(file, error)


def _reason(file: Path, error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels, make it smaller"
    if isinstance(error, UnidentifiedImageError):
        with file.open("rb") as opened:
            start = opened.read(24)
        return f"is damaged or no image: it begins with {start!r}" if start else "is empty"
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
        # Last, since a GIF goes on to its second frame to know.
        "animated": getattr(image, "is_animated", False),
    }
    traits = tuple(trait for trait, is_so in found.items() if is_so)
    return Header(height, width, grey, traits)


def _is_grey(image: Image.Image) -> bool:
    """Whether an image cannot but be grey, by its mode or its palette."""
    if image.mode == "P" and image.palette is not None:
        order, entries = image.palette.getdata()
        colours = np.frombuffer(bytes(entries), np.uint8)
        # TIFF's are all red, all green and all blue, others' one colour after the other.
        planes = order.endswith(";L")
        colours = colours.reshape(3, -1).T if planes else colours.reshape(-1, len(order))
        return bool((colours[:, :1] == colours[:, 1:3]).all())
    return _is_deep(image) or image.mode in ("1", "L", "LA")


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _is_transparent(image: Image.Image) -> bool:
    return image.mode.endswith("A") or "transparency" in image.info


def _orientation(image: Image.Image) -> int:
    """How an image lies, as EXIF numbers it: 1 is upright, and 5 to 8 are on a side."""
    from PIL import Image

    if image.format == "TIFF":  # Pillow turns it when it loads it, and says its size upright.
        return 1
    try:
        # The method of a PNG itself would decode it.
        number = Image.Image.getexif(image).get(_ORIENTATION)
    except Exception:  # Viewers show an image whose EXIF is damaged, in whatever way it is.
        return 1
    return number if number in _TURNS else 1


def _pixels(
    image: Image.Image, resize: tuple[int, int] | None, in_colour: bool
) -> NDArray[np.uint8]:
    """An image as it is seen, (H, W) or (H, W, 3)."""
    from PIL import Image, ImageOps

    if resize is not None:
        # A JPEG that is far larger is decoded at a half, a quarter or an eighth of its size.
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
    """Whole numbers up to 65,535, or real ones up to 1, on 256 levels.

    Raises:
        ValueError: If some are not in that range: it is not known then which is white.
    """
    from PIL import Image

    values = np.asarray(image)
    white = 1 if image.mode == "F" else 65_535
    if not (values.min() >= 0 and values.max() <= white):
        found = f"[{values.min():g}, {values.max():g}]"
        raise ValueError(f"grey values must be in [0, {white}], got {found}, save it with 8 bits")
    levels = np.rint(values * np.float32(255 / white)).astype(np.uint8)
    # A grey value of a PNG that stands for transparent.
    if (key := image.info.get("transparency")) is not None:
        levels[values == key] = 255
    return Image.fromarray(levels)
