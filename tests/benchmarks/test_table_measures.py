"""Measures of the benchmark of mixed tables."""

import datetime as dt
import math

import numpy as np
import polars as pl
import pytest
from tables import measures
from tables.columns import Levels, Numbers, columns_of, decimals_of, step_of, to_floats, to_series
from tables.measures import Imputed

NAN = float("nan")


def mixed(rows=600, seed=0):
    """A table whose town settles the region, with numbers that depend on it, and holes."""
    random = np.random.default_rng(seed)
    town = random.integers(0, 4, rows)
    age = 30 + 10 * town + random.integers(0, 8, rows)
    frame = pl.DataFrame(
        {
            "town": np.array(["Ayr", "Bath", "Cork", "Derry"])[town],
            "region": np.array(["north", "south"])[town % 2],
            "age": age,
            "income": np.round(1000.0 * age + random.normal(0, 500, rows), 2),
            "member": random.random(rows) < age / 80,
            "joined": pl.Series(age * 100 + random.integers(0, 30, rows))
            .cast(pl.Int32)
            .cast(pl.Date),
        }
    )
    hole = pl.Series(random.random(rows) < 0.1)
    return frame.with_columns(pl.when(~hole).then("income").alias("income"))


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("a", [1, None, 300]),
        pl.Series("a", [1.5, None, -2.25]),
        pl.Series("a", [dt.date(1969, 1, 1), None, dt.date(2024, 2, 29)]),
        pl.Series("a", [dt.datetime(1969, 1, 1, 2, 3, 4), None, dt.datetime(2024, 2, 29)]),
        pl.Series("a", [dt.time(0, 0), None, dt.time(23, 59, 59)]),
        pl.Series("a", [dt.timedelta(days=-1), None, dt.timedelta(seconds=1.5)]),
    ],
    ids=lambda column: str(column.dtype),
)
def test_numbers_are_written_back_as_they_were(column):
    values = to_floats(column)
    assert math.isnan(values[1])
    assert to_series("a", values, column.dtype).equals(column, check_names=True)


def test_units_of_dates_are_days_and_of_times_seconds():
    assert to_floats(pl.Series([dt.date(1970, 1, 3)])) == 2
    assert to_floats(pl.Series([dt.datetime(1970, 1, 3, 12)])) == 2.5
    assert to_floats(pl.Series([dt.time(1, 0, 1)])) == 3601
    assert to_floats(pl.Series([dt.timedelta(minutes=2)])) == 120


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([1.0, 20.0], 0), ([1.5, 2.25], 2), ([0.1 + 0.2, NAN], 1), ([1 / 3, 2.0], None), ([NAN], 0)],
)
def test_decimals_are_the_fewest_that_write_all_values(values, decimals):
    assert decimals_of(np.array(values)) == decimals


def test_values_on_no_decimal_grid_have_a_step_of_a_thousandth_of_their_deviation():
    values = np.random.default_rng(0).normal(0, 5, 1000)
    assert step_of(values) == pytest.approx(values.std() / 1000)
    assert step_of(np.round(values, 1)) == pytest.approx(0.1)


def test_levels_are_sorted_by_frequency_and_missing_is_one_more():
    column = pl.Series("a", ["x", "y", "y", None])
    levels = Levels.of(column)
    assert levels.levels == ("y", "x")
    assert levels.counts == (2, 1, 1)
    assert levels.index(column).tolist() == [1, 0, 0, 2]
    assert levels.index(pl.Series(["new"])).tolist() == [3]
    assert levels.series(levels.index(column)).equals(column)


def test_two_numbers_count_as_levels_and_more_as_numbers():
    frame = pl.DataFrame({"a": [0, 1, 0], "b": [0, 1, 2], "c": [True, False, None]})
    kinds = [type(column) for column in columns_of(frame)]
    assert kinds == [Levels, Numbers, Levels]


def test_trees_do_not_tell_a_sample_from_another_of_the_same_table_but_independent_columns():
    train, test = mixed(seed=1), mixed(seed=2)
    encoding = measures.Encoding.of(train)
    error = math.sqrt(2 / (12 * len(test)))
    assert abs(measures.two_sample_auc(mixed(seed=3), test, encoding, 0) - 0.5) < 4 * error
    shuffled = pl.DataFrame(train[name].shuffle(seed=k) for k, name in enumerate(train.columns))
    assert measures.two_sample_auc(shuffled, test, encoding, 0) > 0.9


def test_trees_see_values_between_those_of_a_grid_holes_and_weekdays():
    train, test = mixed(seed=1), mixed(seed=2)
    encoding = measures.Encoding.of(train)
    changed = {
        "between": pl.col("age") + 0.5 * (pl.col("age") % 2),
        "more holes": pl.when(pl.col("age") % 2 == 0).then("income").alias("income"),
        "on Mondays": pl.col("joined").dt.truncate("1w"),
    }
    for name, change in changed.items():
        rows = mixed(seed=3).with_columns(change)
        assert measures.two_sample_auc(rows, test, encoding, 0) > 0.6, name


def test_new_levels_of_generated_rows_do_not_look_missing():
    train = mixed()
    rows, categories = measures.Encoding.of(train).encode(
        train.head(3).with_columns(pl.Series("town", ["Ayr", None, "Oz"]))
    )
    assert len(set(rows[:, 0])) == 3
    # The weekday of the date comes last.
    assert categories == [True, True, False, False, True, False, False]


def test_utility_is_that_of_the_bayes_rule_for_a_rule_without_noise():
    train, test = mixed(seed=1), mixed(seed=2)
    encoding = measures.Encoding.of(train)
    assert measures.utility(train, test, "region", encoding, 0) == 1
    # The income has the deviation 500 around a line of the age.
    explained = 1 - 500**2 / np.nanvar(to_floats(test["income"]))
    assert measures.utility(train, test, "income", encoding, 0) == pytest.approx(
        explained, abs=0.01
    )
    flipped = train.with_columns(
        pl.when(pl.col("region") == "north")
        .then(pl.lit("south"))
        .otherwise(pl.lit("north"))
        .alias("region")
    )
    assert measures.utility(flipped, test, "region", encoding, 0) == 0
    constant = train.with_columns(pl.lit("north").alias("region"))
    share = (test["region"] == "north").mean()
    assert measures.utility(constant, test, "region", encoding, 0) == pytest.approx(share)


def test_contradictions_are_pairs_of_settled_columns_that_never_occur():
    frame = mixed()
    settled = measures.settled_columns(frame)
    assert [(each.parent, each.child) for each in settled] == [("town", "region")]
    assert measures.contradictions(frame, settled) == 0
    wrong = pl.DataFrame(
        {"town": ["Ayr", "Ayr", "Ayr", None], "region": ["north", "south", None, "x"]}
    )
    assert measures.contradictions(wrong, settled) == 0.25
    assert math.isnan(measures.contradictions(frame.drop("town"), settled))


def test_copies_are_equal_in_every_cell_and_holes_equal_each_other():
    train = pl.DataFrame({"a": [1, None], "b": ["x", "y"]})
    generated = pl.DataFrame({"a": [1, None, 1, None], "b": ["x", "y", "y", None]})
    assert measures.copies(generated, train) == 0.5


def test_mixed_up_rows_have_usual_values_and_the_others_are_as_they_were():
    frame = mixed()
    rows, anomalous = measures.mixed_up(frame, 0)
    assert rows.filter(pl.Series(~anomalous)).equals(frame.filter(pl.Series(~anomalous)))
    assert 0.02 < anomalous.mean() < 0.1
    for name in frame.columns:
        assert rows[name].dtype == frame[name].dtype
        assert set(rows[name]) <= set(frame[name])
    changed = rows.filter(pl.Series(anomalous)), frame.filter(pl.Series(anomalous))
    assert not changed[0].equals(changed[1])


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_hidden_cells_are_null_and_the_others_as_they_were(share):
    frame = mixed()
    rows, hidden = measures.hide(frame, share, 0)
    for place, name in enumerate(frame.columns):
        cells = hidden[:, place]
        seen = frame[name].is_not_null().to_numpy()
        assert rows[name].dtype == frame[name].dtype
        assert rows[name].filter(pl.Series(cells)).null_count() == cells.sum()
        kept = pl.Series(~cells)
        assert rows[name].filter(kept).equals(frame[name].filter(kept))
        assert not (cells & ~seen).any()
        error = math.sqrt(share * (1 - share) / seen.sum())
        assert abs(cells.sum() / seen.sum() - share) < 5 * error


def test_errors_of_imputed_cells_are_in_standard_deviations_of_the_training_rows():
    train = pl.DataFrame({"a": [0.0, 2.0, 4.0, 6.0], "b": ["x", "y", "x", "y"]})
    deviation = np.std([0, 2, 4, 6])
    hidden = np.array([[True, True], [True, False], [False, True], [False, False]])
    filled = train.with_columns(pl.Series("a", [1.0, 4.0, 99.0, 99.0]), pl.lit("x").alias("b"))
    low, high = {"a": np.array([-1.0, 3, 0, 0])}, {"a": np.array([1.0, 5, 0, 0])}
    found = measures.imputation(Imputed(filled, low, high), train, hidden, train)
    assert found == pytest.approx(
        {
            "rmse": math.sqrt((1 + 4) / 2) / deviation,
            "accuracy": 1.0,
            "coverage": 0.5,
            "width": 2 / deviation,
        }
    )
    assert set(measures.imputation(Imputed(filled), train, hidden, train)) == {"rmse", "accuracy"}
