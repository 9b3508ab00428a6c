"""Tables in every format: paths, choice of columns, labels and finite values."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tablefiles import message, same, write, write_table

from mimachine.data.files.checks import check_finite
from mimachine.data.files.read_table import peek, read_table

# Paths.


def test_suffixes_may_be_in_capitals(tmp_path):
    np.save(tmp_path / "data.npy", np.ones((2, 2)))
    (tmp_path / "data.npy").rename(tmp_path / "DATA.NPY")
    assert read_table(tmp_path / "DATA.NPY").values.shape == (2, 2)


def test_missing_files_folders_and_other_formats_are_errors(tmp_path):
    np.save(tmp_path / "digits.npy", np.ones((2, 2)))
    with pytest.raises(FileNotFoundError, match=r"did you mean 'digits\.npy'"):
        read_table(tmp_path / "digit.npy")
    with pytest.raises(FileNotFoundError, match="no file "):
        peek(tmp_path / "no" / "digit.npy")
    assert "is a folder" in message(tmp_path)
    (tmp_path / "data.xlsx").touch()
    assert ".csv, .tsv, .csv.gz, .tsv.gz, .npy, .npz, .parquet" in message(tmp_path / "data.xlsx")


def test_neither_torch_nor_pandas_nor_pyarrow_is_loaded_to_read_a_table(tmp_path):
    path = write(tmp_path / "data.csv", "a,b\n1,2\n")
    code = (
        "import sys; from mimachine.data.files.read_table import peek, read_table; "
        f"peek({str(path)!r}); "
        f"read_table({str(path)!r}); sys.exit(bool({{'torch', 'pandas', 'pyarrow'}} & "
        "set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Columns that a model was trained on.


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
        "no labels: no column or file called 'kind'",
        "columns are in a different order than in training; matched by name",
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
        assert "columns have no names; matched by order to 'a', 'b'" in table.notes
        assert any("no labels: " in note for note in table.notes)
        assert "the 3 columns that the model was trained on" in message(
            tmp_path / name, columns=["a", "b", "c"]
        )


def test_a_column_that_the_model_needs_must_be_there(tmp_path):
    path = write(tmp_path / "data.csv", "age,height\n1,2\n")
    text = message(path, columns=("height", "Age", "weight"))
    assert "lacks 2 columns that the model was trained on: 'Age', 'weight'" in text
    assert "did you mean 'age'?" in text
    text = message(path, columns=("age", "height"), drop=["age"])
    assert 'drop=["age"] is needed as labels or values' in text
    text = message(path, columns=("age", "height"), labels="age")
    assert "labels must not be a column that the model was trained on, got 'age'" in text


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
    assert any("'kind', is read as a header" in note for note in table.notes) == (
        name == "classes.csv"
    )
    assert peek(tmp_path / data, labels=str(tmp_path / name)) == (3, (2,))


def test_labels_of_another_length_are_refused_with_both_numbers(tmp_path):
    np.save(tmp_path / "data.npy", np.ones((1500, 2)))
    np.save(tmp_path / "y.npy", np.ones(1200))
    text = message(tmp_path / "data.npy", labels=str(tmp_path / "y.npy"))
    assert (
        "y.npy must have one label for each of the 1,500 rows of data.npy, got shape (1200,)"
        in (text)
    )
    np.savez(tmp_path / "data.npz", x=np.ones((3, 2)), kinds=np.ones((3, 4)))
    assert "got shape (3, 4)" in message(tmp_path / "data.npz", labels="kinds")


def test_missing_labels_are_refused(tmp_path):
    path = write(tmp_path / "data.csv", "a,y\n1,u\n2,\n3,NaN\n")
    text = message(path, labels="y")
    assert "labels of data.csv must have no missing values, got 2, first in row 2" in text
    np.savez(tmp_path / "data.npz", x=np.ones((3, 2)), y=[0, 1, np.nan])
    assert "must have no missing values, got 1, first in row 3" in message(tmp_path / "data.npz")


def test_labels_of_objects_or_of_several_columns_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones((2, 2)), y=np.array(["a", 1], dtype=object))
    assert "array 'y' of data.npz must hold numbers or text as labels" in message(
        tmp_path / "data.npz"
    )
    assert ".astype(str)" in message(tmp_path / "data.npz")
    labels = write(tmp_path / "y.csv", "1,2\n3,4\n")
    path = write(tmp_path / "data.csv", "a\n1\n2\n")
    assert "y.csv must have one label in each row; row 1 has 2" in message(path, labels=str(labels))
    labels = write(tmp_path / "y.json", "[1, 2]")
    assert "must be a .npy file, or a .csv or .txt file" in message(path, labels=str(labels))


# Unknown names.


def test_unknown_columns_are_answered_with_the_nearest(tmp_path):
    path = write(tmp_path / "data.csv", "age,species\n1,2\n")
    np.save(tmp_path / "data.npy", np.ones((2, 2)))
    for text, part in (
        (message(path, labels="specie"), "columns of data.csv, got 'specie'"),
        (message(path, drop=["speces"]), 'drop=["speces"] is not a column of data.csv'),
    ):
        assert part in text
        assert "did you mean 'species'?" in text
    with pytest.raises(ValueError, match="did you mean 'age'"):
        peek(path, drop=["aeg"])
    assert "the names are 'age', 'species'" in message(path, labels="zzz")
    assert "drop needs columns with names" in message(tmp_path / "data.npy", drop=["a"])
    assert 'array="x" applies to .npz files only' in message(path, array="x")
    assert "no columns left for values" in message(path, drop=["age"], labels="species")
    assert 'drop=["age"] is needed as labels' in message(path, drop=["age"], labels="age")


def test_several_columns_of_a_name_are_refused(tmp_path):
    path = write(tmp_path / "data.csv", "a,b,a\n1,2,3\n")
    assert "several columns called 'a'" in message(path)


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
    # Blocks have 4 million values, and the array has 6 million.
    rows = np.zeros(200_000, dtype=np.float32)
    rows[place:] = np.nan
    with pytest.raises(ValueError, match=rf"first in row {place + 1}\).* 24 more") as caught:
        check_finite(np.broadcast_to(rows[:, None], (200_000, 30)), None, "data")
    assert f"has {30 * (200_000 - place):,} value" in str(caught.value)


def test_integers_and_booleans_are_finite():
    check_finite(np.ones((2, 2), dtype=np.uint8), None, "data")
    check_finite(np.ones((2, 2), dtype=bool), None, "data")
    check_finite(np.full((2, 2), 1e308), None, "data")
