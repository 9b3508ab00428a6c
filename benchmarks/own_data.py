"""Time and memory of training commands on large user files.

    python benchmarks/own_data.py [--folder DIR]

Writes a table of 100,000 × 30 numbers as .csv, an array of 1 GB as .npy and a folder of 2,000
colour PNGs of 64 × 64, trains on each for one or three epochs, and prints seconds and peak resident
memory of the process. Training and evaluation take most of the time; for the table, the time of
reading alone is printed too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ONE_EPOCH = ("--training.epochs", "1", "--training.warmup.epochs", "1")


def table(folder: Path) -> Path:
    file = folder / "table.csv"
    values = np.random.default_rng(0).normal(size=(100_000, 30))
    names = ",".join(f"c{i}" for i in range(30))
    np.savetxt(file, values, delimiter=",", header=names, comments="")
    return file


def array(folder: Path) -> Path:
    """2.5 million rows of 100 columns, a nonlinear function of ten latent dimensions."""
    file, rng = folder / "array.npy", np.random.default_rng(0)
    mixing = rng.normal(size=(10, 100)).astype(np.float32)
    values = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(2_500_000, 100))
    for start in range(0, len(values), 50_000):
        hidden = rng.normal(size=(50_000, 10)).astype(np.float32)
        noise = rng.normal(size=(50_000, 100))
        values[start : start + 50_000] = np.tanh(hidden @ mixing) + 0.05 * noise
    values.flush()
    return file


def images(folder: Path) -> Path:
    """Images of discs of random position, size and colour."""
    directory, rng = folder / "images", np.random.default_rng(0)
    directory.mkdir()
    y, x = np.mgrid[:64, :64]
    for number in range(2000):
        centre, radius = rng.uniform(10, 54, 2), rng.uniform(5, 20)
        disc = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2)[..., None]
        pixels = disc * rng.uniform(50, 255, 3) + rng.integers(0, 9, (64, 64, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(directory / f"{number}.png")
    return directory


def measured(*command: object) -> str:
    """Seconds and peak memory of a command in a separate process."""
    # RUSAGE_CHILDREN is the maximum over all children so far, so each command has its own parent.
    code = (
        "import resource, subprocess, sys, time; start = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024;"
        "print(f'{time.perf_counter() - start:.1f} s, {peak:.0f} MiB')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)],
        check=True,
        capture_output=True,
        text=True,
    )
    return run.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="directory for the data, 1.2 GB")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory(dir=given) as name:
        folder = Path(name)
        python = (sys.executable, "-c")
        train = (sys.executable, "-m", "mimachine.cli", "train")
        print("importing torch and all:", measured(*python, "import mimachine.workflow"))
        file = table(folder)
        read = f"import mimachine.data.files.read_table as t; t.read_table({str(file)!r})"
        print("reading 100,000 × 30 of .csv:", measured(*python, read))
        numbers = ("--model.likelihood", "gaussian", "--model.encoder-floor", "0.1")
        done = measured(*train, file, *numbers, *ONE_EPOCH, "--out", folder / "1")
        print("  and training for 1 epoch:", done)
        three = ("--training.epochs", "3", "--training.warmup.epochs", "1")
        done = measured(*train, images(folder), *three, "--out", folder / "2")
        print("2,000 PNGs, 3 epochs:", done)
        large = (*ONE_EPOCH, "--training.batch-size", "1024")
        done = measured(*train, array(folder), *large, "--out", folder / "3")
        print("1 GB .npy, 1 epoch:", done)


if __name__ == "__main__":
    main()
