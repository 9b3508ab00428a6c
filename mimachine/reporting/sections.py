"""Sections: the pictures of a page, in groups with a heading and a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mimachine import workflow
from mimachine.data.dataset import Dataset
from mimachine.data.preprocessing import column_grids
from mimachine.estimation.codes.moments import codes
from mimachine.evaluation.glossary import listed
from mimachine.reporting import columns, figures
from mimachine.reporting.html_image import Picture, drawing, pixels
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.projections import Embedding, project
from mimachine.workflow.apply_run import Drawn
from mimachine.workflow.reports import kept_epoch

__all__ = [
    "Section",
    "Shares",
    "sections",
]


Array = np.ndarray[Any, Any]
_MOST_POINTS = 2000
_NUM_SAMPLES = 64
_NUM_RECONSTRUCTIONS = 8
_MOST_HISTOGRAMS = 12
_MOST_SHARES = 20
# More cannot be told apart, and their legend would be larger than the picture.
_MOST_CLASSES = 20


class Shares(NamedTuple):
    """A table of shares: R² of columns, the smallest first.

    Attributes:
        models: Names of the models, the heads of the table.
        rows: A column's name, and for each model its R² in words and as the length of a bar.
        left_out: Number of columns that are left out.
    """

    models: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]
    left_out: int


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: Its anchor.
        title: Its heading.
        texts: What its pictures show and what to look for, in paragraphs.
        pictures: Its pictures.
        stacked: Whether they are to be compared from top to bottom, one below the other.
        shares: A table beside them.
    """

    name: str
    title: str
    texts: tuple[str, ...]
    pictures: list[Picture]
    stacked: bool = False
    shares: Shares | None = None


def sections(outcomes: Sequence[Outcome], embedding: Embedding) -> Iterator[Section]:
    """All sections that the data and the models have something for."""
    data = outcomes[0].trained.data
    yield Section(
        "loss",
        "Loss curves",
        (
            "Loss by epoch, in nats. The weights of the marked epoch were kept. A held-out loss "
            "that rises while the training loss falls is overfitting.",
        ),
        [_loss_picture(outcome) for outcome in outcomes],
    )
    if data.image_shape is not None:
        yield from _image_sections(outcomes, data)
    else:
        yield _columns_section(outcomes, data)
    plane = [outcome for outcome in outcomes if _is_plane(outcome)]
    if plane:
        yield Section(
            "plane",
            "Data and latent plane",
            (
                "Above, level sets of P(x) as lines and reconstructions as dots: the closer they "
                "follow each other, the better. Below, the codes: an ellipse for each datum, one "
                "standard deviation wide, and the circle of N(0, I), dashed.",
            ),
            [_plane_picture(outcome) for outcome in plane],
        )
    scatters = [drawn for r in outcomes if (drawn := _scatter_picture(r, embedding))]
    if scatters:
        yield Section("codes", "Codes of the test data", (_SCATTER_TEXT[embedding],), scatters)


def _image_sections(outcomes: Sequence[Outcome], data: Dataset) -> Iterator[Section]:
    images = data.test[:_NUM_RECONSTRUCTIONS]
    restored = {r.name: workflow.reconstruct(r.trained.model, images) for r in outcomes}
    text = (
        "Test images, encoded and decoded again without noise. What is lost here, the "
        "codes do not keep."
    )
    if any(drawn.mean is None for drawn in restored.values()):
        text += (
            " A decoder whose p(x|z) has no mean in closed form, as that of a PixelCNN, is "
            "sampled: some of what differs is then the sample's noise."
        )
    pictures = list(_reconstruction_pictures(outcomes, data, restored))
    yield Section("reconstructions", "Reconstructions", (text,), pictures, stacked=True)
    yield Section(
        "samples",
        "Samples",
        (
            "Images decoded from latents that were drawn from the prior. If they look worse "
            "than the reconstructions, the prior does not match the codes.",
        ),
        [_sample_picture(outcome, data) for outcome in outcomes],
    )


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


def _reconstruction_pictures(
    outcomes: Sequence[Outcome], data: Dataset, restored: Mapping[str, Drawn]
) -> Iterator[Picture]:
    """A row of test images, and a row of what each model makes of them."""
    images = data.test[:_NUM_RECONSTRUCTIONS]
    count = len(images)
    grid = figures.image_grid(images, data, count)
    yield pixels(grid, f"A row of {count} images from the test data, to compare with.", "Test data")
    for outcome in outcomes:
        drawn = restored[outcome.name]
        caption, what, name = outcome.name, "error", "reconstruction_rmse"
        if drawn.mean is None:
            caption += ", sampled"
            what, name = "distance", "sampled_reconstruction_distance"
        if outcome.report.has(name):
            metric = outcome.report[name]
            caption += f": reconstruction {what} {metric} {metric.unit}"
        grid = figures.image_grid(drawn.shown, data, count)
        alt = f"The same {count} images, encoded and decoded again by the {caption}."
        yield pixels(grid, alt.replace(outcome.name, f"{outcome.name} model", 1), caption)


def _sample_picture(outcome: Outcome, data: Dataset) -> Picture:
    drawn = workflow.sample(outcome.trained.model, _NUM_SAMPLES)
    return pixels(
        figures.image_grid(drawn.shown, data),
        f"{_NUM_SAMPLES} images in a grid, decoded from latents drawn from the prior of the "
        f"{outcome.name} model.",
        f"{outcome.name}: {drawn.kind} of p(x|z), z ~ p(z).",
    )


def _columns_section(outcomes: Sequence[Outcome], data: Dataset) -> Section:
    names = columns.names(data)
    texts = [
        "Filled: the test data. Lines: data drawn from the model, x ~ p(x|z) with z ~ p(z). Where "
        "they part, the model makes data unlike these. R² is the share of a column's variance in "
        "the test data that is still there after encoding and decoding without noise."
    ]
    if len(names) > _MOST_HISTOGRAMS:
        left_out = len(names) - _MOST_HISTOGRAMS
        texts[0] += f" The first {_MOST_HISTOGRAMS} columns are drawn, and {left_out} left out."
    for outcome in outcomes:
        who = f" by {outcome.name}" if len(outcomes) > 1 else ""
        worst = _least_kept(outcome, names)
        if worst:
            texts.append(f"Least kept{who}: {listed(worst)}.")
    pictures = list(_histogram_pictures(outcomes, data, names))
    return Section("columns", "Columns", tuple(texts), pictures, shares=_shares(outcomes, names))


def _least_kept(outcome: Outcome, names: Sequence[str]) -> list[str]:
    """Up to three columns and how much of them is kept; none that do not vary."""
    shares = outcome.explained.shares
    worst = [place for place in np.argsort(shares)[:3] if np.isfinite(shares[place])]
    return [f"'{names[place]}' ({_share(shares[place])} of its variance)" for place in worst]


def _share(share: float) -> str:
    """R² in words; below 0 not even the mean came back. It is no number if nothing varies."""
    if np.isnan(share):
        return "unknown"
    return f"{share:.0%}" if share >= 0.005 else "none"


def _shares(outcomes: Sequence[Outcome], names: Sequence[str]) -> Shares:
    shares = np.stack([outcome.explained.shares for outcome in outcomes])
    worst = np.argsort(shares.min(0), kind="stable")[:_MOST_SHARES]
    rows = []
    for place in worst:
        lengths = np.nan_to_num(shares[:, place]).clip(0, 1)
        cells = [
            (_share(share), f"{length:.0%}")
            for share, length in zip(shares[:, place], lengths, strict=True)
        ]
        rows.append((names[place], cells))
    return Shares([outcome.name for outcome in outcomes], rows, len(names) - len(rows))


def _histogram_pictures(
    outcomes: Sequence[Outcome], data: Dataset, names: Sequence[str]
) -> Iterator[Picture]:
    rows = data.test[columns.chosen(len(data.test), _MOST_POINTS)]
    test = columns.values(rows, data)
    drawn = {outcome.name: columns.values(outcome.samples, data) for outcome in outcomes}
    steps = column_grids(test)
    for place, name in enumerate(names[:_MOST_HISTOGRAMS]):
        column = test[:, place]
        samples = {model: each[:, place] for model, each in drawn.items()}
        edges = columns.edges(column, np.concatenate(list(samples.values())), float(steps[place]))
        shown = samples if len(samples) > 1 else {"samples": next(iter(samples.values()))}
        alt = f"Histogram of {name}: the test data have {_moments(column)}"
        alt += "".join(f"; samples of {model} {_moments(each)}" for model, each in samples.items())
        whole = bool((np.abs(column - np.rint(column)) <= 1e-3 * steps[place]).all())
        yield drawing(figures.histogram(column, shown, edges, whole), f"{alt}.", name)


def _moments(column: Array) -> str:
    finite = column[np.isfinite(column)]
    if not len(finite):
        return "no finite value"
    return f"mean {finite.mean():.4g} and standard deviation {finite.std():.4g}"


def _is_plane(outcome: Outcome) -> bool:
    needed = ("mutual_information_ksg", "sampled_reconstruction_distance")
    return (
        outcome.trained.data.train.shape[1:] == (2,)
        and outcome.trained.experiment.model.num_latents == 2
        and all(outcome.report.has(name) for name in needed)
    )


def _plane_picture(outcome: Outcome) -> Picture:
    information = outcome.report["mutual_information_ksg"]
    distance = outcome.report["sampled_reconstruction_distance"]
    shown = {outcome.name: (outcome.trained.model, outcome.report.values)}
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
    rows = columns.chosen(len(data.test), _MOST_POINTS)
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
    names = data.classes or ()
    if labels is not None and names:
        shown = {label: names[label] for label in np.unique(labels)}
        if not figures.fits(list(shown.values())):
            names = ()
            key = ", ".join(f"{label} is {name}" for label, name in shown.items())
            caption += f" Of the classes, {key}."
    if outcome.report.has("knn_5_accuracy"):
        alt += f" 5-nearest-neighbour accuracy of the codes: {outcome.report['knn_5_accuracy']}."
    figure = figures.code_scatter(placed, labels, axes, outcome.name, names)
    return drawing(figure, alt, caption)
