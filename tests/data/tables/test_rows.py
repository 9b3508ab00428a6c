"""Rows from tables and tables from rows: what is encoded comes back, with its type."""

import datetime as dt

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tables.customers import customers

from mimachine.data.tables import read
from mimachine.data.tables.infer import infer
from mimachine.data.tables.rows import decode, encode
from mimachine.data.tables.schema import LeftOut, Levels, Schema, Stepped


def framed(data, **more):
    return read.Frame(data, "table", **more)


DICE = np.random.default_rng(0)
N = 400


def learned(data, overrides=None, **frame):
    frame = framed(data, **frame)
    return infer(frame, np.arange(len(data)), overrides or {})[0]


def holed(column):
    return pl.Series([None if k % 7 == 3 else value for k, value in enumerate(column)])


def mixed_table():
    start, moment = dt.date(2015, 3, 1), dt.datetime(2020, 1, 1, 7)
    days, seconds = DICE.integers(0, 3000, N).tolist(), DICE.integers(0, 10**7, N).tolist()
    moments = [moment + dt.timedelta(seconds=s) for s in seconds]
    return pl.DataFrame(
        {
            "cents": np.round(DICE.gamma(2, 300, N), 2),
            "quarters": holed((DICE.integers(-40, 40, N) / 4).tolist()),
            "single": pl.Series(DICE.integers(-500, 500, N) / 10, dtype=pl.Float32),
            "half": pl.Series(DICE.integers(-50, 50, N) / 10, dtype=pl.Float32).cast(pl.Float16),
            "tiny": pl.Series(DICE.integers(-100, 100, N), dtype=pl.Int8),
            "large": pl.Series(2**62 + DICE.integers(0, 1000, N), dtype=pl.Int64),
            "unsigned": pl.Series([2**63 + k for k in days], dtype=pl.UInt64),
            "wide": pl.Series(DICE.integers(0, 99, N), dtype=pl.Int64).cast(pl.Int128),
            "decimal": pl.Series(np.round(DICE.normal(size=N), 2)).cast(pl.Decimal(10, 2)),
            "orders": DICE.poisson(1, N),
            "flag": holed((DICE.random(N) < 0.5).tolist()),
            "city": holed(DICE.choice(["Ulm", "Köln", "Bonn", "Aachen"], N).tolist()),
            "factor": pl.Series(DICE.choice(["x", "y", "z"], N), dtype=pl.Categorical),
            "size": pl.Series(DICE.choice(["S", "M"], N), dtype=pl.Enum(["S", "M", "L"])),
            "code": DICE.integers(1, 3, N),
            "day": holed([start + dt.timedelta(days=d) for d in days]),
            "at": moments,
            "local": pl.Series(moments).dt.replace_time_zone("Asia/Tokyo"),
            "nanoseconds": pl.Series(moments, dtype=pl.Datetime("ns")),
            "milliseconds": holed(moments).cast(pl.Datetime("ms")),
            "time": [dt.time(s % 24, s % 60) for s in seconds],
            "took": pl.Series([dt.timedelta(minutes=s % 999) for s in seconds]),
            "took_ms": pl.Series([dt.timedelta(minutes=s) for s in days], dtype=pl.Duration("ms")),
            "currency": ["EUR"] * N,
            "born": [start] * N,
            "empty": pl.Series([None] * N, dtype=pl.String),
        }
    )  # fmt: skip


def test_a_table_of_all_types_comes_back_exactly():
    data = mixed_table()
    schema = learned(data)
    rows, notes = encode(framed(data), schema)
    assert rows.dtype == np.float32
    assert rows.shape == (N, len(schema.modelled))
    assert notes == ()
    assert_frame_equal(decode(rows, schema), data, categorical_as_str=True)
    assert decode(rows, schema).schema == data.schema


def test_rows_are_whole_numbers_or_missing():
    data = mixed_table()
    rows = encode(framed(data), learned(data))[0]
    seen = rows[np.isfinite(rows)]
    assert (np.rint(seen) == seen).all()
    assert np.abs(seen).max() <= 2**24
    assert not np.isinf(rows).any()
    assert np.isnan(rows).sum() == sum(data[name].null_count() for name in data.columns[:-1])


def test_values_between_the_steps_come_back_within_half_a_step():
    data = pl.DataFrame({"x": DICE.normal(size=N), "y": np.exp(5 * DICE.normal(size=N))})
    schema = learned(data)
    back = decode(encode(framed(data), schema)[0], schema)
    for column in schema.columns:
        off = (back[column.name] - data[column.name]).abs().max()
        assert off <= column.step / 2 * 1.0001


SCALARS = {
    pl.Int64: st.integers(-(2**63), 2**63 - 1),
    pl.Int16: st.integers(-(2**15), 2**15 - 1),
    pl.UInt8: st.integers(0, 255),
    pl.UInt64: st.integers(0, 2**64 - 1),
    pl.Float64: st.floats(-1e300, 1e300, allow_subnormal=False) | st.integers(-99, 99).map(float),
    pl.Float32: st.floats(-(2.0**90), 2.0**90, width=32) | st.integers(-99, 99).map(float),
    pl.Boolean: st.booleans(),
    pl.String: st.sampled_from(["a", "b", "c", "other", "", " d", "ä"]),
    pl.Date: st.dates(),
    pl.Datetime("us"): st.datetimes(),
    pl.Datetime("ms"): st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)).map(
        lambda at: at.replace(microsecond=0)
    ),
    pl.Time: st.times(),
    pl.Duration("us"): st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)),
    pl.Enum(["p", "q", "r"]): st.sampled_from(["p", "q", "r"]),
}
UNITS = {"date": 86_400_000_000, "datetime": 1, "time": 1, "duration": 1}


@st.composite
def frames(draw):
    rows = draw(st.integers(2, 25))
    types = draw(st.lists(st.sampled_from(list(SCALARS)), min_size=1, max_size=6))
    columns = {}
    for k, dtype in enumerate(types):
        cell = SCALARS[dtype] | st.none() if draw(st.booleans()) else SCALARS[dtype]
        values = draw(st.lists(cell, min_size=rows, max_size=rows))
        columns[f"c{k}"] = pl.Series(values, dtype=dtype)
    return pl.DataFrame(columns)


def physical(column):
    if column.dtype in (pl.Date, pl.Datetime):
        return column.cast(pl.Datetime("us")).to_physical().to_list()
    if column.dtype == pl.Time:
        return [None if value is None else value // 1000 for value in column.to_physical()]
    if column.dtype == pl.Duration:
        return column.cast(pl.Duration("us")).to_physical().to_list()
    return column.to_list()


@settings(max_examples=60, deadline=None)
@given(frames())
def test_any_table_comes_back_within_half_a_step(data):
    try:
        schema = learned(data)
    except ValueError as error:
        assume("no column that can be modelled" not in str(error))
        raise
    assert Schema.from_json(schema.to_json()) == schema
    rows, _ = encode(framed(data), schema)
    back = decode(rows, schema)
    kept = [c.name for c in schema.columns if not _is_gone(c)]
    assert back.columns == kept
    for column in schema.columns:
        if _is_gone(column):
            continue
        old, new = data[column.name], back[column.name]
        # Of the levels of a constant Enum, one is kept.
        is_one = isinstance(column, LeftOut) and column.type == "Enum"
        assert new.dtype == (pl.Enum if is_one else old.dtype)
        assert new.is_null().to_list() == old.is_null().to_list()
        if isinstance(column, Stepped):
            assert_close(column, old, new)
        else:
            assert new.to_list() == old.to_list()


def _is_gone(column):
    return isinstance(column, LeftOut) and column.reason not in ("constant", "empty")


def assert_close(column, old, new):
    step = column.step * UNITS.get(column.kind, 1) if column.kind == "date" else column.step
    reach = 2.0**24 * step
    origin = column.origin * UNITS.get(column.kind, 1) if column.kind == "date" else column.origin
    for before, after in zip(physical(old), physical(new), strict=True):
        if before is None or abs(before - origin) > reach * (1 - 1e-6):
            continue
        digits = 1e-6 if column.type == "Float32" else 1e-14
        room = 2048 if abs(before) > 2**53 and isinstance(before, int) else 0
        assert abs(after - before) <= 0.50001 * step + digits * abs(before) + room


def test_missing_and_hidden_values_become_null():
    schema = learned(mixed_table())
    for hole in (np.nan, np.inf, -np.inf):
        back = decode(np.full((2, len(schema.modelled)), hole), schema)
        for column in schema.modelled:
            assert back[column.name].null_count() == 2


def test_generated_rows_are_kept_within_types_and_kinds():
    schema = learned(mixed_table())
    for extreme in (-(2.0**24), 2.0**24, 3e38, -3e38):
        back = decode(np.full((1, len(schema.modelled)), extreme, dtype=np.float32), schema)
        assert back.schema == mixed_table().schema
        assert back.null_count().sum_horizontal()[0] == 1  # The empty column.
        assert back["orders"][0] >= 0
        assert back["day"].to_list()[0].year in range(1, 10_000)
        back.select(pl.exclude("took", "took_ms")).write_csv()


def test_text_of_dates_is_written_in_its_format():
    data = pl.DataFrame({"day": [dt.date(2020, 1, 1 + k) for k in range(20)], "x": range(20)})
    data = data.with_columns(pl.col("day").alias("same").gather([0] * 20))
    schema = learned(data, formats={"day": "%d.%m.%Y", "same": "%d.%m.%y"})
    back = decode(encode(framed(data), schema)[0], schema)
    assert back["day"].to_list()[:2] == ["01.01.2020", "02.01.2020"]
    assert back["same"].to_list()[:2] == ["01.01.20", "01.01.20"]
    text = back.with_columns(pl.col("x") * 1)
    np.testing.assert_array_equal(encode(framed(text), schema)[0], encode(framed(data), schema)[0])


def test_left_out_columns_stay_out_and_constants_come_back():
    data = customers(2000)
    schema = learned(data)
    back = decode(encode(framed(data), schema)[0], schema)
    assert "customer_id" not in back.columns
    assert back["currency"].unique().to_list() == ["EUR"]
    assert back.columns == data.columns[1:]


def small():
    data = pl.DataFrame(
        {
            "age": DICE.integers(20, 90, 200),
            "sum": np.round(DICE.normal(size=200), 2),
            "city": DICE.choice(["a", "b", "c"], 200),
            "open": DICE.random(200) < 0.5,
            "code": DICE.choice([0, 1], 200),
        }
    )
    return data, learned(data)


def test_columns_are_matched_by_name():
    data, schema = small()
    rows, notes = encode(framed(data[:, ::-1].with_columns(extra=1)), schema)
    np.testing.assert_array_equal(rows, encode(framed(data), schema)[0])
    assert len(notes) == 2
    assert "another order" in " ".join(notes)
    assert "extra" in " ".join(notes)


def test_a_missing_column_is_unknown_and_said():
    data, schema = small()
    rows, notes = encode(framed(data.drop("sum")), schema)
    assert np.isnan(rows[:, 1]).all()
    assert np.isfinite(rows[:, [0, 2, 3, 4]]).all()
    assert len(notes) == 1
    assert "sum" in notes[0]
    with pytest.raises(ValueError, match="must have columns of the training table such as 'age'"):
        encode(framed(pl.DataFrame({"other": [1]})), schema)


def test_other_types_with_the_same_values_give_the_same_rows():
    data, schema = small()
    other = data.with_columns(
        pl.col("age").cast(pl.Float64),
        pl.col("sum").cast(pl.String),
        pl.col("city").cast(pl.Categorical),
        pl.col("open").cast(pl.Int8),
        pl.col("code").cast(pl.Float32),
    )
    rows, notes = encode(framed(other), schema)
    np.testing.assert_array_equal(rows, encode(framed(data), schema)[0])
    assert notes == ()
    text = data.with_columns(pl.all().cast(pl.String))
    np.testing.assert_array_equal(encode(framed(text), schema)[0], rows)


@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("age", ["30", "old", "40"], "'old' in row 2"),
        ("sum", [dt.date(2020, 1, 1)] * 3, "2020"),
        ("open", ["true", "false", "maybe"], "'maybe' in row 3"),
        ("open", [0, 2, 1], "2 in row 2"),
    ],
)
def test_values_of_another_kind_are_refused_by_column_row_and_value(name, values, shown):
    data, schema = small()
    with pytest.raises(ValueError, match=f"column '{name}' must be of kind") as refused:
        encode(framed(data.head(3).with_columns(pl.Series(name, values))), schema)
    assert shown in str(refused.value)


def test_new_levels_are_missing_and_said():
    data, schema = small()
    values = ["a", "zz", None, "zz"]
    rows, notes = encode(framed(data.head(4).with_columns(city=pl.Series(values))), schema)
    assert np.isnan(rows[1:, 2]).all()
    assert notes[0].startswith("2 values of city are levels that the training rows did not have")
    assert "'zz' in row 2" in notes[0]


def test_new_levels_are_others_if_rare_ones_were_pooled():
    cities = [f"c{k % 50}" for k in range(5000)] + [f"v{k}" for k in range(400)]
    data = pl.DataFrame({"city": cities, "x": DICE.normal(size=5400)})
    schema = learned(data)
    column = schema.modelled[0]
    assert (column.other, column.levels[-1], column.counts[-1]) == (True, "other", 400)
    rows, notes = encode(framed(data), schema)
    assert notes == ()  # As many as in training.
    assert (rows[:, 0] == len(column.levels) - 1).sum() == 400
    later = pl.DataFrame({"city": ["new", "c1"], "x": [0.0, 0.0]})
    rows, notes = encode(framed(later), schema)
    assert decode(rows, schema)["city"].to_list() == ["other", "c1"]
    assert "taken as 'other'" in notes[0]


def test_infinite_and_far_out_values_of_later_tables_are_said():
    data, schema = small()
    later = data.head(3).with_columns(sum=pl.Series([1.0, np.inf, 1e9]))
    rows, notes = encode(framed(later), schema)
    assert np.isnan(rows[1, 1])
    assert rows[2, 1] == 2**24
    assert any("infinite" in note and "row 2" in note for note in notes)
    assert any("beyond" in note and "row 3" in note for note in notes)


def test_words_of_a_mixed_column_are_missing_also_later():
    data = pl.DataFrame({"age": ["40", "abt 40", *map(str, DICE.integers(20, 90, 98))]})
    schema = learned(data, mixed={"age": "'abt 40' in row 2"})
    assert schema.modelled[0].kind == "whole"
    rows, notes = encode(framed(pl.DataFrame({"age": ["33", "?", None]})), schema)
    assert decode(rows, schema)["age"].to_list() == [33, None, None]
    assert "1 cells of age" in notes[0]


def test_rows_of_another_width_are_refused():
    _, schema = small()
    with pytest.raises(ValueError, match=r"rows must have shape \(N, 5\), got \(2, 4\)"):
        decode(np.zeros((2, 4)), schema)


def test_a_level_that_is_no_number_of_the_column_is_null():
    column = Levels("code", "category", "Int64", (5, 7, "other"), (3, 3, 1), 0.0, other=True)
    assert decode(np.array([[0], [2]]), Schema((column,)))["code"].to_list() == [5, None]
