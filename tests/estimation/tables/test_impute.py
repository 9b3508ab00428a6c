import math

import pytest
import torch
from oracles import LinearGaussian, draws, generator, within_standard_errors
from tableoracles import AtPrior, Decoder, by_sum, conditional, normal_table
from torch import nn

import mimachine as mm
from mimachine.estimation.tables.impute import _COMPLETIONS, _of_grid, impute
from mimachine.estimation.tables.weights import _resampled

pytestmark = pytest.mark.usefixtures("double")
UNKNOWN = math.inf
LINE = mm.Grid((-1.0, 1.0), (-1.0, 1.0))


def with_unknown(rows, share, seed=0):
    return rows.masked_fill(
        torch.rand(rows.shape, generator=generator(seed), dtype=rows.dtype) < share, UNKNOWN
    )


def mixed_table(holes=None):
    """A model of one latent: a number whose mean bends, and levels that depend on the code."""
    levels = [
        (torch.tensor([[2.0], [-2.0]]), torch.tensor([0.3, 0.0])),
        (torch.tensor([[0.0], [3.0], [-1.0]]), torch.tensor([0.0, -0.5, 0.5])),
    ]
    decoder = Decoder(
        lambda z: torch.cat([z, z.square()], 1), torch.tensor([0.5, 0.3]), levels, holes
    )
    return mm.Joint(AtPrior(), decoder, mm.StandardNormal(1).double())


@pytest.mark.parametrize("widen", [1.0, 1.5])
def test_means_and_deviations_are_those_of_the_normal_conditionals(widen):
    case = LinearGaussian.random(5, 2, seed=3)
    model, proposal = normal_table(case, widen=widen)
    rows = with_unknown(draws(case.marginal(), 60), 0.4)
    imputed = impute(model, rows, proposal=proposal, draws=4000)
    scores, ratios = [], []
    for row, column, mean, deviation in zip(
        imputed.row, imputed.column, imputed.mean, imputed.deviation, strict=True
    ):
        exact = conditional(case.marginal(), rows[row], column[None])
        width = exact.covariance.sqrt().item()
        scores.append((mean - exact.mean.item()) / width * math.sqrt(_COMPLETIONS))
        ratios.append(deviation.square() / width**2)
    # Resampling from thousands of weighted draws adds little to the error of 400 completions.
    scores = torch.stack(scores)
    within_standard_errors(scores, 0.0)
    assert 0.8 < scores.std() < 1.25
    within_standard_errors(torch.stack(ratios), 1.0)
    assert not imputed.flagged.any()


def test_with_the_exact_posterior_as_proposal_every_draw_counts():
    case = LinearGaussian.random(4, 2, seed=1)
    model, proposal = normal_table(case)
    rows = with_unknown(draws(case.marginal(), 20), 0.5)
    imputed = impute(model, rows, proposal=proposal, draws=300)
    incomplete = ~rows.isfinite().all(1)
    effective = imputed.effective_sample_sizes
    torch.testing.assert_close(effective[incomplete], torch.full_like(effective[incomplete], 300))
    assert effective[~incomplete].isnan().all()


def test_entries_of_a_row_are_drawn_together():
    case = LinearGaussian.random(4, 1, seed=5)
    model, proposal = normal_table(case)
    row = draws(case.marginal(), 1)
    row[0, 1:3] = UNKNOWN
    imputed = impute(model, row, proposal=proposal, draws=4000, keep=4000)
    exact = conditional(case.marginal(), row[0], torch.tensor([1, 2]))
    offset = imputed.draws - exact.mean
    products = offset[:, :, None] * offset[:, None, :]
    within_standard_errors(products.flatten(1), exact.covariance.flatten())
    assert exact.covariance[0, 1].abs() > 0.05


def test_probabilities_of_levels_are_sums_over_codes():
    model = mixed_table()
    rows = torch.tensor(
        [[0.8, UNKNOWN, UNKNOWN, 1.0], [UNKNOWN, 0.9, UNKNOWN, UNKNOWN], [-1.0, 1.2, 0.0, UNKNOWN]]
    )
    imputed = impute(model, rows, draws=20_000)
    for column in (2, 3):
        entries = (imputed.column == column).nonzero().flatten()
        for place, shares in zip(entries, imputed.probabilities[column], strict=True):
            row = rows[imputed.row[place]]
            z, weights = by_sum(model, row)
            exact = weights @ model.decoder(z).log_levels[column - 2].detach().exp()
            error = (exact * (1 - exact) / _COMPLETIONS).sqrt()
            assert ((shares - exact).abs() < 5 * error + 1e-9).all()
            most_probable = imputed.rows[imputed.row[place], column]
            assert most_probable == shares.argmax()
            assert math.isnan(imputed.mean[place])


@pytest.mark.parametrize("hole", [math.nan, math.inf])
def test_a_hole_is_no_evidence_on_the_code(hole):
    holes = (torch.tensor([[4.0], [0.0], [0.0], [0.0]]), torch.tensor([0.0, -9.0, -9.0, -9.0]))
    model = mixed_table(holes)
    row = torch.tensor([hole, UNKNOWN, UNKNOWN, UNKNOWN])
    imputed = impute(model, row[None], draws=20_000)
    z, weights = by_sum(model, torch.where(row.isnan(), math.inf, row))
    exact = weights @ z.flatten()
    assert abs(imputed.mean[0] - exact) < 5 * imputed.deviation[0] / math.sqrt(_COMPLETIONS)
    # Codes above 0 make the hole probable.
    z, weights = by_sum(model, torch.tensor([math.nan, UNKNOWN, UNKNOWN, UNKNOWN]))
    assert exact < 0.5 < weights @ z.flatten()


def test_a_row_without_seen_entries_has_the_marginal_of_the_model():
    case = LinearGaussian.random(3, 2, seed=7)
    model, _ = normal_table(case)
    marginal = case.marginal()
    rows = torch.full((50, 3), UNKNOWN)
    _, proposal = normal_table(case)
    imputed = impute(model, rows, proposal=proposal, draws=500)
    mean = imputed.mean.reshape(50, 3)
    width = marginal.covariance.diagonal().sqrt()
    within_standard_errors(mean, marginal.mean)
    normal = torch.distributions.Normal(marginal.mean, width)
    within_standard_errors(normal.cdf(imputed.lower.reshape(50, 3)), 20 / 401)
    within_standard_errors(normal.cdf(imputed.upper.reshape(50, 3)), 381 / 401)


class Untouchable(nn.Module):
    """A decoder that must not be called."""

    def __init__(self, columns):
        super().__init__()
        self.columns = columns

    def forward(self, z):
        raise AssertionError


def test_complete_rows_are_unchanged_and_cost_nothing():
    model = mixed_table()
    model.decoder = Untouchable(model.decoder.columns)
    rows = torch.tensor([[0.8, 1.0, 1.0, 2.0], [0.1, -1.0, 0.0, 1.0]])
    imputed = impute(model, rows, keep=3)
    assert torch.equal(imputed.rows, rows)
    assert torch.equal(imputed.completed(2), rows)
    assert not imputed.flagged.any()
    assert len(imputed.row) == len(imputed.mean) == 0
    assert imputed.draws.shape == (3, 0)
    assert imputed.probabilities == {}


def test_seen_entries_stay_and_draws_fill_the_others():
    model = mixed_table()
    rows = torch.tensor([[0.8, UNKNOWN, math.nan, 2.0], [0.1, 1.0, 0.0, 1.0]])
    imputed = impute(model, rows, keep=5)
    seen = rows.isfinite()
    for table in (imputed.rows, *(imputed.completed(i) for i in range(5))):
        assert torch.equal(table[seen], rows[seen])
        assert table.isfinite().all()
    assert len({float(imputed.completed(i)[0, 1]) for i in range(5)}) == 5
    with pytest.raises(ValueError, match="draw must be 4 or less, got 5"):
        imputed.completed(5)


@pytest.mark.parametrize("chunk_size", [1, 7, 100, 10**9])
def test_memory_does_not_change_the_result(chunk_size):
    case = LinearGaussian.random(4, 2, seed=2)
    model, proposal = normal_table(case, widen=1.3)
    rows = with_unknown(draws(case.marginal(), 40), 0.3)
    whole = impute(model, rows, proposal=proposal, draws=50)
    again = impute(model, rows, proposal=proposal, draws=50, chunk_size=chunk_size)
    for name in ("rows", "mean", "lower", "draws", "effective_sample_sizes"):
        torch.testing.assert_close(getattr(again, name), getattr(whole, name), equal_nan=True)


def test_seeds_reproduce_and_leave_the_global_generator_alone():
    model = mixed_table()
    rows = torch.tensor([[0.8, UNKNOWN, UNKNOWN, 2.0]] * 40)
    state = torch.get_rng_state()
    first, again, other = (impute(model, rows, draws=100, seed=s) for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.draws, again.draws)
    assert not torch.equal(first.draws, other.draws)
    # Equal rows have noise of their own, or multiple imputation would be too sure.
    assert len(first.draws[0, first.column == 1].unique()) == 40


@pytest.mark.parametrize("change", [{"widen": 0.2}, {"shift": 30.0}])
def test_a_proposal_far_from_the_posterior_is_flagged(change):
    case = LinearGaussian.random(8, 6, seed=2)
    model, proposal = normal_table(case, **change)
    rows = with_unknown(draws(case.marginal(), 20), 0.1)
    imputed = impute(model, rows, proposal=proposal)
    incomplete = ~rows.isfinite().all(1)
    assert imputed.flagged[incomplete].all()
    assert not imputed.flagged[~incomplete].any()


def test_rows_that_no_draw_explains_are_flagged_and_filled():
    model = mixed_table()
    rows = torch.tensor([[1e30, UNKNOWN, 0.0, 1.0]])
    imputed = impute(model, rows)
    assert imputed.flagged.all()
    assert imputed.rows.isfinite().all()


def test_an_interval_of_draws_contains_a_further_draw_at_the_level():
    drawn = torch.rand(_COMPLETIONS + 1, 20_000)
    statistics = _of_grid(drawn[1:], LINE, 0.9)
    inside = (drawn[0] >= statistics[3]) & (drawn[0] <= statistics[4])
    within_standard_errors(inside.double(), 361 / 401)


def test_values_of_a_grid_are_whole_and_within_its_limits():
    drawn = torch.tensor([[-0.4, 7.0], [0.0, 9.0], [-0.4, 9.0]])
    value, mean, *_ = _of_grid(drawn, mm.Grid((-1, 1), (-1, 1), low=0, high=8), 0.9)
    assert value.tolist() == [0.0, 8.0]
    torch.testing.assert_close(mean, drawn.mean(0))


def test_resampling_takes_a_draw_as_often_as_its_weight_says():
    log_weights = 2 * torch.randn(50, 30)
    log_weights[:10] = -math.inf
    chosen = _resampled(log_weights, 400)
    counts = torch.zeros(50, 30).scatter_add_(0, chosen, torch.ones(400, 30))
    assert ((counts - 400 * log_weights.softmax(0)).abs() < 1 + 1e-9).all()
    # In random order: the first half has no more of the first draws than the second half.
    halves = chosen[:200].double().mean(0) - chosen[200:].double().mean(0)
    within_standard_errors(halves, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.zeros(3, 2)}, r"rows must have shape \(N, 4\), .* got \(3, 2\)"),
        ({"rows": torch.zeros(4)}, r"rows must have shape \(N, \*X\) with N .* got \(4,\)"),
        ({"level": 1.0}, r"level must be in \(0, 1\), got 1.0"),
        ({"draws": 0}, "draws must be 1 or more, got 0"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"rows": torch.full((2, 4), UNKNOWN), **change}
    with pytest.raises(ValueError, match=message):
        impute(mixed_table(), **arguments)
