"""Read the results of runs and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimachine.evaluation.metric import Report
from mimachine.training.run import Run

__all__ = ["kept_epoch", "read_report", "read_reports"]


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
        run = Run(path)
        if (path / "comparison.json").is_file():
            file, saved = path / "comparison.json", run.read_json("comparison.json")
            each = saved.get("reports", {}) if isinstance(saved, dict) else {}
            found += [
                (name, f"{path}/{name}", read_report(value, file)) for name, value in each.items()
            ]
            continue
        if not (path / "report.json").is_file():
            raise FileNotFoundError(
                f"{path} has no report.json: a table needs evaluated runs or comparisons"
            )
        settings = run.read_json("experiment.json")
        objective = settings.get("objective", str(path)) if isinstance(settings, dict) else None
        if not isinstance(objective, str):
            raise ValueError(f"{path / 'experiment.json'} is damaged: it must contain settings")
        report = read_report(run.read_json("report.json"), path / "report.json")
        found.append((objective, str(path), report))
    names = [name for name, _, _ in found]
    return {path if names.count(name) > 1 else name: report for name, path, report in found}


def read_report(value: Any, file: Path) -> Report:
    """Convert JSON values of a file to a report.

    Raises:
        ValueError: If they are not a report.
    """
    try:
        return Report.from_json(value)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} does not contain a valid report: {error!r}") from error


def kept_epoch(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The epoch of the stored weights: that of the lowest validation loss after the warm-up."""
    warm = [r for r in records if r["beta"] >= 1 and r["val_loss"] is not None]
    return min(warm, key=lambda record: record["val_loss"], default=None)
