"""Gated and masked layers, and modules bound to their current parameters."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap

from mimachine.model.networks import (
    Bound,
    GatedConv2d,
    GatedLinear,
    MaskedConv2d,
    channels_last,
    he_initialise,
)

pytestmark = pytest.mark.usefixtures("double")


def test_a_gated_layer_is_one_layer_times_the_sigmoid_of_another():
    layer, x = GatedLinear(5, 3), torch.randn(2, 7, 5)
    expected = layer.value(x) * layer.gate(x).sigmoid()
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 1, 8), (3, 2, 7), (7, 1, 9), (5, 2, 6)])
def test_a_gated_convolution_is_two_convolutions(kernel, stride, size):
    layer, x = GatedConv2d(2, 3, kernel, stride), torch.randn(4, 2, size, 5)
    value, gate = (
        F.conv2d(x, part.weight, part.bias, stride, kernel // 2)
        for part in (layer.value, layer.gate)
    )
    torch.testing.assert_close(layer(x), value * gate.sigmoid())
    assert layer(x).shape[2:] == (-(-size // stride), -(-5 // stride))


def value_and_gradients(output, inputs):
    weight = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    return [output, *torch.autograd.grad((output * weight).sum(), inputs)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_gate_is_the_same_by_one_convolution_and_by_two(channels, stride):
    layer = GatedConv2d(channels, 4, 3, stride)
    x = torch.randn(5, channels, 6, 7, requires_grad=True)
    inputs = [x, *layer.parameters()]
    expected = value_and_gradients(layer.as_one(x), inputs)
    for way in (layer, layer.apart, lambda x: layer.as_one(channels_last(x))):
        for value, other in zip(value_and_gradients(way(x), inputs), expected, strict=True):
            torch.testing.assert_close(value, other)


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (4, 1, 5, 6), (4, 3, 1, 1), (0, 3, 5, 6)])
def test_images_with_the_channels_last_are_the_same_in_the_order_that_torch_has_for_it(shape):
    x = torch.randn(shape)
    last = channels_last(x)
    assert torch.equal(last, x)
    assert last.stride() == x.to(memory_format=torch.channels_last).stride()
    assert channels_last(last).data_ptr() == last.data_ptr()


@pytest.mark.parametrize("channels", [1, 2])
def test_convolutions_of_several_models_at_once_are_those_of_each(channels):
    for make in (lambda: GatedConv2d(channels, 3), lambda: MaskedConv2d(channels, 3, centre=True)):
        layers, x = [make(), make()], torch.randn(2, 4, channels, 5, 6)
        weights = {
            name: torch.stack([dict(layer.named_parameters())[name] for layer in layers])
            for name, _ in layers[0].named_parameters()
        }
        together = vmap(lambda own, x: functional_call(layers[0], own, (x,)))(weights, x)  # noqa: B023
        each = torch.stack([layer(part) for layer, part in zip(layers, x, strict=True)])
        torch.testing.assert_close(together, each)


def test_a_gate_has_parameters_of_its_own():
    # Gradients normalised per tensor depend on how parameters are split into tensors.
    assert len(list(GatedLinear(5, 3).parameters())) == 4
    assert len(list(GatedConv2d(5, 3).parameters())) == 4


def test_a_gated_layer_of_features_in_two_parts_is_that_of_all_of_them():
    layer = GatedLinear(5, 3)
    first, rest = torch.randn(4, 2), torch.randn(6, 4, 3)
    whole = layer(torch.cat([first.expand(6, 4, 2), rest], -1))
    torch.testing.assert_close(layer.finish(layer.begin(first), rest), whole)


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_masked_convolution_is_one_with_zeros_for_what_comes_later(kernel, centre):
    layer, x = MaskedConv2d(2, 3, kernel, centre=centre), torch.randn(4, 2, 6, 5)
    weight, middle = layer.weight.detach().clone(), kernel // 2
    for i in range(kernel):
        for j in range(kernel):
            later = (i, j) > (middle, middle) or ((i, j) == (middle, middle) and not centre)
            weight[:, :, i, j] *= not later
    expected = F.conv2d(x, weight, padding=middle)
    torch.testing.assert_close(layer(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)


def test_a_masked_convolution_leaves_its_weights_alone():
    layer = MaskedConv2d(2, 3, centre=False)
    before = layer.weight.detach().clone()
    layer(torch.randn(4, 2, 6, 5)).sum().backward()
    assert torch.equal(layer.weight, before)
    assert bool(
        (layer.weight.grad[:, :, 1, 1:] == 0).all() & (layer.weight.grad[:, :, 2] == 0).all()
    )


def test_a_masked_convolution_tells_where_it_looks():
    above = [(-1, -1), (-1, 0), (-1, 1), (0, -1)]
    assert MaskedConv2d(1, 1, centre=False).taps == above
    assert MaskedConv2d(1, 1, centre=True).taps == [*above, (0, 0)]


@pytest.mark.parametrize("kernel", [0, 2])
def test_even_kernels_are_refused(kernel):
    for make in (
        lambda: GatedConv2d(1, 1, kernel),
        lambda: MaskedConv2d(1, 1, kernel, centre=True),
    ):
        with pytest.raises(ValueError, match=f"kernel_size must be odd and positive, got {kernel}"):
            make()


def test_he_weights_have_variance_two_over_the_inputs_and_convolutions_stay():
    module = nn.Sequential(nn.Linear(400, 300), nn.Conv2d(3, 4, 3))
    bias, kernel = module[0].bias.detach().clone(), module[1].weight.detach().clone()
    he_initialise(module)
    weights = module[0].weight.detach().flatten()
    # The mean square of n normal numbers has a relative standard deviation of √(2/n).
    error = (weights.square().mean() * 400 / 2 - 1).abs()
    assert error < 5 * (2 / len(weights)) ** 0.5
    assert torch.equal(module[0].bias, bias)
    assert torch.equal(module[1].weight, kernel)


def test_a_bound_module_keeps_the_parameters_it_had():
    module, x = nn.Linear(3, 2), torch.randn(4, 3)
    other = {name: torch.randn_like(value) for name, value in module.named_parameters()}

    class Binds(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = module

        def forward(self):
            return Bound(self.part)

    bound = functional_call(Binds(), {f"part.{name}": value for name, value in other.items()}, ())
    torch.testing.assert_close(bound(x), F.linear(x, other["weight"], other["bias"]))
    torch.testing.assert_close(module(x), F.linear(x, module.weight, module.bias))
