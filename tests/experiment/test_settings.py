import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import mimachine as mm
from mimachine.data.catalogue import LOW_DIMENSIONAL
from mimachine.data.sources import as_bytes
from mimachine.experiment.presets import (
    default,
    fast,
    paper_image_training,
    paper_images,
    published,
    published_image_training,
)
from mimachine.experiment.settings import (
    _ADDED_LATER,
    IMAGE_ARCHITECTURES,
    Experiment,
    Model,
    from_json,
    to_json,
)
from mimachine.model.annealing import Annealing
from mimachine.training.recipe import Warmup
from mimachine.training.schedules import Noam
from mimachine.training.state import BestWeights

CASES = [
    default("digits"),
    default("mixture-2d", "vae"),
    default("mixture-20d"),
    default("pca-fashion-mnist"),
    published("mixture-2d"),
    published("mixture-20d"),
    published("pca-fashion-mnist-published"),
    published("mixture-2d", "vae"),
    default("mnist", architecture="pixel-hvae"),
    fast("omniglot", "vae"),
    published("mnist", "vae", "conv-hvae"),
    paper_images("omniglot", "a-mim", "hvae"),
]


@pytest.mark.parametrize("settings", CASES)
def test_settings_are_restored_from_json(settings):
    assert from_json(json.loads(json.dumps(to_json(settings)))) == settings


def test_every_invalid_setting_is_named():
    value = json.loads(json.dumps(to_json(default("digits"))))
    value["model"]["latnt"] = 3
    value["training"]["epochs"] = "many"
    with pytest.raises(ValueError, match=r"model\.latnt: .*training\.epochs: ") as error:
        from_json(value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_settings_of_another_format_version_are_rejected(version):
    value = {**to_json(Experiment()), "format_version": version}
    with pytest.raises(ValueError, match=f"format version {version!r}"):
        from_json(value)


def test_the_published_settings_are_those_of_the_released_code():
    settings = published("mixture-2d")
    training = settings.training
    assert settings.data.fresh
    assert (training.epochs, training.batch_size, training.learning_rate) == (200, 128, 1e-3)
    assert training.schedule == Noam(3)
    assert training.warmup == Warmup(3, ("q_z_given_x", "q_x"), decoding="after", halves="sum")
    # "More than 3 epochs without improvement" is the fourth.
    assert training.stop_after == 4
    assert training.validation_noise == "fresh"
    assert settings.model.encoder_floor == settings.model.decoder_floor == 1e-6
    assert settings.model.marginal == "conditional"
    # A VAE's warm-up multiplies the KL divergence, as objective `vae` does by default.
    assert published("mixture-2d", "vae").training.warmup == Warmup(3)


@pytest.mark.parametrize("name", LOW_DIMENSIONAL[1:])
def test_the_published_settings_differ_by_the_data_only_in_the_network(name):
    planar, settings = published("mixture-2d"), published(name)
    assert settings.training == planar.training
    assert settings.model == replace(planar.model, latent=10, hidden=(50,))
    assert settings.data.fresh == (name == "mixture-20d")
    assert settings.objective == default(name).objective == "mim"


def test_there_are_no_published_settings_for_other_data():
    with pytest.raises(ValueError, match=r"mixture-2d, .*; got data 'digits'"):
        published("digits")


def test_old_settings_without_an_architecture_are_read():
    value = json.loads(json.dumps(to_json(default("digits"))))
    for name in ("architecture", "channels", "layers", "latent_maps", "pseudo_inputs"):
        del value["model"][name]
    del value["data"]["binarisation"]
    assert from_json(value) == default("digits")
    del value["model"]["latent"]
    with pytest.raises(ValueError, match=r"not complete: model\.latent missing"):
        from_json(value)


@pytest.mark.parametrize(
    ("architecture", "field", "value"),
    [
        ("mlp", "channels", 16),
        ("mlp", "pseudo_inputs", "published"),
        ("dense-vae", "channels", 16),
        ("hvae", "encoder_floor", 0.1),
        ("conv-hvae", "layers", 3),
        ("hvae", "latent_maps", "everywhere"),
    ],
)
def test_a_setting_without_a_meaning_for_the_architecture_is_rejected(architecture, field, value):
    message = rf"model\.{field} has no meaning for model\.architecture {architecture}, .*{value}"
    with pytest.raises(ValueError, match=message):
        Model(architecture=architecture, **{field: value})


@pytest.mark.parametrize("hidden", [(), (20, 30)])
def test_image_architectures_have_one_hidden_size(hidden):
    with pytest.raises(ValueError, match=r"model\.hidden must be one size for .* dense-vae"):
        Model(hidden=hidden, architecture="dense-vae")


@pytest.mark.parametrize("architecture", IMAGE_ARCHITECTURES)
def test_both_image_presets_are_of_one_model_and_differ_in_the_recipe(architecture):
    released = published("fashion-mnist", None, architecture)
    text = paper_images("fashion-mnist", None, architecture)
    model = Model(40, (300,), "bernoulli", components=500, architecture=architecture)
    assert text.model == model
    assert released.model == replace(model, pseudo_inputs="published")
    pixels = architecture == "pixel-hvae"
    assert released.objective == ("a-mim" if pixels else "mim-of-means")
    assert text.objective == ("a-mim" if pixels else "mim")
    assert released.training == published_image_training(released.objective)
    assert text.training == paper_image_training()
    assert released.data == text.data
    assert released.num_samples == text.num_samples == 5000


def test_presets_of_images_are_for_images():
    with pytest.raises(ValueError, match=r'"published" is for digits, .* got data .mixture-2d'):
        published("mixture-2d", None, "hvae")
    with pytest.raises(ValueError, match=r"with model\.architecture mlp"):
        paper_images("mnist")


@pytest.mark.parametrize(
    ("field", "value"),
    [("latent", 0), ("components", 0), ("hidden", (10, 0)), ("channels", 0), ("layers", 0)],
)
def test_an_invalid_model_setting_is_named(field, value):
    with pytest.raises(ValueError, match=rf"model\.{field}"):
        Model(**{field: value})


def test_settings_need_no_torch():
    code = "import sys, mimachine.experiment, mimachine.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("objective", ["vae", "mim", "a-mim"])
def test_the_published_image_recipe_stops_as_the_released_code_does(objective):
    recipe = published_image_training(objective)
    betas = [recipe.annealing.at(epoch).beta for epoch in range(1, 2001)]
    assert betas == [min(1.0, epoch / 100) for epoch in range(1, 2001)]
    # The released code stops after more than 50 epochs without improvement; the epochs count from
    # the first one with β = 1.
    best = BestWeights([torch.zeros(1)], recipe.stop_after)
    stopped = None
    for epoch in range(100, 200):
        best.update(epoch, torch.tensor(1.0 if epoch <= 120 else 2.0) - epoch * 1e-3)
        if best.all_done:
            stopped = epoch
            break
    since = [epoch - 120 for epoch in range(120, 200)]
    assert stopped == 120 + next(count for count in since if count > 50)


def test_the_published_image_recipe_warms_a_vae_up_by_its_kl_divergence_and_mim_by_the_encoding():
    vae, mim = published_image_training("vae"), published_image_training("mim")
    assert vae.annealing.at(50) == Annealing(0.5)
    assert mim.annealing.at(50) == Annealing(0.5, ("q_z_given_x", "q_x"), False, "sum", True)
    assert mim.annealing.at(100) == Annealing(1.0, None, True, "sum")
    assert replace(vae, warmup=mim.warmup) == mim
    assert published("mixture-2d").training.annealing == replace(
        mim.annealing, epochs=3, first_latent=False
    )


def test_the_papers_image_recipe_is_patient_for_as_long_as_it_warms_up():
    recipe = paper_image_training()
    assert recipe.stop_after == recipe.annealing.epochs
    assert replace(recipe, patience=None).stop_after == recipe.stop_after


@pytest.mark.parametrize("make", [published_image_training, paper_image_training])
def test_image_recipes_are_written_and_read_back(make):
    settings = replace(default("digits"), training=make())
    assert from_json(json.loads(json.dumps(to_json(settings)))) == settings


def test_an_image_model_is_trained_by_the_published_recipe():
    torch.manual_seed(0)
    grey = torch.rand(200, 1, 8, 8)
    model = mm.hvae((1, 8, 8), grey[:5], latents=(3, 2), hidden=16)
    recipe = replace(
        published_image_training(), epochs=4, batch_size=50, warmup=mm.Warmup(2, halves="sum")
    )
    train = mm.Binarized(mm.TensorSource(as_bytes((grey * 255).round() / 255)))
    history = mm.fit(mm.Loss(model, mm.MIM), train, grey[:50].round(), recipe)
    losses = [epoch.val_loss for epoch in history.epochs]
    assert losses[-1] < losses[0]


def test_settings_added_later_have_defaults_in_old_runs():
    training = replace(default("digits").training, schedule=Noam(5))
    settings = replace(default("digits"), training=training)
    value = to_json(settings)
    for place in _ADDED_LATER:
        *path, name = place.split(".")
        part = value
        for each in path:
            part = part[each]
        del part[name]
    assert from_json(json.loads(json.dumps(value))) == settings
    del value["model"]["latent"]
    with pytest.raises(ValueError, match=r"not complete: model\.latent missing"):
        from_json(value)


@pytest.mark.parametrize("version", ["\n", "a\x1b[31m", 99, None, 10**400, [1], {"a": 2}])
def test_another_format_version_is_named_in_one_line(version):
    value = {**to_json(Experiment()), "format_version": version}
    with pytest.raises(ValueError, match="have format version") as caught:
        from_json(value)
    assert str(caught.value).isprintable()
