"""Processor seconds of whole commands, by one checkout or by several in turns.

Commands: one epoch of the digits and the codes of that run; one epoch of a table of 100,000 × 30
numbers; and training by default on tables of scikit-learn, of which `fit` alone is timed, without
evaluation and report. Each command is a process of its own with one thread; user and system seconds
are added, and the best of several rounds counts.

    python benchmarks/commands.py --out results/commands.json
    python benchmarks/commands.py --checkouts before=../other now=. --out results/commands.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from machine import load_average, processor

FITTING = "fit of"
ONE_EPOCH = ("--training.epochs", "1", "--training.warmup.epochs", "0")
TABLES = ("iris", "wine", "diabetes", "breast_cancer", "digits")
COMMAND = "from mimachine.cli import main; import sys; sys.exit(main())"
# The same, but `fit`, wherever it was imported, prints its processor seconds and ends the process.
FIT = """
import os, sys, time
import mimachine as mm
from mimachine import workflow
from mimachine.cli import main
getattr(workflow, "train")
inner = mm.fit
def timed(*args, **kwargs):
    start = time.process_time()
    inner(*args, **kwargs)
    os.write(1, f"SECONDS {time.process_time() - start:.2f}".encode())
    os._exit(0)
for module in list(sys.modules.values()):
    if vars(module).get("fit") is inner:
        module.fit = timed
sys.exit(main())
"""

# Tables of numbers are modelled as arrays, as by versions that know no other columns.
NUMBERS = ("--model.likelihood", "gaussian", "--model.encoder-floor", "0.1")


def big(folder: Path) -> Path:
    """A table of 100,000 rows of 30 columns, a nonlinear function of 8 dimensions and noise."""
    file, rng = folder / "big.csv", np.random.default_rng(0)
    hidden = rng.normal(size=(100_000, 8))
    values = np.tanh(hidden @ rng.normal(size=(8, 30))) + 0.1 * rng.normal(size=(100_000, 30))
    header = ",".join(f"c{i}" for i in range(30))
    np.savetxt(file, values, delimiter=",", header=header, comments="", fmt="%.4f")
    return file


def table(folder: Path, name: str) -> Path:
    """A data set of scikit-learn as a file, without its classes."""
    file = folder / f"{name}.csv"
    frame = getattr(sklearn.datasets, f"load_{name}")(as_frame=True).data
    frame.to_csv(file, index=False)
    return file


def commands(folder: Path) -> dict[str, list[str]]:
    """Arguments of `mimachine`, by the names of the commands; `{out}` is a new directory."""
    found = {
        "train digits, one epoch": ["train", "digits", *ONE_EPOCH, "--out", "{out}"],
        "embed of that run": ["embed", "{before}", "--out", "{out}.csv"],
        "train 100,000 × 30, one epoch": [
            *("train", str(big(folder)), *NUMBERS, *ONE_EPOCH, "--out", "{out}")
        ],
    }
    for name in TABLES:
        file = table(folder, name)
        found[f"{FITTING} {name}.csv"] = ["train", str(file), *NUMBERS, "--out", "{out}"]
    return found


def seconds(checkout: Path, arguments: Sequence[str], fit_alone: bool) -> float:
    """Processor seconds of a command, or of `fit` within it."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    options: Any = {"env": environment, "cwd": checkout, "check": True, "capture_output": True}
    command = [sys.executable, "-c", FIT if fit_alone else COMMAND, *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, **options, text=True)
    if fit_alone:
        return float(done.stdout.split("SECONDS ")[1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measured(checkouts: dict[str, Path], folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Best seconds of each command by each checkout."""
    rows, number = [], 0
    runs: dict[str, str] = {}
    for name, arguments in commands(folder).items():
        found: dict[str, list[float]] = {checkout: [] for checkout in checkouts}
        for _ in range(repeats):
            for checkout, path in checkouts.items():
                number += 1
                out = str(folder / f"run{number}")
                filled = [a.format(out=out, before=runs.get(checkout, "")) for a in arguments]
                spent = seconds(path, filled, name.startswith(FITTING))
                found[checkout].append(round(spent, 2))
                runs.setdefault(checkout, out)
        best = {checkout: min(values) for checkout, values in found.items()}
        print(name, best, flush=True)
        rows.append(
            {"command": name, **{f"{checkout}_s": value for checkout, value in best.items()}}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkouts", nargs="+", default=["now=."], help="NAME=FOLDER")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    checkouts = {
        name: Path(path) for name, path in (each.split("=", 1) for each in arguments.checkouts)
    }
    load = load_average()
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(checkouts, Path(folder), arguments.repeats)
    found = {"processor": processor(), "load_average_at_start": load, "rows": rows}
    arguments.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
