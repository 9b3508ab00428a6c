"""Parse command-line arguments into options, settings and default run directories."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from mimachine._support.messages import visible
from mimachine._support.streams import unfiltered
from mimachine.cli.options import Compare, Resume, ResumeComparison, Train
from mimachine.data.files.options import File, is_table
from mimachine.experiment.presets import (
    BASELINES,
    default,
    fast,
    named,
    objective_of,
    of_numbers,
    paper_images,
    published,
)
from mimachine.experiment.settings import DENSE, IMAGE_ARCHITECTURES, Experiment, Model
from mimachine.experiment.usual_architecture import usual_architecture
from mimachine.training import schedules
from mimachine.training.recipe import Training
from mimachine.training.schedules import Schedule

Command = TypeVar("Command")


def parse(command: type[Command], arguments: list[str], start: Command | None = None) -> Command:
    """Parse the arguments of a command.

    Args:
        command: The command's dataclass in `options`.
        arguments: Arguments after the command's name.
        start: Defaults; None: those of the dataclass.

    Raises:
        ValueError: If the arguments are not valid, with tyro's message in one line.
    """
    resumed: dict[type, str] = {Resume: "train", ResumeComparison: "compare"}
    name = resumed.get(command, command.__name__.lower())
    messages, text = io.StringIO(), io.StringIO()
    # Help has colours on a terminal; arguments that it repeats must not have escape sequences.
    asks = not {"-h", "--help"}.isdisjoint(arguments)
    plain = all(visible(argument) == argument for argument in arguments)
    target = unfiltered(sys.stdout) if asks and plain else text
    # Without it a union such as `Noam | None` becomes a choice of subcommands.
    kind: Any = tyro.conf.AvoidSubcommands[command]  # type: ignore[misc, valid-type]
    try:
        with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(target):
            read: Command = tyro.cli(
                kind,
                prog=f"mimachine {name}",
                args=_with_values(arguments),
                default=start,
                registry=_REGISTRY,
            )
            return _with_homes(read, start)
    except SystemExit as stop:
        if not stop.code:
            print(text.getvalue(), end="")
            raise
        message = f"{_one_line(messages.getvalue())} (see mimachine {name} --help)"
        raise ValueError(message) from stop


def _with_homes(command: Command, start: Command | None) -> Command:
    """A command whose paths have the home directory in place of ~, as after `--out=~/run`.

    Raises:
        ValueError: If a path that is not a default is empty.
    """
    found: dict[str, Any] = {}
    for each in fields(command):  # type: ignore[arg-type]
        value = getattr(command, each.name)
        several = value if isinstance(value, tuple) else (value,)
        is_path = each.name in ("data", "training_data", "out") and isinstance(value, str)
        if _NO_PATH in several or (is_path and value == "" != getattr(start, each.name, None)):
            name = each.name.removeprefix("training_")
            raise ValueError(f"{name} must be a path, got an empty one")
        if isinstance(value, Path):
            found[each.name] = Path(os.path.expanduser(value))
        elif is_path:
            found[each.name] = os.path.expanduser(value)
        elif each.name == "runs":
            found[each.name] = tuple(Path(os.path.expanduser(run)) for run in value)
    return replace(command, **found)  # type: ignore[type-var]


_REGISTRY = ConstructorRegistry()


@_REGISTRY.primitive_rule
def _optional_flag(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[bool | None] | None:
    """Read `bool | None` as a flag: --name, --no-name, or neither of them."""
    if info.type != (bool | None):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="or --no-…",
        instance_from_str=lambda words: {"True": True, "False": False}[words[0]],
        is_instance=lambda value: value is None or isinstance(value, bool),
        str_from_instance=lambda value: ["auto" if value is None else str(value)],
    )


@_REGISTRY.primitive_rule
def _schedule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Schedule | None] | None:
    """Read a learning-rate schedule by its name and numbers, such as cosine or noam:3."""
    if info.type != (Schedule | None):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join(schedules.KINDS),
        instance_from_str=lambda words: None if words[0] == "None" else schedules.named(words[0]),
        is_instance=lambda value: value is None or isinstance(value, Schedule),
        str_from_instance=lambda value: ["None" if value is None else schedules.text(value)],
    )


# A path of no file: an empty path, such as of a variable that is not set, would be this directory.
_NO_PATH = Path("\0")


@_REGISTRY.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Read a path, and an empty one as `_NO_PATH`."""
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(words[0]) if words[0] else _NO_PATH,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


# Options whose type is `bool | None`.
_OPTIONAL_FLAGS = {f"--{f.name.replace('_', '-')}" for f in fields(File) if f.type == "bool | None"}


def _with_values(arguments: list[str]) -> list[str]:
    """Arguments with a value for each optional flag, as tyro needs it."""
    found: list[str] = []
    for word, following in itertools.zip_longest(arguments, arguments[1:]):
        if word in _OPTIONAL_FLAGS and following not in ("True", "False"):
            found += [word, "True"]
        elif word.startswith("--no-") and f"--{word[5:]}" in _OPTIONAL_FLAGS:
            found += [f"--{word[5:]}", "False"]
        else:
            found.append(word)
    return found


def _one_line(panel: str) -> str:
    """The message in an error panel of tyro, without the frame and the help of options.

    With ASCII output the panel has no frame: its title is then a paragraph of its own, and lines of
    hyphens separate the paragraphs.
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


def _default_settings(command: Train | Compare, objective: str | None) -> Experiment:
    """The settings that the command's data, preset and architecture start from.

    Those of a baseline are those of its objective; `experiment_of` makes it a baseline.
    """
    objective = objective_of(objective)
    architecture = command.model.architecture
    if command.preset == "fast":
        return fast(command.data, objective, command.file, architecture, command.model.prior)
    if command.preset != "default" and command.file != File():
        raise ValueError(f"options of files, such as --labels, have no meaning for {command.data}")
    if command.preset == "published":
        return published(command.data, objective, architecture)
    if command.preset == "paper":
        return paper_images(command.data, objective, architecture)
    settings = default(command.data, objective, command.file, architecture)
    is_array = architecture == "mlp" and command.model.likelihood not in ("auto", "columns")
    return of_numbers(settings) if is_array else settings


Trainer = TypeVar("Trainer", Train, Compare)


def parse_trainer(
    command: type[Trainer], arguments: list[str], objective: str | None = None
) -> Trainer:
    """Parse the arguments of train or compare over the defaults for data, preset and objective.

    The arguments are parsed twice: first to find out which defaults apply, then over them.
    """
    without_help = [a for a in arguments if a not in ("-h", "--help")]
    try:
        first = _first_pass(command, without_help)
    except ValueError:
        if without_help == arguments:
            raise
        # Print the help although the command is incomplete.
        return parse(command, arguments)
    if not first.data:
        return parse(command, arguments)
    settings = _default_settings(first, objective or getattr(first, "objective", None))
    start: dict[str, Any] = {
        "model": settings.model,
        "training": _warmed_up(settings.training, first),
        "num_samples": settings.num_samples,
    }
    if isinstance(first, Train):
        start["objective"] = settings.objective
    elif not first.objectives:
        start["objectives"] = (settings.objective, "vae")
    return parse(command, arguments, replace(first, **start))


def _first_pass(command: type[Trainer], arguments: list[str]) -> Trainer:
    """The command before its defaults are known, but for the architecture."""
    # A recipe that is valid with any option of the user.
    lenient = command(data="", training=Training(epochs=10**9, warmup=0))
    if is_given("--model.architecture", arguments):
        return parse(command, arguments, lenient)
    try:
        first = parse(command, arguments, lenient)
    except ValueError:
        # Options of convolutions are valid where these are the default.
        by_convolutions = replace(lenient, model=Model(architecture="conv"))
        other: Trainer | None = None
        with contextlib.suppress(ValueError):
            other = parse(command, arguments, by_convolutions)
        if other is None or usual_architecture(other.data, other.file) != "conv":
            raise
        first = other
    # Several hidden layers are those of dense networks.
    if first.data and first.preset == "default" and len(first.model.hidden) == 1:
        usual = usual_architecture(first.data, first.file)
        first = replace(first, model=replace(first.model, architecture=usual))
    return first


def _warmed_up(default: Training, first: Train | Compare) -> Training:
    """The default recipe, with a warm-up that ends within the epochs that the user wants.

    Recipes of the paper stay as they are.
    """
    if first.preset not in ("default", "fast"):
        return default
    epochs = min(default.annealing.epochs, first.training.epochs // 4)
    return replace(default, warmup=replace(default.annealing, epochs=epochs))


def experiment_of(command: Train | Compare, objective: str | None) -> Experiment:
    """The settings of the experiment that a command trains."""
    start = _default_settings(command, objective)
    settings = replace(
        start, model=command.model, training=command.training, num_samples=command.num_samples
    )
    # What makes a baseline is not an option, and it has no use for some of the others.
    return settings if objective is None else named(settings, objective)


def compared(command: Compare) -> tuple[str, ...]:
    """Names of the models to compare: the objectives, and the baselines that fit the settings."""
    baselines = [name for name in BASELINES if name not in command.objectives]
    if not command.baselines:
        baselines = []
    elif command.model.architecture in IMAGE_ARCHITECTURES:
        # Others than the dense ones have no encoder of constant width.
        if command.model.architecture not in DENSE:
            baselines = [name for name in baselines if name != "rae"]
    elif _by_columns(command):
        # One needs numbers, the other pseudo-inputs that gradients can move.
        baselines = [name for name in baselines if name not in ("pca", "vae-vampprior")]
    return (*command.objectives, *baselines)


def _by_columns(command: Compare) -> bool:
    """Whether the data are a table that is modelled by the kinds of its columns."""
    numbers = command.file.image_shape is not None or not command.file.standardize
    by_columns = command.model.likelihood in ("auto", "columns") and not numbers
    return by_columns and command.model.architecture == "mlp" and is_table(command.data)


def is_resumed(arguments: list[str]) -> bool:
    """Whether the arguments have --resume, and so no data."""
    return is_given("--resume", arguments)


def is_given(option: str, arguments: list[str]) -> bool:
    """Whether the arguments have an option."""
    return any(argument.partition("=")[0] == option for argument in arguments)


def data_name(command: Train | Compare) -> str:
    """A name for the data, used in the name of the run directory."""
    # "." has a name only once it is resolved.
    return Path(command.data).resolve().stem or "data"


@contextlib.contextmanager
def output_directory(given: Path | None, name: str) -> Iterator[Path]:
    """The directory that was given, or a new one under runs/: each process gets its own.

    A new directory that is still empty at the end is removed.
    """
    if given is not None:
        yield given
        return
    runs = Path("runs")
    runs.mkdir(exist_ok=True)
    path, count = runs / name, 2
    while True:
        try:
            path.mkdir()
            break
        except FileExistsError:
            path, count = runs / f"{name}-{count}", count + 1
    try:
        yield path
    finally:
        for directory in (path, runs):
            with contextlib.suppress(OSError):
                directory.rmdir()
