"""Refit the prior of a trained run to its codes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

from mimachine.estimation.refit_prior import Kind, recipe, refit_prior
from mimachine.evaluation.metric import Report
from mimachine.experiment.build import encoder_floor
from mimachine.experiment.settings import to_json
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained, open_run
from mimachine.workflow.measure_run import evaluated, measure
from mimachine.workflow.prepare_run import sources

__all__ = [
    "refit",
]


# The settings that build a prior of each kind again.
_PRIOR_OF: dict[Kind, Literal["full-gaussian-mixture", "vampprior", "flow"]] = {
    "gmm": "full-gaussian-mixture",
    "vamp": "vampprior",
    "flow": "flow",
}


class Refitted(NamedTuple):
    """A run before and after its prior was fitted to its codes, each with its numbers."""

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
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Refitted:
    """Fit a prior to the codes of a trained run, in a run directory of its own.

    Encoder and decoder are those of the run, and so are the epochs of metrics.jsonl. Both models
    are measured alike.

    Args:
        path: The run, which stays as it is.
        out: The new run directory; it must not exist, or be empty.
        kind: What the prior is, see `refit_prior`.
        components: Its components, likewise.
        seed: Seed of the fit.
        num_samples: Importance samples for the likelihood of each test datum.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Told what is going on.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights.
        FileExistsError: If there is something at `out`.
        ImportError: If the kind is "flow" and zuko is not installed.
        ValueError: If the arguments make no sense, or a file of the run is damaged.
    """
    Run.check_free(out)
    before = open_run(path)
    settings, data = before.experiment, before.data
    train, val = sources(settings, data)
    how = recipe(kind, len(train), seed)
    model = refit_prior(
        before.model, train, val, kind=kind, components=components, training=how, progress=progress
    )
    number = len(model.prior().log_weights) if kind != "flow" else settings.model.components
    fitted = replace(settings.model, prior=_PRIOR_OF[kind], components=number)
    if fitted.architecture == "mlp":
        # A VampPrior's would be another one, and the encoder has its own already.
        floor = encoder_floor(settings.model)
        fitted = replace(fitted, encoder_floor=floor)
    numbers = evaluated(before, num_samples)
    settings = replace(settings, model=fitted, num_samples=num_samples)
    run = Run.create(out, to_json(settings), before.run.data_record())
    say(f"fitted a prior ({kind}) to the codes of {before.run.path}, run directory {run.path}")
    run.write_json(
        "refit.json",
        {
            "run": os.path.abspath(before.run.path),
            "kind": kind,
            "components": components,
            "seed": seed,
            "before": numbers.to_json(),
        },
    )
    shutil.copyfile(before.run.path / "metrics.jsonl", run.path / "metrics.jsonl")
    run.save_weights(model)
    after = Trained(run, settings, data, model)
    return Refitted(before, after, numbers, measure(after, num_samples))
