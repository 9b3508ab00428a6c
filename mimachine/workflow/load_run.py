"""Load a trained run: its settings, its data, and its model with the best weights."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from functools import cached_property

from mimachine._support import checks
from mimachine._support.messages import quoted
from mimachine.data.dataset import Dataset
from mimachine.data.examples import like
from mimachine.data.files.load import blank_dataset
from mimachine.evaluation.metric import Report
from mimachine.experiment.build import build, refitted
from mimachine.experiment.settings import Experiment
from mimachine.model.joint import Joint
from mimachine.training.run import Run
from mimachine.workflow.find_data import MissingDataError, candidates, with_data
from mimachine.workflow.prepare_run import objective, prepare
from mimachine.workflow.reports import read_record, read_report
from mimachine.workflow.stored_settings import stored_settings

__all__ = ["Trained", "load", "open_model", "open_run", "with_weights"]


@dataclass(frozen=True)
class Trained:
    """A trained run.

    Attributes:
        run: Run directory.
        experiment: Settings.
        data: Data set that the model was trained on.
        model: Model with the best weights.
    """

    run: Run
    experiment: Experiment
    data: Dataset
    model: Joint

    @cached_property
    def generator(self) -> Joint:
        """The model that generates data: `model` with a prior fitted to its codes after training.

        That of training, such as N(0, I), may put its mass where there are no codes. Encoder and
        decoder are those of `model`. It is `model` itself if the run has no fitted prior.

        Raises:
            ValueError: If fitted_prior.safetensors is damaged or does not fit the model.
        """
        if not self.run.has_fitted_prior:
            return self.model
        model, prior = self.model, self.run.load_fitted_prior()
        if prior().event_shape != model.prior().event_shape:
            raise ValueError(
                f"{self.run.path} has a fitted prior of {prior().event_shape.numel()} latents, "
                f"and a model of {model.prior().event_shape.numel()}"
            )
        place = like(model)
        prior = prior if place is None else prior.to(place.device, place.dtype)
        return Joint(model.encoder, model.decoder, prior, model.data_prior).eval()

    @property
    def report(self) -> Report:
        """Metrics and verdict, as they were last measured.

        Raises:
            FileNotFoundError: If the run was not evaluated.
            ValueError: If report.json is damaged.
        """
        file = self.run.path / "report.json"
        if not os.path.lexists(file):
            raise FileNotFoundError(
                f"{self.run.path} has no report.json; evaluate it with: "
                f"mimachine evaluate {quoted(self.run.path)}"
            )
        return read_report(read_record(self.run), file)


def load(path: str | os.PathLike[str], data: str | os.PathLike[str] | None = None) -> Trained:
    """Load a trained run: `.model`, `.data` with its preprocessing, `.report`, `.experiment`.

    A run on a file of your own loads without the file too, with a warning. Its `data` then has
    zeros in place of the rows, for a table missing values; preprocessing, names of columns and
    classes are those of the run.

    Args:
        path: Run directory that `mimachine train` or `refit`, or `mm.train`, wrote.
        data: File or folder that the run was trained on, if it moved. By default it is searched for
            where it was, and where it was relative to the run.

    Raises:
        FileNotFoundError: If the run, its weights or `data` do not exist.
        ValueError: If a file of the run is damaged, or the data changed since the training.
    """
    try:
        return open_run(path, data)
    except MissingDataError as error:
        trained = open_model(path)
        is_table = trained.data.schema is not None
        blank = "missing values" if is_table else "zeros"
        learned = "kinds of columns" if is_table else "preprocessing"
        warnings.warn(
            f"{error.place} does not exist: the data of {path} are {blank}; model and {learned} "
            "are complete. If the data moved, say where",
            stacklevel=2,
        )
        return trained


def open_run(path: str | os.PathLike[str], data: str | os.PathLike[str] | None = None) -> Trained:
    """Load a run: its settings, its data, and its model with the best weights.

    Args:
        path: The run directory.
        data: File or folder that the run was trained on, if it moved.

    Raises:
        FileNotFoundError: If the run, its weights or its data do not exist.
        ValueError: If a file of the run is damaged, or the data changed since the training.
    """
    run = Run(path)
    given = None if data is None else checks.path("data", data)

    def prepared(settings: Experiment) -> Dataset:
        objective(settings.objective)
        return prepare(settings, run)

    settings, found = with_data(run, given, prepared)
    return with_weights(run, settings, found)


def with_weights(run: Run, settings: Experiment, data: Dataset) -> Trained:
    """Build the model of a run whose settings and data are loaded, and load its weights."""
    builder = build if run.refit_record() is None else refitted
    model = builder(settings, data)
    run.load_weights(model)
    return Trained(run, settings, data, model.eval())


def open_model(path: str | os.PathLike[str]) -> Trained:
    """Load a run without reading its file or folder of data, which may no longer exist.

    For such runs, `Trained.data` contains zeros, for tables missing values. Other runs are loaded
    as by `open_run`.

    Raises:
        FileNotFoundError: If the run or its weights do not exist.
        ValueError: If a file of the run is damaged.
    """
    run = Run(path)
    stored = run.data_record()
    if stored is None:
        return open_run(path)
    settings = stored_settings(run)
    name = os.path.basename(settings.data.name)
    # Where the data are now, if they are found, so that results do not overwrite them.
    settings = replace(settings, data=next(iter(candidates(run, settings)), settings.data))
    data = blank_dataset(stored, name, rows=settings.model.components)
    return with_weights(run, settings, data)
