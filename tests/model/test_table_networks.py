"""Encoder features and decoder of tables: what they start from, and that they train and learn."""

import copy
import pickle

import pytest
import torch
from oracles import within_standard_errors
from tablemodels import INF, MIXED, NAN, distribution, model, spread
from torch import nn

import mimachine as mm
from mimachine.model.objectives import OBJECTIVES

RECIPE = mm.Training(epochs=2, batch_size=16, warmup=0)


def drawn(count=50, seed=0):
    """Rows with missing and hidden values, in single precision."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        x = distribution(MIXED).sample((count,)).float()
        return x.masked_fill(torch.rand_like(x) < 0.1, INF)


# --- features ------------------------------------------------------------------------------------


def test_features_are_scores_levels_and_flags():
    columns = [
        mm.Choice((1, 1, 1)),
        mm.Grid(edges=(-0.5, 0.5, 2.5), scores=(-1.0, 1.0, 2.0)),
        mm.Choice((1, 1), parent=0),
    ]
    rows = torch.tensor([[2, 1, 0], [NAN, 100, INF], [0, INF, NAN], [0, -100, 1]])
    expected = [
        # The score; levels of the first and of the last column; flags.
        [1.25, 0, 0, 1, 1, 0, 1, 1, 1],
        [6, 0, 0, 0, 0, 0, 0, 1, 0],
        [0, 1, 0, 0, 0, 0, 1, 0, 0],
        [-6, 1, 0, 0, 0, 1, 1, 1, 1],
    ]
    features = mm.TableFeatures(columns)(rows)
    assert torch.equal(features, torch.tensor(expected))
    assert features.shape[1] == mm.TableFeatures.num_features(columns)


def test_features_of_training_rows_are_about_standard_normal():
    features = mm.TableFeatures([mm.Grid(**spread(0, 999))])
    steps = torch.arange(1000.0)[:, None]
    # The map of these tests puts a share p at the normal score of p^1.3.
    expected = torch.special.ndtri(((steps.double() + 1) / 1001) ** 1.3)
    found = features(steps)[:, :1].double()
    torch.testing.assert_close(found[10:-10], expected[10:-10], rtol=0, atol=5e-3)


def test_missing_and_hidden_values_have_the_same_features():
    x = drawn()
    features = mm.TableFeatures(MIXED)
    assert torch.equal(features(x), features(torch.where(x.isfinite(), x, NAN)))
    assert features(x).isfinite().all()


# --- start ---------------------------------------------------------------------------------------


class Silent(nn.Module):
    """A network whose outputs are all 0."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, z):
        return z.new_zeros(len(z), self.outputs)


def hiding(hide=0.5, columns=60, rows=20_000):
    """Which values of rows of flags are hidden in training, shape (rows, columns)."""
    features = mm.TableFeatures([mm.Choice((0.5, 0.5))] * columns, hide)
    assert (features.eval()(torch.ones(3, columns))[:, -columns:] == 1).all()
    return (features.train()(torch.ones(rows, columns))[:, -columns:] == 0).double()


def test_half_of_the_rows_hide_a_share_that_is_uniform_up_to_a_half():
    share = hiding(columns=200).mean(1)
    within_standard_errors(share, 1 / 8)
    # A uniform share s gives the moments E[s] = 1/4 and E[s²] = 1/12, and a binomial adds
    # E[s (1 - s)] / 200.
    within_standard_errors(share.square(), (1 / 12 + (1 / 4 - 1 / 12) / 200) / 2)
    within_standard_errors((share > 0.25).double(), 1 / 4, errors=12)


def test_values_are_hidden_independently_between_rows_and_given_the_share_between_columns():
    hidden = hiding()
    within_standard_errors(hidden[1:, 0] * hidden[:-1, 0], 1 / 64)
    within_standard_errors(hidden[:, 0] * hidden[:, 1], 1 / 24)


def test_nothing_is_hidden_by_default():
    assert not hiding(0.0).any()
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match="hide"):
            mm.TableFeatures(MIXED, wrong)


def test_the_decoder_learns_from_hidden_values():
    torch.manual_seed(0)
    joint = model(MIXED)
    rows = drawn()
    whole = mm.Loss(joint, mm.AUTO_ENCODER).train()(rows).mean()
    joint.encoder.network[0].hide = 1.0
    some = torch.stack([mm.Loss(joint, mm.AUTO_ENCODER).train()(rows).mean() for _ in range(9)])
    # The loss is that of all known values, from codes that differ.
    assert (some != whole).all()
    assert 0.5 < float((some.mean() / whole).detach()) < 2


def silent(columns):
    return mm.TableDecoder(columns, Silent(mm.TableDecoder.num_outputs(columns)))


def test_a_decoder_starts_at_the_shares_of_the_columns():
    rows = silent(MIXED).requires_grad_(False)(torch.zeros(1, 3))
    torch.testing.assert_close(rows.probabilities(0)[0], torch.tensor([0.5, 0.3, 0.2]))
    torch.testing.assert_close(rows.probabilities(4)[0], torch.full((7,), 1 / 7))
    holes = rows.log_prob(torch.tensor([NAN, INF, INF, INF, INF, INF])).exp()
    torch.testing.assert_close(holes, torch.tensor([0.1]))
    # Of the parent's levels 0 and 1 all counts have one level; of 2, half.
    for level, share in ((0, 1.0), (1, 0.0), (2, 0.5)):
        x = torch.tensor([float(level), INF, INF, INF, INF, INF])
        found = float(rows.probabilities(2, x)[0, 0])
        assert found == pytest.approx(share, abs=0.01)
        assert 0 < found < 1
    marginal = 0.5 * 1.0 + 0.3 * 0.0 + 0.2 * 0.5
    assert float(rows.probabilities(2)[0, 0]) == pytest.approx(marginal, abs=0.01)


def test_a_decoder_starts_at_the_normal_scores_of_the_grids():
    grid = mm.Grid(**spread(-200, 200))
    rows = silent([grid]).requires_grad_(False)(torch.zeros(1, 3))
    values = torch.arange(-198.0, 199.0)[:, None, None]
    found = rows.log_prob(values).double().exp().squeeze()
    scores = torch.tensor(grid.scores[2:-2]).double()
    mass = torch.special.ndtr(scores).diff()
    # The divergence of the start from the column's own shares is a few thousandths of a nat.
    assert 0 < float((mass * (mass / found).log()).sum()) < 5e-3


def test_shares_of_zero_and_one_start_finite():
    columns = [mm.Choice((5, 0), holes=1.0), mm.Choice((1, 0), parent=0, table=((0, 0, 9),))]
    rows = silent(columns)(torch.zeros(1, 3))
    for x in ([0, 0], [1, 1], [NAN, 1], [INF, 0]):
        assert rows.log_prob(torch.tensor(x, dtype=torch.float32)).isfinite()


# --- as parts of a model -------------------------------------------------------------------------


class Known(nn.Module):
    """P(x), a distribution of rows without condition."""

    def __init__(self, columns):
        super().__init__()
        self.rows = distribution(columns)

    def forward(self):
        return self.rows


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "mim-of-means"])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_every_objective_has_finite_losses_and_gradients(name, beta):
    loss = mm.Loss(model(MIXED), OBJECTIVES[name], mm.StandardNormal(3), data_anchor=Known(MIXED))
    value = loss(drawn(), beta)
    assert value.shape == (50,)
    assert value.isfinite().all()
    value.mean().backward()
    gradients = {name: each.grad for name, each in loss.named_parameters()}
    assert all(each is None or each.isfinite().all() for each in gradients.values())
    assert any(each is not None and each.abs().max() > 0 for each in gradients.values())
    assert gradients["model.decoder.tables"] is not None


def test_objectives_of_means_say_that_there_is_none():
    with pytest.raises(TypeError, match="decoder must give a distribution with a mean"):
        mm.Loss(model(MIXED), mm.MIM_OF_MEANS)(drawn())


@pytest.mark.parametrize("name", ["a-mim", "a-mim-one-sample", "vae"])
def test_the_loss_of_a_row_is_a_sum_over_its_known_values(name):
    torch.manual_seed(3)
    joint, x = model(MIXED), drawn()
    sample = joint.encode(x)
    log_q = joint.encoder(x).log_prob(sample.z)
    log_p = joint.prior().log_prob(sample.z)
    rows = joint.decoder(sample.z)
    holed = torch.zeros(6, dtype=torch.bool)
    holed[[0, 1, 4]] = True
    signs = torch.where(x.isnan(), 1.0, -1.0)
    holes = rows.parameters[:, -3:]
    of_holes = nn.functional.logsigmoid(signs[:, holed] * holes)
    seen = x.isfinite()
    each = torch.stack([rows.log_probs(torch.where(seen, x, INF))[:, d] for d in range(6)], 1)
    reconstruction = (seen * each).sum(1) + (~x.isinf()[:, holed] * of_holes).sum(1)
    expected = {
        "a-mim": -(reconstruction + log_p),
        "a-mim-one-sample": -(reconstruction + 0.5 * (log_q + log_p)),
        "vae": -(reconstruction + log_p - log_q),
    }
    found = OBJECTIVES[name](joint.log_probs(sample))
    torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-4)


def test_importance_sampling_and_quadrature_agree_on_rows_with_holes():
    torch.manual_seed(0)
    joint, x = model(MIXED, latents=1, floor=0.5), drawn(10)
    exact = mm.quadrature_log_likelihood(joint, x, tolerance=1e-4).values
    proposal = mm.DefensiveProposal(joint)
    sampled = mm.log_likelihood(joint, x, 20_000, proposal=proposal)
    gap = (sampled.values.double() - exact.double()).abs()
    assert (gap < 6 * sampled.standard_errors + 1e-3).all()
    assert (exact < 0).all()


def test_a_model_of_a_table_survives_copies_and_its_weights_another_model():
    first, second = model(MIXED), model(MIXED)
    x = drawn()
    z = torch.randn(50, 3)
    expected = first.decoder(z).log_prob(x)
    for other in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(other.decoder(z).log_prob(x), expected)
    assert not torch.equal(second.decoder(z).log_prob(x), expected)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.decoder(z).log_prob(x), expected)


def test_tensors_made_in_inference_mode_can_be_trained_with():
    joint = model(MIXED)
    with torch.inference_mode():
        joint.decoder(torch.zeros(50, 3)).log_prob(drawn())
    mm.Loss(joint, mm.MIM)(drawn()).mean().backward()


def test_an_ensemble_has_the_losses_of_its_members():
    torch.manual_seed(0)
    losses = [mm.Loss(model(MIXED), mm.A_MIM) for _ in range(3)]
    for loss in losses:  # Without noise of the encoder the losses have one value.
        loss.model.encoder = mm.Gaussian(mm.TableFeatures(MIXED), scale=1e-6)
        outputs = mm.TableDecoder.num_outputs(MIXED)
        features = mm.TableFeatures.num_features(MIXED)
        loss.model.decoder = mm.TableDecoder(MIXED, mm.MLP(features, outputs, (10,)))
        loss.model.prior = mm.StandardNormal(features)
    x = torch.stack([drawn(seed=seed) for seed in range(3)])
    found = mm.Ensemble(losses)(x)
    expected = torch.stack([loss(rows) for loss, rows in zip(losses, x, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)
    sampling = mm.Ensemble([mm.Loss(model(MIXED), mm.MIM) for _ in range(2)])
    assert sampling(x[:2]).isfinite().all()


def test_a_loss_compiles_as_one_graph():
    loss = mm.Loss(model(MIXED), mm.A_MIM)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    assert compiled(drawn()).isfinite().all()


def test_parts_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"network must give 42 outputs .* got shape \(5, 41\)"):
        mm.TableDecoder(MIXED, mm.MLP(3, 41))(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="floor must be positive and finite, got 0"):
        mm.TableDecoder(MIXED, mm.MLP(3, 42), floor=0)
    with pytest.raises(TypeError, match="network must be callable"):
        mm.TableDecoder(MIXED, 42)
    joint = model(MIXED)
    with pytest.raises(ValueError, match=r"rows must have 6 values per row, .* got 5"):
        mm.Loss(joint, mm.MIM)(torch.zeros(4, 5))
    outputs = mm.TableDecoder.num_outputs(MIXED)
    narrow = mm.TableDecoder(MIXED, mm.MLP(2, outputs))
    with pytest.raises(ValueError, match="z must have 2 latents, as the decoder takes, got 3"):
        mm.Loss(mm.Joint(joint.encoder, narrow, joint.prior), mm.A_MIM)(drawn())
    fewer = MIXED[:5]
    decoder = mm.TableDecoder(fewer, mm.MLP(3, mm.TableDecoder.num_outputs(fewer)))
    with pytest.raises(ValueError, match=r"decoder gives events of shape \(5,\)"):
        mm.Loss(mm.Joint(joint.encoder, decoder, joint.prior), mm.A_MIM)(drawn())


# --- learning ------------------------------------------------------------------------------------


def customers(count, seed):
    """Age, income that grows with it, a city, its region, and orders; some values missing."""
    source = torch.Generator().manual_seed(seed)
    kind = torch.randint(3, (count,), generator=source)
    age = (20 + 15 * kind + 8 * torch.randn(count, generator=source)).round()
    income = (1000 + 60 * age + 200 * torch.randn(count, generator=source)).round()
    city = (2 * kind + torch.randint(2, (count,), generator=source)).float()
    region = (city / 2).floor()
    orders = torch.poisson(torch.tensor([0.5, 2.0, 6.0])[kind], generator=source)
    rows = torch.stack([age, income, city, region, orders], 1)
    holes = torch.rand(count, generator=source) < 0.2
    rows[holes, 1] = NAN
    return rows


def columns_of(rows):
    def grid(column, **options):
        known = rows[:, column][rows[:, column].isfinite()].sort().values.double()
        edges = torch.quantile(known, torch.linspace(0, 1, 20).double()).floor().unique()
        # The outermost segments are wide, since their slopes go on beyond the training rows.
        edges = torch.cat([edges[:-1] - 0.5, edges[-1:] + 0.5])
        below = (known[:, None] < edges).double().mean(0)
        scores = torch.special.ndtri((below * len(known) + 0.5) / (len(known) + 1))
        return mm.Grid(tuple(edges.tolist()), tuple(scores.tolist()), **options)

    city, region = rows[:, 2].long(), rows[:, 3].long()
    counts = torch.zeros(6, 3).index_put((city, region), torch.ones(len(rows)), accumulate=True)
    table = tuple((i, j, int(counts[i, j])) for i in range(6) for j in range(3) if counts[i, j])
    return [
        grid(0),
        grid(1, holes=float(rows[:, 1].isnan().double().mean())),
        mm.Choice(tuple(counts.sum(1).tolist())),
        mm.Choice(tuple(counts.sum(0).tolist()), parent=2, table=table),
        grid(4, low=0),
    ]


def test_a_mim_learns_a_table_with_holes_and_generates_rows_like_it():
    train, val, test = (customers(count, seed) for seed, count in enumerate((600, 300, 300)))
    columns = columns_of(train)
    torch.manual_seed(0)
    joint = model(columns, latents=4, hidden=(60,))
    recipe = mm.Training(epochs=30, batch_size=50, learning_rate=5e-3, warmup=0)
    mm.fit(mm.Loss(joint, mm.A_MIM), train, val, recipe)
    refitted = mm.refit_prior(joint, train, val)

    hidden = torch.where(test.isnan(), INF, test)
    nats = -mm.log_likelihood(refitted, hidden, 500).values.double()
    independent = -silent(columns)(torch.zeros(1, 4)).log_probs(hidden).sum(-1).detach().double()
    gain = independent - nats
    # City and orders tell the kind, and age tells the income: a nat or more for a row.
    assert gain.mean() > 1 + 5 * gain.std() / len(gain) ** 0.5

    rows = refitted.decoder(refitted.prior().sample((2_000,))).sample()
    within_standard_errors(rows[:, 1].isnan().double(), 0.2, errors=8)
    known = rows[rows.isfinite().all(1)].double()
    correlation = torch.corrcoef(known[:, :2].T)[0, 1]
    exact = torch.corrcoef(train[train.isfinite().all(1)][:, :2].double().T)[0, 1]
    assert exact > 0.95
    assert correlation > 0.85
    contradictions = (known[:, 3] != (known[:, 2] / 2).floor()).double().mean()
    assert contradictions < 0.01
    # Cities are of a kind of customers, so one orders more than another.
    few, many = (known[known[:, 3] == region, 4].mean() for region in (0, 2))
    assert many > 2 * few
