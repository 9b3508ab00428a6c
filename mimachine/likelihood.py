"""Likelihood of data under the decoder's marginal, by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mimachine.distributions import draw
from mimachine.estimates import Estimate
from mimachine.joint import Joint, checked
from mimachine.memory import rows_at_once

__all__ = ["LogLikelihood", "evaluating", "log_likelihood"]


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
    """

    values: Tensor
    standard_errors: Tensor
    effective_sample_sizes: Tensor
    evidence_lower_bounds: Tensor
    num_samples: int

    def mean(self) -> Estimate:
        """Mean over the data in nats; its error is that of the data's and the samples' scatter."""
        if len(self.values) == 1:
            return Estimate(float(self.values), float(self.standard_errors))
        return Estimate.mean_of(self.values)


@torch.no_grad()
def log_likelihood(
    model: Joint, x: Tensor, num_samples: int = 5000, *, chunk_size: int | None = None
) -> LogLikelihood:
    r"""Estimate log p(x) = log E_{p(z)} p(x|z) with the encoder as proposal.

    .. math:: \log \tfrac1S \sum_s p(x|z_s) p(z_s) / q(z_s|x), \quad z_s \sim q(z|x)

    The encoder runs once for each datum, and the prior is made once.

    Args:
        model: The model, used in evaluation mode.
        x: Data, shape (N, *X).
        num_samples: Number S of samples for each datum; exactly as many are drawn.
        chunk_size: Most pairs of datum and sample that are decoded at once; bounds the memory. By
            default 5,000, and fewer if data are so large that they would take over 16 MiB.

    Raises:
        ValueError: If there are no data, or `num_samples` or `chunk_size` is not positive.

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
    with evaluating(model):
        prior = model.prior()
        batch_size = max(1, chunk_size // num_samples)
        parts = []
        for rows in x.split(batch_size):
            proposal = checked("encoder", model.encoder(rows), len(rows))
            log_weights = []
            for start in range(0, num_samples, max(1, chunk_size // len(rows))):
                count = min(max(1, chunk_size // len(rows)), num_samples - start)
                z, log_q, _ = draw(proposal, (count,))
                repeated = rows.expand(count, *rows.shape).flatten(0, 1)
                decoder = checked("decoder", model.decoder(z.flatten(0, 1)), len(repeated))
                log_p = decoder.log_prob(repeated).reshape(count, len(rows))
                log_weights.append(log_p + prior.log_prob(z) - log_q)
            parts.append(_summary(torch.cat(log_weights).double()))
    values, errors, effective, bounds = (torch.cat(part) for part in zip(*parts, strict=True))
    return LogLikelihood(values, errors, effective, bounds, num_samples)


def _summary(log_weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Estimate, error, effective sample size and ELBO from log-weights of shape (S, n)."""
    samples = len(log_weights)
    total = torch.logsumexp(log_weights, 0)
    effective = torch.exp(2 * total - torch.logsumexp(2 * log_weights, 0))
    # Var(mean w) / (mean w)², from Σw² / (Σw)² = 1 / effective; rounding may dip below 0.
    relative = (samples / effective - 1).clamp_min(0) / (samples - 1 if samples > 1 else math.nan)
    return total - math.log(samples), relative.sqrt(), effective, log_weights.mean(0)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode, and every part of it back in its own mode after."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
