"""`MIMImputer` as scikit-learn and its users call it."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from peopleframe import people
from sklearn.utils.estimator_checks import parametrize_with_checks

import mimachine as mm


def short(**changes):
    return mm.MIMImputer(**{"max_epochs": 3, "random_state": 0, **changes})


@parametrize_with_checks([short(random_state=None)])
def test_it_keeps_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


def test_known_values_stay_and_holes_are_filled():
    table = people()
    filled = short().fit_transform(table)
    assert (filled.dtypes == table.dtypes).all()
    assert filled.index.equals(table.index)
    assert not filled.isna().any().any()
    for name in table.columns:
        known = table[name].notna()
        assert (filled.loc[known, name] == table.loc[known, name]).all()


@pytest.mark.slow
def test_it_uses_what_the_rest_of_the_row_says():
    table = people(400)
    filled = mm.MIMImputer(random_state=0, max_epochs=60).fit_transform(table)
    holes = table["spend"].isna()
    error = (filled["spend"] - 3 * table["age"].astype(float))[holes]
    assert error.std() < 0.3 * table["spend"].std()


@pytest.mark.parametrize("make", [pl.DataFrame, np.asarray, lambda values: values.astype(object)])
def test_other_containers_come_back(make):
    values = np.random.default_rng(0).normal(size=(80, 3))
    values[::9, 1] = np.nan
    given = make(values)
    filled = short().fit_transform(given)
    assert type(filled) is type(given)
    array = np.asarray(filled, dtype=float)
    assert np.isfinite(array).all()
    np.testing.assert_array_equal(array[~np.isnan(values)], values[~np.isnan(values)])


def test_a_column_without_values_stays():
    values = np.random.default_rng(0).normal(size=(60, 3))
    values[:, 2] = np.nan
    filled = short().fit_transform(values)
    assert filled.shape == (60, 3)
    assert np.isnan(filled[:, 2]).all()


def test_intervals_are_at_hand():
    table = people()
    imputer = short().fit(table)
    found = mm.impute(imputer.generator_, imputer.rows(table), proposal=imputer.proposal_)
    assert len(found.row) == int(table.isna().sum().sum())
    assert list(imputer.get_feature_names_out()) == list(table.columns)


def test_draws_must_be_positive():
    with pytest.raises(ValueError, match="draws"):
        short(draws=0).fit(people()).transform(people())


def test_images_are_refused():
    with pytest.raises(ValueError, match="images"):
        short().fit(np.random.default_rng(0).random((20, 4, 4)))


def test_set_output_gives_names():
    values = pd.DataFrame({"a": [1.0, 2.0, None, 4.0] * 20, "b": [2.0, 4.0, 6.0, 8.0] * 20})
    filled = short().set_output(transform="polars").fit_transform(values)
    assert filled.columns == ["a", "b"]
