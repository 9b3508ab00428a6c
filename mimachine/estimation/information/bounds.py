"""Bounds of the mutual information of data and codes, from a known q(z|x).

A marginal q(z) = E_x q(z|x) that is replaced by an average over data bounds I(x; z) from both
sides. All N² pairs of a code and a datum are evaluated, a block at a time, and none is stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from mimachine._support.memory import rows_at_once
from mimachine.data.rows import Rows
from mimachine.estimation.estimate import Estimate
from mimachine.model.conditionals import Conditional
from mimachine.model.distributions import DiagNormal, Mixture, StandardNormal, draw
from mimachine.model.joint import Joint, checked
from mimachine.model.networks import evaluating

__all__ = [
    "InformationBounds",
    "bounds_from_conditionals",
    "information_bounds",
]


_TIGHT = 0.1
# Groups of the jackknife: its standard errors are themselves known to within 13 %.
_GROUPS, _FEWEST_GROUPS = 32, 5
# Pairs in a block: in double precision they stay in the cache that the cores share.
_PAIRS, _PAIRS_ON_GPU, _COLUMNS = 2**20, 2**24, 2**11
# Numbers at once where each pair takes as many as a code has.
_VALUES = 2**22
# Each log-density that counts is exact to so many nats. What lies 21 nats and log n below the
# largest of n adds under 1e-9 to their sum.
_TOLERANCE, _NEGLIGIBLE = 1e-6, 21.0
# What lies so far below the largest changes no digit of a sum, and does not underflow.
_NO_SHARE = 600.0
# Roundings of a term of the matrix product beside those of its sum: of centring, of the features.
_ROUNDINGS = 16
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class InformationBounds:
    """Bounds of I(x; z) in nats, each true in expectation.

    Attributes:
        lower: The lower bound, InfoNCE with the known density. It cannot pass `ceiling`.
        upper: The upper bound, by leaving one out. Infinite where a code is impossible for all
            other data.
        rate: E KL(q(z|x) || p(z)), an upper bound too; None without a prior.
        gap: `upper` less `lower`. Its error is smaller than theirs, which go up and down together.
        num_data: Number N of data whose average stands for q(z).
        num_queries: Number of data whose codes were looked at.
    """

    lower: Estimate
    upper: Estimate
    rate: Estimate | None
    gap: Estimate
    num_data: int
    num_queries: int

    @property
    def ceiling(self) -> float:
        """Log N, which the lower bound cannot pass."""
        return math.log(self.num_data)

    @property
    def least_upper(self) -> Estimate:
        """`upper` or `rate`: the one that is lower with two standard errors added.

        Codes that are far from those of all other data give `upper` a scatter as large as itself,
        so to wait until the difference is certain would be to keep what says nothing.
        """
        if self.rate is None or _most(self.upper) <= _most(self.rate):
            return self.upper
        return self.rate

    @property
    def tight(self) -> bool:
        """Whether the lower bound and an upper one differ by less than 0.1 nat.

        Two standard errors of the difference are included. What scatter both share, as `lower` and
        `upper` share most of theirs, is not in it.
        """
        widths = [self.gap.value + 2 * self.gap.standard_error]
        if self.rate is not None:
            widths.append(_difference(self.rate, self.lower, errors=2))
        return any(width < _TIGHT for width in widths)

    @property
    def at_ceiling(self) -> bool:
        """Whether the lower bound tells of the number of data: it is within log 2 of `ceiling`.

        The code of a typical datum is then likelier by that datum than by all others together.
        """
        near = self.ceiling - self.lower.value < math.log(2) < self.lower.value
        return near and not self.tight

    @property
    def statement(self) -> str:
        """What is known of the information, in plain words."""
        between = f"between {self.lower} and {self.least_upper} nats"
        if self.tight:
            return f"{between}: tight"
        if self.at_ceiling:
            return (
                f"at least {self.lower} nats: the lower bound is at its ceiling log N = "
                f"{self.ceiling:.2f}, which more data would raise; at most "
                f"{self.least_upper} nats"
            )
        return f"{between}: not tight, which more data would mend"

    def __str__(self) -> str:
        return self.statement


def _most(bound: Estimate) -> float:
    """An upper bound with two of its standard errors, if these are known."""
    error = bound.standard_error
    return bound.value + (2 * error if math.isfinite(error) else 0.0)


def _difference(first: Estimate, second: Estimate, errors: float) -> float:
    """Difference of two numbers, and so many of its standard errors as if they were independent."""
    error = math.hypot(first.standard_error, second.standard_error)
    return first.value - second.value + errors * error


@torch.no_grad()
def information_bounds(
    model: Joint | Conditional,
    x: Tensor | Rows,
    *,
    num_samples: int = 1,
    num_queries: int | None = None,
    batch_size: int | None = None,
) -> InformationBounds:
    r"""Bound I(x; z) from both sides for z ~ q(z|x), where q(z|x) can be evaluated.

    With z_i ~ q(z|x_i) for N data, the upper bound leaves one out and the lower one does not:

    .. math:: \frac1N \sum_i \log\frac{q(z_i|x_i)}{\frac1N \sum_j q(z_i|x_j)} \;\lesssim\; I
        \;\lesssim\; \frac1N \sum_i \log\frac{q(z_i|x_i)}{\frac1{N-1} \sum_{j\ne i} q(z_i|x_j)}

    Both hold on average over data and codes, for any encoder: what is bounded is the information
    of the distribution that the data come from, of which these N are a sample. The lower bound
    is log N at most, so information far above ½ log N is only bounded loosely. Where the model
    has a prior, the rate E KL(q(z|x) || p(z)) is told too, an upper bound that N does not limit.

    The standard errors are those of a jackknife that leaves out 1/32 of the data at a time, as
    codes and in the averages alike (see `bounds_from_conditionals`).

    Encoders of diagonal normals and of their mixtures take one matrix product for all pairs:
    50,000 data in 80 dimensions take 40 s of processor time, shared by torch's threads. All
    others take as many evaluations of a density as there are pairs; `num_queries` says for how
    many data.

    Args:
        model: The model, or its encoder alone, used in evaluation mode.
        x: Data, shape (N, *X), two or more.
        num_samples: Number of codes for each datum. The noise of the codes gets smaller by more,
            that of the data does not.
        num_queries: Number of data, chosen at random, whose codes are looked at; all by default.
            The averages are over all data in any case, so the bounds are as tight, and only their
            errors grow.
        batch_size: Most data that are encoded at once; by default 4,096, and fewer if they are so
            large that they would take over 16 MiB.

    Raises:
        ValueError: If there are fewer than two data, a number is not positive, `num_queries` is
            above the number of data, or the encoder gives no finite log-probability.

    References:
        On Variational Bounds of Mutual Information (Poole et al., 2019),
        https://arxiv.org/abs/1905.06922
    """
    batch_size = rows_at_once(x.shape) if batch_size is None else batch_size
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
    encoder = model.encoder if isinstance(model, Joint) else model
    with evaluating(model) if isinstance(model, nn.Module) else nullcontext():
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
    z: Tensor | None = None,
    prior: Distribution | None = None,
    num_samples: int = 1,
    num_queries: int | None = None,
) -> InformationBounds:
    """`information_bounds` from what an encoder gave for the data, batch after batch.

    Each of the N data counts in its own term and in the averages of all others, so the terms are
    not independent. The standard errors are those of a jackknife: the data are dealt at random to
    32 groups (the same for the same N), and the bounds are found again without each. NaN for fewer
    than 5 data or queries.

    Args:
        conditionals: q(z|x), each a distribution with a batch of some of the data.
        z: Codes, shape (N, *Z) or (S, N, *Z), where they were drawn already; each has to be a draw
            of its datum's q(z|x). Codes in single precision say little where q(z|x) is narrower
            than their rounding.
        prior: p(z), a distribution of batch shape (), for the rate: in closed form where all is
            diagonal normal, else by the same codes.
        num_samples: Number of codes to draw for each datum; of no meaning with `z`.
        num_queries: As for `information_bounds`.

    Raises:
        ValueError: As for `information_bounds`; if the conditionals are of different shapes, or
            codes or prior do not have theirs.
    """
    count = _checked_count(conditionals)
    event = conditionals[0].event_shape
    for name, value in (("num_samples", num_samples), ("num_queries", num_queries)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    queries = count if num_queries is None else num_queries
    if queries > count:
        raise ValueError(f"num_queries must be at most the {count} data, got {queries}")
    if prior is not None and (prior.batch_shape or prior.event_shape != event):
        raise ValueError(
            f"prior must have batch shape () and the codes' shape {tuple(event)}, got "
            f"{tuple(prior.batch_shape)} and {tuple(prior.event_shape)}"
        )
    parts = [_in_double(conditional) for conditional in conditionals]
    codes = _drawn(parts, num_samples) if z is None else _given(parts, z, count)
    _check_finite(codes)
    rates = None if prior is None else _rates(parts, codes, prior)
    groups = _Groups.dealt(count, queries, codes.z.device)
    rows = codes.z[:, groups.queries].flatten(0, 1)
    data = groups.queries.repeat(len(codes.z))
    others = _log_sums(_columns(parts, groups), rows, data, groups)
    return _summary(codes.log_prob[:, groups.queries].flatten(), others, data, groups, rates)


def _checked_count(conditionals: Sequence[Distribution]) -> int:
    """Number of data, of conditionals that have one event each of one shape."""
    shapes = {(len(part.batch_shape), part.event_shape) for part in conditionals}
    if len(shapes) > 1 or any(dims != 1 for dims, _ in shapes):
        got = [(tuple(part.batch_shape), tuple(part.event_shape)) for part in conditionals]
        raise ValueError(
            "conditionals must each have one event a datum, all of one shape, got batch and event "
            f"shapes {got[:5]}"
        )
    count = sum(part.batch_shape[0] for part in conditionals)
    if count < 2:
        raise ValueError(f"bounds of information need two data or more, got {count}")
    return count


def _in_double(conditional: Distribution) -> Distribution:
    """Diagonal normals and their mixtures in double precision; all else as it is.

    A draw in single precision has lost its noise to rounding where the scale is small.
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
    """Codes (S, N, *Z) and their log-probabilities given their own data, (S, N), in double."""

    z: Tensor
    log_prob: Tensor


def _drawn(parts: Sequence[Distribution], num_samples: int) -> _Codes:
    draws = [draw(part, (num_samples,)) for part in parts]
    z = torch.cat([each.value for each in draws], 1)
    return _Codes(z, torch.cat([each.log_prob for each in draws], 1).double())


def _given(parts: Sequence[Distribution], z: Tensor, count: int) -> _Codes:
    event = parts[0].event_shape
    if z.shape == (count, *event):
        z = z.unsqueeze(0)
    if z.dim() != 2 + len(event) or not len(z) or z.shape[1:] != (count, *event):
        raise ValueError(
            f"z must have shape {(count, *event)}, or that after a number of codes for each "
            f"datum, got {tuple(z.shape)}"
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
            f"q(z|x) must give finite codes of finite log-probability; those of data {bad} are not"
        )


def _rates(parts: Sequence[Distribution], codes: _Codes, prior: Distribution) -> Tensor:
    """KL(q(z|x) || p(z)) of each datum, (N,): exact of diagonal normals, else from its codes."""
    if isinstance(prior, DiagNormal | StandardNormal):
        normals = [part for part in parts if isinstance(part, DiagNormal)]
        if len(normals) == len(parts):
            return torch.cat([_divergence(part, prior) for part in normals])
    # A prior may be a network, which takes numbers of its own precision.
    flat = codes.z.flatten(0, 1).to(prior.sample().dtype)
    log_prior = [prior.log_prob(rows) for rows in flat.split(rows_at_once(flat.shape, most=512))]
    return (codes.log_prob - torch.cat(log_prior).double().reshape_as(codes.log_prob)).mean(0)


def _divergence(q: DiagNormal, p: DiagNormal | StandardNormal) -> Tensor:
    """KL of diagonal normals in nats, (n,)."""
    ratio = q.stddev / p.stddev.double()
    offset = (q.loc - p.mean.double()) / p.stddev.double()
    each = 0.5 * (ratio.square() + offset.square() - 1) - ratio.log()
    return each.reshape(len(each), -1).sum(1)


class _Groups(NamedTuple):
    """Data dealt to groups at random, so that each has its share of data and of queries.

    Attributes:
        members: Data of each group.
        of_data: Group of each datum, shape (N,).
        queries: Data whose codes are looked at, shape (Q,).
    """

    members: tuple[Tensor, ...]
    of_data: Tensor
    queries: Tensor

    @staticmethod
    def dealt(count: int, queries: int, device: torch.device) -> _Groups:
        # Data may be sorted or periodic, so the groups are random: the same ones for the same N.
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(count, generator=generator).to(device)
        number = min(_GROUPS, queries)
        of_data = torch.empty_like(order)
        of_data[order] = torch.arange(count, device=device) % number
        members = tuple(order[group::number] for group in range(number))
        return _Groups(members, of_data, order[:queries])


def _columns(
    parts: Sequence[Distribution], groups: _Groups
) -> Sequence[_NormalColumns | _AnyColumns]:
    """All data in blocks, by the way that is fastest."""
    normals = _Normals.of(parts)
    if normals is not None:
        size = max(1, _COLUMNS // normals.loc.shape[1])
        return [
            _NormalColumns(normals, data, group)
            for group, members in enumerate(groups.members)
            for data in members.split(size)
        ]
    every = torch.arange(len(groups.of_data), device=groups.of_data.device)
    sizes = [part.batch_shape[0] for part in parts]
    blocks = zip(parts, every.split(sizes), strict=True)
    return [_AnyColumns(part, data, groups) for part, data in blocks]


def _log_sums(
    columns: Sequence[_NormalColumns | _AnyColumns], z: Tensor, data: Tensor, groups: _Groups
) -> Tensor:
    """Log Σ_j q(z_i|x_j) over the data of each group but the code's own, shape (R, G)."""
    block = torch.empty_like(groups.of_data)
    place = torch.empty_like(groups.of_data)
    for index, part in enumerate(columns):
        block[part.data] = index
        place[part.data] = torch.arange(len(part.data), device=place.device)
    shape = (len(z), len(groups.members))
    sums = torch.full(shape, -math.inf, dtype=torch.float64, device=z.device)

    # Threads of their own have no gradients switched off.
    @torch.no_grad()
    def add(rows: Tensor, own: Tensor, total: Tensor) -> None:
        for index, part in enumerate(columns):
            mine = torch.nonzero(block[own] == index).flatten()
            log_prob = part.log_prob(rows, (mine, place[own[mine]]))
            for group, members in part.groups:
                added = _log_sum(log_prob[:, members].flatten(1))
                total[:, group] = torch.logaddexp(total[:, group], added)

    most = min(part.most_rows for part in columns)
    blocks = list(zip(z.split(most), data.split(most), sums.split(most), strict=True))
    # Distributions of any kind may not be made for several threads.
    alone = z.is_cuda or not all(isinstance(part, _NormalColumns) for part in columns)
    threads = 1 if alone else torch.get_num_threads()
    _in_threads(add, blocks, threads)
    return sums


def _in_threads(
    work: Callable[[Tensor, Tensor, Tensor], None],
    blocks: Sequence[tuple[Tensor, Tensor, Tensor]],
    threads: int,
) -> None:
    """Do the blocks at the same time.

    Threads of one operation wait for each other at its end, which where other programs run takes
    several times as long as the work.
    """
    if threads == 1:
        for block in blocks:
            work(*block)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1)) as pool:
            for done in [pool.submit(work, *block) for block in blocks]:
                done.result()
    finally:
        # Threads made later would take over what these set.
        torch.set_num_threads(threads)


def _log_sum(log_prob: Tensor) -> Tensor:
    """Log Σ exp over the second axis, (R,); what was given is written over."""
    top = log_prob.amax(1, keepdim=True)
    # Exponentials that underflow take ten times as long, and memory for others as long again.
    shares = log_prob.sub_(top).clamp_min_(-_NO_SHARE).exp_()
    return torch.where(top.isinf(), top, top + shares.sum(1, keepdim=True).log()).squeeze(1)


class _AnyColumns:
    """Data with conditionals of any kind, whose density is evaluated for each pair.

    Attributes:
        data: Which data, shape (n,).
        groups: Each group that they are of, and the places of its members among them.
        most_rows: Most codes to look at at once.
    """

    def __init__(self, conditional: Distribution, data: Tensor, groups: _Groups) -> None:
        self.conditional, self.data = conditional, data
        of_data = groups.of_data[data]
        self.groups = [
            (int(group), torch.nonzero(of_data == group).flatten()) for group in of_data.unique()
        ]
        values = len(data) * max(1, conditional.event_shape.numel())
        self.most_rows = max(1, _VALUES // max(1, values))

    def log_prob(self, z: Tensor, own: tuple[Tensor, Tensor]) -> Tensor:
        """Log q(z_i|x_j), shape (R, n), in double; -inf for the pairs (i, j) of codes and own data.

        Args:
            z: Codes, shape (R, *Z).
            own: Places of these pairs.
        """
        pairs = (len(z), len(self.data), *self.conditional.event_shape)
        # A flow inverts its value, which has to have the batch's shape for that.
        log_prob: Tensor = self.conditional.log_prob(z.unsqueeze(1).expand(pairs)).double()
        log_prob[own] = -math.inf
        return log_prob


class _Normals(NamedTuple):
    """Diagonal normals, K for each of N data, with log-weights.

    Attributes:
        loc: Means, shape (N, K, D), double like all.
        scale: Standard deviations, likewise.
        log_weight: Shape (N, K).
        centre: Mean of the means, shape (D,).
    """

    loc: Tensor
    scale: Tensor
    log_weight: Tensor
    centre: Tensor

    @staticmethod
    def of(parts: Sequence[Distribution]) -> _Normals | None:
        """All conditionals as one; none if they are others, or mixtures of different numbers."""
        normals, weights = [], []
        for part in parts:
            if isinstance(part, DiagNormal):
                normals.append(part[:, None])
                weights.append(part.loc.new_zeros(part.batch_shape[0], 1))
            elif isinstance(part, Mixture) and isinstance(part.components, DiagNormal):
                normals.append(part.components)
                weights.append(part.log_weights)
            else:
                return None
        if len({each.shape[1] for each in weights}) > 1:
            return None
        log_weight = torch.cat(weights)
        loc = torch.cat([normal.loc for normal in normals]).reshape(*log_weight.shape, -1)
        scale = torch.cat([normal.stddev for normal in normals]).reshape(loc.shape)
        return _Normals(loc, scale, log_weight, loc.mean((0, 1)))


class _NormalColumns:
    """Diagonal normals of data of one group, whose densities at all codes are a matrix product.

    With the square expanded, log q(z|x) is the product of (z², z) and (-1/2s², m/s²). Where s is
    small it is a small difference of large numbers. The rounding of the product has a bound; pairs
    where that is above 1e-6 nat and which may count in the sum are evaluated again, as they stand.

    Args:
        normals: Those of all data.
        data: Which data, shape (n,).
        group: Their group.

    Attributes:
        groups: Their group, with the places of its members among them: all.
        most_rows: Most codes to look at at once.
    """

    def __init__(self, normals: _Normals, data: Tensor, group: int) -> None:
        self.data = data
        self.groups = [(group, slice(None))]
        self.components = normals.loc.shape[1]
        self.centre = normals.centre
        self.loc, self.scale = normals.loc[data].flatten(0, 1), normals.scale[data].flatten(0, 1)
        dims = self.loc.shape[1]
        log_scale = self.scale.log()
        self.log_peak = (
            normals.log_weight[data].flatten() - log_scale.sum(1) - 0.5 * dims * _LOG_2PI
        )
        loc, precision = self.loc - self.centre, self.scale.square().reciprocal()
        self.features = torch.cat([-0.5 * precision, loc * precision], 1).T.contiguous()
        square = 0.5 * (loc.square() * precision).sum(1)
        self.constant = self.log_peak - square
        # At least the sum of the sizes of what is added up.
        self.size = square + log_scale.abs().sum(1) + self.log_peak.abs() + dims
        self.rounding = (2 * dims + _ROUNDINGS) * torch.finfo(loc.dtype).eps
        pairs = _PAIRS_ON_GPU if loc.is_cuda else _PAIRS
        self.most_rows = max(1, pairs // min(len(self.loc), _COLUMNS))

    def log_prob(self, z: Tensor, own: tuple[Tensor, Tensor]) -> Tensor:
        """Log of weight times density of each component, shape (R, n, K), as of `_AnyColumns`."""
        z = z.reshape(len(z), -1).double()
        offset = z - self.centre
        factors = torch.cat([offset.square(), offset], 1)
        log_prob = torch.addmm(self.constant, factors, self.features)
        pairs = log_prob.view(len(z), -1, self.components)
        # What counts in a sum is told by its largest term, which is not the code's own.
        pairs[own] = -math.inf
        # Largest in the block, so one product for all its codes.
        error = self.rounding * (self.size + factors.abs().amax(0) @ self.features.abs())
        if not (error <= _TOLERANCE).all():
            self._evaluate_again(log_prob, z, error)
            pairs[own] = -math.inf
        return pairs

    def _evaluate_again(self, log_prob: Tensor, z: Tensor, error: Tensor) -> None:
        """Put exact numbers where those of the product, (R, m), are wrong by too much and count."""
        margin = 2 * error.amax() + _NEGLIGIBLE + math.log(len(self.loc))
        least = log_prob.amax(1, keepdim=True) - margin
        # What is no number is not known to be small either.
        row, column = torch.nonzero(~(log_prob < least), as_tuple=True)
        inexact = ~(error <= _TOLERANCE)[column]
        row, column = row[inexact], column[inexact]
        if 16 * len(row) > log_prob.numel():
            size = max(1, _VALUES // self.loc.numel())
            for codes, out in zip(z.split(size), log_prob.split(size), strict=True):
                out.copy_(self._exact(codes[:, None], slice(None)))
            return
        size = max(1, _VALUES // self.loc.shape[1])
        for rows, columns in zip(row.split(size), column.split(size), strict=True):
            log_prob[rows, columns] = self._exact(z[rows], columns)

    def _exact(self, z: Tensor, column: Tensor | slice) -> Tensor:
        noise: Tensor = (z - self.loc[column]) / self.scale[column]
        return self.log_peak[column] - 0.5 * noise.square().sum(-1)


def _summary(
    own: Tensor, others: Tensor, data: Tensor, groups: _Groups, rates: Tensor | None
) -> InformationBounds:
    """The bounds with their errors.

    Args:
        own: log q(z_i|x_i), shape (R,).
        others: log Σ_j q(z_i|x_j) over the others in each group, shape (R, G).
        data: The data of the codes, shape (R,).
        groups: The groups.
        rates: The rate of each datum, shape (N,), or none.
    """
    count = len(groups.of_data)
    of_rows = groups.of_data[data]
    upper, lower = _bounds(own - torch.logsumexp(others, 1), count)
    replicates = []
    for group, members in enumerate(groups.members):
        keep = of_rows != group
        left = count - len(members)
        if left > 1 and len(groups.members) > 1:
            rest = torch.cat([others[keep, :group], others[keep, group + 1 :]], 1)
            replicates.append(_bounds(own[keep] - torch.logsumexp(rest, 1), left))
    uppers, lowers = torch.tensor(replicates, dtype=torch.float64).reshape(-1, 2).T
    return InformationBounds(
        lower=Estimate(lower, _jackknife_error(lowers)),
        upper=Estimate(upper, _jackknife_error(uppers)),
        rate=None if rates is None else Estimate.mean_of(rates),
        gap=Estimate(upper - lower, _jackknife_error(uppers - lowers)),
        num_data=count,
        num_queries=len(groups.queries),
    )


def _bounds(log_odds: Tensor, count: int) -> tuple[float, float]:
    """Upper and lower bound from log q(z_i|x_i) - log Σ_j≠i q(z_i|x_j), (R,), of N data."""
    upper = math.log(count - 1) + float(log_odds.mean())
    lower = math.log(count) - float(torch.logaddexp(-log_odds, log_odds.new_zeros(())).mean())
    return upper, lower


def _jackknife_error(replicates: Tensor) -> float:
    """Standard error from what an estimate is without each of some groups, (G,)."""
    number = len(replicates)
    if number < _FEWEST_GROUPS:
        return math.nan
    return math.sqrt((number - 1) / number * float((replicates - replicates.mean()).square().sum()))
