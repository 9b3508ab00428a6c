"""Time of a training step of the image models on a GPU, compared to hardware limits.

Five kinds of step on 100 binary images of 28 x 28, with normalised gradients and Adam as in the
released image code, are timed uncompiled in float32 (TF32 convolutions and products) and in
bfloat16, as a CUDA graph, compiled, and both. A time is the median over blocks of steps. Finally
`fit` is timed from one epoch to the next; it samples images from bytes on the device.

The limits are estimates for an H200 in bfloat16 at 100 images, counted and not measured. Compute:
floating-point operations of all layers, forward and backward (132, 223, 149, 241 and 265 GFLOP),
divided by 790 TFLOP/s. Traffic: reads and writes of activations in a fused forward and backward
pass, about 10 MB per image for the convolutional model, 14 MB for the PixelCNN with batch
normalisation, and 1.6 MB per pseudo-input, divided by 4.3 TB/s. Other devices and batch sizes have
no limits.

Compiled steps come last, and only while there is time; skipped measurements are listed with the
reason. The output file is rewritten after each measurement, so that none is lost.

    python benchmarks/image_step_gpu.py --out results/image-step-gpu.json      # four minutes
    python benchmarks/image_step_gpu.py --device cpu --batch 4 --steps 2       # smoke test
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from machine import processor
from torch import Tensor

import mimachine as mm
from mimachine.model.annealing import Annealing
from mimachine.training.recipe import Training
from mimachine.training.steps.compilation import CompiledLoss
from mimachine.training.steps.cuda_graphs import CudaGraphs, Replayed
from mimachine.training.steps.step import Step

_BATCH, _BLOCKS, _WARM_UP = 100, 5, 5


class Case(NamedTuple):
    """A kind of step; the limits are in milliseconds."""

    name: str
    make: Callable[[Tensor | None], mm.Joint]
    objective: mm.Objective
    mixture: bool
    compute: float
    traffic: float


class Way(NamedTuple):
    """How a step is run."""

    name: str
    precision: str
    compiled: bool
    graph: bool


def conv(pseudo_inputs: Tensor | None) -> mm.Joint:
    return mm.conv_hvae(pseudo_inputs=pseudo_inputs)


def pixel(pseudo_inputs: Tensor | None) -> mm.Joint:
    return mm.pixel_hvae(pseudo_inputs=pseudo_inputs)


CASES = [
    Case("conv_hvae, VAE", conv, mm.VAE, False, 0.167, 0.23),
    Case("conv_hvae, VampPrior, VAE", conv, mm.VAE, True, 0.283, 0.42),
    Case("pixel_hvae, VAE", pixel, mm.VAE, False, 0.189, 0.34),
    Case("pixel_hvae, VampPrior, VAE", pixel, mm.VAE, True, 0.304, 0.52),
    Case("conv_hvae, MIM of both halves", conv, mm.MIM, False, 0.335, 0.45),
]
WAYS = [
    Way("eager float32", "32-true", False, False),
    Way("eager bfloat16", "bf16-mixed", False, False),
    Way("graph bfloat16", "bf16-mixed", False, True),
    Way("compiled bfloat16", "bf16-mixed", True, False),
    Way("compiled graph bfloat16", "bf16-mixed", True, True),
]


def make_call(
    case: Case, way: Way, batch: int, components: int, accelerator: str
) -> tuple[Callable[[Tensor], Tensor], torch.device]:
    """A function that takes a training step on a batch and returns the loss, and its device."""
    fabric = Fabric(accelerator=accelerator, devices=1, precision=way.precision)
    pseudo_inputs = torch.rand(components, 1, 28, 28) if case.mixture else None
    loss = mm.Loss(case.make(pseudo_inputs), case.objective).to(fabric.device)
    on_gpu = fabric.device.type == "cuda"
    rate = torch.tensor(5e-4, device=fabric.device) if way.graph else 5e-4
    optimizer = torch.optim.Adam(loss.parameters(), rate, fused=True, capturable=way.graph)
    module, wrapped = fabric.setup(CompiledLoss(loss) if way.compiled else loss, optimizer)
    step = Step(module, wrapped, fabric, Training(gradient="normalised"))
    if not way.graph:
        return lambda x: step(x, Annealing()).loss, fabric.device
    if not on_gpu:
        raise RuntimeError("a CUDA graph needs a CUDA device")
    replayed = Replayed(step, batch, CudaGraphs(fabric.device))
    return lambda x: replayed(x, Annealing()).loss, fabric.device


def milliseconds(call: Callable[[Tensor], Tensor], x: Tensor, steps: int) -> float:
    """Milliseconds per call, median over blocks of calls."""
    for _ in range(_WARM_UP):
        loss = call(x)
    blocks = []
    for _ in range(_BLOCKS):
        synchronise(x.device)
        start = time.perf_counter()
        for _ in range(steps):
            loss = call(x)
        synchronise(x.device)
        blocks.append(1e3 * (time.perf_counter() - start) / steps)
    assert torch.isfinite(loss), "the loss is not finite; its time is meaningless"
    return statistics.median(blocks)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(case: Case, way: Way, options: argparse.Namespace) -> dict:
    """Milliseconds of a step, or the reason for a failure."""
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings():
            # A step that falls back to uncompiled code must not count as compiled.
            warnings.simplefilter("error", RuntimeWarning)
            call, device = make_call(case, way, options.batch, options.components, options.device)
            x = torch.rand(options.batch, 1, 28, 28).round().to(device)
            return {"ms": round(milliseconds(call, x, options.steps), 3)}
    except Exception as error:
        # Any failure affects only this measurement.
        return {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}


class Timed:
    """A source that records the start time of each epoch."""

    def __init__(self, source: mm.Source) -> None:
        self.source, self.starts = source, []

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, batch_size: int, epoch: int) -> Iterator[Tensor]:
        self.starts.append(time.perf_counter())
        yield from self.source.batches(batch_size, epoch)


def of_fit(options: argparse.Namespace) -> dict:
    """Milliseconds per step of `fit`, including its data."""
    torch.manual_seed(0)
    fabric = Fabric(accelerator=options.device, devices=1, precision="bf16-mixed")
    steps = options.steps * _BLOCKS
    grey = torch.randint(256, (steps * options.batch, 1, 28, 28), dtype=torch.uint8)
    source = Timed(mm.Binarized(mm.TensorSource(grey.to(fabric.device))))
    recipe = Training(
        epochs=3,
        batch_size=options.batch,
        learning_rate=5e-4,
        warmup=0,
        gradient="normalised",
        cuda_graphs=fabric.device.type == "cuda",
    )
    mm.fit(mm.Loss(conv(None), mm.VAE), source, None, recipe, fabric=fabric, progress=False)
    # The second epoch: the first includes the capture, and the third has no end time.
    seconds = source.starts[2] - source.starts[1]
    return {"ms": round(1e3 * seconds / steps, 3), "cuda_graphs": recipe.cuda_graphs}


def limits(case: Case, device: str, batch: int) -> dict:
    if "H200" not in device or batch != _BATCH:
        return {}
    return {"compute_limit_ms": case.compute, "traffic_limit_ms": case.traffic}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batch", type=int, default=_BATCH)
    parser.add_argument("--steps", type=int, default=50, help="steps in each of five blocks")
    parser.add_argument("--components", type=int, default=500, help="pseudo-inputs of a VampPrior")
    parser.add_argument(
        "--seconds", type=float, default=220.0, help="time limit for new measurements"
    )
    parser.add_argument("--ways", nargs="+", default=[way.name for way in WAYS])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    on_gpu = options.device == "cuda"
    device = torch.cuda.get_device_name() if on_gpu else processor()
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    if not on_gpu:
        torch.set_num_threads(1)
    result: dict = {"torch": torch.__version__, "device": device, "processor": processor()}
    result |= {"batch": options.batch, "baseline": "the limits of the device, counted"}
    result["steps"] = [{"step": case.name, **limits(case, device, options.batch)} for case in CASES]

    def write() -> None:
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n")

    rows = dict(zip((case.name for case in CASES), result["steps"], strict=True))
    for compiled in (False, True):
        for case, way in itertools.product(CASES, WAYS):
            if way.compiled is not compiled or way.name not in options.ways:
                continue
            late = time.monotonic() > end
            found = {"failed": "no time left"} if late else measure(case, way, options)
            rows[case.name][way.name] = found
            print(case.name, way.name, found, flush=True)
            write()
        if not compiled:
            result["fit, conv_hvae, VAE, bfloat16"] = of_fit(options)
            write()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
