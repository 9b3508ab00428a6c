import pytest
import torch
from oracles import generator, normals

from mimachine.data.subspace import principal_residuals, principal_subspace


def spread(count=400, seed=0):
    """Data of 6 values around a mean far from zero, with variances that differ."""
    scales = torch.tensor([0.1, 3.0, 0.2, 2.0, 0.1, 1.0])
    turn = torch.linalg.qr(normals(6, 6, seed=generator(7)).float()).Q
    return (normals(count, 6, seed=generator(seed)).float() * scales) @ turn + 10


def test_components_are_the_leading_eigenvectors_of_the_covariance():
    data = spread()
    subspace = principal_subspace(data, 3)
    values, vectors = torch.linalg.eigh(data.double().T.cov())
    leading = vectors.T.flip(0)[:3].float()
    torch.testing.assert_close((subspace.basis * leading).sum(1).abs(), torch.ones(3))
    assert subspace.explained == pytest.approx(float(values.flip(0)[:3].sum() / values.sum()))
    torch.testing.assert_close(subspace.mean, data.mean(0))
    torch.testing.assert_close(
        subspace.project(data).double().var(0), values.flip(0)[:3], rtol=1e-5, atol=0
    )


def test_coordinates_come_back_and_what_is_lost_is_orthogonal():
    data = spread()
    subspace = principal_subspace(data, 3)
    coordinates = subspace.project(data)
    nearest = subspace.reconstruct(coordinates)
    torch.testing.assert_close(subspace.project(nearest), coordinates, rtol=0, atol=1e-5)
    lost = (data - nearest) @ subspace.basis.T
    torch.testing.assert_close(lost, torch.zeros_like(lost), rtol=0, atol=1e-5)
    share = (data - nearest).var(0).sum() / data.var(0).sum()
    assert float(share) == pytest.approx(1 - subspace.explained, rel=1e-4)


def test_the_largest_entry_of_a_component_is_positive_whichever_way_the_data_lie():
    data = spread()
    for mirrored in (data, 20 - data):
        basis = principal_subspace(mirrored, 6).basis
        assert (basis.gather(1, basis.abs().argmax(1, keepdim=True)) > 0).all()
        torch.testing.assert_close(basis, principal_subspace(data, 6).basis, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_dimensions", [0, 7])
def test_more_components_than_values_are_refused(num_dimensions):
    with pytest.raises(
        ValueError, match=rf"got num_dimensions {num_dimensions} and shape \(400, 6\)"
    ):
        principal_subspace(spread(), num_dimensions)


@pytest.mark.parametrize("features", [6, 90])
def test_half_of_the_data_are_judged_by_the_components_of_the_other_half(features):
    # More features than rows of a half take another way to the same components.
    data = normals(120, features, seed=generator(3)) @ normals(
        features, features, seed=generator(4)
    )
    left, about = principal_residuals(data, 3)
    for fitted, judged in ((data[::2], slice(1, None, 2)), (data[1::2], slice(0, None, 2))):
        subspace = principal_subspace(fitted, 3)
        error = data[judged] - subspace.reconstruct(subspace.project(data[judged]))
        torch.testing.assert_close(left[judged], error.square().mean(1))
    torch.testing.assert_close(about, (data - data.mean(0)).square().mean(1))


def test_as_many_components_as_features_or_rows_leave_what_no_row_spans():
    data = normals(40, 5, seed=generator(5))
    assert float(principal_residuals(data, 9)[0].max()) < 1e-20
    wide = normals(10, 50, seed=generator(6))
    left = principal_residuals(wide, 20)[0]
    offset = wide[1::2] - wide[::2].mean(0)
    spanned = torch.linalg.qr((wide[::2] - wide[::2].mean(0)).T).Q[:, :4]
    expected = (offset - offset @ spanned @ spanned.T).square().mean(1)
    torch.testing.assert_close(left[1::2], expected)
