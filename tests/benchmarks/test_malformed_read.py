"""Malformed tables are read as data sets, or refused in one line that names the file and place."""

import warnings

import numpy as np
import pytest
from tables.malformed import malformed

from mimachine.data.tables.infer import infer
from mimachine.data.tables.load import load_table
from mimachine.data.tables.read import read_frame
from mimachine.data.tables.rows import decode, encode

# Nothing can be learned from a table whose columns are all constant.
ALL_ALIKE = "rows that are all alike"
# Of the many cases a third is tried in the fast suite.
_EVERY = 3
CASES = [
    pytest.param(
        case,
        id=case.name,
        marks=[pytest.mark.slow] * (index % _EVERY != 0 or case.name.startswith("5,000")),
    )
    for index, case in enumerate(malformed())
    if case.name != ALL_ALIKE
]


def loaded(case, folder):
    """Rows of a case, and a table of them."""
    if case.is_file:
        data = load_table(case.write(folder))
        rows = data.train
        return rows.numpy(), data.table(rows), data.schema
    frame = read_frame(case.content())
    schema, _ = infer(frame, np.arange(len(frame.data)))
    rows, _ = encode(frame, schema)
    return rows, decode(rows, schema), schema


@pytest.mark.parametrize("case", CASES)
def test_a_malformed_table_is_read_or_refused(case, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            rows, table, schema = loaded(case, tmp_path)
        except ValueError as error:
            message = str(error)
            assert case.error is not False, message
            assert "\n" not in message
            assert "table" in message or not case.is_file
            assert all(word.lower() in message.lower() for word in case.words), message
            return
    assert not case.error
    assert rows.shape == (len(table), len(schema.modelled))
    assert not np.isinf(rows).any()
    assert set(table.columns) <= set(schema.kinds())
    assert rows.shape[1] >= 1


def test_a_table_without_variation_is_refused(tmp_path):
    (case,) = (case for case in malformed() if case.name == ALL_ALIKE)
    with pytest.raises(ValueError, match=r"table\.csv has no column that can be modelled: age"):
        loaded(case, tmp_path)
