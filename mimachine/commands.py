"""Commands: what to type to make a outcome again, or to use it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mimachine import experiment
from mimachine.experiment import Experiment
from mimachine.outcomes import Outcome

__all__ = ["flat", "of_comparison", "of_runs", "options", "quoted", "training"]


def flat(value: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Nested settings by their names on the command line, such as training.warmup.epochs."""
    settings: dict[str, Any] = {}
    for name, part in value.items():
        nested = isinstance(part, dict)
        settings |= flat(part, f"{place}{name}.") if nested else {place + name: part}
    return settings


def quoted(path: Path) -> str:
    """A path as a shell reads it."""
    return shlex.quote(str(path))


def options(settings: Experiment) -> list[str] | None:
    """Options of `mimachine train` that give these settings; none if the command has no such."""
    start = experiment.default(settings.data.name, settings.objective)
    given: list[str] = []
    if settings.data.fresh or settings.training.schedule is not None:
        try:
            start = experiment.published(settings.data.name, settings.objective)
        except ValueError:
            return None
        given += ["--preset", "published"]
    defaults = flat(asdict(start))
    for name, value in flat(asdict(settings)).items():
        if name in defaults and defaults[name] == value:
            continue
        if name.startswith(("data.", "training.schedule")):
            return None
        given.append("--" + name.replace("_", "-"))
        given += [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
    return given


def training(outcome: Outcome) -> str:
    """What trains the model again: a command, or Python where the command line cannot say it."""
    settings, path = outcome.trained.experiment, outcome.trained.run.path
    given, again = options(settings), f"{path}-again"
    if given is not None:
        command = ["mimachine", "train", settings.data.name, "--objective", settings.objective]
        return shlex.join([*command, *given, "--out", again])
    return (
        "import json\nfrom mimachine import experiment, workflow\n"
        f"with open({str(path / 'experiment.json')!r}) as file:\n"
        "    settings = experiment.from_json(json.load(file))\n"
        f"workflow.train(settings, {again!r})"
    )


def of_runs(*outcomes: Outcome) -> list[tuple[str, str]]:
    """What each of a list of commands is for, and the command, a line for each run."""
    paths = [quoted(outcome.trained.run.path) for outcome in outcomes]

    def each(command: str, options: str = "") -> str:
        return "\n".join(f"mimachine {command} {path}{options}" for path in paths)

    # JSON's quotes and escapes are also Python's.
    first = json.dumps(str(outcomes[0].trained.run.path))
    return [
        ("Train the same again", "\n".join(training(outcome) for outcome in outcomes)),
        ("Measure again with more importance samples", each("evaluate", " --num-samples 5000")),
        ("Draw new data", each("sample", " --num 64")),
        ("Write the codes of the test data", each("embed")),
        ("Reconstruct the test data", each("reconstruct")),
        ("Use in Python", f"from mimachine import workflow\ntrained = workflow.open_run({first})"),
    ]


def of_comparison(directory: Path, outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """The same for a comparison, which one command repeats if the runs share their options."""
    separate = of_runs(*outcomes)
    settings = [outcome.trained.experiment for outcome in outcomes]
    given = [options(each) for each in settings]
    names = [each.objective for each in settings]
    alike = all(each == given[0] for each in given) and names == [r.name for r in outcomes]
    if given[0] is None or not alike:
        return separate
    command = ["mimachine", "compare", settings[0].data.name, "--objectives", *names]
    again = shlex.join([*command, *given[0], "--out", f"{directory}-again"])
    return [(separate[0][0], again), *separate[1:]]
