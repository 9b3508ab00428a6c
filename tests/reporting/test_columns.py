from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from torch import nn

from mimachine.data.dataset import Dataset
from mimachine.data.learn_preprocessing import learn
from mimachine.data.rows import Rows
from mimachine.model.conditionals import Gaussian
from mimachine.model.joint import Joint
from mimachine.model.priors import StandardNormal
from mimachine.reporting import columns, explained


def dataset(test, train=None, **more):
    test = torch.as_tensor(test, dtype=torch.float32)
    return Dataset("any", test if train is None else train, test, test, **more)


def linear_model(features, latent):
    """Random weights, so that R² depends on them and is far from 0 and 1."""
    encoder = Gaussian(nn.Linear(features, 2 * latent))
    return Joint(encoder, Gaussian(nn.Linear(latent, 2 * features)), StandardNormal(latent))


def from_file(values, **more):
    """Data as read from a file of values (N, *S)."""
    learned, _ = learn(values, np.ones(len(values), dtype=bool), **more)
    return dataset(learned.apply(values), preprocessing=learned, image_shape=learned.image_shape)


def test_explained_variance_is_that_of_an_independent_implementation():
    x = torch.randn(50, 5) @ torch.randn(5, 5)
    model = linear_model(5, 2)
    with torch.no_grad():
        restored = model.decoder(model.encoder(x).mean).mean
    found = explained.explained(model, dataset(x))
    expected = r2_score(x.numpy(), restored.numpy(), multioutput="raw_values")
    # The model computes in float32, 7 digits.
    assert found.shares == pytest.approx(expected, abs=1e-5)
    weighted = r2_score(x.numpy(), restored.numpy(), multioutput="variance_weighted")
    assert found.total == pytest.approx(weighted, abs=1e-5)


def test_blocks_make_no_difference(monkeypatch):
    data, model = dataset(torch.randn(50, 3)), linear_model(3, 2)
    whole = explained.explained(model, data).shares
    monkeypatch.setattr(explained, "rows_at_once", lambda shape: 7)
    assert explained.explained(model, data).shares == pytest.approx(whole, abs=1e-5)


def test_constant_columns_have_no_share_and_do_not_affect_the_total():
    found = explained.Explained(np.array([0.5, 0.5]), np.array([2.0, 0.0]))
    assert found.shares[0] == 0.75
    assert np.isnan(found.shares[1])
    assert found.total == 0.5
    assert np.isnan(explained.Explained(np.zeros(1), np.zeros(1)).total)


@pytest.mark.parametrize("dimensions", [1, 3, 6, 9])
def test_pca_explains_the_largest_eigenvalues(dimensions):
    x = torch.randn(300, 6) @ torch.randn(6, 6)
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T.double().numpy()))[::-1]
    kept = eigenvalues[:dimensions].sum() / eigenvalues.sum()
    assert explained.linear(dataset(x), dimensions).total == pytest.approx(kept, abs=1e-6)


def test_at_most_two_thousand_rows_of_a_file_are_read():
    values = np.random.default_rng(0).normal(size=(2500, 3))
    data = from_file(values)
    seen = []

    class Watched(Rows):
        def __getitem__(self, index):
            block = super().__getitem__(index)
            seen.append(len(block))
            return block

    rows = Watched(values, np.arange(2500), data.preprocessing)
    whole = explained.linear(data, 2).total
    assert explained.linear(replace(data, train=rows), 2).total == pytest.approx(whole, abs=1e-6)
    assert seen == [2000]


def test_rows_are_chosen_from_all_over_and_in_order():
    assert columns.chosen(5, 5).tolist() == [0, 1, 2, 3, 4]
    some = columns.chosen(10_000, 1000)
    assert len(np.unique(some)) == 1000
    assert (np.diff(some) > 0).all()
    # A tenth of any tenth, within five standard errors of a hypergeometric draw.
    counts = np.histogram(some, 10, (0, 10_000))[0]
    assert np.abs(counts - 100).max() < 5 * np.sqrt(100 * 0.9 * 0.9)


def test_columns_are_named_as_in_their_file():
    values = np.random.default_rng(0).normal(size=(20, 4))
    values[:, 1] = 7.0
    assert columns.names(from_file(values, columns=("a", "b", "c", "d"))) == ["a", "c", "d"]
    assert columns.names(from_file(values)) == ["x1", "x3", "x4"]
    assert columns.names(dataset(values)) == ["x1", "x2", "x3", "x4"]


def test_columns_of_data_with_more_axes_are_named_by_their_indices():
    values = np.random.default_rng(0).normal(size=(20, 2, 3))
    values[:, 0, 1] = 0.0
    data = from_file(values)
    assert data.image_shape is None
    assert columns.names(data) == ["x(1, 1)", "x(1, 3)", "x(2, 1)", "x(2, 2)", "x(2, 3)"]


@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_values_are_those_of_the_file(shape):
    values = 1000 + 50 * np.random.default_rng(0).normal(size=(20, *shape))
    values.reshape(20, -1)[:, 2] = -1.0
    data = from_file(values)
    expected = np.delete(values.reshape(20, -1), 2, axis=1)
    # Rows are in float32, in units of a standard deviation.
    assert columns.values(data.test, data) == pytest.approx(expected, abs=50 * 1e-6)
    plain = dataset(torch.rand(5, 2))
    assert np.array_equal(columns.values(plain.test, plain), plain.test.numpy())


@pytest.mark.parametrize("step", [1.0, 0.1, 5.0])
@pytest.mark.parametrize("places", [2, 7, 39, 150, 100_000])
@pytest.mark.parametrize("count", [10, 1000])
def test_bins_of_a_grid_contain_equally_many_grid_points(step, places, count):
    rng = np.random.default_rng(0)
    column = 3.0 + step * rng.integers(0, places, count)
    samples = column.mean() + column.std() * rng.normal(size=500)
    edges = columns.edges(column, samples, step)
    widths = np.diff(edges) / step
    assert widths == pytest.approx(np.full(len(widths), round(widths[0])), abs=1e-6)
    # Grid points are half a step from any edge, so that rounding moves none of them.
    offsets = (edges - 3.0) / step
    assert offsets - np.floor(offsets) == pytest.approx(np.full(len(edges), 0.5), abs=1e-6)
    # Margins for samples are as wide as the data at most.
    assert 1 <= len(widths) <= 2 * 40 + 2
    low, high = np.quantile(column, (0.005, 0.995))
    assert edges[0] <= low
    assert high <= edges[-1]
    if np.ptp(column) <= 40 * step:
        assert np.histogram(column, edges)[0].sum() == count


def test_continuous_columns_have_more_bins_with_more_rows():
    rng = np.random.default_rng(0)
    counts = {
        n: len(columns.edges(rng.normal(size=n), np.zeros(0), 0.0)) - 1 for n in (5, 200, 9000)
    }
    assert counts == {5: 8, 200: 11, 9000: 40}


@pytest.mark.parametrize("samples", [[], [np.nan], [np.inf, -np.inf], [1e30, -1e30], [2.0]])
@pytest.mark.parametrize("column", [[2.0], [2.0, 2.0], [1.0, 2.0, 4.0]])
@pytest.mark.parametrize("step", [0.0, 1.0])
def test_outlying_samples_leave_the_data_visible(samples, column, step):
    column = np.array(column)
    edges = columns.edges(column, np.array(samples), step)
    assert np.isfinite(edges).all()
    assert (np.diff(edges) > 0).all()
    # The data have at least half of the width: half their range is added on either side.
    assert edges[-1] - edges[0] <= 2 * max(np.ptp(column), 1.0) + 2 * step
