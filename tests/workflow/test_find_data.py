"""Runs and their data move; the content decides whether data are those of a run."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import mimachine as mm
from mimachine import workflow
from mimachine.cli.entry import main
from mimachine.data.files.options import File
from mimachine.experiment.settings import Data, Experiment, Model
from mimachine.training.recipe import Training

pytestmark = pytest.mark.usefixtures("few_trees")

QUICK = Experiment(
    Data("table.csv", file=File(labels="labels.csv")),
    Model(2, hidden=(4,)),
    "a-mim",
    Training(1, warmup=0),
    num_samples=5,
)


def write(folder, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(size=(40, 3))
    np.savetxt(folder / "table.csv", values, delimiter=",", header="a,b,c", comments="")
    (folder / "labels.csv").write_text("".join(f"{row % 2}\n" for row in range(40)))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with data and a run on them."""
    folder = tmp_path_factory.mktemp("there") / "project"
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        workflow.train(QUICK, "runs/one")
    return folder


@pytest.fixture
def moved(project, tmp_path):
    """The project at another place, and no longer at its own."""
    place = shutil.copytree(project, tmp_path / "elsewhere" / "project")
    hidden = project.with_name("hidden")
    project.rename(hidden)
    yield place
    hidden.rename(project)


def same_rows(trained, project):
    expected = workflow.open_run(project / "runs" / "one").data
    np.testing.assert_array_equal(trained.data.train, expected.train)
    np.testing.assert_array_equal(trained.data.train_labels, expected.train_labels)


def test_a_project_that_moves_as_a_whole_needs_no_word(moved):
    trained = mm.load(moved / "runs" / "one")
    assert trained.experiment.data.name == str(moved / "table.csv")
    assert trained.data.train_labels is not None
    assert trained.data.train.std() > 0.5
    chosen = workflow.select(trained)
    assert len(chosen.rows) == 40
    assert chosen.labels is not None


def test_data_elsewhere_are_found_where_the_user_says(moved, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("table.csv", "labels.csv"):
        (moved / name).rename(data / name)
    run = moved / "runs" / "one"
    with pytest.raises(FileNotFoundError, match=r"if it moved, say where with data="):
        workflow.open_run(run)
    with pytest.warns(UserWarning, match="the data of .* are missing values"):
        assert mm.load(run).data.train.isnan().all()
    trained = mm.load(run, data / "table.csv")
    assert trained.data.train.std() > 0.5
    assert trained.experiment.data.file.labels == str(data / "labels.csv")


def test_other_content_is_refused_wherever_it_lies(project, moved):
    write(moved, seed=1)
    with pytest.raises(ValueError, match="has changed since the run began"):
        workflow.open_run(moved / "runs" / "one")
    with pytest.raises(ValueError, match="has changed since the run began"):
        workflow.open_run(moved / "runs" / "one", moved / "table.csv")


def test_of_two_files_the_one_with_the_content_is_taken(project, tmp_path):
    copied = shutil.copytree(project, tmp_path / "project")
    stored = (project / "table.csv").read_bytes()
    write(project, seed=1)
    try:
        trained = workflow.open_run(copied / "runs" / "one")
    finally:
        (project / "table.csv").write_bytes(stored)
    assert trained.experiment.data.name == str(copied / "table.csv")


def test_every_command_that_reads_the_data_takes_their_place(project, tmp_path, capsys):
    run = shutil.copytree(project / "runs" / "one", tmp_path / "run")
    hidden = project.with_name("hidden")
    project.rename(hidden)
    commands = [
        ["evaluate", run, "--num-samples", "5"],
        ["report", run],
        ["embed", run],
        ["reconstruct", run],
        ["refit", run, "--num-samples", "5", "--out", tmp_path / "refit"],
    ]
    try:
        for command in commands:
            words = list(map(str, command))
            assert main(words) == 2
            assert "say where with --data PATH" in capsys.readouterr().err
            assert main([*words, "--data", str(hidden / "labels.csv")]) == 2
            assert main([*words, "--data", str(hidden / "table.csv")]) == 0
        # The new run knows where its data are.
        assert workflow.open_run(tmp_path / "refit").data.train.std() > 0.5
    finally:
        hidden.rename(project)


def test_a_training_goes_on_with_data_that_moved(project, tmp_path):
    run = shutil.copytree(project / "runs" / "one", tmp_path / "run")
    (run / "report.json").unlink()
    data = shutil.copytree(project, tmp_path / "data")
    (Path(data) / "table.csv").touch()
    hidden = project.with_name("hidden")
    project.rename(hidden)
    try:
        assert main(["train", "--resume", str(run)]) == 2
        assert main(["train", "--resume", str(run), "--data", str(data / "table.csv")]) == 0
    finally:
        hidden.rename(project)
    assert (run / "report.html").exists()


def as_npy(path, values):
    np.save(path, values)


def as_npz(path, values):
    np.savez(path, x=values)


def as_rows(path, values):
    np.savetxt(path, values, delimiter=",")


@pytest.mark.parametrize(
    ("name", "save"), [("a.npy", as_npy), ("a.npz", as_npz), ("a.csv", as_rows)]
)
def test_a_file_of_labels_that_is_lost_is_named_and_not_needed_for_later_data(
    name, save, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(size=(40, 3))
    save(name, values)
    save(f"later-{name}", values[:5])
    Path("labels.csv").write_text("".join(f"{row % 2}\n" for row in range(40)))
    quick = Experiment(
        Data(name, file=File(labels="labels.csv")),
        Model(2, hidden=(4,)),
        "vae",
        Training(1, warmup=0),
        num_samples=5,
    )
    workflow.train(quick, "run")
    Path("labels.csv").rename("labels.txt")
    for command in ("evaluate", "embed", "report"):
        assert main([command, "run"]) == 2
        error = capsys.readouterr().err
        assert f"no file {tmp_path / 'labels.csv'}, the labels of {name}; restore it" in error
    assert main(["embed", "run", f"later-{name}"]) == 0
    assert "labels" not in np.load("run/codes.npz")
    # A file of that name beside the data is found, wherever they are.
    (tmp_path / "there").mkdir()
    shutil.copy(name, "there")
    shutil.copy("labels.txt", "there/labels.csv")
    assert main(["embed", "run", "--data", f"there/{name}", "--split", "all"]) == 0
    assert len(np.load("run/codes.npz")["labels"]) == 40


def test_a_missing_file_of_labels_of_a_file_without_columns_lists_no_names(tmp_path):
    as_npy(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(40, 3)))
    with pytest.raises(ValueError, match=r"must be a file with one label a row, got 'kind'$"):
        workflow.train(Experiment(Data(str(tmp_path / "a.npy"), file=File(labels="kind"))), "run")


def test_a_named_data_set_has_no_place(tmp_path):
    settings = Experiment(
        Data("mixture-2d"), Model(2, hidden=(4,)), "vae", Training(1, warmup=0), num_samples=5
    )
    workflow.train(settings, tmp_path / "run")
    with pytest.raises(ValueError, match="was trained on mixture-2d"):
        workflow.open_run(tmp_path / "run", "table.csv")
