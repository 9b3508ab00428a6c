"""A decay is branched from a training at a stable rate, which goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest

import mimachine as mm
from mimachine import workflow
from mimachine.cli.entry import main
from mimachine.experiment.presets import default
from mimachine.training.fit import fit
from mimachine.training.run import Run

SCHEDULE = mm.WarmupStableDecay(2, 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(120, 4)))
    return str(path)


def settings_of(data, epochs, schedule=SCHEDULE):
    start = default(data)
    training = replace(start.training, epochs=epochs, schedule=schedule, warmup=2, patience=epochs)
    model = replace(start.model, hidden=(8,), latent=2)
    return replace(start, training=training, model=model, num_samples=2)


@pytest.fixture
def interrupted(data, tmp_path, monkeypatch):
    """A run of 20 epochs that was interrupted after 6 of them."""

    def stopping(*args, **options):
        def on_epoch(epoch):
            if epoch.epoch == 6:
                raise KeyboardInterrupt

        return fit(*args, **options | {"on_epoch": on_epoch, "checkpoint_seconds": 0})

    with monkeypatch.context() as patched:
        patched.setattr("mimachine.workflow.train_run.fit", stopping)
        with pytest.raises(KeyboardInterrupt):
            workflow.train(settings_of(data, 20), tmp_path / "run")
    return tmp_path / "run"


def test_a_branch_ends_as_a_shorter_training_and_the_run_goes_on(data, interrupted, tmp_path):
    # The state after the fifth epoch was the last: the hook raised in the sixth.
    run = workflow.branch(interrupted, tmp_path / "decayed")
    epochs = json.loads((run.path / "experiment.json").read_text())["training"]["epochs"]
    assert epochs == 5 + 3
    trained, history, _ = workflow.resume(run.path)
    assert [epoch.epoch for epoch in history.epochs] == list(range(1, 9))
    factors = [SCHEDULE.factor(epoch, 8) for epoch in range(1, 9)]
    assert [e.learning_rate for e in history.epochs] == pytest.approx([3e-3 * f for f in factors])
    short = workflow.train(settings_of(data, 8), tmp_path / "short")
    weights = [(r / "model.safetensors").read_bytes() for r in (run.path, tmp_path / "short")]
    assert weights[0] == weights[1]
    assert history == short[1]
    assert trained.run.finished
    _, went_on, _ = workflow.resume(interrupted)
    whole = workflow.train(settings_of(data, 20), tmp_path / "whole")
    assert went_on == whole[1]


def test_a_branch_is_trained_by_one_command(interrupted, tmp_path, capsys):
    out = tmp_path / "decayed"
    assert main(["train", "--resume", str(interrupted), "--branch", str(out)]) == 0
    assert "epoch" in capsys.readouterr().out
    assert Run(out).finished
    assert not Run(interrupted).finished
    # Nothing is overwritten.
    assert main(["train", "--resume", str(interrupted), "--branch", str(out)]) == 2
    assert "already exists with a finished run" in capsys.readouterr().err
    assert main(["train", "--resume", str(out), "--branch", str(tmp_path / "more")]) == 2
    assert "no state to begin from: it is finished" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"schedule": None}, "warmup-stable-decay only, and .* has none"),
        ({"schedule": {"warmup": 0, "final": 0.0, "kind": "cosine"}}, "has cosine"),
        ({"epochs": 7}, "decays already, since epoch 5"),
    ],
)
def test_what_cannot_be_branched_is_refused(interrupted, tmp_path, training, message):
    file = interrupted / "experiment.json"
    settings = json.loads(file.read_text())
    settings["training"] |= training
    file.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message):
        workflow.branch(interrupted, tmp_path / "decayed")
    assert not (tmp_path / "decayed").exists()


def test_a_damaged_state_is_named(interrupted, tmp_path):
    (interrupted / "state.ckpt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"state\.ckpt is damaged"):
        workflow.branch(interrupted, tmp_path / "decayed")
    assert not (tmp_path / "decayed").exists()


def test_a_log_goes_on_after_an_interruption(data, tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def stopping(*args, **options):
        def on_epoch(epoch):
            if epoch.epoch == 3:
                raise KeyboardInterrupt

        return fit(*args, **options | {"on_epoch": on_epoch})

    settings = settings_of(data, 6)
    with monkeypatch.context() as patched:
        patched.setattr("mimachine.workflow.train_run.fit", stopping)
        with pytest.raises(KeyboardInterrupt):
            workflow.train(settings, tmp_path / "run", log="tensorboard")
    # The run has a log, so nothing has to be said again.
    _, history, _ = workflow.train(settings, tmp_path / "run")
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    found = {event.step: event.value for event in events.Scalars("val_loss")}
    assert found == pytest.approx({epoch.epoch: epoch.val_loss for epoch in history.epochs})


def test_a_log_is_an_option_of_the_command(data, tmp_path):
    pytest.importorskip("tensorboard")
    quick = ["--training.epochs", "2", "--training.warmup.epochs", "1", "--num-samples", "2"]
    out = tmp_path / "run"
    command = ["train", data, *quick, "--no-report", "--log", "tensorboard", "--out", str(out)]
    assert main(command) == 0
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))


def test_a_log_that_cannot_be_written_is_refused_before_training(data, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="log must be 'tensorboard' or None, got 'wandb'"):
        workflow.train(settings_of(data, 3), tmp_path / "run", log="wandb")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install mimachine\[log\]"):
        workflow.train(settings_of(data, 3), tmp_path / "run", log="tensorboard")
    assert not (tmp_path / "run").exists()
