"""Sections: the pictures of a page, in groups with a heading and a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mimachine import figures, workflow
from mimachine.datasets import Dataset
from mimachine.outcomes import Outcome, kept_epoch
from mimachine.pictures import Picture, drawing, pixels
from mimachine.projections import Embedding, project
from mimachine.representation import codes

__all__ = ["Section", "sections"]

_MOST_POINTS = 2000
_NUM_SAMPLES = 64
_NUM_RECONSTRUCTIONS = 8
# More cannot be told apart, and their legend would be larger than the picture.
_MOST_CLASSES = 20


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: Its anchor.
        title: Its heading.
        text: What its pictures show and what to look for.
        pictures: Its pictures.
        stacked: Whether they are to be compared from top to bottom, one below the other.
    """

    name: str
    title: str
    text: str
    pictures: list[Picture]
    stacked: bool = False


def sections(outcomes: Sequence[Outcome], embedding: Embedding) -> Iterator[Section]:
    """All sections that the data and the models have something for."""
    data = outcomes[0].trained.data
    yield Section(
        "loss",
        "Loss curves",
        "Loss by epoch, in nats. The weights of the marked epoch were kept. A held-out loss that "
        "rises while the training loss falls is overfitting.",
        [_loss_picture(outcome) for outcome in outcomes],
    )
    if data.image_shape is not None:
        yield Section(
            "reconstructions",
            "Reconstructions",
            "Test images, encoded and decoded again without noise. What is lost here, the codes "
            "do not keep.",
            list(_reconstruction_pictures(outcomes, data)),
            stacked=True,
        )
        yield Section(
            "samples",
            "Samples",
            "Images decoded from latents that were drawn from the prior. If they look worse than "
            "the reconstructions, the prior does not match the codes.",
            [_sample_picture(outcome, data) for outcome in outcomes],
        )
    plane = [outcome for outcome in outcomes if _is_plane(outcome)]
    if plane:
        yield Section(
            "plane",
            "Data and latent plane",
            "Above, level sets of P(x) as lines and reconstructions as dots: the closer they follow "
            "each other, the better. Below, the codes: an ellipse for each datum, one standard "
            "deviation wide, and the circle of N(0, I), dashed.",
            [_plane_picture(outcome) for outcome in plane],
        )
    scatters = [drawn for r in outcomes if (drawn := _scatter_picture(r, embedding))]
    if scatters:
        yield Section("codes", "Codes of the test data", _SCATTER_TEXT[embedding], scatters)


_SCATTER_TEXT = {
    "pca": "Each mark is the code of a test datum. Codes of more than two dimensions are projected "
    "on their first two principal components, which can hide how well classes are apart.",
    "tsne": "Each mark is the code of a test datum. Codes of more than two dimensions are drawn by "
    "t-SNE: neighbours are kept, but distances and sizes of groups mean little.",
}


def _loss_picture(outcome: Outcome) -> Picture:
    first, last, kept = outcome.records[0], outcome.records[-1], kept_epoch(outcome.records)
    alt = (
        f"Loss curves of {outcome.name}: over {len(outcome.records)} epochs the training loss goes "
        f"from {first['train_loss']:.4g} to {last['train_loss']:.4g} nats"
    )
    caption = f"{outcome.name}: {len(outcome.records)} epochs."
    if kept is not None:
        alt += (
            f"; the best held-out loss is {kept['val_loss']:.4g} nats in epoch {kept['epoch']}, "
            "whose weights were kept"
        )
        caption += f" Kept: epoch {kept['epoch']}."
    figure = figures.loss_curves({outcome.name: outcome.records})
    return drawing(figure, f"{alt}.", caption)


def _reconstruction_pictures(outcomes: Sequence[Outcome], data: Dataset) -> Iterator[Picture]:
    """A row of test images, and a row of what each model makes of them."""
    images = data.test[:_NUM_RECONSTRUCTIONS]
    count = len(images)
    grid = figures.image_grid(images, data, count)
    yield pixels(grid, f"A row of {count} images from the test data, to compare with.", "Test data")
    for outcome in outcomes:
        restored = workflow.reconstruct(outcome.trained.model, images).mean
        caption = outcome.name
        if outcome.report.has("reconstruction_rmse"):
            metric = outcome.report["reconstruction_rmse"]
            caption += f": reconstruction error {metric} {metric.unit}"
        grid = figures.image_grid(restored, data, count)
        alt = f"The same {count} images, encoded and decoded again by the {caption}."
        yield pixels(grid, alt.replace(outcome.name, f"{outcome.name} model", 1), caption)


def _sample_picture(outcome: Outcome, data: Dataset) -> Picture:
    drawn = workflow.sample(outcome.trained.model, _NUM_SAMPLES).mean
    return pixels(
        figures.image_grid(drawn, data),
        f"{_NUM_SAMPLES} images in a grid, decoded from latents drawn from the prior of the "
        f"{outcome.name} model.",
        f"{outcome.name}: means of p(x|z), z ~ p(z).",
    )


def _is_plane(outcome: Outcome) -> bool:
    needed = ("mutual_information_ksg", "sampled_reconstruction_distance")
    return (
        outcome.trained.data.train.shape[1:] == (2,)
        and outcome.trained.experiment.model.latent == 2
        and all(outcome.report.has(name) for name in needed)
    )


def _plane_picture(outcome: Outcome) -> Picture:
    information = outcome.report["mutual_information_ksg"]
    distance = outcome.report["sampled_reconstruction_distance"]
    shown = {outcome.name: (outcome.trained.model, outcome.report)}
    return drawing(
        figures.plane(shown, outcome.trained.data),
        f"Two panels of {outcome.name}. Top: reconstructed test points over the level sets of the "
        f"data's density; their mean distance from the originals is {distance}. Bottom: codes of "
        f"the same points as ellipses; mutual information {information} nats.",
        f"{outcome.name}: data above, latents below.",
    )


def _scatter_picture(outcome: Outcome, embedding: Embedding) -> Picture | None:
    """Codes of the test data in a plane; none if a code is not finite."""
    data = outcome.trained.data
    rows = np.arange(len(data.test))
    if len(rows) > _MOST_POINTS:
        # Data may be sorted, so a part of them has to be drawn.
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_POINTS, replace=False))
    points = codes(outcome.trained.model, data.test[rows]).mean.flatten(1).double().cpu().numpy()
    if len(points) < 2 or not np.isfinite(points).all():
        return None
    placed, axes, way = project(points, embedding)
    alt = f"Scatter of the codes of {len(points)} test data of {outcome.name}, {way}"
    caption = f"{outcome.name}: {len(points):,} codes, {way}."
    labels = None if data.test_labels is None else data.test_labels.cpu().numpy()[rows]
    count = 0 if labels is None else len(np.unique(labels))
    if count > _MOST_CLASSES:
        labels = None
        caption += f" The {count:,} classes are too many to be told apart."
    alt += "; classes are not shown." if labels is None else f"; each of {count} classes is marked."
    if outcome.report.has("knn_5_accuracy"):
        alt += f" 5-nearest-neighbour accuracy of the codes: {outcome.report['knn_5_accuracy']}."
    return drawing(figures.code_scatter(placed, labels, axes, outcome.name), alt, caption)
