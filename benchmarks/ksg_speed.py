"""Time of `mutual_information` against KSG-1 written down with SciPy's KD-trees.

The baseline is a query for the k-th neighbour in (x, z) and a count within it in x and in z. It
gives the value alone; `mutual_information` also gives the value of half of the rows and a standard
error, and both values must be equal. Both run in this process, in turns, with the same number of
threads; the ratio is the median over repeats of time(baseline) / time(library). With one thread
times are the process's own processor time, which other programs on the machine disturb least; with
more they are wall-clock times.

`trees_over_ranks` is the median of the library's time with trees in place of ranks for counts in
one and two dimensions, over its time.

    python benchmarks/ksg_speed.py --out results/ksg-speed.json
    python benchmarks/ksg_speed.py --threads 2

`--crossover` measures instead up to how many dimensions trees are faster than pairs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import scipy
import torch
from machine import processor
from scipy.spatial import cKDTree
from scipy.special import digamma

import mimachine as mm
from mimachine.estimation.information import ksg_neighbours
from mimachine.estimation.information.ksg_neighbours import CoarsePairs, Rows, TreeRows

K = 5


def correlated(count: int, x_dims: int, z_dims: int, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians whose first columns are correlated in pairs."""
    generator = np.random.default_rng(0)
    x, z = generator.normal(size=(count, x_dims)), generator.normal(size=(count, z_dims))
    both = min(x_dims, z_dims)
    z[:, :both] = rho * x[:, :both] + math.sqrt(1 - rho**2) * z[:, :both]
    return x, z


def scipy_ksg1(x: np.ndarray, z: np.ndarray, threads: int) -> float:
    joint = np.hstack([x, z])
    radius = cKDTree(joint).query(joint, K + 1, p=np.inf, workers=threads)[0][:, -1]
    strictly = np.nextafter(radius, 0)
    # Each count has the point itself, the one that the formula adds.
    n_x, n_z = (
        cKDTree(points).query_ball_point(
            points, strictly, p=np.inf, return_length=True, workers=threads
        )
        for points in (x, z)
    )
    return float(digamma(K) + digamma(len(x)) - np.mean(digamma(n_x) + digamma(n_z)))


def timed(work: Callable[[], object], threads: int) -> float:
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    work()
    return clock() - start


def compare(count: int, dims: tuple[int, int], rho: float, repeats: int, threads: int) -> dict:
    x, z = correlated(count, *dims, rho)
    assert abs(float(mm.mutual_information(x, z, K)) - scipy_ksg1(x, z, threads)) < 1e-9
    first = partial(mm.mutual_information, x, z, K)
    second = partial(mm.mutual_information, x, z, K, estimator="ksg2")
    times = []
    for _ in range(repeats):
        times.append({"ksg1": timed(first, threads), "ksg2": timed(second, threads)})
        with patch.object(ksg_neighbours, "_others_within", count_by_tree):
            times[-1] |= {
                "ksg1_trees": timed(first, threads),
                "ksg2_trees": timed(second, threads),
            }
        times[-1]["scipy"] = timed(lambda: scipy_ksg1(x, z, threads), threads)
    medians = {name: statistics.median(t[name] for t in times) for name in times[0]}
    ratios = [t["scipy"] / t["ksg1"] for t in times]
    return {
        "count": count,
        "dimensions": list(dims),
        "rho": rho,
        "ksg1_s": round(medians["ksg1"], 3),
        "ksg2_s": round(medians["ksg2"], 3),
        "scipy_ksg1_s": round(medians["scipy"], 3),
        "scipy_over_library": round(statistics.median(ratios), 2),
        "scipy_over_library_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "trees_over_ranks": {
            name: round(statistics.median(t[f"{name}_trees"] / t[name] for t in times), 2)
            for name in ("ksg1", "ksg2")
        },
    }


def count_by_tree(points: np.ndarray, distance: np.ndarray) -> np.ndarray:
    return ksg_neighbours._in_balls(cKDTree(points), points, distance)


def count_near(rows: Rows) -> None:
    radius = rows.nearest(K).radius
    rows.x_within(radius)
    rows.z_within(radius)


def by_trees(x: np.ndarray, z: np.ndarray) -> None:
    count_near(TreeRows(x, z))


def by_pairs(x: np.ndarray, z: np.ndarray) -> None:
    size = max(1, 2**18 // len(x))
    pairs = CoarsePairs(x, z, float(max(np.ptp(x, 0).max(), np.ptp(z, 0).max())), size)
    for start in range(0, len(x), size):
        count_near(pairs.rows(slice(start, min(start + size, len(x)))))


def crossover(repeats: int) -> None:
    print("median of time(trees) / time(pairs) on one thread, rho = 0.6")
    for count in (1_000, 3_000, 10_000, 30_000):
        for dims in ((1, 1), (2, 2), (3, 1), (3, 2), (3, 3), (4, 4), (5, 5)):
            x, z = correlated(count, *dims, 0.6)
            by = [partial(way, x, z) for way in (by_trees, by_pairs)]
            ratio = statistics.median(timed(by[0], 1) / timed(by[1], 1) for _ in range(repeats))
            print(f"{count:>6} points, {dims[0]} + {dims[1]} dimensions: {ratio:5.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rho", type=float, default=0.6)
    parser.add_argument("--crossover", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.crossover:
        torch.set_num_threads(1)
        crossover(arguments.repeats)
        return
    rows = []
    for dims in (
        (1, 1),
        (2, 1),
        (2, 2),
        (3, 3),
        (5, 5),
        (10, 10),
        (20, 2),
        (20, 5),
        (20, 10),
        (20, 20),
    ):
        rows.append(
            compare(arguments.count, dims, arguments.rho, arguments.repeats, arguments.threads)
        )
        row = rows[-1]
        print(
            f"{dims[0]:>2} + {dims[1]:>2} dimensions: KSG-1 {row['ksg1_s']:6.3f} s, KSG-2 "
            f"{row['ksg2_s']:6.3f} s, SciPy's trees {row['scipy_ksg1_s']:7.3f} s, SciPy / KSG-1 "
            f"{row['scipy_over_library']:5.1f} {row['scipy_over_library_range']}",
            flush=True,
        )
    if arguments.out is not None:
        machine = {
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "threads": arguments.threads,
            "processor": processor(),
            "clock": "processor" if arguments.threads == 1 else "wall",
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
