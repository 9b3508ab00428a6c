"""Networks from tensors to tensors: MLP, gated and masked layers, convolutions of flat images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from mimachine._support.checks import flag, function, instance, sizes, whole

__all__ = [
    "Bound",
    "ConvDecoder",
    "ConvEncoder",
    "GatedConv2d",
    "GatedLinear",
    "MLP",
    "MaskedConv2d",
    "bias_of",
    "channels_last",
    "evaluating",
    "he_initialise",
    "parameters_by_place",
]


Shape = tuple[int, int, int]
# Sides are halved until the shorter one is at most this long.
_SHORT = 7


class MLP(nn.Sequential):
    """Multi-layer perceptron, linear in its last layer.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.
        hidden: Sizes of the hidden layers, from input to output.
        activation: Returns the non-linearity after each hidden layer.

    Shape:
        (..., in_features) to (..., out_features).

    Example:
        >>> MLP(784, 80, hidden=(300,))(torch.zeros(5, 784)).shape
        torch.Size([5, 80])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (300,),
        activation: Callable[[], nn.Module] = nn.Tanh,
    ) -> None:
        widths = (
            whole("in_features", in_features, 1),
            *sizes("hidden", hidden),
            whole("out_features", out_features, 1),
        )
        function("activation", activation, "a module")
        layers: list[nn.Module] = []
        for size, following in itertools.pairwise(widths[:-1]):
            layers += [nn.Linear(size, following), activation()]
        super().__init__(*layers, nn.Linear(widths[-2], widths[-1]))

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        result: Tensor = super().forward(input)
        return result


class GatedLinear(nn.Module):
    """Gated linear layer: a linear layer times the sigmoid of another, value(x) σ(gate(x)).

    The two have separate parameters, since optimisers that divide each tensor's gradient by its
    norm would take different steps with one tensor for both.

    Args:
        in_features: Size of the last axis of the input.
        out_features: Size of the last axis of the output.

    Shape:
        (..., in_features) to (..., out_features).

    References:
        Language Modeling with Gated Convolutional Networks (Dauphin et al., 2017),
        https://arxiv.org/abs/1612.08083
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        in_features = whole("in_features", in_features, 1)
        out_features = whole("out_features", out_features, 1)
        self.value = nn.Linear(in_features, out_features)
        self.gate = nn.Linear(in_features, out_features)

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return _gated(self.value(input), self.gate(input))

    def begin(self, first: Tensor) -> tuple[Tensor, Tensor]:
        """Contribution of the first input features to both layers, including the biases.

        Use it with `finish` to process features once that many inputs share.

        Args:
            first: The first F of the features, shape (..., F).

        Returns:
            Partial sums for `finish`, each of shape (..., out_features).
        """
        return (
            F.linear(first, self.value.weight[:, : first.shape[-1]], self.value.bias),
            F.linear(first, self.gate.weight[:, : first.shape[-1]], self.gate.bias),
        )

    def finish(self, begun: tuple[Tensor, Tensor], rest: Tensor) -> Tensor:
        """Output of the layer, given the contribution of the first features.

        Args:
            begun: Partial sums from `begin`, with shapes that broadcast.
            rest: The other R features, shape (..., R).

        Returns:
            Output for the concatenated features, shape (..., out_features).
        """
        value = begun[0] + F.linear(rest, self.value.weight[:, -rest.shape[-1] :])
        gate = begun[1] + F.linear(rest, self.gate.weight[:, -rest.shape[-1] :])
        return _gated(value, gate)


class GatedConv2d(nn.Module):
    """Gated convolution: a convolution times the sigmoid of another, padded by half a kernel.

    The two have separate parameters, as in `GatedLinear`.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of both kernels, odd.
        stride: Stride of both convolutions.

    Shape:
        (B, in_channels, H, W) to (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1
    ) -> None:
        super().__init__()
        _check_convolution(in_channels, out_channels, kernel_size)
        stride = whole("stride", stride, 1)
        self.value = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.gate = nn.Conv2d(in_channels, out_channels, kernel_size)
        self.stride, self.padding = stride, kernel_size // 2

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        input = channels_last(input)
        # A GPU is limited by memory, and two convolutions read the input twice. A CPU is limited by
        # arithmetic, and the halves of one output have strided channels, slow to differentiate.
        return self.apart(input) if input.device.type == "cpu" else self.as_one(input)

    def apart(self, input: Tensor) -> Tensor:
        """Output computed by two convolutions."""
        value, gate = (
            F.conv2d(input, part.weight, part.bias, self.stride, self.padding)
            for part in (self.value, self.gate)
        )
        return _gated(value, gate)

    def as_one(self, input: Tensor) -> Tensor:
        """Output computed by one convolution."""
        weight = torch.cat([self.value.weight, self.gate.weight])
        bias = torch.cat([bias_of(self.value), bias_of(self.gate)])
        both = F.conv2d(input, weight, bias, self.stride, self.padding)
        return F.glu(both, -3)


class MaskedConv2d(nn.Module):
    """Masked convolution of a PixelCNN: sees only the pixels before its own, row by row.

    It has weights for the whole kernel. Only those above the centre's row and to the left of the
    centre are used, and that of the centre if included. The others get no gradient, and the rows
    below the centre are left out of the computation.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel, odd.
        centre: Whether a pixel sees itself.

    Shape:
        (B, in_channels, H, W) to (B, out_channels, H, W).

    References:
        Pixel Recurrent Neural Networks (van den Oord et al., 2016),
        https://arxiv.org/abs/1601.06759
    """

    mask: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, centre: bool
    ) -> None:
        super().__init__()
        _check_convolution(in_channels, out_channels, kernel_size)
        centre = flag("centre", centre)
        self.in_channels, self.out_channels = in_channels, out_channels
        # torch's default initialisation, with a fan-in of all taps as if none were masked.
        convolution = nn.Conv2d(in_channels, out_channels, kernel_size, bias=False)
        self.weight = nn.Parameter(convolution.weight.detach().clone())
        reach = self.padding = kernel_size // 2
        # Offsets (rows, columns) from the centre of the weights in use.
        above = itertools.product(range(-reach, 0), range(-reach, reach + 1))
        self.taps = [*above, *((0, column) for column in range(-reach, centre))]
        mask = torch.zeros(kernel_size, kernel_size)
        for row, column in self.taps:
            mask[reach + row, reach + column] = 1
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.convolve(input, self.masked())

    def masked(self) -> Tensor:
        """Weights in use, shape (out, in, ⌈kernel_size / 2⌉, kernel_size)."""
        return (self.weight * self.mask)[:, :, : self.padding + 1]

    def convolve(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve with given weights, of the shape of `masked`, and a bias.

        Args:
            input: Shape (B, in, H, W).
            weight: Shape (out, in, ⌈kernel_size / 2⌉, kernel_size).
            bias: Shape (out,).
        """
        reach = self.padding
        if torch.is_grad_enabled():
            return F.conv2d(F.pad(input, (reach, reach, reach, 0)), weight, bias)
        # Pad below too, which a convolution does without a copy, and drop the rows that this adds.
        # With gradients, differentiating the drop would take longer than the copy.
        return F.conv2d(input, weight, bias, padding=reach)[:, :, : input.shape[2]]


class Bound:
    """Bind a module to its current parameters, for a distribution that calls it later.

    Ensembles, and densities without gradient to parameters, replace a module's parameters for the
    duration of one call. Without binding, computations after that call, such as the density of a
    distribution that it returned, would use the module's own parameters.

    Args:
        module: Any module.
    """

    def __init__(self, module: nn.Module) -> None:
        instance("module", module, nn.Module, "a torch.nn.Module")
        self.module, self.parameters = module, parameters_by_place(module)

    def __call__(self, *inputs: Any) -> Any:
        """Call the module with the bound parameters."""
        return functional_call(self.module, self.parameters, inputs, tie_weights=False)


def parameters_by_place(module: nn.Module) -> dict[str, Tensor]:
    """Parameters by every path at which they occur, for `torch.func.functional_call`.

    Left to itself, `functional_call` finds two paths for a submodule that is registered twice, and
    does not restore its parameters.
    """
    return {
        f"{path}.{name}" if path else name: parameter
        for path, part in module.named_modules()
        for name, parameter in part.named_parameters(recurse=False, remove_duplicate=False)
    }


def he_initialise(module: nn.Module) -> None:
    """Initialise the weights of all linear layers from N(0, 2 / in_features) (He).

    References:
        Delving Deep into Rectifiers (He et al., 2015), https://arxiv.org/abs/1502.01852
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.kaiming_normal_(part.weight)


def _gated(value: Tensor, gate: Tensor) -> Tensor:
    return value * torch.sigmoid(gate)


def channels_last(images: Tensor) -> Tensor:
    """Convert images (B, C, H, W) to the channels-last memory format, fastest for convolutions.

    The values do not change, and later layers preserve the format. Only reshapes are used, since
    `Tensor.to(memory_format=...)` cannot run under `torch.vmap`. With one channel, too, the strides
    are those by which torch recognises the format.
    """
    batch, channels, height, width = images.shape
    rows = images.movedim(1, 3).reshape(batch, height * width * channels)
    return rows.reshape(batch, height, width, channels).movedim(3, 1)


def bias_of(convolution: nn.Conv2d) -> Tensor:
    """Bias of a convolution that has one."""
    assert convolution.bias is not None
    return convolution.bias


def _check_convolution(in_channels: int, out_channels: int, kernel_size: int) -> None:
    whole("in_channels", in_channels, 1)
    whole("out_channels", out_channels, 1)
    if whole("kernel_size", kernel_size) < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}")


@contextmanager
def evaluating(part: object) -> Iterator[None]:
    """Put a module in evaluation mode; restore the mode of each submodule afterwards.

    Nothing is done if `part` is not a module, as conditional distributions may be functions.
    """
    module = part if isinstance(part, nn.Module) else nn.Module()
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode


# --- images, flat ---------------------------------------------------------------------------------


class ConvEncoder(nn.Module):
    """Numbers of flat images: strided convolutions, then two dense layers.

    Each convolution halves the sides, until the shorter one is at most 7; the first has `channels`
    outputs and the others twice as many.

    Args:
        shape: An image's channels, height and width.
        out_features: Number of outputs.
        channels: Channels of the first convolution.
        hidden: Size of the dense layer.

    Shape:
        (*batch, C H W) to (*batch, out_features).

    Raises:
        ValueError: If a size is not positive.

    Example:
        >>> mm.ConvEncoder((3, 32, 32), 40)(torch.rand(5, 3072)).shape
        torch.Size([5, 40])
    """

    def __init__(
        self, shape: Shape, out_features: int, channels: int = 32, hidden: int = 300
    ) -> None:
        super().__init__()
        self.shape = _checked(shape)
        channels, hidden = whole("channels", channels, 1), whole("hidden", hidden, 1)
        sides = _sides(self.shape)
        widths = (self.shape[0], channels, *[2 * channels] * len(sides))[: len(sides)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(*pair, 3, stride=2, padding=1) for pair in itertools.pairwise(widths)
        )
        self.dense = nn.Linear(widths[-1] * math.prod(sides[-1]), hidden)
        self.head = nn.Linear(hidden, whole("out_features", out_features, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (*batch, C H W) to (*batch, out_features)."""
        features = x.reshape(-1, *self.shape)
        for convolution in self.convolutions:
            features = F.silu(convolution(features))
        outputs: Tensor = self.head(F.silu(self.dense(features.flatten(1))))
        return outputs.reshape(*x.shape[:-1], -1)


class ConvDecoder(nn.Module):
    """Maps of flat images: two dense layers, then convolutions that double the sides.

    Each convolution gives four times as many channels, which become pixels (Shi et al., 2016). The
    sides are those of `ConvEncoder` in reverse.

    Args:
        in_features: Number of inputs.
        shape: An image's channels, height and width.
        maps: Number of maps of an image's shape.
        channels: Channels before the last convolution; twice as many before the others.
        hidden: Size of the dense layer.

    Shape:
        (*batch, in_features) to (*batch, maps C H W).

    Raises:
        ValueError: If a size is not positive.

    References:
        Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional
        Neural Network (Shi et al., 2016), https://arxiv.org/abs/1609.05158

    Example:
        >>> mm.ConvDecoder(10, (1, 28, 28), maps=2)(torch.randn(5, 10)).shape
        torch.Size([5, 1568])
    """

    def __init__(
        self, in_features: int, shape: Shape, maps: int = 1, channels: int = 32, hidden: int = 300
    ) -> None:
        super().__init__()
        self.shape, self.maps = _checked(shape), whole("maps", maps, 1)
        channels, hidden = whole("channels", channels, 1), whole("hidden", hidden, 1)
        *larger, smallest = _sides(self.shape)
        self.sides = tuple(reversed(larger))
        outputs = maps * self.shape[0]
        widths = [2 * channels] * max(0, len(larger) - 1) + [channels] * bool(larger) + [outputs]
        self.first = (widths[0], *smallest)
        self.dense = nn.Linear(whole("in_features", in_features, 1), hidden)
        self.spread = nn.Linear(hidden, math.prod(self.first))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(size, 4 * following, 3, padding=1)
            for size, following in itertools.pairwise(widths)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map (*batch, in_features) to (*batch, maps C H W)."""
        features: Tensor = self.spread(F.silu(self.dense(z))).reshape(-1, *self.first)
        for convolution, (height, width) in zip(self.convolutions, self.sides, strict=True):
            features = F.pixel_shuffle(convolution(F.silu(features)), 2)[..., :height, :width]
        return features.reshape(*z.shape[:-1], -1)


def _checked(shape: Shape) -> Shape:
    if not isinstance(shape, tuple | list) or len(sizes("shape", shape)) != 3:
        raise ValueError(f"shape must be (C, H, W), 1 or more each, got {shape!r}")
    channels, height, width = shape
    return channels, height, width


def _sides(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of an image, and after each halving."""
    sides = [shape[1:]]
    while min(sides[-1]) > _SHORT:
        sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
    return sides
