import numpy as np

from mimachine.reporting.projections import project


def test_codes_are_unchanged_or_projected_by_pca():
    points = np.random.default_rng(0).normal(size=(50, 4)) * (5.0, 3.0, 0.1, 0.1)
    for dimensions in (1, 2):
        placed, _, _ = project(points[:, :dimensions], "pca")
        assert np.array_equal(placed[:, :dimensions], points[:, :dimensions])
        assert placed.shape == (50, 2)
    placed, _, way = project(points, "pca")
    # Independent: eigenvalues of the covariance are the variances along the components.
    expected = np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1]
    assert np.allclose(placed.var(0, ddof=1), expected[:2])
    assert f"{expected[:2].sum() / expected.sum():.0%} of the variance" in way
    same, _, way = project(np.ones((5, 3)), "pca")
    assert np.allclose(same, 0)
    assert "0% of the variance" in way
