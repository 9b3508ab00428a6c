"""Figure sections of a report: loss curves, reconstructions, samples, columns and codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mimachine import workflow
from mimachine.data.dataset import Dataset
from mimachine.data.resolution import column_grids
from mimachine.estimation.codes.moments import codes
from mimachine.evaluation.glossary import listed
from mimachine.reporting import columns, figures
from mimachine.reporting.explained import percent
from mimachine.reporting.html_image import Picture, drawing, pixels
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.projections import Embedding, project
from mimachine.reporting.section import Section, Shares
from mimachine.reporting.tables.sections import table_sections
from mimachine.workflow.apply_run import Drawn
from mimachine.workflow.reports import kept_epoch

__all__ = ["sections"]

Array = np.ndarray[Any, Any]
_MOST_POINTS = 2000
_NUM_SAMPLES = 64
_NUM_RECONSTRUCTIONS = 8
_MOST_HISTOGRAMS = 12
_MOST_SHARES = 20
# More classes are indistinguishable, and their legend would be larger than the figure.
_MOST_CLASSES = 20


def sections(outcomes: Sequence[Outcome], embedding: Embedding) -> Iterator[Section]:
    """All sections that apply to the data and the models."""
    data = outcomes[0].trained.data
    yield Section(
        "loss",
        "Loss curves",
        (
            "Loss by epoch, in nats. The model has the weights of the marked epoch. A validation "
            "loss that rises while the training loss falls indicates overfitting.",
        ),
        [_loss_picture(outcome) for outcome in outcomes],
    )
    if data.image_shape is not None:
        yield from _image_sections(outcomes, data)
    elif data.schema is not None:
        yield from table_sections(outcomes, data, _prior_of(outcomes))
    else:
        yield _columns_section(outcomes, data)
    plane = [outcome for outcome in outcomes if _is_plane(outcome)]
    if plane:
        yield Section(
            "plane",
            "Data and latent space",
            (
                "Top: contours of the data density P(x) and reconstructions of test points (dots); "
                "the better they match, the better the model. Bottom: q(z|x) of the same points as "
                "ellipses of one standard deviation, and that of N(0, I) as a dashed circle.",
            ),
            [_plane_picture(outcome) for outcome in plane],
        )
    scatters = [drawn for r in outcomes if (drawn := _scatter_picture(r, embedding))]
    if scatters:
        yield Section("codes", "Codes of the test set", (_SCATTER_TEXT[embedding],), scatters)


def _image_sections(outcomes: Sequence[Outcome], data: Dataset) -> Iterator[Section]:
    images = data.test[columns.chosen(len(data.test), _NUM_RECONSTRUCTIONS)]
    restored = {r.name: workflow.reconstruct(r.trained.model, images) for r in outcomes}
    text = (
        "Test images, and their reconstructions without noise. Details missing from the "
        "reconstructions are missing from the codes."
    )
    if any(drawn.mean is None for drawn in restored.values()):
        text += (
            " A decoder whose p(x|z) has no closed-form mean, such as a PixelCNN, is sampled, so "
            "some differences are sampling noise."
        )
    pictures = list(_reconstruction_pictures(outcomes, data, restored))
    yield Section("reconstructions", "Reconstructions", (text,), pictures, stacked=True)
    yield Section(
        "samples",
        "Samples",
        (
            f"Images decoded from latents sampled from {_prior_of(outcomes)}. If they look worse "
            "than the reconstructions, it does not match the codes.",
        ),
        [_sample_picture(outcome, data) for outcome in outcomes],
    )


_SCATTER_TEXT = {
    "pca": "Each point is the code of a test example. Codes with more than two dimensions are "
    "projected onto their first two principal components, which can hide class separation.",
    "tsne": "Each point is the code of a test example. Codes with more than two dimensions are "
    "embedded by t-SNE, which preserves neighbours; distances and cluster sizes mean little.",
}


def _loss_picture(outcome: Outcome) -> Picture:
    first, last, best = outcome.records[0], outcome.records[-1], kept_epoch(outcome.records)
    alt = (
        f"Loss curves of {outcome.name}: over {len(outcome.records)} epochs the training loss goes "
        f"from {first['train_loss']:.4g} to {last['train_loss']:.4g} nats"
    )
    caption = f"{outcome.name}: {len(outcome.records)} epochs"
    if best is not None:
        alt += (
            f"; the best validation loss is {best['val_loss']:.4g} nats, in epoch {best['epoch']}, "
            "whose weights the model has"
        )
        caption += f", best epoch {best['epoch']}"
    caption += f"; {outcome.convergence.verdict}"
    figure = figures.loss_curves({outcome.name: outcome.records})
    return drawing(figure, f"{alt}.", f"{caption}.")


def _reconstruction_pictures(
    outcomes: Sequence[Outcome], data: Dataset, restored: Mapping[str, Drawn]
) -> Iterator[Picture]:
    """A row of test images, and a row of reconstructions by each model."""
    images = data.test[columns.chosen(len(data.test), _NUM_RECONSTRUCTIONS)]
    count = len(images)
    grid = figures.image_grid(images, data, count)
    yield pixels(grid, f"A row of {count} images from the test set, the originals.", "Test data")
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
        alt = f"The same {count} images, encoded and decoded by the {caption}."
        yield pixels(grid, alt.replace(outcome.name, f"{outcome.name} model", 1), caption)


def _sample_picture(outcome: Outcome, data: Dataset) -> Picture:
    drawn = workflow.sample(outcome.trained.generator, _NUM_SAMPLES)
    return pixels(
        figures.image_grid(drawn.shown, data),
        f"A grid of {_NUM_SAMPLES} images of the {outcome.name} model, decoded from latents "
        f"sampled from {_prior_of([outcome])}.",
        f"{outcome.name}: {drawn.kind} of p(x|z).",
    )


def _prior_of(outcomes: Sequence[Outcome]) -> str:
    """The prior of samples, in words."""
    if all(outcome.trained.run.has_fitted_prior for outcome in outcomes):
        return "the mixture of normals fitted to the codes after training"
    return "the prior"


def _columns_section(outcomes: Sequence[Outcome], data: Dataset) -> Section:
    names = columns.names(data)
    texts = [
        f"Filled: test data. Lines: samples x ~ p(x|z) with z from {_prior_of(outcomes)}. Where "
        "they differ, samples do not follow the distribution of the data. R² is the fraction of a "
        "column's variance in the test set that reconstructions without noise explain."
    ]
    if len(names) > _MOST_HISTOGRAMS:
        texts[0] += f" Only the first {_MOST_HISTOGRAMS} of {len(names)} columns are plotted."
    for outcome in outcomes:
        which = f" of {outcome.name}" if len(outcomes) > 1 else ""
        worst = _worst_columns(outcome, names)
        if worst:
            texts.append(f"Lowest R²{which}: {listed(worst)}.")
    pictures = list(_histogram_pictures(outcomes, data, names))
    return Section("columns", "Columns", tuple(texts), pictures, shares=_shares(outcomes, names))


def _worst_columns(outcome: Outcome, names: Sequence[str]) -> list[str]:
    """Up to three columns with the lowest R², in words; constant columns are skipped."""
    shares = outcome.explained.shares
    worst = [index for index in np.argsort(shares)[:3] if np.isfinite(shares[index])]
    return [f"'{names[index]}' ({percent(shares[index])} of its variance)" for index in worst]


def _shares(outcomes: Sequence[Outcome], names: Sequence[str]) -> Shares:
    shares = np.stack([outcome.explained.shares for outcome in outcomes])
    worst = np.argsort(shares.min(0), kind="stable")[:_MOST_SHARES]
    rows = []
    for index in worst:
        lengths = np.nan_to_num(shares[:, index]).clip(0, 1)
        cells = [
            (percent(share), f"{length:.0%}")
            for share, length in zip(shares[:, index], lengths, strict=True)
        ]
        rows.append((names[index], cells))
    return Shares([outcome.name for outcome in outcomes], rows, len(names) - len(rows))


def _histogram_pictures(
    outcomes: Sequence[Outcome], data: Dataset, names: Sequence[str]
) -> Iterator[Picture]:
    rows = data.test[columns.chosen(len(data.test), _MOST_POINTS)]
    test = columns.values(rows, data)
    drawn = {outcome.name: columns.values(outcome.samples, data) for outcome in outcomes}
    steps = column_grids(test)
    for index, name in enumerate(names[:_MOST_HISTOGRAMS]):
        column = test[:, index]
        samples = {model: each[:, index] for model, each in drawn.items()}
        edges = columns.edges(column, np.concatenate(list(samples.values())), float(steps[index]))
        shown = samples if len(samples) > 1 else {"samples": next(iter(samples.values()))}
        alt = f"Histogram of {name}: the test data have {_moments(column)}"
        alt += "".join(f"; samples of {model} {_moments(each)}" for model, each in samples.items())
        whole = bool((np.abs(column - np.rint(column)) <= 1e-3 * steps[index]).all())
        yield drawing(figures.histogram(column, shown, edges, whole), f"{alt}.", name)


def _moments(column: Array) -> str:
    finite = column[np.isfinite(column)]
    if not len(finite):
        return "no finite values"
    return f"mean {finite.mean():.4g} and standard deviation {finite.std():.4g}"


def _is_plane(outcome: Outcome) -> bool:
    needed = ("mutual_information_ksg", "sampled_reconstruction_distance")
    return (
        outcome.trained.data.schema is None
        and outcome.trained.data.train.shape[1:] == (2,)
        and outcome.trained.experiment.model.num_latents == 2
        and all(outcome.report.has(name) for name in needed)
    )


def _plane_picture(outcome: Outcome) -> Picture:
    information = outcome.report["mutual_information_ksg"]
    distance = outcome.report["sampled_reconstruction_distance"]
    shown = {outcome.name: (outcome.trained.model, outcome.report.values)}
    return drawing(
        figures.plane(shown, outcome.trained.data),
        f"Two panels of {outcome.name}. Top: reconstructed test points over contours of the data "
        f"density; their mean distance from the originals is {distance}. Bottom: codes of "
        f"the same points as ellipses; mutual information {information} nats.",
        f"{outcome.name}: data (top) and latents (bottom).",
    )


def _scatter_picture(outcome: Outcome, embedding: Embedding) -> Picture | None:
    """Scatter plot of the codes of the test set; None if a code is not finite."""
    data = outcome.trained.data
    rows = columns.chosen(len(data.test), _MOST_POINTS)
    points = codes(outcome.trained.model, data.test[rows]).mean.flatten(1).double().cpu().numpy()
    if len(points) < 2 or not np.isfinite(points).all():
        return None
    placed, axes, way = project(points, embedding)
    alt = f"Scatter plot of the codes of {len(points)} test examples by {outcome.name}, {way}"
    caption = f"{outcome.name}: {len(points):,} codes, {way}."
    labels = None if data.test_labels is None else data.test_labels.cpu().numpy()[rows]
    count = 0 if labels is None else len(np.unique(labels))
    if count > _MOST_CLASSES:
        labels = None
        caption += f" Classes are not shown: {count:,} are too many to distinguish."
    alt += "; classes are not shown." if labels is None else f"; {count} classes are marked."
    names = data.classes or ()
    if labels is not None and names:
        shown = {label: names[label] for label in np.unique(labels)}
        if not figures.fits(list(shown.values())):
            names = ()
            key = ", ".join(f"{label} is {name}" for label, name in shown.items())
            caption += f" Classes: {key}."
    if outcome.report.has("knn_5_accuracy"):
        alt += f" 5-nearest-neighbour accuracy of the codes: {outcome.report['knn_5_accuracy']}."
    figure = figures.code_scatter(placed, labels, axes, outcome.name, names)
    return drawing(figure, alt, caption)
