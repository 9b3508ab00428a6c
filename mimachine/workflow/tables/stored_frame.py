"""Data frames as files, so that runs on them can be resumed and read like others."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["FRAME", "is_frame", "stored"]

# Name of the file in a run.
FRAME = "table.parquet"


def is_frame(data: Any) -> bool:
    """Whether data are a data frame of pandas, polars, arrow or another library."""
    return hasattr(data, "columns") and (hasattr(data, "dtypes") or hasattr(data, "schema"))


@contextmanager
def stored(frame: Any) -> Iterator[tuple[Path, str]]:
    """A data frame as a temporary parquet file, and a digest of its content.

    Raises:
        ValueError: If it is no table, see `read_frame`.
    """
    from mimachine.data.tables.read import read_as_stored

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FRAME
        read_as_stored(frame).write_parquet(file)
        yield file, hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
