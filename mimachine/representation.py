"""Quality of a representation: what its codes keep, and whether they collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine.joint import Joint
from mimachine.likelihood import evaluating
from mimachine.memory import rows_at_once
from mimachine.rows import Rows

__all__ = [
    "Codes",
    "Health",
    "Verdict",
    "at_floor",
    "codes",
    "diagnose_codes",
    "knn_accuracies",
    "knn_accuracy",
    "mean_of",
    "moments",
]

Verdict = Literal["healthy", "partly collapsed", "collapsed", "deterministic"]

_ACTIVE_SHARE = 0.01
_DETERMINISTIC_SHARE = 0.01
_AT_FLOOR = 1.01
_TREE_DIMENSIONS = 6


class Codes(NamedTuple):
    """What the encoder makes of N data: mean, standard deviation and a draw, each (N, *Z)."""

    mean: Tensor
    std: Tensor
    sample: Tensor


@torch.no_grad()
def codes(model: Joint, x: Tensor | Rows, batch_size: int | None = None) -> Codes:
    """Encode data of shape (N, *X) with the model in evaluation mode."""
    batch_size = rows_at_once(x.shape) if batch_size is None else batch_size
    with evaluating(model):
        parts = [moments(model.encoder(rows)) for rows in x.split(batch_size)]
    return Codes(*(torch.cat(part) for part in zip(*parts, strict=True)))


def moments(distribution: Distribution, num_samples: int = 64) -> Codes:
    """Mean, standard deviation and a draw; from draws where there is no closed form."""
    sample = distribution.sample()
    try:
        mean, std = distribution.mean, distribution.stddev
        # torch's categorical distribution has moments that are not numbers.
        if not mean.isnan().all():
            return Codes(mean, std, sample)
    except (NotImplementedError, AttributeError):
        pass
    draws = _draws(distribution, num_samples)
    return Codes(draws.mean(0), draws.std(0), sample)


def mean_of(distribution: Distribution, num_samples: int = 64) -> Tensor:
    """Mean; from draws where there is no closed form."""
    try:
        mean: Tensor = distribution.mean
        if not mean.isnan().all():
            return mean
    except (NotImplementedError, AttributeError):
        pass
    return _draws(distribution, num_samples).mean(0)


def _draws(distribution: Distribution, num_samples: int) -> Tensor:
    draws = distribution.sample(torch.Size((num_samples,)))
    return draws if draws.is_floating_point() else draws.to(torch.get_default_dtype())


def at_floor(scale: Tensor, floor: float | Tensor) -> Tensor:
    """Which scales are within 1 % of the smallest they can be; none if that is 0."""
    return scale <= _AT_FLOOR * torch.as_tensor(floor, device=scale.device)


@dataclass(frozen=True)
class Health:
    """Collapse diagnostics of a set of codes.

    Attributes:
        verdict: "collapsed" if no latent dimension is active, "partly collapsed" if fewer than
            half are, "deterministic" if the median posterior standard deviation is below 1 % of
            the aggregate's or at its floor, else "healthy".
        active: For each latent dimension, whether the variance over data of its posterior mean
            exceeds 1 % of its aggregate variance, shape (D,).
        relative_std: Median of posterior over aggregate standard deviation.
    """

    verdict: Verdict
    active: Tensor
    relative_std: float


def diagnose_codes(mean: Tensor, std: Tensor, floor: float | Tensor = 0.0) -> Health:
    """Judge codes by their posterior means and standard deviations, each of shape (N, *Z).

    Args:
        mean: Posterior means.
        std: Posterior standard deviations.
        floor: The smallest standard deviation that the encoder can give, a number or (*Z).
    """
    mean, std = mean.flatten(1).double(), std.flatten(1).double()
    of_means = mean.var(0, correction=0)
    # Law of total variance: the aggregate posterior's variance in each dimension.
    aggregate = of_means + std.square().mean(0)
    active = of_means > _ACTIVE_SHARE * aggregate
    relative = float((std / aggregate.sqrt().clamp_min(torch.finfo(std.dtype).tiny)).median())
    mostly_at_floor = at_floor(std, floor).double().mean() > 0.5
    verdict: Verdict = "healthy"
    if not active.any():
        verdict = "collapsed"
    elif active.double().mean() < 0.5:
        verdict = "partly collapsed"
    elif relative < _DETERMINISTIC_SHARE or mostly_at_floor:
        verdict = "deterministic"
    return Health(verdict, active, relative)


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, k: int = 5
) -> float:
    """Share of test codes whose label the k nearest training codes vote for.

    Exact, by Euclidean distance without rescaling; a tie goes to the smallest label.

    Args:
        train: Training codes, shape (N, *Z).
        train_labels: Their labels, shape (N,).
        test: Test codes, shape (M, *Z).
        test_labels: Their labels, shape (M,).
        k: Number of neighbours, in [1, N].

    Raises:
        ValueError: If k is out of range or a number of labels does not match.
    """
    return knn_accuracies(train, train_labels, test, test_labels, (k,))[k]


def knn_accuracies(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    ks: Sequence[int],
) -> dict[int, float]:
    """`knn_accuracy` for several numbers of neighbours by one search.

    Args:
        train: Training codes, shape (N, *Z).
        train_labels: Their labels, shape (N,).
        test: Test codes, shape (M, *Z).
        test_labels: Their labels, shape (M,).
        ks: Numbers of neighbours, each in [1, N].

    Returns:
        The share for each number of neighbours.

    Raises:
        ValueError: If a k is out of range or a number of labels does not match.
    """
    from sklearn.neighbors import NearestNeighbors

    for k in ks:
        if not 1 <= k <= len(train):
            raise ValueError(
                f"k must be in [1, {len(train)}], the number of training codes, got {k}"
            )
    for name, codes_, labels in (("train", train, train_labels), ("test", test, test_labels)):
        if len(codes_) != len(labels):
            raise ValueError(
                f"{name}_labels must have one label for each of {len(codes_)} codes, "
                f"got {len(labels)}"
            )
    points, queries = (codes_.flatten(1).cpu().numpy() for codes_ in (train, test))
    # Trees visit most points where there are many dimensions.
    algorithm = "kd_tree" if points.shape[1] <= _TREE_DIMENSIONS else "brute"
    search = NearestNeighbors(n_neighbors=max(ks), algorithm=algorithm).fit(points)
    nearest = torch.from_numpy(search.kneighbors(queries, return_distance=False))
    classes, of_train = train_labels.cpu().unique(return_inverse=True)
    voters = of_train[nearest]
    shares = {}
    for k in ks:
        votes = torch.zeros(len(voters), len(classes), dtype=torch.int32)
        votes.scatter_add_(1, voters[:, :k], torch.ones_like(voters, dtype=torch.int32))
        predicted = classes[votes.argmax(1)]
        shares[k] = float((predicted == test_labels.cpu()).double().mean())
    return shares
