"""Time of the likelihood of images from 5,000 samples each, against a loop that re-encodes.

The model is dense and of the size of the paper's: 784 binary pixels, 80 latents, gated layers of
300 units, a standard normal prior or a VampPrior of 500 components; or `conv_hvae`, in the memory
format channels_last. The loop is how such numbers are usually measured: one image at a time, 50
batches of 100 copies of it, each of them encoded and decoded and, under a VampPrior, the
pseudo-inputs encoded again. Both are timed in turns, by the time of one thread on the processor;
the loop on a few of the images, or of its batches, and scaled. Also told: how far the estimates
move in mixed precision, image by image under the same noise and in the mean.

    python benchmarks/likelihood_speed.py             # about three minutes
    python benchmarks/likelihood_speed.py --chunks    # time by the number of pairs decoded at once
    python benchmarks/likelihood_speed.py --model convolutional --images 2 --loop-images 1
        --loop-batches 5 --training-images 600 --epochs 1 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import mimachine as mm

PIXELS, LATENTS, UNITS, COMPONENTS, COPIES = 784, 80, 300, 500, 100


class Gated(nn.Module):
    """A dense layer times a sigmoid of another."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(features, units), nn.Linear(features, units)

    def forward(self, x: Tensor) -> Tensor:
        """Units (B, units) of features (B, features)."""
        product: Tensor = self.value(x) * self.gate(x).sigmoid()
        return product


def network(features: int, outputs: int) -> nn.Sequential:
    """Two gated layers and a linear one."""
    return nn.Sequential(Gated(features, UNITS), Gated(UNITS, UNITS), nn.Linear(UNITS, outputs))


def trained(images: Tensor, prior: str, arguments: argparse.Namespace) -> mm.Joint:
    """A VAE of binary images, trained for a while so that its numbers mean something."""
    model = convolutional(images, prior) if images.dim() > 2 else dense(images, prior)
    recipe = mm.Training(epochs=arguments.epochs, warmup=0, batch_size=100)
    mm.fit(mm.Loss(model, mm.VAE), images, training=recipe, progress=False)
    return model


def convolutional(images: Tensor, prior: str) -> mm.Joint:
    """The paper's convolutional model of images (N, 1, 28, 28)."""
    model = mm.conv_hvae(pseudo_inputs=images[:COMPONENTS] if prior == "vampprior" else None)
    return cast(mm.Joint, model.to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def dense(images: Tensor, prior: str) -> mm.Joint:
    """A model of images (N, 784) with one level of latents."""
    encoder = mm.Gaussian(network(PIXELS, 2 * LATENTS), floor=0.05)
    decoder = mm.Bernoulli(network(LATENTS, PIXELS))
    of_latents: nn.Module = mm.StandardNormal(LATENTS)
    if prior == "vampprior":
        of_latents = mm.VampPrior(encoder, images[torch.randperm(len(images))[:COMPONENTS]])
    return mm.Joint(encoder, decoder, of_latents)


def synthetic_images(count: int) -> Tensor:
    """Binary images of blobs, shape (N, 784): as sparse as digits are."""
    at = torch.linspace(-1, 1, 28)
    centre = 0.5 * torch.randn(count, 3, 2, 1)
    width = 0.1 + 0.15 * torch.rand(count, 3, 1, 1)
    rows, columns = ((at - centre[:, :, i]).square() for i in range(2))
    blobs = torch.exp(-(rows[..., None] + columns[..., None, :]) / (2 * width.square()))
    return (blobs.sum(1) > 0.5).float().flatten(1)


@torch.no_grad()
def by_loop(model: mm.Joint, x: Tensor, batches: int) -> Tensor:
    """The baseline: log p(x) of each image from so many batches of copies, shape (N,)."""
    values = []
    for image in x:
        log_weights = []
        for _ in range(batches):
            copies = image.expand(COPIES, *image.shape).contiguous()
            z, log_q, _ = mm.draw(model.encoder(copies))
            log_p = Bernoulli(logits=model.decoder(z).logits).log_prob(copies).flatten(1).sum(1)
            log_weights.append(log_p + _log_prior(model, z) - log_q)
        values.append(torch.cat(log_weights).logsumexp(0) - math.log(batches * COPIES))
    return torch.stack(values)


def _log_prior(model: mm.Joint, z: Tensor) -> Tensor:
    if not isinstance(model.prior, mm.VampPrior):
        return cast(Tensor, model.prior().log_prob(z))
    encoded = model.encoder(model.prior.pseudo_inputs)
    each = Normal(encoded.loc, encoded.scale).log_prob(z[:, None]).sum(2)
    return cast(Tensor, each.logsumexp(1) - math.log(len(encoded.loc)))


def seconds(work: Callable[[], object]) -> float:
    """Time on the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(model: mm.Joint, x: Tensor, arguments: argparse.Namespace) -> dict[str, object]:
    """Seconds for all images by the loop, in single and in mixed precision, and what that moves."""
    single = Fabric(accelerator="cpu", devices=1)
    mixed = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    few = x[: arguments.loop_images]
    whole = arguments.samples // COPIES
    batches = min(whole, arguments.loop_batches or whole)
    ways: dict[str, Callable[[], object]] = {
        "loop": lambda: by_loop(model, few, batches),
        "float32": lambda: mm.log_likelihood(model, x, arguments.samples, fabric=single),
        "bf16-mixed": lambda: mm.log_likelihood(model, x, arguments.samples, fabric=mixed),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, work in ways.items():
            share = len(x) / len(few) * whole / batches if name == "loop" else 1.0
            taken[name].append(share * seconds(work))
    median = {name: statistics.median(each) for name, each in taken.items()}
    estimates = []
    for fabric in (single, mixed):
        torch.manual_seed(1)
        estimates.append(mm.log_likelihood(model, x, arguments.samples, fabric=fabric))
    moved = estimates[1].values - estimates[0].values
    return {
        "seconds": median,
        "ratio": {name: median["loop"] / median[name] for name in ("float32", "bf16-mixed")},
        "log_likelihood": str(estimates[0].mean()),
        "bf16_moves_mean": str(mm.Estimate.mean_of(moved)),
        "bf16_moves_most": float(moved.abs().max()),
    }


def by_chunks(model: mm.Joint, x: Tensor, arguments: argparse.Namespace) -> None:
    """Print the time for each number of pairs that are decoded at once."""
    sizes = [125, 250, 500, 668, 1000, 2000, 5000]
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(arguments.repeats):
        for size in sizes:
            taken[size].append(
                seconds(lambda: mm.log_likelihood(model, x, arguments.samples, chunk_size=size))  # noqa: B023
            )
    for size in sizes:
        print(f"{size:>6} pairs: {statistics.median(taken[size]) / len(x):.4f} s an image")


def main() -> None:
    """Print the measurements, and keep them where --out says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--model", choices=["dense", "convolutional"], default="dense")
    parser.add_argument("--loop-images", type=int, default=5)
    parser.add_argument("--loop-batches", type=int)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--training-images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--chunks", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = synthetic_images(arguments.training_images + arguments.images)
    if arguments.model == "convolutional":
        images = images.unflatten(1, (1, 28, 28))
    train, test = images[arguments.images :], images[: arguments.images]
    results = {}
    for prior in ("standard normal", "vampprior"):
        model = trained(train, prior, arguments)
        if arguments.chunks:
            print(prior)
            by_chunks(model, test[:5], arguments)
            continue
        results[prior] = compare(model, test, arguments)
        print(prior, json.dumps(results[prior], indent=1), flush=True)
    if arguments.out is not None and results:
        told = {"torch": torch.__version__, "threads": 1, **vars(arguments)}
        told = {name: value for name, value in told.items() if name not in ("out", "chunks")}
        arguments.out.write_text(json.dumps({"settings": told, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
