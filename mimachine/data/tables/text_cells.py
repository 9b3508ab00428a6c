"""Cells of text tables: numbers are parsed block by block, other cells are kept as text.

polars parses each block. Beside pyarrow it is of the same size and speed; it has the vectorised
operations on text that the rules for types need, and names the cell that it cannot parse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimachine.data.files.columns import Layout
from mimachine.data.files.table import MISSING
from mimachine.data.tables.text_columns import LEADING_ZERO
from mimachine.data.tables.text_rows import Places, TextRows, blocks_of_rows

if TYPE_CHECKING:
    import polars as pl
    from polars._typing import PolarsDataType as Type

__all__ = ["Cells", "read_cells", "read_number_blocks", "read_texts"]


class Cells(NamedTuple):
    """Columns of a text file.

    Attributes:
        columns: By index; Int64 or Float64 if all cells are numbers or missing, else String. Cells
            of text are as in the file, without white space around them.
        places: Lines of the rows.
    """

    columns: dict[int, pl.Series]
    places: Places


def read_cells(
    file: Path, layout: Layout, chosen: Sequence[int], leading_zeros: bool = False
) -> Cells:
    """Read columns of a text file; a column is of numbers if all its cells are or are missing.

    Args:
        file: The file.
        layout: Its dialect and columns.
        chosen: Indices of the columns.
        leading_zeros: Whether cells with leading zeros, such as 007, are numbers.
    """
    import polars as pl

    parser = _Parser(layout, chosen, leading_zeros)
    places = Places()
    parts: list[pl.DataFrame] = []
    for block in blocks_of_rows(file, layout, len(layout.names)):
        places.add(block)
        parts.append(parser.parse(block))
    texts = {k for k in chosen if parser.types.get(k, pl.String) == pl.String}
    columns = {k: _joined(parts, k, parser.types[k]) for k in chosen if k not in parser.late}
    if late := sorted(parser.late & texts):
        columns |= read_texts(file, layout, late)
    return Cells({k: columns[k] for k in chosen}, places)


def read_texts(file: Path, layout: Layout, chosen: Sequence[int]) -> dict[int, pl.Series]:
    """Read columns as text."""
    import polars as pl

    parser = _Parser(layout, chosen, leading_zeros=False)
    parser.types = dict.fromkeys(chosen, pl.String)
    blocks = blocks_of_rows(file, layout, len(layout.names))
    parts = [parser.parse(block) for block in blocks]
    return {k: _joined(parts, k, pl.String) for k in chosen}


def read_number_blocks(
    file: Path, layout: Layout, numbers: Sequence[int], texts: Sequence[int]
) -> Iterator[tuple[NDArray[np.float64], list[pl.Series]] | None]:
    """Columns of numbers, shape (rows, D), and columns of text, block by block.

    Cells with leading zeros are numbers. None stands for a block with other cells than numbers.
    """
    import polars as pl

    is_whole = not texts and list(numbers) == list(range(len(layout.names)))
    parser = _Parser(layout, sorted({*numbers, *texts}), leading_zeros=True)
    parser.types = {k: pl.String if k in set(texts) else pl.Float64 for k in parser.chosen}
    width = 1 if is_whole else len(layout.names)
    for block in blocks_of_rows(file, layout, width):
        if is_whole:
            values = _as_one_column(block, layout)
            yield None if values is None else (values, [])
            continue
        frame = parser.parse(block)
        found = frame.select([str(k) for k in numbers])
        if not all(kind == pl.Float64 for kind in found.dtypes) or sum(found.null_count().row(0)):
            yield None
        else:
            yield found.to_numpy(), [frame[str(k)] for k in texts]


def _as_one_column(block: TextRows, layout: Layout) -> NDArray[np.float64] | None:
    """A block of numbers only, shape (rows, D), or None: its columns need not be told apart."""
    import polars as pl

    try:
        cells = pl.read_csv(
            block.text.replace(layout.delimiter.encode(), b"\n"),
            has_header=False,
            quote_char='"' if block.is_quoted else None,
            schema={"cells": pl.Float64},
            low_memory=True,
        )["cells"]
    except pl.exceptions.PolarsError:
        return None
    if cells.null_count() or len(cells) != block.count * len(layout.names):
        return None
    return cells.to_numpy().reshape(block.count, -1)


def _joined(parts: list[pl.DataFrame], place: int, kind: Type) -> pl.Series:
    import polars as pl

    name = str(place)
    if not parts:
        return pl.Series(name, [], dtype=kind)
    return pl.concat([part[name].cast(kind) for part in parts])


class _Parser:
    """Parses blocks of rows, and learns the types of the columns.

    Attributes:
        types: Type of each chosen column so far: Int64, Float64 or String.
        late: Columns that turned out to be text after some of their cells were parsed as numbers.
    """

    def __init__(self, layout: Layout, chosen: Sequence[int], leading_zeros: bool) -> None:
        self.layout, self.chosen = layout, list(chosen)
        self.types: dict[int, Type] = {}
        self.late: set[int] = set()
        self._leading_zeros = leading_zeros
        # Columns with other cells than numbers in them, which are parsed as text first.
        self._indirect: set[int] = set()
        self._names = [f"column_{k + 1}" for k in range(len(layout.names))]

    def parse(self, block: TextRows) -> pl.DataFrame:
        """The chosen columns of a block, named by their indices."""
        import polars as pl

        self._text, self._float = pl.String, pl.Float64
        if not self.types:
            frame = self._read(block, {})
            self.types = dict.fromkeys(self.chosen, pl.Int64)
            frame = self._as_numbers(frame, self.chosen)
            self.late.clear()
            return frame
        direct = {
            k: kind
            for k, kind in self.types.items()
            if kind != pl.String and k not in self._indirect
        }
        if not self._leading_zeros and _has_leading_zeros(block, self.layout.delimiter):
            direct = {}
        try:
            frame = self._read(block, direct)
        except pl.exceptions.PolarsError:
            direct = {}
            frame = self._read(block, direct)
        rest = [k for k in self.chosen if self.types[k] != pl.String and k not in direct]
        return self._as_numbers(frame, rest) if rest else _stripped(frame)

    def _read(self, block: TextRows, types: Mapping[int, Type]) -> pl.DataFrame:
        import polars as pl

        chosen = [self._names[k] for k in self.chosen]
        frame = pl.read_csv(
            block.text,
            has_header=False,
            separator=self.layout.delimiter,
            quote_char='"' if block.is_quoted else None,
            schema={name: types.get(k, pl.String) for k, name in enumerate(self._names)},
            columns=None if len(chosen) == len(self._names) else chosen,
            low_memory=True,
        )
        frame = frame.select(chosen)
        frame.columns = [str(k) for k in self.chosen]
        return frame

    def _as_numbers(self, frame: pl.DataFrame, places: Iterable[int]) -> pl.DataFrame:
        """Columns of text as numbers, where all cells are numbers or missing."""
        texts = frame.select([str(k) for k in places])
        floats, failed = _cast(texts, "Float64")
        # A column becomes slower to parse if it has white space or codes of missing values.
        self._indirect.update(map(int, failed))
        coded = _without_codes(texts.select(failed))
        more, bad = _cast(coded, "Float64")
        texts, floats = _replaced(texts, coded), _replaced(floats, more)
        if not self._leading_zeros:
            bad = list({*bad, *_with_leading_zeros(texts)})
        ints, broken = _cast(
            texts.select(
                [n for n in texts.columns if n not in set(bad) and not self._has_decimals(n)]
            ),
            "Int64",
        )
        self.types |= dict.fromkeys(map(int, broken), self._float)
        self.types |= dict.fromkeys(map(int, bad), self._text)
        self.late.update(map(int, bad))
        floats = floats.drop([*bad, *(set(ints.columns) - set(broken))])
        return _stripped(_replaced(_replaced(frame, floats), ints.drop(broken)))

    def _has_decimals(self, name: str) -> bool:
        return self.types[int(name)] == self._float


def _stripped(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns of text without white space around the cells."""
    import polars as pl

    if pl.String not in frame.dtypes:
        return frame
    return frame.with_columns(pl.col(pl.String).str.strip_chars())


def _without_codes(texts: pl.DataFrame) -> pl.DataFrame:
    """Text without white space around the cells, and null where a code says that it is missing."""
    import polars as pl

    texts = _stripped(texts)
    if not texts.width:
        return texts
    is_missing = pl.all().str.to_lowercase().is_in(list(MISSING))
    return texts.select(pl.when(is_missing).then(None).otherwise(pl.all()).name.keep())


def _replaced(frame: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """A frame with some columns from another one."""
    import polars as pl

    if not others.width:
        return frame
    new = {each.name: each for each in others}
    return pl.DataFrame([new.get(each.name, each) for each in frame])


def _with_leading_zeros(texts: pl.DataFrame) -> list[str]:
    import polars as pl

    if not texts.width:
        return []
    found = texts.select(pl.all().str.contains(LEADING_ZERO).any()).row(0)
    return [name for name, each in zip(texts.columns, found, strict=True) if each]


def _cast(texts: pl.DataFrame, kind: str) -> tuple[pl.DataFrame, list[str]]:
    """Columns in another type, and the names of those that lose cells by it."""
    import polars as pl

    if not texts.width:
        return texts, []
    found = texts.select(pl.all().cast(getattr(pl, kind), strict=False))
    before, after = texts.null_count().row(0), found.null_count().row(0)
    return found, [n for n, b, a in zip(texts.columns, before, after, strict=True) if a > b]


def _has_leading_zeros(block: TextRows, delimiter: str) -> bool:
    """Whether a cell may begin with a zero and another digit."""
    codes = np.frombuffer(block.text, np.uint8)
    if len(codes) < 2:
        return False
    is_digit = codes - np.uint8(48) < 10
    places = np.flatnonzero((codes[:-1] == 48) & is_digit[1:])
    before = _before(codes, places)
    # Not those of exponents, such as 1e-05.
    signs = np.isin(before, np.frombuffer(b"+-", np.uint8))
    before = np.concatenate([before[~signs], _before(codes, places[signs] - 1)])
    return bool(np.isin(before, np.frombuffer(f'\n" {delimiter}'.encode(), np.uint8)).any())


def _before(codes: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Characters before places; a line end before the first."""
    return np.where(places > 0, codes[places - 1], np.uint8(10))
