"""Speed of an optimiser step with per-tensor gradient normalisation, on `conv_hvae`.

The baseline is the usual loop over parameters, which divides each gradient by its norm and updates
each tensor by Adam's formula. "division" compares only the normalisation with
`normalise_gradients`; "step" compares the whole loop with `normalise_gradients` and PyTorch's fused
Adam. Both run alternately in this process, on one thread. Ratios are medians over repeats of
time(loop) / time(library).

    python benchmarks/gradient_speed.py --out results/gradient-speed.json
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
from machine import processor
from torch import Tensor

import mimachine as mm
from mimachine.training.steps.step import normalise_gradients


@torch.no_grad()
def divide(parameters: list[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad.div_(parameter.grad.norm() + 1e-7)


class LoopingAdam:
    """Adam on gradients of norm 1, one tensor at a time."""

    def __init__(self, parameters: list[Tensor], rate: float) -> None:
        self.parameters, self.rate, self.count = parameters, rate, 0
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self) -> None:
        self.count += 1
        divide(self.parameters)
        rate = self.rate * math.sqrt(1 - 0.999**self.count) / (1 - 0.9**self.count)
        for p, m, v in zip(self.parameters, self.first, self.second, strict=True):
            m.mul_(0.9).add_(p.grad, alpha=0.1)
            v.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            p.addcdiv_(m, v.sqrt().add_(1e-8), value=-rate)


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=101)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    parameters = list(mm.conv_hvae().parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    looping = LoopingAdam(parameters, 5e-4)
    fused = torch.optim.Adam(parameters, lr=5e-4, fused=True)

    def step() -> None:
        normalise_gradients(parameters)
        fused.step()

    pairs = {
        "division": (lambda: divide(parameters), lambda: normalise_gradients(parameters)),
        "step": (looping.step, step),
    }
    result: dict[str, object] = {
        "torch": torch.__version__,
        "threads": 1,
        "processor": processor(),
        "baseline": "loop: a PyTorch loop over the parameters",
        "tensors": len(parameters),
        "numbers": sum(p.numel() for p in parameters),
    }
    for name, (loop, ours) in pairs.items():
        timed(loop), timed(ours)
        times = [(timed(loop), timed(ours)) for _ in range(options.repeats)]
        result[name] = {
            "loop_ms": round(1e3 * statistics.median(a for a, _ in times), 2),
            "library_ms": round(1e3 * statistics.median(b for _, b in times), 2),
            "loop_over_library": round(statistics.median(a / b for a, b in times), 2),
        }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
