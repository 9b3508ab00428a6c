"""Exit codes, and how commands handle Ctrl-C, SIGTERM and full disks."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mimachine._support.messages import OptionError, quoted

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
