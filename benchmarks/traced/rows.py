"""Rows of results: labels that tell them apart, and numbers by name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Number", "Row", "Vector", "chosen", "estimates"]

Vector = NDArray[np.float64]
Label = str | float

# Short names of metrics, as the tables of the pages call them.
SHORT = {
    "KSG": "mutual_information_ksg",
    "lower": "mutual_information_lower",
    "upper": "mutual_information_upper",
    "-ELBO": "negative_elbo",
    "NLL": "converged_negative_log_likelihood",
    "flagged": "converged_share_flagged",
    "error": "sampled_reconstruction_distance",
    "RMSE": "reconstruction_rmse",
    "5-NN": "knn_5_accuracy_sampled",
    "R_MIM": "regulariser",
    "KL": "kl_model",
}


@dataclass(frozen=True)
class Number:
    """A measured quantity.

    Attributes:
        values: One value for each seed, NaN for models that diverged; or a single value.
        error: The error that the file gives beside a single value, NaN if it gives none.
    """

    values: tuple[float, ...]
    error: float = math.nan

    @property
    def finite(self) -> Vector:
        """Values of the seeds that did not diverge."""
        return np.array([value for value in self.values if math.isfinite(value)])

    @property
    def mean(self) -> float:
        """Mean over seeds; NaN if all diverged."""
        return float(self.finite.mean()) if len(self.finite) else math.nan

    @property
    def sd(self) -> float:
        """Standard deviation over seeds; NaN for a single one."""
        return float(self.finite.std(ddof=1)) if len(self.finite) > 1 else math.nan

    @property
    def se(self) -> float:
        """Standard error of the mean over seeds; NaN for a single one."""
        return self.sd / math.sqrt(len(self.finite)) if len(self.finite) > 1 else math.nan


@dataclass(frozen=True)
class Row:
    """A row of results: its labels by name, and its numbers by name."""

    labels: Mapping[str, Label]
    numbers: Mapping[str, Number]

    def get(self, metric: str) -> Number | None:
        """The number of a metric, by its full or its short name, such as "KSG" or "KSG:paper"."""
        first, colon, rest = metric.partition(":")
        return self.numbers.get(metric) or self.numbers.get(SHORT.get(first, first) + colon + rest)

    def __getitem__(self, metric: str) -> Number:
        number = self.get(metric)
        if number is None:
            raise KeyError(f"no {metric} in {dict(self.labels)}")
        return number


def chosen(rows: Iterable[Row], selectors: Sequence[str]) -> list[Row]:
    """Rows that satisfy every selector.

    A selector is a text label, a number or a range on the label `x`, or `NAME=VALUE`.
    """
    return [row for row in rows if all(_fits(row, selector) for selector in selectors)]


def _fits(row: Row, selector: str) -> bool:
    if selector in row.labels.values():
        return True
    name, equals, value = selector.rpartition("=")
    if not equals:
        name = "x"
    if name not in row.labels:
        return False
    label = row.labels[name]
    if isinstance(label, str):
        return bool(equals) and label == value
    low, dots, high = value.partition("..")
    try:
        if not dots:
            return label == float(low)
        return float(low or "-inf") <= label <= float(high or "inf")
    except ValueError:
        return False


def estimates(text: str) -> Number | None:
    """A number in a text such as "0.181 ± 0.032", "2,290 ± 892 nats" or "0.97"."""
    found = re.match(r"\s*(-?[\d.,]+(?:e[-+]?\d+)?)(?: ± ([\d.,]+(?:e[-+]?\d+)?))?(?= |$)", text)
    if not found:
        return None
    value, error = (math.nan if part is None else _number(part) for part in found.groups())
    return None if math.isnan(value) else Number((value,), error)


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return math.nan
