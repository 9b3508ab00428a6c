"""Outcomes: trained runs with all that was measured of them, read back from their files."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import Tensor

from mimachine import workflow
from mimachine.evaluation.metric import Report
from mimachine.reporting.columns import Explained, explained
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained
from mimachine.workflow.reports import read_report

__all__ = [
    "FILES",
    "Outcome",
    "open_compared",
    "open_outcome",
]


FILES = ("experiment.json", "metrics.jsonl", "model.safetensors", "report.json")
_FEWEST_SAMPLES, _MOST_SAMPLES, _MOST_VALUES = 100, 2000, 5_000_000


@dataclass(frozen=True)
class Outcome:
    """A trained run with its numbers.

    Attributes:
        name: What to call it among others.
        trained: Its settings, data and model.
        report: Its metrics and verdict.
        records: Its epochs, as in metrics.jsonl.
        measured: All of report.json.
        link: Where its own page is, from the page of the comparison it belongs to; "" if nowhere.
    """

    name: str
    trained: Trained
    report: Report
    records: list[dict[str, Any]]
    measured: dict[str, Any]
    link: str = ""

    @cached_property
    def explained(self) -> Explained:
        """How much of each column of the test data its codes keep."""
        return explained(self.trained.model, self.trained.data)

    @cached_property
    def samples(self) -> Tensor:
        """Data drawn from its model, shape (n, *X): 2,000, or fewer if they are large."""
        size = math.prod(self.trained.data.test.shape[1:])
        count = max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, _MOST_VALUES // size))
        return workflow.sample(self.trained.model, count).x


def open_outcome(path: Path, name: str = "") -> Outcome:
    """A run that was trained and measured.

    Args:
        path: Its directory.
        name: What to call it; its objective if "".

    Raises:
        FileNotFoundError: If there is no run, or a file of it is missing.
        ValueError: If a file of the run is damaged.
    """
    run = Run(path)
    for file in FILES:
        if not (run.path / file).is_file():
            raise FileNotFoundError(
                f"{run.path} has no {file}: a report needs a run that was trained and measured"
            )
    measured, records = run.read_json("report.json"), run.metrics()
    if not records:
        raise ValueError(f"{run.path / 'metrics.jsonl'} has no epochs")
    report = read_report(measured, run.path / "report.json")
    trained = workflow.open_run(path)
    return Outcome(name or trained.experiment.objective, trained, report, records, measured)


def open_compared(directory: Path, name: str, report: Any) -> Outcome:
    """A run of a comparison with the numbers of that, for the run may be measured anew later."""
    outcome = open_outcome(directory / name, name)
    link = f"{quote(name)}/report.html" if (directory / name / "report.html").is_file() else ""
    measured = {**outcome.measured, "num_samples": outcome.trained.experiment.num_samples}
    numbers = read_report(report, directory / "comparison.json")
    return replace(outcome, report=numbers, measured=measured, link=link)
