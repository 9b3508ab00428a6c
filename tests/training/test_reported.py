"""What `fit` tells of each epoch, and how it is stopped from outside."""

import json

import pytest
import torch

import mimachine as mm
from mimachine.training.recipe import Training

RECIPE = Training(6, 32, warmup=2)


def make_loss(seed=0):
    torch.manual_seed(seed)
    model = mm.Joint(
        mm.Gaussian(mm.MLP(3, 4, (8,))), mm.Gaussian(mm.MLP(2, 6, (8,)), 0.1), mm.StandardNormal(2)
    )
    return mm.Loss(model, mm.A_MIM)


def data(count=100):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def weights(loss):
    return [p.detach().clone() for p in loss.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_each_epoch_is_told_with_its_record():
    told = []
    history = mm.fit(make_loss(), data(), data(50), RECIPE, on_epoch=told.append)
    assert told == history.epochs
    assert len(told) == 6


def test_stop_ends_training_after_the_epoch_with_the_best_weights(tmp_path):
    def on_epoch(epoch):
        if epoch.epoch == 4:
            raise mm.Stop

    results = []
    for options, recipe in (({"on_epoch": on_epoch}, RECIPE), ({}, Training(4, 32, warmup=2))):
        loss = make_loss()
        history = mm.fit(loss, data(), data(50), recipe, **options)
        results.append((weights(loss), history.epochs, history.best_epoch))
    assert same(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]
    run, loss = mm.Run.create(tmp_path / "run", {}), make_loss()
    stopped = mm.fit(loss, data(), data(50), RECIPE, run=run, on_epoch=on_epoch)
    assert stopped.stopped_early
    # A run that was killed while it was measured does not train on when it is resumed.
    again = make_loss(1)
    resumed = mm.fit(again, data(), data(50), RECIPE, run=run)
    assert resumed == stopped
    assert same(weights(again), weights(loss))


def test_another_exception_leaves_a_run_to_resume(tmp_path):
    def on_epoch(epoch):
        if epoch.epoch == 4:
            raise RuntimeError("disk quota")

    run, whole = mm.Run.create(tmp_path / "run", {}), make_loss()
    expected = mm.fit(whole, data(), data(50), RECIPE)
    with pytest.raises(RuntimeError, match="disk quota"):
        mm.fit(make_loss(), data(), data(50), RECIPE, run=run, on_epoch=on_epoch)
    loss = make_loss()
    assert mm.fit(loss, data(), data(50), RECIPE, run=run) == expected
    assert same(weights(loss), weights(whole))


def read_events(directory):
    """Values by name and step."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator(str(directory))
    accumulator.Reload()
    return {
        tag: {event.step: event.value for event in accumulator.Scalars(tag)}
        for tag in accumulator.Tags()["scalars"]
    }


def test_loggers_get_the_losses_of_each_epoch(tmp_path):
    pytest.importorskip("tensorboard")
    from lightning_fabric import Fabric
    from lightning_fabric.loggers import CSVLogger, TensorBoardLogger

    given = TensorBoardLogger(tmp_path, name="a", version="")
    of_fabric = CSVLogger(tmp_path, name="b", version="")
    fabric = Fabric(devices=1, accelerator="cpu", loggers=[of_fabric])
    history = mm.fit(make_loss(), data(), data(50), RECIPE, loggers=[given], fabric=fabric)
    events = read_events(tmp_path / "a")
    for name in ("train_loss", "val_loss", "beta", "learning_rate"):
        expected = {epoch.epoch: getattr(epoch, name) for epoch in history.epochs}
        assert events[name] == pytest.approx(expected)
    rows = (tmp_path / "b" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 6


def test_several_models_have_a_loss_each(tmp_path):
    from mimachine.data.sources import Shared

    told = []

    class Logger:
        def log_metrics(self, metrics, step):
            told.append((step, metrics))

        def save(self):
            told.append("saved")

        def finalize(self, status):
            told.append(status)

    ensemble = mm.Ensemble([make_loss(0), make_loss(1)])
    source = Shared(mm.TensorSource(data()), 2)
    history = mm.fit(ensemble, source, None, Training(1, warmup=0), loggers=[Logger()])
    losses = history.epochs[0].train_loss
    (step, metrics), *ending = told
    assert step == 1
    assert metrics == {
        "beta": 1.0,
        "learning_rate": 1e-3,
        "train_loss/0": losses[0],
        "train_loss/1": losses[1],
    }
    assert ending == ["saved", "success"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_epoch": 3}, "on_epoch must be a function of an Epoch or None, got a int"),
        ({"loggers": "tensorboard"}, "loggers must be a list of loggers, got a str"),
        ({"loggers": [print]}, "loggers must be of lightning_fabric"),
    ],
)
def test_what_is_no_callback_is_refused(options, message):
    with pytest.raises(TypeError, match=message):
        mm.fit(make_loss(), data(), None, Training(1, warmup=0), **options)


def test_a_seed_gives_the_same_model_and_training():
    found = []
    for _ in range(2):
        mm.seed_everything(3)
        model = mm.Joint(mm.Gaussian(mm.MLP(3, 4)), mm.Gaussian(mm.MLP(2, 6)), mm.StandardNormal(2))
        mm.fit(mm.Loss(model, mm.A_MIM), torch.randn(100, 3), None, Training(2, warmup=0))
        found.append(json.dumps([p.tolist() for p in model.parameters()]))
    assert found[0] == found[1]
