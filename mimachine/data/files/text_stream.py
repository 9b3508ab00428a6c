"""Open text files, which may be compressed, without loading endless lines or content."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, Any

from mimachine._support import memory

__all__ = ["opened"]

# Far above the longest rows of tables: a million columns take about 20 MB.
_LONGEST_LINE = 64 << 20
_BUFFER = 1 << 18


def opened(file: Path) -> IO[str]:
    """Open a text file in UTF-8 with any line ends; `.gz` is decompressed.

    Reading raises a ValueError at a line of more than 64 MiB, and once the text is larger than the
    memory: a small compressed file can hold terabytes.
    """
    is_compressed = file.suffix.lower() == ".gz"
    guard = _Guard(gzip.GzipFile(file) if is_compressed else io.FileIO(file), file.name)
    text = io.TextIOWrapper(io.BufferedReader(guard, _BUFFER), encoding="utf-8-sig")
    # Its own blocks are of 8 KiB.
    text._CHUNK_SIZE = _BUFFER  # type: ignore[attr-defined]
    return text


class _Guard(io.RawIOBase):
    """Bytes of a stream, as long as its lines and the whole fit into memory."""

    def __init__(self, stream: gzip.GzipFile | io.FileIO, name: str) -> None:
        self.stream, self.name = stream, name
        self._line = self._total = 0
        self._most = memory.available()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self.stream.readinto(buffer)
        block = bytes(memoryview(buffer)[:size])
        self._total += len(block)
        # The part behind the last line end; the whole block if there is none.
        rest = len(block) - 1 - max(block.rfind(b"\n"), block.rfind(b"\r"))
        self._line = rest if rest < len(block) else self._line + rest
        if self._line > _LONGEST_LINE:
            raise ValueError(
                f"{self.name} has a line of more than {_LONGEST_LINE >> 20} MiB, so it is not a "
                "table with a row in each line"
            )
        if self._total > self._most:
            raise ValueError(
                f"{self.name} has more than {memory.amount(self._most)} of text, which does not "
                "fit into memory; save it as .npy, which is read from the disk"
            )
        return len(block)

    def close(self) -> None:
        self.stream.close()
        super().close()
