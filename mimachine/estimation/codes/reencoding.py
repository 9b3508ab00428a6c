"""Re-encoding: distance between a code and the code of its own reconstruction."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mimachine._support.memory import rows_at_once
from mimachine.data.rows import Rows
from mimachine.estimation.codes.moments import mean_of, moments
from mimachine.estimation.estimate import Estimate
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating

__all__ = [
    "Reencoding",
    "reencode",
    "reencoding_offset",
]


class Reencoding(NamedTuple):
    """How far codes are from those of their own reconstructions.

    Attributes:
        offset: For each latent dimension, the root over data of the mean squared distance of the
            posterior means of a datum and of its reconstruction, in standard deviations of the
            aggregate posterior, shape (D,). 0 if codes come back, √2 if they come back at random.
        divergence: Mean over data of KL(q(z|x) ‖ q(z|x')), in nats, x' the reconstruction, from
            one sample of z for each datum. 0 if posteriors come back; it counts in widths of the
            posterior, so it is large where these are narrow.
    """

    offset: Tensor
    divergence: Estimate


@torch.no_grad()
def reencode(model: Joint, x: Tensor | Rows, batch_size: int | None = None) -> Reencoding:
    """Encode data, decode the codes' means, and encode the decoder's means again.

    Args:
        model: The model, used in evaluation mode.
        x: Data, shape (N, *X).
        batch_size: Data at once.
    """
    batch_size = rows_at_once(x.shape) if batch_size is None else batch_size
    means, widths, again, divergences = [], [], [], []
    with evaluating(model):
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
    """Distance of codes and codes of their reconstructions, as in `Reencoding`, shape (D,).

    Args:
        mean: Posterior means of data, shape (N, *Z).
        std: Posterior standard deviations, likewise.
        again: Posterior means of the reconstructions, likewise.
    """
    mean, std, again = (each.flatten(1).double() for each in (mean, std, again))
    aggregate = (mean.var(0, correction=0) + std.square().mean(0)).sqrt()
    distance = (again - mean).square().mean(0).sqrt()
    # A dimension in which nothing moves is at no distance, however narrow it is.
    return torch.where(distance > 0, distance / aggregate, 0.0)
