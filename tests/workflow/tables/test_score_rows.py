"""Rows are scored: how likely each is, how unusual its code, and which columns are unusual."""

import sys

import numpy as np
import polars as pl
import pytest
import tableruns
import torch
from polars.testing import assert_frame_equal

from mimachine import workflow
from mimachine.estimation.codes.moments import codes
from mimachine.workflow.tables.score_rows import _samples_of, score_rows

pytestmark = pytest.mark.usefixtures("few_trees")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on a table, and one on the same kind of numbers as an array."""
    folder = tmp_path_factory.mktemp("scores")
    tableruns.customers().write_csv(folder / "x.csv")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(200, 3)))
    tableruns.train(folder / "x.csv", folder / "table")
    tableruns.train(folder / "x.npy", folder / "array")
    return folder


@pytest.fixture(scope="module", params=["table", "array"])
def trained(folder, request):
    return workflow.open_run(folder / request.param)


@pytest.fixture(scope="module")
def on_table(folder):
    return workflow.open_run(folder / "table")


def test_each_row_has_its_scores_in_order(trained):
    found = score_rows(trained, trained.data.test, num_samples=20).table
    assert found["row"].to_list() == list(range(1, len(trained.data.test) + 1))
    assert found["log_likelihood"].is_finite().all()
    assert (found["standard_error"] >= 0).all()
    assert found["flagged"].dtype == pl.Boolean
    assert found["code_percentile"].is_between(0, 1).all()
    part = score_rows(trained, trained.data.test[:7], num_samples=0).table
    np.testing.assert_allclose(part["code"], found["code"][:7], rtol=1e-4)


def test_code_is_the_surprise_at_the_mean_code(trained):
    rows = trained.data.test
    found = score_rows(trained, rows, num_samples=0).table
    with torch.no_grad():
        z = codes(trained.generator, rows).mean
        expected = -trained.generator.prior().log_prob(z)
    np.testing.assert_allclose(found["code"], expected, rtol=1e-5)


def test_percentiles_are_those_among_the_training_rows(trained):
    train = score_rows(trained, trained.data.train, num_samples=0).table
    ranks = train["code"].rank("average").to_numpy()
    np.testing.assert_allclose(train["code_percentile"], (ranks - 0.5) / len(train), atol=2e-3)


def test_without_samples_there_is_no_likelihood(trained):
    found = score_rows(trained, trained.data.test, num_samples=0)
    assert not {"log_likelihood", "standard_error", "flagged"} & set(found.table.columns)
    assert not found.notes


def test_flagged_rows_are_said(on_table):
    found = score_rows(on_table, on_table.data.test, num_samples=2)
    share = found.table["flagged"].mean()
    assert share > 0
    assert any(note.startswith(f"{share:.0%} of the log-likelihoods") for note in found.notes)


def test_the_columns_of_a_table_have_log_probabilities_where_they_are_known(on_table):
    rows = on_table.data.test
    found = score_rows(on_table, rows, num_samples=0).table
    for place, name in enumerate(tableruns.MODELLED):
        scores = found[f"log p({name})"]
        known = rows[:, place].isfinite().numpy()
        np.testing.assert_array_equal(scores.is_not_null().to_numpy(), known)
        # They are probabilities of values on a grid or of levels.
        assert (scores.drop_nulls() <= 1e-6).all()


def test_an_odd_value_is_named(on_table, tmp_path):
    table = tableruns.customers(50, seed=9)
    odd = pl.int_range(pl.len()) == 20
    table = table.with_columns(
        pl.when(odd).then(400).otherwise(pl.col("visits")).alias("visits"),
        pl.when(odd).then(1e5).otherwise(pl.col("income")).alias("income"),
    )
    table.write_csv(tmp_path / "later.csv")
    chosen = workflow.select(on_table, str(tmp_path / "later.csv"))
    found = score_rows(on_table, chosen.rows, num_samples=50).table
    assert set(found["unusual"][20].split(", ")) >= {"visits", "income"}
    assert found["log_likelihood"].arg_min() == 20
    # About one value in a hundred of the others.
    assert (found["unusual"] == "").mean() > 0.7


def test_the_same_seed_gives_the_same_scores(trained):
    first, again = (
        score_rows(trained, trained.data.test, num_samples=9, seed=1).table for _ in range(2)
    )
    assert_frame_equal(first, again)


def test_arguments_out_of_range_are_named(trained):
    with pytest.raises(ValueError, match="num_samples must be 0 or more"):
        score_rows(trained, trained.data.test, num_samples=-1)
    with pytest.raises(ValueError, match=r"must (have|be)"):
        score_rows(trained, trained.data.test[:, :2])


@pytest.mark.parametrize(
    ("rows", "samples"), [(1, 1000), (10_000, 1000), (20_000, 500), (10**6, 50)]
)
def test_many_rows_have_fewer_samples_each_by_default(rows, samples):
    assert _samples_of(rows) == samples


def test_the_default_number_of_samples_is_said_where_it_is_lower(trained, monkeypatch):
    monkeypatch.setattr(sys.modules[score_rows.__module__], "_SAMPLES_IN_ALL", 600)
    found = score_rows(trained, trained.data.test[:10])
    assert (
        found.notes[0] == "log-likelihoods from 60 importance samples a row, as there are 10 rows"
    )
    same = score_rows(trained, trained.data.test[:10], num_samples=60)
    assert found.table.equals(same.table)
    assert found.notes[1:] == same.notes
