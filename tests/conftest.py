"""Every test starts from a seed made of its own name, so Monte Carlo comparisons cannot flake."""

import functools
import zlib

import numpy as np
import pytest
import smallsets
import torch

# Its assertions are explained like those of tests.
pytest.register_assert_rewrite("tablefiles")

# Models here are small; threads that wait for each other on a busy machine only cost time.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded(request):
    torch.manual_seed(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def small_sets():
    with smallsets.patched():
        yield


@pytest.fixture(scope="module")
def few_trees():
    """Let the classifier that compares generated with real data have 10 trees, instead of 100.

    It takes most of the time of measuring a small model, also where no test asks for its numbers.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    small = functools.partial(HistGradientBoostingClassifier, max_iter=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.ensemble.HistGradientBoostingClassifier", small)
        yield


_FIRST_STATES = {}


@pytest.fixture(autouse=True)
def _same_draws(request):
    """Generators of a test's module begin anew, so that no test depends on those before it."""
    module = getattr(request.node, "module", None)
    for name in ("DICE", "RNG"):
        generator = getattr(module, name, None)
        if isinstance(generator, np.random.Generator):
            place = module.__name__, name
            first = _FIRST_STATES.setdefault(place, generator.bit_generator.state)
            generator.bit_generator.state = first
