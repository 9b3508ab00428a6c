"""Quality of priors refitted after training, compared to a VampPrior trained from the start.

For each objective and seed, models are trained with a standard normal prior and an encoder floor of
0.001 (the default) or 0.05 (the default for a VampPrior), and with a VampPrior and a floor of 0.05.
Priors are refitted to the first two. The benchmark reports, on the test data: the rate
E log q(z|x) - log p(z); the ELBO; the negative log-likelihood of the first 100 rows by importance
sampling with a refitted proposal (by quadrature for the mixture) and the share of flagged
estimates; the energy distance 2 E|x-y| - E|x-x'| - E|y-y'| of 2,000 samples x of the model to the
test data y; and the CPU seconds of the refit.

    python benchmarks/refit_prior.py --objectives a-mim vae --seeds 0
    python benchmarks/refit_prior.py --objectives a-mim vae --seeds 1 2 --kinds gmm --no-likelihood
    python benchmarks/refit_prior.py --kinds gmm --picture docs/images/refit.png
    python benchmarks/refit_prior.py --data mixture-2d --objectives mim --epochs 60
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from machine import processor
from torch import Tensor

import mimachine as mm
from mimachine import experiment, workflow
from mimachine.experiment.build import build
from mimachine.reporting import figures

KINDS = ("gmm", "vamp", "flow")


@dataclass(frozen=True)
class Row:
    """Metrics of one model; `rate`, `negative_elbo` and `nll` are in nats per example."""

    data: str
    objective: str
    seed: int
    floor: float
    prior: str
    rate: float
    negative_elbo: float
    nll: float | None
    flagged: float | None
    energy_distance: float
    seconds: float
    processor: str


def settings_of(arguments: argparse.Namespace, objective: str, seed: int) -> mm.Experiment:
    settings = experiment.default(arguments.data, objective)
    training = replace(settings.training, seed=seed)
    if arguments.epochs is not None:
        training = replace(training, epochs=arguments.epochs)
    return replace(settings, training=training, num_samples=1)


def trained(settings: mm.Experiment, data: mm.Dataset) -> mm.Joint:
    """Train a model as `mimachine train` does, on the given data."""
    loss = mm.Loss(build(settings, data), workflow.objective(settings.objective))
    train, val = workflow.sources(settings, data)
    mm.fit(loss, train, val, settings.training, progress=False)
    return loss.model.eval()


def models(
    settings: mm.Experiment, data: mm.Dataset, kinds: list[str]
) -> Iterator[tuple[float, str, mm.Joint, float]]:
    """Floor, name of the prior, model, and CPU seconds of refitting the prior."""
    train, val = workflow.sources(settings, data)
    for floor, refits in ((1e-3, kinds), (0.05, ["gmm"])):
        architecture = replace(settings.model, encoder_floor=floor)
        model = trained(replace(settings, model=architecture), data)
        yield floor, "standard normal", model, 0.0
        for kind in refits:
            start = time.process_time()
            refitted = mm.refit_prior(model, train, val, kind=kind, progress=False)
            yield floor, f"refitted {kind}", refitted, time.process_time() - start
    architecture = replace(settings.model, encoder_floor=0.05, prior="vampprior")
    yield (
        0.05,
        "VampPrior from the start",
        trained(replace(settings, model=architecture), data),
        0.0,
    )


def likelihood(model: mm.Joint, data: mm.Dataset) -> tuple[float, float]:
    """Mean negative log-likelihood of 100 test rows, and the share of flagged estimates."""
    x = data.test[:100]
    if data.test.shape[1] == 2:
        integral = mm.quadrature_log_likelihood(model, x, tolerance=1e-2)
        return -float(integral.values.mean()), float(integral.flagged.double().mean())
    epochs = max(2, 700 // -(-len(data.train) // 128))
    recipe = mm.Training(epochs, learning_rate=2e-3, warmup=0, patience=epochs)

    def bound(proposal: mm.Gaussian) -> float:
        return mm.log_likelihood(model, data.val[:50], 100, proposal=proposal).mean().value

    start = max((widened(model.encoder, by) for by in (0.0, 1.0, 2.0, 3.0)), key=bound)
    proposal = mm.refit_proposal(
        model, data.train, data.val, start=start, num_samples=8, training=recipe, progress=False
    )
    result = mm.log_likelihood(model, x, 2000, proposal=proposal)
    return -result.mean().value, float(result.flagged.double().mean())


def widened(encoder: mm.Gaussian, by: float) -> mm.Gaussian:
    """A copy whose standard deviations above the floor are exp(by) times as large."""
    copied = copy.deepcopy(encoder)
    last = [layer for layer in copied.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias[len(last.bias) // 2 :] += by
    return copied


@torch.no_grad()
def rate_and_elbo(model: mm.Joint, x: Tensor) -> tuple[float, float]:
    rates, bounds = [], []
    for rows in x.split(1000):
        for _ in range(10):
            sample = model.encode(rows)
            lp = model.log_probs(sample)
            rates.append(lp.q_z_given_x - lp.p_z)
            bounds.append(lp.p_x_given_z - rates[-1])
    return float(torch.cat(rates).mean()), -float(torch.cat(bounds).mean())


def energy_distance(samples: Tensor, data: Tensor) -> float:
    """Unbiased energy distance, without pairs of a value with itself."""

    def within(values: Tensor) -> float:
        count = len(values)
        return float(torch.cdist(values, values).sum()) / (count * (count - 1))

    return 2 * float(torch.cdist(samples, data).mean()) - within(samples) - within(data)


def draw(settings: mm.Experiment, data: mm.Dataset, kinds: list[str], file: Path) -> None:
    """Plot decoder means at samples of each prior, one panel per prior."""
    shown = {}
    for floor, name, model, _ in models(settings, data, kinds):
        shown[f"{name}\nfloor {floor}"] = workflow.sample(model, 48).mean
    figures.image_samples(shown, data, columns=6).savefig(file, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--objectives", nargs="+", default=["a-mim", "vae"])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="number of training rows to use")
    parser.add_argument("--epochs", type=int, help="training epochs instead of the default")
    parser.add_argument(
        "--no-likelihood", action="store_true", help="skip the negative log-likelihood"
    )
    parser.add_argument("--picture", type=Path, help="only plot samples of the first model")
    parser.add_argument("--out", type=Path, default=Path("results/refit_prior.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(arguments.out.read_text()) if arguments.out.exists() else []
    for objective in arguments.objectives:
        for seed in arguments.seeds:
            settings = settings_of(arguments, objective, seed)
            data = workflow.prepare(settings)
            if arguments.rows is not None:
                few = arguments.rows
                data = replace(
                    data, train=data.train[:few], val=data.val[: few // 5], test=data.test[:500],
                    versions=None,
                )  # fmt: skip
            if arguments.picture is not None:
                draw(settings, data, arguments.kinds, arguments.picture)
                return
            for floor, name, model, seconds in models(settings, data, arguments.kinds):
                torch.manual_seed(seed)
                nll, flagged = (None, None) if arguments.no_likelihood else likelihood(model, data)
                rate, negative_elbo = rate_and_elbo(model, data.test)
                distance = energy_distance(workflow.sample(model, 2000).x, data.test[:2000])
                row = Row(
                    arguments.data, objective, seed, floor, name, rate, negative_elbo, nll,
                    flagged, distance, seconds, processor(),
                )  # fmt: skip
                print(row, flush=True)
                key = (row.data, row.objective, row.seed, row.floor, row.prior)
                names = ("data", "objective", "seed", "floor", "prior")
                rows = [r for r in rows if tuple(r[n] for n in names) != key] + [asdict(row)]
                arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
