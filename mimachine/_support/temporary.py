"""Temporary files beside the files that they replace, and removal of those that a kill left behind.

A temporary file is locked for as long as a process writes it. The operating system releases the
lock when the process ends in any way, so an unlocked one is a leftover.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

__all__ = ["PARTIAL", "release", "remove_leftovers", "temporary_beside"]

# Ending of the temporary files, which nobody else's files have.
PARTIAL = ".mimachine-partial"


def temporary_beside(file: Path) -> tuple[Path, int | None]:
    """Create an empty file in the directory of another; its path and its lock, for `release`."""
    # A name may have 255 bytes: leave some of them to the temporary file's name.
    begin = f".{file.name[:50]}."
    while True:
        descriptor, name = tempfile.mkstemp(PARTIAL, begin, file.parent)
        try:
            import fcntl
        except ImportError:  # Windows has no flock, and does not replace files that are open.
            os.close(descriptor)
            return Path(name), None
        # Where a file system has no locks, nothing is ever taken for a leftover.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another process may have taken it for a leftover before it was locked.
        if os.fstat(descriptor).st_nlink:
            return Path(name), descriptor
        os.close(descriptor)


def release(lock: int | None) -> None:
    """Release the lock of a temporary file."""
    if lock is not None:
        os.close(lock)


def remove_leftovers(directory: Path) -> None:
    """Remove temporary files of a directory that no living process writes."""
    try:
        import fcntl
    except ImportError:
        return
    for file in directory.glob(f".*{PARTIAL}"):
        # Files that cannot be opened or locked, such as those in use, stay.
        with suppress(OSError):
            descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.unlink()
            finally:
                os.close(descriptor)
