"""Time and memory of reading data, against another checkout of the package.

    python benchmarks/reading_speed.py --other CHECKOUT [--rounds 5] [--out FILE]

Writes tables and images in a temporary folder and reads each with `load_file`, in a process of its
own, alternately by this checkout and by the other one. Prints the median of the ratios of processor
time and of peak memory, this over the other.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import processor
from PIL import Image

HERE = Path(__file__).resolve().parents[1]
READ = """
import resource, sys, time
from mimachine.data.files.load import load_file
start = time.process_time()
load_file(sys.argv[1], likelihood="numbers")
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def numbers(rows: int = 200_000, columns: int = 20) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, columns))


def write_csv(path: Path, values: np.ndarray, form: str) -> None:
    names = ",".join(f"c{i}" for i in range(values.shape[1]))
    np.savetxt(path, values, delimiter=",", header=names, comments="", fmt=form)


def write_images(path: Path) -> None:
    path.mkdir()
    generator = np.random.default_rng(0)
    for number in range(4000):
        pixels = generator.integers(0, 256, (32, 32)).astype(np.uint8)
        Image.fromarray(pixels).save(path / f"{number}.png")


def write_parquet(path: Path, values: np.ndarray) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {f"c{i}": values[:, i] for i in range(values.shape[1])}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


CONTENTS: dict[str, Callable[[Path], None]] = {
    "numbers.csv": lambda path: write_csv(path, numbers(), "%.17g"),
    "prices.csv": lambda path: write_csv(path, 100 * numbers(), "%.2f"),
    "counts.csv": lambda path: write_csv(path, np.rint(100 * numbers()), "%d"),
    "numbers.csv.gz": lambda path: path.write_bytes(
        gzip.compress(path.with_name("numbers.csv").read_bytes(), 1)
    ),
    "numbers.npy": lambda path: np.save(path, numbers(2_000_000).astype(np.float32)),
    "counts.npy": lambda path: np.save(path, np.rint(100 * numbers(1_000_000)).astype(np.int64)),
    "numbers.npz": lambda path: np.savez(path, x=numbers(1_000_000)),
    "numbers.parquet": lambda path: write_parquet(path, numbers(1_000_000)),
    "images": write_images,
}


def read(checkout: Path, path: Path) -> tuple[float, float]:
    """Seconds of the processor and peak memory in MiB."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, cwd=path.parent
    )
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def compared(path: Path, other: Path, rounds: int) -> dict[str, float]:
    pairs = []
    for number in range(rounds):
        # The first of two finds other free memory than the second.
        order = (HERE, other) if number % 2 else (other, HERE)
        measured = {checkout: read(checkout, path) for checkout in order}
        pairs.append((measured[HERE], measured[other]))
    return {
        "seconds": round(statistics.median(own[0] for own, _ in pairs), 3),
        "seconds_ratio": round(statistics.median(own[0] / old[0] for own, old in pairs), 3),
        "mib": round(statistics.median(own[1] for own, _ in pairs)),
        "mib_ratio": round(statistics.median(own[1] / old[1] for own, old in pairs), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, write in CONTENTS.items():
            write(Path(folder) / name)
            found[name] = compared(Path(folder) / name, options.other.resolve(), options.rounds)
            print(name, found[name], flush=True)
    if options.out is not None:
        command = "python benchmarks/reading_speed.py --other CHECKOUT"
        about = {"command": command, "processor": processor(), "rounds": options.rounds}
        options.out.write_text(json.dumps({**about, "found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
