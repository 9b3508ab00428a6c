"""Exit codes, and how commands handle Ctrl-C, SIGTERM, SIGHUP and full disks."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mimachine._support.messages import OptionError, quoted

# Environment variable that --data-dir sets for a command, and its value without the option.
_VARIABLE = "MIMACHINE_DATA"
_DATA_BEFORE = os.environ.get(_VARIABLE)
# Seconds until a lost signal comes again.
_AGAIN = 0.05
EXIT_MISTAKE, EXIT_DIVERGED, EXIT_INTERRUPTED = 2, 3, 130


class _Stopped(KeyboardInterrupt):
    """A signal that ends a command, as an exception that unwinds like Ctrl-C."""


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM, and SIGHUP of a closed terminal, unwind a command as Ctrl-C does.

    A signal that is ignored, as with `nohup`, stays ignored.
    """
    before: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        # Both may arrive together: the second must not disturb what the first one unwinds.
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise _Stopped(number)

    def lost(found: sys.UnraisableHookArgs) -> None:
        """Send a signal again whose exception was lost in compiled code that cannot raise."""
        if not isinstance(found.exc_value, _Stopped):
            hook(found)
            return
        for each in before:
            signal.signal(each, stop)
        again = threading.Timer(_AGAIN, os.kill, (os.getpid(), found.exc_value.args[0]))
        again.daemon = True
        again.start()

    hook = sys.unraisablehook

    # Only the main thread can handle signals.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            found = signal.getsignal(number)
            if number not in before and found is not signal.SIG_IGN:
                before[number] = found or signal.SIG_DFL
    try:
        for number in before:
            signal.signal(number, stop)
        if before:
            sys.unraisablehook = lost
        yield
    finally:
        sys.unraisablehook = hook
        for number, found in before.items():
            signal.signal(number, found)


def exit_code(interruption: KeyboardInterrupt) -> int:
    """Exit code of a command that was interrupted: 128 and the number of the signal."""
    return 128 + (interruption.args[0] if isinstance(interruption, _Stopped) else signal.SIGINT)


@contextlib.contextmanager
def interruptible(hint: Callable[[], str | None]) -> Iterator[None]:
    """Print how to resume after Ctrl-C, SIGTERM, SIGHUP or an error of the file system.

    Args:
        hint: Returns how to resume; None if there is nothing to resume.
    """
    try:
        yield
    except OSError as error:
        how = hint()
        if how is None or isinstance(error, BlockingIOError | FileExistsError | OptionError):
            raise
        # For example, the disk is full.
        raise OSError(f"{error}; once this is fixed: {how}") from error
    except KeyboardInterrupt as interruption:
        print(f"mimachine: interrupted; {hint() or 'nothing to resume'}", file=sys.stderr)
        raise SystemExit(exit_code(interruption)) from interruption


def typed(command: str, arguments: Sequence[str], out: Path | None = None) -> str:
    """The command line that goes on with a command.

    Args:
        command: Name of the command.
        arguments: Its arguments.
        out: Its directory, which is added unless it was given.
    """
    words = ["mimachine", command, *arguments]
    if out is not None and not any(word.partition("=")[0] == "--out" for word in arguments):
        words += ["--out", str(out)]
    # Removed from the arguments before the command reads them.
    data_dir = os.environ.get(_VARIABLE)
    if data_dir is not None and data_dir != _DATA_BEFORE:
        words += ["--data-dir", data_dir]
    return " ".join(map(quoted, words))


def resume_hint(run: Path, data: str | None = None) -> str | None:
    """How to resume a run from its last checkpoint; None if the run has not started.

    Args:
        run: Its directory.
        data: Where its data are now, if they moved.
    """
    if not (run / "experiment.json").exists():
        return None
    return f"resume with: {typed('train', _resumed(run, data))}"


def _resumed(directory: Path, data: str | None) -> list[str]:
    """Arguments of a command that resumes."""
    return ["--resume", str(directory), *([] if data is None else ["--data", data])]


def refit_hint(run: Path, arguments: Sequence[str]) -> str | None:
    """How to go on with a refit; None if no prior has been fitted yet."""
    if not (run / "experiment.json").exists():
        return None
    return f"resume with: {typed('refit', arguments, run)}"


def comparison_hint(directory: Path, data: str | None = None) -> str | None:
    """The state of a comparison and how to resume it; None if no run has started.

    Args:
        directory: Its directory.
        data: Where its data are now, if they moved.
    """
    from mimachine.training import claims
    from mimachine.training.run import Run

    request = claims.request_in(directory)
    if request is None:
        return None
    runs = {name: directory / name for name in request["objectives"]}
    started = [name for name, run in runs.items() if (run / "experiment.json").exists()]
    finished = [name for name in started if Run(runs[name]).finished]
    states = {"finished": finished, "not started": [n for n in runs if n not in started]}
    parts = [f"{state}: {', '.join(which)}" for state, which in states.items() if which]
    resume = f"resume with: {typed('compare', _resumed(directory, data))}"
    return "; ".join([*parts, resume])
