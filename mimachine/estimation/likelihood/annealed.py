"""Log-likelihood by annealed importance sampling (AIS).

Chains move from a start, by default the prior, to the posterior through intermediate densities, so
no proposal has to fit the posterior. It is slow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.checks import UNLIMITED, function, whole
from mimachine._support.memory import rows_at_once
from mimachine._support.seeds import own_noise
from mimachine.data.examples import Examples, all_examples, device_of
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.likelihood.hamiltonian import Point, evaluated, transition
from mimachine.estimation.likelihood.importance import check_event, log_mean
from mimachine.model.conditionals import Conditional
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import without_validation
from mimachine.model.joint import Joint, check_joint, checked
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating

__all__ = [
    "AnnealedLogLikelihood",
    "BidirectionalCheck",
    "annealed_log_likelihood",
    "bidirectional_check",
]


# With a standard error of 0.05 nat, one of 20 estimates is off by 0.1 nat.
_LARGEST_ERROR = 0.05
# With fewer chains, an error from their scatter is meaningless.
_FEWEST_CHAINS = 8
_LEAST_ACCEPTANCE = 0.3
_WINDOWS = 10
_PILOT_CHAINS = 16
# Stride of the pilot's chains, in standard deviations of their log-weights.
_PILOT_STRIDE = 0.2
_MOST_PILOT_STEPS = 200
# More than the 0.65 that is best for single chains of many coordinates: rejections keep the
# log-density, whose scatter causes that of the weights.
_ACCEPTANCE = 0.85
_GAIN = 0.5
_FIRST_STEP = 0.5


@dataclass(frozen=True)
class AnnealedLogLikelihood:
    """AIS estimates of log p(x) for N examples, in nats.

    Attributes:
        values: Estimates, shape (N,). They are too low on average from chains to the posterior and
            too high from chains back from it. More steps reduce the bias.
        standard_errors: Monte Carlo errors by the delta method from the scatter of the chains,
            shape (N,); NaN for a single chain. They do not include what no chain has visited.
        effective_sample_sizes: (Σw)² / Σw², shape (N,), between 1 and `num_chains`.
        acceptance_rates: Share of accepted trajectories in the tenth of the path with the fewest,
            shape (N,); normally about 0.8, NaN without transitions.
        num_chains: Chains per example.
        num_steps: Temperatures of a chain.
    """

    values: Tensor
    standard_errors: Tensor
    effective_sample_sizes: Tensor
    acceptance_rates: Tensor
    num_chains: int
    num_steps: int

    @property
    def flagged(self) -> Tensor:
        """Which estimates are unreliable, shape (N,): they may be off by 0.1 nat or more.

        These have a standard error over 0.05 nat, fewer than 8 chains, which is too few for an
        error, or an acceptance rate under 30 % in some tenth of the path. More steps help against
        the first and the last.
        """
        # Comparisons with NaN are false, so NaN is flagged.
        certain = self.standard_errors <= _LARGEST_ERROR
        moved = ~(self.acceptance_rates < _LEAST_ACCEPTANCE)
        return ~(certain & moved & self.values.isfinite() & (self.num_chains >= _FEWEST_CHAINS))

    def mean(self) -> Estimate:
        """Mean over the examples in nats; its error includes that of the chains."""
        return Estimate.mean_of(self.values, self.standard_errors)


@dataclass(frozen=True)
class BidirectionalCheck:
    """AIS estimates from below and above for N examples drawn from the model, in nats.

    Attributes:
        lower: From chains from the start to the posterior, too low on average.
        upper: From chains back from the latents that the examples were decoded from, too high on
            average.
        x: The examples, shape (N, *X).
    """

    lower: AnnealedLogLikelihood
    upper: AnnealedLogLikelihood
    x: Tensor

    @property
    def gaps(self) -> Tensor:
        """Upper minus lower estimate, shape (N,): on average at least the error of each."""
        return self.upper.values - self.lower.values

    @property
    def standard_errors(self) -> Tensor:
        """Monte Carlo errors of the gaps, shape (N,).

        All chains of an upper estimate start at the same latents. If they forget them slowly, their
        scatter, and so the error, is too small. The error of `mean_gap` is not affected.
        """
        return torch.hypot(self.lower.standard_errors, self.upper.standard_errors)

    def mean_gap(self) -> Estimate:
        """Mean over the examples in nats: an upper bound of the bias with these settings."""
        return Estimate.mean_of(self.gaps, self.standard_errors)

    def __str__(self) -> str:
        wide = int((self.gaps - 2 * self.standard_errors > 0.1).sum())
        return (
            f"{len(self.gaps)} examples from the model: mean log p(x) is {self.lower.mean()} nats "
            f"by chains to the posterior and {self.upper.mean()} by chains from it, a gap of "
            f"{self.mean_gap()}; the gap exceeds 0.1 nat by more than 2 standard errors for {wide}"
        )


@torch.no_grad()
def annealed_log_likelihood(
    model: Joint,
    x: Examples,
    *,
    num_chains: int = 32,
    num_steps: int = 2000,
    num_leapfrog: int = 3,
    start: Conditional | None = None,
    chunk_size: int | None = None,
    seed: int | None = None,
) -> AnnealedLogLikelihood:
    r"""Estimate log p(x) by annealed importance sampling with Hamiltonian Monte Carlo.

    Chains go from the start q(z|x) to the posterior through the densities

    .. math:: f_\beta(z) = q(z|x)^{1 - \beta} \, [p(x|z) p(z)]^\beta, \quad
        0 = \beta_0 < \dots < \beta_T = 1

    and the weight of a chain, whose mean is p(x), is the product over the steps of

    .. math:: f_{\beta_t}(z_{t-1}) / f_{\beta_{t-1}}(z_{t-1}), \quad
        z_t \sim \text{a transition that leaves } f_{\beta_t} \text{ invariant}

    A pilot run of 16 separate chains adapts two settings for each example: the temperatures, so
    that all steps change the log-weights by about the same amount, and the leapfrog step sizes at
    each temperature, for an acceptance rate of 85 %. Then these are fixed. If they adapted to the
    chains' own acceptance, as is usual, the transitions would leave no density invariant, and the
    mean weight would be p(x) only approximately. With a pilot it is exact for any settings.

    It takes `num_chains` x `num_steps` x `num_leapfrog` gradients of the decoder per example, and
    up to 16 x 200 x `num_leapfrog` more for the pilot.

    Args:
        model: The model, with continuous latents, used in evaluation mode. Gradients are taken
            only with respect to the latents.
        x: Data, shape (N, *X), in any form that `fit` takes.
        num_chains: Number K of chains per example.
        num_steps: Number T of steps of a chain; 1 is importance sampling from the start.
        num_leapfrog: Leapfrog steps of each transition.
        start: q(z|x), any proposal, such as `model.encoder` or a `DefensiveProposal`; by default
            the prior, which covers all modes. Short paths do not find modes that a narrow start
            does not cover.
        chunk_size: Largest number of pairs of example and chain that are decoded at once, but at
            least the pilot's 16; bounds the memory. By default 5,000, or fewer if these would take
            over 16 MiB.
        seed: Seed of the chains, by default 0; the global generators keep their state.

    Raises:
        TypeError: If the latents are discrete.
        ValueError: If the data do not fit, a number is not positive, or the start gives latents of
            another shape than the prior.
        RuntimeError: In `torch.inference_mode`, which has no gradients.

    References:
        Annealed Importance Sampling (Neal, 2001), https://arxiv.org/abs/physics/9803008;
        On the Quantitative Analysis of Decoder-Based Generative Models (Wu et al., 2017),
        https://arxiv.org/abs/1611.04273
    """
    settings = _Settings(num_chains, num_steps, num_leapfrog, chunk_size)
    x = all_examples("x", x, model)
    with (
        own_noise(seed, "annealed", x.device),
        _prepared(model, start),
        naming_misfits(model, x),
    ):
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
    seed: int | None = None,
) -> BidirectionalCheck:
    r"""Bound the error of `annealed_log_likelihood` on examples drawn from the model.

    For an example x ~ p(x|z), z ~ p(z), the latents z are an exact draw from the posterior. Chains
    that start there and follow the same path backwards have weights whose mean reciprocal is
    1 / p(x), which gives an estimate that is too high on average. The truth is between the two, up
    to their errors. With the same settings, the error may be larger for data unlike the model's.

    Args:
        model: As for `annealed_log_likelihood`, as are all options.
        num_data: Number N of examples to draw.
        num_chains: Number of chains per example in each direction.
        num_steps: Number of steps of a chain.
        num_leapfrog: Leapfrog steps of each transition.
        start: Start of the path.
        chunk_size: Largest number of pairs of example and chain that are decoded at once.
        seed: Seed of the examples and the chains.

    Raises:
        TypeError, ValueError, RuntimeError: As for `annealed_log_likelihood`.

    References:
        Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo (Grosse et al., 2015),
        https://arxiv.org/abs/1511.02543
    """
    settings = _Settings(num_chains, num_steps, num_leapfrog, chunk_size)
    num_data = whole("num_data", num_data, 1)
    below, above = [], []
    with own_noise(seed, "bidirectional", device_of(model)), _prepared(model, start):
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
    """Options of both functions, with the names of their arguments."""

    num_chains: int
    num_steps: int
    num_leapfrog: int
    chunk_size: int | None

    def __post_init__(self) -> None:
        for name in ("num_chains", "num_steps", "num_leapfrog"):
            whole(name, getattr(self, name), 1)
        if self.chunk_size is not None:
            whole("chunk_size", self.chunk_size, 1, UNLIMITED)
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "annealed importance sampling needs gradients, which torch.inference_mode "
                "disables; use torch.no_grad instead"
            )

    def pairs(self, x: Tensor) -> int:
        """Number of pairs of example and chain at once."""
        return rows_at_once(x.shape, most=5000) if self.chunk_size is None else self.chunk_size

    def gathered(self, parts: list[tuple[Tensor, ...]]) -> AnnealedLogLikelihood:
        """Join the results of batches of examples."""
        values, errors, ess, rates = (torch.cat(part) for part in zip(*parts, strict=True))
        return AnnealedLogLikelihood(values, errors, ess, rates, self.num_chains, self.num_steps)


def _simulated(model: Joint, num_data: int) -> tuple[Tensor, Tensor]:
    """Examples from the model, and the latents that they were decoded from."""
    z = _continuous("prior", model.prior()).sample(torch.Size((num_data,)))
    parts = [
        checked("decoder", model.decoder(rows), len(rows)).sample()
        for rows in z.split(rows_at_once(z.shape))
    ]
    return torch.cat(parts), z


@contextmanager
def _prepared(model: Joint, start: Conditional | None) -> Iterator[None]:
    """Set evaluation mode, and let trajectories diverge, which are to be rejected."""
    check_joint("model", model)
    if start is not None:
        function("start", start, "a distribution")
    with without_validation(), evaluating(model), evaluating(start):
        yield


def _continuous(name: str, distribution: Distribution) -> Distribution:
    if is_discrete(distribution):
        raise TypeError(
            f"{name} must give continuous latents for annealed importance sampling, got "
            f"{type(distribution).__name__}"
        )
    return distribution


class _Path:
    """Densities from the start to the posterior for each of n examples."""

    def __init__(
        self, model: Joint, x: Tensor, prior: Distribution, start: Distribution | None
    ) -> None:
        self.model, self.x, self.prior, self.start = model, x, prior, start
        self.num_data = len(x)

    def first(self, num_chains: int) -> Tensor:
        """Draws from the start, shape (K, n, *Z)."""
        if self.start is not None:
            return self.start.sample(torch.Size((num_chains,)))
        return self.prior.sample(torch.Size((num_chains, self.num_data)))

    def log_densities(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the start's density, and of p(x, z) over it, each (K, n), at z (K, n, *Z)."""
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
    """Paths for batches of examples."""
    prior = _continuous("prior", model.prior())
    most = settings.pairs(x) // max(settings.num_chains, _PILOT_CHAINS)
    # A pilot stores step sizes for every latent.
    rows = min(max(1, most), rows_at_once((1, _MOST_PILOT_STEPS, *prior.event_shape)))
    for part in x.split(rows):
        given = None
        if start is not None:
            given = _continuous("start", checked("start", start(part), len(part)))
            check_event("start", given, prior)
        yield _Path(model, part, prior, given)


@dataclass(frozen=True)
class _Ladder:
    """Temperatures and step sizes from the pilot.

    Attributes:
        betas: Temperatures from 0 to 1, about equally far apart, shape (M + 1, n), padded with 1.
        steps: Step sizes at these temperatures, shape (M + 1, n, *Z).
        lengths: Number of temperatures of each example before 1, shape (n,).
    """

    betas: Tensor
    steps: Tensor
    lengths: Tensor

    def at(self, share: float) -> tuple[Tensor, Tensor]:
        """Temperatures (n,) and step sizes (n, *Z) at a fraction of the path in [0, 1]."""
        place = share * self.lengths
        before = place.floor().long().clamp_max(len(self.betas) - 2)
        data = torch.arange(len(before), device=before.device)
        part = place - before
        beta = self.betas[before, data].lerp(self.betas[before + 1, data], part)
        low, high = self.steps[before, data], self.steps[before + 1, data]
        return beta, low.lerp(high, part.reshape(-1, *[1] * (low.dim() - 1)).to(low))


def _pilot(path: _Path, settings: _Settings) -> _Ladder:
    """Run chains along the path, adapting temperatures and step sizes.

    A stride changes the log-weights by a fixed fraction of their standard deviation over the
    chains. The step size of each coordinate is a common size, adapted to the acceptance rate, times
    a scale from the gradients, which for a normal density is the standard deviation given the other
    coordinates. The spread of the chains would instead be that between modes, if there are several.
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
    """The next temperatures, shape (n,), with `left` steps left to reach 1."""
    possible = ratio.isfinite()
    number = possible.sum(0).clamp_min(2)
    mean = torch.where(possible, ratio, 0.0).sum(0) / number
    square = torch.where(possible, ratio - mean, 0.0).square().sum(0) / (number - 1)
    stride = _PILOT_STRIDE / square.sqrt()
    # At least evenly in the log, to reach 1 in the steps left.
    return torch.maximum(beta + stride, beta ** (1 - 1 / left)).clamp_max(1)


def _scale(point: Point, beta: Tensor) -> Tensor:
    """Scale of each coordinate, shape (n, *Z), from chains at temperatures (n,)."""
    spread = point.z.std(0)
    precise = point.gradient(beta).square().mean(0).rsqrt()
    # Where the density is flat, use the chains' spread.
    return torch.minimum(precise, spread).clamp_min(torch.finfo(spread.dtype).tiny ** 0.5)


def _size(log_size: Tensor, scale: Tensor) -> Tensor:
    size = log_size.exp().reshape(-1, *[1] * (scale.dim() - 1))
    return size.to(scale)


def _estimated(
    path: _Path, ladder: _Ladder, settings: _Settings, exact: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Estimates, errors, effective sample sizes and least acceptance rates, each of shape (n,).

    From below by chains from the start; or from above by chains back from `exact` draws from the
    posterior, shape (n, *Z), if given.
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
    """Numbers of chains in each batch."""
    most = max(1, settings.pairs(path.x) // path.num_data)
    whole, rest = divmod(settings.num_chains, most)
    return [most] * whole + [rest] * (rest > 0)


def _annealed(
    path: _Path, ladder: _Ladder, settings: _Settings, z: Tensor, backwards: bool = False
) -> tuple[Tensor, Tensor]:
    """Log-weights (K, n) of chains from latents (K, n, *Z), negated for backward chains.

    Also the acceptance rates in each of some windows of the path, shape (windows, n).
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
