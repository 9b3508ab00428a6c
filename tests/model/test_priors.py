"""Priors: initial values, shared parameters, gradients."""

import pytest
import torch
from oracles import within_standard_errors
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import mimachine as mm
from mimachine.model.priors import sample_without_gradient, without_gradient


def close(actual, expected):
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("shape", [(3,), (2, 4, 4)])
@pytest.mark.parametrize("make", [mm.StandardNormal, lambda shape: mm.LearnedNormal(shape, 0.0)])
def test_normal_priors_start_as_the_standard_normal(make, shape):
    prior = make(shape)()
    assert prior.batch_shape == ()
    assert prior.event_shape == shape
    value = torch.randn(5, *shape)
    expected = Independent(Normal(torch.zeros(shape), torch.ones(shape)), len(shape))
    close(prior.log_prob(value), expected.log_prob(value))


def test_a_number_stands_for_a_vector_of_latents():
    assert mm.StandardNormal(3)().event_shape == mm.LearnedNormal(3)().event_shape == (3,)


def test_the_standard_normal_has_nothing_to_learn_or_save():
    prior = mm.StandardNormal(3)
    assert not list(prior.parameters())
    assert not prior.state_dict()


@pytest.mark.parametrize(
    "make",
    [
        lambda: mm.StandardNormal(3),
        lambda: mm.LearnedNormal(3),
        lambda: mm.GaussianMixture(3, 4),
        lambda: mm.VampPrior(mm.Gaussian(mm.MLP(2, 6)), torch.zeros(4, 2)),
        lambda: mm.UniformOneHot(3),
        lambda: mm.LearnedOneHot(3),
    ],
    ids=["standard", "learned", "mixture", "vamp", "uniform one-hot", "learned one-hot"],
)
def test_priors_follow_their_module_to_another_dtype(make):
    prior = make()
    assert prior().sample((2,)).dtype == torch.float32
    prior.to(torch.float64)
    distribution = prior()
    assert distribution.batch_shape == ()
    value = distribution.sample((2,))
    assert value.dtype == distribution.log_prob(value).dtype == torch.float64
    assert value.shape == (2, 3)


def test_learned_normal_uses_its_parameters_and_floor():
    prior = mm.LearnedNormal(2, floor=0.25)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([1.0, -2.0]))
        prior.log_scale.copy_(torch.tensor([-200.0, 1.0]))
    expected = Independent(Normal(prior.loc, torch.tensor([0.25, 0.25 + torch.e])), 1)
    value = torch.randn(5, 2)
    close(prior().log_prob(value), expected.log_prob(value))


def test_gaussian_mixture_uses_its_parameters_and_floor():
    prior = mm.GaussianMixture(2, 3, floor=0.25)
    with torch.no_grad():
        prior.logits.normal_()
        prior.log_scale.normal_()
    components = Independent(Normal(prior.loc, prior.log_scale.exp() + 0.25), 1)
    expected = MixtureSameFamily(Categorical(logits=prior.logits), components)
    value = torch.randn(5, 2)
    close(prior().log_prob(value), expected.log_prob(value))


def test_gaussian_mixture_starts_with_equal_weights_and_scattered_means():
    prior = mm.GaussianMixture(2, 500)
    close(prior().log_weights.exp(), torch.full((500,), 1 / 500))
    within_standard_errors(prior.loc.detach(), 0.0)
    within_standard_errors(prior.loc.detach().square(), 1.0)


@pytest.mark.parametrize("make", [lambda: mm.LearnedNormal(2), lambda: mm.GaussianMixture(2, 3)])
def test_every_parameter_of_a_learned_prior_gets_a_gradient(make):
    prior = make()
    gradients = torch.autograd.grad(
        prior().log_prob(torch.randn(5, 2)).sum(), list(prior.parameters())
    )
    assert all(g.abs().sum() > 0 for g in gradients)


@pytest.mark.parametrize("make", [mm.UniformOneHot, mm.LearnedOneHot])
@pytest.mark.parametrize("shape", [4, (3, 4)])
def test_one_hot_priors_start_with_all_categories_as_likely(make, shape):
    prior = make(shape)()
    assert prior.batch_shape == ()
    assert prior.event_shape == torch.zeros(shape).shape
    values = prior.sample((7,))
    variables = prior.event_shape[:-1].numel()
    close(prior.log_prob(values), torch.full((7,), -variables * torch.tensor(4.0).log().item()))
    assert bool(list(make(shape).parameters())) == (make is mm.LearnedOneHot)


def test_learned_one_hot_uses_its_logits():
    prior = mm.LearnedOneHot((2, 3))
    with torch.no_grad():
        prior.logits.normal_()
    values = torch.eye(3)[torch.tensor([[0, 1], [2, 2], [1, 0]])]
    expected = (prior.logits.log_softmax(-1) * values).sum((1, 2))
    close(prior().log_prob(values), expected)
    # The derivative of a log-probability with respect to its logits.
    gradient = torch.autograd.grad(prior().log_prob(values[0]), prior.logits)[0]
    close(gradient, (values[0] - prior.logits.softmax(-1)).detach())


def vamp(components=4):
    encoder = mm.Gaussian(mm.MLP(2, 6, hidden=(5,)))
    return mm.VampPrior(encoder, torch.randn(components, 2))


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize("components", [1, 4])
def test_vamp_prior_is_the_mean_of_the_posteriors_at_its_pseudo_inputs(components, mixture):
    prior = vamp(components)
    if mixture:
        prior.encoder = mm.MixtureDensity(mm.MLP(2, 2 * 7), 2)
        assert prior().sample((9,)).shape == (9, 3)
    value = torch.randn(7, 3)
    posteriors = [prior.encoder(u[None]).log_prob(value).exp() for u in prior.pseudo_inputs]
    close(prior().log_prob(value).exp(), torch.stack(posteriors).mean(0))


def test_vamp_prior_shares_the_encoder_with_its_model():
    encoder = mm.Gaussian(mm.MLP(2, 6, hidden=(5,)))
    prior = mm.VampPrior(encoder, torch.randn(4, 2))
    model = mm.Joint(encoder, mm.Gaussian(mm.MLP(3, 4)), prior)
    names = [name for name, _ in model.named_parameters()]
    assert [name for name in names if name.startswith("prior")] == ["prior.pseudo_inputs"]
    value = torch.randn(7, 3)
    before = model.prior().log_prob(value)
    with torch.no_grad():
        model.encoder.network[0].bias.add_(1.0)
    assert (model.prior().log_prob(value) - before).abs().max() > 1e-3


def test_vamp_prior_learns_its_pseudo_inputs_and_the_encoder():
    prior = vamp()
    loss = prior().log_prob(torch.randn(7, 3)).sum()
    for gradient in torch.autograd.grad(loss, [prior.pseudo_inputs, *prior.encoder.parameters()]):
        assert gradient.abs().sum() > 0
    assert "logits" not in prior.state_dict()


def test_vamp_prior_copies_the_data_it_starts_from():
    data = torch.randn(4, 2)
    prior = mm.VampPrior(mm.Gaussian(mm.MLP(2, 6)), data)
    close(prior.pseudo_inputs.detach(), data)
    with torch.no_grad():
        prior.pseudo_inputs.add_(1.0)
    close(prior.pseudo_inputs.detach(), data + 1)


def test_vamp_prior_draws_from_every_posterior():
    # Posteriors far apart, so that a draw shows its component.
    network = mm.MLP(1, 6, hidden=())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[100.0], [100], [100], [0], [0], [0]]))
        network[0].bias.zero_()
    prior = mm.VampPrior(mm.Gaussian(network), torch.tensor([[-1.0], [1.0]]))
    draws = prior().sample((5_000,))
    within_standard_errors((draws[:, 0] > 0).double(), 0.5)
    within_standard_errors(draws.abs().double(), 100.0)


def test_a_fixed_prior_is_its_distribution_wherever_the_module_goes():
    given = mm.Mixture(torch.zeros(3), mm.DiagNormal(torch.randn(3, 2), torch.ones(3, 2)))
    prior = mm.Fixed(given)
    value = torch.randn(5, 2)
    assert prior() is given
    assert not list(prior.parameters())
    model = mm.Joint(mm.Gaussian(mm.MLP(2, 2)), mm.Gaussian(mm.MLP(1, 4)), mm.StandardNormal(1))
    loss = mm.Loss(model, mm.SYMMETRIC_KL, data_anchor=prior).double()
    assert loss.data_anchor().log_prob(value.double()).dtype == torch.float64
    assert loss.data_anchor().sample().dtype == torch.float64
    close(loss.data_anchor().log_prob(value.double()).float(), given.log_prob(value))
    # The given distribution is unchanged.
    assert given.log_prob(value).dtype == torch.float32
    assert loss(value.double()).dtype == torch.float64
    nested = mm.Fixed(Independent(Normal(torch.zeros(2), torch.ones(2)), 1)).double()
    assert nested().sample().dtype == torch.float64


class Twice(nn.Module):
    """A prior with one submodule at two paths, and one parameter at several."""

    def __init__(self):
        super().__init__()
        self.first, self.tied = nn.Linear(1, 3), nn.Linear(1, 3)
        self.again, self.tied.weight = self.first, self.first.weight
        self.bias, self.same = self.first.bias, self.first.bias

    def forward(self):
        loc = self.first(torch.ones(1)) + self.again(torch.ones(1)) + self.tied(torch.ones(1))
        loc = loc + self.bias + self.same
        return mm.DiagNormal(loc, torch.ones(3))


@pytest.mark.parametrize(
    "make", [lambda: mm.LearnedNormal(3), lambda: mm.GaussianMixture(3), lambda: vamp(), Twice]
)
def test_the_density_of_an_anchor_has_a_gradient_to_the_value_alone(make):
    prior = make()
    before = dict(prior.named_parameters(remove_duplicate=False))
    value = torch.randn(4, 3, requires_grad=True)
    log_prob = without_gradient(prior).log_prob(value)
    close(log_prob, prior().log_prob(value))
    gradients = torch.autograd.grad(log_prob.sum(), [value, *prior.parameters()], allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert all(g is None for g in gradients[1:])
    # The module is unchanged: its parameters are in place and get gradients from other calls.
    after = dict(prior.named_parameters(remove_duplicate=False))
    assert all(after[name] is before[name] for name in before | after)
    assert prior().log_prob(value).requires_grad


def test_samples_for_the_anchor_carry_no_gradient():
    for prior in (mm.LearnedNormal(3), mm.GaussianMixture(3), vamp()):
        sample = sample_without_gradient(prior(), 5)
        assert sample.shape == (5, 3)
        assert not sample.requires_grad


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.GaussianMixture(2, 0), "components must be 1 or more, got 0"),
        (
            lambda: mm.VampPrior(mm.Gaussian(mm.MLP(2, 6)), torch.zeros(2)),
            r"pseudo_inputs must have shape .*\(2,\)",
        ),
        (
            lambda: mm.VampPrior(mm.Gaussian(mm.MLP(2, 6)), torch.zeros(0, 2)),
            r"pseudo_inputs must have shape .*\(0, 2\)",
        ),
        (lambda: mm.Marginal("exact"), "decoding must be .* got 'exact'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_priors_reject_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_floors_of_learned_priors_must_not_be_negative():
    # A negative floor makes standard deviations negative.
    for make in (mm.LearnedNormal, mm.GaussianMixture):
        with pytest.raises(ValueError, match="floor must be 0 or more, got -1"):
            make(2, floor=-1.0)


class Moving(nn.Module):
    """A source of latents whose samples have a gradient to its location."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1))

    def sample(self, shape):
        return self.loc + torch.randn(*shape, 1)

    def forward(self):
        return self


def test_an_anchor_is_given_even_if_its_samples_have_a_gradient():
    model = mm.Joint(mm.Gaussian(mm.MLP(2, 2)), mm.Gaussian(mm.MLP(1, 4)), mm.StandardNormal(1))
    anchor = Moving()
    mm.Loss(model, mm.MIM, anchor)(torch.randn(5, 2)).mean().backward()
    assert anchor.loc.grad is None
    assert all(parameter.grad is not None for parameter in model.parameters())
