"""The models of the plain loops with this library."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from training_speed import BATCH, FLOOR

import mimachine as mm
from beside.bare import BareModel, BareVae
from mimachine.data.sources import Stacked


def model(bare: BareModel) -> mm.Joint:
    """A model with the weights of a plain one."""
    encoder, decoder = copy.deepcopy(bare.encoder), copy.deepcopy(bare.decoder)
    prior = mm.StandardNormal(bare.latent)
    if isinstance(bare, BareVae):
        return mm.Joint(mm.Gaussian(encoder, 0.0), mm.Bernoulli(decoder), prior)
    return mm.Joint(mm.Gaussian(encoder, FLOOR), mm.Gaussian(decoder, FLOOR), prior)


def loss(bare: BareModel) -> mm.Loss:
    """The loss of a plain model, with its weights."""
    return mm.Loss(model(bare), mm.VAE if isinstance(bare, BareVae) else mm.MIM)


def trainer(loss: nn.Module, data: object, compiled: bool) -> Callable[[int], None]:
    """A function that trains with `fit` for a given number of epochs."""

    def train(epochs: int) -> None:
        recipe = mm.Training(epochs=epochs, batch_size=BATCH, warmup=0, compile=compiled)
        with warnings.catch_warnings():
            # Steps that could not be compiled must not count as compiled.
            warnings.simplefilter("error", RuntimeWarning)
            mm.fit(loss, data, None, recipe, progress=False)

    return train


def trainers(bare: Sequence[BareModel], compiled: bool) -> Callable[[int], None]:
    """A function that trains the models of some plain ones; several at once in an `Ensemble`."""
    x: Tensor = bare[0].x
    if len(bare) == 1:
        return trainer(loss(bare[0]), x, compiled)
    together = mm.Ensemble([loss(each) for each in bare])
    sources = Stacked([mm.TensorSource(x, seed) for seed in range(len(bare))])
    return trainer(together, sources, compiled)


def graphs() -> int:
    """Number of graphs that torch has compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
