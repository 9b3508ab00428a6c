"""Time and memory of training on large data of one's own, a whole command each.

    python benchmarks/own_data.py [--folder DIR]

Makes a table of 100,000 × 30 numbers as .csv, an array of 1 GB as .npy and a folder of 2,000 colour
PNGs of 64 × 64, trains on each for an epoch or three, and prints seconds and the largest resident
set of the process. Most of the time is that of training and evaluation, not of reading; for the
table the time of reading alone is printed too.
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
    """Ten latent dimensions seen through a curved map, 2.5 million rows of 100."""
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
    """Discs of random place, size and colour."""
    place, rng = folder / "images", np.random.default_rng(0)
    place.mkdir()
    y, x = np.mgrid[:64, :64]
    for number in range(2000):
        centre, radius = rng.uniform(10, 54, 2), rng.uniform(5, 20)
        disc = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2)[..., None]
        pixels = disc * rng.uniform(50, 255, 3) + rng.integers(0, 9, (64, 64, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number}.png")
    return place


def measured(*command: object) -> str:
    """Seconds and peak memory of a command in a process of its own."""
    # Memory of children is known as the largest of all so far, so each has a parent of its own.
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
    parser.add_argument("--folder", type=Path, help="where to make the data; 1.2 GB")
    given = parser.parse_args().folder
    with tempfile.TemporaryDirectory(dir=given) as name:
        folder = Path(name)
        python = (sys.executable, "-c")
        train = (sys.executable, "-m", "mimachine.cli", "train")
        print("importing torch and all:", measured(*python, "import mimachine.workflow"))
        file = table(folder)
        read = f"import mimachine.tables as t; t.read_table({str(file)!r})"
        print("reading 100,000 × 30 of .csv:", measured(*python, read))
        done = measured(*train, file, *ONE_EPOCH, "--out", folder / "1")
        print("  and training for 1 epoch:", done)
        three = ("--training.epochs", "3", "--training.warmup.epochs", "1")
        done = measured(*train, images(folder), *three, "--out", folder / "2")
        print("2,000 PNGs, 3 epochs:", done)
        large = (*ONE_EPOCH, "--training.batch-size", "1024")
        done = measured(*train, array(folder), *large, "--out", folder / "3")
        print("1 GB .npy, 1 epoch:", done)


if __name__ == "__main__":
    main()
