"""`reconstruct` writes the originals as their file has them; reconstructions are rounded."""

from pathlib import Path

import numpy as np
import pytest

import mimachine as mm
from mimachine.cli.entry import main

QUICK = ["--training.epochs", "2", "--training.warmup.epochs", "1", "--num-samples", "2"]
QUICK += ["--model.likelihood", "gaussian"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return main(list(map(str, arguments)))


def written(rows, path):
    """Write rows of text to a .csv file with the columns a, b, and the values as numbers."""
    Path(path).write_text("".join(f"{row}\n" for row in ["a,b", *rows]))
    return np.array([[float(cell) for cell in row.split(",")] for row in rows])


@pytest.fixture(scope="module")
def rounded_run(tmp_path_factory):
    """A run on a file whose column a has one decimal, and b any number of them."""
    folder, dice = tmp_path_factory.mktemp("rounded"), np.random.default_rng(0)
    rows = [f"{a:.1f},{b!r}" for a, b in dice.normal(size=(40, 2)).tolist()]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        values = written(rows, "rows.csv")
        assert run("train", "rows.csv", *QUICK, "--model.latent", 2, "--no-report") == 0
    return folder / "runs" / "rows-a-mim", values


def test_originals_of_a_later_file_are_written_as_they_are(rounded_run, here):
    # More decimals than in training, a value far away, and the columns in another order.
    Path("later.csv").write_text("b,a\n0.1,0.123\n2,3000000.25\n0.30000000000000004,-1\n")
    later = [[0.123, 0.1], [3000000.25, 2], [-1, 0.30000000000000004]]
    assert run("reconstruct", rounded_run[0], "later.csv", "--out", "x.npz") == 0
    arrays = np.load("x.npz")
    np.testing.assert_array_equal(arrays["x"], later)
    np.testing.assert_array_equal(arrays["sample"][:, 0], arrays["sample"][:, 0].round(1))


@pytest.mark.parametrize("split", ["train", "val", "test", "all"])
def test_originals_of_the_training_file_are_written_as_they_are(split, rounded_run, here):
    path, values = rounded_run
    assert run("reconstruct", path, "--split", split, "--out", "x.npz") == 0
    found = np.load("x.npz")["x"]
    assert len(found) == {"train": 28, "val": 4, "test": 8, "all": 40}[split]
    assert {tuple(row) for row in found} <= {tuple(row) for row in values}
    if split == "all":
        np.testing.assert_array_equal(found, values)
    else:
        assert run("embed", path, "--split", split, "--out", "z.npz") == 0
        rows = mm.load(path).data
        codes = mm.codes(mm.load(path).model, getattr(rows, split)).mean
        np.testing.assert_array_equal(np.load("z.npz")["mean"], codes)


@pytest.mark.parametrize("cell", ["3", "2.5", "true"])
def test_originals_have_the_type_of_the_file_that_they_came_from(cell, here):
    whole = [f"{k % 7},{k % 3}" for k in range(40)]
    values = written(whole, "rows.csv")
    assert run("train", "rows.csv", *QUICK, "--model.latent", 2, "--no-report", "--out", "run") == 0
    assert run("reconstruct", "run", "--out", "x.npz") == 0
    assert np.load("x.npz")["x"].dtype == np.int64
    np.testing.assert_array_equal(np.load("x.npz")["x"], values)
    Path("later.csv").write_text(f"a,b\n{cell},1\n{cell},0\n")
    assert run("reconstruct", "run", "later.csv", "--out", "later.npz") == 0
    number = 1.0 if cell == "true" else float(cell)
    np.testing.assert_array_equal(np.load("later.npz")["x"], [[number, 1], [number, 0]])
