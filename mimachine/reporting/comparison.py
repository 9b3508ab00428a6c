"""Compare objectives: train, evaluate and plot models of the same architecture and data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimachine import workflow
from mimachine._support import checks
from mimachine._support.digest import sealed
from mimachine._support.files import save_figure, write_json
from mimachine.evaluation.metric import Metric, Report
from mimachine.experiment.settings import Experiment, from_json, to_json
from mimachine.reporting import figures
from mimachine.training import claims
from mimachine.training.run import Run
from mimachine.workflow.find_data import found_again, known_by, with_absolute_paths
from mimachine.workflow.load_run import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "compare", "resume"]


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
    then: Callable[[Path], object] = lambda directory: None,
) -> Comparison:
    """Train and evaluate each experiment in a separate run directory and draw figures.

    After an interruption the same call goes on: finished runs are kept, an interrupted run is
    resumed, and the others are trained.

    Args:
        experiments: Settings by name; the data must be the same.
        out: Directory for the runs, the figures and comparison.json; it must not exist, be empty,
            or hold an unfinished comparison of the same experiments.
        say: Called with progress messages.
        then: Called with the directory before the comparison counts as finished, to write further
            files.

    Raises:
        FileExistsError: If `out` holds a finished comparison, one of other experiments, or other
            files.
        ValueError: If any of the settings is invalid; nothing is trained then.
    """
    directory = Path(checks.path("out", out))
    experiments = {
        name: replace(settings, data=with_absolute_paths(settings.data))
        for name, settings in experiments.items()
    }
    request = {
        "command": "compare",
        # The order too: it is that of the results.
        "objectives": list(experiments),
        "experiments": {name: to_json(settings) for name, settings in experiments.items()},
        "known_by": {
            name: path
            for objective, settings in experiments.items()
            for name, path in known_by(settings.data, out, _prefix(objective)).items()
        },
    }
    return _requested(experiments, directory, request, say, then)


def resume(
    path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
    then: Callable[[Path], object] = lambda directory: None,
) -> Comparison:
    """Go on with an interrupted comparison, as `compare` with the same experiments.

    Args:
        path: Directory of the comparison.
        data: File or folder that its runs are trained on, if it moved.
        say: As for `compare`.
        then: As for `compare`.

    Raises:
        FileNotFoundError: If the data do not exist.
        ValueError: If there is no unfinished comparison, or the data changed.
    """
    directory = Path(checks.path("path", path))
    given = None if data is None else checks.path("data", data)
    request = claims.request_in(directory, "compare")
    if request is None:
        raise ValueError(f"{directory} has no unfinished comparison")
    stored, known = request["experiments"], request.get("known_by", {})
    experiments = {}
    for name in request["objectives"]:
        settings = from_json(stored[name], directory / claims.UNFINISHED)
        found = found_again(settings.data, directory, known, given, _prefix(name))
        experiments[name] = replace(settings, data=found)
    return _requested(experiments, directory, {"command": "compare", **request}, say, then)


def _requested(
    experiments: Mapping[str, Experiment],
    directory: Path,
    request: Mapping[str, Any],
    say: Callable[[str], None],
    then: Callable[[Path], object],
) -> Comparison:
    """Do what a request asks for, or go on with it, in its directory."""
    claims.check(directory, request)
    for settings in experiments.values():
        workflow.check(settings)
    with claims.claimed(directory, request):
        comparison = _compare(experiments, directory, say)
        then(directory)
        return comparison


def _prefix(name: str) -> str:
    """Beginning of the names of an experiment's settings in a request."""
    return f"experiments.{name}."


def _compare(
    experiments: Mapping[str, Experiment], directory: Path, say: Callable[[str], None]
) -> Comparison:
    trained = {n: _trained(each, directory / n, say) for n, each in experiments.items()}
    # As stored, so that they do not depend on which runs were kept.
    reports = {name: each.report for name, each in trained.items()}
    # Save the metrics first: they took long to compute, and a figure may fail.
    comparison = Comparison(reports, (), _summary(reports))
    write_json(directory / "comparison.json", sealed(comparison.to_json()))
    pictures = []
    for title, figure in _pictures(trained, reports).items():
        pictures.append(directory / f"{title}.png")
        save_figure(figure, pictures[-1])
    comparison = replace(comparison, pictures=tuple(pictures))
    write_json(directory / "comparison.json", sealed(comparison.to_json()))
    return comparison


def _trained(settings: Experiment, path: Path, say: Callable[[str], None]) -> Trained:
    """Train an experiment or go on with its run; a finished run is opened."""
    # The data may have moved since the run began.
    place = settings.data.name if settings.data.is_path else None
    request = claims.request_in(path, "train")
    if request is not None:
        request.pop("known_by", None)
        _check_same(from_json(request, path / claims.UNFINISHED), settings, path)
        return workflow.resume(path, data=place, say=say)[0]
    if not (path.is_dir() and Run(path).finished):
        return workflow.train(settings, path, say=say)[0]
    trained = workflow.open_run(path, place)
    _check_same(trained.experiment, settings, path)
    say(f"keeping {settings.objective} on {trained.data.name}, run directory {path}")
    return trained


def _check_same(there: Experiment, wanted: Experiment, path: Path) -> None:
    if _without_place(there) != _without_place(wanted):
        raise FileExistsError(f"{path} is a run of other settings than those of the comparison")


def _without_place(settings: Experiment) -> Experiment:
    """Settings without the paths of the data, which may move; their content is checked."""
    data = settings.data
    if not data.is_path:
        return settings
    labels = data.file.labels
    if labels is not None and os.path.isabs(labels):
        data = replace(data, file=replace(data.file, labels=None))
    return replace(settings, data=replace(data, name="/"))


def _pictures(trained: Mapping[str, Trained], reports: Mapping[str, Report]) -> dict[str, Figure]:
    data = next(iter(trained.values())).data
    models = {name: each.model for name, each in trained.items()}
    pictures = {
        "loss-curves": figures.loss_curves({n: each.run.metrics() for n, each in trained.items()})
    }
    if data.image_shape is not None:
        drawn = {n: workflow.sample(each.generator, 64).shown for n, each in trained.items()}
        pictures["reconstructions"] = figures.image_reconstructions(models, data)
        pictures["samples"] = figures.image_samples(drawn, data)
    latent = {each.experiment.model.num_latents for each in trained.values()}
    if data.schema is None and data.train.shape[1] == 2 and latent == {2}:
        pictures["plane"] = figures.plane({n: (models[n], reports[n].values) for n in models}, data)
    return pictures


# Label of a line of the summary, its metric, and which way is better.
_QUESTIONS = (
    ("highest mutual information of x and z (lower bound)", "mutual_information_lower", max),
    ("lowest reconstruction error (from means)", "reconstruction_rmse", min),
    ("highest share of levels reconstructed", "reconstruction_accuracy", max),
    ("lowest reconstruction distance (from samples)", "sampled_reconstruction_distance", min),
    ("highest 5-NN accuracy of the codes", "knn_5_accuracy", max),
    ("lowest negative log-likelihood", "negative_log_likelihood", min),
    (
        "lowest negative log-likelihood with a prior fitted to the codes",
        "fitted_prior_negative_log_likelihood",
        min,
    ),
    (
        "generated rows nearest to data, with a prior fitted to the codes (energy distance)",
        "fitted_prior_generated_energy_distance",
        min,
    ),
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
