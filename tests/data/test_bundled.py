import math

import pytest
import torch
from oracles import within_standard_errors

from mimachine.data import bundled, catalogue


def test_digits_are_those_of_scikit_learn_in_stratified_splits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = bundled.digits()
    images, labels = load_digits(return_X_y=True)
    rest, test = train_test_split(range(1797), test_size=360, random_state=0, stratify=labels)
    train, val = train_test_split(rest, test_size=180, random_state=0, stratify=labels[rest])
    for name, rows in (("train", train), ("val", val), ("test", test)):
        x, y = getattr(data, name), getattr(data, f"{name}_labels")
        assert torch.equal(x, torch.as_tensor(images[rows] / 16, dtype=torch.float32))
        assert torch.equal(y, torch.as_tensor(labels[rows], dtype=torch.long))


def data_steps(data):
    return data.levels - 1


def test_digits_lie_on_their_grid():
    data = bundled.digits()
    steps = data.train * data_steps(data)
    assert torch.equal(steps, steps.round())
    assert (float(data.train.min()), float(data.train.max())) == (0.0, 1.0)


@pytest.mark.parametrize("name", ["digits", "mixture-2d", "mixture-20d"])
def test_splits_are_the_same_each_time_and_leave_the_global_generator_alone(name):
    before = torch.get_rng_state()
    first, second = catalogue.load(name), catalogue.load(name)
    assert torch.equal(before, torch.get_rng_state())
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(first, split), getattr(second, split))


def test_the_mixture_has_the_published_entropy_and_bayes_accuracy():
    data = bundled.mixture_2d(100_000)
    log_density = data.distribution.log_prob(data.test)
    error = float(log_density.std()) / math.sqrt(len(log_density))
    # H(P(x)) = 1.557 nats, given to three decimals.
    assert abs(-float(log_density.mean()) - 1.557) < 5 * error + 5e-4
    per_component = data.distribution.components.log_prob(data.test[:, None])
    accuracy = float((per_component.argmax(1) == data.test_labels).double().mean())
    assert accuracy == pytest.approx(0.957, abs=5 * math.sqrt(0.957 * 0.043 / 1e5) + 5e-4)


def test_the_mixture_lies_at_the_origin_and_at_four_of_five_corners_of_the_unit_pentagon():
    means = bundled.mixture_2d(10).distribution.components.loc
    assert torch.equal(means[0], torch.zeros(2))
    angles = torch.rad2deg(torch.atan2(means[1:, 1], means[1:, 0])) % 360
    torch.testing.assert_close(angles, torch.tensor([0.0, 72.0, 144.0, 216.0]))
    torch.testing.assert_close(means[1:].norm(dim=1), torch.ones(4))


def test_the_mixture_in_20_dimensions_has_the_entropy_of_components_that_do_not_overlap():
    data = bundled.mixture_20d(100_000)
    # H(P(x)) = log 5 + 20 · log(0.25 √(2πe)) nats, 2.262 as published.
    entropy = math.log(5) + 20 * (math.log(0.25) + 0.5 * math.log(2 * math.pi * math.e))
    assert entropy == pytest.approx(2.262, abs=5e-4)
    within_standard_errors(-data.distribution.log_prob(data.test).double(), entropy)
    per_component = data.distribution.components.log_prob(data.test[:, None])
    assert torch.equal(per_component.argmax(1), data.test_labels)


def test_the_mixture_in_20_dimensions_goes_on_where_the_planar_one_ends():
    planar = bundled.mixture_2d(10).distribution.components.loc
    means = bundled.mixture_20d(10).distribution.components.loc
    assert torch.equal(means[:, :2], planar)
    # Entry j of 100 evenly spaced numbers is -50 + 100 j / 99.
    expected = [[-50 + 100 * (20 * i + j) / 99 for j in range(2, 20)] for i in range(5)]
    torch.testing.assert_close(means[:, 2:], torch.tensor(expected))


def test_an_unknown_name_is_refused_and_the_nearest_suggested():
    with pytest.raises(ValueError, match=r"one of .*; got 'digit'; did you mean 'digits'"):
        catalogue.load("digit")
    with pytest.raises(ValueError, match=r"got 'xyz'$"):
        catalogue.load("xyz")
