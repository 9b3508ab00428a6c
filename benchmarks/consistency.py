"""Consistency of encoder and decoder on the 2-D mixture, with an explicit q(x).

Models are trained for 20 epochs with MIM and with the cross-entropy loss, which lacks the
regulariser R_MIM. The anchor P(z) is N(0, I), both priors are mixtures of K components, encoder and
decoder are Gaussian with 50 hidden units. The output is three tables of means and standard errors
over seeds, in nats on test data; a seed takes one or two minutes:

1. over training (appendix A.2.2 of the paper), K = 10;
2. after it, against the number of components of both priors (as in E.2 and E.3);
3. after it, against the smallest standard deviation of encoder and decoder, K = 10.

    OMP_NUM_THREADS=1 python benchmarks/consistency.py --seeds 5 > results/consistency.txt
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

import mimachine as mm
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.bundled import mixture_2d

OBJECTIVES = {"mim": mm.MIM, "ce": mm.CE}
COMPONENTS = (1, 2, 5, 10, 20)
FLOORS = (0.001, 0.01, 0.05, 0.2)
EPOCHS = (0, 1, 2, 5, 10, 20)
WARMUP = mm.Warmup(5)
COLUMNS = {
    "L_MIM": "loss",
    "L_CE": "cross_entropy",
    "R_MIM": "regulariser",
    "log q/p, encoding": "encoding_log_ratio",
    "log p/q, decoding": "decoding_log_ratio",
    "H(M_S)": "sample_entropy",
    "KL(M_S, M_theta)": "kl_model",
    "JSD": "jensen_shannon",
    "KL(P(x), q(x))": "kl_data_prior",
    "KL(P(z), p(z))": "kl_prior",
}

Row = list[float]


def build(components: int, floor: float, seed: int) -> mm.Joint:
    with forked(derived_seed(seed, "weights")):
        return mm.Joint(
            mm.Gaussian(mm.MLP(2, 4, (50,)), floor),
            mm.Gaussian(mm.MLP(2, 4, (50,)), floor),
            mm.GaussianMixture(2, components),
            mm.GaussianMixture(2, components),
        )


def measure(model: mm.Joint) -> Row:
    result = mm.decompose(
        model,
        data().test,
        anchor=mm.StandardNormal(2),
        data_distribution=data().distribution,
        num_samples=1,
    )
    return [getattr(result, term).value for term in COLUMNS.values()]


data = cache(mixture_2d)


@cache
def train(objective: str, components: int, floor: float, seed: int) -> dict[int, Row]:
    """Train, and evaluate after each of `EPOCHS`."""
    model = build(components, floor, seed)
    loss = mm.Loss(model, OBJECTIVES[objective], mm.StandardNormal(2))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS[-1])
    source = mm.TensorSource(data().train, seed)
    measured = {0: measure(model)}
    for epoch in range(1, EPOCHS[-1] + 1):
        with forked(derived_seed(seed, "train", epoch)):
            for x in source.batches(128, epoch):
                optimizer.zero_grad()
                loss(x, WARMUP.at(epoch)).mean().backward()
                optimizer.step()
        schedule.step()
        if epoch in EPOCHS:
            measured[epoch] = measure(model)
    return measured


def table(title: str, first: str, rows: Sequence[tuple[str, str, list[Row]]]) -> str:
    """Markdown table of means and standard errors over seeds."""
    lines = ["", title, "", f"| loss | {first} | {' | '.join(COLUMNS)} |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for objective, label, values in rows:
        array = np.array(values)
        means = array.mean(0)
        errors = array.std(0, ddof=1) / math.sqrt(len(array)) if len(array) > 1 else means * 0
        cells = [shown(*pair) for pair in zip(means, errors, strict=True)]
        lines.append(f"| {objective} | {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(mean: float, error: float) -> str:
    return f"{mean:.3f} ± {error:.3f}" if abs(mean) < 100 else f"{mean:,.0f} ± {error:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    print(f"python {' '.join(sys.argv)}, one thread, torch {torch.__version__}")
    rows = [
        (
            objective,
            str(epoch),
            [train(objective, components=10, floor=0.05, seed=seed)[epoch] for seed in seeds],
        )
        for objective in OBJECTIVES
        for epoch in EPOCHS
    ]
    print(table("1. Over training", "epoch", rows), flush=True)
    for title, name, settings in (
        ("2. By the number of components of q(x) and p(z)", "components", COMPONENTS),
        ("3. By the smallest standard deviation of encoder and decoder", "floor", FLOORS),
    ):
        rows = []
        for objective in OBJECTIVES:
            for value in settings:
                options = {"components": 10, "floor": 0.05} | {name: value}
                last = [train(objective, **options, seed=seed)[EPOCHS[-1]] for seed in seeds]
                rows.append((objective, f"{value:g}", last))
        print(table(title, name, rows), flush=True)


if __name__ == "__main__":
    main()
