"""Commands load what they use: the modules that each may not load take longer than its work."""

import gc
import json
import subprocess
import sys

import numpy as np
import pytest

from mimachine.cli.entry import main

QUICK = ["--training.epochs", "2", "--training.warmup.epochs", "1", "--num-samples", "2"]
COMPILER = {"torch._dynamo", "torch._inductor", "sympy"}
SCIENCE = {"scipy", "sklearn", "pandas", "polars"}
PICTURES = {"matplotlib", "PIL", "jinja2"}
FABRIC = {"lightning_fabric", "torchmetrics", "tensorboard"}


def loaded(folder, *arguments):
    """Names of the modules that a command in a process of its own has at its end."""
    code = f"""
import json, sys
from mimachine.cli.entry import main
code = main({list(map(str, arguments))!r})
with open("modules.json", "w") as file:
    json.dump(list(sys.modules), file)
sys.exit(code)
"""
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return set(json.loads((folder / "modules.json").read_text()))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs on digits, a table and an array, and the modules of the first two trainings."""
    folder = tmp_path_factory.mktemp("light")
    np.savetxt(folder / "table.csv", np.random.default_rng(0).normal(size=(60, 3)), delimiter=",")
    digits = loaded(folder, "train", "digits", *QUICK, "--out", "digits")
    table = loaded(folder, "train", "table.csv", *QUICK, "--out", "table", "--no-report")
    numbers = ["--model.likelihood", "gaussian", "--no-report"]
    loaded(folder, "train", "table.csv", *QUICK, *numbers, "--out", "array")
    return folder, digits, table


def test_training_loads_neither_a_compiler_nor_a_fabric(runs):
    _, digits, table = runs
    assert not digits & (COMPILER | FABRIC)
    assert not table & (COMPILER | FABRIC | PICTURES)
    # Otherwise the modules were not looked at. Measuring few rows without classes needs no more.
    assert "torch" in table
    assert {"torch", "sklearn", "matplotlib"} <= digits


@pytest.mark.parametrize(
    "command",
    [
        ["embed", "digits", "--out", "codes.csv"],
        ["embed", "array", "table.csv", "--out", "codes.npz"],
        ["sample", "array"],
        ["reconstruct", "array"],
    ],
    ids=" ".join,
)
def test_applying_a_model_loads_torch_alone(runs, command):
    modules = loaded(runs[0], *command)
    # Text files are read with polars.
    unread = set() if "array" in command else {"polars"}
    assert not modules & (COMPILER | SCIENCE - {"polars"} | unread | PICTURES | FABRIC)
    assert "torch" in modules


@pytest.mark.parametrize(
    "command",
    [
        ["embed", "table", "table.csv", "--out", "more.npz"],
        ["sample", "table"],
        ["reconstruct", "table"],
    ],
    ids=lambda command: command[0],
)
def test_applying_a_model_of_a_table_loads_torch_and_polars_alone(runs, command):
    modules = loaded(runs[0], *command)
    assert not modules & (COMPILER | SCIENCE - {"polars"} | PICTURES | FABRIC)
    assert "polars" in modules


def test_evaluating_a_model_draws_nothing(runs):
    modules = loaded(runs[0], "evaluate", "digits", "--num-samples", 2)
    assert not modules & (COMPILER | PICTURES | FABRIC)


def test_a_command_leaves_the_thresholds_of_the_garbage_collector(capsys):
    before = gc.get_threshold()
    try:
        for thresholds in ((700, 10, 10), (50_000, 5, 5), (0, 10, 10)):
            gc.set_threshold(*thresholds)
            expected = gc.get_threshold()
            assert main(["--version"]) == 0
            assert main(["unknown"]) == 2
            assert gc.get_threshold() == expected
    finally:
        gc.set_threshold(*before)
