"""Output on terminals and pipes of any encoding."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest

from mimachine.cli.entry import main

pytestmark = pytest.mark.usefixtures("few_trees")


def run(encoding, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "mimachine.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encodings")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(60, 3)))
    quick = ["--training.epochs", "2", "--training.warmup.epochs", "0", "--num-samples", "5"]
    done = run("ascii", "train", "x.npy", "--out", "run", *quick, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert b"+-" in done.stdout
    return folder


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-16", "utf-8"])
def test_numbers_are_printed_in_any_encoding(trained, encoding, monkeypatch):
    # Standard output as of a process of this encoding.
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding))
    assert main(["evaluate", str(trained / "run"), "--num-samples", "5"]) == 0
    text = written.getvalue().decode(encoding)
    assert "reconstruction_rmse" in text
    # Each encoding shows the sign that it has.
    has_sign = "±".encode(encoding, "ignore") != b""
    assert ("±" if has_sign else "+-") in text


def test_errors_and_help_are_printed_in_ascii(tmp_path):
    done = run("ascii", "train", "größe.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"mimachine: error: ")
    for command in ("train", "diagnose", "refit"):
        done = run("ascii", command, "--help", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
