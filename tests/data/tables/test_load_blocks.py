import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

import mimachine as mm
from mimachine._support import memory
from mimachine.data.files.options import File
from mimachine.data.files.splits import split_rows
from mimachine.data.rows import Rows
from mimachine.data.tables.load import load_table
from mimachine.data.tables.load_blocks import encode_blocks
from mimachine.experiment.presets import default


@pytest.fixture
def folder(tmp_path):
    """A folder of two parquet files with numbers, text, holes and classes."""
    random, place = np.random.default_rng(0), tmp_path / "parts"
    place.mkdir()
    for part, count in enumerate((310, 190)):
        numbers = random.normal(size=count).round(2)
        data = pl.DataFrame(
            {
                "size": np.where(random.random(count) < 0.1, np.nan, numbers),
                "town": random.choice(["Rome", "Oslo", "Bern"], count),
                "visits": random.poisson(2.0, count),
                "kind": random.choice(["a", "b"], count),
            }
        ).with_columns(pl.col("size").fill_nan(None))
        data.write_parquet(place / f"{part}.parquet")
    return place


def test_a_table_read_in_blocks_is_the_one_read_at_once(folder, monkeypatch):
    whole = load_table(folder, File(labels="kind"))
    monkeypatch.setattr(memory, "stays_on_disk", lambda num_bytes: True)
    found = load_table(folder, File(labels="kind"))
    assert isinstance(found.train, Rows)
    assert found.schema == whole.schema
    assert found.fingerprint == whole.fingerprint
    assert found.classes == whole.classes == ("a", "b")
    for name in ("train", "val", "test"):
        one, other = (torch.as_tensor(getattr(data, name)[:]) for data in (whole, found))
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))
        assert torch.equal(getattr(whole, f"{name}_labels"), getattr(found, f"{name}_labels"))


@pytest.mark.parametrize("block", [7, 100, 10_000])
def test_blocks_of_any_size_give_the_same_rows(folder, block):
    train = split_rows(500, 3, None, "parts")[0]
    columns = ["size", "town", "visits"]
    found = encode_blocks(folder, columns, "kind", train, None, {}, block=block)
    rows = np.asarray(found.rows)
    whole = load_table(folder, File(labels="kind"))
    assert found.schema == whole.schema
    np.testing.assert_array_equal(rows[train], whole.train.numpy())
    assert len(found.labels) == 500


def test_kinds_are_those_of_random_training_rows_where_there_are_many(folder):
    train = split_rows(500, 3, None, "parts")[0]
    found = encode_blocks(folder, ["town"], None, train, None, {}, block=64, judged=100)
    assert "100 random training rows" in found.notes[0]
    assert sum(found.schema.columns[0].counts) == 100


def test_a_model_trains_on_a_table_that_stays_on_the_disk(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "stays_on_disk", lambda num_bytes: True)
    settings = default(str(folder), file=File(labels="kind"))
    short = mm.Training(2, warmup=1, batch_size=64)
    settings = dataclasses.replace(settings, training=short, num_samples=2)
    trained, _, report = mm.train(settings, tmp_path / "run", progress=False)
    assert isinstance(trained.data.train, Rows)
    assert report.has("negative_log_likelihood")
