from dataclasses import replace

import numpy as np
import pytest
import torch

from mimachine.data import dataset
from mimachine.reporting import figures

GREY = dataset.Dataset(
    "grey", torch.zeros(1, 6), torch.zeros(1, 6), torch.zeros(1, 6), image_shape=(1, 2, 3)
)


@pytest.mark.parametrize("ink", [True, False])
def test_a_grid_contains_every_image_between_lines(ink):
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


def test_values_out_of_range_are_clipped_and_nan_is_grey():
    values = torch.tensor([[-1.0, 2.0, torch.nan, 0.0, 1.0, 0.5]])
    grid = figures.image_grid(values, replace(GREY, ink=False))
    assert grid[:2, :3].tolist() == [[0, 255, 128], [0, 255, 128]]


def test_data_that_are_not_images_have_no_grid():
    with pytest.raises(ValueError, match="grey does not consist of images"):
        figures.image_grid(torch.zeros(1, 6), replace(GREY, image_shape=None))


def test_classes_differ_by_shape_and_not_by_colour_alone():
    count = 20
    points = np.random.default_rng(0).normal(size=(2 * count, 2))
    drawn = figures.code_scatter(points, np.repeat(np.arange(count), 2), ("", ""), "")
    scatters = drawn.axes[0].collections
    looks = {(s.get_paths()[0].vertices.tobytes(), s.get_facecolor().tobytes()) for s in scatters}
    assert len(looks) == count
    assert [text.get_text() for text in drawn.axes[0].texts] == [str(i) for i in range(count)]
    ten = figures.code_scatter(np.zeros((10, 2)), np.arange(10), ("", ""), "")
    shapes = {s.get_paths()[0].vertices.tobytes() for s in ten.axes[0].collections}
    assert len(shapes) == 10
    (legend,) = ten.legends
    assert [text.get_text() for text in legend.get_texts()] == [str(i) for i in range(10)]


def test_classes_are_called_by_their_names():
    names = ("first", "a $name$ that goes on and on", "third")
    drawn = figures.code_scatter(np.zeros((3, 2)), np.array([0, 1, 1]), ("", ""), "", names)
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["first", "a \\$name\\$ that goes …"]
    assert [text.get_text() for text in drawn.axes[0].texts] == ["first", "a \\$name\\$ …"]


def test_names_fit_if_the_font_has_their_letters_and_the_legend_room():
    assert figures.fits(["Adélie", "x" * 100])
    assert figures.fits([str(i) for i in range(20)])
    assert not figures.fits(["cat", "猫"])
    assert not figures.fits(["a name of many letters"] * 7)


def test_a_histogram_shows_shares_of_all_values_in_and_out_of_its_bins():
    column = np.array([0.5, 0.5, 1.5, 9.0])
    samples = np.array([1.5, np.nan, np.inf, 1.5, -5.0])
    drawn = figures.histogram(column, {"one": samples, "two": column}, np.array([0.0, 1.0, 2.0]))
    filled, *lines = drawn.axes[0].patches
    assert filled.get_data().values.tolist() == [0.5, 0.25]
    assert [line.get_data().values.tolist() for line in lines] == [[0.0, 0.4], [0.5, 0.25]]
    # Distinguishable without colours.
    assert len({str(line.get_linestyle()) for line in lines}) == 2
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["test data", "one", "two"]
