"""From settings to a trained, measured run: what the commands do, for use in Python too."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

import mimachine
from mimachine._support.messages import unknown
from mimachine._support.seeds import derived_seed, forked
from mimachine.data import catalogue, image_sets
from mimachine.data.catalogue import NAMES
from mimachine.data.dataset import Dataset
from mimachine.data.files.load import Encodable, blank_dataset, data_record, load_file, read_rows
from mimachine.data.files.options import check_there
from mimachine.data.rows import Rows
from mimachine.data.sources import Binarized, FreshDraws, Source, TensorSource, Versions, as_bytes
from mimachine.estimation.codes.moments import closed_mean, codes
from mimachine.estimation.refit_prior import Kind, recipe, refit_prior
from mimachine.evaluation.evaluate_model import evaluate
from mimachine.evaluation.metric import Report
from mimachine.experiment.build import build, encoder_floor, likelihood_of, refitted
from mimachine.experiment.settings import Data, Experiment, from_json, to_json
from mimachine.model import priors
from mimachine.model.joint import Joint
from mimachine.model.loss import Loss
from mimachine.model.networks import evaluating
from mimachine.model.objectives import OBJECTIVES, Objective
from mimachine.training.fit import History, fit
from mimachine.training.run import Run

__all__ = [
    "Drawn",
    "Trained",
    "build",
    "check",
    "measure",
    "objective",
    "open_model",
    "open_run",
    "prepare",
    "reconstruct",
    "refit",
    "resume",
    "sample",
    "select",
    "sources",
    "train",
]


@dataclass(frozen=True)
class Trained:
    """A run with its model and its data."""

    run: Run
    experiment: Experiment
    data: Dataset
    model: Joint


def objective(name: str) -> Objective:
    """The objective of a name.

    Raises:
        ValueError: If there is none; the nearest name is suggested.
    """
    if name not in OBJECTIVES:
        raise ValueError(unknown("objective", name, OBJECTIVES))
    return OBJECTIVES[name]


def prepare(settings: Experiment, run: Run | None = None) -> Dataset:
    """Load the data, as they are measured.

    If the likelihood is Bernoulli, grey values become binary once and for all. Training takes its
    own draws from the grey values of the training data in every epoch, see `sources`.

    Args:
        settings: What is to be done.
        run: The run that was trained on the data, where there is one; a user's data are then
            treated as they were for it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the data are unknown, cannot be used, do not fit the likelihood, or are not
            those of the run any more.
    """
    data = _load(settings, None if run is None else run.data_record())
    if not _is_binarized(settings, data):
        return data
    if data.levels is None and data.preprocessing is None:
        raise ValueError(
            f'model.likelihood "bernoulli" needs grey levels in [0, 1], '
            f"which {data.name} does not have"
        )
    if isinstance(data.train, Rows):
        raise ValueError(
            f"{data.name} is too large to be binarised in memory: store it as zeros and ones, or "
            "take another model.likelihood"
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
    return load_file(data.name, data.file, settings.model.likelihood, stored)


def _is_binarized(settings: Experiment, data: Dataset) -> bool:
    """Whether grey values are drawn as zeros and ones."""
    return likelihood_of(settings.model, data) == "bernoulli" and data.levels != 2


def sources(settings: Experiment, data: Dataset) -> tuple[Source, Source]:
    """Training and validation data as sources."""
    seed = settings.training.seed
    if settings.data.fresh:
        if data.distribution is None:
            raise ValueError(f"data.fresh needs data whose P(x) is known; {data.name} is not")
        # Whole batches, as the paper's: 78 of 128 for its epoch of 10,000.
        size = settings.training.batch_size
        count = len(data.train) // size * size or len(data.train)
        return (
            FreshDraws(data.distribution, count, derived_seed(seed, "train data")),
            FreshDraws(data.distribution, count, derived_seed(seed, "validation data")),
        )
    train: Source = TensorSource(data.train, seed)
    if data.versions is not None:
        train = Versions(data.versions, seed)
    elif data.grey is not None:
        train = Binarized(TensorSource(data.grey, seed), seed)
    return train, TensorSource(data.val, shuffle=False)


def train(
    settings: Experiment,
    out: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    checkpoint_seconds: float = 10.0,
) -> tuple[Trained, History, Report]:
    """Train and measure, with everything recorded in a run directory.

    Args:
        settings: What to do.
        out: The run directory; it must not exist, or be empty.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Told where the run is, once it has begun.
        checkpoint_seconds: Least time between two writes of the state.

    Raises:
        ValueError: If the settings make no sense; nothing is written then.
        FileExistsError: If there is something at `out`.
    """
    if settings.data.is_path:
        check_there(settings.data.name)
        settings = replace(settings, data=_anywhere(settings.data))
    prepared = _prepared(settings)
    data = prepared[0]
    for note in (*data.notes, *_cautions(settings, data)):
        say(note)
    record = None if data.preprocessing is None else data_record(data)
    run = Run.create(out, to_json(settings), record)
    say(f"training {settings.objective} on {data.name}, run directory {run.path}")
    return _carry_out(run, settings, prepared, progress, checkpoint_seconds)


def _anywhere(data: Data) -> Data:
    """The same data by absolute paths: later commands may be given in another directory.

    Links are left as they are, for what they point to may have another suffix.
    """
    file, labels = data.file, data.file.labels
    if labels is not None and os.path.isfile(os.path.expanduser(labels)):
        file = replace(file, labels=os.path.abspath(os.path.expanduser(labels)))
    return replace(data, name=os.path.abspath(data.name), file=file)


def check(settings: Experiment) -> None:
    """See that an experiment can be begun: as `train`, up to the run directory.

    Raises:
        FileNotFoundError: If the data are nowhere.
        ValueError: If the settings make no sense.
    """
    _prepared(settings)


def resume(
    path: str | os.PathLike[str],
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    checkpoint_seconds: float = 10.0,
) -> tuple[Trained, History, Report]:
    """Go on with an interrupted run; on a processor it ends as if it had not been interrupted.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If the run is finished, or a file of it is damaged.
        BlockingIOError: If another process is training it.
    """
    run = Run(path)
    settings = from_json(run.read_json("experiment.json"))
    if run.finished or run.refit_record() is not None:
        raise ValueError(f"{run.path} is finished; see it with: mimachine evaluate {run.path}")
    prepared = _prepared(settings, run)
    say(f"going on with {settings.objective} on {prepared[0].name}, run directory {run.path}")
    return _carry_out(run, settings, prepared, progress, checkpoint_seconds)


def _cautions(settings: Experiment, data: Dataset) -> list[str]:
    latents, features = settings.model.num_latents, data.train.shape[1]
    if latents <= features:
        return []
    latent = settings.model.latent
    which = f"{latent}" if latents == latent else f"{latent}, {latents} for both levels"
    return [
        f"warning: model.latent is {which}, more than the {features} values of a datum; "
        "codes cannot tell more than there is"
    ]


def _prepared(settings: Experiment, run: Run | None = None) -> tuple[Dataset, Loss, Source, Source]:
    chosen = objective(settings.objective)
    if chosen.decoded == "means" and settings.model.architecture == "pixel-hvae":
        raise ValueError(
            f"objective {settings.objective} decodes to means, and those of model.architecture "
            "pixel-hvae have no closed form: take mim, or a-mim as the released code does"
        )
    if settings.training.cuda_graphs and not torch.cuda.is_available():
        raise ValueError(
            "training.cuda_graphs must be False where there is no CUDA device, got True"
        )
    data = prepare(settings, run)
    known = None if data.distribution is None else priors.Fixed(data.distribution)
    if known is None and chosen.anchored:
        raise ValueError(
            f"objective {settings.objective} needs data whose P(x) is known, such as mixture-2d; "
            f"that of {data.name} is not"
        )
    loss = Loss(build(settings, data), chosen, data_anchor=known)
    return data, loss, *sources(settings, data)


def _carry_out(
    run: Run,
    settings: Experiment,
    prepared: tuple[Dataset, Loss, Source, Source],
    progress: bool | None,
    checkpoint_seconds: float,
) -> tuple[Trained, History, Report]:
    data, loss, train_source, val_source = prepared
    with run.locked():
        history = fit(
            loss,
            train_source,
            val_source,
            settings.training,
            run=run,
            progress=progress,
            checkpoint_seconds=checkpoint_seconds,
        )
        trained = Trained(run, settings, data, loss.model.cpu())
        report = measure(trained, settings.num_samples)
        run.finish()
    return trained, history, report


def measure(trained: Trained, num_samples: int, seconds: float = 600.0) -> Report:
    """Evaluate a run's model and write report.json.

    Args:
        trained: The run.
        num_samples: Importance samples for the likelihood of each datum.
        seconds: Time that it may take, as for `evaluate`.
    """
    if not os.access(trained.run.path, os.W_OK):
        raise PermissionError(f"{trained.run.path} must be writable for report.json")
    report = _evaluated(trained, num_samples, seconds)
    versions = {
        "mimachine": mimachine.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    trained.run.write_json(
        "report.json", {**report.to_json(), "num_samples": num_samples, "versions": versions}
    )
    return report


def _evaluated(trained: Trained, num_samples: int, seconds: float = 600.0) -> Report:
    """What `evaluate` gives on the best device there is; the model stays where it is."""
    model = trained.model
    before = next(model.parameters()).device
    try:
        return evaluate(
            # Likelihoods of images take hours on a processor, and minutes on a GPU.
            model.to("cuda" if torch.cuda.is_available() else before),
            trained.data,
            num_samples=num_samples,
            seed=trained.experiment.training.seed,
            seconds=seconds,
        )
    finally:
        model.to(before)


# The settings that build a prior of each kind again.
_PRIOR_OF: dict[Kind, Literal["full-gaussian-mixture", "vampprior", "flow"]] = {
    "gmm": "full-gaussian-mixture",
    "vamp": "vampprior",
    "flow": "flow",
}


class Refitted(NamedTuple):
    """A run before and after its prior was fitted to its codes, each with its numbers."""

    before: Trained
    after: Trained
    report_before: Report
    report_after: Report


def refit(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    kind: Kind = "gmm",
    components: int | None = None,
    seed: int = 0,
    num_samples: int = 1000,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Refitted:
    """Fit a prior to the codes of a trained run, in a run directory of its own.

    Encoder and decoder are those of the run, and so are the epochs of metrics.jsonl. Both models
    are measured alike.

    Args:
        path: The run, which stays as it is.
        out: The new run directory; it must not exist, or be empty.
        kind: What the prior is, see `refit_prior`.
        components: Its components, likewise.
        seed: Seed of the fit.
        num_samples: Importance samples for the likelihood of each test datum.
        progress: Whether to show a progress bar; by default only in a terminal.
        say: Told what is going on.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights.
        FileExistsError: If there is something at `out`.
        ImportError: If the kind is "flow" and zuko is not installed.
        ValueError: If the arguments make no sense, or a file of the run is damaged.
    """
    Run.check_free(out)
    before = open_run(path)
    settings, data = before.experiment, before.data
    train, val = sources(settings, data)
    how = recipe(kind, len(train), seed)
    model = refit_prior(
        before.model, train, val, kind=kind, components=components, training=how, progress=progress
    )
    number = len(model.prior().log_weights) if kind != "flow" else settings.model.components
    fitted = replace(settings.model, prior=_PRIOR_OF[kind], components=number)
    if fitted.architecture == "mlp":
        # A VampPrior's would be another one, and the encoder has its own already.
        floor = encoder_floor(settings.model)
        fitted = replace(fitted, encoder_floor=floor)
    numbers = _evaluated(before, num_samples)
    settings = replace(settings, model=fitted, num_samples=num_samples)
    run = Run.create(out, to_json(settings), before.run.data_record())
    say(f"fitted a prior ({kind}) to the codes of {before.run.path}, run directory {run.path}")
    run.write_json(
        "refit.json",
        {
            "run": os.path.abspath(before.run.path),
            "kind": kind,
            "components": components,
            "seed": seed,
            "before": numbers.to_json(),
        },
    )
    shutil.copyfile(before.run.path / "metrics.jsonl", run.path / "metrics.jsonl")
    run.save_weights(model)
    after = Trained(run, settings, data, model)
    return Refitted(before, after, numbers, measure(after, num_samples))


def open_run(path: str | os.PathLike[str]) -> Trained:
    """A run from disk: its settings, its data, and its model with the best weights.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights.
        ValueError: If a file of the run is damaged.
    """
    run = Run(Path(path))
    settings = from_json(run.read_json("experiment.json"))
    objective(settings.objective)
    data = prepare(settings, run)
    return _with_weights(run, settings, data)


def _with_weights(run: Run, settings: Experiment, data: Dataset) -> Trained:
    made = build if run.refit_record() is None else refitted
    model = made(settings, data)
    run.load_weights(model)
    return Trained(run, settings, data, model.eval())


def select(trained: Trained, data: str | None = None, split: str | None = None) -> Encodable:
    """Data to apply a trained model to.

    Args:
        trained: The model.
        data: Name of a data set, or a file or folder; None: what the model was trained on.
        split: "train", "val", "test", or "all": every row of a file in its order. By default
            "all" for files and "test" for named data sets.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the data are not like those that the model was trained on.
    """
    settings = trained.experiment
    name = settings.data.name if data is None else data
    own = name == settings.data.name or os.path.abspath(name) == settings.data.name
    if name in NAMES or (own and split not in (None, "all")):
        found = trained.data
        if not own and trained.data.preprocessing is not None:
            raise ValueError(
                f"data must be a file or a folder like {trained.data.name}, which the run was "
                f"trained on, got {name}"
            )
        if not own:
            chosen = replace(settings.data, name=name)
            found = prepare(replace(settings, data=chosen))
        return _of_split(trained, found, split or "test")
    if split not in (None, "all"):
        raise ValueError(f"split must be all for {name}, which the run did not split; got {split}")
    learned = trained.data.preprocessing
    if learned is None:
        raise ValueError(
            f"data must be a named data set, for the run was trained on {trained.data.name}; "
            f"got {name}"
        )
    file = settings.data.file
    if not own and file.labels is not None and os.path.isfile(file.labels):
        # They are those of the training file's rows, not of these.
        file = replace(file, labels=None)
    read = read_rows(name, file, learned)
    if not _is_binarized(settings, trained.data):
        return read
    note = "grey values are encoded as they are; training saw draws of zeros and ones"
    return read._replace(notes=(*read.notes, note))


def _of_split(trained: Trained, data: Dataset, split: str) -> Encodable:
    if split == "all":
        raise ValueError(f"split must be train, val or test for {data.name}, got all")
    expected, came = trained.data.train.shape[1], data.train.shape[1]
    if came != expected:
        raise ValueError(
            f"data must have {expected} columns, as the run's {trained.data.name} has; "
            f"{data.name} has {came}"
        )
    labels = getattr(data, f"{split}_labels")
    if labels is not None:
        labels = labels.numpy() if data.classes is None else np.array(data.classes)[labels.numpy()]
    return Encodable(getattr(data, split), labels, ())


def open_model(path: str | os.PathLike[str]) -> Trained:
    """As `open_run`, but without a user's data, which may be gone; `data` has zeros then.

    Raises:
        FileNotFoundError: If there is no run, or it has no weights.
        ValueError: If a file of the run is damaged.
    """
    run = Run(Path(path))
    stored = run.data_record()
    if stored is None:
        return open_run(path)
    settings = from_json(run.read_json("experiment.json"))
    name = os.path.basename(settings.data.name)
    data = blank_dataset(stored, name, rows=settings.model.components)
    return _with_weights(run, settings, data)


class Drawn(NamedTuple):
    """Data drawn from a model, and their latents.

    Attributes:
        x: Samples of p(x|z), shape (N, *X).
        mean: Means of p(x|z), likewise; None where they have no closed form, as those of a
            PixelCNN: means of draws would take as long as so many samples.
        z: Latents, shape (N, *Z).
    """

    x: Tensor
    mean: Tensor | None
    z: Tensor

    @property
    def shown(self) -> Tensor:
        """What to look at: the means, or the samples where there are none."""
        return self.x if self.mean is None else self.mean

    @property
    def kind(self) -> str:
        """What that is, "means" or "samples"."""
        return "samples" if self.mean is None else "means"


@torch.no_grad()
def sample(model: Joint, count: int, seed: int = 0) -> Drawn:
    """Draw z ~ p(z) and x ~ p(x|z)."""
    if count < 1:
        raise ValueError(f"the number of samples must be 1 or more, got {count}")
    with forked(derived_seed(seed, "sample")), evaluating(model):
        return _decoded(model, model.prior().sample((count,)))


@torch.no_grad()
def reconstruct(model: Joint, x: Tensor | Rows, seed: int = 0) -> Drawn:
    """Encode data by the mean of q(z|x) and decode them again."""
    with forked(derived_seed(seed, "reconstruct")), evaluating(model):
        return _decoded(model, codes(model, x).mean)


def _decoded(model: Joint, z: Tensor, batch_size: int = 256) -> Drawn:
    samples, means = [], []
    for part in z.split(batch_size):
        decoded = model.decoder(part)
        samples.append(decoded.sample())
        mean = closed_mean(decoded)
        if mean is not None:
            means.append(mean)
    return Drawn(torch.cat(samples), torch.cat(means) if means else None, z)
