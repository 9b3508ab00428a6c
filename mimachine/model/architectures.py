"""Image models of the paper: VAE, HVAE, ConvHVAE and PixelHVAE, for images of any shape.

The MIM paper took these architectures from the VampPrior paper. With the default sizes they have
its numbers of parameters. The latents of a hierarchy are one event z = (z2, z1), drawn in this
order: p(z2) p(z1|z2) p(x|z1, z2) and q(z2|x) q(z1|x, z2).

References:
    VAE with a VampPrior (Tomczak and Welling, 2018), https://arxiv.org/abs/1705.07120
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine._support.checks import function, one_of, real, sizes, whole
from mimachine.model.conditionals import ClampedGaussian, Conditional, full_precision
from mimachine.model.distributions import DiagNormal
from mimachine.model.hierarchy import ChainConditional, ChainPrior
from mimachine.model.joint import Joint
from mimachine.model.networks import Bound, GatedConv2d, GatedLinear, he_initialise
from mimachine.model.pixel_likelihoods import BinaryPixels, Pixels, check_pixels
from mimachine.model.pixelcnn import AutoregressiveImage, PixelCNN
from mimachine.model.priors import Prior, StandardNormal, VampPrior, unit_interval

__all__ = ["conv_hvae", "dense_vae", "hvae", "pixel_hvae"]

Shape = tuple[int, int, int]
# Channels of the encoders' last convolution, whose outputs are flattened.
_NARROW = 6


def dense_vae(
    shape: Shape = (1, 28, 28),
    pseudo_inputs: Tensor | None = None,
    *,
    latents: int = 40,
    pixels: Pixels = BinaryPixels(),
    hidden: int = 300,
    log_variance: tuple[float, float] = (-6.0, 2.0),
    encoder_std: float | None = None,
    constraint: Callable[[Tensor], Tensor] | None = unit_interval,
) -> Joint:
    """VAE with gated dense layers: 1,116,864 parameters for 28 x 28 binary pixels.

    Args:
        shape: An image's channels, height and width.
        pseudo_inputs: Initial pseudo-inputs (K, C, H, W) of a VampPrior, such as training images;
            by default the prior is N(0, I).
        latents: Number of latents.
        pixels: Pixel likelihood: `BinaryPixels`, `GreyPixels` or `RealPixels`.
        hidden: Size of the hidden layers.
        log_variance: Bounds of the encoder's log-variances.
        encoder_std: A constant standard deviation of the encoder, instead of a learned one.
        constraint: Applied to the pseudo-inputs; the default keeps them in [0, 1].

    Returns:
        The model, with data of shape (C, H, W).

    Raises:
        ValueError: If a size is not positive or the pseudo-inputs have another shape.

    Example:
        >>> model = mm.dense_vae((1, 8, 8), torch.rand(5, 1, 8, 8), latents=3, hidden=10)
        >>> mm.Loss(model, mm.A_MIM)(torch.rand(4, 1, 8, 8).round()).shape
        torch.Size([4])
    """
    _check(shape, pseudo_inputs, pixels, encoder_std, latents=latents, hidden=hidden)
    features = _dense_trunk(shape, hidden, 2)
    encoder = ClampedGaussian(features, hidden, latents, log_variance, scale=encoder_std)
    trunk = nn.Sequential(GatedLinear(latents, hidden), GatedLinear(hidden, hidden))
    decoder = _Decoder(trunk, _dense_layer(hidden, shape), shape, pixels)
    prior = _prior(latents, encoder, pseudo_inputs, constraint)
    return _initialised(encoder, _CheckedDecoder(decoder, (latents,)), prior)


def hvae(
    shape: Shape = (1, 28, 28),
    pseudo_inputs: Tensor | None = None,
    *,
    latents: tuple[int, int] = (40, 40),
    pixels: Pixels = BinaryPixels(),
    hidden: int = 300,
    log_variance: tuple[float, float] = (-6.0, 2.0),
    encoder_std: float | None = None,
    constraint: Callable[[Tensor], Tensor] | None = unit_interval,
) -> Joint:
    """HVAE, two levels, gated dense layers: 2,431,024 parameters for 28 x 28 binary pixels.

    Args:
        shape: An image's channels, height and width.
        pseudo_inputs: Initial pseudo-inputs (K, C, H, W) of a VampPrior on z2, such as training
            images; by default p(z2) is N(0, I). In both cases p(z1|z2) is learned.
        latents: Numbers of latents z2 and z1, in their order in z.
        pixels: Pixel likelihood: `BinaryPixels`, `GreyPixels` or `RealPixels`.
        hidden: Size of the hidden layers.
        log_variance: Bounds of the log-variances of q(z2|x), q(z1|x, z2) and p(z1|z2).
        encoder_std: A constant standard deviation of the encoder's two levels, instead of
            learned ones.
        constraint: Applied to the pseudo-inputs; the default keeps them in [0, 1].

    Returns:
        The model, with data of shape (C, H, W) and latents of the sum of `latents`.

    Raises:
        ValueError: If a size is not positive or the pseudo-inputs have another shape.

    Example:
        >>> model = mm.hvae((1, 8, 8), latents=(3, 2), hidden=10)
        >>> model.encode(torch.rand(4, 1, 8, 8).round()).z.shape
        torch.Size([4, 5])
    """
    _check_pair(latents)
    _check(shape, pseudo_inputs, pixels, encoder_std, hidden=hidden)
    features = _dense_trunk(shape, hidden, 2)
    top = ClampedGaussian(features, hidden, latents[0], log_variance, scale=encoder_std)
    of_x = _dense_trunk(shape, hidden, 1)
    bottom = _SecondEncoder(of_x, hidden, latents, hidden, hidden, log_variance, encoder_std)
    trunk = _MergedLatents(latents, hidden, hidden)
    decoder = _Decoder(trunk, _dense_layer(hidden, shape), shape, pixels)
    prior = _hierarchical_prior(latents, hidden, log_variance, top, pseudo_inputs, constraint)
    encoder = ChainConditional(top, bottom, latents[1])
    return _initialised(encoder, _CheckedDecoder(decoder, latents), prior)


def conv_hvae(
    shape: Shape = (1, 28, 28),
    pseudo_inputs: Tensor | None = None,
    *,
    latents: tuple[int, int] = (40, 40),
    pixels: Pixels = BinaryPixels(),
    hidden: int = 300,
    channels: int = 32,
    log_variance: tuple[float, float] = (-6.0, 2.0),
    constraint: Callable[[Tensor], Tensor] | None = unit_interval,
) -> Joint:
    """ConvHVAE, two levels, gated convolutions: 2,210,861 parameters for 28 x 28 binary pixels.

    Args:
        shape: An image's channels, height and width.
        pseudo_inputs: As for `hvae`.
        latents: As for `hvae`.
        pixels: As for `hvae`.
        hidden: Size of the hidden dense layers.
        channels: Channels of the encoders' first convolutions; the later ones and the decoder's
            have twice as many.
        log_variance: As for `hvae`.
        constraint: As for `hvae`.

    Returns:
        The model, with data of shape (C, H, W) and latents of the sum of `latents`.

    Raises:
        ValueError: If a size is not positive or the pseudo-inputs have another shape.

    Example:
        >>> model = mm.conv_hvae((3, 8, 8), latents=(3, 2), hidden=10, channels=4)
        >>> model.decode(torch.randn(4, 5)).x.shape
        torch.Size([4, 3, 8, 8])
    """
    _check_pair(latents)
    _check(shape, pseudo_inputs, pixels, hidden=hidden, channels=channels)
    wide, size = 2 * channels, math.prod(shape)
    trunk = nn.Sequential(
        _MergedLatents(latents, hidden, size),
        nn.Unflatten(-1, shape),
        GatedConv2d(shape[0], wide),
        *(GatedConv2d(wide, wide) for _ in range(3)),
    )

    def layer() -> nn.Module:
        return nn.Conv2d(wide, shape[0], 1)

    decoder = _CheckedDecoder(_Decoder(trunk, layer, shape, pixels), latents)
    encoder = _conv_encoder(shape, latents, hidden, channels, log_variance)
    top = cast(ClampedGaussian, encoder.first)
    prior = _hierarchical_prior(latents, hidden, log_variance, top, pseudo_inputs, constraint)
    return _initialised(encoder, decoder, prior)


def pixel_hvae(
    shape: Shape = (1, 28, 28),
    pseudo_inputs: Tensor | None = None,
    *,
    latents: tuple[int, int] = (40, 40),
    pixels: Pixels = BinaryPixels(),
    hidden: int = 300,
    channels: int = 32,
    layers: int = 8,
    latent_maps: Literal["earlier", "everywhere"] = "earlier",
    log_variance: tuple[float, float] = (-6.0, 2.0),
    constraint: Callable[[Tensor], Tensor] | None = unit_interval,
) -> Joint:
    """PixelHVAE, two levels, PixelCNN decoder: 1,385,821 parameters for 28 x 28 binary pixels.

    The encoder is that of `conv_hvae`. The decoder's mean has no closed form: reconstructions
    are draws, or means of draws.

    Args:
        shape: An image's channels, height and width.
        pseudo_inputs: As for `hvae`.
        latents: As for `hvae`.
        pixels: As for `hvae`.
        hidden: Size of the hidden dense layers.
        channels: Channels of the encoders' first convolutions; the later ones and the decoder's
            have twice as many.
        layers: Number of masked layers of the decoder.
        latent_maps: Positions at which a pixel sees the maps computed from the latents: at
            "earlier" pixels, as in the released code, whose first pixel does not depend on the
            latents; or "everywhere" within a kernel around it.
        log_variance: As for `hvae`.
        constraint: As for `hvae`.

    Returns:
        The model, with data of shape (C, H, W) and latents of the sum of `latents`.

    Raises:
        ValueError: If a size is not positive or the pseudo-inputs have another shape.

    Example:
        >>> model = mm.pixel_hvae((1, 6, 5), latents=(3, 2), hidden=10, channels=4, layers=2)
        >>> model.decode(torch.randn(4, 5)).x.shape
        torch.Size([4, 1, 6, 5])
    """
    _check_pair(latents)
    _check(shape, pseudo_inputs, pixels, hidden=hidden, channels=channels, layers=layers)
    one_of("latent_maps", latent_maps, ("earlier", "everywhere"))
    network = PixelCNN(
        shape[0], 2 * shape[0], pixels, width=2 * channels, layers=layers, condition=latent_maps
    )
    decoder = _CheckedDecoder(_PixelDecoder(latents, shape, network), latents)
    encoder = _conv_encoder(shape, latents, hidden, channels, log_variance)
    top = cast(ClampedGaussian, encoder.first)
    prior = _hierarchical_prior(latents, hidden, log_variance, top, pseudo_inputs, constraint)
    return _initialised(encoder, decoder, prior)


class _CheckedImages(nn.Module):
    """Identity that checks the shape of images (B, C, H, W)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images.

        Raises:
            ValueError: If they have another shape.
        """
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"x must have shape (B, {', '.join(map(str, self.shape))}), got {tuple(x.shape)}"
            )
        return x


class _SecondEncoder(nn.Module):
    """q(z1|x, z2), with the features of x computed once per x.

    Args:
        of_x: Maps (B, C, H, W) to features (B, features).
        features: Number of features of x.
        latents: Numbers of latents z2 and z1.
        of_z2: Number of features of z2.
        hidden: Size of the layer on the features of both.
        log_variance: Bounds of the log-variance.
        scale: A constant standard deviation.
    """

    def __init__(
        self,
        of_x: nn.Module,
        features: int,
        latents: tuple[int, int],
        of_z2: int,
        hidden: int,
        log_variance: tuple[float, float],
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.of_x = of_x
        both = GatedLinear(features + of_z2, hidden)
        self.of_both = _SecondEncoderHead(
            GatedLinear(latents[0], of_z2),
            both,
            ClampedGaussian(nn.Identity(), hidden, latents[1], log_variance, scale=scale),
        )

    def forward(self, x: Tensor) -> Callable[[Tensor], DiagNormal]:
        """Return a function from latents z2 of shape (*sample, B, F) to q(z1|x, z2)."""
        partial_sums, of_both = self.of_both.begin(self.of_x(x)), Bound(self.of_both)

        def given(z2: Tensor) -> DiagNormal:
            return cast(DiagNormal, of_both(partial_sums, z2))

        return given


class _SecondEncoderHead(nn.Module):
    """Layers of q(z1|x, z2) that depend on z2."""

    def __init__(self, of_z2: GatedLinear, both: GatedLinear, head: ClampedGaussian) -> None:
        super().__init__()
        self.of_z2, self.both, self.head = of_z2, both, head

    def begin(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Contribution of the features of x to the shared layer, see `GatedLinear.begin`."""
        return self.both.begin(features)

    def forward(self, partial_sums: tuple[Tensor, Tensor], z2: Tensor) -> DiagNormal:
        """q(z1|x, z2) for latents z2 of shape (*sample, B, F)."""
        given = self.head(self.both.finish(partial_sums, self.of_z2(z2)))
        return cast(DiagNormal, given)


class _MergedLatents(nn.Module):
    """A layer for each of z1 and z2, then one for both: (B, z2 + z1) to (B, outputs)."""

    def __init__(self, latents: tuple[int, int], hidden: int, outputs: int) -> None:
        super().__init__()
        self.latents = tuple(latents)
        self.of_z2, self.of_z1 = (GatedLinear(size, hidden) for size in latents)
        self.both = GatedLinear(2 * hidden, outputs)

    def forward(self, z: Tensor) -> Tensor:
        z2, z1 = z.split(self.latents, -1)
        merged: Tensor = self.both(torch.cat([self.of_z1(z1), self.of_z2(z2)], -1))
        return merged


class _Decoder(nn.Module):
    """Decoder p(x|z) of pixels that are independent given z."""

    def __init__(
        self, trunk: nn.Module, layer: Callable[[], nn.Module], shape: Shape, pixels: Pixels
    ) -> None:
        super().__init__()
        self.trunk, self.shape, self.pixels = trunk, tuple(shape), pixels
        # Separate layers per map: with gradients normalised per tensor, one layer would differ.
        self.heads = nn.ModuleList([layer() for _ in range(pixels.maps)])

    def forward(self, z: Tensor) -> Distribution:
        """Distribution of images (C, H, W) given latents (B, Z)."""
        features = self.trunk(z)
        maps = [full_precision(head(features)).reshape(-1, *self.shape) for head in self.heads]
        return self.pixels(*maps, event_dims=3)


class _PixelDecoder(nn.Module):
    """PixelCNN decoder p(x|z1, z2); z1 and z2 become maps of an image's shape."""

    def __init__(self, latents: tuple[int, int], shape: Shape, network: PixelCNN) -> None:
        super().__init__()
        self.latents, self.shape = tuple(latents), tuple(shape)
        self.of_z2, self.of_z1 = (GatedLinear(size, math.prod(shape)) for size in latents)
        self.network = network

    def forward(self, z: Tensor) -> AutoregressiveImage:
        """Distribution of images (C, H, W) given latents (B, Z)."""
        z2, z1 = z.split(self.latents, -1)
        maps = torch.cat([self.of_z1(z1), self.of_z2(z2)], -1)
        image: AutoregressiveImage = self.network(
            maps.reshape(-1, 2 * self.shape[0], *self.shape[1:])
        )
        return image


class _CheckedDecoder(nn.Module):
    """Decoder that checks the shape of latents."""

    def __init__(self, decoder: nn.Module, latents: tuple[int, ...]) -> None:
        super().__init__()
        self.decoder, self.latents = decoder, sum(latents)

    def forward(self, z: Tensor) -> Distribution:
        """Distribution of images (C, H, W) given latents (B, Z)."""
        if z.dim() != 2 or z.shape[1] != self.latents:
            raise ValueError(f"z must have shape (B, {self.latents}), got {tuple(z.shape)}")
        given: Distribution = self.decoder(z)
        return given


def _dense_trunk(shape: Shape, hidden: int, layers: int) -> nn.Sequential:
    gates = [GatedLinear(hidden, hidden) for _ in range(layers - 1)]
    first = GatedLinear(math.prod(shape), hidden)
    return nn.Sequential(_CheckedImages(shape), nn.Flatten(), first, *gates)


def _dense_layer(hidden: int, shape: Shape) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(hidden, math.prod(shape))


def _conv_trunk(shape: Shape, channels: int, kernels: tuple[int, int]) -> nn.Sequential:
    """Five gated convolutions; `kernels` are the sizes of the first and the third."""
    wide = 2 * channels
    return nn.Sequential(
        _CheckedImages(shape),
        GatedConv2d(shape[0], channels, kernels[0]),
        GatedConv2d(channels, channels, stride=2),
        GatedConv2d(channels, wide, kernels[1]),
        GatedConv2d(wide, wide, stride=2),
        GatedConv2d(wide, _NARROW),
        nn.Flatten(),
    )


def _conv_encoder(
    shape: Shape,
    latents: tuple[int, int],
    hidden: int,
    channels: int,
    log_variance: tuple[float, float],
) -> ChainConditional:
    # Two strides of 2, each of which rounds up.
    features = _NARROW * math.prod(-(-side // 4) for side in shape[1:])
    top = ClampedGaussian(_conv_trunk(shape, channels, (7, 5)), features, latents[0], log_variance)
    of_x = _conv_trunk(shape, channels, (3, 3))
    bottom = _SecondEncoder(of_x, features, latents, features, hidden, log_variance)
    return ChainConditional(top, bottom, latents[1])


def _prior(
    size: int,
    encoder: Conditional,
    pseudo_inputs: Tensor | None,
    constraint: Callable[[Tensor], Tensor] | None,
) -> StandardNormal | VampPrior:
    if constraint is not None:
        function("constraint", constraint, "a tensor")
    if pseudo_inputs is None:
        return StandardNormal(size)
    return VampPrior(encoder, pseudo_inputs, constraint)


def _hierarchical_prior(
    latents: tuple[int, int],
    hidden: int,
    log_variance: tuple[float, float],
    top: Conditional,
    pseudo_inputs: Tensor | None,
    constraint: Callable[[Tensor], Tensor] | None,
) -> ChainPrior:
    trunk = nn.Sequential(GatedLinear(latents[0], hidden), GatedLinear(hidden, hidden))
    given = ClampedGaussian(trunk, hidden, latents[1], log_variance)
    return ChainPrior(_prior(latents[0], top, pseudo_inputs, constraint), given, latents[1])


def _initialised(encoder: nn.Module, decoder: nn.Module, prior: Prior) -> Joint:
    model = Joint(encoder, decoder, prior)
    he_initialise(model)
    return model


def _check(
    shape: Shape,
    pseudo_inputs: Tensor | None,
    pixels: Pixels,
    encoder_std: float | None = None,
    **others: int,
) -> None:
    if not isinstance(shape, tuple | list) or len(sizes("shape", shape)) != 3:
        raise ValueError(f"shape must be (C, H, W), 1 or more each, got {shape!r}")
    check_pixels(pixels)
    if encoder_std is not None:
        real("encoder_std", encoder_std, 0, above=True)
    for name, value in others.items():
        whole(name, value, 1)
    if not (pseudo_inputs is None or isinstance(pseudo_inputs, Tensor)):
        raise ValueError(f"pseudo_inputs must be a tensor, got a {type(pseudo_inputs).__name__}")
    if pseudo_inputs is not None and pseudo_inputs.shape[1:] != tuple(shape):
        raise ValueError(
            f"pseudo_inputs must have shape (K, {', '.join(map(str, shape))}), "
            f"got {tuple(pseudo_inputs.shape)}"
        )


def _check_pair(latents: tuple[int, int]) -> None:
    if not isinstance(latents, tuple | list) or len(sizes("latents", latents)) != 2:
        raise ValueError(f"latents must be two numbers, of z2 and of z1, got {latents!r}")
