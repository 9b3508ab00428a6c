"""Likelihoods on top of networks: parameters, floors, shapes, errors."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import mimachine as mm
from mimachine.model import discrete, distributions


class Constant(nn.Module):
    """A network whose output is the same for every row."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, condition):
        return self.output.expand(len(condition), *self.output.shape)


def test_a_gaussian_of_constant_scale_learns_its_mean_alone():
    network = mm.MLP(3, 2, ())
    gaussian = mm.Gaussian(network, scale=0.3)
    x = torch.randn(4, 3)
    q = gaussian(x)
    assert q.batch_shape == (4,)
    torch.testing.assert_close(q.mean, network(x))
    assert q.stddev.unique().tolist() == pytest.approx([0.3])
    assert "scale" in gaussian.state_dict()
    assert "scale" not in mm.Gaussian(mm.MLP(3, 4, ())).state_dict()
    for scale in (0.0, -1, float("inf"), "x"):
        with pytest.raises((ValueError, TypeError), match="scale must be"):
            mm.Gaussian(network, scale=scale)


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
    # Mass of the inner cell at 5/16, from the logistic's cumulative distribution.
    scale = torch.tensor(-3.0).exp()
    upper, lower = ((torch.tensor(k) / 16 - 0.3) / scale for k in (5.5, 4.5))
    expected = (upper.sigmoid() - lower.sigmoid()).log()
    actual = distribution.log_prob(torch.full((5, 1), 5 / 16))
    torch.testing.assert_close(actual, expected.expand(5))


def test_bernoulli_takes_logits():
    distribution = mm.Bernoulli(Constant(torch.tensor([0.0, 2.0])))(torch.zeros(5, 7))
    expected = torch.tensor(0.5).log() + torch.tensor(2.0).sigmoid().log()
    torch.testing.assert_close(distribution.log_prob(torch.ones(5, 2)), expected.expand(5))


def test_mixture_density_takes_weights_means_and_log_scales_of_each_component():
    logits, loc, log_scale = torch.randn(3), torch.randn(3, 2), torch.randn(3, 2)
    output = torch.cat([logits[:, None], loc, log_scale], 1).flatten()
    distribution = mm.MixtureDensity(Constant(output), 3, floor=0.5)(torch.zeros(5, 7))
    components = Independent(Normal(loc, log_scale.exp() + 0.5), 1)
    expected = MixtureSameFamily(Categorical(logits=logits), components)
    value = torch.randn(5, 2)
    assert distribution.batch_shape == (5,)
    assert distribution.event_shape == (2,)
    torch.testing.assert_close(distribution.log_prob(value), expected.log_prob(value))


def test_mixture_density_of_one_component_is_a_gaussian():
    network = mm.MLP(4, 6)
    x, value = torch.randn(5, 4), torch.randn(5, 3)
    shifted = nn.Sequential(network, nn.ConstantPad1d((1, 0), 0.7))
    one = mm.MixtureDensity(shifted, 1, floor=0.1)(x)
    torch.testing.assert_close(
        one.log_prob(value), mm.Gaussian(network, floor=0.1)(x).log_prob(value)
    )


def test_mixture_density_keeps_its_floor_with_the_weights():
    conditional = mm.MixtureDensity(Constant(torch.full((10,), -200.0)), 2, torch.tensor([0.5, 2]))
    scale = conditional(torch.zeros(3, 1)).components.scale
    torch.testing.assert_close(scale, torch.tensor([0.5, 2]).expand(3, 2, 2))
    other = mm.MixtureDensity(Constant(torch.zeros(10)), 2, torch.zeros(2))
    other.load_state_dict(conditional.state_dict())
    torch.testing.assert_close(other.floor, torch.tensor([0.5, 2]))


@pytest.mark.parametrize(("size", "components"), [(1, 4), (4, 4), (8, 4), (13, 4), (12, 3)])
def test_an_output_that_does_not_divide_into_components_is_an_error(size, components):
    # 4 (1 + 2F) is 12, 20, ...; 4 and 8 would leave no mean or a mean without a scale.
    message = rf"MixtureDensity.*{components} \(1 \+ 2F\), got \(6, {size}\)"
    with pytest.raises(ValueError, match=message):
        mm.MixtureDensity(mm.MLP(2, size), components)(torch.zeros(6, 2))


def test_categorical_takes_the_logits_of_each_value_side_by_side():
    logits = torch.randn(2, 3)
    value = torch.tensor([[0, 2], [1, 1], [2, 0]])
    expected = logits.log_softmax(-1)[torch.arange(2), value].sum(1)
    numbers = mm.Categorical(Constant(logits.flatten()), 3)(torch.zeros(3, 7))
    torch.testing.assert_close(numbers.log_prob(value), expected)
    one_hot = mm.OneHotCategorical(Constant(logits.flatten()), 3, event_dims=2)(torch.zeros(3, 7))
    torch.testing.assert_close(one_hot.log_prob(torch.eye(3)[value]), expected)
    single = mm.OneHotCategorical(Constant(logits[0]), 3)(torch.zeros(3, 7))
    assert single.event_shape == (3,)
    torch.testing.assert_close(single.log_prob(torch.eye(3)), logits[0].log_softmax(-1))


def test_categories_of_an_image_stand_beside_its_channels():
    logits = torch.randn(2, 3, 4, 5)
    output = logits.reshape(6, 4, 5)
    for make, dims in ((mm.Categorical, 3), (mm.OneHotCategorical, 4)):
        distribution = make(Constant(output), 3, event_dims=dims)(torch.zeros(7, 1))
        torch.testing.assert_close(
            distribution.log_probabilities[0], logits.log_softmax(1).movedim(1, -1)
        )
        assert distribution.batch_shape == (7,)
        assert distribution.event_shape == (2, 4, 5, 3)[:dims]


def test_half_precision_outputs_make_distributions_in_single_precision():
    x = torch.zeros(2, 1)
    for size, make in (
        (10, lambda network: mm.MixtureDensity(network, 2)),
        (6, lambda network: mm.Categorical(network, 3)),
        (3, lambda network: mm.OneHotCategorical(network, 3)),
    ):
        distribution = make(Constant(torch.zeros(size, dtype=torch.bfloat16)))(x)
        assert distribution.log_prob(distribution.sample()).dtype == torch.float32


def test_conditionals_give_the_distributions_of_their_names():
    x = torch.zeros(2, 1)
    assert isinstance(mm.MixtureDensity(mm.MLP(1, 6), 2)(x), distributions.Mixture)
    assert isinstance(mm.Categorical(mm.MLP(1, 6), 2)(x), discrete.Categorical)
    assert isinstance(mm.OneHotCategorical(mm.MLP(1, 2), 2)(x), discrete.OneHotCategorical)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.Categorical(mm.MLP(2, 5), 3), r"Categorical.*axis -1 .*3 divides.*\(4, 5\)"),
        (lambda: mm.OneHotCategorical(mm.MLP(2, 5), 3), r"OneHot.*axis -1 .*3 divides.*\(4, 5\)"),
        (lambda: mm.OneHotCategorical(mm.MLP(2, 6), 3), "3 logits.*2 times as many; event_dims=2"),
        (
            lambda: mm.Categorical(Constant(torch.zeros(5, 2, 2)), 3, event_dims=3),
            r"axis -3 .*3 divides.*\(4, 5, 2, 2\)",
        ),
    ],
    ids=["numbers", "one-hot", "several one-hot", "image"],
)
def test_an_output_that_does_not_divide_into_categories_is_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()(torch.zeros(4, 2))


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
        (lambda: mm.MixtureDensity(mm.MLP(2, 3), 0), "components must be 1 or more, got 0"),
        (lambda: mm.MixtureDensity(mm.MLP(2, 3), 1, -0.1), "floor must be 0 or more, got -0.1"),
        (lambda: mm.Categorical(mm.MLP(2, 3), 1), "categories must be 2 or more, got 1"),
        (lambda: mm.OneHotCategorical(mm.MLP(2, 3), 1), "categories must be 2 or more, got 1"),
        (
            lambda: mm.OneHotCategorical(mm.MLP(2, 3), 3, event_dims=0),
            "event_dims must be 1 or more, got 0",
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
    with pytest.raises(ValueError, match=r"hidden must be whole numbers, 1 or more, got \(0,\)"):
        mm.MLP(2, 6, hidden=(0,))
