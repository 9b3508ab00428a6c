"""What the estimators share: parameters, training and saving."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from mimachine._support.checks import one_of, real, whole
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.data.files.load import data_record
from mimachine.data.files.splits import HoldOut
from mimachine.data.sources import Source
from mimachine.estimation.refit_prior import refit_prior
from mimachine.estimator.reader import ARRAY, Reader, are_images, given, read
from mimachine.experiment.presets import by_convolutions, named, of_rows
from mimachine.experiment.settings import Data, Experiment, Likelihood, Prior, to_json
from mimachine.experiment.usual_architecture import conv_pays
from mimachine.model.joint import Joint
from mimachine.training.fit import History, fit
from mimachine.training.one_device import OneDevice
from mimachine.training.principal_components import fit_in_closed_form
from mimachine.training.recipe import Training, Warmup
from mimachine.training.run import Run
from mimachine.workflow.prepare_run import ready_to_train, with_binary_images
from mimachine.workflow.tables.stored_frame import FRAME, is_frame

__all__ = ["Fitted"]


class Fitted(BaseEstimator):
    """An estimator that trains a model; see `MIMEncoder` for its parameters."""

    def __init__(
        self,
        n_components: int | None = None,
        *,
        hidden: tuple[int, ...] = (300,),
        objective: str = "a-mim",
        prior: str = "standard-normal",
        likelihood: str = "auto",
        architecture: str = "auto",
        columns: Any = None,
        max_epochs: int | None = None,
        training: Training | None = None,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        device: str | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.hidden = hidden
        self.objective = objective
        self.prior = prior
        self.likelihood = likelihood
        self.architecture = architecture
        self.columns = columns
        self.max_epochs = max_epochs
        self.training = training
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Any:
        """Train the model.

        Args:
            X: A data frame of pandas, polars or arrow with columns of any kind, an array or sparse
                matrix (n_samples, n_features), or images (n_samples, height, width) or (n_samples,
                height, width, channels).
            y: Ignored.

        Raises:
            ValueError: If X cannot be used, or a parameter is out of range.
            FloatingPointError: If the loss is not finite.
        """
        share = real("validation_fraction", self.validation_fraction, 0)
        if share >= 1:
            raise ValueError(f"validation_fraction must be below 1, got {share}")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        X = given(X)
        again = self.warm_start and hasattr(self, "model_")
        self._check_features(X, reset=not again)
        reader, data = self._read(X, share, seed, again)
        self.notes_ = data.notes
        if self.verbose:
            print(*data.notes, sep="\n")
        settings = self._settings(data, reader, seed, len(data.train) + len(data.val))
        data = with_binary_images(settings, data)
        loss, train, val = ready_to_train(settings, data)
        held_out = val if share else None
        if settings.model.architecture == "pca":
            history = fit_in_closed_form(loss, data.train, data.val)
        else:
            if again:
                loss.model.load_state_dict(self.model_.state_dict())
            history = fit(
                loss,
                train,
                held_out,
                settings.training,
                fabric=self._fabric(settings.training),
                progress=bool(self.verbose),
            )
        model = loss.model.cpu()
        generator = _with_fitted_prior(model, train, held_out, seed)
        more = self._trained_too(generator, data, settings.training)
        self._keep(settings, reader, history, model, generator)
        self._after_fit(data, more)
        return self

    def _keep(
        self, settings: Experiment, reader: Reader, history: History, model: Joint, generator: Joint
    ) -> None:
        """Set what is known after training.

        Dense models are in double precision, so that results do not depend on how many rows are
        computed at once; convolutions would take too long.
        """
        if settings.model.architecture != "conv":
            model, generator = model.double(), generator.double()
        self.experiment_, self.history_ = settings, history
        self.n_iter_ = len(history.epochs)
        self.model_, self.generator_ = model.eval(), generator.eval()
        self.n_components_ = math.prod(self.model_.prior().event_shape)
        self._reader = reader

    def _trained_too(self, generator: Joint, data: Dataset, training: Training) -> Any:
        """What an estimator trains in addition, while the model is in single precision."""

    def _after_fit(self, data: Dataset, more: Any) -> None:
        """Set what an estimator knows in addition, such as the result of `_trained_too`."""

    def _read(self, x: Any, share: float, seed: int, again: bool) -> tuple[Reader, Dataset]:
        """Read the training data; the second time with the same columns as before."""
        held_out = HoldOut(share, seed)
        if again:
            reader = self._reader.for_data(x, held_out, self)
            rows = reader.rows(x, self)
            train, val, _ = (rows[torch.from_numpy(k)] for k in held_out.split(len(rows)))
            return reader, dataclasses.replace(reader.data, train=train, val=val, test=val)
        one_of("likelihood", self.likelihood, get_args(Likelihood))
        is_pca = self.likelihood == "auto" and self.objective == "pca"
        return read(x, "numbers" if is_pca else self.likelihood, self.columns, held_out, self)

    def _settings(self, data: Dataset, reader: Reader, seed: int, count: int) -> Experiment:
        """Settings of the experiment that this is."""
        name = FRAME if reader.is_table else ARRAY
        start = of_rows(Data(name), count, data.train.shape[1], self.objective, reader.is_table)
        one_of("architecture", self.architecture, ("auto", "mlp", "conv"))
        is_large = data.image_shape is not None and conv_pays(data.image_shape[1:])
        if self.architecture == "conv" or (self.architecture == "auto" and is_large):
            start = by_convolutions(start, count)
        latent = start.model.latent
        if self.n_components is not None:
            latent = whole("n_components", self.n_components, 1)
        one_of("prior", self.prior, get_args(Prior))
        model = dataclasses.replace(
            start.model,
            latent=latent,
            hidden=tuple(self.hidden),
            prior=cast(Any, self.prior),
            likelihood=cast(Any, self.likelihood),
        )
        training = start.training if self.training is None else self.training
        if self.max_epochs is not None:
            epochs = whole("max_epochs", self.max_epochs, 1)
            warmup = Warmup(min(training.annealing.epochs, epochs // 4))
            training = dataclasses.replace(training, epochs=epochs, warmup=warmup)
        training = dataclasses.replace(training, seed=seed)
        return named(dataclasses.replace(start, model=model, training=training), self.objective)

    def _fabric(self, training: Training) -> Any:
        if self.device is None:
            return None
        if training.precision != "full":
            raise ValueError('training.precision must be "full" if a device is given')
        try:
            return OneDevice(self.device)
        except RuntimeError as error:
            raise ValueError(
                f"device must be one of torch, got {self.device!r}: {error}"
            ) from error

    # --- use ---------------------------------------------------------------------------------

    def rows(self, X: Any) -> Tensor:
        """The rows of X as the model gets them, for functions such as `mm.log_likelihood`.

        Args:
            X: Data with the columns of training.

        Returns:
            A tensor (n_samples, n_values) of the type of the model, which is double precision but
            for convolutions.

        Raises:
            ValueError: If X cannot be used.
        """
        check_is_fitted(self)
        X = given(X)
        self._check_features(X, reset=False)
        return self._reader.rows(X, self).to(next(self.model_.parameters()).dtype)

    def _check_features(self, x: Any, *, reset: bool) -> None:
        """Check the number and the names of the columns, or learn them."""
        if not are_images(x):
            # An array with one axis is refused where it is read.
            if is_frame(x) or hasattr(x, "toarray") or np.asarray(x).ndim == 2:
                validate_data(self, x, reset=reset, skip_check_array=True)
            return
        shape = np.shape(x)[1:]
        if reset:
            self.n_features_in_ = math.prod(shape)
        elif shape != self._reader.shape:
            raise ValueError(
                f"X must have images of shape {self._reader.shape}, as in training, got {shape}"
            )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.input_tags.categorical = False
        tags.non_deterministic = False
        return tags

    # --- runs --------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], X: Any = None) -> None:
        """Save as a run directory, which `mimachine` commands and `mm.load` read.

        Args:
            path: The directory; it must not exist, or be empty.
            X: The data of `fit`, which are then stored in the run, for commands that need training
                data, such as evaluate, score and impute. Without them others work, such as sample,
                and embed and reconstruct of a file.

        Raises:
            FileExistsError: If the path exists.
            ValueError: If X is not the data of `fit`.
        """
        check_is_fitted(self)
        settings = self.experiment_
        name = os.path.join(os.path.abspath(path), settings.data.name)
        settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, name=name))
        with Run.claimed(path) as create:
            if X is not None:
                self._reader.store(given(X), Path(path), self)
            run = create(to_json(settings), data_record(self._reader.data))
            run.save_weights(_single(self.model_))
            if self.generator_ is not self.model_:
                run.save_fitted_prior(_single(self.generator_).prior)
            for epoch in self.history_.epochs:
                run.append_metrics(epoch)


def _with_fitted_prior(model: Joint, train: Source, val: Source | None, seed: int) -> Joint:
    """The model with a mixture fitted to its codes; as it is, if none can be fitted."""
    try:
        with forked(derived_seed(seed, "fitted prior")):
            return refit_prior(model, train, val, progress=False)
    except (TypeError, ValueError):
        # Codes that do not vary, or too few of them.
        return model


def _single(model: Joint) -> Joint:
    """A copy in single precision, exactly as it was trained."""
    return copy.deepcopy(model).float()
