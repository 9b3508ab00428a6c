"""Settings of an experiment, as frozen values that are written to disk and read back by type.

Nothing here needs torch: a command line can show and check settings before paying for its import.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from mimachine.data.catalogue import NAMES
from mimachine.data.files.options import File
from mimachine.training.recipe import Training

__all__ = [
    "Architecture",
    "Data",
    "Experiment",
    "HIERARCHIES",
    "IMAGE_ARCHITECTURES",
    "Model",
    "from_json",
    "to_json",
]


FORMAT_VERSION = 1
# Settings that runs of this format may lack: they were made before there was a choice.
_LATER = (
    "data.binarisation",
    "model.architecture",
    "model.channels",
    "model.layers",
    "model.latent_maps",
    "model.pseudo_inputs",
    "training.compile",
    "training.cuda_graphs",
    "training.ema_decay",
    "training.gradient",
    "training.precision",
    "training.warmup.first_latent",
)
Architecture = Literal["mlp", "dense-vae", "hvae", "conv-hvae", "pixel-hvae"]
# Those with two levels of latents, and all that take images.
HIERARCHIES: tuple[Architecture, ...] = ("hvae", "conv-hvae", "pixel-hvae")
IMAGE_ARCHITECTURES: tuple[Architecture, ...] = ("dense-vae", *HIERARCHIES)


@dataclass(frozen=True)
class Data:
    """What to learn from.

    Attributes:
        name: Name of a data set, or path of a file or of a folder of images.
        fresh: Draw new training and validation data in every epoch, where P(x) is known.
        file: How to read it, if it is a file or a folder.
        binarisation: Where grey values become zeros and ones, how it is done with those of the
            validation and test data: by draws of the library's own, or, "published", by those of
            the released image code, see `imagesets.published_binarisation`.
    """

    name: str = "digits"
    fresh: bool = False
    file: File = File()
    binarisation: Literal["own", "published"] = "own"

    @property
    def is_path(self) -> bool:
        """Whether it is a file or a folder."""
        return self.name not in NAMES


@dataclass(frozen=True)
class Model:
    """Encoder, decoder and prior.

    A setting that has no meaning for the architecture must be left as it is.

    Attributes:
        latent: Number of latent dimensions; of each of the two levels, if there are two.
        hidden: mlp: sizes of the hidden layers of the encoder; the decoder has them in reverse
            order. Image architectures have one size, that of their dense layers.
        likelihood: p(x|z). "auto" takes the discretised logistic where the data have grey levels,
            else the Gaussian. "bernoulli" binarises grey values anew in every epoch.
        prior: p(z). A gaussian-mixture has diagonal covariances, a full-gaussian-mixture full ones;
            flow needs zuko, pip install mimachine[flow]. Of two levels z = (z2, z1) it is p(z2), a
            standard-normal or a vampprior, and p(z1|z2) is learned.
        components: Components of a mixture prior, or pseudo-inputs of a VampPrior.
        encoder_floor: mlp: smallest standard deviation of q(z|x); None: 0.001, and 0.05 under a
            VampPrior, whose components would follow the codes to a point with a smaller one.
        decoder_floor: Smallest standard deviation of a Gaussian p(x|z); None: mlp, 1/1000 of each
            column's, or the resolution of grey levels; image architectures, exp(-4.5).
        data_prior: q(x): the decoder's marginal, which needs no parameters, or a mixture of its
            own. With the marginal the objectives ce and mim-h are mim and nothing on encoding
            samples.
        marginal: How log q(x), the decoder's marginal, is estimated on decoding samples.
        architecture: mlp, multi-layer perceptrons on any data; or one for images: dense-vae, gated
            dense layers; hvae, the same with two levels of latents; conv-hvae, gated convolutions;
            pixel-hvae, the encoder of conv-hvae with a PixelCNN as decoder.
        channels: conv-hvae and pixel-hvae: channels of the first convolutions; later ones have
            twice as many.
        layers: pixel-hvae: masked layers of the PixelCNN.
        latent_maps: pixel-hvae: where a pixel sees the latents, at earlier pixels alone, as in the
            released code, or everywhere around it.
        pseudo_inputs: Image architectures: what a VampPrior starts from. "random" are training
            images at random, kept in [0, 1]; "published" are the first of them with a little noise,
            of which pixels outside of [0, 1] never move, as in the released code.
    """

    latent: int = 32
    hidden: tuple[int, ...] = (300,)
    likelihood: Literal["auto", "gaussian", "bernoulli", "discretized-logistic"] = "auto"
    prior: Literal[
        "standard-normal",
        "learned-normal",
        "gaussian-mixture",
        "full-gaussian-mixture",
        "vampprior",
        "flow",
    ] = "standard-normal"
    components: int = 100
    encoder_floor: float | None = None
    decoder_floor: float | None = None
    data_prior: Literal["marginal", "gaussian-mixture"] = "marginal"
    marginal: Literal["conditional", "importance"] = "conditional"
    architecture: Architecture = "mlp"
    channels: int = 32
    layers: int = 8
    latent_maps: Literal["earlier", "everywhere"] = "earlier"
    pseudo_inputs: Literal["random", "published"] = "random"

    def __post_init__(self) -> None:
        for name in ("latent", "components", "channels", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be 1 or more, got {getattr(self, name)}")
        if any(size < 1 for size in self.hidden):
            raise ValueError(f"model.hidden must be sizes of 1 or more, got {self.hidden}")
        if self.architecture != "mlp" and len(self.hidden) != 1:
            raise ValueError(
                f"model.hidden must be one size for model.architecture {self.architecture}, "
                f"got {self.hidden}"
            )
        for field in dataclasses.fields(self):
            value, meant = getattr(self, field.name), _MEANT_FOR.get(field.name)
            if meant is not None and self.architecture not in meant and value != field.default:
                raise ValueError(
                    f"model.{field.name} has no meaning for model.architecture "
                    f"{self.architecture}, so it must be {field.default}, got {value}"
                )

    @property
    def num_latents(self) -> int:
        """Number of latent dimensions, of both levels where there are two."""
        return 2 * self.latent if self.architecture in HIERARCHIES else self.latent


# Architectures that a setting has a meaning for, where it has none for others.
_MEANT_FOR: dict[str, tuple[Architecture, ...]] = {
    "encoder_floor": ("mlp",),
    "channels": ("conv-hvae", "pixel-hvae"),
    "layers": ("pixel-hvae",),
    "latent_maps": ("pixel-hvae",),
    "pseudo_inputs": IMAGE_ARCHITECTURES,
}


@dataclass(frozen=True)
class Experiment:
    """All that determines a training run.

    Attributes:
        data: Data.
        model: Model.
        objective: Objective.
        training: Training recipe.
        num_samples: Importance samples for the likelihood of each test datum.
    """

    data: Data = Data()
    model: Model = Model()
    objective: str = "mim"
    training: Training = Training()
    num_samples: int = 1000

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be 1 or more, got {self.num_samples}")


def to_json(experiment: Experiment) -> dict[str, Any]:
    """Settings as JSON values."""
    return {"format_version": FORMAT_VERSION, **dataclasses.asdict(experiment)}


def from_json(value: dict[str, Any]) -> Experiment:
    """Read settings back.

    Raises:
        ValueError: If something is missing, unknown or of the wrong type; every mistake is named
            with its place. Also if the settings are of a newer format.
    """
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(value, dict):
        raise ValueError(f"settings must be a JSON object, got {type(value).__name__}")
    settings = dict(value)
    version = settings.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise ValueError(
            f"settings have format version {version}, this version of mimachine reads "
            f"{FORMAT_VERSION}"
        )
    try:
        read = TypeAdapter(Experiment).validate_python(settings, extra="forbid")
    except ValidationError as error:
        mistakes = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        )
        raise ValueError(f"settings are not valid: {mistakes}") from error
    missing = [n for n in _missing(dataclasses.asdict(read), settings) if n not in _LATER]
    if missing:
        raise ValueError(f"settings are not complete: {', '.join(missing)} missing")
    return read


def _missing(complete: dict[str, Any], given: Any, place: str = "") -> list[str]:
    """Places of a complete value that a given one does not have."""
    missing = []
    for name, value in complete.items():
        if name not in given:
            missing.append(place + name)
        elif isinstance(value, dict) and isinstance(given[name], dict):
            missing += _missing(value, given[name], f"{place}{name}.")
    return missing
