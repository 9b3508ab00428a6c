"""Kinds and schemas that a user gives, in files and in Python."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from mimachine._support.messages import OptionError
from mimachine.data.files.load import data_record, load_file
from mimachine.data.files.options import File
from mimachine.data.tables.columns.given import given_columns
from mimachine.data.tables.load import load_table


def table(seed, rows=200):
    dice = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "city": dice.choice(["Oslo", "Rome", "Bari"], rows),
            "size": dice.choice(["small", "medium", "large"], rows),
            "age": dice.integers(18, 90, rows),
            "income": dice.lognormal(8, 1, rows).round(2 + seed),
            "joined": [f"{d:02}.03.2024" for d in dice.integers(1, 28, rows)],
        }
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two tables, and the record of the first."""
    folder = tmp_path_factory.mktemp("given")
    table(0).write_csv(folder / "first.csv")
    table(1).with_columns(extra=pl.lit(1)).write_csv(folder / "second.csv")
    record = data_record(load_file(folder / "first.csv"))
    (folder / "data.json").write_text(json.dumps(record))
    return folder


def test_a_file_of_kinds_is_as_pairs(place):
    kinds = {"age": "category", "size": "category"}
    file = place / "kinds.json"
    file.write_text("\ufeff" + json.dumps(kinds))
    pairs = load_table(place / "first.csv", File(columns=("age=category", "size=category")))
    for columns in ((str(file),), file, kinds, ("age=category", str(file))):
        found = load_table(place / "first.csv", File(columns=columns))
        assert found.schema == pairs.schema
    assert pairs.schema.kinds()["age"] == "category"


def test_a_second_table_is_read_as_the_first(place):
    first = load_file(place / "first.csv")
    own = load_file(place / "second.csv")
    record = json.loads((place / "data.json").read_text())
    assert own.schema != first.schema
    for columns in (place / "data.json", record, record["schema"]):
        found = load_file(place / "second.csv", File(columns=columns))
        assert found.schema == first.schema
        assert any("extra" in note for note in found.notes)
        # The same values have the same numbers.
        again = load_file(place / "first.csv", File(columns=columns))
        assert torch.equal(again.train, first.train)


def test_a_schema_needs_its_columns(place):
    file = File(columns=place / "data.json", drop=("size",))
    with pytest.raises(ValueError, match=r"data.json has 1 column that first.csv lacks.*'size'"):
        load_table(place / "first.csv", file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r'kinds.json"\]: no such file'),
        ("{", "kinds.json is not valid JSON"),
        ("{'a': 1}", "kinds.json is not valid JSON"),
        ('{"age": "count", "age": "whole"}', "occurs twice"),
        ("[]", "must be an object of names and kinds"),
        ('"age"', "must be an object of names and kinds"),
        ('{"age": 3}', "kind of column 'age' must be one of"),
        ('{"age": "cuont"}', "did you mean 'count'"),
        ('{"columns": [3]}', "schema cannot be read"),
        ('{"columns": [{"name": "age"}]}', r"column 1 \('age'\)"),
        ('{"schema": {}}', "schema cannot be read"),
        ('{"preprocessing": {}}', "array of numbers"),
        ('{"aeg": "count"}', "'aeg', which is no column of the table; did you mean 'age'"),
        (b"\xff\xfe{}", "not valid JSON"),
    ],
)
def test_files_that_cannot_be_used_are_refused(place, tmp_path, content, message):
    file = tmp_path / "kinds.json"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        load_table(place / "first.csv", File(columns=(str(file),)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("age",), "must be NAME=KIND"),
        (("=count",), "must be NAME=KIND"),
        (("age=count", "age=whole"), "gives 'age' a second kind"),
        (('{"age": "count"}', "age=whole"), "gives 'age' a second kind"),
        (('{"columns": []}',), "must have one that is not left out"),
    ],
)
def test_wrong_entries_are_refused(columns, message):
    with pytest.raises(OptionError, match=message):
        given_columns(columns)


def test_a_schema_is_alone(place):
    with pytest.raises(OptionError, match="must be alone"):
        given_columns(("age=count", str(place / "data.json")))
    with pytest.raises(ValueError, match=r"file.columns must be .* JSON"):
        File(columns={"age": {1, 2}})
