"""Evaluate a model: all metrics of the test split, and a verdict on the codes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from mimachine._support.checks import real, whole
from mimachine._support.process import exclusive
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.data.examples import all_examples, examples
from mimachine.estimation.codes.collapse import diagnose_codes
from mimachine.estimation.codes.moments import Codes, codes
from mimachine.evaluation.advice import advice_for_model
from mimachine.evaluation.budgets import NEIGHBOUR_ROWS, random_rows
from mimachine.evaluation.classes import classes_of_splits
from mimachine.evaluation.codes import (
    aggregate_of_model,
    floors_of_model,
    reencoding_of_model,
    width_metrics,
)
from mimachine.evaluation.generated import generated_of_model
from mimachine.evaluation.information import information_of_model
from mimachine.evaluation.likelihood import likelihood_of_model, rate_of_model
from mimachine.evaluation.metric import Metric, Report
from mimachine.evaluation.reconstruction import reconstruction_of_model
from mimachine.evaluation.tables import without_holes
from mimachine.model.joint import Joint, check_joint
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating

__all__ = ["evaluate"]

_FEWEST_COMPARED = 4


def evaluate(
    model: Joint,
    data: Dataset,
    *,
    num_samples: int = 1000,
    seed: int = 0,
    seconds: float = 600.0,
) -> Report:
    """Evaluate a model on the test split: likelihood, information, reconstruction, codes, classes,
    and generated rows.

    Measurements that compare pairs of rows use a random subset of many rows, which a note reports.

    Args:
        model: The model, used in evaluation mode.
        data: The data; the training split is used by the classifiers of codes only.
        num_samples: Importance samples per row for the likelihood. If there are 400 or more, and
            over 200 rows, a pilot comes first: where nearly all estimates of 200 random rows are
            flagged and their weights have no mean, so that more samples would not help, the other
            rows get 10, which a note reports.
        seed: Seed of the noise and of random subsets; the global generator keeps its state.
        seconds: Time limit of the likelihood. All other metrics take at most a minute for data of
            usual sizes. If the likelihood of all rows would take longer than what is left, some
            rows get `num_samples` samples and the others a few (`mean_log_likelihood`), which a
            note reports. 20 rows and fewer all get `num_samples`. Within the limit the numbers
            depend on the seed alone.

    Raises:
        TypeError: If `data` is not a `Dataset`.
        ValueError: If `seconds` or `num_samples` is not positive, or the data cannot be used or do
            not fit the model.
    """
    check_joint("model", model)
    _check(data)
    seed, num_samples = whole("seed", seed), whole("num_samples", num_samples, 1)
    end = time.monotonic() + real("seconds", seconds, 0, above=True)
    as_stored = all_examples("data.test", data.test, model)
    test = without_holes(model, as_stored)
    device = test.device
    comparable = len(test) >= _FEWEST_COMPARED

    def noise(purpose: str) -> AbstractContextManager[None]:
        """Separate noise for each measurement, so that none changes the numbers of another."""
        return forked(derived_seed(seed, "evaluation", purpose), device)

    with exclusive(), evaluating(model), naming_misfits(model, test, "data.test"), torch.no_grad():
        with noise("codes"):
            encoded = codes(model, test)
        with noise("reconstruction"):
            kept = reconstruction_of_model(model, test, encoded, data.unit)
        if comparable:
            with noise("information"):
                kept = [*information_of_model(model, test, encoded), *kept]
        kept += _classes(model, data, encoded, noise)
        upper = next((m.value for m in kept if m.name == "mutual_information_upper"), None)
        floors = floors_of_model(model, test, encoded)
        shares = [each.value for each in floors if each.name == "encoder_share_at_floor"]
        means, stds = encoded.mean, encoded.std
        health = diagnose_codes(means, stds, share_at_floor=sum(shares), information=upper)
        shape = [*width_metrics(health), *floors]
        with noise("re-encoding"):
            shape += reencoding_of_model(model, test, encoded)
        if comparable:
            with noise("aggregate"):
                shape += aggregate_of_model(model.prior(), encoded)
        with noise("generated"):
            shape += generated_of_model(model, as_stored, encoded)
        with noise("rate"):
            rate = rate_of_model(model, test)
        with noise("likelihood"):
            explained = likelihood_of_model(model, test, num_samples, end, data.log_volume)
        advice = advice_for_model(health.verdict, model.prior())
    return Report((*explained, rate, *kept, *shape), health.verdict, advice)


def _classes(
    model: Joint, data: Dataset, test: Codes, noise: Callable[[str], AbstractContextManager[None]]
) -> list[Metric]:
    """Accuracy of classifiers of codes; no metrics without labels of several classes."""
    if data.train_labels is None or data.test_labels is None:
        return []
    with noise("training codes"):
        rows = random_rows(len(data.train), NEIGHBOUR_ROWS)
        labels = data.train_labels[rows]
        # With a single class there is nothing to tell apart.
        if len(labels.unique()) < 2:
            return []
        train = codes(model, examples("data.train", data.train[rows], model))
        return classes_of_splits(train, test, labels, data.test_labels, len(data.train))


def _check(data: object) -> None:
    if not isinstance(data, Dataset):
        raise TypeError(
            f"data must be a Dataset, with training and test splits, got {type(data).__name__}; "
            "for arrays use mm.diagnose"
        )
