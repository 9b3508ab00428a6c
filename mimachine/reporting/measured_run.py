"""Load a trained run with its metrics, as input of a report."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from torch import Tensor

from mimachine import workflow
from mimachine.evaluation.metric import Report
from mimachine.reporting.columns import Array, chosen
from mimachine.reporting.explained import Explained, explained
from mimachine.reporting.tables.cells import Cells, excess
from mimachine.reporting.tables.explained import Fits, fits
from mimachine.training.convergence import Convergence, convergence
from mimachine.training.records import Epoch
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained
from mimachine.workflow.reports import read_epochs, read_record, read_report

__all__ = ["FILES", "Outcome", "open_compared", "open_outcome"]

FILES = ("experiment.json", "metrics.jsonl", "model.safetensors", "report.json")
# From here on a classifier of samples and data says that samples are poor.
_TELLING_AUC = 0.9
_FEWEST_SAMPLES, _MOST_SAMPLES, _MOST_VALUES = 100, 2000, 5_000_000


@dataclass(frozen=True)
class Outcome:
    """A trained run with its metrics.

    Attributes:
        name: Its name in a comparison.
        trained: Its settings, data and model.
        report: Its metrics and verdict.
        records: Its epochs, as in metrics.jsonl.
        measured: The content of report.json.
        link: Relative URL of its own report, for the report of a comparison; "" if it has none.
    """

    name: str
    trained: Trained
    report: Report
    records: list[dict[str, Any]]
    measured: dict[str, Any]
    link: str = ""

    @property
    def tone(self) -> Literal["good", "plain", "warning"]:
        """How the verdict is shown: codes that are nearly points are no fault if samples are good.

        Samples are from the prior that was fitted to the codes, if there is one.
        """
        report = self.report
        if report.verdict != "deterministic":
            return "good" if report.verdict == "healthy" else "warning"
        names = ("fitted_prior_generated_auc", "generated_auc")
        told = [report[name].value for name in names if report.has(name)]
        return "warning" if told and not min(told) < _TELLING_AUC else "plain"

    @cached_property
    def convergence(self) -> Convergence:
        """Whether training has converged."""
        epochs = [Epoch(**record) for record in self.records]
        found = convergence(epochs, self.trained.experiment.training.epochs)
        assert isinstance(found, Convergence)
        return found

    @cached_property
    def explained(self) -> Explained:
        """Variance of each column of the test set explained by reconstructions."""
        return explained(self.trained.model, self.trained.data)

    @cached_property
    def fits(self) -> Fits:
        """How well each column of a table is reconstructed."""
        return fits(self.trained.model, self.trained.data)

    @cached_property
    def real(self) -> Array:
        """Test rows of a table to compare with samples, shape (n, D): up to 2,000."""
        test = self.trained.data.test
        rows: Array = test[chosen(len(test), _MOST_SAMPLES)].double().cpu().numpy()
        return rows

    @cached_property
    def drift(self) -> Array:
        """How far the distribution of each column of a table is off in samples, see `excess`."""
        assert self.trained.data.schema is not None
        cells = Cells(self.real, self.trained.data.schema)
        return excess(cells.of(self.real), cells.of(self.samples.double().cpu().numpy()))

    @cached_property
    def samples(self) -> Tensor:
        """Samples as of `sample`, shape (n, *X): 2,000, or fewer if they are large."""
        size = math.prod(self.trained.data.test.shape[1:])
        count = max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, _MOST_VALUES // size))
        return workflow.sample(self.trained.generator, count).x


def open_outcome(
    path: Path, name: str = "", data: str | None = None, trained: Trained | None = None
) -> Outcome:
    """Load a trained and evaluated run.

    Args:
        path: Its directory.
        name: Its name; by default its objective.
        data: File or folder that it was trained on, if it moved.
        trained: The run, if it is open already, so that its data are not read again.

    Raises:
        FileNotFoundError: If the run or one of its files is missing.
        ValueError: If a file of the run is damaged.
    """
    run = Run(path)
    for file in FILES:
        if not (run.path / file).is_file():
            raise FileNotFoundError(
                f"{run.path} has no {file}: a report needs a trained and evaluated run"
            )
    if not run.metrics():
        raise ValueError(f"{run.path / 'metrics.jsonl'} has no epochs")
    measured = read_record(run)
    records = read_epochs(run, measured)
    if isinstance(records[0]["train_loss"], list):
        raise ValueError(f"{run.path / 'metrics.jsonl'} must be of one model, got several")
    report = read_report(measured, run.path / "report.json")
    if trained is None:
        trained = workflow.open_run(path, data)
    return Outcome(name or trained.experiment.objective, trained, report, records, measured)


def open_compared(directory: Path, name: str, report: Report, data: str | None) -> Outcome:
    """Load a run with its metrics in a comparison; the run may have been re-evaluated since."""
    outcome = open_outcome(directory / name, name, data)
    link = f"{quote(name)}/report.html" if (directory / name / "report.html").is_file() else ""
    measured = {**outcome.measured, "num_samples": outcome.trained.experiment.num_samples}
    return replace(outcome, report=report, measured=measured, link=link)
