"""Likelihood of data under the decoder's marginal, by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine.conditionals import Conditional
from mimachine.distributions import draw
from mimachine.estimates import Estimate
from mimachine.joint import Joint, checked
from mimachine.memory import rows_at_once
from mimachine.pareto import pareto_k, tail_size

__all__ = ["LogLikelihood", "check_event", "evaluating", "log_likelihood"]

# 400 effective samples leave an error of 0.05 nat, and with it of 0.1 nat in one of 20 estimates.
_FEWEST_EFFECTIVE = 400


@dataclass(frozen=True)
class LogLikelihood:
    """Estimates of log p(x) for N data, each from `num_samples` importance samples, in nats.

    Attributes:
        values: Estimates, shape (N,). Each is too low on average, by less the more samples.
        standard_errors: Their Monte-Carlo errors by the delta method, shape (N,); NaN for a
            single sample. They know only what the samples saw: a proposal that misses a mode of
            the posterior shows no error.
        effective_sample_sizes: (Σw)² / Σw², shape (N,), between 1 and `num_samples`. A small one
            says that a few samples carry the estimate.
        evidence_lower_bounds: Means of the log-weights, shape (N,): the ELBO from the same
            samples.
        num_samples: Samples for each datum.
        pareto_k: Shapes of the tails of the weights, shape (N,): their variance is infinite from
            1/2 on, their mean from 1 on. See `mimachine.pareto`.
    """

    values: Tensor
    standard_errors: Tensor
    effective_sample_sizes: Tensor
    evidence_lower_bounds: Tensor
    num_samples: int
    pareto_k: Tensor

    @property
    def flagged(self) -> Tensor:
        """Which estimates may be off by 0.1 nat and more, shape (N,): not to be trusted.

        Those of a Pareto-k that with its standard error reaches 1/2, where the variance of the
        weights and with it the error of the estimate would be infinite; and those of fewer than
        400 effective samples. So no estimate of under 400 samples is trusted. What the proposal
        misses, no flag can tell.
        """
        # (1 + k) / √M, of which the tail of few samples has much.
        error = (1 + self.pareto_k.clamp_min(-1)) / math.sqrt(tail_size(self.num_samples))
        # An estimate is trusted for a reason, so numbers that are none flag it.
        light = self.pareto_k + error < 0.5
        return ~(light & (self.effective_sample_sizes >= _FEWEST_EFFECTIVE * (1 - 1e-9)))

    def mean(self) -> Estimate:
        """Mean over the data in nats; its error is that of the data's and the samples' scatter."""
        if len(self.values) == 1:
            return Estimate(float(self.values), float(self.standard_errors))
        return Estimate.mean_of(self.values)


@torch.no_grad()
def log_likelihood(
    model: Joint,
    x: Tensor,
    num_samples: int = 5000,
    *,
    proposal: Conditional | None = None,
    chunk_size: int | None = None,
) -> LogLikelihood:
    r"""Estimate log p(x) = log E_{p(z)} p(x|z) by importance sampling.

    .. math:: \log \tfrac1S \sum_s p(x|z_s) p(z_s) / q(z_s|x), \quad z_s \sim q(z|x)

    The proposal runs once for each datum, and the prior is made once.

    Args:
        model: The model, used in evaluation mode.
        x: Data, shape (N, *X).
        num_samples: Number S of samples for each datum; exactly as many are drawn.
        proposal: q(z|x), which any conditional distribution of the latents can be; by default the
            model's encoder. The closer it is to the posterior p(z|x) the better, and rather wider
            than narrower; see `DefensiveProposal` and `refit_proposal`. A module is used in
            evaluation mode.
        chunk_size: Most pairs of datum and sample that are decoded at once; bounds the memory. By
            default 5,000, and fewer if data are so large that they would take over 16 MiB.

    Raises:
        ValueError: If there are no data, `num_samples` or `chunk_size` is not positive, or the
            proposal gives latents of another shape than the prior has.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    """
    if chunk_size is None:
        chunk_size = rows_at_once(x.shape, most=5000)
    for name, value in (
        ("len(x)", len(x)),
        ("num_samples", num_samples),
        ("chunk_size", chunk_size),
    ):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    name = "encoder" if proposal is None else "proposal"
    proposal = model.encoder if proposal is None else proposal
    with evaluating(model), evaluating(proposal):
        prior = model.prior()
        parts = []
        for rows in x.split(max(1, chunk_size // num_samples)):
            conditional = checked(name, proposal(rows), len(rows))
            check_event(name, conditional, prior)
            parts.append(
                _summary(_log_weights(model, rows, conditional, prior, num_samples, chunk_size))
            )
    *statistics, tails = zip(*parts, strict=True)
    values, errors, effective, bounds = (torch.cat(part) for part in statistics)
    # All tails at once: one by one their fits would cost more than the samples of a small model.
    shapes = pareto_k(torch.cat(tails, 1))
    return LogLikelihood(values, errors, effective, bounds, num_samples, shapes)


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
    """Log-weights of samples of a proposal for each of n data, shape (S, n)."""
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
    total = torch.logsumexp(log_weights, 0)
    effective = torch.exp(2 * total - torch.logsumexp(2 * log_weights, 0))
    # Var(mean w) / (mean w)², from Σw² / (Σw)² = 1 / effective; rounding may dip below 0.
    relative = (samples / effective - 1).clamp_min(0) / (samples - 1 if samples > 1 else math.nan)
    tail = log_weights.topk(min(samples, tail_size(samples) + 1), 0).values
    return total - math.log(samples), relative.sqrt(), effective, log_weights.mean(0), tail


@contextmanager
def evaluating(part: object) -> Iterator[None]:
    """Put a module in evaluation mode, and every part of it back in its own mode after.

    Nothing is done with what is no module, as a conditional distribution need not be one.
    """
    module = part if isinstance(part, nn.Module) else nn.Module()
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode
