"""Symmetric MIM on binary MNIST: decoding to samples or to means, compared with A-MIM.

The paper's decoding half samples images from the decoder, with REINFORCE; the released code uses
decoder means, through which the decoder gets no gradient (`MIM_OF_MEANS`). Both train the dense
two-level model with the recipe of the released image code and fewer epochs; so does A-MIM, which
has no decoding half. The noise of each loss's gradient is measured on one batch of test images, at
the final weights of each model. Cells in the results file are not run again.

    python benchmarks/symmetric_readings.py --out results/symmetric-readings.json   # two hours
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import processor
from matplotlib.figure import Figure
from torch import Tensor

import mimachine as mm
from mimachine import workflow
from mimachine.data.image_sets import mnist
from mimachine.data.sources import as_bytes
from mimachine.model.joint import Sample
from mimachine.model.loss import Loss
from mimachine.model.objectives import OBJECTIVES

SHAPE = (1, 28, 28)
NAMES = ("a-mim", "mim", "mim-of-means")
METRICS = (
    "negative_log_likelihood",
    "negative_elbo",
    "knn_5_accuracy",
    "knn_5_accuracy_sampled",
    "linear_probe_accuracy",
    "reconstruction_rmse",
    "rate",
    "mutual_information_lower",
    "mutual_information_upper",
)


class WithoutBaseline(Loss):
    """The loss with REINFORCE as in the paper, without a baseline."""

    def _half(self, sample: Sample, *arguments: Any) -> Tensor:
        if sample.score is None:
            return super()._half(sample, *arguments)
        value = super()._half(sample._replace(score=None), *arguments)
        return value + value.detach() * (sample.score - sample.score.detach())


def noise(loss: Loss, x: Tensor, repeats: int) -> dict[str, dict[str, float]]:
    """Noise (√ trace of the covariance) and signal (norm of the mean) of the gradient by part."""
    parts = {"encoder": loss.model.encoder, "decoder": loss.model.decoder}
    found: dict[str, dict[str, float]] = {}
    gradients: dict[str, list[Tensor]] = {name: [] for name in parts}
    for seed in range(repeats):
        torch.manual_seed(seed)
        value = loss(x).mean()
        for name, part in parts.items():
            each = torch.autograd.grad(
                value, list(part.parameters()), retain_graph=True, materialize_grads=True
            )
            gradients[name].append(torch.cat([g.flatten() for g in each]))
    for name, rows in gradients.items():
        stacked = torch.stack(rows)
        trace = float(stacked.var(0).sum())
        squared = float(stacked.mean(0).square().sum()) - trace / repeats
        found[name] = {"noise": trace**0.5, "signal": max(squared, 0.0) ** 0.5}
    return found


def gradients(model: mm.Joint, x: Tensor, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Noise and signal of the gradient of each loss at the same weights."""
    losses = {
        "a-mim": Loss(model, mm.A_MIM),
        "mim, no baseline": WithoutBaseline(model, mm.MIM),
        "mim, leave-one-out": Loss(model, mm.MIM),
        "mim-of-means": Loss(model, mm.MIM_OF_MEANS),
    }
    return {name: noise(loss, x, repeats) for name, loss in losses.items()}


def energy(samples: Tensor, test: Tensor) -> dict[str, float]:
    """Energy distance of samples and test images (N, *X), relative to the spread of test images."""
    x, y = samples.flatten(1), test.flatten(1)
    count = len(x)
    across = torch.cdist(x, y)
    # Without the diagonals: unbiased, so that test images scatter about 0.
    within = torch.cdist(x, x).sum(1) / (count - 1)
    of_test = torch.cdist(y, y).sum(1) / (count - 1)
    value = 2 * across.mean() - within.mean() - of_test.mean()
    # Contribution of each image, to first order.
    terms = ((across.mean(1) - within), (across.mean(0) - of_test))
    error = sum(float(2 * term.std()) ** 2 / count for term in terms) ** 0.5
    scale = float(of_test.mean())
    return {"value": float(value) / scale, "standard_error": error / scale}


def cell(name: str, components: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    grey, data = mnist(), mm.published_binarisation(mnist())
    data = replace(data, **{s: getattr(data, s).reshape(-1, *SHAPE) for s in ("val", "test")})
    train = grey.train.reshape(-1, *SHAPE)
    torch.manual_seed(seed)
    pseudo = train[torch.randperm(len(train))[:components]] if components else None
    model = mm.hvae(SHAPE, pseudo)
    recipe = mm.published_image_training(name)
    recipe = replace(
        recipe,
        epochs=options.epochs,
        warmup=replace(recipe.annealing, epochs=options.warmup),
        seed=seed,
    )
    start = time.monotonic()
    source = mm.Binarized(mm.TensorSource(as_bytes(train), seed), seed)
    history = mm.fit(mm.Loss(model, OBJECTIVES[name]), source, data.val, recipe, progress=False)
    seconds = time.monotonic() - start
    # Training images are binarised once for their codes.
    with torch.random.fork_rng():
        torch.manual_seed(777)
        data = replace(data, train=torch.bernoulli(train))
    report = mm.evaluate(model, data, num_samples=5000, seconds=options.seconds)
    values = {m.name: m for m in report.metrics}
    drawn = workflow.sample(model, 2000, seed=0)
    restored = workflow.reconstruct(model, data.test[:8])
    # The same number of other test images represents samples of a perfect model.
    first, second = data.test[:2000], data.test[2000:4000]
    result = {
        "objective": name,
        "components": components,
        "seed": seed,
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
        "training_seconds": round(seconds),
        "processor": processor(),
        "metrics": {
            key: {"value": values[key].value, "standard_error": values[key].standard_error}
            for key in METRICS
            if key in values
        },
        "energy_of_samples": energy(drawn.x, first),
        "energy_of_test_images": energy(second, first),
    }
    options.models.mkdir(parents=True, exist_ok=True)
    stem = options.models / f"{name}-{components}-{seed}"
    torch.save(model.state_dict(), f"{stem}.pt")
    np.savez_compressed(
        f"{stem}.npz", samples=drawn.mean[:16], x=data.test[:8], restored=restored.mean
    )
    result["gradient"] = gradients(model, data.test[:100], options.repeats)
    return result


def picture(models: Path, components: list[int]) -> Figure:
    """Plot test images, reconstructions and samples of the models of the first seed."""
    figure = Figure(figsize=(4.2 * len(components), 5.0), layout="constrained", dpi=150)
    axes = figure.subplots(1 + 2 * len(NAMES), len(components), squeeze=False)
    for column, count in enumerate(components):
        shown: dict[str, np.ndarray] = {}
        for name in NAMES:
            file = np.load(models / f"{name}-{count}-0.npz")
            shown = {"test images": file["x"], **shown}
            shown[f"{name}: reconstructions"] = file["restored"]
            shown[f"{name}: samples"] = file["samples"]
        for axis, (title, images) in zip(axes[:, column], shown.items(), strict=True):
            axis.imshow(1 - np.concatenate(images[:8, 0], 1), cmap="gray", vmin=0, vmax=1)
            axis.set_title(title, loc="left", fontsize=8)
            axis.axis("off")
        axes[0, column].set_title(
            f"{'VampPrior' if count else 'N(0, I)'}: test images", loc="left", fontsize=8
        )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--components", type=int, nargs="+", default=[0, 500])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=240.0, help="evaluation time limit")
    parser.add_argument("--repeats", type=int, default=100, help="number of gradients")
    parser.add_argument("--models", type=Path, default=Path("runs/symmetric-readings"))
    parser.add_argument("--picture", type=Path, help="plot models trained by this benchmark")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {"epochs": options.epochs, "warmup": options.warmup, "torch": torch.__version__}
    result: dict[str, Any] = {**settings, "cells": []}
    if options.out.exists():
        result = json.loads(options.out.read_text())
    done = {(c["objective"], c["components"], c["seed"]) for c in result["cells"]}
    for seed in range(options.seeds):
        for components in options.components:
            for name in NAMES:
                if (name, components, seed) in done:
                    continue
                result["cells"].append(cell(name, components, seed, options))
                print(json.dumps(result["cells"][-1]), flush=True)
                options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.picture:
        picture(options.models, options.components).savefig(options.picture)


if __name__ == "__main__":
    main()
