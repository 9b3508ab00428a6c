import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimachine import memory, preprocessing
from mimachine.preprocessing import Preprocessing, fingerprint, learn


def everything(values):
    return np.ones(len(values), dtype=bool)


def learned(values, likelihood="auto", train=None, **options):
    return learn(values, everything(values) if train is None else train, likelihood, **options)[0]


def columns(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 3)) * [1.0, 1e4, 1e-3] + [0.0, 1e6, 5.0]


def test_training_rows_have_mean_zero_and_deviation_one_and_others_the_same_map():
    values = columns()
    train = np.arange(200) % 3 > 0
    rows = learned(values, train=train).apply(values)
    expected = (values - values[train].mean(0)) / values[train].std(0)
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_mean_and_deviation_do_not_depend_on_the_blocks_they_are_taken_in(block, monkeypatch):
    values = columns() + 1e9  # A one-pass sum of squares would lose all digits here.
    monkeypatch.setattr(preprocessing, "_BLOCK_VALUES", block)
    found = learned(values)
    exact = (values - values[0]).std(0)
    np.testing.assert_allclose(found.scale, exact, rtol=1e-12)
    np.testing.assert_allclose(found.shift, values.mean(0), rtol=1e-12)


shapes = st.sampled_from([(4,), (2, 3), (5, 4, 3), (3, 5, 4), (1,)])


@settings(max_examples=40, deadline=None)
@given(
    shape=shapes,
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([np.uint8, np.float32, np.float64, bool]),
)
def test_restore_undoes_apply_also_after_json(shape, seed, dtype):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, (20, *shape)).astype(np.uint8)
    if dtype is bool:
        values = values > 100
    elif dtype is not np.uint8:
        values = (rng.normal(size=values.shape) * 3 + 7).astype(dtype)
    found = learned(values)
    again = Preprocessing.from_json(json.loads(json.dumps(found.to_json())))
    rows = again.apply(values)
    np.testing.assert_array_equal(rows, found.apply(values))
    assert rows.shape == (20, math.prod(shape))
    assert rows.dtype == np.float32
    np.testing.assert_allclose(again.restore(rows), values, rtol=1e-5, atol=1e-4)


def test_a_constant_column_is_left_out_said_aloud_and_put_back():
    values = np.column_stack([columns(), np.full(200, 42.0)])
    found, notes = learn(values, everything(values), columns=("a", "b", "c", "answer"))
    assert any("warning" in note and "'answer'" in note for note in notes)
    assert found.apply(values).shape == (200, 3)
    assert (found.restore(found.apply(values))[:, 3] == 42).all()


def test_a_column_that_varies_only_outside_training_is_constant():
    values = columns()
    train = np.arange(200) < 100
    values[train, 0] = 3.0
    assert learned(values, train=train).num_features == 2


def test_data_that_do_not_vary_are_refused():
    with pytest.raises(ValueError, match=r"x\.csv has no column that varies"):
        learn(np.full((20, 2), 5.0), np.ones(20, dtype=bool), source="x.csv")


@pytest.mark.parametrize(
    ("values", "likelihood", "levels"),
    [
        (np.tile([0.0, 1.0], (9, 2)), "bernoulli", 2),
        (np.tile([True, False], (9, 2)), "bernoulli", 2),
        (np.tile(np.arange(17) / 16, (9, 1)), "discretized-logistic", 17),
        (np.tile(np.arange(16) / 15, (9, 1)).astype(np.float32), "discretized-logistic", 16),
        (np.tile(np.arange(256) / 255, (9, 1)).astype(np.float32), "discretized-logistic", 256),
        (np.tile(np.arange(256), (9, 1)).astype(np.uint8), "discretized-logistic", 256),
        (np.tile(np.arange(256).reshape(16, 16), (9, 1, 1)), "discretized-logistic", 256),
        (np.tile(np.arange(256), (9, 1)) + np.eye(9, 256), "gaussian", None),
        (np.linspace(0, 1, 99).reshape(9, 11), "gaussian", None),
        (np.linspace(-1, 1, 99).reshape(9, 11), "gaussian", None),
        (np.tile([0.0, 1.0, 2.0], (9, 1)) + np.eye(9, 3), "gaussian", None),
    ],
)
def test_the_likelihood_follows_from_the_values(values, likelihood, levels):
    found, notes = learn(values, everything(values))
    assert (found.likelihood, found.levels) == (likelihood, levels)
    assert notes[0].startswith(f"likelihood: {likelihood}, for ")
    if levels is not None:
        assert found.apply(values).min() >= 0
        assert found.apply(values).max() <= 1


def test_pixels_without_a_shape_are_hinted_at_and_can_be_asked_for():
    values = np.random.default_rng(0).integers(0, 256, (50, 64)).astype(np.float64)
    _, notes = learn(values, everything(values))
    assert any("--model.likelihood discretized-logistic" in note for note in notes)
    found = learned(values, "discretized-logistic")
    np.testing.assert_allclose(found.apply(values), values / 255, rtol=1e-6)


@pytest.mark.parametrize("asked", ["bernoulli", "discretized-logistic"])
def test_values_that_do_not_fit_a_likelihood_are_refused_with_their_range(asked):
    values = np.linspace(-3, 5, 60).reshape(20, 3)
    with pytest.raises(ValueError, match=rf'"{asked}" needs .*in x\.npy values are in \[-3, 5\]'):
        learn(values, everything(values), asked, source="x.npy")


def test_the_floor_is_the_grid_over_root_twelve_or_a_thousandth_of_the_deviation():
    rng = np.random.default_rng(0)
    smooth, halves, fine = rng.normal(size=(3, 5000))
    values = np.column_stack([smooth, np.round(2 * halves) / 2, np.round(fine, 4)])
    found = learned(values)
    floor = found.floor * found.scale
    expected = [1e-3 * values[:, 0].std(), 0.5 / math.sqrt(12), 1e-3 * values[:, 2].std()]
    np.testing.assert_allclose(floor, expected, rtol=1e-9)


def test_the_log_volume_is_what_a_density_changes_by():
    # log N(x; mean, std²) of a column at its own mean: -log std more than that of a row at 0.
    values = columns()
    found = learned(values)
    rows_density = -0.5 * 3 * math.log(2 * math.pi)
    density = sum(-0.5 * math.log(2 * math.pi * s**2) for s in values.std(0))
    assert rows_density - found.log_volume == pytest.approx(density)
    assert learned(columns(), standardize=False).log_volume == 0
    assert learned(np.tile(np.arange(17) / 16, (9, 1))).log_volume == 0


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [((5, 4), (1, 5, 4)), ((5, 4, 3), (3, 5, 4)), ((3, 5, 4), (3, 5, 4)), ((60,), None)],
)
def test_images_are_rows_of_channels_first(shape, image_shape):
    values = np.random.default_rng(0).integers(0, 256, (30, *shape)).astype(np.uint8)
    found = learned(values)
    assert found.image_shape == image_shape
    if shape == (5, 4, 3):
        rows = found.apply(values).reshape(30, 3, 5, 4)
        np.testing.assert_allclose(rows[:, 1], values[..., 1] / 255, rtol=1e-6)


def test_later_data_of_another_shape_are_refused():
    found = learned(columns())
    with pytest.raises(ValueError, match=r"rows of shape \(3,\).*got \(4,\)"):
        found.apply(np.zeros((5, 4)))


def test_a_damaged_record_is_refused():
    with pytest.raises(ValueError, match="preprocessing cannot be read"):
        Preprocessing.from_json({"shape": [3]})


def test_the_fingerprint_sees_any_of_few_rows_and_ignores_the_type_of_numbers():
    values = np.arange(60.0).reshape(20, 3)
    mark = fingerprint(values)
    assert fingerprint(values.astype(np.float32)) == mark
    for row in range(20):
        changed = values.copy()
        changed[row, 1] += 1
        assert fingerprint(changed) != mark
    assert fingerprint(values[:, [1, 0, 2]]) != mark
    assert fingerprint(values.reshape(20, 3, 1)) != mark


def test_a_mapped_array_is_the_same_after_its_memory_was_given_back(tmp_path):
    values = np.arange(1 << 16).reshape(-1, 64)
    np.save(tmp_path / "x.npy", values)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert mapped.sum() == values.sum()
    memory.release(mapped[3:])
    np.testing.assert_array_equal(mapped, values)
    memory.release(values)


def test_this_machine_has_memory_and_a_share_of_it_is_little():
    assert memory.available() > 1 << 28
    assert memory.stays_on_disk(memory.available())
    assert not memory.stays_on_disk(1000)
