"""Columns of text in data frames and parquet files: dates, times and numbers, as in text files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mimachine._support.messages import some
from mimachine.data.tables.columns import words
from mimachine.data.tables.columns.typed import TypedColumns
from mimachine.data.tables.frame import Frame
from mimachine.data.tables.text_columns import Readings, custom_of, readings_of

if TYPE_CHECKING:
    import polars as pl

__all__ = ["understood"]

# As files without semicolons have it.
_DELIMITER = ","


def understood(frame: Frame, types: Mapping[str, str], formats: Mapping[str, str]) -> Frame:
    """A frame whose columns of text have the types that they would have in a text file.

    Text of two levels such as yes and no stays text, as do numbers that are all the same, and those
    of columns named as codes or identifiers: there the type says that they are not to be counted.

    Args:
        frame: A data frame or the content of a parquet file.
        types: polars types of columns in another file, as text. If there are any, other columns
            stay as they are.
        formats: Formats of columns in another file.

    Raises:
        ValueError: If cells are not of the given types. The message names the column and the row.
    """
    import polars as pl

    data = frame.data
    names = [name for name in data.columns if name in types] if types else data.columns
    texts = {name: data[name] for name in names if data.schema[name] == pl.String}
    if not texts:
        return frame
    found = {name: _readings(column, name in types) for name, column in texts.items()}
    custom = custom_of(found.values(), _DELIMITER)
    typed = TypedColumns(replace(frame, data=pl.DataFrame()), types, formats)
    for name, readings in found.items():
        typed.add(name, readings, custom)
    read = typed.frame(())
    columns = {name: read.data[name] for name in texts}
    whole = {name: _with_holes(text, columns[name]) for name, text in texts.items()}
    stay = [name for name, column in columns.items() if column.dtype in (pl.String, pl.Null)]
    columns |= {name: whole[name] for name in stay if name not in read.mixed}
    notes = read.notes
    if numbers := [repr(name) for name, column in columns.items() if column.dtype.is_numeric()]:
        notes = (*notes, f"columns of text that are read as numbers: {some(numbers)}")
    return replace(
        read,
        data=data.with_columns(column.alias(name) for name, column in columns.items()),
        texts={name: text for name, text in whole.items() if name not in stay},
        notes=(*frame.notes, *notes),
    )


def _readings(text: pl.Series, is_known: bool) -> Readings:
    """What a column may be; its type in another file, if known, decides what it is."""
    found = readings_of(text.str.strip_chars())
    if is_known:
        return found
    is_text = found.kind == "boolean"
    if found.kind == "number":
        named = words.names_code(text.name) or words.names_identifier(text.name)
        is_text = named or found.marked.drop_nulls().n_unique() == 1
    return Readings(found.cells, found.marked, "text") if is_text else found


def _with_holes(text: pl.Series, column: pl.Series) -> pl.Series:
    """Text as it was, null where the column that was read from it is."""
    import polars as pl

    if column.null_count() == text.null_count():
        return text
    return text.zip_with(column.is_not_null(), pl.Series([None], dtype=pl.String))
