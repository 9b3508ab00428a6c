"""Walks between codes, and nearest codes."""

import numpy as np
import pytest
import torch
from peopleframe import people
from sklearn.neighbors import NearestNeighbors

import mimachine as mm
from mimachine import workflow

X = np.random.default_rng(0).normal(size=(60, 4))


@pytest.fixture(scope="module")
def encoder():
    return mm.MIMEncoder(2, max_epochs=3, random_state=0).fit(X)


@pytest.fixture(scope="module")
def of_table():
    return mm.MIMEncoder(3, max_epochs=3, random_state=0).fit(people())


def test_a_linear_decoder_walks_on_straight_lines():
    model = mm.probabilistic_pca(torch.randn(50, 4), 2)
    start, end = torch.randn(3, 4), torch.randn(3, 4)
    path = mm.interpolate(model, start, end, steps=5).unflatten(0, (3, 5))
    torch.testing.assert_close(path[:, 2], (path[:, 0] + path[:, 4]) / 2)
    torch.testing.assert_close(path[:, 1], 0.75 * path[:, 0] + 0.25 * path[:, 4])


def test_a_walk_begins_and_ends_at_the_reconstructions(encoder):
    path = mm.interpolate(encoder, X[:2], X[2:4], steps=3)
    back = encoder.inverse_transform(encoder.transform(X))
    np.testing.assert_allclose(path[[0, 3, 2, 5]], back[[0, 1, 2, 3]], rtol=0, atol=1e-9)


def test_walks_of_tables_have_rows_of_tables(of_table):
    table = people()
    path = mm.interpolate(of_table, table[:1], table[1:2], steps=4)
    assert path.shape[0] == 4
    assert set(path["city"]) <= {"Lyon", "Paris", "Nice"}


def test_neighbours_are_those_of_the_codes(encoder):
    places, distances = mm.neighbors(encoder, X[:7], X, n_neighbors=4)
    codes = encoder.transform(X)
    expected = NearestNeighbors(n_neighbors=4).fit(codes).kneighbors(codes[:7])
    np.testing.assert_array_equal(places, expected[1])
    np.testing.assert_allclose(distances, expected[0], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(places[:, 0], np.arange(7))


def test_runs_and_models_do_as_well(encoder, tmp_path):
    encoder.save(tmp_path / "run", X)
    trained = mm.load(tmp_path / "run")
    expected = mm.interpolate(encoder, X[:1], X[1:2])
    np.testing.assert_array_equal(mm.interpolate(trained, X[:1], X[1:2]), expected)
    # The run's own model stays in single precision.
    assert next(trained.model.parameters()).dtype == torch.float32
    rows = encoder.rows(X)
    places, _ = mm.neighbors(encoder.model_, rows[:3], rows, 2)
    np.testing.assert_array_equal(places, mm.neighbors(trained, X[:3], X, 2)[0])


def test_a_run_on_a_named_data_set_is_used_by_its_model(tmp_path, few_trees):
    settings = mm.Experiment(training=mm.Training(1, warmup=0), num_samples=2)
    trained, _, _ = workflow.train(settings, tmp_path / "run")
    with pytest.raises(ValueError, match="use its model"):
        mm.interpolate(trained, trained.data.test[:1], trained.data.test[1:2])
    assert mm.interpolate(trained.model, trained.data.test[:1], trained.data.test[1:2]).shape == (
        9,
        64,
    )


def test_wrong_arguments_are_named(encoder):
    with pytest.raises(ValueError, match="steps"):
        mm.interpolate(encoder, X[:1], X[1:2], steps=1)
    with pytest.raises(ValueError, match="start and end"):
        mm.interpolate(encoder, X[:1], X[1:3])
    with pytest.raises(ValueError, match="n_neighbors must be at most 60"):
        mm.neighbors(encoder, X, X, n_neighbors=61)
    with pytest.raises((TypeError, ValueError), match="model"):
        mm.neighbors("encoder", X, X)
    with pytest.raises(ValueError, match="features"):
        mm.neighbors(encoder, X[:, :2], X)
