"""Output: what commands print and write."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from mimachine.cli.options import (
    Compare,
    Embed,
    Reconstruct,
    Refit,
    Reproduce,
    Resume,
    Sample,
    Train,
)

if TYPE_CHECKING:
    from mimachine.data.dataset import Dataset
    from mimachine.evaluation.metric import Report as EvaluationReport
    from mimachine.workflow.apply_run import Drawn
    from mimachine.workflow.export_results import Columns


def restored(data: Dataset, drawn: Drawn) -> dict[str, Any]:
    """What was drawn, in the units of the data; without means where they have no closed form."""
    arrays: dict[str, Any] = {} if drawn.mean is None else {"mean": data.restore(drawn.mean)}
    return {**arrays, "sample": data.restore(drawn.x, drawn=True), "z": drawn.z.numpy()}


# --- output --------------------------------------------------------------------------------------


def say(command: Train | Resume | Compare | Refit | Reproduce, text: str) -> None:
    """Print progress; with --json to standard error, which leaves standard output to the JSON."""
    print(text, file=sys.stderr if command.json else sys.stdout, flush=True)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1))


def print_reports(reports: dict[str, EvaluationReport]) -> None:
    """A table of metrics, a column for each report, with what they mean below."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("metric (z: mean or sample)")
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
        console.print("† not to be trusted as a number; the notes say why")
    for name, report in reports.items():
        console.print(f"{name}: {report.verdict}. {report.advice}", soft_wrap=True)
        for metric in report.metrics:
            for note in metric.notes:
                console.print(f"  {metric.name}: {note}", soft_wrap=True, highlight=False)


def check_out(command: Embed | Reconstruct, trained_on: str) -> None:
    """See that results do not take the place of data."""
    if command.out is None:
        return
    for data in (command.data or trained_on, trained_on):
        both = os.path.exists(data) and os.path.exists(command.out)
        if both and os.path.samefile(data, command.out):
            raise ValueError(f"out must be another file than the data, got {command.out}")


def write_arrays(
    command: Embed | Reconstruct | Sample,
    name: str,
    arrays: dict[str, Any],
    table: Columns,
    picture: Any = None,
) -> None:
    """Write a file of results, and a picture beside it where there is one; say where they are."""
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
        shapes_text = f"{len(table.parts[0])} rows of {len(table.names)} columns"
    print(f"wrote {file}: {shapes_text}")
    if picture is not None:
        print(f"picture: {written['picture']}")
