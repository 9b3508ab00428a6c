"""Pipes whose reader goes away, closed streams and terminals, full disks, and hostile names."""

import functools
import json
import os
import pty
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from commands import finish, start, use_terminal, wait_for

from mimachine.cli.entry import main

pytestmark = pytest.mark.usefixtures("few_trees")

COMMAND = [sys.executable, "-m", "mimachine.cli"]
QUICK = ["--training.epochs", "2", "--training.warmup.epochs", "0", "--num-samples", "2"]
TRAIN = ["train", "x.npy", *QUICK, "--model.latent", "2", "--model.hidden", "5"]
ENDLESS = [*TRAIN, "--training.epochs", "9999999", "--training.patience", "9999999"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    np.save("x.npy", np.random.default_rng(0).normal(size=(40, 2)))
    return tmp_path


def shell(script):
    """Exit code, output and errors of a shell script, in which $M is the command."""
    command = f'M="{" ".join(COMMAND)}"; {script}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminals")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(40, 2)))
    arguments = [*TRAIN[2:], "--no-report", "--out", str(folder / "run")]
    assert main(["train", str(folder / "x.npy"), *arguments]) == 0
    return folder / "run"


@pytest.mark.parametrize(
    "streams",
    [
        "| head -1 | grep -q training; exit ${PIPESTATUS[0]}",
        pytest.param("<&- >&- 2>&-", marks=pytest.mark.slow),
        pytest.param("2>&1 | true; exit ${PIPESTATUS[0]}", marks=pytest.mark.slow),
    ],
)
def test_training_does_not_need_a_reader(here, streams):
    code, output, errors = shell(f"$M {' '.join(TRAIN)} --out run {streams}")
    assert (code, output, errors) == (0, "", "")
    assert json.loads(Path("run/report.json").read_text())["verdict"]
    assert {file.name for file in Path("run").glob("*")} >= {"report.html", "data.json"}
    assert not Path("run/state.ckpt").exists()


def test_commands_do_not_need_a_reader(trained):
    for streams in ("--json | true", ">&-", "<&- >&- 2>&-"):
        script = f"set -o pipefail; $M inspect '{trained}' {streams}"
        assert shell(script) == (0, "", "")
    # A mistake is still a mistake.
    assert shell("$M inspect nowhere 2>&-") == (2, "", "")


FULL = "mimachine: error: standard output cannot be written: No space left on device\n"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@needs_full
def test_output_on_a_full_disk_is_an_error(trained):
    assert shell(f"$M inspect '{trained}' > /dev/full") == (2, "", FULL)
    assert shell("$M --help > /dev/full") == (2, "", FULL)


@needs_full
@pytest.mark.slow
def test_training_ends_before_the_error_of_a_full_disk(here):
    assert shell(f"$M {' '.join(TRAIN)} --out run > /dev/full") == (2, "", FULL)
    assert Path("run/report.html").exists()


@pytest.fixture
def started(here):
    """A function that starts a training and returns once it has written its first epoch."""
    processes = []

    def started_with(prepare):
        processes.append(start(*ENDLESS, "--out", "run", prepare=prepare))
        wait_for(Path("run/metrics.jsonl").exists, processes[0])
        return processes[0]

    yield started_with
    for process in processes:
        process.kill()
        finish(process)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_a_hangup_that_is_ignored_stays_ignored(started):
    process = started(functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN))
    written = Path("run/metrics.jsonl").stat().st_size
    process.send_signal(signal.SIGHUP)
    while Path("run/metrics.jsonl").stat().st_size < written + 1000 and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, errors = finish(process)
    assert code == 143
    assert errors == "mimachine: interrupted; resume with: mimachine train --resume run\n"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_a_closed_terminal_interrupts_training(started, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    control, terminal = pty.openpty()
    process = started(functools.partial(use_terminal, os.ttyname(terminal)))
    os.close(terminal)
    shown = os.read(control, 1 << 20)
    while b"\x1b[" not in shown and process.poll() is None:
        shown += os.read(control, 1 << 20)
    # The bar is drawn by escape sequences.
    assert b"\\x1b" not in shown
    os.close(control)
    process.send_signal(signal.SIGHUP)
    code, errors = finish(process)
    assert code == 129, errors
    assert Path("run/state.ckpt").exists()


HOSTILE = "a\x1b[2J[red]\r[b]\u202eb.csv"
SHOWN = r"a\x1b[2J[red]\r[b]\u202eb.csv"


def hidden(text):
    return [character for character in text if not character.isprintable() and character != "\n"]


def write_table(file, names=("x", "\x1b[2Jy", "[/]", "[red]z[/red]", "kind")):
    rows = np.random.default_rng(0).normal(size=(40, 4)).round(3).astype(str)
    lines = [",".join([*row, ["[/red]", "\x1b[31mb"][i % 2]]) for i, row in enumerate(rows)]
    Path(os.fsdecode(file)).write_text("\n".join([",".join(names), *lines]) + "\n")


def test_names_cannot_command_a_terminal(here, capsys):
    write_table(HOSTILE)
    small = [*QUICK, "--model.hidden", "5"]
    run = "[/]\x1b[31m\rrun"
    assert main(["train", HOSTILE, "--labels", "kind", *small, "--out", run]) == 0
    assert (
        main(["compare", HOSTILE, "--labels", "kind", "--no-baselines", *small, "--out", "both"])
        == 0
    )
    for command in ("evaluate", "embed", "sample", "reconstruct", "report", "inspect"):
        few = ["--num-samples", "2"] if command == "evaluate" else []
        assert main([command, run, *few]) == 0
    assert main(["table", run, "both"]) == 0
    for mistake in (
        ["train", HOSTILE + "x"],
        ["train", HOSTILE, "--labels", "\x1b[2J"],
        ["train", HOSTILE, "--model.latent", "\x1b[2J"],
        ["train", HOSTILE, "--out", run],
        ["train", "--resume", run],
        [f"\x1b[2J{run}"],
        ["embed", run, "\x1b[2J"],
        ["sample", run, "--out", "\x9b2J.txt"],
        ["embed", run, "--out", HOSTILE],
        ["sample", run, "--debug", "--out", "\x1b/\x1b.txt"],
    ):
        assert main(mistake) == 2
    assert main(["train", HOSTILE, "--help"]) == 0
    printed = capsys.readouterr()
    assert hidden(printed.out) == []
    assert hidden(printed.err) == []
    assert SHOWN in printed.out
    assert SHOWN in printed.err
    for page in (Path(run), Path("both")):
        assert hidden((page / "report.html").read_text(encoding="utf-8")) == []


def test_a_warning_cannot_command_a_terminal(here, capsys, monkeypatch):
    from mimachine.cli import commands

    def warn(arguments):
        warnings.warn("\x1b[2J", stacklevel=1)

    monkeypatch.setitem(commands.COMMANDS, "data", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # Not pytest's way of showing warnings, which collects them.
        monkeypatch.setattr(
            warnings, "showwarning", lambda text, *place: print(text, file=sys.stderr)
        )
        assert main(["data"]) == 0
    assert capsys.readouterr().err == "\\x1b[2J\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_of_files_need_not_be_unicode(here, capsys):
    data, run, out = (os.fsdecode(name) for name in (b"caf\xe9.csv", b"r\xe9", b"\xe9.csv"))
    write_table(data)
    arguments = ["--labels", "kind", *QUICK, "--model.hidden", "5"]
    assert main(["train", data, *arguments, "--out", run]) == 0
    for command in ("evaluate", "sample", "embed", "reconstruct", "report"):
        few = ["--num-samples", "2"] if command == "evaluate" else []
        assert main([command, run, *few]) == 0
    assert main(["embed", run, data, "--out", out]) == 0
    assert main(["embed", run, data, "--out", out]) == 0
    printed = capsys.readouterr().out
    assert r"caf\xe9.csv" in printed
    assert r"mimachine sample $'r\xe9'" in printed
    assert main(["inspect", run, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["experiment"]["data"]["name"] == os.path.abspath(data)
    assert main(["train", "--resume", run]) == 2
    assert r"mimachine evaluate $'r\xe9'" in capsys.readouterr().err


# A callback of C cannot raise, as functions of some compiled libraries cannot.
LOST = """
import ctypes, os, signal, time
from mimachine.cli.interruption import exit_code, signals_interrupt

@ctypes.CFUNCTYPE(None)
def callback():
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass

try:
    with signals_interrupt():
        callback()
        time.sleep(30)
except KeyboardInterrupt as error:
    print(exit_code(error))
"""


def test_a_signal_that_compiled_code_loses_comes_again():
    done = subprocess.run(
        [sys.executable, "-c", LOST], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("143\n", "")
