"""Models of tables are applied: rows are drawn, reconstructed and filled in."""

import copy
import shutil

import numpy as np
import polars as pl
import pytest
import tableruns
import torch
from polars.testing import assert_frame_equal

from mimachine import workflow
from mimachine._support.messages import OptionError
from mimachine.data.tables.columns.conditions import conditions
from mimachine.data.tables.read import read_frame
from mimachine.data.tables.rows import encode
from mimachine.workflow.tables.apply_table import (
    fill_table,
    prior_of,
    reconstructed_table,
    sample_table,
)
from mimachine.workflow.tables.proposal import PROPOSAL

pytestmark = pytest.mark.usefixtures("few_trees")

ROWS = 400


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a .csv file."""
    folder = tmp_path_factory.mktemp("tables")
    tableruns.customers(ROWS).write_csv(folder / "x.csv")
    tableruns.train(folder / "x.csv", folder / "run")
    return workflow.open_run(folder / "run")


@pytest.fixture(scope="module")
def everything(trained):
    """The training table, and its rows as the model sees them."""
    return workflow.select(trained, split="all")


def test_the_kinds_of_the_columns_are_those_of_their_values(trained):
    assert trained.data.schema.kinds() == {
        "id": "identifier", "city": "category", "region": "category", "joined": "date",
        "seen": "datetime", "member": "boolean", "visits": "count", "income": "number",
        "channel": "category", "size": "ordered", "currency": "drop",
    }  # fmt: skip
    parents = {c.name: getattr(c, "parent", None) for c in trained.data.schema.modelled}
    assert parents["region"] == "city"


def test_sampled_rows_have_the_columns_and_values_of_the_table(trained):
    table = sample_table(trained, 300).table
    original = tableruns.customers(ROWS)
    assert table.columns == [name for name in original.columns if name != "id"]
    dates = table.with_columns(
        pl.col("joined").str.to_date(), pl.col("seen").str.to_datetime(time_unit="ms")
    )
    assert dates.schema == original.drop("id").schema
    for name in ("city", "channel", "size", "currency"):
        assert set(table[name].drop_nulls()) <= set(original[name].drop_nulls())
    assert (table["visits"] >= 0).all()
    cents = table["income"].drop_nulls() * 100
    np.testing.assert_allclose(cents, cents.round(), atol=1e-4)


def test_holes_are_sampled_as_often_as_the_table_has_them(trained):
    count = 2000
    table = sample_table(trained, count, seed=3).table
    holes = dict(zip(table.columns, table.null_count().row(0), strict=True))
    train = {c.name: c.missing for c in trained.data.schema.modelled}
    for name, share in train.items():
        # The decoder's own share differs from the training rows' by what two epochs change.
        error = 4 * np.sqrt(max(share * (1 - share), 1e-9) / count) + 0.03 * (share > 0)
        assert abs(holes[name] / count - share) <= error, name
        assert (holes[name] == 0) == (share == 0)
    assert not any(sample_table(trained, 500, complete=True).table.null_count().row(0))


def test_the_same_seed_samples_the_same_rows_and_another_seed_others(trained):
    state = torch.get_rng_state()
    first, again = (sample_table(trained, 20, seed=5).table for _ in range(2))
    assert_frame_equal(first, again)
    assert not first.equals(sample_table(trained, 20, seed=6).table)
    assert torch.equal(torch.get_rng_state(), state)


def test_sampled_rows_have_the_given_values(trained):
    given = ["city=Lyon", "visits=3", "joined=2020-03-04", "member=true", "size=large"]
    table = sample_table(trained, 50, given=given).table
    for entry in given:
        name, _, value = entry.partition("=")
        assert set(table[name].cast(pl.String)) == {value}
    assert not any(table.null_count().row(0))
    # The region is settled by the city, up to the smoothing of the counts.
    assert (table["region"] == "west").mean() > 0.9
    assert table["income"].n_unique() > 10


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["town=Lyon"], "'town' is not a column of the training table"),
        (["chanel=web"], "did you mean 'channel'"),
        (["city"], "must be COLUMN=VALUE"),
        (["=Lyon"], "must be COLUMN=VALUE"),
        (["city="], "must be a value of a column of kind category: Oslo, Rome, Bari, Lyon"),
        (["city=Paris"], "must be a value of a column of kind category: Oslo, Rome, Bari, Lyon"),
        (["size=huge"], "of kind ordered: small, medium, large"),
        (["visits=many"], "column 'visits' must be of kind count"),
        (["visits=-3"], "the nearest is 0"),
        (["visits=2.5"], "the nearest is 2"),
        (["income=1e30"], "the nearest is 167772.16"),
        (["joined=2020-13-01"], "column 'joined' must be of kind date"),
        (["member=perhaps"], "column 'member' must be of kind boolean"),
        (["id=C00001"], "'id' is not modelled"),
        (["currency=EUR"], "'currency' is not modelled"),
        (["city=Lyon", "city=Oslo"], "gives 'city' a second value"),
    ],
)
def test_conditions_that_no_row_can_have_are_named(trained, given, message):
    with pytest.raises(OptionError) as caught:
        sample_table(trained, 2, given=given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_of_conditions_may_have_equal_signs_and_are_alone_known(trained):
    row = conditions(trained.data.schema, ["channel=web", "income=2999.999"]).row[0]
    known = np.isfinite(row)
    names = [c.name for c in trained.data.schema.modelled]
    assert [name for name, is_known in zip(names, known, strict=True) if is_known] == [
        "income", "channel",
    ]  # fmt: skip
    assert np.isinf(row[~known]).all()
    with pytest.raises(OptionError, match="a=b"):
        conditions(trained.data.schema, ["channel=a=b"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["city=Lyon", "region=north"], "no training row has city=Lyon and region=north together"),
        (["region=north", "visits=2", "city=Rome"], "city=Rome and region=north together"),
        (["visits=400"], "visits=400 is outside the values of the training rows, 0 to "),
        (["joined=1990-01-01"], "is outside the values of the training rows, 2020-01-"),
        (["income=2.5"], "so the rows are an extrapolation"),
    ],
)
def test_values_that_no_training_row_had_are_warned_of(trained, given, message):
    found = sample_table(trained, 3, given=given)
    assert any(note.startswith("warning: ") and message in note for note in found.notes)
    for entry in given:
        name, _, value = entry.partition("=")
        assert set(found.table[name].cast(pl.String)) == {value}


@pytest.mark.parametrize(
    "given", [["city=Lyon", "region=west"], ["region=south"], ["visits=1", "size=small"], []]
)
def test_usual_values_are_not_warned_of(trained, given):
    assert sample_table(trained, 3, given=given).notes == ()


def test_the_prior_of_training_and_the_fitted_one_differ(trained):
    assert prior_of(trained, "model") is trained.model
    assert prior_of(trained, "fitted") is not trained.model
    with pytest.raises(ValueError, match="prior must be"):
        prior_of(trained, "other")


def test_reconstructed_rows_are_complete_and_have_the_columns_of_the_table(trained, everything):
    table = reconstructed_table(trained, everything.rows)
    assert table.columns == sample_table(trained, 1).table.columns
    assert len(table) == ROWS
    assert not any(table.null_count().row(0))


def filled(trained, chosen, **options):
    """The rows filled in, with a proposal that is trained for one epoch."""
    with tableruns.brief_proposals():
        return fill_table(trained, chosen.rows, chosen.table, draws=20, **options)


@pytest.fixture(scope="module")
def found(trained, everything):
    """The training table filled in, with the types of its columns."""
    return filled(trained, everything)


def test_holes_are_filled_in_and_known_values_stay(found, everything):
    before = everything.table
    assert found.table.schema == before.schema
    assert found.table.columns == ["id", *tableruns.MODELLED, "currency"]
    assert_frame_equal(
        found.table.select(n for n in before.columns if n not in tableruns.HOLES),
        before.drop(*tableruns.HOLES),
    )
    for name in tableruns.HOLES:
        known = before[name].is_not_null()
        assert found.table[name].null_count() == 0
        assert (found.table[name].filter(known) == before[name].filter(known)).all()
    holes = sum(before[name].null_count() for name in tableruns.HOLES)
    assert len(found.entries) == holes > 0


def test_entries_say_what_was_filled_in_where_and_how_surely(found, everything):
    for row, name, value, lower, upper, probability in found.entries.select(
        "row", "column", "value", "lower", "upper", "probability"
    ).iter_rows():
        assert everything.table[name][row - 1] is None
        assert str(found.table[name][row - 1]) == value
        if name == "income":
            assert float(lower) <= float(value) <= float(upper)
            assert probability is None
        else:
            assert (lower, upper) == (None, None)
            assert 1 / 3 - 1e-6 <= probability <= 1
    assert found.entries["effective_draws"].is_between(1, 20).all()


def test_cells_of_the_file_are_returned_as_they_are_written(trained, everything, found):
    cells = everything.cells()
    assert set(cells.dtypes) == {pl.String}
    again = filled(trained, everything, cells=cells)
    for name in cells.columns:
        known = cells[name].is_not_null()
        assert (again.table[name].filter(known) == cells[name].filter(known)).all()
    # The same seed fills in the same values.
    assert_frame_equal(again.entries, found.entries)


def test_the_proposal_is_kept_in_the_run_until_the_weights_change(trained, tmp_path):
    shutil.copytree(trained.run.path, tmp_path / "run")
    shutil.copy(trained.experiment.data.name, tmp_path)
    again = workflow.open_run(tmp_path / "run", tmp_path / "x.csv")
    chosen = workflow.select(again, split="test")
    file = tmp_path / "run" / PROPOSAL
    file.unlink(missing_ok=True)
    first = filled(again, chosen).entries
    content = file.read_bytes()
    # Of what is kept the values are the same; without it, training would be longer than above.
    kept = fill_table(again, chosen.rows, chosen.table, draws=20)
    assert_frame_equal(kept.entries, first)
    assert file.read_bytes() == content
    for damaged in (b"", content[:-9], content[:99] + b"x" + content[100:]):
        file.write_bytes(damaged)
        assert_frame_equal(filled(again, chosen).entries, first)
        assert file.read_bytes() == content
    other = copy.deepcopy(again)
    with torch.no_grad():
        next(other.model.encoder.parameters()).add_(0.1)
    filled(other, chosen)
    assert file.read_bytes() != content
    file.write_bytes(content)
    stamp = file.stat().st_mtime_ns
    filled(again, chosen, refit=True)
    assert file.stat().st_mtime_ns > stamp
    assert file.read_bytes() == content


def test_new_levels_stay_and_are_no_holes(trained, tmp_path):
    later = tableruns.customers(30, seed=4)
    later = later.with_columns(pl.lit("Paris").alias("city"))
    later.write_csv(tmp_path / "later.csv")
    chosen = workflow.select(trained, str(tmp_path / "later.csv"))
    assert any("3" in note and "Paris" in note for note in chosen.notes)
    found = filled(trained, chosen)
    assert set(found.table["city"]) == {"Paris"}
    assert "city" not in set(found.entries["column"])


def test_a_column_that_a_later_file_lacks_is_filled_in(trained, tmp_path):
    later = tableruns.customers(30, seed=4).drop("income").select(pl.all().reverse())
    later = later.select(reversed(later.columns))
    later.write_csv(tmp_path / "later.csv")
    chosen = workflow.select(trained, str(tmp_path / "later.csv"))
    assert any("lacks columns" in note and "income" in note for note in chosen.notes)
    assert any("another order" in note for note in chosen.notes)
    found = filled(trained, chosen)
    assert found.table.columns == [*later.columns, "income"]
    assert found.table["income"].null_count() == 0
    assert (found.entries["column"] == "income").sum() == 30


def test_a_later_file_is_encoded_as_the_same_rows_of_the_training_file(trained, tmp_path):
    table = tableruns.customers(ROWS)
    table[100:140].write_csv(tmp_path / "part.csv")
    part = workflow.select(trained, str(tmp_path / "part.csv")).rows
    whole = workflow.select(trained, split="all").rows
    assert torch.equal(part.nan_to_num(nan=-1), whole[100:140].nan_to_num(nan=-1))
    table[100:140].write_parquet(tmp_path / "part.parquet")
    again = workflow.select(trained, str(tmp_path / "part.parquet")).rows
    assert torch.equal(again.nan_to_num(nan=-1), part.nan_to_num(nan=-1))
    frame, _ = encode(read_frame(table[100:140]), trained.data.schema)
    assert torch.equal(torch.from_numpy(frame).nan_to_num(nan=-1), part.nan_to_num(nan=-1))


def test_runs_that_are_not_on_tables_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    tableruns.train(tmp_path / "x.npy", tmp_path / "run")
    trained = workflow.open_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"must be on a table .* x\.npy is not one"):
        sample_table(trained, 3)
    with pytest.raises(ValueError, match="must be on a table"):
        reconstructed_table(trained, trained.data.test)


def test_rows_are_drawn_without_the_file(trained, tmp_path):
    run = shutil.copytree(trained.run.path, tmp_path / "run")
    assert_frame_equal(
        sample_table(workflow.open_model(run), 9).table, sample_table(trained, 9).table
    )


def test_a_data_frame_that_cannot_be_used_leaves_nothing(tmp_path):
    constant = pl.DataFrame({"a": [1] * 30, "b": ["x"] * 30})
    with pytest.raises(ValueError, match="has no column that can be modelled"):
        workflow.train(constant, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
