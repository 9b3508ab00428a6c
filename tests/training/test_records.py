"""Lines of metrics.jsonl, and the records of data and refits."""

import json
from typing import get_args, get_type_hints

import pytest

import mimachine as mm
from mimachine.estimation.refit_prior import Kind
from mimachine.training.records import Epoch, RefitRecord, epoch_line, epochs_of

ONE = Epoch(1, 0.5, 1e-3, 2.5, None)
MANY = Epoch(1, 1.0, 0.0, [1.0, None], [None, 2.0])


@pytest.mark.parametrize("epoch", [ONE, MANY])
def test_epochs_are_read_as_they_were_written(epoch):
    assert epochs_of([epoch_line(epoch)], "file") == [epoch]
    assert epoch.num_models == (None if epoch is ONE else 2)


def test_lines_of_older_runs_have_no_digest():
    value = {"epoch": 1, "beta": 1, "learning_rate": 1, "train_loss": 1, "val_loss": 2.5}
    assert epochs_of([json.dumps(value)], "file") == [Epoch(1, 1, 1, 1, 2.5)]


WRONG = [
    ("epoch", 2), ("epoch", 0), ("epoch", True), ("epoch", 1.0), ("beta", -0.1), ("beta", 1.1),
    ("beta", None), ("learning_rate", -1), ("train_loss", None), ("train_loss", "1"),
    ("train_loss", [[1]]), ("train_loss", ["1"]), ("val_loss", True), ("val_loss", [1.0]),
    ("val_loss", {}), ("other", 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_impossible_epochs_are_refused_with_their_line(name, value):
    line = {"epoch": 1, "beta": 1, "learning_rate": 1, "train_loss": 1, "val_loss": 2.5}
    with pytest.raises(ValueError, match=r"^line 1 of file is damaged: "):
        epochs_of([json.dumps({**line, name: value})], "file")


def test_a_changed_epoch_a_missing_one_and_another_number_of_models_are_noticed():
    lines = [epoch_line(Epoch(number, 1.0, 0.1, 1.5, 2.5)) for number in (1, 2, 3)]
    with pytest.raises(ValueError, match=r"line 2 of file was changed after it was written"):
        epochs_of([lines[0], lines[1].replace("2.5", "3.5")], "file")
    without = json.loads(lines[1])
    del without["digest"]
    with pytest.raises(ValueError, match=r"line 2 of file was changed"):
        epochs_of([lines[0], json.dumps(without)], "file")
    with pytest.raises(ValueError, match="line 2 of file is damaged: epoch must be 2, got 3"):
        epochs_of([lines[0], lines[2]], "file")
    with pytest.raises(ValueError, match=r"line 2 of file is damaged: .* as many models"):
        epochs_of([lines[0], epoch_line(Epoch(2, 1.0, 0.1, [1.0], [1.0]))], "file")


def test_kinds_of_refits_are_those_that_can_be_fitted():
    assert get_args(get_type_hints(RefitRecord)["kind"]) == get_args(Kind)


@pytest.fixture
def run(tmp_path):
    return mm.Run.create(tmp_path / "run", {})


GOOD = {"run": "/a", "kind": "gmm", "components": None, "seed": 0}


def test_records_of_refits_are_checked_by_entry(run):
    assert run.refit_record() is None
    run.write_json("refit.json", {**GOOD, "before": {}})
    assert run.refit_record() == {**GOOD, "before": {}}
    for name, value in (("kind", "other"), ("components", 0), ("seed", -1), ("run", 1), ("a", 1)):
        run.write_json("refit.json", {**GOOD, name: value})
        with pytest.raises(ValueError, match=rf"refit\.json is damaged: {name}: "):
            run.refit_record()


def test_a_file_that_was_changed_is_refused_and_one_without_digest_is_not(run):
    run.write_json("refit.json", GOOD)
    file = run.path / "refit.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored, indent=7))
    assert run.refit_record() == GOOD
    file.write_text(json.dumps({**stored, "seed": 1}))
    with pytest.raises(ValueError, match=r"refit\.json was changed after it was written"):
        run.refit_record()
    file.write_text(json.dumps({**GOOD, "seed": 1}))
    assert run.refit_record() == {**GOOD, "seed": 1}


def test_settings_have_no_digest_and_may_be_edited(run):
    run.write_json("experiment.json", {"a": 1})
    assert json.loads((run.path / "experiment.json").read_text()) == {"a": 1}


def test_an_incomplete_last_line_is_the_beginning_of_the_next_epoch(run):
    lines = [epoch_line(Epoch(number, 1.0, 0.1, 1.5, 2.5)) for number in (1, 2, 3)]
    file = run.path / "metrics.jsonl"
    for length in (0, 1, 10, 30, len(lines[2]) - 1):
        file.write_text("".join(lines[:2]) + lines[2][:length])
        assert [each["epoch"] for each in run.metrics()] == [1, 2]
    file.write_text("".join(lines[:2]) + "\0" * 9)
    assert len(run.metrics()) == 2
    for rest in ("{}", "5}", "91066"):
        file.write_text("".join(lines[:2]) + rest)
        with pytest.raises(ValueError, match=r"line 3 of .*metrics\.jsonl is damaged"):
            run.metrics()


def test_a_finished_run_has_no_incomplete_line(run):
    run.append_metrics(ONE)
    run.write_json("report.json", {})
    assert len(run.metrics()) == 1
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2')
    with pytest.raises(ValueError, match=r"line 2 of .*metrics\.jsonl is damaged"):
        run.metrics()
