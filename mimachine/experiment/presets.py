"""Presets: default settings for a data set or file, and settings of the paper.

This module does not import torch.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from mimachine._support.messages import Option, OptionError, unknown
from mimachine.data.catalogue import BINARISED, CATALOGUE, IMAGES, LOW_DIMENSIONAL, NAMES
from mimachine.data.files.options import File, check_there, is_table
from mimachine.experiment.settings import (
    DENSE,
    IMAGE_ARCHITECTURES,
    Architecture,
    Data,
    Experiment,
    Model,
    Prior,
)
from mimachine.experiment.usual_architecture import usual_architecture
from mimachine.training.recipe import Training, Warmup
from mimachine.training.schedules import Cosine, Noam

__all__ = [
    "BASELINES",
    "by_convolutions",
    "default",
    "fast",
    "named",
    "objective_of",
    "of_numbers",
    "of_rows",
    "paper_image_training",
    "paper_images",
    "published",
    "published_image_training",
]

# Recipe of image architectures by default.
_IMAGE_TRAINING = Training(epochs=100, patience=20)
# Batch, steps and learning rate of the fast recipe (`benchmarks/fast_recipe.py`).
# Pseudo-inputs take longer to train.
_FAST_BATCH, _FAST_RATE, _FAST_STEPS, _FAST_STEPS_VAMP = 500, 1e-2, 800, 1400
# Steps of convolutions for a number of training images, which grow with it like those of dense
# layers. More steps fit the training images too well (`benchmarks/convolutions.py`).
_CONV_STEPS, _CONV_ROWS, _FEWEST_CONV_STEPS = 300, 4000, 200
# Number of pseudo-inputs of the paper's image models with a VampPrior.
_PSEUDO_INPUTS = 500
# Smallest standard deviation of the encoder. Smaller ones cost MIM likelihood and good samples, and
# larger ones cost reconstruction (`benchmarks/defaults.py`).
_ENCODER_FLOOR = 0.1
# Objectives that draw data from the decoder, and their learning rate for the paper's mixtures: with
# encoders and decoders this narrow, networks of 200 units and more diverge at larger rates. A test
# compares the names with the objectives, whose module imports torch.
_DRAWING = ("mim", "mim-of-means", "ce", "mim-h", "mim-h-true", "symmetric-kl")
_RATE_OF_DRAWS = 1e-3
# Constant standard deviation of the encoder of a regularised auto-encoder for images, about the
# floor e^-3 of the VampPrior paper.
_IMAGE_FLOOR = 0.05
# Smallest standard deviation of the encoder for tables by columns, where codes of rows known in
# part are wide.
_TABLE_FLOOR = 0.2
# Models to compare with: each a name, its objective and its changes to the model.
_BASELINES: dict[str, tuple[str, dict[str, Any]]] = {
    # MIM's encoders are about as narrow as they may be; this one's width is that constant.
    "rae": ("rae", {"encoder_std": _ENCODER_FLOOR, "encoder_floor": None}),
    "auto-encoder": ("auto-encoder", {}),
    "beta-vae": ("beta-vae", {}),
    "vae-vampprior": ("vae", {"prior": "vampprior"}),
    "pca": ("vae", {"architecture": "pca"}),
}
BASELINES = tuple(_BASELINES)


def objective_of(name: str | None) -> str | None:
    """The objective of a baseline; any other name is that of an objective itself."""
    return _BASELINES[name][0] if name in _BASELINES else name


def named(settings: Experiment, name: str) -> Experiment:
    """Settings with the changes of a named model: a baseline, or otherwise an objective.

    Args:
        settings: Settings of the data and the recipe.
        name: One of `BASELINES`, or an objective.
    """
    objective, changes = _BASELINES.get(name, (name, {}))
    model = settings.model
    if "encoder_std" in changes and model.architecture in IMAGE_ARCHITECTURES:
        if model.architecture not in DENSE:
            raise ValueError(
                f"{name} needs an encoder of constant width, which model.architecture "
                f"{model.architecture} does not have; leave it out, or use mlp, "
                f"{' or '.join(DENSE)}"
            )
        changes = {**changes, "encoder_std": _IMAGE_FLOOR}
    if changes.get("architecture") == "pca":
        # Settings of networks have no meaning for it.
        model = Model(
            model.num_latents, likelihood=model.likelihood, decoder_floor=model.decoder_floor
        )
        training = Training(epochs=1, warmup=0, seed=settings.training.seed)
        settings = dataclasses.replace(settings, training=training)
    model = dataclasses.replace(model, **changes)
    return dataclasses.replace(settings, model=model, objective=objective)


def default(
    data: str,
    objective: str | None = None,
    file: File = File(),
    architecture: Architecture | None = None,
) -> Experiment:
    """Default settings for a data set, a file or a folder.

    Image architectures have the sizes of the paper's models: with a VampPrior 500 pseudo-inputs, at
    most one per training image, and for the data of the paper's table 1 a Bernoulli likelihood. For
    the paper's mixtures the learning rate is lower if the objective draws data from the decoder.
    Otherwise the settings depend on the data only.

    Args:
        data: Name of a data set, or path of a file or folder, of which only the size is read.
        objective: Name of the objective. Default: mim for the data in `LOW_DIMENSIONAL`, otherwise
            a-mim. Symmetric MIM needs samples of the decoder, and for pixels their gradient is that
            of REINFORCE.
        file: How to read a file.
        architecture: As in `Model`; by default `usual_architecture`.

    Raises:
        ValueError: If no data set has that name, or the file cannot be read.
        FileNotFoundError: If the path does not exist.
    """
    if architecture is None:
        architecture = usual_architecture(data, file)
    return _starting(data, objective, file, architecture, lambda count: _IMAGE_TRAINING)


def of_numbers(settings: Experiment) -> Experiment:
    """Default settings of a table that is modelled as an array of numbers."""
    if not is_table(settings.data.name):
        return settings
    model = dataclasses.replace(settings.model, encoder_floor=_ENCODER_FLOOR)
    return dataclasses.replace(settings, model=model)


def fast(
    data: str,
    objective: str | None = None,
    file: File = File(),
    architecture: Architecture = "hvae",
    prior: Prior = "standard-normal",
) -> Experiment:
    """Default settings with a fast recipe for dense image models.

    Large batches in bfloat16, Muon for the matrices of layers, and a learning rate that falls along
    a cosine: some 800 steps, and 1,400 with a VampPrior.

    Args:
        data: Name of a data set, or path of a file or folder.
        objective: Name of the objective, by default as in `default`.
        file: How to read a file.
        architecture: dense-vae or hvae.
        prior: As in `Model`.

    Raises:
        ValueError: If the architecture is another, and as for `default`.
        FileNotFoundError: If the path does not exist.
    """
    if architecture not in DENSE:
        raise ValueError(
            f'the preset "fast" is for dense image models, model.architecture {" or ".join(DENSE)}'
            f"; got model.architecture {architecture}"
        )
    steps = _FAST_STEPS_VAMP if prior == "vampprior" else _FAST_STEPS
    recipe = partial(_fast_training, steps)
    settings = _starting(data, objective, file, architecture, recipe)
    return dataclasses.replace(settings, model=dataclasses.replace(settings.model, prior=prior))


def _fast_training(steps: int, count: int) -> Training:
    batch_size = min(_FAST_BATCH, max(16, count // 8))
    epochs = max(4, round(steps / math.ceil(count / batch_size)))
    return Training(
        epochs,
        batch_size,
        _FAST_RATE,
        schedule=Cosine(warmup=max(1, epochs // 20)),
        warmup=Warmup(epochs // 10),
        optimizer="muon",
        precision="bf16-mixed",
    )


def _starting(
    data: str,
    objective: str | None,
    file: File,
    architecture: Architecture,
    image_training: Callable[[int], Training],
) -> Experiment:
    """Default settings with a recipe of image models by the number of training images."""
    if objective is None:
        objective = "mim" if data in LOW_DIMENSIONAL else "a-mim"
    if data in NAMES and file != File():
        raise OptionError(
            "options for files, such as ", Option("labels"), f", do not apply to {data}"
        )
    if data not in NAMES:
        return _for_file(data, objective, file, architecture, image_training)
    count, num_samples = CATALOGUE[data].rows, 1000
    training = Training.for_rows(count)
    if data.startswith("mixture"):
        # The paper's experiments compare the information of codes, which a larger floor limits.
        model = Model(2 if data == "mixture-2d" else 10, hidden=(50,))
        if objective in _DRAWING:
            training = dataclasses.replace(training, learning_rate=_RATE_OF_DRAWS)
    elif data in LOW_DIMENSIONAL:
        model = Model(10, hidden=(50,), encoder_floor=_ENCODER_FLOOR)
    elif data == "digits":
        model = Model(encoder_floor=_ENCODER_FLOOR)
    else:
        # A likelihood of ten thousand images in minutes instead of hours.
        model, num_samples = Model(latent=40, encoder_floor=_ENCODER_FLOOR), 50
    if architecture in IMAGE_ARCHITECTURES:
        model = _for_images(architecture, model.latent, data)
        training = image_training(count)
    settings = Experiment(Data(data), model, objective, training, num_samples)
    if architecture == "conv":
        return by_convolutions(settings, count)
    return settings if architecture != "pca" else named(settings, "pca")


def _for_images(
    architecture: Architecture, latent: int, data: str, components: int = _PSEUDO_INPUTS
) -> Model:
    """An image model with the sizes of the paper's models."""
    return Model(
        latent,
        likelihood="bernoulli" if data in BINARISED else "auto",
        components=components,
        architecture=architecture,
    )


def _for_file(
    path: str,
    objective: str,
    file: File,
    architecture: Architecture,
    image_training: Callable[[int], Training],
) -> Experiment:
    """Default settings from the number of rows and the number of values per row."""
    check_there(path)
    shape: tuple[int, ...]
    if is_table(path) and os.path.isdir(path):
        from mimachine.data.tables.read import outline

        found = outline(path)
        count, shape = found.rows, (len(set(found.types) - {file.labels, *file.drop}),)
    elif os.path.isdir(path):
        from mimachine.data.files import image_folder

        count, shape = image_folder.peek(path, resize=file.resize)
    else:
        from mimachine.data.files import read_table

        count, shape = read_table.peek(
            path, labels=file.labels, drop=file.drop, array=file.array, header=file.header
        )
    is_array = architecture != "mlp" or bool(file.image_shape) or not file.standardize
    by_columns = is_table(path) and not is_array
    start = of_rows(Data(path, file=file), count, math.prod(shape), objective, by_columns)
    if architecture == "conv":
        return by_convolutions(start, count)
    if architecture in IMAGE_ARCHITECTURES:
        most = _training_rows(count)
        pseudo_inputs = min(_PSEUDO_INPUTS, most)
        return dataclasses.replace(
            start,
            model=_for_images(architecture, start.model.latent, path, pseudo_inputs),
            training=image_training(most),
        )
    return start if architecture != "pca" else named(start, "pca")


def by_convolutions(settings: Experiment, count: int) -> Experiment:
    """Default settings with convolutions in place of dense layers.

    Args:
        settings: Default settings of dense layers.
        count: Number of images, those for validation and test included.
    """
    model = dataclasses.replace(settings.model, architecture="conv")
    rows = _training_rows(count)
    steps = max(_FEWEST_CONV_STEPS, round(_CONV_STEPS * (rows / _CONV_ROWS) ** 0.6))
    # On most processors bfloat16 makes no convolution faster.
    training = dataclasses.replace(_fast_training(steps, rows), precision="full")
    return dataclasses.replace(settings, model=model, training=training)


def of_rows(data: Data, count: int, features: int, objective: str, by_columns: bool) -> Experiment:
    """Default settings by the number of rows and of values per row.

    Args:
        data: The data.
        count: Number of rows.
        features: Number of values per row.
        objective: Name of the objective.
        by_columns: Whether columns have kinds.
    """
    # The likelihood takes about a minute.
    num_samples = min(1000, max(50, 200_000_000 // (features * min(10_000, count // 5 + 1))))
    latent = min(40 if features >= 500 else 10, features)
    most = _training_rows(count)
    floor = _TABLE_FLOOR if by_columns else _ENCODER_FLOOR
    model = Model(latent, components=min(Model.components, most), encoder_floor=floor)
    return Experiment(data, model, objective, Training.for_rows(most), num_samples)


def _training_rows(count: int) -> int:
    """At most the number of training rows of a file, a few less after rounding."""
    return max(1, count - count // 10 - count // 5)


def published(
    data: str, objective: str | None = None, architecture: Architecture = "mlp"
) -> Experiment:
    """Settings of the paper's figures 1, 2, 3, 7 and 8 and of its table 1.

    The settings of the figures follow the authors' released code with Algorithm 2 of the paper, not
    its text: for MIM, β multiplies the encoding log-probabilities, decoding samples are used only
    once β = 1, and the halves are summed. The learning rate falls from epoch to epoch. Training and
    validation data of the mixtures are drawn anew in each of at most 200 epochs of 78 steps.

    Figure 3 uses pca-fashion-mnist-published. Its models and those of mixture-20d have 2 to 20
    latents; here they have 10.

    The settings of table 1 need an image architecture: `published_image_training`, training images
    binarised anew in every epoch, held-out images binarised once with the draws of the released
    code, 500 pseudo-inputs initialised at the first training images, 5,000 importance samples.

    Args:
        data: One of `LOW_DIMENSIONAL`. With an image architecture one of `IMAGES`; table 1 has
            mnist, fashion-mnist and omniglot.
        objective: Name of the objective. Default: mim; for images mim-of-means, which the released
            code computes, and for pixel-hvae a-mim, the only MIM objective in table 1.
        architecture: As in `Model`.

    Raises:
        ValueError: If the paper has no such experiment.
    """
    if architecture in IMAGE_ARCHITECTURES:
        objective = objective or ("a-mim" if architecture == "pixel-hvae" else "mim-of-means")
        start = _table_1_settings("published", data, objective, architecture)
        model = dataclasses.replace(start.model, pseudo_inputs="published")
        recipe = published_image_training(objective)
        return dataclasses.replace(start, model=model, training=recipe)
    if data not in LOW_DIMENSIONAL:
        known = f"{', '.join(LOW_DIMENSIONAL[:-1])} and {LOW_DIMENSIONAL[-1]}"
        raise ValueError(
            f'the preset "published" is for {known}, and with a model.architecture for images such '
            f"as conv-hvae for {_IMAGES_LISTED}; got data {data!r} with model.architecture mlp"
        )
    objective = objective or "mim"
    planar = data == "mixture-2d"
    return Experiment(
        Data(data, fresh=data.startswith("mixture")),
        Model(
            latent=2 if planar else 10,
            hidden=(500 if planar else 50,),
            encoder_floor=1e-6,
            decoder_floor=1e-6,
        ),
        objective,
        Training(
            epochs=200,
            batch_size=128,
            learning_rate=1e-3,
            schedule=Noam(3),
            warmup=_published_warmup(objective, 3),
            patience=4,
            validation_noise="fresh",
        ),
    )


def paper_images(
    data: str, objective: str | None = None, architecture: Architecture = "mlp"
) -> Experiment:
    """Settings of table 1 according to the paper's text, see `paper_image_training`.

    Held-out images are binarised as in `published`, so that results can be compared with table 1.

    Args:
        data: One of `IMAGES`.
        objective: Name of the objective. Default: mim, and a-mim for pixel-hvae.
        architecture: An image architecture.

    Raises:
        ValueError: If the paper has no such experiment.
    """
    objective = objective or ("a-mim" if architecture == "pixel-hvae" else "mim")
    return dataclasses.replace(
        _table_1_settings("paper", data, objective, architecture), training=paper_image_training()
    )


_IMAGES_LISTED = f"{', '.join(IMAGES[:-1])} and {IMAGES[-1]}"


def _table_1_settings(
    preset: str, data: str, objective: str, architecture: Architecture
) -> Experiment:
    """Settings that all experiments of table 1 share."""
    if architecture not in IMAGE_ARCHITECTURES or data not in IMAGES:
        raise ValueError(
            f'the preset "{preset}" is for {_IMAGES_LISTED} with a model.architecture for images, '
            f"such as conv-hvae; got data {data!r} with model.architecture {architecture}"
        )
    return Experiment(
        Data(data, binarisation="published"),
        Model(
            latent=40,
            likelihood="bernoulli",
            components=_PSEUDO_INPUTS,
            architecture=architecture,
        ),
        objective,
        num_samples=5000,
    )


def published_image_training(objective: str = "mim") -> Training:
    """Training recipe of the paper's table 1, from the released image code.

    It is the recipe of the VampPrior paper: at most 2,000 epochs, batches of 100, Adam with
    learning rate 5e-4 and gradients normalised per tensor, a warm-up of 100 epochs, and early
    stopping after more than 50 epochs without improvement. For a VAE, β multiplies the KL
    divergence. For MIM, β multiplies log q(z|x) + log q(x) and log p(z2), decoding samples are used
    only once β = 1, and the halves are summed. The released code's MIM is the objective
    `MIM_OF_MEANS`.

    Two differences remain: the released code also selects its best epoch during the warm-up, and it
    adds Adam's ε before the bias correction, which makes ε larger in the first steps.

    Args:
        objective: Name of the objective, such as "vae", "mim-of-means", "mim" or "a-mim".

    Raises:
        ValueError: If there is no such objective.
    """
    from mimachine.model.objectives import OBJECTIVES

    if not isinstance(objective, str) or objective not in OBJECTIVES:
        raise ValueError(unknown("objective", str(objective), OBJECTIVES))
    warmup = _published_warmup(objective, 100)
    if warmup.terms:
        warmup = dataclasses.replace(warmup, first_latent=True)
    return Training(
        epochs=2000,
        batch_size=100,
        learning_rate=5e-4,
        gradient="normalised",
        warmup=warmup,
        patience=51,
        validation_noise="fresh",
    )


def paper_image_training() -> Training:
    """Training recipe for image models in the paper's text.

    Adam with learning rate 1e-3, batches of 128, β on the priors, Eq. (12), and early stopping
    after as many epochs without improvement as the warm-up has. The warm-up of 100 epochs is that
    of the VampPrior paper, whose setup the text adopts for images.
    """
    return Training(epochs=2000, batch_size=128, learning_rate=1e-3, warmup=100, patience=100)


def _published_warmup(objective: str, epochs: int) -> Warmup:
    """Warm-up of the released code, which differs between MIM and other objectives."""
    from mimachine.model.objectives import OBJECTIVES

    known = OBJECTIVES.get(objective)
    if known is not None and known.family == "mim":
        return Warmup(epochs, ("q_z_given_x", "q_x"), decoding="after", halves="sum")
    return Warmup(epochs)
