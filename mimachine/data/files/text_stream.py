"""Open text files, which may be compressed, without loading endless lines or content."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from mimachine._support import memory

__all__ = ["UTF_8", "decoded", "opened"]

UTF_8 = "utf-8-sig"
# Far above the longest rows of tables: a million columns take about 20 MB.
_LONGEST_LINE = 64 << 20
_BUFFER = 1 << 18
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Controls that text does not have; 0x1a ends old files.
_CONTROLS = bytes(k for k in range(32) if k not in (*b"\t\n\v\f\r", 0x1A))
_UNDEFINED = b"\x81\x8d\x8f\x90\x9d"

Found = TypeVar("Found")


def opened(file: Path, encoding: str | None = None) -> IO[str]:
    """Open a text file with any line ends; `.gz` is decompressed.

    Args:
        file: The file.
        encoding: Its encoding. By default that of its byte order mark, or else UTF-8.

    Reading raises a ValueError at a line of more than 64 MiB, and once the text is larger than the
    memory: a small compressed file can hold terabytes.
    """
    encoding = encoding or _marked(file)
    guard = _Guard(_raw(file), file.name)
    text = io.TextIOWrapper(io.BufferedReader(guard, _BUFFER), encoding=encoding)
    # Its own blocks are of 8 KiB.
    text._CHUNK_SIZE = _BUFFER  # type: ignore[attr-defined]
    return text


def decoded(file: Path, read: Callable[[str], Found]) -> tuple[Found, tuple[str, ...]]:
    """Read a file in its encoding: of its byte order mark, UTF-8, or the usual one of bytes.

    Args:
        file: The file.
        read: Reads the file in an encoding; called again if its bytes are not of the first.

    Returns:
        What `read` returned, and a note if the encoding is a guess.

    Raises:
        UnicodeDecodeError: If the bytes are UTF-8 for the most part, which means damage, or are
            not text.
    """
    encoding = _marked(file)
    try:
        return read(encoding), ()
    except UnicodeDecodeError:
        other = _of_bytes(file) if encoding == UTF_8 else None
        if other is None:
            raise
    note = (
        f"{file.name} is not in UTF-8; it is read as {other}. If letters with accents look wrong, "
        "save it as UTF-8"
    )
    return read({"Windows-1252": "cp1252", "Latin-1": "latin-1"}[other]), (note,)


def _raw(file: Path) -> gzip.GzipFile | io.FileIO:
    return gzip.GzipFile(file) if file.suffix.lower() == ".gz" else io.FileIO(file)


def _marked(file: Path) -> str:
    """Encoding by the byte order mark; UTF-8 without one."""
    with _raw(file) as stream:
        start = stream.read(4)
    return next((name for mark, name in _MARKS if start.startswith(mark)), UTF_8)


def _of_bytes(file: Path) -> str | None:
    """The encoding of text in one byte a character; None if it is rather damaged UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    good = bad = 0
    undefined = False
    with _raw(file) as stream:
        while block := stream.read(_BUFFER):
            if len(block.translate(None, _CONTROLS)) < len(block):
                return None
            undefined = undefined or len(block.translate(None, _UNDEFINED)) < len(block)
            text = decoder.decode(block)
            escaped = sum("\udc80" <= character <= "\udcff" for character in text)
            bad += escaped
            good += len(text) - escaped - len(text.encode("ascii", "ignore"))
    if good > bad:
        return None
    return "Latin-1" if undefined else "Windows-1252"


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
