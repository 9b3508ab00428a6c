import json

import pytest
import torch

import mimachine as mm
from mimachine._support.files import PARTIAL, replacing


def model(seed=0, hidden=8):
    torch.manual_seed(seed)
    encoder = mm.Gaussian(mm.MLP(3, 4, (hidden,)))
    decoder = mm.Gaussian(mm.MLP(2, 6, (hidden,)))
    return mm.Joint(encoder, decoder, mm.VampPrior(encoder, torch.randn(4, 3)))


def test_weights_come_back_to_the_bit_and_shared_parts_stay_shared(tmp_path):
    run, saved, loaded = mm.Run.create(tmp_path / "run", {}), model(0), model(1)
    run.save_weights(saved)
    run.load_weights(loaded)
    for a, b in zip(saved.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert loaded.prior.encoder is loaded.encoder
    x = torch.randn(5, 3)
    assert torch.equal(saved.encoder(x).mean, loaded.encoder(x).mean)


def test_settings_are_there_before_training(tmp_path):
    run = mm.Run.create(tmp_path / "run", {"a": 1})
    assert run.read_json("experiment.json") == {"a": 1}


def test_a_run_is_never_overwritten(tmp_path):
    mm.Run.create(tmp_path / "run", {})
    with pytest.raises(FileExistsError, match="already exists"):
        mm.Run.create(tmp_path / "run", {})
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="already exists"):
        mm.Run.create(tmp_path / "file", {})
    (tmp_path / "empty").mkdir()
    mm.Run.create(tmp_path / "empty", {})


def test_a_process_that_is_killed_while_it_makes_a_run_is_in_nobodys_way(tmp_path):
    (tmp_path / f".experiment.json.abcd1234{PARTIAL}").write_text('{"a"')
    assert mm.Run.create(tmp_path, {"a": 1}).read_json("experiment.json") == {"a": 1}
    with pytest.raises(FileExistsError, match="already exists"):
        mm.Run.create(tmp_path, {})


def test_a_write_that_cannot_begin_names_the_file_that_was_asked_for(tmp_path):
    file = tmp_path / "nowhere" / "report.json"
    with pytest.raises(FileNotFoundError) as failed, replacing(file):
        pass
    assert failed.value.filename == str(file)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "report.json"
    file.write_text("old")

    def fail():
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_values_that_json_does_not_have_are_refused_and_the_old_file_stays(tmp_path):
    run = mm.Run.create(tmp_path / "run", {})
    run.write_json("report.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.write_json("report.json", {"a": float("nan")})
    assert run.read_json("report.json") == {"a": 1}


def test_metrics_are_lines_that_can_be_read_while_training_goes_on(tmp_path):
    run = mm.Run.create(tmp_path / "run", {})
    assert run.metrics() == []
    for epoch in (1, 2):
        run.append_metrics(mm.Epoch(epoch, 1.0, 1e-3, 2.0, 3.0))
        assert [r["epoch"] for r in mm.Run(tmp_path / "run").metrics()] == list(range(1, epoch + 1))


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run at .*nowhere"):
        mm.Run(tmp_path / "nowhere")
    run = mm.Run.create(tmp_path / "run", {})
    with pytest.raises(FileNotFoundError, match=r"has no report\.json"):
        run.read_json("report.json")
    with pytest.raises(FileNotFoundError, match="has no weights"):
        run.load_weights(model())
    (run.path / "report.json").write_text("{")
    with pytest.raises(ValueError, match=r"report\.json is not valid JSON"):
        run.read_json("report.json")
    run.save_weights(model(hidden=9))
    with pytest.raises(ValueError, match="does not hold the weights of this model"):
        run.load_weights(model())
    weights = run.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(ValueError, match="does not hold the weights of this model"):
        run.load_weights(model())


def test_json_files_are_readable_text(tmp_path):
    run = mm.Run.create(tmp_path / "run", {"a": [1, 2]})
    assert json.loads((run.path / "experiment.json").read_text()) == {"a": [1, 2]}
    assert (run.path / "experiment.json").read_text().endswith("\n")


@pytest.mark.parametrize("data", [None, {"a": 1}])
def test_settings_that_cannot_be_written_leave_no_run(tmp_path, data):
    with pytest.raises(ValueError, match="not JSON compliant"):
        mm.Run.create(tmp_path / "run", {"a": float("inf")}, data)
    assert list(tmp_path.iterdir()) == []
