"""No command destroys a file of the user; results replace results."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mimachine._support.outputs import RECORD
from mimachine.cli.entry import main
from mimachine.paper import experiments
from mimachine.paper.reproduction import Reproduction
from mimachine.workflow.export_results import named, write_results

pytestmark = pytest.mark.usefixtures("few_trees")

QUICK = ["--training.epochs", "1", "--training.warmup.epochs", "0", "--num-samples", "2"]
SMALL = ["--model.latent", "2", "--model.hidden", "5", "--no-report"]


def run(*arguments):
    return main(list(map(str, arguments)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Runs on a table with a file of labels and on a folder of images."""
    folder = tmp_path_factory.mktemp("destinations")
    random = np.random.default_rng(0)
    np.savetxt(folder / "x.csv", random.normal(size=(30, 3)), delimiter=",", header="a,b,c")
    (folder / "labels.csv").write_text("\n".join("ab" * 15) + "\n")
    for number in range(12):
        file = folder / "p" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (4, 4)).astype(np.uint8)).save(file)
    options = ["--labels", folder / "labels.csv"]
    assert run("train", folder / "x.csv", *options, *QUICK, *SMALL, "--out", folder / "table") == 0
    assert run("train", folder / "p", *QUICK, *SMALL, "--out", folder / "images") == 0
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch, capsys):
    """The runs and their data, at the paths where they were trained."""
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy, symlinks=True)
    for name in ("table", "images"):
        file = copy / name / "experiment.json"
        file.write_text(file.read_text().replace(str(trained), str(copy)))
    monkeypatch.chdir(copy)
    capsys.readouterr()
    return copy


def contents():
    return {file: file.read_bytes() for file in Path().rglob("*") if file.is_file()}


COMMANDS = ("embed", "reconstruct", "sample")
OF_TABLES = ("score", "impute")
INPUTS = [
    ("table", "x.csv", "the data"),
    ("table", "p/../x.csv", "the data"),
    ("table", "labels.csv", "the labels"),
    ("table", "link-of-x.csv", "the data"),
    ("table", "hard-x.csv", "the data"),
    ("table", "hard-weights.csv", "model.safetensors of the run"),
    ("table", "link-of-settings.csv", "experiment.json of the run"),
    ("images", "p/a/0.npz", "an image of"),
    ("images", "p/new.csv", "an image of"),
    ("images", "p/new/er/1.npz", "an image of"),
    ("images", "link-of-p/b/1.npz", "an image of"),
    ("images", "hard-0.npz", "an image of"),
]


@pytest.mark.parametrize(("name", "out", "what"), INPUTS)
def test_inputs_are_never_overwritten(here, capsys, name, out, what):
    Path("link-of-x.csv").symlink_to("x.csv")
    Path("link-of-settings.csv").symlink_to("table/experiment.json")
    Path("link-of-p").symlink_to("p")
    os.link("x.csv", "hard-x.csv")
    os.link("table/model.safetensors", "hard-weights.csv")
    os.link("p/a/0.png", "hard-0.png")
    # The check does not need the model.
    Path(name, "model.safetensors").write_bytes(b"")
    before = contents()
    # Only sample and reconstruct write a picture.
    for command in COMMANDS[1:] if name == "images" else (*COMMANDS, *OF_TABLES):
        for force in ([], ["--force"]):
            assert run(command, name, "--out", out, *force) == 2
            message = capsys.readouterr().err
            assert f"out must be another file than {what}" in message
            assert message.count("\n") == 1
    assert contents() == before


def test_entries_beside_imputed_rows_do_not_overwrite_inputs(here, capsys):
    os.link("x.csv", "more-entries.csv")
    before = contents()
    assert run("impute", "table", "--out", "more.csv", "--force") == 2
    assert "out must be another file than the data" in capsys.readouterr().err
    assert contents() == before


def test_other_data_that_are_read_are_not_overwritten(here, capsys):
    shutil.copy("x.csv", "other.csv")
    shutil.copytree("p", "q")
    np.savez("table/codes.npz", x=np.ones((3, 3)))
    before = contents()
    for arguments in (
        ["embed", "table", "other.csv", "--out", "other.csv", "--force"],
        ["embed", "table", "table/codes.npz", "--force"],
        ["reconstruct", "images", "q", "--out", "q/a/0.npz", "--force"],
    ):
        assert run(*arguments) == 2
        assert "out must be another file than" in capsys.readouterr().err
    assert contents() == before


@pytest.mark.parametrize(
    ("command", "suffix"), [("embed", ".csv"), ("reconstruct", ".npz"), ("sample", ".csv")]
)
def test_files_of_the_user_are_overwritten_only_by_force(here, capsys, command, suffix):
    written = (
        [Path(f"mine{suffix}")] if command == "embed" else [Path(f"mine{suffix}"), Path("mine.png")]
    )
    for file in written:
        file.write_text("mine")
        before = contents()
        assert run(command, "images", "--out", f"mine{suffix}") == 2
        message = capsys.readouterr().err
        assert f"{file} already exists" in message
        assert "--force" in message
        assert contents() == before
        assert run(command, "images", "--out", f"mine{suffix}", "--force") == 0
        assert file.read_bytes() != b"mine"
        # What was written by force is known too.
        assert run(command, "images", "--out", f"mine{suffix}") == 0


@pytest.mark.parametrize(
    ("command", "out"),
    [("embed", "new/er/a.csv"), ("reconstruct", "images/b.csv"), ("sample", "a.npz")],
)
def test_a_command_is_repeated(here, command, out):
    for _ in range(2):
        assert run(command, "images", "--out", out) == 0
    assert run(command, "images") == 0
    Path(out).write_text("edited")
    assert run(command, "images", "--out", out) == 2
    assert Path(out).read_text() == "edited"


RESULTS = ("codes.npz", "samples.npz", "samples.png", "reconstructions.npz", "report.html")


@pytest.mark.parametrize("name", RESULTS)
def test_files_of_the_user_in_a_run_are_kept(here, capsys, name):
    Path("images", name).write_text("mine")
    before = contents()
    command = {"c": "embed", "s": "sample", "r": "reconstruct"}[name[0]]
    assert run("report" if name == "report.html" else command, "images") == 2
    message = capsys.readouterr().err
    assert f"images/{name} already exists" in message
    assert "--force" in message
    assert contents() == before


def test_a_report_is_replaced_until_somebody_edits_it(here, capsys):
    # Nothing is drawn for a report that cannot be written.
    Path("table", "report.html").mkdir()
    assert run("report", "table") == 2
    assert "must be a file, got the directory" in capsys.readouterr().err
    Path("table", "report.html").rmdir()
    # Of a version that kept no record; nothing tells whether it was edited.
    earlier = "<title>x – mimachine report</title>my notes"
    Path("table", "report.html").write_text(earlier)
    for _ in range(2):
        assert run("report", "table") == 0
    assert "kept report.html of an earlier version" in capsys.readouterr().out
    assert [file.name for file in Path("table").glob("report*.old*")] == ["report.html.old"]
    assert Path("table", "report.html.old").read_text() == earlier
    page = Path("table", "report.html").read_text()
    Path("table", "report.html").write_text(page + "notes")
    assert run("report", "table") == 2
    assert Path("table", "report.html").read_text() == page + "notes"
    assert run("report", "table", "--force") == 0
    assert Path("table", "report.html").read_text() == page


def test_pictures_of_a_refit_are_replaced_by_those_of_sample(here):
    options = ["--components", "2", "--num-samples", "2", "--no-report"]
    assert run("refit", "images", "--out", "fitted", *options) == 0
    assert Path("fitted", "samples.png").exists()
    assert run("sample", "fitted") == 0


def test_an_evaluation_that_cannot_be_stored_is_not_computed(here, capsys, monkeypatch):
    monkeypatch.setattr("mimachine.workflow.measure_run.evaluated", None)
    Path("table", "report.json").unlink()
    Path("table", "report.json").mkdir()
    assert run("evaluate", "table") == 2
    assert "report.json must be a file, got the directory" in capsys.readouterr().err


def test_a_home_directory_in_an_option_is_found(here, monkeypatch):
    # A shell leaves it in `--out=~/x.csv`.
    monkeypatch.setenv("HOME", str(here))
    assert run("embed", "~/table", "~/x.csv", "--data=~/x.csv", "--out=~/codes.csv") == 0
    assert (here / "codes.csv").exists()
    assert run("sample", "table", "--out=~/x.csv", "--force") == 2
    assert not Path("~").exists()


def test_results_in_a_run_without_a_record_are_replaced(here):
    for name in RESULTS[:-1]:
        Path("images", name).write_text("of an earlier version")
    epochs = [json.loads(line) for line in Path("images/metrics.jsonl").read_text().splitlines()]
    lines = [json.dumps({k: v for k, v in each.items() if k != "digest"}) for each in epochs]
    Path("images/metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    for command in COMMANDS:
        assert run(command, "images") == 0
    assert np.load("images/codes.npz")["mean"].shape == (12, 2)
    assert Path("images/samples.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_of_images_may_hold_its_run_and_other_results(here):
    shutil.move("images", "p/runs")
    for _ in range(2):
        assert run("sample", "p/runs") == 0
        assert run("embed", "p/runs", "--out", "p/codes.csv") == 0
    assert run("reconstruct", "p/runs", "--out", "p/runs/new.npz") == 0


@pytest.mark.parametrize("command", [*COMMANDS, *OF_TABLES])
def test_a_bad_place_is_found_before_the_model_is_loaded(here, capsys, command):
    Path("table/model.safetensors").write_bytes(b"")
    before = contents()
    suffixes = ".npz or .csv" if command == "embed" else ".csv or .parquet"
    for out, message in {
        "p": f"must end in {suffixes}",
        "codes": f"must end in {suffixes}",
        "codes.txt": f"must end in {suffixes}",
        "codes.csv/": f"must end in {suffixes}, got codes.csv/",
        "": "out must be a path, got an empty one",
        "x.csv/a.csv": "is not a directory",
        "folder.csv": "must be a file, got the directory",
        "a" * 300 + ".csv": "name too long",
    }.items():
        Path("folder.csv").mkdir(exist_ok=True)
        assert run(command, "table", "--out", out) == 2
        assert message in (found := capsys.readouterr().err)
        assert found.count("\n") == 1
    assert contents() == before


EMPTY = {
    "embed": (["embed", ""], "run"),
    "data": (["embed", "table", ""], "data"),
    "moved data": (["embed", "table", "--data", ""], "data"),
    "reconstruct": (["reconstruct", "table", "--out="], "out"),
    "train": (["train", ""], "data"),
    "train out": (["train", "x.csv", "--out", ""], "out"),
    "resume": (["train", "--resume", ""], "resume"),
    "resume data": (["train", "--resume", "table", "--data", ""], "data"),
    "compare": (["compare", "--resume="], "resume"),
    "evaluate": (["evaluate", "table", "--data", ""], "data"),
    "refit": (["refit", "table", "--out", ""], "out"),
    "table": (["table", "table", ""], "runs"),
    "report": (["report", ""], "run"),
    "inspect": (["inspect", ""], "run"),
    "diagnose": (["diagnose", ""], "file"),
    "reproduce": (["reproduce", "figure1", "--out", ""], "out"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_path_is_no_directory(name, here, capsys, monkeypatch):
    # As of a variable of the shell that is not set. The current directory could be a run.
    monkeypatch.chdir("table")
    arguments, option = EMPTY[name]
    before = contents()
    assert run(*arguments) == 2
    errors = capsys.readouterr().err
    assert errors == f"mimachine: error: {option} must be a path, got an empty one\n"
    assert contents() == before


def test_a_path_of_a_directory_is_no_file_of_results(tmp_path):
    for path, message in (
        ("x.csv/", "file must end in"),
        ("", "file must be a path, got an empty"),
    ):
        with pytest.raises(ValueError, match=message):
            write_results(path, {}, named(None, np.ones((2, 2))))


def test_results_are_exported_from_python_over_nothing_but_by_force(tmp_path):
    arrays = {"x": np.arange(6.0).reshape(3, 2)}
    for name in ("x.npz", "x.csv"):
        write_results(tmp_path / name, arrays, named(None, arrays["x"]))
        with pytest.raises(ValueError, match="force=True"):
            write_results(tmp_path / name, arrays, named(None, arrays["x"]))
        write_results(tmp_path / name, arrays, named(None, arrays["x"]), force=True)
    with (tmp_path / "x.csv").open(newline="") as file:
        assert list(csv.reader(file))[1] == ["0.0", "1.0"]


@pytest.fixture
def experiment(monkeypatch, tmp_path):
    """A quick experiment, and a function that reproduces it into a directory."""

    def made(request):
        done.append(request)
        return Reproduction({"figure": Figure()}, {"seeds": [1]}, "| table |")

    done = []
    monkeypatch.setitem(experiments.EXPERIMENTS, "figure1", made)
    monkeypatch.chdir(tmp_path)
    return done


def test_a_reproduction_replaces_reproductions_only(experiment, capsys):
    out = Path("here/figure1-published")
    for _ in range(2):
        assert run("reproduce", "figure1", "--out", "here") == 0
    names = {"figure.png", "figure.svg", "results.json", "table.md", RECORD}
    assert {file.name for file in out.iterdir()} == names
    # An earlier version kept no record.
    (out / RECORD).unlink()
    assert run("reproduce", "figure1", "--out", "here") == 0
    assert len(experiment) == 3
    for name in names - {RECORD}:
        old = (out / name).read_bytes()
        (out / name).write_text("mine")
        assert run("reproduce", "figure1", "--out", "here") == 2
        assert f"{name} already exists" in capsys.readouterr().err
        assert (out / name).read_text() == "mine"
        (out / name).write_bytes(old)
    # Nothing was computed in vain.
    assert len(experiment) == 3


def test_a_pipe_in_place_of_results_is_not_waited_for(experiment, capsys):
    out = Path("figure1-published")
    out.mkdir()
    os.mkfifo(out / "results.json")
    assert run("reproduce", "figure1", "--out", ".") == 2
    assert "results.json" in capsys.readouterr().err
    assert not experiment


@pytest.mark.parametrize("results", ["{}", "[]", '{"command": "mine"}', "no JSON"])
def test_a_directory_of_the_user_is_not_taken_for_a_reproduction(experiment, capsys, results):
    out = Path("figure1-published")
    out.mkdir()
    (out / "results.json").write_text(results)
    assert run("reproduce", "figure1", "--out", ".") == 2
    assert "results.json already exists" in capsys.readouterr().err
    assert (out / "results.json").read_text() == results
    (out / "results.json").write_text(json.dumps({"command": "mimachine reproduce figure1"}))
    assert run("reproduce", "figure1", "--out", ".") == 0


def test_a_full_disk_leaves_the_old_picture(here, monkeypatch, capsys):
    assert run("sample", "images", "--out", "a.npz") == 0
    before = {name: Path(name).read_bytes() for name in ("a.npz", "a.png")}

    def full(figure, file, **options):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    assert run("sample", "images", "--out", "a.npz") == 2
    assert "No space left on device: 'a.png'" in capsys.readouterr().err
    assert Path("a.png").read_bytes() == before["a.png"]
    assert not list(Path().glob(".*"))
