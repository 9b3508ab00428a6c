"""Diagnosis: the health of anybody's auto-encoder, from arrays of data, codes and reconstructions.

No model is needed, so it may be of any framework.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mimachine.estimation.codes.aggregate import kl_terms
from mimachine.estimation.codes.collapse import diagnose_codes
from mimachine.evaluation.advice import remedies
from mimachine.evaluation.arrays import Encodings, encodings
from mimachine.evaluation.glossary import meaning
from mimachine.evaluation.measurements import FEWEST_PROBED, can_be_probed, measurements, varying
from mimachine.evaluation.metric import Metric, Report

__all__ = [
    "Diagnosis",
    "diagnose",
]


ADVICE = {
    "healthy": "The codes depend on the data and have a width of their own.",
    "partly collapsed": "Most latent dimensions say nothing of the data.",
    "collapsed": "The codes say nothing of the data.",
    "deterministic": (
        "The codes are nearly points: they keep what the data say, but the encoder is no posterior "
        "to speak of."
    ),
    "unknown": (
        "The codes vary with the data; without z_std nobody can tell whether noise drowns that."
    ),
}


@dataclass(frozen=True)
class Diagnosis(Report):
    """The health report of an auto-encoder. `str()` gives it as a text of at most 100 columns.

    Attributes:
        metrics: The metrics; `diagnosis["name"]` finds one.
        verdict: "healthy", "partly collapsed", "collapsed" or "deterministic", as for
            `diagnose_codes`; without z_std "unknown", unless the means themselves tell.
        advice: What the verdict means, in plain words.
        remedies: What to try, a sentence or two each, the most pressing first.
        unknown: What was not measured, and what it would take.
        kl_per_dimension: KL of the posterior from N(0, 1) in each latent dimension, in nats;
            None without z_std. Infinite where there is no noise.
    """

    remedies: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    kl_per_dimension: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as JSON values; what is infinite or not a number becomes null."""
        value = super().to_json()
        if self.kl_per_dimension is not None:
            value["kl_per_dimension"] = [
                kl if math.isfinite(kl) else None for kl in self.kl_per_dimension
            ]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Diagnosis:
        """A diagnosis read back; null becomes NaN."""
        report = Report.from_json(value)
        divergences = value["kl_per_dimension"]
        if divergences is not None:
            divergences = tuple(math.nan if kl is None else kl for kl in divergences)
        return cls(
            report.metrics,
            report.verdict,
            report.advice,
            tuple(value["remedies"]),
            tuple(value["unknown"]),
            divergences,
        )

    def to_markdown(self) -> str:
        """The diagnosis as Markdown: verdict, a table for each question, and what to try."""
        lines = [f"**{self.verdict}**: {self.advice}"]
        for group, metrics in self._groups():
            lines += ["", f"| {group} | | |", "|---|---|---|"]
            for metric in metrics:
                told = meaning(metric)
                lines.append(f"| {told.title} | {_shown(metric)} {metric.unit} | {told.text} |")
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
            groups.setdefault(meaning(metric).group, []).append(metric)
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
    """Judge an auto-encoder of any make by what it did to N data, best ones it was not trained on.

    All are arrays, tensors, or what `numpy.asarray` takes, with the same rows in the same order.
    What is not given is not measured, and said to be unknown. Numbers that would take long are
    measured on random rows, which their notes say; the same seed gives the same rows.

    Args:
        x: Data, shape (N, ...), N at least 10.
        z_mean: Mean of q(z|x), or the code of an auto-encoder without noise, shape (N, ...).
        z_std: Standard deviation of q(z|x), of z_mean's shape, or one for each dimension, or a
            number; 0 for an auto-encoder without noise. q(z|x) is taken to be a diagonal normal.
        x_reconstructed: What z_mean is decoded to, in the units of x, shape (N, ...).
        labels: Class of each datum, numbers or text, shape (N,).
        seed: Seed of the rows and of the noise; the global generator is left as found.

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
    metrics = measurements(data)
    verdict = _verdict(data)
    return Diagnosis(
        metrics,
        verdict,
        ADVICE[verdict],
        remedies(data, verdict, {metric.name: metric for metric in metrics}),
        tuple(_unknown(data)),
        None if data.std is None else tuple(kl_terms(data.mean, data.std).mean(0).tolist()),
    )


def _verdict(data: Encodings) -> str:
    if data.std is not None:
        return diagnose_codes(data.mean, data.std).verdict
    differs = varying(data)
    if not differs.any():
        return "collapsed"
    return "unknown" if differs.double().mean() >= 0.5 else "partly collapsed"


def _unknown(data: Encodings) -> Iterator[str]:
    if data.std is None:
        yield (
            "z_std: which latents are more than noise, the rate, and how wide codes are. Give the "
            "standard deviation of q(z|x), or z_std=0 for an auto-encoder without noise."
        )
    elif (data.std == 0).any():
        yield "the rate: codes without noise are infinitely far from any prior."
    if data.reconstructed is None:
        yield "x_reconstructed: how much of the data comes back. Give what z_mean decodes to."
    if data.labels is None:
        yield "labels: whether the codes keep classes apart. Give the class of each datum."
    elif len(data.labels.unique()) < 2:
        yield "classes: all labels are the same."
    elif not can_be_probed(data.labels):
        yield f"classes: a probe takes {FEWEST_PROBED} rows or more."
