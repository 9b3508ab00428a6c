"""Products of float32 matrices by oneDNN beside those by MKL, torch's default on a CPU.

For products of several sizes it prints microseconds by both, the ratio, and the largest relative
error beside double precision. `mimachine._support.products` takes oneDNN for products that are
large enough for it to pay.

    OMP_NUM_THREADS=1 python benchmarks/products.py --out results/products.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from machine import matmul_precision, processor

# Rows, inner length and columns.
SHAPES = (
    *((128, 2, 20), (128, 64, 64), (128, 64, 300), (128, 128, 128), (256, 128, 128)),
    *((128, 300, 300), (128, 784, 400), (128, 500, 500), (2000, 20, 400), (5000, 40, 300)),
)


def seconds(a: torch.Tensor, b: torch.Tensor, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        a @ b
    return (time.perf_counter() - start) / repeats


def measured(shape: tuple[int, int, int], rounds: int = 15) -> dict[str, object]:
    """Best times of both libraries in turns."""
    rows, inner, columns = shape
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    exact = a.double() @ b.double()
    repeats = max(1, int(2e7 / (rows * inner * columns)) + 1)
    row: dict[str, object] = {"shape": shape, "millions": rows * inner * columns / 1e6}
    times: dict[str, list[float]] = {"highest": [], "medium": []}
    for _ in range(rounds):
        for precision, found in times.items():
            with matmul_precision(precision):
                found.append(seconds(a, b, repeats))
                error = ((a @ b).double() - exact).abs().max() / exact.abs().max()
            row[f"error_{precision}"] = float(error)
    for precision, found in times.items():
        row[f"microseconds_{precision}"] = round(1e6 * min(found), 2)
    row["ratio"] = round(min(times["medium"]) / min(times["highest"]), 3)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = [measured(shape) for shape in SHAPES]
    found = {"processor": processor(), "threads": torch.get_num_threads(), "rows": rows}
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
