"""Project codes to two dimensions by PCA or t-SNE."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from mimachine._support.process import exclusive

__all__ = ["Embedding", "Projection", "project"]

Embedding = Literal["pca", "tsne"]
Array = np.ndarray[Any, Any]


class Projection(NamedTuple):
    """Points in two dimensions.

    Attributes:
        points: Shape (N, 2).
        axes: Labels of the axes.
        way: Description of the projection.
    """

    points: Array
    axes: tuple[str, str]
    way: str


def project(points: Array, embedding: Embedding) -> Projection:
    """Project points (N, D) to (N, 2); unchanged if D is 1 or 2, otherwise by the embedding."""
    dimensions = points.shape[1]
    if dimensions == 1:
        placed = np.pad(points, ((0, 0), (0, 1)))
        return Projection(placed, ("$z_1$", ""), "the single latent")
    if dimensions == 2:
        return Projection(points, ("$z_1$", "$z_2$"), "both latents")
    if embedding == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(points) - 1) / 3)
        tsne = TSNE(2, perplexity=perplexity, init="random", random_state=0)
        with exclusive():
            placed = tsne.fit_transform(points)
        return Projection(placed, ("t-SNE 1", "t-SNE 2"), f"t-SNE of {dimensions} latents")
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full")
    # Identical codes have no variance, so their ratios are 0/0.
    with exclusive(), np.errstate(invalid="ignore"):
        placed = pca.fit_transform(points)
    shares = np.nan_to_num(pca.explained_variance_ratio_)
    axes = tuple(f"component {i + 1} ({share:.0%})" for i, share in enumerate(shares))
    way = f"2 principal components of {dimensions} latents, {shares.sum():.0%} of the variance"
    return Projection(placed, (axes[0], axes[1]), way)
