from dataclasses import replace

import numpy as np
import pytest
import torch

from mimachine import datasets, figures

GREY = datasets.Dataset(
    "grey", torch.zeros(1, 6), torch.zeros(1, 6), torch.zeros(1, 6), image_shape=(1, 2, 3)
)


@pytest.mark.parametrize("ink", [True, False])
def test_a_grid_has_every_image_in_its_place_between_lines(ink):
    images = torch.rand(5, 6)
    grid = figures.image_grid(images, replace(GREY, ink=ink), columns=2)
    assert grid.shape == (3 * 3 - 1, 2 * 4 - 1)
    assert grid.dtype == np.uint8
    for i, image in enumerate(images.reshape(5, 2, 3).numpy()):
        top, left = 3 * (i // 2), 4 * (i % 2)
        shown = grid[top : top + 2, left : left + 3] / 255
        # Bytes are off by half a step at most.
        assert np.abs(shown - (1 - image if ink else image)).max() <= 0.5 / 255 + 1e-6
    assert set(grid[2].tolist()) == set(grid[:, 3].tolist()) == {128}


def test_colours_keep_their_channels_and_transparency_is_left_out():
    colour = replace(GREY, image_shape=(4, 1, 1))
    assert figures.image_grid(torch.tensor([[1.0, 0.0, 0.2, 0.7]]), colour).tolist()[0][0] == [
        255,
        0,
        51,
    ]


def test_values_outside_and_numbers_that_are_none_are_shown_as_the_nearest_or_as_grey():
    values = torch.tensor([[-1.0, 2.0, torch.nan, 0.0, 1.0, 0.5]])
    grid = figures.image_grid(values, replace(GREY, ink=False))
    assert grid[:2, :3].tolist() == [[0, 255, 128], [0, 255, 128]]


def test_data_that_are_no_images_have_no_grid():
    with pytest.raises(ValueError, match="grey does not consist of images"):
        figures.image_grid(torch.zeros(1, 6), replace(GREY, image_shape=None))
