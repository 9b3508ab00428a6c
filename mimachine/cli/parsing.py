"""Parsing: command-line arguments to settings."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from mimachine.cli.options import Compare, Train
from mimachine.data.files.options import File
from mimachine.experiment.presets import default, paper_images, published
from mimachine.experiment.settings import Experiment
from mimachine.training.recipe import Training

# --- reading arguments ---------------------------------------------------------------------------

Command = TypeVar("Command")


def parse(command: type[Command], arguments: list[str], start: Command | None = None) -> Command:
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


def parse_trainer(
    command: type[Trainer], arguments: list[str], objective: str | None = None
) -> Trainer:
    """Arguments over the defaults that belong to the data, the preset and the objective.

    They are read twice: once to learn what the defaults depend on, once over these defaults.
    """
    without_help = [a for a in arguments if a not in ("-h", "--help")]
    # For the first reading a recipe that no option of the user's contradicts.
    lenient = command(data="", training=Training(epochs=10**9, warmup=0))
    try:
        first = parse(command, without_help, lenient)
    except ValueError:
        if without_help == arguments:
            raise
        # Help was asked for before the command was complete.
        return parse(command, arguments)
    if not first.data:
        return parse(command, arguments)
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
    return parse(command, arguments, replace(first, **start))


def experiment_of(command: Train | Compare, objective: str | None) -> Experiment:
    """The experiment that a command line describes."""
    start = _settings(command, objective)
    return replace(
        start, model=command.model, training=command.training, num_samples=command.num_samples
    )


def data_name(command: Train | Compare) -> str:
    """What to call the data in the name of a run; "." has a name only once it is resolved."""
    return Path(command.data).resolve().stem or "data"


def new_directory(name: str) -> Path:
    """A directory under runs/ that is not there yet."""
    path, count = Path("runs") / name, 2
    while path.exists():
        path, count = Path("runs") / f"{name}-{count}", count + 1
    return path
