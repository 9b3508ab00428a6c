import numpy as np
import pytest
import torch

from mimachine.estimation.codes import nearest as euclidean
from mimachine.estimation.codes.nearest import nearest, nearest_others


def all_pairs(points, queries, k):
    """The k nearest by a loop over queries; of equals the first."""
    points, queries = points.double(), queries.double()
    return torch.stack(
        [(points - q).square().sum(1).sort(stable=True).indices[:k] for q in queries]
    )


KINDS = {
    "normal": lambda n, d: torch.randn(n, d),
    "a grid": lambda n, d: torch.randint(0, 3, (n, d)).float(),
    "one point": lambda n, d: torch.full((n, d), 3.0),
    "two far clusters": lambda n, d: (
        1e6 * torch.randint(0, 2, (n, 1)) + 0.01 * torch.randn(n, d, dtype=torch.float64)
    ),
    "a fine grid with an offset": lambda n, d: 1e5 + 1e-3 * torch.randint(0, 5, (n, d)),
    "columns of other sizes": lambda n, d: torch.randn(n, d).double() * 10.0 ** torch.arange(d),
}


@pytest.mark.parametrize("dimensions", [1, 6, 7, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_those_of_all_pairs_in_float64(kind, dimensions):
    points, queries = KINDS[kind](200, dimensions), KINDS[kind](40, dimensions)
    for k in (1, 5, 199, 200):
        assert torch.equal(nearest(points, queries, k), all_pairs(points, queries, k))


@pytest.mark.parametrize("kind", KINDS)
def test_the_others_are_all_but_the_point_itself(kind):
    points = KINDS[kind](60, 3)
    expected = [
        [other for other in row if other != point][:4]
        for point, row in enumerate(all_pairs(points, points, 60).tolist())
    ]
    assert nearest_others(points, 4).tolist() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_of_a_gpu_gives_the_same(kind, monkeypatch):
    points, queries = KINDS[kind](200, 9), KINDS[kind](40, 9)
    expected = nearest(points, queries, 5)

    def by_products(points, queries, count):
        found = euclidean._squares_of_products(queries, points).topk(count, largest=False)
        return euclidean._Candidates(found.indices, found.values.amax(1))

    monkeypatch.setattr(euclidean, "_by_scikit_learn", by_products)
    assert torch.equal(nearest(points, queries, 5), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_same(kind):
    points, queries = KINDS[kind](500, 9), KINDS[kind](40, 9)
    found = nearest(points.cuda(), queries.cuda(), 5)
    assert found.is_cuda
    assert torch.equal(found.cpu(), nearest(points, queries, 5))


def test_points_of_any_shape_and_type_are_compared():
    points = torch.randint(0, 255, (50, 4, 5), dtype=torch.uint8)
    expected = all_pairs(points.flatten(1), points.flatten(1), 3)
    assert torch.equal(nearest(points, points, 3), expected)
    assert np.array_equal(nearest(points, points, 1)[:, 0], np.arange(50))
