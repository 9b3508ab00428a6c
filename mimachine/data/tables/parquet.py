"""Read parquet files, and folders of parquet files with the same columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mimachine._support import memory
from mimachine._support.messages import some
from mimachine._support.reading import require_regular
from mimachine.data.tables.frame import Frame
from mimachine.data.tables.names import check_types, chosen_columns

if TYPE_CHECKING:
    import polars as pl

__all__ = ["is_index", "parquet_blocks", "parquet_types", "read_parquet", "read_parquet_columns"]

# Bytes of a cell in memory, of types whose size is not in their name.
_SIZES = {"Boolean": 1, "Date": 4, "String": 24, "Decimal": 16, "Null": 1, "Categorical": 4}
_INDEX = re.compile(r"__index_level_\d+__")


def read_parquet(path: Path, columns: Sequence[str] | None) -> Frame:
    """Read the columns of a parquet file or folder."""
    lazy, rows, frame = _opened(path, columns)
    sizes = [_size(kind) for kind in frame.data.schema.values()]
    memory.check_fits(f"{path.name} as a table", (rows, sum(sizes)), 1, "read it in blocks of rows")
    with _readable(path):
        return _with(frame, lazy.collect())


def parquet_blocks(path: Path, rows: int, columns: Sequence[str] | None) -> Iterator[Frame]:
    """Read the columns in blocks of rows."""
    lazy, count, frame = _opened(path, columns)
    for start in range(0, count, rows):
        with _readable(path):
            yield _with(frame, lazy.slice(start, rows).collect(), start)


def read_parquet_columns(path: Path, names: Sequence[str]) -> pl.DataFrame:
    """Some columns of a parquet file or folder, as stored."""
    with _readable(path):
        return _scan(_files(path)).select(names).collect()


def is_index(name: str) -> bool:
    """Whether a column has the name that pandas gives to an index without a name."""
    return _INDEX.fullmatch(name) is not None


def parquet_types(path: Path) -> tuple[int, dict[str, pl.DataType]]:
    """Number of rows and types of the columns, from the metadata."""
    import polars as pl

    files = _files(path)
    with _readable(path):
        lazy = _scan(files)
        schema = dict(lazy.collect_schema())
        return int(lazy.select(pl.len()).collect().item()), schema


def _opened(path: Path, columns: Sequence[str] | None) -> tuple[pl.LazyFrame, int, Frame]:
    """The columns to read, the number of rows, and an empty frame of these columns."""
    import polars as pl

    rows, types = parquet_types(path)
    names = [name for name in types if not is_index(name)]
    notes: tuple[str, ...] = ()
    if columns is not None:
        _, notes = chosen_columns(names, True, columns, path.name)
        names = list(columns)
    elif counters := [name for name in types if is_index(name)]:
        notes = (f"{some(f'column {each!r}' for each in counters)} only counts the rows; not used",)
    check_types({name: types[name] for name in names}, path.name)
    if not rows:
        raise ValueError(f"{path.name} has no rows")
    data = pl.DataFrame(schema={name: types[name] for name in names})
    return _scan(_files(path)).select(names), rows, Frame(data, path.name, notes=notes)


def _with(frame: Frame, data: pl.DataFrame, start: int = 0) -> Frame:
    return replace(frame, data=data, place=lambda row: f"row {start + row + 1}")


def _scan(files: list[Path]) -> pl.LazyFrame:
    import polars as pl

    try:
        [str(file).encode() for file in files]
    except UnicodeEncodeError:
        # polars needs names in UTF-8.
        return pl.concat([pl.read_parquet(file.read_bytes()) for file in files]).lazy()
    return pl.scan_parquet(files, glob=False, hive_partitioning=False)


def _files(path: Path) -> list[Path]:
    """The parquet files of a path in order, after checks that their columns are the same."""
    if not path.is_dir():
        return [path]
    files = sorted(each for each in path.rglob("*") if each.suffix.lower() == ".parquet")
    if not files:
        raise ValueError(f"{path} must be a folder of .parquet files, got none")
    first: dict[str, pl.DataType] | None = None
    for file in files:
        require_regular(file)
        with _readable(file):
            schema = dict(_scan([file]).collect_schema())
        first = first or schema
        if different := _different(first, schema):
            raise ValueError(
                f"{path} must have files of the same columns; {file.name} {different} "
                f"{files[0].name}"
            )
    return files


def _different(first: dict[str, pl.DataType], other: dict[str, pl.DataType]) -> str:
    """How the columns of a file differ from those of the first one; or ""."""
    if lacking := [name for name in first if name not in other]:
        return f"lacks {some(f'column {name!r}' for name in lacking)} of"
    if more := [name for name in other if name not in first]:
        return f"has {some(f'column {name!r}' for name in more)}, unlike"
    for name, kind in first.items():
        if other[name] != kind:
            return f"has column {name!r} of type {other[name]}, not {kind} as in"
    return "" if list(first) == list(other) else "has its columns in another order than"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Report a damaged file by its name."""
    import polars as pl

    try:
        yield
    except pl.exceptions.DuplicateError as error:
        raise ValueError(
            f"{path.name} has several columns of the same name: {error}; rename them"
        ) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no content"
        raise ValueError(f"{path.name} is damaged or not a parquet file: {reason}") from error


def _size(kind: pl.DataType) -> int:
    name = kind.base_type().__name__
    digits = "".join(character for character in name if character.isdigit())
    return int(digits) // 8 if digits else _SIZES.get(name, 8)
