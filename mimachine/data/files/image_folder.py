"""Read a folder of images as one array of bytes."""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mimachine._support import memory
from mimachine._support.messages import Option, OptionError, counted, nearest, some
from mimachine._support.outputs import existing_parent
from mimachine.data.files.image_file import (
    SUFFIXES,
    TRAITS,
    Header,
    deep_levels,
    in_threads,
    no_bombs,
    read_header,
    read_pixels,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Images", "peek", "read_images", "would_change"]

_FEW, _LISTED = 5, 5
# Usual names of folders of splits, in lower case.
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Images of more than 8 bits whose levels are counted, and the fewest levels that are many.
_DEEP, _FEW_LEVELS = 20, 128
# Files that mark a directory of a run or comparison.
_RUN_FILES = {"experiment.json", "comparison.json"}
_BEGUN = "unfinished.json"
# Replaces all files of such a directory; no file can have this name.
_RUN = "/run"
# Mapped bytes that are written before their memory is released.
_HELD_BYTES = 64 << 20
# Longer side of a suggested size: small enough to train a small network in minutes.
_SUGGESTED = 64


@dataclass(frozen=True)
class Images:
    """Images of one size, sorted by the paths of their files.

    Attributes:
        values: Grey levels (N, H, W), or red, green and blue (N, H, W, 3). Large arrays are
            mapped from a temporary file, which is deleted with them.
        labels: Sub-folder of each image, shape (N,), "." for the folder itself; None if there
            are no sub-folders.
        splits: Split of each image, "train", "val" or "test", shape (N,), if sub-folders name it;
            labels are then the folders within. None otherwise.
        files: Paths relative to the folder, with slashes.
        source: The folder.
        notes: Decisions made in reading the images.
    """

    values: NDArray[np.uint8]
    labels: NDArray[Any] | None
    files: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    splits: NDArray[Any] | None = None


def read_images(
    folder: str | os.PathLike[str],
    *,
    resize: tuple[int, int] | None = None,
    colour: bool | None = None,
    split_folders: bool | None = None,
) -> Images:
    """Read all images of a folder and of its sub-folders.

    Args:
        folder: The folder. Hidden files, other kinds of files, and directories of runs and
            comparisons are not used.
        resize: Height and width of the result: the largest central crop of that aspect ratio is
            scaled, with antialiasing. By default all images must have the same size.
        colour: Whether to read images in colour; by default if any of them is in colour.
        split_folders: Whether sub-folders called train, val and test are splits, not classes; by
            default if there is train and another one, and no other sub-folder.

    Raises:
        FileNotFoundError: If the folder does not exist; suggests the nearest name.
        NotADirectoryError: If it is a file.
        ValueError: If it has no images, if images cannot be read (lists them), or if their sizes
            differ.
        OSError: If the images fit neither into memory nor on the disk.
    """
    _check_resize(resize)
    root, files, others = _find(folder)
    splits = _splits(root, files, split_folders)
    with no_bombs():
        headers = in_threads(lambda file: read_header(root / file), files)
        sound = [header for header in headers if isinstance(header, Header)]
        in_colour = not all(header.grey for header in sound) if colour is None else colour
        values = None
        # If a header is damaged the others are still decoded, to list all damaged files.
        if len(sound) == len(files):
            values = _allocated((len(files), *_shape(root, files, sound, resize, in_colour)))
        _decode(root, files, headers, values, resize, in_colour)
    assert values is not None
    labels, more = _labels(files, splits)
    if splits is None and split_folders is None and colour is None:
        more += _unused_splits(files)
    notes = _notes(values, sound, (*more, *_lost_levels(root, files, sound)), others)
    return Images(values, labels, tuple(files), str(root), notes, splits)


def peek(
    folder: str | os.PathLike[str], *, resize: tuple[int, int] | None = None
) -> tuple[int, tuple[int, ...]]:
    """Number of images and shape of one, from the headers of a few.

    Args:
        folder: The folder.
        resize: As for `read_images`.

    Returns:
        The number, and (H, W), or (H, W, 3) if one of the few is in colour.

    Raises:
        OSError: As `read_images`.
        ValueError: As `read_images`, if one of the few is damaged.
    """
    _check_resize(resize)
    root, files, _ = _find(folder)
    few = [files[row] for row in sorted({i * (len(files) - 1) // (_FEW - 1) for i in range(_FEW)})]
    with no_bombs():
        headers = {file: read_header(root / file) for file in few}
    _check_read(root, headers)
    sound = [header for header in headers.values() if isinstance(header, Header)]
    # Different sizes are reported by `read_images`, which reads all headers.
    size = resize or sound[0][:2]
    return len(files), size if all(header.grey for header in sound) else (*size, 3)


def would_change(folder: str | os.PathLike[str], file: str | os.PathLike[str]) -> bool:
    """Whether writing a file would change the images of a folder.

    So it is for an image of the folder under any name, and for a new one that would be read too.
    """
    file = Path(file)
    becomes_image = file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    place, old = _identity(existing_parent(file)), _identity(file)
    for here, names in _walk(Path(folder).expanduser()):
        if _RUN in names:
            continue
        if becomes_image and _identity(here) == place:
            return True
        images = (name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES)
        if old is not None and any(_identity(here / name) == old for name in images):
            return True
    return False


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file or folder from others, by whatever path; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


# --- finding files -------------------------------------------------------------------------------


def _find(folder: str | os.PathLike[str]) -> tuple[Path, list[str], Counter[str]]:
    """The folder, sorted relative paths of its images, and counts of other files by kind."""
    root = Path(folder).expanduser()
    _check_folder(root)
    files: list[str] = []
    others: Counter[str] = Counter()
    for here, names in _walk(root):
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if name == _RUN:
                others["directory of a run or comparison"] += 1
            elif name.startswith("."):
                others["hidden"] += 1
            elif suffix in SUFFIXES:
                files.append((here.relative_to(root) / name).as_posix())
            else:
                others[suffix or "without a suffix"] += 1
    if not files:
        found = f"got {_kinds(others)}" if others else "got no files"
        raise ValueError(f"{root} must hold images ({' '.join(SUFFIXES)}), {found}")
    return root, sorted(files), others


def _check_folder(root: Path) -> None:
    if root.is_dir():
        return
    if root.exists():
        raise NotADirectoryError(f"{root} must be a folder of images, got a file")
    missing = root
    while not missing.parent.is_dir() and missing != missing.parent:
        missing = missing.parent
    hint = nearest(missing.name, sorted(p.name for p in missing.parent.iterdir() if p.is_dir()))
    raise FileNotFoundError(f"no folder {root}{hint}")


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders with names of their files and hidden sub-folders; links are followed."""

    def stop(error: OSError) -> None:
        raise OSError(f"the folder {error.filename} cannot be listed: {error.strerror}") from error

    seen = set()
    for here, folders, names in os.walk(root, onerror=stop, followlinks=True):
        status = os.stat(here)
        # A link to a parent folder would loop for ever.
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        hidden = [name for name in folders if name.startswith(".")]
        folders[:] = sorted(set(folders).difference(hidden))
        # All that is in the directory of a command that has just begun.
        names = [name for name in names if name != _BEGUN]
        if Path(here) != root and not _RUN_FILES.isdisjoint(names):
            # Pictures of a run are not data, if the run lies in the folder of its images.
            folders.clear()
            names, hidden = [_RUN], []
        yield Path(here), names + hidden


# --- splits and labels ---------------------------------------------------------------------------


def _splits(root: Path, files: Sequence[str], wanted: bool | None) -> NDArray[Any] | None:
    """Split of each image by its first folder; None if the folders are not splits."""
    tops = [file.partition("/")[0].lower() if "/" in file else "" for file in files]
    found = {_SPLITS.get(top, "") for top in tops}
    are_splits = "" not in found and "train" in found and len(found) > 1
    if wanted and not are_splits:
        raise OptionError(
            Option("split_folders", True),
            f" needs images in sub-folders of {root} called train and test, or train and val, and "
            f"nowhere else, got {some(sorted({top or '.' for top in tops}))}",
        )
    if wanted is False or not are_splits:
        return None
    return np.array([_SPLITS[top] for top in tops])


def _unused_splits(files: Sequence[str]) -> list[str]:
    """A warning if folders have names of splits but are classes, as there are others."""
    folders = {part for file in files for part in file.split("/")[:-1]}
    named = {part: _SPLITS[part.strip().lower()] for part in folders if _is_split(part)}
    if "train" not in named.values() or len(set(named.values())) == 1:
        return []
    return [
        f"warning: the folders {' and '.join(map(repr, sorted(named)))} are read as classes, not "
        "as splits: for these, the folder itself must have them, so called, and no other images; "
        "if they are classes, set split_folders=False (--no-split-folders)"
    ]


def _is_split(folder: str) -> bool:
    return folder.strip().lower() in _SPLITS


def _labels(
    files: Sequence[str], splits: NDArray[Any] | None
) -> tuple[NDArray[Any] | None, list[str]]:
    """Sub-folder of each image, or None if there is none; and notes."""
    notes = []
    inner = files if splits is None else [file.partition("/")[2] for file in files]
    folders = np.array([os.path.dirname(file) or "." for file in inner])
    if splits is not None:
        sizes = ", ".join(f"{counted(n, 'image')} for {s}" for s, n in Counter(splits).items())
        notes.append(
            f"splits: {sizes}, by the names of the folders; if they are classes, set "
            "split_folders=False (--no-split-folders)"
        )
        bare = [str(s) for s in np.unique(splits) if (folders[splits == s] == ".").all()]
        if bare and (folders != ".").any():
            notes.append(f"no labels: the images of {' and '.join(bare)} are not in sub-folders")
            return None, notes
    if (folders == ".").all():
        return None, notes
    return folders, [*notes, f"labels: {counted(len(np.unique(folders)), 'sub-folder')}"]


def _lost_levels(root: Path, files: Sequence[str], headers: Sequence[Header]) -> list[str]:
    """A warning if images of more than 8 bits use so few of their levels that 8 bits lose them."""
    deep = [file for file, header in zip(files, headers, strict=True) if "deep" in header.traits]
    few = deep[:: max(1, len(deep) // _DEEP)]
    ranges = [levels for file in few if (levels := deep_levels(root / file)) is not None]
    if not ranges:
        return []
    stored = np.unique(np.concatenate([levels.stored for levels in ranges]))
    kept = np.unique(np.concatenate([levels.kept for levels in ranges]))
    if len(kept) >= _FEW_LEVELS or len(kept) > len(stored) / 2:
        return []
    return [
        f"warning: images with more than 8 bits use only the levels {stored[0]:g} to "
        f"{stored[-1]:g} of {ranges[0].white:,}, so that 8 bits keep {len(kept):,} of "
        f"{len(stored):,} different levels; scale them to the full range and save them again"
    ]


# --- sizes ---------------------------------------------------------------------------------------


def _shape(
    root: Path,
    files: Sequence[str],
    headers: Sequence[Header],
    resize: tuple[int, int] | None,
    in_colour: bool,
) -> tuple[int, ...]:
    """Common shape of the images; an error suggests a size if their sizes differ."""
    sizes = Counter(header[:2] for header in headers)
    usual = resize or sizes.most_common(1)[0][0]
    if resize is None and len(sizes) > 1:
        # An image of the most frequent size, and one of another size, perhaps the only one.
        rows = {header[:2] == usual: row for row, header in enumerate(headers)}
        found = " and ".join(
            f"{_size(headers[i])} of {files[i]}" for i in (rows[True], rows[False])
        )
        height, width = _suggested(headers)
        raise OptionError(
            f"the images in {root} must have the same size, got {found}, {len(sizes):,} sizes "
            f"among {len(headers):,} images (height × width); crop and scale them, for example "
            "with ",
            Option("resize", (height, width)),
        )
    return (*usual, 3) if in_colour else usual


def _suggested(headers: Sequence[Header]) -> tuple[int, int]:
    """Median height and width; large sizes are reduced to multiples of eight."""
    height, width = (int(side) for side in np.median([header[:2] for header in headers], axis=0))
    scale = _SUGGESTED / max(height, width)
    if scale >= 1:
        return height, width
    return max(8, 8 * round(height * scale / 8)), max(8, 8 * round(width * scale / 8))


# --- decoding ------------------------------------------------------------------------------------


def _decode(
    root: Path,
    files: Sequence[str],
    headers: Sequence[Header | str],
    values: NDArray[np.uint8] | None,
    resize: tuple[int, int] | None,
    in_colour: bool,
) -> None:
    """Decode each image into its row, if `values` is given; an error lists unreadable images."""

    def decode(row: int) -> str | None:
        header = headers[row]
        if isinstance(header, str):
            return header
        pixels = read_pixels(root / files[row], resize, in_colour)
        if isinstance(pixels, str):
            return pixels
        if values is None:
            return None
        if pixels.shape != values.shape[1:]:
            found = f"{_size(pixels.shape)} when decoded and {_size(header)} by its header"
            return f"is {found}, resize the images to one size"
        values[row] = pixels
        if row % max(1, _HELD_BYTES // pixels.nbytes) == 0:
            memory.release(values)
        return None

    _check_read(root, dict(zip(files, in_threads(decode, range(len(files))), strict=True)))


def _allocated(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array of bytes, in memory or, if large, in a temporary file deleted with it."""
    size = math.prod(shape)
    if not memory.stays_on_disk(size):
        return np.empty(shape, np.uint8)
    # On many systems /tmp is in memory.
    in_var = "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK)
    place = "/var/tmp" if in_var else tempfile.gettempdir()
    with tempfile.TemporaryFile(dir=place) as file:
        # Reserved now: writing to mapped bytes on a full disk would crash.
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(
                    f"{size:,} bytes of images do not fit into {place}: {error.strerror}; resize "
                    "them to a smaller size, or set TMPDIR to a larger folder"
                ) from error
        return np.memmap(file, np.uint8, "w+", shape=shape)


# --- messages ------------------------------------------------------------------------------------


def _check_resize(resize: tuple[int, int] | None) -> None:
    if resize is not None and (len(resize) != 2 or min(resize) < 1):
        raise OptionError(
            Option("resize"), f" must be a height and a width of at least 1, got {resize}"
        )


def _check_read(root: Path, results: Mapping[str, object]) -> None:
    """Raise a ValueError if any result, by file, is the reason why it cannot be read."""
    failures = [f"{file} {why}" for file, why in results.items() if isinstance(why, str)]
    if not failures:
        return
    more = f"; and {len(failures) - _LISTED:,} more" if len(failures) > _LISTED else ""
    raise ValueError(
        f"{len(failures):,} of {counted(len(results), 'image')} in {root} cannot be read: "
        f"{'; '.join(failures[:_LISTED])}{more}. Replace them, or remove them from the folder"
    )


def _notes(
    values: NDArray[np.uint8],
    headers: Sequence[Header],
    more: Sequence[str],
    others: Counter[str],
) -> tuple[str, ...]:
    kind, other = ("colour", "grey") if values.ndim == 4 else ("grey", "colour")
    notes = [f"{counted(len(values), f'{kind} image')} of {_size(values.shape[1:])}"]
    if converted := sum(header.grey == (kind == "colour") for header in headers):
        notes.append(f"{counted(converted, f'{other} image')}: read as {kind}")
    traits = Counter(trait for header in headers for trait in header.traits)
    notes += [
        f"{counted(traits[key], 'image')} {how}" for key, how in TRAITS.items() if traits[key]
    ]
    sizes = [header[:2] for header in headers if header[:2] != values.shape[1:3]]
    if sizes:
        small = sum(h < values.shape[1] or w < values.shape[2] for h, w in sizes)
        enlarged = f", {small:,} of them enlarged" if small else ""
        of_sizes = counted(len(set(sizes)), "other size")
        notes.append(f"{counted(len(sizes), 'image')} of {of_sizes}: cropped and scaled{enlarged}")
    notes += more
    if others:
        notes.append(f"files not used: {_kinds(others)}")
    return tuple(notes)


def _kinds(others: Counter[str]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in sorted(others.items()))


def _size(shape: Sequence[Any]) -> str:
    return f"{shape[0]} × {shape[1]}"
