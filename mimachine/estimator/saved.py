"""Estimators from run directories."""

from __future__ import annotations

import os
from typing import Any, TypeVar

import numpy as np

from mimachine.estimator.base import Fitted
from mimachine.estimator.reader import Reader
from mimachine.training.fit import History
from mimachine.training.records import Epoch
from mimachine.workflow.load_run import open_model
from mimachine.workflow.reports import kept_epoch

__all__ = ["from_run"]

Estimator = TypeVar("Estimator", bound=Fitted)


def from_run(cls: type[Estimator], path: str | os.PathLike[str]) -> Estimator:
    """A fitted estimator from a run, whose data are not read.

    Args:
        cls: The class of the estimator.
        path: The run directory.

    Raises:
        FileNotFoundError: If the run or its weights do not exist.
        ValueError: If a file of the run is damaged, or the run is on a named data set.
    """
    trained = open_model(path)
    data, settings = trained.data, trained.experiment
    if data.schema is None and data.preprocessing is None:
        raise ValueError(
            f"{path} was trained on {settings.data.name}; an estimator is for runs on files and "
            "data frames"
        )
    model, training = settings.model, settings.training
    estimator = cls(
        model.latent,
        hidden=model.hidden,
        objective=settings.objective,
        prior=model.prior,
        likelihood=model.likelihood,
        training=training,
        random_state=training.seed,
    )
    records = trained.run.metrics()
    best = kept_epoch(records)
    epochs = [Epoch(**record) for record in records]
    history = History(epochs, None if best is None else best["epoch"], False)
    names = None if data.schema is None else tuple(c.name for c in data.schema.columns)
    reader = Reader(data, names, _container(data.schema), np.dtype(float))
    estimator.n_features_in_ = int(np.prod(reader.shape))
    if names is not None:
        estimator.feature_names_in_ = np.array(names, dtype=object)
    generator: Any = trained.generator
    estimator._keep(settings, reader, history, trained.model, generator)
    return estimator


def _container(schema: Any) -> Any:
    """Data frames of pandas if it is installed, and otherwise of polars."""
    if schema is None:
        return "array"
    from importlib.util import find_spec

    return "pandas" if find_spec("pandas") else "polars"
