"""Atomic writes: a file is replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mimachine._support.temporary import PARTIAL, release, remove_leftovers, temporary_beside

__all__ = ["PARTIAL", "directory_lock", "replacing", "require_regular", "write_json"]


@contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Lock a directory against other processes; it need not hold any file.

    The operating system holds the lock and releases it when the process ends in any way.

    Raises:
        BlockingIOError: If another process has the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no flock.
        yield
        return
    in_use = BlockingIOError(f"{directory} is in use by another process")
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except FileNotFoundError as error:
        # Removed by a process that had made it for itself.
        raise in_use from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(descriptor), os.stat(directory))
        except (BlockingIOError, FileNotFoundError) as error:
            raise in_use from error
        if not same:
            # Removed and made again before it was locked.
            raise in_use
        yield
    finally:
        os.close(descriptor)


def require_regular(path: str | os.PathLike[str]) -> None:
    """Check that a path is a file of the disk: reading a pipe or a device might never end.

    Raises:
        ValueError: If it exists and is something else.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "a pipe, socket or device"
        raise ValueError(f"{path} must be a file, got {kind}; save its content to a file")


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces the old one only once it is complete on disk.

    Leftovers of killed processes in the same directory are removed.
    """
    try:
        remove_leftovers(file.parent)
        temporary, lock = temporary_beside(file)
    except OSError as error:
        # Name the file that was asked for, not the temporary one.
        raise OSError(error.errno, error.strerror, str(file)) from error
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.umask(mask := os.umask(0))
        temporary.chmod(0o666 & ~mask)
        temporary.replace(file)
    except OSError as error:
        # A full disk raises an error without a file name.
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        temporary.unlink(missing_ok=True)
        release(lock)


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON, atomically: readers see the old file or the new one, never a part."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with replacing(file) as temporary:
        temporary.write_text(text)
