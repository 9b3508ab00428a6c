"""Images of one's own are modelled by convolutions, unless they are small."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from mimachine.cli import parsing
from mimachine.cli.entry import main
from mimachine.cli.options import Compare, Train
from mimachine.data.files.options import File
from mimachine.experiment.presets import BASELINES, default
from mimachine.experiment.usual_architecture import usual_architecture
from mimachine.reporting import command_lines


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def folder(side=(20, 24), count=12, name="pictures"):
    from pathlib import Path

    Path(name).mkdir()
    dice = np.random.default_rng(0)
    for k in range(count):
        values = dice.integers(0, 256, (*side, 3), dtype=np.uint8)
        Image.fromarray(values).save(f"{name}/{k}.png")
    return name


@pytest.mark.parametrize(("side", "expected"), [((17, 40), "conv"), ((16, 40), "mlp")])
def test_the_shorter_side_of_pictures_decides(here, side, expected):
    name = folder(side)
    assert usual_architecture(name) == default(name).model.architecture == expected
    assert usual_architecture(name, File(resize=(30, 30))) == "conv"
    assert usual_architecture(name, File(resize=(8, 30))) == "mlp"


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_bytes_are_images(here, suffix):
    def saved(values):
        (np.save if suffix == "npy" else np.savez)(f"x.{suffix}", values)
        return usual_architecture(f"x.{suffix}")

    image = np.zeros((12, 20, 20), dtype=np.uint8)
    assert saved(image) == "conv"
    assert saved(np.stack([image] * 3, -1)) == "conv"
    assert saved(np.stack([image] * 3, 1)) == "conv"
    assert saved(image[:, :16]) == "mlp"
    # Their values might be no grey levels.
    assert saved(image.astype(float)) == "mlp"
    assert saved(image.reshape(12, 400)) == "mlp"
    assert usual_architecture(f"x.{suffix}", File(image_shape=(20, 20))) == "conv"


def test_tables_and_named_data_are_not(here):
    pl.DataFrame({"a": [1.0] * 20}).write_csv("x.csv")
    assert usual_architecture("x.csv") == usual_architecture("mnist") == "mlp"


def parsed(command, *arguments):
    return parsing.parse_trainer(command, list(arguments))


def test_the_command_line_has_the_same_default(here):
    name = folder()
    assert parsed(Train, name).model.architecture == "conv"
    dense = parsed(Train, name, "--model.architecture", "mlp").model
    assert (dense.architecture, dense.channels) == ("mlp", 32)
    assert parsed(Train, name, "--model.architecture=mlp").model.architecture == "mlp"
    # These have several hidden layers.
    assert parsed(Train, name, "--model.hidden", "30", "20").model.architecture == "mlp"
    assert parsed(Train, name, "--model.hidden", "30").model.architecture == "conv"
    command = parsed(Compare, name)
    assert command.model.architecture == "conv"
    assert set(BASELINES) <= set(parsing.compared(command))


def test_a_command_repeats_a_run(here):
    name = folder()
    usual, dense = default(name), default(name, architecture="mlp")
    assert command_lines.options(usual) == []
    assert command_lines.options(dense) == ["--model.architecture", "mlp"]


@pytest.mark.slow
@pytest.mark.usefixtures("few_trees")
def test_a_folder_is_trained_and_applied(here, capsys):
    name = folder(count=40)
    options = ["--training.epochs", "2", "--num-samples", "2", "--model.channels", "4"]
    assert main(["train", name, "--out", "run", *options]) == 0
    settings = json.loads((here / "run" / "experiment.json").read_text())
    assert settings["model"]["architecture"] == "conv"
    for command in ("embed run", "sample run --num 3", "reconstruct run", "evaluate run"):
        assert main(command.split()) == 0
    assert main(["refit", "run", "--out", "again"]) == 0
    assert main(["sample", "again", "--num", "2"]) == 0
    capsys.readouterr()
