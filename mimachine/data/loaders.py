"""Data sources of torch datasets and data loaders.

An epoch can be repeated exactly if it depends on its number alone. A data loader draws its order
from a generator, which is therefore seeded anew in each epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import examples
from mimachine.data.torch_data import first_of

__all__ = ["LoaderSource"]


class LoaderSource:
    """Batches of a data loader, or of a map-style or iterable dataset.

    The examples are tensors or arrays of shape X. An example may be a tuple or a list, such as an
    image with its class, of which the first is taken. A loader has its own batch size, order and
    workers. A dataset is read row by row in this process: a map-style one in a random order, an
    iterable one in its own.

    Args:
        name: Name of the argument that the data are, for messages.
        data: The loader or the dataset, which can be read again in each epoch.
        like: A tensor with the dtype of the model.
        seed: Seed of the order.
        shuffle: Whether to shuffle a map-style dataset.
        reader: The part of the model that takes missing values, see `reader_of_missing`.
    """

    def __init__(
        self,
        name: str,
        data: Any,
        like: Tensor,
        seed: int,
        shuffle: bool,
        reader: nn.Module | None = None,
    ) -> None:
        self.name, self.data, self.like, self.reader = name, data, like, reader
        self.seed, self.shuffle = seed, shuffle

    def __len__(self) -> int:
        data = self.data
        if isinstance(data, DataLoader):
            data = data.dataset
        return len(data)

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        """Batches of one epoch.

        Raises:
            ValueError: If a batch is not of numbers.
        """
        loader = self._loader(batch_size, epoch)
        given = loader.generator if isinstance(self.data, DataLoader) else None
        before = None if given is None else given.get_state()
        sampler: Any = getattr(loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        seed = derived_seed(self.seed, "order", epoch)
        try:
            # The order is drawn before the first batch; all processes need the same.
            with forked(seed):
                if given is not None:
                    given.manual_seed(seed)
                iterator = iter(loader)
                first = next(iterator, None)
            if first is not None:
                yield self._tensor(first)
            for batch in iterator:
                yield self._tensor(batch)
        finally:
            if given is not None:
                given.set_state(before)

    def _loader(self, batch_size: int, epoch: int) -> DataLoader[Any]:
        if isinstance(self.data, DataLoader):
            return self.data
        if isinstance(self.data, IterableDataset):
            return DataLoader(self.data, batch_size)
        order: Sequence[int] = range(len(self))
        if self.shuffle:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch))
            order = torch.randperm(len(self), generator=generator).tolist()
        return DataLoader(self.data, batch_size, sampler=order)

    def _tensor(self, batch: Any) -> Tensor:
        first = first_of(self.name, batch)
        rows = examples(self.name, first, self.like, keep_bytes=True, reader=self.reader)
        assert isinstance(rows, Tensor)
        return rows
