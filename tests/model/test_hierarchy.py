"""A chain of two latents: densities, draws, moments and gradients."""

import math

import pytest
import torch
from oracles import within_standard_errors
from torch import nn
from torch.distributions import MultivariateNormal

import mimachine as mm
from mimachine.estimation.codes.floors import scales
from mimachine.estimation.codes.moments import moments
from mimachine.model.discrete import Bernoulli, is_discrete
from mimachine.model.distributions import DiagNormal, Mixture, StandardNormal, draw
from mimachine.model.hierarchy import Chain, ChainConditional, ChainPrior
from mimachine.model.priors import unit_interval, without_gradient

pytestmark = pytest.mark.usefixtures("double")


class Linear:
    """A chain of linear normals, and the same distribution as one joint normal."""

    def __init__(self, first=3, second=2):
        self.mean, self.scale = torch.randn(first), 0.5 + torch.rand(first)
        self.weight, self.noise = torch.randn(second, first), 0.5 + torch.rand(second)

    def chain(self, *batch):
        first = DiagNormal(self.mean.expand(*batch, -1), self.scale)
        return Chain(first, self.given, len(self.weight))

    def given(self, a):
        return DiagNormal(a @ self.weight.T + 1, self.noise)

    def joint(self):
        a = self.scale.square().diag()
        b = self.weight @ a @ self.weight.T + self.noise.square().diag()
        cross = self.weight @ a
        covariance = torch.cat([torch.cat([a, cross.T], 1), torch.cat([cross, b], 1)])
        return MultivariateNormal(torch.cat([self.mean, self.weight @ self.mean + 1]), covariance)


def curved(a):
    """A normal given a (*, 1), with nonlinear mean and scale."""
    return DiagNormal(a.sin() + 0.5 * a.square(), 0.3 + 0.2 * a.cos())


def test_a_chain_of_linear_normals_is_their_joint_normal():
    linear = Linear()
    chain, value = linear.chain(), torch.randn(7, 5)
    torch.testing.assert_close(chain.log_prob(value), linear.joint().log_prob(value))
    torch.testing.assert_close(chain.mean, linear.joint().mean)
    torch.testing.assert_close(chain.variance, linear.joint().variance)


def test_draws_are_of_the_joint_normal():
    linear = Linear()
    value, joint = linear.chain().sample((20_000,)), linear.joint()
    within_standard_errors(value, joint.mean)
    offset = value - joint.mean
    within_standard_errors(offset[:, :, None] * offset[:, None, :], joint.covariance_matrix)


@pytest.mark.parametrize("shape", [(), (6,), (6, 2)])
def test_the_log_probability_of_a_draw_is_that_of_its_value(shape):
    chain = Linear().chain(4)
    value, log_prob, score = draw(chain, shape)
    assert value.shape == (*shape, 4, 5)
    assert score is None
    torch.testing.assert_close(log_prob, chain.log_prob(value))


def test_the_density_of_a_curved_chain_integrates_to_one():
    chain = Chain(DiagNormal(torch.zeros(1), torch.ones(1)), curved, 1)
    a, b = torch.linspace(-8, 8, 801), torch.linspace(-10, 40, 5001)
    grid = torch.cartesian_prod(a, b)
    total = chain.log_prob(grid).exp().sum() * (a[1] - a[0]) * (b[1] - b[0])
    torch.testing.assert_close(total, torch.ones(()), rtol=0, atol=1e-6)


def test_gradients_through_draws_are_those_of_the_mean():
    mean = torch.zeros(20_000, 1).requires_grad_()
    chain = Chain(DiagNormal(mean, torch.ones(1)), lambda a: DiagNormal(a.square(), a.exp()), 1)
    b = draw(chain).value[:, 1]
    # E[b] = mean² + 1, E[b²] = E[a⁴] + E[e^{2a}]: derivatives 0 and 2e² at a mean of 0.
    (of_b,) = torch.autograd.grad(b.sum(), mean, retain_graph=True)
    (of_square,) = torch.autograd.grad(b.square().sum(), mean)
    within_standard_errors(of_b.squeeze(1), 0.0)
    within_standard_errors(of_square.squeeze(1), 2 * math.exp(2))


def test_only_the_component_of_a_mixture_is_scored():
    mixture = Mixture(torch.randn(3), DiagNormal(torch.randn(3, 1), torch.rand(3, 1) + 0.1))
    chain = Chain(mixture, curved, 1)
    value, log_prob, score = draw(chain, (50,))
    torch.testing.assert_close(log_prob, chain.log_prob(value))
    gap = (score[:, None] - mixture.log_weights).abs().min(1).values
    assert gap.max() < 1e-12
    with pytest.raises(NotImplementedError, match="reparameterised"):
        chain.rsample()


def test_both_parts_are_scored_where_both_are_mixtures():
    """REINFORCE: the gradient of E[b] to all weights is E[∇b + b ∇score]."""
    of_a, of_b = torch.randn(2, requires_grad=True), torch.randn(2, requires_grad=True)
    places = torch.tensor([[-1.0], [2.0]])

    def given(a):
        loc = a[..., None, :] * (1 + places.abs()) + places
        return Mixture(of_b, DiagNormal(loc, torch.ones_like(loc)))

    # E[b] = Σ_k w_k (E[a] (1 + |c_k|) + c_k), with E[a] = Σ_j v_j c_j.
    mean_of_a = (of_a.softmax(0) * places.squeeze(1)).sum()
    means = mean_of_a * (1 + places.squeeze(1).abs()) + places.squeeze(1)
    exact = torch.autograd.grad((of_b.softmax(0) * means).sum(), (of_a, of_b))
    gradients = []
    for _ in range(200):
        first = Mixture(of_a, DiagNormal(places, torch.ones(2, 1)))
        value, _, score = draw(Chain(first, given, 1), (200,))
        b = value[:, 1]
        surrogate = (b + b.detach() * (score - score.detach())).mean()
        gradients.append(torch.autograd.grad(surrogate, (of_a, of_b)))
    for estimates, expected in zip(zip(*gradients, strict=True), exact, strict=True):
        within_standard_errors(torch.stack(estimates), expected)


def test_moments_are_exact_where_the_mean_is_cubic_and_the_variance_linear():
    """Third-degree cubature: E[(c + a)³] = c³ + 3cσ² per coordinate, and products of three."""
    mean, std = torch.randn(4, 3), torch.rand(4, 3) + 0.5

    def given(a):
        return DiagNormal(torch.stack([a[..., 0] ** 3, a.prod(-1)], -1), (5 + a[..., :2]).sqrt())

    chain = Chain(DiagNormal(mean, std), given, 2)
    cubic = mean[:, 0] ** 3 + 3 * mean[:, 0] * std[:, 0] ** 2
    torch.testing.assert_close(chain.mean[:, 3:], torch.stack([cubic, mean.prod(-1)], -1))
    torch.testing.assert_close(chain.mean[:, :3], mean)
    torch.testing.assert_close(chain.stddev[:, :3], std)


def test_moments_of_a_dimension_without_information_have_no_noise():
    """A posterior that does not depend on x must not look active."""
    linear = Linear()
    codes = moments(linear.chain(50))
    assert codes.mean.var(0).max() < 1e-24
    torch.testing.assert_close(codes.std, linear.joint().stddev.expand(50, -1))


def test_moments_of_a_chain_that_begins_with_a_mixture_come_from_draws():
    mixture = Mixture(torch.zeros(2), DiagNormal(torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1)))
    chain = Chain(mixture, lambda a: DiagNormal(a, torch.ones_like(a)), 1)
    codes = moments(chain, num_samples=4000)
    # Var(a) = 2 and Var(b) = 3.
    torch.testing.assert_close(codes.std.square(), torch.tensor([2.0, 3.0]), rtol=0.2, atol=0)


class Shifted(nn.Module):
    """q(b|x, a) = N(wx + va, 1), with the part of x computed once."""

    def __init__(self):
        super().__init__()
        self.of_x, self.of_a = nn.Linear(3, 2), nn.Linear(1, 2)

    def forward(self, x):
        begun, of_a = self.of_x(x), mm.Bound(self.of_a)
        return lambda a: DiagNormal(begun + of_a(a), torch.ones(2))


def hierarchy():
    encoder = ChainConditional(mm.Gaussian(nn.Linear(3, 2)), Shifted(), 2)
    prior = ChainPrior(
        mm.VampPrior(encoder.first, torch.rand(4, 3)), mm.Gaussian(nn.Linear(1, 4)), 2
    )
    return mm.Joint(encoder, mm.Gaussian(nn.Linear(3, 6)), prior)


def test_a_density_without_gradient_to_parameters_has_none_later_either():
    encoder = hierarchy().encoder
    z = torch.randn(5, 3, requires_grad=True)
    log_prob = without_gradient(encoder, torch.randn(5, 3)).log_prob(z)
    log_prob.sum().backward()
    assert z.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_a_prior_without_gradient_to_parameters_has_none_later_either():
    prior, z = hierarchy().prior, torch.randn(5, 3, requires_grad=True)
    without_gradient(prior).log_prob(z).sum().backward()
    assert z.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in prior.parameters())


def test_members_of_an_ensemble_are_the_models_alone():
    losses = [mm.Loss(hierarchy(), mm.VAE) for _ in range(3)]
    ensemble, x = mm.Ensemble(losses), torch.randn(3, 20_000, 3)
    for together, loss, rows in zip(ensemble(x), losses, x, strict=True):
        alone = loss(rows)
        spread = (together.var() / len(rows) + alone.var() / len(rows)).sqrt()
        assert (together.mean() - alone.mean()).abs() < 5 * spread


def test_a_refitted_proposal_finds_the_posterior_of_a_hierarchy():
    """Double reparameterisation: the density of b has no gradient to parameters."""
    model = hierarchy()
    x = torch.randn(64, 3)
    before = mm.log_likelihood(model, x, 500).effective_sample_sizes.mean()
    recipe = mm.Training(epochs=60, warmup=0, batch_size=64, learning_rate=0.02)
    proposal = mm.refit_proposal(model, x, training=recipe, progress=False)
    after = mm.log_likelihood(model, x, 500, proposal=proposal).effective_sample_sizes.mean()
    assert after > 2 * before


def test_parts_of_other_shapes_are_refused():
    normal = DiagNormal(torch.zeros(5, 3), torch.ones(5, 3))
    with pytest.raises(
        ValueError, match=r"batch shape \(5,\) and event shape \(1,\).*\(5,\) and \(3,\)"
    ):
        Chain(normal, lambda a: DiagNormal(a, a.exp()), 1).log_prob(torch.zeros(5, 4))
    with pytest.raises(
        ValueError, match=r"first must have events of one axis, \(F,\), got \(5, 3\)"
    ):
        Chain(DiagNormal(normal.loc, normal.scale, event_dims=2), curved, 1)


def test_clamped_log_variances_stay_within_their_bounds():
    conditional = mm.ClampedGaussian(nn.Identity(), 2, 3, log_variance=(-1.0, 0.5))
    x = 10 * torch.randn(200, 2)
    given = conditional(x)
    log_variance = 2 * given.scale.log()
    expected = conditional.log_variance(x).clamp(-1.0, 0.5)
    torch.testing.assert_close(log_variance, expected)
    torch.testing.assert_close(given.loc, conditional.mean(x))
    assert (expected == -1.0).any()
    with pytest.raises(ValueError, match=r"log_variance must be \(lower, upper\) bounds"):
        mm.ClampedGaussian(nn.Identity(), 2, 3, log_variance=(1.0, 1.0))


def test_clamped_pixels_move_back_and_not_away():
    value = torch.tensor([-0.5, -0.5, 0.3, 1.5, 1.5], requires_grad=True)
    clamped = unit_interval(value)
    torch.testing.assert_close(clamped.detach(), torch.tensor([0.0, 0.0, 0.3, 1.0, 1.0]))
    gradient = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0])
    clamped.backward(gradient)
    # A step goes against the gradient.
    torch.testing.assert_close(value.grad, torch.tensor([-1.0, 0.0, 1.0, 0.0, 1.0]))


def test_a_prior_of_standard_normals_draws_its_chain():
    chain = Chain(StandardNormal(torch.zeros(1)), curved, 1)
    value = chain.sample((20_000,))
    within_standard_errors(value[:, 1], 0.5)
    assert chain.rsample((3,)).shape == (3, 2)


def test_a_chain_is_discrete_where_a_part_is():
    """No draw is used if the mean is known."""
    normal = DiagNormal(torch.zeros(4, 2), torch.ones(4, 2))
    discrete = Bernoulli(torch.zeros(4, 2))

    def real(a):
        return DiagNormal(a, torch.ones(2))

    before = torch.get_rng_state()
    assert not is_discrete(Chain(normal, real, 2))
    assert is_discrete(Chain(discrete, real, 2))
    assert is_discrete(Chain(normal, Bernoulli, 2))
    assert is_discrete(Chain(Mixture(torch.zeros(4), normal), Bernoulli, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_scales_of_a_chain_are_those_of_its_parts_given_the_ones_before():
    top = mm.ClampedGaussian(nn.Linear(3, 3), 3, 2, (-2.0, 0.0))
    below = mm.ClampedGaussian(nn.Linear(2, 2), 2, 1, (-4.0, 1.0))
    prior = ChainPrior(mm.VampPrior(top, torch.randn(5, 3)), below, 1)
    encoder, z = Chain(top(torch.randn(7, 3)), lambda a: below(5 * a), 1), torch.randn(7, 3)
    first, second = scales(encoder, z)
    torch.testing.assert_close(first.scale, encoder.first.scale)
    torch.testing.assert_close(second.scale, below(5 * z[:, :2]).scale)
    assert (first.floor, second.floor) == pytest.approx((math.exp(-1), math.exp(-2)))
    components, given = scales(prior(), z)
    torch.testing.assert_close(components.scale, top(prior.first.pseudo_inputs).scale)
    torch.testing.assert_close(given.scale, below(z[:, :2]).scale)
    # Without a floor no scale can be at the floor.
    assert scales(Linear().chain(4), torch.randn(4, 5)) == []
