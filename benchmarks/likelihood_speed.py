"""Time of the likelihood of images from 5,000 samples each, against a loop that re-encodes.

The model is dense and of the size of the paper's: 784 binary pixels, 80 latents, gated layers of
300 units, a standard normal prior or a VampPrior of 500 components. The loop is how such numbers
are usually measured: one image at a time, 50 batches of 100 copies of it, each of them encoded and
decoded and, under a VampPrior, the pseudo-inputs encoded again. Both are timed in turns, by the
time of one thread on the processor; the loop on a few of the images and scaled. Also told: how far
the estimates move in mixed precision, image by image under the same noise and in the mean.

    python benchmarks/likelihood_speed.py             # about three minutes
    python benchmarks/likelihood_speed.py --chunks    # time by the number of pairs decoded at once
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

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


def trained(images: Tensor, prior: str, epochs: int) -> mm.Joint:
    """A VAE of binary images (N, 784), trained for a while so that its numbers mean something."""
    encoder = mm.Gaussian(network(PIXELS, 2 * LATENTS), floor=0.05)
    decoder = mm.Bernoulli(network(LATENTS, PIXELS))
    of_latents: nn.Module = mm.StandardNormal(LATENTS)
    if prior == "vampprior":
        of_latents = mm.VampPrior(encoder, images[torch.randperm(len(images))[:COMPONENTS]])
    model = mm.Joint(encoder, decoder, of_latents)
    recipe = mm.Training(epochs=epochs, warmup=0, batch_size=100)
    mm.fit(mm.Loss(model, mm.VAE), images, training=recipe, progress=False)
    return model


def synthetic_images(count: int) -> Tensor:
    """Binary images of blobs, shape (N, 784): as sparse as digits are."""
    at = torch.linspace(-1, 1, 28)
    centre = 0.5 * torch.randn(count, 3, 2, 1)
    width = 0.1 + 0.15 * torch.rand(count, 3, 1, 1)
    rows, columns = ((at - centre[:, :, i]).square() for i in range(2))
    blobs = torch.exp(-(rows[..., None] + columns[..., None, :]) / (2 * width.square()))
    return (blobs.sum(1) > 0.5).float().flatten(1)


@torch.no_grad()
def by_loop(model: mm.Joint, x: Tensor, num_samples: int) -> Tensor:
    """The baseline: log p(x) of each image, shape (N,)."""
    values = []
    for image in x:
        log_weights = []
        for _ in range(num_samples // COPIES):
            copies = image.expand(COPIES, -1).contiguous()
            encoded = model.encoder(copies)
            posterior = Normal(encoded.loc, encoded.scale)
            z = posterior.sample()
            log_p = Bernoulli(logits=model.decoder(z).logits).log_prob(copies).sum(1)
            log_weights.append(log_p + _log_prior(model, z) - posterior.log_prob(z).sum(1))
        values.append(torch.cat(log_weights).logsumexp(0) - math.log(num_samples))
    return torch.stack(values)


def _log_prior(model: mm.Joint, z: Tensor) -> Tensor:
    if not isinstance(model.prior, mm.VampPrior):
        return Normal(0.0, 1.0).log_prob(z).sum(1)
    encoded = model.encoder(model.prior.pseudo_inputs)
    each = Normal(encoded.loc, encoded.scale).log_prob(z[:, None]).sum(2)
    return each.logsumexp(1) - math.log(len(encoded.loc))


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
    ways: dict[str, Callable[[], object]] = {
        "loop": lambda: by_loop(model, few, arguments.samples),
        "float32": lambda: mm.log_likelihood(model, x, arguments.samples, fabric=single),
        "bf16-mixed": lambda: mm.log_likelihood(model, x, arguments.samples, fabric=mixed),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, work in ways.items():
            share = len(x) / len(few) if name == "loop" else 1.0
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
    parser.add_argument("--loop-images", type=int, default=5)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--chunks", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = synthetic_images(5000 + arguments.images)
    train, test = images[arguments.images :], images[: arguments.images]
    results = {}
    for prior in ("standard normal", "vampprior"):
        model = trained(train, prior, arguments.epochs)
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
