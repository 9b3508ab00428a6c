"""Kinds that a user gives: taken where they can be, refused with the value otherwise."""

import datetime as dt

import numpy as np
import polars as pl
import pytest

from mimachine.data.tables import read
from mimachine.data.tables.infer import infer
from mimachine.data.tables.rows import decode, encode
from mimachine.data.tables.schema import LeftOut


def framed(data, **more):
    return read.Frame(data, "table", **more)


DICE = np.random.default_rng(0)
DATA = pl.DataFrame(
    {
        "plz": DICE.integers(10_000, 10_030, 300),
        "x": np.round(DICE.normal(size=300), 2),
        "word": DICE.choice(["low", "high", "middle"], 300),
        "colour": DICE.choice(["red", "blue"], 300),
        "day": [dt.date(2020, 1, 1) + dt.timedelta(days=k % 50) for k in range(300)],
        "at": [dt.datetime(2020, 1, 1) + dt.timedelta(hours=k % 70) for k in range(300)],
        "written": [f"{1 + k % 28:02}.{1 + k % 12:02}.2021" for k in range(300)],
        "digits": [str(k % 9) for k in range(300)],
        "flag": DICE.random(300) < 0.3,
        "one": [7] * 300,
        "name": [f"n{k}" for k in range(300)],
        "pieces": DICE.choice(["x", "y", "z", "other"], 300).tolist(),
        "holes": [None if k % 5 else k for k in range(300)],
    }
)


def column(name, kind, data=DATA):
    schema, _ = infer(framed(data), np.arange(len(data)), {name: kind})
    found = next(each for each in schema.columns if each.name == name)
    rows, _ = encode(framed(data), schema)
    back = decode(rows, schema)
    if not isinstance(found, LeftOut):
        assert back[name].null_count() == data[name].null_count()
    return found, back


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("plz", "category"), ("plz", "number"), ("plz", "whole"), ("plz", "count"),
        ("plz", "ordered"), ("x", "number"), ("word", "category"),
        ("word", "ordered"), ("colour", "boolean"), ("day", "date"), ("day", "datetime"),
        ("at", "date"), ("at", "datetime"), ("written", "date"), ("written", "category"),
        ("digits", "whole"), ("digits", "ordered"), ("digits", "category"), ("flag", "category"),
        ("flag", "whole"), ("flag", "boolean"), ("flag", "ordered"), ("pieces", "category"),
    ],
)  # fmt: skip
def test_a_possible_kind_is_taken_and_values_come_back(name, kind):
    found, back = column(name, kind)
    assert found.kind == kind
    if (name, kind) == ("at", "date"):
        assert back[name].to_list() == DATA[name].dt.truncate("1d").to_list()
    elif (name, kind) == ("digits", "whole"):
        assert back[name].to_list() == DATA[name].cast(pl.Int64).to_list()
    else:
        assert back[name].to_list() == DATA[name].to_list()


@pytest.mark.parametrize(
    ("name", "kind", "shown"),
    [
        ("word", "number", f"{DATA['word'][0]!r} in row 1 is no number"),
        ("x", "whole", "is no whole number"),
        ("x", "count", "is no whole number"),
        ("plz", "boolean", "is neither"),
        ("word", "boolean", "is neither"),
        ("colour", "date", "in row 1 is no date of a known format"),
        ("colour", "ordered", "in row 1 is of no order that is known"),
        ("plz", "date", "in row 1 is of type Int64"),
        ("plz", "datetime", "of type Int64"),
        ("day", "number", "of type Date"),
        ("day", "category", "of type Date"),
        ("day", "time", "of type Date"),
        ("x", "duration", "of type Float64"),
        ("name", "category", "of 300 different values"),
        ("x", "category", "different values, of which few have 5 rows"),
        ("name", "ordered", "of 300 levels"),
    ],
)
def test_an_impossible_kind_is_refused_with_its_value_and_row(name, kind, shown):
    with pytest.raises(ValueError, match=f"^column '{name}' cannot be of kind {kind}: ") as refused:
        column(name, kind)
    assert shown in str(refused.value)


def test_the_first_offending_row_is_named():
    data = DATA.with_columns(x=pl.Series([1, 2, -5, 2, -1, *range(295)]))
    with pytest.raises(ValueError, match="cannot be of kind count: -5 in row 3 is negative"):
        column("x", "count", data)


def test_dropped_columns_and_identifiers_are_left_out():
    for kind, reason in (("drop", "dropped"), ("identifier", "identifier")):
        found, back = column("x", kind)
        assert found.reason == reason
        assert "x" not in back.columns


def test_constant_columns_stay_constant():
    for kind in ("number", "drop", "category", "count"):
        found, back = column("one", kind)
        assert found.reason == "constant"
        assert back["one"].to_list() == [7] * 300


def test_rare_codes_are_pooled_and_come_back_as_unknown():
    codes = [k % 50 for k in range(1000)] + list(range(100, 200))
    schema, _ = infer(framed(pl.DataFrame({"code": codes})), np.arange(1100), {"code": "category"})
    assert schema.modelled[0].other
    back = decode(encode(framed(pl.DataFrame({"code": codes})), schema)[0], schema)
    assert back["code"].to_list() == codes[:1000] + [None] * 100


def test_unknown_columns_and_kinds_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"'clour'.*did you mean 'colour'"):
        column("clour", "category")
    with pytest.raises(
        ValueError, match=r"column 'colour': kind must be one of.*did you mean 'cat"
    ):
        column("colour", "categry")


def test_a_kind_is_checked_in_all_rows_and_learned_from_the_training_rows():
    data = pl.DataFrame({"x": ["1"] * 5 + ["2"] * 5 + ["no"], "y": range(11)})
    with pytest.raises(ValueError, match="'no' in row 11"):
        infer(framed(data), np.arange(10), {"x": "number"})
    schema, _ = infer(framed(data.head(10)), np.arange(5), {"x": "boolean"})
    assert schema.modelled[0].levels == ("1", "2")
    assert schema.modelled[0].counts == (5, 0)
