"""Flattened image models: the same numbers as rows."""

import pytest
import torch

import mimachine as mm
from mimachine.estimation.codes.floors import scales
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import draw, log_prob_of_drawn
from mimachine.model.flattening import FlatImage

SHAPE = (2, 4, 3)
SIZES = {"hidden": 6, "latents": (3, 2)}
SMALL = {"channels": 3, "layers": 2, **SIZES}


def image_model(name):
    torch.manual_seed(0)
    if name == "conv_hvae":
        return mm.conv_hvae(SHAPE, torch.rand(4, *SHAPE), channels=3, **SIZES).eval()
    return mm.pixel_hvae(SHAPE, **SMALL).eval()


models = pytest.mark.parametrize("name", ["conv_hvae", "pixel_hvae"])


@models
@torch.no_grad()
def test_rows_have_the_log_probabilities_of_their_images(name):
    model, x = image_model(name), torch.rand(5, *SHAPE).round()
    rows = mm.flattened(model, SHAPE)
    torch.manual_seed(1)
    of_images = model.log_probs(model.encode(x))
    torch.manual_seed(1)
    of_rows = rows.log_probs(rows.encode(x.flatten(1)))
    for a, b in zip(of_images, of_rows, strict=True):
        torch.testing.assert_close(a, b)


@models
@torch.no_grad()
def test_rows_are_drawn_as_images_are(name):
    model = image_model(name)
    rows, z = mm.flattened(model, SHAPE), torch.randn(5, 5)
    torch.manual_seed(1)
    image = model.decode(z)
    torch.manual_seed(1)
    row = rows.decode(z)
    assert torch.equal(image.x.flatten(1), row.x)
    torch.testing.assert_close(image.log_prob, row.log_prob)
    torch.testing.assert_close(image.score, row.score)


def test_weights_are_shared_and_can_be_trained_in_either_shape():
    model = image_model("conv_hvae")
    rows = mm.flattened(model, SHAPE)
    assert {id(p) for p in rows.parameters()} == {id(p) for p in model.parameters()}
    x = torch.rand(5, *SHAPE).round()
    losses = []
    for each, data in ((model, x), (rows, x.flatten(1))):
        torch.manual_seed(1)
        loss = mm.Loss(each, mm.MIM)(data).mean()
        losses.append(torch.autograd.grad(loss, model.prior.first.pseudo_inputs)[0])
    torch.testing.assert_close(*losses)


def test_a_reparameterised_image_is_a_reparameterised_row():
    loc = torch.randn(5, *SHAPE, requires_grad=True)
    image = mm.DiagNormal(loc, torch.full_like(loc, 0.5), event_dims=3)
    row = FlatImage(image)
    assert row.has_rsample
    assert torch.equal(row.mean, loc.flatten(1))
    assert torch.equal(row.variance, image.variance.flatten(1))
    value, log_prob, score = draw(row, (7,))
    assert value.shape == (7, 5, 24)
    assert score is None
    torch.testing.assert_close(log_prob, image.log_prob(value.unflatten(-1, SHAPE)))
    assert torch.autograd.grad(row.rsample().sum(), loc)[0].eq(1).all()


def test_there_is_no_mean_where_images_have_none():
    rows = mm.flattened(image_model("pixel_hvae"), SHAPE)
    with pytest.raises(NotImplementedError):
        _ = rows.decoder(torch.randn(2, 5)).mean


@pytest.mark.parametrize("shape", [(5, 23), (5, *SHAPE)])
def test_rows_of_another_length_are_refused(shape):
    rows = mm.flattened(image_model("conv_hvae"), SHAPE)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 24\), got \(5, "):
        rows.encode(torch.rand(shape))


def test_a_data_prior_of_images_is_not_taken_for_one_of_rows():
    model = image_model("pixel_hvae")
    of_images = mm.Joint(model.encoder, model.decoder, model.prior, mm.StandardNormal(SHAPE))
    with pytest.raises(ValueError, match="data_prior must be given"):
        mm.flattened(of_images, SHAPE)
    own = mm.GaussianMixture(24, 2)
    assert mm.flattened(of_images, SHAPE, own).data_prior is own


def test_rows_tell_of_themselves_what_images_do():
    binary, real = mm.pixel_hvae(SHAPE, **SMALL), mm.hvae(SHAPE, pixels=mm.RealPixels(), **SIZES)
    z, x = torch.randn(5, 5), torch.rand(5, *SHAPE).round()
    assert is_discrete(mm.flattened(binary, SHAPE).decoder(z))
    assert not is_discrete(mm.flattened(real, SHAPE).decoder(z))
    (of_rows,) = scales(mm.flattened(real, SHAPE).decoder(z), x.flatten(1))
    (of_images,) = scales(real.decoder(z), x)
    assert torch.equal(of_rows.scale, of_images.scale)
    assert of_rows.floor == of_images.floor
    # In training drawn images are scored by the running statistics, also as rows.
    image = binary.train().decoder(z)
    torch.testing.assert_close(
        log_prob_of_drawn(FlatImage(image), x.flatten(1)), log_prob_of_drawn(image, x)
    )
