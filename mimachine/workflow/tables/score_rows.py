"""Score rows: how likely each is, how unusual its code, and which columns are unusual."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from mimachine._support.checks import whole
from mimachine.data.examples import all_examples
from mimachine.data.rows import Rows
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.likelihood.importance import log_likelihood
from mimachine.estimation.tables.scores import Percentiles, score, share_below
from mimachine.evaluation.tables import columns_of
from mimachine.workflow.load_run import Trained

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Scored", "score_rows"]

_MOST_REFERENCES = 2000
# Importance samples by default: of a row, and of all rows together.
_MOST_SAMPLES, _FEWEST_SAMPLES, _SAMPLES_IN_ALL = 1000, 50, 10_000_000
# Percentile from which a column is called unusual, and most of them that are named.
_UNUSUAL, _MOST_NAMED = 0.99, 3


class Scored(NamedTuple):
    """Scores of rows, in nats.

    Attributes:
        table: One row for each: its number from 1; for a table `anomaly`, how unusual it is in all
            columns together (`Scores.anomaly`), with its percentile among training rows;
            `log_likelihood`, its standard error and whether it is flagged as unreliable; `code`,
            -log p(z) at the mean of q(z|x), and its percentile among training rows; for a table
            `unusual`, the columns whose values are less likely than those of 99 % of the training
            rows, and the expectation of log p(x_d|z) for each column d.
        notes: What to know about them.
    """

    table: pl.DataFrame
    notes: tuple[str, ...]


@torch.no_grad()
def score_rows(
    trained: Trained, rows: Tensor | Rows, *, num_samples: int | None = None, seed: int = 0
) -> Scored:
    """Score rows by the model of a run, with the prior fitted to its codes.

    Args:
        trained: The run.
        rows: Rows of its data or of a file like it, see `select`.
        num_samples: Importance samples per row for the log-likelihood; 0 leaves it out. By default
            1000, and fewer for more than 10,000 rows, down to 50, as they take most of the time.
        seed: Seed of the samples.

    Raises:
        ValueError: If an argument is out of range.
    """
    import polars as pl

    num_samples = None if num_samples is None else whole("num_samples", num_samples, 0)
    seed = whole("seed", seed)
    model, data = trained.generator, trained.data
    references = data.train[: min(_MOST_REFERENCES, len(data.train))]
    x = all_examples("rows", rows, model)
    notes = []
    if num_samples is None:
        num_samples = _samples_of(len(x))
        if num_samples < _MOST_SAMPLES:
            notes.append(
                f"log-likelihoods from {num_samples:,} importance samples a row, as there are "
                f"{len(x):,} rows"
            )
    found: dict[str, Any] = {"row": torch.arange(1, len(x) + 1).numpy()}
    if columns_of(model) is not None:
        scores = score(model, x, num_samples=num_samples, seed=seed)
        known = score(model, references, num_samples=0, seed=seed)
        likelihood, code = scores.log_likelihood, scores.code
        ranks = scores.percentiles(known)
        places, names = ranks.code, data.columns or ()
        anomaly, usual = scores.anomaly(known), known.anomaly(known)
        found["anomaly"] = anomaly.numpy()
        found["anomaly_percentile"] = share_below(anomaly, usual).numpy()
        by_column: dict[str, Any] = {"unusual": _unusual(ranks, names)}
        by_column |= {f"log p({n})": scores.columns[:, k].numpy() for k, n in enumerate(names)}
    else:
        likelihood = log_likelihood(model, x, num_samples, seed=seed) if num_samples else None
        code = _surprise(trained, x)
        others = _surprise(trained, all_examples("data.train", references, model))
        places, by_column = share_below(code, others), {}
    if likelihood is not None:
        # Densities are those of the original units.
        found["log_likelihood"] = (likelihood.values - data.log_volume).numpy()
        found["standard_error"] = likelihood.standard_errors.numpy()
        found["flagged"] = likelihood.flagged.numpy()
        share = float(likelihood.flagged.double().mean())
        if share > 0:
            notes.append(
                f"{share:.0%} of the log-likelihoods are flagged: they rely on few samples and may "
                "be too low"
            )
    found["code"], found["code_percentile"] = (each.double().numpy() for each in (code, places))
    found |= by_column
    table = pl.DataFrame(found).with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))
    return Scored(table, tuple(notes))


def _samples_of(rows: int) -> int:
    """Number of importance samples per row, by the number of rows."""
    return max(_FEWEST_SAMPLES, min(_MOST_SAMPLES, _SAMPLES_IN_ALL // max(1, rows)))


def _surprise(trained: Trained, x: Tensor) -> Tensor:
    """-log p(z) at the mean of q(z|x), shape (N,)."""
    model = trained.generator
    log_prob: Tensor = model.prior().log_prob(codes(model, x).mean)
    return -log_prob.double()


def _unusual(ranks: Percentiles, names: tuple[str, ...]) -> list[str]:
    """The most unusual columns of each row, in words."""
    texts = []
    for row in ranks.columns.nan_to_num(nan=-math.inf):
        order = row.argsort(descending=True, stable=True)[:_MOST_NAMED].tolist()
        texts.append(", ".join(names[k] for k in order if row[k] > _UNUSUAL))
    return texts
