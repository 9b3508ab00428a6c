"""Metric and Report: measured numbers with unit, definition, error and notes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from mimachine._support.messages import hint
from mimachine.estimation.estimate import Estimate

__all__ = ["Metric", "Reason", "Report"]

# Why a number is unreliable, for code; the notes say it to people.
Reason = Literal[
    "loose-bound", "saturated", "many-dimensions", "outside-bounds", "many-ties", "unconverged"
]


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
    value: float
    unit: str
    definition: str
    latent: Literal["mean", "sample"]
    standard_error: float | None = None
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


@dataclass(frozen=True)
class Report:
    """All metrics of one model, and the verdict on its codes; `str()` lists them.

    Attributes:
        metrics: The metrics; `report["name"]` finds one.
        verdict: "healthy", "partly collapsed", "collapsed" or "deterministic".
        advice: What the verdict means, in plain words.
    """

    metrics: tuple[Metric, ...]
    verdict: str
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
    def from_json(cls, value: dict[str, Any]) -> Report:
        """A report read back; null becomes NaN."""
        metrics = tuple(
            Metric(
                **{
                    **metric,
                    "value": math.nan if metric["value"] is None else metric["value"],
                    "notes": tuple(metric["notes"]),
                    "reasons": tuple(metric.get("reasons", _reasons_before_0_2(metric))),
                }
            )
            for metric in value["metrics"]
        )
        return cls(metrics, value["verdict"], value["advice"])


def _reasons_before_0_2(metric: dict[str, Any]) -> tuple[Reason, ...]:
    """Reports of version 0.1 have no reasons; of the likelihood there was only one."""
    loose = metric["name"] == "negative_log_likelihood" and metric.get("flagged", False)
    return ("loose-bound",) if loose else ()
