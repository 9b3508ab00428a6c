"""Columns that others settle: sums over unknown levels of forests equal sums over combinations."""

import pytest
import torch
from tablemodels import INF, NAN, Enumerated, distribution, fair, forest, parameters

import mimachine as mm

SEEDS = range(12)


def forest_rows(seed):
    columns = forest(seed)
    rows = distribution(columns, scale=1.5, seed=seed)
    tables = None if rows.tables is None else 2 * torch.randn_like(rows.tables)
    rows = mm.TableDistribution(columns, rows.parameters, tables)
    x = rows.sample((40,))
    x[torch.rand_like(x) < 0.5] = INF
    return rows, Enumerated(rows), x


def test_the_forests_have_columns_of_several_levels_and_children():
    depths, widths = set(), set()
    for seed in SEEDS:
        columns = forest(seed)
        parents = [column.parent for column in columns]
        widths |= {parents.count(index) for index in range(6)}
        for index in range(6):
            depth, above = 0, parents[index]
            while above is not None:
                depth, above = depth + 1, parents[above]
            depths.add(depth)
    assert depths >= {0, 1, 2, 3}
    assert widths >= {0, 1, 2, 3}


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_over_unknown_levels_are_sums_over_all_combinations(seed):
    rows, enumerated, x = forest_rows(seed)
    expected = torch.stack([enumerated.log_prob(row) for row in x])
    torch.testing.assert_close(rows.log_prob(x), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(rows.log_probs(x).sum(-1), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_column_with_a_known_parent_is_given_the_parent_alone(seed):
    rows, enumerated, x = forest_rows(seed)
    each = rows.log_probs(x)
    for index, column in enumerate(rows.columns):
        if column.parent is None:
            continue
        both = x[:, [column.parent, index]].isfinite().all(-1)
        for row, found in zip(x[both], each[both, index], strict=True):
            pair = torch.full((6,), INF).double()
            pair[column.parent] = row[column.parent]
            before = enumerated.log_prob(pair)
            pair[index] = row[index]
            assert float(found) == pytest.approx(float(enumerated.log_prob(pair) - before))


@pytest.mark.parametrize("seed", SEEDS)
def test_probabilities_of_a_level_given_all_known_others_are_sums(seed):
    rows, enumerated, x = forest_rows(seed)
    for column in range(6):
        found = rows.probabilities(column, x)
        for row, probabilities in zip(x[:10], found[:10], strict=True):
            each = row.expand(len(probabilities), 6).clone()
            each[:, column] = torch.arange(len(probabilities))
            expected = torch.stack([enumerated.log_prob(one) for one in each]).softmax(0)
            torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_and_completed_rows_have_the_probabilities_of_combinations(seed):
    rows, enumerated, x = forest_rows(seed)
    drawn = rows.sample((20_000,))
    counts = (drawn[:, None] == enumerated.combinations).all(-1).sum(0)
    fair(counts, enumerated.log_probs.exp())
    row = x[x.isfinite().sum(-1).argmin()]
    completed = rows.complete(row.expand(20_000, 6))
    counts = (completed[:, None] == enumerated.combinations).all(-1).sum(0)
    posterior = enumerated.log_probs.masked_fill(~enumerated.fits(row), -INF).softmax(0)
    fair(counts, posterior)


def test_a_hole_of_a_parent_is_drawn_but_its_children_follow_the_level_that_it_hides():
    table = ((0, 0, 1000), (1, 1, 1000))
    columns = [mm.Choice((1, 1), holes=0.5), *[mm.Choice((1, 1), parent=0, table=table)] * 2]
    rows = mm.TableDistribution(columns, torch.zeros(mm.TableDecoder.num_outputs(columns)))
    drawn = rows.sample((5_000,))
    hidden = drawn[drawn[:, 0].isnan()]
    assert len(hidden) > 2_000
    assert (hidden[:, 1] == hidden[:, 2]).double().mean() > 0.99


def test_gradients_through_sums_are_those_of_combinations():
    columns = forest(3)
    given = parameters(columns).requires_grad_()
    edges = mm.TableDistribution(columns, given).layout.table_size
    tables = torch.randn(edges, dtype=torch.float64, requires_grad=True)
    rows = mm.TableDistribution(columns, given, tables)
    x = rows.sample((30,))
    x[torch.rand_like(x) < 0.5] = NAN
    found = torch.autograd.grad(rows.log_prob(x).sum(), (given, tables))
    expected = sum(Enumerated(rows).log_prob(row) for row in x)
    for one, other in zip(found, torch.autograd.grad(expected, (given, tables)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_sums_are_accurate_in_single_precision_for_many_levels():
    columns = [mm.Choice((1,) * 300), mm.Choice((1,) * 200, parent=0)]
    given = 3 * parameters(columns, 50)
    tables = 5 * torch.randn(300 * 200, dtype=torch.float64)
    exact = mm.TableDistribution(columns, given, tables)
    x = exact.sample()
    x[:, 0] = INF
    rounded = mm.TableDistribution(columns, given.float(), tables.float())
    torch.testing.assert_close(
        rounded.log_prob(x.float()).double(), exact.log_prob(x), rtol=0, atol=1e-4
    )
    joint = given[:, :300].log_softmax(-1)[:, :, None] + (
        given[:, None, 300:] + tables.reshape(300, 200)
    ).log_softmax(-1)
    expected = joint.logsumexp(1).gather(-1, x[:, 1:].long()).squeeze(-1)
    torch.testing.assert_close(exact.log_prob(x), expected, rtol=0, atol=1e-10)
