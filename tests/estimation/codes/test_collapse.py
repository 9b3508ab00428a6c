import math

import pytest
import torch
from oracles import LinearGaussian
from torch import nn

import mimachine as mm
from mimachine.estimation.codes.reencoding import reencoding_offset


def test_verdicts_follow_their_definitions():
    means, width = torch.randn(2000, 4), torch.ones(2000, 4)
    assert mm.diagnose_codes(means, 0.3 * width).verdict == "healthy"
    assert mm.diagnose_codes(0 * means, width).verdict == "collapsed"
    one = means * torch.tensor([1.0, 0, 0, 0])
    assert mm.diagnose_codes(one, width).verdict == "partly collapsed"
    two = means * torch.tensor([1.0, 1, 0, 0])
    assert mm.diagnose_codes(two, width).verdict == "healthy"
    assert mm.diagnose_codes(means, 0.005 * width).verdict == "deterministic"


@pytest.mark.parametrize(("dims", "fewest"), [(1, 1), (2, 2), (3, 2), (4, 2), (5, 3), (32, 16)])
def test_partial_collapse_can_be_seen_with_any_number_of_latents(dims, fewest):
    means = torch.randn(2000, dims)
    for active in range(1, dims + 1):
        used = torch.arange(dims) < active
        width = torch.where(used, 0.3, 1.0).expand(2000, dims)
        verdict = mm.diagnose_codes(means * used, width).verdict
        assert verdict == ("partly collapsed" if active < fewest else "healthy")


@pytest.mark.parametrize("dims", [1, 2, 32])
@pytest.mark.parametrize(("information", "verdict"), [(0.06, "collapsed"), (0.3, "healthy")])
def test_information_decides_about_a_collapse(dims, information, verdict):
    """Latents whose means account for over 1 % of their variance may still say nothing."""
    noise = 1 / math.expm1(2 * information / dims) ** 0.5
    means = torch.randn(20_000, dims)
    health = mm.diagnose_codes(means, torch.full_like(means, noise))
    assert health.information == pytest.approx(information, rel=0.1)
    assert health.verdict == ("collapsed" if not health.active.any() else verdict)
    assert mm.diagnose_codes(means, torch.full_like(means, noise), information=0.01).verdict == (
        "collapsed"
    )


def test_the_information_of_codes_does_not_depend_on_their_units():
    means, width = torch.randn(500, 3), torch.rand(500, 3) + 0.1
    units = torch.tensor([1e-3, 1.0, 1e4])
    plain = mm.diagnose_codes(means, width).information
    assert mm.diagnose_codes(5 + units * means, units * width).information == pytest.approx(plain)
    # A latent that is constant has none, one without noise as much as can be.
    assert mm.diagnose_codes(0 * means, 0 * width).information == 0
    assert mm.diagnose_codes(means, 0 * width).information == math.inf


def test_a_unit_is_active_above_one_percent_of_its_aggregate_variance():
    # Variance a² of the means against 1 of the noise: the share is a² / (a² + 1).
    half = torch.cat([torch.ones(500), -torch.ones(500)])[:, None]
    for share, active in ((0.009, False), (0.011, True)):
        amplitude = (share / (1 - share)) ** 0.5
        health = mm.diagnose_codes(amplitude * half, torch.ones(1000, 1))
        assert bool(health.active[0]) is active


def test_codes_at_their_floor_are_deterministic_however_wide_that_is():
    means, std = torch.randn(500, 2), torch.full((500, 2), 0.3)
    assert mm.diagnose_codes(means, std, floor=0.1).verdict == "healthy"
    assert mm.diagnose_codes(means, std, floor=0.3).verdict == "deterministic"
    assert (
        mm.diagnose_codes(means, std, floor=torch.tensor([0.3, 0.299])).verdict == "deterministic"
    )


def test_codes_are_deterministic_where_most_scales_of_the_encoder_are_at_their_floor():
    """Of a chain the widths of the codes themselves have no floor."""
    means, std = torch.randn(500, 2), torch.full((500, 2), 0.3)
    assert mm.diagnose_codes(means, std, share_at_floor=0.5).verdict == "healthy"
    assert mm.diagnose_codes(means, std, share_at_floor=0.51).verdict == "deterministic"


def test_codes_do_not_depend_on_the_batches_and_leave_no_graph():
    encoder = mm.Gaussian(mm.MLP(5, 4, (8,)))
    model = mm.Joint(encoder, mm.Gaussian(mm.MLP(2, 10, (8,))), mm.StandardNormal(2))
    x = torch.randn(30, 5)
    whole, parts = mm.codes(model, x), mm.codes(model, x, batch_size=7)
    # Matrix products of other sizes round differently.
    torch.testing.assert_close(whole.mean, parts.mean)
    torch.testing.assert_close(whole.std, parts.std)
    assert not whole.mean.requires_grad
    deviations = (mm.codes(model, x.repeat(2000, 1)).sample - whole.mean.repeat(2000, 1)) / (
        whole.std.repeat(2000, 1)
    )
    assert float(deviations.std()) == pytest.approx(1.0, abs=0.01)


def test_an_encoder_without_moments_gets_them_from_its_draws():
    class Opaque(torch.distributions.Distribution):
        arg_constraints = {}  # noqa: RUF012

        def __init__(self, inner):
            self.inner = inner
            super().__init__(inner.batch_shape, inner.event_shape, validate_args=False)

        def sample(self, sample_shape=()):
            return self.inner.sample(sample_shape)

    class Encoder(nn.Module):
        def forward(self, x):
            return Opaque(mm.DiagNormal(x, torch.full_like(x, 0.1)))

    model = mm.Joint(Encoder(), mm.Gaussian(mm.MLP(2, 4, ())), mm.StandardNormal(2))
    x = torch.randn(50, 2)
    encoded = mm.codes(model, x)
    # 64 draws of standard deviation 0.1.
    assert float((encoded.mean - x).abs().max()) < 5 * 0.1 / 8
    assert float(encoded.std.mean()) == pytest.approx(0.1, abs=0.01)


def test_codes_of_reconstructions_are_off_by_the_closed_form():
    case = LinearGaussian.random(4, 3, seed=2)
    encoder, decoder, prior, _, _ = case.modules()
    model = mm.Joint(encoder, decoder, prior)
    root = torch.linalg.cholesky(case.data.covariance)
    x = case.data.mean + torch.randn(20_000, 4, dtype=torch.float64) @ root.T
    found = mm.reencode(model, x, batch_size=7000)

    # z' - z = (AB - I) z + Ab + a, with z = Ax + a normal.
    mean, covariance = case.A @ case.data.mean + case.a, case.A @ case.data.covariance @ case.A.T
    change = case.A @ case.B - torch.eye(3).double()
    offset = change @ mean + case.A @ case.b + case.a
    square = offset.square() + (change @ covariance @ change.T).diagonal()
    aggregate = covariance.diagonal() + case.s_q.square()
    # Squares of normals in 20,000 data: 5 standard errors are under 4 % of a root mean square.
    torch.testing.assert_close(found.offset, (square / aggregate).sqrt(), rtol=0.04, atol=0)
    expected = 0.5 * float((square / case.s_q.square()).sum())
    assert abs(found.divergence.value - expected) < 5 * found.divergence.standard_error


def test_codes_that_come_back_are_at_no_distance():
    means, again = torch.randn(100, 3), torch.randn(100, 3)
    widths = torch.rand(100, 3)
    assert not reencoding_offset(means, widths, means).any()
    constant = torch.zeros(100, 1)
    assert not reencoding_offset(constant, constant, constant).any()
    # The offset is in units of the aggregate, so the scale of a latent does not matter.
    torch.testing.assert_close(
        reencoding_offset(means, widths, again),
        reencoding_offset(1000 * means, 1000 * widths, 1000 * again),
    )
    # Random codes: the mean square of a difference is twice the variance.
    means, again = torch.randn(20_000, 1), torch.randn(20_000, 1)
    offset = reencoding_offset(means, 0 * means, again)
    assert float(offset) == pytest.approx(2**0.5, abs=0.03)
