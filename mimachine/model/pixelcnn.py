"""PixelCNN: autoregressive images, each pixel given the pixels before it.

One pass of the network scores all pixels of an image. Sampling is sequential, but pixels that
cannot see each other are drawn together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from mimachine._support.checks import one_of, whole
from mimachine.model.conditionals import full_precision
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import Draw
from mimachine.model.networks import MaskedConv2d, bias_of, channels_last
from mimachine.model.pixel_likelihoods import BinaryPixels, Pixels, check_pixels

__all__ = ["AutoregressiveImage", "PixelCNN"]

# Activations in memory while images are drawn: 256 MiB in float32, 2 GiB on a GPU.
_VALUES, _VALUES_ON_GPU = 1 << 26, 1 << 29


class PixelCNN(nn.Module):
    """PixelCNN decoder: masked convolutions with batch normalisation, conditioned on maps.

    A pixel's distribution depends on the pixels in the rows above and to its left, within the
    receptive field, and on the maps of a condition. The channels of a pixel are independent given
    those.

    Args:
        channels: Channels C of the image.
        condition_channels: Channels D of the condition's maps.
        pixels: Pixel likelihood.
        width: Channels of each layer.
        layers: Number of layers.
        kernel_size: Height and width of the kernels, odd and 3 or more.
        condition: Positions at which a pixel sees the condition's maps: only at "earlier" pixels,
            as in the released code, which masks them like the image, so that the first pixel does
            not depend on them; or "everywhere" within a kernel around it.

    References:
        Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016),
        https://arxiv.org/abs/1606.05328; this is the plain stack without gates
    """

    def __init__(
        self,
        channels: int,
        condition_channels: int,
        pixels: Pixels = BinaryPixels(),
        *,
        width: int = 64,
        layers: int = 8,
        kernel_size: int = 3,
        condition: Literal["earlier", "everywhere"] = "earlier",
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "condition_channels": condition_channels}
        for name, value in {**sizes, "width": width, "layers": layers}.items():
            whole(name, value, 1)
        whole("kernel_size", kernel_size, 3)
        check_pixels(pixels)
        one_of("condition", condition, ("earlier", "everywhere"))
        self.channels, self.pixels, self.condition = channels, pixels, condition
        self.first = MaskedLayer(channels + condition_channels, width, kernel_size, centre=False)
        self.later = nn.ModuleList(
            [MaskedLayer(width, width, kernel_size, centre=True) for _ in range(layers - 1)]
        )
        self.heads = nn.ModuleList([nn.Conv2d(width, channels, 1) for _ in range(pixels.maps)])
        self._orders: dict[tuple[Size, torch.device], list[_Step]] = {}

    @property
    def layers(self) -> list[MaskedLayer]:
        """The masked layers in order."""
        return [self.first, *cast(Iterable[MaskedLayer], self.later)]

    def forward(self, maps: Tensor) -> AutoregressiveImage:
        """Distribution of images (C, H, W) given maps of shape (B, D, H, W)."""
        convolution = self.first.convolution
        weight = convolution.weight[:, self.channels :]
        if self.condition == "earlier":
            weight = weight * convolution.mask
        maps = channels_last(maps)
        return AutoregressiveImage(self, F.conv2d(maps, weight, padding=convolution.padding))

    def order(self, shape: Size, device: torch.device) -> list[_Step]:
        """Order in which pixels of images (H, W) are drawn.

        It is cached: copying it to a GPU takes longer than drawing a step, and cannot be part of a
        CUDA graph.
        """
        if (shape, device) not in self._orders:
            convolutions = [layer.convolution for layer in self.layers]
            self._orders[shape, device] = _steps(shape, convolutions, device)
        return self._orders[shape, device]

    def maps_of(self, image: Tensor, context: Tensor, running: bool) -> list[Tensor]:
        """Compute the maps that parameterise each pixel's distribution, all in one pass.

        Args:
            image: Shape (B, C, H, W).
            context: Contribution of the condition to the first layer, shape (B, width, H, W).
            running: Whether to normalise by the running statistics in training mode too.

        Returns:
            `pixels.maps` maps of shape (B, C, H, W).
        """
        running = running or not self.training
        features = self.first.of_two(channels_last(image), channels_last(context), running)
        for layer in self.layers[1:]:
            features = layer(features, running)
        return [full_precision(head(features)) for head in self.heads]


class MaskedLayer(nn.Module):
    """A masked convolution, batch normalisation and ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Height and width of the kernel, odd.
        centre: Whether a pixel sees itself.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, centre: bool
    ) -> None:
        super().__init__()
        self.convolution = MaskedConv2d(in_channels, out_channels, kernel_size, centre=centre)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, input: Tensor, running: bool) -> Tensor:
        """Outputs (B, out, H, W), normalised by the running or by the batch's statistics."""
        if not running:
            return F.relu(self.norm(self.convolution(input)))
        weight, bias, _ = self.folded()
        return F.relu(self.convolution.convolve(input, weight, bias))

    def of_two(self, image: Tensor, context: Tensor, running: bool) -> Tensor:
        """Outputs as of `forward`, with the convolution of the last channels already computed.

        Args:
            image: The first channels of the input.
            context: Convolution of the other channels, shape (B, out, H, W).
            running: Whether to normalise by the running statistics.
        """
        channels = image.shape[1]
        if not running:
            weight = self.convolution.masked()[:, :channels]
            return F.relu(self.norm(self.convolution.convolve(image, weight) + context))
        weight, bias, scale = self.folded()
        convolved = self.convolution.convolve(image, weight[:, :channels], bias)
        return F.relu(torch.addcmul(convolved, context, scale.to(convolved.dtype)))

    def folded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fold the batch normalisation by running statistics into the convolution.

        Returns:
            Weights of the shape of `MaskedConv2d.masked`, a bias (out,), and the factor on the
            convolution, (out, 1, 1).
        """
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        weight = self.convolution.masked() * scale[:, None, None, None]
        return weight, self.norm.bias - mean * scale, scale[:, None, None]


class AutoregressiveImage(Distribution):
    """Autoregressive distribution of images (C, H, W), each pixel given the pixels before it.

    In training mode `log_prob` normalises by the batch statistics and updates the running ones.
    Images are drawn, and scored by `draw`, with the running statistics: a batch of partly drawn
    images has different statistics, and a score by them would belong to another distribution.
    `log_prob_of_drawn` does the same for images drawn under another condition, as
    `Marginal("importance")` requires.

    The mean has no closed form; `mimachine.estimation.codes.moments.mean_of` averages draws.

    Args:
        network: The network.
        context: Contribution of the condition to its first layer, shape (B, width, H, W).
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch declares it so)

    def __init__(self, network: PixelCNN, context: Tensor) -> None:
        self.network, self.context = network, context
        event = Size((network.channels, *context.shape[-2:]))
        super().__init__(context.shape[:-3], event, validate_args=False)

    @property
    def is_discrete(self) -> bool:
        """Whether pixels have probabilities instead of a density."""
        maps = [self.context.new_zeros(1)] * self.network.pixels.maps
        return is_discrete(self.network.pixels(*maps, event_dims=1))

    def draw(self, shape: Size = Size()) -> Draw:
        """Draw a value with its log-probability, also its score, by the running statistics."""
        value = self.sample(shape)
        log_prob = self.log_prob_of_drawn(value)
        return Draw(value, log_prob, log_prob)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Values without gradient, shape (*sample_shape, *batch, C, H, W)."""
        shape = self._extended_shape(sample_shape)
        dtype = self.network.first.convolution.weight.dtype
        return self.from_uniform(torch.rand(shape, dtype=dtype, device=self.context.device))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats, shape (*sample, *batch)."""
        return self._log_prob(value, running=False)

    def log_prob_of_drawn(self, value: Tensor) -> Tensor:
        """Log-probability of images that the network drew, under this or another condition."""
        return self._log_prob(value, running=True)

    def pixels_given(self, value: Tensor) -> Distribution:
        """Distribution of each pixel given those before it in images (B, C, H, W)."""
        return self._pixels(*self._rows(value), running=True)

    def _log_prob(self, value: Tensor, running: bool) -> Tensor:
        image, context = self._rows(value)
        log_prob: Tensor = self._pixels(image, context, running).log_prob(image)
        return log_prob.reshape(torch.broadcast_shapes(value.shape[:-3], self.batch_shape))

    def _pixels(self, image: Tensor, context: Tensor, running: bool) -> Distribution:
        maps = self.network.maps_of(image, context, running)
        return self.network.pixels(*maps, event_dims=3)

    def _rows(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Flatten values (*sample, *batch, C, H, W) and their contexts to rows (N, ·, H, W)."""
        shape = torch.broadcast_shapes(value.shape[:-3], self.batch_shape)
        values, contexts = (
            part.expand(*shape, *part.shape[-3:]).reshape(-1, *part.shape[-3:])
            for part in (value, self.context)
        )
        return values, contexts

    @torch.no_grad()
    def from_uniform(self, uniform: Tensor) -> Tensor:
        """Transform uniform numbers to images, by each pixel's quantile given those before it.

        Pixel (i, j) sees outputs of the layers up to r columns to the right in the rows above, so
        it comes after pixel (i - 1, j + r). All pixels with equal j + (r + 1) i are independent
        given those with less, and are drawn together, in W + (r + 1) (H - 1) steps. Each output of
        each layer is computed once, so that sampling needs the arithmetic of one pass.

        Args:
            uniform: Numbers in [0, 1), shape (*sample, *batch, C, H, W).

        Returns:
            Images of the same shape.
        """
        numbers, context = self._rows(uniform)
        # Without autocast: weights are converted to the precision of the activations once.
        with torch.autocast(context.device.type, enabled=False):
            wavefront = _Wavefront(self.network, context)
            at_once = wavefront.images_at_once()
            parts = zip(numbers.split(at_once), context.split(at_once), strict=True)
            images = [wavefront.images(*part) for part in parts]
        return torch.cat(images).reshape(uniform.shape)


class _Wavefront:
    """Sampler of images that draws all pixels together that do not see each other.

    Activations have shape (N, positions, channels). Positions count the pixels of the image padded
    with zeros above and on both sides, row by row.
    """

    def __init__(self, network: PixelCNN, context: Tensor) -> None:
        self.channels, self.pixels, self.shape = (
            network.channels,
            network.pixels,
            context.shape[-2:],
        )
        layers, dtype = network.layers, context.dtype
        convolutions = [layer.convolution for layer in layers]
        self.steps = network.order(self.shape, context.device)
        reach = convolutions[0].padding
        self.positions = (self.shape[0] + reach) * (self.shape[1] + 2 * reach)
        folded = [layer.folded() for layer in layers]
        # The first layer's convolution of the condition is already computed.
        weights = [folded[0][0][:, : self.channels], *(weight for weight, _, _ in folded[1:])]
        pairs = zip(weights, convolutions, strict=True)
        self.weights = [_by_taps(weight, convolution).to(dtype) for weight, convolution in pairs]
        self.biases = [bias.to(dtype) for _, bias, _ in folded]
        self.scale = folded[0][2].to(dtype)
        self.heads = [
            (head.weight.flatten(1).to(dtype), bias_of(head).to(dtype))
            for head in cast(Iterable[nn.Conv2d], network.heads)
        ]

    def images_at_once(self) -> int:
        """Number of images whose activations fit into the memory limit."""
        each = self.positions * sum(len(bias) for bias in self.biases)
        on_cpu = self.scale.device.type == "cpu"
        return max(1, (_VALUES if on_cpu else _VALUES_ON_GPU) // each)

    def images(self, uniform: Tensor, context: Tensor) -> Tensor:
        """Images from uniform numbers (N, C, H, W), given contexts (N, width, H, W)."""
        uniform = _channels_to_end(uniform)
        context = _channels_to_end(self.scale * context)
        seen, *hidden = (
            context.new_zeros(len(context), self.positions, channels)
            for channels in (self.channels, *map(len, self.biases[:-1]))
        )
        drawn = torch.empty_like(uniform)
        for step in self.steps:
            features = self._features(seen, hidden, context.index_select(1, step.pixels), step)
            maps = [full_precision(F.linear(features, *head)) for head in self.heads]
            numbers = uniform.index_select(1, step.pixels)
            values: Tensor = self.pixels(*maps, event_dims=1).icdf(numbers)
            drawn.index_copy_(1, step.pixels, values.to(drawn.dtype))
            seen.index_copy_(1, step.places, values.to(seen.dtype))
        return drawn.transpose(1, 2).reshape(*drawn.shape[::2], *self.shape)

    def _features(
        self, image: Tensor, hidden: list[Tensor], context: Tensor, step: _Step
    ) -> Tensor:
        """Outputs of the last layer at a step's P pixels, (N, P, width), given those before."""
        features = _matrix_product(image, step.of_image, self.biases[0], self.weights[0])
        features = features.reshape(context.shape).add_(context).relu_()
        layers = zip(hidden, self.biases[1:], self.weights[1:], strict=True)
        for buffer, bias, weight in layers:
            buffer.index_copy_(1, step.places, features)
            features = _matrix_product(buffer, step.of_hidden, bias, weight).relu_()
            features = features.reshape(context.shape)
        return features


class _Step(NamedTuple):
    """P pixels that are drawn together.

    Attributes:
        pixels: Indices in the image, shape (P,).
        places: Positions in the padded image, shape (P,).
        of_image: Positions that the first layer sees from each pixel, shape (P · taps,).
        of_hidden: Positions that later layers see from each pixel, shape (P · taps,).
    """

    pixels: Tensor
    places: Tensor
    of_image: Tensor
    of_hidden: Tensor


def _steps(shape: Size, convolutions: list[MaskedConv2d], device: torch.device) -> list[_Step]:
    """Order in which pixels are drawn; tensors are built for all steps, then split."""
    height, width = shape
    reach = convolutions[0].padding
    across, slope = width + 2 * reach, reach + 1
    order = sorted((j + slope * i, i, j) for i in range(height) for j in range(width))
    sizes = [len(list(group)) for _, group in itertools.groupby(order, lambda pixel: pixel[0])]
    rows, columns = torch.tensor([pixel[1:] for pixel in order], device=device).T
    places = (rows + reach) * across + columns + reach
    neighbours = []
    for convolution in (convolutions[0], convolutions[-1]):
        offsets = torch.tensor([i * across + j for i, j in convolution.taps], device=device)
        seen = (places[:, None] + offsets).split(sizes)
        neighbours.append([part.flatten() for part in seen])
    of_pixels = (rows * width + columns).split(sizes)
    return list(map(_Step, of_pixels, places.split(sizes), *neighbours))


def _by_taps(weight: Tensor, convolution: MaskedConv2d) -> Tensor:
    """Convert weights of the shape of `MaskedConv2d.masked` to a matrix (taps · in, out)."""
    reach = convolution.padding
    taps = [weight[:, :, reach + i, reach + j] for i, j in convolution.taps]
    return torch.cat(taps, 1).T.contiguous()


def _matrix_product(buffer: Tensor, places: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
    """Output of a layer from its inputs at some positions, (N · P, out)."""
    seen = buffer.index_select(1, places).reshape(-1, len(weight))
    return torch.addmm(bias, seen, weight)


def _channels_to_end(image: Tensor) -> Tensor:
    """Reshape images (N, C, H, W) to (N, H W, C)."""
    return image.flatten(2).transpose(1, 2).contiguous()
