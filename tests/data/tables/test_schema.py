"""Stored schemas: they come back, and what was edited wrongly is refused in one sentence."""

import copy
import json

import numpy as np
import polars as pl
import pytest
from tables.customers import customers

from mimachine.data.tables import read
from mimachine.data.tables.infer import infer
from mimachine.data.tables.rows import decode, encode
from mimachine.data.tables.schema import KINDS, LeftOut, Schema, overrides_from_json


def framed(data, **more):
    return read.Frame(data, "table", **more)


FRAME = framed(customers(3000).with_columns(nothing=pl.lit(None)))
SCHEMA, _ = infer(FRAME, np.arange(3000), {})
STORED = json.loads(json.dumps(SCHEMA.to_json()))
PLACES = {column.name: k for k, column in enumerate(SCHEMA.columns)}


def edited(column, **entries):
    stored = copy.deepcopy(STORED)
    stored["columns"][PLACES[column]].update(entries)
    return stored


def test_a_schema_is_read_as_it_was_written():
    assert Schema.from_json(STORED) == SCHEMA
    for left, right in zip(Schema.from_json(STORED).columns, SCHEMA.columns, strict=True):
        assert repr(left) == repr(right)  # Also whether a level is 1, 1.0 or true.


WRONG = {
    "age": {
        "kind": ["numbers", "category", None, 3],
        "type": ["Int7", "Date", "", None, "__import__('os')", "List(Int8)"],
        "origin": [None, "0", True, float("inf")],
        "step": [0, -1, None, "1", 1e308],
        "decimals": [-1, 1.5, "2", 10**6],
        "edges": [[], [1.0], [2.0, 1.0], None, [0.5, "1.5"], [-1e9, 1e9], [0.5, 0.5]],
        "scores": [[], [1.0], [0.0, 1.0], [2, 1]],
        "missing": [-0.1, 1.1, None, "0"],
        "format": ["%Y", 3],
        "name": ["city", 3, None],
        "other": [True],
        "reason": ["text"],
    },
    "signup": {"format": ["", "no date", 3], "type": ["Time", "String", "Int64"]},
    "last_seen": {"type": ["Datetime", "Datetime(time_unit='us')", "Time"]},
    "city": {
        "kind": ["number", "orderd"],
        "levels": [[], ["a"], None, "abc", [["a"]], [None], [float("inf")], ["a", "a"], [1, 2]],
        "counts": [[1], [], None, [-1] * 18, [0.5] * 18, [0] * 18],
        "other": [1, None, "true"],
        "parent": ["city", "nobody", "age", 3, "size", "region"],
        "table": [[[0, 0, 1]], [[0, 0]], None],
    },
    "region": {
        "parent": [None, "age", "currency"],
        "table": [[], [[99, 0, 1]], [[0, 9, 1]], [[0, 0, 0]], [[0, 0, 1], [0, 0, 2]], [[0, 0]]],
    },
    "newsletter": {"levels": [["a", "b"], [0, 1], [True]], "type": ["Bool"]},
    "monthly_fee": {"levels": [[1.0, 2.0, 3.0, True], ["a", "b", "c", "d"]]},
    "size": {"parent": ["city"]},
    "currency": {"value": [None, 3, True, ["EUR"]], "reason": ["boring", None, "text"]},
    "nothing": {"type": ["Nothing"], "value": [3]},
    "customer_id": {"value": [5]},
}


@pytest.mark.parametrize(
    ("name", "entry", "value"),
    [
        (name, entry, value)
        for name, entries in WRONG.items()
        for entry, values in entries.items()
        for value in values
    ],
)
def test_impossible_entries_are_refused_in_one_sentence(name, entry, value):
    with pytest.raises(ValueError, match=r"^schema cannot be read: ") as refused:
        Schema.from_json(edited(name, **{entry: value}))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_what_is_missing_is_named():
    for name, optional in {"age": ("format",), "city": ("other", "parent", "table")}.items():
        for entry in STORED["columns"][PLACES[name]]:
            stored = copy.deepcopy(STORED)
            del stored["columns"][PLACES[name]][entry]
            if entry in optional:
                Schema.from_json(stored)
            else:
                with pytest.raises(ValueError, match=r"^schema cannot be read: "):
                    Schema.from_json(stored)


@pytest.mark.parametrize("value", [{}, {"columns": 3}, {"columns": [3]}, [], None, {"columns": []}])
def test_something_else_is_refused(value):
    with pytest.raises(ValueError, match=r"^schema cannot be read: "):
        Schema.from_json(value)


def test_a_circle_of_parents_is_refused():
    stored = edited("city", parent="region", table=[[0, 0, 1]])
    with pytest.raises(ValueError, match="circle"):
        Schema.from_json(stored)


def test_a_schema_without_columns_to_model_is_refused():
    with pytest.raises(ValueError, match="not left out"):
        Schema.from_json(Schema((LeftOut("id", "identifier", "Int64"),)).to_json())


def test_edits_that_are_accepted_do_not_crash_later():
    """Random entries of one column in another, which from_json refuses or the rows endure."""
    dice = np.random.default_rng(0)
    accepted = 0
    for _ in range(250):
        stored = copy.deepcopy(STORED)
        first, second = dice.choice(len(stored["columns"]), 2)
        entries = list(stored["columns"][second])
        entry = entries[int(dice.integers(len(entries)))]
        stored["columns"][first][entry] = stored["columns"][second][entry]
        try:
            schema = Schema.from_json(stored)
        except ValueError:
            continue
        accepted += 1
        width = len(schema.modelled)
        decode(np.zeros((2, width), dtype=np.float32), schema)
        try:
            encode(FRAME, schema)
        except ValueError as refused:
            assert "must be of kind" in str(refused)  # noqa: PT017
    assert accepted > 20


def test_kinds_can_be_edited_and_given_back():
    kinds = SCHEMA.kinds()
    assert kinds["city"] == "category"
    assert kinds["customer_id"] == "identifier"
    assert set(kinds.values()) <= set(KINDS)
    given = overrides_from_json(json.loads(json.dumps(kinds)))
    again, _ = infer(FRAME, np.arange(3000), given)
    assert again == SCHEMA


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "must be an object"),
        ({"a": "nmber"}, "did you mean 'number'"),
        ({"a": 3}, "kind of column 'a' must be one of"),
        ({"a": None}, "got None"),
        ({"a": ["count"]}, "got a list"),
    ],
)
def test_wrong_kinds_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        overrides_from_json(value)
