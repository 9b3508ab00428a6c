"""Accuracy and speed of mutual information bounds, and of KSG, on Gaussian channels.

z = x + noise in each of D coordinates, x ~ N(0, I), so the mutual information is known. For each
dimension and information the benchmark reports the lower and upper bound, their distance from the
truth in standard errors, the gap, and the KSG estimate of the same x and z. The gap should be below
0.1 nat up to about ½ log N, most accurately in few dimensions.

    python benchmarks/information_bounds.py --out results/information_bounds.json \
        --figure docs/images/information_bounds.png
    python benchmarks/information_bounds.py --speed --out results/information_bounds.json

`--speed` times 50,000 rows in 80 dimensions on two threads, alternately with a plain implementation
in float32 that computes all (z - m) / s of a code at once; its time for all codes is extrapolated
from some. Each mode replaces only its part of the output file. The coverage of the errors is in
benchmarks/coverage.py.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import processor
from matplotlib.figure import Figure
from torch import Tensor

import mimachine as mm

DIMENSIONS = (2, 10, 40)
INFORMATION = (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.6, 5, 5.5, 6, 7, 8, 10, 12, 15, 20, 25, 30)
LARGE, LARGE_QUERIES, LARGE_INFORMATION = 50_000, 5_000, (2, 3, 4, 5, 5.4, 6, 7, 8, 10, 15)
BLUE, RED, GREY = "#2b5fa8", "#c8342b", "#555555"


def channel(count: int, dim: int, information: float, seed: int) -> tuple[mm.DiagNormal, Tensor]:
    """q(z|x) of N rows, and x, which is its mean."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    noise = 1 / math.sqrt(math.expm1(2 * information / dim))
    return mm.DiagNormal(x, torch.tensor(noise, dtype=torch.float64)), x


def numbers(estimate: mm.Estimate) -> list[float]:
    return [round(estimate.value, 4), round(estimate.standard_error, 4)]


def measure(count: int, queries: int | None, dim: int, truth: float, ksg: bool) -> dict[str, Any]:
    seed = 100 * dim + round(10 * truth)
    conditional, x = channel(count, dim, truth, seed)
    # A separate seed, so that the noise is independent of x.
    torch.manual_seed(-1 - seed)
    z = conditional.sample()
    found = mm.bounds_from_conditionals([conditional], z=z, num_queries=queries)
    row = {
        "num_data": count,
        "num_queries": found.num_queries,
        "dimensions": dim,
        "truth": truth,
        "lower": numbers(found.lower),
        "upper": numbers(found.upper),
        "gap": numbers(found.gap),
        "lower_errors_off": round((found.lower.value - truth) / found.lower.standard_error, 2),
        "upper_errors_off": round((found.upper.value - truth) / found.upper.standard_error, 2),
        "tight": found.tight,
    }
    if ksg:
        estimate = mm.mutual_information(x, z)
        row["ksg"] = numbers(mm.Estimate(estimate.value, estimate.standard_error))
    return row


def formatted(row: dict[str, Any]) -> str:
    lower, upper = mm.Estimate(*row["lower"]), mm.Estimate(*row["upper"])
    ksg = f"  KSG {mm.Estimate(*row['ksg'])}" if "ksg" in row else ""
    return (
        f"N {row['num_data']:>6} D {row['dimensions']:>2} truth {row['truth']:>4g}: "
        f"lower {lower!s:>16} ({row['lower_errors_off']:+.1f} s.e.)  "
        f"upper {upper!s:>16} ({row['upper_errors_off']:+.1f} s.e.)  gap {row['gap'][0]:8.3f}"
        f"{'  tight' if row['tight'] else ''}{ksg}"
    )


def tight_up_to(rows: list[dict[str, Any]]) -> float:
    """Information at which the gap reaches 0.1 nat, by interpolation."""
    for before, after in itertools.pairwise(rows):
        low, high = before["gap"][0], after["gap"][0]
        if high >= 0.1:
            share = math.log(0.1 / low) / math.log(high / low)
            return float(before["truth"] + share * (after["truth"] - before["truth"]))
    return math.inf


def accuracy(count: int) -> dict[str, Any]:
    rows, reach = [], []
    for number, queries, truths in (
        (count, None, INFORMATION),
        (LARGE, LARGE_QUERIES, LARGE_INFORMATION),
    ):
        for dim in DIMENSIONS:
            of_dim = []
            for truth in truths:
                of_dim.append(measure(number, queries, dim, truth, ksg=number == count))
                print(formatted(of_dim[-1]), flush=True)
            rows += of_dim
            reach.append(
                {
                    "num_data": number,
                    "dimensions": dim,
                    "tight_up_to": round(tight_up_to(of_dim), 2),
                    "half_log_n": round(0.5 * math.log(number), 2),
                }
            )
            print(reach[-1], flush=True)
    return {"processor": processor(), "rows": rows, "tight_up_to": reach}


def plain(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Log Σ_j q(z_i|x_j) up to a constant, one code at a time."""
    log_scale = scale.log().sum(1)
    return torch.stack(
        [
            torch.logsumexp(-0.5 * ((code - loc) / scale).square().sum(1) - log_scale, 0)
            for code in z
        ]
    )


def speed(repeats: int, codes: int = 100) -> dict[str, Any]:
    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(0)
    loc, scale = (torch.randn(LARGE, 80, generator=generator) for _ in range(2))
    times = []
    for share in (0.3, 0.001):
        of_scale = []
        for _ in range(repeats):
            conditional = mm.DiagNormal(loc, share * (1 + scale.square()))
            start = time.perf_counter(), time.process_time()
            mm.bounds_from_conditionals([conditional])
            middle = time.perf_counter(), time.process_time()
            plain(loc[:codes], loc, conditional.scale)
            end = time.perf_counter(), time.process_time()
            of_scale.append(
                (
                    middle[0] - start[0],
                    middle[1] - start[1],
                    (end[0] - middle[0]) * LARGE / codes,
                )
            )
            print(share, [round(each, 1) for each in of_scale[-1]], flush=True)
        wall, own, baseline = (statistics.median(each) for each in zip(*of_scale, strict=True))
        times.append(
            {
                "scale": share,
                "wall_s": round(wall, 1),
                "processor_s": round(own, 1),
                "plain_wall_s_extrapolated": round(baseline, 1),
                "plain_over_library": round(
                    statistics.median(slow / fast for fast, _, slow in of_scale), 1
                ),
            }
        )
    return {
        "num_data": LARGE,
        "dimensions": 80,
        "threads": 2,
        "processor": processor(),
        "baseline": "plain: PyTorch, one code at a time",
        "repeats": repeats,
        "load_at_end": round(os.getloadavg()[0], 1),
        "times": times,
    }


def draw(rows: list[dict[str, Any]], count: int) -> Figure:
    """Plot the bounds and KSG over the truth, one panel per dimension."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained", dpi=150)
    axes = figure.subplots(1, len(DIMENSIONS), sharey=True)
    for axis, dim in zip(axes, DIMENSIONS, strict=True):
        here = [row for row in rows if row["dimensions"] == dim and row["num_data"] == count]
        truth = [row["truth"] for row in here]
        lower, upper, ksg = ([row[name][0] for row in here] for name in ("lower", "upper", "ksg"))
        axis.plot([0, 30], [0, 30], color=GREY, linewidth=0.9, linestyle=(0, (4, 3)), label="truth")
        axis.fill_between(truth, lower, upper, color=BLUE, alpha=0.15, linewidth=0)
        axis.plot(truth, upper, color=BLUE, linewidth=1.4, label="upper bound", linestyle="-.")
        axis.plot(truth, lower, color=BLUE, linewidth=1.8, label="lower bound")
        axis.plot(truth, ksg, color=RED, linewidth=1.4, marker="o", markersize=3, label="KSG")
        axis.axhline(math.log(count), color="black", linewidth=0.7, linestyle=":")
        axis.axvline(0.5 * math.log(count), color="black", linewidth=0.7, linestyle=":")
        axis.text(29.8, math.log(count) + 0.4, "log N", fontsize=8, ha="right")
        axis.text(0.5 * math.log(count) + 0.4, 28.6, "½ log N", fontsize=8)
        axis.set(
            xlim=(0, 30), ylim=(-0.5, 30), title=f"{dim} dimensions", xlabel="true I(x; z) (nats)"
        )
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("estimate (nats)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3, help="repeats of --speed")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    part: dict[str, Any]
    if arguments.speed:
        part = {"speed": speed(arguments.repeats)}
        print(json.dumps(part))
    else:
        part = {"accuracy": accuracy(arguments.count)}
        if arguments.figure is not None:
            arguments.figure.parent.mkdir(parents=True, exist_ok=True)
            draw(part["accuracy"]["rows"], arguments.count).savefig(arguments.figure)
    if arguments.out is not None:
        saved = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({**saved, **part}, indent=1) + "\n")


if __name__ == "__main__":
    main()
