"""Every test starts from a seed made of its own name, so Monte Carlo comparisons cannot flake."""

import zlib

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
