"""Inspection: what a run directory holds, read without torch."""

from __future__ import annotations

import json
import math
from typing import Any

from mimachine.runs import Run

__all__ = ["inspect"]


def inspect(run: Run) -> dict[str, Any]:
    """Settings, progress, weights and numbers of a run, as JSON values.

    Raises:
        FileNotFoundError: If the directory has no settings.
        ValueError: If a file of it is damaged.
    """
    epochs = run.metrics()
    held_out = [e for e in epochs if e["val_loss"] is not None and e["beta"] >= 1]
    best = min(held_out, key=lambda e: e["val_loss"]) if held_out else None
    report = run.path / "report.json"
    weights = _shapes(run)
    return {
        "run": str(run.path),
        "finished": run.finished,
        "experiment": run.read_json("experiment.json"),
        "data": _data(run),
        "epochs": len(epochs),
        "best_epoch": None if best is None else best["epoch"],
        "best_val_loss": None if best is None else best["val_loss"],
        "weights": weights,
        "num_weights": sum(math.prod(shape) for shape in weights.values()),
        "report": run.read_json("report.json") if report.exists() else None,
    }


def _data(run: Run) -> dict[str, Any] | None:
    """How a user's own data are treated, without the numbers of each column."""
    record = run.data_record()
    if record is None:
        return None
    kept = record["preprocessing"]
    names = ("likelihood", "shape", "columns", "levels", "image_shape")
    return {name: kept.get(name) for name in names}


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
        return {name: header[name]["shape"] for name in header if name != "__metadata__"}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged: its header cannot be read") from error
