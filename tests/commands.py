"""Commands in processes of their own, which signals stop."""

import os
import signal
import subprocess
import sys
import time


def start(*arguments):
    """Start a command of `mimachine`."""
    return subprocess.Popen(
        [sys.executable, "-m", "mimachine.cli", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs with SIGINT ignored, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process):
    """Exit code and standard error of a command once it has ended."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def wait_for(condition, process, seconds=60):
    """Wait until a condition holds; the process must not end before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
