"""The diagram of the two factorisations: its arrows and its text."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyArrowPatch

from mimachine.reporting.diagram import factorisations


@pytest.fixture(scope="module")
def figure():
    figure = factorisations()
    FigureCanvasAgg(figure).draw()
    return figure


def arrows(axis):
    """Start and end node of each arrow, "" for no node, and its line style."""
    nodes = {"x": (0.0, 0.0), "z": (0.0, 1.5)}

    def node(place):
        near = [
            name
            for name, (x, y) in nodes.items()
            if (place[0] - x) ** 2 + (place[1] - y) ** 2 < 0.4**2
        ]
        return "".join(near)

    patches = [patch for patch in axis.patches if isinstance(patch, FancyArrowPatch)]
    ends = [patch._posA_posB for patch in patches]
    return sorted(
        (node(a), node(b), patch.get_linestyle())
        for (a, b), patch in zip(ends, patches, strict=True)
    )


def test_arrows_are_those_of_the_factorisations_and_of_the_samples(figure):
    encoding, decoding, samples = figure.axes
    assert arrows(encoding) == [("", "x", "-"), ("", "x", "--"), ("x", "z", "-")]
    assert arrows(decoding) == [("", "z", "-"), ("", "z", "--"), ("z", "x", "-")]
    assert arrows(samples) == [("", "x", "-"), ("", "z", "-"), ("x", "z", "-"), ("z", "x", "-")]


def test_each_panel_names_its_parts_and_no_text_is_clipped_or_overlaps_another(figure):
    named = [
        {"$P(x)$", "$q(x)$", "$q(z|x)$"},
        {"$P(z)$", "$p(z)$", "$p(x|z)$"},
        {"$P(x)$", "$P(z)$", "$q(z|x)$", "$p(x|z)$"},
    ]
    boxes = []
    for axis, names in zip(figure.axes, named, strict=True):
        assert names <= {text.get_text() for text in axis.texts}
        circles = [patch.get_window_extent() for patch in axis.patches if isinstance(patch, Circle)]
        assert len(circles) == 2
        for text in axis.texts:
            box = text.get_window_extent()
            assert figure.bbox.contains(box.x0, box.y0), text
            assert figure.bbox.contains(box.x1, box.y1), text
            # The nodes' own letters lie in them.
            if text.get_text() not in ("$x$", "$z$"):
                assert not any(box.overlaps(other) for other in [*boxes, *circles]), text
                boxes.append(box)
