"""Content that could be lost or changed by reading is kept, refused or named."""

import struct
import tracemalloc
import zipfile
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tablefiles import message

from mimachine.data.files import parquet_file
from mimachine.data.files.image_folder import read_images
from mimachine.data.files.load import load_file, read_rows
from mimachine.data.files.options import File
from mimachine.data.files.read_table import peek, read_table
from mimachine.data.files.splits import split_rows

LONG = ["12345678901234567890", "12345678901234567891", "-12345678901234567891"]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def header(shape, descr="<f8"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


# Numbers with many digits.


def test_long_decimals_of_parquet_are_refused_and_short_ones_read(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    kind = pyarrow.decimal128(30, 2)
    path = tmp_path / "a.parquet"
    for numbers, refused in (
        ([Decimal(LONG[0]) + k for k in range(5)], True),
        ([Decimal("12345678901234.01") + Decimal(k) / 100 for k in range(5)], False),
        ([Decimal("1234567890123456789.01") + Decimal(k) / 100 for k in range(5)], True),
        ([Decimal(k) / 100 for k in range(5)], False),
    ):
        parquet.write_table(pyarrow.table({"a": pyarrow.array(numbers, kind)}), path)
        if refused:
            assert "column 'a' of a.parquet has values such as 1234567890" in message(path)
        else:
            assert read_table(path).values[:, 0].tolist() == [float(n) for n in numbers]


def test_labels_that_floats_would_make_equal_stay_text(tmp_path):
    cells = ["1.5", *LONG]
    rows = "".join(f"{k},{cell}\n" for k, cell in enumerate(cells))
    (tmp_path / "a.csv").write_text(f"x,id\n{rows}")
    assert read_table(tmp_path / "a.csv", labels="id").labels.tolist() == cells
    (tmp_path / "b.csv").write_text("x,id\n1,1.50\n2,1.5\n3,2\n")
    assert read_table(tmp_path / "b.csv", labels="id").labels.tolist() == [1.5, 1.5, 2.0]


def test_decimal_labels_of_parquet_stay_apart(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ids = pyarrow.array([Decimal(text) for text in LONG], pyarrow.decimal128(30, 0))
    parquet.write_table(pyarrow.table({"x": [1.0, 2.0, 3.0], "id": ids}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", labels="id").labels.tolist() == LONG


# True and false.


def test_padded_booleans_are_read_and_long_cells_are_not_cut(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{k},{k % 2 == 0!s:>20}\n" for k in range(60)))
    assert read_table(path).values[:, 1].tolist() == [1.0, 0.0] * 30
    for late in ("true     or so", "true" + 80 * " " + "no"):
        path.write_text("a,b\n" + 60 * "1,true\n" + f"2,{late}\n")
        assert "column 'b' has 'true " in message(path)


# Rows that are not for training.


def test_rows_off_the_grid_of_the_training_rows_count(tmp_path):
    values = np.random.default_rng(0).integers(0, 4, (200, 6)) / 3
    values[split_rows(200, 6, None, "a.npy")[2][0], 0] = 0.5
    np.save(tmp_path / "a.npy", values)
    learned = load_file(tmp_path / "a.npy").preprocessing
    assert (learned.likelihood, learned.levels) == ("gaussian", None)
    # The same file is read for encoding.
    assert len(read_rows(tmp_path / "a.npy", File(), learned).rows) == 200


def test_decimals_that_only_other_rows_have_count(tmp_path):
    values = np.round(normal(200, 2), 1)
    test = split_rows(200, 2, None, "a.npy")[2]
    values[test[0], 0] = 0.123
    np.save(tmp_path / "a.npy", values)
    data = load_file(tmp_path / "a.npy")
    assert data.preprocessing.decimals.tolist() == [3, 1]
    np.testing.assert_allclose(data.restore(data.test, drawn=True)[0, 0], 0.123, rtol=1e-5)


def test_warnings_name_all_columns(tmp_path, monkeypatch):
    values = normal(100, 4)
    values[:, 2:] = 3
    np.save(tmp_path / "a.npy", values)
    learned = load_file(tmp_path / "a.npy").preprocessing
    values[5] = (-9999, 1e12, 4, 5)
    np.save(tmp_path / "b.npy", values)
    for on_disk in (False, True):
        # Also of rows that are too large for the memory.
        monkeypatch.setattr("mimachine._support.memory.stays_on_disk", lambda size, d=on_disk: d)
        constant, far = read_rows(tmp_path / "b.npy", File(), learned).notes
        assert "columns 3, 4 of b.npy have values other than the only one of each" in constant
        assert "column 2 of b.npy has the value 1e+12" in far
        assert "and column 1 have such values too" in far


# Headers.


def test_names_that_a_model_expects_are_a_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("400,500,600\n1,2,3\n")
    columns = ("400", "600")
    assert read_table(path, columns=columns).values.tolist() == [[1, 3]]
    assert len(read_table(path).values) == 2


# Damaged and forged files.


@pytest.mark.parametrize("shape", ["(-1, 5)", "(20, -5)", "(True, 5)", "(-4, -5)"])
def test_impossible_shapes_are_refused_by_name(tmp_path, shape):
    content = header(shape) + bytes(800)
    (tmp_path / "a.npy").write_bytes(content)
    archive(tmp_path / "a.npz", x=content)
    for path, name in ((tmp_path / "a.npy", "a.npy"), (tmp_path / "a.npz", "'x' of a.npz")):
        for read in (peek, read_table):
            with pytest.raises(ValueError, match=f"{name} is not an array .*shape is"):
                read(path)


def test_arrays_shorter_than_their_header_are_named(tmp_path):
    whole, short = header((20, 5)) + bytes(800), header((20,)) + b"abc"
    (tmp_path / "y.npy").write_bytes(short)
    (tmp_path / "x.npy").write_bytes(whole)
    assert "y.npy is damaged" in message(tmp_path / "x.npy", labels=str(tmp_path / "y.npy"))
    path = archive(tmp_path / "a.npz", x=header((200, 5)) + bytes(800))
    assert "array 'x' of a.npz is damaged" in message(path)
    path = archive(tmp_path / "b.npz", x=whole, y=short)
    assert "array 'y' of b.npz is damaged" in message(path)


def test_labels_of_another_shape_are_refused_before_they_are_read(tmp_path):
    np.save(tmp_path / "x.npy", normal(20, 5))
    with (tmp_path / "y.npy").open("wb") as file:
        file.write(header((1 << 30,)))
        file.truncate((8 << 30) + 200)
    tracemalloc.start()
    try:
        text = message(tmp_path / "x.npy", labels=str(tmp_path / "y.npy"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "y.npy must have one label for each of the 20 rows of x.npy" in text
    # The labels take 8 GiB.
    assert peak < 10 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("place", [36, 45, 200])
def test_damaged_compression_is_reported_by_name(tmp_path, method, place):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("x.npy", header((20, 5)) + normal(100).tobytes())
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    content[place + 1] ^= 0x55
    path.write_bytes(content)
    assert "a.npz" in message(path)


# Many columns.


def test_many_columns_of_parquet_are_read_at_once(tmp_path, monkeypatch):
    values = normal(3, 1000)
    pl.DataFrame({f"c{k}": values[:, k] for k in range(1000)}).write_parquet(tmp_path / "a.parquet")
    read, widths = parquet_file.read_parquet_columns, []

    def counted(file, names):
        widths.append(len(names))
        return read(file, names)

    monkeypatch.setattr(parquet_file, "read_parquet_columns", counted)
    np.testing.assert_array_equal(read_table(tmp_path / "a.parquet").values, values)
    # Each read goes through the names of all columns.
    assert widths == [1000]


# Folders.


@pytest.mark.parametrize(
    "folders",
    [("train", "test", "other"), ("train ", "test"), ("data/train", "data/test"), (".", "train")],
)
def test_folders_that_look_like_splits_but_are_classes_are_named(tmp_path, folders):
    for folder in (*folders, "test") if "." in folders else folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), 3).save(tmp_path / folder / "a.png")
    images = read_images(tmp_path)
    assert images.splits is None
    assert "are read as classes, not as splits" in images.notes[-1]
    assert not any("classes" in note for note in read_images(tmp_path, split_folders=False).notes)
