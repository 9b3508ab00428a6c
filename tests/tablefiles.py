"""Write tables to files, and compare what is read back."""

import csv

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mimachine.data.files.read_table import read_table

quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
finite = st.floats(allow_nan=False, allow_infinity=False)
tables = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=finite,
)


def write(path, text, **kwargs):
    path.write_text(text, newline="", **kwargs)
    return path


def write_table(path, values, names=None, delimiter=",", quoting=csv.QUOTE_MINIMAL):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=quoting)
        if names is not None:
            writer.writerow(names)
        writer.writerows(values)
    return path


def same(found, expected):
    """Equal bit for bit, in type and in layout."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.flags.c_contiguous
    assert np.asarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()


def message(path, **kwargs):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_table(path, **kwargs)
    return str(caught.value)
