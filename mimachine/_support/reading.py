"""Read files that anybody may have edited, damaged or replaced.

Only regular files are opened, which never makes a process wait, and JSON is read strictly: no
entry occurs twice, and all numbers are finite.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from mimachine._support import memory

__all__ = ["opened", "parse_json", "read_bytes", "require_regular"]

# Deeper nesting has no meaning here, and would exhaust the stack of recursive functions.
_MOST_NESTED = 50


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is something else than a regular file, or larger than the memory.
    """
    try:
        _check_regular(file, os.stat(file))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ValueError(f"{file} must be a regular file, got a link to itself") from error
    # Without waiting for a writer, if another process has just put a pipe in its place.
    descriptor = os.open(file, os.O_RDONLY | _NOT_WAITING)
    with os.fdopen(descriptor, "rb") as stream:
        _check_regular(file, os.fstat(descriptor))
        yield stream


# Each system has one of these.
_NOT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_regular(file: str | os.PathLike[str]) -> None:
    """Check that a path is a regular file: reading a pipe or a device might never end.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is something else.
    """
    _check_kind(file, os.stat(file))


def _check_kind(file: str | os.PathLike[str], status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise ValueError(f"{file} must be a regular file, got {kind}")


def _check_regular(file: Path, status: os.stat_result) -> None:
    _check_kind(file, status)
    if status.st_size > (most := memory.available()):
        raise ValueError(
            f"{file} must fit into the memory of {most:,} bytes, got {status.st_size:,} bytes"
        )


def read_bytes(file: Path) -> bytes:
    """Read a regular file, see `opened`."""
    with opened(file) as stream:
        return stream.read()


def parse_json(text: bytes | str, place: str) -> Any:
    """Read a JSON value strictly.

    Args:
        text: The text; bytes are UTF-8.
        place: Name of the file, or of a line in it, for the message.

    Raises:
        ValueError: If the text is not JSON, has an entry twice, a number that is not finite, or
            very deep nesting.
    """
    try:
        value = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            object_pairs_hook=_without_repetition,
            parse_constant=_not_finite,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not valid JSON: {_short(str(error))}") from error
    if _depth(value) > _MOST_NESTED:
        raise ValueError(f"{place} is not valid here: its values are nested too deeply")
    return value


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."


def _without_repetition(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(entries)
    if len(value) < len(entries):
        names = [name for name, _ in entries]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"entry {_short(twice, 50)!r} occurs twice")
    return value


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _not_finite(_short(text, 50))
    return value


def _depth(value: Any) -> int:
    """Depth of nesting, found without recursion."""
    depth, level = 0, [value]
    while level := [
        inner
        for each in level
        if isinstance(each, dict | list)
        for inner in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
    return depth
