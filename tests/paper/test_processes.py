"""Parallel processes: their results, and that none of them outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mimachine.paper.processes import as_they_come


def doubled(task):
    return 2 * task


def killed_from_outside(task):
    os.kill(os.getpid(), signal.SIGKILL)


def sleeping(place):
    Path(place).write_text(str(os.getpid()))
    time.sleep(600)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended, but no process has waited for it.
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_tasks_run_in_this_process_or_in_others():
    assert list(as_they_come(doubled, [1, 2, 3], 1)) == [2, 4, 6]
    assert sorted(as_they_come(doubled, [1, 2, 3], 2)) == [2, 4, 6]
    assert list(as_they_come(doubled, [], 2)) == []


def test_a_process_that_was_killed_is_reported():
    with pytest.raises(ChildProcessError, match="fewer jobs"):
        list(as_they_come(killed_from_outside, [1, 2], 2))


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_no_process_outlives_its_parent(number, tmp_path):
    script = (
        "import signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from test_processes import as_they_come, sleeping\n"
        "list(as_they_come(sleeping, sys.argv[2:], 2))\n"
    )
    places = [tmp_path / "one", tmp_path / "two"]
    command = [sys.executable, "-c", script, os.path.dirname(__file__), *map(str, places)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def pids():
        return [int(place.read_text() or 0) for place in places if place.exists()]

    deadline = time.monotonic() + 100
    while len(pids()) < 2 or not all(pids()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert all(map(is_running, pids()))
    process.send_signal(number)
    process.wait(100)
    deadline = time.monotonic() + 20
    while any(map(is_running, pids())):
        assert time.monotonic() < deadline
        time.sleep(0.05)
