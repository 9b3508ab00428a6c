import os
import pty
import sys

from mimachine.training.progress import Progress
from mimachine.training.state import Epoch


def test_names_and_warnings_cannot_command_the_terminal_of_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    control, terminal = pty.openpty()
    epoch = Epoch(epoch=1, beta=1.0, learning_rate=0.1, train_loss=2.0, val_loss=None)
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Progress(2, description="[/]\x1b[5m") as bar:
            bar.update(epoch)
            print("warning: \x1b]0;title\x07", file=sys.stderr)
        assert sys.stderr is stream
    shown = os.read(control, 1 << 20)
    os.close(control)
    assert rb"[/]\x1b[5m" in shown
    assert rb"warning: \x1b]0;title\x07" in shown
    assert b"\x1b]0" not in shown
    # The bar itself moves the cursor.
    assert b"\x1b[" in shown


def test_a_bar_needs_no_stream(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    for show in (None, True):
        with Progress(2, show) as bar:
            bar.update(Epoch(epoch=1, beta=1.0, learning_rate=0.1, train_loss=2.0, val_loss=None))
