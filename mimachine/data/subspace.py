"""Subspace: the directions in which data vary most, and data as coordinates in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "Subspace",
    "principal_residuals",
    "principal_subspace",
]


Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Subspace:
    """A linear subspace of D dimensions through the mean of data of P values.

    Attributes:
        mean: Shape (P,).
        basis: Orthonormal directions, shape (D, P), that of the largest variance first.
        explained: Share of the data's variance that lies in it.
    """

    mean: Tensor
    basis: Tensor
    explained: float

    def project(self, data: Tensor) -> Tensor:
        """Data (N, P) as coordinates (N, D), in the data's units: they are not whitened."""
        return (data - self.mean) @ self.basis.T

    def reconstruct(self, coordinates: Tensor) -> Tensor:
        """The data (N, P) of the subspace that have these coordinates (N, D)."""
        return coordinates @ self.basis + self.mean


def principal_subspace(data: Tensor, num_dimensions: int) -> Subspace:
    """The subspace of principal components of data (N, P).

    A component is known but for its sign. Here the entry of the largest absolute value is
    positive, which does not depend on which data there are more of on which side.

    Args:
        data: What to fit it to.
        num_dimensions: Number D of components.

    Raises:
        ValueError: If there are fewer data, or values in a datum, than components.
    """
    from sklearn.decomposition import PCA

    if len(data.shape) != 2 or not 1 <= num_dimensions <= min(data.shape):
        raise ValueError(
            f"data must have shape (N, P) with N and P of num_dimensions, {num_dimensions}, or "
            f"more, which must be 1 or more; got {tuple(data.shape)}"
        )
    # The others are slower, or draw random numbers. In double precision, for it takes the mean's
    # square from the second moments.
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
    """Mean square of what principal components leave of each datum, and of the datum itself.

    The rows are split in two, every second one; those of one half are judged by the mean and the
    components of the other, so the components have no advantage over a model of other data.

    Args:
        x: Data in random order, shape (N, F), float64.
        components: How many; fewer where half of the data have no more.

    Returns:
        What is left, and the squares of the data about the mean of all, each of shape (N,).
    """
    values = x.numpy()
    left = np.empty(len(values))
    for fitted, judged in ((0, 1), (1, 0)):
        centre = values[fitted::2].mean(0)
        axes = _axes(values[fitted::2] - centre, components)
        offset = values[judged::2] - centre
        left[judged::2] = np.square(offset - offset @ axes.T @ axes).mean(1)
    about = np.square(values - values.mean(0)).mean(1)
    return torch.from_numpy(left), torch.from_numpy(about)


def _axes(rows: Floats, components: int) -> Floats:
    """Orthonormal axes of the largest variance, shape (K, F), by the smaller of two products."""
    from scipy.linalg import eigh

    small = min(rows.shape)
    chosen = (max(0, small - components), small - 1)
    if rows.shape[1] <= rows.shape[0]:
        axes: Floats = eigh(rows.T @ rows, subset_by_index=chosen)[1].T
        return axes
    squares, vectors = eigh(rows @ rows.T, subset_by_index=chosen)
    # Centred rows have one axis fewer than there are rows, and the others no length.
    some = squares > 1e-12 * squares.max()
    axes = (rows.T @ vectors[:, some] / np.sqrt(squares[some])).T
    return axes
