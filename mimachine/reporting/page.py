"""Write a run or a comparison as a self-contained HTML report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from mimachine._support.messages import visible
from mimachine._support.outputs import Outputs
from mimachine._support.reading import read_bytes
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.evaluation.glossary import Declaration, declaration, listed
from mimachine.experiment.settings import Experiment, flat
from mimachine.reporting import command_lines
from mimachine.reporting.measured_run import Outcome, open_compared, open_outcome
from mimachine.reporting.projections import Embedding
from mimachine.reporting.run_advice import tips
from mimachine.reporting.sections import sections
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained
from mimachine.workflow.reports import read_comparison

__all__ = ["write_comparison", "write_report"]

_FILE = "report.html"


def write_report(
    run_directory: str | os.PathLike[str],
    *,
    embedding: Embedding = "pca",
    data: str | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
    trained: Trained | None = None,
) -> Path:
    """Write RUN/report.html: metrics, their meaning, figures, settings and commands of a run.

    Args:
        run_directory: A trained and evaluated run.
        embedding: Projection of codes with more than two dimensions. t-SNE may show clusters that
            PCA hides, but its distances carry little meaning.
        data: File or folder that the run was trained on, if it moved.
        force: Whether a report.html may be overwritten that mimachine did not write, or that has
            changed since. One of version 0.1, where this is not known, is kept as report.html.old.
        say: Called with a message if a report is kept.
        trained: The run, if it is open already, so that its data are not read again.

    Returns:
        Path of the file, which needs no other files, network or scripts.

    Raises:
        FileNotFoundError: If the run or one of its files is missing.
        ValueError: If a file of the run is damaged, or report.html may not be overwritten.
    """
    _check(embedding)
    outputs = _outputs(Path(run_directory), force, say)
    outcome = open_outcome(Path(run_directory), data=data, trained=trained)
    settings, dataset = outcome.trained.experiment, outcome.trained.data
    page = _page(
        f"{settings.objective} on {dataset.name}",
        f"A model trained with the objective {settings.objective}{_fitted(outcome.trained.run)}. "
        f"{_described(dataset)}",
        [outcome],
        embedding,
        command_lines.of_runs(outcome),
    )
    return _write(outcome.trained.run.path, page, outputs)


def write_comparison(
    directory: str | os.PathLike[str],
    *,
    embedding: Embedding = "pca",
    data: str | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write DIRECTORY/report.html: the runs of a comparison side by side.

    Metrics are read from comparison.json. The report links to the report.html of each run, if any.

    Args:
        directory: Directory written by `comparison.compare`.
        embedding: As for `write_report`.
        data: As for `write_report`.
        force: As for `write_report`.
        say: As for `write_report`.

    Raises:
        FileNotFoundError: If comparison.json or a file of a run is missing.
        ValueError: If a file is damaged, or report.html may not be overwritten.
    """
    _check(embedding)
    directory = Path(directory)
    outputs = _outputs(directory, force, say)
    saved = read_comparison(directory)
    outcomes = [open_compared(directory, name, each, data) for name, each in saved.reports.items()]
    dataset = outcomes[0].trained.data
    names = listed([outcome.name for outcome in outcomes])
    page = _page(
        f"{names} on {dataset.name}",
        f"{len(outcomes)} models trained on the same data. {_described(dataset)}",
        outcomes,
        embedding,
        command_lines.of_comparison(directory, outcomes),
        summary=saved.summary.splitlines(),
    )
    return _write(directory, page, outputs)


def _check(embedding: str) -> None:
    if embedding not in get_args(Embedding):
        known = " or ".join(get_args(Embedding))
        raise ValueError(f"embedding must be {known}, got {embedding!r}")


def _page(
    title: str,
    lead: str,
    outcomes: Sequence[Outcome],
    embedding: Embedding,
    commands: Sequence[tuple[str, str]],
    summary: Sequence[str] = (),
) -> dict[str, Any]:
    """Variables of the template."""
    with forked(derived_seed(0, "report")):
        shown = list(sections(outcomes, embedding))
        advice = [tips(outcome, compared=len(outcomes) > 1) for outcome in outcomes]
    shared = [tip for tip in advice[0] if len(advice) > 1 and all(tip in each for each in advice)]
    return {
        "title": title,
        "lead": lead,
        "outcomes": outcomes,
        "tips": [[tip for tip in each if tip not in shared] for each in advice],
        "shared_tips": shared,
        "summary": summary,
        "groups": _groups(outcomes),
        "definitions": {m.name: m.definition for r in outcomes for m in r.report.metrics},
        "sections": shown,
        "settings": _settings(outcomes),
        "versions": _versions(outcomes),
        "commands": commands,
    }


def _outputs(directory: Path, force: bool, say: Callable[[str], None]) -> Outputs:
    """Rules for writing report.html: not over what somebody else wrote or edited.

    Raises:
        ValueError: If there is such a file.
        OSError: If the file cannot be written.
    """
    outputs = Outputs(directory, _is_report, force=force, say=say)
    if directory.is_dir():
        outputs.check(directory / _FILE)
    return outputs


def _is_report(file: Path) -> bool:
    """Whether a file is a report of version 0.1, which kept no record."""
    try:
        return b"mimachine report</title>" in read_bytes(file)
    except (OSError, ValueError):
        return False


def _write(directory: Path, page: Mapping[str, Any], outputs: Outputs) -> Path:
    import jinja2

    file = directory / _FILE

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mimachine.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(page)
    # Names of files may not be Unicode, and marks in names could change the order of other text.
    html = visible(html, keep="\n\t\r")
    with outputs.replacing(file) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return file


def _fitted(run: Run) -> str:
    record = run.refit_record()
    if record is None:
        return ""
    return f", with a prior ({record['kind']}) refitted to its codes after training"


def _described(data: Dataset) -> str:
    shape = data.test.shape[1:] if data.preprocessing is None else data.preprocessing.shape
    size = f"examples of {' × '.join(map(str, shape))} numbers"
    if shape == (1,):
        size = "examples of one number"
    elif data.columns is not None:
        size = f"rows of {len(data.columns)} columns"
    if data.image_shape is not None:
        channels, height, width = data.image_shape
        colour = " in colour" if channels > 1 else ""
        size = f"images of {height} × {width} pixels{colour}"
    return (
        f"Data: {data.name}, {size}; {len(data.train):,} for training, {len(data.val):,} for "
        f"validation and {len(data.test):,} for testing. All metrics are computed on the test set."
    )


@dataclass
class _Row:
    name: str
    unit: str
    latent: str
    declared: Declaration
    values: dict[str, str] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)


def _groups(outcomes: Sequence[Outcome]) -> dict[str, list[_Row]]:
    """Rows of the table of metrics by group, with every metric that any run has."""
    rows: dict[str, _Row] = {}
    for outcome in outcomes:
        for metric in outcome.report.metrics:
            row = rows.setdefault(
                metric.name, _Row(metric.name, metric.unit, metric.latent, declaration(metric))
            )
            row.values[outcome.name] = metric.marked
            row.notes += [(outcome.name, note) for note in metric.notes]
    groups: dict[str, list[_Row]] = {}
    for row in rows.values():
        groups.setdefault(row.declared.question, []).append(row)
    return groups


class _Setting(NamedTuple):
    """A row of the settings: for each run the value and, if changed, the default."""

    name: str
    cells: list[tuple[str, str | None]]
    differs: bool


def _settings(outcomes: Sequence[Outcome]) -> list[_Setting]:
    experiments = [outcome.trained.experiment for outcome in outcomes]
    given = [_flat(each) for each in experiments]
    starts = [_flat(command_lines.presets(each)["default"]) for each in experiments]
    names = dict.fromkeys(name for settings in given for name in settings)
    rows = []
    for name in names:
        if any(other.startswith(f"{name}.") for other in names):
            continue
        values = [settings.get(name) for settings in given]
        defaults = [settings.get(name) for settings in starts]
        cells = [
            (_shown(value), None if value == default else _shown(default))
            for value, default in zip(values, defaults, strict=True)
        ]
        rows.append(_Setting(name, cells, any(value != values[0] for value in values)))
    return rows


def _flat(settings: Experiment) -> dict[str, Any]:
    """Settings by name, without file options if the data are not a file."""
    named = flat(asdict(command_lines.shown(settings)))
    if settings.data.is_path:
        return named
    return {name: value for name, value in named.items() if not name.startswith("data.file.")}


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _versions(outcomes: Sequence[Outcome]) -> dict[str, list[str]]:
    """Software versions and numbers of importance samples of the evaluation, by run."""
    names = dict.fromkeys(name for r in outcomes for name in r.measured.get("versions", {}))
    versions = {
        name: [str(r.measured.get("versions", {}).get(name, "unknown")) for r in outcomes]
        for name in names
    }
    samples = [str(r.measured.get("num_samples", "unknown")) for r in outcomes]
    return {**versions, "importance samples": samples}
