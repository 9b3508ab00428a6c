"""Memory limits: how much is available, and which arrays are too large to load."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "MAPPED_SHARE",
    "amount",
    "available",
    "blocks",
    "check_fits",
    "release",
    "rows_at_once",
    "stays_on_disk",
]

MAPPED_SHARE = 1 / 32
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNKNOWN = 4 << 30
_VALUES_AT_ONCE = 1 << 22
# Blocks of a file that is gone through: their temporaries stay in the processor's cache and in the
# allocator's pool. Larger ones are mapped anew each time, which takes twice as long.
_VALUES_OF_A_BLOCK = 1 << 16


def available() -> int:
    """Bytes of memory that this process may use: the machine's or, if less, its container's."""
    try:
        sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf.
        sizes = [_UNKNOWN]
    for file in _LIMITS:
        try:
            sizes.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # No limit, or "max".
            continue
    return min(sizes)


def amount(num_bytes: float) -> str:
    """Format a number of bytes, such as "8.0 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} bytes" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} TB"


def check_fits(what: str, shape: tuple[int, ...], itemsize: int, remedy: str) -> None:
    """Check that an array fits into memory, before it is read.

    Raises:
        ValueError: If it does not. The message begins with `what` and ends with `remedy`.
    """
    size, most = math.prod(shape) * itemsize, available()
    if size > most:
        raise ValueError(
            f"{what} takes {amount(size)} of memory, more than the {amount(most)} there are; "
            f"{remedy}"
        )


def stays_on_disk(num_bytes: int) -> bool:
    """Whether an array is too large to load and should be read from disk when needed."""
    return num_bytes > MAPPED_SHARE * available()


def rows_at_once(shape: tuple[int, ...], most: int = 4096) -> int:
    """Number of rows of data (N, *X) to process at once: fewer if rows are long."""
    return max(1, min(most, _VALUES_AT_ONCE // max(1, math.prod(shape[1:]))))


def blocks(values: Any) -> Iterator[slice]:
    """Slices of the rows of data (N, *X) to go through; mapped pages are released after each."""
    rows = max(1, _VALUES_OF_A_BLOCK // max(1, math.prod(values.shape[1:])))
    for start in range(0, len(values), rows):
        yield slice(start, start + rows)
        release(values)


def release(array: Any) -> None:
    """Release the memory of an array mapped from a file; its pages are read again when needed.

    Otherwise pages count as memory of the process until memory is short, and the process seems to
    hold the whole file.
    """
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, "base", None)
    if array is not None and hasattr(mmap, "MADV_DONTNEED"):
        array.madvise(mmap.MADV_DONTNEED)
