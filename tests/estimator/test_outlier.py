"""`MIMOutlier` as scikit-learn and its users call it."""

import numpy as np
import pytest
from peopleframe import people
from sklearn.utils.estimator_checks import parametrize_with_checks

import mimachine as mm


def short(**changes):
    return mm.MIMOutlier(**{"max_epochs": 3, "random_state": 0, **changes})


@parametrize_with_checks([short(random_state=None)])
def test_it_keeps_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


def test_a_value_that_contradicts_the_others_is_found():
    table = people(400).dropna()
    detector = short(max_epochs=60, contamination=0.02).fit(table)
    usual = detector.decision_function(table)
    changed = table.copy()
    changed["spend"] = 3.0 * (110 - table["age"].astype(float))
    far = (table["age"].astype(float) - 55).abs() > 25
    unusual = detector.decision_function(changed)
    assert np.median(unusual[far]) < np.percentile(usual, 5)


def test_scores_do_not_depend_on_missing_values_alone():
    detector = short().fit(people())
    assert np.isfinite(detector.score_samples(people())).all()


@pytest.mark.parametrize("share", [0, 0.6, -1, "auto"])
def test_contamination_is_a_share(share):
    with pytest.raises((ValueError, TypeError), match="contamination"):
        short(contamination=share).fit(np.random.default_rng(0).normal(size=(30, 2)))


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_the_offset_is_that_of_the_training_rows(share):
    x = np.random.default_rng(0).normal(size=(200, 3))
    detector = short(contamination=share).fit(x)
    assert (detector.predict(x) == -1).mean() == pytest.approx(share, abs=0.01)
