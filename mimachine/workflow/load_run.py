"""Load a trained run: settings, data and model with the best weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mimachine.data.dataset import Dataset
from mimachine.data.files.load import blank_dataset
from mimachine.experiment.build import build, refitted
from mimachine.experiment.settings import Experiment, from_json
from mimachine.model.joint import Joint
from mimachine.training.run import Run
from mimachine.workflow.prepare_run import objective, prepare

__all__ = [
    "Trained",
    "open_model",
    "open_run",
]


@dataclass(frozen=True)
class Trained:
    """A run with its model and its data."""

    run: Run
    experiment: Experiment
    data: Dataset
    model: Joint


def open_run(path: str | os.PathLike[str]) -> Trained:
    """A run from disk: its settings, its data, and its model with the best weights.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights.
        ValueError: If a file of the run is damaged.
    """
    run = Run(Path(path))
    settings = from_json(run.read_json("experiment.json"))
    objective(settings.objective)
    data = prepare(settings, run)
    return _with_weights(run, settings, data)


def _with_weights(run: Run, settings: Experiment, data: Dataset) -> Trained:
    made = build if run.refit_record() is None else refitted
    model = made(settings, data)
    run.load_weights(model)
    return Trained(run, settings, data, model.eval())


def open_model(path: str | os.PathLike[str]) -> Trained:
    """As `open_run`, but without a user's data, which may be gone; `data` has zeros then.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights.
        ValueError: If a file of the run is damaged.
    """
    run = Run(Path(path))
    stored = run.data_record()
    if stored is None:
        return open_run(path)
    settings = from_json(run.read_json("experiment.json"))
    name = os.path.basename(settings.data.name)
    data = blank_dataset(stored, name, rows=settings.model.components)
    return _with_weights(run, settings, data)
