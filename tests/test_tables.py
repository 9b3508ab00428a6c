import contextlib
import csv
import gzip
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mimachine import memory
from mimachine.tables import check_finite, peek, read_table

quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
finite = st.floats(allow_nan=False, allow_infinity=False)
tables = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=finite,
)


def write(path, text, **kwargs):
    path.write_text(text, newline="", **kwargs)
    return path


def write_table(path, values, names=None, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
        if names is not None:
            writer.writerow(names)
        writer.writerows(values)
    return path


def same(found, expected):
    """Equal bit for bit, in type and in layout."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.flags.c_contiguous
    assert np.asarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()


def message(path, **kwargs):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_table(path, **kwargs)
    return str(caught.value)


# What is written is read.


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


@quick
@given(
    values=tables,
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    named=st.booleans(),
)
def test_numbers_come_back_from_text_bit_for_bit(tmp_path, values, delimiter, quoting, named):
    names = tuple(f"column {k}" for k in range(values.shape[1])) if named else None
    path = write_table(tmp_path / "data.csv", values.tolist(), names, delimiter, quoting)
    table = read_table(path)
    same(table.values, values)
    assert table.columns == names
    assert (table.labels, table.source) == (None, "data.csv")
    assert peek(path) == (len(values), values.shape[1:])


@quick
@given(values=tables, dtype=st.sampled_from(["f8", "f4", "f2", "i4", "u1", "?"]))
def test_numbers_come_back_from_parquet_bit_for_bit(tmp_path, values, dtype):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = np.clip(values, 0, 100).astype(dtype)
    names = tuple(f"a.{k}" for k in range(values.shape[1]))
    columns = {name: pyarrow.array(values[:, k]) for k, name in enumerate(names)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "data.parquet")
    table = read_table(tmp_path / "data.parquet")
    same(table.values, values)
    assert table.columns == names
    assert peek(tmp_path / "data.parquet") == (len(values), values.shape[1:])


@settings(quick, max_examples=30)
@given(
    labels=st.lists(st.text(" ,;\"'\n#|\tä0.e", max_size=8), min_size=1, max_size=6),
    place=st.integers(0, 2),
)
def test_text_is_kept_in_the_column_of_labels_wherever_that_is(tmp_path, labels, place):
    labels = [f"<{label}>" for label in labels]
    values = np.arange(2.0 * len(labels)).reshape(-1, 2)
    rows = [[*row[:place], label, *row[place:]] for row, label in zip(values, labels, strict=True)]
    names = ["a", "b"]
    names.insert(place, "kind")
    with (tmp_path / "data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    table = read_table(tmp_path / "data.csv", labels="kind")
    same(table.values, values)
    assert table.labels.tolist() == labels
    assert table.columns == ("a", "b")
    assert peek(tmp_path / "data.csv", labels="kind") == (len(values), (2,))


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


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_byte_order_marks_and_blank_lines_do_not_matter(tmp_path, end, mark, last):
    lines = ["", "a;b", "1;2", "", '"3";4', *([""] if last else [])]
    path = write(tmp_path / "data.csv", mark + end.join(lines), encoding="utf-8")
    table = read_table(path)
    assert table.columns == ("a", "b")
    assert table.values.tolist() == [[1, 2], [3, 4]]
    assert peek(path) == (2, (2,))


def test_compressed_text_is_read_like_text(tmp_path):
    (tmp_path / "data.tsv.gz").write_bytes(gzip.compress(b"a\tb\n1\t2\n"))
    assert read_table(tmp_path / "data.tsv.gz").values.tolist() == [[1, 2]]
    assert peek(tmp_path / "data.tsv.gz") == (1, (2,))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 50)[:-9])
    assert "cut.csv.gz is damaged" in message(tmp_path / "cut.csv.gz")


def test_suffixes_may_be_in_capitals(tmp_path):
    np.save(tmp_path / "data.npy", np.ones((2, 2)))
    (tmp_path / "data.npy").rename(tmp_path / "DATA.NPY")
    assert read_table(tmp_path / "DATA.NPY").values.shape == (2, 2)


def test_rows_of_many_columns_are_read(tmp_path):
    # A line longer than csv lets a cell be.
    values = np.linspace(0, 1, 20_000).reshape(2, -1)
    path = write_table(tmp_path / "wide.csv", values.tolist(), [f"c{k}" for k in range(10_000)])
    same(read_table(path).values, values)
    assert peek(path) == (2, (10_000,))


def test_a_cell_of_several_lines_is_one_cell(tmp_path):
    path = write(tmp_path / "data.csv", 'a,kind\n1,"x\ny"\n2,"z ""q"""\n')
    table = read_table(path, labels="kind")
    assert table.labels.tolist() == ["x\ny", 'z "q"']
    assert peek(path, labels="kind") == (2, (1,))


# Names of columns.


@pytest.mark.parametrize(
    ("header", "first"),
    [("a,b", "1,2"), ("0,1,2,3", "5,6,7,8"), (",0", "7,8"), ("1990,b", "3,4"), ("x", "1")],
)
def test_a_first_line_with_a_word_or_pandas_numbers_is_a_header(tmp_path, header, first):
    table = read_table(write(tmp_path / "data.csv", f"{header}\n{first}\n"))
    assert table.values.tolist() == [[float(cell) for cell in first.split(",")]]
    assert table.columns == tuple(name or "Unnamed: 0" for name in header.split(","))


@pytest.mark.parametrize("line", ["1,2", "0,1,2", "1e5, -3", "0,1", "5"])
def test_a_first_line_of_numbers_is_a_row_and_a_note_says_so(tmp_path, line):
    table = read_table(write(tmp_path / "data.csv", f"{line}\n"))
    assert table.values.tolist() == [[float(cell) for cell in line.split(",")]]
    assert table.columns is None
    assert any("the first line is taken as a row" in note for note in table.notes)


@pytest.mark.parametrize("start", [0, 1])
def test_a_nameless_first_column_that_counts_the_rows_is_left_out(tmp_path, start):
    rows = "".join(f"{k + start},{k * k}\n" for k in range(60))
    path = write(tmp_path / "data.csv", f'"","a"\n{rows}')
    table = read_table(path)
    assert table.columns == ("a",)
    assert table.values[:, 0].tolist() == [k * k for k in range(60)]
    assert table.notes == ("column 'Unnamed: 0' counts the rows and is left out",)
    assert peek(path) == (60, (1,))


def test_another_nameless_column_is_used_and_a_note_says_so(tmp_path):
    path = write(tmp_path / "data.csv", ",a\n7,1\n3,2\n")
    table = read_table(path)
    assert table.columns == ("Unnamed: 0", "a")
    assert any("'Unnamed: 0'" in note for note in table.notes)
    assert read_table(path, drop=["Unnamed: 0"]).values.tolist() == [[1], [2]]


def test_dropped_columns_may_hold_anything(tmp_path):
    path = write(tmp_path / "data.csv", "a,name,b,when\n1,Ann,2,\n3,,4,May\n")
    table = read_table(path, drop=["when", "name"])
    assert table.columns == ("a", "b")
    assert table.values.tolist() == [[1, 2], [3, 4]]
    assert peek(path, drop=["when", "name"]) == (2, (2,))


def test_columns_without_names_go_by_number(tmp_path):
    path = write(tmp_path / "data.csv", "1,2,0\n3,4,1\n")
    table = read_table(path, labels="3", drop=["1"])
    assert table.values.tolist() == [[2], [4]]
    assert table.labels.tolist() == [0, 1]


# Columns that a model was trained with.


def test_expected_columns_are_taken_by_name_in_their_order(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 4))
    order = [2, 0, 3]
    names = [f"c{k}" for k in range(4)]
    path = write_table(tmp_path / "data.csv", values.tolist(), names)
    table = read_table(path, columns=[names[k] for k in order], labels="kind")
    same(table.values, values[:, order])
    assert table.columns == ("c2", "c0", "c3")
    assert table.labels is None
    assert table.notes == (
        "there are no labels: no column 'kind', nor a file of that name",
        "columns are in another order than in training; taken by name",
        "not used: column 'c1'",
    )


def test_the_same_columns_need_no_note(tmp_path):
    path = write(tmp_path / "data.csv", "a,kind,b\n1,x,2\n")
    table = read_table(path, columns=("a", "b"), labels="kind")
    assert table.notes == ()
    assert table.labels.tolist() == ["x"]


def test_columns_without_names_are_taken_in_their_order(tmp_path):
    np.save(tmp_path / "data.npy", np.arange(6).reshape(3, 2))
    np.savez(tmp_path / "data.npz", x=np.arange(6).reshape(3, 2))
    write(tmp_path / "data.csv", "0,1\n2,3\n4,5\n")
    for name in ("data.npy", "data.npz", "data.csv"):
        table = read_table(tmp_path / name, columns=["a", "b"], labels="kind")
        assert table.values.tolist() == [[0, 1], [2, 3], [4, 5]]
        assert table.columns == ("a", "b")
        assert "columns have no names and are taken in order as 'a', 'b'" in table.notes
        assert any("there are no labels" in note for note in table.notes)
        assert "the 3 columns that the model was trained with" in message(
            tmp_path / name, columns=["a", "b", "c"]
        )


def test_a_column_that_the_model_needs_must_be_there(tmp_path):
    path = write(tmp_path / "data.csv", "age,height\n1,2\n")
    text = message(path, columns=("height", "Age", "weight"))
    assert "lacks 2 columns that the model was trained with: 'Age', 'weight'" in text
    assert "did you mean 'age'?" in text
    assert "--drop age" in message(path, columns=("age", "height"), drop=["age"])
    text = message(path, columns=("age", "height"), labels="age")
    assert "--labels 'age' is one of the columns that the model was trained on" in text


# Labels.


def test_labels_are_integers_or_floats_only_where_all_are(tmp_path):
    for cells, expected in (
        ("1 2 3", [1, 2, 3]),
        ("0.5 1 2", [0.5, 1.0, 2.0]),
        ("1 2 b", ["1", "2", "b"]),
        ("007 1 2", ["007", "1", "2"]),
        ("none a b", ["none", "a", "b"]),
        ("99999999999999999999 a b", ["99999999999999999999", "a", "b"]),
    ):
        rows = "".join(f"0,{cell}\n" for cell in cells.split())
        labels = read_table(write(tmp_path / "data.csv", f"a,y\n{rows}"), labels="y").labels
        assert labels.tolist() == expected
        assert type(labels.tolist()[0]) is type(expected[0])


@pytest.mark.parametrize("name", ["classes.npy", "classes.csv", "classes.txt"])
@pytest.mark.parametrize("data", ["data.npy", "data.npz", "data.csv"])
def test_labels_may_be_in_a_file_of_their_own(tmp_path, name, data):
    np.save(tmp_path / "data.npy", np.ones((3, 2)))
    np.savez(tmp_path / "data.npz", x=np.ones((3, 2)), y=np.zeros(3))
    write(tmp_path / "data.csv", "a,b\n1,1\n1,1\n1,1\n")
    np.save(tmp_path / "classes.npy", np.array(["a", "b c", "d"]))
    write(tmp_path / "classes.csv", "kind\na\nb c\nd\n")
    write(tmp_path / "classes.txt", "a\nb c\nd\n\n")
    table = read_table(tmp_path / data, labels=str(tmp_path / name))
    assert table.labels.tolist() == ["a", "b c", "d"]
    assert any("labels: file" in note for note in table.notes)
    assert any("'kind', is taken as a header" in note for note in table.notes) == (
        name == "classes.csv"
    )
    assert peek(tmp_path / data, labels=str(tmp_path / name)) == (3, (2,))


def test_labels_of_another_length_are_refused_with_both_numbers(tmp_path):
    np.save(tmp_path / "data.npy", np.ones((1500, 2)))
    np.save(tmp_path / "y.npy", np.ones(1200))
    text = message(tmp_path / "data.npy", labels=str(tmp_path / "y.npy"))
    assert "y.npy must have a label for each of the 1,500 rows of data.npy, got shape (1200,)" in (
        text
    )
    np.savez(tmp_path / "data.npz", x=np.ones((3, 2)), kinds=np.ones((3, 4)))
    assert "got shape (3, 4)" in message(tmp_path / "data.npz", labels="kinds")


def test_missing_labels_are_refused(tmp_path):
    path = write(tmp_path / "data.csv", "a,y\n1,u\n2,\n3,NaN\n")
    text = message(path, labels="y")
    assert "--labels of data.csv has 2 missing labels, first in row 2" in text
    np.savez(tmp_path / "data.npz", x=np.ones((3, 2)), y=[0, 1, np.nan])
    assert "has 1 missing label, first in row 3" in message(tmp_path / "data.npz")


def test_labels_of_objects_or_of_several_columns_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones((2, 2)), y=np.array(["a", 1], dtype=object))
    assert "array 'y' of data.npz must have labels" in message(tmp_path / "data.npz")
    assert ".astype(str)" in message(tmp_path / "data.npz")
    labels = write(tmp_path / "y.csv", "1,2\n3,4\n")
    path = write(tmp_path / "data.csv", "a\n1\n2\n")
    assert "y.csv must have one label in each row; row 1 has 2" in message(path, labels=str(labels))
    labels = write(tmp_path / "y.json", "[1, 2]")
    assert "must be a .npy file, or .csv or .txt" in message(path, labels=str(labels))


# Names that are not there.


def test_unknown_columns_are_answered_with_the_nearest(tmp_path):
    path = write(tmp_path / "data.csv", "age,species\n1,2\n")
    np.save(tmp_path / "data.npy", np.ones((2, 2)))
    for text in (
        message(path, labels="specie"),
        message(path, drop=["speces"]),
    ):
        assert "column of data.csv" in text
        assert "did you mean 'species'?" in text
    with pytest.raises(ValueError, match="did you mean 'age'"):
        peek(path, drop=["aeg"])
    assert "there are 'age', 'species'" in message(path, labels="zzz")
    assert "--drop is for columns with names" in message(tmp_path / "data.npy", drop=["a"])
    assert "--array 'x' is for .npz files" in message(path, array="x")
    assert "no columns left for values" in message(path, drop=["age"], labels="species")
    assert "--drop age is needed as labels" in message(path, drop=["age"], labels="age")


def test_several_columns_of_a_name_are_refused(tmp_path):
    path = write(tmp_path / "data.csv", "a,b,a\n1,2,3\n")
    assert "several columns called 'a'" in message(path)


# Archives.


def test_the_array_of_values_is_found_by_its_name_or_its_axes(tmp_path):
    x, names = np.ones((3, 2)), np.array(["p", "q"])
    for stored, chosen, labels in (
        ({"x": x, "y": np.arange(3), "other": x}, "x", "y"),
        ({"X": x, "target": np.arange(3), "names": names}, "X", "target"),
        ({"data": x, "y": np.arange(2)}, "data", None),
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


def test_arrays_are_chosen_by_name(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, train=np.ones((3, 2)), test=np.zeros((2, 2)), kinds=np.arange(3))
    text = message(path)
    assert "train (3, 2), test (2, 2), kinds (3,)" in text
    assert "--array NAME" in text
    table = read_table(path, array="train", labels="kinds")
    assert table.values.sum() == 6
    assert table.labels.tolist() == [0, 1, 2]
    assert peek(path, array="test") == (2, (2,))
    assert "did you mean 'train'?" in message(path, array="trian")
    assert "did you mean 'kinds'?" in message(path, array="train", labels="kind")


# What is no table.


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(
    ("values", "part"),
    [
        (np.array([["a", "b"]]), "got the type <U1"),
        (np.array([[None, 1]], dtype=object), "got the type object"),
        (np.ones((2, 2), dtype=complex), "got the type complex128"),
        (np.ones((2, 2), dtype=[("a", "f8")]), "got the type [('a', '<f8')]"),
        (np.ones((2, 2), dtype="M8[s]"), "got the type datetime64"),
        (np.ones(150), "has one axis (150,)"),
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
    assert "data.npy is not an array as numpy.save writes it" in message(tmp_path / "data.npy")
    (tmp_path / "data.npz").write_bytes(b"cos\nsystem\n(S'touch evil'\ntR.")
    assert "data.npz is damaged, or of another format" in message(tmp_path / "data.npz")


def test_paths_that_lead_nowhere_are_told_apart(tmp_path):
    np.save(tmp_path / "digits.npy", np.ones((2, 2)))
    with pytest.raises(FileNotFoundError, match=r"did you mean 'digits\.npy'"):
        read_table(tmp_path / "digit.npy")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        peek(tmp_path / "no" / "digit.npy")
    assert "is a folder" in message(tmp_path)
    (tmp_path / "data.xlsx").touch()
    assert ".csv, .tsv, .csv.gz, .tsv.gz, .npy, .npz, .parquet" in message(tmp_path / "data.xlsx")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "data.csv is empty"),
        ("\n\n", "data.csv is empty"),
        ("a,b\n", "has names of columns and no rows"),
        ("a,b\n1,2\n3\n", "must have 2 cells in each row, as in its first line, got 1 in row 2"),
        ("a,b\n1,2\n\n3,4,5\n", "got 3 in row 2 (line 4)"),
        ("1,2\n3,4,5\n", "must have 2 cells in each row, as in its first line, got 3 in row 2"),
        ("a;b\n1;2\n1,5;2\n", "got '1,5' in column 'a', row 2 (line 3)"),
        ("a,b\n1,x_1\n", "column 'b' has 'x_1' in row 1 (line 2). Leave out by --drop b"),
        ("a,b\n1,True\n", "column 'b' has 'True' in row 1 (line 2)"),
        ("a,b\n1,1_000\n", "column 'b' has '1_000' in row 1 (line 2)"),
        ("5.1,3.5,Iris-setosa\n4.9,3,Iris-setosa\n", "Its first line is taken as names"),
        ("1,2\n3,x\n", "column 2 has 'x' in row 2 (line 2). Leave out by --drop 2"),
        ("a b\n1 2\n", "column 'a b' has '1 2' in row 1"),
        ("a,b\n1,2\x00\n", "column 'b' has '2\\x00' in row 1"),
    ],
)
def test_text_that_is_no_rows_of_numbers_is_refused_with_the_place(tmp_path, text, part):
    assert part in message(write(tmp_path / "data.csv", text))


def test_all_columns_of_text_are_named_at_once(tmp_path):
    path = write(tmp_path / "data.csv", 'a,home town,kind\n1,Rome,x\n"\n2",Oslo,y\n')
    text = message(path)
    assert "column 'home town' has 'Rome' in row 1 (line 2), column 'kind' has 'x'" in text
    assert "--drop 'home town' kind" in text
    assert "--labels 'home town'" in text


def test_missing_values_are_counted_by_column_and_kind(tmp_path):
    rows = ["1,2,3", ",2,NA", "1,2,nan", " ,2,NA", "1,2,3"]
    path = write(tmp_path / "data.csv", "age,b,weight\n" + "\n".join(rows) + "\n")
    text = message(path)
    assert "column 'age' has 2 empty cells, first in row 2 (line 3)" in text
    assert "column 'weight' has 'NA' in 2 cells, first in row 2 (line 3)" in text
    assert "column 'weight' has 'nan' in 1 cell, first in row 3 (line 4)" in text
    assert "--drop age weight" in text
    nothing_but_nan = write(tmp_path / "nan.csv", "a,b\n1,2\n3,nan\n")
    assert "column 'b' has 'nan' in 1 cell, first in row 2 (line 3)" in message(nothing_but_nan)


def test_other_encodings_are_refused(tmp_path):
    for encoding, byte in (("latin-1", "0xf6"), ("utf-16", "0xff")):
        path = write(tmp_path / "data.csv", "größe,b\n1,2\n", encoding=encoding)
        assert f"must be text in UTF-8, and has the byte {byte}" in message(path)
        with pytest.raises(ValueError, match="UTF-8"):
            peek(path)
    path = write(tmp_path / "data.csv", "a,b\n" + "1,2\n" * 9999 + "1,ö\n", encoding="latin-1")
    assert "must be text in UTF-8" in message(path)


cells = st.sampled_from(
    ["1", "-2.5", "0", "2", "1e9", "", "x", "NA", '"3"', '"a,b"', '"', '"\n"', " ", "1,5", "é", "_"]
)
lines = st.lists(cells, max_size=4).map(",".join) | st.lists(cells, max_size=3).map(";".join)


@settings(quick, max_examples=100)
@given(text=st.lists(lines, max_size=5).map("\n".join), labels=st.none() | cells)
def test_whatever_text_is_read_is_as_was_peeked_and_all_else_is_refused_by_name(
    tmp_path, text, labels
):
    path = write(tmp_path / "data.csv", text, encoding="utf-8")
    try:
        table = read_table(path, labels=labels)
    except ValueError as error:
        assert "data.csv" in str(error)  # noqa: PT017
    else:
        count, shape = peek(path, labels=labels)
        assert table.values.shape == (count, *shape)
        assert np.isfinite(table.values).all()
        assert (table.labels is None) == (labels is None)


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
    # OSError comes from a zip file's own table of where to read on.
    with contextlib.suppress(ValueError, OSError):
        assert read_table(path).values.shape[1:] == peek(path)[1]


# Parquet.


def write_parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


def test_parquet_columns_of_several_types_become_one_array(tmp_path):
    path = write_parquet(
        tmp_path / "data.parquet",
        a=[1, 2],
        kind=["x", "y"],
        b=[0.5, 1.5],
        c=[True, False],
        __index_level_0__=[7, 3],
    )
    table = read_table(path, labels="kind")
    same(table.values, np.array([[1, 0.5, 1], [2, 1.5, 0]]))
    assert table.columns == ("a", "b", "c")
    assert table.labels.tolist() == ["x", "y"]
    assert table.notes == ("column '__index_level_0__' counts the rows and is left out",)
    assert peek(path, labels="kind", drop=["b"]) == (2, (2,))
    same(read_table(path, columns=["c", "a"]).values, np.array([[1, 1], [0, 2]]))


def test_parquet_without_numbers_or_with_nulls_is_refused(tmp_path):
    path = write_parquet(tmp_path / "data.parquet", a=[1, None, None], city=["x", None, "y"])
    assert "column 'city' is of type string. Leave out by --drop city" in message(path)
    assert "column 'a' has 2 nulls, first in row 2" in message(path, drop=["city"])
    assert "has 1 missing label, first in row 2" in message(
        write_parquet(tmp_path / "data.parquet", a=[1, 2, 3], city=["x", None, "y"]), labels="city"
    )
    assert "has no rows" in message(write_parquet(tmp_path / "data.parquet", a=[]))
    path.write_bytes(b"PAR1 and so on PAR1")
    assert "data.parquet is damaged, or no parquet file" in message(path)
    path.write_bytes(b"a,b\n1,2\n")
    assert "data.parquet is damaged, or no parquet file" in message(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "data.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "`pip install pyarrow`" in message(tmp_path / "data.parquet")


# Values that are not finite.


def test_values_that_are_not_finite_are_counted_by_column():
    values = np.zeros((30, 3))
    values[[16, 20, 25], 0] = np.nan, np.inf, -np.inf
    values[[3, 4], 2] = np.nan
    with pytest.raises(ValueError, match="not finite") as caught:
        check_finite(values, ("age", "b", "height"), "data.csv")
    assert str(caught.value).startswith(
        "data.csv has 5 values that are not finite in 2 columns: 'age' (3, first in row 17), "
        "'height' (2, first in row 4); "
    )
    with pytest.raises(ValueError, match=r"in 2 columns: column 1 \(3, first in row 17\), column"):
        check_finite(values.astype(np.float16), None, "data.npy")


def test_values_of_images_that_are_not_finite_have_a_row_and_a_position():
    values = np.zeros((9, 4, 5), dtype=np.float32)
    values[7, 0, 0] = values[2, 3, 4] = np.inf
    with pytest.raises(ValueError, match=r"has 2 values .* in row 3 at position \(4, 5\)"):
        check_finite(values, None, "data.npy")


@settings(max_examples=8, deadline=None)
@given(place=st.integers(0, 199_999))
def test_the_first_row_is_found_in_whichever_block_it_is(place):
    # Blocks are of 4 million values, and these are 6.
    rows = np.zeros(200_000, dtype=np.float32)
    rows[place:] = np.nan
    with pytest.raises(ValueError, match=rf"first in row {place + 1}\).* 24 more") as caught:
        check_finite(np.broadcast_to(rows[:, None], (200_000, 30)), None, "data")
    assert f"has {30 * (200_000 - place):,} value" in str(caught.value)


def test_integers_and_booleans_are_finite():
    check_finite(np.ones((2, 2), dtype=np.uint8), None, "data")
    check_finite(np.ones((2, 2), dtype=bool), None, "data")
    check_finite(np.full((2, 2), 1e308), None, "data")


def test_neither_torch_nor_pandas_nor_pyarrow_is_loaded_to_read_a_table(tmp_path):
    path = write(tmp_path / "data.csv", "a,b\n1,2\n")
    code = (
        f"import sys; from mimachine.tables import peek, read_table; peek({str(path)!r}); "
        f"read_table({str(path)!r}); sys.exit(bool({{'torch', 'pandas', 'pyarrow'}} & "
        "set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
