"""Do the codes keep the classes apart? Nearest neighbours and a linear probe."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from mimachine.estimation.codes.moments import Codes
from mimachine.estimation.codes.probes import (
    knn_accuracies,
    leave_one_out_accuracy,
    linear_probe,
)
from mimachine.estimation.estimate import Estimate
from mimachine.evaluation.arrays import Encodings
from mimachine.evaluation.budgets import (
    FEWEST_PROBED,
    PROBED_ROWS,
    VALUES,
    fewer_if_wide,
    random_rows,
    subset_note,
)
from mimachine.evaluation.glossary import measured
from mimachine.evaluation.metric import Metric

__all__ = ["can_be_probed", "classes_of_arrays", "classes_of_splits"]

_NEIGHBOURS, _LEAVE_ONE_OUT = (1, 3, 5, 10), 5
# Share of the rows of a probe that it is tested on.
_TESTED = 0.25


def classes_of_splits(
    train: Codes, test: Codes, train_labels: Tensor, test_labels: Tensor, of_train: int
) -> list[Metric]:
    """Classify test codes by their nearest training codes, and by a linear probe of these.

    Args:
        train: Codes of training rows, or of a random subset of them.
        test: Codes of the test rows.
        train_labels: Class of each training code.
        test_labels: Class of each test code.
        of_train: Number of all training rows.
    """
    ks = [k for k in _NEIGHBOURS if k <= len(train.mean)]
    metrics = []
    for suffix, near, far, points in (
        ("", train.mean, test.mean, "test codes among training codes"),
        ("_sampled", train.sample, test.sample, "noisy test codes among noisy training codes"),
    ):
        for k, accuracy in knn_accuracies(near, train_labels, far, test_labels, ks).items():
            name = f"knn_{k}_accuracy{suffix}"
            error = math.sqrt(accuracy * (1 - accuracy) / len(test_labels))
            metrics.append(
                measured(
                    name,
                    Estimate(accuracy, error),
                    notes=subset_note(len(near), of_train),
                    protocol="held-out",
                    points=points,
                )
            )
    some = random_rows(len(train.mean), PROBED_ROWS)
    for suffix, near, far, points in (
        ("", train.mean, test.mean, "codes"),
        ("_sampled", train.sample, test.sample, "codes with their noise"),
    ):
        metrics.append(
            measured(
                f"linear_probe_accuracy{suffix}",
                linear_probe(near[some], train_labels[some], far, test_labels),
                notes=subset_note(len(some), of_train),
                points=points,
                protocol="trained on training codes, measured on test codes",
            )
        )
    return metrics


def can_be_probed(labels: Tensor) -> bool:
    """Whether there are several classes and enough rows."""
    return len(labels) >= FEWEST_PROBED and len(labels.unique()) > 1


def classes_of_arrays(data: Encodings) -> list[Metric]:
    """Classify codes, and the data themselves, from the other rows; none without labels."""
    if data.labels is None:
        return []
    width = max(data.x.shape[1], data.mean.shape[1])
    rows = data.rows(fewer_if_wide(PROBED_ROWS, VALUES, width))
    labels = data.labels[rows]
    # Rows may be sorted by class, and all of them may be few enough to be taken in order.
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(data.seed))
    test, train = order.split([int(_TESTED * len(rows)), len(rows) - int(_TESTED * len(rows))])
    if not can_be_probed(labels) or len(labels[train].unique()) < 2:
        return []
    notes = subset_note(len(rows), len(data.x))
    metrics = []
    for suffix, what, points in _probed(data):
        neighbours = leave_one_out_accuracy(points[rows], labels, _LEAVE_ONE_OUT)
        name = f"knn_{_LEAVE_ONE_OUT}_accuracy{suffix}"
        metrics.append(
            measured(name, neighbours, notes=notes, protocol="leave-one-out", points=what)
        )
        if suffix == "_sampled":
            continue
        each = points[rows].double()
        metrics.append(
            measured(
                f"linear_probe_accuracy{suffix}",
                linear_probe(each[train], labels[train], each[test], labels[test]),
                notes=notes,
                points=what,
                protocol="measured on a random quarter of the rows",
            )
        )
    return metrics


def _probed(data: Encodings) -> Iterator[tuple[str, str, Tensor]]:
    """What is probed: suffix of its metrics' names, a description, and the points."""
    yield "", "codes", data.mean
    if data.std is not None and (data.std > 0).any():
        yield "_sampled", "codes with their noise", data.sample
    yield "_of_x", "the data", data.x
