"""Training of models on a line, all seeds as one, in run directories that can be gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import mimachine as mm
from mimachine._support.seeds import derived_seed
from mimachine.data.sources import Stacked
from mimachine.model.objectives import OBJECTIVES
from mimachine.paper.line.curves import curves
from mimachine.paper.line.models import (
    CEILING,
    COMPONENTS,
    DATA,
    HIDDEN,
    LATENT,
    PriorFamily,
    build,
)
from mimachine.paper.processes import as_they_come
from mimachine.paper.reproduction import Request, begun, kept, run_directory

__all__ = [
    "Chain",
    "Phase",
    "Recipe",
    "carry_out",
]


@dataclass(frozen=True)
class Recipe:
    """How models are trained in a phase: with Adam, on fresh data in every step.

    In the last 1,000 of the 3,000 steps by default, losses (means over 10 seeds) fall by at most
    0.01 nats with a floor of 0.2, and by 0.04 with one of 0.05.

    Attributes:
        epochs: Epochs of `steps` steps, after each of which the learning rate changes.
        steps: Steps of an epoch.
        batch_size: Data in a step, and as many latents from P(z).
        learning_rate: The largest learning rate.
        warmup: Epoch of the largest learning rate, see `mm.Noam`.
    """

    epochs: int = 30
    steps: int = 100
    batch_size: int = 64
    learning_rate: float = 1e-2
    warmup: int = 5

    def __str__(self) -> str:
        return (
            f"Adam, {self.epochs * self.steps:,} steps of {self.batch_size} fresh data and as many "
            f"latents; learning rate {self.learning_rate:g} at most, rising for "
            f"{self.warmup * self.steps:,} steps and falling with the square root of time after"
        )


@dataclass(frozen=True)
class Chain:
    """What models are, and the objectives they are trained with one after another.

    Attributes:
        objectives: Names of objectives in `OBJECTIVES`, in their order; each phase goes on from
            the weights that the one before has ended with.
        data_prior: Family of q(x).
        prior: Family of p(z).
        floor: Smallest standard deviation.
    """

    objectives: tuple[str, ...]
    data_prior: PriorFamily = "mixture"
    prior: PriorFamily = "mixture"
    floor: float = 0.2

    @property
    def name(self) -> str:
        """Name of the run directory of the last phase."""
        parts = ("line", *self.objectives, self.data_prior, self.prior, f"{self.floor:g}")
        return "-".join(parts)

    def upto(self, count: int) -> Chain:
        """The first phases alone."""
        return replace(self, objectives=self.objectives[:count])


class Phase(NamedTuple):
    """What there is after a phase of a chain.

    Attributes:
        models: A model for each seed.
        numbers: Numbers of each model, see `Curves.numbers`.
        settings: All that the weights depend on.
        epochs: Records of the epochs, see `mimachine.state.Epoch`.
    """

    models: list[mm.Joint]
    numbers: list[dict[str, Any]]
    settings: dict[str, Any]
    epochs: list[dict[str, Any]]


def carry_out(
    chains: Sequence[Chain], seeds: Sequence[int], recipe: Recipe, request: Request
) -> list[list[Phase]]:
    """Train and measure models; what each phase of each chain gave.

    Every phase has a run directory of its own. What a killed run left there is gone on with, and
    what is finished is read.

    Args:
        chains: What to train.
        seeds: Seeds of the models, their data and their noise.
        recipe: How each phase is trained.
        request: Where, and in how many processes.
    """
    missing = [chain for chain in chains if not _finished(chain, seeds, recipe, request)]
    if request.jobs > 1 and len(missing) > 1:
        request.say(f"{len(missing)} of {len(chains)} trainings to do, of {len(seeds)} models each")
        tasks = [(chain, tuple(seeds), recipe, request.out) for chain in missing]
        for chain in as_they_come(_in_process, tasks, request.jobs):
            request.say(f"finished {chain.name}")
    # After several processes all of this is read from disk.
    return [_phases(chain, seeds, recipe, request) for chain in chains]


def _finished(chain: Chain, seeds: Sequence[int], recipe: Recipe, request: Request) -> bool:
    """Whether the last phase of a chain needs no more than to be read."""
    path = run_directory(request, chain.name, _settings(chain, seeds, recipe))
    return path.is_dir() and mm.Run(path).finished


def _in_process(task: tuple[Chain, tuple[int, ...], Recipe, Path]) -> Chain:
    chain, seeds, recipe, out = task
    _phases(chain, seeds, recipe, Request(out))
    return chain


def _phases(chain: Chain, seeds: Sequence[int], recipe: Recipe, request: Request) -> list[Phase]:
    phases: list[Phase] = []
    for count in range(1, len(chain.objectives) + 1):
        before = phases[-1].models if phases else None
        phases.append(_phase(chain.upto(count), before, seeds, recipe, request))
    return phases


def _phase(
    chain: Chain,
    before: list[mm.Joint] | None,
    seeds: Sequence[int],
    recipe: Recipe,
    request: Request,
) -> Phase:
    """Models after the last phase of a chain, from what they were before it."""
    models = before or [build(chain.data_prior, chain.prior, chain.floor, seed) for seed in seeds]
    objective, anchor = OBJECTIVES[chain.objectives[-1]], mm.Fixed(LATENT.distribution())
    ensemble = mm.Ensemble(
        [mm.Loss(model, objective, anchor, components="sum") for model in models]
    )
    settings = _settings(chain, seeds, recipe)
    path = run_directory(request, chain.name, settings)
    run = begun(path, settings)
    with run.locked():
        if run.finished:
            run.load_weights(ensemble)
        else:
            request.say(f"training {len(seeds)} models, run directory {run.path}")
            _train(ensemble, chain, seeds, recipe, run)
        # Densities are tabulated on the processor, wherever training was.
        ensemble.cpu()
        models = [ensemble.member(index).model for index in range(len(seeds))]
        if not run.finished:
            run.write_json("report.json", {"numbers": [curves(m).numbers() for m in models]})
            run.finish()
    numbers = kept(run, "report.json", "numbers")["numbers"]
    return Phase(models, numbers, settings, run.metrics())


def _train(
    ensemble: mm.Ensemble, chain: Chain, seeds: Sequence[int], recipe: Recipe, run: mm.Run
) -> None:
    phase = len(chain.objectives)
    distribution, num_data = DATA.distribution(), recipe.steps * recipe.batch_size
    sources = [
        mm.FreshDraws(distribution, num_data, derived_seed(seed, "line", "data", phase))
        for seed in seeds
    ]
    training = mm.Training(
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        schedule=mm.Noam(recipe.warmup),
        warmup=0,
        seed=phase,
    )
    # Without held-out data the last weights stay; with fresh data there is nothing to overfit.
    mm.fit(ensemble, Stacked(sources), training=training, run=run, progress=False)


def _settings(chain: Chain, seeds: Sequence[int], recipe: Recipe) -> dict[str, Any]:
    """All that the weights depend on, as JSON values."""
    return {
        "objectives": list(chain.objectives),
        "data_prior": chain.data_prior,
        "prior": chain.prior,
        "floor": chain.floor,
        "seeds": list(seeds),
        **asdict(recipe),
        "components": COMPONENTS,
        "hidden": list(HIDDEN),
        "ceiling": CEILING,
        "anchors": [str(DATA), str(LATENT)],
    }
