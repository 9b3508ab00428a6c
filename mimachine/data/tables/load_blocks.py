"""Encode a parquet table block by block, so that it may be larger than the memory."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine._support import memory
from mimachine.data.tables.columns.texts import understood
from mimachine.data.tables.infer import infer
from mimachine.data.tables.read import Frame, outline, read_blocks
from mimachine.data.tables.rows import encode
from mimachine.data.tables.schema import Schema

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Encoded", "encode_blocks", "is_large"]

# Training rows that the kinds of columns are inferred from.
_JUDGED = 200_000
_BLOCK = 1 << 16
# Bytes of a value in memory, roughly.
_BYTES = 16


def is_large(path: str | os.PathLike[str]) -> bool:
    """Whether a table is parquet, and too large to be read at once."""
    name = os.fspath(path).lower()
    if not (os.path.isdir(path) or name.endswith(".parquet")):
        return False
    found = outline(path)
    return memory.stays_on_disk(found.rows * len(found.types) * _BYTES)


class Encoded(NamedTuple):
    """A table as rows of numbers.

    Attributes:
        rows: Shape (N, D), mapped from a temporary file that goes with it.
        labels: The column of labels, or None.
        schema: The schema.
        notes: Decisions made in reading.
    """

    rows: NDArray[np.float32]
    labels: pl.Series | None
    schema: Schema
    notes: tuple[str, ...]


def encode_blocks(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    label: str | None,
    train: NDArray[np.int64],
    known: Schema | None,
    overrides: dict[str, str],
    *,
    block: int = _BLOCK,
    judged: int = _JUDGED,
) -> Encoded:
    """Encode the rows of a parquet table, of which one block at a time is in memory.

    The file is read twice: kinds of columns are inferred from random training rows first.

    Args:
        path: A parquet file, or a folder of them.
        columns: Columns of values.
        label: Column of labels, if there is one.
        train: Indices of the training rows.
        known: Schema of a run, to encode the table in the same way.
        overrides: Kinds of columns, as for `infer`.
        block: Number of rows of a block.
        judged: Most training rows that kinds are inferred from.

    Raises:
        ValueError: As `infer` and `encode`.
    """
    import polars as pl

    wanted = [*columns, *([] if label is None else [label])]
    notes: tuple[str, ...] = ()
    if known is None:
        known, notes = _inferred(path, columns, train, overrides, block, judged)
    count = outline(path).rows
    shape = (count, len(known.modelled))
    # Without a name, so that it is gone with the last reference.
    with tempfile.TemporaryFile() as stream:
        rows = np.memmap(stream, np.float32, "w+", shape=shape)
    labels, start = [], 0
    types, formats = known.types(), known.formats()
    for frame in read_blocks(path, block, columns=wanted, types=types, formats=formats):
        values, more = encode(_without(frame, label), known)
        rows[start : start + len(values)] = values
        memory.release(rows)
        if label is not None:
            labels.append(frame.texts.get(label, frame.data[label]))
        start += len(values)
        # Of each block its own numbers: the first that has any is enough.
        notes = tuple(dict.fromkeys((*notes, *frame.notes, *([] if start > block else more))))
    return Encoded(rows, pl.concat(labels) if labels else None, known, notes)


def _inferred(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    train: NDArray[np.int64],
    overrides: dict[str, str],
    block: int,
    judged: int,
) -> tuple[Schema, tuple[str, ...]]:
    """The schema by random training rows."""
    import polars as pl

    chosen = np.sort(np.random.default_rng(0).permutation(train)[:judged])
    parts: list[Any] = []
    first: Frame | None = None
    start = 0
    for frame in read_blocks(path, block, columns=columns):
        first = first or frame
        inside = chosen[(chosen >= start) & (chosen < start + frame.data.height)] - start
        parts.append(frame.data[inside])
        start += frame.data.height
    assert first is not None
    some = understood(dataclasses.replace(first, data=pl.concat(parts)), {}, {})
    schema, notes = infer(some, np.arange(some.data.height), overrides)
    if len(chosen) < len(train):
        notes = (f"kinds of columns are those of {judged:,} random training rows", *notes)
    return schema, notes


def _without(frame: Frame, label: str | None) -> Frame:
    return frame if label is None else dataclasses.replace(frame, data=frame.data.drop(label))
