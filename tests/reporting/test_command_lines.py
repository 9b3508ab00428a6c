import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mimachine.cli import parsing
from mimachine.cli.options import Compare, Train
from mimachine.data.dataset import Dataset
from mimachine.data.files.options import File
from mimachine.evaluation.metric import Report
from mimachine.experiment.presets import default, fast, paper_images, published
from mimachine.experiment.settings import Data, Model
from mimachine.reporting import command_lines
from mimachine.reporting.measured_run import Outcome
from mimachine.training.recipe import Training, Warmup
from mimachine.training.run import Run
from mimachine.training.schedules import Noam
from mimachine.workflow.load_run import Trained

DATA = Dataset("any", *[torch.zeros(2, 2)] * 3)


def outcome(settings, path):
    path.mkdir(exist_ok=True)
    return Outcome("", Trained(Run(path), settings, DATA, None), Report((), "", ""), [], {})


def read(command):
    """Parse a `mimachine train` command: its settings and output directory."""
    program, verb, *arguments = shlex.split(command)
    assert (program, verb) == ("mimachine", "train")
    parsed = parsing.parse_trainer(Train, arguments)
    return parsing.experiment_of(parsed, parsed.objective), parsed.out


@pytest.mark.parametrize(
    "settings",
    [
        default("digits"),
        default("mixture-2d", "a-mim"),
        published("mixture-2d"),
        replace(published("mixture-2d"), model=Model(latent=2, hidden=(7, 5))),
        replace(
            default("digits", "vae"),
            model=Model(latent=2, hidden=(), encoder_floor=0.25, prior="vampprior"),
            training=Training(epochs=2, warmup=1),
            num_samples=2,
        ),
        replace(
            default("digits"),
            training=Training(
                gradient="normalised", ema_decay=0.99, precision="bf16-mixed", compile=True
            ),
        ),
        default("mnist", "vae", architecture="conv-hvae"),
        published("omniglot", "mim", "hvae"),
        replace(paper_images("mnist", "vae", "pixel-hvae"), num_samples=7),
        replace(fast("mnist", "vae"), num_samples=7),
        fast("mnist", "vae", prior="vampprior"),
        replace(
            default("digits", architecture="pixel-hvae"),
            model=Model(
                3, (9,), prior="vampprior", architecture="pixel-hvae", channels=2, layers=3
            ),
        ),
        replace(
            default("digits"),
            training=Training(10, 8, 0.1, None, Warmup(4, ("q_x", "p_z"), "after", "sum"), None),
            num_samples=7,
        ),
    ],
)
def test_the_command_to_train_again_gives_the_same_settings(settings, tmp_path):
    command = command_lines.training(outcome(settings, tmp_path / "a run"))
    assert read(command) == (settings, tmp_path / "a run-again")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A user's file, in a folder whose name must not be revealed."""
    (tmp_path / "secret").mkdir()
    file = tmp_path / "secret" / "my data.csv"
    rows = [f"{i},{i * i % 7},{i % 2}" for i in range(30)]
    file.write_text("\n".join(["a,the b,kind", *rows]))
    monkeypatch.chdir(tmp_path)
    return file


@pytest.mark.parametrize(
    "file",
    [
        File(),
        File(labels="kind"),
        File(drop=("a",), standardize=False),
        File(labels="kind", drop=("the b",), image_shape=(1, 2), resize=(3, 4)),
    ],
)
def test_the_command_for_a_file_works_in_its_folder_and_does_not_reveal_it(
    file, table, tmp_path, monkeypatch
):
    settings = replace(default(str(table), "vae", file), num_samples=3)
    done = outcome(settings, Path("run"))
    command = command_lines.training(done)
    ((heading, _), *_) = command_lines.of_runs(done)
    assert heading == "Train again with the same settings, from the folder of my data.csv"
    text = str(
        [command, command_lines.of_runs(done), command_lines.of_comparison(Path("."), [done])]
    )
    assert "secret" not in text + command_lines.comparing(done, "mim")
    monkeypatch.chdir(table.parent)
    expected = replace(settings, data=Data("my data.csv", file=file))
    assert read(command) == (expected, Path("run-again"))


def test_only_the_name_of_a_file_of_labels_is_shown(table):
    labels = str(table.parent / "labels.txt")
    settings = replace(default(str(table)), data=Data(str(table), file=File(labels=labels)))
    assert command_lines.shown(settings).data == Data("my data.csv", file=File(labels="labels.txt"))
    assert command_lines.shown(default("digits")) == default("digits")


def test_objectives_are_compared_with_the_settings_of_the_run(tmp_path):
    settings = replace(default("digits", "vae"), num_samples=7)
    command = command_lines.comparing(outcome(settings, tmp_path), "mim")
    assert command == "mimachine compare digits --objectives vae mim --num-samples 7"


@pytest.mark.parametrize("rate", [None, 0.002, 0.001])
def test_a_comparison_of_objectives_with_other_defaults_is_one_command(rate):
    settings = {}
    for name in ("mim", "vae"):
        usual = default("mixture-2d", name)
        chosen = usual.training.learning_rate if rate is None else rate
        settings[name] = replace(usual, training=replace(usual.training, learning_rate=chosen))
    assert len({each.training.learning_rate for each in settings.values()}) == (1 if rate else 2)
    given = command_lines.options(*settings.values())
    for name, expected in settings.items():
        command = parsing.parse_trainer(Compare, ["mixture-2d", *given], name)
        assert parsing.experiment_of(command, name) == expected


def test_settings_that_no_option_gives_to_all_are_no_command():
    usual = default("mixture-2d", "mim"), default("mixture-2d", "vae")
    wide = replace(usual[1], model=replace(usual[1].model, hidden=(70,)))
    assert command_lines.options(*usual) == []
    assert command_lines.options(usual[0], wide) is None


def test_a_schedule_is_an_option(tmp_path):
    training = replace(default("digits").training, schedule=Noam(5))
    settings = replace(default("digits"), training=training)
    assert command_lines.options(settings) == ["--training.schedule", "noam:5"]


def test_settings_without_command_line_options_are_repeated_in_python(tmp_path):
    settings = replace(default("digits"), data=Data("digits", fresh=True))
    assert command_lines.options(settings) is None
    code = command_lines.training(outcome(settings, tmp_path))
    compile(code, "command", "exec")
    assert repr(str(tmp_path / "experiment.json")) in code
