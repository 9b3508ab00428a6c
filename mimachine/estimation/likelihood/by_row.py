"""Log-likelihoods of rows by importance sampling with the same noise for every row."""

from __future__ import annotations

import torch
from torch import Size, Tensor

from mimachine._support.checks import whole
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import Examples, all_examples
from mimachine.estimation.likelihood.importance import check_event, log_mean
from mimachine.model.distributions import DiagNormal, draw
from mimachine.model.joint import Joint, check_joint, checked
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating

__all__ = ["log_likelihood_by_row"]

# Pairs of row and sample that are decoded at once.
_PAIRS = 1 << 13


@torch.no_grad()
def log_likelihood_by_row(
    model: Joint, x: Examples, num_samples: int = 100, *, seed: int = 0
) -> Tensor:
    """Estimate log p(x) of rows, each as if it were the only one, in nats, shape (N,).

    The noise of the samples from q(z|x) depends on the seed only, so the estimate of a row depends
    neither on its place nor on other rows, and differences between rows have less noise. Errors of
    rows are not independent: use `log_likelihood` for means with errors.

    Args:
        model: The model, used in evaluation mode.
        x: Data, shape (N, *X), in any form that `fit` takes.
        num_samples: Number of samples per row; few give a loose lower bound.
        seed: Seed of the noise.

    Raises:
        ValueError: If the data cannot be used or do not fit the model, or `num_samples` is not
            positive.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519
    """
    check_joint("model", model)
    num_samples = whole("num_samples", num_samples, 1)
    seed = derived_seed(whole("seed", seed), "log-likelihood by row")
    x = all_examples("x", x, model)
    with evaluating(model), naming_misfits(model, x):
        prior = model.prior()
        with forked(seed, x.device):
            noise = torch.randn(num_samples, *prior.event_shape, dtype=x.dtype, device=x.device)
        parts = []
        for rows in x.split(max(1, _PAIRS // num_samples)):
            encoder = checked("encoder", model.encoder(rows), len(rows))
            check_event("encoder", encoder, prior)
            if isinstance(encoder, DiagNormal):
                z = encoder.mean + encoder.stddev * noise.unsqueeze(1)
                log_q = encoder.log_prob(z)
            else:
                z, log_q = _drawn_one_by_one(model, rows, num_samples, seed)
            repeated = rows.expand(num_samples, *rows.shape).flatten(0, 1)
            decoder = checked("decoder", model.decoder(z.flatten(0, 1)), len(repeated))
            log_p = decoder.log_prob(repeated).unflatten(0, (num_samples, len(rows)))
            parts.append(log_mean((log_p + prior.log_prob(z) - log_q).double())[0])
    return torch.cat(parts)


def _drawn_one_by_one(
    model: Joint, rows: Tensor, num_samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Codes (S, n, *Z) and their log-densities (S, n), with the same seed for every row."""
    codes, densities = [], []
    for row in rows.split(1):
        with forked(seed, rows.device):
            z, log_q, _ = draw(model.encoder(row), Size((num_samples,)))
        codes.append(z)
        densities.append(log_q)
    return torch.cat(codes, 1), torch.cat(densities, 1)
