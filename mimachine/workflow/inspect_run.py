"""Inspect the files of a run directory without importing torch."""

from __future__ import annotations

import json
import math
from typing import Any

from mimachine.training.run import Run

__all__ = ["inspect"]

# Entries of a metric that `mimachine inspect` prints.
_PRINTED = {"name", "value", "unit"}


def inspect(run: Run) -> dict[str, Any]:
    """Settings, progress, weight shapes and results of a run, as JSON values.

    Raises:
        FileNotFoundError: If the directory has no settings.
        ValueError: If a file of the run is damaged.
    """
    epochs = run.metrics()
    held_out = [e for e in epochs if e["val_loss"] is not None and e["beta"] >= 1]
    best = min(held_out, key=lambda e: e["val_loss"]) if held_out else None
    weights = _weight_shapes(run)
    return {
        "run": str(run.path),
        "finished": run.finished,
        "experiment": _experiment(run),
        "data": _data(run),
        "refit": _refit(run),
        "epochs": len(epochs),
        "best_epoch": None if best is None else best["epoch"],
        "best_val_loss": None if best is None else best["val_loss"],
        "weights": weights,
        "num_weights": sum(math.prod(shape) for shape in weights.values()),
        "report": _report(run),
    }


def _experiment(run: Run) -> dict[str, Any]:
    settings = run.read_json("experiment.json")
    if not isinstance(settings, dict):
        raise ValueError(
            f"{run.path / 'experiment.json'} is damaged: it must contain settings, got {settings!r}"
        )
    return settings


def _report(run: Run) -> dict[str, Any] | None:
    """The content of report.json; None if the run was not evaluated."""
    if not (run.path / "report.json").exists():
        return None
    report: dict[str, Any] = run.read_json("report.json")
    metrics = report.get("metrics") if isinstance(report, dict) else None
    if (
        not isinstance(metrics, list)
        or "verdict" not in report
        or not all(isinstance(metric, dict) and set(metric) >= _PRINTED for metric in metrics)
        or not all(isinstance(metric["value"], int | float | None) for metric in metrics)
    ):
        raise ValueError(
            f"{run.path / 'report.json'} is damaged: it must contain metrics and a verdict"
        )
    return report


def _data(run: Run) -> dict[str, Any] | None:
    """The preprocessing of a file or folder, without the statistics of each column."""
    record = run.data_record()
    if record is None:
        return None
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
    """Names and shapes of the weights, from the header of model.safetensors.

    The file begins with the header's length in 8 bytes; the header is JSON.
    """
    file = run.path / "model.safetensors"
    if not file.exists():
        return {}
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(min(length, file.stat().st_size))
    try:
        header = json.loads(text)
        tensors = {name: header[name]["shape"] for name in header if name != "__metadata__"}
        if all(isinstance(size, int) for shape in tensors.values() for size in shape):
            return tensors
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    raise ValueError(f"{file} is damaged: its header cannot be read")
