"""Diagnose any auto-encoder from arrays of data, codes and reconstructions; no model is needed."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mimachine._support.schema import Number
from mimachine.estimation.codes.aggregate import kl_terms
from mimachine.estimation.codes.collapse import diagnose_codes
from mimachine.evaluation.advice import VERDICTS, remedies
from mimachine.evaluation.arrays import Encodings, encodings
from mimachine.evaluation.budgets import FEWEST_PROBED
from mimachine.evaluation.classes import can_be_probed, classes_of_arrays
from mimachine.evaluation.codes import prior_of_arrays, shape_of_arrays, varying
from mimachine.evaluation.glossary import declaration
from mimachine.evaluation.information import information_of_arrays
from mimachine.evaluation.likelihood import rate_of_arrays
from mimachine.evaluation.metric import Metric, Report
from mimachine.evaluation.reconstruction import reconstruction_of_arrays

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True)
class Diagnosis(Report):
    """Diagnosis of an auto-encoder; `str()` formats it in at most 100 columns.

    Attributes:
        metrics: The metrics; `diagnosis["name"]` finds one.
        verdict: "healthy", "partly collapsed", "collapsed" or "deterministic", as for
            `diagnose_codes`; without z_std "unknown", unless the means themselves tell.
        advice: What the verdict means.
        remedies: What to try, the most important first.
        unknown: What was not measured, and what is needed to measure it.
        kl_per_dimension: KL divergence of the posterior from N(0, 1) in each latent dimension, in
            nats; None without z_std. Infinite where there is no noise.
    """

    remedies: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    kl_per_dimension: tuple[Number, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON values; infinite values and NaN become null."""
        value = super().to_json()
        if self.kl_per_dimension is not None:
            value["kl_per_dimension"] = [
                kl if math.isfinite(kl) else None for kl in self.kl_per_dimension
            ]
        return value

    def to_markdown(self) -> str:
        """The diagnosis as Markdown: verdict, one table per question, and what to try."""
        lines = [f"**{self.verdict}**: {self.advice}"]
        for group, metrics in self._groups():
            lines += ["", f"| {group} | | |", "|---|---|---|"]
            for metric in metrics:
                known = declaration(metric)
                value = f"{_shown(metric)} {metric.unit}"
                lines.append(f"| {known.title} | {value} | {known.meaning} |")
        for title, texts in (
            ("What to try", self.remedies),
            ("Not measured", self.unknown),
            ("Notes", tuple(self._notes())),
        ):
            lines += ["", f"{title}:", "", *(f"- {text}" for text in texts)] if texts else []
        return "\n".join(lines) + "\n"

    def __str__(self) -> str:
        lines = [textwrap.fill(f"verdict: {self.verdict}. {self.advice}", 98)]
        for group, metrics in self._groups():
            lines += ["", group]
            for metric in metrics:
                lines.append(f"  {metric.name:<30} {_shown(metric):>18} {metric.unit}".rstrip())
        tried = [f"{number}. {text}" for number, text in enumerate(self.remedies, 1)]
        for title, texts in (
            ("What to try", tried),
            ("Not measured", self.unknown),
            ("Notes", tuple(self._notes())),
        ):
            lines += ["", title, *(_wrapped(text) for text in texts)] if texts else []
        return "\n".join(lines)

    def _groups(self) -> list[tuple[str, list[Metric]]]:
        groups: dict[str, list[Metric]] = {}
        for metric in self.metrics:
            groups.setdefault(declaration(metric).question, []).append(metric)
        return list(groups.items())

    def _notes(self) -> Iterator[str]:
        for metric in self.metrics:
            for note in metric.notes:
                yield f"{metric.name}: {note}"


def _shown(metric: Metric) -> str:
    """A number with its error; a count without decimals."""
    return f"{metric.value:.0f}" if metric.name.endswith("_units") else str(metric)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 98, initial_indent="  ", subsequent_indent="    ")


def diagnose(
    x: Any,
    z_mean: Any,
    z_std: Any = None,
    x_reconstructed: Any = None,
    labels: Any = None,
    *,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose any auto-encoder from N rows of data and their codes, best from held-out rows.

    All arguments are tensors, arrays, data frames or lists of numbers, with the same rows in the
    same order. Metrics that need a missing argument are reported as unknown. Slow metrics
    use a random subset of the rows, which their notes report; the same seed gives the same rows.

    Args:
        x: Data, shape (N, ...), N at least 10.
        z_mean: Mean of q(z|x), or the code of an auto-encoder without noise, shape (N, ...).
        z_std: Standard deviation of q(z|x), of z_mean's shape, or one per dimension, or a number;
            0 for an auto-encoder without noise. q(z|x) is assumed to be a diagonal normal.
        x_reconstructed: Decoded z_mean, in the units of x, shape (N, ...).
        labels: Class of each row, numbers or text, shape (N,).
        seed: Seed of random rows and noise; the global generator keeps its state.

    Raises:
        ValueError: If an array cannot be used; the message names it and says why.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(500, 3, generator=generator)
        >>> diagnosis = mm.diagnose(x, 0.8 * x, z_std=0.6)
        >>> diagnosis.verdict, diagnosis["active_units"].value
        ('healthy', 3.0)
    """
    data = encodings(x, z_mean, z_std, x_reconstructed, labels, seed)
    metrics = (
        *shape_of_arrays(data),
        *rate_of_arrays(data),
        *prior_of_arrays(data),
        *information_of_arrays(data),
        *reconstruction_of_arrays(data),
        *classes_of_arrays(data),
    )
    by_name = {metric.name: metric for metric in metrics}
    verdict = _verdict(data, by_name)
    return Diagnosis(
        metrics,
        verdict,
        VERDICTS[verdict],
        remedies(data, verdict, by_name),
        tuple(_unknown(data)),
        None if data.std is None else tuple(kl_terms(data.mean, data.std).mean(0).tolist()),
    )


def _verdict(data: Encodings, metrics: Mapping[str, Metric]) -> str:
    if data.std is not None:
        bound = metrics.get("mutual_information_upper")
        information = None if bound is None else bound.value
        return diagnose_codes(data.mean, data.std, information=information).verdict
    differs = varying(data)
    if not differs.any():
        return "collapsed"
    return "unknown" if differs.double().mean() >= 0.5 else "partly collapsed"


def _unknown(data: Encodings) -> Iterator[str]:
    if data.std is None:
        yield (
            "z_std: needed for the active latents, the rate and the width of codes. Give the "
            "standard deviation of q(z|x), or z_std=0 for an auto-encoder without noise."
        )
    elif (data.std == 0).any():
        yield "rate: infinite for codes without noise."
    if data.reconstructed is None:
        yield "x_reconstructed: needed for reconstruction errors. Give the decoded z_mean."
    if data.labels is None:
        yield "labels: needed for classification accuracies. Give the class of each row."
    elif len(data.labels.unique()) < 2:
        yield "classes: all labels are the same."
    elif not can_be_probed(data.labels):
        yield f"classes: a probe needs {FEWEST_PROBED} rows or more."
