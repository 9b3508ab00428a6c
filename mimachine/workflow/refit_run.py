"""Fit a new prior to the codes of a trained run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mimachine._support import checks
from mimachine._support.files import replacing
from mimachine._support.reading import read_bytes
from mimachine.estimation.refit_prior import Kind, recipe, refit_prior
from mimachine.evaluation.metric import Report
from mimachine.experiment.build import encoder_floor
from mimachine.experiment.settings import Experiment, to_json
from mimachine.model.joint import Joint
from mimachine.training.run import Create, Run
from mimachine.workflow.find_data import relative_paths
from mimachine.workflow.load_run import Trained, open_run, with_weights
from mimachine.workflow.measure_run import evaluated, measure
from mimachine.workflow.prepare_run import sources
from mimachine.workflow.reports import read_report
from mimachine.workflow.stored_settings import stored_settings

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
    then: Callable[[Refitted], object] = lambda done: None,
) -> Refitted:
    """Fit a prior to the codes of a trained run and store the result as a new run.

    Encoder, decoder and metrics.jsonl are copied. Both models are evaluated in the same way. After
    an interruption the same call goes on, with the same result.

    Args:
        path: The run; its files do not change.
        out: The new run directory; it must not exist, be empty, or hold an unfinished refit of the
            same run with the same options.
        kind: Kind of the prior, see `refit_prior`.
        components: Number of components, see `refit_prior`.
        seed: Seed of the fit.
        num_samples: Importance samples per test example for the likelihood.
        data: File or folder that the run was trained on, if it moved.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Function that receives progress messages.
        then: Called with the result before it counts as finished, to write further files.

    Raises:
        FileNotFoundError: If the run or its weights do not exist.
        FileExistsError: If `out` holds a finished run, an unfinished one of other options, or other
            files.
        ImportError: If the kind is "flow" and zuko is not installed.
        ValueError: If an argument is not valid, or a file of the run is damaged.
    """
    checks.path("out", out)
    checks.whole("num_samples", num_samples, 1)
    record = {
        "run": os.path.abspath(checks.path("path", path)),
        "kind": kind,
        "components": components,
        "seed": seed,
    }
    weights = _weights(Run(path))
    known = {"run": weights["weights"]} if weights else {}
    request = {
        "command": "refit",
        **record,
        "num_samples": num_samples,
        **weights,
        "known_by": known,
    }
    with Run.claimed(out, request) as create:
        before = open_run(path, data)
        history = _history(before.run)
        if (Path(out) / "experiment.json").exists():
            after = _reopened(Run(out), before)
        else:
            model, settings = _fitted(before, kind, components, seed, progress)
            settings = replace(settings, num_samples=num_samples)
            after = _stored(before, model, settings, record, history, Run(out), create)
        say(f"fitted a prior ({kind}) to the codes of {before.run.path}, run directory {out}")
        report_before = _report_before(before, after.run, num_samples)
        done = Refitted(before, after, report_before, measure(after, num_samples))
        then(done)
        return done


def _weights(run: Run) -> dict[str, str]:
    """A digest of the weights of a run: a run may be trained anew under the same name."""
    file = run.path / "model.safetensors"
    if not file.is_file():
        return {}
    return {"weights": hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()}


def _history(run: Run) -> bytes:
    """The records of the epochs of a run, which a report needs."""
    run.metrics()  # Refuses what is damaged.
    return read_bytes(run.path / "metrics.jsonl")


def _stored(
    before: Trained,
    model: Joint,
    settings: Experiment,
    record: dict[str, Any],
    history: bytes,
    run: Run,
    create: Create,
) -> Trained:
    """Store a model with its new prior as a run, the settings last."""
    with replacing(run.path / "metrics.jsonl") as temporary:
        temporary.write_bytes(history)
    run.save_weights(model)
    run.write_json("refit.json", record)
    data = before.run.data_record()
    if data is not None:
        data = {**data, "relative": relative_paths(settings.data, run.path)}
    create(to_json(settings), data)
    return Trained(run, settings, before.data, model)


def _reopened(run: Run, before: Trained) -> Trained:
    """A model whose prior was fitted before an interruption."""
    return with_weights(run, stored_settings(run), before.data)


def _report_before(before: Trained, run: Run, num_samples: int) -> Report:
    """Results of the original model, from the record of the new run if it has them."""
    record = run.refit_record() or {}
    if "before" in record:
        return read_report(record["before"], run.path / "refit.json")
    report = evaluated(before, num_samples)
    run.write_json("refit.json", {**record, "before": report.to_json()})
    return report


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
    if fitted.architecture in ("mlp", "conv"):
        # The default floor depends on the prior; keep the one that the encoder was trained with.
        floor = encoder_floor(settings.model)
        fitted = replace(fitted, encoder_floor=floor)
    return model, replace(settings, model=fitted)
