"""Command line: `mimachine COMMAND ...`. Torch is imported only once a command is to be run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

import mimachine
from mimachine._support.messages import quoted, some, unknown
from mimachine.data.files.options import File
from mimachine.experiment.presets import default, paper_images, published
from mimachine.experiment.settings import Experiment
from mimachine.options import (
    Compare,
    Data,
    Diagnose,
    Embed,
    Evaluate,
    Inspect,
    Reconstruct,
    Refit,
    Report,
    Reproduce,
    Resume,
    Sample,
    Table,
    Train,
)
from mimachine.training.recipe import Training

if TYPE_CHECKING:
    from mimachine.data.dataset import Dataset
    from mimachine.data.files.load import Encodable
    from mimachine.evaluation.metric import Report as EvaluationReport
    from mimachine.training.fit import History
    from mimachine.workflow.apply_run import Drawn
    from mimachine.workflow.export_results import Columns
    from mimachine.workflow.load_run import Trained

__all__ = ["main"]

OVERVIEW = """\
usage: mimachine COMMAND ...

Train auto-encoders whose codes keep what the data say, and measure them.

  train DATA         train one model and measure it (--resume RUN goes on after an interruption)
  compare DATA       train several objectives on the same data, compare numbers and pictures
  inspect RUN        what a run holds, at once
  evaluate RUN       measure a trained model again, with more samples
  refit RUN          fit a prior to a model's codes: better samples and likelihood, the same codes
  report RUN         one HTML file with pictures, numbers and settings
  table RUN ...      numbers of runs as Markdown or LaTeX
  embed RUN          codes of the data
  reconstruct RUN    data, encoded and decoded again
  sample RUN         new data from the model
  diagnose FILE.npz  the health of anybody's auto-encoder, from its codes and reconstructions
  data               the data sets and where their files are
  reproduce NAME     a figure of the paper again, beside the paper's numbers

DATA is a file of your own (.csv, .tsv, .npy, .npz, .parquet), a folder of images, or one of:
digits, mixture-2d, mixture-20d, mnist, fashion-mnist, omniglot, omniglot-small, pca-fashion-mnist,
pca-fashion-mnist-published. All but the first three have files, which are looked for in
--data-dir DIR, in the folder that MIMACHINE_DATA names, in /usr/share/datasets and in the cache,
and downloaded else. RUN is a directory that train or
refit made.

  mimachine compare digits
  mimachine train measurements.csv --labels species
  mimachine train digits --objective mim --model.latent 20 --out digits-run
  mimachine train fashion-mnist --model.architecture conv-hvae --model.prior vampprior
  mimachine sample digits-run

`mimachine COMMAND --help` tells the options of a command, with their defaults for DATA.
A mistake is one line and exit code 2; --debug shows where it came from."""

EXIT_MISTAKE, EXIT_DIVERGED, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 3, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, or 2 after a user's mistake, 3 if training diverged."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _data_dir(arguments):
            _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_MISTAKE
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError) as error:
        # An import fails where an extra is not installed.
        if debug:
            raise
        print(f"mimachine: error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_MISTAKE
    except (MemoryError, RuntimeError) as error:
        if debug or not _is_out_of_memory(error):
            raise
        print(
            "mimachine: error: out of memory; try a smaller model.hidden, model.channels, "
            f"model.latent or training.batch_size ({' '.join(str(error).split())})",
            file=sys.stderr,
        )
        return EXIT_MISTAKE
    except FloatingPointError as error:
        print(f"mimachine: training diverged: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except KeyboardInterrupt:
        print("mimachine: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short: torch says so by a plain RuntimeError on a processor."""
    return isinstance(error, MemoryError) or "memory" in str(error)


@contextlib.contextmanager
def _data_dir(arguments: list[str]) -> Iterator[None]:
    """Take --data-dir DIR from the arguments; it is MIMACHINE_DATA for this command."""
    from mimachine.data.downloads import VARIABLE

    before = os.environ.get(VARIABLE)
    for place, argument in enumerate(arguments):
        name, has_value, value = argument.partition("=")
        if name != "--data-dir":
            continue
        if not has_value:
            value = arguments[place + 1] if place + 1 < len(arguments) else ""
        if not os.path.isdir(value):
            raise ValueError(f"--data-dir must be a directory, got {value!r}")
        del arguments[place : place + (1 if has_value else 2)]
        os.environ[VARIABLE] = value
        break
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(OVERVIEW)
        if not arguments:
            raise SystemExit(EXIT_MISTAKE)
    elif arguments[0] == "--version":
        print(f"mimachine {mimachine.__version__}")
    elif arguments[0] in _COMMANDS:
        _COMMANDS[arguments[0]](arguments[1:])
    else:
        raise ValueError(unknown("command", arguments[0], _COMMANDS))


# --- reading arguments ---------------------------------------------------------------------------

Command = TypeVar("Command")


def _parse(command: type[Command], arguments: list[str], start: Command | None = None) -> Command:
    """Arguments to a command's settings; a mistake is one line on standard error, and exit 2."""
    name = command.__name__.lower()
    messages = io.StringIO()
    # A union such as a schedule or none is not a choice of subcommands here.
    kind: Any = tyro.conf.AvoidSubcommands[command]  # type: ignore[misc, valid-type]
    try:
        with contextlib.redirect_stderr(messages):
            read: Command = tyro.cli(kind, prog=f"mimachine {name}", args=arguments, default=start)
            return read
    except SystemExit as stop:
        if not stop.code:
            raise
        message = f"{_one_line(messages.getvalue())} (see mimachine {name} --help)"
        raise ValueError(message) from stop


def _one_line(panel: str) -> str:
    """What a panel of tyro's says, without its frame and the options' help.

    Where the output is ASCII the panel has no frame: its title is a paragraph of its own then, and
    the rules between paragraphs are of hyphens.
    """
    lines = [line.strip("│ ") for line in panel.splitlines() if not line.startswith(("╭", "╰"))]
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if len(line) > 3 and not line.strip("─-"):
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)
    if "╭" not in panel and len(paragraphs) > 1:
        paragraphs = paragraphs[1:]
    text = " ".join(paragraphs[0])
    for paragraph in paragraphs[1:]:
        if paragraph[:1] == ["Perhaps you meant:"] and len(paragraph) > 1:
            text += f"; perhaps you meant {paragraph[1]}"
    return text


def _settings(command: Train | Compare, objective: str | None) -> Experiment:
    architecture = command.model.architecture
    if command.preset != "default" and command.file != File():
        raise ValueError(f"options of files, such as --labels, have no meaning for {command.data}")
    if command.preset == "published":
        return published(command.data, objective, architecture)
    if command.preset == "paper":
        return paper_images(command.data, objective, architecture)
    return default(command.data, objective, command.file, architecture)


Trainer = TypeVar("Trainer", Train, Compare)


def _parse_trainer(
    command: type[Trainer], arguments: list[str], objective: str | None = None
) -> Trainer:
    """Arguments over the defaults that belong to the data, the preset and the objective.

    They are read twice: once to learn what the defaults depend on, once over these defaults.
    """
    without_help = [a for a in arguments if a not in ("-h", "--help")]
    # For the first reading a recipe that no option of the user's contradicts.
    lenient = command(data="", training=Training(epochs=10**9, warmup=0))
    try:
        first = _parse(command, without_help, lenient)
    except ValueError:
        if without_help == arguments:
            raise
        # Help was asked for before the command was complete.
        return _parse(command, arguments)
    if not first.data:
        return _parse(command, arguments)
    settings = _settings(first, objective or getattr(first, "objective", None))
    start: dict[str, Any] = {
        "model": settings.model,
        "training": settings.training,
        "num_samples": settings.num_samples,
    }
    if isinstance(first, Train):
        start["objective"] = settings.objective
    elif not first.objectives:
        start["objectives"] = (settings.objective, "vae")
    return _parse(command, arguments, replace(first, **start))


# --- commands ------------------------------------------------------------------------------------


def _train(arguments: list[str]) -> None:
    if any(a == "--resume" or a.startswith("--resume=") for a in arguments):
        _resume(arguments)
        return
    command = _parse_trainer(Train, arguments)
    settings = _experiment(command, command.objective)
    from mimachine import workflow

    out = command.out or _new_directory(f"{_data_name(command)}-{settings.objective}")
    with _interruptible(lambda: _with_run(out)):
        done = workflow.train(
            settings,
            out,
            say=lambda text: _say(command, text),
            checkpoint_seconds=command.checkpoint_seconds,
        )
    _print_run(command, *done)


def _resume(arguments: list[str]) -> None:
    command = _parse(Resume, arguments)
    from mimachine import workflow

    with _interruptible(lambda: _with_run(command.resume)):
        done = workflow.resume(
            command.resume,
            say=lambda text: _say(command, text),
            checkpoint_seconds=command.checkpoint_seconds,
        )
    _print_run(command, *done)


def _print_run(
    command: Train | Resume, trained: Trained, history: History, report: EvaluationReport
) -> None:
    path = trained.run.path
    if command.report:
        from mimachine.reporting.page import write_report

        page = write_report(path)
    if command.json:
        _print_json({"run": str(path), **trained.run.read_json("report.json")})
        return
    ending = "stopped early" if history.stopped_early else "all epochs done"
    print(f"best epoch {history.best_epoch} of {len(history.epochs)} ({ending})")
    _print_reports({trained.experiment.objective: report})
    if command.report:
        print(f"report: {page}")
    print(f"next: mimachine sample {quoted(path)}    mimachine embed {quoted(path)}")


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception that unwinds like Ctrl-C."""


@contextlib.contextmanager
def _interruptible(go_on: Callable[[], str | None]) -> Iterator[None]:
    """Say after Ctrl-C, SIGTERM or a full disk what is left, and how to go on.

    Args:
        go_on: Gives what to say; None if there is nothing to go on with.
    """

    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except OSError as error:
        how = go_on()
        if how is None or isinstance(error, BlockingIOError | FileExistsError):
            raise
        # A disk that is full, say.
        raise OSError(f"{error}; when that is mended, {how}") from error
    except KeyboardInterrupt as interruption:
        print(f"mimachine: interrupted; {go_on() or 'nothing was begun'}", file=sys.stderr)
        code = EXIT_TERMINATED if isinstance(interruption, _Terminated) else EXIT_INTERRUPTED
        raise SystemExit(code) from interruption
    finally:
        signal.signal(signal.SIGTERM, before)


def _with_run(run: Path) -> str | None:
    """How to go on with a run from its last checkpoint; None if it was not begun."""
    if not (run / "experiment.json").exists():
        return None
    return f"go on with: mimachine train --resume {quoted(run)}"


def _with_refitted(run: Path) -> str | None:
    """How to measure a run whose prior was fitted; None if there is none."""
    if not (run / "refit.json").exists() or not (run / "model.safetensors").exists():
        return None
    return f"the prior is fitted; measure it with: mimachine evaluate {quoted(run)}"


def _with_comparison(directory: Path, names: Sequence[str]) -> str | None:
    """What there is of a comparison, and how to go on; None if it was not begun."""
    from mimachine.training.run import Run

    if (directory / "comparison.json").exists():
        return f"all is measured; see it with: mimachine report {quoted(directory)}"
    begun = [name for name in names if (directory / name / "experiment.json").exists()]
    finished = [name for name in begun if Run(directory / name).finished]
    others = [name for name in names if name not in begun]
    done = [
        f"{what}: {', '.join(which)}"
        for what, which in (("finished", finished), ("not begun", others))
        if which
    ]
    ways = [_with_run(directory / name) for name in begun if name not in finished]
    return "; ".join([*done, *filter(None, ways)]) if begun else None


def _compare(arguments: list[str]) -> None:
    command = _parse_trainer(Compare, arguments)
    if len(set(command.objectives)) < len(command.objectives) or not command.objectives:
        raise ValueError(f"objectives must be different names, got {command.objectives}")
    experiments = {
        name: _experiment(_parse_trainer(Compare, arguments, name), name)
        for name in command.objectives
    }
    from mimachine import workflow
    from mimachine.reporting import comparison

    for name in experiments:
        workflow.objective(name)
    out = command.out or _new_directory(f"compare-{_data_name(command)}")
    with _interruptible(lambda: _with_comparison(out, list(experiments))):
        result = comparison.compare(experiments, out, say=lambda text: _say(command, text))
    if command.report:
        from mimachine.reporting.page import write_comparison

        page = write_comparison(out)
    if command.json:
        _print_json(result.to_json())
        return
    _print_reports(result.reports)
    print(result.summary)
    print("pictures: " + ", ".join(str(picture) for picture in result.pictures))
    if command.report:
        print(f"report: {page}")


def _inspect(arguments: list[str]) -> None:
    command = _parse(Inspect, arguments)
    from mimachine.training.run import Run
    from mimachine.workflow.inspect_run import inspect

    found = inspect(Run(command.run))
    if command.json:
        _print_json(found)
        return
    for name, value in _flat(found["experiment"]):
        print(f"{name:<32} {value}")
    for name, value in (found["data"] or {}).items():
        print(f"{'data: ' + name:<32} {value}")
    state = (
        "finished" if found["finished"] else f"go on with: mimachine train --resume {command.run}"
    )
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


def _flat(settings: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted names with their values."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{place}{name}.")
        else:
            yield place + name, value


def _evaluate(arguments: list[str]) -> None:
    command = _parse(Evaluate, arguments)
    from mimachine import workflow

    trained = workflow.open_run(command.run)
    report = workflow.measure(trained, command.num_samples, command.seconds)
    if command.json:
        _print_json(trained.run.read_json("report.json"))
    else:
        _print_reports({trained.experiment.objective: report})


def _table(arguments: list[str]) -> None:
    command = _parse(Table, arguments)
    from mimachine.reporting.tabular import latex_table, markdown_table
    from mimachine.workflow.reports import read_reports

    write = latex_table if command.format == "latex" else markdown_table
    print(write(read_reports(command.runs), command.metrics))


def _refit(arguments: list[str]) -> None:
    command = _parse(Refit, arguments)
    from mimachine import workflow
    from mimachine.reporting import figures

    out = command.out or _new_directory(f"{command.run.resolve().name}-{command.kind}")
    with _interruptible(lambda: _with_refitted(out)):
        done = workflow.refit(
            command.run,
            out,
            kind=command.kind,
            components=command.components,
            seed=command.seed,
            num_samples=command.num_samples,
            say=lambda text: _say(command, text),
        )
    picture = None
    if done.after.data.image_shape is not None:
        picture = out / "samples.png"
        drawn = {
            name: workflow.sample(trained.model, 64).shown
            for name, trained in (("before", done.before), ("after", done.after))
        }
        figures.image_samples(drawn, done.after.data).savefig(picture)
    if command.report:
        from mimachine.reporting.page import write_report

        page = write_report(out)
    reports = {"before": done.report_before, "after": done.report_after}
    if command.json:
        measured = {name: report.to_json() for name, report in reports.items()}
        _print_json({"run": str(out), **measured})
        return
    _print_reports(reports)
    if picture is not None:
        print(f"samples before and after: {picture}")
    if command.report:
        print(f"report: {page}")
    print(f"next: mimachine sample {quoted(out)}    mimachine evaluate {quoted(out)}")


def _embed(arguments: list[str]) -> None:
    command = _parse(Embed, arguments)
    from mimachine.estimation.codes.moments import codes
    from mimachine.workflow.export_results import Columns

    trained, chosen = _selected(command)
    encoded = codes(trained.model, chosen.rows)
    mean, std = encoded.mean.numpy(), encoded.std.numpy()
    arrays = {"mean": mean, "std": std}
    latents = range(1, mean.shape[1] + 1)
    table = Columns((*(f"z{i}" for i in latents), *(f"std{i}" for i in latents)), (mean, std))
    if chosen.labels is not None:
        arrays["labels"] = chosen.labels
        table = Columns((*table.names, "label"), (*table.parts, chosen.labels[:, None]))
    _write(command, "codes.npz", arrays, table)


def _reconstruct(arguments: list[str]) -> None:
    command = _parse(Reconstruct, arguments)
    from mimachine import workflow
    from mimachine.reporting import figures
    from mimachine.workflow.export_results import named

    trained, chosen = _selected(command)
    data = trained.data
    drawn = workflow.reconstruct(trained.model, chosen.rows, command.seed)
    arrays = {"x": data.restore(chosen.rows[:], drawn=True), **_restored(data, drawn)}
    picture = None
    if data.image_shape is not None:
        name = trained.experiment.objective
        shown = chosen.rows[:12]
        picture = figures.image_reconstructions({name: trained.model}, data, images=shown)
    table = named(data.columns, arrays["sample" if drawn.mean is None else "mean"])
    _write(command, "reconstructions.npz", arrays, table, picture)


def _sample(arguments: list[str]) -> None:
    command = _parse(Sample, arguments)
    from mimachine import workflow
    from mimachine.reporting import figures
    from mimachine.workflow.export_results import named

    trained = workflow.open_model(command.run)
    data = trained.data
    drawn = workflow.sample(trained.model, command.num, command.seed)
    picture = None
    if data.image_shape is not None:
        shown = {trained.experiment.objective: drawn.shown[:64]}
        picture = figures.image_samples(shown, data)
    arrays = _restored(data, drawn)
    _write(command, "samples.npz", arrays, named(data.columns, arrays["sample"]), picture)


def _restored(data: Dataset, drawn: Drawn) -> dict[str, Any]:
    """What was drawn, in the units of the data; without means where they have no closed form."""
    arrays: dict[str, Any] = {} if drawn.mean is None else {"mean": data.restore(drawn.mean)}
    return {**arrays, "sample": data.restore(drawn.x, drawn=True), "z": drawn.z.numpy()}


def _report(arguments: list[str]) -> None:
    command = _parse(Report, arguments)
    from mimachine.reporting.page import write_comparison, write_report

    if (command.run / "comparison.json").exists():
        page = write_comparison(command.run)
    else:
        page = write_report(command.run, embedding=command.embedding)
    if command.json:
        _print_json({"file": str(page)})
    else:
        print(f"wrote {page}")


def _reproduce(arguments: list[str]) -> None:
    command = _parse(Reproduce, arguments)
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
        lambda text: _say(command, text),
    )
    typed = f"mimachine reproduce {' '.join(map(quoted, arguments))}"
    with _interruptible(lambda: f"go on with: {typed}"):
        directory = reproduce(command.name, request)
    if command.json:
        results = json.loads((directory / "results.json").read_text(encoding="utf-8"))
        _print_json({"directory": str(directory), **results})
        return
    print((directory / "table.md").read_text(encoding="utf-8"))
    print(f"figures, results.json and table.md: {directory}")


def _diagnose(arguments: list[str]) -> None:
    command = _parse(Diagnose, arguments)
    from mimachine.data.files.read_table import read_archive

    purposes = ("x", "z_mean", "z_std", "x_reconstructed", "labels")
    wanted = {purpose: getattr(command, purpose) for purpose in purposes}
    arrays, others = read_archive(command.file, wanted, ("x", "z_mean"))
    if others:
        print(f"arrays not used: {some(map(repr, others))}", file=sys.stderr)
    from mimachine.evaluation.diagnose_arrays import diagnose

    found = diagnose(**arrays, seed=command.seed)
    if command.json:
        _print_json(found.to_json())
    else:
        print(found)


def _data(arguments: list[str]) -> None:
    command = _parse(Data, arguments)
    from mimachine.data.downloads import located

    found = [
        {"data": name, "file": file, "path": None if path is None else str(path)}
        for name, file, path in located()
    ]
    if command.json:
        _print_json(found)
        return
    print("digits, mixture-2d, mixture-20d: always there")
    print("pca-fashion-mnist, pca-fashion-mnist-published: made of the files of fashion-mnist")
    for entry in found:
        place = entry["path"] or "not here; it would be downloaded"
        print(f"{entry['data']:<15} {entry['file']:<32} {place}")


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "compare": _compare,
    "inspect": _inspect,
    "evaluate": _evaluate,
    "refit": _refit,
    "embed": _embed,
    "reconstruct": _reconstruct,
    "sample": _sample,
    "report": _report,
    "table": _table,
    "reproduce": _reproduce,
    "diagnose": _diagnose,
    "data": _data,
}


def _selected(command: Embed | Reconstruct) -> tuple[Trained, Encodable]:
    """A run, and the data to apply it to."""
    from mimachine import workflow

    # Data of others need not those that the model was trained on, which may be gone.
    opened = workflow.open_run if command.data is None or command.split else workflow.open_model
    trained = opened(command.run)
    _check_out(command, trained.experiment.data.name)
    chosen = workflow.select(trained, command.data, command.split)
    for note in chosen.notes:
        print(note, file=sys.stderr)
    return trained, chosen


def _experiment(command: Train | Compare, objective: str | None) -> Experiment:
    start = _settings(command, objective)
    return replace(
        start, model=command.model, training=command.training, num_samples=command.num_samples
    )


def _data_name(command: Train | Compare) -> str:
    """What to call the data in the name of a run; "." has a name only once it is resolved."""
    return Path(command.data).resolve().stem or "data"


def _new_directory(name: str) -> Path:
    """A directory under runs/ that is not there yet."""
    path, count = Path("runs") / name, 2
    while path.exists():
        path, count = Path("runs") / f"{name}-{count}", count + 1
    return path


# --- output --------------------------------------------------------------------------------------


def _say(command: Train | Resume | Compare | Refit | Reproduce, text: str) -> None:
    print(text, file=sys.stderr if command.json else sys.stdout, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def _print_reports(reports: dict[str, EvaluationReport]) -> None:
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


def _check_out(command: Embed | Reconstruct, trained_on: str) -> None:
    """See that results do not take the place of data."""
    if command.out is None:
        return
    for data in (command.data or trained_on, trained_on):
        both = os.path.exists(data) and os.path.exists(command.out)
        if both and os.path.samefile(data, command.out):
            raise ValueError(f"out must be another file than the data, got {command.out}")


def _write(
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
        _print_json({**written, "shapes": shapes})
        return
    shapes_text = ", ".join(f"{key} {tuple(value.shape)}" for key, value in arrays.items())
    if file.suffix == ".csv":
        shapes_text = f"{len(table.parts[0])} rows of {len(table.names)} columns"
    print(f"wrote {file}: {shapes_text}")
    if picture is not None:
        print(f"picture: {written['picture']}")


if __name__ == "__main__":
    sys.exit(main())
