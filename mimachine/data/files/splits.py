"""Split rows for training, validation and test, and turn labels into indices of classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine.data.files.options import DataChangedError
from mimachine.data.files.table import Table

__all__ = ["NO_TEST", "SPLITS", "HoldOut", "check_unchanged", "class_indices", "split_rows"]

SPLITS = ("train", "val", "test")
NO_TEST = "no rows are for a test; those for validation take their place"
_FEWEST = 10
_MOST_HELD_OUT = 10_000
_MOST_HELD_OUT_VALUES = 1 << 26

Places = NDArray[np.int64]


def split_rows(
    count: int, features: int, named: NDArray[np.str_] | None, source: str
) -> tuple[Places, Places, Places]:
    """Indices of the rows for training, validation and test.

    Args:
        count: Number of rows.
        features: Number of values of a row.
        named: Split of each row, shape (N,), if the data name it; splits that they lack are taken
            from the training rows.
        source: Name of the data in the message.

    Raises:
        ValueError: If there are fewer than 10 rows.
    """
    if count < _FEWEST:
        raise ValueError(
            f"{source} must have {_FEWEST} rows or more for training, validation and test "
            f"splits, got {count}"
        )
    most = max(1, min(_MOST_HELD_OUT, _MOST_HELD_OUT_VALUES // max(1, features)))
    # The draws of this generator never change between versions of numpy.
    order = np.random.RandomState(0).permutation(count)
    rest = order if named is None else order[named[order] == "train"]
    number = len(rest)
    held_out: list[Places] = []
    for name, share in (("val", 10), ("test", 5)):
        own = order[:0] if named is None else order[named[order] == name]
        if len(own):
            held_out.append(own[:most])
        else:
            size = min(number // share, most)
            held_out.append(rest[:size])
            rest = rest[size:]
    return rest, held_out[0], held_out[1]


@dataclass(frozen=True)
class HoldOut:
    """A choice of rows for validation; the others are for training, and none for a test.

    Attributes:
        share: Share of the rows for validation, in [0, 1); at least one row, or with 0 none.
        seed: Seed of the choice.
    """

    share: float
    seed: int

    def split(self, count: int) -> tuple[Places, Places, Places]:
        """Indices of the rows for training, validation and test, in ascending order.

        The rows for the test are those for validation, and without these the first row is named
        for both.

        Args:
            count: Number of rows, at least 2.
        """
        order = np.random.default_rng(self.seed).permutation(count)
        if not self.share:
            return np.arange(count), np.arange(1), np.arange(1)
        size = max(1, min(round(self.share * count), _MOST_HELD_OUT, count - 1))
        held_out = np.sort(order[:size])
        return np.sort(order[size:]), held_out, held_out


def class_indices(table: Table) -> tuple[Tensor | None, tuple[str, ...] | None]:
    """Labels (N,) as indices of classes, and the names of the classes."""
    if table.labels is None:
        return None, None
    names, places = np.unique(table.labels, return_inverse=True)
    if len(names) > max(20, len(places) // 2):
        raise ValueError(
            f"labels of {table.source} must be classes, got {len(names)} different labels in "
            f"{len(places)} rows"
        )
    return torch.from_numpy(places.reshape(-1)), tuple(str(name) for name in names)


def check_unchanged(mark: str, stored: str, source: str) -> None:
    """Check the fingerprint of the data of a run.

    Raises:
        DataChangedError: If the data have changed.
    """
    if mark != stored:
        raise DataChangedError(
            f"{source} has changed since the run began, so its splits would differ. "
            "Restore the old file, or train a new run"
        )
