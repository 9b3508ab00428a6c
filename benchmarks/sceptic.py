"""Is MIM more than a noisy auto-encoder? MIM beside its baselines, with the same fitted prior.

For each data set, model and seed the benchmark trains with the library's defaults and measures the
test data: 5-NN and linear-probe accuracy by means and by samples of the codes, reconstruction
error, bounds of the information, and the rate. A mixture of normals is fitted to the codes of every
model (`refit_prior`, "gmm"), and rows are drawn from it: how well can a classifier tell them from
test rows (`two_sample_auc`, 0.5: not at all), their energy distance, and the negative
log-likelihood of 100 test rows by importance sampling with a refitted proposal (by quadrature for
up to two latents) with the share of flagged estimates.

    python benchmarks/sceptic.py --out results/sceptic.jsonl
    python benchmarks/sceptic.py --data wine digits --seeds 0 1 --out results/sceptic.jsonl
    python benchmarks/sceptic.py --out results/sceptic.jsonl --table

Finished rows are kept: the same command goes on. Models are those of `mimachine compare`: the
objectives, a regularised auto-encoder (`rae`), an auto-encoder, β-VAEs with three β, of which the
one whose rate is nearest to A-MIM's counts, a VAE with a VampPrior, and PCA. The data sets of
scikit-learn are read from files, as a user's would be.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import sklearn.datasets
import torch
from machine import processor

import mimachine as mm
from mimachine import experiment, workflow
from mimachine.data.files.options import File
from mimachine.experiment.build import build
from mimachine.experiment.presets import named, objective_of
from mimachine.training.principal_components import fit_principal_components

# Latents of the tables: about a third of the columns.
TABLES = {"iris": 2, "wine": 4, "diabetes": 3, "breast_cancer": 10}
DATA = (*TABLES, "digits", "mixture-2d", "pca-fashion-mnist", "mnist")
MODELS = (
    *("mim", "a-mim", "a-mim-one-sample", "rae", "auto-encoder", "vae"),
    *("beta-vae-0.1", "beta-vae-0.01", "beta-vae-0.001", "vae-vampprior", "pca"),
)
METRICS = {
    "knn_5_accuracy": "5-NN, means",
    "knn_5_accuracy_sampled": "5-NN, samples",
    "linear_probe_accuracy": "linear, means",
    "linear_probe_accuracy_sampled": "linear, samples",
    "reconstruction_rmse": "RMSE",
    "fitted_negative_log_likelihood": "NLL",
    "fitted_auc": "AUC of generated rows",
    "fitted_energy_distance": "energy distance of generated rows",
    "mutual_information_lower": "information, at least",
    "mutual_information_upper": "information, at most",
    "seconds": "seconds",
}
_GENERATED, _SCORED = 2000, 100
# Data sets of at most this number of rows are split anew for each seed.
_FEW = 5000


@cache
def folder() -> Path:
    return Path(tempfile.mkdtemp())


def table(name: str) -> Path:
    """A data set of scikit-learn as a CSV file, with the classes as a column."""
    path = folder() / f"{name}.csv"
    if not path.exists():
        frame = getattr(sklearn.datasets, f"load_{name}")(as_frame=True).frame
        if name == "diabetes":
            frame = frame.drop(columns="target")
        frame.rename(columns={"target": "kind"}).to_csv(path, index=False)
    return path


def settings_of(data: str, model: str, seed: int) -> mm.Experiment:
    name = "beta-vae" if model.startswith("beta-vae") else model
    objective = objective_of(name)
    if data in TABLES:
        labels = None if data == "diabetes" else "kind"
        start = experiment.default(str(table(data)), objective, File(labels=labels))
        # Numbers as an array, not by the kinds of their columns.
        array = {"likelihood": "gaussian", "encoder_floor": 0.1}
        start = replace(start, model=replace(start.model, latent=TABLES[data], **array))
    else:
        start = experiment.default(data, objective)
    start = replace(start, training=replace(start.training, seed=seed), num_samples=2)
    return named(start, name)


def split_again(data: mm.Dataset, seed: int) -> mm.Dataset:
    """Another split of the rows, if they are few: then the choice of test rows matters most."""
    parts = data.train, data.val, data.test
    if sum(map(len, parts)) > _FEW or data.distribution is not None:
        return data
    order = torch.randperm(
        sum(map(len, parts)), generator=torch.Generator().manual_seed(seed)
    ).split([len(part) for part in parts])
    rows = torch.cat(parts)
    train, val, test = (rows[chosen] for chosen in order)
    again = replace(data, train=train, val=val, test=test)
    if data.train_labels is None:
        return again
    labels = torch.cat([data.train_labels, data.val_labels, data.test_labels])
    names = ("train_labels", "val_labels", "test_labels")
    return replace(again, **{n: labels[chosen] for n, chosen in zip(names, order, strict=True)})


def objective(model: str) -> mm.Objective:
    if model.startswith("beta-vae-"):
        return mm.beta_vae(float(model.removeprefix("beta-vae-")))
    return workflow.objective(objective_of(model) or model)


def trained(settings: mm.Experiment, model: str, data: mm.Dataset) -> mm.Joint:
    joint = build(settings, data)
    if model == "pca":
        fit_principal_components(joint, data.train)
        return joint.eval()
    train, val = workflow.sources(settings, data)
    mm.fit(mm.Loss(joint, objective(model)), train, val, settings.training, progress=False)
    return joint.eval()


def measured(data_name: str, model: str, seed: int) -> dict[str, Any]:
    settings = settings_of(data_name, model, seed)
    data = split_again(workflow.prepare(settings), seed)
    row: dict[str, Any] = {"data": data_name, "model": model, "seed": seed}
    start = time.process_time()
    try:
        joint = trained(settings, model, data)
    except FloatingPointError as error:
        return {**row, "diverged": str(error)}
    row["seconds"] = round(time.process_time() - start, 1)
    report = mm.evaluate(joint, data, num_samples=2, seed=seed)
    row["verdict"] = report.verdict
    for name in (*METRICS, "rate", "active_units"):
        if report.has(name):
            row[name] = report[name].value
    train, val = workflow.sources(settings, data)
    fitted = mm.refit_prior(joint, train, val, progress=False)
    return row | generated(fitted, data, seed) | scored(fitted, data)


@torch.no_grad()
def generated(model: mm.Joint, data: mm.Dataset, seed: int) -> dict[str, float]:
    """How rows of a model differ from test rows."""
    rows = workflow.sample(model, min(_GENERATED, len(data.test)), seed=seed).x
    test = data.test[torch.randperm(len(data.test))[:_GENERATED]]
    auc = mm.two_sample_auc(rows, test, seed=seed)
    distance = mm.energy_distance(rows, test, standardize=False)
    return {"fitted_auc": auc.value, "fitted_energy_distance": distance.value}


def scored(model: mm.Joint, data: mm.Dataset) -> dict[str, float]:
    """Mean negative log-likelihood of test rows, in nats of the original units."""
    x = data.test[:_SCORED]
    if model.prior().event_shape.numel() <= 2:
        found = mm.quadrature_log_likelihood(model, x, tolerance=1e-2)
    else:
        epochs = max(2, 700 // -(-len(data.train) // 128))
        recipe = mm.Training(epochs, learning_rate=2e-3, warmup=0, patience=epochs)
        wider = (widened(model.encoder, by) for by in (0.0, 1.0, 2.0, 3.0))

        def bound(proposal: mm.Conditional) -> float:
            return mm.log_likelihood(model, data.val[:50], 100, proposal=proposal).mean().value

        proposal = mm.refit_proposal(
            model,
            data.train,
            data.val,
            start=max(wider, key=bound),
            num_samples=8,
            training=recipe,
            progress=False,
        )
        found = mm.log_likelihood(model, x, 2000, proposal=proposal)
    flagged = float(found.flagged.double().mean())
    value = data.log_volume - float(found.values.mean())
    return {"fitted_negative_log_likelihood": value, "fitted_share_flagged": flagged}


def widened(encoder: mm.Conditional, by: float) -> mm.Conditional:
    """A copy whose standard deviations above the floor are exp(by) times as large."""
    copied = copy.deepcopy(encoder)
    with torch.no_grad():
        if copied.scale is not None:
            copied.scale.mul_(math.exp(by))
            return copied
        last = [layer for layer in copied.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.bias[len(last.bias) // 2 :] += by
    return copied


# --- table ---------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def shown_models(rows: list[dict[str, Any]], data: str) -> Iterator[str]:
    """Models of a data set, with the β-VAE whose rate is nearest to A-MIM's only."""
    rates = {
        model: statistics.mean(row["rate"] for row in rows if matches(row, data, model))
        for model in MODELS
        if any(matches(row, data, model) and "rate" in row for row in rows)
    }
    betas = [model for model in rates if model.startswith("beta-vae")]
    nearest = min(
        betas, key=lambda m: abs(math.log(rates[m] / rates.get("a-mim", 1.0))), default=None
    )
    yield from (model for model in rates if model not in betas or model == nearest)


def matches(row: dict[str, Any], data: str, model: str) -> bool:
    return row["data"] == data and row["model"] == model and "diverged" not in row


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table for each data set: mean over the seeds and its standard error."""
    parts = []
    for data in dict.fromkeys(row["data"] for row in rows):
        lines = [["model", *METRICS.values()], ["---", *["---:"] * len(METRICS)]]
        for model in shown_models(rows, data):
            found = [row for row in rows if matches(row, data, model)]
            cells = [cell([row[m] for row in found if m in row]) for m in METRICS]
            lines.append([model, *cells])
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"**{data}**\n\n{body}")
    return "\n\n".join(parts)


def cell(values: list[float]) -> str:
    if not values:
        return "-"
    mean = statistics.mean(values)
    if len(values) < 2:
        return str(mm.Estimate(mean, math.nan))
    return str(mm.Estimate(mean, statistics.stdev(values) / math.sqrt(len(values))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of finished rows")
    arguments = parser.parse_args()
    if arguments.table:
        print(markdown(rows_of(arguments.out)))
        return
    done = {(row["data"], row["model"], row["seed"]) for row in rows_of(arguments.out)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for data in arguments.data:
        for seed in arguments.seeds:
            for model in arguments.models:
                if (data, model, seed) in done:
                    continue
                torch.manual_seed(seed)
                row = measured(data, model, seed)
                with arguments.out.open("a") as file:
                    file.write(json.dumps({**row, "processor": processor()}) + "\n")
                print(row, flush=True)


if __name__ == "__main__":
    main()
