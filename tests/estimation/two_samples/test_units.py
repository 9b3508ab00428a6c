import pytest
import torch

import mimachine as mm
from mimachine.estimation.two_samples.units import in_units_of


def test_a_column_that_is_constant_in_the_reference_keeps_its_unit():
    x, y = torch.randn(60, 2).double(), torch.randn(50, 2).double()
    y[:, 1] = 5.0
    scaled = in_units_of(x, y, True)
    assert not scaled.on_units[:, 1].any()
    ratio = (scaled.x[0, 1] - scaled.x[1, 1]) / (scaled.x[0, 0] - scaled.x[1, 0])
    expected = (x[0, 1] - x[1, 1]) / (x[0, 0] - x[1, 0]) * y[:, 0].std(correction=0)
    torch.testing.assert_close(ratio, expected)


def test_what_cannot_be_compared_is_refused_by_name():
    z = torch.randn(20, 2)
    for function, least in ((mm.energy_distance, 2), (mm.two_sample_auc, 10)):
        with pytest.raises(ValueError, match=r"y must have rows of the size of x's, \(2,\), got "):
            function(z, torch.randn(20, 3))
        with pytest.raises(ValueError, match=f"x must have {least} rows or more, got 1"):
            function(z[:1], z)
        with pytest.raises(ValueError, match=f"y must have {least} rows or more, got 1"):
            function(z, z[:1])
        with pytest.raises(ValueError, match="y must be finite"):
            function(z, z / 0)
    with pytest.raises(ValueError, match="y must vary, got 20 rows that are all the same"):
        mm.energy_distance(z, torch.ones(20, 2))
    with pytest.raises(ValueError, match="most must be 10 or more, got 9"):
        mm.two_sample_auc(z, z, most=9)
