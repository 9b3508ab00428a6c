import math
from dataclasses import replace

import pytest
import torch
from oracles import LinearGaussian, within_standard_errors
from torch import nn

import mimachine as mm


def joint(case):
    encoder, decoder, prior, _, _ = case.modules()
    return mm.Joint(encoder, decoder, prior)


def draws(normal, count):
    root = torch.linalg.cholesky(normal.covariance)
    return normal.mean + torch.randn(count, len(normal.mean), dtype=torch.float64) @ root.T


@pytest.mark.parametrize("dims", [(2, 1), (3, 2), (2, 2)])
@pytest.mark.parametrize("decoder_std", [1.0, 1e-2, 1e-3])
def test_it_is_the_closed_form_within_its_error_and_its_tolerance(dims, decoder_std):
    case = LinearGaussian.random(*dims, seed=1)
    case = replace(case, s_p=decoder_std * case.s_p)
    x = draws(case.marginal(), 5)
    result = mm.quadrature_log_likelihood(joint(case), x)
    off = (result.values - case.marginal().log_prob(x)).abs()
    assert (off < result.errors + 1e-7).all()
    assert (result.errors < 1e-2).all()
    assert not result.flagged.any()


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-5])
def test_a_smaller_tolerance_gives_a_smaller_error(tolerance):
    case = LinearGaussian.random(2, 2, seed=2)
    case = replace(case, s_p=1e-2 * case.s_p)
    x = draws(case.marginal(), 5)
    result = mm.quadrature_log_likelihood(joint(case), x, tolerance=tolerance)
    off = (result.values - case.marginal().log_prob(x)).abs()
    assert (off < 0.1 * tolerance).all()
    assert (result.errors < tolerance).all()


def test_a_curve_of_latents_that_give_one_datum_is_followed():
    # One value of x for two latents: the posterior is a ridge of width 0.003 as long as the prior.
    case = LinearGaussian.random(1, 2, seed=1)
    case = replace(case, s_p=1e-2 * case.s_p)
    x = draws(case.marginal(), 3)
    result = mm.quadrature_log_likelihood(joint(case), x)
    torch.testing.assert_close(result.values, case.marginal().log_prob(x), rtol=0, atol=1e-3)
    assert not result.flagged.any()


class Squares(nn.Module):
    """x = z² in each dimension, with noise; 2^D islands of the posterior."""

    def forward(self, z):
        return mm.DiagNormal(z.square(), torch.tensor(0.003).double())


class Around(nn.Module):
    """One of the islands, half as wide again as it is."""

    def forward(self, x):
        return mm.DiagNormal(x.sqrt(), 1.5 * 0.003 / (2 * x.sqrt()))


@pytest.mark.parametrize("dim", [1, 2])
def test_all_islands_of_the_posterior_are_found(dim):
    model = mm.Joint(Around(), Squares(), mm.StandardNormal(dim).double())
    x = 0.5 + 2 * torch.rand(5, dim).double()
    result = mm.quadrature_log_likelihood(model, x, tolerance=1e-3)
    # Each dimension is a separate integral over two peaks, computed on a fine even grid.
    z = torch.linspace(-4, 4, 400_001, dtype=torch.float64)
    log_p = mm.DiagNormal(z.square(), torch.tensor(0.003).double(), 0).log_prob(x[..., None])
    log_p = log_p - 0.5 * z.square() - 0.5 * math.log(2 * math.pi)
    exact = (torch.logsumexp(log_p, -1) + math.log(float(z[1] - z[0]))).sum(1)
    assert ((result.values - exact).abs() < result.errors).all()
    assert not result.flagged.any()
    # The encoder covers one of the 2^D peaks, which its weights do not show.
    sampled = mm.log_likelihood(model, x, 2000)
    missed = result.values - sampled.values
    within_standard_errors((missed - dim * math.log(2)) / sampled.standard_errors, 0.0)
    assert not sampled.flagged.any()


def network_model():
    """Random networks in single precision whose decoder is curved and 0.2 wide."""
    torch.manual_seed(3)
    encoder, decoder = mm.Gaussian(mm.MLP(2, 4, (30,))), mm.Gaussian(mm.MLP(2, 4, (30,)), 0.2)
    with torch.no_grad():
        linear = [part for part in decoder.modules() if isinstance(part, nn.Linear)]
        for layer in linear:
            layer.weight.mul_(2)
        linear[-1].weight[2:], linear[-1].bias[2:] = 0, -9
        x = decoder(torch.randn(15, 2)).sample()
    return mm.Joint(encoder, decoder, mm.StandardNormal(2)), x


def test_it_agrees_with_importance_sampling_for_networks():
    model, x = network_model()
    result = mm.quadrature_log_likelihood(model, x)
    proposal = mm.DefensiveProposal(model, widths=(1.0,), prior_share=0.9)
    sampled = mm.log_likelihood(model, x, 20_000, proposal=proposal)
    trusted = ~sampled.flagged
    assert trusted.sum() > 10
    scores = (sampled.values - result.values) / sampled.standard_errors
    within_standard_errors(scores[trusted], 0.0)
    assert not result.flagged.any()


def test_finer_first_cells_find_no_more_under_a_curved_decoder_of_width_a_thousandth(monkeypatch):
    model, _ = network_model()
    decoder = model.decoder
    with torch.no_grad():
        linear = [part for part in decoder.modules() if isinstance(part, nn.Linear)]
        linear[0].weight.mul_(2)
        decoder.floor.fill_(1e-3)
        x = model.double().decoder(torch.randn(8, 2).double()).sample()
    result = mm.quadrature_log_likelihood(model, x)
    monkeypatch.setattr("mimachine.estimation.likelihood.quadrature._FIRST_CELLS", {2: 192})
    finer = mm.quadrature_log_likelihood(model, x, tolerance=1e-3)
    assert not result.flagged.any()
    assert ((result.values - finer.values).abs() < result.errors + finer.errors).all()


def test_it_is_deterministic_and_leaves_the_generator_and_the_mode_alone():
    model, x = network_model()
    model.train()
    before = torch.get_rng_state()
    first = mm.quadrature_log_likelihood(model, x[:3])
    second = mm.quadrature_log_likelihood(model, x[:3])
    assert torch.equal(first.values, second.values)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training


def test_what_costs_more_than_is_allowed_is_flagged():
    case = LinearGaussian.random(1, 2, seed=1)
    case = replace(case, s_p=1e-3 * case.s_p)
    x = draws(case.marginal(), 3)
    result = mm.quadrature_log_likelihood(joint(case), x, most_evaluations=5000)
    assert result.flagged.all()
    assert (result.num_evaluations <= 5000).all()
    off = (result.values - case.marginal().log_prob(x)).abs()
    assert (off < result.errors).all()


def test_mass_at_the_border_is_flagged():
    # An example that only a latent at 30 standard deviations of the prior explains.
    class Tight(nn.Module):
        def forward(self, z):
            return mm.DiagNormal(z, torch.tensor(1e-3).double())

    class Wrong(nn.Module):
        def forward(self, x):
            return mm.DiagNormal(0 * x, torch.tensor(1.0).double())

    model = mm.Joint(Wrong(), Tight(), mm.StandardNormal(1).double())
    x = torch.tensor([[1.0], [30.0]]).double()
    result = mm.quadrature_log_likelihood(model, x)
    assert result.flagged.tolist() == [False, True]

    # An encoder with its mean there makes the box wide enough.
    class Right(nn.Module):
        def forward(self, x):
            return mm.DiagNormal(x, torch.tensor(1e-3).double())

    model.encoder = Right()
    result = mm.quadrature_log_likelihood(model, x)
    exact = mm.DiagNormal(torch.zeros(1).double(), torch.tensor(1 + 1e-6).double().sqrt())
    torch.testing.assert_close(result.values, exact.log_prob(x), rtol=0, atol=1e-3)
    assert not result.flagged.any()


def test_numbers_that_are_none_are_flagged():
    class Broken(nn.Module):
        def forward(self, z):
            return mm.DiagNormal(z * math.nan, torch.tensor(1.0).double())

    model = mm.Joint(Around(), Broken(), mm.StandardNormal(1).double())
    result = mm.quadrature_log_likelihood(model, torch.ones(2, 1).double(), most_evaluations=9000)
    assert result.values.isnan().all()
    assert result.flagged.all()


def test_the_mean_has_the_error_of_the_scatter_over_data():
    case = LinearGaussian.random(2, 1, seed=4)
    result = mm.quadrature_log_likelihood(joint(case), draws(case.marginal(), 30))
    mean = result.mean()
    assert mean.value == pytest.approx(float(result.values.mean()))
    assert mean.standard_error == pytest.approx(float(result.values.std()) / math.sqrt(30))
    single = mm.quadrature_log_likelihood(joint(case), draws(case.marginal(), 1))
    assert single.mean().standard_error == float(single.errors)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (0, {}, r"x must have shape \(N, \*X\) with N of 1 or more"),
        (2, {"tolerance": 0.0}, r"tolerance must be positive and finite, got 0\.0"),
        (2, {"most_evaluations": -1}, "most_evaluations must be 1 or more, got -1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(rows, options, message):
    case = LinearGaussian.random(2, 1, seed=7)
    with pytest.raises(ValueError, match=message):
        mm.quadrature_log_likelihood(joint(case), torch.zeros(rows, 2).double(), **options)


def test_more_than_two_latents_and_discrete_ones_are_refused():
    case = LinearGaussian.random(2, 3, seed=7)
    with pytest.raises(ValueError, match=r"1 or 2 latents, got latents of shape \(3,\)"):
        mm.quadrature_log_likelihood(joint(case), torch.zeros(2, 2).double())
    model = mm.Joint(
        mm.OneHotCategorical(mm.MLP(2, 2), 2), mm.Gaussian(mm.MLP(2, 4)), mm.UniformOneHot((2,))
    )
    with pytest.raises(TypeError, match="must have continuous latents"):
        mm.quadrature_log_likelihood(model, torch.zeros(2, 2))
