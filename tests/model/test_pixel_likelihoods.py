"""Pixel likelihoods: distributions given maps, and their quantiles."""

import pytest
import torch
from torch.distributions import Normal

import mimachine as mm

pytestmark = pytest.mark.usefixtures("double")

KINDS = [mm.BinaryPixels(), mm.GreyPixels(levels=5), mm.RealPixels()]


def maps_of(pixels, *shape):
    return [torch.randn(shape) for _ in range(pixels.maps)]


def test_binary_pixels_have_their_map_as_logits():
    logits, value = torch.randn(4, 3), torch.rand(4, 3).round()
    expected = torch.distributions.Bernoulli(logits=logits).log_prob(value).sum(1)
    torch.testing.assert_close(mm.BinaryPixels()(logits, event_dims=1).log_prob(value), expected)


def test_locations_are_in_the_unit_interval_and_scales_within_their_bounds():
    location, log_scale = 3 * torch.randn(4, 50), 5 * torch.randn(4, 50)
    scale = log_scale.clamp(-2.0, 1.0).exp()
    real = mm.RealPixels((-2.0, 1.0))(location, log_scale, event_dims=1)
    value = torch.rand(4, 50)
    expected = Normal(location.sigmoid(), scale).log_prob(value).sum(1)
    torch.testing.assert_close(real.log_prob(value), expected)
    grey = mm.GreyPixels((-2.0, 1.0))(location, log_scale, event_dims=1)
    torch.testing.assert_close(grey.loc, location.sigmoid())
    torch.testing.assert_close(grey.scale, scale)
    assert grey.levels == 256


@pytest.mark.parametrize("pixels", KINDS)
def test_quantiles_of_evenly_spread_numbers_have_the_distributions_moments(pixels):
    given = pixels(*maps_of(pixels, 3), event_dims=1)
    count = 20_000
    uniform = (torch.arange(count) + 0.5) / count
    value = given.icdf(uniform[:, None].expand(-1, 3))
    # The step between neighbours is at most the range of a value over the count.
    torch.testing.assert_close(value.mean(0), given.mean, rtol=0, atol=1e-3)
    order = value.diff(dim=0)
    assert order.min() >= 0, "quantiles rise with probability"
    if pixels.maps == 1 or isinstance(pixels, mm.RealPixels):
        torch.testing.assert_close(value.var(0), given.variance, rtol=1e-2, atol=0)


def test_quantiles_of_grey_pixels_take_each_level_as_often_as_it_is_likely():
    pixels = mm.GreyPixels((-2.0, 0.0), levels=5)
    given = pixels(torch.zeros(1), torch.full((1,), -1.5), event_dims=1)
    count, grid = 100_000, torch.linspace(0, 1, 5)[:, None]
    value = given.icdf(((torch.arange(count) + 0.5) / count)[:, None])
    share = (grid == value.T).double().mean(1)
    torch.testing.assert_close(share, given.log_prob(grid).exp(), rtol=0, atol=2 / count)


def test_bounds_and_levels_are_checked():
    with pytest.raises(
        ValueError, match=r"log_scale must be \(lower, upper\) bounds, got \(1, 0\)"
    ):
        mm.RealPixels((1, 0))
    with pytest.raises(ValueError, match="levels must be 2 or more, got 1"):
        mm.GreyPixels(levels=1)
