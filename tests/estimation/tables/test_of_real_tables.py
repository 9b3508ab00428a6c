"""The estimators with a decoder of tables: grids, levels, holes, and columns that settle others."""

import math

import pytest
import torch
from tableoracles import by_sum
from torch import nn

import mimachine as mm
from mimachine.estimation.tables.conditional import sample_given
from mimachine.estimation.tables.impute import _COMPLETIONS, impute
from mimachine.estimation.tables.proposal import fit_proposal
from mimachine.estimation.tables.scores import score

CITIES = ((0, 0, 50), (1, 0, 30), (2, 1, 20), (3, 1, 9), (3, 0, 1))
COLUMNS = [
    mm.Grid((-0.5, 0.5, 3.5, 9.5), (-2.0, 0.0, 1.0, 2.0), low=0, holes=0.2),
    mm.Choice((0.4, 0.3, 0.2, 0.1)),
    mm.Choice((0.7, 0.3), parent=1, table=CITIES),
]


@pytest.fixture
def model():
    decoder = mm.TableDecoder(COLUMNS, nn.Linear(1, mm.TableDecoder.num_outputs(COLUMNS)))
    decoder.network.weight = nn.Parameter(3 * decoder.network.weight.detach())
    features = mm.TableFeatures.num_features(COLUMNS)
    encoder = mm.Gaussian(nn.Sequential(mm.TableFeatures(COLUMNS), nn.Linear(features, 2)), 0.5)
    return mm.Joint(encoder, decoder, mm.StandardNormal(1))


@pytest.mark.parametrize(
    "row",
    [
        [math.inf, math.inf, 1.0],
        [3.0, 3.0, math.inf],
        [2.0, math.inf, math.inf],
        [math.nan, math.inf, 0.0],
    ],
)
def test_a_column_that_settles_another_is_filled_in_to_agree_with_it(model, row):
    row = torch.tensor(row)
    imputed = impute(model, row[None], draws=4000, keep=200)
    z, weights = by_sum(model, row)
    for column, shares in imputed.probabilities.items():
        with torch.no_grad():
            exact = (weights @ model.decoder(z).probabilities(column, row)).double()
        error = (exact * (1 - exact) / _COMPLETIONS).sqrt()
        assert ((shares[0] - exact).abs() < 5 * error + 1e-4).all()
    tables = torch.stack([imputed.completed(draw)[0] for draw in range(200)])
    # Of cities 0 to 2 the region is nearly certain, and most draws of a pair agree with it.
    city, region = tables[:, 1].long(), tables[:, 2].long()
    agree = (region == torch.tensor([0, 0, 1, 1])[city])[city < 3]
    assert agree.double().mean() > 0.9 or not len(agree)
    assert (tables[:, 0] >= 0).all()
    assert torch.equal(tables, tables.round())


def test_rows_given_a_level_have_it(model):
    given = torch.tensor([math.inf, 2.0, math.inf])
    found = sample_given(model, given, 300)
    assert (found.rows[0, :, 1] == 2).all()
    assert found.rows.isfinite().all()
    assert not found.flagged.any()


def test_a_proposal_is_fitted_to_rows_with_holes_and_rows_are_scored(model):
    with torch.no_grad():
        rows = model.decoder(torch.randn(400, 1)).sample()
    assert rows.isnan().any()
    recipe = mm.Training(3, 100, warmup=0)
    proposal = fit_proposal(model, rows, components=3, training=recipe)
    imputed = impute(model, rows[:40], proposal=proposal)
    assert imputed.rows.isfinite().all()
    assert not imputed.flagged.any()
    found = score(model, rows[:40], proposal=proposal, num_samples=500)
    assert torch.equal(found.columns.isnan(), ~rows[:40].isfinite())
    ranks = found.percentiles(found)
    torch.testing.assert_close(ranks.code.mean(), torch.tensor(0.5).double())


def test_values_that_a_column_cannot_take_are_refused(model):
    with pytest.raises(ValueError, match=r"levels 0 to 3.* in column 1, got 7 in row 0"):
        impute(model, torch.tensor([[1.0, 7.0, 0.0]]))
