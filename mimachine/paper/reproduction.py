"""Request and result of an experiment of the paper, and its run directories."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mimachine._support.files import directory_lock
from mimachine.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Reproduction", "Request", "await_free", "begun", "kept", "run_directory"]


@dataclass(frozen=True)
class Request:
    """Options of an experiment of the paper.

    Attributes:
        out: Output directory; an interrupted run in it is resumed.
        preset: Settings of the paper's figures, or defaults of the library.
        quick: Train fewer and smaller models, in two to three minutes on two cores.
        seeds: Number of models of each kind; by default as many as in the paper.
        jobs: Number of processes.
        say: Called with progress messages, one line each.
    """

    out: Path
    preset: Literal["published", "default"] = "published"
    quick: bool = False
    seeds: int | None = None
    jobs: int = 1
    say: Callable[[str], None] = lambda text: None

    @property
    def label(self) -> str:
        """Suffix of the output directory, so that different options do not overwrite each other."""
        seeds = [] if self.seeds is None else [f"{self.seeds}-seeds"]
        return "-".join([self.preset, *seeds, *(["quick"] if self.quick else [])])

    @property
    def options(self) -> str:
        """Command-line options that affect the results."""
        seeds = "" if self.seeds is None else f" --seeds {self.seeds}"
        preset = "" if self.preset == "published" else f" --preset {self.preset}"
        return f"{preset}{seeds}{' --quick' if self.quick else ''}"


def run_directory(request: Request, name: str, record: Any) -> Path:
    """Run directory that is unique to everything the weights depend on.

    Args:
        request: Its `out` is the parent directory.
        name: Readable part of the directory's name.
        record: Everything the weights depend on, as JSON values.
    """
    digest = hashlib.blake2b(json.dumps(record).encode(), digest_size=4).hexdigest()
    return request.out / "runs" / f"{name}-{digest}"


def begun(path: Path, record: dict[str, Any]) -> Run:
    """Open the run of a directory from `run_directory`, or create it."""
    await_free(path)
    return Run(path) if (path / "experiment.json").exists() else Run.create(path, record)


def await_free(path: Path, seconds: float = 60.0) -> None:
    """Wait until no other process uses a directory, or for some time.

    The processes of a command that was killed end by themselves a moment later.
    """
    deadline = time.monotonic() + seconds
    while path.is_dir() and time.monotonic() < deadline:
        try:
            with directory_lock(path):
                return
        except BlockingIOError:
            time.sleep(0.1)


def kept(run: Run, name: str, *entries: str) -> dict[str, Any]:
    """Read a JSON object of a run.

    Raises:
        ValueError: If the file is not an object or lacks one of the entries.
    """
    value = run.read_json(name)
    if not isinstance(value, dict) or not value.keys() >= set(entries):
        raise ValueError(
            f"{run.path / name} is damaged: it must contain {', '.join(entries)}; remove it, "
            "and it is computed again"
        )
    return value


@dataclass(frozen=True)
class Reproduction:
    """Results of an experiment.

    Attributes:
        figures: Figures by file name.
        results: Metrics of every seed, as JSON values.
        table: Comparison with the paper's values, in Markdown.
    """

    figures: Mapping[str, Figure]
    results: dict[str, Any]
    table: str
