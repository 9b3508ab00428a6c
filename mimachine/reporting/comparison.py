"""Compare objectives: train, evaluate and plot models of the same architecture and data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimachine import workflow
from mimachine._support.digest import sealed
from mimachine._support.files import directory_lock, write_json
from mimachine.evaluation.metric import Metric, Report
from mimachine.experiment.settings import Experiment
from mimachine.reporting import figures
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Reports of several objectives on the same data.

    Attributes:
        reports: A report for each objective.
        pictures: Paths of the figures.
        summary: The best objectives by several metrics, one line per metric.
    """

    reports: dict[str, Report]
    pictures: tuple[Path, ...]
    summary: str

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "reports": {name: report.to_json() for name, report in self.reports.items()},
            "pictures": [str(picture) for picture in self.pictures],
            "summary": self.summary,
        }


def compare(
    experiments: Mapping[str, Experiment],
    out: str | os.PathLike[str],
    *,
    say: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Train and evaluate each experiment in a separate run directory and draw figures.

    Args:
        experiments: Settings by name; the data must be the same.
        out: Directory for the runs, the figures and comparison.json; it must be empty or not exist.
        say: Called with progress messages.

    Raises:
        FileExistsError: If `out` is a file or a directory that is not empty.
        ValueError: If any of the settings is invalid; nothing is trained then.
    """
    directory = Path(out)
    Run.check_free(directory)
    for settings in experiments.values():
        workflow.check(settings)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with directory_lock(directory):
            # Another process may have used the directory before it was locked.
            Run.check_free(directory)
            return _compare(experiments, directory, say)
    except BlockingIOError as error:
        raise FileExistsError(f"{error}; choose another directory") from error


def _compare(
    experiments: Mapping[str, Experiment], directory: Path, say: Callable[[str], None]
) -> Comparison:
    trained: dict[str, Trained] = {}
    reports: dict[str, Report] = {}
    for name, settings in experiments.items():
        trained[name], _, reports[name] = workflow.train(settings, directory / name, say=say)
    # Save the metrics first: they took long to compute, and a figure may fail.
    comparison = Comparison(reports, (), _summary(reports))
    write_json(directory / "comparison.json", sealed(comparison.to_json()))
    pictures = []
    for title, figure in _pictures(trained, reports).items():
        pictures.append(directory / f"{title}.png")
        figure.savefig(pictures[-1])
    comparison = replace(comparison, pictures=tuple(pictures))
    write_json(directory / "comparison.json", sealed(comparison.to_json()))
    return comparison


def _pictures(trained: Mapping[str, Trained], reports: Mapping[str, Report]) -> dict[str, Figure]:
    data = next(iter(trained.values())).data
    models = {name: each.model for name, each in trained.items()}
    pictures = {
        "loss-curves": figures.loss_curves({n: each.run.metrics() for n, each in trained.items()})
    }
    if data.image_shape is not None:
        drawn = {name: workflow.sample(model, 64).shown for name, model in models.items()}
        pictures["reconstructions"] = figures.image_reconstructions(models, data)
        pictures["samples"] = figures.image_samples(drawn, data)
    latent = {each.experiment.model.num_latents for each in trained.values()}
    if data.train.shape[1] == 2 and latent == {2}:
        pictures["plane"] = figures.plane({n: (models[n], reports[n].values) for n in models}, data)
    return pictures


# Label of a line of the summary, its metric, and which way is better.
_QUESTIONS = (
    ("highest mutual information of x and z (lower bound)", "mutual_information_lower", max),
    ("lowest reconstruction error (from means)", "reconstruction_rmse", min),
    ("lowest reconstruction distance (from samples)", "sampled_reconstruction_distance", min),
    ("highest 5-NN accuracy of the codes", "knn_5_accuracy", max),
    ("lowest negative log-likelihood", "negative_log_likelihood", min),
)


def _summary(reports: Mapping[str, Report]) -> str:
    """The best objectives by each metric, with all values.

    Objectives within two standard errors of the best are listed with it.
    """
    lines = []
    for question, name, better in _QUESTIONS:
        metrics = {objective: r[name] for objective, r in reports.items() if r.has(name)}
        if not metrics:
            continue
        best = better(metrics.values(), key=lambda metric: metric.value)
        leading = [objective for objective, m in metrics.items() if not _differ(m, best)]
        numbers = ", ".join(f"{objective} {m}" for objective, m in metrics.items())
        lines.append(f"{question}: {' and '.join(leading)} ({numbers})")
    return "\n".join(lines)


def _differ(a: Metric, b: Metric) -> bool:
    error = math.hypot(a.standard_error or 0.0, b.standard_error or 0.0)
    return abs(a.value - b.value) > 2 * error
