"""Exit codes, and how commands handle Ctrl-C, SIGTERM and full disks."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mimachine._support.messages import OptionError, quoted

# Environment variable that --data-dir sets for a command, and its value without the option.
_VARIABLE = "MIMACHINE_DATA"
_DATA_BEFORE = os.environ.get(_VARIABLE)
EXIT_MISTAKE, EXIT_DIVERGED, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 3, 130, 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception that unwinds like Ctrl-C."""


@contextlib.contextmanager
def interruptible(hint: Callable[[], str | None]) -> Iterator[None]:
    """Print how to resume after Ctrl-C, SIGTERM or an error of the file system.

    Args:
        hint: Returns how to resume; None if there is nothing to resume.
    """

    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
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
        code = EXIT_TERMINATED if isinstance(interruption, _Terminated) else EXIT_INTERRUPTED
        raise SystemExit(code) from interruption
    finally:
        signal.signal(signal.SIGTERM, before)


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


def resume_hint(run: Path) -> str | None:
    """How to resume a run from its last checkpoint; None if the run has not started."""
    if not (run / "experiment.json").exists():
        return None
    return f"resume with: {typed('train', ['--resume', str(run)])}"


def refit_hint(run: Path, arguments: Sequence[str]) -> str | None:
    """How to go on with a refit; None if no prior has been fitted yet."""
    if not (run / "experiment.json").exists():
        return None
    return f"resume with: {typed('refit', arguments, run)}"


def comparison_hint(directory: Path) -> str | None:
    """The state of a comparison and how to resume it; None if no run has started."""
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
    resume = f"resume with: {typed('compare', ['--resume', str(directory)])}"
    return "; ".join([*parts, resume])
