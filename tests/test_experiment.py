import json
import subprocess
import sys
from dataclasses import replace

import pytest

from mimachine.experiment import LOW_DIMENSIONAL, Experiment, default, from_json, published, to_json
from mimachine.training import Noam, Warmup

CASES = [
    default("digits"),
    default("mixture-2d", "vae"),
    default("mixture-20d"),
    default("pca-fashion-mnist"),
    published("mixture-2d"),
    published("mixture-20d"),
    published("pca-fashion-mnist-published"),
    published("mixture-2d", "vae"),
]


@pytest.mark.parametrize("settings", CASES)
def test_settings_come_back_from_json_as_they_were(settings):
    assert from_json(json.loads(json.dumps(to_json(settings)))) == settings


def test_every_mistake_in_settings_is_named_with_its_place():
    value = json.loads(json.dumps(to_json(default("digits"))))
    value["model"]["latnt"] = 3
    value["training"]["epochs"] = "many"
    with pytest.raises(ValueError, match=r"model\.latnt: .*training\.epochs: ") as error:
        from_json(value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_settings_of_another_format_version_are_refused(version):
    value = {**to_json(Experiment()), "format_version": version}
    with pytest.raises(ValueError, match=f"format version {version}"):
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
    # The VAE's warm-up multiplies its KL divergence, which is what `vae` does by itself.
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


@pytest.mark.parametrize(
    ("field", "value"), [("latent", 0), ("components", 0), ("hidden", (10, 0))]
)
def test_models_that_make_no_sense_are_refused_by_name(field, value):
    from mimachine.experiment import Model

    with pytest.raises(ValueError, match=rf"model\.{field}"):
        Model(**{field: value})


def test_settings_need_no_torch():
    code = "import sys, mimachine.experiment, mimachine.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
