"""Apply a trained model: sample new data or reconstruct data."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Size, Tensor

from mimachine._support.checks import whole
from mimachine._support.memory import check_fits
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import Examples, device_of, examples
from mimachine.estimation.codes.moments import closed_mean, codes
from mimachine.model.joint import Joint, check_joint
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating

__all__ = ["Drawn", "reconstruct", "sample"]


class Drawn(NamedTuple):
    """Data sampled or reconstructed by a model, and the latents.

    Attributes:
        x: Samples of p(x|z), shape (N, *X).
        mean: Means of p(x|z), shape (N, *X); None if they have no closed form, as for a PixelCNN.
            Monte Carlo means would need many slow samples.
        z: Latents, shape (N, *Z).
    """

    x: Tensor
    mean: Tensor | None
    z: Tensor

    @property
    def shown(self) -> Tensor:
        """What to plot: the means, or the samples if there are no means."""
        return self.x if self.mean is None else self.mean

    @property
    def kind(self) -> str:
        """Kind of `shown`: "means" or "samples"."""
        return "samples" if self.mean is None else "means"


@torch.no_grad()
def sample(model: Joint, count: int, seed: int = 0) -> Drawn:
    """Sample new data: z ~ p(z) and x ~ p(x|z).

    Raises:
        ValueError: If `count` is less than 1, or that number of rows does not fit into memory.
    """
    check_joint("model", model)
    count = whole("count", count, 1)
    seed = derived_seed(whole("seed", seed), "sample")
    with forked(seed, device_of(model)), evaluating(model):
        prior = model.prior()
        _check_fits(count, prior.event_shape)
        return _decode(model, prior.sample((count,)))


@torch.no_grad()
def reconstruct(model: Joint, x: Examples, seed: int = 0) -> Drawn:
    """Reconstruct data: encode x to the mean of q(z|x) and decode it.

    Args:
        model: The model, used in evaluation mode.
        x: Data, shape (N, *X), in any form that `fit` takes.
        seed: Seed of the samples; the global generators keep their state.

    Raises:
        ValueError: If the data cannot be used or do not fit the model.
    """
    check_joint("model", model)
    x = examples("x", x, model)
    seed = derived_seed(whole("seed", seed), "reconstruct")
    with forked(seed, x.device), evaluating(model), naming_misfits(model, x[:2]):
        return _decode(model, codes(model, x).mean)


def _check_fits(count: int, shape: Size) -> None:
    """Check that rows fit into memory before the first is computed."""
    itemsize = torch.get_default_dtype().itemsize
    check_fits(
        f"{count:,} rows of {shape.numel():,} values", (count, *shape), itemsize, "use fewer"
    )


def _decode(model: Joint, z: Tensor, batch_size: int = 256) -> Drawn:
    samples: list[Tensor] = []
    means: list[Tensor] = []
    for part in z.split(batch_size):
        decoded = model.decoder(part)
        if not samples:
            _check_fits(len(z), decoded.event_shape)
        samples.append(decoded.sample())
        mean = closed_mean(decoded)
        if mean is not None:
            means.append(mean)
    return Drawn(torch.cat(samples), torch.cat(means) if means else None, z)
