"""Terms of the MIM loss against closed forms and sums; errors that are as large as they say."""

import json
import math

import pytest
import torch
from oracles import (
    Discrete,
    LinearGaussian,
    Normal,
    Unconditional,
    UnconditionalTable,
    discrete,
    entropy,
    gaussian,
    gaussian_cross_entropy,
    gaussian_entropy,
    gaussian_kl,
    kl,
)
from torch import nn

import mimachine as mm
from mimachine.estimation.decomposition import Decomposition, _jensen_shannon

pytestmark = pytest.mark.usefixtures("double")

TERMS = [
    field
    for field in Decomposition.__dataclass_fields__
    if field not in ("num_data", "num_samples", "notes")
]


def data_of(oracle):
    """P(x), as a distribution."""
    known = isinstance(oracle, Discrete)
    return UnconditionalTable(oracle.P_x)() if known else Unconditional(oracle.data)()


def joint(oracle, data_prior="explicit"):
    encoder, decoder, prior, q_x, _ = oracle.modules()
    return mm.Joint(encoder, decoder, prior, q_x if data_prior == "explicit" else data_prior)


def decomposed(oracle, num_data=4000, data_prior="explicit", **options):
    data, anchor = data_of(oracle), oracle.modules()[4]
    options = {"anchor": anchor, "data_distribution": data, "num_samples": 2, **options}
    return mm.decompose(joint(oracle, data_prior), data.sample((num_data,)), **options)


def expected_of_discrete(oracle):
    o = oracle
    log = {name: getattr(o, name).log() for name in ("q_zx", "p_xz", "q", "p", "q_x", "p_z")}
    return {
        "loss": o.r_h()
        + (kl(o.P_z, o.p_z) + kl(o.P_x, o.q_x) + kl(o.encoding, o.p) + kl(o.decoding, o.q)) / 4,
        "cross_entropy": kl(o.M_S, o.M_theta) + entropy(o.M_S),
        "regulariser": o.r_mim(),
        "entropy": o.r_h(),
        "kl_prior": kl(o.P_z, o.p_z),
        "kl_data_prior": kl(o.P_x, o.q_x),
        "kl_encoding": kl(o.encoding, o.p),
        "kl_decoding": kl(o.decoding, o.q),
        "jensen_shannon": o.jsd(),
        "kl_model": kl(o.M_S, o.M_theta),
        "sample_entropy": entropy(o.M_S),
        "anchor_entropy": entropy(o.P_z),
        "data_entropy": entropy(o.P_x),
        "conditional_entropy": o.r_h() - (entropy(o.P_z) + entropy(o.P_x)) / 2,
        "prior_cross_entropy": -(o.P_z * log["p_z"]).sum(),
        "data_prior_cross_entropy": -(o.P_x * log["q_x"]).sum(),
        "vae_loss": (o.encoding * (log["q_zx"] - log["p"])).sum(),
        "mirrored_vae_loss": (o.decoding * (log["p_xz"].T - log["q"])).sum(),
        "encoding_log_ratio": (o.encoding * (log["q"] - log["p"])).sum(),
        "decoding_log_ratio": (o.decoding * (log["p"] - log["q"])).sum(),
    }


def expected_of_gaussian(oracle):
    """All that has a closed form: what has the logarithm of a mixture in it has none."""
    o = oracle
    to_q = [gaussian_cross_entropy(joint, o.q) for joint in (o.encoding, o.decoding)]
    to_p = [gaussian_cross_entropy(joint, o.p) for joint in (o.encoding, o.decoding)]
    encoding, decoding = gaussian_entropy(o.encoding), gaussian_entropy(o.decoding)
    data, anchor = gaussian_entropy(o.data), gaussian_entropy(o.anchor)
    return {
        "loss": sum(to_q + to_p) / 4,
        "entropy": (encoding + decoding) / 2,
        "kl_prior": gaussian_kl(o.anchor, o.p_z),
        "kl_data_prior": gaussian_kl(o.data, o.q_x),
        "kl_encoding": gaussian_kl(o.encoding, o.p),
        "kl_decoding": gaussian_kl(o.decoding, o.q),
        "anchor_entropy": anchor,
        "data_entropy": data,
        "conditional_entropy": (encoding - data + decoding - anchor) / 2,
        "prior_cross_entropy": gaussian_cross_entropy(o.anchor, o.p_z),
        "data_prior_cross_entropy": gaussian_cross_entropy(o.data, o.q_x),
        "vae_loss": o.vae_loss(),
        "mirrored_vae_loss": to_q[1] - (decoding - anchor),
        "encoding_log_ratio": to_p[0] - to_q[0],
        "decoding_log_ratio": to_q[1] - to_p[1],
    }


def expected_by_quadrature(oracle, reach=25.0, points=1000):
    """What has the logarithm of a mixture in it, summed over a grid in the plane."""
    axis = torch.linspace(-reach, reach, points)
    grid = torch.cartesian_prod(axis, axis)
    joints = (oracle.encoding, oracle.decoding, oracle.q, oracle.p)
    e, d, q, p = (normal.log_prob(grid) for normal in joints)
    area = float((axis[1] - axis[0]) ** 2)
    sampled = torch.logaddexp(e, d) - math.log(2)
    model = torch.logaddexp(q, p) - math.log(2)
    mass = sampled.exp() * area
    # The trapezoidal rule on smooth densities that vanish at the edge.
    assert float(mass.sum()) == pytest.approx(1, abs=1e-9)
    return {
        "cross_entropy": -(mass * model).sum(),
        "regulariser": (mass * (model - q / 2 - p / 2)).sum(),
        "sample_entropy": -(mass * sampled).sum(),
        "kl_model": (mass * (sampled - model)).sum(),
        "jensen_shannon": ((e.exp() * (e - sampled) + d.exp() * (d - sampled)) * area).sum() / 2,
    }


def agree(result, expected, errors=5.0):
    for name, value in expected.items():
        estimate = getattr(result, name)
        gap = abs(estimate.value - float(value))
        # Compare constants up to rounding.
        assert gap <= errors * estimate.standard_error + 1e-9, f"{name}: {estimate}, not {value}"


# Values


@discrete
def test_every_term_is_that_of_the_tables(oracle):
    expected = expected_of_discrete(oracle)
    assert set(expected) == set(TERMS)
    agree(decomposed(oracle), expected)


@gaussian
def test_every_term_with_a_closed_form_is_that_of_the_densities(oracle):
    agree(decomposed(oracle), expected_of_gaussian(oracle))


@pytest.mark.parametrize("seed", range(3))
def test_terms_with_a_mixture_are_those_of_quadrature(seed):
    oracle = LinearGaussian.random(1, 1, seed)
    expected = expected_by_quadrature(oracle)
    result = decomposed(oracle)
    agree(result, expected)
    assert set(expected) | set(expected_of_gaussian(oracle)) == set(TERMS)


@pytest.mark.parametrize(
    "oracle", [Discrete.random(3, 5, 1), LinearGaussian.random(2, 2, 5)], ids=["3x5", "2-2"]
)
def test_errors_are_as_large_as_the_scatter_over_new_data_and_noise(oracle):
    repeats = 200
    expected = (
        expected_of_discrete(oracle)
        if isinstance(oracle, Discrete)
        else expected_of_gaussian(oracle)
    )
    scores = {name: [] for name in expected}
    for seed in range(repeats):
        # Several latents of one row are not independent rows and must not count as such.
        result = decomposed(oracle, num_data=150, num_samples=3, seed=seed)
        for name, value in expected.items():
            estimate = getattr(result, name)
            scores[name].append((estimate.value - float(value)) / estimate.standard_error)
    for name, values in scores.items():
        score = torch.tensor(values)
        covered = int((score.abs() < 1.96).sum())
        # 190 of 200 are expected, with a standard deviation of 3.1.
        assert covered > 190 - 5 * 3.1, f"{name}: {covered} of {repeats} intervals cover"
        # The mean of 200 squares of normal scores is 1 with a standard deviation of √(2/200).
        assert abs(float(score.square().mean()) - 1) < 5 * math.sqrt(2 / repeats), name


# Identities among the estimates of one call


def network():
    return mm.Joint(
        mm.Gaussian(mm.MLP(3, 4, (8,))),
        mm.Gaussian(mm.MLP(2, 6, (8,))),
        mm.GaussianMixture(2, 3),
        mm.GaussianMixture(3, 4),
    )


def same(actual, expected, tolerance=1e-12):
    assert actual == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_data", [1, 7, 300])
def test_identities_hold_on_the_samples_themselves(precision, num_data):
    model = network().to(precision)
    data, anchor = mm.GaussianMixture(3, 2).to(precision)(), mm.StandardNormal(2).to(precision)
    x = data.sample((num_data,))
    r = mm.decompose(model, x, anchor=anchor, data_distribution=data, chunk_size=100)
    v = {name: getattr(r, name).value for name in TERMS}
    assert list(r.shares()) == [
        "entropy",
        "kl_prior",
        "kl_data_prior",
        "kl_encoding",
        "kl_decoding",
    ]
    same(sum(r.shares().values()), v["loss"])
    same(v["cross_entropy"] + v["regulariser"], v["loss"])
    same(v["entropy"] + v["jensen_shannon"] + v["kl_model"] + v["regulariser"], v["loss"])
    same(v["entropy"] + v["jensen_shannon"], v["sample_entropy"])
    same(v["sample_entropy"] + v["kl_model"], v["cross_entropy"])
    same(v["kl_encoding"] - v["kl_data_prior"], v["encoding_log_ratio"])
    same(v["kl_decoding"] - v["kl_prior"], v["decoding_log_ratio"])
    same(v["vae_loss"] - v["data_entropy"], v["kl_encoding"])
    same(v["mirrored_vae_loss"] - v["anchor_entropy"], v["kl_decoding"])
    anchors = v["data_entropy"] + v["anchor_entropy"]
    same(v["conditional_entropy"] + anchors / 2, v["entropy"])


def test_without_the_anchors_densities_the_terms_that_are_left_make_up_the_same_loss():
    oracle = LinearGaussian.random(3, 2, 1)
    full = decomposed(oracle, 500)
    # The noise is the same, because densities draw none.
    torch.manual_seed(0)
    x = data_of(oracle).sample((500,))
    model, anchor = joint(oracle), oracle.modules()[4]

    class OnlySampled(nn.Module):
        def sample(self, shape):
            return anchor().sample(shape)

        def forward(self):
            return self

    known = mm.decompose(model, x, anchor=anchor, data_distribution=data_of(oracle))
    left = mm.decompose(model, x, anchor=OnlySampled())
    none = {name for name in TERMS if getattr(left, name) is None}
    assert none == {
        "data_entropy", "anchor_entropy", "entropy", "kl_prior", "kl_data_prior", "kl_encoding",
        "kl_decoding", "jensen_shannon", "sample_entropy", "kl_model",
    }  # fmt: skip
    for name in set(TERMS) - none:
        assert getattr(left, name) == getattr(known, name)
    same(sum(left.shares().values()), known.loss.value)
    assert [note[:4] for note in left.notes] == ["P(x)", "P(z)"]
    assert "unknown" in str(left)
    assert not full.notes
    assert "unknown" not in str(full)


def test_with_sampled_data_alone_what_needs_only_the_anchor_is_given():
    oracle = Discrete.random(3, 5, 1)
    result = decomposed(oracle, data_distribution=None)
    expected = expected_of_discrete(oracle)
    none = {name for name in TERMS if getattr(result, name) is None}
    assert none == {
        "data_entropy", "entropy", "kl_data_prior", "kl_encoding", "jensen_shannon",
        "sample_entropy", "kl_model",
    }  # fmt: skip
    agree(result, {name: expected[name] for name in set(TERMS) - none})
    assert len(result.notes) == 1


def test_the_model_prior_is_its_own_anchor():
    oracle = LinearGaussian.random(3, 2, 1)
    result = decomposed(oracle, anchor=None)
    assert result.kl_prior == mm.Estimate(0.0, 0.0)
    agree(result, {"anchor_entropy": gaussian_entropy(oracle.p_z)})
    agree(result, {"kl_decoding": gaussian_kl(oracle.p, oracle.q)})


@pytest.mark.parametrize(
    "oracle", [LinearGaussian.consistent(3, 2, 1), Discrete.consistent(3, 4, 0)], ids=["3-2", "3x4"]
)
def test_a_consistent_model_has_no_divergence_at_any_sample(oracle):
    result = decomposed(oracle, 500)
    zero = [name for name in TERMS if name.startswith("kl_") or name.endswith("log_ratio")]
    for name in [*zero, "regulariser", "jensen_shannon"]:
        estimate = getattr(result, name)
        assert abs(estimate.value) < 1e-12
        assert estimate.standard_error < 1e-12
    same(result.loss.value, result.cross_entropy.value)
    assert result.regulariser.value >= 0


def test_the_regulariser_is_finite_where_the_factorisations_are_far_apart():
    oracle = LinearGaussian.random(2, 2, 0)
    model = joint(oracle)
    model.data_prior.loc = oracle.q_x.mean + 1e4
    result = mm.decompose(model, data_of(oracle).sample((50,)))
    # Log cosh of half a ratio of -1e8 nats is half its size, less log 2.
    ratio = (result.decoding_log_ratio.value - result.encoding_log_ratio.value) / 2
    same(result.regulariser.value, ratio / 2 - math.log(2), 1e-6)


# The marginal of the decoder as q(x)


def test_with_the_marginal_the_loss_is_that_of_algorithm_2_and_terms_with_q_x_are_not_given():
    oracle = LinearGaussian.consistent(3, 2, 1)
    result = decomposed(oracle, data_prior=mm.Marginal())
    entropy = gaussian_entropy(oracle.p)
    # The decoding half is I/2 too low, so their mean is I/4 too low.
    information = oracle.mutual_information(oracle.p)
    agree(
        result,
        {
            "loss": entropy - information / 4,
            "entropy": entropy,
            "sample_entropy": entropy,
            "jensen_shannon": 0.0,
            "kl_encoding": 0.0,
            "kl_prior": 0.0,
            "vae_loss": oracle.vae_loss(),
        },
    )
    none = {name for name in TERMS if getattr(result, name) is None}
    assert none == {
        "cross_entropy", "regulariser", "data_prior_cross_entropy", "mirrored_vae_loss",
        "encoding_log_ratio", "decoding_log_ratio", "kl_data_prior", "kl_decoding", "kl_model",
    }  # fmt: skip
    (note,) = result.notes
    assert "marginal" in note
    with pytest.raises(ValueError, match="explicit data prior"):
        result.shares()


def test_the_marginal_by_importance_sampling_works_too():
    oracle = LinearGaussian.consistent(3, 2, 1)
    result = decomposed(oracle, data_prior=mm.Marginal("importance"))
    # The exact posterior as encoder gives log q(x) without error, so the loss is the entropy.
    agree(result, {"loss": gaussian_entropy(oracle.p)})
    assert result.regulariser is None


# How it is done


def test_the_error_of_a_divergence_near_its_most_covers():
    """Of two uniform distributions that share a 200th the divergence is log 2 times the rest."""
    share, count, held = 1 / 200, 500, []
    for _ in range(400):
        parts = [0.5 * math.log(2) * (torch.rand(count) > share) for _ in range(2)]
        found = _jensen_shannon(*parts)
        offset = abs(found.value - (1 - share) * math.log(2))
        held.append(offset < 1.96 * found.standard_error)
    # Of all terms at their most the scatter is 0, and without more rows that holds nothing.
    assert 0.93 < sum(held) / len(held) < 0.995


def test_the_loss_is_that_of_training():
    oracle = Discrete.random(3, 5, 1)
    model, anchor = joint(oracle), oracle.modules()[4]
    x = data_of(oracle).sample((4000,))
    trained = mm.Estimate.mean_of(mm.Loss(model, mm.MIM, anchor)(x).detach())
    result = mm.decompose(model, x, anchor=anchor, num_samples=1)
    error = math.hypot(trained.standard_error, result.loss.standard_error)
    assert abs(trained.value - result.loss.value) < 5 * error


def test_the_noise_is_its_own_and_the_seed_decides_on_it():
    model, x = network(), torch.randn(20, 3)
    before = torch.get_rng_state()
    first, again, other = (mm.decompose(model, x, seed=seed) for seed in (0, 0, 1))
    log_beta = [mm.geometric_mean_log_normaliser(model, 50, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    assert first == again != other
    assert log_beta[0] == log_beta[1] != log_beta[2]


def test_the_model_is_in_evaluation_mode_meanwhile_and_no_gradient_is_kept():
    seen = []

    class Watching(nn.Dropout):
        def forward(self, value):
            seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(value)

    def mlp(features, outputs):
        return nn.Sequential(Watching(0.5), nn.Linear(features, outputs))

    class Anchor(nn.Module):
        def __init__(self):
            super().__init__()
            self.watching, self.prior = Watching(0.5), mm.StandardNormal(2)

        def forward(self):
            self.watching(torch.ones(1))
            return self.prior()

    model = mm.Joint(
        mm.Gaussian(mlp(3, 4)), mm.Gaussian(mlp(2, 6)), mm.StandardNormal(2), mm.StandardNormal(3)
    )
    anchor = Anchor()
    mm.decompose(model, torch.randn(5, 3), anchor=anchor)
    mm.geometric_mean_log_normaliser(model, 5)
    assert set(seen) == {(False, False)}
    assert model.training
    assert model.encoder.network.training
    assert anchor.training


class Counting(nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part, self.rows = part, []

    def forward(self, condition):
        self.rows.append(len(condition))
        return self.part(condition)


@pytest.mark.parametrize(("num_data", "num_samples", "chunk_size"), [(10, 3, 4), (3, 10, 4)])
def test_no_more_pairs_are_made_at_once_than_the_chunk_holds(num_data, num_samples, chunk_size):
    model = network()
    model.decoder = Counting(model.decoder)
    x = torch.randn(num_data, 3)
    mm.decompose(model, x, num_samples=num_samples, chunk_size=chunk_size)
    assert max(model.decoder.rows) <= chunk_size
    # Once at the encoding samples, and once to draw the decoding samples.
    assert sum(model.decoder.rows) == 2 * num_data * num_samples
    model.decoder.rows.clear()
    mm.geometric_mean_log_normaliser(model, 10, chunk_size=chunk_size)
    assert max(model.decoder.rows) <= chunk_size
    assert sum(model.decoder.rows) == 20


def test_the_record_can_be_read_and_stored():
    oracle = LinearGaussian.random(2, 2, 0)
    result = decomposed(oracle, 300, data_distribution=None)
    text = str(result)
    for name in ("loss", "regulariser", "kl_decoding", "vae_loss"):
        assert str(getattr(result, name)) in text
    assert "300 rows, 2 samples of each half per row; in nats" in text
    assert f"note: {result.notes[0]}" in text
    assert max(map(len, text.splitlines()[:-1])) < 80
    stored = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert stored["entropy"] is None
    assert stored["regulariser"]["value"] == result.regulariser.value
    assert stored["num_data"] == 300
    single = decomposed(oracle, 1)
    assert json.loads(json.dumps(single.to_json(), allow_nan=False))["loss"] == {
        "value": single.loss.value,
        "standard_error": None,
    }


def test_what_cannot_be_done_is_refused():
    model, x = network(), torch.randn(5, 3)
    for options in ({"num_samples": 0}, {"chunk_size": 0}):
        with pytest.raises(ValueError, match="must be 1 or more, got 0"):
            mm.decompose(model, x, **options)
        with pytest.raises(ValueError, match="must be 1 or more, got 0"):
            mm.geometric_mean_log_normaliser(model, **options)
    with pytest.raises(ValueError, match=r"x must have shape \(N, \*X\) with N of 1 or more"):
        mm.decompose(model, x[:0])
    separate = torch.distributions.Normal(torch.zeros(3), 1.0)
    with pytest.raises(ValueError, match=r"data_distribution must give .* shape \(5,\).* \(5, 3\)"):
        mm.decompose(model, x, data_distribution=separate)
    two = torch.distributions.Normal(torch.zeros(2), 1.0)
    with pytest.raises(ValueError, match=r"anchor must give one log-probability per event"):
        mm.decompose(model, x, anchor=lambda: two)
    marginal = mm.Joint(model.encoder, model.decoder, model.prior)
    with pytest.raises(ValueError, match="explicit"):
        mm.geometric_mean_log_normaliser(marginal)


# The normaliser of the geometric mean, Eq. 15


def log_bhattacharyya(a, b):
    """Log ∫ √(ab) of two normal distributions."""
    middle = (a.covariance + b.covariance) / 2
    offset = a.mean - b.mean
    exponent = offset @ torch.linalg.solve(middle, offset) / 8
    separate = (a.covariance.logdet() + b.covariance.logdet()) / 2
    return -exponent - 0.5 * (middle.logdet() - separate)


@discrete
def test_eq_15_the_normaliser_is_the_sum_of_the_geometric_mean(oracle):
    estimate = mm.geometric_mean_log_normaliser(joint(oracle), 4000)
    gap = abs(estimate.value - float(oracle.partition().log()))
    assert gap < 5 * estimate.standard_error
    assert estimate.value < 0


@gaussian
def test_eq_15_the_normaliser_is_that_of_densities(oracle):
    estimate = mm.geometric_mean_log_normaliser(joint(oracle), 20_000)
    gap = abs(estimate.value - float(log_bhattacharyya(oracle.q, oracle.p)))
    assert gap < 5 * estimate.standard_error


def test_the_error_of_the_normaliser_is_as_large_as_its_scatter():
    oracle, repeats = LinearGaussian.random(1, 1, 0), 200
    model, expected = joint(oracle), float(log_bhattacharyya(oracle.q, oracle.p))
    scores = []
    for seed in range(repeats):
        estimate = mm.geometric_mean_log_normaliser(model, 500, seed=seed)
        scores.append((estimate.value - expected) / estimate.standard_error)
    score = torch.tensor(scores)
    assert int((score.abs() < 1.96).sum()) > 190 - 5 * 3.1
    assert abs(float(score.square().mean()) - 1) < 5 * math.sqrt(2 / repeats)


@pytest.mark.parametrize(
    "oracle", [LinearGaussian.consistent(3, 2, 1), Discrete.consistent(3, 4, 0)], ids=["3-2", "3x4"]
)
def test_the_geometric_mean_of_a_consistent_model_is_normalised(oracle):
    estimate = mm.geometric_mean_log_normaliser(joint(oracle), 100)
    assert abs(estimate.value) < 1e-12
    assert estimate.standard_error < 1e-12


@gaussian
def test_eq_15_mim_is_the_cross_entropy_to_the_normalised_geometric_mean(oracle):
    # √(qp)/β of two normal distributions is normal, with the mean of their precisions.
    precisions = [torch.linalg.inv(joint.covariance) for joint in (oracle.q, oracle.p)]
    covariance = torch.linalg.inv(sum(precisions) / 2)
    pulls = [
        precision @ joint.mean
        for precision, joint in zip(precisions, (oracle.q, oracle.p), strict=True)
    ]
    mean = Normal(covariance @ (sum(pulls) / 2), covariance)
    expected = sum(gaussian_cross_entropy(j, mean) for j in (oracle.encoding, oracle.decoding)) / 2
    loss = decomposed(oracle).loss
    log_beta = mm.geometric_mean_log_normaliser(joint(oracle), 20_000)
    error = math.hypot(loss.standard_error, log_beta.standard_error)
    assert abs(loss.value + log_beta.value - float(expected)) < 5 * error


def test_a_tiny_normaliser_does_not_underflow():
    oracle = LinearGaussian.random(2, 2, 0)
    model = joint(oracle)
    model.data_prior.loc = oracle.q_x.mean + 1e3
    estimate = mm.geometric_mean_log_normaliser(model, 1000)
    assert -math.inf < estimate.value < -1e4
