"""Data sources: each epoch is a function of the seed and its number alone."""

import gc
import types

import pytest
import torch
from oracles import within_standard_errors
from torch.distributions import Independent, Normal, Uniform

import mimachine as mm
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.sources import as_bytes


def numbered(num, width=2):
    return torch.arange(num * width, dtype=torch.float32).reshape(num, width)


def epoch(source, number=1, batch_size=4):
    return torch.cat(list(source.batches(batch_size, number)))


def fresh(num=50, seed=0):
    return mm.FreshDraws(Independent(Normal(torch.zeros(3), torch.ones(3)), 1), num, seed)


def grey(seed=0, data_seed=0):
    return mm.Binarized(mm.TensorSource(torch.full((50, 3), 0.3), data_seed), seed)


def varied(seed=0, num=50, number=3):
    """Versions of rows: the first value is the example, the second the version."""
    data = torch.arange(num, dtype=torch.float32).expand(number, num)
    version = torch.arange(number, dtype=torch.float32)[:, None].expand(number, num)
    return mm.Versions(torch.stack([data, version], dim=2), seed)


MAKERS = [
    lambda seed=0: mm.TensorSource(numbered(50), seed),
    lambda seed=0: fresh(seed=seed),
    grey,
    varied,
]
names = ["tensor", "draws", "binarized", "versions"]
every_source = pytest.mark.parametrize("make", MAKERS, ids=names)


@pytest.mark.parametrize(("num", "batch_size"), [(1, 4), (8, 4), (10, 4), (3, 100)])
def test_every_datum_comes_once_an_epoch(num, batch_size):
    source = mm.TensorSource(numbered(num))
    for number in range(1, 4):
        rows = epoch(source, number, batch_size)
        assert torch.equal(rows[rows[:, 0].argsort()], source.data)


@every_source
@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
def test_batches_are_full_but_for_the_last(make, batch_size):
    source = make()
    sizes = [len(batch) for batch in source.batches(batch_size, 1)]
    assert sum(sizes) == len(source) == 50
    assert all(size == batch_size for size in sizes[:-1])
    assert 1 <= sizes[-1] <= batch_size


@every_source
def test_an_epoch_is_a_function_of_seed_and_number(make):
    expected = epoch(make(), 3)
    source = make()
    for number in (1, 3, 2):
        torch.randn(5)
        torch.manual_seed(number)
        assert torch.equal(epoch(source, number), expected) == (number == 3)
    assert not torch.equal(epoch(make(seed=1), 3), expected)


@every_source
def test_the_rows_of_an_epoch_do_not_depend_on_the_batch_size(make):
    assert torch.equal(epoch(make(), batch_size=4), epoch(make(), batch_size=50))


@every_source
def test_the_global_generator_is_left_alone(make):
    state = torch.get_rng_state()
    for batch in make().batches(4, 1):
        # Not even between batches, where training draws its own noise.
        assert torch.equal(torch.get_rng_state(), state), len(batch)
    assert torch.equal(torch.get_rng_state(), state)


def test_two_epochs_may_be_read_side_by_side():
    uniform = Independent(Uniform(torch.zeros(3), torch.ones(3)), 1)
    for source in (mm.Binarized(mm.FreshDraws(uniform, 50)), mm.TensorSource(numbered(50))):
        pairs = zip(source.batches(4, 1), source.batches(4, 2), strict=True)
        for number, batches in enumerate(zip(*pairs, strict=True), start=1):
            assert torch.equal(torch.cat(batches), epoch(source, number))


def test_orders_are_shuffles_of_all_rows_with_equal_chance():
    source = mm.TensorSource(numbered(4, 1))
    firsts = torch.stack([next(source.batches(1, number))[0, 0] for number in range(2_000)])
    for row in range(4):
        within_standard_errors((firsts == row).double(), 0.25)


@pytest.mark.parametrize("batch_size", [4, 50])
def test_one_version_of_every_datum_comes_once_an_epoch(batch_size):
    for number in range(1, 4):
        rows = epoch(varied(), number, batch_size)
        assert sorted(rows[:, 0].tolist()) == list(range(50))
        assert set(rows[:, 1].tolist()) == {0, 1, 2}


def test_versions_are_chosen_with_equal_chance_for_each_datum_and_epoch():
    source = varied(num=4_000)
    first, second = (rows[rows[:, 0].argsort(), 1] for rows in (epoch(source, n) for n in (1, 2)))
    for version in range(3):
        within_standard_errors((first == version).double(), 1 / 3)
    within_standard_errors((first == second).double(), 1 / 3)
    # The choice is independent of the position in the epoch.
    order = epoch(source, 1)
    within_standard_errors((order[:-1, 1] == order[1:, 1]).double(), 1 / 3)


def test_without_shuffling_rows_keep_their_order():
    source = mm.TensorSource(numbered(10), shuffle=False)
    assert torch.equal(epoch(source, 1), source.data)
    assert torch.equal(epoch(source, 2), source.data)


def test_fresh_draws_come_from_their_distribution():
    draws = epoch(fresh(10_000), batch_size=10_000).double()
    within_standard_errors(draws, 0.0)
    within_standard_errors(draws.square(), 1.0)


def test_fresh_draws_are_all_different():
    source = fresh()
    rows = torch.cat([epoch(source, number) for number in range(1, 5)])
    assert len(rows.unique(dim=0)) == 200


def test_binarised_values_have_the_values_as_means():
    grey = torch.tensor([0.0, 0.2, 0.5, 1.0]).expand(10_000, 4)
    binary = epoch(mm.Binarized(mm.TensorSource(grey)), batch_size=999)
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    within_standard_errors(binary.double(), torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64))


def test_binarisation_is_independent_between_batches_and_epochs():
    source = mm.Binarized(mm.TensorSource(torch.full((2_000, 8), 0.5), shuffle=False))
    first, second = epoch(source, 1, 1_000), epoch(source, 2, 1_000)
    agree = (first == second).double()
    within_standard_errors(agree, 0.5)
    within_standard_errors((first[:1_000] == first[1_000:]).double(), 0.5)


def test_binarisation_keeps_the_order_of_its_source():
    data = (numbered(20, 1) % 2).expand(20, 3)
    source = mm.TensorSource(data, seed=4)
    assert torch.equal(epoch(mm.Binarized(source), 2), epoch(source, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_give_the_batches_and_draws_of_the_values_they_stand_for(dtype):
    levels = torch.arange(256, dtype=torch.uint8).reshape(64, 4)
    values = levels.to(dtype).div_(255)
    assert torch.equal(as_bytes(values), levels)
    of_bytes, of_values = mm.TensorSource(levels, 3, dtype=dtype), mm.TensorSource(values, 3)
    for number in (1, 2):
        assert torch.equal(epoch(of_bytes, number), epoch(of_values, number))
        draws = [epoch(mm.Binarized(source, 5), number) for source in (of_bytes, of_values)]
        assert torch.equal(*draws)
        assert draws[0].dtype == dtype
    kept = mm.TensorSource(levels, shuffle=False, dtype=dtype)
    assert torch.equal(epoch(kept), values)
    assert of_bytes.data.element_size() == 1


@pytest.mark.parametrize("value", [0.5, -1 / 255, 256 / 255, float("nan"), float("inf")])
def test_values_off_the_grid_are_no_bytes(value):
    with pytest.raises(
        ValueError, match=f"data must be k / 255 with k from 0 to 255, got {value:g}"
    ):
        as_bytes(torch.tensor([0.0, 0.2, value]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mm.TensorSource(torch.zeros(5)), r"data must have shape .*\(5,\)"),
        (lambda: mm.TensorSource(torch.zeros(0, 5)), r"data must have shape .*\(0, 5\)"),
        (lambda: mm.TensorSource(torch.zeros(5, 2) * 1j), "data must be of real numbers"),
        (lambda: mm.Versions(torch.zeros(5, 2)), r"versions must have shape .*\(5, 2\)"),
        (lambda: mm.Versions(torch.zeros(0, 5, 2)), r"versions must have shape .*\(0, 5, 2\)"),
        (lambda: mm.Versions(torch.zeros(3, 5, 2) * 1j), "versions must be of real numbers"),
        (lambda: fresh(0), "num_data must be 1 or more, got 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sources_reject_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_seeds_differ_by_purpose():
    purposes = [(), ("a",), ("b",), ("a", 1), ("a", 2), (1, "a"), ("a1",), ("1",), (1,)]
    seeds = {derived_seed(seed, *purpose) for seed in range(3) for purpose in purposes}
    assert len(seeds) == 3 * len(purposes)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_forked_noise_is_seeded_and_leaves_no_trace():
    state = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with forked(7):
            draws.append(torch.randn(3))

    def fail():
        with forked(7):
            draws.append(torch.randn(3))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0], torch.randn(3, generator=torch.Generator().manual_seed(7)))


def test_an_epoch_does_not_hold_all_of_its_batches_at_once():
    batches = mm.TensorSource(torch.zeros(3000, 2)).batches(1, 1)
    next(batches)
    assert sum(isinstance(each, torch.Tensor) for each in _reachable(batches)) < 20


def _reachable(start, depth=6):
    found, level = {}, [start]
    for _ in range(depth):
        level = [each for each in gc.get_referents(*level) if id(each) not in found]
        level = [each for each in level if not isinstance(each, type | types.ModuleType)]
        found.update({id(each): each for each in level})
    return found.values()
