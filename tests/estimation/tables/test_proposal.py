import math

import pytest
import torch
from oracles import LinearGaussian, draws
from tableoracles import Decoder, by_sum, normal_table
from torch import nn

import mimachine as mm
from mimachine.estimation.tables.impute import impute
from mimachine.estimation.tables.proposal import TableProposal, _CrossEntropy, fit_proposal
from mimachine.training.schedules import Cosine


class Seen(nn.Module):
    """Values and flags of seen entries."""

    takes_missing = True

    def forward(self, rows):
        seen = rows.isfinite()
        return torch.cat([torch.where(seen, rows, 0.0), seen.to(rows.dtype)], 1)


class Encoder(nn.Module):
    """N(some of the columns, floor²), 0 where they are unknown."""

    takes_missing = True

    def __init__(self, columns, floor):
        super().__init__()
        self.columns, self.floor = columns, floor

    def forward(self, rows):
        mean = rows[:, self.columns].nan_to_num(0.0, 0.0)
        return mm.DiagNormal(mean, torch.full_like(mean, self.floor))


def folded():
    """z ~ N(0, 1), columns |z| and z: without the second, two codes are possible."""
    decoder = Decoder(lambda z: torch.cat([z.abs(), z], 1), torch.tensor([0.1, 0.1]))
    model = mm.Joint(Encoder([1], 0.1), decoder, mm.StandardNormal(1))
    return model, decoder(torch.randn(2000, 1)).sample().detach()


RECIPE = mm.Training(15, 250, 5e-3, schedule=Cosine(), warmup=0)


def test_both_modes_of_a_posterior_are_covered():
    model, train = folded()
    proposal = fit_proposal(model, train, features=Seen(), components=4, training=RECIPE)
    rows = torch.tensor([[0.8, math.inf], [1.5, math.inf], [2.0, math.inf]])
    with torch.no_grad():
        z = proposal(rows).sample((2000,))
    share = (z > 0).double().mean((0, 2))
    assert ((share > 0.3) & (share < 0.7)).all()
    imputed = impute(model, rows, proposal=proposal)
    assert not imputed.flagged.any()
    assert (imputed.lower < -rows[:, 0] + 0.1).all()
    assert (imputed.upper > rows[:, 0] - 0.1).all()
    for row, mean, deviation in zip(rows, imputed.mean, imputed.deviation, strict=True):
        z, weights = by_sum(model, row.double())
        exact = (weights @ z.flatten().square()).sqrt()
        assert deviation == pytest.approx(float(exact), rel=0.1)
        assert abs(mean) < 5 * deviation / math.sqrt(300)


@pytest.mark.parametrize("generated", [0.0, 0.5])
def test_it_comes_close_to_the_posteriors_of_a_normal_model(generated, double):
    case = LinearGaussian.consistent(4, 2, seed=1)
    model, exact = normal_table(case)
    # Of complete rows, which need no solution for each pattern.
    model.encoder = case.modules()[0]
    model.encoder.takes_missing = True
    rows = draws(case.marginal(), 3000)
    proposal = fit_proposal(
        model, rows, features=Seen(), components=2, generated=generated, training=RECIPE
    )
    z = draws(case.p, 500)
    seen = z[:, :4].masked_fill(torch.rand(500, 4) < 0.3, math.inf)
    with torch.no_grad():
        gap = exact(seen).log_prob(z[:, 4:]) - proposal.fitted(seen).log_prob(z[:, 4:])
    assert gap.mean() < 0.15 + 5 * gap.std() / math.sqrt(500)
    imputed = impute(model, seen[:50], proposal=proposal)
    assert imputed.flagged.double().mean() < 0.05
    incomplete = imputed.effective_sample_sizes.isfinite()
    assert imputed.effective_sample_sizes[incomplete].median() > 400


def test_the_loss_is_the_cross_entropy_of_codes_given_a_part_of_their_rows(double):
    case = LinearGaussian.consistent(3, 2, seed=2)
    model, exact = normal_table(case)
    rows = draws(case.marginal(), 1000)
    loss = _CrossEntropy(model, exact, 0.5)
    values = loss(rows)
    # With the exact posterior as proposal: E log p(z|x_seen) between the entropies given all
    # entries and given none.
    most = model.prior().entropy()
    least = model.encoder(rows[:1]).entropy()[0]
    error = 5 * values.std() / math.sqrt(len(values))
    assert least - error < values.mean() < most + error
    worse = _CrossEntropy(model, normal_table(case, widen=1.5)[1], 0.5)
    assert worse(rows).mean() > values.mean()


def test_wider_copies_have_the_weight_and_the_spread_that_they_say(double):
    proposal = TableProposal(Seen(), 4, torch.tensor([1.0]), torch.tensor([2.0]), 1)
    rows = torch.tensor([[0.8, math.inf]])
    with torch.no_grad():
        narrow, mixed = proposal.fitted(rows), proposal(rows)
    torch.testing.assert_close(mixed.mean, narrow.mean)
    torch.testing.assert_close(mixed.variance / narrow.variance, torch.tensor([[0.7 + 0.3 * 2.25]]))
    z = torch.linspace(-60, 60, 20_001)[:, None, None]
    with torch.no_grad():
        assert mixed.log_prob(z).exp().sum() * 0.006 == pytest.approx(1)


def test_seeds_reproduce_and_the_model_is_left_alone():
    model, train = folded()
    train[::5, 0] = math.nan
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    recipe = mm.Training(2, 500, warmup=0)
    first, again, other = (
        fit_proposal(
            model, train, features=Seen(),
            training=recipe if seed is None else mm.Training(2, 500, warmup=0, seed=seed),
        )
        for seed in (None, None, 1)
    )  # fmt: skip
    assert torch.equal(state, torch.get_rng_state())
    rows = torch.tensor([[0.8, math.inf]])
    assert torch.equal(first(rows).mean, again(rows).mean)
    assert not torch.equal(first(rows).mean, other(rows).mean)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not first.training


def test_wrong_arguments_are_named():
    model, train = folded()
    with pytest.raises(TypeError, match="features must be a module"):
        fit_proposal(model, train, features=3)
    with pytest.raises(ValueError, match="train must have 2 rows or more, got 1"):
        fit_proposal(model, train[:1], features=Seen())
    with pytest.raises(ValueError, match=r"generated must be in \[0, 1\), got 1"):
        fit_proposal(model, train, features=Seen(), generated=1)
    constant = torch.zeros(10, 2)
    model.encoder.floor = 0.0
    with pytest.raises(ValueError, match="the codes of train must vary"):
        fit_proposal(model, constant, features=Seen())
