"""The effects that the paper reads off table 1: which of them a set of models shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mimachine.evaluation.metric import Metric, Report
from mimachine.paper.reference import Entry
from mimachine.paper.tables import markdown

__all__ = ["EFFECTS", "EXPLANATION", "Effect", "Pair", "effects"]

# Standard errors from which on a difference is more than chance.
_CLEAR = 2.0

# A model of a group: its prior, "S" for N(0, I) or "VP", and its learning, "MIM" or "VAE".
Pair = tuple[str, str]


@dataclass(frozen=True)
class Effect:
    """A difference between two models of a group that is positive by the paper.

    Attributes:
        text: What the paper says, in words.
        metric: Name of the metric.
        digits: Digits of the metric after the decimal point.
        larger: The model whose metric is larger.
        smaller: The other model.
    """

    text: str
    metric: str
    digits: int
    larger: Pair
    smaller: Pair


_LIKELIHOOD, _NEIGHBOURS = "negative_log_likelihood", "knn_5_accuracy_sampled"
EFFECTS: tuple[Effect, ...] = (
    Effect("N(0, I): NLL of MIM above that of the VAE", _LIKELIHOOD, 1, ("S", "MIM"), ("S", "VAE")),
    Effect("NLL of MIM falls with a VampPrior, by", _LIKELIHOOD, 1, ("S", "MIM"), ("VP", "MIM")),
    Effect(
        "VampPrior: NLL of MIM above that of the VAE",
        _LIKELIHOOD,
        1,
        ("VP", "MIM"),
        ("VP", "VAE"),
    ),
    Effect(
        "N(0, I): 5-NN of MIM above that of the VAE", _NEIGHBOURS, 3, ("S", "MIM"), ("S", "VAE")
    ),
    Effect(
        "VampPrior: 5-NN of MIM above that of the VAE",
        _NEIGHBOURS,
        3,
        ("VP", "MIM"),
        ("VP", "VAE"),
    ),
)


EXPLANATION = (
    "Differences with their standard errors, over the seeds or, of one seed, over the test images; "
    "the paper's are the least and the largest over its data sets and architectures. Verdicts are "
    'by the sign; "not clear" is less than two standard errors.'
)


def effects(
    groups: Mapping[str, Mapping[Pair, Sequence[Report]]],
    paper: Mapping[str, Mapping[tuple[str, str], Entry]],
) -> str:
    """Table of the effects, one row per group and effect, with a verdict and the paper's range.

    Args:
        groups: By name, four models each, with their reports of all seeds.
        paper: Table 1 of the paper.
    """
    rows = []
    for group, models in groups.items():
        for effect in EFFECTS:
            difference = _difference(
                *(
                    [report[effect.metric] for report in models[pair] if report.has(effect.metric)]
                    for pair in (effect.larger, effect.smaller)
                )
            )
            if difference is not None:
                value, error = difference
                shown = f"{value:+.{effect.digits}f} ± {error:.{effect.digits}f}"
                rows.append(
                    [f"{group}, {effect.text}", shown, _range(effect, paper), _verdict(*difference)]
                )
    return markdown(["", "here", "paper", "verdict"], rows)


def _difference(larger: Sequence[Metric], smaller: Sequence[Metric]) -> tuple[float, float] | None:
    """Difference of the means and its standard error: over seeds, or of one over test rows."""
    if not larger or not smaller:
        return None
    means, squares = [], []
    for found in (larger, smaller):
        values = np.array([metric.value for metric in found])
        means.append(float(values.mean()))
        if len(values) > 1:
            squares.append(float(values.var(ddof=1)) / len(values))
        else:
            # Both are of the same test rows, so this overstates the error of the difference.
            squares.append(float(found[0].standard_error or math.nan) ** 2)
    return means[0] - means[1], math.sqrt(sum(squares))


def _verdict(value: float, error: float) -> str:
    if math.isnan(error) or abs(value) < _CLEAR * error:
        return "not clear"
    return "agrees" if value > 0 else "**does not agree**"


def _range(effect: Effect, paper: Mapping[str, Mapping[tuple[str, str], Entry]]) -> str:
    """Least and largest difference in the paper, over its data sets and architectures."""
    entries = paper[effect.metric]
    differences = []
    for (data, title), entry in entries.items():
        architecture, prior, learning = title.split(" ")
        if (prior.strip("()"), learning.removeprefix("A-")) != effect.larger:
            continue
        prior, learning = effect.smaller
        others = (f"{architecture} ({prior}) {each}" for each in (learning, f"A-{learning}"))
        other = next(entries[data, each] for each in others if (data, each) in entries)
        differences.append(entry.mean - other.mean)
    low, high = (f"{each:+.{effect.digits}f}" for each in (min(differences), max(differences)))
    return f"{low} to {high}"
