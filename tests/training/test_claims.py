"""Processes that begin at one instant get directories of their own, or a clear error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mimachine.cli.parsing import output_directory
from mimachine.training.run import Run

# Each process waits for its turn to be written, so that all begin together.
CLAIM = """
import sys, time
from mimachine.training.run import Run
number, rounds, start, held = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), 0.005
won = []
for turn in range(rounds):
    while time.time() < start + 0.05 * turn:
        pass
    try:
        with Run.claimed(f"run{turn}") as create:
            time.sleep(held)  # A slow reader.
            create({"process": number})
            time.sleep(held)
            won.append(turn)
    except FileExistsError:
        pass
print(won)
"""


def test_one_of_eight_processes_gets_a_directory_in_every_round(tmp_path):
    import time

    processes, rounds = 8, 50
    start = time.time() + 2
    command = [sys.executable, "-c", CLAIM]
    running = [
        subprocess.Popen(
            [*command, str(number), str(rounds), str(start)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    won = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert all(process.returncode == 0 for process in running)
    assert sorted(turn for turns in won for turn in turns) == list(range(rounds))
    for number, turns in enumerate(won):
        for turn in turns:
            stored = (tmp_path / f"run{turn}" / "experiment.json").read_text()
            assert json.loads(stored) == {"process": number}


def test_a_claim_that_fails_leaves_no_directory_and_one_that_was_there_stays(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("new", "mine"):
        with pytest.raises(ValueError, match="no data"), Run.claimed(tmp_path / name):
            raise ValueError("no data")
    assert os.listdir(tmp_path) == ["mine"]


def test_files_of_others_in_a_claimed_directory_are_an_error_and_stay(tmp_path):
    notes = tmp_path / "run" / ".notes.markdown"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(FileExistsError, match="already exists"):
        Run.create(tmp_path / "run", {})
    assert notes.read_text() == "mine"


def test_a_claimed_run_is_locked_and_a_created_one_is_not(tmp_path):
    with Run.claimed(tmp_path / "run") as create:
        run = create({})
        with pytest.raises(BlockingIOError, match="in use by another process"), run.locked():
            pass
    with run.locked():
        pass


def test_directories_under_runs_are_separate_and_leave_nothing_if_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with output_directory(None, "a") as first, output_directory(None, "a") as second:
        assert [first, second] == [Path("runs/a"), Path("runs/a-2")]
        (second / "experiment.json").write_text("{}")
    assert os.listdir("runs") == ["a-2"]
    with output_directory(Path("given"), "a") as given:
        assert given == Path("given")
    assert not Path("given").exists()
