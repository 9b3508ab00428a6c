"""What a prior that is fitted after training recovers of what one learned from the start has.

For each objective and seed a model is trained with a standard normal prior, with the floor of the
encoder's standard deviation that the library takes (0.001) and with the floor 0.05 that it takes
for a VampPrior; and one with a VampPrior and that floor. Priors are refitted to the first two.
Told for each, over the test data: the rate E log q(z|x) - log p(z) and the ELBO; the negative
log-likelihood by importance sampling with a proposal that was refitted to the model, and the share
of its estimates that are flagged; for the mixture by quadrature instead. Last the energy distance,
2 E|x-y| - E|x-x'| - E|y-y'|, of 2,000 samples x of the decoder to the test data y, and how long
the refit took.

    python benchmarks/refit_prior.py --data digits --objectives a-mim vae
    python benchmarks/refit_prior.py --data mixture-2d --objectives mim vae
    python benchmarks/refit_prior.py --data fashion-mnist --objectives a-mim --rows 10000
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import mimachine as mm
from mimachine import experiment, workflow

KINDS = ("gmm", "vamp", "flow")


@dataclass(frozen=True)
class Row:
    """One model's numbers; all but the last three are nats a datum."""

    data: str
    objective: str
    seed: int
    floor: float
    prior: str
    rate: float
    negative_elbo: float
    nll: float
    flagged: float
    energy_distance: float
    seconds: float


def settings_of(arguments: argparse.Namespace, objective: str, seed: int) -> mm.Experiment:
    settings = experiment.default(arguments.data, objective)
    training = replace(settings.training, seed=seed)
    if arguments.epochs is not None:
        training = replace(training, epochs=arguments.epochs)
    return replace(settings, training=training, num_samples=1)


def trained(settings: mm.Experiment, data: mm.Dataset) -> mm.Joint:
    """A model as `mimachine train` would train it, on the data given."""
    loss = mm.Loss(workflow.build(settings, data), workflow.objective(settings.objective))
    train, val = workflow.sources(settings, data)
    mm.fit(loss, train, val, settings.training, progress=False)
    return loss.model.eval()


def models(
    settings: mm.Experiment, data: mm.Dataset, kinds: list[str]
) -> Iterator[tuple[float, str, mm.Joint, float]]:
    """Floor, name of the prior, model and the seconds that its prior took."""
    train, val = workflow.sources(settings, data)
    for floor, refits in ((1e-3, kinds), (0.05, ["gmm"])):
        architecture = replace(settings.model, encoder_floor=floor)
        model = trained(replace(settings, model=architecture), data)
        yield floor, "standard normal", model, 0.0
        for kind in refits:
            start = time.perf_counter()
            refitted = mm.refit_prior(model, train, val, kind=kind, progress=False)
            yield floor, f"refitted {kind}", refitted, time.perf_counter() - start
    architecture = replace(settings.model, encoder_floor=0.05, prior="vampprior")
    yield (
        0.05,
        "VampPrior from the start",
        trained(replace(settings, model=architecture), data),
        0.0,
    )


def likelihood(model: mm.Joint, data: mm.Dataset) -> tuple[float, float]:
    """Mean negative log-likelihood of the test data, and the share that is flagged."""
    if data.test.shape[1] == 2:
        integral = mm.quadrature_log_likelihood(model, data.test[:100], tolerance=1e-2)
        return -float(integral.values.mean()), float(integral.flagged.double().mean())
    # 1,000 steps: enough for an encoder that is 100 times too narrow.
    epochs = max(2, 1000 // -(-len(data.train) // 128))
    recipe = mm.Training(epochs, learning_rate=5e-3, warmup=0)
    proposal = mm.refit_proposal(
        model, data.train, data.val, num_samples=8, training=recipe, progress=False
    )
    result = mm.log_likelihood(model, data.test, 500, proposal=proposal)
    return -result.mean().value, float(result.flagged.double().mean())


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
    """Without bias: pairs of a value with itself do not count."""

    def within(values: Tensor) -> float:
        count = len(values)
        return float(torch.cdist(values, values).sum()) / (count * (count - 1))

    return 2 * float(torch.cdist(samples, data).mean()) - within(samples) - within(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--objectives", nargs="+", default=["a-mim", "vae"])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", type=int, help="how many of the training data to take")
    parser.add_argument("--epochs", type=int, help="epochs of training, in place of the default")
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
            for floor, name, model, seconds in models(settings, data, arguments.kinds):
                torch.manual_seed(seed)
                nll, flagged = likelihood(model, data)
                rate, negative_elbo = rate_and_elbo(model, data.test)
                distance = energy_distance(workflow.sample(model, 2000).x, data.test[:2000])
                row = Row(
                    arguments.data, objective, seed, floor, name, rate, negative_elbo, nll,
                    flagged, distance, seconds,
                )  # fmt: skip
                print(row, flush=True)
                key = (row.data, row.objective, row.seed, row.floor, row.prior)
                names = ("data", "objective", "seed", "floor", "prior")
                rows = [r for r in rows if tuple(r[n] for n in names) != key] + [asdict(row)]
                arguments.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
