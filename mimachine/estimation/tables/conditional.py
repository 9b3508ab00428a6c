"""Conditional sampling: complete rows with some entries given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mimachine._support.checks import UNLIMITED, function, whole
from mimachine.estimation.tables.rows import table_rows
from mimachine.estimation.tables.weights import reliable, weighted_codes
from mimachine.model.conditionals import Conditional
from mimachine.model.joint import Joint
from mimachine.model.misfit import naming_misfits

__all__ = ["GivenRows", "sample_given"]

_FEWEST_DRAWS, _DRAWS_EACH = 10_000, 4


@dataclass(frozen=True)
class GivenRows:
    """Rows drawn with some entries given, for each of M conditions.

    Attributes:
        rows: Complete rows, shape (M, count, D), in random order.
        effective_sample_sizes: Effective number of draws of codes, (Σw)² / Σw², shape (M,). If it
            is below `count`, rows share codes, so they vary less than independent ones.
        pareto_k: Shape of the tail of the weights, shape (M,), see `pareto_k`.
        log_probabilities: Log-probability of the given entries, estimated from the same draws, in
            nats, shape (M,), float64.
        num_draws: Draws of codes for each condition.
    """

    rows: Tensor
    effective_sample_sizes: Tensor
    pareto_k: Tensor
    log_probabilities: Tensor
    num_draws: int

    @property
    def flagged(self) -> Tensor:
        """Which conditions are so rare that few draws carry the weight, shape (M,).

        These have fewer than 20 effective draws, or a Pareto-k above 0.7. Their rows are copies of
        few, as far as the code settles them. More draws or a proposal may help, see `sample_given`.
        """
        return ~reliable(self.effective_sample_sizes, self.pareto_k)


@torch.no_grad()
def sample_given(
    model: Joint,
    given_rows: Any,
    count: int,
    *,
    proposal: Conditional | None = None,
    draws: int | None = None,
    seed: int = 0,
    chunk_size: int | None = None,
) -> GivenRows:
    r"""Draw complete rows given some of their entries, by importance resampling.

    Codes are drawn from the prior, weighted by the probability of the given entries, and drawn
    again by these weights; then the other entries are drawn from
    :math:`p(x_\text{mis}|z, x_\text{seen})`. The effective sample size is about the number of draws
    times the probability of the condition, if entries are given that the code settles. For many
    given entries or a rare condition take the `proposal` of `impute`.

    Args:
        model: The model, used in evaluation mode, whose decoder is one of a table.
        given_rows: Conditions, shape (M, D) or (D,): the given entries, and inf for the others. NaN
            is a condition, too: that the entry is missing; it is filled in all the same.
        count: Number of rows to draw for each condition.
        proposal: q(z|x_seen), any conditional distribution of the latents given rows; by default
            the prior.
        draws: Number of codes to draw for each condition, by default four for each row, but at
            least 10,000.
        seed: Seed of the draws; the global generators keep their state.
        chunk_size: As for `impute`.

    Raises:
        ValueError: If an argument is out of range, the rows do not fit the model, or the proposal
            does not.

    References:
        Using the SIR algorithm to simulate posterior distributions (Rubin, 1988), Bayesian
        Statistics 3
    """
    if getattr(given_rows, "ndim", 2) == 1:
        given_rows = given_rows[None]
    rows = table_rows("given_rows", given_rows, model)
    count, seed = whole("count", count, 1), whole("seed", seed)
    draws = max(_FEWEST_DRAWS, _DRAWS_EACH * count) if draws is None else whole("draws", draws, 1)
    chunk_size = None if chunk_size is None else whole("chunk_size", chunk_size, 1, UNLIMITED)
    if proposal is not None:
        function("proposal", proposal, "a distribution")
    drawn, diagnostics = [], []
    with naming_misfits(model, rows, "given_rows"):
        for block in weighted_codes(
            model, rows, proposal, draws, seed=seed, purpose="given", chunk_size=chunk_size
        ):
            drawn.append(block.completed(count).transpose(0, 1))
            diagnostics.append(torch.stack([*block.diagnostics(), block.log_probabilities()]))
    effective, shapes, log_probabilities = torch.cat(diagnostics, 1)
    return GivenRows(torch.cat(drawn), effective, shapes, log_probabilities, draws)
