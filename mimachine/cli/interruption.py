"""Interruption: exit codes, signals, and how to resume."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mimachine._support.messages import quoted

EXIT_MISTAKE, EXIT_DIVERGED, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 3, 130, 143


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception that unwinds like Ctrl-C."""


@contextlib.contextmanager
def interruptible(go_on: Callable[[], str | None]) -> Iterator[None]:
    """Say after Ctrl-C, SIGTERM or a full disk what is left, and how to go on.

    Args:
        go_on: Gives what to say; None if there is nothing to go on with.
    """

    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except OSError as error:
        how = go_on()
        if how is None or isinstance(error, BlockingIOError | FileExistsError):
            raise
        # A disk that is full, say.
        raise OSError(f"{error}; when that is mended, {how}") from error
    except KeyboardInterrupt as interruption:
        print(f"mimachine: interrupted; {go_on() or 'nothing was begun'}", file=sys.stderr)
        code = EXIT_TERMINATED if isinstance(interruption, _Terminated) else EXIT_INTERRUPTED
        raise SystemExit(code) from interruption
    finally:
        signal.signal(signal.SIGTERM, before)


def resume_hint(run: Path) -> str | None:
    """How to go on with a run from its last checkpoint; None if it was not begun."""
    if not (run / "experiment.json").exists():
        return None
    return f"go on with: mimachine train --resume {quoted(run)}"


def refit_hint(run: Path) -> str | None:
    """How to measure a run whose prior was fitted; None if there is none."""
    if not (run / "refit.json").exists() or not (run / "model.safetensors").exists():
        return None
    return f"the prior is fitted; measure it with: mimachine evaluate {quoted(run)}"


def comparison_hint(directory: Path, names: Sequence[str]) -> str | None:
    """What there is of a comparison, and how to go on; None if it was not begun."""
    from mimachine.training.run import Run

    if (directory / "comparison.json").exists():
        return f"all is measured; see it with: mimachine report {quoted(directory)}"
    begun = [name for name in names if (directory / name / "experiment.json").exists()]
    finished = [name for name in begun if Run(directory / name).finished]
    others = [name for name in names if name not in begun]
    done = [
        f"{what}: {', '.join(which)}"
        for what, which in (("finished", finished), ("not begun", others))
        if which
    ]
    ways = [resume_hint(directory / name) for name in begun if name not in finished]
    return "; ".join([*done, *filter(None, ways)]) if begun else None
