"""Commands in processes of their own, which signals stop."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from unittest import mock

# Importing what a training needs takes longer than the short trainings of tests do. A server
# imports it once, and each command is a fork of the server.
_SERVER = multiprocessing.get_context("forkserver")
_NEEDED = [
    "mimachine.cli.commands",
    "mimachine.reporting.comparison",
    "mimachine.workflow.measure_run",
    "mimachine.workflow.refit_run",
    "mimachine.workflow.train_run",
    # Imported where they are used.
    "sklearn.decomposition",
    "sklearn.ensemble",
    "sklearn.mixture",
]
# Seconds after which a command that has not ended prints its stacks and ends.
_HANGS = 280


class Command:
    """A command of `mimachine` in a process of its own, used like a `subprocess.Popen`.

    Args:
        arguments: Those of the command.
        prepare: A function without arguments that the process calls first.
    """

    def __init__(self, arguments, prepare=None):
        self._errors, errors = _SERVER.Pipe(duplex=False)
        self._process = _SERVER.Process(
            target=_run, args=(list(map(str, arguments)), errors, dict(os.environ), prepare)
        )
        with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):
            _SERVER.set_forkserver_preload(_NEEDED)
            self._process.start()
        errors.close()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def kill(self):
        self._process.kill()

    def communicate(self, timeout=None):
        """Wait for the end; return nothing for the output, and the errors."""
        self._process.join(timeout)
        assert self._process.exitcode is not None
        with os.fdopen(os.dup(self._errors.fileno()), encoding="utf-8") as errors:
            return None, errors.read()


def _run(arguments, errors, environment, prepare):
    """What the process of a command does."""
    import torch

    from mimachine.cli.entry import main

    faulthandler.dump_traceback_later(_HANGS, exit=True, file=os.dup(errors.fileno()))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(errors.fileno(), 2)
    errors.close()
    # A shell starts its background jobs with SIGINT ignored, and nohup its command with SIGHUP
    # ignored; their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if prepare is not None:
        prepare()
    # Those of the server are open on files of its own.
    sys.stdout, sys.stderr = (os.fdopen(n, "w", encoding="utf-8") for n in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.exit(main(arguments))


def use_terminal(name):
    """Let standard streams be those of a terminal, in a session of this process alone."""
    os.setsid()
    terminal = os.open(name, os.O_RDWR | os.O_NOCTTY)
    for number in range(3):
        os.dup2(terminal, number)


def start(*arguments, **options):
    """Start a command of `mimachine`."""
    return Command(arguments, **options)


def finish(process):
    """Exit code and standard error of a command once it has ended."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def wait_for(condition, process, seconds=60):
    """Wait until a condition holds; the process must not end before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.002)
