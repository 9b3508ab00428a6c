"""PixelCNN: order of the pixels, normalisation, exact sampling, batch normalisation."""

import itertools
import math

import pytest
import torch
from oracles import within_standard_errors
from torch import nn

import mimachine as mm
from mimachine.estimation.codes.floors import scales
from mimachine.estimation.codes.moments import mean_of
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import draw, log_prob_of_drawn
from mimachine.model.pixelcnn import AutoregressiveImage

pytestmark = pytest.mark.usefixtures("double")


def network(channels=1, condition_channels=2, **options):
    """A network in evaluation mode whose running statistics are not the initial ones."""
    made = mm.PixelCNN(channels, condition_channels, **{"width": 6, "layers": 3, **options})
    for norm in [part for part in made.modules() if isinstance(part, nn.BatchNorm2d)]:
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias, 0.5)  # So that few units are off.
    return made.eval()


def pixel_by_pixel(given, uniform):
    """Naive sampler: one pass of the whole network per pixel."""
    image = torch.zeros_like(uniform)
    for i, j in itertools.product(*map(range, uniform.shape[-2:])):
        maps = given.network.maps_of(image, given.context, running=True)
        value = given.network.pixels(*maps, event_dims=3).icdf(uniform)
        image[..., i, j] = value[..., i, j]
    return image


def logits_at(net, image, maps):
    return net.maps_of(image, net(maps).context, running=True)[0]


@pytest.mark.parametrize("condition", ["earlier", "everywhere"])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_pixel_does_not_depend_on_itself_or_on_later_ones(kernel_size, condition):
    net = network(channels=2, kernel_size=kernel_size, condition=condition)
    maps = torch.randn(1, 2, 5, 4)

    def logits(image):
        return logits_at(net, image, maps)

    jacobian = torch.autograd.functional.jacobian(logits, torch.rand(1, 2, 5, 4))
    # (position, position) of output and input, whatever the channels.
    of_places = jacobian.abs().amax((0, 1, 4, 5)).reshape(20, 20)
    assert (of_places.triu() == 0).all()
    assert (of_places.diagonal(-1)[:3] > 0).all()


def test_the_receptive_field_of_the_default_stack_is_that_of_eight_layers():
    """116 of the 406 pixels before (14, 14): 9 rows, with a blind spot to the right."""
    net = network(width=4, layers=8)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.constant_(part.bias, 5.0)  # So that no unit is off.
    image = torch.rand(1, 1, 28, 28, requires_grad=True)
    logits_at(net, image, torch.randn(1, 2, 28, 28))[0, 0, 14, 14].backward()
    assert (image.grad != 0).sum() == 116


def test_a_pixel_sees_the_condition_at_earlier_pixels_or_everywhere():
    for condition, of_itself in (("earlier", False), ("everywhere", True)):
        net, maps = network(condition=condition), torch.randn(1, 2, 4, 4)

        def logits(maps, net=net):
            return logits_at(net, torch.ones(1, 1, 4, 4), maps)

        jacobian = torch.autograd.functional.jacobian(logits, maps)
        of_places = jacobian.abs().amax((0, 1, 4, 5)).reshape(16, 16)
        assert bool((of_places.diagonal() > 0).all()) is of_itself
        assert bool((of_places.triu() > 0).any()) is of_itself
        assert (of_places.diagonal(-1)[[0, 4, 8]] > 0).all()


@pytest.mark.parametrize("condition", ["earlier", "everywhere"])
def test_probabilities_of_all_images_sum_to_one(condition):
    net = network(condition=condition)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6))).reshape(-1, 1, 1, 3, 2)
    log_prob = net(torch.randn(5, 2, 3, 2)).log_prob(images)
    assert log_prob.shape == (64, 5)
    torch.testing.assert_close(log_prob.logsumexp(0), torch.zeros(5))


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (1, 9, 7)),
        ({"layers": 1}, (1, 6, 5)),
        ({"layers": 8, "width": 3}, (1, 12, 11)),
        ({"kernel_size": 5}, (1, 7, 9)),
        ({"kernel_size": 7, "layers": 2, "width": 3}, (1, 6, 9)),
        ({"condition": "everywhere"}, (1, 7, 6)),
        ({"channels": 3, "condition_channels": 6}, (3, 6, 5)),
        ({"channels": 3, "pixels": mm.GreyPixels()}, (3, 6, 5)),
        ({"pixels": mm.RealPixels()}, (1, 6, 5)),
        ({}, (1, 8, 1)),
        ({}, (1, 1, 8)),
    ],
)
def test_what_is_drawn_is_what_a_pass_for_each_pixel_draws(options, shape):
    net = network(**options)
    channels = options.get("condition_channels", 2)
    given, uniform = net(torch.randn(4, channels, *shape[1:])), torch.rand(4, *shape)
    image, expected = given.from_uniform(uniform), pixel_by_pixel(given, uniform)
    if isinstance(net.pixels, mm.RealPixels):
        torch.testing.assert_close(image, expected)
    else:
        assert torch.equal(image, expected)
    assert 0 < image.mean() < 1


@pytest.mark.parametrize(
    ("kernel_size", "shape", "steps"), [(3, (28, 28), 82), (5, (28, 28), 109), (3, (28, 20), 74)]
)
def test_pixels_that_do_not_see_each_other_are_drawn_in_one_step(kernel_size, shape, steps):
    """W + (r + 1) (H - 1) steps, for r = 1 those of j + 2i; each calls a distribution once."""
    asked = []

    class Counting(mm.BinaryPixels):
        def __call__(self, *maps, event_dims):
            asked.append(maps[0].shape[1])
            return super().__call__(*maps, event_dims=event_dims)

    network(kernel_size=kernel_size, pixels=Counting())(torch.randn(1, 2, *shape)).sample()
    assert len(asked) == steps
    assert sum(asked) == shape[0] * shape[1]


def test_images_drawn_in_parts_are_those_drawn_at_once(monkeypatch):
    given, uniform = network()(torch.randn(7, 2, 5, 4)), torch.rand(3, 7, 1, 5, 4)
    together = given.from_uniform(uniform)
    monkeypatch.setattr("mimachine.model.pixelcnn._VALUES", 2000)
    assert torch.equal(given.from_uniform(uniform), together)
    assert torch.equal(given.from_uniform(uniform[1]), together[1])
    assert given.sample((0,)).shape == (0, 7, 1, 5, 4)


def test_draws_are_as_frequent_as_they_are_likely():
    given = network()(torch.randn(1, 2, 2, 2))
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).reshape(-1, 1, 1, 2, 2)
    drawn = given.sample((20_000,))
    seen = (drawn.flatten(1)[:, None] == images.flatten(1)).all(-1).double()
    within_standard_errors(seen, given.log_prob(images).exp().squeeze(1))


def test_the_score_has_the_gradient_of_the_mean():
    """REINFORCE by enumeration: E[f ∇score] = ∇ Σ_x p(x) f(x), and E[∇score] = 0."""
    net = network()
    maps = torch.randn(1, 2, 2, 2)
    images = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).reshape(-1, 1, 1, 2, 2)
    f = torch.randn(16)
    weight = net.heads[0].bias
    (exact,) = torch.autograd.grad((net(maps).log_prob(images)[:, 0].exp() * f).sum(), weight)
    value, log_prob, score = draw(net(maps), (20_000,))
    assert score is log_prob
    index = (value.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long()
    # The derivative with respect to the head's bias is Σ (x - p), known without a pass per draw.
    (jacobian,) = torch.autograd.functional.jacobian(
        lambda bias: torch.func.functional_call(
            _LogProb(net, maps, images), {"net.heads.0.bias": bias}, ()
        ),
        (weight.detach(),),
    )
    terms = (f[:, None] * jacobian)[index]
    within_standard_errors(terms, exact)
    within_standard_errors(jacobian[index], torch.zeros(1))


class _LogProb(nn.Module):
    def __init__(self, net, maps, images):
        super().__init__()
        self.net, self.maps, self.images = net, maps, images

    def forward(self):
        return self.net(self.maps).log_prob(self.images)[:, 0]


def statistics(net):
    return [buffer.clone() for name, buffer in net.named_buffers() if "running" in name]


def test_in_training_what_is_drawn_is_scored_by_the_statistics_it_was_drawn_by():
    net, maps = network(), torch.randn(6, 2, 5, 4)
    uniform = torch.rand(6, 1, 5, 4)
    evaluated = net(maps).from_uniform(uniform)
    net.train()
    given = net(maps)
    assert torch.equal(given.from_uniform(uniform), evaluated)
    before = statistics(net)
    value, log_prob, _ = draw(given)
    assert all(map(torch.equal, statistics(net), before))
    torch.testing.assert_close(log_prob, net.eval()(maps).log_prob(value))


def test_in_training_data_are_scored_by_the_statistics_of_the_batch():
    net, maps, image = network().train(), torch.randn(6, 2, 5, 4), torch.rand(6, 1, 5, 4).round()
    before = statistics(net)
    log_prob = net(maps).log_prob(image)
    assert not any(map(torch.equal, statistics(net), before))
    # With momentum 1 the running statistics become those of the batch.
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    net(maps).log_prob(image)
    # torch's running variance is the unbiased one, over 6 · 20 numbers.
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var *= 119 / 120
    torch.testing.assert_close(net.eval()(maps).log_prob(image), log_prob)


@pytest.mark.parametrize("condition", ["earlier", "everywhere"])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_the_score_is_the_same_where_nothing_is_differentiated(condition, kernel_size):
    """Without gradients rows are padded differently; the normalisation is in the weights."""
    net = network(2, condition=condition, kernel_size=kernel_size)
    maps, image = torch.randn(4, 2, 6, 5), torch.rand(3, 4, 2, 6, 5).round()
    log_prob = net(maps).log_prob(image)
    with torch.no_grad():
        torch.testing.assert_close(net(maps).log_prob(image), log_prob)
    for layer in net.layers:
        whole = layer.norm(layer.convolution(torch.ones(1, layer.convolution.in_channels, 6, 5)))
        with torch.no_grad():
            folded = layer(torch.ones(1, layer.convolution.in_channels, 6, 5), running=True)
        torch.testing.assert_close(folded, whole.relu())


def test_an_image_is_one_event_without_a_closed_form_of_the_mean():
    given = network()(torch.randn(6, 2, 5, 4))
    assert isinstance(given, AutoregressiveImage)
    assert (given.batch_shape, given.event_shape) == ((6,), (1, 5, 4))
    with pytest.raises(NotImplementedError):
        _ = given.mean
    assert mean_of(given, num_samples=3).shape == (6, 1, 5, 4)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="layers must be 1 or more, got 0"):
        mm.PixelCNN(1, 1, layers=0)
    with pytest.raises(ValueError, match="kernel_size must be 3 or more, got 1"):
        mm.PixelCNN(1, 1, kernel_size=1)
    with pytest.raises(ValueError, match="condition must be one of earlier, everywhere"):
        mm.PixelCNN(1, 1, condition="later")


def test_in_training_what_was_drawn_is_scored_alike_given_anything():
    net, maps, others = network(), torch.randn(6, 2, 5, 4), torch.randn(6, 2, 5, 4)
    value = net(maps).sample()
    expected = net(others).log_prob(value)
    net.train()
    before = statistics(net)
    torch.testing.assert_close(log_prob_of_drawn(net(others), value), expected)
    assert all(map(torch.equal, statistics(net), before))
    # For data, and distributions that score both alike, it is log_prob.
    torch.testing.assert_close(log_prob_of_drawn(net.eval()(others), value), expected)
    normal = mm.DiagNormal(torch.zeros(3), torch.ones(3))
    assert torch.equal(log_prob_of_drawn(normal, torch.ones(3)), normal.log_prob(torch.ones(3)))


def test_an_image_is_discrete_as_its_pixels_are():
    for pixels, expected in (
        (mm.BinaryPixels(), True),
        (mm.GreyPixels(), True),
        (mm.RealPixels(), False),
    ):
        assert is_discrete(network(pixels=pixels)(torch.randn(2, 2, 4, 4))) is expected


def test_the_scales_of_an_image_are_those_of_each_pixel_given_those_before_it():
    net = network(pixels=mm.RealPixels(log_scale=(-1.0, 0.0)))
    given, image = net(torch.randn(3, 2, 4, 4)), torch.rand(3, 1, 4, 4)
    (found,) = scales(given, image)
    _, log_scale = net.maps_of(image, given.context, running=True)
    torch.testing.assert_close(found.scale, log_scale.clamp(-1, 0).exp())
    assert found.floor == pytest.approx(math.exp(-1))
    assert torch.equal(found.at_floor, log_scale <= -1 + math.log(1.01))


def test_in_training_both_scores_of_a_decoded_image_are_by_the_running_statistics():
    model = mm.pixel_hvae((1, 5, 4), latents=(2, 2), hidden=4, channels=2, layers=2)
    model.data_prior = mm.Marginal("importance")
    before = statistics(model.train())
    sample = model.decode(torch.randn(6, 4))
    found = model.log_probs(sample)
    assert all(map(torch.equal, statistics(model), before))
    expected = model.eval().log_probs(sample._replace(log_prob=None, second_log_prob=None))
    torch.testing.assert_close(found.p_x_given_z, expected.p_x_given_z)
    torch.testing.assert_close(found.q_x, expected.q_x)
