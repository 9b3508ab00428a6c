"""The paper's table 1 with dense models with two levels of latents, by the preset `fast`.

Each row trains `hvae` on one data set, with one prior, objective and seed, and measures it:

- 5-NN accuracy by means and samples of the codes for 1, 3, 5 and 10 neighbours, RMSE, energy
  distance of 2,000 generated images and AUC of a classifier that tells them from test images: as
  `evaluate` does, of all test images;
- the negative log-likelihood of 1,000 test images by 1,000 samples from the encoder. Where more
  than one in twenty estimates is flagged, also by samples from a refitted proposal: it starts from
  the encoder's means with widths that suit validation images best, and takes some 400 steps;
- the likelihood and the generated images with a mixture of normals that is fitted to the codes
  after training (`refit_prior`), by the same proposal.

All likelihoods are estimated from above; the smaller of two estimates is the better one.

    python benchmarks/dense_table.py --out results/dense-table.jsonl
    python benchmarks/dense_table.py --data mnist --seeds 0 1 --out results/dense-table.jsonl
    python benchmarks/dense_table.py --out results/dense-table.jsonl --table

Finished rows are kept: the same command goes on. A training that is killed starts again.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from defaults import rows_of
from machine import processor
from sceptic import cell
from torch import Tensor, nn

import mimachine as mm
from mimachine import experiment, workflow
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.codes.probes import knn_accuracies
from mimachine.experiment.build import build
from mimachine.experiment.presets import named, objective_of
from mimachine.model.conditionals import ClampedGaussian

DATA = ("mnist", "fashion-mnist", "omniglot-small")
PRIORS = ("standard-normal", "vampprior")
# The first two come first for all seeds.
OBJECTIVES = ("vae", "a-mim", "mim-of-means", "mim", "rae")
_FIRST = 2
METRICS = {
    "nll": "NLL, nats",
    "fitted_nll": "NLL, fitted prior",
    "knn_5_sampled": "5-NN, samples",
    "knn_5_mean": "5-NN, means",
    "reconstruction_rmse": "RMSE",
    "generated_energy_distance": "energy distance",
    "generated_auc": "AUC",
    "fitted_energy_distance": "energy distance, fitted prior",
    "seconds": "s",
}
_NEIGHBOURS = (1, 3, 5, 10)
_IMAGES, _SAMPLES, _GENERATED = 1000, 1000, 2000
# Share of flagged estimates from which on the encoder is not used alone, as in `evaluate`.
_FLAGGED = 0.05
# Images, epochs and factors of the width (in logarithms) of a refitted proposal.
_REFITTED, _REFIT_EPOCHS, _WIDER = 10_000, 5, (0.0, 0.5, 1.0, 1.5, 2.0)


def queue(arguments: argparse.Namespace) -> Iterator[tuple[str, str, str, int]]:
    """Data, prior, objective and seed of the rows, in their order."""
    chosen = [name for name in OBJECTIVES if name in arguments.objectives]
    for data in arguments.data:
        for tier in (
            [name for name in chosen if name in OBJECTIVES[:_FIRST]],
            [name for name in chosen if name in OBJECTIVES[_FIRST:]],
        ):
            for seed, prior, objective in itertools.product(
                arguments.seeds, arguments.priors, tier
            ):
                # Its penalty is that of N(0, I).
                if objective != "rae" or prior == "standard-normal":
                    yield data, prior, objective, seed


def settings_of(data: str, prior: str, objective: str, seed: int) -> mm.Experiment:
    start = experiment.fast(data, objective_of(objective), architecture="hvae", prior=prior)
    start = named(start, objective)
    return replace(start, training=replace(start.training, seed=seed))


def measured(settings: mm.Experiment, seed: int) -> dict[str, Any]:
    data = workflow.prepare(settings)
    torch.manual_seed(seed)
    loss = mm.Loss(build(settings, data), workflow.objective(settings.objective))
    start = time.process_time()
    train, val = workflow.sources(settings, data)
    history = mm.fit(loss, train, val, settings.training, progress=False)
    seconds = time.process_time() - start
    model = loss.model.eval()
    report = mm.evaluate(model, data, num_samples=2, seed=seed)
    names = ("reconstruction_rmse", "generated_energy_distance", "generated_auc", "rate")
    row: dict[str, Any] = {name: report[name].value for name in names if report.has(name)}
    fitted = mm.refit_prior(model, data.train, data.val, progress=False)
    return {
        **row,
        **neighbours(model, data),
        **generated(fitted, data, seed),
        **likelihoods(model, fitted, data),
        "seconds": round(seconds, 1),
        "seconds_in_all": round(time.process_time() - start, 1),
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
        "verdict": report.verdict,
    }


def neighbours(model: mm.Joint, data: mm.Dataset) -> dict[str, float]:
    """Accuracies of test images by the labels of the nearest training images."""
    if data.train_labels is None or data.test_labels is None:
        return {}
    train, test = codes(model, data.train), codes(model, data.test)
    found = {}
    for kind in ("mean", "sample"):
        both = (getattr(train, kind).flatten(1), getattr(test, kind).flatten(1))
        accuracies = knn_accuracies(
            both[0], data.train_labels, both[1], data.test_labels, _NEIGHBOURS
        )
        suffix = "sampled" if kind == "sample" else kind
        found |= {f"knn_{k}_{suffix}": accuracy for k, accuracy in accuracies.items()}
    return found


@torch.no_grad()
def generated(model: mm.Joint, data: mm.Dataset, seed: int) -> dict[str, float]:
    """How images of a model with a fitted prior differ from test images."""
    images = workflow.sample(model, min(_GENERATED, len(data.test)), seed=seed).x
    some = data.test[random_rows(data.test)[:_GENERATED]]
    return {
        "fitted_auc": mm.two_sample_auc(images, some, seed=seed, standardize=False).value,
        "fitted_energy_distance": mm.energy_distance(images, some, standardize=False).value,
    }


def random_rows(x: Tensor) -> Tensor:
    return torch.randperm(len(x), generator=torch.Generator().manual_seed(0))


def likelihoods(model: mm.Joint, fitted: mm.Joint, data: mm.Dataset) -> dict[str, Any]:
    """Negative log-likelihoods of the same test images by both priors."""
    x = data.test[random_rows(data.test)[:_IMAGES]]
    found = mm.log_likelihood(model, x, _SAMPLES)
    row = summary("nll_encoder", found)
    best, proposal = found, model.encoder
    if row["nll_encoder_flagged"] > _FLAGGED:
        proposal = refitted_proposal(model, data)
        best = mm.log_likelihood(model, x, _SAMPLES, proposal=proposal)
        row |= summary("nll_refitted", best)
        if best.values.mean() < found.values.mean():
            best, proposal = found, model.encoder
    row |= summary("nll", best)
    return row | summary("fitted_nll", mm.log_likelihood(fitted, x, _SAMPLES, proposal=proposal))


def summary(name: str, found: Any) -> dict[str, float]:
    mean = found.mean()
    return {
        name: -mean.value,
        f"{name}_error": mean.standard_error,
        f"{name}_flagged": float(found.flagged.double().mean()),
        f"{name}_pareto_k": float(found.pareto_k.median()),
    }


def refitted_proposal(model: mm.Joint, data: mm.Dataset) -> nn.Module:
    """A proposal that starts from the encoder with the widths that suit validation images best."""
    train, val = (x[random_rows(x)] for x in (data.train, data.val))
    train, val = train[:_REFITTED], val[:500]

    def bound(proposal: mm.Conditional) -> float:
        return mm.log_likelihood(model, val[:100], 100, proposal=proposal).mean().value

    start = max((widened(model.encoder, by) for by in _WIDER), key=bound)
    recipe = mm.Training(_REFIT_EPOCHS, 128, 1e-3, warmup=0, patience=_REFIT_EPOCHS)
    return mm.refit_proposal(
        model, train, val, start=start, num_samples=8, training=recipe, progress=False
    )


def widened(encoder: nn.Module, by: float) -> nn.Module:
    """A copy whose standard deviations are exp(by) times as large, and can be learned."""
    copied = copy.deepcopy(encoder)
    with torch.no_grad():
        for part in copied.modules():
            if not isinstance(part, ClampedGaussian):
                continue
            if part.scale is not None:
                head = nn.Linear(part.mean.in_features, part.mean.out_features)
                head.weight.zero_()
                head.bias.fill_(2 * math.log(float(part.scale)))
                part.log_variance, part.scale = head, None
            # Below the bound a width would have no gradient.
            part.log_variance.bias.clamp_(min=part.bounds[0] + 0.1)
            part.log_variance.bias += 2 * by
    return copied


# --- table ---------------------------------------------------------------------------------------


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table for each data set: mean over the seeds and its standard error."""
    parts = []
    for data in dict.fromkeys(row["data"] for row in rows):
        lines = [
            ["prior", "objective", "seeds", *METRICS.values()],
            ["---", "---", *["---:"] * (1 + len(METRICS))],
        ]
        for prior, objective in itertools.product(PRIORS, OBJECTIVES):
            found = [
                row
                for row in rows
                if (row["data"], row["prior"], row["objective"]) == (data, prior, objective)
            ]
            if found:
                cells = [cell([row[m] for row in found if m in row]) for m in METRICS]
                lines.append([prior, objective, str(len(found)), *cells])
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"**{data}**\n\n{body}")
    return "\n\n".join(parts)


def run(arguments: argparse.Namespace, say: Callable[[str], None] = print) -> None:
    """Measure the rows that are missing, and append each to the file."""
    keys = ("data", "prior", "objective", "seed")
    done = {tuple(row[key] for key in keys) for row in rows_of(arguments.out)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for key in queue(arguments):
        if key in done:
            continue
        row = dict(zip(keys, key, strict=True))
        try:
            row |= measured(settings_of(*key), key[-1])
        except FloatingPointError as error:
            row["diverged"] = str(error)
        line = json.dumps({**row, "processor": processor(), "torch": torch.__version__})
        with arguments.out.open("a") as file:
            file.write(line + "\n")
        say(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--priors", nargs="+", choices=PRIORS, default=list(PRIORS))
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of finished rows")
    arguments = parser.parse_args()
    if arguments.table:
        print(markdown(rows_of(arguments.out)))
        return
    torch.set_num_threads(1)
    run(arguments)


if __name__ == "__main__":
    main()
