"""What an experiment of the paper is asked for, and what it gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mimachine.training.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Reproduction", "Request", "begun", "kept", "run_directory"]


@dataclass(frozen=True)
class Request:
    """How to carry out an experiment of the paper.

    Attributes:
        out: Directory for all that is made; what a killed run left there is gone on with.
        preset: Settings that the paper's figures were made with, or the library's.
        quick: Fewer and smaller models, for under two minutes on two cores.
        seeds: Number of models of each kind; None: as many as the paper has.
        jobs: Number of processes.
        say: Told what is going on, a line at a time.
    """

    out: Path
    preset: Literal["published", "default"] = "published"
    quick: bool = False
    seeds: int | None = None
    jobs: int = 1
    say: Callable[[str], None] = lambda text: None

    @property
    def label(self) -> str:
        """Which of several calls it is: they leave their figures and tables side by side."""
        seeds = [] if self.seeds is None else [f"{self.seeds}-seeds"]
        return "-".join([self.preset, *seeds, *(["quick"] if self.quick else [])])

    @property
    def options(self) -> str:
        """Options of the command that the numbers depend on."""
        seeds = "" if self.seeds is None else f" --seeds {self.seeds}"
        preset = "" if self.preset == "published" else f" --preset {self.preset}"
        return f"{preset}{seeds}{' --quick' if self.quick else ''}"


def run_directory(request: Request, name: str, record: Any) -> Path:
    """Where models are trained: a directory of its own for all that their weights depend on.

    Args:
        request: Below whose `out` it is.
        name: What they are, for a reader.
        record: What their weights depend on, as JSON values.
    """
    digest = hashlib.blake2b(json.dumps(record).encode(), digest_size=4).hexdigest()
    return request.out / "runs" / f"{name}-{digest}"


def begun(path: Path, record: dict[str, Any]) -> Run:
    """The run of a directory from `run_directory`, a new one if there is none yet."""
    return Run(path) if (path / "experiment.json").exists() else Run.create(path, record)


def kept(run: Run, name: str, *entries: str) -> dict[str, Any]:
    """A JSON object that a run keeps.

    Raises:
        ValueError: If it is damaged: it is no object, or lacks one of the entries.
    """
    value = run.read_json(name)
    if not isinstance(value, dict) or not value.keys() >= set(entries):
        raise ValueError(
            f"{run.path / name} is damaged: it must have {', '.join(entries)}; remove it, and what "
            "it tells is found out again"
        )
    return value


@dataclass(frozen=True)
class Reproduction:
    """What an experiment gives.

    Attributes:
        figures: Figures by the name of the file they go to.
        results: Every number of every seed, as JSON values.
        table: Our numbers beside the paper's, in Markdown.
    """

    figures: Mapping[str, Figure]
    results: dict[str, Any]
    table: str
