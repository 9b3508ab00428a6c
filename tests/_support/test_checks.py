import math
from pathlib import Path

import numpy as np
import pytest
import torch

import mimachine as mm
from mimachine._support.checks import bounds, real, sizes, whole
from mimachine.experiment.settings import Data, Experiment, File, Model, from_json, to_json


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_whole_numbers_of_any_kind_become_pythons(value):
    assert whole("n", value, 1) == 3
    assert type(whole("n", value)) is int
    assert sizes("n", [value, 2]) == (3, 2)
    assert sizes("n", value) == (3,)


@pytest.mark.parametrize("value", [True, np.bool_(True), torch.tensor(True), 3.0, "3", None, 1.5])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="n must be a whole number, 1 or more, got"):
        whole("n", value, 1)
    with pytest.raises(ValueError, match="n must be whole numbers, 1 or more, got"):
        sizes("n", (value,))


@pytest.mark.parametrize("value", [True, math.nan, math.inf, "1", None, 1j])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match=r"s must be .*0 or more, got"):
        real("s", value, 0)
    with pytest.raises(ValueError, match="s must be positive and finite, got"):
        real("s", value, 0, above=True)
    with pytest.raises(ValueError, match=r"b must be \(lower, upper\) bounds"):
        bounds("b", (-1.0, value))


WRONG = {
    "training.epochs must be a whole number, got 1.5": lambda: mm.Training(epochs=1.5),
    "training.batch_size must be a whole number, got True": lambda: mm.Training(batch_size=True),
    "training.seed must be a whole number, got None": lambda: mm.Training(seed=None),
    "training.learning_rate must be a finite number, got nan": lambda: mm.Training(
        learning_rate=math.nan
    ),
    "training.warmup must be a Warmup or a whole number, got '3'": lambda: mm.Training(warmup="3"),
    "training.drop_last must be True or False, got 1": lambda: mm.Training(drop_last=1),
    "training.schedule must be a Noam or a Constant or a Cosine or": lambda: mm.Training(
        schedule=3
    ),
    "warmup.epochs must be a whole number, got 2.0": lambda: mm.Warmup(2.0),
    "warmup.terms must be a tuple": lambda: mm.Warmup(terms=("p_x",)),
    "schedule.warmup must be a whole number": lambda: mm.Noam("3"),
    "model.latent must be a whole number": lambda: Model(latent=2.5),
    "model.hidden must be a tuple": lambda: Model(hidden=300),
    "model.prior must be one of standard-normal": lambda: Model(prior="normal"),
    "data.name must be a string, got 3": lambda: Data(3),
    "data.fresh must be True or False": lambda: Data(fresh="yes"),
    "file.resize must be a tuple of 2 values": lambda: File(resize=(8, 8, 3)),
    "file.drop must be a tuple": lambda: File(drop="age"),
    "^training must be a Training": lambda: Experiment(training={"epochs": 3}),
    "^num_samples must be a whole number": lambda: Experiment(num_samples=1e3),
}


@pytest.mark.parametrize("message", WRONG)
def test_settings_of_the_wrong_type_are_refused_by_name(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message]()


def test_settings_take_what_is_equal_to_their_type():
    assert mm.Training(np.int64(20), seed=np.uint8(3)) == mm.Training(20, seed=3)
    assert Model(hidden=[3, np.int32(4)]).hidden == (3, 4)
    assert Data(Path("table.csv")).name == "table.csv"
    experiment = Experiment(training=mm.Training(np.int64(20), learning_rate=np.float32(0.5)))
    assert from_json(to_json(experiment)) == experiment


NO_SIZE = {
    "shape": lambda value: mm.StandardNormal(value),
    "shape of a learned one": lambda value: mm.LearnedNormal((2, value)),
    "features": lambda value: mm.GaussianMixture(value),
    "components": lambda value: mm.FullGaussianMixture(2, value),
    "in_features": lambda value: mm.MLP(value, 2),
    "hidden": lambda value: mm.MLP(2, 2, (3, value)),
    "out_features": lambda value: mm.GatedLinear(2, value),
    "in_channels": lambda value: mm.GatedConv2d(value, 3),
    "kernel_size": lambda value: mm.MaskedConv2d(1, 3, value, centre=True),
    "event_dims": lambda value: mm.Gaussian(mm.MLP(2, 2), event_dims=value),
    "size": lambda value: mm.ClampedGaussian(mm.MLP(2, 2), 2, value),
    "components of a mixture": lambda value: mm.MixtureDensity(mm.MLP(2, 10), value),
    "categories": lambda value: mm.Categorical(mm.MLP(2, 4), value),
    "levels": lambda value: mm.DiscretizedLogistic(mm.MLP(2, 4), value),
    "levels of pixels": lambda value: mm.GreyPixels(levels=value),
    "latents": lambda value: mm.dense_vae((1, 4, 4), latents=value),
    "shape of images": lambda value: mm.dense_vae((1, 4, value)),
    "width": lambda value: mm.PixelCNN(1, 1, width=value),
    "features of a flow": lambda value: mm.FlowPrior(value),
    "context": lambda value: mm.FlowConditional(2, value),
    "bins": lambda value: mm.NeuralSpline(bins=value),
    "second_size": lambda value: mm.ChainPrior(mm.StandardNormal(2), mm.MLP(2, 2), value),
    "num_data": lambda value: mm.FreshDraws(mm.StandardNormal(2)(), value),
}


@pytest.mark.parametrize("value", [0, 1.5, True, None])
@pytest.mark.parametrize("name", NO_SIZE)
def test_sizes_of_models_that_make_no_sense_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"{name.split()[0]} must be .*got"):
        NO_SIZE[name](value)


@pytest.mark.parametrize("floor", [-1.0, math.nan, math.inf, "1"])
def test_floors_that_make_no_sense_are_refused_by_name(floor):
    for make in (
        lambda: mm.LearnedNormal(2, floor),
        lambda: mm.GaussianMixture(2, floor=floor),
        lambda: mm.Gaussian(mm.MLP(2, 2), floor),
        lambda: mm.DiscretizedLogistic(mm.MLP(2, 4), floor=floor),
    ):
        with pytest.raises(ValueError, match=r"floor must be .*0 or more.*got"):
            make()
