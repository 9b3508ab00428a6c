"""Time of a training step of `conv_hvae` against the same layers in bare torch.

The baseline takes the same parameters through torch's functions as such code is usually written:
two convolutions for a gate, the features of x and z2 joined for each sample, the density of a
VampPrior from an array of all differences. Both are a step of a VAE on 100 binary images of 28 x 28
with Adam, in this process and in turns, by the time of one thread on the processor; the ratio is
the median over repeats of time(baseline) / time(library). With the same noise both losses are
equal, which is checked.

    python benchmarks/image_training.py --out results/image-training.json      # three minutes
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

import mimachine as mm


def gated_dense(layer: nn.Module, x: Tensor) -> Tensor:
    return layer.value(x) * torch.sigmoid(layer.gate(x))


def gated_convs(trunk: nn.Module, x: Tensor) -> Tensor:
    for layer in trunk.modules():
        if isinstance(layer, mm.GatedConv2d):
            value, gate = (
                F.conv2d(x, part.weight, part.bias, layer.stride, layer.padding)
                for part in (layer.value, layer.gate)
            )
            x = value * torch.sigmoid(gate)
    return x


def normal(head: nn.Module, features: Tensor) -> Normal:
    log_variance = F.hardtanh(head.log_variance(features), -6, 2)
    return Normal(head.mean(features), torch.exp(0.5 * log_variance), validate_args=False)


def bare_loss(model: mm.Joint, x: Tensor) -> Tensor:
    """Minus the ELBO of each image (B, 1, 28, 28), by torch alone."""
    top, bottom, trunk = model.encoder.first, model.encoder.second, model.decoder.decoder.trunk

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

    merged = torch.cat([gated_dense(trunk[0].of_z1, z1), gated_dense(trunk[0].of_z2, z2)], 1)
    image = gated_dense(trunk[0].both, merged).reshape(x.shape)
    logits = model.decoder.decoder.heads[0](gated_convs(trunk, image))
    log_x = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3))
    return -(log_x + log_p2 + (p1.log_prob(z1) - q1.log_prob(z1)).sum(1) - q2.log_prob(z2).sum(1))


def step(
    loss: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    precision: Callable[[], AbstractContextManager],
) -> float:
    start = time.process_time()
    optimiser.zero_grad()
    with precision():
        value = loss(x).mean()
    value.backward()
    optimiser.step()
    return time.process_time() - start


def with_noise(loss: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return loss(x)


def compare(pseudo_inputs: Tensor | None, batch: int, repeats: int) -> dict:
    model = mm.conv_hvae(pseudo_inputs=pseudo_inputs)
    x = torch.rand(batch, 1, 28, 28).round()
    library, optimiser = mm.Loss(model, mm.VAE), torch.optim.Adam(model.parameters(), lr=5e-4)

    def bare(x: Tensor) -> Tensor:
        return bare_loss(model, x)

    gap = (with_noise(library, x) - with_noise(bare, x)).abs().max()
    assert gap < 1e-2, f"the two losses differ by {gap:.1e} nats of about 600"

    def bfloat16() -> AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16)

    ways = {
        "bare": (bare, nullcontext),
        "library": (library, nullcontext),
        "library_bfloat16": (library, bfloat16),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, (loss, precision) in ways.items():
            times[name].append(step(loss, optimiser, x, precision))
    ratios = {
        name: statistics.median(map(lambda a, b: a / b, times["bare"], times[name]))
        for name in ("library", "library_bfloat16")
    }
    return {
        "components": 0 if pseudo_inputs is None else len(pseudo_inputs),
        "seconds": {name: round(statistics.median(part), 3) for name, part in times.items()},
        "bare_over": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "losses_differ_by_nats": float(f"{gap:.1e}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--components", type=int, nargs="+", default=[0, 500])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pseudo_inputs = [
        torch.rand(count, 1, 28, 28) if count else None for count in options.components
    ]
    result = {
        "torch": torch.__version__,
        "threads": 1,
        "batch": options.batch,
        "steps": [compare(each, options.batch, options.repeats) for each in pseudo_inputs],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
