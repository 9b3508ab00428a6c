"""Speed of importance-sampled likelihoods of images, compared to a loop that re-encodes.

The model is dense and as large as the paper's: 784 binary pixels, 80 latents, gated layers of 300
units, a standard normal prior or a VampPrior of 500 components; or it is `conv_hvae` or
`pixel_hvae`. An image has 5,000 samples. The loop is the usual implementation: one image at a time,
50 batches of 100 copies, each encoded and decoded and, with a VampPrior, the pseudo-inputs encoded
again; for the image models in plain PyTorch (`bare_images.py`). Both are timed alternately, by CPU
time on one thread and by wall time on more; the loop is timed on a few images or batches and
extrapolated. The benchmark also reports the change of the estimates in mixed precision with the
same noise, per image and on average, on separate images.

    python benchmarks/likelihood_speed.py             # about three minutes
    python benchmarks/likelihood_speed.py --chunks    # time by the number of pairs decoded at once
    python benchmarks/likelihood_speed.py --model convolutional --images 1 --loop-images 1
        --loop-batches 4 --training-images 600 --epochs 1 --repeats 5 --threads 1 2
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from bare_images import log_weights
from lightning_fabric import Fabric
from machine import processor
from timing import in_turns, medians, ratios, rounded
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal

import mimachine as mm

PIXELS, LATENTS, UNITS, COMPONENTS, COPIES = 784, 80, 300, 500, 100


class Gated(nn.Module):
    """A dense layer times the sigmoid of another."""

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
    """A VAE of binary images, trained briefly so that its likelihoods are realistic."""
    if arguments.model == "dense":
        model = dense(images, prior)
    else:
        make = mm.conv_hvae if arguments.model == "convolutional" else mm.pixel_hvae
        model = make(pseudo_inputs=images[:COMPONENTS] if prior == "vampprior" else None)
    recipe = mm.Training(epochs=arguments.epochs, warmup=0, batch_size=100)
    mm.fit(mm.Loss(model, mm.VAE), images, training=recipe, progress=False)
    return model.to(arguments.device).eval()


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
    """The baseline: log p(x) of each image from `batches` batches of copies, shape (N,)."""
    of_copies = log_weights if x.dim() > 2 else dense_log_weights
    values = []
    for image in x:
        copies = image.expand(COPIES, *image.shape).contiguous()
        each = [of_copies(model, copies) for _ in range(batches)]
        values.append(torch.cat(each).logsumexp(0) - math.log(batches * COPIES))
    return torch.stack(values)


def dense_log_weights(model: mm.Joint, copies: Tensor) -> Tensor:
    """What `log_weights` gives, of the model of one level."""
    z, log_q, _ = mm.draw(model.encoder(copies))
    log_p = Bernoulli(logits=model.decoder(z).logits).log_prob(copies).sum(1)
    return log_p + _log_prior(model, z) - log_q


def _log_prior(model: mm.Joint, z: Tensor) -> Tensor:
    if not isinstance(model.prior, mm.VampPrior):
        return cast(Tensor, model.prior().log_prob(z))
    encoded = model.encoder(model.prior.pseudo_inputs)
    each = Normal(encoded.loc, encoded.scale).log_prob(z[:, None]).sum(2)
    return cast(Tensor, each.logsumexp(1) - math.log(len(encoded.loc)))


def fabrics(device: torch.device) -> dict[str, Fabric]:
    """Single and mixed precision on a device."""
    accelerator = "cpu" if device.type == "cpu" else "cuda"
    return {
        "float32": Fabric(accelerator=accelerator, devices=1),
        "bf16-mixed": Fabric(accelerator=accelerator, devices=1, precision="bf16-mixed"),
    }


def compare(model: mm.Joint, x: Tensor, arguments: argparse.Namespace) -> dict[str, object]:
    """Seconds for all images with the loop and with the library in both precisions."""
    few = x[: arguments.loop_images]
    whole = arguments.samples // COPIES
    batches = min(whole, arguments.loop_batches or whole)
    ways: dict[str, Callable[[], object]] = {"loop": lambda: by_loop(model, few, batches)}
    for name, fabric in fabrics(arguments.device).items():
        ways[name] = lambda fabric=fabric: mm.log_likelihood(
            model, x, arguments.samples, fabric=fabric
        )
    taken = in_turns(ways, arguments.repeats, arguments.device)
    share = len(x) / len(few) * whole / batches
    taken["loop"] = [share * each for each in taken["loop"]]
    return {
        "threads": torch.get_num_threads(),
        "seconds": medians(taken),
        "ratio": ratios(taken, "loop"),
    }


def moved_by_rounding(
    model: mm.Joint, x: Tensor, arguments: argparse.Namespace
) -> dict[str, object]:
    """Change of the estimates in bfloat16 with the same noise, in nats."""
    estimates = []
    for fabric in fabrics(arguments.device).values():
        torch.manual_seed(1)
        # Noise is drawn chunk by chunk.
        estimates.append(
            mm.log_likelihood(model, x, arguments.moved_samples, fabric=fabric, chunk_size=64)
        )
    moved = estimates[1].values - estimates[0].values
    return {
        "images": len(x),
        "samples": arguments.moved_samples,
        "log_likelihood": str(estimates[0].mean()),
        "bf16_moves_mean": str(mm.Estimate.mean_of(moved)),
        "bf16_moves_most": rounded(float(moved.abs().max())),
    }


def by_chunks(model: mm.Joint, x: Tensor, arguments: argparse.Namespace) -> None:
    """Print the time by the number of pairs decoded at once."""
    for name, fabric in fabrics(arguments.device).items():
        ways = {
            str(size): lambda size=size, fabric=fabric: mm.log_likelihood(
                model, x, arguments.samples, chunk_size=size, fabric=fabric
            )
            for size in arguments.chunks
        }
        taken = in_turns(ways, arguments.repeats, arguments.device)
        for size, each in taken.items():
            print(f"{name}, {size:>6} pairs: {statistics.median(each) / len(x):.4f} s an image")


def main() -> None:
    """Print the measurements, and write them to --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--model", choices=["dense", "convolutional", "pixel"], default="dense")
    parser.add_argument("--priors", nargs="+", default=["standard normal", "vampprior"])
    parser.add_argument("--loop-images", type=int, default=5)
    parser.add_argument("--loop-batches", type=int)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--moved-images", type=int, default=50)
    parser.add_argument("--moved-samples", type=int, default=5000)
    parser.add_argument("--training-images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument(
        "--chunks",
        type=int,
        nargs="*",
        help="only print the time by the number of pairs decoded at once",
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads[0])
    torch.manual_seed(0)
    apart = max(arguments.images, arguments.moved_images)
    images = synthetic_images(arguments.training_images + apart)
    if arguments.model != "dense":
        images = images.unflatten(1, (1, 28, 28))
    train, test = images[apart:], images[:apart].to(arguments.device)
    results = {}
    for prior in arguments.priors:
        model = trained(train, prior, arguments)
        if arguments.chunks is not None:
            print(prior)
            arguments.chunks = arguments.chunks or [125, 250, 500, 668, 1000, 2000, 5000]
            by_chunks(model, test[: arguments.images], arguments)
            continue
        results[prior] = {
            "rounding": moved_by_rounding(model, test[: arguments.moved_images], arguments),
            "times": [],
        }
        for threads in arguments.threads:
            torch.set_num_threads(threads)
            results[prior]["times"].append(compare(model, test[: arguments.images], arguments))
        torch.set_num_threads(arguments.threads[0])
        print(prior, json.dumps(results[prior], indent=1), flush=True)
    if arguments.out is not None and results:
        settings = {"torch": torch.__version__, **vars(arguments), "device": str(arguments.device)}
        settings = {name: settings[name] for name in settings if name not in ("out", "chunks")}
        settings["processor"] = processor()
        settings["baseline"] = "loop: plain PyTorch, images encoded again with each 100 samples"
        arguments.out.write_text(json.dumps({"settings": settings, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
