import math

import numpy as np
import pytest
import torch
from oracles import within_standard_errors
from scipy.stats import genpareto

from mimachine.estimation.likelihood.pareto import generalised_pareto, pareto_k, tail_size


@pytest.mark.parametrize("k", [-0.3, 0.1, 0.5, 0.7, 1.0, 1.5])
@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_the_fit_recovers_the_shape_and_scale_of_samples_of_scipy(k, scale):
    draws = genpareto.rvs(k, scale=scale, size=(1000, 200), random_state=0)
    shapes, scales = generalised_pareto(torch.tensor(draws).sort(0).values)
    # The estimate has a bias of about 1/M and a standard error of (1 + k) / sqrt(M).
    assert float(shapes.mean()) == pytest.approx(k, abs=5 * (1 + k) / math.sqrt(200_000) + 3e-3)
    assert float(scales.mean()) == pytest.approx(scale, rel=0.015)
    if k > -0.5:  # There the maximum-likelihood estimate is regular: Smith (1985).
        expected = (1 + k) / math.sqrt(1000)
        assert float(shapes.std()) == pytest.approx(expected, rel=5 / math.sqrt(400) + 0.05)


def test_the_fit_is_near_the_maximum_likelihood_of_scipy():
    draws = genpareto.rvs(0.6, size=2000, random_state=1)
    fitted, _, scale = genpareto.fit(draws, floc=0)
    (shape,), (own_scale,) = generalised_pareto(torch.tensor(np.sort(draws))[:, None])
    # A posterior mean and a mode: they differ by far less than the standard error of 0.036.
    assert float(shape) == pytest.approx(fitted, abs=0.01)
    assert float(own_scale) == pytest.approx(scale, rel=0.01)


@pytest.mark.parametrize("k", [0.3, 0.7, 1.2])
def test_weights_with_a_pareto_tail_have_its_k_whatever_their_scale(k):
    # P(w > t) = t^(-1/k): log-weights are exponential with mean k.
    samples = 5000
    log_weights = k * -torch.rand(samples, 100, dtype=torch.float64).log()
    largest = log_weights.topk(tail_size(samples) + 1, 0).values
    shapes = pareto_k(largest)
    tail = tail_size(samples)
    expected = (tail * k + 5) / (tail + 10)
    within_standard_errors(shapes, expected, errors=5.5)
    torch.testing.assert_close(pareto_k(largest + 700), shapes)
    torch.testing.assert_close(pareto_k(largest[:, :1] - 1e4), shapes[:1])


def test_a_narrow_normal_proposal_has_weights_of_the_tail_that_theory_gives():
    # p = N(0, 1), q = N(0, 1/c²): w(z) = exp((c² - 1) z² / 2) / c, whose tail has
    # k = 1 - 1/c² up to logarithms, which a tail of 1,500 of 250,000 weights feels as 0.05.
    c = 1.5
    noise = torch.randn(250_000, 10, dtype=torch.float64)
    log_weights = 0.5 * noise.square() * (1 - 1 / c**2)
    shapes = pareto_k(log_weights.topk(tail_size(250_000) + 1, 0).values)
    assert float(shapes.mean()) == pytest.approx(1 - 1 / c**2, abs=0.08)


def test_degenerate_tails_have_a_k_that_says_so():
    equal = torch.zeros(50, 1)
    vanishing = -1000 * torch.arange(50.0)[:, None]
    impossible = torch.full((50, 1), -math.inf)
    assert pareto_k(equal) == -math.inf
    assert pareto_k(vanishing) == math.inf
    assert pareto_k(impossible).isnan()
    assert pareto_k(torch.zeros(5, 3)).isnan().all()


def test_ties_at_the_cutoff_leave_a_finite_k():
    # Weights of a discrete latent with two values: the tail's quartile equals the cutoff.
    largest = torch.tensor([2.0] * 10 + [1.0] * 30)[:, None]
    assert pareto_k(largest).isfinite().all()


@pytest.mark.parametrize(("samples", "size"), [(1, 1), (100, 20), (225, 45), (10_000, 300)])
def test_the_tail_is_a_fifth_of_few_and_three_roots_of_many(samples, size):
    assert tail_size(samples) == size
