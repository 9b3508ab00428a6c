"""Command lines that repeat, compare or use a run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mimachine import experiment
from mimachine._support.messages import command_line, quoted
from mimachine.data.files.options import File
from mimachine.data.tables.schema import Levels, Schema
from mimachine.experiment.settings import Experiment, Model, flat
from mimachine.experiment.usual_architecture import usual_architecture
from mimachine.reporting.measured_run import Outcome

__all__ = ["comparing", "of_comparison", "of_runs", "options", "presets", "shown", "training"]

_MISSING = object()


def shown(settings: Experiment) -> Experiment:
    """Settings without the directories of files, which a shared report must not reveal."""
    data = settings.data
    if not data.is_path:
        return settings
    labels = data.file.labels
    if labels is not None and Path(labels).is_absolute():
        labels = Path(labels).name
    file = replace(data.file, labels=labels)
    return replace(settings, data=replace(data, name=Path(data.name).name, file=file))


def options(*settings: Experiment) -> list[str] | None:
    """Options that give these settings, each from the defaults of its objective; None if none do.

    Of one experiment they are options of `mimachine train`, of several of `mimachine compare`.
    """
    first, starts = settings[0], [presets(each) for each in settings]
    candidates = [
        [*_start(preset, first), *changes]
        for preset in starts[0]
        if all(preset in each for each in starts)
        and (changes := _changes([each[preset] for each in starts], settings)) is not None
    ]
    if not candidates:
        return None
    return min(candidates, key=len) + _file_options(shown(first).data.file)


def _start(preset: str, settings: Experiment) -> list[str]:
    """Options for a preset and the architecture."""
    data, architecture = settings.data, settings.model.architecture
    if preset == "default":
        usual = usual_architecture(data.name, data.file)
        return [] if architecture == usual else ["--model.architecture", architecture]
    chosen = [] if architecture == "mlp" else ["--model.architecture", architecture]
    return ["--preset", preset, *chosen]


def presets(settings: Experiment) -> dict[str, Experiment]:
    """Settings of each `mimachine train` preset that exists for the data, before options."""
    data, objective, architecture = settings.data, settings.objective, settings.model.architecture
    starts = {"default": experiment.default(data.name, objective, data.file, architecture)}
    with contextlib.suppress(ValueError):
        prior = settings.model.prior
        fast = experiment.fast(data.name, objective, data.file, architecture, prior)
        # The prior is an option, though the recipe depends on it.
        starts["fast"] = replace(fast, model=replace(fast.model, prior=Model.prior))
    for preset, make in (("published", experiment.published), ("paper", experiment.paper_images)):
        with contextlib.suppress(ValueError):
            starts[preset] = make(data.name, objective, architecture)
    return starts


def _changes(starts: Sequence[Experiment], settings: Sequence[Experiment]) -> list[str] | None:
    """Options that turn each of `starts` into its settings; None if no options do."""
    values = [flat(asdict(each)) for each in settings]
    changed = dict[str, None]()
    for start, wanted in zip(starts, values, strict=True):
        defaults = flat(asdict(start))
        changed |= {n: None for n, value in wanted.items() if defaults.get(n, _MISSING) != value}
    given = list[str]()
    for name in changed:
        # An option holds for all of them.
        found = [each.get(name, _MISSING) for each in values]
        if name.startswith("data.") or any(each != found[0] for each in found):
            return None
        given += _option(name, found[0])
    return given


def _file_options(file: File) -> list[str]:
    defaults = asdict(File())
    changed = {name: value for name, value in asdict(file).items() if value != defaults[name]}
    return [part for name, value in changed.items() for part in _option(name, value)]


def _option(name: str, value: Any) -> list[str]:
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", *map(str, value if isinstance(value, tuple) else (value,))]


def training(outcome: Outcome) -> str:
    """Command that trains the model again, or Python code if no command line can."""
    settings, path = outcome.trained.experiment, outcome.trained.run.path
    refitted = outcome.trained.run.refit_record()
    if refitted is not None:
        return _refit_command(refitted, f"{path}-again")
    given, again = options(settings), f"{path}-again"
    if given is not None:
        name = shown(settings).data.name
        command = ["mimachine", "train", name, "--objective", settings.objective]
        return command_line([*command, *given, "--out", again])
    return (
        "import json\nfrom mimachine import experiment, workflow\n"
        f"with open({str(path / 'experiment.json')!r}) as file:\n"
        "    settings = experiment.from_json(json.load(file))\n"
        f"workflow.train(settings, {again!r})"
    )


def _refit_command(record: Mapping[str, Any], again: str) -> str:
    """Command that refits the prior to the codes of the same run."""
    command = ["mimachine", "refit", record["run"], "--kind", record["kind"]]
    if record["components"] is not None:
        command += ["--components", str(record["components"])]
    return command_line([*command, "--seed", str(record["seed"]), "--out", again])


def comparing(outcome: Outcome, other: str = "") -> str:
    """Command that compares the objective with `other`, or with the default objectives."""
    settings = outcome.trained.experiment
    if outcome.trained.run.refit_record() is not None:
        # Some refitted priors are not available for training.
        settings = replace(settings, model=replace(settings.model, prior="standard-normal"))
    name, given = shown(settings).data.name, options(settings)
    objectives = ["--objectives", settings.objective, other] if other else []
    return command_line(["mimachine", "compare", name, *objectives, *(given or [])])


def of_runs(*outcomes: Outcome) -> list[tuple[str, str]]:
    """Pairs of purpose and commands, one line per run."""
    paths = [quoted(outcome.trained.run.path) for outcome in outcomes]

    def each(command: str, options: str = "") -> str:
        return "\n".join(f"mimachine {command} {path}{options}" for path in paths)

    # A JSON string is also a Python string.
    first = json.dumps(str(outcomes[0].trained.run.path))
    schema = outcomes[0].trained.data.schema
    # By default all rows of a file are meant.
    split = " --split test" if outcomes[0].trained.experiment.data.is_path else ""
    return [
        (_repeat_heading(outcomes[0]), "\n".join(training(outcome) for outcome in outcomes)),
        ("Evaluate with more importance samples", each("evaluate", " --num-samples 5000")),
        *([("Sample new data", each("sample", " --num 64"))] if schema is None else []),
        *([] if schema is None else _of_table(schema, each)),
        ("Save the codes of the test set", each("embed", split)),
        ("Reconstruct the test set", each("reconstruct", split)),
        ("Load in Python", f"import mimachine as mm\ntrained = mm.load({first})"),
    ]


def _of_table(schema: Schema, each: Callable[[str, str], str]) -> list[tuple[str, str]]:
    """Pairs of purpose and commands for a model of a table."""
    commands = [("Generate rows of the table", each("sample", " --num 1000"))]
    given = _condition(schema)
    if given is not None:
        commands.append(
            ("Generate rows with some given values", each("sample", f" --num 1000 {given}"))
        )
    return [
        *commands,
        (
            "Find unusual rows of the test set; name another table after the run to score its rows",
            each("score", " --split test"),
        ),
        ("Fill in missing values of the table", each("impute", "")),
    ]


def _condition(schema: Schema) -> str | None:
    """Option that gives a column its most frequent level; None if no column has plain levels."""
    for column in schema.modelled:
        if not isinstance(column, Levels):
            continue
        own = column.counts[:-1] if column.other else column.counts
        level = column.levels[max(range(len(own)), key=own.__getitem__)] if own else ""
        value = str(level).lower() if isinstance(level, bool) else str(level)
        # A condition ends its column's name at the first equals sign.
        if value and value.isprintable() and column.name.isprintable() and "=" not in column.name:
            return command_line(["--given", f"{column.name}={value}"])
    return None


def _repeat_heading(outcome: Outcome) -> str:
    settings = outcome.trained.experiment
    if outcome.trained.run.refit_record() is not None:
        return "Refit the prior with the same settings"
    # The report may be shared, so it does not reveal the file's directory.
    if settings.data.is_path:
        name = shown(settings).data.name
        return f"Train again with the same settings, from the folder of {name}"
    return "Train again with the same settings"


def of_comparison(directory: Path, outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Pairs of purpose and commands for a comparison; one command if the runs share options."""
    separate = of_runs(*outcomes)
    settings = [outcome.trained.experiment for outcome in outcomes]
    given, names = options(*settings), [each.objective for each in settings]
    if given is None or names != [each.name for each in outcomes]:
        return separate
    name = shown(settings[0]).data.name
    command = ["mimachine", "compare", name, "--objectives", *names]
    again = command_line([*command, *given, "--out", f"{directory}-again"])
    return [(separate[0][0], again), *separate[1:]]
