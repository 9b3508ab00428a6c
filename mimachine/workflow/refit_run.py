"""Fit a new prior to the codes of a trained run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

from mimachine.estimation.refit_prior import Kind, recipe, refit_prior
from mimachine.evaluation.metric import Report
from mimachine.experiment.build import encoder_floor
from mimachine.experiment.settings import Experiment, to_json
from mimachine.model.joint import Joint
from mimachine.training.run import Run
from mimachine.workflow.find_data import relative_paths
from mimachine.workflow.load_run import Trained, open_run
from mimachine.workflow.measure_run import evaluated, measure
from mimachine.workflow.prepare_run import sources

__all__ = ["refit"]

# Value of `Model.prior` that builds a prior of each kind.
_PRIOR_OF: dict[Kind, Literal["full-gaussian-mixture", "vampprior", "flow"]] = {
    "gmm": "full-gaussian-mixture",
    "vamp": "vampprior",
    "flow": "flow",
}


class Refitted(NamedTuple):
    """A run before and after fitting its prior, with the results of both.

    Attributes:
        before: The original run.
        after: The new run, with the fitted prior.
        report_before: Results of the original model.
        report_after: Results of the model with the fitted prior.
    """

    before: Trained
    after: Trained
    report_before: Report
    report_after: Report


def refit(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    kind: Kind = "gmm",
    components: int | None = None,
    seed: int = 0,
    num_samples: int = 1000,
    data: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Refitted:
    """Fit a prior to the codes of a trained run and store the result as a new run.

    Encoder, decoder and metrics.jsonl are copied. Both models are evaluated in the same way.

    Args:
        path: The run; its files do not change.
        out: The new run directory; it must not exist or be empty.
        kind: Kind of the prior, see `refit_prior`.
        components: Number of components, see `refit_prior`.
        seed: Seed of the fit.
        num_samples: Importance samples per test example for the likelihood.
        data: File or folder that the run was trained on, if it moved.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Function that receives progress messages.

    Raises:
        FileNotFoundError: If the run or its weights do not exist.
        FileExistsError: If `out` exists and is not an empty directory.
        ImportError: If the kind is "flow" and zuko is not installed.
        ValueError: If an argument is not valid, or a file of the run is damaged.
    """
    with Run.claimed(out) as create:
        before = open_run(path, data)
        model, settings = _fitted(before, kind, components, seed, progress)
        report_before = evaluated(before, num_samples)
        settings = replace(settings, num_samples=num_samples)
        record = before.run.data_record()
        if record is not None:
            record = {**record, "relative": relative_paths(settings.data, out)}
        run = create(to_json(settings), record)
        say(f"fitted a prior ({kind}) to the codes of {before.run.path}, run directory {run.path}")
        run.write_json(
            "refit.json",
            {
                "run": os.path.abspath(before.run.path),
                "kind": kind,
                "components": components,
                "seed": seed,
                "before": report_before.to_json(),
            },
        )
        shutil.copyfile(before.run.path / "metrics.jsonl", run.path / "metrics.jsonl")
        run.save_weights(model)
        after = Trained(run, settings, before.data, model)
        return Refitted(before, after, report_before, measure(after, num_samples))


def _fitted(
    before: Trained, kind: Kind, components: int | None, seed: int, progress: bool | None
) -> tuple[Joint, Experiment]:
    """The model with the new prior, and the settings that build it."""
    settings, data = before.experiment, before.data
    train, val = sources(settings, data)
    training = recipe(kind, len(train), seed)
    model = refit_prior(
        before.model,
        train,
        val,
        kind=kind,
        components=components,
        training=training,
        progress=progress,
    )
    count = len(model.prior().log_weights) if kind != "flow" else settings.model.components
    fitted = replace(settings.model, prior=_PRIOR_OF[kind], components=count)
    if fitted.architecture == "mlp":
        # The default floor depends on the prior; keep the one that the encoder was trained with.
        floor = encoder_floor(settings.model)
        fitted = replace(fitted, encoder_floor=floor)
    return model, replace(settings, model=fitted)
