"""One-dimensional quadrature against closed forms of Gaussians and estimates from samples."""

import math

import pytest
import torch
from oracles import (
    LinearGaussian,
    Normal,
    gaussian_cross_entropy,
    gaussian_entropy,
    gaussian_kl,
)

import mimachine as mm
from mimachine.paper.line.densities import (
    Grid,
    carried,
    joint_terms,
    kl_divergence,
    log_conditionals,
    log_density,
    mass,
    tabulate,
    wasserstein,
)

# The smallest standard deviation here is 0.3, for which the quadrature error exp(-2 (π s/h)²) is
# far below rounding; the grid covers nine times the largest. Only rounding errors remain.
GRID = Grid(48.0, 0.08)
ROUNDING = 1e-9


def normal(mean, deviation):
    loc = torch.tensor([mean], dtype=torch.float64)
    return mm.DiagNormal(loc, torch.full_like(loc, deviation))


def density(oracle_normal):
    deviation = float(oracle_normal.covariance.sqrt())
    return log_density(normal(float(oracle_normal.mean), deviation), GRID)


def model_of(oracle):
    encoder, decoder, prior, data_prior, _ = oracle.modules()
    return mm.Joint(encoder, decoder, prior, data_prior)


def terms_of(oracle):
    table = tabulate(model_of(oracle), GRID, GRID)
    return joint_terms(table, density(oracle.data), density(oracle.anchor), GRID, GRID)


def test_a_grid_is_even_and_symmetric():
    points = Grid(1.0, 0.25).points
    assert points.tolist() == [-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]
    assert points.dtype == torch.float64


@pytest.mark.parametrize(
    ("reach", "step"), [(1, 0), (1, -1), (0.5, 1), (math.inf, 1), (1, math.nan)]
)
def test_an_invalid_grid_is_an_error(reach, step):
    with pytest.raises(ValueError, match=r"step and reach must be positive.*got step"):
        Grid(reach, step)


def test_mass_is_the_probability_of_the_grid():
    assert mass(log_density(normal(0.3, 0.3), GRID), GRID) == pytest.approx(1, abs=ROUNDING)
    # Half of a Gaussian lies beyond its mean; the point there counts half.
    at_end = log_density(normal(GRID.reach, 1.0), GRID)
    density_there = math.exp(float(at_end[-1]))
    expected = 0.5 + 0.5 * GRID.step * density_there
    # The trapezoidal rule at an end, by Euler and Maclaurin, where the first derivative is 0.
    assert mass(at_end, GRID) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_divergence_of_gaussians_is_their_closed_form(seed):
    source = torch.Generator().manual_seed(seed)
    a, b = Normal.random(1, source), Normal.random(1, source)
    assert kl_divergence(density(a), density(b), GRID) == pytest.approx(
        float(gaussian_kl(a, b)), rel=ROUNDING, abs=ROUNDING
    )


def test_divergence_is_accurate_where_densities_underflow():
    narrow, far = normal(0.0, 0.3), normal(20.0, 0.3)
    assert float(log_density(far, GRID)[0]) < math.log(torch.finfo(torch.float64).tiny)
    found = kl_divergence(log_density(narrow, GRID), log_density(far, GRID), GRID)
    assert found == pytest.approx(0.5 * (20 / 0.3) ** 2, rel=ROUNDING)


def test_wasserstein_distance_of_shifted_gaussians_is_the_shift():
    a, b = log_density(normal(-0.7, 1.3), GRID), log_density(normal(0.4, 1.3), GRID)
    # Cumulative sums of a shifted Gaussian differ with the same sign everywhere, so they add up to
    # the difference of the means, which is as accurate as the mass.
    assert wasserstein(a, b, GRID) == pytest.approx(1.1, abs=ROUNDING)
    assert wasserstein(a, a, GRID) == 0


def test_wasserstein_distance_of_scaled_gaussians_is_that_of_half_normals():
    a, b = log_density(normal(0.0, 0.5), GRID), log_density(normal(0.0, 2.0), GRID)
    # ∫ |F - G| has a kink at 0 where the sign changes: an error of the order of step².
    expected = 1.5 * math.sqrt(2 / math.pi)
    assert wasserstein(a, b, GRID) == pytest.approx(expected, abs=GRID.step**2)


@pytest.mark.parametrize("seed", range(3))
def test_a_gaussian_through_a_linear_conditional_is_gaussian(seed):
    oracle = LinearGaussian.random(1, 1, seed)
    encoder, _, _, _, _ = oracle.modules()
    found = carried(density(oracle.data), log_conditionals(encoder, GRID, GRID), GRID)
    expected = density(oracle.encoding.part(slice(1, 2)))
    near = expected > -30
    torch.testing.assert_close(found[near], expected[near], rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_terms_of_a_linear_gaussian_model_are_their_closed_forms(seed):
    oracle = LinearGaussian.random(1, 1, seed)
    terms = terms_of(oracle)
    halves, models = (oracle.encoding, oracle.decoding), (oracle.q, oracle.p)
    expected = sum(gaussian_cross_entropy(a, b) for a in halves for b in models) / 4
    assert terms.sample_mass == pytest.approx(1, abs=ROUNDING)
    assert terms.loss == pytest.approx(float(expected), abs=1e-8)
    assert terms.regulariser > 0
    assert terms.kl_model > 0


def test_a_consistent_model_has_no_regulariser_and_the_entropy_of_its_joint():
    oracle = LinearGaussian.consistent(1, 1, 0)
    terms = terms_of(oracle)
    entropy = float(gaussian_entropy(oracle.q))
    for value in (terms.loss, terms.cross_entropy, terms.sample_entropy):
        assert value == pytest.approx(entropy, abs=1e-8)
    assert terms.regulariser == pytest.approx(0, abs=1e-8)
    assert terms.kl_model == pytest.approx(0, abs=1e-8)


def test_terms_are_what_decompose_estimates(double):
    oracle = LinearGaussian.random(1, 1, 1)
    terms, anchor = terms_of(oracle), oracle.modules()[-1]
    data = normal(float(oracle.data.mean), float(oracle.data.covariance.sqrt()))
    x = data.sample((20_000,))
    found = mm.decompose(model_of(oracle), x, anchor=anchor, data_distribution=data, num_samples=2)
    for name in ("loss", "cross_entropy", "regulariser", "sample_entropy", "kl_model"):
        estimate = getattr(found, name)
        assert abs(getattr(terms, name) - estimate.value) <= 5 * estimate.standard_error, name


def test_chunks_do_not_change_the_result(monkeypatch):
    encoder, *_ = LinearGaussian.random(1, 1, 0).modules()
    few = Grid(2.0, 0.5)
    whole = log_conditionals(encoder, few, few)
    monkeypatch.setattr("mimachine.paper.line.densities._CHUNK", 1)
    assert torch.equal(log_conditionals(encoder, few, few), whole)


def test_the_model_is_not_changed():
    model = mm.Joint(
        mm.Gaussian(mm.MLP(1, 2, (3,))),
        mm.Gaussian(mm.MLP(1, 2, (3,))),
        mm.StandardNormal(1),
        mm.LearnedNormal(1),
    )
    table = tabulate(model, Grid(1.0, 0.5), Grid(1.0, 0.25))
    assert [tuple(part.shape) for part in table] == [(5, 9), (5, 1), (5, 9), (1, 9)]
    assert model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_models_that_are_not_one_dimensional_are_errors():
    decoder = mm.Gaussian(mm.MLP(1, 4, (3,)))
    with pytest.raises(ValueError, match=r"one number, shape \(1,\), got \(2,\)"):
        log_conditionals(decoder.double(), GRID, GRID)
    with pytest.raises(ValueError, match="data_prior must be explicit"):
        tabulate(mm.Joint(decoder, decoder, mm.StandardNormal(1)), GRID, GRID)
