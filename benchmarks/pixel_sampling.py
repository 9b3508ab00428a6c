"""Speed of sampling images from a PixelCNN, compared to one network pass per pixel.

The network is that of `pixel_hvae`: 8 masked layers of 64 channels and 28 x 28 binary pixels. The
baseline is the usual implementation: the network in plain PyTorch, masked convolutions with full
kernels and batch normalisation, runs on the partial image, and one pixel of the output is used. It
takes minutes, so only `--passes` of its 784 passes are timed and extrapolated. Both run alternately
in this process, on one thread, timed by CPU time; ratios are medians over repeats of
time(baseline) / time(library).

The benchmark checks on `--exact` images, with all passes of the baseline, that both sample the same
images from the same uniform numbers.

    python benchmarks/pixel_sampling.py --out results/pixel-sampling.json      # two minutes
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from machine import processor
from torch import Tensor, nn

import mimachine as mm
from mimachine.model.pixelcnn import PixelCNN


def network() -> PixelCNN:
    """A network of the paper's size, with batch statistics as after training."""
    made = mm.PixelCNN(1, 2).eval()
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
    return made


def one_pass(net: PixelCNN, weights: list[Tensor], image: Tensor, maps: Tensor) -> Tensor:
    """Probabilities of ones, (B, 1, H, W), by the layers in plain PyTorch."""
    features = torch.cat([image, maps], 1)
    for layer, weight in zip(net.layers, weights, strict=True):
        features = F.relu(layer.norm(F.conv2d(features, weight, padding=1)))
    return net.heads[0](features).sigmoid()


@torch.no_grad()
def pixel_by_pixel(net: PixelCNN, maps: Tensor, uniform: Tensor, passes: int) -> Tensor:
    """Sample images from uniform numbers (B, 1, H, W), or only their first pixels."""
    weights = [layer.convolution.weight * layer.convolution.mask for layer in net.layers]
    image = torch.zeros_like(uniform)
    for index in range(passes):
        row, column = divmod(index, uniform.shape[-1])
        probability = one_pass(net, weights, image, maps)[:, :, row, column]
        # As in the library, a pixel is one above the quantile 1 - p.
        image[:, :, row, column] = (1 - uniform[:, :, row, column] < probability).float()
    return image


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(images: int, passes: int, repeats: int) -> dict:
    net, maps, uniform = network(), torch.randn(images, 2, 28, 28), torch.rand(images, 1, 28, 28)
    with torch.no_grad():
        given = net(maps)
    times = [
        (
            timed(lambda: given.from_uniform(uniform)),
            timed(lambda: pixel_by_pixel(net, maps, uniform, passes)) * 784 / passes,
        )
        for _ in range(repeats)
    ]
    ratios = [baseline / ours for ours, baseline in times]
    ours, baseline = (statistics.median(column) for column in zip(*times, strict=True))
    return {
        "images": images,
        "library_s": round(ours, 3),
        "pass_for_each_pixel_s": round(baseline, 1),
        "ratio": round(statistics.median(ratios)),
        "ratio_range": [round(min(ratios)), round(max(ratios))],
    }


def differing(images: int) -> dict:
    net, maps, uniform = network(), torch.randn(images, 2, 28, 28), torch.rand(images, 1, 28, 28)
    with torch.no_grad():
        image = net(maps).from_uniform(uniform)
    other = pixel_by_pixel(net, maps, uniform, 784)
    return {"pixels": image.numel(), "differing": int((image != other).sum())}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[100])
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--exact", type=int, default=4)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result = {
        "torch": torch.__version__,
        "threads": 1,
        "processor": processor(),
        "baseline": "one pass of the network for each pixel, in plain PyTorch",
        "passes_timed": options.passes,
        "same_uniform_numbers": differing(options.exact),
        "times": [compare(images, options.passes, options.repeats) for images in options.images],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
