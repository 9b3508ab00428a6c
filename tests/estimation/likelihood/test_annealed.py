import math
from dataclasses import replace

import pytest
import torch
from oracles import LinearGaussian, draws, joint, within_standard_errors
from torch import nn
from torch.distributions import Distribution

import mimachine as mm
from mimachine.estimation.likelihood.annealed import (
    AnnealedLogLikelihood,
    BidirectionalCheck,
    _Ladder,
)
from mimachine.estimation.likelihood.importance import log_mean


def within_their_errors(result, truth):
    """Assert that scores are those of estimates whose errors are from 32 chains."""
    scores = (result.values - truth) / result.standard_errors
    within_standard_errors(scores, 0.0)
    # Student's t of 31 degrees of freedom has a variance of 31/29 and a kurtosis of 3.2.
    spread = math.sqrt(2.2 / len(scores)) * 31 / 29
    assert abs(float(scores.var()) - 31 / 29) < 5 * spread


@pytest.mark.parametrize("dims", [(1, 1), (3, 2), (4, 6)])
def test_estimates_scatter_about_the_closed_form_as_their_errors_say(dims):
    case = LinearGaussian.random(*dims, seed=1)
    x = draws(case.marginal(), 100)
    result = mm.annealed_log_likelihood(joint(case), x, num_steps=60)
    within_their_errors(result, case.marginal().log_prob(x))
    assert (result.acceptance_rates > 0.5).all()
    assert ((result.effective_sample_sizes >= 1) & (result.effective_sample_sizes <= 32)).all()


def test_unflagged_intervals_of_95_percent_hold_in_90_to_99_percent():
    case = LinearGaussian.random(2, 2, seed=3)
    case = replace(case, s_p=2 * case.s_p)
    x = draws(case.marginal(), 300)
    result = mm.annealed_log_likelihood(joint(case), x, num_steps=60)
    off = (result.values - case.marginal().log_prob(x)).abs()
    trusted = ~result.flagged
    assert trusted.sum() > 150
    assert (off[trusted] < 0.2).all()
    inside = (off < 1.96 * result.standard_errors)[trusted].double().mean()
    assert 0.9 <= float(inside) <= 0.99


class Bent(nn.Module):
    """Two latents bent into three values, with noise."""

    def forward(self, z):
        first, second = z.unbind(-1)
        loc = torch.stack([first + second.square(), (2 * first).sin(), second - first**2], -1)
        return mm.DiagNormal(loc, torch.tensor(0.3).double())


def bent():
    encoder = mm.Gaussian(mm.MLP(3, 4))
    return mm.Joint(encoder, Bent(), mm.StandardNormal(2)).double()


@pytest.mark.parametrize("start", ["prior", "mixture"])
def test_it_agrees_with_quadrature_for_a_bent_decoder_from_any_start(start):
    torch.manual_seed(0)
    model = bent()
    x = Bent()(torch.randn(60, 2).double()).sample()
    options = {} if start == "prior" else {"start": mm.DefensiveProposal(model, (1.0, 3.0))}
    result = mm.annealed_log_likelihood(model, x, num_steps=80, **options)
    exact = mm.quadrature_log_likelihood(model, x, tolerance=1e-4)
    within_their_errors(result, exact.values)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_the_mean_weight_is_the_likelihood_however_few_the_steps(num_steps):
    # Exact for finite steps: every transition is invariant, and the pilot does not change that.
    class Folded(nn.Module):
        def forward(self, z):
            return mm.DiagNormal(z.abs() + 0.3 * z, torch.tensor(0.5).double())

    model = mm.Joint(Folded(), Folded(), mm.StandardNormal(1).double())
    x = torch.tensor([[0.7]]).double()
    exact = mm.quadrature_log_likelihood(model, x, tolerance=1e-6).values
    many = x.expand(1000, 1)
    result = mm.annealed_log_likelihood(
        model, many, num_chains=2, num_steps=num_steps, chunk_size=20_000
    )
    within_standard_errors((result.values - exact).exp(), 1.0)
    # An estimate of few steps is too low itself.
    assert result.values.mean() < exact - 0.01


def test_data_that_the_model_makes_have_their_likelihood_between_both_estimates():
    case = LinearGaussian.random(4, 3, seed=4)
    model = joint(case)
    check = mm.bidirectional_check(model, 1200, num_chains=16, num_steps=5)
    truth = case.marginal().log_prob(check.x)
    within_standard_errors(check.x, case.marginal().mean)
    for low, high in ((check.lower.values, truth), (truth, check.upper.values)):
        below = mm.Estimate.mean_of(high - low)
        assert below.value > -3 * below.standard_error
    within_standard_errors((check.lower.values - truth).exp(), 1.0)
    within_standard_errors((truth - check.upper.values).exp(), 1.0)
    torch.testing.assert_close(check.gaps, check.upper.values - check.lower.values)
    # The gap comes from the variance of the weights, which more steps reduce.
    closer = mm.bidirectional_check(model, 100, num_chains=16, num_steps=50).mean_gap()
    gap = check.mean_gap()
    assert gap.value > 5 * gap.standard_error
    assert closer.value < 0.6 * gap.value
    assert f"1200 examples from the model: mean log p(x) is {check.lower.mean()} nats" in str(check)


def test_chains_from_the_prior_find_both_modes_that_a_proposal_on_one_does_not():
    class Folded(nn.Module):
        def forward(self, z):
            return mm.DiagNormal(z.abs(), torch.tensor(0.01).double())

    class OneMode(nn.Module):
        def forward(self, x):
            return mm.DiagNormal(x / 1.0001, torch.tensor(0.01 / 1.0001**0.5).double())

    model = mm.Joint(OneMode(), Folded(), mm.StandardNormal(1).double())
    x = 0.5 + torch.rand(40, 1).double()
    exact = mm.quadrature_log_likelihood(model, x, tolerance=1e-4).values
    result = mm.annealed_log_likelihood(model, x, num_steps=100)
    within_their_errors(result, exact)
    # The pilot aims at 0.85, and this is the minimum over ten windows of the path.
    assert 0.6 < float(result.acceptance_rates.mean()) < 0.9
    # Chains that start on one mode stay there, so the start decides which modes are found.

    def blinded(data):
        return mm.quadrature_log_likelihood(model, data, tolerance=1e-4).values - math.log(2)

    blind = mm.annealed_log_likelihood(model, x, num_steps=30, start=model.encoder)
    torch.testing.assert_close(blind.values, blinded(x), rtol=0, atol=1e-3)
    assert not blind.flagged.any()
    # The check shows it on the half of the examples whose latents are on the other mode.
    check = mm.bidirectional_check(model, 60, num_steps=30, start=model.encoder)
    apart = check.x.squeeze(1) > 0.1  # Where the modes do not overlap.
    missed = check.lower.values - blinded(check.x)
    assert (missed[apart].abs() < 1e-3).all()
    # At 5 standard errors of a share of one half.
    wide = (check.gaps[apart] > 1).double()
    assert abs(float(wide.mean()) - 0.5) < 2.5 / math.sqrt(len(wide))
    assert check.mean_gap().value > 10


def test_a_needle_that_no_slope_leads_to_is_missed_and_no_flag_tells():
    # Most of the likelihood is where z is 2 up to 0.0001; elsewhere the decoder is flat.
    width, std = 1e-4, 0.2

    class Needle(nn.Module):
        def forward(self, z):
            loc = torch.exp(-0.5 * ((z - 2) / width).square())
            return mm.DiagNormal(loc, torch.tensor(std).double())

    class Pointed(nn.Module):
        def forward(self, x):
            return mm.DiagNormal(torch.full_like(x, 2.0), torch.tensor(width).double())

    model = mm.Joint(Pointed(), Needle(), mm.StandardNormal(1).double())
    x = torch.ones(3, 1).double()
    elsewhere = mm.DiagNormal(torch.zeros_like(x), torch.tensor(std).double()).log_prob(x)
    offset = torch.linspace(-8, 8, 10_001).double()[:, None] * width
    needle = Needle()(2 + offset).log_prob(x[:1]).exp() - elsewhere[0].exp()
    inside = needle.sum() * (offset[1] - offset[0]) * model.prior().log_prob(2 + offset[5000]).exp()
    exact = (elsewhere.exp() + inside).log()
    assert (exact > elsewhere + 1).all()
    blind = mm.annealed_log_likelihood(model, x, num_steps=100)
    torch.testing.assert_close(blind.values, elsewhere, rtol=0, atol=0.1)
    assert not blind.flagged.any()
    # A start that covers it finds it.
    start = mm.DefensiveProposal(model, (1.0,), 0.5)
    found = mm.annealed_log_likelihood(model, x, num_steps=100, start=start)
    assert ((found.values - exact).abs() < 5 * found.standard_errors).all()


def test_the_exact_posterior_as_start_gives_the_exact_likelihood():
    case = LinearGaussian.consistent(3, 2, seed=5)
    x = draws(case.data, 10)
    model = joint(case)
    result = mm.annealed_log_likelihood(model, x, num_steps=5, start=model.encoder)
    torch.testing.assert_close(result.values, case.marginal().log_prob(x), rtol=0, atol=1e-9)


def test_latents_of_any_shape_and_single_precision_will_do():
    torch.manual_seed(0)

    class Flat(nn.Module):
        def forward(self, z):
            return mm.DiagNormal(z.flatten(1), torch.tensor(0.5))

    for shape in ((), (1,), (2, 1, 2)):

        class Shaped(nn.Module):
            def forward(self, z):
                return mm.DiagNormal(z.reshape(len(z), -1), torch.tensor(0.5))

        prior = mm.StandardNormal(shape)
        model = mm.Joint(Shaped(), Shaped(), prior)
        x = torch.randn(30, math.prod(shape)) * math.sqrt(1.25)
        marginal = mm.DiagNormal(torch.zeros_like(x[0]), torch.tensor(math.sqrt(1.25)))
        result = mm.annealed_log_likelihood(model, x, num_steps=40)
        within_standard_errors((result.values - marginal.log_prob(x)) / result.standard_errors, 0.0)
        assert mm.bidirectional_check(model, 3, num_steps=10).x.shape == (3, math.prod(shape))


def test_a_likelihood_that_no_latent_changes_is_exact():
    class Constant(nn.Module):
        def forward(self, z):
            return mm.DiagNormal(torch.zeros(len(z), 2), torch.tensor(1.0))

    model = mm.Joint(Constant(), Constant(), mm.StandardNormal(3))
    x = torch.randn(4, 2)
    result = mm.annealed_log_likelihood(model, x, num_steps=20)
    torch.testing.assert_close(result.values, Constant()(x).log_prob(x).double())
    assert not result.flagged.any()


class Wall(nn.Module):
    """A decoder that is not a number beyond 2, checked as torch's own distributions are."""

    def forward(self, z):
        loc = torch.where(z.abs() < 2, z, math.nan)
        return torch.distributions.Independent(torch.distributions.Normal(loc, 0.5), 1)


def test_trajectories_that_leave_what_is_defined_are_rejected_and_not_followed():
    checking = Distribution._validate_args
    model = mm.Joint(Wall(), Wall(), mm.StandardNormal(1)).double()
    x = torch.linspace(-2, 2, 60).double()[:, None]
    z = torch.linspace(-2, 2, 100_001).double()[1:-1, None]
    density = mm.DiagNormal(z, torch.tensor(0.5).double())
    prior = model.prior().log_prob(z)
    exact = torch.stack([torch.logsumexp(density.log_prob(row) + prior, 0) for row in x])
    exact = exact + math.log(4 / 100_000)
    result = mm.annealed_log_likelihood(model, x, num_steps=50)
    assert result.values.isfinite().all()
    within_standard_errors((result.values - exact) / result.standard_errors, 0.0)
    # Distributions validate their arguments again afterwards.
    assert Distribution._validate_args is checking


def test_a_seed_decides_all_and_the_model_is_left_as_it_was():
    torch.manual_seed(0)
    encoder = mm.Gaussian(nn.Sequential(nn.Dropout(0.5), mm.MLP(3, 4)))
    decoder = mm.Gaussian(nn.Sequential(nn.Dropout(0.5), mm.MLP(2, 6)), floor=0.1)
    model = mm.Joint(encoder, decoder, mm.LearnedNormal(2))
    model.decoder.eval()
    model.encoder.network[1].requires_grad_(False)
    modes = [part.training for part in model.modules()]
    needs = [parameter.requires_grad for parameter in model.parameters()]
    x = torch.randn(5, 3)
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        options = {"num_chains": 3, "num_steps": 10}
        results.append(mm.annealed_log_likelihood(model, x, start=model.encoder, **options))
        results.append(mm.bidirectional_check(model, 4, **options).upper)
    for first, second in ((results[0], results[2]), (results[1], results[3])):
        assert torch.equal(first.values, second.values)
        assert torch.equal(first.standard_errors, second.standard_errors)
        assert not first.values.requires_grad
    assert [part.training for part in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == needs
    assert all(parameter.grad is None for parameter in model.parameters())


class Counting(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part, self.rows = part, []

    def forward(self, condition):
        self.rows.append(len(condition))
        return self.part(condition)


@pytest.mark.parametrize("chunk_size", [1, 7, 40, 1000])
def test_no_more_chains_than_the_chunk_are_decoded_at_once(chunk_size):
    case = LinearGaussian.random(3, 2, seed=6)
    model = joint(case)
    model.decoder = Counting(model.decoder)
    x = draws(case.marginal(), 3)
    result = mm.annealed_log_likelihood(
        model, x, num_chains=20, num_steps=4, num_leapfrog=2, chunk_size=chunk_size
    )
    assert result.values.shape == (3,)
    # A pilot runs its 16 chains of an example together.
    assert max(model.decoder.rows) <= max(chunk_size, 16)
    pilot = sum(model.decoder.rows) - 3 * 20 * (1 + 3 * 2)
    assert pilot in [3 * 16 * (1 + 2 * steps) for steps in (1, 2)]


def test_the_mean_of_weights_and_its_error_are_those_of_the_weights_themselves():
    weights = torch.tensor([[1.0, 3.0, 2.0, 2.0], [0.5, 0.1, 7.0, 1.0]]).double().T
    value, error, effective = log_mean(weights.log())
    torch.testing.assert_close(value.exp(), weights.mean(0))
    torch.testing.assert_close(error, weights.std(0) / 2 / weights.mean(0))
    torch.testing.assert_close(effective, weights.sum(0).square() / weights.square().sum(0))


def test_a_ladder_is_climbed_evenly_and_no_further_than_each_datum_needs():
    betas = torch.tensor([[0.0, 0.0], [0.2, 1.0], [1.0, 1.0]]).double()
    steps = torch.tensor([[1.0, 4.0], [0.5, 2.0], [0.1, 0.3]])[..., None]
    ladder = _Ladder(betas, steps, torch.tensor([2.0, 1.0]).double())
    for share, beta, step in (
        (0.0, [0.0, 0.0], [1.0, 4.0]),
        (0.25, [0.1, 0.25], [0.75, 3.5]),
        (0.75, [0.6, 0.75], [0.3, 2.5]),
        (1.0, [1.0, 1.0], [0.1, 2.0]),
    ):
        found = ladder.at(share)
        torch.testing.assert_close(found[0], torch.tensor(beta).double())
        torch.testing.assert_close(found[1], torch.tensor(step)[:, None])


def test_what_tells_nothing_is_flagged():
    values = torch.zeros(5)
    errors = torch.tensor([0.05, 0.06, math.nan, 0.01, 0.0])
    rates = torch.tensor([0.8, 0.8, 0.8, 0.2, math.nan])
    result = AnnealedLogLikelihood(values, errors, values, rates, 16, 100)
    assert result.flagged.tolist() == [False, True, True, True, False]
    assert replace(result, num_chains=7).flagged.all()
    assert replace(result, values=values - math.inf).flagged.all()


def test_the_mean_has_the_error_of_the_scatter_over_data_or_that_of_one_datum():
    errors = torch.tensor([0.1, 0.2, 0.3])
    result = AnnealedLogLikelihood(torch.tensor([1.0, 2.0, 6.0]), errors, errors, errors, 16, 9)
    assert result.mean() == mm.Estimate.mean_of(result.values)
    one = replace(result, values=torch.tensor([1.5]), standard_errors=torch.tensor([0.25]))
    assert one.mean() == mm.Estimate(1.5, 0.25)
    check = BidirectionalCheck(one, replace(one, values=torch.tensor([2.0])), torch.zeros(1, 1))
    assert check.mean_gap().value == 0.5
    assert check.mean_gap().standard_error == pytest.approx(0.25 * math.sqrt(2))


@pytest.mark.parametrize("option", ["num_chains", "num_steps", "num_leapfrog", "chunk_size"])
def test_numbers_that_make_no_sense_are_refused(option):
    model = joint(LinearGaussian.random(2, 1, seed=0))
    for call in (
        lambda: mm.annealed_log_likelihood(model, torch.zeros(2, 2).double(), **{option: 0}),
        lambda: mm.bidirectional_check(model, 2, **{option: 0}),
    ):
        with pytest.raises(ValueError, match=f"{option} must be 1 or more, got 0"):
            call()


def test_where_there_are_no_gradients_it_says_so():
    model = joint(LinearGaussian.random(2, 1, seed=0))
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"use torch\.no_grad instead"):
        mm.annealed_log_likelihood(model, torch.zeros(2, 2).double())


def test_no_data_and_starts_of_another_kind_are_refused():
    model, other = (joint(LinearGaussian.random(2, dim, seed=0)) for dim in (1, 2))
    with pytest.raises(ValueError, match=r"x must have shape \(N, \*X\) with N of 1 or more"):
        mm.annealed_log_likelihood(model, torch.zeros(0, 2).double())
    with pytest.raises(ValueError, match="num_data must be 1 or more, got 0"):
        mm.bidirectional_check(model, 0)
    with pytest.raises(ValueError, match=r"start must give .* prior's shape \(1,\), got \(2,\)"):
        mm.annealed_log_likelihood(model, torch.zeros(3, 2).double(), start=other.encoder)
    decoder = mm.Gaussian(mm.MLP(3, 4))
    encoder = mm.OneHotCategorical(mm.MLP(2, 3), 3)
    discrete = mm.Joint(encoder, decoder, mm.UniformOneHot((3,)))
    continuous = mm.Joint(encoder, decoder, mm.StandardNormal(3))
    with pytest.raises(TypeError, match=r"prior must give continuous latents.*OneHotCategorical"):
        mm.annealed_log_likelihood(discrete, torch.zeros(3, 2))
    with pytest.raises(TypeError, match=r"prior must give continuous latents.*OneHotCategorical"):
        mm.bidirectional_check(discrete, 3)
    with pytest.raises(TypeError, match=r"start must give continuous latents.*OneHotCategorical"):
        mm.annealed_log_likelihood(continuous, torch.zeros(3, 2), start=encoder)
