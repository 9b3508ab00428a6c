"""Messages about files name arguments in Python and flags on the command line."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimachine._support.messages import Option, OptionError
from mimachine.cli.entry import main
from mimachine.data.files.load import load_file
from mimachine.data.files.options import File
from mimachine.experiment.presets import default

ARGUMENT = re.compile(r"\b(labels|drop|array|image_shape|resize)=")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table(first="age,home town,kind", row="{0},Rome,{0}"):
    lines = [first, *(row.format(k) for k in range(20))]
    Path("x.csv").write_text("\n".join(lines) + "\n")
    return "x.csv"


def numbers():
    return table("age,dose", "{0},1{0}")


def archive():
    np.savez("x.npz", a=np.ones((20, 2)), b=np.ones((20, 2)))
    return "x.npz"


def array():
    np.save("x.npy", np.arange(40.0).reshape(20, 2))
    return "x.npy"


def pictures():
    Path("pictures").mkdir()
    for k in range(12):
        Image.new("L", (8, 8 + k % 2)).save(f"pictures/{k}.png")
    return "pictures"


# A file or folder to make, options for reading it, and an option that the message names.
CASES = {
    "text": (table, {}, Option("drop", ["home town"])),
    "text as labels": (table, {}, Option("labels", "home town")),
    "missing values": (lambda: table("age,b c", "{0},"), {}, Option("drop", ["b c"])),
    "unknown labels": (numbers, {"labels": "aeg"}, Option("labels")),
    "labels of text": (numbers, {"labels": "x.json"}, Option("labels")),
    "an unknown column": (numbers, {"drop": ["aeg"]}, Option("drop", ["aeg"])),
    "labels dropped": (numbers, {"labels": "age", "drop": ["age"]}, Option("drop", ["age"])),
    "columns of an array": (array, {"drop": ["a"]}, Option("drop")),
    "two arrays": (archive, {}, Option("array", "NAME")),
    "an unknown array": (archive, {"array": "c"}, Option("array", "c")),
    "an array of a table": (numbers, {"array": "x"}, Option("array", "x")),
    "other pixels": (array, {"image_shape": (3, 3)}, Option("image_shape")),
    "no pixels": (array, {"image_shape": (0, 3)}, Option("image_shape")),
    "two sizes": (pictures, {}, Option("resize", (8, 8))),
    "no size": (pictures, {"resize": (0, 8)}, Option("resize")),
    "a size of a table": (numbers, {"resize": (8, 8)}, Option("resize")),
    "labels of a folder": (pictures, {"labels": "a"}, Option("labels")),
    "a shape of a folder": (pictures, {"image_shape": (8, 8)}, Option("image_shape")),
}


# Tables may have text and missing values; arrays of numbers may not.
FINE_IN_TABLES = {"text", "text as labels", "missing values"}


def on_the_command_line(data, options, capsys, *more):
    """What the command line prints about a bad file."""
    flags = " ".join(Option(name, value).flag for name, value in options.items())
    assert main(["train", data, *shlex.split(flags), *more]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("case", CASES)
def test_messages_name_arguments_in_python_and_flags_on_the_command_line(case, capsys):
    make, options, named = CASES[case]
    if options.get("labels") == "x.json":
        Path("x.json").write_text("[]")
    data = make()
    is_array = case in FINE_IN_TABLES
    with pytest.raises(OptionError) as caught:
        load_file(data, File(**options), "numbers" if is_array else "auto")
    assert str(named) in str(caught.value)
    assert "--" not in str(caught.value)
    more = ["--model.likelihood", "gaussian"] if is_array else []
    printed = on_the_command_line(data, options, capsys, *more)
    assert named.flag in printed
    assert not ARGUMENT.search(printed)


def test_options_for_files_are_rejected_for_named_data_sets(capsys):
    with pytest.raises(OptionError, match="such as labels, do not apply to digits"):
        default("digits", file=File(labels="y"))
    printed = on_the_command_line("digits", {"labels": "y"}, capsys)
    assert "such as --labels, do not apply to digits" in printed


def test_models_of_images_ask_for_the_shape_of_rows_by_its_flag(capsys):
    options = {"model.architecture": "hvae"}
    printed = on_the_command_line("mixture-2d", options, capsys)
    assert "their shape, such as --image-shape 28 28" in printed
    assert not ARGUMENT.search(printed)
