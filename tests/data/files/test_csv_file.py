"""Text is compared with the numbers that csv and Python's own notation wrote."""

import csv
import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tablefiles import message, quick, same, tables, write, write_table

from mimachine.data.files.read_table import peek, read_table

# Round trips.


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
    assert any("is read as a row" in note for note in table.notes)


@pytest.mark.parametrize("start", [0, 1])
def test_a_nameless_first_column_that_counts_the_rows_is_left_out(tmp_path, start):
    rows = "".join(f"{k + start},{k * k}\n" for k in range(60))
    path = write(tmp_path / "data.csv", f'"","a"\n{rows}')
    table = read_table(path)
    assert table.columns == ("a",)
    assert table.values[:, 0].tolist() == [k * k for k in range(60)]
    assert table.notes == ("column 'Unnamed: 0' only counts the rows; not used",)
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


# Unusable files.


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "data.csv is empty"),
        ("\n\n", "data.csv is empty"),
        ("a,b\n", "has column names but no rows"),
        ("a,b\n1,2\n3\n", "must have 2 cells in each row, as in its first line, got 1 in row 2"),
        ("a,b\n1,2\n\n3,4,5\n", "got 3 in row 2 (line 4)"),
        ("1,2\n3,4,5\n", "must have 2 cells in each row, as in its first line, got 3 in row 2"),
        ("a;b\n1.5;2\n1,5;2\n", "got '1,5' in column 'a', row 2 (line 3)"),
        ('a,b\n1,2\n3,"4\n', "has a quote that is not closed"),
        (
            "a,b\n1,x_1\n",
            "column 'b' has 'x_1' in row 1 (line 2). Leave them out with drop=[\"b\"]",
        ),
        ("a,b\n1,True\n2,yes\n", "column 'b' has 'True' in row 1 (line 2)"),
        ("a,b\n1,1_000\n", "column 'b' has '1_000' in row 1 (line 2)"),
        ("5.1,3.5,Iris-setosa\n4.9,3,Iris-setosa\n", "Its first line is read as column names"),
        (
            "1,2\n3,x\n",
            "column 2 has 'x' in row 2 (line 2). Leave them out with drop=[\"2\"]",
        ),
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
    assert 'drop=["home town", "kind"]' in text
    assert 'labels="home town"' in text


def test_missing_values_are_counted_by_column_and_kind(tmp_path):
    rows = ["1,2,3", ",2,NA", "1,2,nan", " ,2,NA", "1,2,3"]
    path = write(tmp_path / "data.csv", "age,b,weight\n" + "\n".join(rows) + "\n")
    text = message(path)
    assert "column 'age' has 2 empty cells, first in row 2 (line 3)" in text
    assert "column 'weight' has 'NA' in 2 cells, first in row 2 (line 3)" in text
    assert "column 'weight' has 'nan' in 1 cell, first in row 3 (line 4)" in text
    assert 'drop=["age", "weight"]' in text
    nothing_but_nan = write(tmp_path / "nan.csv", "a,b\n1,2\n3,nan\n")
    assert "column 'b' has 'nan' in 1 cell, first in row 2 (line 3)" in message(nothing_but_nan)


@pytest.mark.parametrize(
    "mark",
    ["N.A.", "#N/A N/A", "1.#QNAN", "-1.#IND", "NaT", ".", "-", "--", "#DIV/0!", "\\N", "(null)"],
)
@pytest.mark.parametrize("named", [True, False])
def test_usual_markers_of_missing_values_are_missing_and_no_header(tmp_path, mark, named):
    rows = [f"1,{mark},3", *["1,2,3"] * 5]
    path = write(tmp_path / "data.csv", "\n".join(["a,b,c"] * named + rows) + "\n")
    column = "column 'b'" if named else "column 2"
    assert f"missing values: {column} has {mark!r} in 1 cell, first in row 1 " in message(path)


def test_a_marker_that_can_be_a_class_is_one(tmp_path):
    rows = [f"{k},{'-+'[k % 2]},{'?' if k % 3 else 'none'}" for k in range(6)]
    path = write(tmp_path / "data.csv", "a,sign,kind\n" + "\n".join(rows) + "\n")
    for column, classes in (("sign", {"-", "+"}), ("kind", {"?", "none"})):
        other = {"sign": "kind", "kind": "sign"}[column]
        table = read_table(path, labels=column, drop=[other])
        assert set(table.labels) == classes


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-be", "utf-32", "utf-8-sig"])
def test_other_encodings_are_read(tmp_path, encoding):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    rows = "1,2\n" * 9999
    path = write(tmp_path / "data.csv", f"{mark}größe,b\n{rows}3,ö\n", encoding=encoding)
    table = read_table(path, labels="b")
    assert table.columns == ("größe",)
    assert table.labels[-1] == "ö"
    same(table.values, np.array([[1.0]] * 9999 + [[3.0]]))
    assert peek(path, labels="b") == (10_000, (1,))
    assert [note for note in table.notes if "not in UTF-8" in note] == (
        ["data.csv is not in UTF-8; it is read as Windows-1252. If letters with accents look "
         "wrong, save it as UTF-8"] if encoding == "latin-1" else []
    )  # fmt: skip


def test_damaged_text_is_refused(tmp_path):
    path = tmp_path / "data.csv"
    for content in ("größe,böse\n".encode() + b"1,\xf6\n", b"a,b\n1,\xff\x00\n"):
        path.write_bytes(content)
        assert "must be text in UTF-8, got the byte 0x" in message(path)


def test_numbers_in_other_styles_are_read(tmp_path):
    path = write(tmp_path / "data.csv", "a;b;c\n1.234,5;007;0,25\n-2;010;1e3\n", encoding="utf-8")
    same(read_table(path).values, np.array([[1234.5, 7, 0.25], [-2, 10, 1000]]))
    path = write(tmp_path / "data.csv", 'a,b\n"1,234,567",true\n"2,000.5",FALSE\n')
    table = read_table(path)
    same(table.values, np.array([[1234567, 1], [2000.5, 0]]))
    assert table.booleans.tolist() == [False, True]


cells = st.sampled_from(
    ["1", "-2.5", "0", "2", "1e9", "", "x", "NA", '"3"', '"a,b"', '"', '"\n"', " ", "1,5", "é", "_"]
)
lines = st.lists(cells, max_size=4).map(",".join) | st.lists(cells, max_size=3).map(";".join)


@settings(quick, max_examples=100)
@given(text=st.lists(lines, max_size=5).map("\n".join), labels=st.none() | cells)
def test_text_is_read_in_the_shape_of_peek_or_the_error_names_the_file(tmp_path, text, labels):
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
