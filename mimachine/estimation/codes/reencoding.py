"""Re-encoding: distance between a code and the code of its reconstruction."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mimachine._support.seeds import own_noise
from mimachine.data.examples import Examples, block_size, examples
from mimachine.estimation.codes.moments import mean_of, moments
from mimachine.estimation.estimate import Estimate
from mimachine.model.joint import Joint, check_joint
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating

__all__ = ["Reencoding", "reencode", "reencoding_offset"]


class Reencoding(NamedTuple):
    """Distance of codes from the codes of their reconstructions.

    Attributes:
        offset: Root mean squared difference of the posterior means of a row and of its
            reconstruction, for each latent dimension, in standard deviations of the aggregate
            posterior, shape (D,). 0 if codes are reproduced, √2 if the new codes are random.
        divergence: Mean over rows of KL(q(z|x) ‖ q(z|x')), in nats, where x' is the
            reconstruction, from one sample of z per row. 0 if posteriors are reproduced. It
            measures in widths of the posterior, so it is large for narrow ones.
    """

    offset: Tensor
    divergence: Estimate


@torch.no_grad()
def reencode(
    model: Joint, x: Examples, batch_size: int | None = None, *, seed: int | None = None
) -> Reencoding:
    """Encode data, decode the posterior means, and encode the decoder's means again.

    Args:
        model: The model, used in evaluation mode.
        x: Data, shape (N, *X), in any form that `fit` takes.
        batch_size: Rows at once.
        seed: Seed of the samples, by default 0; the global generators keep their state.

    Raises:
        ValueError: If the data cannot be used or do not fit the model.
    """
    check_joint("model", model)
    x = examples("x", x, model)
    batch_size = block_size(x, batch_size)
    means, widths, again, divergences = [], [], [], []
    with own_noise(seed, "reencode", x.device), evaluating(model), naming_misfits(model, x):
        for rows in x.split(batch_size):
            posterior = model.encoder(rows)
            encoded = moments(posterior)
            second = model.encoder(mean_of(model.decoder(encoded.mean)))
            means.append(encoded.mean)
            widths.append(encoded.std)
            again.append(mean_of(second))
            log_ratio = posterior.log_prob(encoded.sample) - second.log_prob(encoded.sample)
            divergences.append(log_ratio)
    offset = reencoding_offset(*map(torch.cat, (means, widths, again)))
    return Reencoding(offset, Estimate.mean_of(torch.cat(divergences)))


def reencoding_offset(mean: Tensor, std: Tensor, again: Tensor) -> Tensor:
    """Distance of codes from codes of their reconstructions, as in `Reencoding`, shape (D,).

    Args:
        mean: Posterior means of data, shape (N, *Z).
        std: Posterior standard deviations, shape (N, *Z).
        again: Posterior means of the reconstructions, shape (N, *Z).
    """
    mean, std, again = (each.flatten(1).double() for each in (mean, std, again))
    aggregate = (mean.var(0, correction=0) + std.square().mean(0)).sqrt()
    distance = (again - mean).square().mean(0).sqrt()
    # A constant dimension has distance 0, not 0 / 0.
    return torch.where(distance > 0, distance / aggregate, 0.0)
