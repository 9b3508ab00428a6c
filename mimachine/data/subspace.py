"""Principal component analysis: projection onto principal subspaces, and residuals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimachine._support.process import exclusive

__all__ = ["Subspace", "principal_residuals", "principal_subspace"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Subspace:
    """A D-dimensional affine subspace through the mean of data with P values.

    Attributes:
        mean: Shape (P,).
        basis: Orthonormal directions, shape (D, P), by decreasing variance.
        explained: Fraction of the variance in the subspace.
    """

    mean: Tensor
    basis: Tensor
    explained: float

    def project(self, data: Tensor) -> Tensor:
        """Project data (N, P) to coordinates (N, D), in the data's units, not whitened."""
        return (data - self.mean) @ self.basis.T

    def reconstruct(self, coordinates: Tensor) -> Tensor:
        """Map coordinates (N, D) to points (N, P) of the subspace."""
        return coordinates @ self.basis + self.mean


def principal_subspace(data: Tensor, num_dimensions: int) -> Subspace:
    """Fit the principal subspace of data (N, P).

    The sign of a component is arbitrary. Here the entry of largest absolute value is positive,
    which does not depend on the skewness of the data.

    Args:
        data: Data, shape (N, P).
        num_dimensions: Number D of components.

    Raises:
        ValueError: If N or P is less than D.
    """
    from sklearn.decomposition import PCA

    if len(data.shape) != 2 or not 1 <= num_dimensions <= min(data.shape):
        raise ValueError(
            "data must have shape (N, P) with N and P at least num_dimensions, and num_dimensions "
            f"must be 1 or more; got num_dimensions {num_dimensions} and shape {tuple(data.shape)}"
        )
    # Other solvers are slower or random. Double precision, since this one subtracts the squared
    # mean from the second moments.
    with exclusive():
        pca = PCA(num_dimensions, svd_solver="covariance_eigh").fit(data.double().numpy())
    basis = pca.components_
    largest = np.abs(basis).argmax(axis=1)
    basis = basis * np.sign(basis[np.arange(len(basis)), largest])[:, None]
    return Subspace(
        torch.as_tensor(pca.mean_).to(data.dtype),
        torch.as_tensor(basis).to(data.dtype),
        float(pca.explained_variance_ratio_.sum()),
    )


def principal_residuals(x: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Mean squared residual of PCA for each row, cross-fitted, and mean square about the mean.

    Odd and even rows form two halves. Residuals of one half use the mean and the components of the
    other, so PCA has no advantage over a model trained on other data.

    Args:
        x: Data in random order, shape (N, F), float64.
        components: Number of components; fewer if half of the data have fewer.

    Returns:
        Mean squared residuals, and mean squares about the mean of all rows, each of shape (N,).
    """
    values = x.numpy()
    residuals = np.empty(len(values))
    for fitted, held_out in ((0, 1), (1, 0)):
        centre = values[fitted::2].mean(0)
        axes = _axes(values[fitted::2] - centre, components)
        offset = values[held_out::2] - centre
        residuals[held_out::2] = np.square(offset - offset @ axes.T @ axes).mean(1)
    about = np.square(values - values.mean(0)).mean(1)
    return torch.from_numpy(residuals), torch.from_numpy(about)


def _axes(rows: Floats, components: int) -> Floats:
    """Orthonormal axes of largest variance, shape (K, F), from the smaller Gram matrix."""
    from scipy.linalg import eigh

    small = min(rows.shape)
    chosen = (max(0, small - components), small - 1)
    if rows.shape[1] <= rows.shape[0]:
        axes: Floats = eigh(rows.T @ rows, subset_by_index=chosen)[1].T
        return axes
    squares, vectors = eigh(rows @ rows.T, subset_by_index=chosen)
    # n centred rows span n - 1 axes; drop those of no variance.
    spanned = squares > 1e-12 * squares.max()
    axes = (rows.T @ vectors[:, spanned] / np.sqrt(squares[spanned])).T
    return axes
