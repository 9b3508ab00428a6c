"""Data sources: batches for training.

The batches of an epoch are a function of the source's seed and the epoch's number, so an epoch can
be repeated exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.checks import flag, instance, whole
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import Examples, as_tensor, examples
from mimachine.model.priors import Samplable

__all__ = [
    "Binarized",
    "FreshDraws",
    "Shared",
    "Source",
    "Stacked",
    "TensorSource",
    "Versions",
    "as_bytes",
    "check_source",
    "with_generator",
]


# The largest byte, which represents 1.
_LARGEST = 255


class Source(Protocol):
    """Protocol of data sources for training."""

    def __len__(self) -> int:
        """Number of examples in an epoch."""
        ...

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        """Batches of shape (at most batch_size, *X) that make up one epoch."""
        ...


def as_bytes(data: Tensor) -> Tensor:
    """Convert grey values k / 255 to bytes k, a quarter of the memory: see `TensorSource`.

    The 50,000 training images of MNIST take 39 MB instead of 157 MB, little for any GPU.

    Args:
        data: Values in [0, 1] on the grid of 256 levels, of any shape.

    Returns:
        Bytes of the same shape, type uint8.

    Raises:
        ValueError: If a value is not on the grid.

    Example:
        >>> as_bytes(torch.tensor([0.0, 0.2, 1.0]))
        tensor([  0,  51, 255], dtype=torch.uint8)
    """
    levels = data * _LARGEST
    rounded = levels.round()
    # 255 times k / 255 in float32 is off by a few units in the seventh digit at most.
    off = ~((levels - rounded).abs() <= 1e-3) | (rounded < 0) | (rounded > _LARGEST)
    if off.any():
        raise ValueError(f"data must be k / 255 with k from 0 to 255, got {float(data[off][0]):g}")
    return rounded.to(torch.uint8)


class TensorSource:
    """Batches of the rows of a tensor, shuffled anew in each epoch.

    Bytes k are grey levels: batches contain k / 255, computed on the device of the bytes. So a GPU
    can hold images as bytes, and `Binarized` draws from them there.

    Args:
        data: Shape (N, *X), in any form that `fit` takes. Whole numbers other than bytes become
            floating-point numbers.
        seed: Seed of the order.
        shuffle: Whether to shuffle.
        dtype: Type that bytes are converted to; by default torch's default.
        missing: Whether values may be missing (NaN) or hidden (inf), for a model of tables.

    Raises:
        ValueError: If the data cannot be used.

    Example:
        >>> grey = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
        >>> next(mm.TensorSource(grey).batches(1, epoch=1))
        tensor([[0.0000, 0.2000, 1.0000]])
    """

    def __init__(
        self,
        data: Examples,
        seed: int = 0,
        shuffle: bool = True,
        *,
        dtype: torch.dtype | None = None,
        missing: bool = False,
    ) -> None:
        data = examples("data", data, keep_bytes=True, missing=flag("missing", missing))
        if dtype is not None:
            instance("dtype", dtype, torch.dtype, "a torch.dtype")
        self.data, self.dtype = data, dtype
        self.seed, self.shuffle = whole("seed", seed), flag("shuffle", shuffle)

    def __len__(self) -> int:
        return len(self.data)

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        """Batches of one epoch; the last one may be smaller."""
        if not self.shuffle:
            yield from map(self._values, self.data.split(batch_size))
            return
        order = self.order(epoch).to(self.data.device)
        # Not by `split`, whose list of small batches takes more memory than the order.
        for start in range(0, len(order), batch_size):
            yield self._values(self.data[order[start : start + batch_size]])

    def _values(self, batch: Tensor) -> Tensor:
        if batch.dtype != torch.uint8:
            return batch
        return batch.to(self.dtype or torch.get_default_dtype()).div_(_LARGEST)

    def order(self, epoch: int) -> Tensor:
        """Indices of the rows in the order of an epoch, shape (N,)."""
        if not self.shuffle:
            return torch.arange(len(self.data))
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch))
        return torch.randperm(len(self.data), generator=generator)


class Stacked:
    """Sources of M models, stacked: batches of shape (M, B, *X), see `ensemble.Ensemble`.

    Args:
        sources: One source for each model, all of the same length.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        sizes = {len(source) for source in sources}
        if len(sizes) != 1:
            raise ValueError(
                f"sources must be one or more of the same length, got lengths {sorted(sizes)}"
            )
        self.sources = list(sources)

    def __len__(self) -> int:
        return len(self.sources[0])

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        """Batches of one epoch; the last one may be smaller."""
        parts = [source.batches(batch_size, epoch) for source in self.sources]
        for batches in zip(*parts, strict=True):
            yield torch.stack(batches)


class Shared:
    """One source shared by M models: batches of shape (M, B, *X) without copies.

    Args:
        source: Source of the data.
        num_models: Number M of models.
    """

    def __init__(self, source: Source, num_models: int) -> None:
        self.source, self.num_models = source, num_models

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        """Batches of one epoch; the last one may be smaller."""
        for batch in self.source.batches(batch_size, epoch):
            yield batch.expand(self.num_models, *batch.shape)


class Versions:
    """Batches of a random version of each example, chosen and shuffled anew in each epoch.

    Args:
        versions: K versions of N examples, shape (K, N, *X).
        seed: Seed of the order and of the choices.
    """

    def __init__(self, versions: Examples, seed: int = 0) -> None:
        shape = tuple(as_tensor("versions", versions).shape)
        if len(shape) < 3 or not shape[0] or not shape[1]:
            raise ValueError(
                f"versions must have shape (K, N, *X) with K and N of 1 or more, got {shape}"
            )
        versions = cast(Tensor, examples("versions", versions))
        self.versions, self.seed = versions, whole("seed", seed)

    def __len__(self) -> int:
        return self.versions.shape[1]

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        """Batches of one epoch; the last one may be smaller."""
        number, count = self.versions.shape[:2]
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "versions", epoch))
        order = torch.randperm(count, generator=generator).to(self.versions.device)
        choices = torch.randint(number, (count,), generator=generator).to(self.versions.device)
        for rows, chosen in zip(order.split(batch_size), choices.split(batch_size), strict=True):
            yield self.versions[chosen, rows]


class FreshDraws:
    """Batches of new draws from a distribution in every epoch.

    Args:
        distribution: Distribution to draw from, of batch shape ().
        num_data: Number of draws in an epoch.
        seed: Seed of the draws.
    """

    def __init__(self, distribution: Samplable, num_data: int, seed: int = 0) -> None:
        if not callable(getattr(distribution, "sample", None)):
            instance("distribution", distribution, Distribution, "a distribution")
        self.distribution, self.seed = distribution, whole("seed", seed)
        self.num_data = whole("num_data", num_data, 1)

    def __len__(self) -> int:
        return self.num_data

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        """Batches of one epoch; the last one may be smaller."""
        with forked(derived_seed(self.seed, "draws", epoch)):
            data = self.distribution.sample((self.num_data,))
        yield from data.split(batch_size)


def check_source(source: object) -> None:
    """Check that an argument called source is a source of batches.

    Raises:
        TypeError: If it is not.
    """
    if not callable(getattr(source, "batches", None)):
        raise TypeError(
            f"source must be a source of batches such as TensorSource(data), got {source!r}"
        )


def with_generator(
    batches: Iterator[Tensor], seed: int, purpose: str, epoch: int
) -> Iterator[tuple[Tensor, torch.Generator]]:
    """Batches of an epoch, each with the generator of the draws of that epoch, on their device."""
    generator: torch.Generator | None = None
    for batch in batches:
        if generator is None:
            generator = torch.Generator(batch.device)
            generator.manual_seed(derived_seed(seed, purpose, epoch))
        yield batch, generator


class Binarized:
    """Dynamic binarisation: Bernoulli draws of values in [0, 1], anew in each epoch.

    Args:
        source: Source of the values.
        seed: Seed of the draws.

    References:
        On the quantitative analysis of deep belief networks (Salakhutdinov and Murray, 2008)
    """

    def __init__(self, source: Source, seed: int = 0) -> None:
        check_source(source)
        self.source, self.seed = source, whole("seed", seed)

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        """Batches of zeros and ones."""
        batches = self.source.batches(batch_size, epoch)
        for batch, generator in with_generator(batches, self.seed, "binarized", epoch):
            yield torch.bernoulli(batch, generator=generator)
