"""Read the measured numbers of runs and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimachine.evaluation.metric import Report
from mimachine.training.run import Run

__all__ = [
    "kept_epoch",
    "read_reports",
]


def read_reports(paths: Sequence[Path]) -> dict[str, Report]:
    """What was measured of runs and of comparisons, without opening models and data.

    Args:
        paths: Directories of runs that were measured, and of comparisons.

    Returns:
        The reports by the objectives' names; by those of the directories where two are the same.

    Raises:
        FileNotFoundError: If a directory has no numbers.
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
                f"{path} has no report.json: a table needs runs that were measured, or comparisons"
            )
        settings = run.read_json("experiment.json")
        objective = settings.get("objective", str(path)) if isinstance(settings, dict) else None
        if not isinstance(objective, str):
            raise ValueError(f"{path / 'experiment.json'} is damaged: it must hold settings")
        report = read_report(run.read_json("report.json"), path / "report.json")
        found.append((objective, str(path), report))
    names = [name for name, _, _ in found]
    return {path if names.count(name) > 1 else name: report for name, path, report in found}


def read_report(value: Any, file: Path) -> Report:
    try:
        return Report.from_json(value)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} does not hold a report that can be read: {error!r}") from error


def kept_epoch(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The epoch whose weights were kept: the best held-out loss once the warm-up is over."""
    warm = [r for r in records if r["beta"] >= 1 and r["val_loss"] is not None]
    return min(warm, key=lambda record: record["val_loss"], default=None)
