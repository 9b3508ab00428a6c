"""Rows of a table: probabilities sum to one, draws have them, and unknown values sum out."""

import math

import numpy as np
import pytest
import torch
from oracles import within_standard_errors
from scipy import special
from tablemodels import GRIDS, INF, MIXED, NAN, distribution, fair, model, parameters, spread

import mimachine as mm
from mimachine.estimation.codes.moments import closed_mean
from mimachine.model.discrete import is_discrete
from mimachine.model.tables.layout import Layout
from mimachine.model.tables.quantile_map import QuantileMap

CPU = torch.device("cpu")
every_grid = pytest.mark.parametrize("name", GRIDS)


def values_of(name, most=40_000):
    """All values that a grid can take with a probability that matters, (N, 1)."""
    low = -most if GRIDS[name].low is None else int(GRIDS[name].low)
    high = most if GRIDS[name].high is None else int(GRIDS[name].high)
    return torch.arange(low, high + 1, dtype=torch.float64)[:, None]


@every_grid
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_probabilities_of_all_values_sum_to_one(name, scale):
    rows = distribution([GRIDS[name]], 6, scale=scale)
    total = rows.log_prob(values_of(name)[:, None]).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(6).double(), rtol=0, atol=1e-10)


@every_grid
def test_probabilities_sum_to_one_in_single_precision(name):
    rows = mm.TableDistribution([GRIDS[name]], parameters([GRIDS[name]], 6).float())
    total = rows.log_prob(values_of(name)[:, None].float()).double().exp().sum(0)
    torch.testing.assert_close(total, torch.ones(6).double(), rtol=0, atol=1e-5)


@every_grid
def test_a_probability_is_the_mass_of_the_bin_by_an_independent_computation(name):
    grid = GRIDS[name]
    rows = distribution([grid], 4)
    weights, loc, log_scale = rows.parameters.numpy().reshape(4, 3, 3).swapaxes(0, 1)
    weights, scale = special.softmax(weights, -1), np.exp(log_scale) + 1e-3

    def cdf(place):
        score = np.interp(place, grid.edges, grid.scores)
        return (weights * special.expit((score - loc) / scale)).sum(-1)

    for k in range(1, 4):
        upper = 1.0 if k == grid.high else cdf(k + 0.5)
        lower = 0.0 if k == grid.low else cdf(k - 0.5)
        found = rows.log_prob(torch.tensor([float(k)]).double())
        np.testing.assert_allclose(found.numpy(), np.log(upper - lower), rtol=1e-9)


@every_grid
def test_the_distribution_function_is_the_sum_of_probabilities(name):
    rows = distribution([GRIDS[name]], 5, scale=0.5)
    values = values_of(name)
    expected = rows.log_prob(values[:, None]).exp().cumsum(0)
    inner = slice(0, None) if name != "number" else slice(30_000, 50_000)
    found = rows.cdf(values[:, None]).squeeze(-1)
    torch.testing.assert_close(found[inner], expected[inner], rtol=0, atol=1e-9)


@every_grid
def test_quantiles_are_the_smallest_values_that_reach_a_probability(name):
    rows = distribution([GRIDS[name]], 50, scale=0.5)
    for probability in (0.01, 0.25, 0.5, 0.9, 0.999):
        quantile = rows.quantile(probability)
        assert (rows.cdf(quantile) >= probability - 1e-12).all()
        below = rows.cdf(quantile - 1)
        assert (below < probability + 1e-12).all()


@every_grid
def test_draws_have_the_probabilities_of_the_values(name):
    rows = distribution([GRIDS[name]], scale=0.5)
    drawn = rows.sample((20_000,)).squeeze(-1)
    values = values_of(name, 200).squeeze(-1)
    counts = (drawn[:, None] == values).sum(0)
    assert counts.sum() == len(drawn)
    fair(counts, rows.log_prob(values[:, None]).exp())


def test_the_quantile_map_is_inverted_exactly_at_every_whole_step():
    maps = QuantileMap(list(GRIDS.values()), CPU)
    for steps in (
        torch.arange(-3000.0, 3000.0).double(),
        torch.tensor([-(2.0**24), -(2.0**24) + 1, 2.0**24 - 1, 2.0**24]).double(),
    ):
        three = steps[:, None].expand(-1, 3)
        inside = maps.within_limits(three)
        assert torch.equal(maps.steps_of(maps.scores_at(three)), inside)


def test_borders_of_bins_meet_and_increase_by_the_slope_of_their_segment():
    grid = mm.Grid(edges=(-0.5, 1.5, 4.0, 9.5), scores=(-1.0, 0.0, 0.1, 2.0))
    maps = QuantileMap([grid], CPU)
    lower, upper, increase = maps.bins(torch.arange(-3.0, 15.0).double()[:, None])
    torch.testing.assert_close(lower[1:], upper[:-1])
    torch.testing.assert_close(increase, upper - lower)
    # The bin of 4 contains an edge: half of it is in either segment.
    assert float(increase[7, 0]) == pytest.approx(0.5 * 0.1 / 2.5 + 0.5 * 1.9 / 5.5)


def test_increases_do_not_cancel_where_scores_are_large():
    # At 10^7 steps of 10^-9 the score is 9; a difference of two in single precision would be 0.
    slope = 1e-9
    grid = mm.Grid(edges=(-0.5, 0.5), scores=(9 - slope / 2, 9 + slope / 2))
    increase = QuantileMap([grid], CPU).bins(torch.tensor([[1e7]]).double())[2]
    assert float(increase) == pytest.approx(slope, rel=1e-6)


def test_far_tails_fall_off_as_those_of_logistics():
    grid = mm.Grid(edges=(-0.5, 0.5), scores=(-0.001, 0.001))
    scale = 0.25
    given = torch.tensor([0.0, 0, 0, 0, 0, 0, *[math.log(scale - 1e-3)] * 3]).double()
    rows = mm.TableDistribution([grid], given)
    far = torch.tensor([[1e6], [1e6 + 1], [-1e6], [-1e6 - 1]]).double()
    found = rows.log_prob(far)
    for one, other in ((0, 1), (2, 3)):
        assert float(found[one] - found[other]) == pytest.approx(0.002 / scale, rel=1e-6)


EXTREMES = [
    (loc, log_scale, weight)
    for loc in (-1e3, 0.0, 1e3)
    for log_scale in (-20.0, 0.0, 20.0)
    for weight in (0.0, 1e3)
]


@pytest.mark.parametrize(("loc", "log_scale", "weight"), EXTREMES)
def test_values_and_gradients_are_finite_for_extreme_parameters_and_values(loc, log_scale, weight):
    columns = list(GRIDS.values())
    kinds = torch.zeros(3, 3, 3)
    kinds[0, :, 0], kinds[1], kinds[2] = weight, loc, log_scale
    given = kinds.flatten().requires_grad_()
    rows = mm.TableDistribution(columns, given)
    for k in (0.0, 4.0, 5e6, -5e6, 2.0**24, -(2.0**24)):
        x = torch.tensor([k, max(k, 0.0), min(max(k, 0.0), 4.0)])
        value = rows.log_prob(x)
        (gradient,) = torch.autograd.grad(value, given)
        assert value.isfinite(), k
        assert gradient.isfinite().all(), k
    assert rows.log_prob(rows.sample()).isfinite()
    assert rows.point().isfinite().all()


@pytest.mark.parametrize("size", [1e3, -1e3])
def test_levels_and_holes_have_finite_gradients_for_extreme_logits(size):
    columns = [each for each in MIXED if isinstance(each, mm.Choice)]
    columns[1] = mm.Choice((1, 1), parent=0)
    given = torch.zeros(mm.TableDecoder.num_outputs(columns))
    given[::2] = size
    given.requires_grad_()
    tables = torch.tensor([size, 0, 0, size, -size, size], requires_grad=True)
    rows = mm.TableDistribution(columns, given, tables)
    for x in ([0, 0, 0], [NAN, 1, NAN], [INF, 0, 6], [2, NAN, 3], [NAN, NAN, NAN]):
        value = rows.log_prob(torch.tensor(x))
        gradients = torch.autograd.grad(value, (given, tables), allow_unused=True)
        assert value.isfinite()
        assert all(each is None or each.isfinite().all() for each in gradients)


# --- rows of several columns ---------------------------------------------------------------------


def grid_of(*values):
    """All combinations of values, (N, number of arguments)."""
    return torch.cartesian_prod(*(torch.tensor(each).double() for each in values))


LEVELS = [0.0, 1.0, 2.0], [0.0, 1.0], [0.0, 1.0, 2.0, 3.0, 4.0]
SMALL = (
    mm.Choice((0.5, 0.3, 0.2), holes=0.1),
    mm.Choice((60, 40), holes=0.2, parent=0, table=((0, 0, 50), (1, 1, 30), (2, 0, 20))),
    mm.Grid(**spread(0, 4), low=0, high=4, holes=0.3),
)


def test_probabilities_of_all_rows_with_and_without_holes_sum_to_one():
    rows = distribution(SMALL, 3)
    every = grid_of(*([*levels, NAN] for levels in LEVELS))
    total = rows.log_prob(every[:, None]).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(3).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("hidden", [[0], [1], [2], [0, 1], [0, 2], [0, 1, 2]])
def test_hidden_values_are_summed_over_all_values_and_the_hole(hidden):
    rows = distribution(SMALL, 3)
    known = torch.tensor([1.0, 0.0, 3.0]).double()
    known[hidden] = INF
    every = grid_of(*([*levels, NAN] for levels in LEVELS))
    fitting = every[((every == known) | known.isinf()).all(-1)]
    expected = rows.log_prob(fitting[:, None]).logsumexp(0)
    torch.testing.assert_close(rows.log_prob(known), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("missing", [[0], [1], [2], [0, 1], [0, 2], [0, 1, 2]])
def test_missing_values_are_summed_over_all_values_and_have_the_probability_of_a_hole(missing):
    rows = distribution(SMALL, 3)
    known = torch.tensor([2.0, 1.0, 0.0]).double()
    known[missing] = NAN
    every = grid_of(*LEVELS)
    fitting = every[((every == known) | known.isnan()).all(-1)]
    expected = rows.log_probs(fitting[:, None]).sum(-1).logsumexp(0)
    torch.testing.assert_close(rows.log_probs(known).sum(-1), expected, rtol=0, atol=1e-12)
    holes = rows.parameters[:, -3:]
    signs = torch.where(known.isnan(), 1.0, -1.0)
    of_holes = torch.nn.functional.logsigmoid(signs * holes).sum(-1)
    torch.testing.assert_close(rows.log_prob(known), expected + of_holes, rtol=0, atol=1e-12)


def test_log_probabilities_by_column_sum_to_that_of_the_row_and_are_0_where_unknown():
    rows = distribution(MIXED, 40)
    x = rows.sample()
    x[torch.rand_like(x) < 0.3] = INF
    each = rows.log_probs(x)
    assert (each[~x.isfinite()] == 0).all()
    assert (each <= 0).all()
    assert (each[x.isfinite()] < 0).all()
    hidden = torch.where(x.isnan(), INF, x)
    assert (rows.log_prob(x) - each.sum(-1) < 1e-12).all()
    # A row whose values are all hidden says nothing of holes.
    assert (rows.log_prob(torch.full_like(x, INF)) == 0).all()
    torch.testing.assert_close(rows.log_probs(hidden), each)


def test_a_column_does_not_depend_on_columns_that_are_not_connected_to_it():
    rows = distribution(MIXED, 40)
    x = rows.sample(complete=True)
    each = rows.log_probs(x)
    for hidden in (1, 3, 4, 5):
        one = x.clone()
        one[:, hidden] = INF
        others = [column for column in range(6) if column != hidden]
        torch.testing.assert_close(rows.log_probs(one)[:, others], each[:, others])


def test_values_that_a_column_cannot_take_have_no_probability():
    rows = distribution(MIXED)
    good = torch.tensor([1.0, -3.0, 0.0, 2.0, 6.0, 4.0]).double()
    assert rows.log_prob(good).isfinite()
    for column, value in ((0, 3.0), (0, -1.0), (1, 0.5), (2, 2.0), (3, -1.0), (4, 1.5), (5, 5.0)):
        bad = good.clone()
        bad[column] = value
        assert rows.log_prob(bad) == -INF
        assert rows.log_probs(bad)[column] == -INF


def test_rows_broadcast_against_the_batch():
    rows = distribution(MIXED, 4)
    x = rows.sample((5,))
    expected = rows.log_prob(x)
    assert expected.shape == (5, 4)
    for place in range(5):
        torch.testing.assert_close(rows.log_prob(x[place]), expected[place])
        for row in range(4):
            torch.testing.assert_close(rows[row].log_prob(x[place, row]), expected[place, row])
    one = x[0, 0]
    torch.testing.assert_close(rows.log_prob(one), rows.log_prob(one.expand(4, 6)))
    torch.testing.assert_close(rows.log_prob(x[:, :1]), rows.log_prob(x[:, :1].expand(5, 4, 6)))
    wider = rows.expand((5, 4))
    assert wider.batch_shape == (5, 4)
    torch.testing.assert_close(wider.log_prob(x), expected)


def test_draws_have_finite_probabilities_and_holes_in_their_share():
    rows = distribution(MIXED, 3)
    drawn = rows.sample((10_000,))
    assert drawn.shape == (10_000, 3, 6)
    assert rows.log_prob(drawn).isfinite().all()
    shares = rows.parameters[:, -3:].sigmoid()
    within_standard_errors(drawn[..., [0, 1, 4]].isnan().double(), shares)
    assert not drawn[..., [2, 3, 5]].isnan().any()
    assert rows.sample((9,), complete=True).isfinite().all()


def test_draws_of_whole_rows_have_their_probabilities():
    rows = distribution(SMALL)
    every = grid_of(*([*levels, NAN] for levels in LEVELS)).nan_to_num(-1.0)
    drawn = rows.sample((20_000,)).nan_to_num(-1.0)
    counts = (drawn[:, None] == every).all(-1).sum(0)
    assert counts.sum() == len(drawn)
    fair(counts, rows.log_prob(every.masked_fill(every == -1, NAN)).exp())


def test_completed_rows_keep_the_known_values_and_draw_the_others_given_them():
    rows = distribution(SMALL)
    known = torch.tensor([INF, 1.0, NAN]).double()
    completed = rows.complete(known.expand(20_000, 3))
    assert (completed[:, 1] == 1).all()
    every = grid_of(LEVELS[0], [1.0], LEVELS[2])
    counts = (completed[:, None] == every).all(-1).sum(0)
    log_probs = rows.log_probs(every).sum(-1)
    fair(counts, (log_probs - log_probs.logsumexp(0)).exp())


def test_points_are_medians_and_most_probable_levels():
    rows = distribution(MIXED, 30)
    point = rows.point()
    assert point.shape == (30, 6)
    for column, levels in ((0, 3), (4, 7)):
        each = torch.arange(levels)[:, None, None].expand(-1, 30, 6).double()
        assert torch.equal(rows.log_probs(each)[..., column].argmax(0), point[:, column].long())
    child = point.expand(2, 30, 6).clone()
    child[..., 2] = torch.arange(2)[:, None]
    assert torch.equal(rows.log_probs(child)[..., 2].argmax(0), point[:, 2].long())
    assert torch.equal(rows.quantile(0.5)[:, [1, 3, 5]], point[:, [1, 3, 5]])
    assert rows.quantile(0.5)[:, [0, 2, 4]].isnan().all()


def test_probabilities_of_levels_are_those_of_rows_with_them():
    rows = distribution(MIXED, 5)
    for column, levels in ((0, 3), (2, 2), (4, 7)):
        x = torch.full((levels, 1, 6), INF).double()
        x[:, 0, column] = torch.arange(levels)
        expected = rows.log_prob(x).exp()
        hole = column in (0, 4)
        found = rows.probabilities(column).T
        torch.testing.assert_close(found.sum(0), torch.ones(5).double())
        torch.testing.assert_close(found, expected / expected.sum(0) if hole else expected)
    with pytest.raises(ValueError, match="column must be the index of a Choice, got 1, a Grid"):
        rows.probabilities(1)
    with pytest.raises(ValueError, match="column must be 5 or less, got 6"):
        rows.probabilities(6)


def test_there_are_probabilities_but_no_mean():
    rows = distribution(MIXED, 4)
    assert is_discrete(rows)
    assert closed_mean(rows) is None
    with pytest.raises(NotImplementedError):
        _ = rows.mean
    with pytest.raises(ValueError, match=r"parameters must have shape \(..., 42\) .* got \(3, 2\)"):
        mm.TableDistribution(MIXED, torch.zeros(3, 2))


def test_a_draw_is_scored_without_bias():
    columns = [mm.Choice((1, 1, 1), holes=0.5)]
    given = parameters(columns).requires_grad_()
    rows = mm.TableDistribution(columns, given.expand(200_000, -1))
    value, log_prob, score = mm.draw(rows)
    assert score is log_prob
    reward = value.squeeze(-1).nan_to_num(3.0) ** 2
    (slope,) = torch.autograd.grad((reward * score).mean(), given)
    every = torch.tensor([[0.0], [1.0], [2.0], [NAN]]).double()
    exact = mm.TableDistribution(columns, given).log_prob(every).exp()
    (expected,) = torch.autograd.grad((exact * torch.tensor([0, 1, 4, 9])).sum(), given)
    torch.testing.assert_close(slope, expected, rtol=0, atol=0.05)


def test_precision_does_not_depend_on_the_context():
    columns = [mm.Grid(**spread(-20, 20, 5)), *MIXED]
    columns[3] = mm.Choice((60, 40), parent=1)
    rows = mm.TableDistribution(columns, parameters(columns, 9).float())
    x = rows.sample()
    x[:, 1] = INF
    x[0, 0] = 2.0**24 - 1
    with torch.autocast("cpu", torch.bfloat16):
        rows_again = mm.TableDistribution(columns, rows.parameters)
        assert torch.equal(rows_again.log_prob(x), rows.log_prob(x))


def test_converting_a_model_does_not_round_the_borders_of_bins():
    columns = [mm.Grid(edges=(16_000_000.5, 16_000_001.5), scores=(-0.5, 0.5))]
    decoder = model(columns).decoder.to(torch.float32)
    x = torch.tensor([[16_000_001.0]])
    expected = decoder.double()(torch.zeros(1, 3).double()).log_prob(x.double())
    found = decoder.bfloat16().float()(torch.zeros(1, 3)).log_prob(x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-2)


def test_probabilities_over_steps_approach_a_density_as_steps_shrink():
    given = parameters([mm.Grid((-0.5, 0.5), (-1.0, 1.0))])
    density = []
    for count in (10, 100, 1_000):
        # Scores are values here: one unit has `count` steps of 1 / count.
        grid = mm.Grid((-count, count), (-1.0, 1.0))
        rows = mm.TableDistribution([grid], given)
        density.append(rows.log_prob(torch.tensor([0.3 * count]).double()) + math.log(count))
    weights, loc, log_scale = given.reshape(3, 3)
    scale = log_scale.exp() + 1e-3
    each = torch.sigmoid((0.3 - loc) / scale)
    expected = (weights.softmax(-1) * each * (1 - each) / scale).sum().log()
    errors = [abs(float(value - expected)) for value in density]
    # The error of a midpoint is of second order.
    assert errors[0] < 1e-3
    assert errors[1] < errors[0] / 50
    assert errors[2] < errors[1] / 50


def test_columns_of_about_equally_many_levels_share_an_operation():
    sizes = [5, 2, 40, 3, 5, 30, 2, 4, 100]
    columns = [mm.Choice((1,) * size) for size in sizes]
    layout = Layout(columns)
    assert [bucket.columns for bucket in layout.buckets] == [1, 2, 4, 2]
    rows = distribution(columns, 7)
    x = rows.sample()
    logits = rows.parameters.split(sorted(sizes, reverse=True), -1)
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    for place, index in enumerate(order):
        expected = logits[place].log_softmax(-1).gather(-1, x[:, index : index + 1].long())
        torch.testing.assert_close(rows.log_probs(x)[:, index], expected.squeeze(-1))
