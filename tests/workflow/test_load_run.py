"""Opening a trained run from Python."""

import numpy as np
import pytest
import torch

import mimachine as mm


@pytest.fixture(scope="module", params=["auto", "gaussian"])
def trained(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("load")
    rows = np.random.default_rng(0).normal(3, 2, (120, 3)).round(2)
    np.savetxt(folder / "table.csv", rows, delimiter=",", header="a,b,c", comments="", fmt="%.2f")
    settings = mm.Experiment(
        mm.experiment.Data(str(folder / "table.csv")),
        mm.experiment.Model(latent=2, hidden=(8,), likelihood=request.param),
        "a-mim",
        mm.Training(epochs=3, warmup=0),
        num_samples=5,
    )
    return folder, mm.train(settings, folder / "run", progress=False)


def test_a_loaded_run_is_the_trained_one(trained):
    folder, (run, _, report) = trained
    loaded = mm.load(folder / "run")
    assert loaded.report == report
    assert loaded.experiment == run.experiment
    assert loaded.data.columns == ("a", "b", "c")
    assert torch.equal(loaded.data.test, run.data.test)
    codes = [mm.codes(each.model, run.data.test).mean for each in (loaded, run)]
    assert torch.equal(*codes)


def test_a_run_whose_file_is_gone_has_its_model_and_preprocessing(trained):
    folder, (run, _, report) = trained
    (folder / "table.csv").rename(folder / "elsewhere.csv")
    try:
        with pytest.warns(UserWarning, match="table.csv does not exist: the data of .* are "):
            loaded = mm.load(folder / "run")
    finally:
        (folder / "elsewhere.csv").rename(folder / "table.csv")
    assert loaded.report == report
    is_table = run.data.schema is not None
    assert bool(loaded.data.train.isnan().all()) == is_table
    assert not loaded.data.train.nan_to_num().any()
    assert loaded.data.schema == run.data.schema
    rows = run.data.test
    np.testing.assert_array_equal(loaded.data.restore(rows), run.data.restore(rows))
    assert torch.equal(mm.codes(loaded.model, rows).mean, mm.codes(run.model, rows).mean)


def test_what_is_no_run_or_has_no_report_is_an_error(trained, tmp_path):
    folder, (run, _, _) = trained
    with pytest.raises(FileNotFoundError, match=r"no run at .*nothing"):
        mm.load(tmp_path / "nothing")
    report = folder / "run" / "report.json"
    report.rename(tmp_path / "report.json")
    try:
        with pytest.raises(FileNotFoundError, match=r"has no report\.json; evaluate it with"):
            _ = run.report
    finally:
        (tmp_path / "report.json").rename(report)


def test_a_data_set_is_trained_by_its_name_or_path(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        mm.train("digit", tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        mm.train(str(tmp_path / "nothing.csv"), tmp_path / "run")
