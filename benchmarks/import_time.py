"""Processor time of imports and of whole commands, in fresh interpreters of one thread.

python benchmarks/import_time.py

Commands are those that users wait for: their work is short, so that most of the time is loading.
The table has 100,000 rows of 30 columns on a curved surface of 4 dimensions.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CASES = {
    "python alone": ["-c", "pass"],
    "import mimachine": ["-c", "import mimachine"],
    "import torch": ["-c", "import torch"],
    "from mimachine import Joint, fit": ["-c", "from mimachine import Joint, fit"],
    "all public names": ["-c", "from mimachine import *"],
    "mimachine --help": ["-m", "mimachine.cli", "--help"],
    "mimachine train --help": ["-m", "mimachine.cli", "train", "--help"],
}
EPOCH = ["--training.epochs", "1", "--training.warmup.epochs", "0"]
# Each writes a file or directory that is removed before the next repeat.
COMMANDS = {
    "mimachine train digits, 1 epoch": (["train", "digits", *EPOCH], "again"),
    "mimachine embed of that run": (["embed", "digits"], "codes.csv"),
    "mimachine train TABLE, 1 epoch": (["train", "table.csv", *EPOCH], "again"),
}


def table(rows: int = 100_000, columns: int = 30) -> np.ndarray:
    """Values of a table."""
    random = np.random.default_rng(0)
    angles = random.normal(size=(rows, 4)) @ random.normal(size=(4, columns))
    return np.sin(angles) + 0.1 * random.normal(size=(rows, columns))


def seconds(arguments: list[str], folder: str) -> float:
    """Processor time of an interpreter, in user mode."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def show(name: str, times: list[float]) -> None:
    median = statistics.median(times)
    print(f"{name:<36} median {median:.3f} s, best {min(times):.3f} s", flush=True)


def remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in CASES.items():
            show(name, [seconds(arguments, folder) for _ in range(repeats)])
        values = table()
        names = ",".join(f"c{column}" for column in range(values.shape[1]))
        np.savetxt(f"{folder}/table.csv", values, "%.4f", ",", header=names, comments="")
        run = ["-m", "mimachine", "train", "digits", *EPOCH, "--no-report", "--out", "digits"]
        seconds(run, folder)
        for name, (command, out) in COMMANDS.items():
            times = []
            for _ in range(repeats):
                remove(Path(folder, out))
                times.append(seconds(["-m", "mimachine", *command, "--out", out], folder))
            show(name, times)


if __name__ == "__main__":
    main()
