"""Read the results of runs and comparisons."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from mimachine._support.schema import Checked, validated
from mimachine.evaluation.metric import Report, ReportRecord
from mimachine.training.run import Run

__all__ = [
    "Compared",
    "kept_epoch",
    "read_comparison",
    "read_epochs",
    "read_record",
    "read_report",
    "read_reports",
]

_REPORT, _COMPARISON = "report.json", "comparison.json"


def read_reports(paths: Sequence[Path]) -> dict[str, Report]:
    """Read the results of runs and comparisons without loading models or data.

    Args:
        paths: Directories of evaluated runs and of comparisons.

    Returns:
        Reports by the names of the objectives; where a name occurs twice, by directories.

    Raises:
        FileNotFoundError: If a directory has no results.
        ValueError: If a file is damaged.
    """
    found: list[tuple[str, str, Report]] = []
    for path in paths:
        if os.path.lexists(path / _COMPARISON):
            reports = read_comparison(path).reports
            found += [(name, f"{path}/{name}", report) for name, report in reports.items()]
            continue
        run = Run(path)
        if not os.path.lexists(path / _REPORT):
            raise FileNotFoundError(
                f"{path} has no report.json: a table needs evaluated runs or comparisons"
            )
        settings = run.read_json("experiment.json")
        objective = settings.get("objective", str(path)) if isinstance(settings, dict) else None
        if not isinstance(objective, str):
            raise ValueError(f"{path / 'experiment.json'} is damaged: it must contain settings")
        found.append((objective, str(path), read_report(read_record(run), path / _REPORT)))
    names = [name for name, _, _ in found]
    return {path if names.count(name) > 1 else name: report for name, path, report in found}


def read_record(run: Run) -> dict[str, Any]:
    """Read report.json: a report and how it was measured, as JSON values.

    Raises:
        FileNotFoundError: If the run was not evaluated.
        ValueError: If the file is damaged, or was changed after it was written.
    """
    fault = "does not contain a valid report"
    record: dict[str, Any] = run.read_json(_REPORT, ReportRecord, fault)
    return record


def read_epochs(run: Run, record: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Read the records of the epochs of a run, and check that none is missing.

    Args:
        run: The run.
        record: Result of `read_record`; None if the run was not evaluated.

    Raises:
        ValueError: If metrics.jsonl is damaged or incomplete, or was changed after it was written.
    """
    epochs, count = run.metrics(), None if record is None else record.get("epochs")
    # A run that is trained on has more epochs than when it was evaluated.
    if run.finished and count not in (None, len(epochs)):
        raise ValueError(
            f"{run.path / 'metrics.jsonl'} is damaged: it must have {count} epochs, "
            f"got {len(epochs)}"
        )
    return epochs


def read_report(value: Any, file: Path) -> Report:
    """Convert JSON values of a file to a report.

    Raises:
        ValueError: If they are not a report.
    """
    try:
        return Report.from_json(value)
    except ValueError as error:
        raise ValueError(f"{file} does not contain a valid report: {error}") from error


@dataclass(frozen=True)
class Compared:
    """Content of comparison.json.

    Attributes:
        reports: Metrics of each run by its name, which is that of its directory.
        pictures: Paths of the figures.
        summary: The best runs by several metrics, one line per metric.
    """

    reports: dict[str, Annotated[Report, Checked(Report.from_json)]]
    pictures: tuple[str, ...] = ()
    summary: str = ""


def read_comparison(directory: Path) -> Compared:
    """Read the results of a comparison.

    Raises:
        FileNotFoundError: If there is no comparison.json.
        ValueError: If the file is damaged, or was changed after it was written.
    """
    file = directory / _COMPARISON
    if not os.path.lexists(file):
        raise FileNotFoundError(f"{directory} is not a comparison: it has no comparison.json")
    record = Run(directory).read_json(_COMPARISON, Compared)
    compared = validated(Compared, record, f"{file} is damaged")
    if not compared.reports:
        raise ValueError(f"{file} has no reports")
    for name in compared.reports:
        # A path would lead out of the comparison.
        if Path(name).name != name or name in ("", "..") or "\0" in name:
            raise ValueError(f"{file} is damaged: {name[:100]!a} is no name of a directory in it")
    return compared


def kept_epoch(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The epoch of the stored weights: that of the lowest validation loss after the warm-up.

    None if there is none, or if each of several models has its own.
    """
    warm = [r for r in records if r["beta"] >= 1 and isinstance(r["val_loss"], int | float)]
    return min(warm, key=lambda record: record["val_loss"], default=None)
