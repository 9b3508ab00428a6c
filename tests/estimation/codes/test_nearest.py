import numpy as np
import pytest
import torch

from mimachine.estimation.codes import nearest as module
from mimachine.estimation.codes.nearest import nearest, nearest_others


def all_pairs(points, queries, k):
    """The k nearest by a loop over queries; the smaller index wins a tie."""
    points, queries = points.flatten(1).double(), queries.flatten(1).double()
    return torch.stack(
        [(points - q).square().sum(1).sort(stable=True).indices[:k] for q in queries]
    )


def squares(points, queries, found):
    return (points.double()[found] - queries.double()[:, None]).square().sum(2)


KINDS = {
    "normal": lambda n, d: torch.randn(n, d),
    "two far clusters": lambda n, d: (
        1e4 * torch.randint(0, 2, (n, 1)) + 0.01 * torch.randn(n, d, dtype=torch.float64)
    ),
    "a large offset": lambda n, d: 1e8 + torch.randn(n, d, dtype=torch.float64),
    "columns of other sizes": lambda n, d: torch.randn(n, d).double() * 10.0 ** torch.arange(d),
}
TIED = {
    "a grid": lambda n, d: torch.randint(0, 3, (n, d)).float(),
    "one point": lambda n, d: torch.full((n, d), 3.0),
    "a fine grid with an offset": lambda n, d: 1e5 + 1e-3 * torch.randint(0, 5, (n, d)),
    "bits": lambda n, d: torch.randint(0, 2, (n, d)).float(),
    "every point 7 times": lambda n, d: torch.randn(n // 7 + 1, d).repeat(7, 1)[:n],
}


@pytest.fixture(params=["scikit-learn", "all pairs", "products"])
def search(request, monkeypatch):
    """Run a test also with the search of a GPU, and with that among many points."""
    if request.param == "products":
        monkeypatch.setattr(module, "_MANY", 1)
        monkeypatch.setattr(module, "_BLOCK", 4)
    if request.param == "all pairs":
        monkeypatch.setattr(module, "_by_scikit_learn", module._by_all_pairs)


@pytest.mark.parametrize("dimensions", [1, 6, 7, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_without_ties_are_those_of_all_pairs(search, kind, dimensions):
    points, queries = KINDS[kind](200, dimensions), KINDS[kind](40, dimensions)
    for k in (1, 5, 199, 200):
        assert torch.equal(nearest(points, queries, k), all_pairs(points, queries, k))


@pytest.mark.parametrize("dimensions", [1, 6, 7, 30])
@pytest.mark.parametrize("kind", TIED)
def test_tied_neighbours_are_as_near_as_those_of_all_pairs_and_in_order(search, kind, dimensions):
    points, queries = TIED[kind](200, dimensions), TIED[kind](40, dimensions)
    for k in (1, 5, 200):
        found = nearest(points, queries, k)
        distances = squares(points, queries, found)
        expected = squares(points, queries, all_pairs(points, queries, k))
        assert torch.equal(distances, expected)
        assert (found.diff(dim=1) > 0)[distances.diff(dim=1) == 0].all()
        assert torch.equal(nearest(points, queries, k), found)


@pytest.mark.parametrize("dimensions", [2, 30])
def test_the_smaller_index_wins_ties_among_up_to_16_more_whatever_the_order_of_queries(
    search, dimensions
):
    points = torch.randint(0, 9, (20, dimensions)).repeat(8, 1)
    points = points[torch.randperm(len(points))]
    queries = points[:50] + 0.25 * torch.randn(50, dimensions)
    found = nearest(points, queries, 3)
    assert torch.equal(found, all_pairs(points, queries, 3))
    order = torch.randperm(50)
    assert torch.equal(nearest(points, queries[order], 3), found[order])
    assert torch.equal(torch.cat([nearest(points, q[None], 3) for q in queries]), found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_others_are_all_but_the_point_itself(kind):
    points = KINDS[kind](60, 3)
    expected = [
        [other for other in row if other != point][:4]
        for point, row in enumerate(all_pairs(points, points, 60).tolist())
    ]
    assert nearest_others(points, 4).tolist() == expected


@pytest.mark.parametrize("kind", TIED)
def test_no_point_is_among_its_others_though_many_coincide(kind):
    points = TIED[kind](60, 3)
    found = nearest_others(points, 4)
    assert found.shape == (60, 4)
    assert (found != torch.arange(60)[:, None]).all()
    with_itself = squares(points, points, all_pairs(points, points, 5))
    assert torch.equal(squares(points, points, found), with_itself[:, 1:])


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
    assert torch.equal(nearest(points, points, 3), all_pairs(points, points, 3))
    assert np.array_equal(nearest(points, points, 1)[:, 0], np.arange(50))
