"""Scores of rows: how unusual each is, in which columns, and compared with reference rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mimachine._support.checks import instance, whole
from mimachine._support.seeds import derived_seed, forked
from mimachine.estimation.codes.moments import mean_of
from mimachine.estimation.likelihood.importance import LogLikelihood, log_likelihood
from mimachine.estimation.tables.rows import hidden, table_rows
from mimachine.model.conditionals import Conditional
from mimachine.model.joint import Joint, checked
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating

__all__ = ["Percentiles", "Scores", "score", "score_at_mean", "share_below"]

# Rows that share their noise, and rows at once without noise.
_ROWS, _MANY_ROWS = 64, 1024


class Percentiles(NamedTuple):
    """Shares of n reference rows that are more usual than each row, ties counted half.

    A row among the most usual has 0, the most unusual one 1. The standard error of a share p as an
    estimate for all rows like the reference is √(p (1 - p) / n).

    Attributes:
        code: By the surprise of the code, shape (N,).
        log_likelihood: By the log-likelihood, shape (N,); None if one of the two has none.
        columns: By each column's log-probability, shape (N, D); NaN where the entry is unknown.
    """

    code: Tensor
    log_likelihood: Tensor | None
    columns: Tensor


@dataclass(frozen=True)
class Scores:
    """Scores of N rows of D columns, in nats. Missing entries have no part in them.

    Attributes:
        code: Surprise of the code, -log p(z) at the mean of q(z|x), shape (N,). Large values are
            unusual. This finds anomalies best where the codes are tight: a decoder that
            reconstructs an unusual row gives it a high p(x|z), but its code is still far off.
        columns: Expectation of log p(x_d|z) under q(z|x), shape (N, D); NaN where the entry is
            unknown. Compare it with that of other rows, see `percentiles`, since columns of many
            values have low ones anyway.
        column_errors: Their Monte Carlo standard errors, shape (N, D).
        log_likelihood: Log-likelihood of the seen entries with its errors and flags; None if it was
            left out.
    """

    code: Tensor
    columns: Tensor
    column_errors: Tensor
    log_likelihood: LogLikelihood | None

    def anomaly(self, reference: Scores) -> Tensor:
        r"""How unusual rows are among reference rows, in all columns together, shape (N,).

        It is :math:`-\sum_d \log s_d` over the known columns, with the share :math:`s_d` of the
        reference rows whose value of column d is at least as unlikely given their code: Fisher's
        method to combine tail probabilities. Each column has the same weight, whatever its number
        of values, and one that is unusual is enough. Large values are unusual.

        Args:
            reference: Scores of the reference rows by the same model, such as training rows.

        Raises:
            ValueError: If the reference has another number of columns.

        References:
            Statistical Methods for Research Workers (Fisher, 1932), section 21.1
        """
        share = 1 - self.percentiles(reference).columns
        count = (~reference.columns.isnan()).sum(0)
        # A value beyond all of n reference values has a share of about 1 / (2n), not 0.
        share = (count * share + 0.5) / (count + 0.5)
        return -share.log().nan_to_num(0.0).sum(1)

    def percentiles(self, reference: Scores) -> Percentiles:
        """Rank the rows among reference rows, such as those of training.

        Args:
            reference: Scores of the reference rows by the same model.

        Raises:
            ValueError: If the reference has another number of columns.
        """
        instance("reference", reference, Scores, "the scores of other rows")
        width = self.columns.shape[1]
        if reference.columns.shape[1] != width:
            raise ValueError(
                f"reference must have scores of {width} columns, got {reference.columns.shape[1]}"
            )
        mine, theirs = self.log_likelihood, reference.log_likelihood
        likelihood = None
        if mine is not None and theirs is not None:
            likelihood = share_below(-mine.values, -theirs.values)
        pairs = zip(-self.columns.T, -reference.columns.T, strict=True)
        columns = torch.stack([share_below(own, other) for own, other in pairs], 1)
        return Percentiles(share_below(self.code, reference.code), likelihood, columns)


@torch.no_grad()
def score(
    model: Joint,
    rows: Any,
    *,
    num_samples: int = 1000,
    column_samples: int = 32,
    proposal: Conditional | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
) -> Scores:
    """Score rows by the density of their codes, by their likelihood and by column.

    Holes have no probability here: missing entries count as hidden, so that a row is not unusual
    because it is incomplete. The log-likelihood of a row with fewer seen entries is larger by that.

    Args:
        model: The model, used in evaluation mode, whose decoder is one of a table.
        rows: Shape (N, D); NaN is missing, inf is hidden.
        num_samples: Samples per row for the log-likelihood, which takes nearly all of the time; 0
            leaves it out. All estimates from under 400 samples are flagged.
        column_samples: Samples per row for the expectations of columns.
        proposal: q(z|x) for the log-likelihood, by default the model's encoder.
        seed: Seed of the samples; the global generators keep their state.
        chunk_size: As for `log_likelihood`.

    Raises:
        ValueError: If an argument is out of range, the rows do not fit the model, or the proposal
            does not.
    """
    rows = hidden(table_rows("rows", rows, model))
    num_samples, seed = whole("num_samples", num_samples, 0), whole("seed", seed)
    column_samples = whole("column_samples", column_samples, 2)
    with naming_misfits(model, rows, "rows"), evaluating(model):
        blocks = [
            _of_rows(model, block, column_samples, derived_seed(seed, "score", place))
            for place, block in enumerate(rows.split(_ROWS))
        ]
    code, columns, errors = (torch.cat(part) for part in zip(*blocks, strict=True))
    likelihood = None
    if num_samples:
        likelihood = log_likelihood(
            model, rows, num_samples, proposal=proposal, chunk_size=chunk_size, seed=seed
        )
    return Scores(code, columns, errors, likelihood)


@torch.no_grad()
def score_at_mean(model: Joint, rows: Any) -> Scores:
    """Score rows as `score` does, without noise: by the decoder at the mean of q(z|x).

    The scores of a row do not depend on other rows. Without likelihoods and errors, which are 0.

    Args:
        model: The model, used in evaluation mode, whose decoder is one of a table.
        rows: Shape (N, D); NaN is missing, inf is hidden.

    Raises:
        ValueError: If the rows do not fit the model.
    """
    rows, code, columns = hidden(table_rows("rows", rows, model)), [], []
    with naming_misfits(model, rows, "rows"), evaluating(model):
        prior = model.prior()
        for block in rows.split(_MANY_ROWS):
            mean = mean_of(checked("encoder", model.encoder(block), len(block)))
            decoder: Any = checked("decoder", model.decoder(mean), len(block))
            found = decoder.log_probs(block).double().masked_fill(~block.isfinite(), math.nan)
            code.append(-prior.log_prob(mean).double())
            columns.append(found)
    each = torch.cat(columns)
    return Scores(torch.cat(code), each, torch.zeros_like(each), None)


def _of_rows(model: Joint, rows: Tensor, samples: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Surprise of the code (n,), and expectations of columns with their errors, each (n, D)."""
    with forked(seed, rows.device):
        encoder = checked("encoder", model.encoder(rows), len(rows))
        code = -model.prior().log_prob(mean_of(encoder)).double()
        z = encoder.sample(torch.Size((samples,)))
    repeated = rows.expand(samples, *rows.shape).flatten(0, 1)
    decoder: Any = checked("decoder", model.decoder(z.flatten(0, 1)), len(repeated))
    log_probs: Tensor = decoder.log_probs(repeated).double().unflatten(0, (samples, -1))
    unknown = ~rows.isfinite()
    mean = log_probs.mean(0).masked_fill(unknown, math.nan)
    error = log_probs.std(0).masked_fill(unknown, math.nan) / math.sqrt(samples)
    return code, mean, error


def share_below(values: Tensor, reference: Tensor) -> Tensor:
    """Share of the known reference values below each value, ties half; NaN where one is unknown."""
    known = reference[~reference.isnan()].sort().values
    below = torch.searchsorted(known, values.contiguous())
    up_to = torch.searchsorted(known, values.contiguous(), right=True)
    share = (below + up_to).double() / (2 * len(known)) if len(known) else values * math.nan
    return share.masked_fill(values.isnan(), math.nan)
