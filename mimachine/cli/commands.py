"""The commands: one function per command, which parses its own arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mimachine._support.files import save_figure
from mimachine._support.messages import quoted, some, unknown
from mimachine._support.outputs import Outputs
from mimachine.cli import apply_commands
from mimachine.cli.interruption import (
    comparison_hint,
    interruptible,
    refit_hint,
    resume_hint,
    typed,
)
from mimachine.cli.options import (
    Compare,
    Data,
    Diagnose,
    Evaluate,
    Inspect,
    Refit,
    Report,
    Reproduce,
    Resume,
    ResumeComparison,
    Table,
    Train,
)
from mimachine.cli.output import (
    print_comparison,
    print_data_sets,
    print_inspection,
    print_json,
    print_line,
    print_reports,
    print_run,
    say,
)
from mimachine.cli.parsing import (
    compared,
    data_name,
    experiment_of,
    is_resumed,
    output_directory,
    parse,
    parse_trainer,
)
from mimachine.experiment.presets import BASELINES

if TYPE_CHECKING:
    from mimachine.workflow.load_run import Trained
    from mimachine.workflow.refit_run import Refitted


def _train(arguments: list[str]) -> None:
    if is_resumed(arguments):
        _resume(arguments)
        return
    command = parse_trainer(Train, arguments)
    settings = experiment_of(command, command.objective)
    from mimachine import workflow

    name = f"{data_name(command)}-{settings.objective}"
    with output_directory(command.out, name) as out, interruptible(lambda: resume_hint(out)):
        done = workflow.train(
            settings,
            out,
            say=lambda text: say(command, text),
            checkpoint_seconds=command.checkpoint_seconds,
            log=command.log,
            then=lambda trained: _write_report(command, trained),
        )
    print_run(command, *done, _page(command, done[0].run.path))


def _resume(arguments: list[str]) -> None:
    command = parse(Resume, arguments)
    from mimachine import workflow

    path = command.resume
    if command.branch is not None:
        path = workflow.branch(path, command.branch).path
    with interruptible(lambda: resume_hint(path, command.data)):
        done = workflow.resume(
            path,
            data=command.data,
            say=lambda text: say(command, text),
            checkpoint_seconds=command.checkpoint_seconds,
            log=command.log,
            then=lambda trained: _write_report(command, trained),
        )
    print_run(command, *done, _page(command, done[0].run.path))


def _compare(arguments: list[str]) -> None:
    if is_resumed(arguments):
        _resume_comparison(arguments)
        return
    command = parse_trainer(Compare, arguments)
    if len(set(command.objectives)) < len(command.objectives) or not command.objectives:
        raise ValueError(f"objectives must be different names, got {command.objectives}")
    experiments = {
        name: experiment_of(parse_trainer(Compare, arguments, name), name)
        for name in compared(command)
    }
    from mimachine import workflow
    from mimachine.reporting import comparison

    for name in experiments:
        if name not in BASELINES:
            workflow.objective(name)
    with (
        output_directory(command.out, f"compare-{data_name(command)}") as out,
        interruptible(lambda: comparison_hint(out)),
    ):
        result = comparison.compare(
            experiments,
            out,
            say=lambda text: say(command, text),
            then=lambda directory: _write_comparison(command, directory),
        )
    print_comparison(command, result, _page(command, out))


def _resume_comparison(arguments: list[str]) -> None:
    command = parse(ResumeComparison, arguments)
    from mimachine.reporting import comparison

    with interruptible(lambda: comparison_hint(command.resume, command.data)):
        result = comparison.resume(
            command.resume,
            data=command.data,
            say=lambda text: say(command, text),
            then=lambda directory: _write_comparison(command, directory),
        )
    print_comparison(command, result, _page(command, command.resume))


def _inspect(arguments: list[str]) -> None:
    command = parse(Inspect, arguments)
    from mimachine.training.run import Run
    from mimachine.workflow.inspect_run import inspect

    found = inspect(Run(command.run))
    if command.json:
        print_json(found)
    else:
        print_inspection(found)


def _evaluate(arguments: list[str]) -> None:
    command = parse(Evaluate, arguments)
    from mimachine import workflow

    trained = workflow.open_run(command.run, command.data)
    report = workflow.measure(trained, command.num_samples, command.seconds)
    if command.json:
        print_json(trained.run.read_json("report.json"))
    else:
        print_reports({trained.experiment.objective: report})


def _table(arguments: list[str]) -> None:
    command = parse(Table, arguments)
    from mimachine.reporting.tabular import latex_table, markdown_table
    from mimachine.workflow.reports import read_reports

    write = latex_table if command.format == "latex" else markdown_table
    print(write(read_reports(command.runs), command.metrics))


def _refit(arguments: list[str]) -> None:
    command = parse(Refit, arguments)
    from mimachine import workflow

    name = f"{command.run.resolve().name}-{command.kind}"
    with (
        output_directory(command.out, name) as out,
        interruptible(lambda: refit_hint(out, arguments)),
    ):
        done = workflow.refit(
            command.run,
            out,
            kind=command.kind,
            components=command.components,
            seed=command.seed,
            num_samples=command.num_samples,
            data=command.data,
            say=lambda text: say(command, text),
            then=lambda done: _complete_refit(command, done),
        )
    reports = {"before": done.report_before, "after": done.report_after}
    if command.json:
        measured = {name: report.to_json() for name, report in reports.items()}
        print_json({"run": str(out), **measured})
        return
    print_reports(reports)
    if done.after.data.image_shape is not None:
        print_line(f"samples before and after: {out / 'samples.png'}")
    if command.report:
        print_line(f"report: {_page(command, out)}")
    print_line(f"next: mimachine sample {quoted(out)}    mimachine evaluate {quoted(out)}")


def _complete_refit(command: Refit, done: Refitted) -> None:
    """Draw samples of images before and after, and write the report."""
    out = done.after.run.path
    if done.after.data.image_shape is not None:
        from mimachine import workflow
        from mimachine.reporting import figures

        drawn = {
            name: workflow.sample(trained.model, 64).shown
            for name, trained in (("before", done.before), ("after", done.after))
        }
        # In the record of the run, so that the samples of a later command may replace it.
        writing = Outputs(out, force=None).replacing
        save_figure(figures.image_samples(drawn, done.after.data), out / "samples.png", writing)
    _write_report(command, done.after)


def _report(arguments: list[str]) -> None:
    command = parse(Report, arguments)
    from mimachine.reporting.page import write_comparison, write_report

    is_comparison = (command.run / "comparison.json").exists()
    page = (write_comparison if is_comparison else write_report)(
        command.run,
        embedding=command.embedding,
        data=command.data,
        force=command.force,
        say=lambda text: say(command, text),
    )
    if command.json:
        print_json({"file": str(page)})
    else:
        print_line(f"wrote {page}")


def _reproduce(arguments: list[str]) -> None:
    command = parse(Reproduce, arguments)
    from mimachine.paper.experiments import EXPERIMENTS, default_jobs, reproduce
    from mimachine.paper.reproduction import Request

    if command.name not in EXPERIMENTS:
        raise ValueError(unknown("experiment", command.name, EXPERIMENTS))
    request = Request(
        command.out,
        command.preset,
        command.quick,
        command.seeds,
        command.jobs or default_jobs(),
        lambda text: say(command, text),
    )
    with interruptible(lambda: f"resume with: {typed('reproduce', arguments)}"):
        directory = reproduce(command.name, request)
    if command.json:
        results = json.loads((directory / "results.json").read_text(encoding="utf-8"))
        print_json({"directory": str(directory), **results})
        return
    print((directory / "table.md").read_text(encoding="utf-8"))
    print_line(f"figures, results.json and table.md: {directory}")


def _diagnose(arguments: list[str]) -> None:
    command = parse(Diagnose, arguments)
    from mimachine.data.files.read_table import read_archive

    purposes = ("x", "z_mean", "z_std", "x_reconstructed", "labels")
    wanted = {purpose: getattr(command, purpose) for purpose in purposes}
    arrays, others = read_archive(command.file, wanted, ("x", "z_mean"))
    if others:
        print_line(f"arrays not used: {some(map(repr, others))}", errors=True)
    from mimachine.evaluation.diagnose_arrays import diagnose

    found = diagnose(**arrays, seed=command.seed)
    if command.json:
        print_json(found.to_json())
    else:
        print(found)


def _data(arguments: list[str]) -> None:
    command = parse(Data, arguments)
    from mimachine.data.downloads import located

    found = [
        {"data": name, "file": file, "path": None if path is None else str(path)}
        for name, file, path in located()
    ]
    if command.json:
        print_json(found)
    else:
        print_data_sets(found)


# --- shared by several commands ------------------------------------------------------------------


def _write_report(command: Train | Resume | Refit, trained: Trained) -> None:
    """Write the HTML report of a run unless --no-report is given."""
    if command.report:
        from mimachine.reporting.page import write_report

        write_report(trained.run.path, trained=trained)


def _write_comparison(command: Compare | ResumeComparison, directory: Path) -> None:
    """Write the HTML report of a comparison unless --no-report is given."""
    if command.report:
        from mimachine.reporting.page import write_comparison

        data = command.data if isinstance(command, ResumeComparison) else None
        write_comparison(directory, data=data)


def _page(
    command: Train | Resume | Compare | ResumeComparison | Refit, directory: Path
) -> Path | None:
    """Path of the HTML report; None with --no-report."""
    return directory / "report.html" if command.report else None


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "compare": _compare,
    "inspect": _inspect,
    "evaluate": _evaluate,
    "refit": _refit,
    "embed": apply_commands.embed,
    "reconstruct": apply_commands.reconstruct,
    "sample": apply_commands.sample,
    "score": apply_commands.score,
    "impute": apply_commands.impute,
    "report": _report,
    "table": _table,
    "reproduce": _reproduce,
    "diagnose": _diagnose,
    "data": _data,
}
