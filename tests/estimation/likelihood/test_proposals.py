import math
from dataclasses import replace

import pytest
import torch
from oracles import LinearGaussian, draws, joint, within_standard_errors
from torch import nn

import mimachine as mm
from mimachine.estimation.likelihood.proposals import _ImportanceWeighted


def narrower(case, factor):
    return joint(replace(case, s_q=case.s_q / factor))


@pytest.mark.parametrize("prior_share", [0.0, 0.2])
def test_a_defensive_mixture_integrates_to_one(prior_share):
    case = LinearGaussian.random(3, 2, seed=1)
    x = draws(case.data, 4)
    widths = (0.5, 1.0, 3.0)
    mixture = mm.DefensiveProposal(joint(case), widths, prior_share)(x)
    assert mixture.batch_shape == (4,)
    assert mixture.components.batch_shape == (4, 4 if prior_share else 3)
    # By importance sampling from one wide normal, whose weights show the error.
    wide = mm.DiagNormal(torch.zeros(4, 2).double(), torch.tensor(6.0).double())
    z = wide.sample((100_000,))
    within_standard_errors((mixture.log_prob(z) - wide.log_prob(z)).exp(), 1.0)


def test_a_defensive_mixture_is_that_of_its_parts():
    case = LinearGaussian.random(3, 2, seed=2)
    x, z = draws(case.data, 5), torch.randn(5, 2).double()
    model = joint(case)
    encoder, prior = model.encoder(x), model.prior()
    parts = [(0.4, encoder.mean, encoder.stddev), (0.4, encoder.mean, 5 * encoder.stddev)]
    parts.append((0.2, prior.mean, prior.stddev))
    density = sum(w * mm.DiagNormal(m, s).log_prob(z).exp() for w, m, s in parts)
    mixture = mm.DefensiveProposal(model, (1.0, 5.0), 0.2)(x)
    torch.testing.assert_close(mixture.log_prob(z).exp(), density)


@pytest.mark.parametrize("factor", [2, 10, 100])
def test_with_a_defensive_mixture_a_narrow_encoder_gives_trusted_and_true_estimates(factor):
    case = LinearGaussian.consistent(3, 2, seed=3)
    x = draws(case.data, 100)
    model = narrower(case, factor)
    result = mm.log_likelihood(model, x, 5000, proposal=mm.DefensiveProposal(model))
    assert result.flagged.double().mean() < 0.05
    scores = (result.values - case.marginal().log_prob(x)) / result.standard_errors
    within_standard_errors(scores, 0.0)


def test_a_defensive_mixture_takes_mixtures_flowing_and_shaped_latents():
    # Mixtures as encoder and prior: any proposal with a density is valid.
    torch.manual_seed(0)
    decoder = mm.Gaussian(mm.MLP(2, 4), floor=0.5)
    model = mm.Joint(
        mm.MixtureDensity(mm.MLP(2, 10), 2), decoder, mm.GaussianMixture(2, 3)
    ).double()
    x = torch.randn(15, 2).double()
    result = mm.log_likelihood(model, x, 10_000, proposal=mm.DefensiveProposal(model))
    exact = mm.quadrature_log_likelihood(model, x, tolerance=1e-4)
    within_standard_errors((result.values - exact.values) / result.standard_errors, 0.0)

    shaped = mm.Joint(
        mm.Gaussian(nn.Conv2d(1, 2, 1), event_dims=3),
        mm.Gaussian(nn.Conv2d(1, 2, 1), event_dims=3),
        mm.StandardNormal((1, 2, 2)),
    )
    drawn = mm.draw(mm.DefensiveProposal(shaped)(torch.zeros(5, 1, 2, 2)), (7,))
    assert drawn.value.shape == (7, 5, 1, 2, 2)
    assert drawn.log_prob.shape == (7, 5)


def test_a_part_without_known_moments_is_matched_by_draws():
    class Shy(torch.distributions.Distribution):
        arg_constraints = {}  # noqa: RUF012

        def __init__(self, normal):
            super().__init__(normal.batch_shape, normal.event_shape, validate_args=False)
            self.normal = normal

        def sample(self, sample_shape=()):
            return self.normal.sample(sample_shape)

        def log_prob(self, value):
            return self.normal.log_prob(value)

    case = LinearGaussian.consistent(2, 1, seed=4)
    model = joint(case)
    encoder = model.encoder

    class ShyEncoder(nn.Module):
        def forward(self, x):
            return Shy(encoder(x))

    model.encoder = ShyEncoder()
    mixture = mm.DefensiveProposal(model, (1.0,), 0.0)(torch.zeros(3, 2).double())
    expected = encoder(torch.zeros(3, 2).double())
    off = (mixture.mean - expected.mean) / expected.stddev
    assert (off.abs() < 6 / math.sqrt(64)).all()


@pytest.mark.parametrize(
    ("widths", "prior_share", "message"),
    [
        ((), 0.2, r"widths must be one or more positive numbers, got \(\)"),
        ((1.0, 0.0), 0.2, "widths must be positive and finite"),
        ((1.0, math.inf), 0.2, "widths must be positive and finite"),
        ((1.0,), 1.0, r"prior_share must be in \[0, 1\), got 1.0"),
        ((1.0,), -0.1, r"prior_share must be in \[0, 1\), got -0.1"),
    ],
)
def test_arguments_of_a_mixture_that_make_no_sense_are_refused(widths, prior_share, message):
    case = LinearGaussian.random(2, 1, seed=0)
    with pytest.raises(ValueError, match=message):
        mm.DefensiveProposal(joint(case), widths, prior_share)


def test_latents_that_are_no_numbers_or_of_two_shapes_are_refused():
    decoder = mm.Gaussian(mm.MLP(3, 4))
    discrete = mm.Joint(mm.OneHotCategorical(mm.MLP(2, 3), 3), decoder, mm.UniformOneHot((3,)))
    with pytest.raises(TypeError, match=r"encoder must give continuous latents.*OneHotCategorical"):
        mm.DefensiveProposal(discrete)(torch.zeros(4, 2))
    shapes = mm.Joint(mm.Gaussian(mm.MLP(2, 4)), decoder, mm.StandardNormal(3))
    with pytest.raises(ValueError, match=r"prior's shape \(3,\), got \(2,\)"):
        mm.DefensiveProposal(shapes)(torch.zeros(4, 2))


FAST = mm.Training(epochs=60, learning_rate=3e-2, warmup=0, batch_size=250)


@pytest.mark.parametrize(("dim", "factor"), [(2, 10), (2, 100), (10, 10), (10, 100)])
def test_a_refitted_proposal_gives_the_closed_form_within_the_errors(dim, factor):
    case = LinearGaussian.consistent(dim, dim, seed=5)
    model = narrower(case, factor)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    proposal = mm.refit_proposal(
        model, draws(case.data, 1000), draws(case.data, 200), num_samples=4, training=FAST
    )
    x = draws(case.data, 100)
    result = mm.log_likelihood(model, x, 1000, proposal=proposal)
    assert result.flagged.double().mean() < 0.1
    truth = case.marginal().log_prob(x)
    scores = (result.values - truth) / result.standard_errors
    trusted = ~result.flagged
    within_standard_errors(scores[trusted], 0.0)
    # 100 scores of unit variance.
    assert float(scores[trusted].square().mean()) < 1 + 5 * math.sqrt(2 / 90)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_gradient_of_refitting_is_that_of_the_bound():
    # One latent, K = 3: the mean of the doubly reparameterised gradient over many draws is that
    # of the plain one.
    case = LinearGaussian.consistent(2, 1, seed=6)
    model = narrower(case, 2)
    x = draws(case.data, 1).expand(10_000, 2)
    loss = _ImportanceWeighted(model, model.encoder, 3)

    def each(values):
        """Gradients by the log-scale, one for each row."""
        return torch.stack(
            [
                torch.autograd.grad(part.mean(), loss.proposal.log_scale, retain_graph=True)[0]
                for part in values.split(200)
            ]
        )

    double = each(loss(x))
    z, log_q, _ = mm.draw(loss.proposal(x), (3,))
    repeated = x.expand(3, *x.shape).flatten(0, 1)
    log_p = loss.decoder(z.flatten(0, 1)).log_prob(repeated).unflatten(0, (3, -1))
    plain = each(-torch.logsumexp(log_p + loss.prior().log_prob(z) - log_q, 0))
    within_standard_errors(double - plain, 0.0)
    bound = torch.logsumexp(log_p + loss.prior().log_prob(z) - log_q, 0) - math.log(3)
    within_standard_errors(-loss(x) - bound, 0.0)


def test_the_gradient_of_refitting_has_no_noise_at_the_posterior():
    case = LinearGaussian.consistent(2, 1, seed=6)
    loss = _ImportanceWeighted(joint(case), joint(case).encoder, 3)
    loss(draws(case.data, 50)).sum().backward()
    for parameter in loss.proposal.parameters():
        torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter), rtol=0, atol=1e-9)
    assert all(parameter.grad is None for parameter in loss.decoder.parameters())


def test_refitting_keeps_dropout_and_batch_statistics_as_they_are_and_seeds_nothing():
    encoder = mm.Gaussian(nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), mm.MLP(2, 4, (5,))))
    decoder = mm.Gaussian(nn.Sequential(nn.Dropout(0.5), mm.MLP(2, 4, (5,))), floor=0.1)
    model = mm.Joint(encoder, decoder, mm.StandardNormal(2))
    state = torch.get_rng_state()
    training = mm.Training(epochs=2, warmup=0)
    proposal = mm.refit_proposal(model, torch.randn(50, 2), num_samples=2, training=training)
    state_after = torch.get_rng_state()
    assert not proposal.training
    assert torch.equal(proposal.network[0].running_mean, torch.zeros(2))
    assert model.training
    torch.set_rng_state(state)
    torch.randn(50, 2)
    assert torch.equal(torch.get_rng_state(), state_after)


def test_a_proposal_of_another_kind_can_be_trained_from_the_start():
    torch.manual_seed(0)
    case = LinearGaussian.consistent(3, 2, seed=7)
    model = joint(case)
    model.encoder = mm.MixtureDensity(mm.MLP(3, 10), 2).double()
    start = mm.Gaussian(mm.MLP(3, 4, ())).double()
    recipe = mm.Training(epochs=30, learning_rate=4e-2, warmup=0, batch_size=100)
    options = {"training": recipe, "num_samples": 4}
    with pytest.raises(TypeError, match="start must give distributions whose draws are reparam"):
        mm.refit_proposal(model, draws(case.data, 500), **options)
    proposal = mm.refit_proposal(model, draws(case.data, 500), start=start, **options)
    x = draws(case.data, 100)
    result = mm.log_likelihood(model, x, 2000, proposal=proposal)
    trusted = ~result.flagged
    assert trusted.double().mean() > 0.8
    scores = (result.values - case.marginal().log_prob(x)) / result.standard_errors
    within_standard_errors(scores[trusted], 0.0)


def test_no_samples_are_refused():
    case = LinearGaussian.random(2, 1, seed=0)
    with pytest.raises(ValueError, match="num_samples must be 1 or more, got 0"):
        mm.refit_proposal(joint(case), torch.zeros(4, 2).double(), num_samples=0)
