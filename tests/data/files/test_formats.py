"""The same content gives the same verdict in every format."""

import gzip
import os
import re
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mimachine._support import memory
from mimachine.data.files import read_table, text_stream
from mimachine.data.files.load import load_file, read_rows
from mimachine.data.files.options import File, check_there

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
FORMATS = ("csv", "tsv", "csv.gz", "npy", "npz", "parquet")
ROWS = 60


def text(columns, delimiter):
    lines = [delimiter.join(columns)]
    for cells in zip(*columns.values(), strict=True):
        lines.append(delimiter.join("" if cell is None else str(cell) for cell in cells))
    return "\n".join(lines) + "\n"


def save(folder, columns, kind):
    """Columns by name as a file; arrays hold them in the type that holds all of them."""
    path = folder / f"table.{kind}"
    if kind in ("csv", "tsv"):
        path.write_text(text(columns, {"csv": ",", "tsv": "\t"}[kind]))
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(text(columns, ",").encode()))
    elif kind == "parquet":
        table = pyarrow.table({name: pyarrow.array(values) for name, values in columns.items()})
        parquet.write_table(table, path)
    else:
        array = np.stack([np.array(values) for values in columns.values()], axis=1)
        array = array.astype(float) if array.dtype == object else array
        np.save(path, array) if kind == "npy" else np.savez(path, x=array)
    return path


def loaded(folder, columns):
    """A table of numbers, loaded as an array."""
    return load_file(save(folder, columns, "csv"), likelihood="numbers")


# Kinds of refusals and their words.
REFUSALS = {
    "digits": "too large or too long",
    "missing": "missing values|not finite",
    "few": "10 rows or more",
    "constant": "no column that varies",
}


def verdict(path, columns):
    """What is decided about a file, apart from the names of columns and the wording of places."""
    try:
        data = load_file(path, likelihood="numbers")
    except ValueError as error:
        return [kind for kind, part in REFUSALS.items() if re.search(part, str(error))]
    learned = data.preprocessing
    warnings = sorted(
        re.sub(r"column ('\w+'|\d+)", "column", note).replace(path.name, "")
        for note in data.notes
        if note.startswith("warning")
    )
    types = [block.dtype.kind for block in learned.restore_columns(np.zeros((1, len(columns))))]
    return learned.likelihood, types, warnings, data.train.numpy().tobytes()


def numbers(seed=0):
    rng = np.random.default_rng(seed)
    return [float(value) for value in rng.normal(size=ROWS)]


def with_values(values, places):
    changed = numbers(1)
    for place in places:
        changed[place] = values
    return changed


TRAINING = np.random.RandomState(0).permutation(ROWS)[18:]
CONTENTS = {
    "numbers": {"a": numbers(), "b": numbers(1)},
    "integers": {"a": [k % 7 for k in range(ROWS)], "b": [k * k for k in range(ROWS)]},
    "flags": {"a": [k % 3 == 0 for k in range(ROWS)], "b": [k % 2 == 0 for k in range(ROWS)]},
    "zeros and ones": {"a": [k % 3 // 2 for k in range(ROWS)], "b": [k % 2 for k in range(ROWS)]},
    "long identifiers": {"a": [10**18 + k for k in range(ROWS)], "b": [k for k in range(ROWS)]},
    "negative identifiers": {"a": [-(2**62) - k for k in range(ROWS)], "b": [1] * ROWS},
    "not a number": {"a": numbers(), "b": with_values(float("nan"), (3, 5))},
    "infinite": {"a": numbers(), "b": with_values(float("inf"), (3,))},
    "missing": {"a": numbers(), "b": with_values(None, (3,))},
    "constant": {"a": [2.5] * ROWS, "b": [-1.5] * ROWS},
    "one constant": {"a": [2.5] * ROWS, "b": numbers()},
    "sentinel": {"a": numbers(), "b": with_values(-999999.0, TRAINING[::6])},
    "outlier": {"a": numbers(), "b": with_values(1e12, TRAINING[:1])},
    "outlier of the test": {
        "a": numbers(),
        "b": with_values(1e12, np.random.RandomState(0).permutation(ROWS)[:1]),
    },
    "few": {"a": numbers()[:5], "b": numbers()[:5]},
    "single": {"a": numbers()},
}


@pytest.mark.parametrize("content", CONTENTS)
def test_every_format_gives_the_same_verdict(tmp_path, content):
    columns = CONTENTS[content]
    found = {kind: verdict(save(tmp_path, columns, kind), columns) for kind in FORMATS}
    assert found["csv"]  # Not a refusal of an unknown kind.
    assert all(value == found["csv"] for value in found.values()), found


def test_a_table_of_several_types_comes_back_in_them(tmp_path):
    columns = {
        "age": [18 + k % 50 for k in range(ROWS)],
        "smokes": [k % 3 == 0 for k in range(ROWS)],
        "height": numbers(),
    }
    for kind in ("csv", "tsv", "csv.gz", "parquet"):
        data = load_file(save(tmp_path, columns, kind), likelihood="numbers")
        rows = data.restore(data.train, drawn=True)
        blocks = data.restore_columns(rows)
        assert [block.dtype.kind for block in blocks] == ["i", "b", "f"]
        stored = np.array([list(map(float, values)) for values in columns.values()]).T
        np.testing.assert_allclose(rows, stored[TRAINING], atol=1e-6)
        np.testing.assert_array_equal(rows[:, :2], stored[TRAINING, :2])
        # Samples far from any row are still integers and booleans.
        drawn = data.restore_columns(data.restore(3.3 * data.train - 0.7, drawn=True))
        assert [block.dtype.kind for block in drawn] == ["i", "b", "f"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.arange(600).reshape(60, 10) % 2 == 0, np.bool_),
        ((np.arange(600) ** 2 % 97).reshape(60, 10), np.int64),
        ((np.arange(960) % 255).reshape(60, 4, 4).astype(np.uint8), np.uint8),
        (np.sin(np.arange(600)).reshape(60, 10), np.float64),
    ],
)
def test_arrays_come_back_in_their_type(tmp_path, values, kind):
    np.save(tmp_path / "x.npy", values)
    data = load_file(tmp_path / "x.npy")
    restored = data.restore(data.train, drawn=True)
    assert restored.dtype == kind
    np.testing.assert_allclose(restored, values[TRAINING], atol=1e-6)


def test_the_extreme_value_and_a_remedy_are_named(tmp_path):
    path = save(tmp_path, {"flow": with_values(-999999.0, TRAINING[::6]), "b": numbers()}, "csv")
    (note,) = [
        note for note in load_file(path, likelihood="numbers").notes if note.startswith("warning")
    ]
    for part in ("'flow'", "-999999", "missing values", "83%"):
        assert part in note
    skewed = {"income": [float(k % 6) ** 3 for k in range(ROWS)], "b": numbers()}
    assert not [n for n in loaded(tmp_path, skewed).notes if "income" in n]


def test_a_value_that_was_constant_in_training_is_not_passed_over_later(tmp_path):
    learned = loaded(tmp_path, CONTENTS["one constant"]).preprocessing
    same = read_rows(tmp_path / "table.csv", File(), learned)
    assert not [note for note in same.notes if note.startswith("warning")]
    other = save(tmp_path, {"a": [2.5] * 59 + [3.0], "b": numbers()}, "tsv")
    (note,) = [n for n in read_rows(other, File(), learned).notes if n.startswith("warning")]
    assert "'a'" in note
    assert "2.5" in note


def test_values_far_from_the_training_data_are_named_when_applied(tmp_path):
    learned = loaded(tmp_path, CONTENTS["numbers"]).preprocessing
    later = save(tmp_path, {"a": numbers(), "b": with_values(-9999.0, (7,))}, "parquet")
    (note,) = [n for n in read_rows(later, File(), learned).notes if n.startswith("warning")]
    assert "'b'" in note
    assert "-9999" in note


# --- header --------------------------------------------------------------------------------------


def spectra(path, first):
    rows = [",".join(map(str, row)) for row in abs(np.random.default_rng(0).normal(size=(20, 6)))]
    path.write_text("\n".join([first, *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("first", "is_header"),
    [
        ("400.0,400.5,401.0,401.5,402.0,402.5", True),
        ("1995,1994,1993,1992,1991,1990", True),
        ("0,1,2,3,4,5", True),
        ("0.1,0.4,0.2,0.9,0.3,0.6", False),
        ("a,b,c,d,e,f", True),
    ],
)
def test_a_first_line_is_names_or_values_and_both_can_be_said(tmp_path, first, is_header):
    path = spectra(tmp_path / "x.csv", first)
    table = read_table.read_table(path)
    assert (len(table.values), table.columns is None) == ((20, False) if is_header else (21, True))
    named = read_table.read_table(path, header=True)
    assert (len(named.values), named.columns) == (20, tuple(first.split(",")))
    assert read_table.peek(path, header=True) == (20, (6,))
    assert read_table.peek(path, header=False) == (21, (6,))
    if first[0] != "a":
        assert len(read_table.read_table(path, header=False).values) == 21


DRAWN = np.random.default_rng(1).uniform(size=(60, 9))
# Rows of measurements in order, as shares that add up, and what a first line of them would be.
SHARES = np.round(np.cumsum(DRAWN, 1) / DRAWN.sum(1, keepdims=True), 4)


@pytest.mark.parametrize(
    ("first", "rows", "is_header"),
    [
        # An axis whose numbers are within the range of the rows, or out of it.
        ("0.0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8", SHARES, True),
        ("0.8,0.7,0.6,0.5,0.4,0.3,0.2,0.1,0.0", SHARES, True),
        ("0.33,0.67,1.00,1.33,1.67,2.00,2.33,2.67,3.00", SHARES, True),
        ("1990,1991,1992,1993", SHARES[:, :4], True),
        # Even steps, but as many of the rows have, or numbers that the rows have too.
        ("0.0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8", np.outer(range(1, 9), range(9)) / 7, False),
        ("1,2,3,4,5,6", [np.roll(range(1, 7), k)[::-1] for k in range(6)], False),
        # In order, but so are the rows; few even steps within their range.
        ("1,2,4,8,16,32,64,128,256", SHARES, False),
        ("0.1,0.2,0.3,0.4", SHARES[:, :4], False),
        # A first row like the others.
        (",".join(map(str, SHARES[-1])), SHARES[:-1], False),
        (",".join(map(str, DRAWN[-1])), DRAWN[:-1], False),
    ],
)
def test_an_axis_is_told_from_rows_that_are_in_order(tmp_path, first, rows, is_header):
    lines = [first, *(",".join(map(str, np.asarray(row).tolist())) for row in rows)]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    table = read_table.read_table(tmp_path / "x.csv")
    assert table.columns == (tuple(first.split(",")) if is_header else None)
    # What was decided can be changed, and the note says how.
    assert ("--no-header" if is_header else "--header") in table.notes[0]


def test_text_in_a_first_line_that_is_said_to_be_a_row_is_an_error(tmp_path):
    path = spectra(tmp_path / "x.csv", "a,b,c,d,e,f")
    with pytest.raises(ValueError, match=r"column 1 has 'a' in row 1 \(line 1\)"):
        read_table.read_table(path, header=False)
    path.write_text("5.1,setosa\n4.9,setosa\n")
    with pytest.raises(ValueError, match="if it is a row, use header=False"):
        read_table.read_table(path)


def test_a_header_is_for_text_files(tmp_path):
    path = save(tmp_path, CONTENTS["numbers"], "parquet")
    with pytest.raises(ValueError, match=r"header=True applies to .csv and .tsv"):
        load_file(path, File(header=True), "numbers")
    with pytest.raises(ValueError, match=r"header=True applies to text files only"):
        load_file(path, File(header=True))


# --- endless and unbounded input -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.npy", "x.npz", "x.parquet"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="must be a regular file, got a pipe"):
        read_table.read_table(tmp_path / name)
    with pytest.raises(ValueError, match="must be a regular file, got a pipe"):
        check_there(str(tmp_path / name))


def test_an_archive_larger_than_memory_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "x.npz"
    header = np.lib.format.magic(1, 0)
    described = repr({"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**4)}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header + len(described).to_bytes(2, "little") + described)
    for read in (read_table.read_table, load_file):
        with pytest.raises(ValueError, match=r"array 'x' of x.npz takes 80.0 TB of memory"):
            read(path)


def test_the_header_of_an_array_is_not_believed_to_be_endless(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", np.lib.format.magic(2, 0) + b"\xff\xff\xff\x7f" + b" " * 100)
    with pytest.raises(ValueError, match="its header is too long"):
        read_table.read_table(path)


def test_a_parquet_file_larger_than_memory_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path, CONTENTS["numbers"], "parquet")
    monkeypatch.setattr(memory, "available", lambda: 900)
    with pytest.raises(ValueError, match=r"table.parquet as an array takes 960 bytes of memory"):
        read_table.read_table(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_line_without_end_is_refused(tmp_path, monkeypatch, compressed):
    monkeypatch.setattr(text_stream, "_LONGEST_LINE", 3 << 20)
    path = tmp_path / ("x.csv.gz" if compressed else "x.csv")
    content = b"a,b\n1,2\n3," + b"4" * (5 << 20)
    path.write_bytes(gzip.compress(content) if compressed else content)
    for read in (read_table.read_table, read_table.peek):
        with pytest.raises(ValueError, match=f"{path.name} has a line of more than 3 MiB"):
            read(path)


def test_text_larger_than_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1_000_000))
    monkeypatch.setattr(memory, "available", lambda: 2_000_000)
    with pytest.raises(ValueError, match=r"x.csv.gz has more than 2.0 MB of text"):
        read_table.read_table(path)
    monkeypatch.setattr(memory, "available", lambda: 10_000_000)
    with pytest.raises(ValueError, match=r"x.csv.gz as numbers takes 16.0 MB of memory"):
        read_table.peek(path)


def test_the_guard_hands_on_all_bytes(tmp_path):
    for content in (b"", b"a,b\n", b"a\rb\r\nc", b"\xef\xbb\xbfx\n" * 400_000):
        path = tmp_path / "x.csv"
        path.write_bytes(content)
        with text_stream.opened(path) as stream, path.open(encoding="utf-8-sig") as plain:
            assert stream.read() == plain.read()


def test_labels_in_a_pipe_are_refused(tmp_path):
    path = save(tmp_path, CONTENTS["numbers"], "npy")
    os.mkfifo(tmp_path / "labels.csv")
    with pytest.raises(ValueError, match="labels"):
        load_file(path, File(labels=str(tmp_path / "labels.csv")))


def test_a_process_that_waits_at_a_pipe_is_not_needed(tmp_path):
    """Nothing opens the pipe: a writer that waits for a reader goes on waiting."""
    pipe = Path(tmp_path / "x.csv")
    os.mkfifo(pipe)
    opened = threading.Event()

    def write():
        with pipe.open("w"):
            opened.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with pytest.raises(ValueError, match="pipe"):
        load_file(pipe)
    assert not opened.wait(0.1)
    # Let the thread end.
    with pipe.open():
        writer.join(5)
