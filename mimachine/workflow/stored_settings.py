"""Read the settings of a run, and check that its files can hold such a model."""

from __future__ import annotations

import itertools
import math

from mimachine.experiment.settings import Experiment, Model, from_json
from mimachine.training.run import Run

__all__ = ["stored_settings"]

_FEWEST_BYTES = 4  # Of a weight on disk.
# Convolutions reduce both sides of images by this factor before their dense layers.
_REDUCTION = 4


def stored_settings(run: Run) -> Experiment:
    """The settings of a run.

    Raises:
        FileNotFoundError: If the run has none.
        ValueError: If they are not valid, or of a larger model than the run's files can hold, so
            that building it could take all memory.
    """
    file = run.path / "experiment.json"
    settings = from_json(run.read_json(file.name), file)
    files = [run.path / name for name in ("model.safetensors", "state.ckpt")]
    sizes = {file: file.stat().st_size for file in files if file.is_file()}
    if not sizes:
        return settings
    largest = max(sizes, key=sizes.__getitem__)
    least, most = _fewest_weights(settings.model, run), sizes[largest] // _FEWEST_BYTES
    if least > most:
        raise ValueError(
            f"{largest} does not hold the weights of this model: with the settings and the data of "
            f"the run it has at least {least:.4g}, and the file at most {most:,}"
        )
    return settings


def _fewest_weights(model: Model, run: Run) -> int:
    """A number of weights that a model has at least."""
    features, latent = _num_features(run), model.latent
    if model.architecture in ("mlp", "pca"):
        hidden = model.hidden if model.architecture == "mlp" else ()
        sizes = [features, *hidden, latent if model.encoder_std is not None else 2 * latent]
        counts = [a * b for a, b in itertools.pairwise(sizes)]
    elif model.architecture == "conv":
        counts = [model.hidden[0] * latent, model.channels]
    else:
        counts = [features // _REDUCTION**2, model.hidden[0] * latent]
    if model.architecture in ("conv-hvae", "pixel-hvae"):
        counts += [model.channels**2, model.layers]
    kinds = (model.prior, model.data_prior)
    if any(kind.endswith("mixture") or kind == "vampprior" for kind in kinds):
        counts.append(model.components)
    return sum(counts)


def _num_features(run: Run) -> int:
    """Number of values in a row of the user's data; 1 for a named data set."""
    record = run.data_record()
    if record is None:
        return 1
    if record.get("schema") is not None:
        # One feature and one flag at least.
        return 2 * sum("reason" not in column for column in record["schema"]["columns"])
    preprocessing = record["preprocessing"]
    kept = preprocessing["kept"]
    return math.prod(preprocessing["shape"]) if kept is None else len(kept)
