"""Temporary files of killed processes are removed by the next write; files in use stay."""

import os
import subprocess
import sys

import pytest

from mimachine._support.files import PARTIAL, replacing, write_json

WRITER = """
import sys
from pathlib import Path
from mimachine._support.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    sys.stdin.read()
"""


def test_a_file_in_use_by_another_process_stays_and_goes_once_that_is_killed(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "report.json")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as writer:
        name = os.path.basename(writer.stdout.readline().strip())
        assert name.endswith(PARTIAL)
        write_json(tmp_path / "other.json", 1)
        assert sorted(os.listdir(tmp_path)) == [name, "other.json"]
        writer.kill()
        writer.wait()
        assert sorted(os.listdir(tmp_path)) == [name, "other.json"]
        write_json(tmp_path / "other.json", 2)
        assert os.listdir(tmp_path) == ["other.json"]


def test_files_that_one_process_writes_at_once_stay(tmp_path):
    with replacing(tmp_path / "a") as first:
        with replacing(tmp_path / "b") as second:
            assert first.exists()
            second.write_text("b")
        first.write_text("a")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "a", "b": "b"}


@pytest.mark.parametrize("name", ["notes" + PARTIAL, f".notes{PARTIAL}.txt", ".notes.partial"])
def test_files_of_others_stay(name, tmp_path):
    (tmp_path / name).write_text("mine")
    write_json(tmp_path / "report.json", 1)
    assert (tmp_path / name).read_text() == "mine"


def test_a_link_with_the_ending_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".link{PARTIAL}").symlink_to(tmp_path / "mine")
    write_json(tmp_path / "report.json", 1)
    assert (tmp_path / "mine").read_text() == "mine"
