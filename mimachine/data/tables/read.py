"""Read tables of any columns from text files, parquet files and data frames.

=============================  ============================================================
.csv, .tsv, .txt, .gz          delimited by commas, semicolons, tabs or bars
.parquet                       one file, or a folder of files with the same columns
data frames                    of pandas, polars or arrow, through narwhals
=============================  ============================================================

Every source becomes a `polars.DataFrame`. Missing values are nulls in all columns.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimachine._support.messages import Option, OptionError, nearest, some
from mimachine._support.reading import require_regular
from mimachine.data.files.table import readable
from mimachine.data.tables.columns.texts import understood
from mimachine.data.tables.frame import Frame
from mimachine.data.tables.frames import frame_of
from mimachine.data.tables.names import chosen_columns, without_infinite
from mimachine.data.tables.parquet import parquet_blocks, parquet_types, read_parquet
from mimachine.data.tables.text_file import read_original_cells, read_text_file

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "Frame",
    "Outline",
    "outline",
    "read_as_stored",
    "read_blocks",
    "read_cells",
    "read_frame",
]

_TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_SUFFIXES = (*_TEXT, ".parquet")


@dataclass(frozen=True)
class Outline:
    """Size and types of a parquet source, from its metadata.

    Attributes:
        rows: Number of rows.
        types: polars type of each column.
    """

    rows: int
    types: Mapping[str, pl.DataType]


def read_frame(
    source: Any,
    *,
    header: bool | None = None,
    columns: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
    formats: Mapping[str, str] | None = None,
) -> Frame:
    """Read a table.

    Args:
        source: Path of a file, or of a folder of parquet files; or a data frame.
        header: Whether the first line of a text file holds column names; by default decided by
            its cells.
        columns: The columns to read, in this order; by default all. Columns without names are
            matched by order if there are as many.
        types: polars types of columns in another file, as text. Columns of text are then read as
            these types.
        formats: Formats and styles of columns in another file: its `formats` and `styles`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the source is not a table, a column is of a type that has no place in one,
            or cells are not of the given types. The message names the column and the row.
    """
    if not isinstance(source, str | os.PathLike):
        frame = _finished(_only(frame_of(source), columns), types or {})
        return understood(frame, types or {}, formats or {})
    path = _checked(Path(source).expanduser(), header)
    if _is_parquet(path):
        frame = _finished(read_parquet(path, columns), types or {})
        return understood(frame, types or {}, formats or {})
    with readable(path):
        frame = read_text_file(path, header, columns, types or {}, formats or {})
    return _finished(frame, types or {})


def read_as_stored(source: Any) -> pl.DataFrame:
    """A data frame of any library as one of polars, whose columns of text stay text.

    Raises:
        ValueError: If it is no table, see `read_frame`.
    """
    return _finished(frame_of(source), {}).data


def read_cells(
    path: str | os.PathLike[str], columns: Sequence[str], header: bool | None = None
) -> pl.DataFrame | None:
    """Cells of columns of a text file as they are written, as text; None for parquet files.

    Args:
        path: As the source of `read_frame`.
        columns: Names of the columns.
        header: As for `read_frame`.
    """
    file = _checked(Path(path).expanduser(), header)
    if _is_parquet(file):
        return None
    with readable(file):
        return read_original_cells(file, header, columns)


def read_blocks(
    source: Any,
    rows: int,
    *,
    columns: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
    formats: Mapping[str, str] | None = None,
    header: bool | None = None,
) -> Iterator[Frame]:
    """Read a table in blocks of rows, in order; parquet files may be larger than the memory.

    Without `types`, columns of text in parquet files stay text, since a block does not show what
    all of their cells are; see `understood`.

    Args:
        source: As for `read_frame`.
        rows: Number of rows of each block; the last may have fewer.
        columns: As for `read_frame`.
        types: As for `read_frame`.
        formats: As for `read_frame`.
        header: As for `read_frame`.

    Raises:
        ValueError: As `read_frame`, or if `rows` is less than 1.
    """
    if rows < 1:
        raise ValueError(f"rows must be 1 or more, got {rows}")
    if isinstance(source, str | os.PathLike):
        path = _checked(Path(source).expanduser(), header)
        if _is_parquet(path):
            for block in parquet_blocks(path, rows, columns):
                found = _finished(block, types or {})
                yield found if types is None else understood(found, types, formats or {})
            return
    whole = read_frame(source, header=header, columns=columns, types=types, formats=formats)
    for start in range(0, whole.data.height, rows):
        data = whole.data.slice(start, rows)
        texts = {name: text.slice(start, rows) for name, text in whole.texts.items()}
        yield replace(whole, data=data, texts=texts, place=partial(_later, whole.place, start))


def _later(place: Callable[[int], str], start: int, row: int) -> str:
    """The place of a row of a block that begins with row `start`."""
    return place(start + row)


def outline(path: str | os.PathLike[str]) -> Outline:
    """Size and types of a parquet file, or of a folder of them, without reading the columns.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the source is damaged, or no parquet file.
    """
    file = _checked(Path(path).expanduser(), None)
    if not _is_parquet(file):
        raise ValueError(f"{file} must be a .parquet file or a folder of them")
    rows, kinds = parquet_types(file)
    return Outline(rows, kinds)


def _is_parquet(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".parquet"


def _checked(path: Path, header: bool | None) -> Path:
    if not path.exists():
        folder = path.parent
        others = [other.name for other in folder.iterdir()] if folder.is_dir() else []
        raise FileNotFoundError(f"no file {path}{nearest(path.name, others)}")
    if not path.is_dir():
        if not path.name.lower().endswith(_SUFFIXES):
            raise ValueError(
                f"{path} must have one of the suffixes {', '.join(_SUFFIXES)}, or be a folder of "
                ".parquet files"
            )
        require_regular(path)
    if header is not None and _is_parquet(path):
        raise OptionError(Option("header", header), f" applies to text files only, got {path}")
    return path


def _only(frame: Frame, columns: Sequence[str] | None) -> Frame:
    """A frame with these columns only, in this order."""
    if columns is None:
        return frame
    places, notes = chosen_columns(frame.data.columns, frame.named, columns, frame.source)
    data = frame.data.select(frame.data.columns[k] for k in places)
    return replace(frame, data=data, notes=frame.notes + notes)


def _finished(frame: Frame, types: Mapping[str, str]) -> Frame:
    """A frame whose missing values are nulls, with whole numbers as text where that is expected."""
    import polars as pl
    import polars.selectors as cs

    data, notes = without_infinite(frame.data.with_columns(cs.float().fill_nan(None)), frame.called)
    wanted = [
        name
        for name, kind in data.schema.items()
        if kind.is_numeric() and types.get(name, "").startswith(("String", "Categorical", "Enum"))
    ]
    data = data.with_columns(pl.col(wanted).cast(pl.String))
    if not data.width:
        raise ValueError(f"{frame.source} has no columns; expected a table")
    if not data.height:
        raise ValueError(f"{frame.source} has no rows; its columns are {some(data.columns)}")
    return replace(frame, data=data, notes=frame.notes + notes)
