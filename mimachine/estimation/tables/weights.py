"""Importance weights of codes given the seen entries of rows, and resampling by them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from mimachine._support.products import faster_products, products_pay
from mimachine._support.seeds import derived_seed, forked
from mimachine.estimation.likelihood.importance import check_event, log_mean
from mimachine.estimation.likelihood.pareto import pareto_k, tail_size
from mimachine.estimation.tables.rows import filled
from mimachine.model.conditionals import Conditional
from mimachine.model.distributions import draw
from mimachine.model.joint import Joint, checked
from mimachine.model.networks import evaluating

__all__ = ["FEWEST_EFFECTIVE", "MOST_PARETO_K", "Weighted", "reliable", "weighted_codes"]

# Below this many effective draws an interval of 90 % has ends that are one or two of the draws.
FEWEST_EFFECTIVE = 20
# Vehtari et al. (2024): up to here importance sampling converges at a useful rate.
MOST_PARETO_K = 0.7
# Rows that share their noise, whatever the memory is.
_ROWS = 16
# Numbers that the widest layer of a decoder outputs at once, 8 to 16 MiB.
_VALUES = 1 << 21
_FEWEST_PAIRS = 32
# Draws of each row that are completed at once. It fixes the order of the noise.
_SLAB = 100


@dataclass(frozen=True)
class Weighted:
    """Draws of codes for a block of n rows, with their importance weights.

    Attributes:
        model: The model.
        rows: The rows, shape (n, D); NaN is missing, inf is hidden.
        place: Index of the first of them among all rows.
        codes: S draws for each row, shape (S, n, L).
        log_weights: log p(x_seen|z) + log p(z) - log q(z|x_seen), in nats, shape (S, n).
        seed: Seed of further noise for this block.
    """

    model: Joint
    rows: Tensor
    place: int
    codes: Tensor
    log_weights: Tensor
    seed: int

    def diagnostics(self) -> tuple[Tensor, Tensor]:
        """Effective sample sizes (Σw)² / Σw² and Pareto-k of the weights, each of shape (n,)."""
        _, _, effective = log_mean(self.log_weights)
        count = len(self.log_weights)
        tail = self.log_weights.topk(min(count, tail_size(count) + 1), 0).values
        return effective, pareto_k(tail)

    def log_probabilities(self) -> Tensor:
        """Log-probabilities of the seen entries, estimated by the mean weights, in nats, (n,)."""
        return log_mean(self.log_weights)[0]

    def completed(self, count: int) -> Tensor:
        """Draws of the whole rows from p(x_mis|x_seen), shape (count, n, D).

        Codes are drawn by their weights, and the unknown entries given each code. All are equally
        likely, and in random order.
        """
        with forked(derived_seed(self.seed, "completed"), self.codes.device):
            chosen = _resampled(self.log_weights, count)
            parts = []
            for some in chosen.split(_SLAB):
                z = self.codes.gather(0, some[..., None].expand(-1, -1, self.codes.shape[-1]))
                rows = self.rows.expand(len(some), *self.rows.shape).flatten(0, 1)
                decoder = checked("decoder", self.model.decoder(z.flatten(0, 1)), len(rows))
                parts.append(filled(decoder, rows).unflatten(0, (len(some), -1)))
        return torch.cat(parts)


def reliable(effective: Tensor, shapes: Tensor) -> Tensor:
    """Whether weights are even enough: 20 effective draws or more, and a Pareto-k up to 0.7."""
    # Comparisons with NaN are false, so what is unknown is not reliable.
    return (effective >= FEWEST_EFFECTIVE * (1 - 1e-9)) & (shapes <= MOST_PARETO_K)


def weighted_codes(
    model: Joint,
    rows: Tensor,
    proposal: Conditional | None,
    draws: int,
    *,
    seed: int,
    purpose: str,
    chunk_size: int | None = None,
) -> Iterator[Weighted]:
    """Draw codes z ~ q(z|x_seen) of every row and weigh them, 16 rows at a time.

    The noise of a row depends on the seed, the purpose and the places of the rows only, so not on
    `chunk_size`. To be used without gradient.

    Args:
        model: The model, used in evaluation mode.
        rows: Shape (N, D); NaN is missing, inf is hidden.
        proposal: q(z|x_seen); None for the prior.
        draws: Number S of draws for each row.
        seed: Seed of the noise.
        purpose: What the noise is for.
        chunk_size: Largest number of pairs of row and draw that are decoded at once.

    Raises:
        ValueError: If the proposal gives latents of another shape than the prior, or these are no
            vectors.
    """
    if chunk_size is None:
        chunk_size = max(_FEWEST_PAIRS, _VALUES // _widest(model.decoder, rows.shape[1]))
    with (
        evaluating(model),
        evaluating(proposal),
        faster_products(products_pay(model.decoder, chunk_size)),
    ):
        prior = model.prior()
        if len(prior.event_shape) != 1:
            raise ValueError(f"prior must be of vectors, got events {tuple(prior.event_shape)}")
        for place in range(0, len(rows), _ROWS):
            block = rows[place : place + _ROWS]
            of_block = derived_seed(seed, purpose, place)
            with forked(of_block, rows.device):
                z, log_ratio = _drawn(block, prior, proposal, draws)
            log_weights = _seen(model, block, z, chunk_size) + log_ratio.double()
            yield Weighted(model, block, place, z, log_weights, of_block)


def _drawn(
    rows: Tensor, prior: Distribution, proposal: Conditional | None, draws: int
) -> tuple[Tensor, Tensor]:
    """Codes (S, n, L), and log p(z) - log q(z|x_seen), shape (S, n)."""
    if proposal is None:
        z = draw(prior, Size((draws, len(rows)))).value
        return z, z.new_zeros(z.shape[:2])
    conditional = checked("proposal", proposal(rows), len(rows))
    check_event("proposal", conditional, prior)
    z, log_q, _ = draw(conditional, Size((draws,)))
    return z, prior.log_prob(z) - log_q


def _seen(model: Joint, rows: Tensor, z: Tensor, chunk_size: int) -> Tensor:
    """Log-probabilities of seen entries at codes (S, n, L) of n rows, in nats, shape (S, n)."""
    parts = []
    for codes in z.split(max(1, chunk_size // len(rows))):
        repeated = rows.expand(len(codes), *rows.shape).flatten(0, 1)
        decoder = checked("decoder", model.decoder(codes.flatten(0, 1)), len(repeated))
        parts.append(decoder.log_prob(repeated).unflatten(0, codes.shape[:2]))
    return torch.cat(parts).double()


def _resampled(log_weights: Tensor, count: int) -> Tensor:
    """Indices of draws, shape (count, n), by systematic resampling, in random order.

    A draw of weight w is taken w times count times on average, up to one more or less. Without any
    weight, as where all draws contradict the row, every draw is as likely.
    """
    weights = log_weights.softmax(0).nan_to_num(1 / len(log_weights))
    offset = torch.rand_like(weights[:1])
    steps = torch.arange(count, dtype=weights.dtype, device=weights.device)[:, None]
    total = weights.cumsum(0)
    places = (steps + offset) / count * total[-1]
    found = torch.searchsorted(total.T.contiguous(), places.T.contiguous(), right=True).T
    found = found.clamp_max(len(weights) - 1)
    return found.gather(0, torch.rand_like(found, dtype=weights.dtype).argsort(0))


def _widest(decoder: nn.Module, columns: int) -> int:
    """Largest number of values of any layer of a decoder for one code."""
    parts = decoder.modules() if isinstance(decoder, nn.Module) else ()
    widths = [part.out_features for part in parts if isinstance(part, nn.Linear)]
    return max([columns, *widths])
