"""Normalising flows: densities, samples and gradients; Gaussian pairs with inverse means."""

import ast
import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from oracles import within_standard_errors
from torch.func import functional_call, jacrev, stack_module_state, vmap

import mimachine as mm
from mimachine._support.seeds import forked

KINDS = [
    mm.NeuralSpline(),
    mm.NeuralSpline(6, 4.0, passes=2),
    mm.MaskedAutoregressive(),
    mm.RealNVP(),
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=["spline", "spline-2", "maf", "nvp"])
double = pytest.mark.usefixtures("double")


def perturbed(module, size=0.1):
    """Change the weights so that a flow is more than a shift and a scale."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn_like(parameter)
    return module


def prior(features, kind, transforms=2):
    return perturbed(mm.FlowPrior(features, transforms, (8,), kind))


def conditional(features, context, kind, transforms=2):
    return perturbed(mm.FlowConditional(features, context, transforms, (8,), kind))


def grid(features, reach, points):
    """Grid points, shape (points^features, features), and the volume of a cell."""
    axis = torch.linspace(-reach, reach, points)
    points = torch.cartesian_prod(*[axis] * features).reshape(-1, features)
    return points, float(axis[1] - axis[0]) ** features


# Densities


@double
@kinds
@pytest.mark.parametrize(("features", "points"), [(1, 8001), (2, 601)])
def test_a_density_integrates_to_one_and_samples_follow_it(kind, features, points):
    distribution = prior(features, kind)()
    # A coupling flow can put 0.2 % of its mass beyond 12.
    x, area = grid(features, 24.0, points)
    with torch.no_grad():
        mass = distribution.log_prob(x).exp() * area
    # Rectangle rule: a spline's density has corners where its bins meet.
    assert float(mass.sum()) == pytest.approx(1, abs=2e-3)

    def statistics(x):
        return torch.cat([x, x.square(), (x[:, :1] * x[:, -1:]).sin()], 1)

    expected = (mass[:, None] * statistics(x)).sum(0) / mass.sum()
    within_standard_errors(statistics(distribution.sample((5000,))), expected)


@double
@kinds
def test_a_conditional_density_integrates_to_one_under_every_condition(kind):
    distribution = conditional(2, 3, kind)(torch.randn(2, 3))
    x, area = grid(2, 12.0, 301)
    with torch.no_grad():
        density = distribution.log_prob(x[:, None]).exp()
    torch.testing.assert_close(density.sum(0) * area, torch.ones(2), rtol=0, atol=1e-2)
    assert (density[:, 0] - density[:, 1]).abs().max() > 1e-3


@double
@kinds
@pytest.mark.parametrize("features", [1, 2, 5])
def test_log_density_is_that_of_the_noise_and_the_jacobian(kind, features):
    distribution = prior(features, kind)()
    x = 0.8 * torch.randn(20, features)
    noise = distribution.transform(x)
    jacobians = torch.stack([jacrev(distribution.transform)(row) for row in x])
    base = -0.5 * noise.square().sum(1) - 0.5 * features * math.log(2 * math.pi)
    expected = base + torch.linalg.slogdet(jacobians).logabsdet
    torch.testing.assert_close(distribution.log_prob(x), expected, rtol=1e-9, atol=1e-9)


@double
@kinds
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_a_drawn_log_density_is_that_of_evaluation(kind, shape):
    unconditional, given = prior(3, kind)(), conditional(3, 2, kind)(torch.randn(5, 2))
    for distribution, batch in (
        (unconditional, ()),
        (given, (5,)),
        (unconditional.expand((5,)), (5,)),
    ):
        value, log_prob = distribution.rsample_and_log_prob(shape)
        assert value.shape == (*shape, *batch, 3)
        assert log_prob.shape == (*shape, *batch)
        # The inverse loses some digits because of the slopes.
        torch.testing.assert_close(distribution.log_prob(value), log_prob, rtol=1e-7, atol=1e-7)
        assert distribution.sample(shape).shape == distribution.rsample(shape).shape == value.shape
        drawn = mm.draw(distribution, shape)
        assert drawn.score is None
        torch.testing.assert_close(distribution.log_prob(drawn.value), drawn.log_prob)


@double
@kinds
def test_each_row_has_the_distribution_of_its_own_condition(kind):
    module, condition, x = conditional(3, 2, kind), torch.randn(5, 2), torch.randn(5, 3)
    alone = [module(condition[i : i + 1]).log_prob(x[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(module(condition).log_prob(x), torch.cat(alone))


@double
def test_one_value_is_evaluated_under_every_condition():
    distribution = conditional(3, 2, mm.MaskedAutoregressive())(torch.randn(5, 2))
    one = torch.randn(3)
    expected = distribution.log_prob(one.expand(5, 3))
    torch.testing.assert_close(distribution.log_prob(one), expected)
    assert distribution.log_prob(torch.randn(4, 1, 3)).shape == (4, 5)


@double
@kinds
def test_gradients_reach_every_weight_and_the_condition(kind):
    module, condition = conditional(3, 2, kind), torch.randn(6, 2, requires_grad=True)
    drawn = mm.draw(module(condition))
    (drawn.value.square().sum() + drawn.log_prob.sum()).backward()
    assert condition.grad.abs().min() > 0
    for name, parameter in module.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert not module(condition).sample().requires_grad
    module(condition).log_prob(drawn.value.detach()).sum().backward()


@double
@kinds
def test_the_pathwise_gradient_is_the_gradient_of_the_expectation(kind):
    module = prior(1, kind, transforms=1)
    parameters = list(module.parameters())
    with torch.no_grad():
        # A spline's density has a gradient that jumps where steep bins meet, bad for a grid.
        for parameter in parameters:
            parameter *= 0.5

    def gradient(expectation):
        parts = torch.autograd.grad(expectation, parameters, retain_graph=True)
        return torch.cat([part.flatten() for part in parts])

    x, step = grid(1, 12.0, 40_001)
    by_density = (module().log_prob(x).exp() * step * x[:, 0].sin()).sum()
    # The noise of draws, on a grid.
    weight = mm.StandardNormal(1)().log_prob(x).exp() * step
    by_path = (module().transform.inv(x)[:, 0].sin() * weight).sum()
    torch.testing.assert_close(by_path, by_density, rtol=0, atol=1e-3)
    torch.testing.assert_close(gradient(by_path), gradient(by_density), rtol=0, atol=5e-3)
    assert gradient(by_path).abs().max() > 0.05


# Which features depend on which


def dependence(layer, features):
    return (jacrev(layer(None))(0.5 * torch.randn(features)).abs() > 1e-12).int()


@double
def test_autoregressive_layers_see_the_features_before_and_coupling_layers_the_other_half():
    features, ones = 5, torch.ones(5, 5, dtype=torch.int32)
    halves = torch.eye(5, dtype=torch.int32)
    halves[3:, :3] = 1
    for kind, expected in (
        (mm.MaskedAutoregressive(), ones.tril()),
        (mm.NeuralSpline(), ones.tril()),
        (mm.RealNVP(), halves),
        (mm.NeuralSpline(passes=2), halves),
    ):
        first, second = prior(features, kind).layers.layers
        assert torch.equal(dependence(first, features), expected)
        assert torch.equal(dependence(second, features), expected.flip(0, 1))


@double
def test_a_spline_is_the_identity_outside_its_bound_and_has_as_many_bins_as_asked():
    module = prior(1, mm.NeuralSpline(bins=6, bound=2.0), transforms=3)
    assert sum(p.numel() for p in module.parameters()) == 3 * (2 * 6 + 5)
    x = torch.tensor([[-2.5], [-1.0], [0.3], [2.1]])
    differs = (module().log_prob(x) - mm.StandardNormal(1)().log_prob(x)).abs() > 1e-3
    assert differs.tolist() == [False, True, True, False]


def test_networks_have_the_sizes_asked_for():
    module = mm.FlowConditional(2, 3, transforms=4, hidden=(7, 9), kind=mm.RealNVP())
    widths = [p.shape[0] for p in module.parameters() if p.dim() == 1]
    assert widths == [7, 9, 4] * 4


# Saving and printing


@kinds
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_weights_are_stored_and_read_back_in_their_precision(kind, precision):
    module, other = (prior(3, kind).to(precision) for _ in range(2))
    x = torch.randn(6, 3, dtype=precision)
    before = module().log_prob(x)
    assert before.dtype == module().sample().dtype == precision
    assert not torch.equal(other().log_prob(x), before)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other().log_prob(x), before)
    assert torch.equal(copy.deepcopy(module)().log_prob(x), before)
    assert "loc" not in module.state_dict()


@kinds
def test_a_picture_in_words_draws_nothing(kind):
    modules = [prior(2, kind), conditional(2, 3, kind), mm.InvertibleMap(2, kind=kind)]
    before = torch.get_rng_state()
    words = [repr(module) for module in modules]
    assert torch.equal(before, torch.get_rng_state())
    assert all(repr(kind) in text for text in words)
    assert "context=3" in words[1]


def test_torchs_validation_of_arguments_stays_as_it_was():
    code = """
import sys, torch, mimachine as mm, mimachine.model.flows
from torch.distributions import Distribution, Normal

assert "zuko" not in sys.modules
for flag in (True, False):
    for name in [name for name in sys.modules if name.partition(".")[0] == "zuko"]:
        del sys.modules[name]
    Distribution.set_default_validate_args(flag)
    mm.FlowPrior(2)().sample()
    assert "zuko" in sys.modules
    assert Distribution._validate_args is flag
    try:
        Normal(0.0, -1.0)
        refused = False
    except ValueError:
        refused = True
    assert refused is flag
    # The distributions of zuko work nevertheless.
    import zuko
    zuko.flows.NSF(2)().log_prob(torch.zeros(2))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("make", ["FlowPrior(2)", "FlowConditional(2, 2)", "invertible_pair(2)"])
def test_without_zuko_it_is_said_how_to_get_it(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    # Compiling would turn it off for the rest of the process.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
    with pytest.raises(ImportError, match=r"pip install mimachine\[flow\]"):
        eval(f"mm.{make}")
    assert torch.distributions.Distribution._validate_args


def test_no_other_file_imports_zuko():
    found = set()
    for file in Path(mm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if any(name.partition(".")[0] == "zuko" for name in names):
                found.add(file.name)
    assert found == {"flows.py"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.FlowPrior(0), "features must be 1 or more, got 0"),
        (lambda: mm.FlowPrior(2, transforms=0), "transforms must be 1 or more, got 0"),
        (lambda: mm.FlowConditional(2, 0), "context must be 1 or more, got 0"),
        (lambda: mm.invertible_pair(2, floor=-1.0), "floor must be 0 or more"),
        (lambda: mm.FlowConditional(2, 3)(torch.zeros(4, 2)), r"shape \(4, 3\), got \(4, 2\)"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Ensembles


def stacked(modules):
    """A module without weights, and the stacked parameters and buffers of all models."""
    return copy.deepcopy(modules[0]).to("meta"), stack_module_state(modules)


class DrawAndScore(torch.nn.Module):
    """Draw inside a call, since a flow runs its networks when it is sampled."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, condition, value=None):
        distribution = self.part(condition)
        if value is not None:
            return distribution.log_prob(value)
        return distribution.rsample_and_log_prob((4,))


@double
@kinds
def test_an_ensemble_of_flows_draws_and_scores_as_its_members_do(kind):
    members = [conditional(3, 2, kind) for _ in range(3)]
    skeleton, state = stacked([DrawAndScore(member) for member in members])
    condition = torch.randn(5, 2)

    def call(state, *arguments):
        return functional_call(skeleton, state, arguments)

    value, log_prob = vmap(call, (0, None), randomness="different")(state, condition)
    assert value.shape == (3, 4, 5, 3)
    again = torch.stack([m(condition).log_prob(v) for m, v in zip(members, value, strict=True)])
    torch.testing.assert_close(again, log_prob, rtol=1e-7, atol=1e-7)
    scored = vmap(call, (0, None, 0))(state, condition, value)
    torch.testing.assert_close(scored, log_prob, rtol=1e-7, atol=1e-7)
    # Each member has separate noise.
    noise = torch.stack([m(condition).transform(v) for m, v in zip(members, value, strict=True)])
    assert (noise[0] - noise[1]).abs().min() > 1e-6


@double
@pytest.mark.parametrize("kind", KINDS[1:], ids=["spline-2", "maf", "nvp"])
def test_an_ensemble_of_models_of_flows_has_losses_and_gradients(kind):
    losses = [mm.Loss(model_of_flows(kind), mm.MIM) for _ in range(2)]
    skeleton, (parameters, buffers) = stacked(losses)

    def loss(parameters, buffers, x):
        return functional_call(skeleton, (parameters, buffers), (x,)).mean()

    gradients, values = vmap(torch.func.grad_and_value(loss), (0, 0, None), randomness="different")(
        parameters, buffers, torch.randn(6, 2)
    )
    assert values.shape == (2,)
    assert all(g.isfinite().all() and g.shape[0] == 2 for g in gradients.values())


# In a model


def model_of_flows(kind):
    return mm.Joint(
        mm.FlowConditional(2, 2, 1, (8,), kind),
        mm.FlowConditional(2, 2, 1, (8,), kind),
        mm.FlowPrior(2, 1, (8,), kind),
        mm.FlowPrior(2, 1, (8,), kind),
    )


def two_clusters(count):
    return 0.3 * torch.randn(count, 2) + torch.randint(2, (count, 1)).float() * 2 - 1


def loss_before_and_after(model, objective, steps=25):
    x, anchor = two_clusters(256), mm.StandardNormal(2)
    loss = mm.Loss(model, objective, anchor)

    def measured():
        with forked(0), torch.no_grad():
            return float(loss(x).mean())

    before, optimizer = measured(), torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(x[torch.randint(256, (64,))]).mean().backward()
        optimizer.step()
    return before, measured()


@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        *((mm.RealNVP(), objective) for objective in (mm.MIM, mm.CE, mm.A_MIM, mm.VAE)),
        *((kind, mm.MIM) for kind in KINDS[:3]),
    ],
)
def test_a_model_of_flows_trains(kind, objective):
    before, after = loss_before_and_after(model_of_flows(kind), objective)
    assert after < before - 0.2
    assert math.isfinite(after)


def test_a_model_of_flows_is_measured_as_any_other():
    model, x = model_of_flows(mm.NeuralSpline(4)), two_clusters(60)
    likelihood = mm.log_likelihood(model, x, 50)
    assert likelihood.values.isfinite().all()
    result = mm.decompose(model, x, num_samples=2)
    assert sum(result.shares().values()) == pytest.approx(result.loss.value, abs=1e-9)
    assert result.regulariser.value > 0
    data = mm.Dataset("clusters", x, x, x)
    report = mm.evaluate(model, data, num_samples=5)
    assert all(math.isfinite(metric.value) for metric in report.metrics)
    assert report["active_units"].unit == "of 2"


def test_a_flow_makes_a_vampprior_and_a_context_comes_from_a_network():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    encoder = mm.FlowConditional(2, 4, 1, (8,), mm.RealNVP(), network)
    pseudo_inputs = torch.randn(3, 3, 4)
    mixture = mm.VampPrior(encoder, pseudo_inputs)()
    z = mixture.sample((7,))
    each = torch.stack([encoder(u.expand(7, 3, 4)).log_prob(z) for u in pseudo_inputs])
    torch.testing.assert_close(mixture.log_prob(z), each.logsumexp(0) - math.log(3))


# Gaussian pairs with inverse means


@double
@kinds
@pytest.mark.parametrize("features", [1, 2, 5])
def test_the_decoders_mean_of_the_encoders_mean_is_the_datum(kind, features):
    encoder, decoder = mm.invertible_pair(features, 3, (8,), kind)
    perturbed(encoder)
    assert f"transforms=3, hidden=(8,), kind={kind}" in repr(encoder)
    x = torch.randn(40, features)
    z = encoder(x).mean
    assert (z - x).abs().mean() > 0.05
    # Rounding of float64, stretched by the slopes of three layers.
    torch.testing.assert_close(decoder(z).mean, x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(encoder(decoder(x).mean).mean, x, rtol=1e-8, atol=1e-8)


@double
@kinds
def test_log_determinants_of_the_map_and_its_inverse_are_opposite(kind):
    f = perturbed(mm.InvertibleMap(3, 2, (8,), kind))
    x = torch.randn(10, 3)
    z = f(x)
    log_det = f.log_abs_det_jacobian(x)
    torch.testing.assert_close(f.log_abs_det_jacobian(z, inverse=True), -log_det)
    jacobians = torch.stack([jacrev(f)(row) for row in x])
    torch.testing.assert_close(torch.linalg.slogdet(jacobians).logabsdet, log_det)
    assert log_det.abs().min() > 1e-3


def test_in_single_precision_the_datum_comes_back_to_its_digits():
    encoder, decoder = mm.invertible_pair(4)
    x = torch.randn(100, 4)
    torch.testing.assert_close(decoder(encoder(x).mean).mean, x, rtol=1e-4, atol=1e-4)


def test_a_pair_shares_its_map_and_has_its_own_widths():
    encoder, decoder = mm.invertible_pair(2, floor=0.1)
    model = mm.Joint(encoder, decoder, mm.StandardNormal(2))
    assert encoder.mean is decoder.mean
    shared = sum(p.numel() for p in encoder.mean.parameters())
    assert sum(p.numel() for p in model.parameters()) == shared + 2 + 2
    with torch.no_grad():
        encoder.log_scale.fill_(-50.0)
    x = torch.randn(3, 2)
    torch.testing.assert_close(encoder(x).stddev, torch.full((3, 2), 0.1))
    torch.testing.assert_close(decoder(x).stddev, torch.full((3, 2), 1.1))
    other = mm.Joint(*mm.invertible_pair(2), mm.StandardNormal(2))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.encoder(x).mean, encoder(x).mean)
    assert torch.equal(other.encoder(x).stddev, encoder(x).stddev)


def test_a_pair_trains_and_keeps_its_means_inverse():
    encoder, decoder = mm.invertible_pair(2, 2, (8,))
    model = mm.Joint(encoder, decoder, mm.StandardNormal(2))
    before, after = loss_before_and_after(model, mm.MIM)
    assert after < before - 0.2
    x = two_clusters(50)
    torch.testing.assert_close(decoder(encoder(x).mean).mean, x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [None, "realnvp", mm.RealNVP, 3])
def test_a_kind_of_flow_that_is_none_is_named(kind):
    with pytest.raises(ValueError, match=r"^kind must be a kind of flow"):
        mm.FlowPrior(2, kind=kind)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_a_location_of_a_flow_that_is_no_tensor_is_named(name):
    with pytest.raises(ValueError, match=f"^{name} must be a tensor, got a list"):
        mm.FlowPrior(2, **{name: [1.0, 1.0]})
