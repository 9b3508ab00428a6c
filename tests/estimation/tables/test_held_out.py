import math

import pytest
import torch
from oracles import LinearGaussian, draws
from tableoracles import AtPrior, Decoder, by_sum, conditional, normal_table

import mimachine as mm
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.tables.held_out import _share, held_out_coverage

pytestmark = pytest.mark.usefixtures("double")


def within(estimate, expected, errors=5):
    assert abs(estimate.value - expected) < errors * estimate.standard_error


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_of_a_true_model_have_the_coverage_that_they_say(level):
    case = LinearGaussian.random(5, 2, seed=4)
    model, proposal = normal_table(case)
    rows = draws(case.marginal(), 700)
    rows[::3, 1] = math.nan
    found = held_out_coverage(model, rows, proposal=proposal, draws=300, level=level)
    within(found.coverage, level)
    assert abs(found.expected - level) < 0.01
    for column in found.columns:
        within(column.coverage, level)
    assert 0.08 < sum(column.entries for column in found.columns) / rows.isfinite().sum() < 0.12
    assert found.flagged == 0
    assert found.accuracy is None


def test_errors_of_numbers_are_the_deviations_of_their_conditionals():
    case = LinearGaussian.random(3, 2, seed=6)
    model, proposal = normal_table(case)
    marginal = case.marginal()
    rows = draws(marginal, 900)
    found = held_out_coverage(model, rows, proposal=proposal, draws=300, share=0.02)
    for column in found.columns:
        # So few are hidden that nearly always the other two are seen.
        row = rows[0].clone()
        row[column.column] = math.inf
        one = torch.tensor([column.column])
        exact = conditional(marginal, row, one).covariance / marginal.covariance[one, one]
        within(column.rmse, float(exact.sqrt()))


def test_a_proposal_that_is_too_narrow_covers_too_little():
    case = LinearGaussian.random(5, 2, seed=4)
    model, _ = normal_table(case)
    rows = draws(case.marginal(), 300)

    class AtMean(torch.nn.Module):
        def forward(self, rows):
            loc = rows.new_zeros(len(rows), 2)
            return mm.DiagNormal(loc, torch.full_like(loc, 1e-3))

    found = held_out_coverage(model, rows, proposal=AtMean(), draws=100, share=0.4)
    assert found.coverage.value < 0.9 - 5 * found.coverage.standard_error


def test_accuracy_is_what_the_model_expects_and_not_below_the_most_frequent_level():
    levels = [(torch.tensor([[2.0], [-2.0], [0.0]]), torch.tensor([0.5, 0.0, 0.0]))]
    decoder = Decoder(lambda z: z, torch.tensor([0.3]), levels)
    model = mm.Joint(AtPrior(), decoder, mm.StandardNormal(1).double())
    rows = decoder(torch.randn(3000, 1)).sample().detach()
    found = held_out_coverage(model, rows, draws=300, share=0.3, most_rows=3000)
    of_levels = found.columns[1]
    within(of_levels.accuracy, of_levels.expected)
    assert of_levels.accuracy.value > of_levels.most_frequent
    assert found.accuracy.value == pytest.approx(of_levels.accuracy.value)
    hidden = torch.tensor([math.inf, math.inf])
    z, weights = by_sum(model, hidden)
    frequent = (weights @ decoder(z).log_levels[0].detach().exp()).max()
    assert abs(of_levels.most_frequent - frequent) < 5 * math.sqrt(0.25 / of_levels.entries)


def test_the_error_of_a_share_takes_entries_of_a_row_as_dependent():
    row = torch.arange(400).repeat_interleave(3)
    together = (torch.rand(400) < 0.8).double().repeat_interleave(3)
    found = _share(together, row)
    expected = Estimate.of_share(float(together.mean()), 400)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.05)
    apart = (torch.rand(1200) < 0.8).double()
    found = _share(apart, row)
    expected = Estimate.of_share(float(apart.mean()), 1200)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=0.15)


def test_rows_without_seen_entries_are_refused():
    case = LinearGaussian.random(3, 2, seed=6)
    model, _ = normal_table(case)
    with pytest.raises(ValueError, match="rows must have seen entries to hide"):
        held_out_coverage(model, torch.full((5, 3), math.nan))
