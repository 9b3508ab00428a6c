"""A table of customers as companies keep them: text, dates, flags, counts, holes, anomalies.

    python benchmarks/tables/customers.py customers.csv [--rows 100000] [--seed 0]

Its 30 columns have a city that settles the region, correlated groups of numbers, counts with many
zeros, incomes in cents, a sum, a constant, an identifier and holes. One row in a hundred is an
anomaly, which the column `anomaly` says: each of its values is as usual, but they do not fit
together, as they come from several customers.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

REGIONS = {
    "north": ("Aldham", "Brora", "Carrick", "Dunmore"),
    "south": ("Easton", "Fowey", "Gosport", "Hythe", "Ilford"),
    "east": ("Jarrow", "Kelso", "Lydd"),
    "west": ("Margam", "Neath", "Oban", "Penryn", "Redcar", "Selby"),
}
PLANS = ("basic", "standard", "plus", "premium")
CHANNELS = ("web", "shop", "phone", "partner", "app")
SIZES = ("small", "medium", "large")
FEES = (9.99, 19.99, 34.99, 59.99)
HOLES = ("age", "income", "channel", "last_seen", "satisfaction", "household", "share_online")
ANOMALIES, MISSING = 0.01, 0.03


def customers(rows: int = 100_000, seed: int = 0) -> pl.DataFrame:
    """The table of customers.

    Args:
        rows: Number of rows.
        seed: Seed of the values; the same seed gives the same table.
    """
    dice = np.random.default_rng(seed)
    hidden = dice.normal(size=(rows, 4))
    columns = {
        **_places(dice, hidden),
        **_people(dice, hidden),
        **_money(dice, hidden),
        **_habits(dice, hidden),
    }
    table = pl.DataFrame(columns)
    table = _with_dates(table, dice, hidden)
    table, anomaly = _with_anomalies(table, dice)
    holes = [_with_holes(table[name], dice) for name in HOLES]
    table = table.with_columns(holes).with_columns(
        (pl.col("spent_shop") + pl.col("spent_online")).round(2).alias("spent_total"),
        pl.lit("EUR").alias("currency"),
        pl.Series("anomaly", anomaly),
    )
    identifiers = 100_000 + dice.permutation(rows)
    return table.insert_column(0, pl.Series("customer_id", identifiers))


def _chosen(
    dice: np.random.Generator, logits: NDArray[Any], names: tuple[str, ...]
) -> NDArray[np.str_]:
    """Names drawn with softmax probabilities, from logits (N, K)."""
    drawn = (logits + dice.gumbel(size=logits.shape)).argmax(axis=1)
    return np.array(names)[drawn]


def _places(dice: np.random.Generator, hidden: NDArray[Any]) -> dict[str, Any]:
    region_of = {city: region for region, cities in REGIONS.items() for city in cities}
    cities = tuple(region_of)
    weights = dice.normal(size=(4, len(cities))) * 0.5 - np.log1p(np.arange(len(cities)))
    city = _chosen(dice, hidden @ weights, cities)
    region = [region_of[name] for name in city.tolist()]
    return {"city": city, "region": region}


def _people(dice: np.random.Generator, hidden: NDArray[Any]) -> dict[str, Any]:
    rows = len(hidden)
    age = np.clip(np.rint(46 + 15 * hidden[:, 0] + 4 * dice.normal(size=rows)), 18, 99)
    plans = np.stack([-0.5 * hidden[:, 1], 0 * hidden[:, 1], hidden[:, 1], 2 * hidden[:, 1] - 1], 1)
    plan = _chosen(dice, 1.5 * plans, PLANS)
    place = np.searchsorted(np.sort(PLANS), plan)
    fee = np.array(FEES)[np.argsort(PLANS)][place]
    channel = _chosen(dice, hidden @ dice.normal(size=(4, len(CHANNELS))), CHANNELS)
    size = np.array(SIZES)[np.digitize(hidden[:, 2] + dice.normal(size=rows), (-0.5, 1))]
    return {
        "age": age.astype(np.int64),
        "household": 1 + dice.poisson(np.exp(0.2 - 0.3 * np.abs(hidden[:, 0]))),
        "plan": plan,
        "monthly_fee": fee,
        "channel": channel,
        "size": size,
    }


def _money(dice: np.random.Generator, hidden: NDArray[Any]) -> dict[str, Any]:
    rows = len(hidden)
    income = np.exp(10.3 + 0.4 * hidden[:, 1] + 0.2 * hidden[:, 0] + 0.2 * dice.normal(size=rows))
    # A third of the people give a round number.
    income = np.where(dice.random(rows) < 0.3, np.round(income, -3), np.round(income, 2))
    shop = np.exp(3 + 0.8 * hidden[:, 2] + 0.3 * dice.normal(size=rows))
    online = np.exp(3 - 0.5 * hidden[:, 0] + 0.5 * hidden[:, 1] + 0.3 * dice.normal(size=rows))
    online = np.where(dice.random(rows) < 0.25, 0, online)
    score = 620 + 60 * hidden[:, 1] - 20 * hidden[:, 3] + 30 * dice.normal(size=rows)
    return {
        "income": income,
        "spent_shop": np.round(shop, 2),
        "spent_online": np.round(online, 2),
        "credit_points": 5 * np.clip(np.rint(score / 5), 60, 170).astype(np.int64),
        "discount": np.round(np.clip(0.05 * dice.poisson(1, rows), 0, 0.3), 2),
        "balance": np.round(
            500 * hidden[:, 1] - 300 * hidden[:, 2] + 100 * dice.normal(size=rows), 2
        ),
    }


def _habits(dice: np.random.Generator, hidden: NDArray[Any]) -> dict[str, Any]:
    rows = len(hidden)
    active = hidden[:, 2] + 0.5 * dice.normal(size=rows) > -0.4
    orders = dice.negative_binomial(2, 0.15, rows) * active
    calls = dice.poisson(np.exp(0.5 * hidden[:, 3])) * (dice.random(rows) < 0.4)
    online = 1 / (1 + np.exp(hidden[:, 0] - 0.7 * dice.normal(size=rows)))
    noise = dice.normal(size=(rows, 4))
    metres = hidden[:, [3, 3, 2, 2]] * (1, 0.8, 1, 0.6) + 0.3 * noise
    return {
        "orders": orders,
        "returns": dice.binomial(orders, 0.1),
        "support_calls": calls,
        "share_online": np.round(100 * online, 1),
        "satisfaction": np.clip(np.rint(3.4 - 0.7 * hidden[:, 3] + 0.6 * noise[:, 0]), 1, 5).astype(
            np.int64
        ),
        "newsletter": dice.random(rows) < 1 / (1 + np.exp(-hidden[:, 2])),
        "mobile_app": hidden[:, 0] + dice.normal(size=rows) < 0.2,
        "churned": hidden[:, 3] + 0.7 * dice.normal(size=rows) > 1.4,
        "usage_mean": metres[:, 0],
        "usage_peak": 2 + metres[:, 1],
    }


def _with_dates(
    table: pl.DataFrame, dice: np.random.Generator, hidden: NDArray[Any]
) -> pl.DataFrame:
    rows = len(table)
    days = np.clip(np.rint(900 + 500 * hidden[:, 0] + 200 * dice.normal(size=rows)), 0, 2200)
    since = np.minimum(dice.exponential(30 * np.exp(-0.8 * hidden[:, 2])), 2200 - days + 1)
    seconds = np.rint(86_400 * (2201 - since) + 7200 * dice.normal(size=rows))
    start = pl.date(2019, 1, 1)
    return table.with_columns(
        (start + pl.duration(days=pl.Series(days.astype(np.int64)))).alias("signup"),
        (
            start.cast(pl.Datetime("us")) + pl.duration(seconds=pl.Series(seconds.astype(np.int64)))
        ).alias("last_seen"),
    )


def _with_anomalies(
    table: pl.DataFrame, dice: np.random.Generator
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Give some rows values of other customers, but keep together what settles what."""
    anomaly = dice.random(len(table)) < ANOMALIES
    together = ({"city", "region"}, {"plan", "monthly_fee"}, {"orders", "returns"})
    places = np.flatnonzero(anomaly)
    group_of: dict[str, NDArray[np.int64]] = {}
    columns = []
    for name in table.columns:
        key = next((min(group) for group in together if name in group), name)
        if key not in group_of:
            source = np.arange(len(table))
            if dice.random() < 2 / 3:
                source[places] = dice.integers(0, len(table), len(places))
            group_of[key] = source
        columns.append(table[name].gather(group_of[key]))
    return pl.DataFrame(columns), anomaly


def _with_holes(column: pl.Series, dice: np.random.Generator) -> pl.Series:
    hole = pl.Series(dice.random(len(column)) < MISSING)
    holes = pl.when(hole).then(None).otherwise(column).alias(column.name)
    return pl.select(holes).to_series()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="file to write, such as customers.csv")
    parser.add_argument("--rows", type=int, default=100_000, help="number of rows")
    parser.add_argument("--seed", type=int, default=0, help="seed of the values")
    given = parser.parse_args()
    table = customers(given.rows, given.seed)
    table.write_csv(given.file, datetime_format="%Y-%m-%d %H:%M:%S")


if __name__ == "__main__":
    main()
