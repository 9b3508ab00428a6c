"""Inspection: what a run directory holds, read without torch."""

from __future__ import annotations

import json
import math
from typing import Any

from mimachine.training.run import Run

__all__ = [
    "inspect",
]


# What is shown of a metric.
_SHOWN = {"name", "value", "unit"}


def inspect(run: Run) -> dict[str, Any]:
    """Settings, progress, weights and numbers of a run, as JSON values.

    Raises:
        FileNotFoundError: If the directory has no settings.
        ValueError: If a file of it is damaged.
    """
    epochs = run.metrics()
    held_out = [e for e in epochs if e["val_loss"] is not None and e["beta"] >= 1]
    best = min(held_out, key=lambda e: e["val_loss"]) if held_out else None
    weights = _shapes(run)
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
            f"{run.path / 'experiment.json'} is damaged: it must hold settings, got {settings!r}"
        )
    return settings


def _report(run: Run) -> dict[str, Any] | None:
    """What was measured, if it was."""
    if not (run.path / "report.json").exists():
        return None
    report: dict[str, Any] = run.read_json("report.json")
    metrics = report.get("metrics") if isinstance(report, dict) else None
    if (
        not isinstance(metrics, list)
        or "verdict" not in report
        or not all(isinstance(metric, dict) and set(metric) >= _SHOWN for metric in metrics)
        or not all(isinstance(metric["value"], int | float | None) for metric in metrics)
    ):
        raise ValueError(f"{run.path / 'report.json'} is damaged: it lacks what was measured")
    return report


def _data(run: Run) -> dict[str, Any] | None:
    """How a user's own data are treated, without the numbers of each column."""
    record = run.data_record()
    if record is None:
        return None
    kept = record["preprocessing"]
    names = ("likelihood", "shape", "columns", "levels", "image_shape")
    return {name: kept.get(name) for name in names}


def _refit(run: Run) -> dict[str, Any] | None:
    """How the prior was fitted after training, without the numbers from before."""
    record = run.refit_record()
    if record is None:
        return None
    return {name: value for name, value in record.items() if name != "before"}


def _shapes(run: Run) -> dict[str, list[int]]:
    """Names and shapes from the header of model.safetensors: its length, then that much JSON."""
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
