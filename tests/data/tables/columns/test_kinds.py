"""Kinds of columns by their type, values and names."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from mimachine.data.tables.columns.kinds import guess
from mimachine.data.tables.columns.words import appearance, ordered

DICE = np.random.default_rng(0)
N = 300


def texts(pattern, number, rows=N):
    return [pattern.format(k) for k in DICE.integers(0, number, rows)]


def holed(values):
    return [None if k % 10 == 0 else value for k, value in enumerate(values)]


COLUMNS = {
    "number": [
        ("income", np.round(DICE.normal(size=N), 2)),
        ("x", np.append(DICE.normal(size=N - 1), 1e300)),
        ("temperature", pl.Series(np.round(DICE.normal(size=N), 2)).cast(pl.Decimal(10, 2))),
    ],
    "whole": [
        ("year", DICE.integers(1950, 2020, N)),
        ("age", DICE.integers(18, 99, N)),
        ("change", DICE.integers(-5, 6, N)),
        ("score", DICE.integers(300, 850, N)),
        ("pixels", DICE.integers(18, 99, N).astype(float)),
    ],
    "count": [
        ("orders", DICE.poisson(2, N)),
        ("visits", DICE.poisson(2, N) + 1),
        ("children", holed(DICE.poisson(1, N).tolist())),
        ("clicks", DICE.poisson(4, N).astype(float)),
        ("bedrooms", DICE.integers(1, 6, N)),
        # Whole numbers that count are no category by their values alone.
        ("doors", DICE.choice([0, 1, 2], N)),
    ],
    "category": [
        ("city", texts("city {}", 20)),
        ("city", pl.Series(texts("city {}", 20), dtype=pl.Categorical)),
        ("sex", DICE.choice(["f", "m"], N)),
        ("marital", DICE.choice(["S", "M", "D"], N)),
        ("branch_code", DICE.choice([101, 205, 317, 990], N)),
        ("is_open", DICE.integers(0, 2, N)),
        ("month", DICE.choice(["Jan", "Feb", "Mar"], N)),
        ("promo", holed(["yes"] * N)),
        ("coded", DICE.choice([-0.5, 1.5], N)),
    ],
    "ordered": [
        ("size", DICE.choice(["S", "M", "L", "XL"], N)),
        ("risk", DICE.choice(["low", "medium", "high"], N)),
        ("band", DICE.choice(["18-24", "25-34", "35-44", "45+"], N)),
        ("rating", DICE.integers(1, 6, N)),
        ("level", pl.Series(DICE.choice(["a", "b"], N), dtype=pl.Enum(["b", "a", "c"]))),
    ],
    "boolean": [("flag", DICE.random(N) < 0.3)],
    "date": [("day", [dt.date(2020, 1, 1) + dt.timedelta(days=k) for k in range(N)])],
    "datetime": [("at", [dt.datetime(2020, 1, 1) + dt.timedelta(hours=k) for k in range(N)])],
    "time": [("when", [dt.time(k % 24, k % 60) for k in range(N)])],
    "duration": [("took", [dt.timedelta(seconds=k) for k in range(N)])],
    "identifier": [
        ("customer_id", DICE.permutation(N) + 10_000),
        ("PassengerId", np.arange(N)),
        ("customerID", texts("{}-QX", 10**9)),
        ("code", [f"A{k:05}" for k in range(N)]),
        ("", np.arange(N)),
    ],
    "text": [
        ("comment", [f"I liked it {k} times, or so" for k in range(N)]),
        ("photo", [f"img/{k}.jpg" for k in range(N)]),
        ("cell", [f'{{"a": {k}}}' for k in range(N)]),
        ("surname", texts("name {}", 250)),
    ],
    "constant": [("currency", ["EUR"] * N), ("one", np.ones(N)), ("yes", [True] * N)],
    "empty": [("nothing", pl.Series([None] * N)), ("none", pl.Series([None] * N, dtype=pl.Int8))],
    "unsupported": [("list", [[1, 2]] * N)],
}


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [(kind, name, values) for kind, pairs in COLUMNS.items() for name, values in pairs],
)
def test_the_kind_of_a_column(kind, name, values):
    assert guess(pl.Series(name, values)).kind == kind


def test_text_that_is_nearly_all_numbers_is_numbers():
    column = pl.Series("age", ["40", "abt 40", "17", *map(str, range(20, 90))])
    assert guess(column, is_mixed=True).kind == "whole"


def test_rare_levels_are_pooled_if_frequent_ones_cover_most_rows():
    frequent = texts("city {}", 50, 5000)
    found = guess(pl.Series("city", frequent + [f"village {k}" for k in range(500)]))
    assert (found.kind, found.pooled) == ("category", True)
    rare = guess(pl.Series("city", frequent[:300] + [f"village {k}" for k in range(500)]))
    assert rare.kind == "text"


def test_a_column_named_identifier_that_repeats_is_none():
    assert guess(pl.Series("customer_id", DICE.integers(0, 50, N))).kind == "count"


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (["High", "low", "Medium"], ["low", "Medium", "High"]),
        (["XL", "S", "M", "L", "XXL"], ["S", "M", "L", "XL", "XXL"]),
        (["often", "never", "always", "sometimes"], ["never", "sometimes", "often", "always"]),
        (["65+", "18-24", "<18", "25-64"], ["<18", "18-24", "25-64", "65+"]),
        (["strongly_agree", "agree", "neutral"], ["neutral", "agree", "strongly_agree"]),
        (["low", "medium", "odd"], None),
        (["low", "Low", "high"], None),
        (["1-a", "2-b", "3-c"], None),
        (["red", "green", "blue"], None),
        (["10-20", "10-30", "40-50"], None),
    ],
)
def test_orders_of_words(levels, expected):
    assert ordered(levels) == expected
    assert ordered(levels[::-1]) == expected


def test_what_cells_look_like():
    assert appearance(["a/b.png", "c.JPG"]) == "paths of images"
    assert appearance(["https://a.b/c", "http://d"]) == "web addresses"
    assert appearance(['{"a": 1}', "[2]"]) == "JSON"
    assert appearance(["a@b.de", "c.d@e.org"]) == "e-mail addresses"
    assert appearance(["red", "green"]) is None
