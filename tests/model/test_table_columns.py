"""Columns are checked by themselves and together, and their numbers of parameters add up."""

import re

import pytest
from tablemodels import MIXED, spread

import mimachine as mm
from mimachine.model.table_columns import check_columns, parents_first

EDGES = {"edges": (-0.5, 0.5, 1.5), "scores": (-1.0, 0.0, 1.0)}
BAD_GRIDS = {
    "edges must be two or more strictly increasing numbers, got (0)": {"edges": (0,)},
    "edges must be two or more strictly increasing": {"edges": (-0.5, 0.5, 0.5)},
    "scores must be two or more strictly increasing": {"scores": (-1.0, 1.0, 0.0)},
    "scores must be one for each of 3 edges, got 2": {"scores": (-1.0, 1.0)},
    "edges must be": {"edges": (-0.5, float("nan"), 1.5)},
    "low must be a whole number of steps or None, got 0.5": {"low": 0.5},
    "high must be above low = 2, got 2": {"low": 2, "high": 2},
    "holes must be a share in [0, 1], got 1.5": {"holes": 1.5},
}
BAD_CHOICES = {
    "frequencies must be one or more numbers": {"frequencies": ()},
    "0 or more and not all 0, got (0, 0)": {"frequencies": (0, 0)},
    "0 or more and not all 0, got (1, -1)": {"frequencies": (1, -1)},
    "holes must be a share in [0, 1], got -0.1": {"holes": -0.1},
    "table must be empty without a parent": {"table": ((0, 0, 1),)},
    "parent must be 0 or more, got -1": {"parent": -1},
    "with levels below 2, got (0, 2, 1)": {"parent": 0, "table": ((0, 2, 1),)},
}


@pytest.mark.parametrize("message", BAD_GRIDS)
def test_a_grid_refuses_what_does_not_fit(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mm.Grid(**{**EDGES, **BAD_GRIDS[message]})


@pytest.mark.parametrize("message", BAD_CHOICES)
def test_a_choice_refuses_what_does_not_fit(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        mm.Choice(**{"frequencies": (1, 1), **BAD_CHOICES[message]})


def test_columns_that_do_not_fit_together_are_refused():
    pair, grid = mm.Choice((1, 1)), mm.Grid(**EDGES)
    with pytest.raises(ValueError, match="columns must be one or more, got none"):
        check_columns([])
    with pytest.raises(TypeError, match=r"columns\[1\] must be a Grid or a Choice, got 'b'"):
        check_columns([pair, "b"])
    for parent in (0, 1, 2):  # A grid, itself, and no column.
        with pytest.raises(ValueError, match=rf"columns\[1\]\.parent must be .* got {parent}"):
            check_columns([grid, mm.Choice((1, 1), parent=parent)])
    with pytest.raises(ValueError, match=r"columns\[1\]\.table must have levels .* below 2, got 2"):
        check_columns([pair, mm.Choice((1, 1), parent=0, table=((2, 0, 1),))])
    with pytest.raises(ValueError, match=r"columns\[0\]\.parent must not lead in a circle, got 1"):
        check_columns([mm.Choice((1, 1), parent=1), mm.Choice((1, 1), parent=0)])


def test_columns_with_a_parent_come_after_it():
    columns = [mm.Choice((1, 1), parent=parent) for parent in (2, None, 3, 1)]
    assert parents_first(columns) == [3, 2, 0]


def test_numbers_of_parameters_and_features_add_up_over_the_columns():
    # Three grids; levels 3 + 2 + 7; holes in three columns.
    assert mm.TableDecoder.num_outputs(MIXED) == 3 * 9 + 12 + 3
    assert mm.TableFeatures.num_features(MIXED) == 3 + 12 + 6
    assert mm.TableDecoder.num_outputs([mm.Grid(**spread(0, 3))]) == 9
