"""Rows of a memory-mapped file, converted to tensors batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support import memory

__all__ = ["Ready", "Rows"]

# Mapped pages are released after this many bytes were read. A random row costs more than its size:
# systems map its surroundings too, 64 KiB, or new versions of Linux up to some MiB.
_HELD_BYTES = 64 << 20
_LEAST_BYTES_A_ROW = 1 << 20


class Preparing(Protocol):
    """What maps values of a file to rows: `Preprocessing`, or `Ready`."""

    @property
    def num_features(self) -> int:
        """Number D of values in a row."""
        ...

    def apply(self, values: NDArray[Any], /) -> NDArray[np.float32]:
        """Map values (n, *S) to rows (n, D)."""
        ...


@dataclass(frozen=True)
class Ready:
    """Values that are rows already.

    Attributes:
        num_features: Number D of values in a row.
    """

    num_features: int

    def apply(self, values: NDArray[Any], /) -> NDArray[np.float32]:
        """The values (n, D) themselves."""
        return np.asarray(values, dtype=np.float32)


class Rows:
    """Preprocessed rows of an array, with the interface of a tensor but not held in memory.

    It supports what a tensor of shape (N, D) is used for: `len`, `shape`, `dtype`, indexing and
    slicing of the first axis, `split` and `to`.

    Args:
        values: Values of the file, shape (M, *S), usually memory-mapped.
        places: Indices of the rows, in order, shape (N,).
        preprocessing: Map from values to rows.
        device: Device of the tensors.
        dtype: Type of the tensors.
    """

    def __init__(
        self,
        values: NDArray[Any],
        places: NDArray[np.int64],
        preprocessing: Preparing,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.values, self.places, self.preprocessing = values, places, preprocessing
        self.device, self.dtype = torch.device(device), dtype
        self._read = 0

    @property
    def shape(self) -> torch.Size:
        """Shape (N, D) of all rows as a tensor."""
        return torch.Size((len(self.places), self.preprocessing.num_features))

    @property
    def num_bytes(self) -> int:
        """Size of all rows as a tensor, in bytes."""
        return self.shape.numel() * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: slice | Tensor | NDArray[Any]) -> Tensor:
        """Rows as a tensor (n, D)."""
        if isinstance(index, Tensor):
            index = index.cpu().numpy()
        places = self.places[index]
        size = 1 + _HELD_BYTES // _LEAST_BYTES_A_ROW
        blocks = [self._rows(places[i : i + size]) for i in range(0, len(places), size)]
        rows = blocks[0] if len(blocks) == 1 else np.concatenate([self._rows(places[:0]), *blocks])
        return torch.from_numpy(rows).to(self.device, self.dtype)

    def _rows(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        block = np.asarray(self.values[places])
        self._read += max(block.nbytes, len(block) * _LEAST_BYTES_A_ROW)
        if self._read > _HELD_BYTES:
            memory.release(self.values)
            self._read = 0
        return self.preprocessing.apply(block)

    def split(self, size: int) -> Iterator[Tensor]:
        """Blocks of at most `size` rows, in order."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def tensor(self) -> Tensor:
        """All rows as one tensor (N, D)."""
        return torch.cat(list(self.split(1000)))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Rows:
        """The same rows, with tensors on another device, or of another floating-point type."""
        dtype = self.dtype if dtype is None else dtype
        return Rows(self.values, self.places, self.preprocessing, device, dtype)
