import math

import numpy as np
import pytest
import torch
from scipy.stats import binom

import mimachine as mm
from mimachine.estimation.codes.probes import _Classifier, _penalty, accuracy
from mimachine.estimation.estimate import Estimate


def test_knn_accuracy_equals_a_vote_among_sorted_distances():
    train, test = torch.randn(80, 3), torch.randn(40, 3)
    labels, test_labels = torch.randint(0, 3, (80,)), torch.randint(0, 3, (40,))
    for k in (1, 3, 5, 80):
        nearest = np.argsort(torch.cdist(test, train).numpy(), axis=1)[:, :k]
        votes = [np.bincount(labels.numpy()[row], minlength=3).argmax() for row in nearest]
        expected = float((np.array(votes) == test_labels.numpy()).mean())
        assert mm.knn_accuracy(train, labels, test, test_labels, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 11])
def test_more_neighbours_than_codes_are_refused(k):
    z, labels = torch.randn(10, 2), torch.zeros(10, dtype=torch.long)
    with pytest.raises(ValueError, match=rf"k must be in \[1, 10\].*got {k}"):
        mm.knn_accuracy(z, labels, z, labels, k)


def test_labels_of_another_length_are_refused_by_name():
    z, labels = torch.randn(10, 2), torch.zeros(10, dtype=torch.long)
    with pytest.raises(ValueError, match="test_labels must have one label for each of 10"):
        mm.knn_accuracy(z, labels, z, labels[:9], 3)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.994])
def test_the_error_of_a_share_covers_also_near_one(share):
    """Summed over the binomial distribution; Wald's error covers 79 % of shares of 0.994."""
    count = 500
    right = np.arange(count + 1)
    found = [Estimate.of_share(k / count, count) for k in right]
    held = [abs(each.value - share) <= 1.96 * each.standard_error for each in found]
    assert 0.93 < binom.pmf(right, count, share) @ held < 0.98
    labels = torch.arange(100)
    predicted = torch.where(labels < 20, -1, labels)
    assert accuracy(predicted, labels) == Estimate(0.8, math.sqrt(82 / 104 * 22 / 104 / 104))


def test_each_code_is_judged_by_the_others():
    codes, labels = torch.randn(60, 2), torch.randint(0, 3, (60,))
    expected = []
    for i in range(60):
        others = torch.arange(60) != i
        one = slice(i, i + 1)
        expected.append(mm.knn_accuracy(codes[others], labels[others], codes[one], labels[one], 3))
    found = mm.leave_one_out_accuracy(codes, labels, 3)
    assert found.value == pytest.approx(np.mean(expected))
    with pytest.raises(ValueError, match=r"k must be in \[1, 59\].*got 60"):
        mm.leave_one_out_accuracy(codes, labels, 60)


def test_a_linear_probe_has_the_accuracy_of_the_optimal_rule_of_two_normals():
    # N(±a, I): the optimal rule is linear, and right with probability Φ(|a|).
    direction = torch.tensor([0.6, -0.3, 0.2, 0.0])
    labels = torch.randint(0, 2, (8000,))
    codes = torch.randn(8000, 4) + (2 * labels[:, None] - 1) * direction
    train, test = slice(0, 4000), slice(4000, None)
    found = mm.linear_probe(codes[train], labels[train], codes[test], labels[test])
    best = 0.5 * math.erfc(-float(direction.norm()) / math.sqrt(2))
    assert abs(found.value - best) < 5 * found.standard_error
    assert found.standard_error == pytest.approx(math.sqrt(best * (1 - best) / 4000), rel=0.05)


def test_a_linear_probe_is_blind_to_scales_and_offsets_and_to_what_is_drawn_before():
    codes, labels = torch.randn(300, 3, dtype=torch.float64), torch.randint(0, 3, (300,))
    codes[:, 0] += labels
    parts = (slice(0, 200), slice(200, None))
    factor, offset = torch.tensor([1e6, 1e-6, 1.0]), torch.tensor([1e3, 0.0, -5.0])
    probes = []
    for z in (codes, codes * factor + offset, torch.cat([codes, torch.full((300, 1), 7.0)], 1)):
        np.random.seed(len(probes))  # noqa: NPY002
        torch.manual_seed(len(probes))
        probes.append(mm.linear_probe(z[parts[0]], labels[parts[0]], z[parts[1]], labels[parts[1]]))
    assert probes[0] == probes[1] == probes[2]


def test_the_penalty_of_a_linear_probe_is_per_datum():
    points = np.random.default_rng(0).normal(size=(100, 3))
    labels = points[:, 0] > 0
    once, twice = _Classifier(), _Classifier()
    for classifier in (once, twice):
        classifier.model.tol = 1e-9
    once.fit(points, labels, 0.1)
    twice.fit(np.tile(points, (2, 1)), np.tile(labels, 2), 0.1)
    np.testing.assert_allclose(twice.model.coef_, once.model.coef_, rtol=1e-4)


def test_codes_without_classes_are_told_at_chance_and_separate_ones_always():
    labels = torch.arange(4).repeat(500)
    chance = mm.linear_probe(torch.randn(2000, 5), labels, torch.randn(2000, 5), labels)
    assert abs(chance.value - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 2000)
    apart = torch.eye(4)[labels] + 0.01 * torch.randn(2000, 4)
    half = slice(0, 1000), slice(1000, None)
    found = mm.linear_probe(apart[half[0]], labels[half[0]], apart[half[1]], labels[half[1]])
    assert found == Estimate.of_share(1.0, 1000)


def test_the_penalty_is_that_of_the_best_held_out_likelihood():
    """The true weights are large, so a strong penalty is worse, if rarely by a label."""
    points = np.random.default_rng(0).normal(size=(400, 2))
    labels = (4 * points[:, 0] + np.random.default_rng(1).logistic(size=400) > 0).astype(int)
    assert _penalty(points, labels) <= 0.01
    # Noise is fitted best by hardly anything.
    noise = np.random.default_rng(2).normal(size=(60, 40))
    assert _penalty(noise, np.arange(60) % 3) == 1.0
    for classes in (2, 3):
        model = _Classifier()
        numbers = np.arange(400) % classes
        model.fit(points, numbers, 0.1)
        expected = np.log(model.model.predict_proba(points))[np.arange(400), numbers].mean()
        assert model.likelihood(points, numbers) == pytest.approx(expected)
        unknown = np.where(np.arange(400) < 300, numbers, 9)
        first = model.likelihood(points[:300], numbers[:300])
        assert model.likelihood(points, unknown) == pytest.approx(first)


def test_a_linear_probe_is_as_good_as_the_best_rule_with_few_codes():
    """By the accuracy of a fifth of them, many strong penalties lost 0.02 to 0.2 of it."""
    centres = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.3, 0.95], [-0.8, 0.6], [-0.8, -0.6]])

    def drawn(count):
        labels = torch.randint(0, 5, (count,))
        return centres[labels] + 0.25 * torch.randn(count, 2), labels

    codes, labels = drawn(20_000)
    best = (torch.cdist(codes, centres).argmin(1) == labels).double().mean()
    found = [mm.linear_probe(*drawn(375), codes, labels).value for _ in range(8)]
    # Of 20,000 codes the best rule's accuracy is known to 0.0015.
    assert min(found) > best - 0.015


@pytest.mark.parametrize(
    ("dimensions", "offset"), [(2, 0.0), pytest.param(4, 1.0, marks=pytest.mark.slow)]
)
def test_the_error_of_leaving_one_out_is_its_scatter(dimensions, offset):
    """That of a proportion is 0.8 times the scatter: neighbours are right together."""
    found = []
    for _ in range(60):
        labels = torch.arange(300) % 2
        codes = torch.randn(300, dimensions)
        codes[:, 0] += offset * (2 * labels - 1)
        found.append(mm.leave_one_out_accuracy(codes, labels))
    scatter = float(np.std([each.value for each in found], ddof=1))
    error = math.sqrt(np.mean([each.standard_error**2 for each in found]))
    # The scatter of 60 values has an error of 9 %.
    assert 0.84 * scatter < error < 1.35 * scatter
    few = mm.leave_one_out_accuracy(codes[:99], labels[:99])
    assert few == Estimate.of_share(few.value, 99)


def test_what_a_probe_cannot_use_is_refused_by_name():
    z, labels = torch.randn(20, 2), torch.arange(20) % 2
    with pytest.raises(ValueError, match="train_labels must have two or more classes"):
        mm.linear_probe(z, 0 * labels, z, labels)
    with pytest.raises(ValueError, match="test must have codes of the size of train"):
        mm.linear_probe(z, labels, z[:, :1], labels)
    with pytest.raises(ValueError, match="train must be finite; 1 row of 20 is not: 3"):
        mm.linear_probe(z.index_fill(0, torch.tensor(3), math.nan), labels, z, labels)
    with pytest.raises(ValueError, match="test must have data"):
        mm.linear_probe(z, labels, z[:0], labels[:0])
    with pytest.raises(ValueError, match="labels must have one label for each of 20 codes"):
        mm.leave_one_out_accuracy(z, labels[1:])
