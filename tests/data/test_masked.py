"""Rows of which random values are hidden: in their share, anew in each epoch, reproducibly."""

import pytest
import torch
from oracles import within_standard_errors

import mimachine as mm
from mimachine.data.masked import Masked

ROWS = torch.arange(4_000, dtype=torch.float32).reshape(400, 10)
UNIFORM = torch.rand(400, 10, generator=torch.Generator().manual_seed(1))
HOLES = ROWS.masked_fill(UNIFORM < 0.2, torch.nan)


def masked(seed=0, rows=HOLES, shuffle=True):
    return Masked(mm.TensorSource(rows, seed, shuffle, missing=True), seed)


def epoch(source, number=1, batch_size=64):
    return torch.cat(list(source.batches(batch_size, number)))


def same(one, other):
    return torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


def test_an_epoch_is_a_function_of_seed_and_number():
    expected = epoch(masked(), 3)
    source = masked()
    for number in (1, 3, 2):
        torch.manual_seed(number)
        assert same(epoch(source, number), expected) == (number == 3)
    assert not same(epoch(masked(seed=1), 3), expected)


@pytest.mark.parametrize("columns", [1, 3, 10])
def test_the_rows_of_an_epoch_do_not_depend_on_the_batch_size(columns):
    source = masked(rows=HOLES[:, :columns])
    assert same(epoch(source, batch_size=7), epoch(source, batch_size=400))


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    epoch(masked())
    assert torch.equal(torch.get_rng_state(), state)


def test_values_that_are_not_hidden_and_holes_stay_in_the_order_of_the_source():
    source = masked(seed=4)
    found, given = epoch(source, 2), epoch(source.source, 2)
    assert len(source) == 400
    assert torch.equal(found.isnan(), given.isnan())
    assert same(torch.where(found.isinf(), given, found), given)
    assert not (given.isinf()).any()


def test_each_row_hides_a_share_that_is_uniform_up_to_a_half():
    rows = torch.zeros(20_000, 200)
    share = epoch(masked(rows=rows), batch_size=1_000).isinf().double().mean(1)
    within_standard_errors(share, 1 / 4)
    # A uniform share s gives the moments E[s] = 1/4 and E[s²] = 1/12, and a binomial adds
    # E[s (1 - s)] / 200.
    within_standard_errors(share.square(), 1 / 12 + (1 / 4 - 1 / 12) / 200)
    within_standard_errors((share < 0.125).double(), 1 / 4, errors=12)


def test_values_are_hidden_independently_between_epochs_and_columns():
    rows = torch.zeros(20_000, 2)
    first, second = (epoch(masked(rows=rows), number).isinf().double() for number in (1, 2))
    within_standard_errors(first[:, 0] * second[:, 0], 1 / 16)
    # Of one row: E[s²].
    within_standard_errors(first[:, 0] * first[:, 1], 1 / 12)


def test_something_else_than_a_source_is_refused():
    with pytest.raises(TypeError, match="source must be a source of batches"):
        Masked(ROWS)
    with pytest.raises(ValueError, match="seed must be a whole number"):
        Masked(mm.TensorSource(ROWS), 0.5)
