"""Speed of the library beside other libraries and plain PyTorch, on one thread.

Rows, of which `--rows` selects some:

a. a step of a VAE 784-400-20: this library, plain PyTorch, JAX, pythae;
b. a step of one small 2-D MIM, symmetric as in the library: this library, plain PyTorch, JAX;
c. a step of ten of them, together where the way can;
d. a step of ten of 500 units;
e. the first and later trainings of one loss with compiled steps;
f. importance-sampled likelihoods: this library, plain PyTorch, pythae;
g. nearest neighbours: this library, scikit-learn, faiss.

All ways of a row run in turns in one process of its own, after a check that they compute the same:
the loss and its gradient with the same weights and noise, to 1e-4 of the largest number. pythae
computes the VAE's divergence in closed form, and is compared with that. A time is the best of the
rounds, in seconds of the processor. That of a step is the difference of a long and a short
training, divided by the difference of their steps, so it includes neither compiling nor what a
training costs once. Seconds of compiling are those of the first call in excess of later ones, with
an empty cache on the disk. "range" is that of the ratios of the rounds.

    make peers                                                    # environment and all rows
    python benchmarks/peers.py --out results/peers.json           # rows that the file lacks
    python benchmarks/peers.py --out results/peers.json --rows a b
    python benchmarks/peers.py --out results/peers.json --table
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from beside.rows import OTHERS, ROWS, Options, measured
from beside.table import markdown
from machine import load_average

# Of the environment of a row, what makes all libraries use one thread, and a compiler work here.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
}
# They choose the code of another processor for some libraries and not for others.
DROPPED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def environment(cache: str) -> dict[str, str]:
    """Environment of a row, with an empty cache for compiled code."""
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    return {**kept, **ONE_THREAD, "TORCHINDUCTOR_CACHE_DIR": cache}


def in_own_process(key: str, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """A measured row; None if it failed, with its traceback on stderr."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", key, "--repeats", str(arguments.repeats)]
        command += ["--without", *arguments.without, "--out", f"{folder}/row.json"]
        done = subprocess.run(command, env=environment(f"{folder}/cache"), check=False)
        if done.returncode:
            return None
        row: dict[str, Any] = json.loads(Path(folder, "row.json").read_text())
        return row


def on_one_core() -> None:
    """Keep this process to one core, which limits also threads that no setting limits."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a file, none if there is no file."""
    rows: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    return rows


def with_row(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows in the order of their names, with a new one in the place of an older one."""
    others = [each for each in rows if each["row"] != row["row"]]
    return sorted([*others, row], key=lambda each: str(each["row"]))


def measure_rows(arguments: argparse.Namespace) -> int:
    """Measure rows and store each as it is finished; return how many failed."""
    rows, failed = rows_of(arguments.out), 0
    load = load_average()
    if load is not None and load > 0.5:
        print(f"warning: the load average is {load}; other programs disturb the times", flush=True)
    for key in arguments.rows or [key for key in ROWS if key not in {r["row"] for r in rows}]:
        row = in_own_process(key, arguments)
        if row is None:
            print(f"row {key} failed", flush=True)
            failed += 1
            continue
        rows = with_row(rows, row)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"command": "python benchmarks/peers.py", "rows": rows}, indent=1)
        arguments.out.write_text(text + "\n")
        print(markdown([row]), flush=True)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, help="by default those not in the file")
    parser.add_argument("--repeats", type=int, default=5, help="number of rounds")
    parser.add_argument("--without", nargs="*", choices=OTHERS, default=[], help="libraries")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of finished rows")
    parser.add_argument("--one", choices=ROWS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        on_one_core()
        row = measured(arguments.one, Options(arguments.repeats, frozenset(arguments.without)))
        arguments.out.write_text(json.dumps(row))
        return
    failed = 0 if arguments.table else measure_rows(arguments)
    if rows := rows_of(arguments.out):
        print(markdown(rows))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
