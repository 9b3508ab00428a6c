"""What the paper says of models on a line, and whether our numbers bear it out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine.paper.line.models import DATA, LATENT

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
# Numbers of the models of all seeds, see `Curves.numbers`.
Numbers = Sequence[Mapping[str, Any]]
# Largest distance of two densities that are said to match, and least share of seeds that a
# comparison has to hold for.
_CLOSE, _SHARE = 0.1, 0.9
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
    """Something the paper says.

    Attributes:
        words: What it says.
        criterion: When we say that it holds.
        found: The numbers that decide.
        holds: Whether it does.
    """

    words: str
    criterion: str
    found: str
    holds: bool


class Finding(NamedTuple):
    """A criterion, the numbers that decide, and how they do."""

    criterion: str
    found: str
    holds: bool

    def __and__(self, other: Finding) -> Finding:
        """Both of two criteria."""
        return Finding(
            f"{self.criterion}; {other.criterion}",
            f"{self.found}; {other.found}",
            self.holds and other.holds,
        )

    def of(self, words: str) -> Claim:
        """What the paper says, decided by this."""
        return Claim(words, *self)


def apart(numbers: Numbers, pair: str) -> Array:
    """How far a pair of densities is apart, for each seed.

    The 1-Wasserstein distance in standard deviations of the anchor, mean of x and z.
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
    """Whether pairs of densities match: mean distances over seeds are at most 0.1."""
    found = ", ".join(f"{name} {shown(values)}" for name, values in what.items())
    holds = all(values.mean() <= _CLOSE for values in what.values())
    return Finding(f"D at most {_CLOSE} for {' and '.join(what)}", found, holds)


def lower(what: str, first: tuple[str, Array], second: tuple[str, Array]) -> Finding:
    """Whether a number is lower for the first kind of models, in 90 % of seeds."""
    wins = int((first[1] < second[1]).sum())
    need = math.ceil(_SHARE * len(first[1]))
    return Finding(
        f"{what} lower for {first[0]} than for {second[0]} in at least {need} of {len(first[1])} "
        "seeds",
        f"{shown(first[1])} and {shown(second[1])}, {wins} of {len(first[1])}",
        wins >= need,
    )


def similar(what: str, first: Array, second: Array) -> Finding:
    """Whether means of a number are within a factor of 2."""
    means = sorted((first.mean(), second.mean()))
    return Finding(
        f"means of {what} within a factor of 2",
        f"{shown(first)} and {shown(second)}",
        bool(means[1] <= 2 * means[0]),
    )


def shown(values: Array) -> str:
    """Mean and, of several seeds, standard deviation over them."""
    mean = values.mean()
    digits = 3 if abs(mean) < 10 else 1
    spread = f" ± {values.std(ddof=1):,.{digits}f}" if len(values) > 1 else ""
    return f"{mean:,.{digits}f}{spread}"


def numbers_table(kinds: Mapping[str, Numbers]) -> str:
    """All distances and terms, mean ± standard deviation over seeds, a column for each kind."""
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
    """What the paper says, our criterion, our numbers, and whether it holds."""
    lines = ["| the paper | criterion | found | holds |", "|---|---|---|---|"]
    for claim in claims:
        holds = "yes" if claim.holds else "no"
        lines.append(f"| {claim.words} | {claim.criterion} | {claim.found} | {holds} |")
    return "\n".join(lines)
