"""Sweep over model sizes and objectives; models that differ by seed train as an ensemble."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution

from mimachine import experiment, workflow
from mimachine._support.schema import Count, Finite, Index, NotNegative, Number, validated
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

# Importance samples: few for all test rows, many for the first rows.
_NUM_SAMPLES, _MANY_SAMPLES, _FEW_DATA = 50, 4000, 500
# If the data distribution can be sampled: rows that the information bounds average over, and codes
# that they evaluate.
_MANY_DATA, _FEW_CODES = 100_000, 2000
# Most decoder evaluations per integral. MIM needs 20,000; the integral of an auto-encoder whose
# decoder is almost a point never converges.
_MOST_EVALUATIONS = 60_000
# Total hidden units of an ensemble from which training takes longer than compilation.
_COMPILED_UNITS = 1000
# Additional files of a cell's run directory.
_TRAINED, _RESULT = "training.json", "result.json"


@dataclass(frozen=True)
class Cell:
    """A point of a curve: models of one size and objective, one per seed.

    Attributes:
        curve: Name of the curve.
        x: Position on the x axis, such as the number of hidden units.
        settings: Settings of each model except the seed.
        seeds: Seeds of weights and data.
    """

    curve: str
    x: float
    settings: Experiment
    seeds: tuple[int, ...]

    @property
    def record(self) -> dict[str, Any]:
        """Everything its metrics depend on, as JSON values."""
        return {"settings": experiment.to_json(self.settings), "seeds": list(self.seeds)}

    def directory(self, request: Request) -> Path:
        """Its run directory, which depends on its settings."""
        settings = self.settings
        hidden = "-".join(map(str, settings.model.hidden))
        shape = f"{hidden}x{settings.model.latent}"
        name = f"{settings.data.name}-{settings.objective}-{shape}"
        return run_directory(request, name, self.record)


@dataclass(frozen=True)
class Measured:
    """Metrics of a cell's models.

    Attributes:
        cell: The cell.
        metrics: Values by metric name, in the order of the seeds, shape (M,); NaN if a value is not
            finite. Empty if all models diverged.
        epochs: Number of epochs that each model was trained for.
        best_epochs: Epoch of each model's weights; None for models that diverged before.
        seconds: Time of training, since the last resumption, and of evaluation.
    """

    cell: Cell
    metrics: dict[str, NDArray[np.float64]]
    epochs: list[int]
    best_epochs: list[int | None]
    seconds: tuple[float, float]

    def values(self, metric: str) -> NDArray[np.float64]:
        """Values of a metric, shape (M,), NaN where not finite."""
        return self.metrics.get(metric, np.full(len(self.cell.seeds), math.nan))

    def mean(self, metric: str) -> float:
        """Mean of the finite values of a metric; NaN if there is none."""
        values = self.values(metric)
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if len(finite) else math.nan

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON values; values that are not finite become null."""
        metrics = {
            name: [value if math.isfinite(value) else None for value in values.tolist()]
            for name, values in self.metrics.items()
        }
        numbers = {"metrics": metrics, "epochs": self.epochs, "best_epochs": self.best_epochs}
        where = {"curve": self.cell.curve, "x": self.cell.x, **self.cell.record}
        return {**where, **numbers, "seconds": [round(s, 1) for s in self.seconds]}

    @classmethod
    def from_json(cls, cell: Cell, value: dict[str, Any]) -> Measured:
        """Convert from JSON values; null becomes NaN."""
        metrics = {
            name: np.array([math.nan if v is None else v for v in values])
            for name, values in value["metrics"].items()
        }
        return cls(cell, metrics, value["epochs"], value["best_epochs"], tuple(value["seconds"]))


def carry_out(cells: Sequence[Cell], request: Request) -> list[Measured]:
    """Train and evaluate cells in parallel; resume interrupted cells and read finished ones.

    Every cell has a separate run directory.

    Args:
        cells: The cells.
        request: Output directory and number of processes.

    Returns:
        The metrics, in the order of the cells.
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
            f"training {len(missing)} of {len(cells)} ensembles of {len(missing[0].seeds)} models "
            f"in {min(request.jobs, len(missing))} processes"
        )
    tasks = [(cell, places[cell]) for cell in missing]
    for number, done in enumerate(as_they_come(_train_and_measure, tasks, request.jobs), 1):
        training, measuring = done.seconds
        request.say(
            f"[{number}/{len(missing)}] {places[done.cell].name}: {min(done.epochs)} to "
            f"{max(done.epochs)} epochs in {training:.0f} s, evaluation in {measuring:.0f} s"
        )
        found[done.cell] = _read(done.cell, places[done.cell])
    return [found[cell] for cell in cells]


def _read(cell: Cell, path: Path) -> Measured:
    """Read the metrics of a cell from its run directory."""
    entries = ("metrics", "epochs", "best_epochs", "seconds")
    value = kept(Run(path), _RESULT, *entries)
    read = validated(_Result, value, f"{path / _RESULT} is damaged")
    _check_lengths(path / _RESULT, cell, [read.epochs, read.best_epochs, *read.metrics.values()])
    return Measured.from_json(cell, value)


@dataclass(frozen=True)
class _Trained:
    """Schema of training.json."""

    epochs: list[Index]
    best_epochs: list[Count | None]


@dataclass(frozen=True)
class _Result(_Trained):
    """Schema of result.json."""

    metrics: dict[str, list[Number]]
    seconds: tuple[NotNegative, NotNegative]
    curve: str = ""
    x: Finite = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: list[Index] = field(default_factory=list)


def _check_lengths(file: Path, cell: Cell, values: Sequence[Sequence[Any]]) -> None:
    if any(len(each) != len(cell.seeds) for each in values):
        raise ValueError(
            f"{file} is damaged: it must be of {len(cell.seeds)} models; remove it, and it is "
            "computed again"
        )


def _train_and_measure(task: tuple[Cell, Path]) -> Measured:
    """Train and evaluate one cell in its run directory."""
    cell, path = task
    data, start = workflow.prepare(cell.settings), time.monotonic()
    run = begun(path, cell.record)
    # A GPU, if any, both trains and evaluates.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ensemble = _ensemble(cell, data).to(device)
    with run.locked():
        # Another command may have finished it before the lock.
        if (path / _RESULT).exists():
            return _read(cell, path)
        # A trained ensemble only needs evaluation.
        if not (path / _TRAINED).exists():
            run.write_json(_TRAINED, _train(ensemble, cell, data, run))
        run.finish()
        trained = kept(run, _TRAINED, "epochs", "best_epochs")
        validated(_Trained, trained, f"{path / _TRAINED} is damaged")
        _check_lengths(path / _TRAINED, cell, [trained["epochs"], trained["best_epochs"]])
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
    """Train a cell's models as an ensemble; number of epochs and best epoch of each."""
    members = _members(cell)
    if sum(cell.settings.model.hidden) * len(members) >= _COMPILED_UNITS:
        ensemble.compile()
    train, val = zip(*(workflow.sources(each, data) for each in members), strict=True)
    # If all models diverge, the records show it: a result, not an error.
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
    """Epoch after warm-up with a model's lowest validation loss; None if there is none."""
    losses = {
        each["epoch"]: each["val_loss"][index]
        for each in records
        if each["beta"] >= 1 and each["val_loss"][index] is not None
    }
    return min(losses, key=losses.__getitem__, default=None)


def open_member(cell: Cell, request: Request, index: int = 0) -> tuple[Joint, Dataset]:
    """Load a trained model of a finished cell, and its data."""
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
    """Metrics of one model on the test data, by name."""
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
    """Bounds on mutual information from many fresh samples, for a high ceiling."""
    with forked(derived_seed(seed, "information"), device):
        x = distribution.sample(torch.Size((_MANY_DATA,))).to(device)
        bounds = information_bounds(model, x, num_queries=_FEW_CODES)
    return {
        "mutual_information_lower": bounds.lower.value,
        "mutual_information_upper": bounds.least_upper.value,
    }


def _converged(model: Joint, x: Tensor, seed: int) -> LogLikelihood | QuadratureLogLikelihood:
    """Log-likelihoods that stay accurate if the encoder is narrow, as that of MIM."""
    if model.prior().event_shape.numel() <= 2:
        return quadrature_log_likelihood(model, x, most_evaluations=_MOST_EVALUATIONS)
    with forked(derived_seed(seed, "converged"), x.device):
        return log_likelihood(model, x, _MANY_SAMPLES, proposal=DefensiveProposal(model))
