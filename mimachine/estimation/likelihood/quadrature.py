"""Log-likelihood of data under a decoder with one or two latents, by adaptive quadrature."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.checks import UNLIMITED, real, whole
from mimachine._support.memory import rows_at_once
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import Examples, all_examples
from mimachine.estimation.codes.moments import Codes, codes, moments
from mimachine.estimation.estimate import Estimate
from mimachine.model.discrete import is_discrete
from mimachine.model.joint import Joint, check_joint, checked
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating

__all__ = ["QuadratureLogLikelihood", "quadrature_log_likelihood"]

# Half-width of the box to integrate over, in standard deviations of the prior. A normal prior has
# 1e-15 of its mass outside.
_REACH = 8.0
# First cells of all rows along each axis, for one latent and for two.
_FIRST_CELLS = {1: 1024, 2: 64}
# A cell is left out if it has at most this share of the likelihood, relative to the tolerance.
# Early totals are too high by the ratio of cell to peak size, so the share is tiny.
_NEGLIGIBLE = 1e-7
# If the bound of a cell is within a factor of e^4 of its integral, the nodes resolve the cell.
_RESOLVED = 4.0
_LATTICE = 7
# Cells interpolated at once.
_ROWS = 1 << 16
# Below any relevant log-density, but finite.
_LEAST = -1e30


@dataclass(frozen=True)
class QuadratureLogLikelihood:
    """Log-likelihoods of N examples by quadrature, in nats.

    Attributes:
        values: log p(x), shape (N,).
        errors: Estimated absolute errors, shape (N,): changes by the last halving of cells, bounds
            of cells left out, and mass at the border of the box. The true errors are usually far
            smaller.
        num_evaluations: Evaluations of the decoder for each example after the first grids, which
            all examples share, shape (N,).
        tolerance: The requested error.
    """

    values: Tensor
    errors: Tensor
    num_evaluations: Tensor
    tolerance: float

    @property
    def flagged(self) -> Tensor:
        """Which values may be off by more than the tolerance, shape (N,)."""
        return ~(self.errors <= self.tolerance)

    def mean(self) -> Estimate:
        """Mean over the examples in nats; its error is from their scatter."""
        return Estimate.mean_of(self.values, self.errors)


@torch.no_grad()
def quadrature_log_likelihood(
    model: Joint,
    x: Examples,
    *,
    tolerance: float = 1e-2,
    most_evaluations: int = 500_000,
) -> QuadratureLogLikelihood:
    r"""Log-likelihood log p(x) = log ∫ p(x|z) p(z) dz by quadrature over one or two latents.

    Cells of a grid are halved along each axis until the integral over a cell hardly changes, or
    until the cell is negligible. If the likelihood has a peak far smaller than a cell, its log is
    still as smooth as the decoder, and quadratic interpolation of the log finds the peak by its
    slopes. The error of interpolation in the parent cell is added to the bound of a cell's
    integral. Cells at the encoder's mean are always halved until they are as small as the encoder's
    standard deviation.

    The decoder must be smooth at the scale of the first cells: 1/4 of the prior's standard
    deviation for two latents and 1/64 for one. If encoder and prior are far apart, the box holds
    both and the cells are larger. Features within a cell away from the encoder's means are missed.

    The first grids, 46,000 latents for two dimensions, are decoded once, and each example is
    compared with all of them. This takes most of the time and memory for data of many dimensions.

    Args:
        model: The model, with continuous latents, used in evaluation mode.
        x: Data, shape (N, *X), in any form that `fit` takes.
        tolerance: Largest error, in nats.
        most_evaluations: Evaluations of the decoder after which an example is given up and flagged;
            its cells are included as estimated so far.

    Raises:
        ValueError: If the data cannot be used or do not fit the model, there are more than 2
            latents, or an option is not positive.
        TypeError: If the latents are discrete: the likelihood is then a sum.

    References:
        The rule in a cell is Gauss-Legendre quadrature with 3 nodes along each axis.
    """
    tolerance = real("tolerance", tolerance, 0, above=True)
    most_evaluations = whole("most_evaluations", most_evaluations, 1, UNLIMITED)
    check_joint("model", model)
    x = all_examples("x", x, model)
    # Moments without a closed form are estimated from samples, with a fixed seed.
    noise = forked(derived_seed(0, "quadrature"), x.device)
    with noise, evaluating(model), naming_misfits(model, x):
        integrand = _Integrand(model, model.prior())
        hints = codes(model, x)
        box = _box(integrand.prior, hints)
        grids = _first_grids(integrand, box)
        size = rows_at_once((1, *x.shape[1:], len(grids[1].z)), most=32)
        parts = []
        for rows in torch.arange(len(x), device=x.device).split(size):
            search = _Search(integrand, x[rows], box, Codes(*(hint[rows] for hint in hints)))
            parts.append(search.run(grids, tolerance, most_evaluations))
    values, errors, counts = (torch.cat(part) for part in zip(*parts, strict=True))
    return QuadratureLogLikelihood(values, errors, counts, tolerance)


class _Integrand:
    """log p(x|z) + log p(z) of a model with one or two latents, flattened to (..., D)."""

    def __init__(self, model: Joint, prior: Distribution) -> None:
        self.model, self.prior = model, prior
        self.event = prior.event_shape
        if is_discrete(prior):
            raise TypeError(
                "model must have continuous latents to integrate over, and its prior gives "
                f"{type(prior).__name__}; the likelihood of discrete latents is a sum"
            )
        if not 1 <= self.event.numel() <= 2:
            raise ValueError(
                f"model must have 1 or 2 latents, got latents of shape {tuple(self.event)}; "
                "log_likelihood takes any number"
            )
        # The decoder takes latents of the dtype and device of the prior's samples.
        self.like = prior.sample()

    def decode(self, z: Tensor) -> tuple[Distribution, Tensor]:
        """The decoder's distribution and log p(z) at latents (B, D)."""
        z = z.to(self.like).unflatten(-1, tuple(self.event) or (1,))
        z = z if self.event else z.squeeze(-1)
        decoder = checked("decoder", self.model.decoder(z), len(z))
        return decoder, self.prior.log_prob(z).double()

    def at(self, x: Tensor, index: Tensor, z: Tensor) -> Tensor:
        """Log-density of x[index] at latents (m, D), shape (m,), for x of shape (N, *X)."""
        values = z.new_empty(len(z))
        for part in torch.arange(len(z), device=z.device).split(rows_at_once(x.shape, 1 << 15)):
            decoder, log_prior = self.decode(z[part])
            values[part] = _finite(decoder.log_prob(x[index[part]]).double() + log_prior)
        return values


def _finite(log_density: Tensor) -> Tensor:
    return log_density.clamp_min(_LEAST)


def _box(prior: Distribution, hints: Codes) -> tuple[Tensor, Tensor]:
    """Lower and upper corner, each (D,), of a box around the prior and the encoder's latents."""
    mean, std, _ = moments(prior, num_samples=10_000)
    mean, std = mean.flatten().double(), std.flatten().double()
    means, stds = hints.mean.flatten(1).double(), hints.std.flatten(1).double()
    lower = torch.minimum(mean - _REACH * std, (means - _REACH * stds).amin(0))
    upper = torch.maximum(mean + _REACH * std, (means + _REACH * stds).amax(0))
    return lower, upper


@dataclass(frozen=True)
class _Rule:
    """Quadrature and interpolation in a cell [-1, 1]^D, from the integrand's log at n nodes.

    Attributes:
        nodes: The nodes, shape (n, D).
        log_weights: Logs of their weights, which sum to the volume 2^D, shape (n,).
        lattice: Interpolates to an even lattice, shape (L, n).
        log_lattice_weights: Logs of the weights of Simpson's rule on the lattice, shape (L,).
        curvature: Second differences along each axis, at the other axes' middle, shape (D, n).
        children: Interpolates to the nodes of the 2^D half cells, shape (2^D, n, n).
        corners: Centres of the half cells, shape (2^D, D).
    """

    nodes: Tensor
    log_weights: Tensor
    lattice: Tensor
    log_lattice_weights: Tensor
    curvature: Tensor
    children: Tensor
    corners: Tensor

    @staticmethod
    def of(dim: int, device: torch.device) -> _Rule:
        """The tensor product of 3 Gauss-Legendre nodes."""

        def product(*factors: Tensor) -> Tensor:
            result = factors[0]
            for factor in factors[1:]:
                result = torch.kron(result, factor)
            return result.to(device)

        def power(factor: Tensor) -> Tensor:
            return product(*[factor] * dim)

        root = math.sqrt(0.6)
        line = torch.tensor([-root, 0.0, root], dtype=torch.float64)
        weights = torch.tensor([5 / 9, 8 / 9, 5 / 9], dtype=torch.float64)
        even = torch.linspace(-1, 1, _LATTICE, dtype=torch.float64)
        simpson = torch.tensor([1.0, 4.0, 2.0, 4.0, 2.0, 4.0, 1.0], dtype=torch.float64) / 9
        second = torch.tensor([[1.0, -2.0, 1.0]], dtype=torch.float64) / 0.6
        middle = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
        axes = [[second if i == j else middle for i in range(dim)] for j in range(dim)]
        halves = [_lagrange(line, line / 2 + side) for side in (-0.5, 0.5)]
        corners = torch.tensor([-0.5, 0.5], dtype=torch.float64)
        return _Rule(
            nodes=torch.cartesian_prod(*[line] * dim).reshape(-1, dim).to(device),
            log_weights=power(weights).log(),
            lattice=power(_lagrange(line, even)),
            log_lattice_weights=power(simpson).log(),
            curvature=torch.cat([product(*axis) for axis in axes]),
            children=torch.stack(
                [product(*pair) for pair in itertools.product(halves, repeat=dim)]
            ),
            corners=torch.cartesian_prod(*[corners] * dim).reshape(-1, dim).to(device),
        )

    def log_integral(self, values: Tensor) -> Tensor:
        """Log of the integral over the cell, shape (m,), from logs at its nodes (m, n)."""
        return torch.logsumexp(values + self.log_weights, 1)

    def interpolated(self, values: Tensor) -> Tensor:
        """Log of the integral over the cell by interpolating the log of the integrand, (m,)."""
        parts = [
            torch.logsumexp(part @ self.lattice.T + self.log_lattice_weights, 1)
            for part in values.split(_ROWS)
        ]
        return torch.cat(parts)

    def largest(self, values: Tensor) -> Tensor:
        """An upper bound on the interpolated log in the cell, shape (m,)."""
        # Between lattice points, at most δ away, a parabola with second derivative c exceeds both
        # by at most c δ² / 2.
        offset = 1 / (_LATTICE - 1)
        curvature = (values @ self.curvature.T).abs().sum(1)
        largest = torch.cat([(part @ self.lattice.T).amax(1) for part in values.split(_ROWS)])
        return largest + 0.5 * offset**2 * curvature


def _lagrange(nodes: Tensor, places: Tensor) -> Tensor:
    """Matrix that interpolates from nodes to places by polynomials, shape (places, nodes)."""
    columns = []
    for i, node in enumerate(nodes):
        others = torch.cat([nodes[:i], nodes[i + 1 :]])
        columns.append(((places[:, None] - others) / (node - others)).prod(1))
    return torch.stack(columns, 1)


@dataclass(frozen=True)
class _Grid:
    """First cells of all rows, decoded once.

    Attributes:
        middles: Centres of the cells, shape (m, D).
        half: Half of their sides, shape (D,).
        z: Nodes of all cells, shape (m n, D).
        decoder: The decoder's distribution at the nodes, of batch shape (m n,).
        log_prior: Log-density of the prior at the nodes, shape (m n,).
    """

    middles: Tensor
    half: Tensor
    z: Tensor
    decoder: Distribution
    log_prior: Tensor

    def values(self, x: Tensor) -> Tensor:
        """Log-density of rows (B, *X) at the nodes of all cells, shape (B, m, n)."""
        each = x.unsqueeze(1).expand(len(x), len(self.z), *x.shape[1:])
        values = _finite(self.decoder.log_prob(each).double() + self.log_prior)
        return values.reshape(len(x), len(self.middles), -1)


def _first_grids(integrand: _Integrand, box: tuple[Tensor, Tensor]) -> tuple[_Grid, _Grid]:
    """A grid, and the grid of its half cells in the order of the cells."""
    lower, upper = box
    dim = len(lower)
    rule = _Rule.of(dim, lower.device)
    count = _FIRST_CELLS[dim] // 2
    half = (upper - lower) / (2 * count)
    steps = 2 * torch.arange(count, dtype=lower.dtype, device=lower.device) + 1
    places = torch.cartesian_prod(*[steps] * dim).reshape(-1, dim)
    middles = lower + half * places
    grids = []
    for _ in range(2):
        z = (middles[:, None] + half * rule.nodes).flatten(0, 1)
        grids.append(_Grid(middles, half, z, *integrand.decode(z)))
        middles = (middles[:, None] + half * rule.corners).flatten(0, 1)
        half = half / 2
    return grids[0], grids[1]


@dataclass(frozen=True)
class _Cells:
    """Half cells of one size for some of B rows; each 2^D in succession have the same parent.

    Attributes:
        datum: Row of each cell, shape (m,).
        middles: Centres, shape (m, D).
        values: Log-density at the nodes, shape (m, n).
        predicted: Log-density at the nodes by interpolation in the parent, shape (m, n).
        before: Log-integral over the parents, shape (m / 2^D,).
    """

    datum: Tensor
    middles: Tensor
    values: Tensor
    predicted: Tensor
    before: Tensor


class _Search:
    """Adaptive quadrature for a batch of rows."""

    def __init__(
        self, integrand: _Integrand, x: Tensor, box: tuple[Tensor, Tensor], hints: Codes
    ) -> None:
        self.integrand, self.x, self.box = integrand, x, box
        self.hint, self.width = hints.mean.flatten(1).double(), hints.std.flatten(1).double()
        self.rule = _Rule.of(len(box[0]), box[0].device)
        nothing = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
        # Logs over finished cells: integral, error, and bound of the cells left out.
        self.total, self.error, self.left_out = nothing, nothing, nothing
        self.count = torch.zeros(len(x), dtype=torch.long, device=x.device)

    def run(
        self, grids: tuple[_Grid, _Grid], tolerance: float, most: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-integrals, errors and numbers of evaluations, each of shape (B,)."""
        cells, half = self._first(grids), grids[1].half
        # Smaller cells are below the resolution of the latents' dtype.
        finest = 8 * torch.finfo(self.integrand.like.dtype).eps * (self.box[1] - self.box[0])
        while True:
            left = most - self.count if (half > finest).all() else torch.zeros_like(self.count)
            chosen = self._judge(cells, half, tolerance, left)
            if not len(chosen):
                break
            cells, half = self._halved(cells, half, chosen), half / 2
        error = torch.logaddexp(self.error, self.left_out)
        relative = (error - self.total).exp()
        # A relative error of ±r changes the log by at most -log(1 - r).
        errors = torch.where(relative < 1, -torch.log1p(-relative.clamp_max(1)), math.inf)
        impossible = self.total < 0.5 * _LEAST
        return torch.where(impossible, -math.inf, self.total), errors, self.count

    def _first(self, grids: tuple[_Grid, _Grid]) -> _Cells:
        """Cells of the second grid for each row, with the first grid's predictions."""
        coarse, values = grids[0].values(self.x), grids[1].values(self.x)
        number = len(grids[1].middles)
        datum = torch.arange(len(self.x), device=self.x.device).repeat_interleave(number)
        return _Cells(
            datum,
            grids[1].middles.expand(len(self.x), -1, -1).flatten(0, 1),
            values.flatten(0, 1),
            self._expected(coarse.flatten(0, 1)),
            self.rule.log_integral(coarse.flatten(0, 1)) + grids[0].half.log().sum(),
        )

    def _expected(self, values: Tensor) -> Tensor:
        """Log-density (m, n) interpolated to the half cells' nodes, shape (2^D m, n)."""
        children = self.rule.children
        return (values @ children.flatten(0, 1).T).reshape(-1, children.shape[1])

    def _judge(self, cells: _Cells, half: Tensor, tolerance: float, left: Tensor) -> Tensor:
        """Add up finished cells; return the indices of the others, which are to be halved."""
        volume = half.log().sum()
        integral = self.rule.log_integral(cells.values) + volume
        total = torch.logaddexp(self.total, self._sum(integral, cells.datum))
        bound, kept = self._left_out(cells, half, integral, total, tolerance)
        error = self._errors(cells, integral, volume, kept)

        datum, integral, bound = cells.datum[kept], integral[kept], bound[kept]
        middles = cells.middles[kept]
        allowed = math.log(tolerance / 4)
        share = torch.bincount(datum, minlength=len(self.x)).clamp_min(1).log()
        settled = (self._sum(error, datum) - total < allowed)[datum]
        settled |= error - total[datum] < (allowed - share)[datum]
        done = settled & (bound - integral < _RESOLVED) & ~self._hinted(datum, middles, half)
        needed = self.rule.children[..., 0].numel() * torch.bincount(
            datum[~done], minlength=len(left)
        )
        given_up = ~done & (needed > left)[datum]
        error = torch.where(given_up, bound, error)
        # Assume as much beyond the border of the box as at it.
        margin = torch.minimum(middles - self.box[0], self.box[1] - middles)
        error = torch.where((margin < 1.5 * half).any(1), torch.logaddexp(error, integral), error)
        done |= given_up
        self.total = torch.logaddexp(self.total, self._sum(integral[done], datum[done]))
        self.error = torch.logaddexp(self.error, self._sum(error[done], datum[done]))
        return kept[~done]

    def _left_out(
        self, cells: _Cells, half: Tensor, integral: Tensor, total: Tensor, tolerance: float
    ) -> tuple[Tensor, Tensor]:
        """Bounds of the log-integrals, shape (m,), and indices of the cells that may matter.

        The others are added to what is left out.
        """
        surprise = (cells.values - cells.predicted).abs().amax(1)
        whole = (2 * half).log().sum()
        bound = torch.maximum(self.rule.largest(cells.values) + surprise + whole, integral)
        negligible = bound - total[cells.datum] < math.log(_NEGLIGIBLE * tolerance)
        negligible &= ~self._hinted(cells.datum, cells.middles, half)
        left_out = self._sum(bound[negligible], cells.datum[negligible])
        self.left_out = torch.logaddexp(self.left_out, left_out)
        return bound, (~negligible).nonzero().squeeze(1)

    def _hinted(self, datum: Tensor, middles: Tensor, half: Tensor) -> Tensor:
        """Which cells contain the encoder's mean and are wider than its standard deviation."""
        inside = ((self.hint[datum] - middles).abs() <= half).all(1)
        return inside & (half > 0.5 * self.width[datum]).any(1)

    def _errors(self, cells: _Cells, integral: Tensor, volume: Tensor, kept: Tensor) -> Tensor:
        """Logs of the errors of the kept cells.

        An error is the change of the parent's integral by halving, divided among its kept cells,
        plus the difference of quadrature and the integral of the interpolation.
        """
        family = len(self.rule.corners)
        together = torch.logsumexp(integral.unflatten(0, (-1, family)), 1)
        number = torch.bincount(kept // family, minlength=len(together)).clamp_min(1)
        moved = _log_difference(together, cells.before) - number.log()
        interpolated = self.rule.interpolated(cells.values[kept]) + volume
        missed = _log_difference(interpolated, integral[kept])
        return torch.logaddexp(moved[kept // family], missed)

    def _halved(self, cells: _Cells, half: Tensor, chosen: Tensor) -> _Cells:
        """Half cells of the chosen cells."""
        rule = self.rule
        middles = (cells.middles[chosen][:, None] + half * rule.corners).flatten(0, 1)
        values = cells.values[chosen]
        owner = cells.datum[chosen].repeat_interleave(len(rule.corners))
        number = len(rule.nodes)
        z = (middles[:, None] + 0.5 * half * rule.nodes).flatten(0, 1)
        fresh = self.integrand.at(self.x, owner.repeat_interleave(number), z)
        self.count += number * torch.bincount(owner, minlength=len(self.x))
        before = rule.log_integral(values) + half.log().sum()
        return _Cells(owner, middles, fresh.reshape(-1, number), self._expected(values), before)

    def _sum(self, logs: Tensor, datum: Tensor) -> Tensor:
        """Logs of the sums over the cells of each row, shape (B,)."""
        nothing = torch.full_like(self.total, -math.inf)
        offset = nothing.scatter_reduce(0, datum, logs, "amax").clamp_min(_LEAST)
        sums = torch.zeros_like(self.total).index_add(0, datum, (logs - offset[datum]).exp())
        return sums.log() + offset


def _log_difference(a: Tensor, b: Tensor) -> Tensor:
    """Log of |e^a - e^b|."""
    larger = torch.maximum(a, b)
    return larger + torch.log(-torch.expm1(-(a - b).abs()))
