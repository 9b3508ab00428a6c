"""Convolutional networks of flat images."""

import math

import pytest
import torch

import mimachine as mm
from mimachine.experiment.build import build
from mimachine.experiment.settings import Data, Experiment, Model

SHAPES = [(1, 28, 28), (3, 32, 32), (2, 9, 30), (3, 17, 64), (1, 2, 2), (1, 1, 50)]
SMALL = {"channels": 4, "hidden": 6}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_any_size_go_in_and_out(shape):
    encoder, size = mm.ConvEncoder(shape, 5, **SMALL), math.prod(shape)
    decoder = mm.ConvDecoder(3, shape, maps=2, **SMALL)
    assert encoder(torch.rand(4, size)).shape == (4, 5)
    assert decoder(torch.randn(2, 4, 3)).shape == (2, 4, 2 * size)
    flat = decoder(torch.randn(8, 3).double().float())
    assert torch.isfinite(flat).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_input_and_every_weight_matters(shape):
    encoder, size = mm.ConvEncoder(shape, 5, **SMALL).double(), math.prod(shape)
    decoder = mm.ConvDecoder(5, shape, **SMALL).double()
    x = torch.rand(3, size, dtype=torch.float64, requires_grad=True)
    decoder(encoder(x)).square().sum().backward()
    assert (x.grad != 0).all()
    for network in (encoder, decoder):
        assert all((parameter.grad != 0).any() for parameter in network.parameters())


def test_rows_do_not_depend_on_their_batch():
    encoder = mm.ConvEncoder((2, 16, 20), 5, **SMALL).double()
    decoder = mm.ConvDecoder(5, (2, 16, 20), **SMALL).double()
    x = torch.rand(6, 640, dtype=torch.float64)
    torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]))
    torch.testing.assert_close(decoder(encoder(x))[2:3], decoder(encoder(x[2:3])))
    stacked = encoder(x.reshape(2, 3, 640))
    torch.testing.assert_close(stacked.flatten(0, 1), encoder(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: mm.ConvEncoder((28, 28), 5),
        lambda: mm.ConvEncoder((1, 28, 0), 5),
        lambda: mm.ConvEncoder((1, 28, 28), 0),
        lambda: mm.ConvDecoder(0, (1, 28, 28)),
        lambda: mm.ConvDecoder(3, (1, 28, 28), maps=0),
        lambda: mm.ConvDecoder(3, (1, 28, 28), channels=0),
    ],
)
def test_wrong_sizes_are_refused(make):
    with pytest.raises(ValueError, match=r"shape|features|maps|channels"):
        make()


def images(**changes):
    x = torch.rand(30, 48)
    return mm.Dataset("x", x, x, x, **{"image_shape": (3, 4, 4), **changes})


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "discretized-logistic"])
@pytest.mark.parametrize("prior", ["standard-normal", "vampprior", "gaussian-mixture"])
def test_settings_build_it_for_every_likelihood_and_prior(likelihood, prior):
    model = Model(
        3,
        (8,),
        likelihood=likelihood,
        prior=prior,
        components=5,
        architecture="conv",
        channels=4,
        encoder_floor=0.1,
    )
    joint = build(Experiment(Data("digits"), model, "a-mim"), images(levels=256))
    loss = mm.Loss(joint, mm.A_MIM)(torch.rand(7, 48).round())
    assert loss.shape == (7,)
    assert torch.isfinite(loss).all()


def test_data_that_are_no_images_are_refused():
    model = Model(3, (8,), architecture="conv")
    with pytest.raises(ValueError, match="needs images"):
        build(Experiment(Data("digits"), model, "a-mim"), images(image_shape=None))
    with pytest.raises(ValueError, match="one size"):
        Model(3, (8, 8), architecture="conv")
