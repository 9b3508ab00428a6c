"""Print results and write result files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mimachine._support.files import save_figure
from mimachine._support.messages import quoted, visible
from mimachine._support.streams import is_terminal, unfiltered
from mimachine.cli.apply_options import Embed, Impute, Reconstruct, Sample, Score
from mimachine.cli.options import Compare, Refit, Report, Reproduce, Resume, ResumeComparison, Train
from mimachine.experiment.settings import flat

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.table import Table

    from mimachine.estimation.tables.held_out import HeldOut
    from mimachine.evaluation.metric import Report as EvaluationReport
    from mimachine.reporting.comparison import Comparison
    from mimachine.training.fit import History
    from mimachine.workflow.destinations import Destination
    from mimachine.workflow.export_results import Columns
    from mimachine.workflow.load_run import Trained


def say(
    command: Train | Resume | Compare | ResumeComparison | Refit | Report | Reproduce, text: str
) -> None:
    """Print a progress message; with --json to standard error, apart from the JSON."""
    print_line(text, errors=command.json)


def print_line(text: str, errors: bool = False) -> None:
    """Print text in one line; line breaks in names are shown as escapes."""
    print(visible(text), file=sys.stderr if errors else sys.stdout, flush=True)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1))


def print_reports(reports: dict[str, EvaluationReport]) -> None:
    """Print a table of metrics, one column per report, followed by verdicts and notes.

    Reports that do not fit the width of the output are in further tables.
    """
    console = _console()
    for names in _fitting(reports, console):
        console.print(_table({name: reports[name] for name in names}))
    if any(metric.flagged for report in reports.values() for metric in report.metrics):
        console.print("† unreliable, see notes")
    for name, report in reports.items():
        console.print(visible(f"{name}: {report.verdict}. {report.advice}"), soft_wrap=True)
        for metric in report.metrics:
            for note in metric.notes:
                line = visible(f"  {metric.name}: {note}")
                console.print(line, soft_wrap=True, highlight=False)


def _fitting(reports: dict[str, EvaluationReport], console: Console) -> Iterator[list[str]]:
    """Names of reports, as many at a time as fit the console's width."""
    unlimited, names = console.options.update(width=10_000), list[str]()
    for name in reports:
        wider = _table({each: reports[each] for each in (*names, name)})
        if names and console.measure(wider, options=unlimited).maximum > console.width:
            yield names
            names = []
        names.append(name)
    yield names


def _table(reports: dict[str, EvaluationReport]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("metric (mean or sample of z)")
    for name in reports:
        table.add_column(visible(name), justify="right")
    table.add_column("unit")
    metrics = {metric.name: metric for report in reports.values() for metric in report.metrics}
    for metric in metrics.values():
        values = [r[metric.name].marked if r.has(metric.name) else "" for r in reports.values()]
        label = metric.name.removesuffix("_sampled")
        table.add_row(visible(f"{label} ({metric.latent})"), *values, visible(metric.unit))
    table.add_row("verdict", *(visible(report.verdict) for report in reports.values()), "")
    return table


def _console() -> Console:
    """Standard output with colours on a terminal; brackets in names are no markup."""
    from rich.console import Console

    return Console(
        file=unfiltered(sys.stdout),
        width=None if is_terminal(sys.stdout) else 120,
        markup=False,
        emoji=False,
    )


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
    from mimachine.training.convergence import Convergence

    path = trained.run.path
    # What is fitted in closed form has a single record.
    found = history.convergence if len(history.epochs) > 1 else None
    if command.json:
        judged = asdict(found) if isinstance(found, Convergence) else None
        results = trained.run.read_json("report.json")
        print_json({"run": str(path), **results, "convergence": judged})
        return
    ending = "stopped early" if history.stopped_early else "all epochs done"
    print_line(f"best epoch {history.best_epoch} of {len(history.epochs)} ({ending})")
    if isinstance(found, Convergence):
        print_line(f"training: {found.verdict} ({found.reason})")
    print_reports({trained.experiment.objective: report})
    if page is not None:
        print_line(f"report: {page}")
    print_line(f"next: mimachine sample {quoted(path)}    mimachine embed {quoted(path)}")


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


def print_inspection(found: dict[str, Any]) -> None:
    """Print what `inspect` found in a run directory."""
    for name, value in flat(found["experiment"]).items():
        print_line(f"{name:<32} {value}")
    for name, value in (found["data"] or {}).items():
        print_line(f"{'data: ' + name:<32} {value}")
    state = "finished" if found["finished"] else f"unfinished, resume with: {found['resume']}"
    print_line(f"{found['epochs']} epochs, best {found['best_epoch']}; {state}")
    print_line(f"{found['num_weights']:,} weights in {len(found['weights'])} tensors")
    if found["refit"] is not None:
        refitted = found["refit"]
        print_line(
            f"prior fitted after training ({refitted['kind']}) to the codes of {refitted['run']}"
        )
    if found["report"] is not None:
        for metric in found["report"]["metrics"]:
            value = "not finite" if metric["value"] is None else f"{metric['value']:.5g}"
            print_line(f"{metric['name']:<32} {value} {metric['unit']}")
        print_line(f"verdict: {found['report']['verdict']}")


def print_data_sets(files: Sequence[dict[str, str | None]]) -> None:
    """Print the names of the data sets and the paths of their files."""
    print("digits, mixture-2d, mixture-20d: built in")
    print("pca-fashion-mnist, pca-fashion-mnist-published: computed from fashion-mnist")
    for entry in files:
        path = entry["path"] or "not found, downloaded on first use"
        print_line(f"{entry['data']:<15} {entry['file']:<32} {path}")


def write_arrays(
    command: Embed | Reconstruct | Sample,
    destination: Destination,
    arrays: dict[str, Any],
    table: Columns,
    picture: Any = None,
) -> None:
    """Write a result file, and a picture next to it if there is one, and print their paths."""
    from mimachine.workflow.export_results import write_results

    file, outputs = destination.file, destination.outputs
    written = {"file": str(file)}
    if picture is not None:
        written["picture"] = str(destination.picture)
        # Both or none: another process may have written the picture's file meanwhile.
        outputs.check(destination.picture)
    write_results(file, arrays, table, outputs=outputs)
    if picture is not None:
        save_figure(picture, destination.picture, outputs.replacing)
    if command.json:
        shapes = {key: list(value.shape) for key, value in arrays.items()}
        print_json({**written, "shapes": shapes})
        return
    shapes_text = ", ".join(f"{key} {tuple(value.shape)}" for key, value in arrays.items())
    if file.suffix == ".csv":
        shapes_text = f"{len(table.parts[0])} rows, {len(table.names)} columns"
    print_line(f"wrote {file}: {shapes_text}")
    if picture is not None:
        print_line(f"picture: {written['picture']}")


def write_rows(
    command: Reconstruct | Sample | Score | Impute,
    destination: Destination,
    table: pl.DataFrame,
    notes: Sequence[str] = (),
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write a table, and print its path and size, with --json as JSON; notes on standard error."""
    from mimachine.workflow.export_results import write_table

    write_table(destination.file, table, destination.outputs)
    for note in notes:
        print_line(note, errors=True)
    size = {"rows": table.height, "columns": table.width}
    if command.json:
        print_json({"file": str(destination.file), **more, **size})
    else:
        print_line(f"wrote {destination.file}: {table.height} rows, {table.width} columns")


def print_imputation(found: HeldOut, names: Sequence[str], filled: int, entries: Path) -> None:
    """Print how many values were filled in, and how well known ones are, by column."""
    from rich.table import Table

    print_line(f"filled in {filled:,} values, each in {entries}")
    table = Table(box=None, pad_edge=False, title_justify="left")
    headings = ("column", "hidden", "RMSE / std", f"in {found.level:.0%} intervals", "right")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left")
    for each in found.columns:
        cells = (each.rmse, each.coverage, each.accuracy)
        texts = ["" if cell is None else str(cell) for cell in cells]
        table.add_row(visible(names[each.column]), str(each.entries), *texts)
    print_line(f"known values of {found.rows:,} test rows, a tenth hidden at random and filled in:")
    _console().print(table)
    if found.flagged > 0:
        print_line(f"{found.flagged:.0%} of these rows are flagged: few effective draws")
