"""Inspect the files of a run directory without importing torch."""

from __future__ import annotations

import math
import os
from typing import Any

from mimachine._support.messages import command_line
from mimachine.data.tables.schema import Schema
from mimachine.training import claims
from mimachine.training.run import Run
from mimachine.training.weights import weight_shapes
from mimachine.workflow.reports import kept_epoch, read_epochs, read_record

__all__ = ["inspect"]


def inspect(run: Run) -> dict[str, Any]:
    """Settings, progress, weight shapes and results of a run, as JSON values.

    Raises:
        FileNotFoundError: If the directory has no settings.
        ValueError: If a file of the run is damaged.
    """
    report = _report(run)
    epochs = read_epochs(run, report)
    best = kept_epoch(epochs)
    weights = _weight_shapes(run)
    refit, resume = _refit(run), _resume(run)
    return {
        "run": str(run.path),
        "finished": resume is None,
        "resume": resume,
        "experiment": _experiment(run),
        "data": _data(run),
        "refit": refit,
        "epochs": len(epochs),
        "best_epoch": None if best is None else best["epoch"],
        "best_val_loss": None if best is None else best["val_loss"],
        "weights": weights,
        "num_weights": sum(math.prod(shape) for shape in weights.values()),
        "report": report,
    }


def _resume(run: Run) -> str | None:
    """The command line that completes a run; None if it is finished."""
    request = claims.request_in(run.path)
    if request is not None:
        return claims.command_of(request, run.path)
    if run.finished:
        return None
    if run.refit_record() is not None:
        # Of an earlier version, which stored no request: only its results are missing.
        return command_line(["mimachine", "evaluate", str(run.path)])
    return claims.command_of({"command": "train"}, run.path)


def _experiment(run: Run) -> dict[str, Any]:
    settings = run.read_json("experiment.json")
    if not isinstance(settings, dict):
        raise ValueError(
            f"{run.path / 'experiment.json'} is damaged: it must contain settings, got {settings!r}"
        )
    return settings


def _report(run: Run) -> dict[str, Any] | None:
    """The content of report.json; None if the run was not evaluated."""
    return read_record(run) if os.path.lexists(run.path / "report.json") else None


def _data(run: Run) -> dict[str, Any] | None:
    """The preprocessing of a file or folder, without the statistics of each column."""
    record = run.data_record()
    if record is None:
        return None
    if record.get("schema") is not None:
        return {"likelihood": "columns", "columns": Schema.from_json(record["schema"]).kinds()}
    preprocessing = record["preprocessing"]
    names = ("likelihood", "shape", "columns", "levels", "image_shape")
    return {name: preprocessing.get(name) for name in names}


def _refit(run: Run) -> dict[str, Any] | None:
    """How the prior was fitted after training, without the results before fitting."""
    record = run.refit_record()
    if record is None:
        return None
    return {name: value for name, value in record.items() if name != "before"}


def _weight_shapes(run: Run) -> dict[str, list[int]]:
    """Names and shapes of the weights; empty if there are none yet."""
    file = run.path / "model.safetensors"
    return weight_shapes(file) if os.path.lexists(file) else {}
