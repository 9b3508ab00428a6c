"""Standard output and error that do not fail, and that show what a terminal would obey.

Commands print through `printing`. What is printed may contain names from files, so characters such
as those of escape sequences are replaced by visible ones. A reader that goes away, or a terminal
that is closed, ends the output and not the command.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO, cast

from mimachine._support.messages import visible

__all__ = ["Printable", "Unbroken", "is_terminal", "printing", "unfiltered"]

# Errors of a stream that nobody reads any more; EIO only where a terminal was closed.
_GONE = (errno.EPIPE, errno.EBADF, errno.ENXIO, errno.ESHUTDOWN, errno.ECONNRESET)

# What terminals and pipes that are not UTF-8 show in place of characters that they lack.
_ASCII = {
    "±": "+-",
    "†": "(!)",
    "–": "-",
    "—": "-",
    "…": "...",
    "²": "^2",
    "³": "^3",
    "½": "1/2",
    "×": "x",
    "·": "*",
    "‖": "||",
    "√": "sqrt",
    "∞": "inf",
    "β": "beta",
    "ε": "eps",
    "θ": "theta",
    "λ": "lambda",
    "μ": "mu",
    "σ": "sigma",
    "Σ": "sum",
}


class Unbroken:
    """A text stream that ends silently when nobody reads it any more.

    After any error further text is dropped.

    Args:
        stream: The stream.

    Attributes:
        error: Error that lost text although somebody reads it, such as a full disk.
    """

    def __init__(self, stream: TextIO) -> None:
        self.error: OSError | None = None
        self._stream, self._ended = stream, False
        self._gone = (*_GONE, errno.EIO) if is_terminal(stream) else _GONE

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, unless the stream has ended."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts, unless the stream has ended."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered, unless the stream has ended."""
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return is_terminal(self._stream)

    def _try(self, action: Callable[[], object]) -> None:
        if self._ended:
            return
        try:
            action()
        except ValueError:
            if not self._stream.closed:
                raise
            self._ended = True
        except OSError as error:
            self._ended = True
            if error.errno not in self._gone:
                self.error = error
            self._drop_buffered()

    def _drop_buffered(self) -> None:
        """Let Python write to nowhere what it still holds, or it would fail again at exit."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class Printable:
    """A text stream that shows control characters, and ends silently.

    Args:
        stream: The stream.

    Attributes:
        unfiltered: The stream for text that needs escape sequences, such as a progress bar.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unfiltered = Unbroken(stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)

    def write(self, text: str) -> int:
        """Write text with visible control characters; lines and tabs remain."""
        self.unfiltered.write(visible(text, keep="\n\t"))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts as `write` does."""
        for line in lines:
            self.write(line)


def unfiltered(stream: TextIO) -> TextIO:
    """The stream for text with escape sequences, whose names were made visible before."""
    inner = stream.unfiltered if isinstance(stream, Printable) else Unbroken(stream)
    return cast(TextIO, inner)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; False for one that is missing or closed."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


@contextlib.contextmanager
def printing() -> Iterator[Unbroken]:
    """Replace standard output and error by streams that do not fail and have any encoding.

    Yields:
        Standard output, to see whether text was lost.
    """
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    output, errors = (Printable(_any_encoding(stream)) for stream in before)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    try:
        yield output.unfiltered
    finally:
        output.unfiltered.flush()
        errors.unfiltered.flush()
        sys.stdout, sys.stderr = before


def _fill_descriptors() -> None:
    """Open closed standard streams, or a file of a run would get the number of one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _any_encoding(stream: TextIO | None) -> TextIO:
    """The stream, with characters replaced that its encoding lacks; a sink if it is missing."""
    if stream is None:
        return io.StringIO()
    codecs.register_error("mimachine", _replaced)
    # Other streams, such as those of a notebook or a test, take any character.
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="mimachine")
    return stream


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_ASCII.get(character, "?") for character in lacking), error.end
