import math

import numpy as np
import pytest
import torch
from oracles import Discrete, generator, kl, within_standard_errors
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, MixtureSameFamily
from torch.distributions import Normal as TorchNormal

import mimachine as mm
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.information import all_pairs
from mimachine.estimation.information.bounds import InformationBounds
from mimachine.model import discrete
from mimachine.model.hierarchy import Chain

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def gaussian_channel(count, dim, information):
    """z = x + noise in each coordinate, x ~ N(0, I): q(z|x), and the exact q(z)."""
    noise = math.sqrt(1 / math.expm1(2 * information / dim))
    x = torch.randn(count, dim, dtype=DOUBLE)
    marginal = mm.DiagNormal(torch.zeros(dim, dtype=DOUBLE), torch.tensor(math.hypot(1, noise)))
    return mm.DiagNormal(x, torch.tensor(noise, dtype=DOUBLE)), marginal


def naive(log_prob, z, count, queries=None):
    """Upper and lower bound by a loop over codes, from log_prob(z_i), the log q(z_i|x_j), (N,)."""
    uppers, lowers = [], []
    for i in range(count) if queries is None else queries:
        terms = log_prob(z[i]).double()
        others = torch.cat([terms[:i], terms[i + 1 :]])
        uppers.append(float(terms[i] - torch.logsumexp(others, 0)) + math.log(count - 1))
        lowers.append(float(terms[i] - torch.logsumexp(terms, 0)) + math.log(count))
    return np.mean(uppers), np.mean(lowers)


def normal_log_prob(loc, scale):
    loc, scale = loc.double(), scale.double()
    return lambda z: TorchNormal(loc, scale).log_prob(z.double()).sum(1)


@pytest.mark.parametrize(("dim", "information"), [(1, 0.7), (2, 2.0), (10, 3.0), (40, 2.0)])
def test_bounds_of_a_gaussian_channel_enclose_its_information(dim, information):
    channel, marginal = gaussian_channel(2000, dim, information)
    found = mm.bounds_from_conditionals([channel], prior=marginal)
    assert found.lower.value < information + 5 * found.lower.standard_error
    assert found.upper.value > information - 5 * found.upper.standard_error
    # With q(z) as prior the rate is the information.
    assert abs(found.rate.value - information) < 5 * found.rate.standard_error
    # Far below ½ log N the bounds differ by little.
    assert found.gap.value < 0.1 + 5 * found.gap.standard_error


def test_independent_codes_have_no_information():
    same = mm.DiagNormal(torch.full((50, 3), 7.0), torch.tensor(0.1))
    found = mm.bounds_from_conditionals([same], prior=mm.DiagNormal(same.loc[0], same.scale))
    assert [found.lower.value, found.upper.value, found.gap.value] == pytest.approx(
        [0] * 3, abs=1e-9
    )
    assert found.rate.value == pytest.approx(0, abs=1e-6)
    assert found.tight
    assert found.statement.endswith("tight")


def test_codes_far_apart_give_the_ceiling_and_no_more():
    far = mm.DiagNormal(1000 * torch.arange(64.0)[:, None], torch.tensor(1.0))
    found = mm.bounds_from_conditionals([far])
    assert found.lower.value == found.ceiling == math.log(64)
    assert found.upper.value > 1e5
    assert found.at_ceiling
    assert not found.tight
    assert "log N = 4.16" in str(found)
    assert "take" not in str(found)


def awkward(kind):
    """Means and standard deviations (N, D), of the size of trained encoders and far from it."""
    rng = generator(5)
    loc, scale = torch.randn(150, 3, generator=rng), 0.2 + torch.rand(150, 3, generator=rng)
    if kind == "narrow":
        scale = 1e-3 * scale
    elif kind == "very narrow":
        scale = 1e-6 * scale
    elif kind == "narrow and collapsed":
        loc, scale = 5 + 1e-6 * loc, 1e-6 * scale
    elif kind == "narrow clusters":
        loc, scale = loc.sign() + 1e-6 * loc, 1e-6 * scale
    elif kind == "one narrow dimension":
        scale = scale * torch.tensor([1e-6, 1.0, 1.0])
    elif kind == "one narrow datum":
        scale[17] = 1e-9
    elif kind == "pairs of neighbours":
        loc[75:] = loc[:75] + 1e-4 * torch.randn(75, 3, generator=rng)
        scale = 1e-4 * scale
    elif kind == "narrow pairs ten deviations apart":
        # Far below the code's own density, which must have no effect, and above all others.
        scale = 1e-7 * scale
        loc = loc.double()
        loc[75:] = loc[:75] + 10 * scale[:75].double() / math.sqrt(3)
    elif kind == "one far datum":
        loc[3] = 1e6
    elif kind == "far from the origin":
        loc = loc + 1e4
    elif kind == "large":
        loc, scale = 1e10 * loc, 1e10 * scale
    elif kind == "wide and narrow":
        scale = torch.logspace(-7, 3, 150)[:, None].expand(150, 3)
    return loc.double(), scale.double()


KINDS = [
    "plain",
    "narrow",
    "very narrow",
    "narrow and collapsed",
    "narrow clusters",
    "one narrow dimension",
    "one narrow datum",
    "pairs of neighbours",
    "narrow pairs ten deviations apart",
    "one far datum",
    "far from the origin",
    "large",
    "wide and narrow",
]


@pytest.mark.parametrize("groups", [1, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_diagonal_normals_equal_a_loop_over_codes(kind, groups, monkeypatch):
    monkeypatch.setattr(all_pairs, "_GROUPS", groups)
    loc, scale = awkward(kind)
    z = loc + scale * torch.randn(loc.shape, dtype=DOUBLE)
    expected = naive(normal_log_prob(loc, scale), z, len(loc))
    found = mm.bounds_from_conditionals([mm.DiagNormal(loc, scale)], z=z)
    assert (found.upper.value, found.lower.value) == pytest.approx(expected, abs=1e-6, rel=1e-12)


@pytest.mark.parametrize("kind", ["narrow clusters", "plain"])
def test_the_bound_of_the_rounding_is_what_keeps_narrow_pairs_exact(kind, monkeypatch):
    loc, scale = awkward(kind)
    z = loc + scale * torch.randn(loc.shape, dtype=DOUBLE)
    expected = mm.bounds_from_conditionals([mm.DiagNormal(loc, scale)], z=z)
    monkeypatch.setattr(all_pairs, "_TOLERANCE", math.inf)
    unchecked = mm.bounds_from_conditionals([mm.DiagNormal(loc, scale)], z=z)
    same = abs(unchecked.upper.value - expected.upper.value) < 1e-6
    assert same == (kind == "plain")


def test_rounding_is_below_its_bound():
    """In nats, for codes and means of all sizes and signs."""
    loc, scale = awkward("wide and narrow")
    groups = all_pairs.Groups(tuple(torch.arange(150)[None]), torch.zeros(150).long(), None)
    normals = all_pairs._Normals.of([mm.DiagNormal(loc, scale)])
    columns = all_pairs._NormalColumns(normals, groups.members[0], 0)
    z = loc + scale * torch.randn(loc.shape, dtype=DOUBLE)
    offset = z - columns.centre
    factors = torch.cat([offset.square(), offset], 1)
    product = torch.addmm(columns.constant, factors, columns.features)
    bound = columns.rounding * (columns.size + factors.abs().amax(0) @ columns.features.abs())
    noise = (z.numpy().astype(np.longdouble)[:, None] - loc.numpy()) / scale.numpy()
    exact = columns.log_peak.numpy() - 0.5 * np.square(noise).sum(-1)
    error = np.abs(product.numpy() - exact)
    assert (error <= bound.numpy()).all()
    # Of the bound a share of some percent is used, so that it is no idle one.
    assert (error / bound.numpy()).max() > 1e-3


@pytest.mark.parametrize("event", [(), (6,), (2, 3)])
def test_codes_may_have_any_number_of_axes(event):
    loc = torch.randn(30, *event, dtype=DOUBLE)
    conditional = mm.DiagNormal(loc, torch.tensor(0.4, dtype=DOUBLE), len(event))
    prior = mm.DiagNormal(loc[0], torch.ones(event, dtype=DOUBLE), len(event))
    z = conditional.sample()
    found = mm.bounds_from_conditionals([conditional], z=z, prior=prior)
    flat = loc.reshape(30, -1)
    expected = naive(normal_log_prob(flat, torch.full_like(flat, 0.4)), z.reshape(30, -1), 30)
    assert (found.upper.value, found.lower.value) == pytest.approx(expected, abs=1e-9)
    rate = torch.distributions.kl_divergence(TorchNormal(loc, 0.4), TorchNormal(loc[0], 1.0))
    assert found.rate.value == pytest.approx(float(rate.sum() / 30))


def mixture(count, components, dim, scale=0.3):
    logits = torch.randn(count, components, dtype=DOUBLE)
    loc = torch.randn(count, components, dim, dtype=DOUBLE)
    return mm.Mixture(logits, mm.DiagNormal(loc, torch.tensor(scale, dtype=DOUBLE)))


def as_torch(mixed):
    """The same distribution, of a kind that the fast way does not know."""
    normals = mixed.components
    each = Independent(TorchNormal(normals.loc, normals.stddev, validate_args=False), 1)
    weights = TorchCategorical(logits=mixed.log_weights)
    return MixtureSameFamily(weights, each, validate_args=False)


def test_mixtures_equal_a_loop_over_codes_by_either_way():
    mixed = mixture(40, 3, 2)
    z = mixed.sample()

    def log_prob(value):
        each = TorchNormal(mixed.components.loc, 0.3).log_prob(value).sum(2)
        return torch.logsumexp(each + mixed.log_weights, 1)

    expected = naive(log_prob, z, 40)
    for conditional in (mixed, as_torch(mixed)):
        found = mm.bounds_from_conditionals([conditional], z=z)
        assert (found.upper.value, found.lower.value) == pytest.approx(expected, abs=1e-9)


def test_torch_normals_are_taken_by_the_same_way(monkeypatch):
    loc, scale = awkward("plain")
    z = loc + scale * torch.randn(loc.shape, dtype=DOUBLE)
    expected = mm.bounds_from_conditionals([mm.DiagNormal(loc, scale)], z=z)
    monkeypatch.delattr(all_pairs._AnyColumns, "log_prob")
    found = mm.bounds_from_conditionals([Independent(TorchNormal(loc, scale), 1)], z=z)
    assert found == expected


def test_a_flow_equals_a_loop_over_pairs():
    pytest.importorskip("zuko")
    encoder = mm.FlowConditional(2, 2, transforms=2, kind=mm.MaskedAutoregressive())
    x = torch.randn(12, 2)
    with torch.no_grad():
        conditional = encoder(x)
        z = conditional.sample()
        table = torch.stack([encoder(x[j : j + 1]).log_prob(z) for j in range(12)], 1)
    expected = naive(lambda row: table[row], torch.arange(12), 12)
    found = mm.bounds_from_conditionals([conditional], z=z)
    assert (found.upper.value, found.lower.value) == pytest.approx(expected, abs=1e-4)


def test_discrete_codes_have_the_information_of_their_table():
    oracle = Discrete.random(4, 5, seed=1)
    information = float(kl(oracle.encoding, oracle.P_x[:, None] * (oracle.P_x @ oracle.q_zx)))
    values = torch.multinomial(oracle.P_x, 1500, replacement=True)
    conditional = discrete.Categorical(oracle.q_zx[values].log(), 0)
    found = mm.bounds_from_conditionals([conditional], num_samples=2)
    for bound in (found.lower, found.upper):
        assert abs(bound.value - information) < 5 * bound.standard_error + found.gap.value
    assert found.tight


def test_codes_that_others_never_give_are_without_upper_bound():
    apart = discrete.Categorical(torch.eye(6).log(), 0)
    found = mm.bounds_from_conditionals([apart])
    assert found.upper.value == math.inf
    assert found.lower.value == pytest.approx(math.log(6))
    assert "inf" in str(found)


@pytest.mark.parametrize("information", [0.01, 1.0, 4.0, 12.0])
def test_the_lower_bound_is_below_what_the_upper_and_the_ceiling_allow(information):
    channel, _ = gaussian_channel(60, 2, information)
    found = mm.bounds_from_conditionals([channel])
    # Termwise lower = log N - log(1 + (N - 1) e^-upper), which is concave, so by Jensen:
    most = math.log(60) - math.log1p(59 * math.exp(-found.upper.value))
    assert found.lower.value <= most + 1e-9 <= math.log(60) + 1e-9
    if found.upper.value > 0:
        assert found.lower.value <= found.upper.value
    assert found.gap.value == pytest.approx(found.upper.value - found.lower.value)


@pytest.mark.parametrize("kind", ["normals", "any"])
def test_neither_order_nor_blocks_matter(kind, monkeypatch):
    mixed = mixture(90, 2, 3, scale=0.05)
    normals = mixed.components
    z = mixed.sample((2,))

    def found(order, sizes):
        parts = []
        for rows in order.split(sizes):
            part = mm.Mixture(
                mixed.log_weights[rows], mm.DiagNormal(normals.loc[rows], normals.stddev[rows])
            )
            parts.append(part if kind == "normals" else as_torch(part))
        result = mm.bounds_from_conditionals(parts, z=z[:, order])
        return [result.lower.value, result.upper.value, result.lower.standard_error]

    ordered = torch.arange(90)
    expected = found(ordered, 90)
    assert found(ordered, 7) == pytest.approx(expected, rel=1e-9)
    # This changes the groups, and so only the standard errors.
    assert found(torch.randperm(90), 90)[:2] == pytest.approx(expected[:2], rel=1e-9)
    for name, value in (("_PAIRS", 10), ("_COLUMNS", 3), ("_VALUES", 100)):
        monkeypatch.setattr(all_pairs, name, value)
    assert found(ordered, 90) == pytest.approx(expected, rel=1e-9)


def test_queries_are_as_tight_as_all_data_and_less_certain():
    channel, _ = gaussian_channel(1000, 2, 3.0)
    z = channel.sample()
    few = mm.bounds_from_conditionals([channel], z=z, num_queries=100)
    all_data = mm.bounds_from_conditionals([channel], z=z)
    assert (few.num_data, few.num_queries, all_data.num_queries) == (1000, 100, 1000)
    assert few.ceiling == math.log(1000)
    queries = all_pairs.Groups.dealt(1000, 100, z.device).queries.tolist()
    expected = naive(normal_log_prob(channel.loc, channel.stddev), z, 1000, queries)
    assert (few.upper.value, few.lower.value) == pytest.approx(expected, abs=1e-9)
    assert few.lower.standard_error > 1.5 * all_data.lower.standard_error


def scatter_and_errors(repeats, count, dim, information, queries):
    """Of lower and upper bound: their scatter, their mean square error, intervals that hold."""
    found = []
    for _ in range(repeats):
        channel, _ = gaussian_channel(count, dim, information)
        found.append(mm.bounds_from_conditionals([channel], num_queries=queries))
    for name in ("lower", "upper"):
        values = np.array([getattr(result, name).value for result in found])
        errors = np.array([getattr(result, name).standard_error for result in found])
        held = np.abs(values - values.mean()) < 1.96 * errors
        yield values.std(), math.sqrt(np.mean(errors**2)), held.mean()


@pytest.mark.parametrize(
    ("count", "dim", "information", "queries"), [(200, 2, 1.0, None), (300, 10, 6.0, 64)]
)
def test_standard_errors_are_the_scatter_over_repeats(count, dim, information, queries):
    """Vary data and codes together, as the terms of single rows do not."""
    repeats = 60
    for scatter, error, held in scatter_and_errors(repeats, count, dim, information, queries):
        # Five standard errors of these two shares.
        assert held > 0.95 - 5 * math.sqrt(0.95 * 0.05 / repeats)
        assert abs(error / scatter - 1) < 5 / math.sqrt(2 * repeats)


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "information"), [(2, 0.5), (2, 4.0), (2, 8.0), (10, 6.0), (40, 2)])
@pytest.mark.parametrize("queries", [None, 100])
def test_standard_errors_are_the_scatter_over_many_repeats(dim, information, queries):
    repeats = 400
    found = scatter_and_errors(repeats, 400, dim, information, queries)
    # If few neighbours dominate the averages, a jackknife is too large, but not too small. That of
    # the upper bound is at least the error with half of the rows, whose gap is twice as large.
    for (scatter, error, held), most in zip(found, (1.6, 2.0), strict=True):
        assert held > 0.95 - 5 * math.sqrt(0.95 * 0.05 / repeats)
        assert 1 - 5 / math.sqrt(2 * repeats) < error / scatter < most


@pytest.mark.parametrize(
    ("count", "noise", "queries"),
    [
        (500, 0.05, None),
        (500, 0.08, None),
        pytest.param(2000, 0.03, None, marks=pytest.mark.slow),
    ],
)
def test_errors_cover_where_few_rows_are_far_from_all_others(count, noise, queries):
    """In one dimension the gap comes from a few rows at either end, which a sample may lack."""
    repeats, found = 60, []
    for _ in range(repeats):
        channel = mm.DiagNormal(torch.randn(count, 1), torch.tensor(noise))
        found.append(mm.bounds_from_conditionals([channel], num_queries=queries))
    for name in ("upper", "gap"):
        values = np.array([getattr(result, name).value for result in found])
        errors = np.array([getattr(result, name).standard_error for result in found])
        held = (np.abs(values - values.mean()) < 1.96 * errors).mean()
        assert held > 0.95 - 5 * math.sqrt(0.95 * 0.05 / repeats)
    # A gap above 0.1 nat on average is called tight by its errors' confidence.
    if np.mean([result.gap.value for result in found]) > 0.1:
        assert np.mean([result.tight for result in found]) < 0.1


def test_the_gap_of_half_of_the_rows_is_that_of_half_of_the_rows():
    x = torch.randn(6000, 2)
    noise = torch.tensor(0.2)
    whole = mm.bounds_from_conditionals([mm.DiagNormal(x[:3000], noise)])
    halves = [
        mm.bounds_from_conditionals([mm.DiagNormal(rows, noise)]).gap for rows in x.split(1500)
    ]
    mean, error = np.mean([h.value for h in halves]), np.std([h.value for h in halves]) / 2
    assert abs(whole.gap_of_half.value - mean) < 5 * math.hypot(
        error, whole.gap_of_half.standard_error
    )
    assert whole.gap_of_half.value > 1.5 * whole.gap.value


def test_rate_in_closed_form_is_that_of_samples():
    channel, _ = gaussian_channel(200, 3, 2.0)
    prior = mm.DiagNormal(torch.tensor([0.3, 0.0, -1.0]), torch.tensor([1.5, 0.7, 2.0]))
    exact = mm.bounds_from_conditionals([channel], prior=prior).rate
    z = channel.sample((3000,))
    differences = (channel.log_prob(z) - prior.log_prob(z)).mean(1)
    within_standard_errors(differences, exact.value)
    # A mixture of one component is the same prior, but has no closed form.
    mixed = mm.Mixture(torch.zeros(1), mm.DiagNormal(prior.loc[None], prior.scale[None]))
    sampled = mm.bounds_from_conditionals([channel], z=z[:50], prior=mixed).rate
    assert sampled.value == pytest.approx(float(differences[:50].mean()), abs=1e-5)


class Uncertain(torch.nn.Module):
    """An encoder that is another one in training."""

    def forward(self, x):
        return mm.DiagNormal(x, torch.tensor(1e6 if self.training else 0.5))


def test_a_model_is_bounded_in_evaluation_mode_with_its_rate():
    model = mm.Joint(Uncertain(), Uncertain(), mm.StandardNormal(2)).train()
    x = torch.randn(300, 2)
    found = mm.information_bounds(model, x, batch_size=7)
    assert model.encoder.training
    information = math.log(5)
    assert abs(found.lower.value - information) < 5 * found.lower.standard_error + 0.1
    assert found.rate.value > information
    alone = mm.information_bounds(model.encoder, x)
    assert alone.rate is None
    torch.manual_seed(1)
    first = mm.information_bounds(model, x, num_samples=3)
    torch.manual_seed(1)
    assert mm.information_bounds(model, x, num_samples=3) == first


def test_draws_in_single_precision_lose_nothing():
    """The noise of means of size 1 and deviations of 1e-6 would be below the rounding of float."""
    loc, scale = 1 + torch.rand(200, 4), torch.full((200, 4), 1e-6)
    twins = mm.DiagNormal(loc.repeat(2, 1), scale.repeat(2, 1))
    found = mm.bounds_from_conditionals([twins])
    # Each row has one duplicate, so the information is that of distinguishing 200 rows.
    assert found.lower.value == pytest.approx(math.log(200), abs=1e-9)


@pytest.mark.parametrize("count", [500, 512])
def test_a_bound_at_its_ceiling_does_not_scatter_by_the_sizes_of_groups(count):
    """500 rows make groups of 15 and 16, without which log N differs by 0.002."""
    channel, _ = gaussian_channel(count, 10, 40.0)
    found = mm.bounds_from_conditionals([channel]).lower
    assert found.value == pytest.approx(math.log(count), abs=1e-6)
    # The error of two more rows is the rest.
    assert found.standard_error == pytest.approx(math.sqrt(2) * math.log(2) / count, rel=0.01)


def test_too_few_data_have_no_error():
    channel, _ = gaussian_channel(4, 2, 1.0)
    found = mm.bounds_from_conditionals([channel])
    assert math.isfinite(found.lower.value)
    assert math.isnan(found.lower.standard_error)
    assert not found.tight
    pair, _ = gaussian_channel(2, 2, 1.0)
    assert math.isfinite(mm.bounds_from_conditionals([pair]).upper.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples must be 1 or more, got 0"),
        ({"num_queries": 0}, "num_queries must be 1 or more, got 0"),
        ({"num_queries": 11}, "num_queries must be at most the number of rows 10, got 11"),
        ({"z": torch.zeros(10, 2)}, r"z must have shape \(10, 3\).* got \(10, 2\)"),
        ({"prior": mm.StandardNormal(2)()}, r"prior must have .* \(3,\), got \(\) and \(2,\)"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        mm.bounds_from_conditionals([mm.DiagNormal(torch.zeros(10, 3), torch.ones(3))], **arguments)


def test_bad_conditionals_are_named():
    normal = mm.DiagNormal(torch.zeros(10, 3), torch.ones(3))
    with pytest.raises(ValueError, match="two or more rows, got 1"):
        mm.bounds_from_conditionals([normal[:1]])
    with pytest.raises(ValueError, match="two or more rows, got 0"):
        mm.bounds_from_conditionals([])
    with pytest.raises(ValueError, match=r"one event per row.*\(10, 3\), \(\)"):
        mm.bounds_from_conditionals([TorchNormal(torch.zeros(10, 3), 1.0)])
    with pytest.raises(ValueError, match="all of the same shape"):
        mm.bounds_from_conditionals([normal, mm.DiagNormal(torch.zeros(10, 2), torch.ones(2))])
    broken = mm.DiagNormal(
        torch.zeros(10, 1).index_fill(0, torch.tensor(4), math.nan), torch.ones(1)
    )
    with pytest.raises(ValueError, match=r"rows \[4\] do not"):
        mm.bounds_from_conditionals([broken])
    with pytest.raises(ValueError, match=r"encoder must give .* wrap independent dimensions"):
        mm.information_bounds(lambda x: TorchNormal(x, 1.0), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        mm.information_bounds(lambda x: x, torch.zeros(5, 2), batch_size=0)


def test_threads_change_no_digit_and_leave_their_number(monkeypatch):
    monkeypatch.setattr(all_pairs, "_PAIRS", 2000)
    channel, _ = gaussian_channel(500, 3, 2.0)
    z = channel.sample()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = mm.bounds_from_conditionals([channel], z=z)
        torch.set_num_threads(2)
        assert mm.bounds_from_conditionals([channel], z=z) == expected
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("upper", "rate", "least"),
    [
        ((5.0, 0.01), (5.5, 0.01), "upper"),
        ((5.0, 0.01), (4.9, 0.01), "rate"),
        # Do not prefer a bound with a large error; an unknown error counts as 0.
        ((40_000.0, 30_000.0), (97.0, 0.2), "rate"),
        ((math.inf, math.nan), (97.0, 0.2), "rate"),
        ((5.0, math.nan), (6.0, 0.2), "upper"),
    ],
)
def test_the_least_upper_bound_is_the_lower_one_with_its_error(upper, rate, least):
    parts = {"upper": mm.Estimate(*upper), "rate": mm.Estimate(*rate)}
    zero = mm.Estimate(0.0, 0.0)
    bounds = InformationBounds(zero, parts["upper"], parts["rate"], zero, zero, 100, 100)
    assert bounds.least_upper is parts[least]


def test_bounds_of_a_hierarchical_encoder_enclose_the_information_of_linear_normals():
    """q(a|x) = N(Ax, s²), q(b|x, a) = N(Bx + ca, t²): I = ½ log det of both covariances."""
    a, b = torch.randn(2, 1, 3)
    c, s, t = 0.8, 0.5, 0.7

    def encoder(x):
        first = mm.DiagNormal(x @ a.T, torch.tensor([s]))
        return Chain(first, lambda z: mm.DiagNormal(x @ b.T + c * z, torch.tensor([t])), 1)

    means = torch.cat([a, b + c * a])
    noise = torch.tensor([[s**2, c * s**2], [c * s**2, (c * s) ** 2 + t**2]])
    exact = 0.5 * float((means @ means.T + noise).logdet() - noise.logdet())
    found = mm.information_bounds(encoder, torch.randn(2000, 3), num_queries=500)
    assert found.lower.value - 5 * found.lower.standard_error < exact
    assert exact < found.upper.value + 5 * found.upper.standard_error
    assert found.upper.value - found.lower.value < 0.1


def test_bounds_that_cross_are_printed_in_order():
    def printed(lower, upper, error):
        bounds = [Estimate(lower, error), Estimate(upper, error)]
        gap = Estimate(upper - lower, error)
        return str(InformationBounds(*bounds, None, gap, gap, 500, 500))

    assert printed(0.93, 0.94, 0.01).startswith("between 0.930 ± 0.010 and 0.940 ± 0.010 nats: ")
    crossed = printed(0.94, 0.93, 0.01)
    assert crossed.startswith("between 0.930 ± 0.010 and 0.940 ± 0.010 nats: ")
    assert crossed.endswith("both bounds agree within their errors")
    assert "came out higher" in printed(2.0, 1.0, 0.01)
