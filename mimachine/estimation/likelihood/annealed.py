"""Likelihood of data under the decoder's marginal, by annealed importance sampling: the slow way.

Chains move from a start, the prior if nothing else is said, to the posterior through densities
between them, so that no proposal has to fit the posterior.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.memory import rows_at_once
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.likelihood.hamiltonian import Point, evaluated, transition
from mimachine.estimation.likelihood.importance import check_event, log_mean
from mimachine.model.conditionals import Conditional
from mimachine.model.discrete import is_discrete
from mimachine.model.joint import Joint, checked
from mimachine.model.networks import evaluating

__all__ = [
    "AnnealedLogLikelihood",
    "BidirectionalCheck",
    "annealed_log_likelihood",
    "bidirectional_check",
]


# An error of 0.05 nat is one of 0.1 nat in one of 20 estimates.
_LARGEST_ERROR = 0.05
# Under so many chains an error from their scatter means nothing.
_FEWEST_CHAINS = 8
_LEAST_ACCEPTANCE = 0.3
_WINDOWS = 10
_PILOT_CHAINS = 16
# What the pilot's chains move on by: so many standard deviations of their log-weights.
_PILOT_STRIDE = 0.2
_MOST_PILOT_STEPS = 200
# More than the 0.65 that is best for single chains of many coordinates: what is rejected leaves
# the log-density, whose scatter makes that of the weights, as it was.
_ACCEPTANCE = 0.85
_GAIN = 0.5
_FIRST_STEP = 0.5


@dataclass(frozen=True)
class AnnealedLogLikelihood:
    """Estimates of log p(x) for N data, each from some chains, in nats.

    Attributes:
        values: Estimates, shape (N,). Those of chains from the start to the posterior are too low
            on average, those of chains back from it too high, and by less the more steps.
        standard_errors: Their Monte-Carlo errors by the delta method from the scatter of the
            chains, shape (N,); NaN for a single chain. They know only what the chains saw.
        effective_sample_sizes: (Σw)² / Σw², shape (N,), between 1 and `num_chains`.
        acceptance_rates: Share of trajectories that were accepted in that tenth of the path where
            the fewest were, shape (N,); about 0.8 if all is well, NaN if there were none.
        num_chains: Chains for each datum.
        num_steps: Temperatures that a chain goes through.
    """

    values: Tensor
    standard_errors: Tensor
    effective_sample_sizes: Tensor
    acceptance_rates: Tensor
    num_chains: int
    num_steps: int

    @property
    def flagged(self) -> Tensor:
        """Which estimates may be off by 0.1 nat and more, shape (N,): not to be trusted.

        Those of a standard error over 0.05 nat, of fewer than 8 chains, which tell no error, and
        those whose chains stood still in some tenth of the path, under 3 of 10 trajectories
        accepted. More steps help against all but the second.
        """
        # An estimate is trusted for a reason, so numbers that are none flag it.
        certain = self.standard_errors <= _LARGEST_ERROR
        moved = ~(self.acceptance_rates < _LEAST_ACCEPTANCE)
        return ~(certain & moved & self.values.isfinite() & (self.num_chains >= _FEWEST_CHAINS))

    def mean(self) -> Estimate:
        """Mean over the data in nats; its error is that of the data's and the chains' scatter."""
        return Estimate.mean_of(self.values, self.standard_errors)


@dataclass(frozen=True)
class BidirectionalCheck:
    """Estimates from below and from above for N data that the model itself made, in nats.

    Attributes:
        lower: From chains that go from the start to the posterior, too low on average.
        upper: From chains that go back from the latents that the data were made from, too high.
        x: The data, shape (N, *X).
    """

    lower: AnnealedLogLikelihood
    upper: AnnealedLogLikelihood
    x: Tensor

    @property
    def gaps(self) -> Tensor:
        """Upper less lower estimate, shape (N,): on average no less than what both are off by."""
        return self.upper.values - self.lower.values

    @property
    def standard_errors(self) -> Tensor:
        """Monte-Carlo errors of the gaps, shape (N,).

        The chains of an upper estimate all start at the same latents. Where they forget them
        slowly their scatter is too small; `mean_gap` has an error that does not suffer from it.
        """
        return torch.hypot(self.lower.standard_errors, self.upper.standard_errors)

    def mean_gap(self) -> Estimate:
        """Mean over the data in nats: what estimates with these settings are off by, at most."""
        return Estimate.mean_of(self.gaps, self.standard_errors)

    def __str__(self) -> str:
        wide = int((self.gaps - 2 * self.standard_errors > 0.1).sum())
        return (
            f"{len(self.gaps)} data made by the model: log p(x) is {self.lower.mean()} nats on "
            f"average by chains to the posterior and {self.upper.mean()} by chains from it, a gap "
            f"of {self.mean_gap()}; for {wide} of the "
            "data the two are over 0.1 nat apart by more than 2 standard errors"
        )


@torch.no_grad()
def annealed_log_likelihood(
    model: Joint,
    x: Tensor,
    *,
    num_chains: int = 32,
    num_steps: int = 2000,
    num_leapfrog: int = 3,
    start: Conditional | None = None,
    chunk_size: int | None = None,
) -> AnnealedLogLikelihood:
    r"""Estimate log p(x) by annealed importance sampling with Hamiltonian Monte Carlo.

    Chains go from the start q(z|x) to the posterior through the densities

    .. math:: f_\beta(z) = q(z|x)^{1 - \beta} \, [p(x|z) p(z)]^\beta, \quad
        0 = \beta_0 < \dots < \beta_T = 1

    and the weight of a chain, whose mean is p(x), is the product over the steps of

    .. math:: f_{\beta_t}(z_{t-1}) / f_{\beta_{t-1}}(z_{t-1}), \quad
        z_t \sim \text{a transition that leaves } f_{\beta_t} \text{ invariant}

    A pilot run of 16 other chains learns for each datum where its path is steep, so that all steps
    change the log-weights by about the same, and for each temperature the lengths of the leapfrog
    steps that 85 % of the trajectories are accepted with. Then these are fixed. If they followed
    the chains' own acceptance, as is usual, the transitions would leave no density invariant, and
    the mean weight would be p(x) only nearly; with a pilot it is exactly so, for any settings.

    It takes `num_chains` x `num_steps` x `num_leapfrog` gradients of the decoder for each datum,
    and up to 16 x 200 x `num_leapfrog` more for the pilot.

    Args:
        model: The model, used in evaluation mode, its latents continuous. Gradients are taken by
            the latents alone.
        x: Data, shape (N, *X).
        num_chains: Number K of chains for each datum.
        num_steps: Number T of steps of a chain; 1 is importance sampling from the start.
        num_leapfrog: Leapfrog steps of each transition.
        start: q(z|x), which can be any proposal, such as `model.encoder` or a
            `DefensiveProposal`. By default the prior, which misses no mode that it has draws for.
            What a narrow start does not draw from, short paths do not find.
        chunk_size: Most pairs of datum and chain that are decoded at once, but no fewer than the
            pilot's 16; bounds the memory. By default 5,000, and fewer if data are so large that
            they would take over 16 MiB.

    Raises:
        TypeError: If the latents are discrete.
        ValueError: If there are no data, a number is not positive, or the start gives latents of
            another shape than the prior has.
        RuntimeError: In `torch.inference_mode`, where there are no gradients.

    References:
        Annealed Importance Sampling (Neal, 2001), https://arxiv.org/abs/physics/9803008;
        On the Quantitative Analysis of Decoder-Based Generative Models (Wu et al., 2017),
        https://arxiv.org/abs/1611.04273
    """
    settings = _Settings(num_chains, num_steps, num_leapfrog, chunk_size)
    settings.check(("len(x)", len(x)))
    with _prepared(model, start):
        paths = _paths(model, x, start, settings)
        parts = [_estimated(path, _pilot(path, settings), settings) for path in paths]
    return settings.gathered(parts)


@torch.no_grad()
def bidirectional_check(
    model: Joint,
    num_data: int = 100,
    *,
    num_chains: int = 32,
    num_steps: int = 2000,
    num_leapfrog: int = 3,
    start: Conditional | None = None,
    chunk_size: int | None = None,
) -> BidirectionalCheck:
    r"""Tell how far `annealed_log_likelihood` is off for data that the model itself makes.

    Of a datum x ~ p(x|z), z ~ p(z), the latents z are an exact draw from the posterior. Chains
    that start there and walk the same path backwards have weights whose reciprocals' mean is
    1 / p(x), which gives an estimate that is too high on average. The truth is between the two,
    up to their errors. For other data the same settings may do worse, as far as they differ from
    what the model makes.

    Args:
        model: As for `annealed_log_likelihood`, and all of the options likewise.
        num_data: Number N of data to make.
        num_chains: Number of chains for each datum in each direction.
        num_steps: Number of steps of a chain.
        num_leapfrog: Leapfrog steps of each transition.
        start: Where the path starts.
        chunk_size: Most pairs of datum and chain that are decoded at once.

    Raises:
        TypeError: If the latents are discrete.
        ValueError, RuntimeError: As for `annealed_log_likelihood`.

    References:
        Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo (Grosse et al., 2015),
        https://arxiv.org/abs/1511.02543
    """
    settings = _Settings(num_chains, num_steps, num_leapfrog, chunk_size)
    settings.check(("num_data", num_data))
    below, above = [], []
    with _prepared(model, start):
        x, z = _simulated(model, num_data)
        done = 0
        for path in _paths(model, x, start, settings):
            exact = z[done : done + path.num_data]
            done += path.num_data
            ladder = _pilot(path, settings)
            below.append(_estimated(path, ladder, settings))
            above.append(_estimated(path, ladder, settings, exact))
    return BidirectionalCheck(settings.gathered(below), settings.gathered(above), x)


@dataclass(frozen=True)
class _Settings:
    """Options of both functions, under their names."""

    num_chains: int
    num_steps: int
    num_leapfrog: int
    chunk_size: int | None

    def check(self, *others: tuple[str, int]) -> None:
        for name, value in (*others, *vars(self).items()):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "annealed chains need gradients, which torch.inference_mode does not give; "
                "call them outside of it, torch.no_grad does no harm"
            )

    def pairs(self, x: Tensor) -> int:
        """How many pairs of datum and chain to work on at once."""
        return rows_at_once(x.shape, most=5000) if self.chunk_size is None else self.chunk_size

    def gathered(self, parts: list[tuple[Tensor, ...]]) -> AnnealedLogLikelihood:
        """The record of what was found for some of the data after the other."""
        values, errors, effective, rates = (torch.cat(part) for part in zip(*parts, strict=True))
        return AnnealedLogLikelihood(
            values, errors, effective, rates, self.num_chains, self.num_steps
        )


def _simulated(model: Joint, num_data: int) -> tuple[Tensor, Tensor]:
    """Data from the model and the latents that they were made from."""
    z = _continuous("prior", model.prior()).sample(torch.Size((num_data,)))
    parts = [
        checked("decoder", model.decoder(rows), len(rows)).sample()
        for rows in z.split(rows_at_once(z.shape))
    ]
    return torch.cat(parts), z


@contextmanager
def _prepared(model: Joint, start: Conditional | None) -> Iterator[None]:
    """Evaluation mode, and distributions that do not check their parameters and values.

    A check would stop the program at the first trajectory that diverges, which is to be rejected.
    """
    checking = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        with evaluating(model), evaluating(start):
            yield
    finally:
        Distribution.set_default_validate_args(checking)


def _continuous(name: str, distribution: Distribution) -> Distribution:
    if is_discrete(distribution):
        raise TypeError(
            f"{name} must give continuous latents for chains to move in, got "
            f"{type(distribution).__name__}"
        )
    return distribution


class _Path:
    """Densities from the start to the posterior for each of n data."""

    def __init__(
        self, model: Joint, x: Tensor, prior: Distribution, start: Distribution | None
    ) -> None:
        self.model, self.x, self.prior, self.start = model, x, prior, start
        self.num_data = len(x)

    def first(self, num_chains: int) -> Tensor:
        """Draws of the start, shape (K, n, *Z)."""
        if self.start is not None:
            return self.start.sample(torch.Size((num_chains,)))
        return self.prior.sample(torch.Size((num_chains, self.num_data)))

    def log_densities(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the start's density and of p(x, z) over it, each (K, n), at (K, n, *Z)."""
        each = self.x.expand(len(z), *self.x.shape).flatten(0, 1)
        decoder = checked("decoder", self.model.decoder(z.flatten(0, 1)), len(each))
        log_p = decoder.log_prob(each).unflatten(0, z.shape[:2])
        log_prior = self.prior.log_prob(z)
        if self.start is None:
            return log_prior, log_p
        log_start = self.start.log_prob(z)
        return log_start, log_p + log_prior - log_start


def _paths(
    model: Joint, x: Tensor, start: Conditional | None, settings: _Settings
) -> Iterator[_Path]:
    """Paths for some of the data after the other."""
    prior = _continuous("prior", model.prior())
    most = settings.pairs(x) // max(settings.num_chains, _PILOT_CHAINS)
    # A pilot keeps the lengths of its steps for every latent.
    rows = min(max(1, most), rows_at_once((1, _MOST_PILOT_STEPS, *prior.event_shape)))
    for part in x.split(rows):
        given = None
        if start is not None:
            given = _continuous("start", checked("start", start(part), len(part)))
            check_event("start", given, prior)
        yield _Path(model, part, prior, given)


@dataclass(frozen=True)
class _Ladder:
    """What the pilot learnt: temperatures that are about as far apart, and lengths of steps.

    Attributes:
        betas: Temperatures from 0 to 1, shape (M + 1, n), of which a datum's last are all 1.
        steps: Lengths of the steps at these, shape (M + 1, n, *Z).
        lengths: How many of the M a datum took to come to 1, shape (n,).
    """

    betas: Tensor
    steps: Tensor
    lengths: Tensor

    def at(self, share: float) -> tuple[Tensor, Tensor]:
        """Temperatures (n,) and lengths of steps (n, *Z) at a share of the way in [0, 1]."""
        place = share * self.lengths
        before = place.floor().long().clamp_max(len(self.betas) - 2)
        data = torch.arange(len(before), device=before.device)
        part = place - before
        beta = self.betas[before, data].lerp(self.betas[before + 1, data], part)
        low, high = self.steps[before, data], self.steps[before + 1, data]
        return beta, low.lerp(high, part.reshape(-1, *[1] * (low.dim() - 1)).to(low))


def _pilot(path: _Path, settings: _Settings) -> _Ladder:
    """Send chains along the path whose strides and steps adapt as they go.

    A stride changes the log-weights by a given share of their standard deviation over the chains.
    The length of a step along each coordinate is a size that the acceptance decides on times the
    scale that the gradients tell, which for a normal density is the standard deviation given the
    other coordinates. The spread of the chains would be that between modes where there are some.
    """
    most = min(_MOST_PILOT_STEPS, max(1, settings.num_steps // 2))
    point = evaluated(path.log_densities, path.first(_PILOT_CHAINS))
    beta = torch.zeros(path.num_data, dtype=torch.float64, device=point.z.device)
    log_size = torch.full_like(beta, math.log(_FIRST_STEP))
    scale = _scale(point, beta)
    betas, steps = [beta], [_size(log_size, scale) * scale]
    for left in range(most, 0, -1):
        beta = _next(beta, point.ratio, left)
        scale = (scale * _scale(point, beta)).sqrt()
        step = _size(log_size, scale) * scale
        if settings.num_steps > 1:
            point, probability = transition(
                path.log_densities, point, beta, step, settings.num_leapfrog
            )
            log_size = log_size + _GAIN * (probability.mean(0) - _ACCEPTANCE)
        betas.append(beta)
        steps.append(step)
        if (beta == 1).all():
            break
    ladder = torch.stack(betas)
    return _Ladder(ladder, torch.stack(steps), (ladder < 1).sum(0).double())


def _next(beta: Tensor, ratio: Tensor, left: int) -> Tensor:
    """The next temperatures, shape (n,), of which there are so many left to get to 1."""
    possible = ratio.isfinite()
    number = possible.sum(0).clamp_min(2)
    mean = torch.where(possible, ratio, 0.0).sum(0) / number
    square = torch.where(possible, ratio - mean, 0.0).square().sum(0) / (number - 1)
    stride = _PILOT_STRIDE / square.sqrt()
    # At least evenly in the log: a path that is too long is gone through in longer strides.
    return torch.maximum(beta + stride, beta ** (1 - 1 / left)).clamp_max(1)


def _scale(point: Point, beta: Tensor) -> Tensor:
    """Scale of each coordinate, shape (n, *Z), from chains of the density at temperatures (n,)."""
    spread = point.z.std(0)
    precise = point.gradient(beta).square().mean(0).rsqrt()
    # Where the density is flat the chains' spread is what is known.
    return torch.minimum(precise, spread).clamp_min(torch.finfo(spread.dtype).tiny ** 0.5)


def _size(log_size: Tensor, scale: Tensor) -> Tensor:
    size = log_size.exp().reshape(-1, *[1] * (scale.dim() - 1))
    return size.to(scale)


def _estimated(
    path: _Path, ladder: _Ladder, settings: _Settings, exact: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Estimates, their errors, effective chains and least acceptance, each of shape (n,).

    From below by chains from the start; from above by chains back from exact draws (n, *Z) of the
    posterior, if these are given.
    """
    log_weights, accepted = [], []
    for number in _groups(path, settings):
        if exact is None:
            log_weight, rates = _annealed(path, ladder, settings, path.first(number))
        else:
            first = exact.expand(number, *exact.shape)
            log_weight, rates = _annealed(path, ladder, settings, first, backwards=True)
        log_weights.append(log_weight)
        accepted.append(number * rates)
    value, error, effective = log_mean(torch.cat(log_weights))
    least = torch.stack(accepted).sum(0).amin(0) / settings.num_chains
    return (value if exact is None else -value), error, effective, least


def _groups(path: _Path, settings: _Settings) -> list[int]:
    """Numbers of chains that move together."""
    most = max(1, settings.pairs(path.x) // path.num_data)
    whole, rest = divmod(settings.num_chains, most)
    return [most] * whole + [rest] * (rest > 0)


def _annealed(
    path: _Path, ladder: _Ladder, settings: _Settings, z: Tensor, backwards: bool = False
) -> tuple[Tensor, Tensor]:
    """Log-weights (K, n) of chains from latents (K, n, *Z), minus them for chains backwards.

    Also the shares of trajectories that were accepted in each of some windows, (windows, n).
    """
    total = settings.num_steps
    order = range(total, 0, -1) if backwards else range(1, total + 1)
    point = evaluated(path.log_densities, z)
    log_weight = torch.zeros_like(point.base)
    windows = min(_WINDOWS, total - 1)
    sums = log_weight.new_zeros(windows, path.num_data)
    counts = log_weight.new_zeros(windows, 1)
    for done, number in enumerate(order):
        before, after = ((number - 1, number), (number, number - 1))[backwards]
        left, _ = ladder.at(before / total)
        beta, step = ladder.at(after / total)
        moved = beta - left
        log_weight = log_weight + torch.where(moved == 0, 0.0, moved * point.ratio)
        if done < total - 1:
            point, probability = transition(
                path.log_densities, point, beta, step, settings.num_leapfrog
            )
            window = done * windows // (total - 1)
            sums[window] += probability.mean(0)
            counts[window] += 1
    return log_weight, (sums / counts if windows else sums.new_full((1, path.num_data), math.nan))
