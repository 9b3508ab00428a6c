"""Exit codes, and how commands handle Ctrl-C, SIGTERM, SIGHUP and full disks."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mimachine._support.messages import quoted

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

    # Only the main thread can handle signals.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            found = signal.getsignal(number)
            if number not in before and found is not signal.SIG_IGN:
                before[number] = found or signal.SIG_DFL
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
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
        if how is None or isinstance(error, BlockingIOError | FileExistsError):
            raise
        # For example, the disk is full.
        raise OSError(f"{error}; once this is fixed: {how}") from error
    except KeyboardInterrupt as interruption:
        print(f"mimachine: interrupted; {hint() or 'nothing to resume'}", file=sys.stderr)
        raise SystemExit(exit_code(interruption)) from interruption


def resume_hint(run: Path) -> str | None:
    """How to resume a run from its last checkpoint; None if the run has not started."""
    if not (run / "experiment.json").exists():
        return None
    return f"resume with: mimachine train --resume {quoted(run)}"


def refit_hint(run: Path) -> str | None:
    """How to evaluate a run with a fitted prior; None if no prior is stored."""
    if not (run / "refit.json").exists() or not (run / "model.safetensors").exists():
        return None
    return f"the prior is fitted; evaluate it with: mimachine evaluate {quoted(run)}"


def comparison_hint(directory: Path, names: Sequence[str]) -> str | None:
    """The state of a comparison and how to resume it; None if no run has started."""
    from mimachine.training.run import Run

    if (directory / "comparison.json").exists():
        return f"all results are stored; report them with: mimachine report {quoted(directory)}"
    started = [name for name in names if (directory / name / "experiment.json").exists()]
    if not started:
        return None
    finished = [name for name in started if Run(directory / name).finished]
    states = {"finished": finished, "not started": [n for n in names if n not in started]}
    parts = [f"{state}: {', '.join(which)}" for state, which in states.items() if which]
    hints = [resume_hint(directory / name) for name in started if name not in finished]
    return "; ".join([*parts, *filter(None, hints)])
