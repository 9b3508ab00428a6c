"""Default settings: recipes that end converged, and baselines beside them."""

import math
from dataclasses import replace

import numpy as np
import pytest

import mimachine as mm
from mimachine import workflow
from mimachine.cli.options import Train
from mimachine.cli.parsing import parse_trainer
from mimachine.data.catalogue import CATALOGUE, NAMES, load
from mimachine.experiment.build import build
from mimachine.experiment.presets import default, fast, named
from mimachine.experiment.settings import DENSE
from mimachine.model.objectives import OBJECTIVES


@pytest.mark.parametrize("name", ["digits", "mixture-2d", "mixture-20d"])
def test_the_number_of_training_rows_is_that_of_the_data(name):
    assert CATALOGUE[name].rows == len(load(name).train)


def recipe(tmp_path, rows: int) -> tuple[mm.Training, int]:
    """The default recipe for a table of some rows, and its number of steps."""
    path = tmp_path / f"{rows}.csv"
    np.savetxt(path, np.zeros((rows, 2)), delimiter=",", fmt="%g")
    training = default(str(path)).training
    train = rows - rows // 10 - rows // 5
    return training, training.epochs * math.ceil(train / training.batch_size)


@pytest.mark.parametrize("rows", [30, 200, 1000, 30_000, 300_000])
def test_training_ends_with_a_decayed_rate_and_never_before(tmp_path, rows):
    training, steps = recipe(tmp_path, rows)
    assert training.stop_after == training.epochs
    assert training.learning_rate_at(training.epochs) < 0.1 * training.learning_rate
    assert training.annealing.epochs <= training.epochs / 4
    assert 900 <= steps <= 22_000


def test_objectives_that_draw_data_train_the_mixtures_at_a_lower_rate():
    usual = mm.Training.for_rows(10_000)
    for name, objective in OBJECTIVES.items():
        draws = objective.sampling == "mixture"
        rate = default("mixture-2d", name).training.learning_rate
        assert (rate < usual.learning_rate) == draws
        assert replace(default("mixture-2d", name).training, learning_rate=3e-3) == usual


def test_more_rows_take_more_steps_but_fewer_epochs(tmp_path):
    few, many = recipe(tmp_path, 2000), recipe(tmp_path, 50_000)
    assert few[1] < many[1]
    assert few[0].epochs > many[0].epochs


@pytest.mark.parametrize("name", [name for name in NAMES if "mixture" not in name])
def test_a_regularised_auto_encoder_is_as_wide_as_the_narrowest_encoder(name):
    model = default(name).model
    rae = named(default(name), "rae").model
    assert rae.encoder_floor is None
    if model.encoder_floor is not None:
        assert rae.encoder_std == model.encoder_floor


@pytest.mark.parametrize("architecture", DENSE)
def test_a_regularised_auto_encoder_of_images_is_as_wide_as_their_narrowest_encoder(architecture):
    settings = named(fast("digits", architecture=architecture), "rae")
    assert settings.objective == "rae"
    data = workflow.prepare(settings)
    width = build(settings, data).encoder(data.test[:3]).stddev.detach().amin()
    other = replace(settings, model=replace(settings.model, encoder_std=None))
    # Pixels far outside the unit interval push the learned widths to their bounds.
    learned = build(other, data).encoder(1e4 * data.test[:3]).stddev.detach().amin()
    assert float(width) == pytest.approx(float(learned), rel=0.01)


@pytest.mark.parametrize("architecture", ["conv-hvae", "pixel-hvae"])
def test_a_regularised_auto_encoder_needs_an_encoder_of_constant_width(architecture):
    with pytest.raises(ValueError, match=f"{architecture} does not .* mlp, dense-vae or hvae"):
        named(default("digits", architecture=architecture), "rae")


def test_a_few_epochs_shorten_the_warm_up():
    for epochs in (1, 3, 8):
        training = parse_trainer(Train, ["digits", "--training.epochs", str(epochs)]).training
        assert training.epochs == epochs
        assert training.annealing.epochs == epochs // 4
    options = ["digits", "--training.epochs", "8", "--training.warmup.epochs", "5"]
    assert parse_trainer(Train, options).training.annealing.epochs == 5


@pytest.mark.parametrize("name", ["digits", "omniglot-small", "mnist"])
def test_the_fast_recipe_changes_the_training_only(name):
    start, settings = default(name, architecture="dense-vae"), fast(name, architecture="dense-vae")
    assert replace(settings, training=start.training) == start
    training, rows = settings.training, CATALOGUE[name].rows
    steps = training.epochs * math.ceil(rows / training.batch_size)
    assert training.optimizer == "muon"
    assert 600 <= steps <= 1000
    assert training.learning_rate_at(training.epochs) < 0.1 * training.learning_rate


def test_the_fast_recipe_takes_longer_with_a_vampprior():
    normal, vamp = fast("mnist"), fast("mnist", prior="vampprior")
    assert vamp.model == replace(normal.model, prior="vampprior")
    assert vamp.training.epochs > normal.training.epochs
    options = ["mnist", "--preset", "fast", "--model.architecture", "hvae"]
    vampprior = [*options, "--model.prior", "vampprior"]
    for expected, given in ((normal, options), (vamp, vampprior)):
        command = parse_trainer(Train, given)
        assert (command.model, command.training) == (expected.model, expected.training)


@pytest.mark.parametrize("architecture", ["mlp", "conv-hvae", "pca"])
def test_the_fast_recipe_is_for_dense_image_models(architecture):
    with pytest.raises(ValueError, match=f"dense-vae or hvae; got .* {architecture}"):
        fast("mnist", architecture=architecture)
