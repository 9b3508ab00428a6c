"""Interrupted at any of their messages, train, compare and refit go on to the same result."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mimachine import workflow
from mimachine.experiment.presets import default
from mimachine.experiment.settings import Data
from mimachine.reporting import comparison
from mimachine.training import claims
from mimachine.training.recipe import Training
from mimachine.training.run import Run

pytestmark = pytest.mark.usefixtures("few_trees")


class Interrupted(BaseException):
    """An interruption like Ctrl-C, which no part of the library handles."""


class Stopping:
    """Receives messages, and interrupts at the first that begins with certain words."""

    def __init__(self, words):
        self.words = words

    def __call__(self, message):
        if message.startswith(self.words):
            raise Interrupted


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "rows.npy"
    np.save(file, np.random.default_rng(0).normal(size=(60, 3)))
    return file


def settings(table, objective="mim", epochs=3):
    start = default(str(table), objective)
    model = replace(start.model, latent=2, hidden=(8,))
    return replace(start, model=model, training=Training(epochs=epochs, warmup=1), num_samples=2)


def both(table, **changes):
    return {name: settings(table, name, **changes) for name in ("mim", "vae")}


def contents(directory):
    """Every file by name; pictures are left out, which take long to draw and are written anew."""
    files = [p for p in directory.rglob("*") if p.is_file() and p.suffix != ".png"]
    found = {str(p.relative_to(directory)): p.read_text(encoding="latin-1") for p in files}
    if "comparison.json" in found:
        # It has the paths of the pictures, on which its digest depends.
        lines = found["comparison.json"].replace(str(directory), "").splitlines()
        found["comparison.json"] = "".join(line for line in lines if '"digest"' not in line)
    return found


def trainer(table):
    def work(path, say):
        workflow.train(settings(table), path, say=say, then=lambda run: say("end"))

    return work


def comparer(table):
    def work(path, say):
        comparison.compare(both(table), path, say=say, then=lambda directory: say("end"))

    return work


def refitter(path, **options):
    def work(out, say):
        given = {"components": 2, "num_samples": 2, **options}
        workflow.refit(path, out, say=say, then=lambda done: say("end"), **given)

    return work


@pytest.fixture(scope="module")
def run(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    workflow.train(settings(table), path)
    return path


STOPS = {
    "train": ("training", "end"),
    "compare": ("training mim", "training vae", "end"),
    "refit": ("fitted", "end"),
}


@pytest.mark.parametrize("command", STOPS)
def test_interrupted_at_every_stage_the_result_is_the_same(command, table, run, tmp_path):
    work = {"train": trainer(table), "compare": comparer(table), "refit": refitter(run)}[command]
    work(tmp_path / "whole", str)
    for words in STOPS[command]:
        with pytest.raises(Interrupted):
            work(tmp_path / "broken", Stopping(words))
        assert claims.request_in(tmp_path / "broken")["command"] == command
    work(tmp_path / "broken", str)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    # A finished directory is refused, and nothing in it changes.
    with pytest.raises(FileExistsError, match=r"with a finished \w+; choose another directory"):
        work(tmp_path / "broken", str)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_comparison_keeps_finished_runs_and_trains_those_not_started(table, tmp_path):
    with pytest.raises(Interrupted):
        comparer(table)(tmp_path / "both", Stopping("training vae"))
    weights, other = (tmp_path / "both" / n / "model.safetensors" for n in ("mim", "vae"))
    before = weights.stat().st_mtime_ns
    assert not other.exists()
    said = []
    comparison.resume(tmp_path / "both", say=said.append)
    assert weights.stat().st_mtime_ns == before
    assert [text.split(" on ")[0] for text in said[:2]] == ["keeping mim", "resuming vae"]
    assert all(text.startswith("fitting a prior") for text in said[2:])
    with pytest.raises(ValueError, match="no unfinished comparison"):
        comparison.resume(tmp_path / "both")


def test_other_experiments_are_refused_by_what_differs(table, tmp_path):
    with pytest.raises(Interrupted):
        comparer(table)(tmp_path / "both", Stopping("training mim"))
    before = contents(tmp_path / "both")
    one, other = both(table), both(table, epochs=4)
    for wanted, message in (
        (other, r"mim.training.epochs \(3 there, 4 here\), vae.training.epochs .*--resume"),
        ({"mim": one["mim"]}, r'objectives \(\["mim", "vae"\] there, \["mim"\] here\)'),
        ({"mim": one["mim"], "vae": other["vae"]}, r"settings, vae.training.epochs \(3 there"),
        (both("digits"), r'data.name \(".*rows.npy" there, "digits" here\)'),
    ):
        with pytest.raises(FileExistsError, match=message):
            comparison.compare(wanted, tmp_path / "both")
    assert contents(tmp_path / "both") == before


@pytest.mark.parametrize("work", [trainer, comparer])
def test_data_that_changed_since_are_refused(work, tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, np.random.default_rng(0).normal(size=(60, 3)))
    with pytest.raises(Interrupted):
        work(file)(tmp_path / "out", Stopping("training"))
    np.save(file, np.random.default_rng(1).normal(size=(60, 3)))
    with pytest.raises(ValueError, match="has changed since the run began"):
        work(file)(tmp_path / "out", print)


def test_another_refit_of_the_same_run_or_of_new_weights_is_refused(table, tmp_path):
    workflow.train(settings(table), tmp_path / "run")
    with pytest.raises(Interrupted):
        refitter(tmp_path / "run")(tmp_path / "fitted", Stopping("fitted"))
    with pytest.raises(FileExistsError, match=r"components \(2 there, 3 here\)"):
        refitter(tmp_path / "run", components=3)(tmp_path / "fitted", print)
    Run(tmp_path / "run").save_weights(workflow.open_run(tmp_path / "fitted").model)
    with pytest.raises(FileExistsError, match="settings, weights "):
        refitter(tmp_path / "run")(tmp_path / "fitted", print)
    with pytest.raises(ValueError, match="unfinished refit; go on with: mimachine refit"):
        workflow.resume(tmp_path / "fitted")


def test_a_run_interrupted_before_its_settings_were_written_is_resumed(table, tmp_path):
    trainer(table)(tmp_path / "whole", str)
    with pytest.raises(Interrupted):
        trainer(table)(tmp_path / "run", Stopping("training"))
    # What a process leaves that is killed between its first two writes.
    (tmp_path / "run" / "experiment.json").unlink()
    (tmp_path / "run" / ".experiment.json.ab.mimachine-partial").write_text("{")
    assert set(contents(tmp_path / "run")) > {"unfinished.json", "data.json"}
    workflow.resume(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_an_unfinished_run_of_version_0_1_says_how_to_resume_it(table, tmp_path):
    with pytest.raises(Interrupted):
        trainer(table)(tmp_path / "run", Stopping("training"))
    (tmp_path / "run" / "unfinished.json").unlink()
    (tmp_path / "run" / "state.ckpt").write_bytes(b"")
    with pytest.raises(FileExistsError, match=f"mimachine train --resume {tmp_path}/run$"):
        trainer(table)(tmp_path / "run", print)


def test_settings_are_json_that_names_the_command(table, tmp_path):
    with pytest.raises(Interrupted):
        trainer(table)(tmp_path / "run", Stopping("training"))
    stored = json.loads((tmp_path / "run" / "unfinished.json").read_text())
    assert stored.pop("command") == "train"
    assert stored.pop("known_by") == {"data.name": os.path.relpath(table, tmp_path / "run")}
    assert stored == json.loads((tmp_path / "run" / "experiment.json").read_text())


@pytest.fixture
def project(table, tmp_path):
    """A folder with data and a run, and a function that moves it."""
    (tmp_path / "here").mkdir()
    shutil.copy(table, tmp_path / "here" / "rows.npy")

    def move():
        (tmp_path / "here").rename(tmp_path / "there")
        return tmp_path / "there"

    return tmp_path / "here", move


@pytest.mark.parametrize("command", ["train", "compare", "refit"])
@pytest.mark.parametrize("by_resume", [True, False])
def test_a_project_that_moves_in_the_middle_goes_on(command, by_resume, project):
    here, move = project
    stop, name = "training vae" if command == "compare" else STOPS[command][0], "out"
    works = {"train": trainer, "compare": comparer}
    if command == "refit":
        workflow.train(settings(here / "rows.npy"), here / "run")
    work = works[command](here / "rows.npy") if command in works else refitter(here / "run")
    with pytest.raises(Interrupted):
        work(here / name, Stopping(stop))
    there = move()
    if command == "train":
        # Even if it was interrupted before there was a run.
        (there / name / "experiment.json").unlink()
    if command == "refit" or not by_resume:
        work = works[command](there / "rows.npy") if command in works else refitter(there / "run")
        work(there / name, str)
    else:
        {"train": workflow.resume, "compare": comparison.resume}[command](there / name)
    assert claims.request_in(there / name) is None


def test_a_run_that_has_not_begun_goes_on_with_data_elsewhere(table, project):
    here, _ = project
    with pytest.raises(Interrupted):
        trainer(here / "rows.npy")(here / "run", Stopping("training"))
    (here / "run" / "experiment.json").unlink()
    (here / "rows.npy").unlink()
    with pytest.raises(FileNotFoundError):
        workflow.resume(here / "run")
    assert workflow.resume(here / "run", data=table)[0].experiment.data.name == str(table)


STAGES = [(s, b) for s in STOPS["compare"] for b in (True, False)]


@pytest.mark.parametrize(("stop", "has_begun"), STAGES)
def test_a_comparison_goes_on_with_data_elsewhere(stop, has_begun, table, project):
    here, _ = project
    comparer(table)(here / "whole", str)
    with pytest.raises(Interrupted):
        comparer(here / "rows.npy")(here / "out", Stopping(stop))
    last = here / "out" / ("mim" if stop == "training mim" else "vae")
    if not has_begun and stop == "end":
        shutil.rmtree(last)
    elif not has_begun:
        # What a process leaves that is killed before it writes the settings.
        (last / "experiment.json").unlink()
    (here / "rows.npy").unlink()
    with pytest.raises(FileNotFoundError, match="if it moved, say where with data=") as caught:
        comparison.resume(here / "out")
    assert caught.value.with_flags.endswith("with --data PATH")
    with pytest.raises(Interrupted):
        # Interrupted once more, it still goes on.
        comparison.resume(here / "out", data=table, say=Stopping(""))
    comparison.resume(here / "out", data=table)
    assert claims.request_in(here / "out") is None
    for name in ("mim", "vae"):
        there, wanted = (Run(here / directory / name) for directory in ("out", "whole"))
        for file in ("model.safetensors", "report.json"):
            assert (there.path / file).read_bytes() == (wanted.path / file).read_bytes()


def test_a_comparison_goes_on_with_the_same_data_only(table, project, tmp_path):
    here, _ = project
    with pytest.raises(Interrupted):
        comparer(here / "rows.npy")(here / "out", Stopping("training vae"))
    np.save(tmp_path / "other.npy", np.random.default_rng(1).normal(size=(60, 3)))
    with pytest.raises(ValueError, match="has changed since the run began"):
        comparison.resume(here / "out", data=tmp_path / "other.npy")
    assert not (here / "out" / "vae" / "model.safetensors").exists()
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*absent\.npy"):
        comparison.resume(here / "out", data=tmp_path / "absent.npy")


def test_a_comparison_of_a_named_data_set_has_no_place(table, tmp_path):
    small = {n: replace(each, data=Data("mixture-2d")) for n, each in both(table).items()}
    with pytest.raises(Interrupted):
        comparison.compare(small, tmp_path / "out", say=Stopping("training mim"))
    with pytest.raises(ValueError, match="out was trained on mixture-2d"):
        comparison.resume(tmp_path / "out", data=table)


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("x\n")])
def test_a_refit_of_damaged_records_is_refused_before_it_is_computed(
    table, run, tmp_path, damage, monkeypatch
):
    monkeypatch.setattr("mimachine.workflow.refit_run._fitted", None)
    copy = shutil.copytree(run, tmp_path / "run")
    damage(copy / "metrics.jsonl")
    with pytest.raises((ValueError, OSError), match=r"metrics\.jsonl"):
        refitter(copy)(tmp_path / "fitted", str)
    assert not (tmp_path / "fitted").exists()
