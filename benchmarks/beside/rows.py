"""The rows of `peers.py`: for each kind of work, the ways to do it and what they take."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from knn_speed import by_differences, by_library, by_scikit_learn
from likelihood_speed import synthetic_images
from machine import keeps_single_precision, load_average, matmul_precision, processor, versions
from torch import Tensor
from training_speed import BATCH

import mimachine as mm
from beside import bare, library, measure, same
from mimachine.data.bundled import mixture_2d

LATENTS, UNITS = 20, 400
LIBRARIES = ("mimachine", "torch", "numpy", "scikit-learn", "jax", "jaxlib", "pythae", "faiss-cpu")
OTHERS = ("jax", "pythae", "faiss")
LOOP, JAX, PYTHAE = "plain torch loop", "JAX scan", "pythae"
MEDIUM = "plain torch loop, medium precision of products"
ESTIMATE, CAREFUL = "mimachine log_likelihood", "careful torch"
FIT, COMPILED = "mimachine fit", "mimachine fit, compiled"


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
        repeats: Number of rounds.
        without: Libraries to leave out, of `OTHERS`.
    """

    repeats: int = 5
    without: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Training:
    """A training whose steps are timed.

    Attributes:
        epochs: Numbers of epochs of a short and of a long training.
        steps: Steps in an epoch.
        models: Number of models.
        hidden: Number of units of the hidden layer of each network.
        is_vae: Whether to train a VAE of binary images; otherwise symmetric MIM of the 2-D mixture.
    """

    epochs: tuple[int, int]
    steps: int = 78
    models: int = 1
    hidden: int = 20
    is_vae: bool = False

    def plain(self) -> list[bare.BareModel]:
        """The models in plain PyTorch, with one data set."""
        count = self.steps * BATCH
        if self.is_vae:
            x = synthetic_images(count)
            return [bare.BareVae(x, LATENTS, self.hidden) for _ in range(self.models)]
        x = mixture_2d(count).train
        return [bare.BareMim(x, self.hidden) for _ in range(self.models)]


Found = dict[str, Any]


def trained(training: Training, options: Options) -> Found:
    """Seconds of a step, once all implementations were found to compute the same."""
    torch.manual_seed(0)
    ways, checked = ways_to_train(training, options)
    slopes, first = measure.by_slope(ways, training.epochs, training.steps, options.repeats)
    compiling = {name: first[name] for name in (COMPILED, JAX) if name in first}
    return {"differences": checked, "ways": measure.compared(slopes, LOOP, compiling)}


def ways_to_train(
    training: Training, options: Options
) -> tuple[dict[str, Callable[[int], object]], dict[str, float]]:
    """Ways to train for a number of epochs, and the largest difference of each from plain torch.

    Raises:
        NotTheSame: If one of them computes something else.
    """
    models = training.plain()
    one, x = models[0], models[0].x[:BATCH]
    checked = {"library": same.library(one, x)}

    def loops(epochs: int) -> None:
        for each in models:
            each.train(epochs)

    ways: dict[str, Callable[[int], object]] = {
        FIT: library.trainers(models, compiled=False),
        COMPILED: library.trainers(models, compiled=True),
        LOOP: loops,
    }
    if training.is_vae:

        def medium(epochs: int) -> None:
            with matmul_precision("medium"):
                loops(epochs)

        ways[MEDIUM] = medium
    if "jax" not in options.without:
        from beside.of_jax import Scan

        checked["jax"] = same.scan(one, x)
        ways[JAX] = Scan(models).train
    if training.is_vae and "pythae" not in options.without:
        from beside.of_pythae import trainer

        checked["pythae"] = same.pythae(one, x)
        ways[PYTHAE] = trainer(one)
    return ways, checked


def second_fit(training: Training, options: Options) -> Found:
    """Seconds of the first and of later trainings of one loss with compiled steps.

    Raises:
        RuntimeError: If a later one compiles a graph.
    """
    torch.manual_seed(0)
    (model,) = training.plain()
    compiled, uncompiled = (library.trainer(library.loss(model), model.x, c) for c in (True, False))
    epochs = training.epochs[1]
    first = measure.clocked(lambda: compiled(epochs))
    graphs = library.graphs()
    later = {"second and later, compiled": compiled, "not compiled": uncompiled}
    seconds = measure.of_whole(
        {name: partial(train, epochs) for name, train in later.items()}, options.repeats
    )
    if not graphs or library.graphs() != graphs:
        raise RuntimeError(
            f"only the first training must compile graphs, which were {graphs} after it and "
            f"{library.graphs()} in the end"
        )
    seconds = {"first, compiled": [first] * (1 + options.repeats), **seconds}
    return {"ways": measure.compared(seconds, "not compiled"), "graphs": graphs}


@dataclass(frozen=True)
class Likelihoods:
    """Importance-sampled likelihoods of the VAE.

    Attributes:
        images: Number of images.
        samples: Samples for each.
        hidden: Number of units.
        epochs: Epochs of training before, so that the likelihoods are realistic.
    """

    images: int = 20
    samples: int = 5000
    hidden: int = UNITS
    epochs: int = 3


def likelihoods(work: Likelihoods, options: Options) -> Found:
    """Seconds of all likelihoods, once all implementations gave the same up to their errors."""
    torch.manual_seed(0)
    x = synthetic_images(50 * BATCH + work.images)
    plain, asked = bare.BareVae(x[work.images :], LATENTS, work.hidden), x[: work.images]
    checked = check_likelihoods(plain, asked, work.samples, options)
    plain.train(work.epochs)
    ways = ways_to_weigh(plain, asked, work.samples, options)
    seconds = measure.of_whole(ways, options.repeats)
    return {"differences": checked, "ways": measure.compared(seconds, CAREFUL)}


def ways_to_weigh(
    plain: bare.BareVae, x: Tensor, samples: int, options: Options
) -> dict[str, Callable[[], float]]:
    """Ways to estimate the mean log-likelihood of some images by importance sampling, in nats."""
    model = library.model(plain).eval()
    ways: dict[str, Callable[[], float]] = {
        ESTIMATE: lambda: float(mm.log_likelihood(model, x, samples).values.mean()),
        CAREFUL: lambda: float(bare.log_likelihood(plain, x, samples)[0].mean()),
    }
    if "pythae" not in options.without:
        from beside import of_pythae

        other = of_pythae.model(plain).eval()
        ways[PYTHAE] = lambda: of_pythae.log_likelihood(other, x, samples)
    return ways


def check_likelihoods(
    plain: bare.BareVae, x: Tensor, samples: int, options: Options
) -> dict[str, float]:
    """Differences of estimates from those of plain torch, in standard errors of a difference.

    It uses a decoder that depends little on the latents, so that the errors are small and reliable.

    Raises:
        NotTheSame: If one is above five.
    """
    flat = copy.deepcopy(plain)
    with torch.no_grad():
        flat.decoder[-1].weight.mul_(0.1)
    values, errors = bare.log_likelihood(flat, x, samples)
    error = float((2 * errors.square().sum()).sqrt()) / len(x)
    ways = ways_to_weigh(flat, x, samples, options)
    checked = {name: abs(way() - float(values.mean())) / error for name, way in ways.items()}
    if not max(checked.values()) < 5:
        raise same.NotTheSame(f"likelihoods differ by {checked} standard errors of {error:.1g}")
    return checked


@dataclass(frozen=True)
class Neighbours:
    """A search for the 10 nearest of some points to each query."""

    points: int = 60_000
    queries: int = 2000
    dimensions: int = 80


def neighbours(work: Neighbours, options: Options) -> Found:
    """Seconds of a search, once all found the same but where rounding makes ties."""
    generator = torch.Generator().manual_seed(0)
    points, queries = (
        torch.randn(count, work.dimensions, generator=generator)
        for count in (work.points, work.queries)
    )
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "mimachine nearest": by_library,
        "scikit-learn": by_scikit_learn,
    }
    if "faiss" not in options.without:
        ways["faiss, flat"] = by_faiss
    asked = queries[:200]
    expected = by_differences(points, asked)
    wrong = {name: int((way(points, asked) != expected).any(1).sum()) for name, way in ways.items()}
    if max(wrong.values()) > len(asked) // 100:
        raise same.NotTheSame(f"of {len(asked)} queries have other neighbours: {wrong}")
    seconds = measure.of_whole(
        {name: partial(way, points, queries) for name, way in ways.items()}, options.repeats
    )
    return {"wrong": wrong, "ways": measure.compared(seconds, "scikit-learn")}


def by_faiss(points: Tensor, queries: Tensor) -> Tensor:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points.numpy())
    return torch.from_numpy(index.search(queries.numpy(), 10)[1])


@dataclass(frozen=True)
class Row:
    """A kind of work.

    Attributes:
        title: What is done.
        baseline: Name of the way that the others are compared with.
        measured: Measures it.
        unit: What the seconds are of, and how a table shows them.
        needs: Other libraries that it uses, of `OTHERS`.
    """

    title: str
    baseline: str
    measured: Callable[[Options], Found]
    unit: str = "ms a step"
    needs: tuple[str, ...] = ()


def _trained(title: str, training: Training, *needs: str) -> Row:
    return Row(title, LOOP, partial(trained, training), needs=("jax", *needs))


ROWS: Mapping[str, Row] = {
    "a": _trained(
        f"VAE 784-{UNITS}-{LATENTS}, batches of {BATCH}",
        Training((1, 5), steps=50, hidden=UNITS, is_vae=True),
        "pythae",
    ),
    "b": _trained("one 2-D MIM of 20 units", Training((2, 22))),
    "c": _trained("ten 2-D MIMs of 20 units", Training((1, 9), models=10)),
    "d": _trained("ten 2-D MIMs of 500 units", Training((1, 4), models=10, hidden=500)),
    "e": Row(
        "a training of one 2-D MIM of 20 units, 20 epochs of 78 steps",
        "not compiled",
        partial(second_fit, Training((1, 20))),
        "s",
    ),
    "f": Row(
        f"5,000 importance samples for each of 20 images, VAE 784-{UNITS}-{LATENTS}",
        CAREFUL,
        partial(likelihoods, Likelihoods()),
        "s",
        ("pythae",),
    ),
    "g": Row(
        "10 nearest of 60,000 points in 80 dimensions to 2,000 queries",
        "scikit-learn",
        partial(neighbours, Neighbours()),
        "s",
        ("faiss",),
    ),
}


def measured(key: str, options: Options) -> dict[str, Any]:
    """Measure a row; with the machine and the versions that it was measured with."""
    row = ROWS[key]
    about = {
        "row": key,
        "title": row.title,
        "unit": row.unit,
        "baseline": row.baseline,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "load_average_at_start": load_average(),
        "repeats": options.repeats,
        "without": sorted(options.without & set(row.needs)),
        "medium_keeps_single_precision": keeps_single_precision("medium"),
        "versions": versions(*LIBRARIES),
    }
    return {**about, **row.measured(options)}
