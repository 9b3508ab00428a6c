"""Metric and Report: measured numbers with unit, definition, error and notes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal, Self

from mimachine._support.messages import hint
from mimachine._support.schema import Checked, Count, Index, NotNegative, Number, shown, validated
from mimachine.estimation.estimate import Estimate

__all__ = ["Metric", "Reason", "Report", "ReportRecord"]

# Why a number is unreliable, for code; the notes say it to people.
Reason = Literal[
    "loose-bound", "saturated", "many-dimensions", "outside-bounds", "many-ties", "unconverged"
]

# The last is for arrays alone, without the noise of the encoder.
_VERDICTS = ("healthy", "partly collapsed", "collapsed", "deterministic", "unknown")


@dataclass(frozen=True)
class Metric:
    """One measured number.

    Attributes:
        name: What it is called.
        value: The number.
        unit: Its unit; "" for a plain number.
        definition: How it is defined, in a sentence.
        latent: Whether it uses the mean of q(z|x) or a sample of it.
        standard_error: Its error where one is known, in the same unit.
        notes: What a reader has to know to trust it or not.
        flagged: Whether it is unreliable; `reasons` and the notes say why.
        reasons: Codes of what limits it. A limit alone need not flag the number.
    """

    name: str
    value: Number
    unit: str
    definition: str
    latent: Literal["mean", "sample"]
    standard_error: NotNegative | None = None
    notes: tuple[str, ...] = ()
    flagged: bool = False
    reasons: tuple[Reason, ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        estimate: Estimate,
        unit: str,
        definition: str,
        latent: Literal["mean", "sample"] = "mean",
        notes: tuple[str, ...] = (),
        flagged: bool = False,
        reasons: tuple[Reason, ...] = (),
    ) -> Metric:
        """From an estimate; an error that is not finite is none."""
        error = estimate.standard_error if math.isfinite(estimate.standard_error) else None
        return cls(name, estimate.value, unit, definition, latent, error, notes, flagged, reasons)

    @property
    def marked(self) -> str:
        """The value as `str` writes it, with a † if it is flagged."""
        text = str(self) if math.isfinite(self.value) else "not finite"
        return f"{text} †" if self.flagged else text

    def __str__(self) -> str:
        error = math.nan if self.standard_error is None else self.standard_error
        return str(Estimate(self.value, error))


def _verdict(value: Any) -> Any:
    if value not in _VERDICTS:
        raise ValueError(f"must be one of {', '.join(_VERDICTS)}; got {shown(value)}")
    return value


@dataclass(frozen=True)
class Report:
    """All metrics of one model, and the verdict on its codes; `str()` lists them.

    Attributes:
        metrics: The metrics; `report["name"]` finds one.
        verdict: "healthy", "partly collapsed", "collapsed" or "deterministic".
        advice: What the verdict means, in plain words.
    """

    metrics: tuple[Metric, ...]
    verdict: Annotated[str, Checked(_verdict)]
    advice: str

    def __getitem__(self, name: str) -> Metric:
        for metric in self.metrics:
            if metric.name == name:
                return metric
        names = [metric.name for metric in self.metrics]
        raise KeyError(f"no metric {name!r}{hint(name, names)}")

    def __str__(self) -> str:
        rows = [f"  {m.name:<36} {m.marked:>22} {m.unit}".rstrip() for m in self.metrics]
        return "\n".join([f"verdict: {self.verdict}. {self.advice}", *rows])

    def has(self, name: str) -> bool:
        """Whether a metric was measured."""
        return any(metric.name == name for metric in self.metrics)

    @property
    def values(self) -> dict[str, float]:
        """The value of each metric by its name."""
        return {metric.name: metric.value for metric in self.metrics}

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; a metric that is infinite or not a number becomes null."""
        value = dataclasses.asdict(self)
        for metric in value["metrics"]:
            metric["value"] = metric["value"] if math.isfinite(metric["value"]) else None
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """A report read back; null becomes NaN.

        Entries that a report does not have are ignored, such as those of report.json about its
        measurement.

        Raises:
            ValueError: If an entry is missing or not what it must be, or a metric occurs twice.
        """
        if not isinstance(value, dict):
            raise ValueError(f"a report must be a JSON object, got {shown(value)}")
        entries = {f.name: value[f.name] for f in fields(cls) if f.name in value}
        report = validated(cls, entries, "the report is not valid")
        names = [metric.name for metric in report.metrics]
        if len(set(names)) < len(names):
            raise ValueError("the report is not valid: a metric occurs twice")
        return replace(report, metrics=tuple(map(_of_0_1, report.metrics, value["metrics"])))


@dataclass(frozen=True)
class ReportRecord(Report):
    """Content of report.json: a report and how it was measured.

    Attributes:
        metrics: As in `Report`.
        verdict: As in `Report`.
        advice: As in `Report`.
        num_samples: Importance samples per test example for the likelihood.
        versions: Versions of the software by name.
        epochs: Number of epochs that the run had; None in runs of version 0.1.
    """

    num_samples: Count | None = None
    versions: dict[str, str] = field(default_factory=dict)
    epochs: Index | None = None


def _of_0_1(metric: Metric, given: dict[str, Any]) -> Metric:
    """Reports of version 0.1 have no reasons; of the likelihood there was only one."""
    loose = metric.name == "negative_log_likelihood" and metric.flagged
    return replace(metric, reasons=("loose-bound",)) if loose and "reasons" not in given else metric
