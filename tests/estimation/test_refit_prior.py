"""Priors fitted after training: to known aggregate posteriors, and what they leave alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import LinearGaussian, Normal, gaussian_cross_entropy, gaussian_kl
from oracles import within_standard_errors as within
from torch import nn
from torch.distributions import MixtureSameFamily, MultivariateNormal
from torch.distributions import Normal as TorchNormal

import mimachine as mm

KINDS = ("gmm", "vamp", "flow")
QUICK = mm.Training(epochs=2, warmup=0, batch_size=50)


def draws(normal, count):
    root = torch.linalg.cholesky(normal.covariance)
    return normal.mean + torch.randn(count, len(normal.mean), dtype=torch.float64) @ root.T


def linear(dim_x=3, dim_z=2, seed=1):
    """A model of encoder and decoder at odds, and its aggregate posterior, a normal."""
    case = LinearGaussian.random(dim_x, dim_z, seed)
    encoder, decoder, prior, _, _ = case.modules()
    aggregate = case.encoding.part(slice(dim_x, None))
    return case, mm.Joint(encoder, decoder, prior), aggregate


def as_normal(model):
    """A prior of one component."""
    normals = model.prior().components
    return Normal(normals.mean[0].detach(), normals.covariance_matrix[0].detach())


def excess(count, free=5):
    """Largest loss of a fit of free parameters to n codes: χ² / (2 n), at 5 standard errors."""
    return (free + 5 * math.sqrt(2 * free)) / (2 * count)


def nonlinear(latents=2, seed=0):
    torch.manual_seed(seed)
    return mm.Joint(
        mm.Gaussian(mm.MLP(3, 2 * latents, (8,)), floor=0.1),
        mm.Gaussian(mm.MLP(latents, 6, (8,)), floor=0.1),
        mm.StandardNormal(latents),
    )


def refit(model, kind, num_data=200, **options):
    if kind == "vamp":
        options = {"components": 5, **options}
    train, val = torch.randn(num_data, 3), torch.randn(100, 3)
    return mm.refit_prior(model, train, val, kind=kind, **{"training": QUICK, **options})


def test_one_component_recovers_the_moments_of_a_normal_aggregate_posterior():
    case, model, aggregate = linear()
    count = 5000
    refitted = mm.refit_prior(model, draws(case.data, count), draws(case.data, 1000), components=1)
    prior = refitted.prior()
    root = torch.linalg.cholesky(aggregate.covariance)
    # In coordinates where the aggregate posterior is N(0, I) the errors are those of N(0, I):
    # 1/√n of a mean and a covariance, √(2/n) of a variance.
    (mean,), (covariance,) = prior.components.mean, prior.components.covariance_matrix
    off = torch.linalg.solve(root, mean - aggregate.mean)
    assert (off.abs() < 5 / math.sqrt(count)).all()
    inner = torch.linalg.solve(root, torch.linalg.solve(root, covariance).T)
    assert ((inner - torch.eye(2)).abs() < 5 * math.sqrt(2 / count)).all()


def test_the_mean_log_density_is_minus_the_cross_entropy():
    case, model, aggregate = linear(seed=2)
    refitted = mm.refit_prior(model, draws(case.data, 5000), draws(case.data, 1000), components=1)
    fitted = as_normal(refitted)
    codes = draws(aggregate, 20_000)
    within(refitted.prior().log_prob(codes).detach(), -gaussian_cross_entropy(aggregate, fitted))
    assert gaussian_kl(aggregate, fitted) < excess(5000)


def test_the_bound_rises_by_as_much_as_the_divergence_from_the_prior_falls():
    case, model, aggregate = linear(seed=3)
    refitted = mm.refit_prior(model, draws(case.data, 5000), draws(case.data, 1000), components=1)
    fitted = as_normal(refitted)
    # In closed form: the ELBO at the mean of the data is minus the VAE's loss.
    before, after = gaussian_kl(aggregate, case.p_z), gaussian_kl(aggregate, fitted)
    assert after < before
    gain = case.vae_loss() - replace(case, p_z=fitted).vae_loss()
    torch.testing.assert_close(gain, before - after)
    compared = mm.compare_priors(model, refitted, draws(case.data, 2000), 20)
    gains = compared.after.evidence_lower_bounds - compared.before.evidence_lower_bounds
    within(gains, gain)
    assert compared.bound_gain.value == pytest.approx(float(gains.mean()))


def test_with_the_posterior_as_encoder_the_refitted_prior_is_the_prior():
    case = LinearGaussian.consistent(3, 2, seed=4)
    encoder, decoder, prior, _, _ = case.modules()
    model = mm.Joint(encoder, decoder, prior)
    refitted = mm.refit_prior(model, draws(case.data, 10_000), draws(case.data, 1000), components=1)
    assert gaussian_kl(case.p_z, as_normal(refitted)) < excess(10_000)
    compared = mm.compare_priors(model, refitted, draws(case.data, 200), 500)
    assert abs(compared.likelihood_gain.value) < 0.01


def test_the_gain_in_likelihood_is_that_of_the_closed_form():
    case = LinearGaussian.consistent(3, 2, seed=6)
    encoder, decoder, prior, _, _ = case.modules()
    model = mm.Joint(encoder, decoder, prior)
    moved = Normal(case.data.mean + 6, case.data.covariance)
    refitted = mm.refit_prior(model, draws(moved, 2000), draws(moved, 500), components=1)
    x = draws(moved, 200)
    compared = mm.compare_priors(model, refitted, x, 2000)
    after = replace(case, p_z=as_normal(refitted)).marginal().log_prob(x)
    scores = (compared.after.values - after) / compared.after.standard_errors
    within(scores[~compared.after.flagged], 0.0)
    exact = float((after - case.marginal().log_prob(x)).mean())
    assert exact > 0.1
    # The first is exact, because the encoder is its posterior; for the second see above.
    assert compared.likelihood_gain.value == pytest.approx(exact, abs=0.02)


def test_latents_in_other_units_give_the_same_mixture_in_those_units():
    case, model, _ = linear(seed=7)
    unit, zero = torch.tensor([100.0, 0.01]).double(), torch.tensor([-7.0, 3.0]).double()
    other = replace(case, A=unit[:, None] * case.A, a=unit * case.a + zero, s_q=unit * case.s_q)
    encoder, decoder, prior, _, _ = other.modules()
    train, val = draws(case.data, 500), draws(case.data, 200)
    first = mm.refit_prior(model, train, val, components=3).prior()
    second = mm.refit_prior(mm.Joint(encoder, decoder, prior), train, val, components=3).prior()
    z = model.encoder(train).sample()
    expected = first.log_prob(z) - unit.log().sum()
    torch.testing.assert_close(second.log_prob(zero + unit * z), expected)


def test_the_components_that_there_are_are_found():
    """x is one of three values and noise, z = x: the aggregate posterior has three components."""

    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_scale = nn.Parameter(torch.tensor([-3.0]))

        def forward(self, x):
            return mm.DiagNormal(x, self.log_scale.exp().expand_as(x))

    centres = torch.tensor([-3.0, 0.0, 3.0])

    def data(count):
        return centres[torch.randint(3, (count, 2))] + 0.3 * torch.randn(count, 2)

    model = mm.Joint(Same(), Same(), mm.StandardNormal(2))
    refitted = mm.refit_prior(model, data(2000), data(1000))
    scale = math.sqrt(0.3**2 + math.exp(-6))
    z = data(5000) + math.exp(-3) * torch.randn(5000, 2)
    normals = TorchNormal(centres, torch.full((3,), scale))
    truth = normals.log_prob(z[..., None]).logsumexp(-1).sub(math.log(3)).sum(-1)
    lost = truth - refitted.prior().log_prob(z).detach()
    error = float(lost.std()) / math.sqrt(len(z))
    # A KL divergence. 16 components of 6 numbers lose excess(2000, 96) = 0.04 where the ridge is 0.
    assert -5 * error < float(lost.mean()) < 0.1
    assert len(refitted.prior.logits) in (8, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_densities_are_normalised(kind):
    prior = refit(nonlinear(latents=1), kind).prior()
    z = torch.linspace(-10, 10, 10_001)[:, None]
    mass = torch.trapezoid(prior.log_prob(z).detach().exp().squeeze(), z.squeeze())
    assert float(mass) == pytest.approx(1, abs=1e-3)
    plane = refit(nonlinear(latents=2), kind).prior()
    # By importance sampling from one wide normal, whose weights show the error.
    wide = mm.DiagNormal(torch.zeros(2), torch.tensor(3.0))
    drawn = wide.sample((20_000,))
    within((plane.log_prob(drawn) - wide.log_prob(drawn)).exp().detach(), 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_stays_as_it_is_and_shares_its_parts(kind):
    model = nonlinear()
    model.decoder.eval()
    model.encoder.network[0].requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    generator = torch.get_rng_state()
    refitted = refit(model, kind)
    torch.randn(1)
    after = torch.get_rng_state()
    torch.set_rng_state(generator)
    torch.randn(200, 3), torch.randn(100, 3), torch.randn(1)
    assert torch.equal(torch.get_rng_state(), after)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert modes == [part.training for part in model.modules()]
    assert trainable == [parameter.requires_grad for parameter in model.parameters()]
    assert refitted.encoder is model.encoder
    assert refitted.decoder is model.decoder
    assert refitted.data_prior is model.data_prior
    assert isinstance(model.prior, mm.StandardNormal)
    for part in (model, refitted):
        assert all(parameter.grad is None for parameter in part.parameters())
    assert all(p.requires_grad for n, p in refitted.prior.named_parameters() if "encoder" not in n)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_prior_and_another_another(kind):
    model, z = nonlinear(), torch.randn(50, 2)
    train, val = torch.randn(200, 3), torch.randn(50, 3)

    def density(seed):
        options = {} if kind == "flow" else {"components": 4}
        training = replace(QUICK, seed=seed)
        refitted = mm.refit_prior(model, train, val, kind=kind, training=training, **options)
        return refitted.prior().log_prob(z)

    first = density(0)
    torch.randn(3)
    assert torch.equal(first, density(0))
    assert not torch.equal(first, density(1))


def test_a_vampprior_is_the_mixture_of_the_posteriors_at_its_pseudo_inputs():
    model = nonlinear()
    prior = refit(model, "vamp", components=4).prior
    z = torch.randn(20, 2)
    assert prior.encoder is model.encoder
    each = [model.encoder(row[None]).log_prob(z) for row in prior.pseudo_inputs]
    expected = torch.stack(each).logsumexp(0) - math.log(4)
    torch.testing.assert_close(prior().log_prob(z), expected)


@pytest.mark.parametrize("kind", ["vamp", "flow"])
def test_training_fits_the_aggregate_posterior_better_than_the_prior_did(kind):
    case, model, aggregate = linear(seed=5)
    recipe = mm.Training(epochs=10, learning_rate=3e-2 if kind == "vamp" else 1e-2, warmup=0)
    train, val = draws(case.data, 1000), draws(case.data, 500)
    refitted = mm.refit_prior(model, train, val, kind=kind, training=recipe)
    codes = draws(aggregate, 5000)
    with torch.no_grad():
        log_density = aggregate.log_prob(codes)
        lost = log_density - refitted.prior().log_prob(codes)
        before = log_density - model.prior().log_prob(codes)
    # Both are KL divergences, and a mixture of posteriors can be the aggregate posterior.
    assert lost.mean() > -5 * lost.std() / math.sqrt(5000)
    assert lost.mean() < 0.1
    assert before.mean() > 0.5


def test_a_flow_of_codes_far_from_the_origin_starts_at_their_mean_and_width():
    prior = mm.FlowPrior(2, mean=torch.tensor([100.0, -5.0]), std=torch.tensor([10.0, 0.01]))
    sample = (prior().sample((1000,)) - prior.mean) / prior.std
    plain = mm.FlowPrior(2)
    plain.layers = prior.layers
    torch.testing.assert_close(
        prior().log_prob(prior.mean + prior.std * sample),
        plain().log_prob(sample) - math.log(10.0 * 0.01),
        rtol=1e-4,
        atol=1e-3,
    )
    value, log_prob = prior().rsample_and_log_prob((100,))
    torch.testing.assert_close(log_prob, prior().log_prob(value), rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize(("mean", "std"), [(torch.zeros(3), None), (None, torch.zeros(2))])
def test_a_flow_refuses_locations_and_widths_that_are_none(mean, std):
    expected = (
        "std must be positive and finite, got 0" if mean is None else r"mean must have shape \(2,\)"
    )
    with pytest.raises(ValueError, match=expected):
        mm.FlowPrior(2, mean=mean, std=std)


def test_data_can_be_arrays_and_sources_and_there_need_be_none_held_out():
    model = nonlinear()
    array = np.random.default_rng(0).normal(size=(200, 3))
    refitted = mm.refit_prior(model, array)
    assert len(refitted.prior.logits) == 10
    source = mm.Binarized(mm.TensorSource(torch.rand(200, 3)))
    assert len(mm.refit_prior(model, source, components=3).prior.logits) == 3


def test_a_vampprior_has_100_pseudo_inputs_or_one_for_each_of_fewer_data():
    for count, expected in ((20, 20), (120, 100)):
        refitted = mm.refit_prior(nonlinear(), torch.randn(count, 3), kind="vamp", training=QUICK)
        assert len(refitted.prior.pseudo_inputs) == expected


def test_latents_of_any_shape_can_have_a_vampprior():
    encoder = mm.Gaussian(nn.Conv2d(1, 2, 1), event_dims=3)
    model = mm.Joint(encoder, mm.Gaussian(nn.Conv2d(1, 2, 1), event_dims=3), lambda: None)
    x = torch.randn(20, 1, 2, 2)
    prior = mm.refit_prior(model, x, kind="vamp", components=3, training=QUICK).prior
    assert prior().event_shape == (1, 2, 2)
    with pytest.raises(ValueError, match=r'shape \(D,\) for kind "gmm", got \(1, 2, 2\)'):
        mm.refit_prior(model, x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "gnm"}, "kind must be one of gmm, vamp, flow, got 'gnm'"),
        ({"components": 0}, "components must be 1 or more, got 0"),
        ({"kind": "flow", "components": 3}, "components must be None for a flow, .* got 3"),
        ({"kind": "vamp", "components": 51}, "components must be at most 50, .* got 51"),
        ({"components": 401}, "components must be at most the number of codes 400, got 401"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mm.refit_prior(nonlinear(), torch.randn(50, 3), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_discrete_latents_and_no_data_are_refused(kind):
    decoder = mm.Gaussian(mm.MLP(3, 6))
    discrete = mm.Joint(mm.OneHotCategorical(mm.MLP(3, 3), 3), decoder, mm.UniformOneHot(3))
    with pytest.raises(TypeError, match=r"encoder must give continuous latents.*OneHotCategorical"):
        mm.refit_prior(discrete, torch.zeros(4, 3), kind=kind)
    with pytest.raises(ValueError, match=r"train must have shape .* with N of 1 or more"):
        mm.refit_prior(nonlinear(), torch.zeros(0, 3), kind=kind)


def test_codes_that_are_no_numbers_or_do_not_vary_are_refused():
    class Constant(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = nn.Parameter(torch.tensor(value))

        def forward(self, x):
            return mm.DiagNormal(self.value.expand(len(x), 2), torch.tensor(0.0))

    decoder = mm.Gaussian(mm.MLP(2, 6))
    for value, message in ((1.0, r"latents \[0, 1\] are constant"), (math.nan, "must be finite")):
        model = mm.Joint(Constant(value), decoder, mm.StandardNormal(2))
        with pytest.raises(ValueError, match=message):
            mm.refit_prior(model, torch.zeros(4, 3))


def test_models_that_differ_by_more_than_the_prior_are_not_compared():
    with pytest.raises(ValueError, match="before and after must share their encoder, got two"):
        mm.compare_priors(nonlinear(), nonlinear(), torch.zeros(4, 3))


def test_a_full_mixture_is_that_of_its_parameters():
    weights, loc = torch.tensor([0.2, 0.3, 0.5]), torch.randn(3, 4)
    scale_tril = torch.randn(3, 4, 4).tril(-1) + 0.3 * torch.eye(4)
    mixture = mm.FullGaussianMixture.of(weights, loc, scale_tril)
    normals = MultivariateNormal(loc, scale_tril=scale_tril)
    expected = MixtureSameFamily(torch.distributions.Categorical(weights), normals)
    z = torch.randn(5, 2, 4)
    torch.testing.assert_close(mixture().log_prob(z), expected.log_prob(z))
    torch.testing.assert_close(mixture().mean, expected.mean)
    drawn = mixture().sample((20_000,))
    within(drawn, expected.mean)
    within((drawn - expected.mean).square(), expected.variance)


def test_a_full_mixture_has_a_floor_and_learns_by_all_of_its_parameters():
    mixture = mm.FullGaussianMixture(3, 2, floor=0.25)
    torch.testing.assert_close(mixture().components.scale_tril, 1.25 * torch.eye(3).expand(2, 3, 3))
    with torch.no_grad():
        mixture.log_diagonal.fill_(-200.0)
        mixture.below_diagonal.normal_()
    most = -3 * math.log(0.25 * math.sqrt(2 * math.pi))
    assert (mixture().components.log_prob(mixture.loc) <= most + 1e-5).all()
    with torch.no_grad():
        mixture.log_diagonal.zero_()
    mixture().log_prob(torch.randn(5, 3)).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in mixture.parameters())
