"""Text files whose lines, quotes, separators, headers or sizes are not as they should be."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import chain

from tables.malformed.case import HEADER, Case, of_text, rows, text

PLAIN = text(rows())
LINES = PLAIN.splitlines()


def structure() -> Iterator[Case]:
    """Cases of structure."""
    return chain(ragged(), quotes(), separators(), line_ends(), headers(), around(), sizes())


def changed(line: int, new: str) -> str:
    """The plain table with another line, counted from 1, the header's."""
    return "\n".join([*LINES[: line - 1], new, *LINES[line:]]) + "\n"


def ragged() -> Iterator[Case]:
    yield of_text(
        "a row with a cell too few", changed(13, "31,Brora,2021-01-01,1000.5"), True, "13"
    )
    yield of_text("a row with a cell too many", changed(13, LINES[12] + ",x"), True, "13")
    yield of_text("a first row with a cell too few", changed(2, "31,Brora,2021-01-01,9"), True, "2")
    yield of_text("a last row that is cut", PLAIN[: PLAIN.rindex(",", 0, -8)], True, "41")
    yield of_text("a last cell that is cut", PLAIN[:-3], None, "41")
    yield of_text("a row of one cell", changed(20, "31"), True, "20")
    yield of_text("a row of text", changed(20, "continued on the next page"), True, "20")
    yield of_text(
        "an unquoted comma in a city", changed(9, "31,Bath, Avon,2021-01-01,1,true"), True
    )
    cells = [row[: 5 - k % 2] for k, row in enumerate(rows())]
    yield of_text("every second row is short", text(cells), True, "3")
    yield of_text("a header with a name too many", text(rows(), (*HEADER, "more")), True, "6", "5")
    yield of_text("a header with a name too few", text(rows(), HEADER[:-1]), None, "4", "5")
    numbered = [[str(k), *row] for k, row in enumerate(rows(), 1)]
    yield of_text("row names without a name", text(numbered), None, "5", "6")
    yield of_text("a column of row numbers without a name", text(numbered, ("", *HEADER)), False)
    wider = [row + ["x"] * (k // 10) for k, row in enumerate(rows())]
    yield of_text("rows that widen", text(wider), True, "12")
    yield of_text("two tables in one file", PLAIN + "\n" + "name,score\na,1\nb,2\n", True)
    yield of_text("two tables side by side", text([[*r, "", *r] for r in rows()]), None)
    yield of_text("a table that comes twice", PLAIN + PLAIN, None)


def quotes() -> Iterator[Case]:
    yield of_text("a quote that does not close", changed(13, '31,"Brora,2021-01-01,1,true'), True)
    yield of_text("a quote that does not close in the last row", PLAIN[:-1] + '"\n', None)
    yield of_text("a quote that does not close in the header", '"' + PLAIN, True)
    yield of_text("a quote within a cell", changed(13, '31,Bro"ra,2021-01-01,1,true'), None)
    yield of_text("text after a quote", changed(13, '31,"Brora"x,2021-01-01,1,true'), None)
    yield of_text("doubled quotes", changed(13, '31,"the ""Brora""",2021-01-01,1,true'), False)
    yield of_text("escaped quotes", changed(13, r'31,"the \"Brora\"",2021-01-01,1,true'), None)
    yield of_text("single quotes", text([[f"'{c}'" for c in r] for r in rows()]), None)
    yield of_text("all cells in quotes", text([[f'"{c}"' for c in r] for r in rows()]), False)
    yield of_text("whole lines in quotes", "".join(f'"{line}"\n' for line in LINES), None)
    curly = [[f"\u201c{cell}\u201d" for cell in row] for row in rows()]
    yield of_text("curly quotes", text(curly), None)
    yield of_text("a cell with a newline", changed(13, '31,"Bro\nra",2021-01-01,1,true'), False)
    yield of_text("a cell with a comma", changed(13, '31,"Bath, Avon",2021-01-01,1,true'), False)
    yield of_text(
        "a cell with a carriage return", changed(13, '31,"Bro\rra",2021-01-01,1,true'), None
    )
    yield of_text("spaces before a quote", changed(13, '31, "Brora",2021-01-01,1,true'), None)
    yield of_text("empty quotes", changed(13, '31,"",2021-01-01,1,true'), False)


def separators() -> Iterator[Case]:
    decimal = [[c.replace(".", ",") if k == 3 else c for k, c in enumerate(r)] for r in rows()]
    yield of_text("semicolons", text(rows(), delimiter=";"), False)
    yield of_text("semicolons and decimal commas", text(decimal, delimiter=";"), False)
    yield of_text("tabs and decimal commas", text(decimal, delimiter="\t"), False)
    yield of_text("decimal commas between commas", text(decimal), True)
    yield of_text("tabs in a csv", text(rows(), delimiter="\t"), False)
    yield of_text("commas in a tsv", PLAIN, None, suffix=".tsv")
    yield of_text("bars", text(rows(), delimiter="|"), False)
    yield of_text("bars and spaces", text(rows(), delimiter=" | "), None)
    yield of_text("colons", text(rows(), delimiter=":"), None)
    yield of_text("spaces", text(rows(), delimiter=" "), None)
    padded = [[cell.ljust(12) for cell in row] for row in rows()]
    yield of_text("columns of fixed width", text(padded, delimiter=""), None)
    yield of_text("spaces after commas", text(rows(), delimiter=", "), False)
    yield of_text("carets", text(rows(), delimiter="^"), None)
    yield of_text("a control character", text(rows(), delimiter="\x1f"), None)
    yield of_text("two characters", text(rows(), delimiter="||"), None)
    mixed = [(";" if k % 2 else ",").join(row) for k, row in enumerate([HEADER, *rows()])]
    yield of_text("mixed separators", "\n".join(mixed) + "\n", True)
    yield of_text(
        "semicolons below a header with commas",
        LINES[0] + "\n" + text(rows(), None, delimiter=";"),
        True,
    )
    yield of_text("trailing commas", text(rows(), end=",\n"), None)
    yield of_text(
        "trailing commas below the header", LINES[0] + "\n" + text(rows(), None, end=",\n"), None
    )
    yield of_text("leading commas", text([["", *r] for r in rows()], ("", *HEADER)), None)
    yield of_text("many trailing commas", text(rows(), end="," * 20 + "\n"), None)
    yield of_text("a line that names the separator", "sep=;\n" + text(rows(), delimiter=";"), None)


def line_ends() -> Iterator[Case]:
    yield of_text("Windows line ends", text(rows(), end="\r\n"), False)
    yield of_text("old Macintosh line ends", text(rows(), end="\r"), None)
    halves = text(rows(), end="\r\n").replace("\r\n", "\n", 20)
    yield of_text("mixed line ends", halves, False)
    yield of_text("doubled carriage returns", text(rows(), end="\r\r\n"), None)
    yield of_text("no line end at the end", PLAIN.rstrip("\n"), False)
    yield of_text("blank lines at the end", PLAIN + "\n\n\n", False)
    yield of_text("blank lines at the start", "\n\n" + PLAIN, None)
    yield of_text("blank lines between rows", PLAIN.replace("\n", "\n\n"), None)
    yield of_text("lines of commas at the end", PLAIN + ",,,,\n" * 3, None)
    yield of_text("lines of spaces at the end", PLAIN + "   \n" * 3, None)
    yield of_text("all in one line", PLAIN.replace("\n", " "), True)
    yield of_text("a line separator of Unicode", text(rows(), end="\u2028"), None)


def headers() -> Iterator[Case]:
    yield of_text(
        "duplicate names", text(rows(), ("age", "city", "age", "income", "age")), True, "age"
    )
    yield of_text("all names alike", text(rows(), ("x",) * 5), True, "x")
    cased = ("age", "Age", "AGE", "income", "member")
    yield of_text("names that differ in case", text(rows(), cased), None)
    yield of_text(
        "names that differ in spaces", text(rows(), ("a", " a", "a ", "b", "c")), None, "a"
    )
    yield of_text("an empty name", text(rows(), ("age", "", "joined", "income", "member")), None)
    yield of_text("empty names", text(rows(), ("",) * 5), None)
    yield of_text("no header", text(rows(), None), False)
    yield of_text("a header of numbers", text(rows(), ("1", "2", "3", "4", "5")), None)
    yield of_text("a header in the middle", changed(20, LINES[0]), None)
    yield of_text("a header at the bottom", text(rows(), None) + LINES[0] + "\n", None)
    units = LINES[0] + "\nyears,,,EUR,\n" + "\n".join(LINES[1:]) + "\n"
    yield of_text("a second line of units", units, None)
    yield of_text("a header of two lines", "person,,contract,,\n" + PLAIN, None)
    strange = ('"age, in years"', '"the\ncity"', '"""joined"""', "Einkommen in €", "会員")
    yield of_text("names with commas, newlines and quotes", text(rows(), strange), None)
    yield of_text("names of emoji", text(rows(), ("🎂", "🏙", "📅", "💶", "✅")), False)
    yield of_text("a very long name", text(rows(), ("a" * 10_000, *HEADER[1:])), None)
    yield of_text("names like code", text(rows(), ("__class__", "{0}", "%s", "../x", "<b>")), None)
    yield of_text("names like options", text(rows(), ("--help", "-", "=1+1", "@a", "$HOME")), None)
    yield of_text("names of spaces", text(rows(), (" ", "  ", "   ", "    ", "     ")), None)
    yield of_text(
        "a name that is not a number", text(rows(), ("nan", "None", "null", "NA", "inf")), None
    )
    yield of_text("a name with a NUL byte", text(rows(), ("a\0ge", *HEADER[1:])), None)


def around() -> Iterator[Case]:
    comments = "# exported 2024-01-01\n# by the shop\n"
    yield of_text("comments at the top", comments + PLAIN, None)
    yield of_text("a title at the top", "Customers of 2024\n\n" + PLAIN, None)
    yield of_text("a title padded with commas", "Customers of 2024,,,,\n,,,,\n" + PLAIN, None)
    yield of_text("comments at the bottom", PLAIN + "# end of file\n", True, "42")
    yield of_text("comments between rows", changed(20, "# page 2"), True, "20")
    yield of_text("a totals row", PLAIN + "1800,,,45000.00,\n", None)
    yield of_text("a totals row with a word", PLAIN + "Total,,,45000.00,\n", None)
    yield of_text("a totals row of another length", PLAIN + "Total,45000.00\n", True, "42")
    yield of_text("a count at the bottom", PLAIN + "(40 rows affected)\n", True, "42")
    yield of_text("an error message at the bottom", PLAIN + "ERROR: connection lost\n", True, "42")
    yield of_text("front matter", "---\ntitle: x\n---\n" + PLAIN, None)


def sizes() -> Iterator[Case]:
    yield of_text("an empty file", "", True, "empty")
    yield of_text("only newlines", "\n\n\n", True)
    yield of_text("only spaces", "   ", True)
    yield of_text("only commas", ",,,,\n" * 10, None)
    yield of_text("only a header", LINES[0] + "\n", True, "row")
    yield of_text("a header without a line end", LINES[0], True, "row")
    yield of_text("one row", text(rows(1)), None)
    yield of_text("two rows", text(rows(2)), None)
    yield of_text("one row without a header", text(rows(1), None), None)
    yield of_text("one column", text([row[:1] for row in rows()], HEADER[:1]), False)
    yield of_text("one column of text", text([row[1:2] for row in rows()], HEADER[1:2]), False)
    yield of_text("one cell", "1\n", None)
    yield of_text("one word", "hello\n", True)
    wide = [[str(k * j % 7) for j in range(5000)] for k in range(20)]
    names = [f"c{j}" for j in range(5000)]
    yield Case("5,000 columns", lambda: text(wide, names).encode(), False)
    yield Case("5,000 columns without a header", lambda: text(wide, None).encode(), False)
    yield Case(
        "a cell of a million letters",
        lambda: changed(13, f"31,{'x' * 1_000_000},2021-01-01,1,true").encode(),
        False,
    )
    yield Case(
        "a quoted cell of a thousand lines",
        lambda: changed(13, '31,"' + "x\n" * 1000 + '",2021-01-01,1,true').encode(),
        False,
    )
    yield Case("rows that are all alike", lambda: text(rows(1) * 500).encode(), False)
    yield Case("compressed", lambda: gzip.compress(PLAIN.encode()), False, (), ".csv.gz")
    yield Case("compressed without the suffix", lambda: gzip.compress(PLAIN.encode()), None)
    yield Case("the suffix without compression", PLAIN.encode, None, (), ".csv.gz")
    yield Case(
        "compressed and cut", lambda: gzip.compress(PLAIN.encode())[:150], True, (), ".csv.gz"
    )
    yield Case(
        "compressed twice",
        lambda: gzip.compress(gzip.compress(PLAIN.encode())),
        None,
        (),
        ".csv.gz",
    )
    yield Case("an unknown suffix", PLAIN.encode, True, ("suffix",), ".dat")
