import math

import pytest
import torch
from oracles import within_standard_errors

from mimachine.estimation.likelihood.hamiltonian import evaluated, leapfrog, transition

BETA = torch.tensor([0.3, 1.0]).double()


def bent(z):
    """Base and ratio of no normal density, for latents (K, n, 2)."""
    first, second = z.unbind(-1)
    base = -0.5 * z.square().sum(-1)
    return base, -2 * (second - first.square()).square() - first.sin()


def gaussian(z):
    """A base N(0, I) and a ratio that makes the precision I + β diag(3, 15)."""
    precision = torch.tensor([3.0, 15.0]).double()
    return -0.5 * z.square().sum(-1), -0.5 * (precision * z.square()).sum(-1)


def variance(beta):
    return 1 / (1 + beta[:, None] * torch.tensor([3.0, 15.0]).double())


def test_gradients_are_those_of_the_tempered_density():
    torch.manual_seed(0)
    z = torch.randn(3, 2, 2).double().requires_grad_(True)
    base, ratio = bent(z)
    (expected,) = torch.autograd.grad((base + BETA * ratio).sum(), z)
    point = evaluated(bent, z.detach())
    torch.testing.assert_close(point.gradient(BETA), expected)
    torch.testing.assert_close(point.log_density(BETA), (base + BETA * ratio).detach())


def test_trajectories_walked_back_end_where_they_began():
    torch.manual_seed(0)
    point = evaluated(bent, torch.randn(50, 2, 2).double())
    momentum = torch.randn_like(point.z)
    step = torch.tensor([0.05, 0.1]).double()
    end, last = leapfrog(bent, point, momentum, BETA, step, 20)
    assert (end.z - point.z).abs().max() > 0.5
    back, first = leapfrog(bent, end, -last, BETA, step, 20)
    torch.testing.assert_close(back.z, point.z, rtol=0, atol=1e-9)
    torch.testing.assert_close(-first, momentum, rtol=0, atol=1e-9)


def test_trajectories_keep_volumes_and_nearly_the_energy():
    torch.manual_seed(0)
    place = torch.randn(4).double()
    beta = BETA[:1]

    def flow(state):
        point = evaluated(bent, state[:2].reshape(1, 1, 2))
        end, last = leapfrog(
            bent, point, state[2:].reshape(1, 1, 2), beta, torch.full((1, 2), 0.2).double(), 5
        )
        return torch.cat([end.z.flatten(), last.flatten()])

    # Central differences: their errors are of the order of 1e-10.
    small = 1e-5 * torch.eye(4).double()
    jacobian = torch.stack([(flow(place + d) - flow(place - d)) / 2e-5 for d in small], 1)
    assert not torch.allclose(jacobian, torch.eye(4).double(), atol=0.1)
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1.0, abs=1e-7)

    def drift(length):
        point = evaluated(bent, place[:2].reshape(1, 1, 2))
        momentum = place[2:].reshape(1, 1, 2)
        number = round(1 / length)
        end, last = leapfrog(bent, point, momentum, beta, torch.tensor(length).double(), number)
        before = 0.5 * momentum.square().sum() - point.log_density(beta)
        return float((0.5 * last.square().sum() - end.log_density(beta) - before).abs())

    # The method is of second order.
    assert drift(0.01) / drift(0.02) == pytest.approx(1 / 4, rel=0.2)


@pytest.fixture(scope="module")
def moved():
    """Exact draws of a tempered density, and where transitions take them."""
    torch.manual_seed(0)
    first = variance(BETA).sqrt() * torch.randn(40_000, 2, 2).double()
    point, rates = evaluated(gaussian, first), []
    for _ in range(3):
        point, probability = transition(gaussian, point, BETA, 1.6 * variance(BETA).sqrt(), 2)
        rates.append(probability.mean(0))
    # Some trajectories are rejected.
    assert ((torch.stack(rates) > 0.3) & (torch.stack(rates) < 0.9)).all()
    return first, point


def test_a_transition_leaves_the_density_invariant(moved):
    _, point = moved
    within_standard_errors(point.z, torch.zeros(2, 2).double())
    within_standard_errors(point.z.square(), variance(BETA))
    within_standard_errors(point.z.prod(-1), torch.zeros(2).double())
    within_standard_errors(point.z**4, 3 * variance(BETA).square())
    base, ratio = gaussian(point.z)
    torch.testing.assert_close(point.base, base)
    torch.testing.assert_close(point.ratio, ratio)


def test_transitions_there_and_back_are_as_likely(moved):
    first, point = moved
    assert (first != point.z).any(-1).double().mean() > 0.5
    here, there = first[..., 0], point.z[..., 0]
    within_standard_errors(here * there**3 - there * here**3, torch.zeros(2).double())
    within_standard_errors(here.cos() * there**2 - there.cos() * here**2, torch.zeros(2).double())


def test_a_transition_finds_the_density_from_elsewhere():
    torch.manual_seed(0)
    point = evaluated(gaussian, torch.full((5_000, 2, 2), 3.0).double())
    for _ in range(20):
        point, _ = transition(gaussian, point, BETA, variance(BETA).sqrt(), 2)
    within_standard_errors(point.z, torch.zeros(2, 2).double())
    within_standard_errors(point.z.square(), variance(BETA))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_diverges_is_rejected_and_others_do_not_notice(value):
    torch.manual_seed(0)

    def walled(z):
        base, ratio = gaussian(z)
        return base, torch.where(z[..., 0] > 0.2, -value, ratio)

    point = evaluated(walled, -0.3 * torch.rand(200, 2, 2).double())
    for _ in range(5):
        point, probability = transition(walled, point, BETA, variance(BETA).sqrt(), 2)
        assert point.z.isfinite().all()
        assert (point.z[..., 0] <= 0.2).all()
        assert probability.isfinite().all()
    # Steps so large that the latents become infinite or NaN.
    far, probability = transition(
        gaussian, point, BETA, torch.full((2, 2), 1e200, dtype=torch.float64), 3
    )
    assert torch.equal(far.z, point.z)
    assert (probability == 0).all()


def test_what_is_no_number_has_a_density_of_nothing_and_no_gradient():
    def rooted(z):
        base, _ = gaussian(z)
        return base, z[..., 0].sqrt()

    z = torch.tensor([[4.0, 0.0], [-1.0, 0.0], [math.inf, 0.0], [math.nan, 0.0]]).double()
    point = evaluated(rooted, z[:, None])
    assert point.ratio[:, 0].tolist() == [2.0, -math.inf, -math.inf, -math.inf]
    assert point.base[:2, 0].isfinite().all()
    assert (point.base[2:, 0] == -math.inf).all()
    assert point.gradient(BETA[:1]).isfinite().all()
    assert point.ratio_gradient[0, 0].tolist() == [0.25, 0.0]


def test_a_chain_where_the_density_is_nothing_takes_what_is_something():
    def island(z):
        base, _ = gaussian(z)
        return base, torch.where(z[..., 0].abs() < 1, 0.0, -math.inf).double()

    torch.manual_seed(0)
    point = evaluated(island, torch.full((100, 2, 2), 1.5).double())
    for _ in range(20):
        point, _ = transition(island, point, BETA, torch.ones(2, 2).double(), 2)
    assert (point.z[..., 0].abs() < 1).all()
