"""Text files whose cells are not what their columns are, or hard to make sense of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from tables.malformed.case import HEADER, Case, of_text, rows, text, with_cell, with_column


def cells() -> Iterator[Case]:
    """Cases of cells."""
    return chain(numbers(), missing(), dates(), flags(), levels(), characters())


def numbers() -> Iterator[Case]:
    typos = {
        "a word among numbers": "unknown",
        "about among numbers": "abt 40",
        "a range among numbers": "30-40",
        "two points in a number": "1.2.3",
        "a letter o in a number": "1O0",
        "a question mark among numbers": "?",
        "a formula among numbers": "=A1+B1",
        "a spreadsheet error among numbers": "#DIV/0!",
        "a star after a number": "41*",
        "a number in brackets": "(41)",
        "a number as words": "forty",
        "a number with a space": "4 1",
        "a date among numbers": "2021-01-01",
        "a flag among numbers": "true",
        "a code among numbers": "0x29",
    }
    for name, cell in typos.items():
        # May stay a column of text, with a note.
        yield of_text(name, with_cell(cell, "age"), None, "age", "12")
    ways = {
        "units": ("12 kg", "15 kg", "9.5 kg"),
        "mixed units": ("12 kg", "15 lb", "9.5 kg"),
        "percentages": ("12%", "15 %", "9.5%"),
        "euros": ("€ 12,50", "€ 9,00"),
        "dollars": ("$1,200.50", "$999.00"),
        "dollars in quotes": ('"$1,200.50"', '"$999.00"'),
        "thousands with commas": ('"1,234"', '"12,345,678"', "17"),
        "thousands with points": ("1.234", "12.345.678", "17"),
        "thousands with spaces": ("1 234", "12 345 678", "17"),
        "thousands with apostrophes": ("1'234", "12'345'678", "17"),
        "Indian thousands": ('"1,23,456"', '"12,34,567"'),
        "negative numbers in brackets": ("(120)", "130", "(7)"),
        "negative numbers with a trailing minus": ("120-", "130", "7-"),
        "true minus signs": ("\u2212120", "130", "\u22127"),
        "plus signs": ("+120", "+130", "-7"),
        "leading zeros": ("00120", "00017", "01300"),
        "hexadecimal": ("0x1F", "0xA0", "0x03"),
        "numbers with underscores": ("1_000", "2_500"),
        "Arabic digits": ("١٢", "٣٤", "٥٦"),
        "full-width digits": ("１２", "３４", "５６"),
        "fractions": ("1/2", "3/4", "1 1/2"),
        "superscripts": ("10²", "10³"),
        "infinity": ("inf", "1.5", "-inf"),
        "infinity as a symbol": ("∞", "1.5", "2"),
        "1e400": ("1e400", "1.5", "2"),
        "1e-400": ("1e-400", "1.5", "2"),
        "1e308 and -1e308": ("1e308", "-1e308", "0"),
        "whole numbers beyond 64 bits": ("123456789012345678901234567890", "5", "17"),
        "identifiers of 19 digits": ("1234567890123456789", "1234567890123456790"),
        "numbers of 40 decimals": ("0." + "1234567890" * 4, "0." + "9876543210" * 4),
        "exponents": ("1E5", "2.5e-3", "1d5"),
        "a decimal point without digits": (".", "1.", ".5"),
        "both decimal signs": ("1.5", '"2,5"', "3.5"),
        "NaN with others": ("nan", "1.5", "NaN"),
    }
    for name, values in ways.items():
        # The error would be of "$1,200.50" without quotes: a cell too many.
        comma = any("," in value and '"' not in value for value in values)
        yield of_text(f"numbers: {name}", with_column(values), True if comma else None)


def missing() -> Iterator[Case]:
    for word in ("NA", "N/A", "null", "-", ".", "?", "None", "#N/A", "-999", "missing", "n.d."):
        yield of_text(f"missing as {word}", with_column((word, "1.5", "2.5", "7")), None)
    empty = [["" for _ in row] for row in rows()]
    yield of_text("all cells missing", text(empty), None)
    yield of_text("a column of missing values", with_column(("",)), None)
    yield of_text("one value in a column", with_column(("", *[""] * 38, "1")), None)
    some = [[c if (k + j) % 2 else "" for j, c in enumerate(r)] for k, r in enumerate(rows())]
    yield of_text("half of the cells missing", text(some), False)
    each = [[c if j == k % 5 else "" for j, c in enumerate(r)] for k, r in enumerate(rows())]
    yield of_text("one cell in each row", text(each), False)


def dates() -> Iterator[Case]:
    for name, cell in {
        "30 February": "2021-02-30",
        "29 February of a common year": "2023-02-29",
        "month 13": "2021-13-01",
        "day 0": "2021-01-00",
        "year 0": "0000-00-00",
        "year 99999": "99999-01-01",
        "a date in another order": "01/02/2021",
    }.items():
        yield of_text(
            f"a date that does not exist: {name}", with_cell(cell, "joined"), None, "joined"
        )
    for name, values in {
        "days and months in any order": ("03/04/2021", "05/06/2021", "07/08/2021"),
        "two orders in a column": ("31/12/2021", "12/31/2021"),
        "years of two digits": ("03/04/21", "05/06/99"),
        "names of months": ("3 March 2021", "4 Apr 2021"),
        "German names of months": ("3. März 2021", "4. Mai 2021"),
        "time zones": ("2021-03-28T01:30:00+01:00", "2021-03-28T03:30:00+02:00"),
        "seconds since 1970": ("1609459200", "1612137600"),
        "days of a spreadsheet": ("44197", "44228"),
        "times beyond 24 hours": ("25:30", "12:00"),
        "a leap second": ("2016-12-31T23:59:60", "2016-12-31T23:59:59"),
        "quarters": ("2021-Q1", "2021-Q2"),
        "weeks": ("2021-W01", "2021-W52"),
        "durations": ("P1DT2H", "P3D"),
        "dates before 1700": ("1066-10-14", "1492-10-12"),
    }.items():
        yield of_text(f"dates: {name}", with_column(values), None)


def flags() -> Iterator[Case]:
    for name, values in {
        "a typo": (*["true", "false"] * 10, "ture"),
        "several languages": ("true", "wahr", "vrai"),
        "yes and no with a typo": (*["yes", "no"] * 10, "yess"),
        "several cases": ("True", "TRUE", "true", "False", "f"),
        "numbers and words": ("1", "0", "true", "false"),
        "check marks": ("✓", "✗"),
        "only true": ("true",),
        "true or missing": ("true", ""),
        "a maybe": ("true", "false", "maybe"),
    }.items():
        yield of_text(f"flags: {name}", with_column(values), None)


def levels() -> Iterator[Case]:
    million = "\n".join(f"{k % 90},customer {k}" for k in range(1_000_000))
    yield Case("levels: a million", lambda: f"age,name\n{million}\n".encode(), False)
    for name, values in {
        "spaces around": ("red", " red", "red ", "blue"),
        "several cases": ("red", "Red", "RED", "blue"),
        "accents in two forms": ("caf\u00e9", "cafe\u0301", "bar"),
        "words like missing values": ("none", "nan", "null", "some"),
        "numbers and words": ("1", "2", "3+", "other"),
        "one level": ("red",),
        "a level that comes once": (*["red", "blue"] * 19, "green"),
        "lists": ('"[1, 2]"', '"[3]"'),
        "dictionaries": ('"{""a"": 1}"', '"{}"'),
        "several levels in a cell": ("red|blue", "red", "blue|green"),
        "formulas": ("\"=cmd|'/C calc'!A0\"", "+1+1", "@SUM(A1)"),
        "markup": ("<script>alert(1)</script>", "<b>x</b>"),
        "addresses of pages": ("https://a.b/?c=d&e=f", "https://a.b/#g"),
        "terminal escapes": ("\x1b[31mred\x1b[0m", "blue"),
        "right-to-left text": ("\u202eabc", "שלום"),
        "invisible characters": ("red", "red\u200b", "red\ufeff"),
        "single letters": tuple("abcdefghijklmnopqrstuvwxyz"),
        "long texts": ("word " * 200, "other " * 300),
    }.items():
        yield of_text(f"levels: {name}", with_column(values), False)


def characters() -> Iterator[Case]:
    plain = text(rows())
    accents = plain.replace("Brora", "Bröra")
    yield of_text("a byte order mark", plain, False, code="utf-8-sig")
    yield of_text("two byte order marks", "\ufeff" + plain, None, code="utf-8-sig")
    yield of_text("Latin-1", accents, None, "encod", code="latin-1")
    yield of_text("Windows-1252", accents.replace("Lydd", "“Lydd” €"), None, "encod", code="cp1252")
    yield of_text("UTF-16", accents, None, "encod", code="utf-16")
    yield of_text("UTF-16 without a mark", accents, True, code="utf-16-le")
    yield of_text("UTF-32", accents, None, code="utf-32")
    yield of_text("UTF-7", accents, None, code="utf-7")
    yield of_text("Shift JIS", plain.replace("Brora", "東京都"), None, "encod", code="shift_jis")
    yield of_text("EBCDIC", plain, True, code="cp500")
    both = plain.encode().replace(b"Brora", "Bröra".encode()).replace(b"Lydd", b"L\xfcdd", 1)
    yield Case("mixed encodings", lambda: both, None, ("encod",))
    yield Case("an invalid byte far below", lambda: plain.encode() * 3000 + b"\xff,\n", True)
    yield Case("a NUL byte in a cell", lambda: plain.encode().replace(b"Lydd", b"Ly\0d", 1), None)
    yield Case("NUL bytes at the end", lambda: plain.encode() + b"\0" * 4096, True)
    yield Case("a surrogate", lambda: plain.encode().replace(b"Lydd", b"\xed\xa0\x80", 1), None)
    yield of_text("an end-of-file character", plain + "\x1a", None)
    bell = plain.replace("Lydd", "Ly\x07dd").replace("Brora", "Bro\x0bra")
    yield of_text("control characters in cells", bell, None)
    yield of_text("form feeds between pages", plain.replace("\n", "\n\x0c", 20), None)
    spaces = [[f"\u00a0{c}\u2009" for c in r] for r in rows()]
    yield of_text("other spaces around cells", text(spaces, HEADER), None)
