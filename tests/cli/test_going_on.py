"""The same command line goes on after an interruption; kills at random moments change nothing."""

import json
import random
import shlex
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from commands import finish, start, wait_for

from mimachine import workflow
from mimachine.cli.entry import main
from mimachine.cli.interruption import comparison_hint, resume_hint, typed

pytestmark = pytest.mark.usefixtures("few_trees")

TINY = ["--training.epochs", "3", "--training.warmup.epochs", "0", "--num-samples", "3"]
SMALL = [*TINY, "--model.latent", "2", "--model.hidden", "8"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 3)))
    return tmp_path


def run(*arguments):
    return main(list(map(str, arguments)))


def unfinish(directory, request, *files):
    """Make a directory what a kill leaves just before the command is through."""
    (directory / "unfinished.json").write_text(json.dumps(request))
    for file in files:
        (directory / file).unlink()


def bytes_of(directory):
    return {p: p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_a_train_that_was_killed_before_its_report_only_writes_that(here, capsys):
    command = ["train", "rows.npy", *SMALL, "--out", "out"]
    assert run(*command) == 0
    before, out = bytes_of(Path("out")), capsys.readouterr().out
    settings = json.loads(Path("out/experiment.json").read_text())
    for again in (command, ["train", "--resume", "out"]):
        unfinish(Path("out"), {"command": "train", **settings}, "report.html")
        weights = Path("out/model.safetensors").stat().st_mtime_ns
        assert run(*again) == 0
        assert Path("out/model.safetensors").stat().st_mtime_ns == weights
        assert bytes_of(Path("out")) == before
        # The same results, after what was said in training.
        results = capsys.readouterr().out.split("already\n")[1]
        assert out.endswith(results)
        assert "best epoch" in results
    assert run(*command) == 2
    errors = capsys.readouterr().err
    assert "out already exists with a finished run; choose another directory" in errors
    assert errors.count("\n") == 1


def test_a_comparison_goes_on_by_the_same_command_or_by_its_directory(here, capsys):
    command = ["compare", "rows.npy", "--objectives", "mim", "vae", "--no-baselines", *SMALL]
    command += ["--out", "out"]
    assert run(*command) == 0
    before, out = bytes_of(Path("out")), capsys.readouterr().out
    settings = {n: json.loads(Path(f"out/{n}/experiment.json").read_text()) for n in ("mim", "vae")}
    request = {"command": "compare", "objectives": ["mim", "vae"], "experiments": settings}
    unfinish(Path("out"), request, "report.html")
    for again in (command, ["compare", "--resume", "out", "--no-report"]):
        unfinish(Path("out"), request, "comparison.json", "loss-curves.png")
        # One of the runs had not been started.
        shutil.rmtree("out/vae")
        assert run(*again) == 0
        assert bytes_of(Path("out")) == before
        assert out.splitlines()[-3] in capsys.readouterr().out
    for refused in (command, ["compare", "--resume", "out"]):
        assert run(*refused) == 2
        assert capsys.readouterr().err.count("\n") == 1
    unfinish(Path("out"), request)
    assert run(*command, "--training.batch-size", 7) == 2
    errors = capsys.readouterr().err
    assert "mim.training.batch_size (16 there, 7 here)" in errors
    assert "mimachine compare --resume out" in errors
    assert errors.count("\n") == 1
    assert run("train", "--resume", "out") == 2
    assert "mimachine compare --resume out" in capsys.readouterr().err


def test_a_comparison_goes_on_with_data_that_moved(here, capsys):
    assert run("compare", "rows.npy", "--objectives", "mim", "vae", *SMALL, "--out", "out") == 0
    settings = {n: json.loads(Path(f"out/{n}/experiment.json").read_text()) for n in ("mim", "vae")}
    request = {"command": "compare", "objectives": ["mim", "vae"], "experiments": settings}
    unfinish(Path("out"), request, "comparison.json", "report.html")
    Path("rows.npy").rename("moved.npy")
    shutil.rmtree("out/vae")
    capsys.readouterr()
    assert run("compare", "--resume", "out") == 2
    assert "say where with --data PATH" in capsys.readouterr().err
    assert run("compare", "--resume", "out", "--data", "moved.npy") == 0
    assert Path("out/report.html").exists()
    assert not Path("out/unfinished.json").exists()


def test_how_to_resume_names_data_that_moved(here):
    (here / "a").mkdir()
    (here / "a" / "experiment.json").touch()
    assert resume_hint(Path("a"), "b c") == ("resume with: mimachine train --resume a --data 'b c'")
    request = {"command": "compare", "objectives": ["mim"], "experiments": {"mim": {}}}
    (here / "unfinished.json").write_text(json.dumps(request))
    assert comparison_hint(here, "b c").endswith(f"compare --resume {here} --data 'b c'")


def test_a_refit_goes_on_by_the_same_command(here, capsys):
    assert run("train", "rows.npy", *SMALL, "--no-report", "--out", "run") == 0
    command = ["refit", "run", "--components", 2, "--num-samples", 3, "--out", "out"]
    assert run(*command) == 0
    before = bytes_of(Path("out"))
    assert run(*command) == 2
    assert "out already exists with a finished run" in capsys.readouterr().err
    shutil.rmtree("out")

    def interrupt(message):
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        workflow.refit("run", "out", components=2, num_samples=3, say=interrupt)
    assert (Path("out") / "unfinished.json").exists()
    assert run(*command) == 0
    assert bytes_of(Path("out")) == before


def resumed(directory, capsys):
    """The command by which `inspect` says that a run is resumed, as words."""
    capsys.readouterr()
    assert run("inspect", directory, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert run("inspect", directory) == 0
    text = capsys.readouterr().out
    if found["finished"]:
        assert found["resume"] is None
        assert "; finished\n" in text
        return None
    assert f"; unfinished, resume with: {found['resume']}\n" in text
    name, *words = shlex.split(found["resume"])
    assert name == "mimachine"
    return words


@pytest.mark.parametrize(
    "options", [["--components", 2], ["--kind", "vamp", "--components", 3, "--seed", 7]]
)
def test_an_unfinished_refit_says_how_it_is_really_resumed(here, capsys, options):
    assert run("train", "rows.npy", *SMALL, "--no-report", "--out", "a run") == 0
    command = ["refit", "a run", *options, "--num-samples", 3, "--no-report", "--out", "my out"]
    assert run(*command) == 0
    before = bytes_of(Path("my out"))
    assert resumed("my out", capsys) is None
    shutil.rmtree("my out")

    def interrupt(message):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimachine.cli.commands.say", lambda command, text: interrupt(text))
        assert run(*command) == 130
    words = resumed("my out", capsys)
    assert run("train", "--resume", "my out") == 2
    assert f"go on with: mimachine {shlex.join(words)}" in capsys.readouterr().err
    assert run(*words, "--no-report") == 0
    assert bytes_of(Path("my out")) == before
    assert resumed("my out", capsys) is None


def test_an_unfinished_training_says_how_it_is_resumed(here, capsys):
    assert run("train", "rows.npy", *SMALL, "--no-report", "--out", "a run") == 0
    settings = json.loads(Path("a run/experiment.json").read_text())
    # Only its report is missing; or it is of a version that stored no request.
    unfinish(Path("a run"), {"command": "train", **settings})
    assert resumed("a run", capsys) == ["train", "--resume", "a run"]
    Path("a run/unfinished.json").unlink()
    Path("a run/report.json").unlink()
    assert resumed("a run", capsys) == ["train", "--resume", "a run"]
    assert run("evaluate", "a run", "--num-samples", 3) == 0
    assert resumed("a run", capsys) is None
    # A refit of such a version that was not measured.
    assert run("refit", "a run", "--components", 2, "--num-samples", 3, "--out", "out") == 0
    Path("out/report.json").unlink()
    assert resumed("out", capsys) == ["evaluate", "out"]


def test_a_typed_command_is_quoted_and_has_its_directory_and_its_data(monkeypatch):
    monkeypatch.setenv("MIMACHINE_DATA", "my data")
    assert typed("refit", ["a b"], Path("c d")) == (
        "mimachine refit 'a b' --out 'c d' --data-dir 'my data'"
    )
    monkeypatch.delenv("MIMACHINE_DATA")
    for given in (["--out", "c"], ["--out=c"]):
        assert typed("refit", ["a", *given], Path("c")) == f"mimachine refit a {' '.join(given)}"


# --- kills at random moments ---------------------------------------------------------------------


def numbers(path):
    """The content of a file, without the seconds that were measured, and digests with them."""
    if path.name == "written.jsonl":
        return {json.loads(line)["file"] for line in path.read_text().splitlines()}
    if path.name in ("results.json", "result.json"):
        return without_seconds(json.loads(path.read_text()))
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: arrays[name].tobytes() for name in arrays}
    # A drawing has random names of its parts.
    return None if path.suffix == ".svg" else path.read_bytes()


def without_seconds(value):
    if isinstance(value, list):
        return [without_seconds(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = value.keys() - {"seconds", "digest"}
    return {name: without_seconds(value[name]) for name in kept}


def all_numbers(directory):
    return {p: numbers(p) for p in sorted(directory.rglob("*")) if p.is_file()}


COMMANDS = {
    "train": ["train", "rows.npy", *SMALL, "--checkpoint-seconds", 0, "--out", "out"],
    "compare": ["compare", "rows.npy", "--no-baselines", *SMALL, "--out", "out"],
    "refit": ["refit", "run", "--num-samples", 3, "--out", "out"],
    "evaluate": ["evaluate", "run", "--num-samples", 10],
    "report": ["report", "run"],
    "embed": ["embed", "run"],
    "sample": ["sample", "run"],
    "figure11": ["reproduce", "figure11", "--quick", "--jobs", 2, "--out", "out"],
    "schedules": ["reproduce", "schedules", "--quick", "--seeds", 1, "--jobs", 1, "--out", "out"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_at_random_moments_ends_with_the_same_files(name, here):
    dice, command = random.Random(name), COMMANDS[name]
    assert run("train", "rows.npy", *SMALL, "--no-report", "--out", "run") == 0
    shutil.copytree("run", "kept")
    begun = time.monotonic()
    code, errors = finish(start(*command))
    assert code == 0, errors
    seconds, expected = time.monotonic() - begun, all_numbers(here)
    shutil.rmtree("out", ignore_errors=True)
    shutil.rmtree("run")
    shutil.copytree("kept", "run")
    for _ in range(4):
        process = start(*command)
        time.sleep(dice.uniform(0.2 * seconds, seconds))
        process.kill()
        finish(process)
        for file in here.rglob("*.json"):
            json.loads(file.read_text())
    code, errors = finish(start(*command))
    # The last of the killed processes may have been through.
    assert code == 0 or "finished" in errors, errors
    assert all_numbers(here) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "compare", "refit"])
def test_one_of_eight_equal_commands_works_and_the_others_are_refused(name, here):
    assert run("train", "rows.npy", *SMALL, "--no-report", "--out", "run") == 0
    ended = [finish(process) for process in [start(*COMMANDS[name]) for _ in range(8)]]
    assert sorted(code for code, _ in ended) == [0, *[2] * 7]
    for code, errors in ended:
        assert code == 0 or errors.count("\n") == 1
        assert code == 0 or "in use by another process" in errors or "finished" in errors


@pytest.mark.slow
def test_an_interrupted_comparison_is_resumed_as_it_says(here):
    command = ["compare", "rows.npy", "--no-baselines", *SMALL, "--training.epochs", 200]
    process = start(*command, "--out", "out")
    wait_for(Path("out/a-mim/metrics.jsonl").exists, process)
    process.send_signal(signal.SIGTERM)
    code, errors = finish(process)
    assert code == 143
    said = errors.rpartition("resume with: mimachine ")[2].split()
    assert said == ["compare", "--resume", "out"]
    assert run(*said) == 0
    assert not Path("out/unfinished.json").exists()
