"""Columns of text in frames are read as a text file of the same cells is."""

import datetime

import numpy as np
import polars as pl
import pytest

from mimachine._support import memory
from mimachine.data.files.options import File
from mimachine.data.tables.infer import infer
from mimachine.data.tables.load import load_table, read_table_rows
from mimachine.data.tables.load_blocks import encode_blocks
from mimachine.data.tables.read import read_frame
from mimachine.data.tables.rows import decode, encode

ROWS = 60
DICE = np.random.default_rng(0)
DAYS = np.datetime64("2020-01-01") + DICE.integers(0, 900, ROWS)
STAMPS = DAYS + DICE.integers(0, 86_400, ROWS).astype("timedelta64[s]")


def written(values, format):
    return [value.strftime(format) for value in values.tolist()]


TEXTS = {
    "iso": written(DAYS, "%Y-%m-%d"),
    "german": written(DAYS, "%d.%m.%Y"),
    "american": written(DAYS, "%m/%d/%Y"),
    "stamp": written(STAMPS, "%Y-%m-%d %H:%M:%S"),
    "zoned": written(STAMPS, "%Y-%m-%dT%H:%M:%SZ"),
    "clock": written(STAMPS, "%H:%M"),
    "weight": [f"{x:.2f}" for x in DICE.normal(size=ROWS)],
    "thousands": [f"{x:,}" for x in DICE.integers(0, 10**7, ROWS)],
    "price": [f"€{x:.2f}" for x in DICE.uniform(1, 9, ROWS)],
    "age": [str(x) for x in DICE.integers(0, 90, ROWS)],
    "mixed": ["about 7", *(f"{x:.1f}" for x in DICE.normal(size=ROWS - 1))],
    "word": DICE.choice(["Oslo", "Rome", "."], ROWS).tolist(),
    "zeros": [f"{x:03}" for x in DICE.integers(0, 90, ROWS)],
}
TEMPORAL = ("iso", "german", "american", "stamp", "zoned", "clock")


def frame_with_hole(name, hole="N/A"):
    return pl.DataFrame({name: [*TEXTS[name], hole]})


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_read_as_in_a_text_file(name, tmp_path):
    frame = frame_with_hole(name)
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    expected = read_frame(tmp_path / "a.csv")
    for source in (frame, tmp_path / "a.parquet"):
        found = read_frame(source)
        assert found.data.equals(expected.data)
        assert found.data.schema == expected.data.schema
        assert (found.formats, found.styles) == (expected.formats, expected.styles)
        assert set(found.mixed) == set(expected.mixed)
        assert found.data.height == ROWS + 1


@pytest.mark.parametrize("name", TEMPORAL)
def test_dates_and_times_come_back_as_they_were_written(name):
    frame = read_frame(frame_with_hole(name))
    schema, _ = infer(frame, np.arange(ROWS))
    assert schema.columns[0].kind in ("date", "datetime", "time")
    rows, notes = encode(frame, schema)
    assert notes == ()
    back = decode(rows, schema)
    if "%S" in frame.formats[name]:
        # Seconds are rounded to the steps of the column.
        assert read_frame(back).formats == frame.formats
    else:
        assert back[name].to_list() == [*TEXTS[name], None]


def test_text_that_is_to_stay_text():
    frame = pl.DataFrame(
        {
            "flag": ["yes", "no"] * 30,
            "order_id": [str(k) for k in range(60)],
            "same": ["2020"] * 60,
            "empty": pl.Series([None] * 60, dtype=pl.String),
            "spaced": [" a", "a"] * 30,
        }
    )
    found = read_frame(frame)
    assert found.data.equals(frame)
    assert found.data.schema == frame.schema
    assert found.texts == {}


@pytest.mark.parametrize("kind", ["category", "ordered", "identifier"])
def test_a_given_kind_of_text_keeps_the_text(kind):
    frame = read_frame(pl.DataFrame({"age": ["5", "7", "5.0"] * 20, "x": range(60)}))
    assert frame.data["age"].dtype == pl.Float64
    schema, _ = infer(frame, np.arange(60), {"age": kind})
    assert schema.columns[0].type == "String"
    if kind != "identifier":
        assert set(schema.columns[0].levels) == {"5", "7", "5.0"}
        rows, _ = encode(frame, schema)
        assert decode(rows, schema)["age"].to_list() == ["5", "7", "5.0"] * 20


def test_numbers_that_are_categories_keep_the_text():
    frame = read_frame(pl.DataFrame({"sold": ["0", "1", None] * 20}))
    schema, _ = infer(frame, np.arange(60))
    assert decode(encode(frame, schema)[0], schema)["sold"].to_list() == ["0", "1", None] * 20


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "parts"
    place.mkdir()
    table = pl.DataFrame(TEXTS).with_columns(label=pl.Series(["1", "2"] * (ROWS // 2)))
    table[:25].write_parquet(place / "0.parquet")
    table[25:].write_parquet(place / "1.parquet")
    return place


def test_labels_and_the_table_stay_as_they_are(folder):
    data = load_table(folder, File(labels="label"))
    assert data.classes == ("1", "2")
    read = read_table_rows(folder, File(labels="label"), data.schema)
    styled = ("thousands", "price")
    as_they_are = [name for name in TEXTS if name not in (*styled, "word")]
    assert read.table.select(as_they_are).equals(pl.read_parquet(folder).select(as_they_are))
    assert all(read.table[name].dtype.is_numeric() for name in styled)


def test_a_later_cell_that_is_no_date_is_named(folder):
    schema = load_table(folder, File(labels="label")).schema
    later = pl.read_parquet(folder).with_columns(german=pl.lit("soon"))
    with pytest.raises(ValueError, match=r"dates or times in column 'german'.*'soon' in row 1"):
        read_table_rows(later, File(), schema)
    dated = later.with_columns(german=pl.lit(datetime.date(2020, 5, 3)))
    rows = read_table_rows(dated, File(), schema).rows
    place = [column.name for column in schema.modelled].index("german")
    assert decode(rows, schema)["german"][0] == "03.05.2020"
    assert len(set(rows[:, place].tolist())) == 1


def test_blocks_are_read_by_the_types_of_the_whole(folder, monkeypatch):
    whole = load_table(folder, File(labels="label"))
    train = np.arange(0, ROWS, 2)
    found = encode_blocks(folder, list(TEXTS), "label", train, None, {}, block=7)
    assert found.schema.types() == whole.schema.types()
    once = encode(read_frame(folder, columns=list(TEXTS)), found.schema)[0]
    np.testing.assert_array_equal(found.rows, once)
    monkeypatch.setattr(memory, "stays_on_disk", lambda num_bytes: True)
    blocked = load_table(folder, File(labels="label"))
    assert blocked.schema == whole.schema
    assert blocked.fingerprint == whole.fingerprint


@pytest.mark.parametrize("written", [["true", "false"], ["True", "False"], ["TRUE", "FALSE"]])
def test_flags_of_text_are_known_in_any_spelling(written):
    schema, _ = infer(read_frame(pl.DataFrame({"flag": written * 30})), np.arange(60))
    for later in (["true", "false"], ["True", "False"], [True, False]):
        rows, notes = encode(read_frame(pl.DataFrame({"flag": later})), schema)
        assert decode(rows, schema)["flag"].to_list() == written
        assert notes == ()
