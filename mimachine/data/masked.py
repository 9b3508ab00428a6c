"""Source of rows of a table of which random values are hidden, to train for rows with holes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mimachine._support.checks import whole
from mimachine.data.sources import Source, check_source, with_generator

__all__ = ["Masked"]

# Largest share of a row's values that are hidden.
_MOST = 0.5


class Masked:
    """Rows of which random values are hidden, anew in each epoch.

    For each row a share is drawn from U(0, 1/2), and each of its values is hidden with that
    probability: it becomes inf, unknown without being missing. Missing values (NaN) stay. The
    encoder thus learns the codes of rows that are known in part.

    Args:
        source: Source of rows in floating point, as for a `TableDecoder`.
        seed: Seed of the shares and the choices.
    """

    def __init__(self, source: Source, seed: int = 0) -> None:
        check_source(source)
        self.source, self.seed = source, whole("seed", seed)

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        """Batches with hidden values."""
        batches = self.source.batches(batch_size, epoch)
        for batch, generator in with_generator(batches, self.seed, "masked", epoch):
            # One draw per row after the other, so rows do not depend on the size of the batches.
            shape = (len(batch), 1 + batch[0].numel())
            uniform = torch.rand(shape, generator=generator, device=batch.device)
            hidden = uniform[:, 1:] < _MOST * uniform[:, :1]
            yield batch.masked_fill(hidden.reshape(batch.shape) & ~batch.isnan(), torch.inf)
