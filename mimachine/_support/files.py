"""Atomic writes: a file is replaced as a whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["replacing", "write_json"]


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces the old one only once it is complete on disk."""
    try:
        descriptor, temporary_name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    except OSError as error:
        # Name the file that was asked for, not the temporary one.
        raise OSError(error.errno, error.strerror, str(file)) from error
    os.close(descriptor)
    temporary = Path(temporary_name)
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


def write_json(file: Path, value: Any) -> None:
    """Write a value as JSON, atomically: readers see the old file or the new one, never a part."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    with replacing(file) as temporary:
        temporary.write_text(text)
