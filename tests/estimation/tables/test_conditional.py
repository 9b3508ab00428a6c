import math

import pytest
import torch
from oracles import LinearGaussian, draws, within_standard_errors
from tableoracles import AtPrior, Decoder, conditional, normal_table

import mimachine as mm
from mimachine.estimation.tables.conditional import sample_given

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("exact", [False, True])
def test_rows_have_the_conditional_mean_and_covariance(exact):
    case = LinearGaussian.random(4, 2, seed=8)
    model, proposal = normal_table(case)
    given = draws(case.marginal(), 1)[0]
    given[[1, 3]] = math.inf
    found = sample_given(model, given, 3000, draws=60_000, proposal=proposal if exact else None)
    rows = found.rows[0]
    assert (rows[:, [0, 2]] == given[[0, 2]]).all()
    normal = conditional(case.marginal(), given, torch.tensor([1, 3]))
    offset = rows[:, [1, 3]] - normal.mean
    within_standard_errors(offset, 0.0)
    within_standard_errors(offset[:, 0] * offset[:, 1], normal.covariance[0, 1])
    within_standard_errors(offset.square(), normal.covariance.diagonal())
    assert not found.flagged.any()


def test_the_effective_share_of_draws_is_the_probability_of_a_condition_that_the_code_settles():
    # A level that is certain given the sign of the code.
    levels = [(torch.tensor([[1e4], [0.0]]), torch.tensor([-1e4, 0.0]))]
    decoder = Decoder(lambda z: z, torch.tensor([0.1]), levels)
    model = mm.Joint(AtPrior(), decoder, mm.StandardNormal(1).double())
    found = sample_given(model, torch.tensor([[math.inf, 0.0]]), 50, draws=100_000)
    # The level is 0 for codes above 1.
    probability = 0.5 * math.erfc(1 / math.sqrt(2))
    share = found.effective_sample_sizes[0] / 100_000
    assert found.log_probabilities[0].exp() == pytest.approx(float(share), rel=0.01)
    assert abs(share - probability) < 5 * math.sqrt(probability / 100_000)
    assert (found.rows[0, :, 0] > 0.4).all()


def test_a_rare_condition_is_flagged_and_a_common_one_is_not():
    decoder = Decoder(lambda z: z, torch.tensor([0.01]), [])
    model = mm.Joint(AtPrior(), decoder, mm.StandardNormal(1).double())
    found = sample_given(model, torch.tensor([[0.3], [5.5]]), 10)
    assert found.flagged.tolist() == [False, True]


def test_without_a_condition_rows_are_those_of_the_model_with_codes_of_their_own():
    case = LinearGaussian.random(3, 2, seed=9)
    model, _ = normal_table(case)
    found = sample_given(model, torch.full((3,), math.inf), 5000)
    marginal = case.marginal()
    within_standard_errors(found.rows[0], marginal.mean)
    within_standard_errors((found.rows[0] - marginal.mean).square(), marginal.covariance.diagonal())
    assert found.effective_sample_sizes[0] == pytest.approx(found.num_draws)


def test_seeds_reproduce():
    case = LinearGaussian.random(3, 2, seed=9)
    model, _ = normal_table(case)
    given = torch.tensor([[0.3, math.inf, math.inf]])
    first, again, other = (sample_given(model, given, 5, draws=500, seed=s) for s in (3, 3, 4))
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.rows, other.rows)
