"""Settings of an experiment: frozen dataclasses, validated and stored as JSON.

This module does not import torch, so that the command line can show and check settings quickly.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mimachine._support.checks import check_fields, sizes, whole
from mimachine._support.schema import shown, validated
from mimachine.data.catalogue import NAMES
from mimachine.data.files.options import File
from mimachine.training import schedules
from mimachine.training.recipe import Training

__all__ = [
    "Architecture",
    "DENSE",
    "Data",
    "Experiment",
    "HIERARCHIES",
    "IMAGE_ARCHITECTURES",
    "Likelihood",
    "Model",
    "Prior",
    "flat",
    "from_json",
    "to_json",
]


FORMAT_VERSION = 1
# Settings added to this format later: runs that lack them use their defaults.
_ADDED_LATER = (
    "data.binarisation",
    "data.file.columns",
    "data.file.header",
    "data.file.split_folders",
    "model.architecture",
    "model.channels",
    "model.encoder_std",
    "model.layers",
    "model.latent_maps",
    "model.pseudo_inputs",
    "training.clip_norm",
    "training.compile",
    "training.cuda_graphs",
    "training.drop_last",
    "training.ema_decay",
    "training.gradient",
    "training.optimizer",
    "training.precision",
    "training.schedule.kind",
    "training.warmup.first_latent",
    "training.weight_decay",
)
Architecture = Literal["mlp", "conv", "pca", "dense-vae", "hvae", "conv-hvae", "pixel-hvae"]
Prior = Literal[
    "standard-normal",
    "learned-normal",
    "gaussian-mixture",
    "full-gaussian-mixture",
    "vampprior",
    "flow",
]
Likelihood = Literal["auto", "columns", "gaussian", "bernoulli", "discretized-logistic"]
# Architectures of dense layers, with two levels of latents, and all architectures for images.
DENSE: tuple[Architecture, ...] = ("dense-vae", "hvae")
HIERARCHIES: tuple[Architecture, ...] = ("hvae", "conv-hvae", "pixel-hvae")
IMAGE_ARCHITECTURES: tuple[Architecture, ...] = ("dense-vae", *HIERARCHIES)


@dataclass(frozen=True)
class Data:
    """Data set and how to read it.

    Attributes:
        name: Name of a data set, or path of a file or of a folder of images.
        fresh: Draw new training and validation data in every epoch; needs a known P(x).
        file: How to read a file or folder.
        binarisation: How grey values of validation and test images are binarised: "own", by draws
            of this library, or "published", by those of the released image code, see
            `image_sets.published_binarisation`.
    """

    name: str = "digits"
    fresh: bool = False
    file: File = File()
    binarisation: Literal["own", "published"] = "own"

    def __post_init__(self) -> None:
        check_fields(self, "data.")

    @property
    def is_path(self) -> bool:
        """Whether the data are a file or folder, not a named data set."""
        return self.name not in NAMES


@dataclass(frozen=True)
class Model:
    """Encoder, decoder and prior.

    Settings that the architecture does not use must have their default values.

    Attributes:
        latent: Number of latent dimensions; per level for architectures with two levels.
        hidden: Sizes of hidden layers. mlp: those of the encoder; the decoder has them in reverse
            order. conv and image architectures: one size, that of their dense layers.
        likelihood: p(x|z). "auto" chooses by the data: discretized-logistic for grey levels,
            bernoulli for arrays of zeros and ones, columns for tables, otherwise gaussian.
            "columns": a distribution by the kind of each column, with missing values.
            "bernoulli" binarises grey values; training images are binarised anew in every epoch.
        prior: p(z). gaussian-mixture has diagonal covariances, full-gaussian-mixture full ones.
            flow needs zuko: pip install mimachine[flow]. Architectures with two levels
            z = (z2, z1) take standard-normal or vampprior for p(z2), and learn p(z1|z2).
        components: Number of components of a mixture prior, or of pseudo-inputs of a VampPrior.
        encoder_floor: mlp and conv: minimum standard deviation of q(z|x). None: 0.001, or 0.05 with
            a VampPrior, where a smaller minimum lets all codes collapse to one point.
        encoder_std: mlp, conv, dense-vae and hvae: constant standard deviation of q(z|x), instead
            of one that is learned; with two levels, that of both.
        decoder_floor: Minimum standard deviation of a Gaussian p(x|z). None: with mlp and conv,
            1/1000 of each column's standard deviation, or the resolution of grey levels; with the
            paper's image architectures, exp(-4.5).
        data_prior: q(x). "marginal": the decoder's marginal, without parameters of its own.
            "gaussian-mixture": a learned mixture. "data": P(x) itself, for data with a known
            density. With the marginal, on encoding samples, objective ce equals mim, and mim-h is
            zero.
        marginal: Estimator of log q(x) on decoding samples, if data_prior is "marginal".
            "conditional": log p(x|z), as in Algorithm 2 of the paper. "importance": importance
            sampling, as in the released code for low-dimensional data.
        architecture: mlp: multi-layer perceptrons for any data. pca: probabilistic principal
            components, fitted in closed form; the objective must be vae. For images: conv, a few
            strided convolutions; and those of the paper: dense-vae, gated dense layers; hvae, gated
            dense layers with two levels of latents; conv-hvae, gated convolutions with two levels;
            pixel-hvae, the encoder of conv-hvae with a PixelCNN decoder.
        channels: conv, conv-hvae and pixel-hvae: channels of the first convolutions; later
            convolutions have twice as many.
        layers: pixel-hvae: number of masked layers of the PixelCNN.
        latent_maps: pixel-hvae: which latent features a pixel depends on: those at earlier pixels,
            as in the released code, or those everywhere around it.
        pseudo_inputs: Image architectures: initial pseudo-inputs of a VampPrior. "random": random
            training images, constrained to [0, 1]. "published": the first training images with a
            little noise; values outside [0, 1] get no gradient, as in the released code.
    """

    latent: int = 32
    hidden: tuple[int, ...] = (300,)
    likelihood: Likelihood = "auto"
    prior: Prior = "standard-normal"
    components: int = 100
    encoder_floor: float | None = None
    encoder_std: float | None = None
    decoder_floor: float | None = None
    data_prior: Literal["marginal", "gaussian-mixture", "data"] = "marginal"
    marginal: Literal["conditional", "importance"] = "conditional"
    architecture: Architecture = "mlp"
    channels: int = 32
    layers: int = 8
    latent_maps: Literal["earlier", "everywhere"] = "earlier"
    pseudo_inputs: Literal["random", "published"] = "random"

    def __post_init__(self) -> None:
        check_fields(self, "model.")
        for name in ("latent", "components", "channels", "layers"):
            whole(f"model.{name}", getattr(self, name), 1)
        sizes("model.hidden", self.hidden)
        if self.architecture != "mlp" and len(self.hidden) != 1:
            raise ValueError(
                f"model.hidden must be one size for model.architecture {self.architecture}, "
                f"got {self.hidden}"
            )
        for field in dataclasses.fields(self):
            value, used_by = getattr(self, field.name), _USED_BY.get(field.name)
            if used_by is not None and self.architecture not in used_by and value != field.default:
                raise ValueError(
                    f"model.{field.name} has no meaning for model.architecture "
                    f"{self.architecture}, so it must be {field.default}, got {value}"
                )

    @property
    def num_latents(self) -> int:
        """Total number of latent dimensions, over both levels if there are two."""
        return 2 * self.latent if self.architecture in HIERARCHIES else self.latent


# Settings that only some architectures use.
_USED_BY: dict[str, tuple[Architecture, ...]] = {
    "encoder_floor": ("mlp", "conv"),
    "encoder_std": ("mlp", "conv", *DENSE),
    "hidden": ("mlp", "conv", *IMAGE_ARCHITECTURES),
    "channels": ("conv", "conv-hvae", "pixel-hvae"),
    "layers": ("pixel-hvae",),
    "latent_maps": ("pixel-hvae",),
    "pseudo_inputs": IMAGE_ARCHITECTURES,
}


@dataclass(frozen=True)
class Experiment:
    """All settings of a training run and its evaluation.

    Attributes:
        data: Data set, file or folder.
        model: Encoder, decoder and prior.
        objective: Name of the objective.
        training: Training recipe.
        num_samples: Importance samples per test example for the likelihood, as in `evaluate`.
    """

    data: Data = Data()
    model: Model = Model()
    objective: str = "mim"
    training: Training = Training()
    num_samples: int = 1000

    def __post_init__(self) -> None:
        check_fields(self)
        whole("num_samples", self.num_samples, 1)


def to_json(experiment: Experiment) -> dict[str, Any]:
    """Convert settings to JSON values."""
    return {"format_version": FORMAT_VERSION, **dataclasses.asdict(experiment)}


def from_json(value: dict[str, Any], file: str | os.PathLike[str] | None = None) -> Experiment:
    """Restore settings from JSON values.

    Args:
        value: The values.
        file: The file that they were read from, for messages.

    Raises:
        ValueError: If settings are missing, unknown or of the wrong type; the message names each of
            them. Also if the format version differs.
    """
    what = "settings" if file is None else f"{os.fspath(file)}: settings"
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a JSON object, got {shown(value)}")
    settings = dict(value)
    version = settings.pop("format_version", None)
    if type(version) is not int or version != FORMAT_VERSION:
        raise ValueError(
            f"{what} have format version {shown(version)}; this version of mimachine reads "
            f"{FORMAT_VERSION}"
        )
    read = validated(Experiment, settings, f"{what} are not valid")
    missing = [n for n in _missing(dataclasses.asdict(read), settings) if n not in _ADDED_LATER]
    if missing:
        raise ValueError(f"{what} are not complete: {', '.join(missing)} missing")
    return read


def _missing(complete: dict[str, Any], given: Any, prefix: str = "") -> list[str]:
    """Dotted names of settings that `complete` has and `given` lacks."""
    missing = []
    for name, value in complete.items():
        if name not in given:
            missing.append(prefix + name)
        elif isinstance(value, dict) and isinstance(given[name], dict):
            missing += _missing(value, given[name], f"{prefix}{name}.")
    return missing


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to command-line names, such as training.warmup.epochs."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and name == "schedule":
            found[prefix + name] = _schedule_text(value)
        elif isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _schedule_text(value: dict[str, Any]) -> Any:
    """A schedule as on the command line; values that are none stay as they are."""
    numbers = {name: number for name, number in value.items() if name != "kind"}
    try:
        # Version 0.1 had one schedule and stored no kind.
        return schedules.text(schedules.KINDS[value.get("kind", "noam")](**numbers))
    except (KeyError, TypeError, ValueError):
        return value
