"""Reproduce table 1 and figures 4, 5 and 12 to 21 of the paper: models of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from mimachine import experiment, workflow
from mimachine.estimation.codes.moments import codes
from mimachine.evaluation.metric import Metric, Report
from mimachine.experiment.presets import default, fast, published
from mimachine.experiment.settings import Architecture, Experiment
from mimachine.paper.effects import EXPLANATION, Pair, effects
from mimachine.paper.processes import as_they_come
from mimachine.paper.reference import Entry, table_1
from mimachine.paper.reproduction import Reproduction, Request, await_free, run_directory
from mimachine.paper.tables import markdown
from mimachine.reporting import figures
from mimachine.reporting.projections import project
from mimachine.training import claims
from mimachine.training.recipe import Warmup
from mimachine.training.run import Run
from mimachine.training.schedules import Cosine
from mimachine.workflow.load_run import Trained
from mimachine.workflow.reports import read_record, read_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DATA", "table1_of"]

DATA = {"fashion-mnist": "Fashion-MNIST", "mnist": "MNIST", "omniglot": "Omniglot"}
# Data set of quick runs, images of 8 x 8 pixels.
QUICK = "digits"
# Latents of each level, hidden units and pseudo-inputs of quick runs; epochs, of which
# pseudo-inputs need more; importance samples per test image.
_QUICK_MODEL: dict[str, Any] = {"latent": 16, "hidden": (100,), "components": 500}
_QUICK_EPOCHS = {"standard-normal": 50, "vampprior": 100}
_QUICK_SAMPLES = 200
_LIKELIHOOD, _NEIGHBOURS = "negative_log_likelihood", "knn_5_accuracy_sampled"
_SHOWN, _SAMPLES, _EMBEDDED = 10, 64, 2000


@dataclass(frozen=True)
class Column:
    """A column of the table: a model, its prior and its objective.

    Attributes:
        title: Its heading.
        architecture: Architecture of the model.
        prior: Prior of the model.
        learning: MIM or VAE.
    """

    title: str
    architecture: Architecture
    prior: Literal["standard-normal", "vampprior"]
    learning: Literal["MIM", "VAE"]

    @property
    def pair(self) -> Pair:
        """Its place among the four models of its architecture."""
        return ("S" if self.prior == "standard-normal" else "VP", self.learning)


COLUMNS: tuple[Column, ...] = (
    Column("convHVAE (S) MIM", "conv-hvae", "standard-normal", "MIM"),
    Column("convHVAE (S) VAE", "conv-hvae", "standard-normal", "VAE"),
    Column("convHVAE (VP) MIM", "conv-hvae", "vampprior", "MIM"),
    Column("convHVAE (VP) VAE", "conv-hvae", "vampprior", "VAE"),
    Column("PixelHVAE (S) A-MIM", "pixel-hvae", "standard-normal", "MIM"),
    Column("PixelHVAE (S) VAE", "pixel-hvae", "standard-normal", "VAE"),
    Column("PixelHVAE (VP) A-MIM", "pixel-hvae", "vampprior", "MIM"),
    Column("PixelHVAE (VP) VAE", "pixel-hvae", "vampprior", "VAE"),
)
# Of quick runs: dense models, which train in a minute. They are not in the paper.
QUICK_COLUMNS: tuple[Column, ...] = (
    Column("dense HVAE (S) A-MIM", "hvae", "standard-normal", "MIM"),
    Column("dense HVAE (S) VAE", "hvae", "standard-normal", "VAE"),
    Column("dense HVAE (VP) A-MIM", "hvae", "vampprior", "MIM"),
    Column("dense HVAE (VP) VAE", "hvae", "vampprior", "VAE"),
)


@dataclass(frozen=True)
class Cell:
    """A model of one column, data set and seed."""

    data: str
    column: Column
    settings: Experiment

    def directory(self, request: Request) -> Path:
        """Its run directory, which depends on its settings."""
        model = self.settings.model
        name = f"{self.data}-{model.architecture}-{model.prior}-{self.settings.objective}"
        return run_directory(request, name, experiment.to_json(self.settings))


def table1_of(*names: str) -> Callable[[Request], Reproduction]:
    """Function that reproduces table 1 for those of the data sets that are available."""

    def run(request: Request) -> Reproduction:
        if request.quick:
            return _run([QUICK], request)
        if not torch.cuda.is_available():
            request.say(
                "no GPU found: each training takes days on a CPU, but can be interrupted and "
                "resumed; --quick runs everything with small models"
            )
        return _run(_available(names, request), request)

    return run


def _available(names: Sequence[str], request: Request) -> list[str]:
    """Data sets whose files exist or can be downloaded.

    Raises:
        FileNotFoundError: If there are none.
    """
    available, missing = [], []
    for data in names:
        try:
            workflow.prepare(_settings(data, COLUMNS[0], 1, request))
            available.append(data)
        except FileNotFoundError as error:
            missing.append(error)
    if not available:
        raise missing[0]
    for each in missing:
        request.say(f"skipped: {each}")
    return available


def _settings(data: str, column: Column, seed: int, request: Request) -> Experiment:
    """Settings of a cell."""
    if request.quick:
        return _quick_settings(data, column, seed)
    objective = _objective(column, request)
    start = published(data, objective, column.architecture)
    if request.preset == "default":
        own = default(data, objective, architecture=column.architecture)
        # The same pixels and number of samples, so that metrics are comparable.
        model = replace(own.model, likelihood="bernoulli")
        start = replace(own, data=start.data, model=model, num_samples=start.num_samples)
    model, training = replace(start.model, prior=column.prior), replace(start.training, seed=seed)
    return replace(start, model=model, training=training)


def _quick_settings(data: str, column: Column, seed: int) -> Experiment:
    """A small dense model of grey values by the fast recipe."""
    objective = "vae" if column.learning == "VAE" else "a-mim"
    start = fast(data, objective, architecture=column.architecture, prior=column.prior)
    epochs = _QUICK_EPOCHS[column.prior]
    schedule = Cosine(warmup=max(1, epochs // 20))
    warmup = Warmup(epochs // 10)
    training = replace(start.training, epochs=epochs, schedule=schedule, warmup=warmup, seed=seed)
    model = replace(start.model, **_QUICK_MODEL)
    return replace(start, model=model, training=training, num_samples=_QUICK_SAMPLES)


def _objective(column: Column, request: Request) -> str:
    if column.learning == "VAE":
        return "vae"
    if column.architecture == "pixel-hvae":
        return "a-mim"
    # The released code of the table decodes to means.
    return "mim-of-means" if request.preset == "published" else "mim"


def _run(names: Sequence[str], request: Request) -> Reproduction:
    seeds = range(1, (request.seeds or 1) + 1)
    columns = QUICK_COLUMNS if request.quick else COLUMNS
    cells = [
        Cell(data, column, _settings(data, column, seed, request))
        for data in names
        for column in columns
        for seed in seeds
    ]
    places = _trained(cells, request)
    reports = {cell: _report(path) for cell, path in places.items()}
    paper = table_1()
    notes = []
    if request.quick:
        notes.append(
            f"Quick run: small dense models of the grey values of {QUICK}, by the preset fast. The "
            "paper's models and data are others, so the effects can be compared, not the values."
        )
    if any(report[_LIKELIHOOD].flagged for report in reports.values()):
        notes.append("† Flagged: an upper bound that may be loose.")
    tables = [
        _table(title, metric, digits, columns, reports, paper)
        for title, metric, digits in (
            ("NLL, nats", _LIKELIHOOD, 2),
            ("5-NN accuracy", _NEIGHBOURS, 3),
        )
    ]
    first = [cell for cell in cells if cell.settings.training.seed == seeds[0]]
    pictures = _figures(first, places)
    results = [
        {
            "data": cell.data,
            "column": cell.column.title,
            "settings": experiment.to_json(cell.settings),
            "epochs": len(Run(places[cell]).metrics()),
            "report": reports[cell].to_json(),
        }
        for cell in cells
    ]
    tables.append(_effects(reports, paper))
    return Reproduction(pictures, {"cells": results}, "\n\n".join([*tables, *notes]))


def _trained(cells: Sequence[Cell], request: Request) -> dict[Cell, Path]:
    """Run directories of all cells, after those that are missing were trained."""
    places = {cell: cell.directory(request) for cell in cells}
    missing = [cell for cell in cells if not _is_done(places[cell])]
    if missing:
        request.say(
            f"training {len(missing)} of {len(cells)} models in "
            f"{min(request.jobs, len(missing))} processes"
        )
    tasks = [(places[cell], cell.settings) for cell in missing]
    for number, (path, seconds) in enumerate(as_they_come(_train_cell, tasks, request.jobs), 1):
        request.say(f"[{number}/{len(missing)}] {path.name}: {seconds:.0f} s")
    return places


def _effects(
    reports: Mapping[Cell, Report], paper: Mapping[str, Mapping[tuple[str, str], Entry]]
) -> str:
    """Which of the paper's effects the models of each data set and architecture show."""
    groups: dict[str, dict[Pair, list[Report]]] = {}
    for cell, report in reports.items():
        name = f"{DATA.get(cell.data, cell.data)}, {cell.column.title.split(' (')[0]}"
        groups.setdefault(name, {}).setdefault(cell.column.pair, []).append(report)
    return f"**Effects**\n\n{effects(groups, paper)}\n\n{EXPLANATION}"


def _report(path: Path) -> Report:
    return read_report(read_record(Run(path)), path / "report.json")


def _is_done(path: Path) -> bool:
    return path.is_dir() and Run(path).finished and claims.request_in(path) is None


def _train_cell(task: tuple[Path, Experiment]) -> tuple[Path, float]:
    """Train and evaluate one cell in its run directory, or resume it; path and seconds."""
    path, settings = task
    start = time.monotonic()
    await_free(path)
    # Another command may have finished it in the meantime.
    if not _is_done(path):
        if (path / "experiment.json").exists():
            workflow.resume(path, progress=False)
        else:
            workflow.train(settings, path, progress=False)
    return path, time.monotonic() - start


def _table(
    title: str,
    metric: str,
    digits: int,
    columns: Sequence[Column],
    reports: Mapping[Cell, Report],
    paper: Mapping[str, Mapping[tuple[str, str], Entry]],
) -> str:
    """Table with one row per column of the paper's table: our and the paper's value by data set."""
    names = list(dict.fromkeys(cell.data for cell in reports))
    header = [""]
    for name in names:
        header += [DATA[name], "paper"] if name in DATA else [name]
    rows = []
    for column in columns:
        row = [column.title]
        for name in names:
            found = [
                report[metric]
                for cell, report in reports.items()
                if (cell.data, cell.column) == (name, column) and metric in report.values
            ]
            row.append(_mean(found, digits))
            if name in DATA:
                entry = paper.get(metric, {}).get((name, column.title))
                row.append("" if entry is None else entry.text(digits))
        rows.append(row)
    return f"**{title}**\n\n{markdown(header, rows)}"


def _mean(found: Sequence[Metric], digits: int) -> str:
    """Mean ± standard deviation over seeds, marked if one of them is flagged."""
    if not found:
        return "-"
    values = np.array([metric.value for metric in found])
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    mark = " †" if any(metric.flagged for metric in found) else ""
    return f"{values.mean():.{digits}f}{spread}{mark}"


def _figures(cells: Sequence[Cell], places: Mapping[Cell, Path]) -> dict[str, Figure]:
    """Figures of reconstructions and samples (4, 12 to 17) and of codes (5, 18 to 21)."""
    drawn: dict[str, Figure] = {}
    groups = dict.fromkeys((c.data, c.column.architecture, c.column.prior) for c in cells)
    for data, architecture, prior in groups:
        group = [
            cell
            for cell in cells
            if (cell.data, cell.column.architecture, cell.column.prior)
            == (data, architecture, prior)
        ]
        # VAE first, as in the paper.
        opened = {cell.column.title: workflow.open_run(places[cell]) for cell in reversed(group)}
        stem = f"{data}-{architecture}-{'s' if prior == 'standard-normal' else 'vp'}"
        drawn |= _pictures(stem, opened)
    return drawn


def _pictures(stem: str, opened: Mapping[str, Trained]) -> dict[str, Figure]:
    data = next(iter(opened.values())).data
    models = {title: trained.model for title, trained in opened.items()}
    samples = {title: workflow.sample(model, _SAMPLES).shown for title, model in models.items()}
    drawn = {
        f"reconstructions-{stem}": figures.image_reconstructions(models, data, _SHOWN),
        f"samples-{stem}": figures.image_samples(samples, data),
    }
    for title, model in models.items():
        encoded = codes(model, data.test[:_EMBEDDED]).sample.flatten(1).numpy()
        placed = project(encoded, "tsne")
        labels = None if data.test_labels is None else data.test_labels[:_EMBEDDED].numpy()
        learning = "vae" if title.endswith("VAE") else "mim"
        drawn[f"codes-{stem}-{learning}"] = figures.code_scatter(
            placed.points, labels, placed.axes, title
        )
    return drawn
