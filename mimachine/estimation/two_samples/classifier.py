"""Classifier two-sample test: the AUC of a classifier that tells two samples apart."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support.checks import flag, whole
from mimachine._support.process import exclusive
from mimachine._support.seeds import derived_seed
from mimachine.data.examples import Examples
from mimachine.estimation.estimate import Estimate
from mimachine.estimation.two_samples.units import in_units_of, two_samples

__all__ = ["two_sample_auc"]

Floats = NDArray[np.float64]
_FOLDS, _FEWEST = 5, 10
# Wider rows are projected: the time of trees is proportional to the columns.
_MOST_COLUMNS = 100


def two_sample_auc(
    x: Examples, y: Examples, *, standardize: bool = True, most: int = 2000, seed: int = 0
) -> Estimate:
    r"""AUC of a classifier that tells two samples apart: 0.5 if it cannot, 1 if it always can.

    The AUC is the probability that the classifier gives a row of x a higher score than a row of y,
    with ties counted by half. Gradient-boosted trees are fitted to four fifths of both samples and
    score the rest; the result is the mean AUC of five such folds. It is a lower bound of the AUC of
    the best classifier in expectation: 0.5 does not show that the distributions are the same. Two
    normals whose means differ by δ standard deviations have a best AUC of :math:`\Phi(\delta /
    \sqrt 2)`. It is below 0.5 by chance, or where both samples have the same rows.

    The standard error is for new samples of the same sizes. DeLong's variance of the AUC assumes
    classifiers that are given. Here a pair of rows enters twice, each row once as a training row of
    the other, so the part of the variance that is due to the training rows counts double. That part
    is known from the agreement r on new rows of two classifiers from separate halves of the
    training rows: it is :math:`(1 - r) / (1 + r)` of the whole. The error is at least half a row of
    the smaller sample.

    Args:
        x: N independent rows, shape (N, ...), N at least 10; a tensor, an array, a data frame or a
            list of numbers.
        y: M independent rows, shape (M, ...), M at least 10, with as many values per row.
        standardize: Whether to divide columns by their standard deviations in y, as in
            `energy_distance`. This matters only for rows of over 100 values, which are projected
            onto their first 100 principal components. Use False for pixels.
        most: Largest number of rows of each sample; random ones are used of more. 2,000 of 64
            columns take a second of processor time.
        seed: Seed of the random rows and folds; the global generators keep their state.

    Raises:
        ValueError: If the data cannot be used, their rows have different sizes, or there are fewer
            than 10.

    References:
        Revisiting classifier two-sample tests (Lopez-Paz & Oquab, 2017),
        https://arxiv.org/abs/1610.06545
        On multivariate goodness-of-fit and two-sample testing (Friedman, 2004)
        Comparing the areas under two or more correlated ROC curves (DeLong et al., 1988)

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2, 300, 2, generator=generator)
        >>> same, shifted = mm.two_sample_auc(x, y), mm.two_sample_auc(x + 2, y)
        >>> same.value < 0.6 and shifted.value > 0.9
        True
    """
    seed, most = whole("seed", seed), whole("most", most, _FEWEST)
    standardize = flag("standardize", standardize)
    first, second = two_samples(x, y, least=_FEWEST)
    random = np.random.default_rng(derived_seed(seed, "two-sample AUC"))
    samples = [_some(points, most, random) for points in (first, second)]
    if samples[0].shape[1] > _MOST_COLUMNS:
        scaled = in_units_of(samples[0], samples[1], standardize)
        samples = _projected(scaled.x, scaled.y, random)
    return _cross_validated(_Samples.dealt([each.cpu().numpy() for each in samples], random))


def _some(points: Tensor, most: int, random: np.random.Generator) -> Tensor:
    """At most this number of rows, in random order: rows may be sorted."""
    order = random.permutation(len(points))[:most]
    return points[torch.from_numpy(order).to(points.device)]


def _projected(x: Tensor, y: Tensor, random: np.random.Generator) -> list[Tensor]:
    """Coordinates on the principal components of both samples together, without their labels."""
    from sklearn.decomposition import PCA

    both = torch.cat([x, y]).cpu().numpy()
    count = min(_MOST_COLUMNS, len(both) - 1)
    # The exact solvers take a minute for thousands of columns.
    pca = PCA(count, svd_solver="randomized", random_state=_state(random))
    with exclusive():
        coordinates = torch.from_numpy(pca.fit_transform(both))
    return list(coordinates.split([len(x), len(y)]))


def _state(random: np.random.Generator) -> int:
    return int(random.integers(2**31))


class _Samples(NamedTuple):
    """Rows of both samples in one array.

    Attributes:
        rows: Shape (N + M, D).
        is_x: Which are of the first sample, shape (N + M,).
        fold: Fold of each row, shape (N + M,); each fold has as many of a sample, up to one.
        state: Seed of the classifiers.
    """

    rows: Floats
    is_x: NDArray[np.bool_]
    fold: NDArray[np.int64]
    state: int

    @classmethod
    def dealt(cls, samples: list[Floats], random: np.random.Generator) -> _Samples:
        """Samples in random order, dealt to folds."""
        x, y = samples
        return cls(
            np.concatenate(samples),
            np.arange(len(x) + len(y)) < len(x),
            np.concatenate([np.arange(len(each)) % _FOLDS for each in samples]),
            _state(random),
        )

    def placements(self, fold: int, training: list[int]) -> list[Floats]:
        """Placements of the rows of a fold, scored by a classifier of training folds.

        Returns:
            For each row of x the share of the y with a lower score, and for each row of y the share
            of the x with a higher one, ties counted by half: the mean of each is the AUC.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier
        from threadpoolctl import threadpool_limits

        # Small trees of few features each: of the settings tried these told most pairs apart.
        classifier = HistGradientBoostingClassifier(
            max_leaf_nodes=8,
            min_samples_leaf=5,
            max_features=0.3,
            max_bins=64,
            early_stopping=False,
            random_state=self.state,
        )
        fitted, scored = np.isin(self.fold, training), self.fold == fold
        is_x = self.is_x[scored]
        # So small a fit gains nothing by threads, and where other processes use the processor each
        # of its thousands of short loops would wait for the slowest one.
        with exclusive(), threadpool_limits(1, user_api="openmp"):
            classifier.fit(self.rows[fitted], self.is_x[fitted])
            scores = classifier.decision_function(self.rows[scored])
        return _placements(scores[is_x], scores[~is_x])


def _placements(x: Floats, y: Floats) -> list[Floats]:
    """Shares of the y below each x, (n,), and of the x above each y, (m,), ties by half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([x, y]))
    below = (ranks[: len(x)] - rankdata(x)) / len(y)
    above = 1 - (ranks[len(x) :] - rankdata(y)) / len(x)
    return [below, above]


def _cross_validated(samples: _Samples) -> Estimate:
    """Mean AUC over the folds, with its standard error."""
    folds = list(range(_FOLDS))
    placements = [samples.placements(k, [each for each in folds if each != k]) for k in folds]
    value = float(np.mean([x.mean() for x, _ in placements]))
    of_given = sum(each.var(ddof=1) / len(each) for parts in placements for each in parts)
    last, half = folds[-1], (_FOLDS - 1) // 2
    agreement = _agreement(
        samples.placements(last, folds[:half]), samples.placements(last, folds[half:-1])
    )
    # Of twice as many training rows the agreement is 2 r / (1 + r), as Spearman and Brown say of
    # a test of twice the length.
    share_of_training = (1 - agreement) / (1 + agreement)
    variance = float(of_given) / _FOLDS**2 * (1 + share_of_training)
    smallest = int(np.bincount(samples.is_x).min())
    # If no row is misplaced, new samples may have one that is.
    return Estimate(value, max(math.sqrt(variance), 0.5 / smallest))


def _agreement(one: list[Floats], other: list[Floats]) -> float:
    """Correlation of two classifiers' placements, within the samples, in [0, 1]."""
    first, second = ([part - part.mean() for part in each] for each in (one, other))

    def product(a: list[Floats], b: list[Floats]) -> float:
        return sum(float(p @ q) / len(p) for p, q in zip(a, b, strict=True))

    scale = math.sqrt(product(first, first) * product(second, second))
    return min(1.0, max(0.0, product(first, second) / scale)) if scale > 0 else 0.0
