"""Data frames of pandas and polars whose columns are no plain ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from tables.malformed.case import Case

N = 40


class Thing:
    """A value that no table has."""


def frames() -> Iterator[Case]:
    """Data frames, of which most have the plain column "a" and a column "b" that is not."""
    for name, (values, error, words) in PANDAS.items():

        def content(values: Callable[[], Any] = values) -> pd.DataFrame:
            return pd.DataFrame({"a": range(N), "b": values()})

        yield Case(f"pandas: {name}", content, error, words, None)
    for name, (make, error) in WHOLE.items():
        yield Case(name, make, error, (), None)


def _objects(*values: Any) -> Callable[[], Any]:
    """Makes a column of objects, with the values repeated."""

    def column() -> pd.Series:
        found = np.empty(N, dtype=object)
        for k in range(N):
            found[k] = values[k % len(values)]
        # Otherwise text gets a type of its own, which not all text has.
        return pd.Series(found, dtype=object)

    return column


PANDAS: dict[str, tuple[Callable[[], Any], bool | None, tuple[str, ...]]] = {
    "lists": (_objects([1, 2], [3]), None, ("b",)),
    "dictionaries": (_objects({"c": 1}, {}), None, ("b",)),
    "sets": (_objects({1}, {2, 3}), True, ("b",)),
    "tuples": (_objects((1, 2), (3, 4)), None, ("b",)),
    "arrays": (_objects(np.zeros(3), np.ones(2)), None, ("b",)),
    "objects": (_objects(Thing()), True, ("b",)),
    "functions": (_objects(len), True, ("b",)),
    "frames within a frame": (_objects(pd.DataFrame({"c": [1]})), True, ("b",)),
    "numbers and texts": (_objects(1, "two", 3.0), None, ("b",)),
    "numbers as texts": (_objects("1", "2", "3.5"), False, ()),
    "texts and None": (_objects("x", None, "y"), False, ()),
    "texts and NaN": (_objects("x", float("nan"), "y"), False, ()),
    "flags and None": (_objects(True, False, None), False, ()),
    "flags and texts": (_objects(True, "False", None), None, ("b",)),
    "only None": (_objects(None), None, ("b",)),
    "dates and texts": (_objects(dt.date(2021, 1, 1), "2021-01-02"), None, ("b",)),
    "dates and date-times": (
        _objects(dt.date(2021, 1, 1), dt.datetime(2021, 1, 1, 3)),
        None,
        ("b",),
    ),
    "times": (_objects(dt.time(3, 4), dt.time(5, 6)), None, ("b",)),
    "decimals": (_objects(Decimal("1.50"), Decimal("2.25")), None, ("b",)),
    "decimals that are not finite": (_objects(Decimal("NaN"), Decimal("Infinity")), None, ("b",)),
    "complex numbers": (lambda: np.arange(N) * 1j, True, ("b",)),
    "whole numbers beyond 64 bits": (_objects(2**70, 2**71), None, ("b",)),
    "bytes": (_objects(b"x", b"\xff"), None, ("b",)),
    "surrogates": (_objects("\ud800", "x"), True, ("b",)),
    "infinite values": (lambda: [float("inf"), *range(N - 1)], None, ("b",)),
    "categories of several types": (lambda: pd.Categorical([1, "x"] * (N // 2)), None, ("b",)),
    "ordered categories": (
        lambda: pd.Categorical(["low", "high"] * (N // 2), ["low", "high"], ordered=True),
        False,
        (),
    ),
    "categories that do not occur": (lambda: pd.Categorical(["x"] * N, ["x", "y"]), False, ()),
    "a categorical with missing values": (
        lambda: pd.Categorical(["x", None] * (N // 2)),
        False,
        (),
    ),
    "nullable integers": (lambda: pd.array([1, None] * (N // 2), dtype="Int64"), False, ()),
    "nullable flags": (lambda: pd.array([True, None] * (N // 2), dtype="boolean"), False, ()),
    "sparse numbers": (lambda: pd.arrays.SparseArray([0.0, 1.0] * (N // 2)), None, ("b",)),
    "intervals": (lambda: pd.cut(np.arange(N), 4), None, ("b",)),
    "periods": (lambda: pd.period_range("2021-01", periods=N, freq="M"), None, ("b",)),
    "durations": (lambda: pd.to_timedelta(np.arange(N), unit="h"), False, ()),
    "time zones": (
        lambda: pd.date_range("2021-03-28", periods=N, freq="h", tz="Europe/Berlin"),
        False,
        (),
    ),
    "missing times": (
        lambda: pd.Series([pd.Timestamp("2021-01-01"), pd.NaT] * (N // 2)),
        False,
        (),
    ),
    "half precision": (lambda: np.linspace(0, 1, N, dtype=np.float16), None, ("b",)),
    "long doubles": (lambda: np.linspace(0, 1, N, dtype=np.longdouble), None, ("b",)),
}


def _repeated() -> pd.DataFrame:
    return pd.DataFrame(np.zeros((N, 3)), columns=["a", "b", "a"])


def _numbered() -> pd.DataFrame:
    return pd.DataFrame(np.arange(3.0 * N).reshape(N, 3))


def _levels() -> pd.DataFrame:
    names = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y"), ("b", "x")])
    return pd.DataFrame(np.arange(3.0 * N).reshape(N, 3), columns=names)


def _grouped() -> pd.DataFrame:
    frame = pd.DataFrame({"a": ["x", "y"] * (N // 2), "b": range(N)})
    return frame.groupby(["a", "b"]).agg(c=("b", "sum"))


WHOLE: dict[str, tuple[Callable[[], Any], bool | None]] = {
    "pandas: duplicate names": (_repeated, True),
    "pandas: numbers as names": (_numbered, None),
    "pandas: None as a name": (lambda: pd.DataFrame({None: range(N), "b": range(N)}), None),
    "pandas: names of two levels": (_levels, None),
    "pandas: an index of two levels": (_grouped, None),
    "pandas: an index with duplicates": (
        lambda: pd.DataFrame({"a": range(N)}, index=[0] * N),
        False,
    ),
    "pandas: no rows": (lambda: pd.DataFrame({"a": []}), True),
    "pandas: no columns": (lambda: pd.DataFrame(index=range(N)), True),
    "pandas: nothing": (pd.DataFrame, True),
    "pandas: a series": (lambda: pd.Series(range(N), name="a"), None),
    "polars: no rows": (lambda: pl.DataFrame({"a": []}), True),
    "polars: nothing": (pl.DataFrame, True),
    "polars: a lazy frame": (lambda: pl.DataFrame({"a": range(N)}).lazy(), None),
    "polars: lists": (lambda: pl.DataFrame({"a": [[k] for k in range(N)]}), None),
    "polars: structs": (lambda: pl.DataFrame({"a": [{"c": k} for k in range(N)]}), None),
    "polars: objects": (
        lambda: pl.DataFrame({"a": pl.Series([Thing()] * N, dtype=pl.Object)}),
        None,
    ),
    "polars: only nulls": (lambda: pl.DataFrame({"a": [None] * N}), None),
    "polars: NaN and null": (lambda: pl.DataFrame({"a": [float("nan"), None] * (N // 2)}), None),
    "polars: 128 bits": (
        lambda: pl.DataFrame({"a": pl.Series([2**100] * N, dtype=pl.Int128)}),
        None,
    ),
    "a list of dictionaries": (lambda: [{"a": k} for k in range(N)], None),
    "a dictionary of lists": (lambda: {"a": list(range(N))}, None),
    "an array of records": (lambda: np.zeros(N, dtype=[("a", "f8"), ("b", "U3")]), None),
    "None": (lambda: None, True),
    "a number": (lambda: 3, True),
}
