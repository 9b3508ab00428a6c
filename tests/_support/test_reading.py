import os
from pathlib import Path

import pytest

from mimachine._support import memory
from mimachine._support.reading import parse_json, read_bytes


def test_a_regular_file_is_read(tmp_path):
    (tmp_path / "file").write_bytes(b"\x00abc")
    (tmp_path / "link").symlink_to("file")
    assert read_bytes(tmp_path / "file") == read_bytes(tmp_path / "link") == b"\x00abc"
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "nothing")


def test_other_files_are_refused_without_opening_them(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for file, kind in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a directory")):
        with pytest.raises(ValueError, match=f"must be a regular file, got {kind}"):
            read_bytes(file)
    with pytest.raises(ValueError, match="got a device"):
        read_bytes(Path("/dev/zero"))


def test_a_file_larger_than_the_memory_is_refused(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(memory.available() + 1)
    with pytest.raises(ValueError, match="must fit into the memory"):
        read_bytes(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        ("NaN", "NaN is not a finite number"),
        ("[-Infinity]", "-Infinity is not a finite number"),
        ("1e999", "1e999 is not a finite number"),
        ('{"a": {"b": 1, "b": 1}}', "entry 'b' occurs twice"),
        ("1" * 5000, "not valid JSON"),
        ("[" * 60 + "]" * 60, "nested too deeply"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_json_is_read_strictly(text, message):
    with pytest.raises(ValueError, match=f"^place is .*{message}") as refused:
        parse_json(text, "place")
    assert len(str(refused.value)) < 300


def test_valid_json_is_read():
    assert parse_json(b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', "x") == {
        "a": [1, 2.5, None, True, "é"]
    }
