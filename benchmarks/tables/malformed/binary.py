"""Files that are no table, or that are damaged."""

from __future__ import annotations

import io
import json
import pickle
import sqlite3
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from tables.malformed.case import HEADER, Case, of_text, rows, text


def not_text() -> Iterator[Case]:
    """Files of other kinds with the suffix of a table."""
    yield Case("a picture", picture, True)
    yield Case("a workbook", workbook, True)
    yield Case(
        "an old workbook", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0\xfe" * 999, True
    )
    yield Case("a PDF", lambda: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< >>\nendobj\n%%EOF", True)
    yield Case("a zip archive of a csv", lambda: zipped("table.csv", text(rows())), True)
    yield Case("a database", database, True)
    yield Case("a pickle", lambda: pickle.dumps(rows()), True)
    yield Case("random bytes", lambda: zlib.compress(bytes(range(256)) * 40)[2:] * 9, True)
    yield Case("zero bytes", lambda: bytes(5000), True)
    yield Case("a parquet file", good_parquet, True)
    page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n<body>{}</body></html>\n"
    cells = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>\n" for row in rows())
    yield of_text("a page that asks to sign in", page.format("<p>Please sign in.</p>"), True)
    yield of_text("a page with a table", page.format(f"<table>\n{cells}</table>"), True)
    yield of_text("an error as XML", '<?xml version="1.0"?>\n<Error><Code>1</Code></Error>\n', True)
    records = [dict(zip(HEADER, row, strict=True)) for row in rows()]
    yield of_text("JSON lines", "".join(json.dumps(each) + "\n" for each in records), True)
    yield of_text("a JSON list", json.dumps(records, indent=1), True)
    yield of_text("a JSON list in a line", json.dumps(records), True)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
    yield of_text("a pointer to a large file", pointer, True)
    inserts = "".join(f"INSERT INTO t VALUES ({', '.join(row)});\n" for row in rows())
    yield of_text("SQL", inserts, None)
    arff = "@relation t\n" + "".join(f"@attribute {name} string\n" for name in HEADER) + "@data\n"
    yield of_text("ARFF", arff + text(rows(), None), None)
    table = "".join(f"| {' | '.join(row)} |\n" for row in [HEADER, ["---"] * 5, *rows()])
    yield of_text("a Markdown table", table, None)
    yield of_text("a program", "import os\n\nfor name in os.environ:\n    print(name)\n", None)
    yield of_text("prose", "It was a dark night, and it rained.\nNobody came.\n" * 20, None)


def parquet_files() -> Iterator[Case]:
    """Parquet files that are damaged or hold what is no table."""
    whole = good_parquet()
    size = len(whole)
    damaged: dict[str, Callable[[], bytes]] = {
        "a parquet file cut in half": lambda: whole[: size // 2],
        "a parquet file without its last byte": lambda: whole[:-1],
        "a parquet file without its first bytes": lambda: whole[4:],
        "a parquet file with a damaged footer": lambda: whole[:-60] + b"\xff" * 52 + whole[-8:],
        "a parquet file with a footer of 2 GB": lambda: whole[:-8] + b"\xff\xff\xff\x7fPAR1",
        "a parquet file with bytes after it": lambda: whole + b"\0" * 100,
        "an empty parquet file": lambda: b"",
        "only the mark of a parquet file": lambda: b"PAR1PAR1",
        "a csv as parquet": lambda: text(rows()).encode(),
        "zeros as parquet": lambda: bytes(5000),
    }
    for name, content in damaged.items():
        yield Case(name, content, True, (), ".parquet")
    middle = bytearray(whole)
    middle[20:120] = bytes(100)
    yield Case("a parquet file with damaged pages", lambda: bytes(middle), True, (), ".parquet")
    frames: dict[str, tuple[dict[str, Any], bool | None]] = {
        "no columns": ({}, True),
        "no rows": ({"a": pl.Series([], dtype=pl.Int64)}, True),
        "lists": ({"a": range(40), "b": [[k, k + 1] for k in range(40)]}, None),
        "structs": ({"a": range(40), "b": [{"c": k, "d": "x"} for k in range(40)]}, None),
        "bytes": ({"a": range(40), "b": [bytes([k, 255]) for k in range(40)]}, None),
        "only nulls": ({"a": [None] * 40, "b": [None] * 40}, None),
        "only NaN": ({"a": [float("nan")] * 40, "b": range(40)}, None),
        "infinite values": ({"a": [float("inf"), *range(39)], "b": range(40)}, None),
        "an empty name": ({"": range(40), "b": range(40)}, None),
        "whole numbers of 64 bits": ({"a": [2**62 + k for k in range(40)], "b": range(40)}, None),
    }
    for name, (columns, error) in frames.items():
        yield Case(f"parquet: {name}", written(columns), error, (), ".parquet")


def written(columns: dict[str, Any]) -> Callable[[], bytes]:
    def content() -> bytes:
        file = io.BytesIO()
        pl.DataFrame(columns, strict=False).write_parquet(file)
        return file.getvalue()

    return content


def good_parquet() -> bytes:
    """A parquet file of 400 rows."""
    file = io.BytesIO()
    columns = {name: [row[k] for row in rows(400)] for k, name in enumerate(HEADER)}
    pl.DataFrame(columns).write_parquet(file)
    return file.getvalue()


def picture() -> bytes:
    """A PNG file of one grey pixel."""
    parts = {b"IHDR": struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)}
    parts |= {b"IDAT": zlib.compress(b"\0\x80"), b"IEND": b""}
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def zipped(name: str, content: str) -> bytes:
    """A zip archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def workbook() -> bytes:
    """The beginning of a workbook: a zip archive of XML files."""
    return zipped("xl/worksheets/sheet1.xml", "<worksheet><sheetData/></worksheet>")


def database() -> bytes:
    """A database of SQLite with a table of one row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.db")
        connection = sqlite3.connect(path)
        connection.execute("create table t (a integer)")
        connection.execute("insert into t values (1)")
        connection.commit()
        connection.close()
        return path.read_bytes()
