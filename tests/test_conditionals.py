"""Likelihoods on top of networks: parameters, floors, shapes, errors."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

import mimachine as mm


class Constant(nn.Module):
    """A network whose output is the same for every row."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, condition):
        return self.output.expand(len(condition), *self.output.shape)


def test_gaussian_takes_mean_and_log_scale_from_the_halves_of_the_output():
    conditional = mm.Gaussian(Constant(torch.tensor([1.0, 2.0, 0.0, -1.0])), floor=0.5)
    distribution = conditional(torch.zeros(5, 7))
    expected = Independent(
        Normal(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 0.5 + torch.tensor(-1.0).exp()])), 1
    )
    value = torch.randn(5, 2)
    assert distribution.batch_shape == (5,)
    torch.testing.assert_close(distribution.log_prob(value), expected.log_prob(value))


def test_discretized_logistic_takes_location_and_log_scale_in_units_of_the_interval():
    conditional = mm.DiscretizedLogistic(Constant(torch.tensor([0.3, -3.0])), 17, floor=0.0)
    distribution = conditional(torch.zeros(5, 7))
    # The mass of the inner cell at 5/16, from the logistic's cumulative distribution.
    scale = torch.tensor(-3.0).exp()
    upper, lower = ((torch.tensor(k) / 16 - 0.3) / scale for k in (5.5, 4.5))
    expected = (upper.sigmoid() - lower.sigmoid()).log()
    actual = distribution.log_prob(torch.full((5, 1), 5 / 16))
    torch.testing.assert_close(actual, expected.expand(5))


def test_bernoulli_takes_logits():
    distribution = mm.Bernoulli(Constant(torch.tensor([0.0, 2.0])))(torch.zeros(5, 7))
    expected = torch.tensor(0.5).log() + torch.tensor(2.0).sigmoid().log()
    torch.testing.assert_close(distribution.log_prob(torch.ones(5, 2)), expected.expand(5))


@pytest.mark.parametrize("floor", [1e-6, 1e-3, 0.5])
def test_gaussian_never_falls_below_its_floor(floor):
    conditional = mm.Gaussian(Constant(torch.tensor([0.0, -200.0])), floor)
    assert (conditional(torch.zeros(3, 1)).scale == floor).all()


def test_gaussian_floor_may_differ_between_features():
    floor = torch.tensor([0.5, 2.0])
    conditional = mm.Gaussian(Constant(torch.tensor([0.0, 0.0, -200.0, -200.0])), floor)
    torch.testing.assert_close(conditional(torch.zeros(3, 1)).scale, floor.expand(3, 2))
    with pytest.raises(ValueError, match="floor must be 0 or more, got"):
        mm.Gaussian(mm.MLP(1, 4), torch.tensor([0.5, -2.0]))


def test_gaussian_floor_is_kept_with_the_weights_and_follows_them():
    conditional = mm.Gaussian(mm.MLP(1, 2), 0.5).double()
    other = mm.Gaussian(mm.MLP(1, 2), 0.1)
    other.load_state_dict(conditional.state_dict())
    x = torch.randn(3, 1)
    torch.testing.assert_close(other(x).scale, conditional(x.double()).scale.float())
    assert conditional(x.double()).scale.dtype == torch.float64


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_discretized_logistic_never_falls_below_a_share_of_its_step(levels):
    conditional = mm.DiscretizedLogistic(Constant(torch.tensor([0.0, -200.0])), levels, floor=0.1)
    scale = conditional(torch.zeros(3, 1)).scale
    torch.testing.assert_close(scale, torch.full((3, 1), 0.1 / (levels - 1)))


def test_scales_grow_from_the_floor_without_bound():
    for conditional in (
        mm.Gaussian(Constant(torch.tensor([0.0, 3.0])), 0.25),
        mm.DiscretizedLogistic(Constant(torch.tensor([0.0, 3.0])), levels=2, floor=0.25),
    ):
        scale = conditional(torch.zeros(1, 1)).scale
        torch.testing.assert_close(scale[0, 0], torch.tensor(3.0).exp() + 0.25)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(
    ("make", "channels"),
    [(mm.Gaussian, 6), (mm.DiscretizedLogistic, 6), (mm.Bernoulli, 3)],
    ids=["gaussian", "logistic", "bernoulli"],
)
@pytest.mark.parametrize("space", [(), (4, 5)])
def test_shapes_follow_the_network(make, channels, space, batch):
    output = torch.zeros(channels, *space)
    distribution = make(Constant(output), event_dims=output.dim())(torch.zeros(batch, 2))
    assert distribution.batch_shape == (batch,)
    assert distribution.event_shape == (3, *space)
    assert distribution.log_prob(distribution.sample()).shape == (batch,)


def test_images_are_halved_along_their_channels():
    output = torch.stack([torch.full((2, 2), 1.0), torch.full((2, 2), 0.0)])
    distribution = mm.Gaussian(Constant(output), floor=0.0, event_dims=3)(torch.zeros(4, 1))
    assert (distribution.loc == 1).all()
    assert (distribution.scale == 1).all()
    assert distribution.loc.shape == (4, 1, 2, 2)


@pytest.mark.parametrize("make", [mm.Gaussian, mm.DiscretizedLogistic])
def test_an_odd_output_is_an_error_that_tells_its_shape(make):
    with pytest.raises(ValueError, match=rf"{make.__name__}.*axis -1 .*even.*\(4, 5\)"):
        make(mm.MLP(2, 5))(torch.zeros(4, 2))
    with pytest.raises(ValueError, match=rf"{make.__name__}.*axis -3 .*even.*\(4, 3, 2, 2\)"):
        make(Constant(torch.zeros(3, 2, 2)), event_dims=3)(torch.zeros(4, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.Gaussian(mm.MLP(2, 2), event_dims=0), "event_dims must be 1 or more, got 0"),
        (lambda: mm.Bernoulli(mm.MLP(2, 2), event_dims=0), "event_dims must be 1 or more, got 0"),
        (lambda: mm.Gaussian(mm.MLP(2, 2), floor=-0.1), "floor must be 0 or more, got -0.1"),
        (lambda: mm.Gaussian(mm.MLP(2, 2), floor=float("nan")), "floor must be 0 or more, got nan"),
        (
            lambda: mm.DiscretizedLogistic(mm.MLP(2, 2), floor=-0.1),
            "floor must be 0 or more, got -0.1",
        ),
        (
            lambda: mm.DiscretizedLogistic(mm.MLP(2, 2), levels=1),
            "levels must be 2 or more, got 1",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_conditionals_reject_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("hidden", [(), (3,), (4, 5)])
def test_mlp_alternates_linear_maps_and_activations(hidden):
    network = mm.MLP(2, 6, hidden, nn.ReLU)
    linear = [m for m in network if isinstance(m, nn.Linear)]
    sizes = (2, *hidden, 6)
    assert [(m.in_features, m.out_features) for m in linear] == list(pairwise(sizes))
    x = torch.randn(7, 2)
    expected = x
    for i, layer in enumerate(linear):
        expected = layer(expected)
        expected = expected.relu() if i < len(hidden) else expected
    torch.testing.assert_close(network(x), expected)


def test_mlp_rejects_empty_layers():
    with pytest.raises(ValueError, match=r"MLP.*1 or more.*\(2, 0, 6\)"):
        mm.MLP(2, 6, hidden=(0,))
