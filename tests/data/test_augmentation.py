"""Warps are compared with a loop over pixels, draws with their distribution."""

import math

import numpy as np
import pytest
import torch
from oracles import within_standard_errors

from mimachine.data.augmentation import Affine, Augmentation, augmented, dequantised, versions, warp


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_pixels(image, angle, shear, scale, shift):
    """Warp one image pixel by pixel, by solving the forward map for the source of each pixel."""
    height, width = image.shape
    turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix = scale * np.array(turn) @ np.array([[1, -math.tan(shear)], [0, 1]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    warped = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            source = np.linalg.solve(matrix, np.array([x, y]) - centre - shift) + centre
            column, row = np.rint(source).astype(int)
            if 0 <= column < width and 0 <= row < height:
                warped[y, x] = image[row, column]
    return warped


@pytest.mark.parametrize("shape", [(9, 9), (7, 12), (12, 7)])
def test_a_warp_takes_each_pixel_from_where_the_map_leads_to_it(shape):
    strong = Augmentation(rotation=80, shear=30, scale=(0.5, 2.0), shift=0.3)
    images = torch.rand(20, *shape, dtype=torch.float64)
    affine = Affine(*(values.double() for values in strong.draw(20, shape, generator())))
    expected = [
        by_pixels(image.numpy(), *(values[i].numpy() for values in affine))
        for i, image in enumerate(images)
    ]
    assert torch.equal(warp(images, affine), torch.as_tensor(np.stack(expected)))


def test_the_identity_changes_nothing():
    images = torch.rand(5, 8, 6)
    zeros, ones = torch.zeros(5), torch.ones(5)
    assert torch.equal(warp(images, Affine(zeros, zeros, ones, torch.zeros(5, 2))), images)


def test_a_shift_is_to_the_right_and_down_and_a_quarter_turn_clockwise():
    image = torch.arange(9.0).reshape(1, 3, 3) + 1
    zero, one = torch.zeros(1), torch.ones(1)
    shifted = warp(image, Affine(zero, zero, one, torch.tensor([[1.0, 0.0]])))
    assert shifted[0].tolist() == [[0, 1, 2], [0, 4, 5], [0, 7, 8]]
    shifted = warp(image, Affine(zero, zero, one, torch.tensor([[0.0, 2.0]])))
    assert shifted[0].tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 3]]
    turned = warp(image, Affine(one * math.pi / 2, zero, one, torch.zeros(1, 2)))
    assert torch.equal(turned[0], torch.rot90(image[0], -1))


def test_maps_are_drawn_uniformly_within_their_bounds():
    affine = Augmentation().draw(20_000, (28, 14), generator())
    bounds = [(affine.angle, 10.0), (affine.shear, 5.0)]
    for radians, bound in bounds:
        shares = (torch.rad2deg(radians).double() / bound + 1) / 2
        assert float(shares.min()) >= -1e-6
        assert float(shares.max()) <= 1 + 1e-6
        within_standard_errors(shares, 0.5)
        within_standard_errors(shares.square(), 1 / 3)
    shares = (affine.scale.double() - 0.8) / 0.4
    within_standard_errors(shares, 0.5)
    within_standard_errors(shares.square(), 1 / 3)
    # Along x at most 1.4 pixels of 14, rounded; along y 2.8 of 28.
    for shift, bound in zip(affine.shift.T, (1.4, 2.8), strict=True):
        for whole in range(-3, 4):
            length = min(bound, whole + 0.5) - max(-bound, whole - 0.5)
            within_standard_errors((shift == whole).double(), max(0.0, length) / (2 * bound))


def test_values_are_dequantised_uniformly_within_their_level_but_for_the_ends():
    levels = torch.tensor([0, 1, 100, 254, 255]).expand(20_000, 5)
    values = dequantised(levels / 255, generator()).double()
    assert (float(values.min()), float(values.max())) == pytest.approx((1e-3, 1 - 1e-3), abs=1e-7)
    noise = (256 * values - levels)[:, 1:4]
    assert float(noise.min()) >= -1e-4
    assert float(noise.max()) <= 1 + 1e-4
    within_standard_errors(noise, 0.5)
    within_standard_errors(noise.square(), 1 / 3)


def levels(count, seed=0):
    """Noise on the grid of 256 levels, which every warp changes."""
    return torch.randint(256, (count, 8, 8), generator=generator(seed)) / 255


def is_clean(rows, images):
    """Whether rows are images up to their dequantisation."""
    noise = 256 * rows - 255 * images.flatten(1)
    return ((noise > -1e-3) & (noise < 1 + 1e-3)).all(-1)


def test_half_of_the_images_of_every_version_are_warped_and_none_is_apart():
    images = levels(4_000)
    # Every scale moves the corners of 8 × 8 pixels, so no map is the identity.
    moving = Augmentation(scale=(0.7, 0.8))
    made = versions(images, moving, 4, seed=1, project=lambda flat: flat)
    assert made.shape == (4, 4_000, 64)
    clean = is_clean(made, images).double()
    within_standard_errors(clean.T, 0.5)
    # Independent between versions, too.
    within_standard_errors((clean[0] == clean[1]).double(), 0.5)


@pytest.mark.parametrize(("probability", "share"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_probability_may_be_none_or_all(probability, share):
    images = levels(200)
    moving = Augmentation(probability, scale=(0.7, 0.8))
    rows = versions(images, moving, 2, seed=0, project=lambda flat: flat)
    assert float(is_clean(rows, images).float().mean()) == share
    if not probability:
        assert torch.equal(augmented(images, moving, generator()), images)


def test_versions_are_functions_of_the_seed_and_projected():
    images, matrix = levels(50), torch.rand(64, 3)

    def made(number, seed):
        return versions(images, Augmentation(), number, seed, lambda flat: flat @ matrix)

    state = torch.get_rng_state()
    first = made(3, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(made(3, 0), first)
    # The first versions do not depend on their number.
    assert torch.equal(made(2, 0), first[:2])
    assert not torch.equal(made(3, 1), first)
    flat = versions(images, Augmentation(), 3, 0, lambda flat: flat)
    torch.testing.assert_close(first, flat @ matrix)
    with pytest.raises(ValueError, match="number must be 1 or more, got 0"):
        made(0, 0)
