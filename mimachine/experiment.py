"""Settings of an experiment, as frozen values that are written to disk and read back by type.

Nothing here needs torch: a command line can show and check settings before paying for its import.
"""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from typing import Any, Literal

from mimachine.training import Noam, Training, Warmup
from mimachine.wording import unknown

__all__ = [
    "NAMES",
    "LOW_DIMENSIONAL",
    "Data",
    "Experiment",
    "File",
    "Model",
    "check_there",
    "default",
    "from_json",
    "paper_image_training",
    "published",
    "published_image_training",
    "to_json",
]

FORMAT_VERSION = 1


# Data of few continuous dimensions that the paper or its code has experiments with.
LOW_DIMENSIONAL = (
    "mixture-2d",
    "mixture-20d",
    "pca-fashion-mnist",
    "pca-fashion-mnist-published",
)
NAMES = (
    "digits",
    "mixture-2d",
    "mixture-20d",
    "mnist",
    "fashion-mnist",
    "omniglot",
    "omniglot-small",
    "pca-fashion-mnist",
    "pca-fashion-mnist-published",
)


@dataclass(frozen=True)
class File:
    """How to read a file or a folder of one's own.

    Attributes:
        labels: Column of a .csv or .parquet file, or array of an .npz file, with the classes of
            the rows; or a file of one class a line. The model does not see them. Images have the
            names of their folders.
        drop: Columns to leave out.
        array: Array of an .npz file to read; by default x, or the only one.
        image_shape: Height and width, or height, width and channels, of the images that rows are.
        resize: Height and width to bring the images of a folder to.
        standardize: Bring columns to mean 0 and standard deviation 1 where p(x|z) is Gaussian.
            Likelihoods are those of the original values all the same.
    """

    labels: str | None = None
    drop: tuple[str, ...] = ()
    array: str | None = None
    image_shape: tuple[int, ...] | None = None
    resize: tuple[int, int] | None = None
    standardize: bool = True


@dataclass(frozen=True)
class Data:
    """What to learn from.

    Attributes:
        name: Name of a data set, or path of a file or of a folder of images.
        fresh: Draw new training and validation data in every epoch, where P(x) is known.
        file: How to read it, if it is a file or a folder.
    """

    name: str = "digits"
    fresh: bool = False
    file: File = File()

    @property
    def is_path(self) -> bool:
        """Whether it is a file or a folder."""
        return self.name not in NAMES


@dataclass(frozen=True)
class Model:
    """Encoder, decoder and prior: multi-layer perceptrons on flat data.

    Attributes:
        latent: Number of latent dimensions.
        hidden: Sizes of the hidden layers of the encoder; the decoder has them in reverse order.
        likelihood: p(x|z). "auto" takes the discretised logistic where the data have grey levels,
            else the Gaussian. "bernoulli" binarises grey values anew in every epoch.
        prior: p(z). A gaussian-mixture has diagonal covariances, a full-gaussian-mixture full ones;
            flow needs zuko, pip install mimachine[flow].
        components: Components of a mixture prior, or pseudo-inputs of a VampPrior.
        encoder_floor: Smallest standard deviation of q(z|x); None: 0.001, and 0.05 under a
            VampPrior, whose components would follow the codes to a point with a smaller one.
        decoder_floor: Smallest standard deviation of a Gaussian p(x|z); None: 1/1000 of each
            column's.
        data_prior: q(x): the decoder's marginal, which needs no parameters, or a mixture of its
            own. With the marginal the objectives ce and mim-h are mim and nothing on encoding
            samples.
        marginal: How log q(x), the decoder's marginal, is estimated on decoding samples.
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

    def __post_init__(self) -> None:
        for name in ("latent", "components"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be 1 or more, got {getattr(self, name)}")
        if any(size < 1 for size in self.hidden):
            raise ValueError(f"model.hidden must be sizes of 1 or more, got {self.hidden}")


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


def default(data: str, objective: str | None = None, file: File = File()) -> Experiment:
    """The library's settings for a data set, or for a file or folder of one's own.

    Args:
        data: Name of a data set, or a path; of a file no more is read than its size.
        objective: By default mim for the data in `LOW_DIMENSIONAL` and a-mim else: symmetric MIM
            needs samples of the decoder, and for pixels their gradient is that of REINFORCE.
        file: How to read a file.

    Raises:
        ValueError: If there is no data set of that name, or the file cannot be read.
        FileNotFoundError: If there is nothing at a path.
    """
    if objective is None:
        objective = "mim" if data in LOW_DIMENSIONAL else "a-mim"
    if data in NAMES and file != File():
        raise ValueError(f"options of files, such as --labels, have no meaning for {data}")
    if data not in NAMES:
        return _default_for_file(data, objective, file)
    if data in LOW_DIMENSIONAL:
        latent = 2 if data == "mixture-2d" else 10
        model, training = Model(latent, hidden=(50,)), Training(epochs=200, warmup=Warmup(3))
    elif data == "digits":
        model = Model()
        training = Training(epochs=300, batch_size=64, warmup=Warmup(10), patience=50)
    else:
        # Images by the ten thousand: fewer passes, and a likelihood that takes minutes, not hours.
        model, training = Model(latent=40), Training(epochs=100, warmup=Warmup(10), patience=20)
        return Experiment(Data(data), model, objective, training, num_samples=50)
    return Experiment(Data(data), model, objective, training)


def _default_for_file(path: str, objective: str, file: File) -> Experiment:
    """Settings by the number of rows and of values in a row."""
    check_there(path)
    if os.path.isdir(path):
        from mimachine import imagefolder

        count, shape = imagefolder.peek(path, resize=file.resize)
    else:
        from mimachine import tables

        count, shape = tables.peek(path, labels=file.labels, drop=file.drop, array=file.array)
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
    return Experiment(Data(path, file=file), Model(latent), objective, training, num_samples)


def check_there(path: str) -> None:
    """See that there is a file or folder; a word may be the misspelt name of a data set.

    Raises:
        FileNotFoundError: If there is none at what looks like a path.
        ValueError: If it looks like a name; the nearest name is suggested.
    """
    if os.path.exists(path):
        return
    if os.path.basename(path) == path and "." not in path:
        raise ValueError(f"{unknown('data', path, NAMES)}; nor is there a file or folder of it")
    raise FileNotFoundError(f"there is no file or folder {path}")


def published(data: str, objective: str = "mim") -> Experiment:
    """The settings that the paper's figures 1, 2, 3, 7 and 8 were made with.

    They are those of the authors' released code with Algorithm 2 of the paper, not those of its
    text: β on the encoding log-probabilities for MIM, decoding samples only once β = 1, halves
    summed, a learning rate that falls by the epoch, and, of the mixtures, training and validation
    data that are drawn anew in each of at most 200 epochs of 78 steps.

    Figure 3 has the data pca-fashion-mnist-published; its 2 to 20 latents are those of
    mixture-20d too, and 10 here.

    Args:
        data: One of `LOW_DIMENSIONAL`.
        objective: The objective.

    Raises:
        ValueError: If the paper has no such experiment.
    """
    if data not in LOW_DIMENSIONAL:
        known = f"{', '.join(LOW_DIMENSIONAL[:-1])} and {LOW_DIMENSIONAL[-1]}"
        raise ValueError(f'the preset "published" is for {known}; got data {data!r}')
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
    if objective.startswith(("mim", "a-mim")):
        return Warmup(epochs, ("q_z_given_x", "q_x"), decoding="after", halves="sum")
    return Warmup(epochs)


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
    missing = _missing(dataclasses.asdict(read), settings)
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
