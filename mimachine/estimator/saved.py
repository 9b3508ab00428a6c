"""Estimators from runs."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import numpy as np

from mimachine.estimator.base import Fitted
from mimachine.estimator.reader import Reader, without_rows
from mimachine.training.fit import History
from mimachine.training.records import Epoch
from mimachine.workflow.load_run import Trained
from mimachine.workflow.reports import kept_epoch

__all__ = ["of_trained"]

Estimator = TypeVar("Estimator", bound=Fitted)


def of_trained(trained: Trained, cls: type[Estimator] = Fitted) -> Estimator:
    """A fitted estimator of a run.

    Args:
        trained: The run. Its model stays as it is.
        cls: The class of the estimator.

    Raises:
        ValueError: If the run is on a named data set.
    """
    data, settings = trained.data, trained.experiment
    if data.schema is None and data.preprocessing is None:
        raise ValueError(
            f"the run must be on a file or a data frame, and {trained.run.path} was trained on "
            f"{settings.data.name}; use its model"
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
    reader = Reader(without_rows(data), names, _container(data.schema), np.dtype(float))
    estimator.n_features_in_ = int(np.prod(reader.shape))
    if names is not None:
        estimator.feature_names_in_ = np.array(names, dtype=object)
    # Together, since they share their parts.
    pair: Any = (trained.model, trained.generator)
    estimator._keep(settings, reader, history, *copy.deepcopy(pair))
    return estimator


def _container(schema: Any) -> Any:
    """Data frames of pandas if it is installed, and otherwise of polars."""
    if schema is None:
        return "array"
    from importlib.util import find_spec

    return "pandas" if find_spec("pandas") else "polars"
