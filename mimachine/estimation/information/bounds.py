"""Bounds of the mutual information of data and codes, from a known q(z|x).

Replacing the marginal q(z) = E_x q(z|x) by an average over rows bounds I(x; z) from both sides.
All N² pairs of a code and a row are evaluated, block by block, without storing them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import softplus

from mimachine._support.checks import instance, whole
from mimachine._support.memory import rows_at_once
from mimachine._support.seeds import own_noise
from mimachine.data.examples import Examples, as_tensor, block_size, examples
from mimachine.estimation.codes.aggregate import kl_terms
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.information.all_pairs import Groups, density_columns, log_sums
from mimachine.model.conditionals import Conditional
from mimachine.model.distributions import DiagNormal, Mixture, StandardNormal, draw
from mimachine.model.joint import Joint, check_joint, checked
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating

__all__ = ["InformationBounds", "bounds_from_conditionals", "information_bounds"]

_TIGHT = 0.1
# With fewer groups there is no standard error.
_FEWEST_GROUPS = 5


@dataclass(frozen=True)
class InformationBounds:
    """Bounds of the mutual information I(x; z) in nats, each valid in expectation.

    Attributes:
        lower: The lower bound, InfoNCE with the known density. It cannot exceed `ceiling`.
        upper: The leave-one-out upper bound. Infinite if a code is impossible for all other rows.
        rate: E KL(q(z|x) || p(z)), another upper bound; None without a prior.
        gap: `upper` minus `lower`. Its error is smaller than theirs, which are correlated.
        gap_of_half: The gap that averages over a random half of the rows would have, about twice as
            large, from the same codes.
        num_data: Number N of rows whose average replaces q(z).
        num_queries: Number of rows whose codes were evaluated.
    """

    lower: Estimate
    upper: Estimate
    rate: Estimate | None
    gap: Estimate
    gap_of_half: Estimate
    num_data: int
    num_queries: int

    @property
    def ceiling(self) -> float:
        """Log N, which the lower bound cannot exceed."""
        return math.log(self.num_data)

    @property
    def least_upper(self) -> Estimate:
        """`upper` or `rate`, whichever is lower with two standard errors added.

        If codes are far from all others, the standard error of `upper` is as large as its value.
        A significance test would then keep an uninformative bound.
        """
        if self.rate is None or _most(self.upper) <= _most(self.rate):
            return self.upper
        return self.rate

    @property
    def tight(self) -> bool:
        """Whether the lower bound and an upper one certainly differ by less than 0.1 nat.

        Two standard errors of the difference are included. The gap of `lower` and `upper` may
        consist of few rows that are far from all others, and a sample without such a row has a
        small gap with a small error. With half of the rows there are more, so `gap_of_half` has to
        be below 0.1 nat.
        """
        widths = [self.gap_of_half.value + 2 * self.gap_of_half.standard_error]
        if self.rate is not None:
            widths.append(_difference(self.rate, self.lower, errors=2))
        return any(width < _TIGHT for width in widths)

    @property
    def at_ceiling(self) -> bool:
        """Whether the lower bound is limited by the number of rows: within log 2 of `ceiling`.

        The code of a typical row is then likelier under that row than under all others together.
        """
        near = self.ceiling - self.lower.value < math.log(2) < self.lower.value
        return near and not self.tight

    @property
    def statement(self) -> str:
        """The bounds as a sentence.

        Estimates may be the wrong way round by their errors. The smaller is then printed first.
        """
        low, high = sorted((self.lower, self.least_upper), key=lambda bound: bound.value)
        between = f"between {low} and {high} nats"
        if low is not self.lower:
            if _difference(self.lower, self.least_upper, errors=-2) < _TIGHT:
                return f"{between}: both bounds agree within their errors"
            return f"{between}: the lower bound came out higher; more data would put them in order"
        if self.tight:
            return f"{between}: tight"
        if self.at_ceiling:
            return (
                f"at least {self.lower} nats: the lower bound is at its ceiling log N = "
                f"{self.ceiling:.2f}, which more data would raise; at most "
                f"{self.least_upper} nats"
            )
        return f"{between}: not tight; more data would narrow them"

    def __str__(self) -> str:
        return self.statement


def _most(bound: Estimate) -> float:
    """An upper bound plus two of its standard errors, if these are known."""
    error = bound.standard_error
    return bound.value + (2 * error if math.isfinite(error) else 0.0)


def _difference(first: Estimate, second: Estimate, errors: float) -> float:
    """Difference plus a number of its standard errors, as if the two were independent."""
    error = math.hypot(first.standard_error, second.standard_error)
    return first.value - second.value + errors * error


@torch.no_grad()
def information_bounds(
    model: Joint | Conditional,
    x: Examples,
    *,
    num_samples: int = 1,
    num_queries: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
) -> InformationBounds:
    r"""Lower and upper bounds of the mutual information I(x; z) for an encoder q(z|x).

    With z_i ~ q(z|x_i) for N rows, the upper bound leaves out the code's own row:

    .. math:: \frac1N \sum_i \log\frac{q(z_i|x_i)}{\frac1N \sum_j q(z_i|x_j)} \;\lesssim\; I
        \;\lesssim\; \frac1N \sum_i \log\frac{q(z_i|x_i)}{\frac1{N-1} \sum_{j\ne i} q(z_i|x_j)}

    Both hold in expectation over data and codes, for any encoder. They bound the information
    under the distribution that the N rows are sampled from. The lower bound is at most log N, so
    information far above ½ log N is bounded only loosely. If the model has a prior, the result
    includes the rate E KL(q(z|x) || p(z)), an upper bound that N does not limit.

    Standard errors are by a jackknife that leaves out 1/32 of the rows at a time, both as codes and
    in the averages (see `bounds_from_conditionals`). For data with heavy tails the error of the
    upper bound is too small: rare rows far from all others decide its mean.

    For encoders that give diagonal normals or their mixtures, all pairs are one matrix product:
    50,000 rows in 80 dimensions take 40 s of processor time, shared by torch's threads. Other
    encoders take one evaluation of a density for each pair; `num_queries` limits their number.

    Args:
        model: The model, or only its encoder, used in evaluation mode.
        x: Data, shape (N, *X), two or more rows, in any form that `fit` takes.
        num_samples: Number of codes for each row. More codes reduce their noise, but not that of
            the data.
        num_queries: Number of rows, chosen at random, whose codes are evaluated; all by default.
            The averages are over all rows in any case, so the bounds are as tight, and only their
            errors grow.
        batch_size: Largest number of rows that are encoded at once; by default 4,096, or fewer if
            these would take over 16 MiB.
        seed: Seed of the codes, by default 0; the global generators keep their state.

    Raises:
        ValueError: If the data cannot be used or do not fit the model, there are fewer than two
            rows, a number is not positive, `num_queries` is above the number of rows, or a
            log-probability of the encoder is not finite.

    References:
        On Variational Bounds of Mutual Information (Poole et al., 2019),
        https://arxiv.org/abs/1905.06922
    """
    if not callable(model):
        check_joint("model", model)
    x = examples("x", x, model, least=2)
    batch_size = block_size(x, batch_size)
    encoder = model.encoder if isinstance(model, Joint) else model
    noise = own_noise(seed, "information bounds", x.device)
    with noise, evaluating(model), naming_misfits(model, x):
        conditionals = [
            checked("encoder", encoder(rows), len(rows)) for rows in x.split(batch_size)
        ]
        prior = model.prior() if isinstance(model, Joint) else None
        return bounds_from_conditionals(
            conditionals, prior=prior, num_samples=num_samples, num_queries=num_queries
        )


@torch.no_grad()
def bounds_from_conditionals(
    conditionals: Sequence[Distribution],
    *,
    z: Examples | None = None,
    prior: Distribution | None = None,
    num_samples: int = 1,
    num_queries: int | None = None,
    seed: int | None = None,
) -> InformationBounds:
    """`information_bounds` from the distributions q(z|x) that an encoder gave, by batches.

    Each of the N rows has its own term and is in the averages of all others, so the terms are not
    independent. Standard errors are by a jackknife: the rows are dealt at random to 32 groups (the
    same for the same N), and the bounds are computed again without each group. They are NaN for
    fewer than 5 rows or queries. A sample often lacks the rare rows, far from all others, that a
    large gap comes from, and then shows too little scatter. With averages over half of the rows
    there are more such rows, so the errors of the upper bound and of the gap are at least that of
    `gap_of_half`.

    Args:
        conditionals: q(z|x), distributions that each have a batch of some of the rows.
        z: Codes, shape (N, *Z) or (S, N, *Z), if they were drawn already; each must be a draw from
            its row's q(z|x). Codes in single precision are of little use where q(z|x) is narrower
            than their rounding.
        prior: p(z), a distribution of batch shape (), for the rate: in closed form if all
            distributions are diagonal normals, and otherwise from the same codes.
        num_samples: Number of codes to draw for each row; ignored with `z`.
        num_queries: As for `information_bounds`.
        seed: As for `information_bounds`.

    Raises:
        ValueError: As for `information_bounds`; if the conditionals have different shapes, or the
            codes or the prior have another shape.
    """
    instance("conditionals", conditionals, Sequence, "a list of distributions")
    for index, part in enumerate(conditionals):
        instance(f"conditionals[{index}]", part, Distribution, "a distribution")
    if prior is not None:
        instance("prior", prior, Distribution, "a distribution")
    count = _checked_count(conditionals)
    event = conditionals[0].event_shape
    num_samples = whole("num_samples", num_samples, 1)
    queries = count if num_queries is None else whole("num_queries", num_queries, 1)
    if queries > count:
        raise ValueError(f"num_queries must be at most the number of rows {count}, got {queries}")
    if prior is not None and (prior.batch_shape or prior.event_shape != event):
        raise ValueError(
            f"prior must have batch shape () and the codes' shape {tuple(event)}, got "
            f"{tuple(prior.batch_shape)} and {tuple(prior.event_shape)}"
        )
    parts = [_in_double(conditional) for conditional in conditionals]
    with own_noise(seed, "information bounds"):
        codes = _drawn(parts, num_samples) if z is None else _given(parts, z, count)
        _check_finite(codes)
        rates = None if prior is None else _rates(parts, codes, prior)
    groups = Groups.dealt(count, queries, codes.z.device)
    rows = codes.z[:, groups.queries].flatten(0, 1)
    data = groups.queries.repeat(len(codes.z))
    others = log_sums(density_columns(parts, groups), rows, data, groups)
    return _summary(codes.log_prob[:, groups.queries].flatten(), others, data, groups, rates)


def _checked_count(conditionals: Sequence[Distribution]) -> int:
    """Number of rows of conditionals, after checking their shapes."""
    shapes = {(len(part.batch_shape), part.event_shape) for part in conditionals}
    if len(shapes) > 1 or any(dims != 1 for dims, _ in shapes):
        got = [(tuple(part.batch_shape), tuple(part.event_shape)) for part in conditionals]
        raise ValueError(
            "conditionals must have one event per row, all of the same shape, got batch and event "
            f"shapes {got[:5]}"
        )
    count = sum(part.batch_shape[0] for part in conditionals)
    if count < 2:
        raise ValueError(f"bounds of information need two or more rows, got {count}")
    return count


def _in_double(conditional: Distribution) -> Distribution:
    """Convert diagonal normals and their mixtures to double precision.

    A draw in single precision loses its noise to rounding if the scale is small.
    """
    if isinstance(conditional, Mixture) and isinstance(conditional.components, DiagNormal):
        components = _double_normal(conditional.components)
        return Mixture(conditional.log_weights.double(), components)
    if isinstance(conditional, DiagNormal):
        return _double_normal(conditional)
    if isinstance(conditional, Independent) and type(conditional.base_dist) is Normal:
        base, dims = conditional.base_dist, len(conditional.event_shape)
        return _double_normal(DiagNormal(base.loc, base.scale, dims))
    return conditional


def _double_normal(normal: DiagNormal) -> DiagNormal:
    return DiagNormal(normal.loc.double(), normal.scale.double(), len(normal.event_shape))


class _Codes(NamedTuple):
    """Codes (S, N, *Z) and their log-probabilities under their own rows, (S, N), in double."""

    z: Tensor
    log_prob: Tensor


def _drawn(parts: Sequence[Distribution], num_samples: int) -> _Codes:
    draws = [draw(part, (num_samples,)) for part in parts]
    z = torch.cat([each.value for each in draws], 1)
    return _Codes(z, torch.cat([each.log_prob for each in draws], 1).double())


def _given(parts: Sequence[Distribution], z: Any, count: int) -> _Codes:
    event, z = parts[0].event_shape, as_tensor("z", z)
    if z.shape == (count, *event):
        z = z.unsqueeze(0)
    if z.dim() != 2 + len(event) or not len(z) or z.shape[1:] != (count, *event):
        raise ValueError(
            f"z must have shape {(count, *event)} or (S, {', '.join(map(str, (count, *event)))}), "
            f"got {tuple(z.shape)}"
        )
    sizes = [part.batch_shape[0] for part in parts]
    log_probs = [part.log_prob(own) for part, own in zip(parts, z.split(sizes, 1), strict=True)]
    return _Codes(z, torch.cat(log_probs, 1).double())


def _check_finite(codes: _Codes) -> None:
    of_codes = codes.z.isfinite().reshape(*codes.log_prob.shape, -1).all(2)
    finite = (codes.log_prob.isfinite() & of_codes).all(0)
    if not finite.all():
        bad = torch.nonzero(~finite).flatten()[:5].tolist()
        raise ValueError(
            f"q(z|x) must give finite codes with finite log-probabilities; rows {bad} do not"
        )


def _rates(parts: Sequence[Distribution], codes: _Codes, prior: Distribution) -> Tensor:
    """KL(q(z|x) || p(z)) of each row, (N,): exact for diagonal normals, otherwise from codes."""
    if isinstance(prior, DiagNormal | StandardNormal):
        normals = [part for part in parts if isinstance(part, DiagNormal)]
        if len(normals) == len(parts):
            return torch.cat([_divergence(part, prior) for part in normals])
    # A prior may be a network, which needs inputs of its own precision.
    flat = codes.z.flatten(0, 1).to(prior.sample().dtype)
    log_prior = [prior.log_prob(rows) for rows in flat.split(rows_at_once(flat.shape, most=512))]
    return (codes.log_prob - torch.cat(log_prior).double().reshape_as(codes.log_prob)).mean(0)


def _divergence(q: DiagNormal, p: DiagNormal | StandardNormal) -> Tensor:
    """KL of diagonal normals in nats, shape (n,)."""
    return kl_terms(q.loc, q.stddev, p.mean.double(), p.stddev.double()).sum(1)


def _summary(
    own: Tensor, others: Tensor, data: Tensor, groups: Groups, rates: Tensor | None
) -> InformationBounds:
    """The bounds with their standard errors.

    Args:
        own: log q(z_i|x_i), shape (R,).
        others: log Σ_j q(z_i|x_j) over the others in each group, shape (R, G).
        data: Rows of the codes, shape (R,).
        groups: The groups.
        rates: Rate of each row, shape (N,), or None.
    """
    count, of_rows = len(groups.of_data), groups.of_data[data]
    upper, lower = _bounds(own - torch.logsumexp(others, 1), count)
    of_half = _gap_of_half(own, others, groups, of_rows)
    replicates, shares = [], []
    for group, members in enumerate(groups.members):
        keep, left = of_rows != group, count - len(members)
        if left > 1 and len(groups.members) > 1:
            rest = others[keep].clone()
            rest[:, group] = -math.inf
            bounds = _bounds(own[keep] - torch.logsumexp(rest, 1), left)
            half = _gap_of_half(own[keep], rest, groups, of_rows[keep], without=group)
            replicates.append((*bounds, half))
            shares.append(len(members) / count)
    without = torch.tensor(replicates, dtype=torch.float64).reshape(-1, 3).T
    errors = partial(_jackknife_error, shares=torch.tensor(shares, dtype=torch.float64))
    error_of_half = errors(of_half, without[2])
    of_gap = errors(upper - lower, without[0] - without[1])
    # Near the ceiling few rows make up what is missing, and a sample may lack them. As for a
    # proportion near 1, the error is that of two more rows which a second one equals.
    shares_of_own = (own - torch.logsumexp(others, 1)).sigmoid()
    of_more = math.sqrt(2) * float(shares_of_own.log1p().mean()) / len(groups.queries)
    return InformationBounds(
        lower=Estimate(lower, math.hypot(errors(lower, without[1]), of_more)),
        upper=Estimate(upper, _larger(errors(upper, without[0]), error_of_half)),
        rate=None if rates is None else Estimate.mean_of(rates),
        gap=Estimate(upper - lower, _larger(of_gap, error_of_half)),
        gap_of_half=Estimate(of_half, error_of_half),
        num_data=count,
        num_queries=len(groups.queries),
    )


def _larger(first: float, second: float) -> float:
    """The larger error; NaN if one is NaN."""
    return math.nan if math.isnan(first + second) else max(first, second)


def _bounds(log_odds: Tensor, count: int) -> tuple[float, float]:
    """Upper and lower bound from log q(z_i|x_i) - log Σ_j≠i q(z_i|x_j), (R,), for N rows."""
    upper = math.log(count - 1) + float(log_odds.mean())
    lower = math.log(count) - float(softplus(-log_odds).mean())
    return upper, lower


def _gap_of_half(
    own: Tensor, others: Tensor, groups: Groups, of_rows: Tensor, without: int | None = None
) -> float:
    """Gap if averages are over every second group: the mean over both halves of the groups.

    Args:
        own: log q(z_i|x_i), shape (R,).
        others: log Σ_j q(z_i|x_j) over the others in each group, shape (R, G).
        groups: The groups.
        of_rows: Group of each code's row, shape (R,).
        without: A group that is left out, whose sums are -inf.
    """
    sizes = torch.tensor([len(members) for members in groups.members], device=own.device)
    if len(sizes) < _FEWEST_GROUPS:
        return math.nan
    if without is not None:
        sizes[without] = 0
    gaps = []
    for first in (0, 1):
        # A code's own row is not among the others of its group.
        count = sizes[first::2].sum() - (of_rows % 2 == first).long()
        log_odds = own - torch.logsumexp(others[:, first::2], 1)
        gaps.append((softplus(log_odds) - (1 / count).log1p()).mean())
    return float(sum(gaps) / 2)


def _jackknife_error(whole: float, without: Tensor, shares: Tensor) -> float:
    """Standard error from the estimates without each of some groups, shape (G,).

    Groups may have one row more than others. A bound at its ceiling log N then differs by that row
    alone, so the estimates are compared by their pseudo-values (Busing et al., 1999).
    """
    number = len(without)
    if number < _FEWEST_GROUPS:
        return math.nan
    times = 1 / shares
    pseudo = times * whole - (times - 1) * without
    offset = pseudo - (pseudo * shares).sum()
    return math.sqrt(float((offset.square() / (times - 1)).mean()))
