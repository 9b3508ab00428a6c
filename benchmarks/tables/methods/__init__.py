"""Methods of the benchmark, by their names on the command line.

A method is a class that is made with a seed and an effort, the share of its usual training steps,
and has `fit`. What else it has decides the tasks that it is measured by: `sample` for generation,
`score` for anomalies, `impute` for imputation, `bits` for likelihood. `Method` describes all five;
a class has those that it can do. To add a method, write its class and list it in `METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import polars as pl

from tables.columns import Floats
from tables.measures import Bools, Imputed
from tables.methods.autoencoder import AutoEncoder
from tables.methods.copula import Copula
from tables.methods.detectors import IsolatedRows, PrincipalComponents
from tables.methods.imputers import Iterative, Marginal, Neighbours
from tables.methods.mim import Mim, NoisyAutoEncoder, Vae
from tables.methods.mixture import MixtureOfNumbers
from tables.methods.plain import Independent, Real
from tables.methods.tvae import Tvae

__all__ = ["METHODS", "TASKS", "Method", "tasks_of"]

METHODS: dict[str, Callable[[int, float], Any]] = {
    "a-mim": Mim,
    "vae": Vae,
    "a-mim-rae": NoisyAutoEncoder,
    # Real training rows: what perfect generated rows would reach.
    "real": Real,
    "independent": Independent,
    "copula": Copula,
    "gmm": MixtureOfNumbers,
    "rae": AutoEncoder,
    "tvae": Tvae,
    "isolation-forest": IsolatedRows,
    "pca": PrincipalComponents,
    "mean": Marginal,
    "knn": Neighbours,
    "iterative": Iterative,
}

# What a task needs of a method.
TASKS = {
    "generation": "sample",
    "anomaly": "score",
    "imputation-10": "impute",
    "imputation-30": "impute",
    "likelihood": "bits",
}


def tasks_of(name: str) -> list[str]:
    """Tasks that a method can do."""
    return [task for task, needed in TASKS.items() if hasattr(METHODS[name], needed)]


class Method(Protocol):
    """What a method may have; rows are data frames of the types and columns of the training rows.

    Args:
        seed: Seed of everything random.
        effort: Share of the usual training steps, in (0, 1], for quick checks.
    """

    def __init__(self, seed: int, effort: float = 1.0) -> None: ...

    def fit(self, train: pl.DataFrame) -> None:
        """Fit the method to rows, whose missing values are nulls."""

    def sample(self, count: int) -> pl.DataFrame:
        """Generate rows, with missing values where real rows would have them.

        A method that cannot generate some columns leaves them out, and is compared on the others.
        """

    def score(self, rows: pl.DataFrame) -> Floats:
        """How strange rows are, shape (N,); higher is stranger, the unit does not matter."""

    def impute(self, rows: pl.DataFrame, hidden: Bools) -> Imputed:
        """Fill hidden cells, and give 90 % intervals for numbers if it has them.

        Args:
            rows: Rows, null where hidden and where missing.
            hidden: Cells that were hidden, shape (N, D); other nulls are missing in the data.
        """

    def bits(self, rows: pl.DataFrame, steps: dict[str, float]) -> Floats:
        """Negative log-likelihood of rows in bits, shape (N,).

        Args:
            rows: Rows; whether a cell is missing counts, too.
            steps: For columns of numbers the step of their values, as `to_floats` gives them: the
                probability is that of a bin of this width. A method whose bins are s times as wide
                adds log2(s) for each value.
        """
