"""Presets: default settings for a data set or file, and the settings of the paper.

This module does not import torch.
"""

from __future__ import annotations

import dataclasses
import math
import os

from mimachine._support.messages import Option, OptionError
from mimachine.data.catalogue import BINARISED, IMAGES, LOW_DIMENSIONAL, NAMES
from mimachine.data.files.options import File, check_there
from mimachine.experiment.settings import Architecture, Data, Experiment, Model
from mimachine.training.recipe import Noam, Training, Warmup

__all__ = [
    "default",
    "paper_image_training",
    "paper_images",
    "published",
    "published_image_training",
]


# Of the paper's image models with a VampPrior.
_PSEUDO_INPUTS = 500


def default(
    data: str,
    objective: str | None = None,
    file: File = File(),
    architecture: Architecture = "mlp",
) -> Experiment:
    """The library's settings for a data set, or for a file or folder of one's own.

    Image architectures have the sizes of the paper's models, 500 pseudo-inputs where there is a
    VampPrior, or as many as there are training data, and for the data of the paper's table 1 its
    likelihood, Bernoulli. Otherwise the settings are those of the data.

    Args:
        data: Name of a data set, or a path; of a file no more is read than its size.
        objective: By default mim for the data in `LOW_DIMENSIONAL` and a-mim else: symmetric MIM
            needs samples of the decoder, and for pixels their gradient is that of REINFORCE.
        file: How to read a file.
        architecture: As in `Model`.

    Raises:
        ValueError: If there is no data set of that name, or the file cannot be read.
        FileNotFoundError: If there is nothing at a path.
    """
    if objective is None:
        objective = "mim" if data in LOW_DIMENSIONAL else "a-mim"
    if data in NAMES and file != File():
        raise OptionError(
            "options for files, such as ", Option("labels"), f", do not apply to {data}"
        )
    if data not in NAMES:
        return _default_for_file(data, objective, file, architecture)
    num_samples = 1000
    if data in LOW_DIMENSIONAL:
        latent = 2 if data == "mixture-2d" else 10
        model, training = Model(latent, hidden=(50,)), Training(epochs=200, warmup=Warmup(3))
    elif data == "digits":
        model = Model()
        training = Training(epochs=300, batch_size=64, warmup=Warmup(10), patience=50)
    else:
        # Images by the ten thousand: fewer passes, and a likelihood that takes minutes, not hours.
        model, training = Model(latent=40), Training(epochs=100, warmup=Warmup(10), patience=20)
        num_samples = 50
    if architecture != "mlp":
        model = _for_images(architecture, model.latent, data)
    return Experiment(Data(data), model, objective, training, num_samples)


def _for_images(
    architecture: Architecture, latent: int, data: str, components: int = _PSEUDO_INPUTS
) -> Model:
    """A model of the paper's sizes."""
    return Model(
        latent,
        likelihood="bernoulli" if data in BINARISED else "auto",
        components=components,
        architecture=architecture,
    )


def _default_for_file(
    path: str, objective: str, file: File, architecture: Architecture
) -> Experiment:
    """Settings by the number of rows and of values in a row."""
    check_there(path)
    if os.path.isdir(path):
        from mimachine.data.files import image_folder

        count, shape = image_folder.peek(path, resize=file.resize)
    else:
        from mimachine.data.files import read_table

        count, shape = read_table.peek(path, labels=file.labels, drop=file.drop, array=file.array)
    features = math.prod(shape)
    batch_size = 64 if count < 2000 else 128
    # Few data need many passes, and many data few, for as many steps.
    epochs = min(1000, max(10, 20_000 // math.ceil(max(1, 0.7 * count / batch_size))))
    training = Training(
        epochs, batch_size, warmup=Warmup(min(10, epochs // 2)), patience=max(10, epochs // 10)
    )
    # As many as take a minute or so.
    num_samples = min(1000, max(50, 200_000_000 // (features * min(10_000, count // 5 + 1))))
    latent = min(40 if features >= 500 else 10, features)
    model = Model(latent)
    if architecture != "mlp":
        # What is left of the rows after those for validation and test, or a few less.
        components = max(1, min(_PSEUDO_INPUTS, count - count // 10 - count // 5))
        model = _for_images(architecture, latent, path, components)
    return Experiment(Data(path, file=file), model, objective, training, num_samples)


def published(
    data: str, objective: str | None = None, architecture: Architecture = "mlp"
) -> Experiment:
    """The settings that the paper's figures 1, 2, 3, 7 and 8 and its table 1 were made with.

    Those of the figures are of the authors' released code with Algorithm 2 of the paper, not of
    its text: β on the encoding log-probabilities for MIM, decoding samples only once β = 1, halves
    summed, a learning rate that falls by the epoch, and, of the mixtures, training and validation
    data that are drawn anew in each of at most 200 epochs of 78 steps.

    Figure 3 has the data pca-fashion-mnist-published; its 2 to 20 latents are those of
    mixture-20d too, and 10 here.

    Those of table 1 are for images and their architectures: `published_image_training`, training
    images binarised anew in every epoch, held-out ones once, by the draws of the released code,
    500 pseudo-inputs that start at the first training images, 5,000 importance samples.

    Args:
        data: One of `LOW_DIMENSIONAL`; with an image architecture one of `IMAGES`, of which the
            table has mnist, fashion-mnist and omniglot.
        objective: The objective. By default mim; for images mim-of-means, which is what the code
            did, and for pixel-hvae, of which the table has no other, a-mim.
        architecture: As in `Model`.

    Raises:
        ValueError: If the paper has no such experiment.
    """
    if architecture != "mlp":
        objective = objective or ("a-mim" if architecture == "pixel-hvae" else "mim-of-means")
        start = _table_1("published", data, objective, architecture)
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
    """The experiments of table 1 as the paper's text has them: `paper_image_training`.

    Held-out images are those of `published`, so that numbers can be compared with the table's.

    Args:
        data: One of `IMAGES`.
        objective: As for `published`.
        architecture: One for images.

    Raises:
        ValueError: If the paper has no such experiment.
    """
    objective = objective or ("a-mim" if architecture == "pixel-hvae" else "mim")
    return dataclasses.replace(
        _table_1("paper", data, objective, architecture), training=paper_image_training()
    )


_IMAGES_LISTED = f"{', '.join(IMAGES[:-1])} and {IMAGES[-1]}"


def _table_1(preset: str, data: str, objective: str, architecture: Architecture) -> Experiment:
    """What all experiments of table 1 share."""
    if architecture == "mlp" or data not in IMAGES:
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
    """The recipe that the paper's table 1 was made with: that of the released image code.

    It is the VampPrior paper's: at most 2,000 epochs of batches of 100, Adam with a learning rate
    of 5e-4 on gradients normalised tensor by tensor, a warm-up of 100 epochs, and a stop after more
    than 50 epochs without improvement. β is on the KL divergence of a VAE; for MIM on
    log q(z|x) + log q(x) and on log p(z2), decoding samples start once β = 1, and halves are
    summed. What the code calls MIM is the objective `MIM_OF_MEANS`.

    What a recipe cannot say is not in it: any epoch can be the code's best, those of the warm-up
    included; and it adds Adam's ε before the bias is corrected, which is a larger ε in the first
    steps.

    Args:
        objective: The objective's name, such as "vae", "mim-of-means", "mim" or "a-mim".
    """
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
    """The recipe of the paper's text, for image models.

    Adam with a learning rate of 1e-3, batches of 128, β on the priors, Eq. (12), and as many epochs
    without improvement as the warm-up has. The warm-up of 100 epochs is that of the VampPrior
    paper, whose setup the text takes for images.
    """
    return Training(epochs=2000, batch_size=128, learning_rate=1e-3, warmup=100, patience=100)


def _published_warmup(objective: str, epochs: int) -> Warmup:
    from mimachine.model.objectives import OBJECTIVES

    known = OBJECTIVES.get(objective)
    if known is not None and known.family == "mim":
        return Warmup(epochs, ("q_z_given_x", "q_x"), decoding="after", halves="sum")
    return Warmup(epochs)
