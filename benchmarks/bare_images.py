"""Image models in plain PyTorch, as usually implemented: the baseline of speed benchmarks.

The functions use the parameters of a library model: two convolutions per gate, full kernels times a
mask, concatenated features of x and z2 for each sample, the density of a VampPrior from an array of
all differences, and one copy of an image per sample. With the same noise the results equal those of
the library.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

import mimachine as mm


def log_weights(model: mm.Joint, x: Tensor) -> Tensor:
    """ELBO of images (B, 1, 28, 28): log p(x, z1, z2) - log q(z1, z2|x) with one sample each."""
    top, bottom = model.encoder.first, model.encoder.second

    def q_z2(images: Tensor) -> Normal:
        return normal(top, gated_convs(top.network, images).flatten(1))

    q2 = q_z2(x)
    z2 = q2.rsample()
    both = [gated_convs(bottom.of_x, x).flatten(1), gated_dense(bottom.of_both.of_z2, z2)]
    q1 = normal(bottom.of_both.head, gated_dense(bottom.of_both.both, torch.cat(both, 1)))
    z1 = q1.rsample()

    first, second = model.prior.first, model.prior.second
    p1 = normal(second, gated_dense(second.network[1], gated_dense(second.network[0], z2)))
    if isinstance(first, mm.VampPrior):
        components = q_z2(first.pseudo_inputs.clamp(0, 1))
        each = components.log_prob(z2[:, None]).sum(-1)
        log_p2 = each.logsumexp(1) - math.log(each.shape[1])
    else:
        log_p2 = Normal(0.0, 1.0).log_prob(z2).sum(1)

    logits = logits_of(model.decoder.decoder, x, z2, z1)
    log_x = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    return log_x + log_p2 + (p1.log_prob(z1) - q1.log_prob(z1)).sum(1) - q2.log_prob(z2).sum(1)


def logits_of(decoder: nn.Module, x: Tensor, z2: Tensor, z1: Tensor) -> Tensor:
    """Logits (B, 1, 28, 28) of the decoder of `conv_hvae` or of `pixel_hvae`."""
    if hasattr(decoder, "network"):
        maps = [
            gated_dense(layer, z).reshape(x.shape)
            for layer, z in ((decoder.of_z1, z1), (decoder.of_z2, z2))
        ]
        return masked_convs(decoder.network, torch.cat([x, *maps], 1))
    merged, *_ = trunk = decoder.trunk
    both = torch.cat([gated_dense(merged.of_z1, z1), gated_dense(merged.of_z2, z2)], 1)
    image = gated_dense(merged.both, both).reshape(x.shape)
    return decoder.heads[0](gated_convs(trunk, image))


def masked_convs(network: nn.Module, features: Tensor) -> Tensor:
    for layer in network.layers:
        weight = layer.convolution.weight * layer.convolution.mask
        features = F.relu(layer.norm(F.conv2d(features, weight, padding=1)))
    return network.heads[0](features)


def gated_convs(trunk: nn.Module, x: Tensor) -> Tensor:
    for layer in trunk.modules():
        if isinstance(layer, mm.GatedConv2d):
            value, gate = (
                F.conv2d(x, part.weight, part.bias, layer.stride, layer.padding)
                for part in (layer.value, layer.gate)
            )
            x = value * torch.sigmoid(gate)
    return x


def gated_dense(layer: nn.Module, x: Tensor) -> Tensor:
    return layer.value(x) * torch.sigmoid(layer.gate(x))


def normal(head: nn.Module, features: Tensor) -> Normal:
    log_variance = F.hardtanh(head.log_variance(features), -6, 2)
    return Normal(head.mean(features), torch.exp(0.5 * log_variance), validate_args=False)
