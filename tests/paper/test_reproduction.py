"""Reproductions share a directory with killed and with living commands."""

import os
import subprocess
import sys
import time

import pytest

from mimachine._support.files import directory_lock
from mimachine.cli.entry import main
from mimachine.paper.experiments import reproduce
from mimachine.paper.reproduction import Request, await_free, begun

HOLDER = """
import sys, time
from pathlib import Path
from mimachine._support.files import directory_lock
with directory_lock(Path(sys.argv[1])):
    print(flush=True)
    time.sleep(float(sys.argv[2]))
"""


def held(directory, seconds):
    """A process that holds the lock of a directory for some time."""
    command = [sys.executable, "-c", HOLDER, str(directory), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_a_second_command_for_the_same_results_is_refused(tmp_path, capsys):
    directory = tmp_path / "figure11-published-quick"
    directory.mkdir()
    with directory_lock(directory):
        assert main(["reproduce", "figure11", "--quick", "--out", str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert errors == f"mimachine: error: {directory} is in use by another process\n"
    assert os.listdir(tmp_path) == [directory.name]
    assert not os.listdir(directory)


@pytest.mark.parametrize("was_there", [False, True])
def test_an_error_leaves_no_empty_directory(was_there, tmp_path):
    out = tmp_path / "out"
    if was_there:
        out.mkdir()
    with pytest.raises(ValueError, match="seeds must be 1 or more"):
        reproduce("figure9", Request(out, seeds=0))
    assert out.exists() == was_there
    assert not was_there or not os.listdir(out)


def test_a_run_is_opened_once_the_process_of_a_killed_command_has_ended(tmp_path):
    begun(tmp_path / "run", {"hidden": 5})
    with held(tmp_path / "run", 0.5):
        start = time.monotonic()
        run = begun(tmp_path / "run", {"hidden": 5})
        assert time.monotonic() - start > 0.2
        with run.locked():
            pass


def test_waiting_for_a_living_command_has_an_end(tmp_path):
    with directory_lock(tmp_path):
        await_free(tmp_path, seconds=0.2)
    await_free(tmp_path / "nowhere", seconds=0.2)
