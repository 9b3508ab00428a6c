"""Classification probes of codes: k nearest neighbours and a linear classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

from mimachine._support.checks import whole
from mimachine._support.process import exclusive, ignoring_warnings
from mimachine.data.examples import Examples, class_numbers, numbers
from mimachine.estimation.codes.nearest import nearest, nearest_others
from mimachine.estimation.estimate import Estimate

__all__ = ["accuracy", "knn_accuracies", "knn_accuracy", "leave_one_out_accuracy", "linear_probe"]

Floats = NDArray[np.float64]
# Penalties of a linear probe per row, strongest first: each fit starts from the one before.
_PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
_HELD_OUT, _FEWEST = 5, 10
_TOLERANCE, _MOST_STEPS = 1e-3, 1000
# Parts whose accuracies scatter, and how often rows are dealt to them.
_FEWEST_IN_PART, _MOST_PARTS, _PARTITIONS = 50, 32, 8


def accuracy(predicted: Tensor, labels: Tensor) -> Estimate:
    """Accuracy of predicted labels (M,), with the standard error of a proportion."""
    return Estimate.of_share(float((predicted == labels).double().mean()), len(labels))


def knn_accuracy(
    train: Examples, train_labels: Any, test: Examples, test_labels: Any, k: int = 5
) -> float:
    """Accuracy of k-nearest-neighbour classification of test codes.

    Distances are Euclidean, in float64 and without rescaling. A tie of distances goes to the code
    with the smaller index, unless more than 16 codes are tied; a tie of votes goes to the smallest
    label.

    Args:
        train: Training codes, shape (N, *Z); tensors, arrays, data frames or lists of numbers.
        train_labels: Their labels, numbers or text, shape (N,).
        test: Test codes, shape (M, *Z).
        test_labels: Their labels, shape (M,).
        k: Number of neighbours, in [1, N].

    Raises:
        ValueError: If k is out of range, a number of labels does not match, or a code is not
            finite.
    """
    return knn_accuracies(train, train_labels, test, test_labels, (k,))[k]


def knn_accuracies(
    train: Examples,
    train_labels: Any,
    test: Examples,
    test_labels: Any,
    ks: Sequence[int],
) -> dict[int, float]:
    """`knn_accuracy` for several numbers of neighbours, with one search.

    Args:
        train: Training codes, shape (N, *Z).
        train_labels: Their labels, shape (N,).
        test: Test codes, shape (M, *Z).
        test_labels: Their labels, shape (M,).
        ks: Numbers of neighbours, each in [1, N].

    Returns:
        The accuracy for each number of neighbours.

    Raises:
        ValueError: If a k is out of range, a number of labels does not match, or a code is not
            finite.
    """
    split = _split(train, train_labels, test, test_labels)
    for k in ks:
        if not 1 <= whole("k", k) <= len(split.train):
            raise ValueError(
                f"k must be in [1, {len(split.train)}], the number of training codes, got {k}"
            )
    found = nearest(split.train, split.test.to(split.train.device), max(ks)).cpu()
    return {
        k: accuracy(_voted(split.train_labels, found[:, :k]), split.test_labels).value for k in ks
    }


def leave_one_out_accuracy(codes: Examples, labels: Any, k: int = 5) -> Estimate:
    """Leave-one-out accuracy of k-nearest-neighbour classification, as in `knn_accuracy`.

    Rows that are neighbours of each other are right or wrong together, so the error is larger than
    that of a proportion. The factor is known from the scatter of the accuracies within random parts
    of about 50 rows or more, relative to that of proportions.

    Args:
        codes: Codes, shape (N, *Z); a tensor, an array, a data frame or a list of numbers.
        labels: Their labels, numbers or text, shape (N,).
        k: Number of neighbours, in [1, N - 1].

    Raises:
        ValueError: If k is out of range, the number of labels does not match, or a code is not
            finite.
    """
    points, (classes,) = numbers("codes", codes, squared=True), class_numbers(labels=labels)
    _check_count("codes", "labels", points, classes)
    if not 1 <= whole("k", k) < len(points):
        raise ValueError(f"k must be in [1, {len(points) - 1}], the number of other codes, got {k}")
    found = accuracy(_voted(classes, nearest_others(points, k).cpu()), classes)
    error = found.standard_error * math.sqrt(_excess_scatter(points, classes, k))
    return Estimate(found.value, error)


def _excess_scatter(points: Tensor, labels: Tensor, k: int) -> float:
    """Variance of accuracies of random parts by that of proportions, 1 or more."""
    number = min(_MOST_PARTS, len(points) // max(_FEWEST_IN_PART, 2 * k))
    if number < 2:
        return 1.0
    generator = torch.Generator().manual_seed(0)
    scatter = expected = 0.0
    for _ in range(_PARTITIONS):
        found = []
        for rows in torch.randperm(len(points), generator=generator).chunk(number):
            near = nearest_others(points[rows.to(points.device)], k).cpu()
            found.append(accuracy(_voted(labels[rows], near), labels[rows]))
        scatter += float(torch.tensor([each.value for each in found]).double().var())
        expected += sum(each.standard_error**2 for each in found) / len(found)
    return max(1.0, scatter / expected)


def linear_probe(train: Examples, train_labels: Any, test: Examples, test_labels: Any) -> Estimate:
    r"""Accuracy on test codes of a linear classifier fitted to the training codes.

    Multinomial logistic regression with the penalty :math:`\lambda |W|^2 / 2` on its weights, per
    row. Codes are standardised by the mean and standard deviation of the training codes. λ is
    chosen from 1, 0.1, ..., 10⁻⁴ by the likelihood of a held-out fifth of the training codes (1 if
    there are fewer than 10 codes); then all training codes are fitted. The accuracy of the fifth
    would be equal for several λ, some of which fit worse. The held-out fifth is random but fixed
    for each N, so the result is deterministic.

    Args:
        train: Training codes, shape (N, *Z); a tensor, an array, a data frame or a list of numbers.
        train_labels: Their labels, numbers or text, shape (N,), with two or more classes.
        test: Test codes, shape (M, *Z).
        test_labels: Their labels, shape (M,).

    Returns:
        The accuracy, with the standard error of a proportion of M, for given training codes.

    Raises:
        ValueError: If there is only one class, a number of labels does not match, or a code is not
            finite.
    """
    split = _split(train, train_labels, test, test_labels)
    labels = split.train_labels.numpy()
    if len(np.unique(labels)) < 2:
        first = np.asarray(train_labels)[:1].tolist()
        raise ValueError(f"train_labels must have two or more classes, got only {first}")
    points, queries = (_rows(codes) for codes in (split.train, split.test))
    centre, width = points.mean(0), points.std(0)
    # Do not divide a column that is constant up to rounding by its rounding error.
    width[width <= 1e-12 * np.abs(points).max(0)] = 1.0
    points, queries = (points - centre) / width, (queries - centre) / width
    model = _Classifier()
    model.fit(points, labels, _penalty(points, labels))
    predicted = torch.from_numpy(model.predict(queries))
    return accuracy(predicted, split.test_labels)


class _Classifier:
    """Multinomial logistic regression that starts each fit from the one before."""

    def __init__(self) -> None:
        from sklearn.linear_model import LogisticRegression

        self.model = LogisticRegression(warm_start=True, tol=_TOLERANCE, max_iter=_MOST_STEPS)

    def fit(self, points: Floats, labels: NDArray[Any], penalty: float) -> None:
        # scikit-learn's C weights the sum over rows against the penalty.
        self.model.C = 1 / (penalty * len(points))
        # After this many steps the predictions hardly change, whatever the gradient is.
        with ignoring_warnings():
            self.model.fit(points, labels)

    def predict(self, points: Floats) -> NDArray[Any]:
        with exclusive():
            predicted: NDArray[Any] = self.model.predict(points)
        return predicted

    def likelihood(self, points: Floats, labels: NDArray[Any]) -> float:
        """Mean log-likelihood of labels; those of classes without training codes do not count."""
        known = np.isin(labels, self.model.classes_)
        place = np.searchsorted(self.model.classes_, labels[known])
        with exclusive():
            scores = self.model.decision_function(points[known])
        if scores.ndim == 1:
            # Of two classes there is only the score of the second.
            scores = np.stack([np.zeros_like(scores), scores], 1)
        return float(log_softmax(scores, 1)[np.arange(len(place)), place].mean())


def _penalty(points: Floats, labels: NDArray[Any]) -> float:
    """The penalty with the best held-out likelihood."""
    held_out, rest = np.split(
        np.random.default_rng(0).permutation(len(points)), [len(points) // _HELD_OUT]
    )
    known = np.unique(labels[rest])
    if len(points) < _FEWEST or len(known) < 2 or not np.isin(labels[held_out], known).any():
        return _PENALTIES[0]
    model, found = _Classifier(), []
    for penalty in _PENALTIES:
        model.fit(points[rest], labels[rest], penalty)
        found.append(model.likelihood(points[held_out], labels[held_out]))
    return _PENALTIES[int(np.argmax(found))]


class _Split(NamedTuple):
    """Codes, and the numbers of their classes on the CPU."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def _split(train: Any, train_labels: Any, test: Any, test_labels: Any) -> _Split:
    """Check codes and labels, and bring them to one form."""
    points, queries = (
        numbers(name, each, squared=True) for name, each in (("train", train), ("test", test))
    )
    classes, queried = class_numbers(train_labels=train_labels, test_labels=test_labels)
    _check_count("train", "train_labels", points, classes)
    _check_count("test", "test_labels", queries, queried)
    if points.shape[1:].numel() != queries.shape[1:].numel():
        raise ValueError(
            f"test must have codes of the size of train's, {tuple(points.shape[1:])}, got "
            f"{tuple(queries.shape[1:])}"
        )
    return _Split(points, classes, queries, queried)


def _check_count(name: str, of_labels: str, codes: Tensor, labels: Tensor) -> None:
    if len(codes) != len(labels):
        raise ValueError(
            f"{of_labels} must have one label for each of {len(codes)} codes of {name}, got "
            f"{len(labels)}"
        )


def _rows(codes: Tensor) -> Floats:
    """Codes (N, D) in double precision."""
    codes = codes[:, None] if codes.dim() == 1 else codes
    return codes.flatten(1).cpu().double().numpy()


def _voted(labels: Tensor, neighbours: Tensor) -> Tensor:
    """The most frequent label of the neighbours, the smallest of equals, shape (M,)."""
    classes, place = labels.unique(return_inverse=True)
    voters = place[neighbours]
    votes = torch.zeros(len(voters), len(classes), dtype=torch.int32)
    votes.scatter_add_(1, voters, torch.ones_like(voters, dtype=torch.int32))
    voted: Tensor = classes[votes.argmax(1)]
    return voted
