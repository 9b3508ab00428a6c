"""Sweeps: models of several shapes and objectives, those that differ by the seed trained as one."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution

from mimachine import experiment, workflow
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.data.sources import Stacked
from mimachine.estimation.information.bounds import information_bounds
from mimachine.estimation.likelihood.importance import LogLikelihood, log_likelihood
from mimachine.estimation.likelihood.proposals import DefensiveProposal
from mimachine.estimation.likelihood.quadrature import (
    QuadratureLogLikelihood,
    quadrature_log_likelihood,
)
from mimachine.evaluation.evaluate_model import evaluate
from mimachine.experiment.build import build
from mimachine.experiment.settings import Experiment
from mimachine.model import priors
from mimachine.model.joint import Joint
from mimachine.model.loss import Loss
from mimachine.paper.processes import as_they_come
from mimachine.paper.reproduction import Request, begun, kept, run_directory
from mimachine.training.ensemble import Ensemble
from mimachine.training.fit import fit
from mimachine.training.run import Run

__all__ = ["Cell", "Measured", "carry_out", "open_member"]

# Importance samples: few for all test data, and for the first of them as many as it takes.
_NUM_SAMPLES, _MANY_SAMPLES, _FEW_DATA = 50, 4000, 500
# Where there are as many data as are asked for: those that bounds of the information average over,
# and those whose codes they look at.
_MANY_DATA, _FEW_CODES = 100_000, 2000
# Of the decoder for an integral. Those of MIM take 20,000, and there is none to find where the
# decoder of an auto-encoder is a point.
_MOST_EVALUATIONS = 60_000
# Hidden units of all models of an ensemble, above which a training is longer than the compiler.
_COMPILED_UNITS = 1000
# Files of a cell's run directory, beside those of every run.
_TRAINED, _RESULT = "training.json", "result.json"


@dataclass(frozen=True)
class Cell:
    """A point of a curve: models of one shape under one objective, one for each seed.

    Attributes:
        curve: Name of the curve.
        x: Where on it, such as the number of hidden units.
        settings: Settings of each model but for the seed.
        seeds: Seeds of weights and data.
    """

    curve: str
    x: float
    settings: Experiment
    seeds: tuple[int, ...]

    @property
    def record(self) -> dict[str, Any]:
        """All that its numbers depend on, as JSON values."""
        return {"settings": experiment.to_json(self.settings), "seeds": list(self.seeds)}

    def directory(self, request: Request) -> Path:
        """Its run directory, another one for other settings."""
        settings = self.settings
        hidden = "-".join(map(str, settings.model.hidden))
        shape = f"{hidden}x{settings.model.latent}"
        name = f"{settings.data.name}-{settings.objective}-{shape}"
        return run_directory(request, name, self.record)


@dataclass(frozen=True)
class Measured:
    """Numbers of a cell's models.

    Attributes:
        cell: The cell.
        metrics: Values by the name of a metric, in the order of the seeds, shape (M,); NaN where
            there is no finite one. None at all if all models diverged.
        epochs: Epochs that each model was trained for.
        best_epochs: Epochs whose weights each has; None for those that diverged before there were
            any.
        seconds: Time that training took, or its last part, and measuring.
    """

    cell: Cell
    metrics: dict[str, NDArray[np.float64]]
    epochs: list[int]
    best_epochs: list[int | None]
    seconds: tuple[float, float]

    def values(self, metric: str) -> NDArray[np.float64]:
        """Values of a metric, shape (M,), NaN where there is no finite one."""
        return self.metrics.get(metric, np.full(len(self.cell.seeds), math.nan))

    def mean(self, metric: str) -> float:
        """Mean of the finite values of a metric; NaN if there is none."""
        values = self.values(metric)
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if len(finite) else math.nan

    def to_json(self) -> dict[str, Any]:
        """As JSON values; what is not finite becomes null."""
        metrics = {
            name: [value if math.isfinite(value) else None for value in values.tolist()]
            for name, values in self.metrics.items()
        }
        numbers = {"metrics": metrics, "epochs": self.epochs, "best_epochs": self.best_epochs}
        where = {"curve": self.cell.curve, "x": self.cell.x, **self.cell.record}
        return {**where, **numbers, "seconds": [round(s, 1) for s in self.seconds]}

    @classmethod
    def from_json(cls, cell: Cell, value: dict[str, Any]) -> Measured:
        """Numbers read back; null becomes NaN."""
        metrics = {
            name: np.array([math.nan if v is None else v for v in values])
            for name, values in value["metrics"].items()
        }
        return cls(cell, metrics, value["epochs"], value["best_epochs"], tuple(value["seconds"]))


def carry_out(cells: Sequence[Cell], request: Request) -> list[Measured]:
    """Train and measure what is missing, in as many processes as are asked for.

    Every cell has a run directory of its own; one that was broken off is gone on
    with, and one that is finished is read back.

    Args:
        cells: What to do.
        request: Where, and in how many processes.

    Returns:
        The numbers, in the order of the cells.
    """
    places = {cell: cell.directory(request) for cell in cells}
    found = {
        cell: _read(cell, place) for cell, place in places.items() if (place / _RESULT).exists()
    }
    missing = [cell for cell in cells if cell not in found]
    # The longest first, so that no process ends long after the others.
    missing.sort(key=lambda cell: -math.prod(cell.settings.model.hidden) * len(cell.seeds))
    if missing:
        request.say(
            f"{len(missing)} of {len(cells)} trainings to do, of {len(missing[0].seeds)} models "
            f"each, in {min(request.jobs, len(missing))} processes"
        )
    tasks = [(cell, places[cell]) for cell in missing]
    for number, done in enumerate(as_they_come(_do, tasks, request.jobs), 1):
        training, measuring = done.seconds
        request.say(
            f"[{number}/{len(missing)}] {places[done.cell].name}: {min(done.epochs)} to "
            f"{max(done.epochs)} epochs, {training:.0f} s, and {measuring:.0f} s to measure"
        )
        found[done.cell] = _read(done.cell, places[done.cell])
    return [found[cell] for cell in cells]


def _read(cell: Cell, path: Path) -> Measured:
    """Numbers that a cell's run directory keeps."""
    entries = ("metrics", "epochs", "best_epochs", "seconds")
    return Measured.from_json(cell, kept(Run(path), _RESULT, *entries))


def _do(task: tuple[Cell, Path]) -> Measured:
    """Train and measure one cell in its run directory."""
    cell, path = task
    data, start = workflow.prepare(cell.settings), time.monotonic()
    run = begun(path, cell.record)
    # The best there is. Where it is a GPU, it also measures.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ensemble = _ensemble(cell, data).to(device)
    with run.locked():
        # What was trained needs no more than to be measured.
        if not (path / _TRAINED).exists():
            run.write_json(_TRAINED, _train(ensemble, cell, data, run))
            run.finish()
        trained = kept(run, _TRAINED, "epochs", "best_epochs")
        trained_at = time.monotonic()
        best = trained["best_epochs"]
        if any(best):
            run.load_weights(ensemble)
        values = [
            _measure(ensemble.member(index).model, data, seed) if best[index] else {}
            for index, seed in enumerate(cell.seeds)
        ]
        names = dict.fromkeys(name for value in values for name in value)
        metrics = {n: np.array([value.get(n, math.nan) for value in values]) for n in names}
        seconds = (trained_at - start, time.monotonic() - trained_at)
        measured = Measured(cell, metrics, trained["epochs"], best, seconds)
        run.write_json(_RESULT, measured.to_json())
    return measured


def _train(
    ensemble: Ensemble, cell: Cell, data: Dataset, run: Run
) -> dict[str, list[int] | list[int | None]]:
    """Train a cell's models as one; the epochs that each took, and those of the best weights."""
    members = _members(cell)
    if sum(cell.settings.model.hidden) * len(members) >= _COMPILED_UNITS:
        ensemble.compile()
    train, val = zip(*(workflow.sources(each, data) for each in members), strict=True)
    # That all models have diverged is a result too, of which the records tell.
    with suppress(FloatingPointError):
        fit(
            ensemble,
            Stacked(train),
            Stacked(val),
            members[0].training,
            run=run,
            progress=False,
        )
    records = run.metrics()
    places = range(len(members))
    return {
        "epochs": [sum(r["train_loss"][i] is not None for r in records) for i in places],
        "best_epochs": [_best_epoch(records, i) for i in places],
    }


def _best_epoch(records: Sequence[dict[str, Any]], index: int) -> int | None:
    """Epoch after the warm-up with a model's lowest held-out loss; None if it had none."""
    losses = {
        each["epoch"]: each["val_loss"][index]
        for each in records
        if each["beta"] >= 1 and each["val_loss"][index] is not None
    }
    return min(losses, key=losses.__getitem__, default=None)


def open_member(cell: Cell, request: Request, index: int = 0) -> tuple[Joint, Dataset]:
    """A trained model of a cell that was carried out, and its data."""
    data = workflow.prepare(cell.settings)
    ensemble = _ensemble(cell, data)
    Run(cell.directory(request)).load_weights(ensemble)
    return ensemble.member(index).model.eval(), data


def _members(cell: Cell) -> list[Experiment]:
    """Settings of each model."""
    settings = cell.settings
    recipes = [replace(settings.training, seed=seed) for seed in cell.seeds]
    return [replace(settings, training=recipe) for recipe in recipes]


def _ensemble(cell: Cell, data: Dataset) -> Ensemble:
    known = None if data.distribution is None else priors.Fixed(data.distribution)
    objective = workflow.objective(cell.settings.objective)
    return Ensemble([Loss(build(m, data), objective, data_anchor=known) for m in _members(cell)])


def _measure(model: Joint, data: Dataset, seed: int) -> dict[str, float]:
    """Numbers of one model on the test data, by name."""
    report = evaluate(model, data, num_samples=_NUM_SAMPLES, seed=seed)
    values = report.values
    rows = data.test[:_FEW_DATA].to(next(model.parameters()).device)
    result = _converged(model, rows, seed)
    values["converged_negative_log_likelihood"] = data.log_volume - float(result.values.mean())
    values["converged_share_flagged"] = float(result.flagged.double().mean())
    if data.distribution is not None:
        values |= _information(model, data.distribution, seed, rows.device)
    return values


def _information(
    model: Joint, distribution: Distribution, seed: int, device: torch.device
) -> dict[str, float]:
    """Bounds of the mutual information with as high a ceiling as fresh data can give."""
    with forked(derived_seed(seed, "information"), device):
        x = distribution.sample(torch.Size((_MANY_DATA,))).to(device)
        bounds = information_bounds(model, x, num_queries=_FEW_CODES)
    return {
        "mutual_information_lower": bounds.lower.value,
        "mutual_information_upper": bounds.least_upper.value,
    }


def _converged(model: Joint, x: Tensor, seed: int) -> LogLikelihood | QuadratureLogLikelihood:
    """Likelihoods that do not depend on how narrow the encoder is, which that of MIM is."""
    if model.prior().event_shape.numel() <= 2:
        return quadrature_log_likelihood(model, x, most_evaluations=_MOST_EVALUATIONS)
    with forked(derived_seed(seed, "converged"), x.device):
        return log_likelihood(model, x, _MANY_SAMPLES, proposal=DefensiveProposal(model))
