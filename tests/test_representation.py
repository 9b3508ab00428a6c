import numpy as np
import pytest
import torch
from torch import nn

import mimachine as mm


def test_knn_accuracy_equals_a_vote_among_sorted_distances():
    train, test = torch.randn(80, 3), torch.randn(40, 3)
    labels, test_labels = torch.randint(0, 3, (80,)), torch.randint(0, 3, (40,))
    for k in (1, 3, 5, 80):
        nearest = np.argsort(torch.cdist(test, train).numpy(), axis=1)[:, :k]
        votes = [np.bincount(labels.numpy()[row], minlength=3).argmax() for row in nearest]
        expected = float((np.array(votes) == test_labels.numpy()).mean())
        assert mm.knn_accuracy(train, labels, test, test_labels, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 11])
def test_more_neighbours_than_codes_are_refused(k):
    z, labels = torch.randn(10, 2), torch.zeros(10, dtype=torch.long)
    with pytest.raises(ValueError, match=rf"k must be in \[1, 10\].*got {k}"):
        mm.knn_accuracy(z, labels, z, labels, k)


def test_labels_of_another_length_are_refused_by_name():
    z, labels = torch.randn(10, 2), torch.zeros(10, dtype=torch.long)
    with pytest.raises(ValueError, match="test_labels must have one label for each of 10"):
        mm.knn_accuracy(z, labels, z, labels[:9], 3)


def test_verdicts_follow_their_definitions():
    means, width = torch.randn(2000, 4), torch.ones(2000, 4)
    assert mm.diagnose_codes(means, 0.3 * width).verdict == "healthy"
    assert mm.diagnose_codes(0 * means, width).verdict == "collapsed"
    one = means * torch.tensor([1.0, 0, 0, 0])
    assert mm.diagnose_codes(one, width).verdict == "partly collapsed"
    two = means * torch.tensor([1.0, 1, 0, 0])
    assert mm.diagnose_codes(two, width).verdict == "healthy"
    assert mm.diagnose_codes(means, 0.005 * width).verdict == "deterministic"


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
