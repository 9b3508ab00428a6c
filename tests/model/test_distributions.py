"""Densities against torch, scipy, sums and integrals; samples against moments."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from oracles import within_standard_errors
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    Laplace,
    LogisticNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)
from torch.distributions import OneHotCategorical as TorchOneHot

import mimachine as mm
from mimachine.model.discrete import Bernoulli as OurBernoulli
from mimachine.model.discrete import Categorical as OurCategorical
from mimachine.model.discrete import DiscretizedLogistic, OneHotCategorical
from mimachine.model.distributions import FullNormal, StandardNormal

pytestmark = pytest.mark.usefixtures("double")


def close(actual, expected):
    # Float64 rounding of a few terms of order one to ten.
    torch.testing.assert_close(
        actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=1e-10, atol=1e-10
    )


# draw


@pytest.mark.parametrize(
    "distribution",
    [
        Independent(Normal(torch.zeros(4, 3), torch.ones(4, 3)), 1),
        Independent(Laplace(torch.zeros(4, 3), torch.ones(4, 3)), 1),
        LogisticNormal(torch.zeros(4, 3), torch.ones(4, 3)),
        Independent(Bernoulli(logits=torch.zeros(4, 3)), 1),
        Categorical(logits=torch.zeros(4, 3)),
    ],
    ids=lambda d: type(getattr(d, "base_dist", d)).__name__,
)
@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_draw_gives_the_log_probability_of_its_value(distribution, shape):
    value, log_prob, score = mm.draw(distribution, shape)
    assert value.shape == (*shape, *distribution.batch_shape, *distribution.event_shape)
    torch.testing.assert_close(log_prob, distribution.log_prob(value))
    if distribution.has_rsample:
        assert score is None
    else:
        torch.testing.assert_close(score, log_prob)


def test_draw_is_reparameterised_where_the_distribution_is():
    loc = torch.zeros(3, requires_grad=True)
    for distribution in (mm.DiagNormal(loc, torch.ones(3)), Laplace(loc, torch.ones(3))):
        close(torch.autograd.grad(mm.draw(distribution).value.sum(), loc)[0], torch.ones(3))
    value, log_prob, score = mm.draw(Bernoulli(logits=loc))
    assert not value.requires_grad
    # The derivative of a Bernoulli log-probability with respect to its logit.
    close(torch.autograd.grad(score.sum(), loc)[0], value - 0.5)
    assert score is log_prob


def test_draw_from_a_flow_gives_the_log_probability_of_its_value():
    # zuko switches off the validation of torch's distributions for the whole process.
    validate = torch.distributions.Distribution._validate_args
    zuko = pytest.importorskip("zuko")
    torch.distributions.Distribution.set_default_validate_args(validate)

    flow = zuko.flows.MAF(3, 2, transforms=2, hidden_features=(8,))
    conditional = flow(torch.randn(6, 2))
    value, log_prob, score = mm.draw(conditional)
    assert value.shape == (6, 3)
    assert value.requires_grad
    assert score is None
    # The inverse of an autoregressive transform is exact up to rounding of its passes.
    torch.testing.assert_close(log_prob, conditional.log_prob(value), rtol=1e-6, atol=1e-6)


# DiagNormal


def torch_normal(loc, scale, event_dims):
    return Independent(Normal(loc, scale.expand(loc.shape)), event_dims)


SHAPES = [((), (3,), 1), ((4,), (3,), 1), ((2, 4), (3,), 1), ((4,), (2, 3, 3), 3), ((4,), (), 0)]


@pytest.mark.parametrize(("batch", "event", "event_dims"), SHAPES)
def test_diagonal_normal_agrees_with_torch(batch, event, event_dims):
    loc, scale = torch.randn(batch + event), torch.rand(batch + event) + 0.1
    ours, theirs = mm.DiagNormal(loc, scale, event_dims), torch_normal(loc, scale, event_dims)
    assert ours.batch_shape == theirs.batch_shape
    assert ours.event_shape == theirs.event_shape
    for shape in ((), (5,), (5, 2)):
        value = theirs.sample(shape)
        close(ours.log_prob(value), theirs.log_prob(value))
        assert ours.sample(shape).shape == ours.rsample(shape).shape == value.shape
        assert ours.draw(torch.Size(shape)).log_prob.shape == shape + batch
    for name in ("mean", "mode", "stddev", "variance"):
        close(getattr(ours, name), getattr(theirs, name))
    close(ours.entropy(), theirs.entropy())


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)])
def test_diagonal_normal_broadcasts_its_scale(shape):
    loc, scale = torch.randn(4, 3), torch.rand(shape) + 0.1
    ours, theirs = mm.DiagNormal(loc, scale), torch_normal(loc, scale, 1)
    value = theirs.sample((5,))
    close(ours.log_prob(value), theirs.log_prob(value))
    close(ours.log_prob(value[0, 0]), theirs.log_prob(value[0, 0]))
    close(ours.entropy(), theirs.entropy())
    close(ours.stddev, theirs.stddev)
    drawn = mm.draw(ours, (6,))
    close(drawn.log_prob, theirs.log_prob(drawn.value))


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)])
def test_diagonal_normal_is_indexed_over_its_batch(shape):
    loc, scale = torch.randn(4, 3), torch.rand(shape) + 0.1
    index = torch.tensor([2, 0, 2, 3, 1])
    ours = mm.DiagNormal(loc, scale)[index]
    theirs = torch_normal(loc[index], scale.expand(4, 3)[index], 1)
    assert ours.batch_shape == (5,)
    value = theirs.sample()
    close(ours.log_prob(value), theirs.log_prob(value))
    assert ours.event_shape == (3,)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_diagonal_normal_expands_like_torch(shape):
    loc, scale = torch.randn(3), torch.rand(shape) + 0.1
    ours = mm.DiagNormal(loc, scale).expand((4, 2))
    theirs = torch_normal(loc, scale, 1).expand((4, 2))
    assert ours.batch_shape == theirs.batch_shape
    value = theirs.sample((6,))
    close(ours.log_prob(value), theirs.log_prob(value))
    image = mm.DiagNormal(torch.zeros(1, 3, 2, 2), scale.new_tensor(0.4), 3).expand((5,))
    assert image.batch_shape == (5,)
    assert image.event_shape == (3, 2, 2)


def test_diagonal_normal_integrates_to_one():
    normal = mm.DiagNormal(torch.tensor([0.7]), torch.tensor([0.3]))
    grid = torch.linspace(-3, 5, 4001)
    # The trapezoidal rule converges geometrically for a normal; the tails are below 1e-30.
    close(torch.trapezoid(normal.log_prob(grid[:, None]).exp(), grid), 1.0)


def test_diagonal_normal_samples_have_its_moments():
    loc, scale = torch.tensor([[0.0, 5.0], [-2.0, 1.0]]), torch.tensor([[1.0, 0.1], [3.0, 0.5]])
    normal = mm.DiagNormal(loc, scale)
    for sample in (
        normal.sample((20_000,)),
        normal.rsample((20_000,)),
        normal.draw(torch.Size([20_000])).value,
    ):
        noise = (sample - loc) / scale
        for moment, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
            within_standard_errors(noise**moment, expected)
        within_standard_errors(noise[:, 0] * noise[:, 1], 0.0)
        within_standard_errors(noise[..., 0] * noise[..., 1], 0.0)


def test_diagonal_normal_is_reparameterised_and_sample_is_not():
    loc, scale = torch.randn(3, requires_grad=True), torch.rand(3, requires_grad=True)
    normal = mm.DiagNormal(loc, scale)
    for value in (normal.rsample(), normal.draw().value):
        d_loc, d_scale = torch.autograd.grad(value.sum(), (loc, scale))
        close(d_loc, torch.ones(3))
        close(d_scale, ((value - loc) / scale).detach())
    assert not normal.sample().requires_grad


def test_gradient_of_a_drawn_log_probability_is_that_of_evaluation():
    loc = torch.randn(4, 3, requires_grad=True)
    log_scale = torch.randn(3, requires_grad=True)
    normal = mm.DiagNormal(loc, log_scale.exp())
    value, log_prob, _ = normal.draw(torch.Size([6]))
    evaluated = normal.log_prob(value)
    close(log_prob, evaluated)
    for weight in (torch.ones(6, 4), torch.randn(6, 4)):
        drawn, expected = (
            torch.autograd.grad(
                lp, (loc, log_scale), weight, retain_graph=True, materialize_grads=True
            )
            for lp in (log_prob, evaluated)
        )
        # The location cancels in x - loc = scale * noise.
        close(drawn[0], torch.zeros(4, 3))
        close(expected[0], torch.zeros(4, 3))
        close(drawn[1], expected[1])


def test_a_drawn_log_probability_is_accurate_where_the_scale_is_tiny():
    loc = torch.full((20_000, 1), 1000.0, dtype=torch.float32)
    scale = torch.full_like(loc, 1e-6)
    normal = mm.DiagNormal(loc, scale)
    _, log_prob, _ = normal.draw()
    # The value rounds to the location, where evaluation would always give the density of the mode;
    # the mean of the drawn ones is minus the entropy.
    assert (normal.rsample() == loc).all()
    within_standard_errors(log_prob.double(), -normal.entropy()[0].double())
    assert log_prob.std() > 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distributions_keep_their_dtype(dtype):
    loc, scale = torch.zeros(4, 3, dtype=dtype), torch.ones(4, 3, dtype=dtype)
    for distribution in (
        mm.DiagNormal(loc, scale),
        mm.Mixture(torch.zeros(4, dtype=dtype), mm.DiagNormal(loc, scale)),
        mm.Mixture(torch.zeros(4, dtype=dtype), Independent(Laplace(loc, scale), 1)),
        DiscretizedLogistic(loc, scale, 17),
        StandardNormal(loc),
        OurBernoulli(loc),
        OurCategorical(loc),
        OneHotCategorical(loc),
    ):
        drawn = mm.draw(distribution, (5,))
        assert drawn.value.dtype == drawn.log_prob.dtype == dtype
        if not isinstance(distribution, OurCategorical):
            assert distribution.mean.dtype == dtype


@pytest.mark.parametrize(
    "make",
    [
        lambda loc: mm.DiagNormal(loc, torch.ones(3)),
        lambda loc: mm.Mixture(torch.zeros(2), mm.DiagNormal(loc, torch.ones(2, 3))),
        lambda loc: mm.Mixture(torch.zeros(2), mm.DiagNormal(loc[None] + 1, torch.ones(1, 2, 3))),
        lambda loc: mm.Mixture(torch.zeros(2), OurBernoulli(loc)),
        lambda loc: DiscretizedLogistic(loc, torch.ones(2, 3), 17),
        StandardNormal,
        OurBernoulli,
        lambda loc: OurCategorical(loc, 1),
        lambda loc: OneHotCategorical(loc, 2),
    ],
    ids=[
        "normal",
        "mixture",
        "batch of mixtures",
        "mixture of bernoullis",
        "logistic",
        "standard",
        "bernoulli",
        "categorical",
        "one-hot",
    ],
)
def test_distributions_draw_and_score_under_vmap(make):
    def member(loc):
        drawn = mm.draw(make(loc), (8,))
        return drawn.value, drawn.log_prob, make(loc).log_prob(drawn.value)

    loc = torch.zeros(2, 3).expand(5, 2, 3)
    value, drawn, evaluated = torch.vmap(member, randomness="different")(loc)
    close(drawn, evaluated)
    assert len({tuple(member.flatten().tolist()) for member in value}) == 5
    close(make(loc[0]).log_prob(value[0]), evaluated[0])


# StandardNormal


@pytest.mark.parametrize("event", [(3,), (2, 4, 4), ()])
def test_standard_normal_agrees_with_torch(event):
    ours = StandardNormal(torch.zeros(event))
    theirs = torch_normal(torch.zeros(event), torch.ones(event), len(event))
    assert ours.batch_shape == ()
    assert ours.event_shape == event
    for shape in ((), (5,), (5, 2)):
        value = 2 * theirs.sample(shape)
        close(ours.log_prob(value), theirs.log_prob(value))
        assert ours.sample(shape).shape == ours.rsample(shape).shape == value.shape
    for name in ("mean", "stddev", "variance"):
        close(getattr(ours, name), getattr(theirs, name))
    close(ours.entropy(), theirs.entropy())


def test_standard_normal_samples_have_its_moments():
    sample = StandardNormal(torch.zeros(3)).sample((20_000,))
    for moment, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        within_standard_errors(sample**moment, expected)
    within_standard_errors(sample[:, 0] * sample[:, 1], 0.0)


# Mixture


def random_mixture(batch=(), components=3, features=2):
    shape = (*batch, components, features)
    loc, scale = 2 * torch.randn(shape), torch.rand(shape) + 0.2
    logits = torch.randn(*batch, components)
    ours = mm.Mixture(logits, mm.DiagNormal(loc, scale))
    theirs = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(loc, scale), 1))
    return ours, theirs


@pytest.mark.parametrize("batch", [(), (4,), (2, 4)])
@pytest.mark.parametrize("components", [1, 3])
def test_mixture_agrees_with_torch(batch, components):
    ours, theirs = random_mixture(batch, components)
    assert ours.batch_shape == theirs.batch_shape == batch
    assert ours.event_shape == theirs.event_shape == (2,)
    for shape in ((), (5,), (5, 2)):
        value = theirs.sample(shape)
        close(ours.log_prob(value), theirs.log_prob(value))
        assert ours.sample(shape).shape == value.shape
    close(ours.mean, theirs.mean)
    close(ours.variance, theirs.variance)


@pytest.mark.parametrize("features", [(5,), (2, 3)])
@pytest.mark.parametrize("narrowest", [0.2, 1e-3])
def test_log_densities_of_all_pairs_are_those_of_each(features, narrowest):
    loc = 1 + torch.randn(7, *features, dtype=torch.float64)
    scale = narrowest + torch.rand(7, *features, dtype=torch.float64)
    normal = mm.DiagNormal(loc, scale, len(features))
    value = loc.repeat(30, *[1] * len(features)) + narrowest * torch.randn(210, *features)
    expected = normal.log_prob(value[:, None])
    # The squares that cancel are at most 1e7, which leaves a rounding error of 1e-9.
    torch.testing.assert_close(normal.log_prob_of_each(value), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-2, 1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize("full", [False, True])
def test_the_density_of_a_mixture_does_not_depend_on_the_number_of_values(scale, full):
    loc, logits = torch.randn(200, 8), torch.randn(200)
    if full:
        components = FullNormal(loc, scale * torch.eye(8).expand(200, 8, 8))
    else:
        components = mm.DiagNormal(loc, torch.full_like(loc, scale))
    mixture = mm.Mixture(logits, components)
    value = loc[torch.randint(200, (1000,))] + scale * torch.randn(1000, 8)
    exact = MixtureSameFamily(
        Categorical(logits=logits.double()), Independent(Normal(loc.double(), scale), 1)
    ).log_prob(value.double())
    rows = torch.cat([mixture.log_prob(row[None]) for row in value[:100]])
    # A few units in the last place of the largest terms.
    torch.testing.assert_close(mixture.log_prob(value).double(), exact, rtol=0, atol=5e-5)
    torch.testing.assert_close(rows.double(), exact[:100], rtol=0, atol=5e-5)


@pytest.mark.parametrize("shape", [(), (3000,), (30, 100)])
def test_a_mixture_of_many_pairs_has_the_density_and_gradient_of_a_mixture_of_few(shape):
    logits, loc = torch.randn(40), torch.randn(40, 4) if shape else torch.randn(40, 2000)
    log_scale = 0.3 * torch.randn(loc.shape)
    values = []
    for precision in (torch.float32, torch.float64):
        parts = [part.to(precision).requires_grad_() for part in (logits, loc, log_scale)]
        value = torch.randn(*shape, loc.shape[1], generator=torch.Generator().manual_seed(1))
        value = value.to(precision).requires_grad_()
        ours = mm.Mixture(parts[0], mm.DiagNormal(parts[1], parts[2].exp()))
        if precision == torch.float32:
            log_prob = ours.log_prob(value)
        else:
            each = Independent(Normal(parts[1], parts[2].exp()), 1)
            theirs = MixtureSameFamily(Categorical(logits=parts[0]), each)
            log_prob = theirs.log_prob(value)
        gradients = torch.autograd.grad(log_prob.mean(), [*parts, value])
        values.append([log_prob.detach().double(), *(g.double() for g in gradients)])
    for ours, theirs in zip(*values, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * len(loc[0]))


def test_mixture_shares_its_weights_over_the_batch():
    _, theirs = random_mixture((4,))
    logits = torch.randn(3)
    normal = mm.DiagNormal(theirs.component_distribution.mean, torch.ones(4, 3, 2))
    value = torch.randn(5, 4, 2)
    shared = mm.Mixture(logits, normal)
    close(shared.log_prob(value), mm.Mixture(logits.expand(4, 3), normal).log_prob(value))
    assert shared.sample((6,)).shape == (6, 4, 2)


def test_mixture_over_events_of_three_axes():
    loc = torch.randn(4, 3, 2, 5, 5)
    mixture = mm.Mixture(torch.randn(3), mm.DiagNormal(loc, torch.tensor(0.5), event_dims=3))
    flat = mm.Mixture(mixture.log_weights, mm.DiagNormal(loc.flatten(2), torch.tensor(0.5)))
    value = mixture.sample((6,))
    assert value.shape == (6, 4, 2, 5, 5)
    close(mixture.log_prob(value), flat.log_prob(value.flatten(2)))
    close(mixture.mean.flatten(1), flat.mean)
    close(mixture.variance.flatten(1), flat.variance)


def test_mixture_integrates_to_one():
    mixture, _ = random_mixture(features=1)
    grid = torch.linspace(-15, 15, 20_001)
    # As for a single normal: geometric convergence, negligible tails.
    close(torch.trapezoid(mixture.log_prob(grid[:, None]).exp(), grid), 1.0)


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("family", ["normal", "laplace"])
def test_mixture_samples_have_its_moments(batch, family):
    shape = (*batch, 3, 2)
    loc, scale = 2 * torch.randn(shape), torch.rand(shape) + 0.2
    components = (
        mm.DiagNormal(loc, scale) if family == "normal" else Independent(Laplace(loc, scale), 1)
    )
    mixture = mm.Mixture(torch.randn(*batch, 3), components)
    sample = mixture.sample((20_000,))
    within_standard_errors(sample, mixture.mean)
    within_standard_errors((sample - mixture.mean).square(), mixture.variance)
    # E[-log p] = -Σ w_k E_k[log p] relates each component to its own weight.
    value, index = mixture.sample_with_component((20_000,))
    assert index.shape == (20_000, *batch)
    weights = mixture.log_weights.exp()
    for k in range(3):
        chosen = (index == k).to(weights.dtype)
        within_standard_errors(chosen, weights[..., k])
        offset = chosen[..., None] * (value - components.mean[..., k, :])
        within_standard_errors(offset, torch.zeros_like(mixture.mean))
        within_standard_errors(
            offset.square(), weights[..., k, None] * components.variance[..., k, :]
        )


@pytest.mark.parametrize("scale", [0.1, [0.1, 0.3]])
def test_mixture_takes_components_with_a_shared_scale(scale):
    scale = torch.tensor(scale)
    loc = torch.tensor([[-5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])
    mixture = mm.Mixture(torch.zeros(3), mm.DiagNormal(loc, scale))
    value, index = mixture.sample_with_component((5_000,))
    noise = (value - loc[index]) / scale
    within_standard_errors(noise, 0.0)
    within_standard_errors(noise.square(), 1.0)


def test_mixture_passes_gradient_to_weights_and_components():
    logits, loc = torch.randn(3, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    value = torch.randn(4, 2)
    mixture = mm.Mixture(logits, mm.DiagNormal(loc, torch.ones(3, 2)))
    d_logits, d_loc = torch.autograd.grad(mixture.log_prob(value).sum(), (logits, loc))
    # Responsibilities minus weights, and responsibilities times the score of each component.
    per_component = Independent(Normal(loc, torch.ones(3, 2)), 1).log_prob(value[:, None])
    responsibility = (per_component + logits).softmax(-1).detach()
    close(d_logits, (responsibility - logits.softmax(-1)).sum(0).detach())
    close(d_loc, (responsibility[..., None] * (value[:, None] - loc)).sum(0).detach())
    assert not mixture.sample().requires_grad


def mixture_of(family, logits, loc, log_scale):
    """A mixture over one value; the batch of components is that of the parameters."""
    loc, scale = loc[..., None], log_scale.exp()[..., None]
    if family == "normal":
        return mm.Mixture(logits, mm.DiagNormal(loc, scale))
    if family == "laplace":
        return mm.Mixture(logits, Independent(Laplace(loc, scale), 1))
    if family == "bernoulli":
        return mm.Mixture(logits, OurBernoulli(loc))
    # Pairs of normals, as mixtures of their own.
    pairs = mm.DiagNormal(torch.stack([loc, loc + 1], -2), scale[..., None])
    return mm.Mixture(logits, mm.Mixture(torch.tensor([0.3, -0.2]), pairs))


FAMILIES = ["normal", "laplace", "bernoulli", "mixture"]


def mixture_parameters(*batch):
    return (
        torch.randn(*batch, 3, requires_grad=True),
        torch.randn(*batch, 3, requires_grad=True),
        (0.3 * torch.randn(*batch, 3)).requires_grad_(),
    )


def score_function(value, score):
    """A tensor equal to `value` whose mean gradient is that of the expectation of `value`."""
    return value if score is None else value + value.detach() * (score - score.detach())


def gradients_of_draws(estimate, parameters, repeats=20_000):
    """One gradient per repeat, from a batch with separate parameters per entry."""
    copies = [p.detach().expand(repeats, *p.shape).clone().requires_grad_() for p in parameters]
    return torch.autograd.grad(estimate(*copies), copies, materialize_grads=True)


def by_drawing(make, f):
    def estimate(*parameters):
        value, log_prob, score = mm.draw(make(*parameters))
        return score_function(f(value[..., 0], log_prob), score).sum()

    return estimate


def by_drawing_each(make, f):
    def estimate(*parameters):
        (value, log_prob, score), weights = make(*parameters).draw_each()
        return (weights * score_function(f(value[..., 0], log_prob), score)).sum()

    return estimate


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("estimator", [by_drawing, by_drawing_each])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_of_moments_by_draws_of_a_mixture_is_unbiased(family, estimator, batch):
    def make(*parameters):
        return mixture_of(family, *parameters)

    parameters = mixture_parameters(*batch)
    components = make(*parameters).components
    second = components.variance + components.mean.square()
    each = (components.mean + 0.5 * second)[..., 0]
    exact = torch.autograd.grad(
        (parameters[0].softmax(-1) * each).sum(), parameters, materialize_grads=True
    )
    estimate = estimator(make, lambda value, log_prob: value + 0.5 * value.square())
    for drawn, expected in zip(gradients_of_draws(estimate, parameters), exact, strict=True):
        within_standard_errors(drawn, expected)


@pytest.mark.parametrize("estimator", [by_drawing, by_drawing_each])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_of_the_entropy_by_draws_of_a_mixture_is_unbiased(family, estimator):
    # The gradient flows through the log-probability at the value, and through the value.
    def make(*parameters):
        return mixture_of(family, *parameters)

    parameters = mixture_parameters()
    mixture = make(*parameters)
    if family == "bernoulli":
        values = torch.tensor([0.0, 1.0])[:, None]
        entropy = -(mixture.log_prob(values).exp() * mixture.log_prob(values)).sum()
    else:
        # Steps of 2e-3 put the trapezoidal rule's error, largest at a Laplace's kink, at 1e-6.
        values = torch.linspace(-30, 30, 30_001)[:, None]
        log_prob = mixture.log_prob(values)
        entropy = -torch.trapezoid(log_prob.exp() * log_prob, values[:, 0])
    exact = torch.autograd.grad(entropy, parameters, materialize_grads=True)
    estimate = estimator(make, lambda value, log_prob: -log_prob)
    for drawn, expected in zip(gradients_of_draws(estimate, parameters), exact, strict=True):
        within_standard_errors(drawn, expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)])
@pytest.mark.parametrize("shape", [(), (5,), (5, 2)])
def test_a_drawn_mixture_has_the_log_probability_of_its_value(family, batch, shape):
    mixture = mixture_of(family, *mixture_parameters(*batch))
    value, log_prob, score = mm.draw(mixture, shape)
    assert value.shape == (*shape, *batch, 1)
    assert log_prob.shape == score.shape == (*shape, *batch)
    close(log_prob, mixture.log_prob(value))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [(), (4,), (2, 4)])
def test_a_draw_of_each_component_has_them_as_its_first_axis(family, batch):
    logits, _, log_scale = mixture_parameters(*batch)
    # Components without overlap.
    loc = torch.tensor([-300.0, 0.0, 300.0]).expand(*batch, 3)
    mixture = mixture_of(family, logits, loc, log_scale)
    (value, log_prob, score), weights = mixture.draw_each()
    assert value.shape == (3, *batch, 1)
    close(log_prob, mixture.log_prob(value))
    close(weights, logits.softmax(-1).movedim(-1, 0))
    ends = torch.tensor([0.0, 1.0]) if family == "bernoulli" else torch.tensor([-300.0, 300.0])
    assert ((value[0, ..., 0] - ends[0]).abs() < 30).all()
    assert ((value[-1, ..., 0] - ends[1]).abs() < 30).all()
    assert (score is None) == (family in ("normal", "laplace"))


def test_the_score_of_a_draw_is_of_what_was_not_reparameterised():
    logits, _, log_scale = mixture_parameters(4)
    loc = torch.tensor([-300.0, 0.0, 300.0]).expand(4, 3)
    for family in ("normal", "laplace"):
        value, _, score = mm.draw(mixture_of(family, logits, loc, log_scale), (50,))
        index = (value[..., 0] / 300).round().long() + 1
        close(score, logits.log_softmax(-1).expand(50, 4, 3).gather(-1, index[..., None])[..., 0])
    drawn = mm.draw(mixture_of("bernoulli", logits, loc, log_scale), (50,))
    assert drawn.score is drawn.log_prob


def test_a_sum_over_components_varies_less_than_a_draw_of_one():
    def make(*parameters):
        return mixture_of("normal", *parameters)

    parameters = mixture_parameters()
    variances = []
    for estimator in (by_drawing, by_drawing_each):
        estimate = estimator(make, lambda value, log_prob: value - log_prob)
        gradients = gradients_of_draws(estimate, parameters, 4_000)
        variances.append(sum(g.var(0).sum() for g in gradients))
    # Between 0.1 and 0.5 here; the estimates themselves are accurate to a few per cent.
    assert variances[1] < 0.7 * variances[0]


def test_the_variance_of_a_mixture_survives_far_from_the_origin():
    loc = torch.full((2, 1), 1000.0, dtype=torch.float32)
    logits = torch.zeros(2, dtype=torch.float32)
    mixture = mm.Mixture(logits, mm.DiagNormal(loc, torch.full_like(loc, 1e-3)))
    torch.testing.assert_close(mixture.stddev, torch.full((1,), 1e-3, dtype=torch.float32))


@pytest.mark.parametrize("shape", [(), (6,)])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_are_not_numbers_do_not_stop_a_draw(family, shape):
    logits, loc, log_scale = mixture_parameters(4)
    mixture = mixture_of(family, torch.full_like(logits, torch.nan), loc, log_scale)
    drawn = mm.draw(mixture, shape)
    assert drawn.value.isfinite().all()
    assert drawn.log_prob.isnan().all()


# Categorical and OneHotCategorical


def test_categorical_agrees_with_torch():
    for batch, event, dims in (((), (3,), 1), ((4,), (3,), 1), ((4,), (2, 3), 2), ((4,), (), 0)):
        logits = torch.randn(*batch, *event, 5)
        ours = OurCategorical(logits, dims)
        theirs = Independent(Categorical(logits=logits), dims)
        assert ours.batch_shape == theirs.batch_shape == batch
        assert ours.event_shape == theirs.event_shape == event
        for shape in ((), (6,), (6, 2)):
            value = theirs.sample(shape)
            close(ours.log_prob(value), theirs.log_prob(value))
            close(ours.log_prob(value.double()), theirs.log_prob(value))
            assert ours.sample(shape).shape == value.shape
            assert ours.sample(shape).dtype == torch.float64


def test_one_hot_categorical_agrees_with_torch():
    for batch, event, dims in (
        ((), (5,), 1),
        ((4,), (5,), 1),
        ((4,), (2, 5), 2),
        ((4,), (3, 5), 1),
    ):
        logits = torch.randn(*batch, *event)
        ours = OneHotCategorical(logits, dims)
        theirs = Independent(TorchOneHot(logits=logits), dims - 1)
        assert ours.batch_shape == theirs.batch_shape
        assert ours.event_shape == theirs.event_shape
        for shape in ((), (6,), (6, 2)):
            value = theirs.sample(shape)
            close(ours.log_prob(value), theirs.log_prob(value))
            drawn = ours.sample(shape)
            assert drawn.shape == value.shape
            close(drawn.sum(-1), torch.ones(drawn.shape[:-1]))
            assert ((drawn == 0) | (drawn == 1)).all()
        close(ours.mean, theirs.mean)
        close(ours.variance, theirs.variance)


def test_categories_are_drawn_at_their_probabilities():
    logits = torch.randn(4, 2, 5)
    drawn = OneHotCategorical(logits, 2).sample((20_000,))
    within_standard_errors(drawn, logits.softmax(-1))
    # Independent of each other.
    pairs = drawn[:, :, 0, :, None] * drawn[:, :, 1, None, :]
    p = logits.softmax(-1)
    within_standard_errors(pairs, p[:, 0, :, None] * p[:, 1, None, :])
    numbers = OurCategorical(logits, 1).sample((20_000,))
    within_standard_errors(torch.eye(5)[numbers.long()], logits.softmax(-1))


@pytest.mark.parametrize("value", [-1, 5, 0.5, math.nan, math.inf])
def test_what_is_no_category_has_probability_zero(value):
    logits = torch.randn(3, 5, requires_grad=True)
    log_prob = OurCategorical(logits, 0).log_prob(torch.tensor([1.0, value, 4.0]))
    assert log_prob[1] == -torch.inf
    assert log_prob[::2].isfinite().all()
    assert torch.autograd.grad(log_prob[::2].sum(), logits)[0].isfinite().all()


def test_a_category_that_cannot_be_leaves_the_others_theirs():
    logits = torch.tensor([0.0, -torch.inf, 1.0], requires_grad=True)
    one_hot = OneHotCategorical(logits)
    values = torch.eye(3)
    close(one_hot.log_prob(values).exp(), logits.softmax(-1))
    assert torch.autograd.grad(one_hot.log_prob(values[0]), logits)[0].isfinite().all()
    assert (one_hot.sample((1000,))[:, 1] == 0).all()


@pytest.mark.parametrize("make", [OurCategorical, OneHotCategorical])
@pytest.mark.parametrize("shape", [(), (6,)])
def test_logits_that_are_not_numbers_do_not_stop_a_draw_of_categories(make, shape):
    drawn = mm.draw(make(torch.full((4, 2, 3), torch.nan)), shape)
    assert drawn.value.isfinite().all()
    assert drawn.log_prob.isnan().all()


@pytest.mark.parametrize("make", [OurCategorical, OneHotCategorical])
def test_the_score_of_categories_is_their_log_probability(make):
    logits = torch.randn(4, 2, 3, requires_grad=True)
    value, log_prob, score = mm.draw(make(logits), (5,))
    assert score is log_prob
    assert not value.requires_grad
    drawn = value if make is OneHotCategorical else torch.eye(3)[value.long()]
    # The derivative of a log-probability with respect to its logits.
    expected = (drawn - logits.softmax(-1)).sum(0).detach()
    close(torch.autograd.grad(score.sum(), logits)[0], expected)


# DiscretizedLogistic


def grid_of(levels, dtype=torch.float64):
    return torch.arange(levels, dtype=dtype) / (levels - 1)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 0.03, 1.0, 1e6])
def test_discretized_logistic_sums_to_one_on_its_grid(levels, scale):
    loc = torch.tensor([-3.0, 0.0, 0.25 / (levels - 1), 0.4321, 1.0, 1.7])[:, None]
    logistic = DiscretizedLogistic(loc, torch.full_like(loc, scale), levels)
    values = grid_of(levels)[:, None, None].expand(levels, 6, 1)
    log_prob = logistic.log_prob(values)
    assert log_prob.isfinite().all()
    # A difference of cell edges is rounded relative to |loc| / scale, up to 3e8 at 1e-16 each.
    torch.testing.assert_close(log_prob.exp().sum(0), torch.ones(6), rtol=1e-7, atol=0)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("scale", [0.03, 0.2, 1.0])
def test_discretized_logistic_is_the_mass_of_cells_of_a_logistic(levels, scale):
    loc, edges = 0.37, (np.arange(levels - 1) + 0.5) / (levels - 1)
    cdf = np.concatenate([[0], scipy.stats.logistic.cdf(edges, loc, scale), [1]])
    logistic = DiscretizedLogistic(torch.tensor([loc]), torch.tensor([scale]), levels)
    probability = logistic.log_prob(grid_of(levels)[:, None]).exp()
    # Differences of the cumulative distribution lose digits that the log form keeps.
    torch.testing.assert_close(probability, torch.from_numpy(np.diff(cdf)), rtol=1e-8, atol=1e-14)
    close(logistic.mean[0], (probability * grid_of(levels)).sum())


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_discretized_logistic_is_exact_in_its_tails(levels):
    # Far from the location a cell's mass is that of an exponential: its log is linear.
    scale = 1e-3
    logistic = DiscretizedLogistic(
        torch.tensor([-2.0], dtype=torch.float32),
        torch.tensor([scale], dtype=torch.float32),
        levels,
    )
    top = logistic.log_prob(torch.ones(1, dtype=torch.float32))
    expected = -(1 - 0.5 / (levels - 1) + 2) / scale
    torch.testing.assert_close(top.double(), torch.tensor(expected), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e-5, 0.05, 1e4])
def test_discretized_logistic_has_finite_gradients(scale):
    loc = torch.linspace(-1, 2, 7, dtype=torch.float32)[:, None].requires_grad_()
    log_scale = torch.full((7, 1), math.log(scale), dtype=torch.float32, requires_grad=True)
    logistic = DiscretizedLogistic(loc, log_scale.exp(), 256)
    values = grid_of(256, torch.float32)[:, None, None].expand(256, 7, 1)
    for gradient in torch.autograd.grad(logistic.log_prob(values).sum(), (loc, log_scale)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 2.0])
def test_discretized_logistic_samples_its_grid_at_its_probabilities(levels, scale):
    loc = torch.tensor([[0.0, 0.3], [0.52, 1.1]])
    logistic = DiscretizedLogistic(loc, torch.full((2, 2), scale), levels)
    sample = logistic.sample((20_000,))
    assert sample.shape == (20_000, 2, 2)
    close(sample * (levels - 1), (sample * (levels - 1)).round())
    pixels = DiscretizedLogistic(loc, torch.full((2, 2), scale), levels, event_dims=0)
    expected = 20_000 * pixels.log_prob(grid_of(levels)[:, None, None].expand(-1, 2, 2)).exp()
    counts = (sample * (levels - 1)).round().long().flatten(1).T
    counts = torch.stack([pixel.bincount(minlength=levels) for pixel in counts], 1)
    counts = counts.reshape(levels, 2, 2)
    # 5 standard deviations of a binomial, and 5 counts where its tails are not yet normal.
    allowed = 5 * (expected * (1 - expected / 20_000).clamp_min(0)).sqrt() + 5
    assert ((counts - expected).abs() <= allowed).all()


@pytest.mark.parametrize(("batch", "event", "event_dims"), SHAPES)
def test_discretized_logistic_sums_over_its_event(batch, event, event_dims):
    loc, scale = torch.rand(batch + event), torch.rand(batch + event)
    logistic = DiscretizedLogistic(loc, scale, 17, event_dims)
    assert logistic.batch_shape == batch
    assert logistic.event_shape == event
    pixels = DiscretizedLogistic(loc, scale, 17, 0)
    value = logistic.sample((5,))
    expected = pixels.log_prob(value)
    close(logistic.log_prob(value), expected.reshape((5, *batch, -1)).sum(-1))
    assert logistic.mean.shape == batch + event


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_full_normal_has_the_density_gradient_and_draws_of_torch_s(batch, dtype):
    loc = torch.randn(*batch, 5, dtype=dtype, requires_grad=True)
    # Standard deviations of 0.01 to 1, as the components of refitted priors have.
    factor = torch.randn(*batch, 5, 5, dtype=dtype).tril(-1) * 0.1
    factor = (factor + torch.logspace(-2, 0, 5, dtype=dtype).diag_embed()).requires_grad_()
    value = loc.detach() + 0.1 * torch.randn(7, *batch, 5, dtype=dtype)
    ours = FullNormal(loc, factor)
    # The same numbers in double, where torch's own is exact to rounding.
    exact = MultivariateNormal(loc.double(), scale_tril=factor.double())
    found, expected = ours.log_prob(value), exact.log_prob(value.double())
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=2e-4)
    for part, theirs in zip(
        torch.autograd.grad(found.sum(), (loc, factor)),
        torch.autograd.grad(expected.sum(), (loc, factor)),
        strict=True,
    ):
        torch.testing.assert_close(part, theirs, rtol=1e-4, atol=1e-3 * float(theirs.abs().max()))
    assert ours.sample((3,)).shape == (3, *batch, 5)
