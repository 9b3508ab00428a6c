"""Arrays are compared bit for bit with those that numpy saved."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tablefiles import message, quick, same, tables

from mimachine._support import memory
from mimachine.data.files.read_table import peek, read_table

# Round trips.


@settings(quick, max_examples=20)
@given(values=tables)
def test_numbers_come_back_from_numpys_files_bit_for_bit(tmp_path, values):
    np.save(tmp_path / "data.npy", values)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(values))
    np.save(tmp_path / "other.npy", values.astype(">f8"))
    np.savez(tmp_path / "data.npz", x=values)
    np.savez_compressed(tmp_path / "small.npz", only=values)
    for name in ("data.npy", "fortran.npy", "other.npy", "data.npz", "small.npz"):
        same(read_table(tmp_path / name).values, values)
        assert peek(tmp_path / name) == (len(values), values.shape[1:])


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(3, 2), (4, 5, 6), (2, 3, 4, 5)])
def test_types_and_shapes_of_arrays_are_those_stored(tmp_path, dtype, shape):
    values = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.save(tmp_path / "data.npy", values)
    np.savez(tmp_path / "data.npz", data=values, target=np.arange(shape[0]))
    same(read_table(tmp_path / "data.npy").values, values)
    same(read_table(tmp_path / "data.npz").values, values)
    assert read_table(tmp_path / "data.npz").labels.tolist() == list(range(shape[0]))
    for name in ("data.npy", "data.npz"):
        assert peek(tmp_path / name) == (shape[0], shape[1:])


def test_large_arrays_stay_on_disk_and_small_ones_do_not(tmp_path, monkeypatch):
    values = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "data.npy", values)
    assert not isinstance(read_table(tmp_path / "data.npy").values, np.memmap)
    monkeypatch.setattr(memory, "MAPPED_SHARE", 0)
    mapped = read_table(tmp_path / "data.npy").values
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    same(mapped, values)


# Archives.


def test_the_array_of_values_is_found_by_its_name_or_its_axes(tmp_path):
    x, names = np.ones((3, 2)), np.array(["p", "q"])
    for stored, chosen, labels in (
        ({"x": x, "y": np.arange(3), "other": x}, "x", "y"),
        ({"X": x, "target": np.arange(3), "names": names}, "X", "target"),
        ({"x": x, "y": np.arange(3)[:, None]}, "x", "y"),
        ({"features": x, "labels": np.arange(3), "names": names}, "features", "labels"),
    ):
        np.savez(tmp_path / "data.npz", **stored)
        table = read_table(tmp_path / "data.npz")
        same(table.values, x)
        assert (None if table.labels is None else table.labels.tolist()) == (
            None if labels is None else [0, 1, 2]
        )
        expected = (f"values: array {chosen!r}",)
        expected += () if labels is None else (f"labels: array {labels!r}",)
        assert table.notes == expected


def test_labels_that_do_not_go_with_the_rows_are_named_and_not_used(tmp_path):
    np.savez(tmp_path / "data.npz", data=np.ones((3, 2)), y=np.arange(2))
    table = read_table(tmp_path / "data.npz")
    assert table.labels is None
    assert "array 'y' of shape (2,) is not one label per row" in table.notes[-1]


def test_arrays_are_chosen_by_name(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, train=np.ones((3, 2)), test=np.zeros((2, 2)), kinds=np.arange(3))
    text = message(path)
    assert "train (3, 2), test (2, 2), kinds (3,)" in text
    assert 'choose one with array="NAME"' in text
    table = read_table(path, array="train", labels="kinds")
    assert table.values.sum() == 6
    assert table.labels.tolist() == [0, 1, 2]
    assert peek(path, array="test") == (2, (2,))
    assert "did you mean 'train'?" in message(path, array="trian")
    assert "did you mean 'kinds'?" in message(path, array="train", labels="kind")


# Unusable files.


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("values", "part"),
    [
        (np.array([["a", "b"]]), "got the type <U1"),
        (np.array([[None, 1]], dtype=object), "got the type object"),
        (np.ones((2, 2), dtype=complex), "got the type complex128"),
        (np.ones((2, 2), dtype=[("a", "f8")]), "got the type [('a', '<f8')]"),
        (np.ones((2, 2), dtype="M8[s]"), "got the type datetime64"),
        (np.ones(150), "must have rows and columns, got one axis, (150,)"),
        (np.array(1.0), "must have rows of values, got the shape ()"),
        (np.ones((0, 4)), "must have rows of values, got the shape (0, 4)"),
        (np.ones((4, 0)), "must have rows of values, got the shape (4, 0)"),
    ],
)
def test_arrays_that_are_no_rows_of_numbers_are_refused(tmp_path, suffix, values, part):
    path = tmp_path / f"data.{suffix}"
    np.save(path, values) if suffix == "npy" else np.savez(path, x=values)
    assert part in message(path)
    assert f"data.{suffix}" in message(path)
    with pytest.raises(ValueError, match=rf"data\.{suffix}"):
        peek(path)


@quick
@given(cut=st.integers(0, 10_000))
def test_an_array_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path, cut):
    for name, written in (("data.npy", np.save), ("data.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        written(buffer, np.random.default_rng(0).normal(size=(20, 3)))
        content = buffer.getvalue()
        (tmp_path / name).write_bytes(content[: cut % len(content)])
        assert name in message(tmp_path / name)


def test_a_pickle_is_not_loaded(tmp_path):
    (tmp_path / "data.npy").write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    assert "data.npy is not an array saved by numpy.save" in message(tmp_path / "data.npy")
    (tmp_path / "data.npz").write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    assert "data.npz is damaged, or its suffix does not match its format" in message(
        tmp_path / "data.npz"
    )


@settings(quick, max_examples=60)
@given(data=st.data(), name=st.sampled_from(["data.npy", "data.npz"]))
def test_damaged_arrays_are_read_or_refused(tmp_path, data, name):
    path = tmp_path / name
    values = np.arange(24.0).reshape(6, 4)
    (np.save if name == "data.npy" else np.savez_compressed)(path, values)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    # A damaged zip directory can cause an OSError.
    with contextlib.suppress(ValueError, OSError):
        assert read_table(path).values.shape[1:] == peek(path)[1]
