"""Convolutions beside dense layers: the defaults for one's own images of more than 16 x 16.

Each row trains A-MIM with 40 latents on 5,000 images, of which a tenth are for validation, by the
default recipe of its architecture, and measures 1,000 test images: 5-NN accuracy of mean codes by
those of the training images, RMSE of reconstructions, and for 200 of them the negative
log-likelihood under N(0, I) by 200 samples from the encoder, an upper bound. Seconds are those of
one core for the training.

    python benchmarks/convolutions.py --out results/convolutions.jsonl

Finished rows are kept: the same command goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from defaults import rows_of
from machine import load_average, processor

import mimachine as mm
from mimachine.data.files.load import load_array
from mimachine.data.files.splits import HoldOut
from mimachine.experiment.presets import by_convolutions, of_rows
from mimachine.experiment.settings import Data
from mimachine.workflow.prepare_run import ready_to_train

DATA, ARCHITECTURES = ("mnist", "fashion-mnist"), ("mlp", "conv")
_TRAIN, _TEST, _LIKELIHOODS, _SAMPLES = 5000, 1000, 200, 200


def measured(name: str, architecture: str, seed: int) -> dict[str, Any]:
    source = mm.datasets.load(name)
    order = torch.randperm(len(source.train), generator=torch.Generator().manual_seed(seed))
    chosen = order[:_TRAIN]
    grey = (255 * source.train[chosen]).round().byte().reshape(-1, 28, 28).numpy()
    data = load_array(grey, "auto", HoldOut(0.1, seed), name)
    start = of_rows(Data("images.npy"), _TRAIN, data.train.shape[1], "a-mim", False)
    start = by_convolutions(start, _TRAIN) if architecture == "conv" else start
    settings = replace(start, training=replace(start.training, seed=seed))
    loss, train, val = ready_to_train(settings, data)
    begun = time.process_time()
    history = mm.fit(loss, train, val, settings.training, progress=False)
    seconds = time.process_time() - begun
    model, test = loss.model.eval(), source.test[:_TEST]
    codes, of_test = mm.codes(model, source.train[chosen]).mean, mm.codes(model, test).mean
    labels = source.train_labels[chosen], source.test_labels[:_TEST]
    with torch.no_grad():
        decoded = model.decoder(of_test).mean
    likelihood = mm.log_likelihood(model, test[:_LIKELIHOODS], _SAMPLES).mean()
    return {
        "knn_5_accuracy": mm.knn_accuracy(codes, labels[0], of_test, labels[1], 5),
        "reconstruction_rmse": float((decoded - test).square().mean().sqrt()),
        "negative_log_likelihood": -likelihood.value,
        "seconds": round(seconds, 1),
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keys = ("seed", "data", "architecture")
    done = {tuple(row[key] for key in keys) for row in rows_of(arguments.out)}
    for key in itertools.product(arguments.seeds, arguments.data, ARCHITECTURES):
        if key in done:
            continue
        seed, name, architecture = key
        row = {**dict(zip(keys, key, strict=True)), **measured(name, architecture, seed)}
        row |= {"processor": processor(), "load_average": load_average()}
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
