"""Time of the nearest neighbours of `mimachine.estimation.codes.nearest` against plain searches.

The alternatives are scikit-learn's brute-force `NearestNeighbors`, and `torch.cdist` with `topk` by
blocks of queries, in float32 and in float64. All run in this process, in turns, with one thread
each; a ratio is the median over repeats of time(alternative) / time(library). With one thread times
are the process's own processor time, on a GPU the clock's. `wrong` counts the queries, of 200,
whose neighbours are not those of all pairs in float64, compared by differences, the smaller index
first among ties. It is measured for normal codes, for the same with an offset of 10,000, which
costs expanded squares their digits, and for their signs, which have many ties.

    python benchmarks/knn_speed.py --out results/knn-speed.json
    python benchmarks/knn_speed.py --device cuda
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import sklearn
import torch
from machine import processor
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from mimachine.estimation.codes.nearest import nearest

K, CHECKED = 10, 200
CODES = {
    "normal": lambda codes: codes,
    "with_offset": lambda codes: codes + 1e4,
    "signs": lambda codes: codes.sign(),
}


def by_library(points: Tensor, queries: Tensor) -> Tensor:
    return nearest(points, queries, K)


def by_scikit_learn(points: Tensor, queries: Tensor) -> Tensor:
    search = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(points.numpy())
    return torch.from_numpy(search.kneighbors(queries.numpy(), return_distance=False))


def by_cdist(points: Tensor, queries: Tensor) -> Tensor:
    blocks = queries.split(256)
    return torch.cat([torch.cdist(b, points).topk(K, largest=False).indices for b in blocks])


def by_float64_cdist(points: Tensor, queries: Tensor) -> Tensor:
    return by_cdist(points.double(), queries.double())


def by_differences(points: Tensor, queries: Tensor) -> Tensor:
    points, queries = points.double(), queries.double()
    squares = torch.stack([(points - q).square().sum(1) for q in queries])
    return squares.sort(dim=1, stable=True).indices[:, :K]


def timed(work: Callable[[], object], device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def compare(count: int, queries: int, dims: int, repeats: int, device: str) -> dict:
    generator = torch.Generator().manual_seed(0)
    points, asked = (torch.randn(n, dims, generator=generator).to(device) for n in (count, queries))
    ways = {"library": by_library}
    if device == "cpu":
        ways["scikit_learn"] = by_scikit_learn
    ways |= {"cdist_float32": by_cdist, "cdist_float64": by_float64_cdist}
    times = [
        {name: timed(lambda way=way: way(points, asked), device) for name, way in ways.items()}
        for _ in range(repeats)
    ]
    wrong = {name: {} for name in ways}
    for codes, change in CODES.items():
        given = change(points), change(asked[:CHECKED])
        expected = by_differences(*given)
        for name, way in ways.items():
            wrong[name][codes] = int((way(*given) != expected).any(1).sum())
    row: dict = {"points": count, "queries": queries, "dimensions": dims}
    row["library_s"] = round(statistics.median(t["library"] for t in times), 3)
    for name in ways:
        ratios = [t[name] / t["library"] for t in times]
        row[name] = {
            "over_library": round(statistics.median(ratios), 2),
            "range": [round(min(ratios), 2), round(max(ratios), 2)],
            "wrong": wrong[name],
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=60_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for dims in (2, 10, 80, 784):
        queries = arguments.queries if dims < 100 else arguments.queries // 5
        rows.append(compare(arguments.points, queries, dims, arguments.repeats, arguments.device))
        print(json.dumps(rows[-1]), flush=True)
    if arguments.out is not None:
        machine = {
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "processor": processor() if arguments.device == "cpu" else arguments.device,
            "threads": 1,
            "k": K,
        }
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
