"""Tables of reports fit the output and hold every number."""

from dataclasses import replace

import pytest
import torch

import mimachine as mm
from mimachine.cli.output import print_reports

pytestmark = pytest.mark.usefixtures("few_trees")


@pytest.fixture(scope="module")
def report():
    model = mm.probabilistic_pca(torch.randn(50, 3), 1)
    data = mm.Dataset("x", *torch.randn(60, 3).split(20))
    return mm.evaluate(model, data, num_samples=2)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_every_number_of_every_report_is_printed_in_full(report, count, capsys):
    print_reports({f"model {i}": report for i in range(count)})
    printed = capsys.readouterr().out
    assert "…" not in printed
    header = [line for line in printed.splitlines() if "metric (mean" in line]
    assert sum(line.count("model ") for line in header) == count
    assert all(len(line.rstrip()) <= 120 for line in header)
    for metric in report.metrics:
        lines = [line for line in printed.splitlines() if line.startswith(f"{metric.name} (")]
        assert sum(line.count(metric.marked) for line in lines) >= count


def test_metrics_that_the_first_report_lacks_are_printed(report, capsys):
    fewer = replace(report, metrics=report.metrics[:3])
    print_reports({"first": fewer, "second": report})
    printed = capsys.readouterr().out
    assert all(f"{metric.name} (" in printed for metric in report.metrics)
