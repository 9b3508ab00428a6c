"""Processes that begin at one instant get directories of their own, or a clear error."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mimachine._support.files import directory_lock
from mimachine.cli.parsing import output_directory
from mimachine.training import claims
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
        # Every other run can be gone on with, but never once it is finished.
        request = {"command": "train", "turn": turn} if turn % 2 else None
        with Run.claimed(f"run{turn}", request) as create:
            time.sleep(held)  # A slow reader.
            create({"process": number})
            time.sleep(held)
            won.append(turn)
    except FileExistsError:
        pass
print(won)
"""


def test_one_of_eight_processes_gets_a_directory_in_every_round(tmp_path):
    processes, rounds = 8, 50
    for turn in range(3, rounds, 4):
        # Left by a process that was killed.
        (tmp_path / f"run{turn}").mkdir()
        stored = json.dumps({"command": "train", "turn": turn})
        (tmp_path / f"run{turn}" / "unfinished.json").write_text(stored)
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
            assert os.listdir(tmp_path / f"run{turn}") == ["experiment.json"]


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


REQUEST = {"command": "train", "training": {"epochs": 3}, "model": {"hidden": (5,)}}


class Interrupted(Exception):
    pass


def interrupt(path, request, *files):
    """Leave a directory as a process does that is interrupted once it has written some files."""
    with suppress(Interrupted), claims.claimed(path, request):
        for file in files:
            (path / file).write_text("{}")
        raise Interrupted


def test_the_same_request_goes_on_and_is_then_finished(tmp_path):
    interrupt(tmp_path / "run", REQUEST, "data.json")
    assert claims.request_in(tmp_path / "run") == json.loads(json.dumps(REQUEST))
    with claims.claimed(tmp_path / "run", REQUEST):
        assert os.listdir(tmp_path / "run").count("data.json") == 1
    assert claims.request_in(tmp_path / "run") is None
    with pytest.raises(FileExistsError, match="already exists"), claims.claimed(tmp_path / "run"):
        pass


def test_an_error_before_anything_is_made_leaves_nothing(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("new", "mine"):
        interrupt(tmp_path / name, REQUEST)
    assert [p.name for p in tmp_path.rglob("*")] == ["mine"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {**REQUEST, "training": {"epochs": 4}},
            r"unfinished run with other settings, training.epochs \(3 there, 4 here\); choose "
            r"another directory, or go on with it: mimachine train --resume .*run$",
        ),
        ({**REQUEST, "model": {"hidden": (5, 6)}}, r"model.hidden \(\[5\] there, \[5, 6\] here"),
        ({**REQUEST, "seed": 1}, r"seed \(absent there, 1 here\)"),
        ({**REQUEST, "command": "compare"}, "an unfinished run; choose another directory"),
        (None, "an unfinished run; choose another directory"),
    ],
)
def test_another_request_is_refused_and_changes_nothing(other, message, tmp_path):
    interrupt(tmp_path / "run", REQUEST, "experiment.json")
    before = {p: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(FileExistsError, match=message), claims.claimed(tmp_path / "run", other):
        pass
    assert {p: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_a_path_may_differ_if_it_is_known_by_the_same(tmp_path):
    request = {**REQUEST, "data": {"name": "/old"}, "known_by": {"data.name": "../rows"}}
    interrupt(tmp_path / "run", request, "data.json")
    for known, message in (("../others", r"data.name \("), (None, "data.name")):
        other = {**request, "data": {"name": "/new"}, "known_by": {"data.name": known}}
        with pytest.raises(FileExistsError, match=message):
            claims.check(tmp_path / "run", other)
    claims.check(tmp_path / "run", {**request, "data": {"name": "/new"}})


NO_REQUESTS = (
    "[]",
    "{}",
    '{"command": "mine"}',
    '{"command": ["train"]}',
    '{"command": "train", "known_by": 3}',
    '{"command": "compare"}',
    '{"command": "compare", "objectives": 3, "experiments": 4}',
    '{"command": "compare", "objectives": [], "experiments": {}}',
    '{"command": "compare", "objectives": [[]], "experiments": {}}',
    '{"command": "compare", "objectives": ["../a"], "experiments": {"../a": {}}}',
    '{"command": "compare", "objectives": [".."], "experiments": {"..": {}}}',
    "{",
    "\xff",
)


@pytest.mark.parametrize("text", NO_REQUESTS)
def test_a_file_of_the_same_name_that_is_not_ours_makes_a_directory_taken(text, tmp_path):
    (tmp_path / "unfinished.json").write_text(text, encoding="latin-1")
    with pytest.raises(FileExistsError, match="already exists; choose"):
        claims.check(tmp_path, REQUEST)


def test_a_directory_says_what_it_holds(tmp_path):
    found = []
    for names in (("state.ckpt",), ("experiment.json", "report.json"), ("comparison.json",)):
        for name in names:
            (tmp_path / name).write_text("{}")
        with pytest.raises(FileExistsError) as error:
            claims.check(tmp_path)
        found.append(str(error.value).removeprefix(str(tmp_path)))
        for name in names:
            (tmp_path / name).unlink()
    ending = "; choose another directory or remove it"
    assert found[0].startswith(" already exists with an unfinished run; choose another directory")
    assert found[0].endswith(f"mimachine train --resume {tmp_path}")
    assert found[1:] == [
        f" already exists with a finished {what}{ending}" for what in ("run", "comparison")
    ]


def test_a_directory_removed_while_it_was_being_locked_is_in_use(tmp_path):
    (tmp_path / "run").mkdir()
    with directory_lock(tmp_path / "run"):
        (tmp_path / "run").rmdir()
        with pytest.raises(BlockingIOError), directory_lock(tmp_path / "run"):
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
