"""Atomic writes: a file is replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mimachine._support.temporary import PARTIAL, release, remove_leftovers, temporary_beside

__all__ = [
    "PARTIAL",
    "directory_lock",
    "replacing",
    "save_figure",
    "utf8_path",
    "write_json",
]

# Yields a temporary file that becomes the given one, as `replacing` does.
Writing = Callable[[Path], AbstractContextManager[Path]]


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


def _replace(temporary: Path, file: Path) -> None:
    temporary.replace(file)


@contextmanager
def replacing(file: Path, place: Callable[[Path, Path], None] = _replace) -> Iterator[Path]:
    """Yield a temporary file that replaces the old one only once it is complete on disk.

    Leftovers of killed processes in the same directory are removed.

    Args:
        file: The file.
        place: Called with the complete temporary file and the file, to give it its name.
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
        place(temporary, file)
    except OSError as error:
        # A full disk raises an error without a file name.
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error
    finally:
        temporary.unlink(missing_ok=True)
        release(lock)


@contextmanager
def utf8_path(file: Path) -> Iterator[Path]:
    """The path of a file for a library that takes only UTF-8: of a copy where it is not."""
    try:
        str(file).encode()
        directory = None
    except UnicodeEncodeError:
        directory = tempfile.TemporaryDirectory()
    with directory or nullcontext():
        if directory is not None:
            file = Path(shutil.copy(file, Path(directory.name, f"copy{file.suffix}")))
        yield file


def write_json(file: Path, value: Any, writing: Writing = replacing) -> None:
    """Write a value as JSON, atomically: readers see the old file or the new one, never a part."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with writing(file) as temporary:
        temporary.write_text(text)


def save_figure(figure: Any, file: Path, writing: Writing = replacing) -> None:
    """Write a figure of matplotlib atomically, in the format of the file's suffix."""
    with writing(file) as temporary:
        figure.savefig(temporary, format=file.suffix[1:])
