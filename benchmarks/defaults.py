"""Which recipe ends converged? Defaults chosen by measurement over the data sets of `sceptic.py`.

Recipes have a cosine schedule, a peak rate of 0.003, batches of 128 rows, and encoders whose
standard deviation is 0.1 or more, unless they say otherwise. Each trains five models at once, an
`Ensemble`, each with its own weights and, for data sets of few rows, its own split of the rows. A
mixture of normals is fitted to their codes (`refit_prior`, "gmm"). Measured on the test data: 5-NN
accuracy by means and by samples of the codes, reconstruction error, negative log-likelihood with
the prior of training and with the fitted one (importance samples from the encoder, so an upper
bound), and how well a classifier tells rows that are generated from test rows.

    python benchmarks/defaults.py --out results/defaults.jsonl
    python benchmarks/defaults.py --data wine --recipes '2,000 steps' --out results/defaults.jsonl
    python benchmarks/defaults.py --out results/defaults.jsonl --table

Finished rows are kept: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from machine import processor
from sceptic import DATA, cell, rows_of, settings_of, split_again
from torch import Tensor

import mimachine as mm
from mimachine import workflow
from mimachine.data.sources import Stacked
from mimachine.experiment.build import build

_SEEDS = range(5)
COSINE = mm.Cosine()
_GENERATED, _SCORED, _SAMPLES = 2000, 500, 200


@dataclass(frozen=True)
class Recipe:
    """What is varied.

    Attributes:
        steps: Number of steps; None for another rule.
        schedule: Learning-rate schedule.
        rate: Learning rate at its peak.
        batch: Rows per step, at most a tenth of them.
        floor: Smallest standard deviation of the encoder; None for the library's default.
    """

    steps: int | None
    schedule: Any = COSINE
    rate: float = 3e-3
    batch: int = 128
    floor: float | None = 0.1


RECIPES = {
    "version 0.1": Recipe(None, None, rate=1e-3, floor=1e-3),
    "default": Recipe(None, floor=None),
    "500 steps": Recipe(500),
    "1,000 steps": Recipe(1000),
    "2,000 steps": Recipe(2000),
    "4,000 steps": Recipe(4000),
    "8,000 steps": Recipe(8000),
    "2,000 steps, rate 0.001": Recipe(2000, rate=1e-3),
    "2,000 steps, floor 0.001": Recipe(2000, floor=1e-3),
    "2,000 steps, floor 0.05": Recipe(2000, floor=0.05),
    "2,000 steps, floor 0.2": Recipe(2000, floor=0.2),
    "8,000 steps, floor 0.05": Recipe(8000, floor=0.05),
    "8,000 steps, floor 0.2": Recipe(8000, floor=0.2),
    "16,000 steps": Recipe(16_000),
    "32,000 steps": Recipe(32_000),
    "16,000 steps, floor 0.05": Recipe(16_000, floor=0.05),
    "16,000 steps, floor 0.2": Recipe(16_000, floor=0.2),
}
LARGE = [
    "default",
    "4,000 steps",
    *(name for name in RECIPES if name.startswith(("8", "16", "32"))),
]
SMALL = [name for name in RECIPES if name not in LARGE[2:]]


def training_of(name: str, recipe: Recipe, settings: mm.Experiment, count: int) -> mm.Training:
    """The recipe for this number of training rows."""
    if name == "version 0.1":
        return version_0_1(settings.data.name, count)
    if recipe.steps is None:
        # The default rate depends on the data and the objective, too.
        rate = settings.training.learning_rate
        return replace(mm.Training.for_rows(count), learning_rate=rate)
    batch = min(recipe.batch, max(16, count // 8))
    epochs = max(4, round(recipe.steps / math.ceil(count / batch)))
    return mm.Training(
        epochs,
        batch,
        recipe.rate,
        schedule=recipe.schedule,
        warmup=mm.Warmup(min(10, epochs // 4)),
        patience=epochs,
    )


def version_0_1(data: str, count: int) -> mm.Training:
    """Defaults of version 0.1: a constant rate, many epochs, and early stopping."""
    if data == "mixture-2d" or data.startswith("pca"):
        return mm.Training(200, warmup=mm.Warmup(3))
    if data == "digits":
        return mm.Training(300, 64, patience=50)
    if data == "mnist":
        return mm.Training(100, patience=20)
    batch = 64 if count < 2000 * 0.7 else 128
    epochs = min(1000, max(10, 20_000 // math.ceil(max(1, count / batch))))
    warmup = mm.Warmup(min(10, epochs // 2))
    return mm.Training(epochs, batch, warmup=warmup, patience=max(10, epochs // 10))


def measured(data_name: str, objective: str, name: str, recipe: Recipe) -> dict[str, Any]:
    settings = [settings_of(data_name, objective, seed) for seed in _SEEDS]
    floored = settings
    if recipe.floor is not None:
        floored = [replace(s, model=replace(s.model, encoder_floor=recipe.floor)) for s in settings]
    loaded = workflow.prepare(settings[0])
    data = [split_again(loaded, seed) for seed in _SEEDS]
    losses = []
    for s, d in zip(floored, data, strict=True):
        torch.manual_seed(s.training.seed)
        losses.append(mm.Loss(build(s, d), workflow.objective(objective)))
    pairs = [workflow.sources(s, d) for s, d in zip(settings, data, strict=True)]
    train, val = (Stacked(sources) for sources in zip(*pairs, strict=True))
    training = training_of(name, recipe, settings[0], len(data[0].train))
    ensemble = mm.Ensemble(losses)
    start = time.process_time()
    history = mm.fit(ensemble, train, val, training, progress=False)
    seconds = (time.process_time() - start) / len(_SEEDS)
    rows = [of_model(ensemble.member(i).model.eval(), d, *pairs[i], i) for i, d in enumerate(data)]
    best = history.best_epoch
    return {
        "data": data_name,
        "objective": objective,
        "recipe": name,
        "settings": repr(recipe),
        "epochs": len(history.epochs),
        "best_epochs": best,
        "held_out": [min_of(history, i) for i in range(len(_SEEDS))],
        "seconds": round(seconds, 2),
        "processor": processor(),
        **{key: [row[key] for row in rows] for key in rows[0]},
    }


def min_of(history: mm.History, index: int) -> float:
    values = [epoch.val_loss[index] for epoch in history.epochs]
    return min(value for value in values if value is not None)


@torch.no_grad()
def of_model(model: mm.Joint, data: mm.Dataset, train: Any, val: Any, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    test = data.test[:10_000]
    near, far = mm.codes(model, data.train[:10_000]), mm.codes(model, test)
    if data.test_labels is not None:
        labels = data.train_labels[:10_000], data.test_labels[:10_000]
        for key in ("mean", "sample"):
            found[f"knn_5_{key}"] = mm.knn_accuracy(
                getattr(near, key), labels[0], getattr(far, key), labels[1], 5
            )
    restored = model.decoder(far.mean).mean
    found["rmse"] = math.sqrt(float((restored - test).square().mean()))
    found["width"] = float(far.std.log().mean().exp()) if far.std is not None else None
    scored = test[torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))]
    scored = scored[:_SCORED]

    def nll(model: mm.Joint) -> float:
        return data.log_volume - mm.log_likelihood(model, scored, _SAMPLES, seed=seed).mean().value

    found["nll"] = nll(model)
    found["auc"] = auc(model, test, seed)
    with torch.enable_grad():
        fitted = mm.refit_prior(model, train, val, progress=False)
    return {**found, "fitted_nll": nll(fitted), "fitted_auc": auc(fitted, test, seed)}


def auc(model: mm.Joint, test: Tensor, seed: int) -> float:
    rows = workflow.sample(model, min(_GENERATED, len(test)), seed=seed).x
    return mm.two_sample_auc(rows, test[:_GENERATED], seed=seed).value


COLUMNS = {
    "knn_5_mean": "5-NN, means",
    "knn_5_sample": "5-NN, samples",
    "rmse": "RMSE",
    "nll": "NLL",
    "fitted_nll": "NLL, fitted prior",
    "auc": "AUC",
    "fitted_auc": "AUC, fitted prior",
}


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table for each data set and objective: mean over the seeds and its standard error."""
    parts = []
    for data, objective in dict.fromkeys((row["data"], row["objective"]) for row in rows):
        lines = [["recipe", *COLUMNS.values(), "epochs", "s"], ["---", *["---:"] * 9]]
        for row in rows:
            if (row["data"], row["objective"]) == (data, objective):
                cells = [cell(row.get(key, [])) for key in COLUMNS]
                lines.append([row["recipe"], *cells, str(row["epochs"]), f"{row['seconds']:.1f}"])
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"**{data}, {objective}**\n\n{body}")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--objectives", nargs="+", default=["a-mim", "mim", "vae"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, help="by default by the data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of finished rows")
    arguments = parser.parse_args()
    if arguments.table:
        print(markdown(rows_of(arguments.out)))
        return
    torch.set_num_threads(1)
    done = {(row["data"], row["objective"], row["recipe"]) for row in rows_of(arguments.out)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for data in arguments.data:
        for name in arguments.recipes or (
            LARGE if data in ("pca-fashion-mnist", "mnist") else SMALL
        ):
            for objective in arguments.objectives:
                if (data, objective, name) in done:
                    continue
                row = measured(data, objective, name, RECIPES[name])
                with arguments.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(markdown([row]), flush=True)


if __name__ == "__main__":
    main()
