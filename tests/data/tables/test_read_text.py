"""Text tables are compared with the values that were written, and with Python's csv."""

import csv
import datetime
import gzip
import io

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tablefiles import quick

from mimachine._support import memory
from mimachine.data.tables import text_rows
from mimachine.data.tables.read import read_blocks, read_frame


def frame(tmp_path, text, name="data.csv", encoding="utf-8", **kwargs):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_frame(tmp_path / name, **kwargs)


def column(tmp_path, cells, **kwargs):
    """The only column of a table with these cells, quoted, beside a counter."""
    written = io.StringIO()
    writer = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["n", "a"], *([k, cell] for k, cell in enumerate(cells))])
    return frame(tmp_path, written.getvalue(), **kwargs)


def error(tmp_path, text, **kwargs):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        frame(tmp_path, text, **kwargs)
    return str(caught.value)


# Cells.

words = st.text("ab,;|\t\"'\n #ä€", max_size=6).map(lambda text: f"<{text}>")


@pytest.fixture(params=[1 << 20, 64], ids=["one block", "small blocks"])
def _size_of_blocks(request, monkeypatch):
    monkeypatch.setattr(text_rows, "_BLOCK", request.param)
    monkeypatch.setattr(text_rows, "_OF_A_COLUMN", 1)


@pytest.mark.usefixtures("_size_of_blocks")
@settings(quick, max_examples=60)
@given(
    rows=st.lists(st.tuples(words, st.integers(-99, 99), words), min_size=1, max_size=30),
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_text_with_delimiters_quotes_and_line_ends_comes_back(
    tmp_path, rows, delimiter, quoting, end
):
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([("x", "n", "y"), *rows])
    found = frame(tmp_path, written.getvalue())
    assert found.data.rows() == rows
    assert found.data.columns == ["x", "n", "y"]


@pytest.mark.usefixtures("_size_of_blocks")
@settings(quick, max_examples=60)
@given(
    rows=st.lists(
        st.lists(
            st.sampled_from(["x", '5" pipe', 'a"b"', '"q"', "", " y"]), min_size=2, max_size=2
        ),
        min_size=1,
        max_size=20,
    )
)
def test_quotes_within_cells_are_read_as_csv_reads_them(tmp_path, rows):
    text = "a,b\n" + "".join(f"{','.join(row)}\n" for row in rows)
    try:
        found = frame(tmp_path, text).data.rows()
    except ValueError:
        found = None
    expected = [tuple(c.strip() or None for c in row) for row in csv.reader(text.splitlines(True))]
    assert found == expected[1:]


def test_quotes_behind_delimiters_and_spaces_are_around_cells(tmp_path):
    found = frame(tmp_path, 'a, b, c\n1, "x, y", 2\n3, "z", 4\n').data
    assert found.rows() == [(1, "x, y", 2), (3, "z", 4)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_lines_are_left_out_and_counted(tmp_path, end):
    text = end.join(["", "a,b", "", "1,x", "", '3,"y', '"', "", "4,z", "5"])
    assert "got 1 in row 4 (line 10)" in error(tmp_path, text)
    found = frame(tmp_path, text + ",z")
    assert found.data["a"].to_list() == [1, 3, 4, 5]
    assert [found.place(k) for k in range(4)] == [
        "row 1 (line 4)",
        "row 2 (line 7)",
        "row 3 (line 9)",
        "row 4 (line 10)",
    ]


@pytest.mark.usefixtures("_size_of_blocks")
@settings(quick, max_examples=60)
@given(widths=st.lists(st.sampled_from([3, 3, 3, 3, 2, 4]), min_size=1, max_size=30))
@pytest.mark.parametrize("cell", ["1", '"1"', 'x"'])
def test_the_first_row_of_another_width_is_named(tmp_path, widths, cell):
    rows = "".join(",".join([cell] * width) + "\n" for width in widths)
    bad = [k for k, width in enumerate(widths, 1) if width != 3]
    if bad:
        part = f"must have 3 cells in each row, as in its first line, got {widths[bad[0] - 1]} in "
        assert f"{part}row {bad[0]} (line {bad[0] + 1})" in error(tmp_path, f"a,b,c\n{rows}")
    else:
        assert frame(tmp_path, f"a,b,c\n{rows}").data.height == len(widths)


@pytest.mark.usefixtures("_size_of_blocks")
@settings(quick, max_examples=60)
@given(values=st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_come_back_bit_for_bit_and_empty_cells_are_missing(tmp_path, values):
    found = column(tmp_path, ["" if each is None else repr(each) for each in values]).data["a"]
    if found.dtype == pl.String:  # Numbers that are only apart beyond the digits of floats.
        pytest.fail(str(values))
    assert found.to_list() == values


@pytest.mark.usefixtures("_size_of_blocks")
@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1"] * 99 + ["NA"], pl.Int64),
        (["1"] * 99 + ["n/a", " 2 "], pl.Int64),
        (["1"] * 99 + ["2.5"], pl.Float64),
        (["1"] * 99 + ["1e3"], pl.Float64),
        (["1"] * 99 + ["007"], pl.String),
        (["1"] * 99 + ["x"], pl.String),
        (["x"] * 99 + ["1"], pl.String),
        ([""] * 99 + ["1"], pl.Int64),
        ([""] * 99 + ["x"], pl.String),
        (["1"] * 99 + [str(2**53 + 1)], pl.String),
        (["1"] * 99 + [str(2**53)], pl.Int64),
        ([""] * 99, pl.Null),
        (["true"] * 99 + ["FALSE"], pl.Boolean),
        (["true"] * 99 + ["maybe"], pl.String),
    ],
)
def test_the_type_depends_on_all_cells_wherever_they_are(tmp_path, cells, kind):
    for order in (cells, cells[::-1]):
        found = column(tmp_path, order).data["a"]
        assert found.dtype == kind
        if kind == pl.String:
            assert found.to_list() == [cell.strip() or None for cell in order]


# Numbers.


def spelled(number, decimal, group, places):
    usual = f"{number:,.{places}f}"
    return usual.replace(",", "\0").replace(".", decimal).replace("\0", group)


@settings(quick, max_examples=80)
@given(
    hundredths=st.lists(st.integers(-(10**9), 10**9), min_size=2, max_size=20),
    style=st.sampled_from([".", ".,", ". ", ".'", ",", ",.", ", ", ",\u00a0", ",\u202f"]),
    places=st.sampled_from([2, 4]),
    sign=st.sampled_from(["", "%", "€"]),
)
def test_numbers_are_read_in_the_style_in_which_they_were_written(
    tmp_path, hundredths, style, places, sign
):
    numbers = [each / 100 for each in hundredths]
    cells = [spelled(n, style[0], style[1:], places) + sign for n in numbers]
    found = column(tmp_path, cells)
    assert found.data["a"].to_list() == numbers
    # A later file of one cell is read in the same style.
    cell = spelled(1234.0, style[0], style[1:], 0) + sign
    later = column(tmp_path, [cell], types={"a": "Float64"}, formats=found.styles)
    assert later.data["a"].to_list() == [1234.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The column decides, then other columns, then the delimiter.
        ('a,b\n"1,234","x"\n"1,5",y\n', [1.234, 1.5]),
        ('a,b\n"1,234","1,5"\n"5,678","2,5"\n', [1.234, 5.678]),
        ('a,b\n"1,234","1,000.5"\n"5,678","2.5"\n', [1234, 5678]),
        ("a;b\n1,234;x\n5,678;y\n", [1.234, 5.678]),
        ('a,b\n"1,234",x\n"5,678",y\n', [1234, 5678]),
        ("a;b\n1.234;0,5\n5.678;1,5\n", [1234, 5678]),
        ("a;b\n1.234;0,5\n5.6;1,5\n", [1.234, 5.6]),
    ],
)
def test_a_comma_that_could_be_of_thousands_is_decided(tmp_path, text, expected):
    assert frame(tmp_path, text).data["a"].to_list() == expected


def test_what_stays_ambiguous_is_said(tmp_path):
    found = frame(tmp_path, 'a,b\n"1,234",1/2/2020\n"5,678",3/4/2020\n')
    assert found.data.rows() == [
        (1234, datetime.date(2020, 1, 2)),
        (5678, datetime.date(2020, 3, 4)),
    ]
    numbers, dates = found.notes
    assert (
        "column 'a' may have decimal commas or separators of thousands, such as '1,234'" in numbers
    )
    assert "column 'b' may have the day or the month first, as in '1/2/2020'" in dates


def test_long_and_infinite_numbers(tmp_path):
    found = column(tmp_path, ["1.0000000000000000001", "1.0000000000000000002"])
    assert found.data["a"].to_list() == ["1.0000000000000000001", "1.0000000000000000002"]
    assert "too many digits" in found.notes[0]
    found = column(tmp_path, ["1.5", "inf", "-inf"])
    assert found.data["a"].to_list() == [1.5, None, None]
    assert found.notes == ("infinite numbers are read as missing: column 'a' has 2",)


def test_a_column_of_numbers_and_few_words_is_mixed(tmp_path):
    cells = ["1"] * 10 + ["abt 40"] + ["2,5"] * 10
    found = column(tmp_path, cells)
    assert found.data["a"].to_list() == cells
    assert found.mixed == {"a": "'abt 40' in row 11 (line 12)"}
    assert not column(tmp_path, ["1", "2", "x"]).mixed


# Missing values, true and false.


def test_codes_are_missing_in_all_columns_and_words_among_other_types(tmp_path):
    text = "n,w,d,f\n1,a,2020-01-01,true\nNA,NA,n/a,NULL\nunknown,none,unknown,-\n?,?,?,?\n"
    found = frame(tmp_path, text)
    assert found.data.rows() == [
        (1, "a", datetime.date(2020, 1, 1), True),
        (None, None, None, None),
        (None, "none", None, None),
        (None, None, None, None),
    ]
    assert found.notes == ("column 'w' has '?', read as missing",)
    assert column(tmp_path, ["+", "-"]).data["a"].to_list() == ["+", "-"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["yes", "No", ""], [True, False, None]),
        (["yes", "yes"], ["yes", "yes"]),
        (["true", "TRUE"], [True, True]),
        (["true", "yes"], ["true", "yes"]),
        (["0", "1"], [0, 1]),
    ],
)
def test_true_and_false(tmp_path, cells, expected):
    assert column(tmp_path, cells).data["a"].to_list() == expected


# Dates and times.

FORMATS = [
    *("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%y"),
    *("%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%d-%b-%y"),
    *("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %I:%M %p"),
    *("%Y-%m-%d %H:%M:%S.%f", "%H:%M", "%H:%M:%S", "%I:%M %p"),
]


@pytest.mark.parametrize("pattern", FORMATS)
def test_dates_and_times_are_read_in_the_format_in_which_they_were_written(tmp_path, pattern):
    start = datetime.datetime(1999, 12, 25, 22, 15, 30, 250000)
    times = [start + datetime.timedelta(days=k, minutes=7 * k) for k in range(40)]
    cells = [time.strftime(pattern) for time in times]
    found = column(tmp_path, [*cells, ""])
    expected = [datetime.datetime.strptime(cell, pattern) for cell in cells]
    kind = found.data["a"].dtype
    if kind == pl.Date:
        expected = [each.date() for each in expected]
    elif kind == pl.Time:
        expected = [each.time() for each in expected]
    assert found.data["a"].to_list() == [*expected, None]
    # Written in that format they are the same, and a file of one row is read alike.
    shown = found.data["a"].dt.strftime(found.formats["a"]).to_list()[:-1]
    assert [datetime.datetime.strptime(c[:26], pattern) for c in shown] == [
        datetime.datetime.strptime(cell, pattern) for cell in cells
    ]
    later = column(tmp_path, cells[:1], types={"a": str(kind)}, formats=found.formats)
    assert later.data["a"].to_list() == expected[:1]


def test_time_zones_become_utc(tmp_path):
    cells = ["2020-01-01T10:00:00+01:00", "2020-01-01T10:00:00Z"]
    found = column(tmp_path, cells)
    utc = datetime.UTC
    assert found.data["a"].to_list() == [
        datetime.datetime(2020, 1, 1, 9, tzinfo=utc),
        datetime.datetime(2020, 1, 1, 10, tzinfo=utc),
    ]
    assert "UTC" in found.notes[0]


@pytest.mark.parametrize(
    "cells",
    [["2020-01-01", "2020-02-30"], ["1/13/2020", "13/1/2020"], ["1.2.3", "1.2.4"], ["25:00"]],
)
def test_what_is_no_date_is_text(tmp_path, cells):
    assert column(tmp_path, cells).data["a"].to_list() == cells


# Names, headers, encodings.


def test_names_of_columns(tmp_path):
    found = frame(tmp_path, ",a,\n0,x,1\n1,y,2\n")
    assert found.data.columns == ["a", "Unnamed: 2"]
    assert "column 'Unnamed: 0' only counts the rows; not used" in found.notes
    assert "several columns called 'a'" in error(tmp_path, "a,a\n1,2\n")
    found = frame(tmp_path, "1,5\n2,6\n")
    assert (found.data.columns, found.named) == (["1", "2"], False)
    found = frame(tmp_path, "1,5;2020-01-01\n2,5;2020-01-02\n")
    assert not found.named
    assert found.data["1"].to_list() == [1.5, 2.5]
    assert frame(tmp_path, "2020-01,2020-02\n5,6\n").data.columns == ["2020-01", "2020-02"]
    assert frame(tmp_path, "x,y\nz,w\n", header=False).data.rows() == [("x", "y"), ("z", "w")]


def test_chosen_columns_come_in_their_order(tmp_path):
    found = frame(tmp_path, "a,b,c\n1,x,2\n", columns=["c", "a"])
    assert found.data.rows(named=True) == [{"c": 2, "a": 1}]
    assert found.notes == ("not used: column 'b'",)
    text = error(tmp_path, "age,c\n1,2\n", columns=["Age"])
    assert "lacks 1 column: 'Age'; did you mean 'age'?" in text
    assert frame(tmp_path, "1,2\n3,4\n", columns=["a", "b"]).data.columns == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
@pytest.mark.parametrize("compressed", [False, True])
def test_encodings(tmp_path, encoding, compressed):
    content = ("name;größe\n" + "Zoë;1,5\n" * 200_000).encode(encoding)
    path = tmp_path / ("data.csv.gz" if compressed else "data.csv")
    path.write_bytes(gzip.compress(content, 1) if compressed else content)
    found = read_frame(path)
    assert found.data.columns == ["name", "größe"]
    assert found.data.unique().rows() == [("Zoë", 1.5)]
    assert any("Windows-1252" in note for note in found.notes) == (encoding[-1] in "21")


def test_what_is_no_table_is_refused(tmp_path, monkeypatch):
    assert "is empty" in error(tmp_path, "\n\n")
    assert "has column names but no rows" in error(tmp_path, "a,b\n")
    assert "quote that is not closed" in error(tmp_path, 'a,b\n1,"2\n3,4\n')
    with monkeypatch.context() as patch:
        patch.setattr(text_rows, "_LONGEST_ROW", 1 << 20)
        text = 'a,b\n1,"2\n' + "3,4\n" * 600_000
        assert "has a quote after line 1 that is not closed within 1 MiB" in error(tmp_path, text)
    with pytest.raises(FileNotFoundError, match=r"did you mean 'data\.csv'"):
        read_frame(tmp_path / "dat.csv")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ValueError, match="suffixes"):
        read_frame(tmp_path / "a.xlsx")
    monkeypatch.setattr(memory, "available", lambda: 1000)
    assert "more than 1.0 kB of text" in error(tmp_path, "a,b\n" + "1,2\n" * 1000)


# Later files.


def test_later_files_are_read_as_the_types_of_the_first(tmp_path):
    first = frame(tmp_path, "code,n,flag,day\n007,1,yes,13/2/2020\n012,2.5,no,14/2/2020\n")
    types = {name: str(kind) for name, kind in first.data.schema.items()}
    later = frame(
        tmp_path, "code,n,flag,day\n12,7,yes,1/2/2020\n", types=types, formats=first.formats
    )
    assert later.data.rows() == [("12", 7, True, datetime.date(2020, 2, 1))]
    for cells, part in (
        ("1,x,yes,1/2/2020", "must have numbers in column 'n', as in training; got 'x' in row 1"),
        ("1,2,perhaps,1/2/2020", "must have true and false in column 'flag', as in training; got"),
        ("1,2,no,soon", "must have dates or times in column 'day', as in training; got 'soon'"),
    ):
        assert part in error(tmp_path, f"code,n,flag,day\n{cells}\n", types=types)


def test_reading_twice_gives_the_same(tmp_path):
    text = "a;b;c\n" + "".join(f"{k},5;w{k % 7};{k % 12 + 1}/3/2020\n" for k in range(999))
    first, second = frame(tmp_path, text), frame(tmp_path, text)
    assert first.data.equals(second.data, null_equal=True)
    for each in ("notes", "formats", "styles", "mixed", "source", "named"):
        assert getattr(first, each) == getattr(second, each)


def test_blocks_of_text_join_to_the_whole(tmp_path):
    whole = frame(tmp_path, "a,b\n" + "".join(f"{k},w{k}\n" for k in range(25)))
    blocks = list(read_blocks(tmp_path / "data.csv", 10))
    assert [block.data.height for block in blocks] == [10, 10, 5]
    assert pl.concat([block.data for block in blocks]).equals(whole.data)
    assert blocks[2].place(0) == "row 21 (line 22)"
    with pytest.raises(ValueError, match="rows must be 1 or more, got 0"):
        next(read_blocks(tmp_path / "data.csv", 0))


def test_many_columns(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 3000))
    rows = "\n".join(",".join(map(repr, row)) for row in values.tolist())
    found = frame(tmp_path, ",".join(f"c{k}" for k in range(3000)) + f"\n{rows}\n").data
    np.testing.assert_array_equal(found.to_numpy(), values)


ROWS_BELOW = "city,age\nOslo,3\nRome,40\nBari,5\n"


@pytest.mark.parametrize(
    ("above", "line"),
    [
        ("sep=,\n", 3),
        ('"sep=,"\n', 3),
        ("Customers\n\n", 4),
        ("Customers of 2024\n", 3),
        ("# exported, 2024-01-01, by the shop\n# in thousands\n", 4),
        ("\n# exported\n\n", 5),
    ],
)
def test_lines_above_a_table_are_left_out_and_named(tmp_path, above, line):
    expected = frame(tmp_path, ROWS_BELOW)
    found = frame(tmp_path, above + ROWS_BELOW)
    assert found.data.equals(expected.data)
    assert found.place(0) == f"row 1 (line {line})"
    words = above.strip().splitlines()[0]
    assert ("sep=" in above) == (found.notes == ())
    assert "sep=" in above or repr(words) in found.notes[0]


def test_a_padded_title_and_the_delimiter_that_excel_writes(tmp_path):
    expected = frame(tmp_path, "a,b,c\n1.5,2,x\n2.5,3,y\n")
    padded = frame(tmp_path, "Report 7,,\n,,\na,b,c\n1.5,2,x\n2.5,3,y\n")
    assert padded.data.equals(expected.data)
    named = frame(tmp_path, "sep=;\na;b;c\n1,5;2;x\n2,5;3;y\n")
    assert named.data.equals(expected.data)


@pytest.mark.parametrize(
    "text", ["age\n1,2\n3,4\n5,6\n", "a,b,c\n1,2\n3,4\n5,6\n", "#a,b\n1,2\n3,4\n", "a,b\n1,2\n3\n"]
)
def test_a_short_row_is_no_title(tmp_path, text):
    if text.startswith("#"):
        assert frame(tmp_path, text).data.columns == ["#a", "b"]
    else:
        assert "in each row, as in its first line" in error(tmp_path, text)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1.50", "(2.25)", "3"], [1.5, -2.25, 3.0]),
        (["1.50", "2.25-", "3"], [1.5, -2.25, 3.0]),
        (["$1,000.50", "($2.25)", "$3"], [1000.5, -2.25, 3.0]),
        (["1.000,50 kr", "2,25 kr", "3 kr"], [1000.5, 2.25, 3.0]),
        (["USD 10", "USD 2.5", "USD -3"], [10.0, 2.5, -3.0]),
        (["US$10", "US$2.5", "-US$3"], [10.0, 2.5, -3.0]),
    ],
)
def test_money_as_accountants_write_it(tmp_path, cells, numbers):
    assert column(tmp_path, cells).data["a"].to_list() == numbers


@pytest.mark.parametrize("cells", [["(1)", "(2)", "(3)"], ["1-", "a", "2"], ["5 kr", "6 EUR"]])
def test_marks_and_other_units_are_text(tmp_path, cells):
    assert column(tmp_path, cells).data["a"].to_list() == cells
