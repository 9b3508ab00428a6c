"""Tables of what-is-mim-good-for.md: A-MIM beside its baselines."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from traced.blocks import block
from traced.cells import one, table, with_two_digits
from traced.rows import Number, Row, chosen
from traced.sources import Sources

# Metrics: title, and the sign of a better value.
METRICS = {
    "knn_5_accuracy": ("5-NN, means", 1),
    "knn_5_accuracy_sampled": ("5-NN, samples", 1),
    "linear_probe_accuracy": ("linear probe, means", 1),
    "linear_probe_accuracy_sampled": ("linear probe, samples", 1),
    "reconstruction_rmse": ("RMSE", -1),
    "fitted_negative_log_likelihood": ("NLL", -1),
    "fitted_auc": ("AUC", -1),
    "fitted_energy_distance": ("energy distance", -1),
}
INFORMATION = {
    "mutual_information_lower": "information, at least",
    "mutual_information_upper": "at most",
    "seconds": "s",
}
MODELS = {
    "a-mim": "A-MIM",
    "a-mim-one-sample": "A-MIM, one sample",
    "mim": "MIM",
    "rae": "RAE",
    "auto-encoder": "auto-encoder",
    "vae": "VAE",
    "beta-vae": "β-VAE at A-MIM's rate",
    "vae-vampprior": "VAE, VampPrior",
    "pca": "PCA",
}
BASELINES = ("rae", "auto-encoder", "vae", "beta-vae", "vae-vampprior", "pca")


@block("sceptic")
def sceptic(sources: Sources) -> str:
    """All metrics of all models on each data set."""
    rows = sources.rows("sceptic")
    shown = {name: title for name, (title, _) in METRICS.items()} | INFORMATION
    lines = []
    for data in _data(rows):
        for index, (model, title) in enumerate(MODELS.items()):
            row = _row(rows, data, model)
            if row is not None:
                cells = [_cell(row.get(metric)) for metric in shown]
                lines.append(["" if index else data, title, *cells])
    return table(["", "model", *shown.values()], lines, left=2)


@block("sceptic-counts")
def counts(sources: Sources) -> str:
    """On how many data sets A-MIM is better or worse than each baseline."""
    rows = sources.rows("sceptic")
    lines = []
    for metric, (title, sign) in METRICS.items():
        cells = []
        for baseline in BASELINES:
            found = [sign * d.mean / d.se for d in _all_differences(rows, metric, baseline)]
            better, worse = sum(t > 2 for t in found), sum(t < -2 for t in found)
            cells.append(f"{better} better, {worse} worse of {len(found)}" if found else "-")
        lines.append([title, *cells])
    return table(["", *(MODELS[name] for name in BASELINES)], lines)


def _register(metric: str) -> None:
    @block(f"sceptic-{metric}")
    def differences(sources: Sources) -> str:
        rows = sources.rows("sceptic")
        lines = []
        for data in _data(rows):
            found = [_difference(rows, data, metric, baseline) for baseline in BASELINES]
            if any(each is not None for each in found):
                lines.append([data, *map(_judged, found)])
        return table(["A-MIM less", *(MODELS[name] for name in BASELINES)], lines)


for _metric in METRICS:
    _register(_metric)


def _judged(found: Number | None) -> str:
    """Mean difference over the seeds ± its error, bold if it is two of them from zero."""
    text = _cell(found)
    return f"**{text}**" if found and abs(found.mean) > 2 * found.se else text


def _data(rows: Sequence[Row]) -> Iterator[str]:
    yield from dict.fromkeys(str(row.labels["data"]) for row in rows)


def _row(rows: Sequence[Row], data: str, model: str) -> Row | None:
    """Row of a model; of the β-VAEs that whose rate is nearest to A-MIM's."""
    if model != "beta-vae":
        found = chosen(rows, [f"data={data}", f"model={model}"])
        return found[0] if found else None
    rate = one(rows, f"data={data}", "model=a-mim")["rate"].mean
    here = chosen(rows, [f"data={data}"])
    betas = [row for row in here if str(row.labels["model"]).startswith("beta-vae")]
    return min(betas, key=lambda row: abs(math.log(row["rate"].mean / rate)), default=None)


def _difference(rows: Sequence[Row], data: str, metric: str, baseline: str) -> Number | None:
    """Differences to A-MIM for each seed; None if one of them does not have the metric."""
    own, other = (_row(rows, data, model) for model in ("a-mim", baseline))
    pair = [row.get(metric) for row in (own, other) if row is not None]
    values = [each.values for each in pair if each is not None]
    if len(values) < 2 or len(values[0]) != len(values[1]) or len(values[0]) < 2:
        return None
    found = Number(tuple(a - b for a, b in zip(*values, strict=True)))
    return found if statistics.stdev(found.values) > 0 else None


def _all_differences(rows: Sequence[Row], metric: str, baseline: str) -> Iterator[Number]:
    for data in _data(rows):
        found = _difference(rows, data, metric, baseline)
        if found is not None:
            yield found


def _cell(found: Number | None) -> str:
    return "-" if found is None else with_two_digits(found)
