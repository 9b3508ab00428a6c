"""Time of the exact Euclidean neighbours of `mimachine.euclidean` against plain alternatives.

The alternatives are scikit-learn's `NearestNeighbors` as it is, and `torch.cdist` with `topk`, a
block of queries after the other, in float32 and in float64. All run in this process, in turns, with
one thread each; a ratio is the median over repeats of time(alternative) / time(library). With one
thread times are the process's own processor time, on a GPU the clock's. `wrong` tells how many of
the neighbours that an alternative finds are not those of comparing all pairs in float64, also where
all codes have an offset of 10,000, which costs expanded squares their digits.

    python benchmarks/knn_speed.py --out results/knn-speed.json
    python benchmarks/knn_speed.py --device cuda
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import sklearn
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from mimachine.estimation.codes.nearest import nearest

K = 10


def by_scikit_learn(points: Tensor, queries: Tensor) -> Tensor:
    search = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(points.numpy())
    return torch.from_numpy(search.kneighbors(queries.numpy(), return_distance=False))


def by_cdist(points: Tensor, queries: Tensor) -> Tensor:
    blocks = queries.split(256)
    return torch.cat([torch.cdist(b, points).topk(K, largest=False).indices for b in blocks])


def by_float64_cdist(points: Tensor, queries: Tensor) -> Tensor:
    return by_cdist(points.double(), queries.double())


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
    ways = {"cdist_float32": by_cdist, "cdist_float64": by_float64_cdist}
    if device == "cpu":
        ways = {"scikit_learn": by_scikit_learn, **ways}
    ours, far = nearest(points, asked, K), nearest(points + 1e4, asked[:500] + 1e4, K)
    row: dict = {"points": count, "queries": queries, "dimensions": dims}
    times: list[dict[str, float]] = []
    for _ in range(repeats):
        times.append({"library": timed(lambda: nearest(points, asked, K), device)})
        for name, way in ways.items():
            times[-1][name] = timed(lambda way=way: way(points, asked), device)
    row["library_s"] = round(statistics.median(t["library"] for t in times), 3)
    for name, way in ways.items():
        ratios = [t[name] / t["library"] for t in times]
        row[name] = {
            "over_library": round(statistics.median(ratios), 2),
            "range": [round(min(ratios), 2), round(max(ratios), 2)],
            "wrong": int((way(points, asked) != ours).sum()),
            "wrong_with_offset": int((way(points + 1e4, asked[:500] + 1e4) != far).sum()),
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
            "processor": platform.machine() if arguments.device == "cpu" else arguments.device,
            "threads": 1,
            "k": K,
        }
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
