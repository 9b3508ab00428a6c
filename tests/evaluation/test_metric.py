"""Reports in JSON, as they were written or edited."""

import copy
import math

import pytest

import mimachine as mm
from mimachine.evaluation import metric
from mimachine.evaluation.advice import VERDICTS
from mimachine.evaluation.metric import Metric

REPORT = mm.Report(
    (
        Metric("a", 1.5, "nats", "a number", "mean", 0.5, ("note",), True, ("saturated",)),
        Metric("b", math.inf, "", "another", "sample"),
    ),
    "healthy",
    "advice",
)


def test_a_report_is_read_back_and_other_entries_are_ignored():
    value = REPORT.to_json()
    read = mm.Report.from_json({**value, "num_samples": 3})
    assert read["a"] == REPORT["a"]
    assert math.isnan(read["b"].value)
    for entry in ("standard_error", "flagged", "reasons"):
        del value["metrics"][1][entry]
    assert math.isnan(mm.Report.from_json(value)["b"].value)


def test_verdicts_are_those_with_advice():
    assert set(metric._VERDICTS) == set(VERDICTS)


WRONG = [
    ("value", "1"), ("value", True), ("value", [1.0]), ("value", 10**400), ("name", 1),
    ("name", None), ("unit", None), ("latent", "other"), ("standard_error", -0.1),
    ("standard_error", "1"), ("notes", "text"), ("notes", [1]), ("flagged", 1),
    ("reasons", ["other"]), ("reasons", None), ("other", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_an_impossible_metric_is_refused_by_its_entry(name, value):
    report = copy.deepcopy(REPORT.to_json())
    report["metrics"][0][name] = value
    with pytest.raises(ValueError, match=rf"the report is not valid: metrics\.0\.{name}"):
        mm.Report.from_json(report)


@pytest.mark.parametrize(
    ("name", "value"), [("verdict", "splendid"), ("advice", 1), ("metrics", {}), ("metrics", [1])]
)
def test_an_impossible_report_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"the report is not valid: {name}"):
        mm.Report.from_json({**REPORT.to_json(), name: value})


def test_what_is_no_report_is_refused():
    for value in (None, [], "x", 1):
        with pytest.raises(ValueError, match="a report must be a JSON object"):
            mm.Report.from_json(value)
    value = REPORT.to_json()
    value["metrics"] *= 2
    with pytest.raises(ValueError, match="a metric occurs twice"):
        mm.Report.from_json(value)
