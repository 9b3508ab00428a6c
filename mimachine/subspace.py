"""Subspace: the directions in which data vary most, and data as coordinates in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Subspace", "principal_subspace"]


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
