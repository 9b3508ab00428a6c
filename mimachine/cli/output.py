"""Print results and write result files."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimachine._support.messages import quoted
from mimachine.cli.options import (
    Compare,
    Embed,
    Reconstruct,
    Refit,
    Reproduce,
    Resume,
    ResumeComparison,
    Sample,
    Train,
)
from mimachine.experiment.settings import flat

if TYPE_CHECKING:
    from mimachine.evaluation.metric import Report as EvaluationReport
    from mimachine.reporting.comparison import Comparison
    from mimachine.training.fit import History
    from mimachine.workflow.export_results import Columns
    from mimachine.workflow.load_run import Trained


def say(
    command: Train | Resume | Compare | ResumeComparison | Refit | Reproduce, text: str
) -> None:
    """Print a progress message; with --json to standard error, apart from the JSON."""
    print(text, file=sys.stderr if command.json else sys.stdout, flush=True)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1))


def print_reports(reports: dict[str, EvaluationReport]) -> None:
    """Print a table of metrics, one column per report, followed by verdicts and notes."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("metric (mean or sample of z)")
    for name in reports:
        table.add_column(name, justify="right")
    table.add_column("unit")
    first = next(iter(reports.values()))
    for metric in first.metrics:
        values = [r[metric.name].marked if r.has(metric.name) else "" for r in reports.values()]
        label = metric.name.removesuffix("_sampled")
        table.add_row(f"{label} ({metric.latent})", *values, metric.unit)
    table.add_row("verdict", *(report.verdict for report in reports.values()), "")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    if any(metric.flagged for report in reports.values() for metric in report.metrics):
        console.print("† unreliable, see notes")
    for name, report in reports.items():
        console.print(f"{name}: {report.verdict}. {report.advice}", soft_wrap=True)
        for metric in report.metrics:
            for note in metric.notes:
                console.print(f"  {metric.name}: {note}", soft_wrap=True, highlight=False)


def print_run(
    command: Train | Resume,
    trained: Trained,
    history: History,
    report: EvaluationReport,
    page: Path | None,
) -> None:
    """Print the results of training, and what to do next.

    Args:
        command: The command; with --json everything is printed as JSON.
        trained: The run.
        history: Its epochs.
        report: Its results on the test split.
        page: Its HTML report, if there is one.
    """
    path = trained.run.path
    if command.json:
        print_json({"run": str(path), **trained.run.read_json("report.json")})
        return
    ending = "stopped early" if history.stopped_early else "all epochs done"
    print(f"best epoch {history.best_epoch} of {len(history.epochs)} ({ending})")
    print_reports({trained.experiment.objective: report})
    if page is not None:
        print(f"report: {page}")
    print(f"next: mimachine sample {quoted(path)}    mimachine embed {quoted(path)}")


def print_comparison(
    command: Compare | ResumeComparison, result: Comparison, page: Path | None
) -> None:
    """Print the results of a comparison; with --json everything as JSON."""
    if command.json:
        print_json(result.to_json())
        return
    print_reports(result.reports)
    print(result.summary)
    print("pictures: " + ", ".join(str(picture) for picture in result.pictures))
    if page is not None:
        print(f"report: {page}")


def print_inspection(found: dict[str, Any], run: Path) -> None:
    """Print what `inspect` found in a run directory."""
    for name, value in flat(found["experiment"]).items():
        print(f"{name:<32} {value}")
    for name, value in (found["data"] or {}).items():
        print(f"{'data: ' + name:<32} {value}")
    unfinished = f"unfinished, resume with: mimachine train --resume {quoted(run)}"
    state = "finished" if found["finished"] else unfinished
    print(f"{found['epochs']} epochs, best {found['best_epoch']}; {state}")
    print(f"{found['num_weights']:,} weights in {len(found['weights'])} tensors")
    if found["refit"] is not None:
        refitted = found["refit"]
        print(f"prior fitted after training ({refitted['kind']}) to the codes of {refitted['run']}")
    if found["report"] is not None:
        for metric in found["report"]["metrics"]:
            value = "not finite" if metric["value"] is None else f"{metric['value']:.5g}"
            print(f"{metric['name']:<32} {value} {metric['unit']}")
        print(f"verdict: {found['report']['verdict']}")


def print_data_sets(files: Sequence[dict[str, str | None]]) -> None:
    """Print the names of the data sets and the paths of their files."""
    print("digits, mixture-2d, mixture-20d: built in")
    print("pca-fashion-mnist, pca-fashion-mnist-published: computed from fashion-mnist")
    for entry in files:
        path = entry["path"] or "not found, downloaded on first use"
        print(f"{entry['data']:<15} {entry['file']:<32} {path}")


def write_arrays(
    command: Embed | Reconstruct | Sample,
    name: str,
    arrays: dict[str, Any],
    table: Columns,
    picture: Any = None,
) -> None:
    """Write a result file, and a picture next to it if there is one, and print their paths."""
    from mimachine.workflow.export_results import write_results

    file = command.out or command.run / name
    write_results(file, arrays, table)
    written = {"file": str(file)}
    if picture is not None:
        picture.savefig(file.with_suffix(".png"))
        written["picture"] = str(file.with_suffix(".png"))
    if command.json:
        shapes = {key: list(value.shape) for key, value in arrays.items()}
        print_json({**written, "shapes": shapes})
        return
    shapes_text = ", ".join(f"{key} {tuple(value.shape)}" for key, value in arrays.items())
    if file.suffix == ".csv":
        shapes_text = f"{len(table.parts[0])} rows, {len(table.names)} columns"
    print(f"wrote {file}: {shapes_text}")
    if picture is not None:
        print(f"picture: {written['picture']}")
