import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimachine._support import memory
from mimachine.data.learn_preprocessing import learn
from mimachine.data.preprocessing import Preprocessing, fingerprint


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
    monkeypatch.setattr(memory, "_VALUES_AT_ONCE", block)
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


def test_a_constant_column_is_left_out_with_a_warning_and_restored():
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
    assert notes[0].startswith(f"likelihood: {likelihood}, because ")
    if levels is not None:
        assert found.apply(values).min() >= 0
        assert found.apply(values).max() <= 1


def test_pixels_without_a_shape_are_hinted_at_and_can_be_asked_for():
    values = np.random.default_rng(0).integers(0, 256, (50, 64)).astype(np.float64)
    _, notes = learn(values, everything(values))
    assert any("the likelihood discretized-logistic fits" in note for note in notes)
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


def test_the_floor_of_a_rare_flag_stays_below_its_deviation():
    values = np.column_stack([np.arange(200) % 50 == 0, np.linspace(0, 1, 200) ** 2]) * 1.0
    values = np.column_stack([values, np.where(np.arange(200) == 7, 1000.0, 0.0)])
    found = learned(values)
    np.testing.assert_allclose(found.floor[[0, 2]], 0.5)


def test_tenths_are_a_grid_whatever_rounding_makes_of_them():
    whole = np.random.default_rng(0).integers(0, 50, 400)
    values = np.where(np.arange(400) % 2, whole * 0.1, np.round(whole / 10, 1))[:, None]
    values = np.hstack([values, np.random.default_rng(1).normal(size=(400, 1))])
    found = learned(values)
    assert found.floor[0] * found.scale[0] == pytest.approx(0.1 / math.sqrt(12), rel=1e-6)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.arange(200.0) * 1e-300, "column 2 of x varies too little for float64 .* rescale it"),
        (np.arange(200.0) * 1e300, "column 2 of x varies too much for float64 .* rescale it"),
        (np.full(200, 5.0), None),
    ],
)
def test_columns_that_floats_cannot_square_are_refused_by_name(column, message):
    values = np.column_stack([columns()[:, 0], column])
    if message is None:
        assert learned(values).num_features == 1
        return
    with pytest.raises(ValueError, match=message):
        learned(values, source="x")


def test_what_is_not_standardised_must_fit_single_precision():
    values = 1e9 + np.random.default_rng(0).normal(size=(50, 2))
    learned(values)
    with pytest.raises(ValueError, match=r"varies too little for float32 .*, or standardise it"):
        learned(values, standardize=False)


def test_later_values_that_single_precision_cannot_hold_are_refused():
    found = learned(columns())
    with pytest.raises(ValueError, match="value 3 in row 2"):
        found.apply(np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1e300]]))


def test_data_and_samples_come_back_on_their_grid():
    values = np.tile(np.arange(256), (9, 1)).astype(np.uint8)
    found = learned(values)
    np.testing.assert_array_equal(found.restore(found.apply(values), drawn=True), values)


def test_the_log_volume_is_what_a_density_changes_by():
    # log N(x; mean, std²) of a column at its mean exceeds that of a row at 0 by -log std.
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


def test_the_fingerprint_sees_every_value_and_label_but_not_how_they_are_stored():
    values, labels = np.arange(6000.0).reshape(2000, 3), np.arange(2000) % 5
    mark = fingerprint(values, labels)
    assert fingerprint(np.asfortranarray(values), labels) == mark
    assert fingerprint(values.astype(">f8"), labels) == mark
    for row in (0, 1, 777, 1999):
        changed, other = values.copy(), labels.copy()
        changed[row, 1] += 1
        other[row] += 1
        assert fingerprint(changed, labels) != mark
        assert fingerprint(values, other) != mark
    assert fingerprint(values[:, [1, 0, 2]], labels) != mark
    assert fingerprint(values.reshape(2000, 3, 1), labels) != mark
    assert fingerprint(values) != mark


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
