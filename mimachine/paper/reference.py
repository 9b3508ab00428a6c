"""Values read off the paper's figures and table 1."""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["INSET_POINTS", "NUM_SEEDS", "Entry", "Reading", "insets", "readings", "table_1"]

NUM_SEEDS = 10
# Number of points from which the insets of figures 1 and 7 estimate mutual information.
INSET_POINTS = 3000


@dataclass(frozen=True)
class Reading:
    """A mean and a standard deviation over 10 seeds, read off a figure.

    Attributes:
        mean: The mean.
        std: The standard deviation, or an upper bound.
        hidden: Whether the marker hides the error bar, so that `std` is an upper bound.
        error: Error of the reading, about one pixel.
    """

    mean: float
    std: float
    hidden: bool
    error: float

    def difference(self, mean: float, std: float, count: int) -> float:
        """Difference of another mean from this one, in standard errors of the difference."""
        variance = std**2 / count + self.std**2 / NUM_SEEDS + self.error**2
        return (mean - self.mean) / math.sqrt(variance) if variance > 0 else math.nan


def readings(figure: str) -> Mapping[str, Mapping[tuple[str, float], Reading]]:
    """Readings of a figure by metric, then by curve and position on the x axis.

    Args:
        figure: Name of a figure in reference.json.
    """
    found: dict[str, dict[tuple[str, float], Reading]] = {}
    for metric, panel in _reference()[figure].items():
        points = found.setdefault(metric, {})
        for curve, values in panel.items():
            if not isinstance(values, dict):
                continue
            for x, mean, std in zip(panel["x"], values["mean"], values["std"], strict=True):
                if mean is not None:
                    bound = panel["std_null_means_less_than"] if std is None else std
                    points[curve, x] = Reading(mean, bound, std is None, panel["units_per_pixel"])
    return found


def insets() -> Mapping[tuple[str, float], tuple[float, float]]:
    """Mutual information, nats, and reconstruction error of the models in figures 1 and 7.

    The keys are the curve and the number of hidden units; each value is of one model.
    """
    curves = _reference()["insets_of_figures_1_and_7"]
    return {
        (curve, float(x)): (information, distance)
        for curve, points in curves.items()
        if curve != "about"
        for x, (information, distance) in points.items()
    }


@dataclass(frozen=True)
class Entry:
    """An entry of table 1.

    Attributes:
        mean: Mean over 10 trials.
        std: Their standard deviation, if the paper gives it.
    """

    mean: float
    std: float | None

    def text(self, digits: int) -> str:
        """The entry as printed in the paper."""
        spread = "" if self.std is None else f" ± {self.std:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


def table_1() -> Mapping[str, Mapping[tuple[str, str], Entry]]:
    """Table 1 by metric, then by data set and column heading."""
    table = _reference()["table_1"]
    return {
        metric: {
            (data, column): Entry(mean, std)
            for data, entries in table[metric].items()
            for column, (mean, std) in zip(table["columns"], entries, strict=True)
        }
        for metric in ("negative_log_likelihood", "knn_5_accuracy_sampled")
    }


@functools.cache
def _reference() -> Any:
    file = importlib.resources.files("mimachine.paper") / "reference.json"
    return json.loads(file.read_text(encoding="utf-8"))
