import base64
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mimachine.reporting.html_image import drawing, pixels


def stored(picture):
    head, _, body = picture.source.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.mark.parametrize("shape", [(9, 71), (71, 71), (231, 231), (20, 30, 3), (1, 1)])
def test_pixels_are_stored_unchanged_and_enlarged_by_an_integer_factor(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    picture = pixels(image, "alt", "caption")
    assert np.array_equal(np.asarray(stored(picture)), image)
    assert picture.width % shape[1] == 0
    assert picture.width * shape[0] == picture.height * shape[1]
    assert 300 <= picture.width <= 600
    assert picture.kind == "pixels"


def test_more_pixels_than_a_page_shows_are_averaged():
    # Alternating columns of 0 and 200: at half the width, all are 100.
    image = np.tile(np.array([0, 200], dtype=np.uint8), (50, 800))
    picture = pixels(image, "alt", "caption")
    assert np.array_equal(np.asarray(stored(picture)), np.full((25, 800), 100))


def test_a_drawing_has_no_background_and_equal_drawings_are_equal_files():
    def drawn():
        figure = Figure(figsize=(3, 2))
        figure.subplots().plot([0, 1])
        return drawing(figure, "alt", "caption")

    picture = drawn()
    alpha = np.asarray(stored(picture))[..., 3]
    # Inside and outside of the axes there are only thin lines.
    assert (alpha == 0).mean() > 0.9
    assert alpha.max() == 255
    assert (picture.width, picture.height, picture.kind) == (300, 200, "ink")
    assert drawn() == picture
