"""Every test starts from a seed made of its own name, so Monte Carlo comparisons cannot flake."""

import functools
import zlib
from dataclasses import replace

import pytest
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
def small_sets(monkeypatch):
    """Let mixture-2d have 600 points in each split, and digits 300 rows in all, 100 in each.

    Most of the time of a short training goes into measuring the model on all of them.
    """
    from mimachine.data import bundled

    digits = bundled.digits()
    splits = {name: getattr(digits, name)[:100] for name in ("train", "val", "test")}
    labels = {f"{name}_labels": getattr(digits, f"{name}_labels")[:100] for name in splits}
    small_digits = replace(digits, **splits, **labels)
    monkeypatch.setattr(bundled, "digits", lambda: small_digits)
    monkeypatch.setattr(bundled, "mixture_2d", functools.partial(bundled.mixture_2d, 600))


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
