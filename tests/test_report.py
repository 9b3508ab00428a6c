import json
import math
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from mimachine import (
    catalogue,
    cli,
    commands,
    comparison,
    datasets,
    figures,
    meanings,
    outcomes,
    pictures,
    report,
    runs,
    sections,
    workflow,
)
from mimachine.advice import advice
from mimachine.evaluation import Report
from mimachine.experiment import Data, Model, default, published
from mimachine.outcomes import kept_epoch, open_outcome
from mimachine.projections import project
from mimachine.report import write_comparison, write_report
from mimachine.training import Noam, Training, Warmup

HOSTILE = '"><script>alert(1)</script>&lt;$x_'
VOID = {"meta", "img", "wbr", "br", "hr", "input", "link"}


class Page(HTMLParser):
    """Tags, links and text of a page, with the cells of its tables by row."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.rows, self.words = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def row(self, heading):
        """The cells after a row's heading."""
        (row,) = [r for r in self.rows if len(r) > 1 and heading in r[0].split()]
        return [" ".join(cell.split()) for cell in row[1:]]


def page(file):
    return Page(file.read_text(encoding="utf-8"))


def quick(data, objective="mim", **model):
    settings = default(data, objective)
    small = replace(settings.model, **{"latent": 2, "hidden": (8,), **model})
    training = Training(epochs=2, warmup=1)
    return replace(settings, model=small, training=training, num_samples=2)


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """Little data, and some with a name that is not fit for a page."""
    plane = replace(datasets.mixture_2d(60), name="mixture-2d")
    unlabelled = replace(plane, name=HOSTILE, train_labels=None, val_labels=None, test_labels=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalogue.DATASETS, "mixture-2d", lambda: plane)
        patch.setitem(catalogue.DATASETS, HOSTILE, lambda: unlabelled)
        # Pictures take most of the time.
        patch.setattr(pictures, "_STORED_DPI", 20)
        yield


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "run"
    workflow.train(quick("digits", latent=3), path)
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    path = tmp_path_factory.mktemp("compared") / "both"
    comparison.compare({name: quick("mixture-2d", name) for name in ("mim", "vae+h")}, path)
    return path


@pytest.fixture(scope="module")
def digits_page(digits):
    return page(write_report(digits))


@pytest.fixture
def copied(digits, tmp_path):
    """A run of one's own to damage."""
    copy = tmp_path / "run"
    copy.mkdir()
    for file in outcomes.FILES:
        (copy / file).write_bytes((digits / file).read_bytes())
    return copy


@pytest.fixture
def no_pictures(monkeypatch):
    """For what is about text alone."""
    monkeypatch.setattr(report, "sections", lambda outcomes, embedding: iter(()))


def edited(run, name, edit):
    value = json.loads((run / name).read_text())
    edit(value)
    (run / name).write_text(json.dumps(value))


def check_self_contained(read, links=()):
    """No script, and nothing from elsewhere but links to reports beside this one."""
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in read.tags}
    anchors = {a["id"] for _, a in read.tags if "id" in a}
    hrefs = [a["href"] for _, a in read.tags if "href" in a]
    assert {h for h in hrefs if not h.startswith("#")} == set(links)
    assert {h[1:] for h in hrefs if h.startswith("#")} <= anchors
    for tag, attributes in read.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/png;base64,")
    (policy,) = [m["content"] for m in read.attributes("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'")


def check_accessible(read):
    assert read.attributes("html") == [{"lang": "en"}]
    assert len(read.attributes("title")) == len(read.attributes("h1")) == 1
    assert all(len(image["alt"]) > 40 for image in read.attributes("img"))
    assert all(cell["scope"] for cell in read.attributes("th"))
    ids = [a["id"] for _, a in read.tags if "id" in a]
    assert len(ids) == len(set(ids))
    referenced = {cell["headers"] for cell in read.attributes("td") if "headers" in cell}
    assert referenced <= set(ids)


def test_a_page_needs_nothing_else_and_can_be_heard(digits, compared):
    for file in (write_report(digits), write_comparison(compared)):
        read = page(file)
        check_self_contained(read)
        check_accessible(read)
        html = file.read_text()
        assert "url(" not in html
        assert "@import" not in html


def test_every_number_is_there_with_its_error_and_unit(digits, digits_page):
    read = digits_page
    saved = json.loads((digits / "report.json").read_text())
    measured = Report.from_json(saved)
    assert len(measured.metrics) > 10
    for metric in measured.metrics:
        value, unit, _, latent = read.row(metric.name)
        assert (value, latent) == (str(metric), metric.latent)
        assert unit == (metric.unit or "–")
        assert metric.definition in read.text
        assert all(note in read.text for note in metric.notes)
    assert f"Verdict: {measured.verdict}" in read.text
    assert measured.advice in read.text


def test_every_metric_has_a_meaning_of_its_own(digits, compared):
    metrics = json.loads((digits / "report.json").read_text())["metrics"]
    metrics += json.loads((compared / "comparison.json").read_text())["reports"]["mim"]["metrics"]
    for metric in metrics:
        known = metric["name"] in meanings.MEANINGS or metric["name"].startswith("knn_")
        assert known, f"tell a practitioner what {metric['name']} means"


def test_what_is_null_is_shown_as_not_finite(copied, no_pictures):
    def spoil(value):
        value["metrics"][0]["value"] = value["metrics"][0]["standard_error"] = None

    edited(copied, "report.json", spoil)
    assert page(write_report(copied)).row("negative_log_likelihood")[0] == "not finite"


def test_a_metric_that_this_version_does_not_know_is_shown_with_its_definition(copied, no_pictures):
    new = {"name": "a_new_one", "value": 0.25, "unit": "bits", "definition": "What it is."}
    new |= {"latent": "mean", "standard_error": None, "notes": []}
    edited(copied, "report.json", lambda value: value["metrics"].append(new))
    read = page(write_report(copied))
    assert read.row("a_new_one") == ["0.25", "bits", "–", "mean"]
    assert read.text.count("What it is.") == 2


def test_settings_are_all_there_and_changes_are_marked(digits, digits_page):
    read = digits_page
    settings = json.loads((digits / "experiment.json").read_text())
    del settings["format_version"]
    names = list(commands.flat(settings))
    assert {"data.name", "model.latent", "training.warmup.epochs", "num_samples"} <= set(names)
    cells = {name: read.row(name) for name in names}
    assert cells["model.prior"] == ["standard-normal"]
    assert cells["model.latent"] == ["3 (changed; default 32)"]
    assert cells["model.hidden"] == ["8 (changed; default 300)"]
    assert cells["training.schedule"] == ["none"]


def test_versions_and_commands_are_those_of_the_run(digits, digits_page):
    read = digits_page
    saved = json.loads((digits / "report.json").read_text())
    for name, version in saved["versions"].items():
        assert read.row(name) == [version]
    for command in ("evaluate", "sample", "embed", "reconstruct"):
        assert f"mimachine {command} {digits}" in read.text


def test_images_have_reconstructions_and_samples_and_points_have_the_plane(digits_page, compared):
    def sections(read):
        return [a["id"] for tag, a in read.tags if tag == "h2" and "id" in a]

    common = ["settings", "commands", "versions"]
    pictures = ["loss", "reconstructions", "samples", "codes"]
    assert sections(digits_page) == ["numbers", *pictures, *common]
    of_points = ["numbers", "loss", "plane", "codes", *common]
    assert sections(page(write_report(compared / "mim"))) == of_points
    (compared / "mim" / "report.html").unlink()
    assert sections(page(write_comparison(compared))) == ["summary", *of_points]


def test_a_dark_page_turns_drawings_round_and_leaves_images_of_data(digits, digits_page):
    kinds = [image["class"] for image in digits_page.attributes("img")]
    assert kinds == ["ink", "pixels", "pixels", "pixels", "ink"]
    style = (digits / "report.html").read_text().partition("<style>")[2].partition("</style>")[0]
    (rule,) = re.findall(r"([^{}]*)\{[^{}]*filter:[^{}]*\}", style)
    assert rule.split("*/")[-1].strip() == ".ink"
    before = style[: style.index("filter:")]
    # The innermost block that is open there is the dark scheme's.
    opened = re.findall(r"@media ([^{]*)\{(?:[^{}]*\{[^{}]*\})*[^{}]*\{[^{}]*$", before)
    assert opened == ["(prefers-color-scheme: dark) "]


def test_a_comparison_has_every_run_in_every_row_and_links_to_reports_that_exist(
    compared, no_pictures
):
    saved = json.loads((compared / "comparison.json").read_text())
    read = page(write_comparison(compared))
    reports = {name: Report.from_json(value) for name, value in saved["reports"].items()}
    for metric in reports["mim"].metrics:
        values = [str(each[metric.name]) for each in reports.values()]
        assert read.row(metric.name)[:2] == values
    assert all(line in read.text for line in saved["summary"].splitlines())
    assert read.row("objective") == ["mim", "vae+h"]
    assert "objective (differs)" in read.text
    assert "mimachine compare mixture-2d --objectives mim vae+h --model.hidden 8" in read.text
    write_report(compared / "vae+h")
    check_self_contained(page(write_comparison(compared)), {"vae%2Bh/report.html"})
    (compared / "vae+h" / "report.html").unlink()


def test_a_comparison_keeps_its_numbers_when_a_run_is_measured_anew(compared):
    file = compared / "mim" / "report.json"
    before = write_comparison(compared).read_bytes()
    original = file.read_text()
    edited(compared / "mim", "report.json", lambda value: value.update(num_samples=77))
    edited(compared / "mim", "report.json", lambda v: v["metrics"][0].update(value=1234.5))
    assert write_comparison(compared).read_bytes() == before
    file.write_text(original)


def test_hostile_names_and_notes_are_text(tmp_path):
    path = tmp_path / "a <b> & 'c'"
    workflow.train(quick(HOSTILE), path)
    edited(path, "report.json", lambda value: value.update(advice=f"Try {HOSTILE}"))
    edited(path, "report.json", lambda v: v["metrics"][0].update(notes=[HOSTILE], unit=HOSTILE))
    new = {"name": HOSTILE, "value": 1.0, "unit": "", "definition": HOSTILE, "latent": "mean"}
    edited(path, "report.json", lambda v: v["metrics"].append({**new, "notes": []}))
    edited(path, "report.json", lambda v: v["versions"].update({HOSTILE: HOSTILE}))
    read = page(write_report(path))
    check_self_contained(read)
    assert read.text.count(HOSTILE) >= 10
    (command,) = re.findall(r"mimachine train .*?-again'", read.text)
    words = shlex.split("".join(w for w in read.words if w.startswith("mimachine train '")))
    assert words[2] == HOSTILE, command
    assert words[-1] == f"{path}-again"


def test_a_run_of_a_comparison_may_have_a_name_that_is_no_formula_and_no_tag(copied):
    name = "$\\nonsense{$ <i> & 50%"
    copied.rename(copied.parent / name)
    measured = json.loads((copied.parent / name / "report.json").read_text())
    saved = {"reports": {name: measured}, "summary": f"best: {name}"}
    (copied.parent / "comparison.json").write_text(json.dumps(saved))
    write_report(copied.parent / name)
    read = page(write_comparison(copied.parent))
    check_self_contained(read, {"%24%5Cnonsense%7B%24%20%3Ci%3E%20%26%2050%25/report.html"})
    assert f"best: {name}" in read.text
    assert "mimachine compare" not in read.text


@pytest.mark.parametrize("file", outcomes.FILES)
def test_what_is_missing_is_named(file, copied):
    (copied / file).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(file)):
        write_report(copied)
    assert not (copied / "report.html").exists()


def test_what_cannot_be_read_is_an_error_that_names_it(copied, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"comparison\.json"):
        write_comparison(copied)
    with pytest.raises(ValueError, match="embedding must be pca or tsne, got 'umap'"):
        write_report(copied, embedding="umap")
    (copied / "comparison.json").write_text('{"reports": {}}')
    with pytest.raises(ValueError, match=r"comparison\.json has no reports"):
        write_comparison(copied)
    edited(copied, "report.json", lambda value: value["metrics"][0].update(extra=1))
    with pytest.raises(ValueError, match=r"report\.json does not hold a report.*extra"):
        write_report(copied)
    (copied / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"metrics\.jsonl has no epochs"):
        write_report(copied)


def test_a_missing_run_of_a_comparison_is_named(copied):
    saved = {"reports": {"gone": {"metrics": [], "verdict": "", "advice": ""}}, "summary": ""}
    (copied / "comparison.json").write_text(json.dumps(saved))
    with pytest.raises(FileNotFoundError, match="gone"):
        write_comparison(copied)


def test_two_pages_of_a_run_are_equal_and_leave_the_generator_alone(digits):
    first = write_report(digits).read_bytes()
    torch.randn(3)
    state = torch.get_rng_state()
    assert write_report(digits).read_bytes() == first
    assert torch.equal(torch.get_rng_state(), state)


def test_a_page_that_cannot_be_finished_leaves_the_old_one(copied, no_pictures, monkeypatch):
    file = write_report(copied)
    assert file == copied / "report.html"
    before, names = file.read_bytes(), sorted(path.name for path in copied.iterdir())

    def full(self):
        raise OSError("no space left")

    monkeypatch.setattr(runs.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_report(copied)
    assert file.read_bytes() == before
    assert sorted(path.name for path in copied.iterdir()) == names


def test_tsne_is_drawn_only_when_asked_for(digits, digits_page, monkeypatch):
    assert "t-SNE" not in digits_page.text
    monkeypatch.setattr(sections, "_MOST_POINTS", 50)
    read = page(write_report(digits, embedding="tsne"))
    assert "50 codes, 3 latents by t-SNE" in read.text


def test_codes_are_placed_as_they_are_or_by_components():
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


def test_classes_differ_by_shape_and_not_by_colour_alone():
    count = sections._MOST_CLASSES
    points = np.random.default_rng(0).normal(size=(2 * count, 2))
    drawn = figures.code_scatter(points, np.repeat(np.arange(count), 2), ("", ""), "")
    scatters = drawn.axes[0].collections
    looks = {(s.get_paths()[0].vertices.tobytes(), s.get_facecolor().tobytes()) for s in scatters}
    assert len(looks) == count
    assert [text.get_text() for text in drawn.axes[0].texts] == [str(i) for i in range(count)]
    ten = figures.code_scatter(np.zeros((10, 2)), np.arange(10), ("", ""), "")
    shapes = {s.get_paths()[0].vertices.tobytes() for s in ten.axes[0].collections}
    assert len(shapes) == 10
    (legend,) = ten.legends
    assert [text.get_text() for text in legend.get_texts()] == [str(i) for i in range(10)]


@pytest.mark.parametrize(
    "settings",
    [
        default("digits"),
        default("mixture-2d", "a-mim"),
        published("mixture-2d"),
        replace(published("mixture-2d"), model=Model(latent=2, hidden=(7, 5))),
        quick("digits", "vae", hidden=(), encoder_floor=0.25, prior="vampprior"),
        replace(
            default("digits"),
            training=Training(10, 8, 0.1, None, Warmup(4, ("q_x", "p_z"), "after", "sum"), None),
            num_samples=7,
        ),
    ],
)
def test_the_command_for_the_same_again_gives_the_same_settings(settings):
    options = commands.options(settings)
    arguments = [settings.data.name, "--objective", settings.objective, *options]
    command = cli._parse_trainer(cli.Train, arguments)
    assert cli._experiment(command, command.objective) == settings


def test_what_the_command_line_cannot_say_is_said_in_python(digits):
    settings = replace(default("digits"), training=Training(schedule=Noam(5)))
    assert commands.options(settings) is None
    assert commands.options(replace(default("digits"), data=Data("digits", fresh=True))) is None
    outcome = open_outcome(digits)
    trained = replace(outcome.trained, experiment=settings)
    code = commands.training(replace(outcome, trained=trained))
    compile(code, "command", "exec")
    assert repr(str(digits / "experiment.json")) in code


def test_advice_is_for_what_the_run_shows(digits):
    outcome = open_outcome(digits)

    def told(losses, verdict="healthy", notes=()):
        epochs = [{"epoch": i, "beta": 1.0, "val_loss": loss} for i, loss in enumerate(losses)]
        metrics = (replace(outcome.report.metrics[0], notes=tuple(notes)),)
        measured = Report(metrics, verdict, "The verdict's own.")
        return " ".join(advice(replace(outcome, records=epochs, report=measured)))

    assert told([1.0, 2.0]).startswith("The verdict's own. Nothing needs mending.")
    assert "Try more epochs, such as --training.epochs 8" in told([2.0, 1.0])
    # Stopped early at its best is not cut short.
    assert "more epochs" not in told([1.0])
    assert "Nothing" not in told([1.0, 2.0], "collapsed")
    loose = "under 10 for 7% of the data: an upper bound that may be loose"
    assert "few importance samples" in told([1.0, 2.0], notes=[loose])
    assert kept_epoch([{"epoch": 1, "beta": 0.5, "val_loss": -math.inf}]) is None


def test_an_interrupted_run_says_how_to_go_on(copied, no_pictures):
    (copied / "state.ckpt").write_bytes(b"")
    assert f"mimachine train --resume {copied}" in page(write_report(copied)).text
