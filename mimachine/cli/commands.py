"""The commands: one function per command, which parses its own arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimachine._support.files import save_figure
from mimachine._support.messages import Option, OptionError, quoted, some, unknown
from mimachine._support.outputs import Outputs
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
    Embed,
    Evaluate,
    Impute,
    Inspect,
    Reconstruct,
    Refit,
    Report,
    Reproduce,
    Resume,
    ResumeComparison,
    Sample,
    Score,
    Table,
    Train,
)
from mimachine.cli.output import (
    print_comparison,
    print_data_sets,
    print_imputation,
    print_inspection,
    print_json,
    print_line,
    print_reports,
    print_run,
    say,
    write_arrays,
    write_rows,
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
from mimachine.workflow.destinations import is_of_table
from mimachine.workflow.export_results import ARRAYS, TABLES

if TYPE_CHECKING:
    from mimachine.data.dataset import Dataset
    from mimachine.data.files.load import Encodable
    from mimachine.workflow.apply_run import Drawn
    from mimachine.workflow.destinations import Destination
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


def _embed(arguments: list[str]) -> None:
    command = parse(Embed, arguments)
    destination = _destination(command, "codes.npz")
    from mimachine.estimation.codes.moments import codes
    from mimachine.workflow.export_results import Columns

    trained, chosen = _open_and_select(command)
    encoded = codes(trained.model, chosen.rows)
    mean, std = encoded.mean.numpy(), encoded.std.numpy()
    arrays = {"mean": mean, "std": std}
    latents = range(1, mean.shape[1] + 1)
    table = Columns((*(f"z{i}" for i in latents), *(f"std{i}" for i in latents)), (mean, std))
    if chosen.labels is not None:
        arrays["labels"] = chosen.labels
        table = Columns((*table.names, "label"), (*table.parts, chosen.labels[:, None]))
    write_arrays(command, destination, arrays, table)


def _reconstruct(arguments: list[str]) -> None:
    command = parse(Reconstruct, arguments)
    if is_of_table(command.run):
        destination = _destination(command, "reconstructions.csv", suffixes=TABLES)
        from mimachine.workflow.apply_table import reconstructed_table

        trained, chosen = _open_and_select(command)
        write_rows(command, destination, reconstructed_table(trained, chosen.rows[:]))
        return
    destination = _destination(command, "reconstructions.npz", pictured=True)
    from mimachine import workflow
    from mimachine.workflow.export_results import restored

    trained, chosen = _open_and_select(command)
    data = trained.data
    drawn = workflow.reconstruct(trained.model, chosen.rows, command.seed)
    arrays = {"x": _originals(data, chosen), **_original_units(data, drawn)}
    picture = None
    if data.image_shape is not None:
        from mimachine.reporting import figures

        name = trained.experiment.objective
        shown = chosen.rows[:12]
        picture = figures.image_reconstructions({name: trained.model}, data, images=shown)
    table = restored(data, arrays["sample" if drawn.mean is None else "mean"])
    write_arrays(command, destination, arrays, table, picture)


def _sample(arguments: list[str]) -> None:
    command = parse(Sample, arguments)
    if is_of_table(command.run):
        _sample_table(command)
        return
    for name in ("given", "complete"):
        if getattr(command, name):
            raise OptionError(Option(name), f" is for runs on tables, and {command.run} is not one")
    destination = _destination(command, "samples.npz", pictured=True)
    from mimachine import workflow
    from mimachine.workflow.apply_table import prior_of
    from mimachine.workflow.export_results import restored

    trained = workflow.open_model(command.run)
    data = trained.data
    drawn = workflow.sample(prior_of(trained, command.prior), command.num, command.seed)
    picture = None
    if data.image_shape is not None:
        from mimachine.reporting import figures

        shown = {trained.experiment.objective: drawn.shown[:64]}
        picture = figures.image_samples(shown, data)
    arrays = _original_units(data, drawn)
    write_arrays(command, destination, arrays, restored(data, arrays["sample"]), picture)


def _sample_table(command: Sample) -> None:
    from mimachine import workflow
    from mimachine.workflow.apply_table import sample_table

    destination = _destination(command, "samples.csv", suffixes=TABLES)
    drawn = sample_table(
        workflow.open_model(command.run),
        command.num,
        prior=command.prior,
        given=command.given,
        complete=command.complete,
        seed=command.seed,
    )
    write_rows(command, destination, drawn.table, drawn.notes)


def _score(arguments: list[str]) -> None:
    command = parse(Score, arguments)
    from mimachine.workflow.score_rows import score_rows

    destination = _destination(command, "scores.csv", suffixes=TABLES)
    trained, chosen = _open_and_select(command)
    found = score_rows(trained, chosen.rows, num_samples=command.num_samples, seed=command.seed)
    write_rows(command, destination, found.table, found.notes)


def _impute(arguments: list[str]) -> None:
    command = parse(Impute, arguments)
    if not is_of_table(command.run):
        raise ValueError(f"impute is for runs on tables, and {command.run} is not one")
    from mimachine.workflow.apply_table import fill_table
    from mimachine.workflow.export_results import write_table

    destination = _destination(command, "imputed.csv", suffixes=TABLES)
    file = destination.file
    entries = file.with_name(f"{file.stem}-entries{file.suffix}")
    destination.outputs.check(entries)
    trained, chosen = _open_and_select(command)
    found = fill_table(
        trained,
        chosen.rows[:],
        chosen.table,
        cells=None if chosen.cells is None or file.suffix != ".csv" else chosen.cells(),
        draws=command.draws,
        level=command.level,
        seed=command.seed,
    )
    write_table(entries, found.entries, destination.outputs)
    write_rows(command, destination, found.table, found.notes, {"entries": str(entries)})
    if not command.json:
        print_imputation(found.held_out, trained.data.columns or (), len(found.entries), entries)


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


def _open_and_select(command: Embed | Reconstruct | Score | Impute) -> tuple[Trained, Encodable]:
    """Open a run and select the data to apply it to."""
    from mimachine import workflow

    # With other data the training data are not needed; their file may no longer exist.
    compares = isinstance(command, Score | Impute)
    if compares or command.data is None or command.split or command.training_data:
        trained = workflow.open_run(command.run, command.training_data)
    else:
        trained = workflow.open_model(command.run)
    chosen = workflow.select(trained, command.data, command.split)
    for note in chosen.notes:
        print_line(note, errors=True)
    return trained, chosen


def _destination(
    command: Embed | Reconstruct | Sample | Score | Impute,
    name: str,
    pictured: bool = False,
    suffixes: tuple[str, str] = ARRAYS,
) -> Destination:
    """Where a command writes its results, checked before the run is loaded."""
    from mimachine.workflow.destinations import destination

    return destination(
        command.run,
        name,
        command.out,
        data=None if isinstance(command, Sample) else command.data,
        moved=None if isinstance(command, Sample) else command.training_data,
        pictured=pictured,
        force=command.force,
        suffixes=suffixes,
    )


def _originals(data: Dataset, chosen: Encodable) -> Any:
    """What is reconstructed, as its file has it; it may have other decimals than the training data.

    Rows that are in no file are those of a data set.
    """
    if chosen.values is None or data.preprocessing is None:
        return data.restore(chosen.rows[:], drawn=True)
    return data.preprocessing.in_file_type(chosen.values)


def _original_units(data: Dataset, drawn: Drawn) -> dict[str, Any]:
    """Arrays of what was drawn, in the units of the data; no mean if it has no closed form."""
    arrays: dict[str, Any] = {} if drawn.mean is None else {"mean": data.restore(drawn.mean)}
    return {**arrays, "sample": data.restore(drawn.x, drawn=True), "z": drawn.z.numpy()}


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "compare": _compare,
    "inspect": _inspect,
    "evaluate": _evaluate,
    "refit": _refit,
    "embed": _embed,
    "reconstruct": _reconstruct,
    "sample": _sample,
    "score": _score,
    "impute": _impute,
    "report": _report,
    "table": _table,
    "reproduce": _reproduce,
    "diagnose": _diagnose,
    "data": _data,
}
