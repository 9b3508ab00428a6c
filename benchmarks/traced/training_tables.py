"""Tables of training.md, and of the recipes of image-models.md."""

from __future__ import annotations

import json

from beside.table import markdown

from traced.blocks import block
from traced.cells import one, table, with_error, with_se, with_two_digits
from traced.rows import Row, chosen
from traced.sources import Sources

# Metrics of the recipes.
_SHOWN = {
    "knn_5_mean": "5-NN",
    "rmse": "RMSE",
    "nll": "NLL",
    "fitted_nll": "NLL, fitted prior",
    "fitted_auc": "AUC, fitted prior",
}
_FLOORS = {
    "2,000 steps, floor 0.001": "0.001",
    "2,000 steps, floor 0.05": "0.05",
    "2,000 steps": "0.1",
    "2,000 steps, floor 0.2": "0.2",
}


@block("recipes")
def recipes(sources: Sources) -> str:
    rows = sources.rows("defaults")
    lines = []
    for default in chosen(rows, ["default"]):
        data, objective = (str(default.labels[name]) for name in ("data", "objective"))
        before = one(rows, f"data={data}", f"objective={objective}", "version 0.1")
        for row, title in ((before, f"{data}, {objective}"), (default, "")):
            lines.append([title, *_line(row, str(row.labels["recipe"])), f"{_seconds(row):.1f}"])
    return table(["", "recipe", *_SHOWN.values(), "s"], lines, left=2)


@block("floors")
def floors(sources: Sources) -> str:
    rows = chosen(sources.rows("defaults"), ["objective=a-mim"])
    lines = []
    for data in (str(row.labels["data"]) for row in chosen(rows, [next(iter(_FLOORS))])):
        for recipe, floor in _FLOORS.items():
            row = one(rows, f"data={data}", f"recipe={recipe}")
            lines.append([data if floor == "0.001" else "", *_line(row, floor)])
    return table(["", "floor", *_SHOWN.values()], lines)


def _line(row: Row, title: str) -> list[str]:
    found = [row.get(metric) for metric in _SHOWN]
    return [title, *("-" if each is None else with_two_digits(each) for each in found)]


def _seconds(row: Row) -> float:
    return row["seconds"].mean


@block("fast-recipe")
def fast_recipe(sources: Sources) -> str:
    """Likelihoods with their errors over the test images, and seconds of the whole training."""
    lines = []
    for prior, title in {"standard-normal": "N(0, I)", "vampprior": "VampPrior"}.items():
        for objective, name in {"vae": "VAE", "a-mim": "A-MIM"}.items():
            cells, seconds = [title if objective == "vae" else "", name], []
            for recipe in ("published", "fast"):
                at = f"objective={objective}", f"prior={prior}", f"recipe={recipe}"
                row = one(sources.rows("fast-recipe"), *at, "seed=0")
                epoch = one(sources.rows("fast-recipe-seconds"), *at)["seconds"].mean
                seconds.append(row["epochs"].mean * epoch)
                cells += [with_error(row["nll"], 1), f"{seconds[-1]:.0f}"]
            lines.append([*cells, f"{seconds[0] / seconds[1]:.1f}"])
    header = ["prior", "objective", "published: NLL", "s", "fast: NLL", "s", "fewer seconds"]
    return table(header, lines, left=2)


@block("convolutions")
def convolutions(sources: Sources) -> str:
    """Means over the seeds and their standard errors."""
    lines, rows = [], sources.rows("convolutions")
    for data, title in {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}.items():
        for architecture, name in {"mlp": title, "conv": ""}.items():
            row = one(rows, f"data={data}", f"architecture={architecture}")
            cells = [with_se(row["knn_5_accuracy"], 3), with_se(row["reconstruction_rmse"], 4)]
            cells += [with_se(row["negative_log_likelihood"], 1), f"{row['seconds'].mean:.0f}"]
            lines.append([name, architecture, *cells])
    return table(["", "architecture", "5-NN", "RMSE", "NLL <", "s"], lines, left=2)


@block("peers")
def peers(sources: Sources) -> str:
    return markdown(json.loads(sources.text("peers.json"))["rows"])
