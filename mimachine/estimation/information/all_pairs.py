"""Log-densities of all N² pairs of a code and a row, summed block by block without storing them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.process import exclusive
from mimachine.model.distributions import DiagNormal, Mixture

# Groups of the jackknife. Its standard errors have a relative error of about 13 %.
_GROUPS = 32
# Pairs in a block. In double precision they stay in the shared cache of the cores.
_PAIRS, _PAIRS_ON_GPU, _COLUMNS = 2**20, 2**24, 2**11
# Numbers at once where each pair takes as many numbers as a code has.
_VALUES = 2**22
# Error in nats of each log-density that contributes. Terms more than 21 nats + log n below the
# largest of n add under 1e-9 to their sum.
_TOLERANCE, _NEGLIGIBLE = 1e-6, 21.0
# Terms this far below the largest change no digit of a sum; their exponentials do not underflow.
_NO_SHARE = 600.0
# Further roundings of a term of the matrix product: of centring and of the features.
_ROUNDINGS = 16

__all__ = ["Groups", "density_columns", "log_sums"]

_LOG_2PI = math.log(2 * math.pi)


class Groups(NamedTuple):
    """Random groups of rows for the jackknife, each with its share of rows and queries.

    Attributes:
        members: Rows of each group.
        of_data: Group of each row, shape (N,).
        queries: Rows whose codes are evaluated, shape (Q,).
    """

    members: tuple[Tensor, ...]
    of_data: Tensor
    queries: Tensor

    @staticmethod
    def dealt(count: int, queries: int, device: torch.device) -> Groups:
        """Deal `count` rows to groups, and choose `queries` of them."""
        # Data may be sorted or periodic, so the groups are random, but the same for the same N.
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(count, generator=generator).to(device)
        number = min(_GROUPS, queries)
        of_data = torch.empty_like(order)
        of_data[order] = torch.arange(count, device=device) % number
        members = tuple(order[group::number] for group in range(number))
        return Groups(members, of_data, order[:queries])


def density_columns(
    parts: Sequence[Distribution], groups: Groups
) -> Sequence[_NormalColumns | _AnyColumns]:
    """Blocks of rows with their densities, by the fastest algorithm."""
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


def log_sums(
    columns: Sequence[_NormalColumns | _AnyColumns], z: Tensor, data: Tensor, groups: Groups
) -> Tensor:
    """Log Σ_j q(z_i|x_j) over the rows of each group except the code's own, shape (R, G)."""
    block = torch.empty_like(groups.of_data)
    place = torch.empty_like(groups.of_data)
    for index, part in enumerate(columns):
        block[part.data] = index
        place[part.data] = torch.arange(len(part.data), device=place.device)
    shape = (len(z), len(groups.members))
    sums = torch.full(shape, -math.inf, dtype=torch.float64, device=z.device)

    # New threads have gradients switched on.
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
    # Arbitrary distributions may not be thread-safe.
    alone = z.is_cuda or not all(isinstance(part, _NormalColumns) for part in columns)
    # The number of torch's threads is a setting of the process.
    with exclusive():
        _in_threads(add, blocks, 1 if alone else torch.get_num_threads())
    return sums


def _in_threads(
    work: Callable[[Tensor, Tensor, Tensor], None],
    blocks: Sequence[tuple[Tensor, Tensor, Tensor]],
    threads: int,
) -> None:
    """Work on blocks in parallel.

    Threads within one operation wait for each other at its end, which takes several times as long
    as the work if other programs run.
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
        # Later threads would inherit the setting of these.
        torch.set_num_threads(threads)


def _log_sum(log_prob: Tensor) -> Tensor:
    """Log Σ exp over the second axis, shape (R,); overwrites its argument."""
    top = log_prob.amax(1, keepdim=True)
    # Exponentials that underflow take ten times as long. In place, because new memory doubles that.
    shares = log_prob.sub_(top).clamp_min_(-_NO_SHARE).exp_()
    return torch.where(top.isinf(), top, top + shares.sum(1, keepdim=True).log()).squeeze(1)


class _AnyColumns:
    """Rows with arbitrary conditionals, whose density is evaluated for each pair.

    Attributes:
        data: Indices of the rows, shape (n,).
        groups: Each group that they belong to, and the places of its members among them.
        most_rows: Largest number of codes at once.
    """

    def __init__(self, conditional: Distribution, data: Tensor, groups: Groups) -> None:
        self.conditional, self.data = conditional, data
        of_data = groups.of_data[data]
        self.groups = [
            (int(group), torch.nonzero(of_data == group).flatten()) for group in of_data.unique()
        ]
        values = len(data) * max(1, conditional.event_shape.numel())
        self.most_rows = max(1, _VALUES // max(1, values))

    def log_prob(self, z: Tensor, own: tuple[Tensor, Tensor]) -> Tensor:
        """Log q(z_i|x_j), shape (R, n), in double; -inf for pairs of a code and its own row.

        Args:
            z: Codes, shape (R, *Z).
            own: Indices (i, j) of the pairs of a code and its own row.
        """
        pairs = (len(z), len(self.data), *self.conditional.event_shape)
        # A flow inverts its value, which must have the batch's shape.
        log_prob: Tensor = self.conditional.log_prob(z.unsqueeze(1).expand(pairs)).double()
        log_prob[own] = -math.inf
        return log_prob


class _Normals(NamedTuple):
    """Mixtures of K diagonal normals for each of N rows, in double.

    Attributes:
        loc: Means, shape (N, K, D).
        scale: Standard deviations, shape (N, K, D).
        log_weight: Log-weights, shape (N, K).
        centre: Mean of the means, shape (D,).
    """

    loc: Tensor
    scale: Tensor
    log_weight: Tensor
    centre: Tensor

    @staticmethod
    def of(parts: Sequence[Distribution]) -> _Normals | None:
        """Join conditionals; None if some are no normals or have other numbers of components."""
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
    """Rows of one group with diagonal normals, whose densities at all codes are a matrix product.

    With the square expanded, log q(z|x) is the product of (z², z) and (-1/2s², m/s²). For small s
    it is a small difference of large numbers. Pairs that may contribute to the sum are evaluated
    again without expanding if the bound of the product's rounding is above 1e-6 nat.

    Args:
        normals: The normals of all rows.
        data: Indices of the rows, shape (n,).
        group: Group of the rows.

    Attributes:
        groups: The group, with all places as members.
        most_rows: Largest number of codes at once.
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
        # At least the sum of the absolute values of the terms.
        self.size = square + log_scale.abs().sum(1) + self.log_peak.abs() + dims
        self.rounding = (2 * dims + _ROUNDINGS) * torch.finfo(loc.dtype).eps
        pairs = _PAIRS_ON_GPU if loc.is_cuda else _PAIRS
        self.most_rows = max(1, pairs // min(len(self.loc), _COLUMNS))

    def log_prob(self, z: Tensor, own: tuple[Tensor, Tensor]) -> Tensor:
        """Log of weight times density of each component, shape (R, n, K), as for `_AnyColumns`."""
        z = z.reshape(len(z), -1).double()
        offset = z - self.centre
        factors = torch.cat([offset.square(), offset], 1)
        log_prob = torch.addmm(self.constant, factors, self.features)
        pairs = log_prob.view(len(z), -1, self.components)
        # The largest term decides which pairs contribute, and must not be the code's own.
        pairs[own] = -math.inf
        # The largest factors of the block, so that one product serves all its codes.
        error = self.rounding * (self.size + factors.abs().amax(0) @ self.features.abs())
        if not (error <= _TOLERANCE).all():
            self._evaluate_again(log_prob, z, error)
            pairs[own] = -math.inf
        return pairs

    def _evaluate_again(self, log_prob: Tensor, z: Tensor, error: Tensor) -> None:
        """Replace products, (R, m), that contribute but may be too inexact by exact values."""
        margin = 2 * error.amax() + _NEGLIGIBLE + math.log(len(self.loc))
        least = log_prob.amax(1, keepdim=True) - margin
        # NaN is evaluated again too.
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
