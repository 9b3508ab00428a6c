"""The joint model: four log-probabilities at one (x, z), and errors that name the part."""

import pytest
import torch
from oracles import Discrete, LinearGaussian, Unconditional, within_standard_errors
from torch import nn
from torch.distributions import Independent
from torch.distributions import Normal as TorchNormal

import mimachine as mm
from mimachine import workflow

pytestmark = pytest.mark.usefixtures("double")


def close(actual, expected):
    # Float64 rounding of a few terms.
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def joint(oracle, data_prior="explicit"):
    encoder, decoder, prior, q_x, _ = oracle.modules()
    return mm.Joint(encoder, decoder, prior, q_x if data_prior == "explicit" else data_prior)


@pytest.mark.parametrize("num", [(2, 2), (3, 5)])
@pytest.mark.parametrize("source", ["encoding", "decoding"])
def test_log_probs_are_the_tables_of_a_discrete_model(num, source):
    oracle = Discrete.random(*num, seed=0)
    x, z = oracle.pairs()
    lp = joint(oracle).log_probs(mm.Sample(x, z, source))
    for actual, expected in zip(lp, oracle.log_tables(), strict=True):
        close(actual, expected.flatten())


@pytest.mark.parametrize("num", [(2, 2), (3, 5)])
def test_the_marginal_is_estimated_by_eq_23_on_a_discrete_model(num):
    oracle = Discrete.random(*num, seed=0)
    x, z = oracle.pairs()
    q_zx, _, p_xz, p_z = (t.flatten() for t in oracle.log_tables())
    model = joint(oracle, mm.Marginal())
    close(model.log_probs(mm.Sample(x, z, "encoding")).q_x, p_xz + p_z - q_zx)
    close(model.log_probs(mm.Sample(x, z, "decoding")).q_x, p_xz)


@pytest.mark.parametrize("num", [(2, 2), (3, 5)])
def test_importance_weights_average_to_the_marginal_of_the_decoder(num):
    oracle = Discrete.random(*num, seed=0).with_marginal()
    x, z = oracle.pairs()
    model = joint(oracle, mm.Marginal("importance"))
    for sample in (
        mm.Sample(x, z, "encoding"),
        mm.Sample(x, torch.zeros_like(z), "decoding", second_z=z),
    ):
        ratio = model.log_probs(sample).q_x.exp().reshape(oracle.q_zx.shape)
        close((oracle.q_zx * ratio).sum(1), oracle.q_x)


def test_log_probs_evaluate_everything_else_at_the_first_latent():
    oracle = Discrete.random(3, 5, seed=0)
    x, z = oracle.pairs()
    sample = mm.Sample(x, z, "decoding", second_z=z.flip(0))
    lp = joint(oracle, mm.Marginal("importance")).log_probs(sample)
    q_zx, _, p_xz, p_z = oracle.log_tables()
    close(lp.q_z_given_x, q_zx.flatten())
    close(lp.p_x_given_z, p_xz.flatten())
    close(lp.p_z, p_z.flatten())


@pytest.mark.parametrize("data_prior", ["explicit", mm.Marginal(), mm.Marginal("importance")])
@pytest.mark.parametrize("oracle", [LinearGaussian.random(3, 2, 1), Discrete.random(3, 5, 1)])
def test_a_drawn_log_probability_is_that_of_evaluation(oracle, data_prior):
    model = joint(oracle, data_prior)
    x = Unconditional(oracle.data)().sample((20,)) if hasattr(oracle, "data") else oracle.pairs()[0]
    for sample in (model.encode(x), model.decode(model.prior().sample((20,)))):
        drawn = model.log_probs(sample)
        evaluated = model.log_probs(sample._replace(log_prob=None))
        for a, b in zip(drawn, evaluated, strict=True):
            close(a, b)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 4)])
def test_drawn_samples_have_the_moments_of_the_anchored_joints(size):
    oracle = LinearGaussian.random(*size, seed=0)
    encoder, decoder, prior, q_x, anchor = oracle.modules()
    model = mm.Joint(encoder, decoder, prior, q_x)
    encoding = model.encode(Unconditional(oracle.data)().sample((20_000,)))
    decoding = model.decode(anchor().sample((20_000,)))
    for sample, expected in ((encoding, oracle.encoding), (decoding, oracle.decoding)):
        pair = torch.cat([sample.x, sample.z], 1).detach()
        within_standard_errors(pair, expected.mean)
        centred = pair - expected.mean
        within_standard_errors(centred[:, :, None] * centred[:, None, :], expected.covariance)


def test_the_second_latent_is_drawn_from_the_encoder_at_the_decoded_data():
    oracle = LinearGaussian.random(3, 2, 0)
    model = joint(oracle, mm.Marginal("importance"))
    sample = model.decode(model.prior().sample((20_000,)))
    noise = (sample.second_z - sample.x @ oracle.A.T - oracle.a).detach() / oracle.s_q
    within_standard_errors(noise, 0.0)
    within_standard_errors(noise.square(), 1.0)
    # Given x it is independent of the latent that x was decoded from.
    centred = sample.z - oracle.p_z.mean
    within_standard_errors(noise[:, :, None] * centred[:, None, :], 0.0)


@pytest.mark.parametrize("data_prior", [None, mm.Marginal(), mm.StandardNormal(2)])
def test_only_importance_sampling_draws_a_second_latent(data_prior):
    model = mm.Joint(
        mm.Gaussian(mm.MLP(2, 2)), mm.Gaussian(mm.MLP(1, 4)), mm.StandardNormal(1), data_prior
    )
    assert model.decode(torch.randn(3, 1)).second_z is None


def test_a_decoding_sample_without_a_second_latent_is_refused_where_one_is_needed():
    oracle = Discrete.random(3, 5, seed=0)
    x, z = oracle.pairs()
    with pytest.raises(ValueError, match="needs second_z"):
        joint(oracle, mm.Marginal("importance")).log_probs(mm.Sample(x, z, "decoding"))
    # A second latent changes nothing where none is needed.
    lp = joint(oracle, mm.Marginal()).log_probs(mm.Sample(x, z, "decoding", second_z=z.flip(0)))
    close(lp.q_x, lp.p_x_given_z)


def test_a_second_latent_is_scored_under_the_posterior_it_was_drawn_from():
    # With dropout every call of the encoder gives a different posterior; scoring under another
    # posterior than that of the draw gave log q(x) of +11,000 here.
    encoder = mm.Gaussian(torch.nn.Sequential(torch.nn.Dropout(0.5), mm.MLP(3, 4)), floor=0.0)
    torch.nn.init.constant_(encoder.network[1][-1].bias[2:].data, -4.6)
    model = mm.Joint(
        encoder, mm.Gaussian(mm.MLP(2, 6)), mm.StandardNormal(2), mm.Marginal("importance")
    )
    sample = model.decode(torch.randn(500, 2))
    x, z = sample.x, sample.second_z
    expected = model.decoder(z).log_prob(x) + model.prior().log_prob(z) - sample.second_log_prob
    close(model.log_probs(sample).q_x, expected)
    assert sample.second_log_prob.mean() > 4


@pytest.mark.parametrize("part", ["encoder", "decoder", "prior", "data_prior"])
def test_parts_that_cannot_be_called_are_named(part):
    parts = {
        "encoder": mm.Gaussian(mm.MLP(2, 2)),
        "decoder": mm.Gaussian(mm.MLP(1, 4)),
        "prior": mm.StandardNormal(1),
        part: torch.distributions.Normal(0.0, 1.0),
    }
    with pytest.raises(TypeError, match=f"^{part} must be callable.*got Normal"):
        mm.Joint(**parts)


def test_objectives_and_anchors_that_are_none_are_named():
    model = mm.Joint(mm.Gaussian(mm.MLP(2, 2)), mm.Gaussian(mm.MLP(1, 4)), mm.StandardNormal(1))
    with pytest.raises(TypeError, match="objective must be an Objective"):
        mm.Loss(model, "mim")
    with pytest.raises(TypeError, match=r"anchor must be callable.*got Normal"):
        mm.Loss(model, mm.MIM, torch.distributions.Normal(0.0, 1.0))


def test_the_marginal_of_the_decoder_is_the_default():
    model = mm.Joint(mm.Gaussian(mm.MLP(2, 2)), mm.Gaussian(mm.MLP(1, 4)), mm.StandardNormal(1))
    assert model.data_prior == mm.Marginal("conditional")


def test_gradients_flow_through_reparameterised_samples_of_both_halves():
    model = mm.Joint(mm.Gaussian(mm.MLP(2, 2)), mm.Gaussian(mm.MLP(1, 4)), mm.StandardNormal(1))
    for sample, part in (
        (model.encode(torch.randn(4, 2)), model.encoder),
        (model.decode(torch.randn(4, 1)), model.decoder),
    ):
        drawn = sample.z if sample.source == "encoding" else sample.x
        gradient = torch.autograd.grad(drawn.sum(), part.network[0].weight)[0]
        assert gradient.abs().sum() > 0
        assert sample.score is None


def test_scores_are_the_log_probabilities_of_what_was_not_reparameterised():
    oracle = Discrete.random(3, 5, seed=0)
    q_zx, _, p_xz, _ = oracle.log_tables()
    model = joint(oracle, mm.Marginal("importance"))
    sample = model.encode(oracle.pairs()[0])
    close(sample.score, q_zx[sample.x[:, 0], sample.z[:, 0]])
    sample = model.decode(oracle.pairs()[1])
    x, z, second = sample.x[:, 0], sample.z[:, 0], sample.second_z[:, 0]
    close(sample.score, p_xz[x, z] + q_zx[x, second])
    sample = joint(oracle).decode(oracle.pairs()[1])
    close(sample.score, p_xz[sample.x[:, 0], sample.z[:, 0]])


@pytest.mark.parametrize("data_prior", [None, mm.Marginal("importance")])
def test_a_draw_of_each_component_has_weights_that_sum_to_one(data_prior):
    encoder, decoder = (mm.MixtureDensity(mm.MLP(a, k * (1 + 2 * b)), k)
                        for a, b, k in ((3, 2, 4), (2, 3, 5)))  # fmt: skip
    model = mm.Joint(encoder, decoder, mm.StandardNormal(2), data_prior)
    x, z = torch.randn(7, 3), torch.randn(7, 2)
    encoding, decoding = model.encode(x, each_component=True), model.decode(z, each_component=True)
    size = 5 * 4 if data_prior else 5
    for sample, weights in ((encoding, (4, 7)), (decoding, (size, 7))):
        assert sample.weight.shape == weights
        close(sample.weight.sum(0), torch.ones(7))
        assert sample.score is None
        rows = weights[0] * weights[1]
        assert (sample.x.shape, sample.z.shape) == ((rows, 3), (rows, 2))
        assert [term.shape for term in model.log_probs(sample)] == [(rows,)] * 4
        evaluated = model.log_probs(sample._replace(log_prob=None, second_log_prob=None))
        for a, b in zip(model.log_probs(sample), evaluated, strict=True):
            close(a, b)
    close(encoding.x, x.repeat(4, 1))
    close(decoding.z, z.repeat(size, 1))
    assert model.encode(x).weight is None
    assert model.decode(z).weight is None


def test_a_prior_at_hand_takes_the_place_of_the_model_prior():
    oracle = Discrete.random(3, 5, seed=0)
    model, other = joint(oracle), Discrete.random(3, 5, seed=1)
    x, z = oracle.pairs()
    lp = model.log_probs(mm.Sample(x, z, "encoding"), prior=joint(other).prior())
    close(lp.p_z, other.log_tables()[3].flatten())
    close(lp.p_x_given_z, oracle.log_tables()[2].flatten())


def test_scaled_multiplies_the_named_terms_alone():
    lp = mm.LogProbs(*torch.randn(4, 5))
    scaled = lp.scaled(0.3, ("q_x", "p_z"))
    close(torch.stack(scaled), torch.stack(lp) * torch.tensor([1, 0.3, 1, 0.3])[:, None])
    assert lp.scaled(0.3, ()) == lp


class Wrong(nn.Module):
    """A distribution of some batch and event shape, whatever the condition."""

    def __init__(self, batch, event):
        super().__init__()
        self.batch, self.event = batch, event

    def forward(self, condition=None):
        shape = self.batch + self.event
        return Independent(TorchNormal(torch.zeros(shape), torch.ones(shape)), len(self.event))


def parts(**replaced):
    return {
        "encoder": Wrong((4,), (2,)),
        "decoder": Wrong((4,), (3,)),
        "prior": Wrong((), (2,)),
        "data_prior": Wrong((), (3,)),
        **replaced,
    }


def use(parts):
    model = mm.Joint(**parts)
    encoding, decoding = model.encode(torch.zeros(4, 3)), model.decode(torch.zeros(4, 2))
    return model.log_probs(encoding), model.log_probs(decoding)


def test_parts_of_matching_shapes_give_one_log_probability_for_each_row():
    for lp in use(parts()):
        assert [term.shape for term in lp] == [(4,)] * 4


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_conditional_without_an_event_is_named_with_its_shapes(part):
    size = 2 if part == "encoder" else 3
    with pytest.raises(ValueError, match=rf"{part} .*\(4,\).*\(4, {size}\).*Independent"):
        use(parts(**{part: Wrong((4, size), ())}))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("batch", [(), (1,), (5,), (4, 4)])
def test_a_conditional_of_another_batch_shape_is_named(part, batch):
    size = 2 if part == "encoder" else 3
    with pytest.raises(ValueError, match=f"^{part} "):
        use(parts(**{part: Wrong(batch, (size,))}))


@pytest.mark.parametrize("batch", [(), (1,), (4, 4)])
def test_a_decoder_of_another_batch_shape_is_named_on_encoding_samples(batch):
    # Objectives without decoding samples never draw from the decoder.
    model = mm.Joint(**parts(decoder=Wrong(batch, (3,))))
    with pytest.raises(ValueError, match=r"^decoder "):
        model.log_probs(model.encode(torch.zeros(4, 3)))


@pytest.mark.parametrize("part", ["prior", "data_prior"])
@pytest.mark.parametrize("batch", [(4,), (4, 1)])
def test_a_prior_with_a_batch_is_named(part, batch):
    # A batch of the size of the data would pair unrelated rows.
    size = 2 if part == "prior" else 3
    with pytest.raises(ValueError, match=f"^{part} "):
        use(parts(**{part: Wrong(batch, (size,))}))


@pytest.mark.parametrize("part", ["prior", "data_prior"])
def test_a_prior_without_an_event_is_named(part):
    size = 2 if part == "prior" else 3
    with pytest.raises(ValueError, match=rf"^{part} .*\(\).*\({size},\)"):
        use(parts(**{part: Wrong((size,), ())}))


@pytest.mark.parametrize(
    ("part", "size"), [("prior", 2), ("data_prior", 3), ("decoder", 3), ("encoder", 2)]
)
def test_a_part_with_events_of_another_size_is_named(part, size):
    batch = () if part.endswith("prior") else (4,)
    model = mm.Joint(**parts(**{part: Wrong(batch, (7,))}))
    source = "decoding" if part == "encoder" else "encoding"
    sample = mm.Sample(torch.zeros(4, 3), torch.zeros(4, 2), source)
    with pytest.raises(ValueError, match=rf"^{part} .*\(7,\).*\({size},\)"):
        model.log_probs(sample)


USES = {
    "codes": lambda m, x: mm.codes(m, x),
    "reencode": lambda m, x: mm.reencode(m, x),
    "log_likelihood": lambda m, x: mm.log_likelihood(m, x, 2),
    "mean_log_likelihood": lambda m, x: mm.mean_log_likelihood(m, x, 100),
    "quadrature": lambda m, x: mm.quadrature_log_likelihood(m, x),
    "annealed": lambda m, x: mm.annealed_log_likelihood(m, x),
    "bidirectional": lambda m, x: mm.bidirectional_check(m),
    "decompose": lambda m, x: mm.decompose(m, x),
    "refit_prior": lambda m, x: mm.refit_prior(m, x),
    "refit_proposal": lambda m, x: mm.refit_proposal(m, x),
    "proposal": lambda m, x: mm.DefensiveProposal(m),
    "flattened": lambda m, x: mm.flattened(m, (1, 1, 3)),
    "evaluate": lambda m, x: mm.evaluate(m, None),
    "loss": lambda m, x: mm.Loss(m, mm.MIM),
    "sample": lambda m, x: workflow.sample(m, 2),
    "reconstruct": lambda m, x: workflow.reconstruct(m, x),
}


@pytest.mark.parametrize("use", USES)
def test_what_is_not_a_model_is_named_and_a_model_within_is_suggested(use):
    x, loss = torch.zeros(4, 3), mm.Loss(mm.Joint(**parts()), mm.MIM)
    with pytest.raises(
        ValueError, match=r"^model must be a Joint, got a Loss; give .*model\.model$"
    ):
        USES[use](loss, x)
    for other in (None, loss.model.encoder, "run"):
        with pytest.raises(
            ValueError, match=rf"^model must be a Joint, got a {type(other).__name__}"
        ):
            USES[use](other, x)
    with pytest.raises(ValueError, match=r"^after must be a Joint, got a Loss"):
        mm.compare_priors(loss.model, loss, x)
    with pytest.raises(ValueError, match=r"^model must be a Joint, got a NoneType"):
        mm.information_bounds(None, x)
