import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import finish, start, wait_for
from PIL import Image
from sklearn.decomposition import PCA

import mimachine as mm
from mimachine.cli.entry import main
from mimachine.experiment.presets import BASELINES

pytestmark = pytest.mark.usefixtures("few_trees")

QUICK = ["--training.epochs", "2", "--training.warmup.epochs", "1", "--num-samples", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return main(list(map(str, arguments)))


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "run"
    small = ["--model.latent", 3, "--no-report"]
    assert run("train", "digits", *QUICK, *small, "--out", path) == 0
    return path


@pytest.fixture
def trained(here, digits_run):
    """A copy of a run on digits, which tests may change."""
    return Path(shutil.copytree(digits_run, "run"))


@pytest.fixture
def rows(here):
    """A file of 60 rows of 2 columns."""
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 2)))
    return "rows.npy"


@pytest.fixture
def images(here):
    """A file of 40 images of 5 x 4 zeros and ones."""
    np.save("images.npy", np.random.default_rng(0).integers(0, 2, (40, 5, 4)).astype(np.float32))
    return "images.npy"


def test_commands_train_evaluate_and_apply_a_model(here, capsys):
    assert run("train", "digits", "--objective", "vae", *QUICK, "--out", "run") == 0
    printed = capsys.readouterr().out
    assert "negative_log_likelihood" in printed
    assert "verdict" in printed
    assert {p.name for p in Path("run").iterdir()} == {
        "experiment.json",
        "fitted_prior.safetensors",
        "metrics.jsonl",
        "model.safetensors",
        "report.html",
        "report.json",
        "written.jsonl",
    }
    assert run("evaluate", "run", "--num-samples", 3) == 0
    assert json.loads(Path("run/report.json").read_text())["num_samples"] == 3
    assert run("embed", "run") == 0
    codes = np.load("run/codes.npz")
    assert codes["mean"].shape == codes["std"].shape == (360, 32)
    assert codes["labels"].shape == (360,)
    assert run("embed", "run", "digits", "--split", "val", "--out", "deep/er/val.npz") == 0
    assert np.load("deep/er/val.npz")["mean"].shape == (180, 32)
    assert run("sample", "run", "--num", 5) == 0
    samples = np.load("run/samples.npz")
    assert samples["sample"].shape == (5, 64)
    # Samples of the discretised logistic lie on the grid of 17 levels; means need not.
    np.testing.assert_array_equal(samples["sample"] * 16, np.round(samples["sample"] * 16))
    assert run("reconstruct", "run") == 0
    assert np.load("run/reconstructions.npz")["x"].shape == (360, 64)
    assert Path("run/samples.png").exists()
    assert Path("run/reconstructions.png").exists()


def test_json_is_the_only_standard_output(rows, capsys):
    assert run("train", rows, *QUICK, "--out", "run", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["run"] == "run"
    assert value["verdict"]
    assert run("evaluate", "run", "--json", "--num-samples", 2) == 0
    assert json.loads(capsys.readouterr().out)["num_samples"] == 2
    assert run("sample", "run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["shapes"]["sample"] == [64, 2]


@pytest.mark.parametrize(("data", "picture"), [("images", "samples"), ("rows", "plane")])
def test_objectives_are_compared_side_by_side_with_pictures(request, capsys, data, picture):
    arguments = ["--objectives", "mim", "a-mim", "vae", "--no-baselines", *QUICK, "--out", "both"]
    assert run("compare", request.getfixturevalue(data), *arguments) == 0
    printed = capsys.readouterr().out
    assert "lowest negative log-likelihood" in printed
    comparison = json.loads(Path("both/comparison.json").read_text())
    assert set(comparison["reports"]) == {"mim", "a-mim", "vae"}
    for file in comparison["pictures"]:
        assert Path(file).exists()
        assert file in printed
    assert f"both/{picture}.png" in comparison["pictures"]
    settings = [json.loads(Path(f"both/{o}/experiment.json").read_text()) for o in ("mim", "vae")]
    assert settings[0]["model"] == settings[1]["model"]
    assert settings[0]["training"] == settings[1]["training"]


def test_baselines_are_compared_too(here, capsys):
    rows = np.random.default_rng(0).normal(size=(90, 5)).round(2)
    np.savetxt("few.csv", rows, delimiter=",", header="a,b,c,d,e", comments="", fmt="%.2f")
    small = [*QUICK, "--model.latent", 2, "--model.hidden", 5, "--no-report"]
    small += ["--model.likelihood", "gaussian"]
    assert run("compare", "few.csv", *small, "--out", "both") == 0
    reports = json.loads(Path("both/comparison.json").read_text())["reports"]
    assert list(reports) == ["a-mim", "vae", *BASELINES]
    settings = {
        name: json.loads(Path(f"both/{name}/experiment.json").read_text()) for name in reports
    }
    assert settings["pca"]["model"]["architecture"] == "pca"
    assert settings["vae-vampprior"]["model"]["prior"] == "vampprior"
    assert settings["rae"]["model"]["encoder_std"] == 0.1
    assert settings["a-mim"]["model"]["encoder_std"] is None
    assert {each["model"]["latent"] for each in settings.values()} == {2}
    # The principal components reconstruct as those of scikit-learn.
    data = mm.load("both/pca").data
    exact = PCA(2).fit(data.train)
    error = data.test.numpy() - exact.inverse_transform(exact.transform(data.test))
    rmse = next(m for m in reports["pca"]["metrics"] if m["name"] == "reconstruction_rmse")
    assert rmse["value"] == pytest.approx(np.sqrt((error**2).mean()), rel=0.05)
    assert run("compare", "few.csv", *small, "--no-baselines", "--out", "two") == 0
    assert list(json.loads(Path("two/comparison.json").read_text())["reports"]) == ["a-mim", "vae"]
    for command in (["report"], ["sample", "--num", 5], ["refit", "--out", "fitted"], ["inspect"]):
        assert run(command[0], "both/pca", *command[1:]) == 0
    assert re.search(r"model.architecture +pca", capsys.readouterr().out)


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_an_objective_of_train(here, name):
    np.save("rows.npy", np.random.default_rng(0).integers(0, 2, (80, 6)))
    small = [*QUICK, "--model.latent", 2, "--no-report", "--out", "run"]
    assert run("train", "rows.npy", "--objective", name, *small) == 0
    assert mm.load("run").report["reconstruction_rmse"].value < 0.6


def test_the_published_preset_differs_by_the_objective_and_can_be_overridden(here, small_sets):
    arguments = ["--preset", "published", "--training.epochs", 3, "--num-samples", 1]
    arguments += ["--no-report", "--no-baselines"]
    assert run("compare", "mixture-2d", *arguments, "--model.hidden", 20, "--out", "both") == 0
    mim, vae = (json.loads(Path(f"both/{o}/experiment.json").read_text()) for o in ("mim", "vae"))
    assert mim["training"]["warmup"]["terms"] == ["q_z_given_x", "q_x"]
    assert vae["training"]["warmup"]["terms"] is None
    assert mim["model"]["hidden"] == vae["model"]["hidden"] == [20]
    assert mim["training"]["epochs"] == vae["training"]["epochs"] == 3


TINY = ["--model.latent", 2, "--model.hidden", 6, "--model.channels", 3]
PIXEL = ["--model.architecture", "pixel-hvae", "--model.layers", 2, *TINY]


def test_samples_replace_the_means_of_a_decoder_without_means(images, capsys):
    assert run("train", images, *PIXEL, *QUICK, "--out", "run") == 0
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "a-mim: samples of p(x|z)." in page
    assert "a-mim, sampled" in page
    assert run("sample", "run", "--num", 5) == 0
    samples = np.load("run/samples.npz")
    assert {name: samples[name].shape for name in samples} == {"sample": (5, 5, 4), "z": (5, 4)}
    assert run("reconstruct", "run") == 0
    restored = np.load("run/reconstructions.npz")
    assert set(restored) == {"x", "sample", "z"}
    np.testing.assert_array_equal(restored["x"], np.load(images))
    assert run("reconstruct", "run", "--out", "run/rows.csv") == 0
    table = np.loadtxt("run/rows.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(table, restored["sample"].reshape(40, 20))
    assert Path("run/samples.png").exists()
    assert Path("run/reconstructions.png").exists()
    assert run("embed", "run") == 0
    assert np.load("run/codes.npz")["mean"].shape == (40, 4)
    assert run("refit", "run", "--num-samples", 2, "--out", "fitted") == 0
    assert run("evaluate", "fitted", "--num-samples", 2) == 0
    capsys.readouterr()
    assert run("inspect", "fitted") == 0
    assert "pixel-hvae" in capsys.readouterr().out
    assert run("table", "run", "fitted") == 0
    assert capsys.readouterr().out.count("Negative log-likelihood") >= 1


def test_image_models_are_compared(images, capsys):
    conv = ["--model.architecture", "conv-hvae", *TINY, "--model.prior", "vampprior"]
    arguments = [
        "--no-baselines",
        "--objectives",
        "mim",
        "vae",
        *conv,
        *QUICK,
        "--model.components",
        5,
    ]
    assert run("compare", images, *arguments, "--out", "both", "--no-report") == 0
    assert {p.name for p in Path("both").glob("*.png")} == {
        "loss-curves.png",
        "reconstructions.png",
        "samples.png",
    }
    settings = json.loads(Path("both/vae/experiment.json").read_text())
    assert settings["model"]["architecture"] == "conv-hvae"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mixture-2d", *PIXEL], "model.architecture pixel-hvae needs images"),
        (["digits", "--model.channels", 3], "model.channels has no meaning for model.architecture"),
        (["digits", *PIXEL, "--model.prior", "flow"], "must be standard-normal or vampprior"),
        (["digits", "--preset", "paper"], 'the preset "paper" is for digits, mnist'),
        (["digits", "--preset", "published"], "a model.architecture for images"),
        (
            ["digits", *PIXEL, "--preset", "paper", "--labels", "a"],
            "options of files, such as --labels, have no meaning for digits",
        ),
    ],
)
def test_invalid_image_models_are_rejected_in_one_line(here, capsys, arguments, message):
    assert run("train", *arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not Path("runs").exists()


def test_runs_get_different_names(rows):
    for _ in range(2):
        assert run("train", rows, *QUICK, "--no-report") == 0
    assert {p.name for p in Path("runs").iterdir()} == {"rows-a-mim", "rows-a-mim-2"}


def test_a_run_is_inspected_without_torch(trained, capsys):
    assert run("inspect", "run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["finished"]
    assert found["epochs"] == 2
    # Two layers each way: 64-300-2·3 and 3-300-2·64, with biases, and the encoder's floor.
    assert found["num_weights"] == 65 * 300 + 301 * 6 + 4 * 300 + 301 * 128 + 1
    assert found["report"]["verdict"]
    code = (
        "import sys; from mimachine.cli.entry import main; code = main(['inspect', 'run']);"
        "sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model.latent" in done.stdout
    assert "finished" in done.stdout
    Path("run/model.safetensors").write_bytes(b"\xff" * 40)
    assert run("inspect", "run") == 2
    assert "header cannot be read" in capsys.readouterr().err


def test_a_report_is_written_for_a_run(trained, capsys):
    assert run("report", "run") == 0
    assert "wrote run/report.html" in capsys.readouterr().out
    assert "negative_log_likelihood" in Path("run/report.html").read_text(encoding="utf-8")


def test_results_of_runs_are_printed_as_a_table(rows, capsys):
    small = [*QUICK, "--model.latent", 3, "--no-report"]
    assert run("train", rows, *small, "--out", "run") == 0
    both = ["--no-baselines", "--objectives", "mim", "vae"]
    assert run("compare", rows, *small, *both, "--out", "both") == 0
    capsys.readouterr()
    assert run("table", "both", "run", "--metrics", "rate", "active_units") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| | mim | vae | a-mim |"
    assert [line.split(" | ")[0] for line in lines[2:4]] == [
        "| Rate, nats",
        "| Active latents, of 3",
    ]
    # Two runs with the same objective are named by their paths.
    assert run("table", "both", "both/mim", "--format", "latex", "--metrics", "rate") == 0
    assert r" & both/mim & vae & both/mim" not in (out := capsys.readouterr().out)
    assert out.startswith(r"\begin{tabular}{lrr}")
    assert run("table", "both", "--metrics", "rats") == 2
    assert "did you mean 'rate'" in capsys.readouterr().err
    assert run("table", ".") == 2
    assert "a table needs evaluated runs" in capsys.readouterr().err


def test_help_and_catalogue_name_the_same_data(capsys, monkeypatch, tmp_path):
    from mimachine.data.catalogue import NAMES

    for variable in ("MIMACHINE_DATA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    assert run("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"or one of: {', '.join(NAMES)}." in text
    assert run("data", "--json") == 0
    listed = {entry["data"] for entry in json.loads(capsys.readouterr().out)}
    assert run("data") == 0
    text = capsys.readouterr().out
    assert "t10k-images-idx3-ubyte" in text
    others = {name for line in text.splitlines()[:2] for name in line.split(":")[0].split(", ")}
    assert listed | others == set(NAMES)
    assert not listed & others


MISTAKES = [
    (["trian"], "did you mean 'train'"),
    (["train"], "DATA"),
    (["train", "--resume"], "(see mimachine train --help)"),
    (
        ["compare", "digits", "--objectives", "mim", "symmetric-kl"],
        "needs data whose P(x) is known",
    ),
    (["train", "digitz"], "did you mean 'digits'"),
    (["train", "digits", "--objective", "mimm"], "did you mean 'mim'"),
    (["train", "digits", "--training.epohs", "3"], "--training.epohs"),
    (["train", "digits", "--training.epochs", "x"], "--training.epochs"),
    (["train", "digits", "--training.epochs", "0"], "training.epochs must be 1 or more"),
    (
        ["train", "mixture-2d", "--preset", "published", "--training.epochs", "2"],
        "must be at least the warm-up's 3",
    ),
    (["train", "digits", "--training.learning-rate", "-1"], "must be positive"),
    (["train", "digits", "--model.latent", "0"], "model.latent must be 1 or more"),
    (["train", "digits", "--model.prior", "flat"], "model.prior"),
    (["train", "digits", "--preset", "published"], "mixture-2d"),
    (["train", "mixture-2d", "--model.likelihood", "bernoulli"], "needs grey levels in [0, 1]"),
    (["train", "digits", "--out", "taken"], "taken already exists"),
    (["compare", "digits", "--out", "taken"], "taken already exists"),
    (["compare", "digits", "--objectives", "mim", "mim"], "must be different"),
    (["compare", "digits", "--objectives", "mim", "gan"], "objective must be one of"),
    (["evaluate", "nowhere"], "no run at nowhere"),
    (["inspect", "nowhere"], "no run at nowhere"),
    (["report", "nowhere"], "nowhere"),
    (["inspect", "taken"], "has no experiment.json"),
    (["evaluate", "taken"], "not a complete run"),
    (["evaluate", "run", "--num-samples", "0"], "num_samples must be 1 or more"),
    (["refit", "nowhere"], "no run at nowhere"),
    (["refit", "run", "--kind", "gnm"], "--kind"),
    (["refit", "run", "--components", "0"], "components must be 1 or more, got 0"),
    (["refit", "run", "--kind", "flow", "--components", "3"], "None for a flow, which has none"),
    (["refit", "run", "--kind", "vamp", "--components", "9999"], "must be at most 1257"),
    (["refit", "run", "--num-samples", "0"], "num_samples must be 1 or more, got 0"),
    (["refit", "run", "--out", "taken"], "taken already exists"),
    (["sample", "run", "--num", "0"], "must be 1 or more, got 0"),
    (["embed", "run", "mixture-2d"], "must have 64 columns"),
    (["embed", "run", "--out", "codes.txt"], "must end in .npz or .csv, got codes.txt"),
    (["embed", "run", "--split", "all"], "split"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_an_error_is_one_line_and_exit_code_2(trained, capsys, arguments, message):
    Path("taken").mkdir()
    Path("taken/file").write_text("mine")
    before = {p for p in Path().rglob("*")}
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("mimachine: error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert {p for p in Path().rglob("*")} == before


def test_diverging_training_has_exit_code_3(here, capsys):
    arguments = [*QUICK, "--training.learning-rate", 1e30, "--out", "run"]
    assert run("train", "mixture-2d", *arguments) == 3
    assert "training diverged" in capsys.readouterr().err


def test_help_is_shown_without_torch():
    code = (
        "import sys; from mimachine.cli.entry import main; code = main(sys.argv[1:]);"
        "sys.exit(code or 'torch' in sys.modules)"
    )
    for arguments, words in (
        (["--help"], ["train DATA", "compare DATA", "sample RUN"]),
        (["train", "--help"], ["--training.epochs", "--model.latent", "(default: 32)"]),
        (["train", "mixture-2d", "--help"], ["--model.latent", "(default: 2)"]),
        (["compare", "--help"], ["--objectives"]),
        (["--version"], ["mimachine 0."]),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in words)


def stopped(arguments, condition, number):
    """Exit code and standard error of a command that a signal stops once a condition holds."""
    process = start(*arguments)
    wait_for(condition, process)
    process.send_signal(number)
    return finish(process)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_comparison_says_how_to_resume(rows, number, code):
    endless = ["--training.epochs", "1000000", "--training.patience", "1000000"]
    arguments = [rows, "--objectives", "mim", "vae", "--no-baselines", *endless]
    arguments += ["--out", "a b", *QUICK[2:]]
    began = Path("a b/mim/metrics.jsonl").exists
    found, errors = stopped(["compare", *arguments], began, number)
    assert found == code, errors
    assert errors == (
        "mimachine: interrupted; not started: vae; resume with: mimachine compare --resume 'a b'\n"
    )


def test_few_rows_are_compared_without_ksg(here, capsys):
    np.save("few.npy", np.random.default_rng(0).normal(size=(10, 2)))
    small = ["--model.latent", 2, "--no-report"]
    assert run("compare", "few.npy", *QUICK, *small, "--out", "both") == 0
    compared = json.loads(Path("both/comparison.json").read_text())
    names = {metric["name"] for metric in compared["reports"]["vae"]["metrics"]}
    assert "mutual_information_ksg" not in names
    assert "both/plane.png" in compared["pictures"]
    assert all(Path(picture).is_file() for picture in compared["pictures"])


def test_a_folder_that_contains_runs_is_trained_on_again(here, capsys, monkeypatch):
    folder = here / "faces.of"
    folder.mkdir()
    for row in range(12):
        Image.new("L", (4, 4), 20 * row).save(folder / f"{row}.png")
    monkeypatch.chdir(folder)
    small = ["--model.latent", 2, "--model.hidden", 5, "--no-report"]
    for again in ("", "-2"):
        assert run("train", ".", *QUICK, *small) == 0
        path = Path(f"runs/faces-a-mim{again}")
        assert path.is_dir()
        assert run("sample", path) == 0
        assert (path / "samples.png").is_file()
    assert "files not used: 1 directory of a run or comparison" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing from mimachine train: DATA Name of a data set (listed by mimachine data), "
         "a .csv, .tsv, .npy, .npz or .parquet file, a folder of parquet files, or a folder of "
         "images. (required)"),
        (["digits", "--model.latent", "0"],
         "Error parsing model: model.latent must be 1 or more, got 0"),
        (["digits", "--model.hidden", "1.5"],
         "Error parsing --model.hidden: Could not find valid parse for arguments: ['1.5']"),
    ],
)  # fmt: skip
def test_an_invalid_option_is_reported_in_one_line(encoding, arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "mimachine.cli", "train", *arguments],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"mimachine: error: {message} (see mimachine train --help)\n"


@pytest.mark.parametrize(
    "kind",
    [
        "gmm",
        pytest.param("vamp", marks=pytest.mark.slow),
        pytest.param("flow", marks=pytest.mark.slow),
    ],
)
def test_every_command_takes_a_run_with_a_refitted_prior(trained, capsys, kind):
    before = {p: p.read_bytes() for p in Path("run").iterdir()}
    few = ["--components", 4] if kind != "flow" else []
    arguments = ["--kind", kind, *few, "--num-samples", 2, "--out", "new"]
    assert run("refit", "run", *arguments) == 0
    printed = capsys.readouterr().out
    assert "before" in printed
    assert "samples before and after: new/samples.png" in printed
    assert {p: p.read_bytes() for p in Path("run").iterdir()} == before
    assert {p.name for p in Path("new").iterdir()} == {
        "experiment.json",
        "metrics.jsonl",
        "model.safetensors",
        "refit.json",
        "report.html",
        "report.json",
        "samples.png",
        "written.jsonl",
    }
    for command in ("evaluate", "sample", "embed", "report", "inspect"):
        assert run(command, "new", *(["--num-samples", 2] if command == "evaluate" else [])) == 0
    for run_path in ("run", "new"):
        assert run("embed", run_path, "--out", f"{run_path}.npz") == 0
    # The same encoder, so the same codes.
    np.testing.assert_array_equal(np.load("run.npz")["mean"], np.load("new.npz")["mean"])
    page = Path("new/report.html").read_text()
    assert "mimachine refit" in page
    assert f"with a prior ({kind}) refitted to its codes" in page
    capsys.readouterr()
    assert run("inspect", "new", "--json") == 0
    assert json.loads(capsys.readouterr().out)["refit"]["kind"] == kind
    assert run("train", "--resume", "new") == 2
    assert "is finished" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_refit_says_how_to_resume_it(trained, number, code):
    arguments = ["refit", "run", "--components", "1", "--num-samples", "2000", "--out", "a b"]
    found, errors = stopped(arguments, Path("a b/experiment.json").exists, number)
    assert found == code, errors
    assert errors == (
        "mimachine: interrupted; resume with: mimachine refit run --components 1 "
        "--num-samples 2000 --out 'a b'\n"
    )


def test_a_table_of_a_run_with_damaged_settings_names_the_file(trained, capsys):
    for damaged in ("[]", '{"objective": 3}'):
        Path("run/experiment.json").write_text(damaged)
        assert run("table", "run") == 2
        assert "run/experiment.json is damaged: it must contain settings" in capsys.readouterr().err


def test_refit_and_evaluate_give_the_same_results(trained, capsys):
    few = ["--components", 10, "--num-samples", 3]
    assert run("refit", "run", *few, "--json", "--no-report", "--out", "new") == 0
    found = json.loads(capsys.readouterr().out)
    for path, name in (("run", "before"), ("new", "after")):
        assert run("evaluate", path, "--num-samples", 3, "--json") == 0
        assert json.loads(capsys.readouterr().out)["metrics"] == found[name]["metrics"]
    rates = [
        {m["name"]: m["value"] for m in found[name]["metrics"]}["rate"]
        for name in ("before", "after")
    ]
    assert rates[1] < rates[0]


def test_a_refitted_prior_of_a_file_is_rebuilt_without_the_file(here, capsys):
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.save("rows.npy", rows)
    assert run("train", "rows.npy", *QUICK, "--no-report", "--out", "run") == 0
    few = ["--components", 3, "--num-samples", 2, "--no-report"]
    assert run("refit", "run", "--kind", "vamp", *few) == 0
    assert "next: mimachine sample runs/run-vamp" in capsys.readouterr().out
    Path("rows.npy").unlink()
    assert run("sample", "runs/run-vamp", "--num", 5) == 0
    assert np.load("runs/run-vamp/samples.npz")["sample"].shape == (5, 3)


def test_a_missing_package_is_one_line(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    assert run("refit", "run", "--kind", "flow") == 2
    assert "pip install mimachine[flow]" in capsys.readouterr().err
    assert not Path("runs").exists()
