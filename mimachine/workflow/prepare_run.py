"""Prepare a run: load the data and build the loss and the batch sources from settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from mimachine._support.messages import unknown
from mimachine._support.seeds import derived_seed, forked
from mimachine.data import catalogue, image_sets
from mimachine.data.dataset import Dataset
from mimachine.data.files.load import load_file
from mimachine.data.rows import Rows
from mimachine.data.sources import Binarized, FreshDraws, Source, TensorSource, Versions, as_bytes
from mimachine.experiment.build import build, likelihood_of
from mimachine.experiment.settings import Experiment
from mimachine.model import priors
from mimachine.model.loss import Loss
from mimachine.model.objectives import OBJECTIVES, Objective
from mimachine.training.batches import check_sizes
from mimachine.training.run import Run

__all__ = ["check", "objective", "prepare", "ready_to_train", "sources", "with_binary_images"]


def objective(name: str) -> Objective:
    """The objective with a given name.

    Raises:
        ValueError: If there is no such objective; the message suggests the nearest name.
    """
    if name not in OBJECTIVES:
        raise ValueError(unknown("objective", name, OBJECTIVES))
    return OBJECTIVES[name]


def prepare(settings: Experiment, run: Run | None = None) -> Dataset:
    """Load the data of an experiment as used for evaluation.

    With a Bernoulli likelihood, grey values are binarised with fixed draws. Training binarises the
    grey values of training data anew in every epoch, see `sources`.

    Args:
        settings: Settings of the experiment.
        run: A run that was trained on the data; a file or folder is then preprocessed as for that
            run.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the data set is unknown, the data cannot be used, they do not fit the
            likelihood, or they changed since the run was trained.
    """
    stored = None if run is None else run.data_record()
    if run is not None and settings.data.is_path and stored is None:
        raise FileNotFoundError(f"{run.path} is not a complete run: it has no data.json")
    return with_binary_images(settings, _load(settings, stored))


def with_binary_images(settings: Experiment, data: Dataset) -> Dataset:
    """Data with grey values binarised by fixed draws, if the likelihood of the model needs that.

    Raises:
        ValueError: If there are no grey levels, or too many values for the memory.
    """
    if not is_binarized(settings, data):
        return data
    if data.levels is None and data.preprocessing is None:
        raise ValueError(
            f'model.likelihood "bernoulli" needs grey levels in [0, 1], '
            f"which {data.name} does not have"
        )
    if isinstance(data.train, Rows):
        raise ValueError(
            f"{data.name} is too large to be binarised in memory: store it as zeros and ones, or "
            "choose another model.likelihood"
        )
    grey = as_bytes(data.train) if data.levels == image_sets.LEVELS else data.train
    with forked(derived_seed(0, "binarised", data.name)):
        train, val, test = map(torch.bernoulli, (data.train, data.val, data.test))
    if settings.data.binarisation == "published":
        drawn = image_sets.published_binarisation(data)
        val, test = drawn.val, drawn.test
    return replace(data, train=train, val=val, test=test, grey=grey)


def _load(settings: Experiment, stored: dict[str, Any] | None = None) -> Dataset:
    data = settings.data
    if not data.is_path:
        return catalogue.load(data.name)
    likelihood: str = settings.model.likelihood
    if likelihood == "auto" and settings.model.architecture != "mlp":
        # Principal components and models of images need numbers.
        likelihood = "numbers"
    return load_file(data.name, data.file, likelihood, stored)


def is_binarized(settings: Experiment, data: Dataset) -> bool:
    """Whether grey values are binarised by random draws."""
    return likelihood_of(settings.model, data) == "bernoulli" and data.levels != 2


def sources(settings: Experiment, data: Dataset) -> tuple[Source, Source]:
    """Batch sources of the training and the validation data.

    Raises:
        ValueError: If fresh data are requested and P(x) is not known.
    """
    seed = settings.training.seed
    if settings.data.fresh:
        if data.distribution is None:
            raise ValueError(
                f"data.fresh needs data whose P(x) is known; that of {data.name} is not"
            )
        # Whole batches, as in the paper: 78 batches of 128 in an epoch of 10,000 rows.
        size = settings.training.batch_size
        count = len(data.train) // size * size or len(data.train)
        return (
            FreshDraws(data.distribution, count, derived_seed(seed, "train data")),
            FreshDraws(data.distribution, count, derived_seed(seed, "validation data")),
        )
    missing = data.schema is not None
    train: Source = TensorSource(data.train, seed, missing=missing)
    if data.versions is not None:
        train = Versions(data.versions, seed)
    elif data.grey is not None:
        train = Binarized(TensorSource(data.grey, seed), seed)
    return train, TensorSource(data.val, shuffle=False, missing=missing)


def check(settings: Experiment) -> None:
    """Check that an experiment can start: do what `train` does before creating the run directory.

    Raises:
        FileNotFoundError: If the data do not exist.
        ValueError: If the settings are not valid.
    """
    prepare_training(settings)


def cautions(settings: Experiment, data: Dataset) -> list[str]:
    """Warnings about settings that are valid but probably a mistake."""
    latents, features = settings.model.num_latents, data.train.shape[1]
    if latents <= features:
        return []
    latent = settings.model.latent
    which = f"{latent}" if latents == latent else f"{latent}, {latents} for both levels"
    return [
        f"warning: model.latent is {which}, more than the {features} values per row; "
        "the additional latents cannot add information"
    ]


def prepare_training(
    settings: Experiment, run: Run | None = None
) -> tuple[Dataset, Loss, Source, Source]:
    """Load the data and build the loss and the batch sources for training.

    Raises:
        FileNotFoundError: If the data do not exist.
        ValueError: If the settings are not valid.
    """
    chosen = objective(settings.objective)
    if chosen.decoded == "means" and settings.model.architecture == "pixel-hvae":
        raise ValueError(
            f"objective {settings.objective} decodes to means, and the means of model.architecture "
            "pixel-hvae have no closed form: choose mim, or a-mim as in the released code"
        )
    if settings.model.architecture == "pca" and settings.objective != "vae":
        raise ValueError(
            "objective must be vae for model.architecture pca, which has the maximum likelihood in "
            f"closed form, got {settings.objective}"
        )
    if settings.training.cuda_graphs and not torch.cuda.is_available():
        raise ValueError("training.cuda_graphs must be False without a CUDA device, got True")
    data = prepare(settings, run)
    return data, *ready_to_train(settings, data)


def ready_to_train(settings: Experiment, data: Dataset) -> tuple[Loss, Source, Source]:
    """Build the loss and the batch sources for data that are loaded.

    Raises:
        ValueError: If the settings do not fit the data.
    """
    chosen = objective(settings.objective)
    known = None if data.distribution is None else priors.Fixed(data.distribution)
    if known is None and chosen.anchored:
        raise ValueError(
            f"objective {settings.objective} needs data whose P(x) is known, such as mixture-2d; "
            f"that of {data.name} is not"
        )
    loss = Loss(build(settings, data), chosen, data_anchor=known)
    train, val = sources(settings, data)
    # As `fit` does, which begins only once there is a run.
    check_sizes(loss, train, settings.training)
    return loss, train, val
