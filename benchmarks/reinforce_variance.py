"""Variance of gradient estimators of a loss with discrete samples.

Trace of the covariance of the gradient of the mean loss over one fixed batch, over repeats with
independent noise, at the initial weights and after training. "score" is REINFORCE without a
baseline, as for a batch of one example; "leave-one-out" subtracts the mean loss of the other
examples; "sum" samples every component of a mixture and needs no score. Ratios are relative to
"score".

    python benchmarks/reinforce_variance.py --out results/reinforce-variance.txt
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

import mimachine as mm

BATCH = 16


def mixture(features: int, events: int, components: int) -> mm.MixtureDensity:
    return mm.MixtureDensity(mm.MLP(features, components * (1 + 2 * events), (20,)), components)


class OneHotNumbers(nn.Module):
    """One-hot encode category numbers (B, V) as vectors (B, V K)."""

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.categories = categories

    def forward(self, numbers: Tensor) -> Tensor:
        return torch.eye(self.categories)[numbers.long()].flatten(1)


def pixels() -> tuple[mm.Joint, Tensor]:
    """20 binary pixels, a code of 4 continuous variables."""
    model = mm.Joint(
        mm.Gaussian(mm.MLP(20, 8, (20,))), mm.Bernoulli(mm.MLP(4, 20, (20,))), mm.StandardNormal(4)
    )
    return model, torch.bernoulli(torch.full((BATCH, 20), 0.3))


def categories() -> tuple[mm.Joint, Tensor]:
    """8 variables with 5 categories, a code of 4 variables with 3 categories."""
    network = nn.Sequential(OneHotNumbers(5), mm.MLP(40, 12, (20,)))
    model = mm.Joint(
        mm.OneHotCategorical(network, 3, event_dims=2),
        mm.Categorical(nn.Sequential(nn.Flatten(), mm.MLP(12, 40, (20,))), 5),
        mm.LearnedOneHot((4, 3)),
    )
    return model, torch.randint(5, (BATCH, 8)).float()


def mixtures(components: int) -> Callable[[], tuple[mm.Joint, Tensor]]:
    """One-dimensional data and code; all four distributions are mixtures (paper, E.2)."""

    def make() -> tuple[mm.Joint, Tensor]:
        model = mm.Joint(
            mixture(1, 1, components),
            mixture(1, 1, components),
            mm.GaussianMixture(1, components),
            mm.GaussianMixture(1, components),
        )
        return model, torch.randn(BATCH, 1) + 2 * torch.randint(2, (BATCH, 1)) - 1

    return make


MODELS: dict[str, Callable[[], tuple[mm.Joint, Tensor]]] = {
    "20 binary pixels": pixels,
    "categories in x and z": categories,
    "mixtures of 2": mixtures(2),
    "mixtures of 10": mixtures(10),
}


def square_deviations(loss: mm.Loss, x: Tensor, repeats: int) -> Tensor:
    """Contribution of each repeat to the trace of the covariance of the mean loss's gradient."""
    parameters = {name: p.detach() for name, p in loss.named_parameters()}

    def value(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(loss, parameters, (x,)).mean()

    rows = x.expand(repeats, *x.shape)
    gradients = vmap(grad(value), in_dims=(None, 0), randomness="different", chunk_size=1000)(
        parameters, rows
    )
    return sum((g - g.mean(0)).square().flatten(1).sum(1) for g in gradients.values()) * (
        repeats / (repeats - 1)
    )


def without_baseline(loss: mm.Loss, x: Tensor, repeats: int) -> Tensor:
    """The same with a separate batch for each example, so that there is no baseline."""
    alone = [square_deviations(loss, x[i : i + 1], repeats) for i in range(len(x))]
    return sum(alone) / len(x) ** 2


def table(repeats: int, epochs: int) -> list[str]:
    lines = [f"{'model':<22} {'weights':<8} {'estimator':<14} {'variance':>18} {'ratio':>7}"]
    for name, make in MODELS.items():
        torch.manual_seed(0)
        model, x = make()
        for weights in ("initial", "trained"):
            if weights == "trained":
                recipe = mm.Training(epochs=epochs, warmup=0, batch_size=BATCH)
                mm.fit(mm.Loss(model, mm.MIM), x, None, recipe, progress=False)
            found = {
                "score": without_baseline(mm.Loss(model, mm.MIM), x, repeats),
                "leave-one-out": square_deviations(mm.Loss(model, mm.MIM), x, repeats),
            }
            if isinstance(model.encoder, mm.MixtureDensity):
                summed = mm.Loss(model, mm.MIM, components="sum")
                found["sum"] = square_deviations(summed, x, repeats)
            first = found["score"].mean()
            for estimator, each in found.items():
                error = each.std() / math.sqrt(repeats)
                value = f"{each.mean():.4g} ± {error:.2g}"
                ratio = each.mean() / first
                lines.append(f"{name:<22} {weights:<8} {estimator:<14} {value:>18} {ratio:7.3f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=500, help="steps of training")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = table(arguments.repeats, arguments.epochs)
    print("\n".join(lines))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
