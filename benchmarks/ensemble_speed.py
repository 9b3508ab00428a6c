"""Speed of training ten models as one `Ensemble`, compared to one after the other.

The baseline is the plain PyTorch loop of `training_speed.py` with fresh data in each epoch from a
vectorised sampler: the mixture of the paper's figure 2, 78 steps of 128 rows per epoch, ten models
in turn. The library trains the ten models with `fit`, without validation data, uncompiled and
compiled. All run alternately in this process, by default with one thread. Ratios are medians over
repeats of time(ten plain loops) / time(ensemble). The time of compilation is printed too, with the
number of epochs after which it pays off.

    python benchmarks/ensemble_speed.py --out results/ensemble-speed.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import processor
from torch import Tensor
from training_speed import BATCH, Bare

import mimachine as mm
from mimachine.data.bundled import mixture_2d
from mimachine.data.sources import FreshDraws, Stacked

MODELS, STEPS, FLOOR = 10, 78, 1e-6
OBJECTIVES = {"mim": mm.MIM, "vae": mm.VAE}


class FreshBare(Bare):
    """The plain loop over fresh samples in each epoch."""

    def __init__(self, means: Tensor, hidden: int) -> None:
        super().__init__(means, 2, hidden, None)

    def epoch(self, objective: str) -> None:
        means, loss, count = self.x, getattr(self, objective), STEPS * BATCH
        data = means[torch.randint(len(means), (count,))] + 0.25 * torch.randn(count, 2)
        for x in data.split(BATCH):
            value = loss(x).mean()
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            self.optimizer.step()


def model(hidden: int) -> mm.Joint:
    encoder, decoder = (mm.Gaussian(mm.MLP(2, 4, (hidden,)), FLOOR) for _ in range(2))
    return mm.Joint(encoder, decoder, mm.StandardNormal(2))


def ensemble(hidden: int, objective: str, compiled: bool) -> Callable[[int], None]:
    """A function that trains ten models with `fit` for a given number of epochs."""
    together = mm.Ensemble([mm.Loss(model(hidden), OBJECTIVES[objective]) for _ in range(MODELS)])
    if compiled:
        together.compile()
    distribution = mixture_2d(10).distribution
    sources = Stacked([FreshDraws(distribution, STEPS * BATCH, seed) for seed in range(MODELS)])

    def train(epochs: int) -> None:
        recipe = mm.Training(epochs=epochs, batch_size=BATCH, warmup=0)
        mm.fit(together, sources, None, recipe, progress=False)

    return train


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(hidden: int, objective: str, repeats: int) -> dict:
    means = mixture_2d(10).distribution.components.mean
    alone = [FreshBare(means, hidden) for _ in range(MODELS)]
    plain, compiled = (ensemble(hidden, objective, each) for each in (False, True))
    plain(1)
    first = timed(lambda: compiled(1))
    [each.epoch(objective) for each in alone]
    rounds = [
        (
            timed(lambda: [each.epoch(objective) for each in alone]),
            timed(lambda: plain(1)),
            timed(lambda: compiled(1)),
        )
        for _ in range(repeats)
    ]
    seconds = [statistics.median(each) for each in zip(*rounds, strict=True)]
    compiling, saved = first - seconds[2], seconds[1] - seconds[2]
    return {
        "hidden": hidden,
        "objective": objective,
        "seconds_per_epoch_of_ten_bare_loops": round(seconds[0], 4),
        "seconds_per_epoch_of_the_ensemble": round(seconds[1], 4),
        "seconds_per_epoch_compiled": round(seconds[2], 4),
        "times_faster": round(statistics.median(r[0] / r[1] for r in rounds), 2),
        "times_faster_compiled": round(statistics.median(r[0] / r[2] for r in rounds), 2),
        "seconds_to_compile": round(compiling, 1),
        "pays_after_epochs": round(compiling / saved) if saved > 0 else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for hidden in (20, 100, 500):
        for objective in OBJECTIVES:
            rows.append(row := compare(hidden, objective, arguments.repeats))
            print(
                f"{objective} {hidden:>3} units: ten bare loops "
                f"{row['seconds_per_epoch_of_ten_bare_loops']:.2f} s/epoch; ensemble "
                f"{row['times_faster']:.2f} times as fast, compiled "
                f"{row['times_faster_compiled']:.2f} (compiling {row['seconds_to_compile']:.0f} s, "
                f"paid after {row['pays_after_epochs']} epochs)",
                flush=True,
            )
    if arguments.out is not None:
        machine = {
            "torch": torch.__version__,
            "threads": arguments.threads,
            "processor": processor(),
            "baseline": f"{MODELS} plain PyTorch loops of benchmarks/training_speed.py in turn",
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
