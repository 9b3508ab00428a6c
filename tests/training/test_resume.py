"""Resumed runs end as if they had not been interrupted."""

import functools
import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
from commands import finish, wait_for

import mimachine as mm
from mimachine import workflow
from mimachine.cli.entry import main
from mimachine.training.fit import fit
from mimachine.training.recipe import Training
from mimachine.training.state import State

FILES = (
    "experiment.json",
    "fitted_prior.safetensors",
    "metrics.jsonl",
    "model.safetensors",
    "report.json",
)


def slow(value):
    """A slow case: it differs little from the others and starts processes like them."""
    return pytest.param(value, marks=pytest.mark.slow)


def same_files(a, b):
    return [name for name in FILES if (a / name).read_bytes() != (b / name).read_bytes()]


def make_loss(prior="standard"):
    torch.manual_seed(0)
    encoder = mm.Gaussian(mm.MLP(3, 4, (8,)))
    base = {
        "standard": lambda: mm.StandardNormal(2),
        "vamp": lambda: mm.VampPrior(encoder, torch.randn(4, 3)),
        "mixture": lambda: mm.GaussianMixture(2, 3),
    }[prior]()
    model = mm.Joint(encoder, mm.Gaussian(mm.MLP(2, 6, (8,)), 0.1), base)
    return mm.Loss(model, mm.MIM)


class Interrupted(Exception):
    pass


class StoppingSource(mm.TensorSource):
    """A source that fails in the middle of an epoch."""

    def __init__(self, data, epoch):
        super().__init__(data)
        self.stop_epoch = epoch

    def batches(self, batch_size, epoch):
        for number, batch in enumerate(super().batches(batch_size, epoch)):
            if epoch == self.stop_epoch and number == 1:
                raise Interrupted
            yield batch


RECIPE = Training(epochs=12, batch_size=32, warmup=3, patience=20)


@pytest.fixture(scope="module")
def rows():
    torch.manual_seed(0)
    return torch.randn(100, 3), torch.randn(40, 3)


@pytest.fixture(scope="module", params=["standard", "vamp", "mixture"])
def whole(request, rows, tmp_path_factory):
    """The prior, the trained loss, the history and the run of a training without interruption."""
    x, val = rows
    loss, run = (
        make_loss(request.param),
        mm.Run.create(tmp_path_factory.mktemp("run") / "whole", {}),
    )
    history = fit(loss, mm.TensorSource(x), val, RECIPE, run=run, checkpoint_seconds=0)
    return request.param, loss, history, run


@pytest.mark.parametrize("stop", [1, 2, 5, 9])
def test_a_run_broken_off_in_any_epoch_ends_with_the_same_bits(tmp_path, rows, whole, stop):
    prior, expected_loss, expected, whole_run = whole
    x, val = rows
    run = mm.Run.create(tmp_path / "broken", {})
    with pytest.raises(Interrupted):
        fit(make_loss(prior), StoppingSource(x, stop), val, RECIPE, run=run, checkpoint_seconds=0)
    again = make_loss(prior)
    # A fresh process initialises weights by their seed; other values show that a checkpoint
    # replaces all of them.
    if stop > 1:
        for parameter in again.parameters():
            parameter.data.normal_()
    history = fit(again, mm.TensorSource(x), val, RECIPE, run=run, checkpoint_seconds=0)
    assert history == expected
    for a, b in zip(expected_loss.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (whole_run.path / name).read_bytes() == (run.path / name).read_bytes()


def test_early_stopping_counts_go_on_after_an_interruption(tmp_path):
    # Overfits, so that the best epoch lies before the interruption and the stop after it.
    x, val = torch.randn(20, 3), 3 * torch.randn(40, 3)
    recipe = Training(epochs=60, warmup=1, learning_rate=0.05, patience=8)
    expected = fit(make_loss(), mm.TensorSource(x), val, recipe)
    assert expected.stopped_early
    middle = expected.best_epoch + 4
    run = mm.Run.create(tmp_path / "run", {})
    partial = Training(epochs=middle, warmup=1, learning_rate=0.05, patience=8)
    loss = make_loss()
    fit(loss, mm.TensorSource(x), val, partial, run=run, checkpoint_seconds=0)
    history = fit(make_loss(), mm.TensorSource(x), val, recipe, run=run, checkpoint_seconds=0)
    assert history == expected


def test_records_after_the_last_state_are_dropped_and_an_incomplete_line_is_ignored(tmp_path):
    run = mm.Run.create(tmp_path / "run", {})
    loss = make_loss()
    state = State(loss, torch.optim.Adam(loss.parameters()), 5)
    for epoch in (1, 2, 3):
        state.epochs.append(mm.Epoch(epoch, 1.0, 0.1, 1.0, None))
        run.append_metrics(state.epochs[-1])
        if epoch == 2:
            run.checkpoint(state)
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "bet')
    assert [record["epoch"] for record in run.metrics()] == [1, 2, 3]
    fresh = State(loss, torch.optim.Adam(loss.parameters()), 5)
    run.resume(fresh)
    assert fresh.epoch == 2
    assert (run.path / "metrics.jsonl").read_text().count("\n") == 2


def test_a_damaged_state_is_named(tmp_path):
    run = mm.Run.create(tmp_path / "run", {})
    loss = make_loss()
    state = State(loss, torch.optim.Adam(loss.parameters()), 5)
    run.checkpoint(state)
    whole = (run.path / "state.ckpt").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"nonsense"):
        (run.path / "state.ckpt").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"state\.ckpt is damaged"):
            run.resume(state)


def test_the_state_of_another_model_is_refused(tmp_path):
    run = mm.Run.create(tmp_path / "run", {})
    for prior in ("standard", "mixture"):
        loss = make_loss(prior)
        state = State(loss, torch.optim.Adam(loss.parameters()), 5)
        if prior == "standard":
            run.checkpoint(state)
    with pytest.raises(ValueError, match="belongs to another model"):
        run.resume(state)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path):
    run = mm.Run.create(tmp_path / "run", {})
    code = (
        "import sys, mimachine as mm\n"
        "with mm.Run(sys.argv[1]).locked(): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(BlockingIOError, match="is in use by another process"), run.locked():
            pass
        # The lock ends with the other process, however that ends.
        holder.kill()
        holder.wait()
    with run.locked():
        pass


EPOCHS = 25
SETTINGS = ["digits", "--model.latent", "4", "--model.hidden", "32", "--training.epochs",
            str(EPOCHS), "--training.warmup.epochs", "2", "--training.patience", "200",
            "--num-samples", "5", "--no-report"]  # fmt: skip


def start(*arguments, **options):
    return commands.start("train", *arguments, **options)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    code, errors = finish(start(*SETTINGS, "--out", path, "--checkpoint-seconds", 0))
    assert code == 0, errors
    return path


def test_a_finished_run_has_no_state_and_is_not_resumed(uninterrupted):
    assert {p.name for p in uninterrupted.iterdir()} == set(FILES)
    with pytest.raises(ValueError, match="run is finished"):
        workflow.resume(uninterrupted)


@pytest.mark.parametrize("number", [*map(slow, (signal.SIGINT, signal.SIGTERM)), signal.SIGKILL])
def test_a_process_stopped_by_a_signal_is_resumed_to_the_same_bits(tmp_path, uninterrupted, number):
    path = tmp_path / "run"
    process = start(*SETTINGS, "--out", path, "--checkpoint-seconds", 0)
    metrics = path / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 5, process)
    process.send_signal(number)
    code, errors = finish(process)
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    assert code == expected[number], errors
    if number != signal.SIGKILL:
        assert f"mimachine train --resume {path}" in errors
        assert "Traceback" not in errors
    assert not (path / "report.json").exists()
    code, errors = finish(start("--resume", path, "--no-report"))
    assert code == 0, errors
    assert same_files(uninterrupted, path) == []
    assert {p.name for p in path.iterdir()} == set(FILES)


@pytest.mark.parametrize("number", [*map(slow, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL))])
def test_measuring_a_run_broken_off_before_its_first_checkpoint_does_not_finish_it(
    tmp_path, uninterrupted, number
):
    path = tmp_path / "run"
    process = start(*SETTINGS, "--out", path, "--checkpoint-seconds", 1000)
    metrics = path / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 5, process)
    process.send_signal(number)
    finish(process)
    assert not mm.Run(path).finished
    # Only an orderly end leaves weights to measure.
    if number != signal.SIGKILL:
        assert main(["evaluate", str(path), "--num-samples", "2"]) == 0
        assert (path / "report.json").exists()
        assert not mm.Run(path).finished
    code, errors = finish(start("--resume", path, "--no-report"))
    assert code == 0, errors
    assert same_files(uninterrupted, path) == []
    assert mm.Run(path).finished


@pytest.mark.parametrize("size", [*map(slow, (500, 4000, 60000)), 20000])
def test_a_full_disk_is_one_line_that_says_how_to_go_on(tmp_path, uninterrupted, size):
    path = tmp_path / "run"
    # A limit on the size of files acts on a program like a full disk.
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    process = start(*SETTINGS, "--out", path, "--checkpoint-seconds", 0, prepare=limit)
    code, errors = finish(process)
    assert code == 2, errors
    assert errors.startswith("mimachine: error: [Errno 27] File too large: ")
    assert errors.count("\n") == 1
    # Settings that cannot be written leave no run; any other run can be resumed.
    assert path.exists() == (size > 500)
    if path.exists():
        assert errors.endswith(f"resume with: mimachine train --resume {path}\n")
        code, errors = finish(start("--resume", path, "--no-report"))
        assert code == 0, errors
        assert same_files(uninterrupted, path) == []
        assert {p.name for p in path.iterdir()} == set(FILES)


def test_a_run_on_a_file_is_resumed_to_the_same_bits(tmp_path):
    table = tmp_path / "table.npy"
    np.save(table, np.random.default_rng(0).normal(size=(600, 5)))
    settings = [table, *SETTINGS[1:], "--checkpoint-seconds", 0]
    code, errors = finish(start(*settings, "--out", tmp_path / "whole"))
    assert code == 0, errors
    path = tmp_path / "killed"
    process = start(*settings, "--out", path)
    metrics = path / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 5, process)
    process.kill()
    finish(process)
    assert not (path / "report.json").exists()
    code, errors = finish(start("--resume", path, "--no-report"))
    assert code == 0, errors
    assert same_files(tmp_path / "whole", path) == []
    assert (tmp_path / "whole" / "data.json").read_bytes() == (path / "data.json").read_bytes()


@pytest.mark.slow
def test_twenty_kills_at_random_moments_give_twenty_equal_runs(tmp_path, uninterrupted):
    """Kills at any moment, writes of checkpoints included, some runs killed more than once."""
    dice = random.Random(0)
    kills = 0
    for attempt in range(20):
        path = tmp_path / str(attempt)
        process = start(*SETTINGS, "--out", path, "--checkpoint-seconds", 0)
        wait_for((path / "experiment.json").exists, process)
        while True:
            time.sleep(dice.uniform(0.0, 1.5))
            process.kill()
            code, errors = finish(process)
            kills += code == -signal.SIGKILL
            # A process may be killed after its last write, while exiting.
            if mm.Run(path).finished:
                break
            process = start("--resume", path, "--checkpoint-seconds", 0, "--no-report")
            if dice.random() < 0.6:
                code, errors = finish(process)
                assert code == 0, errors
                break
        assert same_files(uninterrupted, path) == []
    assert kills >= 20


def test_a_second_process_on_a_run_is_refused(tmp_path):
    path = tmp_path / "run"
    # Enough epochs that the first process is still training when the second starts.
    endless = ["--training.epochs", 1_000_000, "--training.patience", 1_000_000]
    process = start(*SETTINGS, *endless, "--out", path, "--checkpoint-seconds", 0)
    try:
        wait_for((path / "state.ckpt").exists, process)
        code, errors = finish(start("--resume", path, "--no-report"))
        assert code == 2
        assert "in use by another process" in errors
    finally:
        process.kill()
        process.communicate()


def test_resuming_what_is_no_run_is_a_mistake(tmp_path, capsys):
    assert main(["train", "--resume", str(tmp_path / "nowhere")]) == 2
    assert "no run at" in capsys.readouterr().err
    Path(tmp_path / "experiment.json").write_text(json.dumps({"format_version": 99}))
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert "format version 99" in capsys.readouterr().err
