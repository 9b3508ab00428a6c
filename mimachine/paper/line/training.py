"""Train one-dimensional models as ensembles over seeds, in resumable run directories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import mimachine as mm
from mimachine._support.schema import Finite, validated
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

__all__ = ["Chain", "Phase", "Recipe", "carry_out"]


@dataclass(frozen=True)
class Recipe:
    """Training recipe of a phase: Adam, with fresh data in every step.

    In the last 1,000 of the default 3,000 steps, losses (means over 10 seeds) decrease by at most
    0.01 nats with a floor of 0.2, and by 0.04 with a floor of 0.05.

    Attributes:
        epochs: Number of epochs; the learning rate changes after each.
        steps: Steps per epoch.
        batch_size: Number of examples, and of latents from P(z), in a step.
        learning_rate: Peak learning rate.
        warmup: Epoch of the peak learning rate, see `mm.Noam`.
    """

    epochs: int = 30
    steps: int = 100
    batch_size: int = 64
    learning_rate: float = 1e-2
    warmup: int = 5

    def __str__(self) -> str:
        return (
            f"Adam, {self.epochs * self.steps:,} steps with {self.batch_size} fresh examples and "
            f"{self.batch_size} latents each; peak learning rate {self.learning_rate:g}, with "
            f"{self.warmup * self.steps:,} steps of warm-up, then inverse square-root decay"
        )


@dataclass(frozen=True)
class Chain:
    """Families of a model, and the objectives it is trained with, one after the other.

    Attributes:
        objectives: Names in `OBJECTIVES`, in order; each phase starts from the final weights of the
            phase before.
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
        """The chain of the first phases only."""
        return replace(self, objectives=self.objectives[:count])


class Phase(NamedTuple):
    """Result of a phase of a chain.

    Attributes:
        models: One model per seed.
        numbers: Distances and loss terms of each model, see `Curves.numbers`.
        settings: Everything the weights depend on.
        epochs: Records of the epochs, see `mimachine.training.records.Epoch`.
    """

    models: list[mm.Joint]
    numbers: list[dict[str, Any]]
    settings: dict[str, Any]
    epochs: list[dict[str, Any]]


def carry_out(
    chains: Sequence[Chain], seeds: Sequence[int], recipe: Recipe, request: Request
) -> list[list[Phase]]:
    """Train and evaluate models; the results of each phase of each chain.

    Every phase has a separate run directory. Interrupted runs are resumed, and finished runs are
    read.

    Args:
        chains: The chains.
        seeds: Seeds of the models, their data and their noise.
        recipe: Training recipe of each phase.
        request: Output directory and number of processes.
    """
    missing = [chain for chain in chains if not _finished(chain, seeds, recipe, request)]
    if request.jobs > 1 and len(missing) > 1:
        request.say(f"training {len(missing)} of {len(chains)} ensembles of {len(seeds)} models")
        tasks = [(chain, tuple(seeds), recipe, request.out) for chain in missing]
        for chain in as_they_come(_in_process, tasks, request.jobs):
            request.say(f"finished {chain.name}")
    # After parallel training, everything is read from disk.
    return [_phases(chain, seeds, recipe, request) for chain in chains]


def _finished(chain: Chain, seeds: Sequence[int], recipe: Recipe, request: Request) -> bool:
    """Whether the last phase of a chain is finished."""
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
    """Train the last phase of a chain, from the models before it or from new models."""
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
            request.say(f"training {len(seeds)} models in {run.path}")
            _train(ensemble, chain, seeds, recipe, run)
        # Densities are tabulated on the CPU.
        ensemble.cpu()
        models = [ensemble.member(index).model for index in range(len(seeds))]
        if not run.finished:
            run.write_json("report.json", {"numbers": [curves(m).numbers() for m in models]})
            run.finish()
    return Phase(models, _numbers(run, len(seeds)), settings, run.metrics())


@dataclass(frozen=True)
class _Numbers:
    """Schema of `Curves.numbers`."""

    x: dict[str, dict[str, Finite]]
    z: dict[str, dict[str, Finite]]
    terms: dict[str, Finite]
    grid: dict[str, Any]


@dataclass(frozen=True)
class _Report:
    """Schema of report.json."""

    numbers: list[_Numbers]


def _numbers(run: mm.Run, count: int) -> list[dict[str, Any]]:
    """The results of each model of a finished run."""
    value = kept(run, "report.json", "numbers")
    read = validated(_Report, value, f"{run.path / 'report.json'} is damaged")
    if len(read.numbers) != count:
        raise ValueError(f"{run.path / 'report.json'} is damaged: it must be of {count} models")
    numbers: list[dict[str, Any]] = value["numbers"]
    return numbers


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
    # Without validation data the last weights are used; with fresh data nothing can be overfitted.
    mm.fit(ensemble, Stacked(sources), training=training, run=run, progress=False)


def _settings(chain: Chain, seeds: Sequence[int], recipe: Recipe) -> dict[str, Any]:
    """Everything the weights depend on, as JSON values."""
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
