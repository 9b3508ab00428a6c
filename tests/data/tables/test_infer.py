"""Schemas of whole tables, and what is said about them."""

import datetime as dt
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from tables.customers import customers

from mimachine.data.tables import read
from mimachine.data.tables.infer import infer
from mimachine.data.tables.rows import encode
from mimachine.data.tables.schema import Levels


def framed(data, **more):
    return read.Frame(data, "table", **more)


DICE = np.random.default_rng(0)


def inferred(data, rows=None, overrides=None, **frame):
    rows = np.arange(len(data)) if rows is None else rows
    return infer(framed(data, **frame), rows, overrides or {})


def test_the_customers_are_understood():
    schema, notes = inferred(customers(5000))
    assert schema.kinds() == {
        "customer_id": "identifier", "city": "category", "region": "category", "age": "whole",
        "household": "count", "plan": "category", "monthly_fee": "category",
        "channel": "category", "size": "ordered", "income": "number", "spent_shop": "number",
        "spent_online": "number", "credit_points": "whole", "discount": "number",
        "balance": "number", "orders": "count", "returns": "count", "support_calls": "count",
        "share_online": "number", "satisfaction": "ordered", "newsletter": "boolean",
        "mobile_app": "boolean", "churned": "boolean", "usage_mean": "number",
        "usage_peak": "number", "signup": "date", "last_seen": "datetime",
        "spent_total": "number", "currency": "drop", "anomaly": "boolean",
    }  # fmt: skip
    columns = {column.name: column for column in schema.columns}
    assert columns["credit_points"].step == 5
    assert columns["income"].step == 0.01
    assert columns["discount"].step == 0.05
    assert columns["orders"].origin == 0
    parents = {c.name: c.parent for c in schema.modelled if isinstance(c, Levels) and c.parent}
    assert parents == {"region": "city", "monthly_fee": "plan"}
    text = "\n".join(notes)
    assert "spent_total = spent_shop + spent_online" in text
    assert "identifiers: customer_id" in text
    assert "currency ('EUR')" in text
    assert len(notes) <= 10


def test_shares_of_missing_values_are_those_of_the_training_rows():
    data = pl.DataFrame({"x": [1.5, None, 2.5, None] * 50, "y": ["a", "b", None, "a"] * 50})
    train = np.arange(200)[np.arange(200) % 4 != 1]
    schema, _ = inferred(data, train)
    assert [column.missing for column in schema.modelled] == pytest.approx([1 / 3, 1 / 3])
    flags = np.zeros(200, dtype=bool)
    flags[train] = True
    assert inferred(data, flags)[0] == schema


def test_levels_are_those_of_the_training_rows():
    data = pl.DataFrame({"city": ["a", "b"] * 50 + ["new"] * 3, "x": DICE.normal(size=103)})
    schema, _ = inferred(data, np.arange(100))
    assert schema.modelled[0].levels == ("a", "b")
    assert np.isnan(encode(framed(data), schema)[0][100:, 0]).all()


def test_many_columns_give_few_sentences():
    data = pl.DataFrame({f"c{k}": DICE.choice(["a", "b", "c"], 100) for k in range(200)})
    _, notes = inferred(data)
    assert len(notes) == 1
    assert "and 194 more" in notes[0]
    assert len(notes[0]) < 200


def test_rows_in_the_order_of_time_are_said():
    days = [dt.date(2020, 1, 1) + dt.timedelta(days=k) for k in range(100)]
    for times in (days, days[::-1]):
        _, notes = inferred(pl.DataFrame({"day": times, "x": DICE.normal(size=100)}))
        assert any("order of day" in note for note in notes)
    shuffled = DICE.permutation(np.array(days)).tolist()
    _, notes = inferred(pl.DataFrame({"day": shuffled, "x": DICE.normal(size=100)}))
    assert not any("order of day" in note for note in notes)


def test_words_among_numbers_are_said_with_an_example():
    cells = ["40", "abt 40", *map(str, DICE.integers(20, 90, 98))]
    data = pl.DataFrame({"age": cells, "x": DICE.normal(size=100)})
    _, notes = inferred(data, mixed={"age": "'abt 40' in row 2 (line 3)"})
    assert any("1 of age, such as 'abt 40' in row 2 (line 3)" in note for note in notes)


def test_infinite_and_huge_values_are_said():
    x = np.append(DICE.normal(size=98), [np.inf, 1e300])
    schema, notes = inferred(pl.DataFrame({"x": x}))
    assert schema.modelled[0].missing == 0.01
    assert any("1 of x, first in row 99" in note for note in notes)
    assert any("1 of x, such as 1e+300 in row 100" in note for note in notes)
    rows = encode(framed(pl.DataFrame({"x": x})), schema)[0]
    assert np.isnan(rows[98, 0])
    assert rows[99, 0] == 2**24


def test_a_table_of_text_alone_is_refused_with_reasons():
    data = pl.DataFrame(
        {"name": [f"n{k}" for k in range(50)], "photo": [f"p/{k}.png" for k in range(50)]}
    )
    with pytest.raises(ValueError, match="table has no column that can be modelled") as refused:
        inferred(data)
    assert "name (identifier)" in str(refused.value)
    assert "photo (paths of images) (text)" in str(refused.value)


def test_no_training_rows_are_refused():
    with pytest.raises(ValueError, match="must have training rows"):
        inferred(pl.DataFrame({"x": [1.0, 2.0]}), np.array([], dtype=int))


def test_numbers_that_a_category_settles_are_categories_unless_the_user_says_otherwise():
    plan = DICE.integers(0, 4, 500)
    data = pl.DataFrame({"plan": [f"p{k}" for k in plan], "fee": np.array([5, 9.5, 20, 7])[plan]})
    schema, _ = inferred(data)
    assert (schema.columns[1].kind, schema.columns[1].parent) == ("category", "plan")
    assert inferred(data, overrides={"fee": "number"})[0].columns[1].kind == "number"


def test_large_tables_take_seconds():
    data = customers(100_000)
    start = time.perf_counter()
    schema, _ = inferred(data, np.arange(0, 100_000, 2))
    encode(framed(data), schema)
    assert time.perf_counter() - start < 30  # About 3 s on an idle machine.


def test_the_schema_loads_neither_polars_nor_torch():
    modules = ("schema", "infer", "rows", "columns.determined")
    names = ", ".join(f"mimachine.data.tables.{module}" for module in modules)
    code = f"import sys, {names}; sys.exit(bool({{'polars', 'torch'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_customers_are_the_same_for_the_same_seed():
    first, second = customers(500, 3), customers(500, 3)
    assert first.equals(second)
    assert not first.equals(customers(500, 4))
    assert 0.002 < customers(20_000)["anomaly"].mean() < 0.02
    assert first.width == 30
