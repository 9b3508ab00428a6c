"""Command line: `mimachine COMMAND ...`. Torch is imported only once a command is to be run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

import tyro

import mimachine
from mimachine.experiment import Experiment, Model, default, published
from mimachine.training import Training

if TYPE_CHECKING:
    from mimachine.evaluation import Report as EvaluationReport
    from mimachine.fitting import History
    from mimachine.workflow import Trained

__all__ = ["main"]

OVERVIEW = """\
usage: mimachine COMMAND ...

Train auto-encoders whose codes keep what the data say, and measure them.

  train DATA         train one model and measure it (--resume RUN goes on after an interruption)
  compare DATA       train several objectives on the same data, compare numbers and pictures
  inspect RUN        what a run holds, at once
  evaluate RUN       measure a trained model again, with more samples
  report RUN         one HTML file with pictures, numbers and settings
  embed RUN          codes of the data
  reconstruct RUN    data, encoded and decoded again
  sample RUN         new data from the model
  data               the data sets and where their files are

DATA is one of: digits, mixture-2d, mnist, fashion-mnist, omniglot, omniglot-small; the last four
have files, which are looked for in the folder that MIMACHINE_DATA names, in /usr/share/datasets
and in the cache, and downloaded else. RUN is a directory that train made.

  mimachine compare digits
  mimachine train digits --objective mim --model.latent 20 --out digits-run
  mimachine sample digits-run

`mimachine COMMAND --help` tells the options of a command, with their defaults for DATA.
A mistake is one line and exit code 2; --debug shows where it came from."""

EXIT_MISTAKE, EXIT_DIVERGED, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 3, 130, 143

DataName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
RunPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Train:
    """Train one model, keep its best weights, and measure it on the test split.

    Attributes:
        data: Data set, see mimachine data.
        objective: mim, a-mim, a-mim-one-sample, vae, vae+h, mim-h, ce or auto-encoder.
        preset: Settings to start from: the library's, or those the paper's figures were made with.
        model: Encoder, decoder and prior.
        training: Training recipe.
        num_samples: Importance samples for the likelihood of each test datum.
        out: Run directory; by default a new one under runs/.
        checkpoint_seconds: Least time between two writes of the state that --resume RUN goes on
            from.
        json: Print the report as JSON.
    """

    data: DataName
    objective: str = "mim"
    preset: Literal["default", "published"] = "default"
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    num_samples: int = 1000
    out: Path | None = None
    checkpoint_seconds: float = 10.0
    json: bool = False


@dataclass(frozen=True)
class Resume:
    """Go on with an interrupted run; it ends as if it had not been interrupted.

    Attributes:
        resume: Run directory.
        checkpoint_seconds: Least time between two writes of the state.
        json: Print the report as JSON.
    """

    resume: Path
    checkpoint_seconds: float = 10.0
    json: bool = False


@dataclass(frozen=True)
class Compare:
    """Train several objectives with the same architecture and data; compare them side by side.

    Attributes:
        data: Data set, see mimachine data.
        objectives: Two or more of mim, a-mim, a-mim-one-sample, vae, vae+h, mim-h, ce,
            auto-encoder.
        preset: Settings to start from: the library's, or those the paper's figures were made with.
        model: Encoder, decoder and prior.
        training: Training recipe.
        num_samples: Importance samples for the likelihood of each test datum.
        out: Directory for the runs and the pictures; by default a new one under runs/.
        json: Print the comparison as JSON.
    """

    data: DataName
    objectives: tuple[str, ...] = ("mim", "vae")
    preset: Literal["default", "published"] = "default"
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    num_samples: int = 1000
    out: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class Report:
    """Write report.html, one file with pictures, numbers in plain words and settings.

    Attributes:
        run: Run directory, or a directory that compare made.
        embedding: How the codes are brought to two dimensions for their picture.
        json: Print where it is as JSON.
    """

    run: RunPath
    embedding: Literal["pca", "tsne"] = "pca"
    json: bool = False


@dataclass(frozen=True)
class Data:
    """List the data sets and where their files were found; nothing is downloaded.

    Attributes:
        json: Print the list as JSON.
    """

    json: bool = False


@dataclass(frozen=True)
class Inspect:
    """Tell what a run directory holds, without loading torch.

    Attributes:
        run: Run directory.
        json: Print everything as JSON.
    """

    run: RunPath
    json: bool = False


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained model on the test split and write report.json anew.

    Attributes:
        run: Run directory.
        num_samples: Importance samples for the likelihood of each test datum.
        json: Print the report as JSON.
    """

    run: RunPath
    num_samples: int = 5000
    json: bool = False


@dataclass(frozen=True)
class Embed:
    """Write the codes of data to an .npz file: mean and std of q(z|x), and labels if there are.

    Attributes:
        run: Run directory.
        data: Data set; by default the one the model was trained on.
        split: Which split to encode.
        out: The file; by default RUN/codes.npz.
        json: Print where it is as JSON.
    """

    run: RunPath
    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    split: Split = "test"
    out: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class Reconstruct:
    """Encode data and decode them again: an .npz file with x, mean, sample and z.

    Attributes:
        run: Run directory.
        data: Data set; by default the one the model was trained on.
        split: Which split to reconstruct.
        seed: Seed of the samples of p(x|z).
        out: The file; by default RUN/reconstructions.npz.
        json: Print where it is as JSON.
    """

    run: RunPath
    data: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = None
    split: Split = "test"
    seed: int = 0
    out: Path | None = None
    json: bool = False


@dataclass(frozen=True)
class Sample:
    """Draw new data from the model: an .npz file with sample, mean and z.

    Attributes:
        run: Run directory.
        num: How many.
        seed: Seed of the draws.
        out: The file; by default RUN/samples.npz.
        json: Print where it is as JSON.
    """

    run: RunPath
    num: int = 64
    seed: int = 0
    out: Path | None = None
    json: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, or 2 after a user's mistake, 3 if training diverged."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        _dispatch(arguments)
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_MISTAKE
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        if debug:
            raise
        print(f"mimachine: error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_MISTAKE
    except FloatingPointError as error:
        print(f"mimachine: training diverged: {error}", file=sys.stderr)
        return EXIT_DIVERGED
    except KeyboardInterrupt:
        print("mimachine: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


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
        raise ValueError(_unknown_command(arguments[0]))


def _unknown_command(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _COMMANDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"command must be one of {', '.join(_COMMANDS)}; got {name!r}{hint}"


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
    """What a panel of tyro's says, without its frame and the options' help."""
    lines = [line.strip("│ ") for line in panel.splitlines() if not line.startswith(("╭", "╰"))]
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("─"):
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)
    text = " ".join(paragraphs[0])
    for paragraph in paragraphs[1:]:
        if paragraph[:1] == ["Perhaps you meant:"] and len(paragraph) > 1:
            text += f"; perhaps you meant {paragraph[1]}"
    return text


def _settings(preset: str, data: str, objective: str) -> Experiment:
    return published(data, objective) if preset == "published" else default(data, objective)


Trainer = TypeVar("Trainer", Train, Compare)


def _parse_trainer(command: type[Trainer], arguments: list[str], objective: str = "") -> Trainer:
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
    settings = _settings(first.preset, first.data, objective or getattr(first, "objective", ""))
    start = replace(
        first,
        model=settings.model,
        training=settings.training,
        num_samples=settings.num_samples,
    )
    return _parse(command, arguments, start)


# --- commands ------------------------------------------------------------------------------------


def _train(arguments: list[str]) -> None:
    if any(a == "--resume" or a.startswith("--resume=") for a in arguments):
        _resume(arguments)
        return
    command = _parse_trainer(Train, arguments)
    settings = _experiment(command, command.objective)
    from mimachine import workflow

    out = command.out or _new_directory(f"{command.data}-{command.objective}")
    with _interruptible(out):
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

    with _interruptible(command.resume):
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
    if command.json:
        _print_json({"run": str(path), **trained.run.read_json("report.json")})
        return
    ending = "stopped early" if history.stopped_early else "all epochs done"
    print(f"best epoch {history.best_epoch} of {len(history.epochs)} ({ending})")
    _print_reports({trained.experiment.objective: report})
    print(f"next: mimachine sample {path}    mimachine embed {path}")


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception that unwinds like Ctrl-C."""


@contextlib.contextmanager
def _interruptible(run: Path) -> Iterator[None]:
    """Say what an interruption by Ctrl-C or SIGTERM left, and how to go on."""

    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as interruption:
        kept = (
            "the state of its last checkpoint is kept"
            if (run / "state.ckpt").exists()
            else ("no checkpoint was due yet, so it starts anew")
        )
        print(
            f"mimachine: interrupted; {kept}. Go on with: mimachine train --resume {run}",
            file=sys.stderr,
        )
        code = EXIT_TERMINATED if isinstance(interruption, _Terminated) else EXIT_INTERRUPTED
        raise SystemExit(code) from interruption
    finally:
        signal.signal(signal.SIGTERM, before)


def _compare(arguments: list[str]) -> None:
    command = _parse_trainer(Compare, arguments)
    if len(set(command.objectives)) < len(command.objectives) or not command.objectives:
        raise ValueError(f"objectives must be different names, got {command.objectives}")
    experiments = {
        name: _experiment(_parse_trainer(Compare, arguments, name), name)
        for name in command.objectives
    }
    from mimachine import comparison, workflow

    for name in experiments:
        workflow.objective(name)
    out = command.out or _new_directory(f"compare-{command.data}")
    result = comparison.compare(experiments, out, say=lambda text: _say(command, text))
    if command.json:
        _print_json(result.to_json())
        return
    _print_reports(result.reports)
    print(result.summary)
    print("pictures: " + ", ".join(str(picture) for picture in result.pictures))


def _inspect(arguments: list[str]) -> None:
    command = _parse(Inspect, arguments)
    from mimachine.inspection import inspect
    from mimachine.runs import Run

    found = inspect(Run(command.run))
    if command.json:
        _print_json(found)
        return
    for name, value in _flat(found["experiment"]):
        print(f"{name:<32} {value}")
    state = (
        "finished" if found["finished"] else f"go on with: mimachine train --resume {command.run}"
    )
    print(f"{found['epochs']} epochs, best {found['best_epoch']}; {state}")
    print(f"{found['num_weights']:,} weights in {len(found['weights'])} tensors")
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
    report = workflow.measure(trained, command.num_samples)
    if command.json:
        _print_json(trained.run.read_json("report.json"))
    else:
        _print_reports({trained.experiment.objective: report})


def _embed(arguments: list[str]) -> None:
    command = _parse(Embed, arguments)
    from mimachine.representation import codes

    trained, x, labels = _opened(command)
    encoded = codes(trained.model, x)
    arrays = {"mean": encoded.mean, "std": encoded.std}
    if labels is not None:
        arrays["labels"] = labels
    _write_arrays(command, "codes.npz", arrays)


def _reconstruct(arguments: list[str]) -> None:
    command = _parse(Reconstruct, arguments)
    from mimachine import figures, workflow

    trained, x, _ = _opened(command)
    drawn = workflow.reconstruct(trained.model, x, command.seed)
    arrays = {"x": x, "mean": drawn.mean, "sample": drawn.x, "z": drawn.z}
    picture = None
    if trained.data.image_shape is not None:
        name = trained.experiment.objective
        picture = figures.image_reconstructions({name: trained.model}, trained.data)
    _write_arrays(command, "reconstructions.npz", arrays, picture)


def _sample(arguments: list[str]) -> None:
    command = _parse(Sample, arguments)
    from mimachine import figures, workflow

    trained = workflow.open_run(command.run)
    drawn = workflow.sample(trained.model, command.num, command.seed)
    picture = None
    if trained.data.image_shape is not None:
        shown = {trained.experiment.objective: drawn.mean[:64]}
        picture = figures.image_samples(shown, trained.data)
    arrays = {"sample": drawn.x, "mean": drawn.mean, "z": drawn.z}
    _write_arrays(command, "samples.npz", arrays, picture)


def _report(arguments: list[str]) -> None:
    command = _parse(Report, arguments)
    from mimachine.report import write_comparison, write_report

    if (command.run / "comparison.json").exists():
        page = write_comparison(command.run)
    else:
        page = write_report(command.run, embedding=command.embedding)
    if command.json:
        _print_json({"file": str(page)})
    else:
        print(f"wrote {page}")


def _data(arguments: list[str]) -> None:
    command = _parse(Data, arguments)
    from mimachine.downloads import located

    found = [
        {"data": name, "file": file, "path": None if path is None else str(path)}
        for name, file, path in located()
    ]
    if command.json:
        _print_json(found)
        return
    print("digits, mixture-2d: always there")
    for entry in found:
        place = entry["path"] or "not here; it would be downloaded"
        print(f"{entry['data']:<15} {entry['file']:<32} {place}")


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "train": _train,
    "compare": _compare,
    "inspect": _inspect,
    "evaluate": _evaluate,
    "embed": _embed,
    "reconstruct": _reconstruct,
    "sample": _sample,
    "report": _report,
    "data": _data,
}


class _Opened(NamedTuple):
    trained: Trained
    x: Any
    labels: Any


def _opened(command: Embed | Reconstruct) -> _Opened:
    """A run's model with the split of the data that a command asks for."""
    from mimachine import workflow

    trained = workflow.open_run(command.run)
    data = trained.data
    if command.data is not None and command.data != data.name:
        other = replace(trained.experiment.data, name=command.data)
        data = workflow.prepare(replace(trained.experiment, data=other))
        expected, came = trained.data.train.shape[1], data.train.shape[1]
        if came != expected:
            raise ValueError(
                f"data must have {expected} columns, as the run's {trained.data.name} has; "
                f"{data.name} has {came}"
            )
        trained = replace(trained, data=data)
    x, labels = getattr(data, command.split), getattr(data, f"{command.split}_labels")
    return _Opened(trained, x, labels)


def _experiment(command: Train | Compare, objective: str) -> Experiment:
    start = _settings(command.preset, command.data, objective)
    return replace(
        start, model=command.model, training=command.training, num_samples=command.num_samples
    )


def _new_directory(name: str) -> Path:
    """A directory under runs/ that is not there yet."""
    path, count = Path("runs") / name, 2
    while path.exists():
        path, count = Path("runs") / f"{name}-{count}", count + 1
    return path


# --- output --------------------------------------------------------------------------------------


def _say(command: Train | Resume | Compare, text: str) -> None:
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
        values = [str(r[metric.name]) if r.has(metric.name) else "" for r in reports.values()]
        label = metric.name.removesuffix("_sampled")
        table.add_row(f"{label} ({metric.latent})", *values, metric.unit)
    table.add_row("verdict", *(report.verdict for report in reports.values()), "")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for name, report in reports.items():
        console.print(f"{name}: {report.verdict}. {report.advice}", soft_wrap=True)
        for metric in report.metrics:
            for note in metric.notes:
                console.print(f"  {metric.name}: {note}", soft_wrap=True, highlight=False)


def _write_arrays(
    command: Embed | Reconstruct | Sample, name: str, arrays: dict[str, Any], picture: Any = None
) -> None:
    """Write an .npz file, and a picture beside it where there is one; say where they are."""
    import numpy as np

    file = command.out or command.run / name
    if file.suffix != ".npz":
        raise ValueError(f"out must end in .npz, got {file}")
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **{key: value.numpy() for key, value in arrays.items()})
    written = {"file": str(file)}
    if picture is not None:
        picture.savefig(file.with_suffix(".png"))
        written["picture"] = str(file.with_suffix(".png"))
    if command.json:
        shapes = {key: list(value.shape) for key, value in arrays.items()}
        _print_json({**written, "shapes": shapes})
        return
    shapes_text = ", ".join(f"{key} {tuple(value.shape)}" for key, value in arrays.items())
    print(f"wrote {file}: {shapes_text}")
    if picture is not None:
        print(f"picture: {written['picture']}")


if __name__ == "__main__":
    sys.exit(main())
