import gzip
import hashlib
import io
import itertools
import math
import struct
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from localdata import HERE
from scipy.io import savemat

from mimachine.data import image_sets
from mimachine.data.dataset import Dataset
from mimachine.data.downloads import FILES, DataFile, read_files
from mimachine.data.image_sets import area_average, read_idx

SPLITS = ("train", "val", "test")


def idx(array):
    """An array of bytes in the IDX format."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def written(folder, contents, compressed=()):
    """Write files to a folder; returns their registry entries."""
    files = []
    for name, content in contents.items():
        if name in compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
        files.append(DataFile("things", name, f"sha256:{hashlib.sha256(content).hexdigest()}"))
    return files


def splits(data):
    return [getattr(data, name) for name in SPLITS]


def labels(data):
    return [getattr(data, f"{name}_labels") for name in SPLITS]


def assert_equal(first, second):
    for a, b in zip(splits(first) + labels(first), splits(second) + labels(second), strict=True):
        assert torch.equal(a, b)


def noise(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.binary(min_size=64, max_size=64))
def test_what_is_written_as_idx_is_read_again(shape, values):
    array = np.frombuffer(values[: math.prod(shape)], np.uint8).reshape(shape)
    read = read_idx(idx(array), tuple(shape), "values")
    assert read.dtype == np.uint8
    assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"\x1f\x8b\x08\x00" + bytes(40), "begins with 00000803, got 1f8b0800"),
        (idx(noise(2)), "begins with 00000803, got 00000801"),
        (b"\0\0\x0d" + idx(noise(2, 3, 4))[3:], "unsigned bytes.*got 00000d03"),
        (idx(noise(2, 3, 4))[:15], "truncated within its header of 16 bytes"),
        (idx(noise(2, 4, 3)), r"values must have shape \(2, 3, 4\), got \(2, 4, 3\)"),
        (idx(noise(2, 3, 4))[:-1], "must hold 24 values, got 23"),
        (idx(noise(2, 3, 4)) + b"\0", "must hold 24 values, got 25"),
    ],
)
def test_idx_of_another_kind_shape_or_length_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read_idx(content, (2, 3, 4), "values")


def idx_contents():
    return {
        "images": noise(5, 3, 4),
        "labels": np.array([3, 1, 4, 1, 5], dtype=np.uint8),
        "test-images": 255 - noise(2, 3, 4),
        "test-labels": np.array([9, 2], dtype=np.uint8),
    }


def from_idx(folder, files, sizes=(3, 2, 2)):
    return image_sets._from_idx("things", files, folder, sizes, (3, 4))


def test_rows_are_the_images_in_order_with_their_labels(tmp_path):
    arrays = idx_contents()
    contents = {name: idx(array) for name, array in arrays.items()}
    files = written(tmp_path, contents, compressed=("images", "test-labels"))
    data = from_idx(tmp_path, files)
    assert (data.name, data.image_shape, data.levels) == ("things", (1, 3, 4), 256)
    images = torch.tensor(arrays["images"]).reshape(5, 12)
    expected = [images[:3], images[3:], torch.tensor(arrays["test-images"]).reshape(2, 12)]
    for split, pixels in zip(splits(data), expected, strict=True):
        assert split.dtype == torch.float32
        assert torch.equal(split, pixels.float() / 255)
    assert [split.tolist() for split in labels(data)] == [[3, 1, 4], [1, 5], [9, 2]]
    assert all(split.dtype == torch.long for split in labels(data))


def test_files_that_do_not_fit_together_are_refused(tmp_path):
    contents = {name: idx(array) for name, array in idx_contents().items()}
    contents["labels"] = idx(np.zeros(4, dtype=np.uint8))
    files = written(tmp_path, contents)
    with pytest.raises(ValueError, match=r"labels must have shape \(5,\), got \(4,\)"):
        from_idx(tmp_path, files)


def test_other_content_than_registered_never_becomes_a_data_set(tmp_path):
    files = written(tmp_path, {name: idx(array) for name, array in idx_contents().items()})
    (tmp_path / "labels").write_bytes(idx(np.zeros(5, dtype=np.uint8)))
    with pytest.raises(ValueError, match="is not labels of things: expected sha256"):
        from_idx(tmp_path, files)


def mat_variables():
    """Seven drawings of three characters and three for testing, in the layout of chardata.mat."""
    alphabets = np.array([1, 0, 0, 1, 0, 1, 0]), np.array([0, 1, 0])
    return {
        "data": noise(784, 7) / 255,
        "target": np.eye(2)[:, alphabets[0]],
        "targetchar": np.array([[1, 1, 2, 1, 2, 1, 1]], dtype=np.uint8),
        "testdata": 1 - noise(784, 3) / 255,
        "testtarget": np.eye(2)[:, alphabets[1]],
        "testtargetchar": np.array([[2, 1, 1]], dtype=np.uint8),
    }


def from_mat(folder, variables):
    buffer = io.BytesIO()
    savemat(buffer, variables)
    (file,) = written(folder, {"chardata.mat": buffer.getvalue()})
    return image_sets._from_mat("omniglot", file, folder, (4, 3, 3))


def test_characters_keep_their_labels_and_stand_upright(tmp_path):
    variables = mat_variables()
    data = from_mat(tmp_path, variables)
    assert (data.image_shape, data.levels) == ((1, 28, 28), 256)

    # What the authors' loader does with the pixels and their order.
    def upright(columns):
        flat = columns.T.reshape((-1, 28, 28)).reshape((-1, 784), order="F")
        return torch.tensor(np.rint(flat * 255)).float() / 255

    order = np.random.RandomState(123).permutation(7)
    rest, test = upright(variables["data"])[order], upright(variables["testdata"])
    for split, expected in zip(splits(data), [rest[:4], rest[4:], test], strict=True):
        assert torch.equal(split, expected)
    # (alphabet, character) is (1, 1), (0, 1), (0, 2), ...: classes 2, 0, 1, ...
    classes = np.array([2, 0, 1, 2, 1, 2, 0])[order]
    assert [y.tolist() for y in labels(data)] == [
        classes[:4].tolist(),
        classes[4:].tolist(),
        [1, 2, 0],
    ]


def test_a_stroke_down_the_page_is_one_in_the_rows(tmp_path):
    variables = mat_variables()
    stroke = np.zeros((28, 28))
    stroke[:, 5] = 1
    variables["testdata"][:, 1] = stroke.reshape(-1, order="F")
    image = from_mat(tmp_path, variables).test[1].reshape(28, 28)
    assert torch.equal(image, torch.tensor(stroke).float())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("testtarget", lambda _: None, r"must have the variables .*lacks \['testtarget'\]"),
        ("data", lambda v: v[:, :-1], r"data of chardata.mat must be \(784, 7\), got \(784, 6\)"),
        ("data", lambda v: v.T, r"data .* must be \(784, 7\), got \(7, 784\)"),
        ("testdata", lambda v: v * 255, r"testdata .* must be in \[0, 1\], got \[0"),
        ("data", lambda v: v * np.nan, r"must be in \[0, 1\], got \[nan"),
        ("target", lambda v: v * 0, "target .* must have one 1 in each of 7 columns"),
        ("testtarget", lambda v: v[:, 1:], "testtarget .* must have one 1 in each of 3 columns"),
        ("targetchar", lambda v: v[:, 1:], "targetchar .* must have 7 values, got 6"),
    ],
)
def test_a_mat_file_of_another_layout_is_refused(tmp_path, name, change, message):
    variables = mat_variables()
    changed = change(variables.pop(name))
    if changed is not None:
        variables[name] = changed
    with pytest.raises(ValueError, match=message):
        from_mat(tmp_path, variables)


def test_values_off_the_grid_move_to_the_nearest_level(tmp_path):
    variables = mat_variables()
    variables["testdata"] = np.random.default_rng(0).uniform(-1e-7, 1 + 1e-7, (784, 3))
    data = from_mat(tmp_path, variables)
    exact = torch.tensor(variables["testdata"].T.reshape(-1, 28, 28).transpose(0, 2, 1))
    assert torch.equal((data.test * 255).round() / 255, data.test)
    # Half a level, and the rounding of float32.
    assert float((data.test - exact.reshape(3, -1)).abs().max()) <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("pixels", "size"), [(105, 28), (6, 4), (5, 5), (7, 1), (28, 28)])
def test_a_smaller_pixel_is_the_mean_of_what_it_covers(pixels, size):
    image = np.random.default_rng(0).random((pixels, pixels))
    # Cut each pixel into parts such that every new pixel is made of whole parts.
    parts = np.kron(image, np.ones((size, size)))
    expected = parts.reshape(size, pixels, size, pixels).mean(axis=(1, 3))
    np.testing.assert_allclose(area_average(image, (size, size)), expected, rtol=1e-12)


def test_height_and_width_are_not_confused():
    image = np.random.default_rng(0).random((6, 10))
    smaller = area_average(image, (2, 5))
    np.testing.assert_allclose(smaller, image.reshape(2, 3, 5, 2).mean(axis=(1, 3)), rtol=1e-12)


def png(ink, mode="1"):
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.where(ink, 0, 255).astype(np.uint8)).convert(mode).save(buffer, "png")
    return buffer.getvalue()


def drawing(character, number):
    """A distinct drawing: a bar for the character and one for the number."""
    ink = np.zeros((105, 105), dtype=bool)
    ink[: 10 * (character + 1), :15] = True
    ink[: 10 * (number + 1), 60:75] = True
    return ink


CHARACTERS = ("Greek/character01", "Greek/character02", "Latin/character01")


def archive(name, characters, num_drawings=5, mode="1"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written_archive:
        written_archive.writestr(f"{name}/Greek/", b"")
        for character, number in itertools.product(characters, range(num_drawings)):
            written_archive.writestr(
                f"{name}/{CHARACTERS[character]}/{number:02}.png",
                png(drawing(character, number), mode),
            )
    return buffer.getvalue()


def from_archives(folder, first, second, per_character=(2, 1, 2)):
    files = written(folder, {"first.zip": first, "second.zip": second})
    return image_sets._from_archives("small", files, folder, per_character)


def test_each_drawing_is_in_one_split_once_with_its_character(tmp_path):
    # The second character is in both archives, as Greek and Latin are.
    data = from_archives(tmp_path, archive("first", (1, 2)), archive("second", (0, 1)))
    assert (data.image_shape, data.levels) == ((1, 28, 28), 256)
    assert [Counter(y.tolist()) for y in labels(data)] == [
        {0: 2, 1: 2, 2: 2},
        {0: 1, 1: 1, 2: 1},
        {0: 2, 1: 2, 2: 2},
    ]
    rows = torch.cat(splits(data)).tolist()
    seen = dict(zip(map(tuple, rows), torch.cat(labels(data)).tolist(), strict=True))
    expected = {}
    for character, number in itertools.product(range(3), range(5)):
        average = area_average(drawing(character, number).astype(float), (28, 28))
        expected[tuple((torch.tensor(np.rint(average * 255)).float() / 255).flatten().tolist())] = (
            character
        )
    assert len(rows) == len(expected) == 15
    assert seen == expected


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_ink_is_one_in_whatever_way_the_drawing_is_stored(tmp_path, mode):
    reference = from_archives(tmp_path, archive("a", (0, 1)), archive("b", (2,)))
    other = from_archives(tmp_path, archive("a", (0, 1), mode=mode), archive("b", (2,)))
    assert_equal(reference, other)
    # The upper left corner is under both bars.
    assert (reference.train[:, 0] == 1).all()


def test_the_split_is_the_same_each_time_and_leaves_global_generators_alone(tmp_path):
    # The state of the legacy generator is tested here.
    ours, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    arguments = archive("first", (0, 1)), archive("second", (2,))
    assert_equal(from_archives(tmp_path, *arguments), from_archives(tmp_path, *arguments))
    # The order of the archives does not matter.
    assert_equal(from_archives(tmp_path, *arguments), from_archives(tmp_path, *arguments[::-1]))
    assert_equal(from_mat(tmp_path, mat_variables()), from_mat(tmp_path, mat_variables()))
    assert torch.equal(ours, torch.get_rng_state())
    assert np.array_equal(numpys, np.random.get_state()[1])  # noqa: NPY002


def test_another_number_of_drawings_is_refused(tmp_path):
    first, second = archive("first", (0, 1)), archive("second", (2,), num_drawings=4)
    with pytest.raises(ValueError, match="5 drawings of each character, got 4 of Latin/char"):
        from_archives(tmp_path, first, second)


# Real files, if they are on this machine.


@pytest.fixture(scope="module", params=HERE)
def real(request):
    name = request.param
    # Without mirrors, so that a damaged file causes no download.
    read_files([replace(file, mirrors=()) for file in FILES[name]])
    return getattr(image_sets, name.replace("-", "_"))()


SIZES = {
    "mnist": (50_000, 10_000, 10_000),
    "fashion-mnist": (50_000, 10_000, 10_000),
    "omniglot": (23_000, 1_345, 8_070),
    "omniglot-small": (3_388, 484, 968),
}
# Counts of the digits 0 to 9 in the training and the test file.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_real_splits_have_their_sizes_and_lie_on_the_grid(real):
    assert (real.image_shape, real.levels) == ((1, 28, 28), 256)
    assert tuple(map(len, splits(real))) == tuple(map(len, labels(real))) == SIZES[real.name]
    for split in splits(real):
        assert split.shape[1] == 784
        assert split.dtype == torch.float32
        assert torch.equal((split * 255).round() / 255, split)
        assert (float(split.min()), float(split.max())) == (0.0, 1.0)


def test_real_labels_have_their_counts(real):
    train, val, test = (torch.bincount(y).tolist() for y in labels(real))
    if real.name == "mnist":
        assert [a + b for a, b in zip(train, val, strict=True)] == MNIST_TRAIN
        assert test == MNIST_TEST
        assert real.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    elif real.name == "fashion-mnist":
        assert [a + b for a, b in zip(train, val, strict=True)] == [6000] * 10
        assert test == [1000] * 10
    elif real.name == "omniglot-small":
        assert (set(train), set(val), set(test)) == ({14}, {2}, {4})
        assert len(train) == 242
    else:
        assert len(train) == 1_623


def test_real_images_are_near_their_own_class(real):
    """If labels were separated from their images, accuracy would be at chance level."""
    num_classes = int(real.train_labels.max()) + 1
    means = torch.zeros(num_classes, 784).index_add_(0, real.train_labels, real.train)
    means /= torch.bincount(real.train_labels, minlength=num_classes)[:, None]
    accuracy = (torch.cdist(real.test, means).argmin(1) == real.test_labels).float().mean()
    assert float(accuracy) > {"mnist": 0.8, "fashion-mnist": 0.6}.get(real.name, 20 / num_classes)


def test_real_splits_of_one_file_share_no_drawing(real):
    # The splits of the other sets are those of their files.
    if real.name == "omniglot-small":
        train, val, test = ({row.numpy().tobytes() for row in split} for split in splits(real))
        assert len(train | val | test) == len(train) + len(val) + len(test) == 4_840


def grey_images(count_val=7, count_test=5):
    levels = np.random.default_rng(0).integers(0, 256, (count_val + count_test, 12))
    levels[:, :3] = [0, 255, 128]
    x = torch.as_tensor(levels).float().div_(255)
    return Dataset("grey", x, x[:count_val], x[count_val:], levels=256)


def test_the_published_binarisation_draws_validation_images_first_and_test_images_after_them():
    grey = grey_images()
    binary = image_sets.published_binarisation(grey)
    # Both splits in one sequence, each value by inversion of one uniform number, as numpy's
    # binomial distribution does for one trial.
    generator, expected = np.random.RandomState(777), []
    for p in torch.cat([grey.val, grey.test]).double().flatten().tolist():
        uniform = generator.random_sample()
        expected.append(float(uniform > 1 - p if p <= 0.5 else uniform <= p))
    drawn = torch.cat([binary.val, binary.test]).flatten()
    assert drawn.tolist() == expected
    assert torch.equal(binary.train, grey.train)
    assert binary.val.dtype == torch.float32


def test_the_published_binarisation_is_that_of_a_seeded_numpy_and_leaves_numpys_own_alone():
    grey, generator = grey_images(), np.random.RandomState(777)
    expected = [generator.binomial(1, split.numpy()) for split in (grey.val, grey.test)]
    state = np.random.get_state()[1]  # noqa: NPY002
    for _ in range(2):
        binary = image_sets.published_binarisation(grey)
        assert np.array_equal(binary.val.numpy(), expected[0])
        assert np.array_equal(binary.test.numpy(), expected[1])
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_only_values_that_are_probabilities_are_binarised():
    grey = grey_images()
    with pytest.raises(ValueError, match=r"data.test must be in \[0, 1\], got \[0.0, 2.0\]"):
        image_sets.published_binarisation(replace(grey, test=2 * grey.test))
