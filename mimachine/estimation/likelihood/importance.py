"""Log-likelihood of data under the decoder's marginal, by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine._support.checks import UNLIMITED, function, whole
from mimachine._support.products import faster_products, products_pay
from mimachine._support.seeds import derived_seed, forked, own_noise
from mimachine.data.examples import Examples, all_examples
from mimachine.estimation.estimate import CorrectedMean, Estimate
from mimachine.estimation.likelihood.pareto import pareto_k, tail_size
from mimachine.model.conditionals import Conditional
from mimachine.model.distributions import draw
from mimachine.model.joint import Joint, check_joint, checked
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating
from mimachine.training.batches import check_fabric

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "FEWEST_EFFECTIVE",
    "LogLikelihood",
    "MeanLogLikelihood",
    "check_event",
    "log_likelihood",
    "log_mean",
    "mean_log_likelihood",
]


# With 400 effective samples the standard error is 0.05 nat: one of 20 estimates is off by 0.1 nat.
FEWEST_EFFECTIVE = 400
# Single-precision numbers that the widest layer of a decoder outputs at once. A CPU is fastest if
# they stay in its cache, except for few rows (`benchmarks/likelihood_speed.py --chunks`), and a GPU
# if they are many.
_VALUES, _VALUES_ON_GPU = 1 << 19, 1 << 27
_FEWEST_PAIRS, _MOST_PAIRS, _MOST_PAIRS_ON_GPU = 32, 5000, 100_000


@dataclass(frozen=True)
class LogLikelihood:
    """Importance-sampling estimates of log p(x) for N examples, in nats.

    Attributes:
        values: Estimates, shape (N,). They are too low on average; more samples reduce the bias.
        standard_errors: Monte Carlo errors by the delta method, shape (N,); NaN for a single
            sample. They do not show if the proposal misses a mode of the posterior.
        effective_sample_sizes: (Σw)² / Σw², shape (N,), between 1 and `num_samples`. If it is
            small, a few samples dominate the estimate.
        evidence_lower_bounds: Means of the log-weights, shape (N,): the ELBO from the same
            samples.
        num_samples: Samples per example.
        pareto_k: Pareto-k, the shape of the tail of the weights, shape (N,). The variance of the
            weights is infinite from 1/2 on, their mean from 1 on. See `pareto_k`.
    """

    values: Tensor
    standard_errors: Tensor
    effective_sample_sizes: Tensor
    evidence_lower_bounds: Tensor
    num_samples: int
    pareto_k: Tensor

    @property
    def flagged(self) -> Tensor:
        """Which estimates are unreliable, shape (N,): they may be off by 0.1 nat or more.

        These have a Pareto-k that, with its standard error added, reaches 1/2, where the variance
        of the weights becomes infinite, or fewer than 400 effective samples. So all estimates from
        under 400 samples are flagged. Modes that the proposal misses are not detected.
        """
        # Standard error (1 + k) / √M, which is large for few samples.
        error = (1 + self.pareto_k.clamp_min(-1)) / math.sqrt(tail_size(self.num_samples))
        # Comparisons with NaN are false, so NaN is flagged.
        light = self.pareto_k + error < 0.5
        return ~(light & (self.effective_sample_sizes >= FEWEST_EFFECTIVE * (1 - 1e-9)))

    def mean(self) -> Estimate:
        """Mean over the examples in nats; its error includes that of the samples."""
        return Estimate.mean_of(self.values, self.standard_errors)


@torch.no_grad()
def log_likelihood(
    model: Joint,
    x: Examples,
    num_samples: int = 5000,
    *,
    proposal: Conditional | None = None,
    chunk_size: int | None = None,
    fabric: Fabric | None = None,
    seed: int | None = None,
) -> LogLikelihood:
    r"""Estimate log p(x) = log E_{p(z)} p(x|z) by importance sampling.

    .. math:: \log \tfrac1S \sum_s p(x|z_s) p(z_s) / q(z_s|x), \quad z_s \sim q(z|x)

    The proposal runs once for each example, and the prior is built once.

    Args:
        model: The model, used in evaluation mode.
        x: Data, shape (N, *X), in any form that `fit` takes.
        num_samples: Number S of samples per example.
        proposal: q(z|x), any conditional distribution of the latents; by default the model's
            encoder. It should be close to the posterior p(z|x), and rather wider than narrower; see
            `DefensiveProposal` and `refit_proposal`. A module is used in evaluation mode.
        chunk_size: Largest number of pairs of example and sample that are decoded at once; bounds
            the memory. By default, the decoder's widest layer outputs 2 MiB at once, or 512 MiB on
            a GPU, for at least 32 pairs, or 64 in mixed precision.
        fabric: Device and precision; the model and the proposal are moved there. With several
            processes, pass the same data to all: each evaluates a share, and all get the whole
            result. "bf16-mixed" is at least twice as fast; the estimates then have its rounding
            errors.
        seed: Seed of the samples, by default 0; the global generators keep their state.

    Raises:
        ValueError: If the data cannot be used or do not fit the model, there are fewer rows than
            processes, `num_samples` or `chunk_size` is not positive, or the proposal gives latents
            of another shape than the prior.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    """
    check_joint("model", model)
    num_samples = whole("num_samples", num_samples, 1)
    chunk_size = None if chunk_size is None else whole("chunk_size", chunk_size, 1, UNLIMITED)
    if proposal is not None:
        function("proposal", proposal, "a distribution")
    check_fabric(fabric)
    if fabric is not None:
        model.to(fabric.device)
    x = all_examples("x", x, model)
    name, given = ("encoder", model.encoder) if proposal is None else ("proposal", proposal)
    with own_noise(seed, "log-likelihood", x.device), naming_misfits(model, x):
        if fabric is None:
            return _log_likelihood(model, x, num_samples, name, given, chunk_size)
        return _of_processes(fabric, model, x, num_samples, name, given, chunk_size)


def _of_processes(
    fabric: Fabric,
    model: Joint,
    x: Tensor,
    num_samples: int,
    name: str,
    given: Conditional,
    chunk_size: int | None,
) -> LogLikelihood:
    """Estimates by a fabric, each process for its share of the examples."""
    if isinstance(given, nn.Module):
        given.to(fabric.device)
    with fabric.autocast(), _separate_noise(fabric):
        share = _share(fabric, x).to(fabric.device)
        return _gathered(
            fabric, _log_likelihood(model, share, num_samples, name, given, chunk_size), len(x)
        )


def _log_likelihood(
    model: Joint,
    x: Tensor,
    num_samples: int,
    name: str,
    proposal: Conditional,
    chunk_size: int | None,
) -> LogLikelihood:
    with evaluating(model), evaluating(proposal):
        prior = model.prior()
        if chunk_size is None:
            chunk_size = _pairs_at_once(model, prior, x)
        # Written into tensors of all rows: small ones kept from each block would split the free
        # memory, so that the process grows with every block.
        found: list[Tensor] = []
        start = 0
        with faster_products(products_pay(model.decoder, chunk_size)):
            for rows in x.split(max(1, chunk_size // num_samples)):
                conditional = checked(name, proposal(rows), len(rows))
                check_event(name, conditional, prior)
                parts = _summary(
                    _log_weights(model, rows, conditional, prior, num_samples, chunk_size)
                )
                found = found or [part.new_empty((*part.shape[:-1], len(x))) for part in parts]
                for whole_part, part in zip(found, parts, strict=True):
                    whole_part[..., start : start + len(rows)] = part
                start += len(rows)
    values, errors, effective, bounds, tails = found
    # All tails at once: separate fits would take longer than the samples of a small model.
    shapes = pareto_k(tails)
    return LogLikelihood(values, errors, effective, bounds, num_samples, shapes)


def _pairs_at_once(model: Joint, prior: Distribution, x: Tensor) -> int:
    values, most = _VALUES, _MOST_PAIRS
    if x.device.type != "cpu":
        values, most = _VALUES_ON_GPU, _MOST_PAIRS_ON_GPU
    # In half precision twice as many numbers fit the cache.
    times = 2 if torch.is_autocast_enabled(x.device.type) else 1
    try:
        widest = _widest(model.decoder, prior, x)
    except (RuntimeError, ValueError):
        # Wrong shapes raise a clearer error where the decoder is used.
        return _FEWEST_PAIRS
    return max(times * _FEWEST_PAIRS, min(most, times * values // widest))


def _widest(decoder: nn.Module, prior: Distribution, x: Tensor) -> int:
    """Largest number of outputs of any part of a decoder for one latent, at least the size of x."""
    widest = max(1, x[0].numel())

    def look(part: nn.Module, args: Any, output: Any) -> None:
        nonlocal widest
        if isinstance(output, Tensor):
            widest = max(widest, output.numel())

    parts = decoder.modules() if isinstance(decoder, nn.Module) else ()
    handles = [part.register_forward_hook(look) for part in parts]
    try:
        with forked(0, x.device):
            # Some decoders compute only when a density is evaluated.
            decoder(prior.sample((1,))).log_prob(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    return widest


@contextmanager
def _separate_noise(fabric: Fabric) -> Iterator[None]:
    """Use different noise in each process, even if all were seeded alike."""
    if fabric.world_size == 1:
        yield
        return
    seed = int(torch.randint(1 << 62, ()))
    with forked(derived_seed(seed, "likelihood", fabric.global_rank), fabric.device):
        yield


def _share(fabric: Fabric, x: Tensor) -> Tensor:
    """Rows of this process: consecutive, and in number equal up to one to those of others."""
    if len(x) < fabric.world_size:
        raise ValueError(
            f"x must have a row for each of {fabric.world_size} processes, got {len(x)}"
        )
    return x.tensor_split(fabric.world_size)[fabric.global_rank]


def _gathered(fabric: Fabric, own: LogLikelihood, count: int) -> LogLikelihood:
    """The whole result, in every process and in the order of the rows."""
    if fabric.world_size == 1:
        return own
    names = [field.name for field in fields(own) if field.name != "num_samples"]
    columns = torch.stack([getattr(own, name) for name in names])
    sizes = [len(part) for part in torch.arange(count).tensor_split(fabric.world_size)]
    # Shares may differ by one in size, but `all_gather` needs equal shapes.
    padded = nn.functional.pad(columns, (0, sizes[0] - columns.shape[1]))
    each = cast(Tensor, fabric.all_gather(padded))
    whole = torch.cat([part[:, :size] for part, size in zip(each, sizes, strict=True)], 1)
    return replace(own, **dict(zip(names, whole, strict=True)))


@dataclass(frozen=True)
class MeanLogLikelihood(CorrectedMean):
    """Mean log-likelihood over N examples, in nats, with many samples only for a subset.

    Attributes:
        value: Mean over all examples of estimates from few samples, plus the mean correction by
            many samples over a random subset.
        standard_error: Standard error as an estimate of the population mean.
        subset_error: The part of it due to the subset: the standard error as an estimate of the
            mean from many samples for all N examples. 0 if the subset is all examples.
        few_samples: Samples per example.
        num_samples: Samples per example of the subset.
        num_data: Number N of examples.
        subset: Number of examples in the subset.
        flagged: Share of the subset with unreliable estimates.
    """

    few_samples: int
    num_samples: int
    num_data: int
    subset: int
    flagged: float


def mean_log_likelihood(
    model: Joint,
    x: Examples,
    num_samples: int = 5000,
    *,
    subset: int = 500,
    few_samples: int = 50,
    proposal: Conditional | None = None,
    chunk_size: int | None = None,
    fabric: Fabric | None = None,
    seed: int | None = None,
) -> MeanLogLikelihood:
    r"""Estimate the mean log-likelihood of many examples with a fraction of the decoder calls.

    Estimates L differ far more between examples than between few and many samples. So estimates
    from few samples for all examples are a control variate for those from many samples for a
    random subset:

    .. math:: \frac1N \sum_i L_\text{few}(x_i)
        + \frac1n \sum_{i \in \text{subset}} [L_\text{many}(x_i) - L_\text{few}(x_i)]

    It is unbiased for the mean of `log_likelihood(model, x, num_samples)`, and with the same
    samples equal to it if the subset is all examples. The subset is random.

    Args:
        model: The model, used in evaluation mode.
        x: Data, shape (N, *X), in any form that `fit` takes.
        num_samples: Number of samples per example of the subset.
        subset: Number n of examples in the subset, at most all.
        few_samples: Number of samples per example, below `num_samples`.
        proposal: As for `log_likelihood`.
        chunk_size: As for `log_likelihood`.
        fabric: As for `log_likelihood`. Give all processes the same seed.
        seed: Seed of the subset and the samples, by default 0; the global generators keep their
            state.

    Raises:
        ValueError: If the subset has fewer than 2 examples, or `few_samples` is not in
            [1, num_samples), and as for `log_likelihood`.

    References:
        The difference estimator of survey sampling (Cochran, 1977, Sampling Techniques, ch. 7).

    Example:
        >>> model = Joint(
        ...     mm.Gaussian(MLP(3, 4)), mm.Gaussian(MLP(2, 6)), mm.StandardNormal(2)
        ... )
        >>> mean = mm.mean_log_likelihood(model, torch.randn(300, 3), 500, subset=50)
        >>> mean.subset_error < mean.standard_error
        True
    """
    check_joint("model", model)
    x = all_examples("x", x, model)
    num_samples = whole("num_samples", num_samples, 1)
    few_samples = whole("few_samples", few_samples)
    if not 1 <= few_samples < num_samples:
        raise ValueError(
            f"few_samples must be in [1, num_samples) = [1, {num_samples}), got {few_samples}"
        )
    if not min(whole("subset", subset), len(x)) >= 2:
        raise ValueError(f"subset must be 2 or more of the {len(x)} rows of x, got {subset}")

    def estimates(rows: Tensor, samples: int) -> LogLikelihood:
        return log_likelihood(
            model, rows, samples, proposal=proposal, chunk_size=chunk_size, fabric=fabric
        )

    with own_noise(seed, "mean log-likelihood", x.device):
        chosen = torch.randperm(len(x))[:subset].to(x.device)
        few = estimates(x, few_samples).values
        many = estimates(x[chosen], num_samples)
    mean = CorrectedMean.of(few, chosen.to(few.device), many.values)
    return MeanLogLikelihood(
        mean.value,
        mean.standard_error,
        mean.subset_error,
        few_samples=few_samples,
        num_samples=num_samples,
        num_data=len(x),
        subset=len(chosen),
        flagged=float(many.flagged.double().mean()),
    )


def check_event(name: str, conditional: Distribution, prior: Distribution) -> None:
    """Check that a conditional distribution gives latents of the prior's shape.

    Raises:
        ValueError: If it does not.
    """
    if conditional.event_shape != prior.event_shape:
        raise ValueError(
            f"{name} must give latents of the prior's shape {tuple(prior.event_shape)}, "
            f"got {tuple(conditional.event_shape)}"
        )


def _log_weights(
    model: Joint,
    rows: Tensor,
    proposal: Distribution,
    prior: Distribution,
    num_samples: int,
    chunk_size: int,
) -> Tensor:
    """Log-weights of samples of a proposal for each of n rows, shape (S, n)."""
    log_weights = []
    most = max(1, chunk_size // len(rows))
    for start in range(0, num_samples, most):
        count = min(most, num_samples - start)
        z, log_q, _ = draw(proposal, (count,))
        repeated = rows.expand(count, *rows.shape).flatten(0, 1)
        decoder = checked("decoder", model.decoder(z.flatten(0, 1)), len(repeated))
        log_p = decoder.log_prob(repeated).reshape(count, len(rows))
        log_weights.append(log_p + prior.log_prob(z) - log_q)
    return torch.cat(log_weights).double()


def _summary(log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Estimate, error, effective sample size, ELBO and tail from log-weights of shape (S, n)."""
    samples = len(log_weights)
    tail = log_weights.topk(min(samples, tail_size(samples) + 1), 0).values
    return *log_mean(log_weights), log_weights.mean(0), tail


def log_mean(log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log of the mean of S weights, for each of n sets of weights.

    Args:
        log_weights: Log-weights, shape (S, n).

    Returns:
        The logs in nats, their standard errors by the delta method (NaN for a single weight), and
        the effective sample sizes (Σw)² / Σw², each of shape (n,).
    """
    samples = len(log_weights)
    total = torch.logsumexp(log_weights, 0)
    effective = torch.exp(2 * total - torch.logsumexp(2 * log_weights, 0))
    # Var(mean w) / (mean w)², from Σw² / (Σw)² = 1 / effective; rounding may make it negative.
    relative = (samples / effective - 1).clamp_min(0) / (samples - 1 if samples > 1 else math.nan)
    return total - math.log(samples), relative.sqrt(), effective
