"""Data frames of pandas, polars, arrow and others as frames of polars.

pandas' frames are converted here, column by column: polars needs pyarrow for that.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from mimachine._support.messages import Option, OptionError, some
from mimachine.data.files.columns import check_unique
from mimachine.data.tables.frame import Frame
from mimachine.data.tables.names import check_types

if TYPE_CHECKING:
    import polars as pl

__all__ = ["frame_of", "frame_of_objects"]

_SOURCE = "the data frame"


def frame_of(source: Any) -> Frame:
    """A data frame of any library as a frame.

    Raises:
        ValueError: If it is no data frame, has columns with several levels of names or with the
            same name twice, or a column of objects of several types.
    """
    import narwhals as nw
    import narwhals.dependencies as known
    import polars as pl

    notes: tuple[str, ...] = ()
    if known.is_pandas_dataframe(source):
        data, notes = _of_pandas(source)
    elif isinstance(source, pl.LazyFrame):
        data = source.collect()
    elif isinstance(source, pl.DataFrame):
        data = source
    elif known.is_pyarrow_table(source):
        check_unique(source.column_names, _SOURCE)
        data = pl.DataFrame(pl.from_arrow(source))
    else:
        try:
            frame = nw.from_native(source)
        except TypeError as error:
            kind = type(source).__name__
            raise ValueError(
                "a table must be the path of a file or folder, or a data frame of pandas, polars "
                f"or arrow, got {'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
            ) from error
        data = (frame.collect() if isinstance(frame, nw.LazyFrame) else frame).to_polars()
    check_types(dict(data.schema), _SOURCE)
    return Frame(data, _SOURCE, notes=notes)


def frame_of_objects(values: Any, names: Sequence[str]) -> pl.DataFrame:
    """An array of Python objects (N, D) as a frame of polars, whose missing values are nulls.

    Raises:
        ValueError: If a column has objects of several types.
    """
    import polars as pl

    columns = []
    for name, column in zip(names, values.T, strict=True):
        # A missing value is None, or differs from itself, as NaN and NaT do.
        missing = np.array([value is None or value != value for value in column], dtype=bool)
        columns.append(_objects(name, column, missing))
    return pl.DataFrame(columns)


def _of_pandas(source: Any) -> tuple[pl.DataFrame, tuple[str, ...]]:
    import polars as pl

    if source.columns.nlevels > 1:
        raise ValueError(
            f"{_SOURCE} must have one name for each column, got {source.columns.nlevels} levels of "
            "names; join them, such as by frame.columns.map('_'.join)"
        )
    names = [str(name) for name in source.columns]
    check_unique(names, _SOURCE)
    notes: tuple[str, ...] = ()
    index = source.index
    counts = range(len(index))
    if index.nlevels > 1 or not np.array_equal(np.asarray(index), np.asarray(counts)):
        notes = ("the index of the data frame is not used; reset_index() makes it a column",)
    columns = [_column(name, source.iloc[:, k]) for k, name in enumerate(names)]
    return pl.DataFrame(columns), notes


def _column(name: str, column: Any) -> pl.Series:
    """A column of pandas."""
    import polars as pl

    kind = column.dtype
    missing = np.asarray(column.isna(), dtype=bool)
    if hasattr(column, "cat"):
        return _categories(name, column)
    if str(kind).startswith("Sparse"):
        return _column(name, column.sparse.to_dense())
    letter = getattr(kind, "kind", "O")
    if letter in "mM" and "pyarrow" not in str(kind):
        return _times(name, column)
    if letter in "biuf":
        if missing.any() and letter != "f":
            values = column.to_numpy(dtype=object, na_value=None)
            whole = {"b": pl.Boolean, "i": pl.Int64, "u": pl.UInt64}[letter]
            return pl.Series(name, values.tolist(), dtype=whole)
        if isinstance(kind, np.dtype):
            values = column.to_numpy()
            narrow = np.dtype(np.float32 if kind.itemsize < 4 else np.float64)
            is_odd = letter == "f" and kind.itemsize not in (4, 8)
            values = values.astype(narrow if is_odd else kind.newbyteorder("="))
            return pl.Series(name, np.ascontiguousarray(values))
        dtype = np.dtype(f"{letter}{kind.itemsize}") if letter != "b" else np.dtype(bool)
        filled = (
            column.to_numpy(dtype=dtype, na_value=np.nan)
            if letter == "f"
            else (column.to_numpy(dtype=dtype))
        )
        return pl.Series(name, filled)
    return _objects(name, column, missing)


def _categories(name: str, column: Any) -> pl.Series:
    import polars as pl

    categories = [str(each) for each in column.cat.categories]
    _check_text(name, categories)
    codes = pl.Series(column.cat.codes.to_numpy().astype(np.int64))
    codes = codes.set(codes < 0, None)
    texts = pl.Series(name, categories, dtype=pl.String).gather(codes)
    if column.cat.ordered and len(set(categories)) == len(categories):
        return texts.cast(pl.Enum(categories))
    return texts.cast(pl.Categorical)


def _times(name: str, column: Any) -> pl.Series:
    """Date-times, which may have a time zone, or durations."""
    import polars as pl

    zone = getattr(column.dtype, "tz", None)
    if zone is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    values = column.to_numpy()
    unit = np.datetime_data(values.dtype)[0]
    if unit not in ("ns", "us", "ms"):
        values = values.astype(f"{values.dtype.kind}8[us]")
    series = pl.Series(name, values)
    if zone is None:
        return series
    return series.dt.replace_time_zone("UTC").dt.convert_time_zone(_zone(zone))


def _zone(zone: Any) -> str:
    """Name of a time zone; one without a name becomes UTC."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(str(zone))
    except (ValueError, OSError, KeyError):
        return "UTC"
    return str(zone)


_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((str,), "String"),
    ((bool, np.bool_), "Boolean"),
    ((int, np.integer), "Int64"),
    ((int, float, np.integer, np.floating), "Float64"),
    ((Decimal,), "Decimal"),
    ((datetime.datetime,), "Datetime"),
    ((datetime.date,), "Date"),
    ((datetime.time,), "Time"),
    ((datetime.timedelta, np.timedelta64), "Duration"),
)


def _objects(name: str, column: Any, missing: Any) -> pl.Series:
    """A column of Python objects of one type, or missing."""
    import polars as pl

    values = [None if gone else value for value, gone in zip(column, missing, strict=True)]
    counts = Counter(type(value) for value in values if value is not None)
    if not counts:
        return pl.Series(name, values, dtype=pl.Null)
    for kinds, dtype in _KINDS:
        # Booleans are integers for Python.
        if all(issubclass(kind, kinds) and (kind is not bool or bool in kinds) for kind in counts):
            return _series(name, values, dtype)
    found = some(f"{kind.__name__} ({count:,})" for kind, count in counts.most_common())
    row = next(k for k, v in enumerate(values) if type(v) is counts.most_common()[-1][0])
    raise OptionError(
        f"column {name!r} of {_SOURCE} must hold values of one type, such as text, numbers or "
        f"dates; got {found}, such as {str(values[row])[:40]!r} in row {row + 1}. Convert it, such "
        "as with .astype(str), or leave it out with ",
        Option("drop", [name]),
    )


def _series(name: str, values: list[Any], dtype: str) -> pl.Series:
    import polars as pl

    if dtype == "Date" and any(isinstance(v, datetime.datetime) for v in values):
        values = [None if v is None else _at_midnight(v) for v in values]
        dtype = "Datetime"
    if dtype == "Datetime" and any(v is not None and v.tzinfo is not None for v in values):
        values = [None if v is None else _in_utc(v) for v in values]
        return pl.Series(name, values, dtype=pl.Datetime("us", "UTC"))
    if dtype == "Int64" and any(v is not None and not -(2**63) <= v < 2**63 for v in values):
        return pl.Series(name, [None if v is None else str(v) for v in values])
    if dtype == "Decimal":
        if all(v is None or v.is_finite() for v in values):
            return pl.Series(name, values)
        # Decimals of polars are finite.
        values, dtype = [None if v is None else float(v) for v in values], "Float64"
    if dtype == "String":
        _check_text(name, values)
    return pl.Series(name, values, dtype=getattr(pl, dtype))


def _check_text(name: str, values: list[Any]) -> None:
    """Check that text has no halves of characters, which UTF-8 cannot have."""
    for row, value in enumerate(values):
        if value is not None and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"column {name!r} of {_SOURCE} must hold text that UTF-8 can have, got "
                    f"{value[:40]!r} in row {row + 1}"
                ) from error


def _at_midnight(value: datetime.date) -> datetime.datetime:
    """A date as a date-time; a date-time as it is."""
    if isinstance(value, datetime.datetime):
        return value
    return datetime.datetime.combine(value, datetime.time())


def _in_utc(value: datetime.datetime) -> datetime.datetime:
    """A date-time in UTC; one without a time zone is taken to be in UTC."""
    if value.tzinfo is None:
        return value.replace(tzinfo=datetime.UTC)
    return value.astimezone(datetime.UTC)
