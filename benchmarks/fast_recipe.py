"""Likelihood against seconds: the fast recipe for dense image models beside the published one.

Each row trains a dense model with two levels of latents (`hvae`) on MNIST, by 30 epochs of the
published recipe (Adam, batches of 100 in float32), or by the preset `fast` (batches of 500 in
bfloat16, a rate that falls along a cosine, Muon for matrices), or its variants, of which that with
Adam has more epochs, in about the same seconds. It measures the
negative log-likelihood of test images, by importance samples from the encoder, with the standard
error over the images. Seconds of an epoch on one thread are measured apart, since they need an idle
machine: the recipes take turns, and the least of three epochs counts.

    python benchmarks/fast_recipe.py --out results/fast-recipe.jsonl
    python benchmarks/fast_recipe.py --seconds results/fast-recipe-seconds.json

Finished rows are kept: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from defaults import rows_of
from machine import load_average, processor

import mimachine as mm
from mimachine import experiment, workflow
from mimachine.experiment.build import build

_PUBLISHED_EPOCHS, _IMAGES, _SAMPLES, _ROUNDS = 30, 500, 500, 3
# Adam makes more steps in the same time.
_ADAM_EPOCHS, _ADAM_RATE = 24, 4e-3
RECIPES = ("published", "fast", "fast, Adam", "fast, float32")


def settings_of(objective: str, prior: str, recipe: str, seed: int) -> mm.Experiment:
    if recipe == "published":
        start = experiment.published("mnist", objective, "hvae")
        training = replace(start.training, epochs=_PUBLISHED_EPOCHS, warmup=_warmup(start))
    else:
        start = experiment.fast("mnist", objective, architecture="hvae", prior=prior)
        training = start.training
        if recipe.endswith("Adam"):
            changes = {"epochs": _ADAM_EPOCHS, "learning_rate": _ADAM_RATE}
            warmup = mm.Warmup(_ADAM_EPOCHS // 10)
            training = replace(training, optimizer="adam", warmup=warmup, **changes)
        if recipe.endswith("float32"):
            training = replace(training, precision="full")
    model = replace(start.model, prior=prior)
    return replace(start, model=model, training=replace(training, seed=seed))


def _warmup(start: mm.Experiment) -> mm.Warmup:
    """The published warm-up takes 100 epochs; here a tenth of the epochs, as in `fast`."""
    return replace(start.training.annealing, epochs=_PUBLISHED_EPOCHS // 10)


def measured(objective: str, prior: str, recipe: str, seed: int) -> dict[str, Any]:
    settings = settings_of(objective, prior, recipe, seed)
    data = workflow.prepare(settings)
    torch.manual_seed(seed)
    loss = mm.Loss(build(settings, data), workflow.objective(objective))
    train, val = workflow.sources(settings, data)
    history = mm.fit(loss, train, val, settings.training, progress=False)
    model = loss.model.eval()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(data.test), generator=generator)[:_IMAGES]
    found = mm.log_likelihood(model, data.test[chosen], _SAMPLES).mean()
    return {
        "objective": objective,
        "prior": prior,
        "recipe": recipe,
        "seed": seed,
        "nll": {"value": -found.value, "standard_error": found.standard_error},
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
    }


def seconds_of_an_epoch(objective: str, prior: str, recipe: str) -> float:
    """Processor seconds of one epoch, validation included."""
    settings = settings_of(objective, prior, recipe, 0)
    data = workflow.prepare(settings)
    loss = mm.Loss(build(settings, data), workflow.objective(objective))
    once = replace(settings.training, epochs=1, warmup=0, schedule=None)
    start = time.process_time()
    mm.fit(loss, *workflow.sources(settings, data), once, progress=False)
    return time.process_time() - start


def timed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of an epoch of each recipe, in turns."""
    cases = [
        (o, p, r) for p in arguments.priors for o in arguments.objectives for r in arguments.recipes
    ]
    load = load_average()
    found: dict[Any, list[float]] = {case: [] for case in cases}
    for _ in range(_ROUNDS):
        for case in cases:
            found[case].append(round(seconds_of_an_epoch(*case), 2))
            print(*case, found[case][-1], flush=True)
    names = ("objective", "prior", "recipe")
    rows = [dict(zip(names, case, strict=True)) | {"seconds": min(s)} for case, s in found.items()]
    return {"processor": processor(), "load_average_at_start": load, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objectives", nargs="+", default=["vae", "a-mim"])
    parser.add_argument("--priors", nargs="+", default=["standard-normal", "vampprior"])
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=["published", "fast"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("results/fast-recipe.jsonl"))
    parser.add_argument("--seconds", type=Path, help="measure seconds instead, and write them here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.seconds:
        arguments.seconds.write_text(json.dumps(timed(arguments), indent=1) + "\n")
        return
    keys = ("objective", "prior", "recipe", "seed")
    done = {tuple(row[key] for key in keys) for row in rows_of(arguments.out)}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for recipe in arguments.recipes:
            for prior in arguments.priors:
                for objective in arguments.objectives:
                    if (objective, prior, recipe, seed) in done:
                        continue
                    row = measured(objective, prior, recipe, seed)
                    with arguments.out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)


if __name__ == "__main__":
    main()
