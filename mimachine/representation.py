"""Quality of a representation: what its codes keep, and whether they collapsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.memory import rows_at_once
from mimachine.data.rows import Rows
from mimachine.estimates import Estimate
from mimachine.model.distributions import Mixture
from mimachine.model.flattening import FlatImage
from mimachine.model.hierarchy import Chain
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating
from mimachine.model.pixelcnn import AutoregressiveImage

__all__ = [
    "Codes",
    "Health",
    "Reencoding",
    "Scales",
    "Verdict",
    "at_floor",
    "closed_mean",
    "codes",
    "diagnose_codes",
    "mean_of",
    "moments",
    "reencode",
    "reencoding_offset",
    "scales",
]

Verdict = Literal["healthy", "partly collapsed", "collapsed", "deterministic"]

_ACTIVE_SHARE = 0.01
_DETERMINISTIC_SHARE = 0.01
_AT_FLOOR = 1.01


class Codes(NamedTuple):
    """What the encoder makes of N data: mean, standard deviation and a draw, each (N, *Z)."""

    mean: Tensor
    std: Tensor
    sample: Tensor


@torch.no_grad()
def codes(model: Joint, x: Tensor | Rows, batch_size: int | None = None) -> Codes:
    """Encode data of shape (N, *X) with the model in evaluation mode."""
    batch_size = rows_at_once(x.shape) if batch_size is None else batch_size
    with evaluating(model):
        parts = [moments(model.encoder(rows)) for rows in x.split(batch_size)]
    return Codes(*(torch.cat(part) for part in zip(*parts, strict=True)))


def moments(distribution: Distribution, num_samples: int = 64) -> Codes:
    """Mean, standard deviation and a draw; from draws where there is no closed form."""
    sample = distribution.sample()
    try:
        mean, std = distribution.mean, distribution.stddev
        # torch's categorical distribution has moments that are not numbers.
        if not mean.isnan().all():
            return Codes(mean, std, sample)
    except (NotImplementedError, AttributeError):
        pass
    draws = _draws(distribution, num_samples)
    return Codes(draws.mean(0), draws.std(0), sample)


def mean_of(distribution: Distribution, num_samples: int = 64) -> Tensor:
    """Mean; from draws where there is no closed form."""
    mean = closed_mean(distribution)
    return _draws(distribution, num_samples).mean(0) if mean is None else mean


def closed_mean(distribution: Distribution) -> Tensor | None:
    """Mean, where it has a closed form."""
    try:
        mean: Tensor = distribution.mean
    except (NotImplementedError, AttributeError):
        return None
    # torch's categorical distribution has moments that are not numbers.
    return None if mean.isnan().all() else mean


def _draws(distribution: Distribution, num_samples: int) -> Tensor:
    draws = distribution.sample(torch.Size((num_samples,)))
    return draws if draws.is_floating_point() else draws.to(torch.get_default_dtype())


def at_floor(scale: Tensor, floor: float | Tensor) -> Tensor:
    """Which scales are within 1 % of the smallest they can be; none if that is 0."""
    return scale <= _AT_FLOOR * torch.as_tensor(floor, device=scale.device)


class Scales(NamedTuple):
    """Scales of a part of a distribution, (*batch, *event), and the smallest that they can be."""

    scale: Tensor
    floor: float | Tensor

    @property
    def at_floor(self) -> Tensor:
        """Which scales are within 1 % of the smallest they can be."""
        return at_floor(self.scale, self.floor)


def scales(distribution: Distribution, value: Tensor) -> list[Scales]:
    """The scales of a distribution's parts that are bounded below, in the order of the parts.

    Args:
        distribution: Of batch shape (B,), or (), for what does not depend on a condition.
        value: Values (B, *event); parts that are given others are given theirs.
    """
    if isinstance(distribution, Chain):
        return [each for part in distribution.parts(value) for each in scales(*part)]
    if isinstance(distribution, FlatImage):
        return scales(distribution.image, distribution.as_images(value))
    if isinstance(distribution, AutoregressiveImage):
        return scales(distribution.pixels_given(value), value)
    if isinstance(distribution, Mixture):
        return scales(distribution.components, value)
    floor = getattr(distribution, "floor", None)
    if floor is None:
        return []
    loc, scale = distribution.loc, distribution.scale  # type: ignore[attr-defined]
    return [Scales(scale.expand(loc.shape), floor)]


@dataclass(frozen=True)
class Health:
    """Collapse diagnostics of a set of codes.

    Attributes:
        verdict: "collapsed" if no latent dimension is active, "partly collapsed" if fewer than
            half are, "deterministic" if the median posterior standard deviation is below 1 % of
            the aggregate's or at its floor, else "healthy".
        active: For each latent dimension, whether the variance over data of its posterior mean
            exceeds 1 % of its aggregate variance, shape (D,).
        relative_std: Median of posterior over aggregate standard deviation.
    """

    verdict: Verdict
    active: Tensor
    relative_std: float


def diagnose_codes(
    mean: Tensor,
    std: Tensor,
    floor: float | Tensor = 0.0,
    *,
    share_at_floor: float | None = None,
) -> Health:
    """Judge codes by their posterior means and standard deviations, each of shape (N, *Z).

    Args:
        mean: Posterior means.
        std: Posterior standard deviations.
        floor: The smallest standard deviation that the encoder can give, a number or (*Z).
        share_at_floor: Share of the encoder's scales that are at their floor, where it is not
            `std` that has one: of a chain of latents it holds for each given those before it.
    """
    mean, std = mean.flatten(1).double(), std.flatten(1).double()
    of_means = mean.var(0, correction=0)
    # Law of total variance: the aggregate posterior's variance in each dimension.
    aggregate = of_means + std.square().mean(0)
    active = of_means > _ACTIVE_SHARE * aggregate
    relative = float((std / aggregate.sqrt().clamp_min(torch.finfo(std.dtype).tiny)).median())
    if share_at_floor is None:
        share_at_floor = float(at_floor(std, floor).double().mean())
    verdict: Verdict = "healthy"
    if not active.any():
        verdict = "collapsed"
    elif active.double().mean() < 0.5:
        verdict = "partly collapsed"
    elif relative < _DETERMINISTIC_SHARE or share_at_floor > 0.5:
        verdict = "deterministic"
    return Health(verdict, active, relative)


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
