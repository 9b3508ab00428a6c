"""Settings of an experiment, as frozen values that are written to disk and read back by type.

Nothing here needs torch: a command line can show and check settings before paying for its import.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from mimachine.training import Noam, Training, Warmup

__all__ = ["Data", "Experiment", "Model", "default", "from_json", "published", "to_json"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Data:
    """What to learn from.

    Attributes:
        name: Name of a data set.
        fresh: Draw new training and validation data in every epoch, where P(x) is known.
    """

    name: str = "digits"
    fresh: bool = False


@dataclass(frozen=True)
class Model:
    """Encoder, decoder and prior: multi-layer perceptrons on flat data.

    Attributes:
        latent: Number of latent dimensions.
        hidden: Sizes of the hidden layers of the encoder; the decoder has them in reverse order.
        likelihood: p(x|z). "auto" takes the discretised logistic where the data have grey levels,
            else the Gaussian. "bernoulli" binarises grey values anew in every epoch.
        prior: p(z).
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
    prior: Literal["standard-normal", "learned-normal", "gaussian-mixture", "vampprior"] = (
        "standard-normal"
    )
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


def default(data: str, objective: str = "mim") -> Experiment:
    """The library's settings for a data set."""
    if data == "mixture-2d":
        model, training = Model(latent=2, hidden=(50,)), Training(epochs=200, warmup=Warmup(3))
    elif data == "digits":
        model = Model()
        training = Training(epochs=300, batch_size=64, warmup=Warmup(10), patience=50)
    else:
        # Images by the ten thousand: fewer passes, and a likelihood that takes minutes, not hours.
        model, training = Model(latent=40), Training(epochs=100, warmup=Warmup(10), patience=20)
        return Experiment(Data(data), model, objective, training, num_samples=50)
    return Experiment(Data(data), model, objective, training)


def published(data: str, objective: str = "mim") -> Experiment:
    """The settings that the paper's figures 1, 2, 7 and 8 were made with.

    They are those of the authors' released code with Algorithm 2 of the paper, not those of its
    text: β on the encoding log-probabilities for MIM, decoding samples only once β = 1, halves
    summed, a learning rate that falls by the epoch, and training and validation data that are
    drawn anew in each of at most 200 epochs of 78 steps.

    Raises:
        ValueError: If the paper has no such experiment.
    """
    if data != "mixture-2d":
        raise ValueError(f'the preset "published" is for mixture-2d; got data {data!r}')
    warmup = Warmup(3)
    if objective.startswith(("mim", "a-mim")):
        warmup = Warmup(3, ("q_z_given_x", "q_x"), decoding="after", halves="sum")
    return Experiment(
        Data(data, fresh=True),
        Model(latent=2, hidden=(500,), encoder_floor=1e-6, decoder_floor=1e-6),
        objective,
        Training(
            epochs=200,
            batch_size=128,
            learning_rate=1e-3,
            schedule=Noam(3),
            warmup=warmup,
            patience=4,
            validation_noise="fresh",
        ),
    )


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
