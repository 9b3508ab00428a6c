"""Time of a training step of `conv_hvae` and `pixel_hvae`, compared to plain PyTorch.

The baseline (`bare_images.py`) applies the same parameters in plain PyTorch, as usually
implemented. Both take a step of a VAE on 100 binary images of 28 x 28 with Adam, alternately in
this process, timed by CPU time on one thread and by wall time on more. Ratios are medians over
repeats of time(baseline) / time(library). The benchmark checks that both losses are equal with the
same noise.

It also reports for each implementation: the operations of a step, counted by PyTorch, in total and
by part of the model; their rate; and this rate as a share of two rates measured alternately, that
of the step's convolutions alone (forward and backward, with the same shapes, memory format and
precision) and the peak in the same precision, the best of all convolutions and matrix products.

    python benchmarks/image_training.py --out results/image-training.json      # fifteen minutes
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bare_images import log_weights
from machine import peak, processor, products
from timing import in_turns, medians, ratios, rounded
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import mimachine as mm

MODELS = {"convolutional": mm.conv_hvae, "pixel": mm.pixel_hvae}


class Step:
    """A training step.

    Args:
        model: The model to update.
        loss: Returns the loss of each image.
        x: The images.
        precision: Precision of the networks.
    """

    def __init__(
        self,
        model: mm.Joint,
        loss: Callable[[Tensor], Tensor],
        x: Tensor,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.loss, self.x, self.precision = loss, x, precision
        self.optimiser = torch.optim.Adam(model.parameters(), lr=5e-4)

    def __call__(self) -> None:
        """Take the step."""
        self.optimiser.zero_grad()
        mixed = self.precision != torch.float32
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=mixed):
            value = self.loss(self.x).mean()
        value.backward()
        self.optimiser.step()


class Convolution(NamedTuple):
    """Arguments of a convolution and the gradients it needs.

    Attributes:
        input: Shape, strides and dtype of the input.
        weight: Shape, strides and dtype of the weight.
        bias: Whether it has a bias.
        settings: Stride, padding, dilation, whether transposed, output padding, groups.
        wanted: Whether input, weight and bias need gradients.
    """

    input: tuple[Any, ...]
    weight: tuple[Any, ...]
    bias: bool
    settings: tuple[Any, ...]
    wanted: tuple[bool, bool, bool]


class Convolutions(TorchDispatchMode):
    """Record the convolutions run in this mode, from the arguments of their backward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Convolution] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten.convolution_backward.default:
            _, input, weight, bias_sizes, *settings, wanted = args
            described = [(tuple(t.shape), t.stride(), t.dtype) for t in (input, weight)]
            has_bias = bool(bias_sizes)
            self.seen.append(Convolution(*described, has_bias, tuple(settings), tuple(wanted)))
        return function(*args, **(kwargs or {}))


class Alone:
    """The convolutions of a step alone, forward and backward, on random tensors."""

    def __init__(self, step: Step) -> None:
        with Convolutions() as convolutions:
            step()
        device = step.x.device
        self.each = []
        for input, weight, bias, settings, wanted in convolutions.seen:
            tensors = [
                torch.empty_strided(shape, strides, dtype=dtype, device=device).normal_()
                for shape, strides, dtype in (input, weight)
            ]
            tensors.append(torch.zeros(weight[0][0], dtype=weight[2], device=device))
            for tensor, gradient in zip(tensors, wanted, strict=True):
                tensor.requires_grad_(gradient)
            *both, of_bias = tensors
            arguments = (*both, of_bias if bias else None, *settings)
            output = torch.ones_like(torch.convolution(*arguments))
            self.each.append((arguments, output, [t for t in tensors if t.requires_grad]))

    def __call__(self) -> None:
        """Run the convolutions."""
        for arguments, gradient, wanted in self.each:
            torch.autograd.grad(torch.convolution(*arguments), wanted, gradient)


def flops(work: Callable[[], object]) -> float:
    """Floating-point operations in convolutions and matrix products, two per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def flops_by_part(model: mm.Joint, x: Tensor) -> dict[str, float]:
    """Million operations per image in the forward pass of each part of the model."""
    encoder, prior = model.encoder, model.prior
    z = encoder(x).sample()
    z2 = z[:, : encoder.first.mean.out_features]
    parts: dict[str, Callable[[], object]] = {
        "q(z2|x)": lambda: encoder.first(x),
        "q(z1|x,z2)": lambda: encoder.second(x)(z2),
        "p(z1|z2)": lambda: prior.second(z2),
        "p(x|z1,z2)": lambda: model.decoder(z).log_prob(x),
    }
    if isinstance(prior.first, mm.VampPrior):
        parts["p(z2)"] = lambda: prior.first().log_prob(z2)
    return {name: rounded(flops(part) / len(x) / 1e6) for name, part in parts.items()}


def losses(model: mm.Joint) -> dict[str, Callable[[Tensor], Tensor]]:
    """Negative ELBO of each image by the baseline and by the library."""
    return {"bare": lambda x: -log_weights(model, x), "library": mm.Loss(model, mm.VAE)}


def check_equal(model: mm.Joint, x: Tensor) -> float:
    """Largest difference of the two losses with the same noise, in nats."""
    values = []
    for loss in losses(model).values():
        torch.manual_seed(1)
        with torch.no_grad():
            values.append(loss(x))
    gap = float((values[0] - values[1]).abs().max())
    assert gap < 1e-2, f"the two losses differ by {gap:.1e} nats of about 600"
    return rounded(gap)


def compare(model: mm.Joint, x: Tensor, repeats: int) -> dict[str, Any]:
    """Seconds and rates of all implementations with the current number of threads."""
    bare, library = losses(model).values()
    steps = {
        "bare": Step(model, bare, x),
        "library": Step(model, library, x),
        "library_bfloat16": Step(model, library, x, torch.bfloat16),
    }
    work: dict[str, Callable[[], object]] = dict(steps)
    for name, step in steps.items():
        work[f"{name}, convolutions alone"] = Alone(step)
    precisions = {f"{name}, convolutions alone": step.precision for name, step in steps.items()}
    for precision in (torch.float32, torch.bfloat16):
        made = products(precision, x.device)
        work |= made
        precisions |= dict.fromkeys(made, precision)
    counts = {name: flops(each) for name, each in work.items()}
    taken = in_turns(work, repeats, x.device)
    rates = {
        name: [counts[name] / seconds / 1e9 for seconds in each] for name, each in taken.items()
    }

    def share(name: str, of: str) -> float:
        return rounded(statistics.median(map(lambda a, b: a / b, rates[name], rates[of])))

    peaks = {
        precision: peak(precision, {n: rates[n] for n, p in precisions.items() if p == precision})
        for precision in (torch.float32, torch.bfloat16)
    }
    step_seconds = {name: taken[name] for name in steps}
    return {
        "threads": torch.get_num_threads(),
        "seconds": medians(taken),
        "bare_over": ratios(step_seconds, "bare"),
        "gflop": {name: rounded(counts[name] / 1e9) for name in work},
        "gflop_per_second": medians(rates),
        "share_of_convolutions_alone": {
            name: share(name, f"{name}, convolutions alone") for name in steps
        },
        "peaks": {
            str(precision): {"gflop_per_second": rounded(each.rate), "reached_by": each.reached_by}
            for precision, each in peaks.items()
        },
        "share_of_peak": {
            name: rounded(statistics.median(rates[name]) / peaks[step.precision].rate)
            for name, step in steps.items()
        },
    }


def measured(name: str, count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one model with `count` pseudo-inputs; 0 means a standard normal prior."""
    pseudo_inputs = torch.rand(count, 1, 28, 28) if count else None
    model: nn.Module = MODELS[name](pseudo_inputs=pseudo_inputs).to(options.device)
    x = torch.rand(options.batch, 1, 28, 28, device=options.device).round()
    result = {
        "model": name,
        "components": count,
        "losses_differ_by_nats": check_equal(model, x),
        "mflop_of_an_image_forwards": flops_by_part(model, x),
        "times": [],
    }
    for threads in options.threads:
        torch.set_num_threads(threads)
        result["times"].append(compare(model, x, options.repeats))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--components", type=int, nargs="+", default=[0, 500])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    result = {
        "torch": torch.__version__,
        "device": str(options.device),
        "processor": processor(),
        "baseline": "bare: the same layers in plain PyTorch, benchmarks/bare_images.py",
        "batch": options.batch,
        "repeats": options.repeats,
        "steps": [
            measured(name, count, options)
            for name in options.models
            for count in options.components
        ],
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
