import math

import pytest
import torch
from oracles import LinearGaussian, Normal, draws
from tableoracles import AtPrior, Decoder, normal_table

import mimachine as mm
from mimachine.estimation.tables.scores import Scores, score

pytestmark = pytest.mark.usefixtures("double")


def seen_density(normal, row):
    """Log-density of the seen entries of a row."""
    seen = row.isfinite()
    part = Normal(normal.mean[seen], normal.covariance[seen][:, seen])
    return part.log_prob(row[seen][None])[0]


def table_of(case, count=30):
    rows = draws(case.marginal(), count)
    rows[::4, 1] = math.nan
    rows[1::4, 2] = math.inf
    return rows


def test_the_likelihood_is_that_of_the_seen_entries():
    case = LinearGaussian.random(4, 2, seed=1)
    model, proposal = normal_table(case, widen=1.2)
    rows = table_of(case)
    found = score(model, rows, proposal=proposal, num_samples=2000).log_likelihood
    exact = torch.stack([seen_density(case.marginal(), row) for row in rows])
    assert ((found.values - exact).abs() < 5 * found.standard_errors).all()
    assert not found.flagged.any()
    assert found.standard_errors.max() < 0.05


def test_holes_have_no_part_in_the_likelihood():
    holes = (torch.tensor([[3.0], [0.0]]), torch.tensor([0.0, 0.0]))
    decoder = Decoder(lambda z: torch.cat([z, -z], 1), torch.tensor([0.5, 0.5]), (), holes)
    model = mm.Joint(AtPrior(), decoder, mm.StandardNormal(1).double())
    missing, hidden = torch.tensor([[math.nan, 0.7]]), torch.tensor([[math.inf, 0.7]])
    a, b = (score(model, row, num_samples=500).log_likelihood.values for row in (missing, hidden))
    assert torch.equal(a, b)


def test_the_code_is_scored_by_the_prior_at_the_mean_of_the_encoder():
    case = LinearGaussian.random(4, 2, seed=1)
    model, _ = normal_table(case)
    rows = table_of(case)
    found = score(model, rows, num_samples=0)
    assert found.log_likelihood is None
    mean = model.encoder(rows).mean
    torch.testing.assert_close(found.code, -case.p_z.log_prob(mean))


def test_columns_have_their_expected_log_probability():
    case = LinearGaussian.random(3, 2, seed=2)
    model, _ = normal_table(case)
    rows = table_of(case, 40)
    found = score(model, rows, num_samples=0, column_samples=500)
    encoder = model.encoder(rows)
    offset = rows - encoder.mean @ case.B.T - case.b
    spread = torch.einsum("de,nef,df->nd", case.B, encoder.covariance_matrix, case.B)
    square = (offset.square() + spread) / case.s_p.square()
    exact = -0.5 * square - case.s_p.log() - 0.5 * math.log(2 * math.pi)
    seen = rows.isfinite()
    scores = ((found.columns - exact) / found.column_errors)[seen]
    assert (scores.abs() < 5).all()
    assert 0.8 < scores.square().mean() < 1.25
    assert torch.equal(found.columns.isnan(), ~seen)


def test_the_column_that_is_wrong_stands_out():
    levels = [(torch.tensor([[3.0], [-3.0]]), torch.zeros(2))]
    decoder = Decoder(lambda z: torch.cat([z, 2 * z], 1), torch.tensor([0.2, 0.2]), levels)
    encoder = mm.Gaussian(torch.nn.Linear(3, 2).double(), floor=0.1)
    with torch.no_grad():
        encoder.network.weight.copy_(torch.tensor([[0.2, 0.4, 0.0], [0, 0, 0]]))
        encoder.network.bias.copy_(torch.tensor([0.0, -3.0]))
    model = mm.Joint(encoder, decoder, mm.StandardNormal(1).double())
    usual = decoder(torch.randn(500, 1)).sample().detach()
    wrong = torch.tensor([[1.0, 2.0, 1.0], [1.0, 2.0, 0.0], [1.0, -1.0, 0.0]])
    reference, found = (score(model, rows, num_samples=300) for rows in (usual, wrong))
    ranks = found.percentiles(reference)
    assert ranks.columns[0].argmax() == 2
    assert ranks.columns[1].max() < 0.9
    assert ranks.columns[2, :2].max() > 0.99
    assert ranks.log_likelihood[2] == 1 > ranks.log_likelihood[1]


def test_percentiles_are_ranks_with_ties_half():
    def scores(code, columns):
        columns = torch.tensor(columns)
        return Scores(torch.tensor(code), columns, columns * 0, None)

    reference = scores([1.0, 2.0, 2.0, 4.0], [[-1.0], [-2.0], [-3.0], [math.nan]])
    found = scores([0.0, 2.0, 5.0], [[-2.0], [math.nan], [-9.0]]).percentiles(reference)
    assert found.code.tolist() == [0.0, 0.5, 1.0]
    assert found.log_likelihood is None
    torch.testing.assert_close(
        found.columns, torch.tensor([[0.5], [math.nan], [1.0]]), equal_nan=True
    )


def test_the_anomaly_adds_the_logarithms_of_tail_shares():
    def scores(columns):
        columns = torch.tensor(columns, dtype=torch.float64)
        return Scores(columns[:, 0], columns, columns * 0, None)

    reference = scores([[-1.0, -5.0], [-2.0, -5.0], [-3.0, math.nan]])
    found = scores([[-2.0, -4.0], [math.nan, -6.0], [-9.0, math.nan]]).anomaly(reference)
    # Of three values one is as unlikely and counts half, one is less likely: (1.5 + 0.5) / 3.5.
    expected = [-math.log(2 / 3.5), -math.log(0.5 / 2.5), -math.log(0.5 / 3.5)]
    assert found.tolist() == pytest.approx(expected)


def test_rows_like_the_reference_have_an_anomaly_of_one_per_column():
    generator = torch.Generator().manual_seed(0)
    reference, rows = torch.randn(2, 4000, 5, generator=generator, dtype=torch.float64)
    zeros = torch.zeros(4000, 5)
    usual, found = (Scores(x[:, 0], x, zeros, None) for x in (reference, rows))
    # -log of a uniform share has mean and variance 1, so the sum is a Gamma variable.
    anomaly = found.anomaly(usual)
    assert abs(anomaly.mean() - 5) < 5 * math.sqrt(5 / 4000)
    assert float(anomaly.var()) == pytest.approx(5, rel=0.2)
    # One value that no reference row reaches is enough.
    strange = Scores(rows[:1, 0], rows[:1] - 100 * torch.eye(5)[:1], zeros[:1], None)
    assert strange.anomaly(usual) > anomaly[0] + 5


def test_seeds_reproduce():
    case = LinearGaussian.random(4, 2, seed=1)
    model, _ = normal_table(case)
    rows = table_of(case)
    first, again, other = (score(model, rows, num_samples=50, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.log_likelihood.values, again.log_likelihood.values)
    torch.testing.assert_close(first.columns, again.columns, equal_nan=True, rtol=0, atol=0)
    assert not torch.equal(first.log_likelihood.values, other.log_likelihood.values)


def test_the_likelihood_of_levels_is_a_sum_over_codes():
    levels = [(torch.tensor([[2.0], [-2.0]]), torch.tensor([0.3, 0.0]))]
    decoder = Decoder(lambda z: z.square(), torch.tensor([0.4]), levels)
    model = mm.Joint(AtPrior(), decoder, mm.StandardNormal(1).double())
    row = torch.tensor([1.2, 1.0])
    z = torch.linspace(-8, 8, 4001)[:, None]
    with torch.no_grad():
        log_joint = decoder(z).log_prob(row.expand(4001, -1)) + model.prior().log_prob(z)
    exact = log_joint.logsumexp(0) + math.log(16 / 4000)
    found = score(model, row[None], num_samples=5000).log_likelihood
    assert abs(found.values[0] - exact) < 5 * found.standard_errors[0]
