import threading

import pytest
import torch

from mimachine._support.process import exclusive, ignoring_warnings
from mimachine._support.seeds import derived_seed, forked, own_noise


def test_nested_blocks_restore_the_noise_of_the_outer_one():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with forked(1):
        first = torch.rand(2)
        with forked(2):
            torch.rand(5)
        second = torch.rand(2)
    assert torch.equal(before, torch.get_rng_state())
    with forked(1):
        assert torch.equal(torch.cat([first, second]), torch.rand(4))


def test_an_error_within_a_block_restores_the_generator_and_frees_the_lock():
    before = torch.get_rng_state()
    with pytest.raises(IndexError), forked(1), forked(2):
        torch.rand(1)[2]
    assert torch.equal(before, torch.get_rng_state())
    entered = threading.Event()

    def enter():
        with exclusive():
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(5)
    assert entered.is_set()


def test_blocks_of_threads_exclude_each_other():
    found, inside = {}, []

    def work(seed):
        with forked(seed):
            inside.append(seed)
            values = [torch.rand(1) for _ in range(50)]
            # No other thread entered in the meantime.
            assert inside[-1] == seed
            found[seed] = torch.cat(values)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        with forked(seed):
            assert torch.equal(found[seed], torch.rand(50))


def test_own_noise_is_that_of_its_seed_or_continues_the_callers_block():
    def drawn(seed):
        with own_noise(seed, "test"):
            return torch.rand(3)

    assert torch.equal(drawn(None), drawn(0))
    with forked(derived_seed(0, "test")):
        assert torch.equal(drawn(0), torch.rand(3))
        assert not torch.equal(drawn(None), drawn(None))


def test_filters_of_warnings_are_restored():
    import warnings

    before = list(warnings.filters)
    with ignoring_warnings(UserWarning):
        warnings.warn("not seen", UserWarning, stacklevel=1)
    assert list(warnings.filters) == before
