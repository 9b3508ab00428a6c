"""Peak memory and time of training on a folder of parquet files of several GB.

    python benchmarks/tables/large.py FOLDER [--rows 8000000] [--out results/large-table.json]

FOLDER is for the table, the run and temporary files. The table has numbers of full precision, a
count, two columns of categories, a date as text and holes, so that its files hardly compress. Time
and memory are those of the process of the command, from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROWS_OF_FILE, NUMBERS = 500_000, 42
TOWNS = ("Aldham", "Brora", "Carrick", "Dunmore", "Easton", "Fowey", "Gosport", "Hythe")


def part(rows: int, seed: int) -> pl.DataFrame:
    """Rows of one file."""
    dice = np.random.default_rng(seed)
    hidden = dice.normal(size=(rows, 3))
    columns: dict[str, Any] = {}
    weights = np.random.default_rng(0).normal(size=(3, NUMBERS))
    for k in range(NUMBERS):
        columns[f"x{k}"] = hidden @ weights[:, k] + dice.normal(size=rows)
    town = dice.integers(0, len(TOWNS), rows)
    days = np.datetime64("2020-01-01") + dice.integers(0, 1500, rows)
    columns["town"] = np.array(TOWNS)[town]
    columns["coast"] = np.where(town % 2, "east", "west")
    columns["visits"] = dice.poisson(np.exp(0.5 * hidden[:, 0]))
    columns["joined"] = pl.Series(days).dt.strftime("%d.%m.%Y")
    hole = pl.Series(dice.random(rows) < 0.1)
    table = pl.DataFrame(columns)
    return table.with_columns(x0=pl.when(hole).then(None).otherwise(pl.col("x0")))


def write(folder: Path, rows: int) -> int:
    """Write the table; returns the size of its files in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, start in enumerate(range(0, rows, ROWS_OF_FILE)):
        file = folder / f"{k:04}.parquet"
        if not file.exists():
            part(min(ROWS_OF_FILE, rows - start), k + 1).write_parquet(file)
    return sum(file.stat().st_size for file in folder.glob("*.parquet"))


def measured(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command; its seconds and its peak of memory in GB."""
    start = time.perf_counter()
    environment = os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "mimachine", *command], env=environment)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "user_seconds": round(used.ru_utime, 1),
        "peak_gb": round(used.ru_maxrss * scale / 1e9, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=8_000_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    size = write(options.folder / "table", options.rows)
    run = options.folder / "run"
    result: dict[str, Any] = {"rows": options.rows, "columns": NUMBERS + 4}
    result["files_gb"] = round(size / 1e9, 3)
    result["memory_gb"] = round(resource.getpagesize() * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    one_epoch = ("--training.epochs", "1", "--training.warmup.epochs", "0", "--no-report")
    sizes = ("--training.batch-size", "4096", "--num-samples", "10")
    command = ["train", str(options.folder / "table"), *one_epoch, *sizes, "--out", str(run)]
    result["train"] = measured(command, options.folder)
    out = str(options.folder / "new.parquet")
    result["sample"] = measured(["sample", str(run), "--num", "1000", "--out", out], options.folder)
    text = json.dumps(result, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
