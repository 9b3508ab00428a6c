"""Streams that end silently, and show what a terminal would obey."""

import errno
import io
import os
import pty
import sys

import pytest

from mimachine._support.streams import Printable, Unbroken, printing, unfiltered


class Failing(io.StringIO):
    """A stream whose writing fails."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("number", "lost"), [(errno.EPIPE, False), (errno.EBADF, False), (errno.ENOSPC, True)]
)
def test_a_stream_ends_at_its_first_error(number, lost):
    stream = Unbroken(Failing(number))
    for _ in range(2):
        assert stream.write("text") == 4
        stream.writelines(["a", "b"])
        stream.flush()
    assert (stream.error is not None) == lost


def test_a_closed_stream_takes_text():
    inner = io.StringIO()
    inner.close()
    stream = Unbroken(inner)
    stream.write("text")
    stream.flush()
    assert not stream.isatty()


def test_an_error_of_the_text_is_not_hidden(tmp_path):
    with (
        (tmp_path / "file").open("w", encoding="ascii") as file,
        pytest.raises(UnicodeEncodeError),
    ):
        Unbroken(file).write("ä")


def test_what_a_full_disk_did_not_take_is_dropped_at_the_end():
    with open("/dev/full", "w") as full:
        stream = Unbroken(full)
        stream.write("buffered")
        stream.flush()
        assert stream.error.errno == errno.ENOSPC
    # Closing the file did not try again.


def test_a_terminal_that_is_closed_ends_the_output():
    control, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as file:
        stream = Unbroken(file)
        assert stream.isatty()
        os.close(control)
        stream.write("nobody sees this\n")
        stream.flush()
        assert stream.error is None


def test_names_are_shown_and_progress_bars_keep_their_escapes():
    inner = io.StringIO()
    stream = Printable(inner)
    print("a\x1b[2Jb", "\r\u202e\udce9", "tab\tend", file=stream)
    stream.writelines(["\x07\n"])
    assert inner.getvalue() == "a\\x1b[2Jb \\r\\u202e\\xe9 tab\tend\n\\x07\n"
    unfiltered(stream).write("\x1b[2J")
    assert inner.getvalue().endswith("\x1b[2J")


def test_standard_streams_return_afterwards(monkeypatch):
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", None)
    with printing() as stream:
        print("\x1b")
        print("nowhere", file=sys.stderr)
        sys.stderr.flush()
        assert stream.error is None
    assert sys.stdout is output
    assert sys.stderr is None
    assert output.getvalue() == "\\x1b\n"
