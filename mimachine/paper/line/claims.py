"""Claims of the paper about figures 9 to 11, tested on our models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine.paper.line.models import DATA, LATENT
from mimachine.paper.paired import mean_difference, mean_ratio

__all__ = [
    "Claim",
    "Numbers",
    "apart",
    "claims_table",
    "close",
    "lower",
    "numbers_table",
    "similar",
]


Array = NDArray[np.float64]
# Results of the models of all seeds, see `Curves.numbers`.
Numbers = Sequence[Mapping[str, Any]]
# Largest distance of densities that match.
_CLOSE = 0.1
_SIDES = (("x", DATA), ("z", LATENT))
_PAIRS = {
    "prior": "P({0}), {1}({0})",
    "reconstruction": "P({0}), reconstructed {0}",
    "anchors": "P({0}), {0} from P({2})",
    "priors": "{1}({0}), {0} from {3}({2})",
}
_TERMS = {
    "loss": "L_MIM",
    "cross_entropy": "L_CE",
    "regulariser": "R_MIM",
    "kl_model": "KL(M_S ‖ M_θ)",
    "sample_entropy": "H(M_S)",
}


class Claim(NamedTuple):
    """A claim of the paper.

    Attributes:
        words: The claim.
        criterion: Our criterion for it.
        found: The measured values.
        holds: Whether the criterion is met.
    """

    words: str
    criterion: str
    found: str
    holds: bool


class Finding(NamedTuple):
    """A criterion, the measured values, and whether it is met."""

    criterion: str
    found: str
    holds: bool

    def __and__(self, other: Finding) -> Finding:
        """Combine two criteria, which must both be met."""
        return Finding(
            f"{self.criterion}; {other.criterion}",
            f"{self.found}; {other.found}",
            self.holds and other.holds,
        )

    def of(self, words: str) -> Claim:
        """The claim that this finding decides."""
        return Claim(words, *self)


def apart(numbers: Numbers, pair: str) -> Array:
    """Distance D of a pair of densities, for each seed.

    D is the 1-Wasserstein distance in standard deviations of the anchor, averaged over x and z.
    """
    parts = [
        [each[side][pair]["wasserstein"] / anchor.deviation for side, anchor in _SIDES]
        for each in numbers
    ]
    distances: Array = np.array(parts).mean(1)
    return distances


def term(numbers: Numbers, name: str) -> Array:
    """A term of the loss for each seed, in nats."""
    return np.array([each["terms"][name] for each in numbers])


def close(what: Mapping[str, Array]) -> Finding:
    """Check that pairs of densities match: mean distances over seeds are at most 0.1."""
    found = ", ".join(f"{name} {shown(values)}" for name, values in what.items())
    holds = all(values.mean() <= _CLOSE for values in what.values())
    return Finding(f"D at most {_CLOSE} for {' and '.join(what)}", found, holds)


def lower(what: str, first: tuple[str, Array], second: tuple[str, Array]) -> Finding:
    """Check that a value is lower for the first kind, by a 95 % interval over seeds.

    Positive values, such as distances, are compared by their ratio: a single large one would make
    any interval of differences wide. Others are compared by their difference.
    """
    criterion = f"{what} lower for {first[0]} than for {second[0]} over seeds, with 95 % confidence"
    found = f"{shown(first[1])} and {shown(second[1])}"
    if min(first[1].min(), second[1].min()) > 0:
        ratio = mean_ratio(first[1], second[1])
        return Finding(criterion, f"{found}, ratio {ratio.shown(3)}", ratio.high < 1)
    difference = mean_difference(first[1], second[1])
    digits = 3 if abs(difference.mean) < 10 else 1
    found = f"{found}, difference {difference.shown(digits)}"
    return Finding(criterion, found, difference.high < 0)


def similar(what: str, first: Array, second: Array) -> Finding:
    """Check that two means are within a factor of 2."""
    means = sorted((first.mean(), second.mean()))
    return Finding(
        f"means of {what} within a factor of 2",
        f"{shown(first)} and {shown(second)}",
        bool(means[1] <= 2 * means[0]),
    )


def shown(values: Array) -> str:
    """Mean and, if there are several seeds, standard deviation."""
    mean = values.mean()
    digits = 3 if abs(mean) < 10 else 1
    spread = f" ± {values.std(ddof=1):,.{digits}f}" if len(values) > 1 else ""
    return f"{mean:,.{digits}f}{spread}"


def numbers_table(kinds: Mapping[str, Numbers]) -> str:
    """Table of all distances and loss terms, mean ± standard deviation, one column per kind."""
    lines = [f"| | | {' | '.join(kinds)} |", "|---" * (len(kinds) + 2) + "|"]
    for side, names in (("x", ("x", "q", "z", "p")), ("z", ("z", "p", "x", "q"))):
        for pair, text in _PAIRS.items():
            for measure, unit in (("wasserstein", "W₁"), ("kl", "KL, nats")):
                cells = [
                    shown(np.array([each[side][pair][measure] for each in numbers]))
                    for numbers in kinds.values()
                ]
                lines.append(f"| {text.format(*names)} | {unit} | {' | '.join(cells)} |")
    for name, text in _TERMS.items():
        cells = [shown(term(numbers, name)) for numbers in kinds.values()]
        lines.append(f"| {text} | nats | {' | '.join(cells)} |")
    return "\n".join(lines)


def claims_table(claims: Sequence[Claim]) -> str:
    """Table of claims of the paper, our criteria, our results, and whether they hold."""
    lines = ["| claim of the paper | criterion | result | holds |", "|---|---|---|---|"]
    for claim in claims:
        holds = "yes" if claim.holds else "no"
        lines.append(f"| {claim.words} | {claim.criterion} | {claim.found} | {holds} |")
    return "\n".join(lines)
