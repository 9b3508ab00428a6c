"""Log-likelihoods of rows, each as if it were the only one."""

import pytest
import torch

import mimachine as mm
from mimachine.estimation.likelihood.by_row import log_likelihood_by_row
from mimachine.model.joint import Joint
from mimachine.model.networks import MLP


def dense(floor=0.5):
    encoder = mm.Gaussian(MLP(4, 2 * 2), floor=floor)
    return Joint(encoder, mm.Gaussian(MLP(2, 2 * 4)), mm.StandardNormal(2)).double()


def two_levels():
    return mm.hvae(shape=(1, 2, 2), latents=(2, 2), hidden=8).double()


def test_a_model_whose_encoder_is_the_posterior_has_its_exact_density():
    x = torch.randn(200, 3) @ torch.randn(3, 5) + 0.1 * torch.randn(200, 5)
    model = mm.probabilistic_pca(x.double(), 3)
    linear = model.decoder.network[0]
    loadings, mean, noise = linear.weight[:5], linear.bias[:5], linear.bias[5:].exp()
    covariance = loadings @ loadings.T + noise.square().diag()
    exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x.double())
    found = log_likelihood_by_row(model, x, 3)
    torch.testing.assert_close(found, exact.detach(), rtol=0, atol=1e-2)


def test_it_agrees_with_independent_noise():
    model, x = dense(), torch.randn(50, 4)
    one = log_likelihood_by_row(model, x, 4000)
    other = mm.log_likelihood(model, x, 4000)
    error = 2**0.5 * other.standard_errors
    assert ((one - other.values).abs() < 5 * error + 1e-6).all()


@pytest.mark.parametrize(("make", "shape"), [(dense, (4,)), (two_levels, (1, 2, 2))])
def test_a_row_has_the_same_estimate_wherever_it_is(make, shape):
    model, x = make(), torch.rand(30, *shape).round()
    whole = log_likelihood_by_row(model, x, 20, seed=3)
    order = torch.randperm(30)
    moved = log_likelihood_by_row(model, x[order], 20, seed=3)
    torch.testing.assert_close(moved, whole[order], rtol=1e-12, atol=1e-9)
    alone = torch.cat([log_likelihood_by_row(model, row, 20, seed=3) for row in x.split(7)])
    torch.testing.assert_close(alone, whole, rtol=1e-12, atol=1e-9)
    assert not torch.equal(log_likelihood_by_row(model, x, 20, seed=4), whole)


@pytest.mark.parametrize("change", [{"num_samples": 0}, {"seed": 0.5}, {"x": torch.rand(3, 5)}])
def test_wrong_arguments_are_named(change):
    arguments = {"x": torch.rand(3, 4), **change}
    with pytest.raises((ValueError, TypeError), match=next(iter(change))):
        log_likelihood_by_row(dense(), **arguments)
