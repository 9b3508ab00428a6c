"""Report: a run or a comparison as one HTML file that can be mailed, archived and read offline."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from mimachine import experiment, figures, workflow
from mimachine.datasets import Dataset
from mimachine.evaluation import Metric, Report
from mimachine.experiment import Experiment
from mimachine.randomness import derived_seed, forked
from mimachine.representation import codes
from mimachine.runs import Run, replacing
from mimachine.workflow import Trained

__all__ = ["Embedding", "write_comparison", "write_report"]

Embedding = Literal["pca", "tsne"]
Array = np.ndarray[Any, Any]

_FILES = ("experiment.json", "metrics.jsonl", "model.safetensors", "report.json")
_MOST_POINTS = 2000
_NUM_SAMPLES = 64
_NUM_RECONSTRUCTIONS = 8
# A picture is stored with twice the pixels it is shown with, for screens that have them.
_SHOWN_DPI, _STORED_DPI = 100, 200
_COLOURS = (
    *("#4477aa", "#cc3311", "#228833", "#aa3377", "#8a6500"),
    *("#117788", "#555555", "#b85500", "#6644cc", "#000000"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
# More cannot be told apart, and their legend would be larger than the picture.
_MOST_CLASSES = 20


def write_report(run_directory: str | os.PathLike[str], *, embedding: Embedding = "pca") -> Path:
    """Write RUN/report.html: numbers, what they mean, pictures, settings and commands of a run.

    Args:
        run_directory: A run that was trained and measured.
        embedding: How codes of more than two dimensions are drawn. t-SNE may show clusters that
            PCA hides, but its distances mean little.

    Returns:
        The file. It needs no other file, no network and no scripts.

    Raises:
        FileNotFoundError: If there is no run, or a file of it is missing.
        ValueError: If a file of the run is damaged.
    """
    _check(embedding)
    column = _opened(Path(run_directory))
    settings, data = column.trained.experiment, column.trained.data
    page = _page(
        f"{settings.objective} on {settings.data.name}",
        f"A model trained with the objective {settings.objective}. {_described(data)}",
        [column],
        embedding,
        _run_commands(column),
    )
    return _write(column.trained.run.path / "report.html", page)


def write_comparison(directory: str | os.PathLike[str], *, embedding: Embedding = "pca") -> Path:
    """Write DIRECTORY/report.html: the runs of a comparison side by side.

    Numbers are those of comparison.json. A run's own report.html is linked if it is there.

    Args:
        directory: What `comparison.compare` made.
        embedding: As for `write_report`.

    Raises:
        FileNotFoundError: If there is no comparison.json, or a file of a run is missing.
        ValueError: If a file is damaged.
    """
    _check(embedding)
    directory = Path(directory)
    if not (directory / "comparison.json").is_file():
        raise FileNotFoundError(f"{directory} is not a comparison: it has no comparison.json")
    saved = Run(directory).read_json("comparison.json")
    if not isinstance(saved, dict) or not saved.get("reports"):
        raise ValueError(f"{directory / 'comparison.json'} has no reports")
    columns = [_compared(directory, name, each) for name, each in saved["reports"].items()]
    data = columns[0].trained.data
    names = _listed([column.name for column in columns])
    page = _page(
        f"{names} on {data.name}",
        f"{len(columns)} models trained on the same data, side by side. {_described(data)}",
        columns,
        embedding,
        _comparison_commands(directory, columns),
        summary=saved.get("summary", "").splitlines(),
    )
    return _write(directory / "report.html", page)


@dataclass(frozen=True)
class _Column:
    """One run of a report; a comparison has several."""

    name: str
    trained: Trained
    report: Report
    records: list[dict[str, Any]]
    measured: dict[str, Any]
    link: str = ""


def _check(embedding: str) -> None:
    if embedding not in get_args(Embedding):
        known = " or ".join(get_args(Embedding))
        raise ValueError(f"embedding must be {known}, got {embedding!r}")


def _opened(path: Path, name: str = "") -> _Column:
    run = Run(path)
    for file in _FILES:
        if not (run.path / file).is_file():
            raise FileNotFoundError(
                f"{run.path} has no {file}: a report needs a run that was trained and measured"
            )
    measured, records = run.read_json("report.json"), run.metrics()
    if not records:
        raise ValueError(f"{run.path / 'metrics.jsonl'} has no epochs")
    report = _read(measured, run.path / "report.json")
    trained = workflow.open_run(path)
    return _Column(name or trained.experiment.objective, trained, report, records, measured)


def _read(value: Any, file: Path) -> Report:
    try:
        return Report.from_json(value)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} does not hold a report that can be read: {error!r}") from error


def _compared(directory: Path, name: str, report: Any) -> _Column:
    """A run of a comparison with the numbers of that, for the run may be measured anew later."""
    column = _opened(directory / name, name)
    link = f"{quote(name)}/report.html" if (directory / name / "report.html").is_file() else ""
    measured = {**column.measured, "num_samples": column.trained.experiment.num_samples}
    numbers = _read(report, directory / "comparison.json")
    return replace(column, report=numbers, measured=measured, link=link)


def _page(
    title: str,
    lead: str,
    columns: Sequence[_Column],
    embedding: Embedding,
    commands: Sequence[tuple[str, str]],
    summary: Sequence[str] = (),
) -> dict[str, Any]:
    """All that the template shows."""
    with forked(derived_seed(0, "report")):
        sections = list(_sections(columns, embedding))
    return {
        "title": title,
        "lead": lead,
        "columns": columns,
        "advice": {column.name: _advice(column) for column in columns},
        "summary": summary,
        "groups": _groups(columns),
        "definitions": {m.name: m.definition for c in columns for m in c.report.metrics},
        "sections": sections,
        "settings": _settings(columns),
        "versions": _versions(columns),
        "commands": commands,
    }


def _write(file: Path, page: Mapping[str, Any]) -> Path:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mimachine"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html.j2").render(page)
    with replacing(file) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return file


def _described(data: Dataset) -> str:
    size = f"{data.test[0].numel()} numbers"
    if data.image_shape is not None:
        size = "an image of {1} × {2} pixels{0}".format(
            " in colour" if data.image_shape[0] > 1 else "", *data.image_shape[1:]
        )
    parts = f"{len(data.train):,} for training, {len(data.val):,} for validation"
    return (
        f"Data: {data.name}, each {size}; {parts}, and {len(data.test):,} for the test, on which "
        "everything below was measured."
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


# --- what to do ----------------------------------------------------------------------------------


def _advice(column: _Column) -> list[str]:
    """What the verdict means and what to try, a sentence or two each."""
    run, settings = column.trained.run, column.trained.experiment
    advice = [column.report.advice]
    if not run.finished:
        advice.append(
            "The run was interrupted; all here is of its best weights so far. "
            f"Go on with: mimachine train --resume {_quoted(run.path)}"
        )
    elif (
        len(column.records) == settings.training.epochs
        and _kept(column.records) is column.records[-1]
    ):
        advice.append(
            "The last epoch was the best: the model was still learning when training ended. "
            f"Try more epochs, such as --training.epochs {4 * settings.training.epochs}."
        )
    if any("may be loose" in note for metric in column.report.metrics for note in metric.notes):
        advice.append(
            "For some of the data the likelihood rests on few importance samples, and may be "
            "better than its number. Measure it with more, as told under Commands; if it then "
            "changes much, the encoder is a poor guide to the posterior."
        )
    if len(advice) == 1 and column.report.verdict == "healthy":
        advice.append(
            "Nothing needs mending. To see whether another objective does better on these data: "
            f"mimachine compare {shlex.quote(settings.data.name)}"
        )
    return advice


def _kept(records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The epoch whose weights were kept: the best held-out loss once the warm-up is over."""
    warm = [r for r in records if r["beta"] >= 1 and r["val_loss"] is not None]
    return min(warm, key=lambda record: record["val_loss"], default=None)


# --- numbers -------------------------------------------------------------------------------------


class _Meaning(NamedTuple):
    group: str
    title: str
    better: Literal["lower", "higher", ""]
    text: str


_LIKELIHOOD = "How well the model explains the data"
_KEPT = "What the codes keep"
_WIDTH = "Shape of the codes"

_MEANINGS = {
    "negative_log_likelihood": _Meaning(
        _LIKELIHOOD,
        "Negative log-likelihood",
        "lower",
        "How much unseen data surprise the model. Only models of the same data with the same kind "
        "of likelihood can be compared by it.",
    ),
    "negative_elbo": _Meaning(
        _LIKELIHOOD,
        "Negative ELBO",
        "lower",
        "The same, judged from one code for each datum: what a VAE minimises. The gap to the line "
        "above shows how far the encoder is from the true posterior.",
    ),
    "rate": _Meaning(
        _LIKELIHOOD,
        "Rate",
        "",
        "How far the code of a datum is from the prior, on average: no code can tell more than "
        "that. Near 0, codes are ignored; far above the mutual information, the prior does not "
        "match the codes.",
    ),
    "mutual_information_ksg": _Meaning(
        _KEPT,
        "Mutual information",
        "higher",
        "How much a code tells of the datum it came from. It can never exceed its ceiling, and in "
        "many dimensions it is far too low: see the notes before trusting it.",
    ),
    "reconstruction_rmse": _Meaning(
        _KEPT,
        "Reconstruction error",
        "lower",
        "How far data are from themselves after encoding and decoding without noise, typically, "
        "in each of their numbers.",
    ),
    "sampled_reconstruction_distance": _Meaning(
        _KEPT,
        "Reconstruction distance",
        "lower",
        "The same with the noise of encoder and decoder, as a distance over all numbers of a "
        "datum at once.",
    ),
    "active_units": _Meaning(
        _WIDTH,
        "Active latents",
        "",
        "Latent dimensions that answer to the data; the others could be left out.",
    ),
    "relative_posterior_std": _Meaning(
        _WIDTH,
        "Relative width of a code",
        "",
        "Uncertainty of one code against the spread of all. Near 1, codes say nothing; below "
        "0.01, they are nearly points.",
    ),
    "encoder_share_at_floor": _Meaning(
        _WIDTH,
        "Encoder scales at their floor",
        "",
        "Near 1, codes are as narrow as model.encoder_floor lets them be.",
    ),
    "decoder_share_at_floor": _Meaning(
        _WIDTH,
        "Decoder scales at their floor",
        "",
        "Near 1, the decoder is as sure as its floor lets it be, and the likelihood is a matter "
        "of that floor.",
    ),
}


def _meaning(metric: Metric) -> _Meaning:
    known = _MEANINGS.get(metric.name)
    if known is not None:
        return known
    parts = metric.name.split("_")
    if parts[0] == "knn" and parts[2:3] == ["accuracy"]:
        near = "nearest training code" if parts[1] == "1" else f"{parts[1]} nearest training codes"
        noisy = metric.latent == "sample"
        return _Meaning(
            "Whether the codes keep the classes apart",
            f"{parts[1]}-nearest-neighbour accuracy" + (", noisy codes" if noisy else ""),
            "higher",
            f"Share of test data whose class can be told from the {near}"
            + (", with the encoder's noise." if noisy else "."),
        )
    # A metric that is newer than this table says what it is by its definition.
    return _Meaning("Other numbers", metric.name.replace("_", " "), "", metric.definition)


@dataclass
class _Row:
    name: str
    unit: str
    latent: str
    meaning: _Meaning
    values: dict[str, str] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)


def _groups(columns: Sequence[_Column]) -> dict[str, list[_Row]]:
    """Rows of the table of metrics by their group: every metric that any run has."""
    rows: dict[str, _Row] = {}
    for column in columns:
        for metric in column.report.metrics:
            row = rows.setdefault(
                metric.name, _Row(metric.name, metric.unit, metric.latent, _meaning(metric))
            )
            row.values[column.name] = str(metric) if math.isfinite(metric.value) else "not finite"
            row.notes += [(column.name, note) for note in metric.notes]
    groups: dict[str, list[_Row]] = {}
    for row in rows.values():
        groups.setdefault(row.meaning.group, []).append(row)
    return groups


# --- pictures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Picture:
    source: str
    alt: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True)
class _Section:
    name: str
    title: str
    text: str
    pictures: list[_Picture]


def _sections(columns: Sequence[_Column], embedding: Embedding) -> Iterator[_Section]:
    data = columns[0].trained.data
    yield _Section(
        "loss",
        "Loss curves",
        "Loss by epoch, in nats. The weights of the marked epoch were kept. A held-out loss that "
        "rises while the training loss falls is overfitting.",
        [_loss_picture(column) for column in columns],
    )
    if data.image_shape is not None:
        yield _Section(
            "reconstructions",
            "Reconstructions",
            "Test images, encoded and decoded again without noise. What is lost here, the codes "
            "do not keep.",
            [_reconstruction_picture(columns, data)],
        )
        yield _Section(
            "samples",
            "Samples",
            "Images decoded from latents that were drawn from the prior. If they look worse than "
            "the reconstructions, the prior does not match the codes.",
            [_sample_picture(column, data) for column in columns],
        )
    plane = [column for column in columns if _is_plane(column)]
    if plane:
        yield _Section(
            "plane",
            "Data and latent plane",
            "Above, level sets of P(x) in black and reconstructions in red: the closer they follow "
            "each other, the better. Below, the codes: a green ellipse for each datum, one "
            "standard deviation wide, and the circle of N(0, I), dashed.",
            [_plane_picture(column) for column in plane],
        )
    scatters = [picture for c in columns if (picture := _scatter_picture(c, embedding))]
    if scatters:
        yield _Section("codes", "Codes of the test data", _SCATTER_TEXT[embedding], scatters)


_SCATTER_TEXT = {
    "pca": "Each mark is the code of a test datum. Codes of more than two dimensions are projected "
    "on their first two principal components, which can hide how well classes are apart.",
    "tsne": "Each mark is the code of a test datum. Codes of more than two dimensions are drawn by "
    "t-SNE: neighbours are kept, but distances and sizes of groups mean little.",
}


def _picture(figure: Figure, alt: str, caption: str) -> _Picture:
    buffer = io.BytesIO()
    # Without the name of the software, so that equal runs give equal files.
    figure.savefig(buffer, format="png", dpi=_STORED_DPI, metadata={"Software": None})
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(_SHOWN_DPI * inches) for inches in figure.get_size_inches())
    return _Picture(source, alt, caption, width, height)


def _plain(name: object) -> str:
    """A name for matplotlib, which takes what is between two dollars for a formula."""
    return str(name).replace("$", r"\$")


def _loss_picture(column: _Column) -> _Picture:
    first, last, kept = column.records[0], column.records[-1], _kept(column.records)
    alt = (
        f"Loss curves of {column.name}: over {len(column.records)} epochs the training loss goes "
        f"from {first['train_loss']:.4g} to {last['train_loss']:.4g} nats"
    )
    caption = f"{column.name}: {len(column.records)} epochs."
    if kept is not None:
        alt += (
            f"; the best held-out loss is {kept['val_loss']:.4g} nats in epoch {kept['epoch']}, "
            "whose weights were kept"
        )
        caption += f" Kept: epoch {kept['epoch']}."
    figure = figures.loss_curves({_plain(column.name): column.records})
    return _picture(figure, f"{alt}.", caption)


def _reconstruction_picture(columns: Sequence[_Column], data: Dataset) -> _Picture:
    models = {_plain(column.name): column.trained.model for column in columns}
    count = min(_NUM_RECONSTRUCTIONS, len(data.test))
    errors = [
        f"{column.name} with an error of {column.report['reconstruction_rmse']}"
        for column in columns
        if column.report.has("reconstruction_rmse")
    ]
    alt = f"Top row: {count} test images. Below, the same images encoded and decoded again"
    alt += f" by {_listed(errors)} in units of x." if errors else "."
    below = _listed([column.name for column in columns])
    order = ", in this order" if len(columns) > 1 else ""
    return _picture(
        figures.image_reconstructions(models, data, count),
        alt,
        f"Top row: test images. Below{order}: {below}.",
    )


def _sample_picture(column: _Column, data: Dataset) -> _Picture:
    drawn = workflow.sample(column.trained.model, _NUM_SAMPLES).mean
    return _picture(
        figures.image_samples({_plain(column.name): drawn}, data),
        f"{_NUM_SAMPLES} images in a grid, decoded from latents drawn from the prior of the "
        f"{column.name} model.",
        f"{column.name}: means of p(x|z), z ~ p(z).",
    )


def _is_plane(column: _Column) -> bool:
    needed = ("mutual_information_ksg", "sampled_reconstruction_distance")
    return (
        column.trained.data.train.shape[1:] == (2,)
        and column.trained.experiment.model.latent == 2
        and all(column.report.has(name) for name in needed)
    )


def _plane_picture(column: _Column) -> _Picture:
    information = column.report["mutual_information_ksg"]
    distance = column.report["sampled_reconstruction_distance"]
    shown = {_plain(column.name): (column.trained.model, column.report)}
    return _picture(
        figures.plane(shown, column.trained.data),
        f"Two panels of {column.name}. Top: reconstructed test points over the level sets of the "
        f"data's density; their mean distance from the originals is {distance}. Bottom: codes of "
        f"the same points as ellipses; mutual information {information} nats.",
        f"{column.name}: data above, latents below.",
    )


def _scatter_picture(column: _Column, embedding: Embedding) -> _Picture | None:
    """Codes of the test data in a plane; none if a code is not finite."""
    data = column.trained.data
    rows = np.arange(len(data.test))
    if len(rows) > _MOST_POINTS:
        # Data may be sorted, so a part of them has to be drawn.
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_POINTS, replace=False))
    points = codes(column.trained.model, data.test[rows]).mean.flatten(1).double().cpu().numpy()
    if len(points) < 2 or not np.isfinite(points).all():
        return None
    placed, axes, way = _placed(points, embedding)
    alt = f"Scatter of the codes of {len(points)} test data of {column.name}, {way}"
    caption = f"{column.name}: {len(points):,} codes, {way}."
    labels = None if data.test_labels is None else data.test_labels.cpu().numpy()[rows]
    count = 0 if labels is None else len(np.unique(labels))
    if count > _MOST_CLASSES:
        labels = None
        caption += f" The {count:,} classes are too many to be told apart."
    alt += "; classes are not shown." if labels is None else f"; each of {count} classes is marked."
    if column.report.has("knn_5_accuracy"):
        alt += f" 5-nearest-neighbour accuracy of the codes: {column.report['knn_5_accuracy']}."
    return _picture(_scatter(placed, labels, axes, _plain(column.name)), alt, caption)


def _placed(points: Array, embedding: Embedding) -> tuple[Array, tuple[str, str], str]:
    """Codes of shape (N, D) in a plane (N, 2), labels of its axes, and what was done in words."""
    dimensions = points.shape[1]
    if dimensions == 1:
        return np.pad(points, ((0, 0), (0, 1))), ("$z_1$", ""), "the one latent as it is"
    if dimensions == 2:
        return points, ("$z_1$", "$z_2$"), "the two latents as they are"
    if embedding == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(points) - 1) / 3)
        tsne = TSNE(2, perplexity=perplexity, init="random", random_state=0)
        return tsne.fit_transform(points), ("t-SNE 1", "t-SNE 2"), f"{dimensions} latents by t-SNE"
    pca = PCA(2, svd_solver="full")
    # Codes that are all the same have no variance to take a share of.
    with np.errstate(invalid="ignore"):
        placed = pca.fit_transform(points)
    shares = np.nan_to_num(pca.explained_variance_ratio_)
    axes = tuple(f"component {i + 1} ({share:.0%})" for i, share in enumerate(shares))
    way = f"2 principal components of {dimensions} latents, with {shares.sum():.0%} of the variance"
    return placed, (axes[0], axes[1]), way


def _scatter(points: Array, labels: Array | None, names: tuple[str, str], title: str) -> Figure:
    """Points by class, in colours and shapes, with the name of a class at its middle."""
    figure = Figure(figsize=(3.6, 4.0), layout="constrained")
    axis = figure.subplots()
    axis.set(title=title, xlabel=names[0], ylabel=names[1])
    axis.set_aspect("equal", adjustable="datalim")
    if labels is None:
        axis.scatter(points[:, 0], points[:, 1], s=9, color=_COLOURS[0], alpha=0.7, linewidths=0)
        return figure
    classes = np.unique(labels)
    for index, label in enumerate(classes):
        members = points[labels == label]
        # After each round of colours the shapes move on by one, so that pairs come back late.
        marker = _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)]
        colour = _COLOURS[index % len(_COLOURS)]
        axis.scatter(
            members[:, 0],
            members[:, 1],
            s=12,
            color=colour,
            marker=marker,
            alpha=0.7,
            linewidths=0,
            label=_plain(label),
        )
        axis.annotate(
            _plain(label),
            np.median(members, 0),
            color=colour,
            weight="bold",
            ha="center",
            va="center",
            bbox={"facecolor": "white", "edgecolor": colour, "boxstyle": "round,pad=0.2"},
        )
    columns = max(1, 20 // (3 + max(len(str(label)) for label in classes)))
    figure.legend(
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.2,
        handletextpad=0.3,
        frameon=False,
        markerscale=1.5,
    )
    return figure


# --- settings and commands -----------------------------------------------------------------------


class _Setting(NamedTuple):
    """A row of the settings: for each run its value and, if another one, the default."""

    name: str
    cells: list[tuple[str, str | None]]
    differs: bool


def _settings(columns: Sequence[_Column]) -> list[_Setting]:
    given = [_flat(asdict(column.trained.experiment)) for column in columns]
    starts = [
        _flat(asdict(experiment.default(s.data.name, s.objective)))
        for s in (column.trained.experiment for column in columns)
    ]
    names = dict.fromkeys(name for settings in given for name in settings)
    rows = []
    for name in names:
        if any(other.startswith(f"{name}.") for other in names):
            continue
        values = [settings.get(name) for settings in given]
        defaults = [settings.get(name) for settings in starts]
        cells = [
            (_shown(value), None if value == default else _shown(default))
            for value, default in zip(values, defaults, strict=True)
        ]
        rows.append(_Setting(name, cells, any(value != values[0] for value in values)))
    return rows


def _flat(value: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Nested settings by their names on the command line, such as training.warmup.epochs."""
    flat: dict[str, Any] = {}
    for name, part in value.items():
        flat |= _flat(part, f"{place}{name}.") if isinstance(part, dict) else {place + name: part}
    return flat


def _shown(value: Any) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _versions(columns: Sequence[_Column]) -> dict[str, list[str]]:
    """Versions that the numbers were measured with, a cell for each run."""
    names = dict.fromkeys(name for c in columns for name in c.measured.get("versions", {}))
    versions = {
        name: [str(c.measured.get("versions", {}).get(name, "unknown")) for c in columns]
        for name in names
    }
    samples = [str(c.measured.get("num_samples", "unknown")) for c in columns]
    return {**versions, "importance samples": samples}


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _options(settings: Experiment) -> list[str] | None:
    """Options of `mimachine train` that give these settings; none if the command has no such."""
    start, options = experiment.default(settings.data.name, settings.objective), []
    if settings.data.fresh or settings.training.schedule is not None:
        try:
            start = experiment.published(settings.data.name, settings.objective)
        except ValueError:
            return None
        options += ["--preset", "published"]
    defaults = _flat(asdict(start))
    for name, value in _flat(asdict(settings)).items():
        if name in defaults and defaults[name] == value:
            continue
        if name.startswith(("data.", "training.schedule")):
            return None
        options.append("--" + name.replace("_", "-"))
        options += [str(part) for part in value] if isinstance(value, tuple) else [str(value)]
    return options


def _training_command(column: _Column) -> str:
    """What trains the model again: a command, or Python where the command line cannot say it."""
    settings, path = column.trained.experiment, column.trained.run.path
    options, again = _options(settings), f"{path}-again"
    if options is not None:
        command = ["mimachine", "train", settings.data.name, "--objective", settings.objective]
        return shlex.join([*command, *options, "--out", again])
    return (
        "import json\nfrom mimachine import experiment, workflow\n"
        f"with open({str(path / 'experiment.json')!r}) as file:\n"
        "    settings = experiment.from_json(json.load(file))\n"
        f"workflow.train(settings, {again!r})"
    )


def _run_commands(*columns: _Column) -> list[tuple[str, str]]:
    """What each of a list of commands is for, and the command, a line for each run."""
    paths = [_quoted(column.trained.run.path) for column in columns]

    def each(command: str, options: str = "") -> str:
        return "\n".join(f"mimachine {command} {path}{options}" for path in paths)

    # JSON's quotes and escapes are also Python's.
    first = json.dumps(str(columns[0].trained.run.path))
    return [
        ("Train the same again", "\n".join(_training_command(column) for column in columns)),
        ("Measure again with more importance samples", each("evaluate", " --num-samples 5000")),
        ("Draw new data", each("sample", " --num 64")),
        ("Write the codes of the test data", each("embed")),
        ("Reconstruct the test data", each("reconstruct")),
        ("Use in Python", f"from mimachine import workflow\ntrained = workflow.open_run({first})"),
    ]


def _comparison_commands(directory: Path, columns: Sequence[_Column]) -> list[tuple[str, str]]:
    """The same for a comparison, which one command repeats if the runs share their options."""
    commands = _run_commands(*columns)
    settings = [column.trained.experiment for column in columns]
    options = [_options(each) for each in settings]
    names = [each.objective for each in settings]
    alike = all(each == options[0] for each in options) and names == [c.name for c in columns]
    if options[0] is None or not alike:
        return commands
    command = ["mimachine", "compare", settings[0].data.name, "--objectives", *names]
    again = shlex.join([*command, *options[0], "--out", f"{directory}-again"])
    return [(commands[0][0], again), *commands[1:]]
