import csv
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tableruns
import torch
from sklearn.metrics import r2_score

from mimachine import workflow
from mimachine._support import memory
from mimachine.cli.entry import main
from mimachine.data import bundled, dataset, learn_preprocessing
from mimachine.data.files.options import File
from mimachine.data.rows import Rows
from mimachine.evaluation import glossary
from mimachine.evaluation.metric import Report
from mimachine.experiment.presets import default
from mimachine.experiment.settings import Data, flat
from mimachine.reporting import comparison, html_image, measured_run, sections
from mimachine.reporting import page as report
from mimachine.reporting.explained import Explained
from mimachine.reporting.measured_run import open_outcome
from mimachine.reporting.page import write_comparison, write_report
from mimachine.training import run
from mimachine.training.recipe import Training

pytestmark = pytest.mark.usefixtures("few_trees")

HOSTILE = '"><script>alert(1)</script>&lt;$x_'
HOSTILE_FILE = '"><img src=x onerror=alert(1)>&lt;$x_.csv'
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


def sections_of(read):
    return [a["id"] for tag, a in read.tags if tag == "h2" and "id" in a]


def quick(data, objective="mim", **model):
    settings = default(data, objective)
    small = replace(settings.model, **{"latent": 2, "hidden": (8,), **model})
    training = Training(epochs=2, warmup=1)
    return replace(settings, model=small, training=training, num_samples=2)


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """A small mixture-2d data set."""
    plane = replace(bundled.mixture_2d(60), name="mixture-2d")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundled, "mixture_2d", lambda: plane)
        # Figures take most of the time.
        patch.setattr(html_image, "_STORED_DPI", 20)
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
def table(tmp_path_factory):
    """A run on a file of numbers, as an array, with classes: one of 15 columns is constant."""
    folder = tmp_path_factory.mktemp("secret")
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 15)) + 100
    values[:, 1] = np.rint(values[:, 1])
    values[:, 2] = 7
    names = [f"column-{i}" for i in range(15)]
    names[3] = HOSTILE
    kinds = np.array([HOSTILE, "猫", "third"])[rng.integers(0, 3, 60)]
    with (folder / HOSTILE_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "kind"])
        writer.writerows([*row, kind] for row, kind in zip(values.tolist(), kinds, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        data = Data(HOSTILE_FILE, file=File(labels="kind"))
        settings = replace(quick("mixture-2d", latent=3, likelihood="gaussian"), data=data)
        workflow.train(settings, "a <b> & 'c'")
        yield Path("a <b> & 'c'")


@pytest.fixture(scope="module")
def table_page(table):
    return page(write_report(table))


@pytest.fixture(scope="module")
def digits_page(digits):
    return page(write_report(digits))


@pytest.fixture
def copied(digits, tmp_path):
    """A copy of a run to damage."""
    copy = tmp_path / "run"
    copy.mkdir()
    for file in measured_run.FILES:
        (copy / file).write_bytes((digits / file).read_bytes())
    return copy


@pytest.fixture
def no_pictures(monkeypatch):
    """Omit figures, for tests of the text alone."""
    monkeypatch.setattr(report, "sections", lambda outcomes, embedding: iter(()))


def edited(run, name, edit):
    """Edit a file, which then has no digest, as in runs of version 0.1."""
    value = json.loads((run / name).read_text())
    edit(value)
    value.pop("digest", None)
    (run / name).write_text(json.dumps(value))


def check_self_contained(read, links=()):
    """No scripts, and no external resources except links to reports of runs."""
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


def test_a_page_is_self_contained_and_accessible(digits, compared):
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
        mark = " †" if metric.flagged else ""
        assert (value, latent) == (f"{metric}{mark}", metric.latent)
        assert unit == (metric.unit or "–")
        assert metric.definition in read.text
        assert all(note in read.text for note in metric.notes)
    assert any(metric.flagged for metric in measured.metrics)
    assert f"Verdict: {measured.verdict}" in read.text
    assert measured.advice in read.text


def test_every_metric_is_in_the_glossary(digits, compared):
    metrics = json.loads((digits / "report.json").read_text())["metrics"]
    metrics += json.loads((compared / "comparison.json").read_text())["reports"]["mim"]["metrics"]
    for metric in metrics:
        assert metric["name"] in glossary.GLOSSARY


def test_null_is_shown_as_not_finite(copied, no_pictures):
    def spoil(value):
        value["metrics"][0]["value"] = value["metrics"][0]["standard_error"] = None

    edited(copied, "report.json", spoil)
    assert page(write_report(copied)).row("negative_log_likelihood")[0] == "not finite †"


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
    names = [name for name in flat(settings) if not name.startswith("data.file.")]
    assert {"data.name", "model.latent", "training.warmup.epochs", "num_samples"} <= set(names)
    cells = {name: read.row(name) for name in names}
    assert cells["model.prior"] == ["standard-normal"]
    assert cells["model.latent"] == ["3 (changed; default 32)"]
    assert cells["model.hidden"] == ["8 (changed; default 300)"]
    assert cells["training.schedule"] == ["none (changed; default cosine)"]
    # Options for reading a file are shown only for files.
    assert "data.file" not in read.text


def test_versions_and_commands_are_those_of_the_run(digits, digits_page):
    read = digits_page
    saved = json.loads((digits / "report.json").read_text())
    for name, version in saved["versions"].items():
        assert read.row(name) == [version]
    for command in ("evaluate", "sample", "embed", "reconstruct"):
        assert f"mimachine {command} {digits}" in read.text


def test_images_have_reconstructions_and_samples_and_points_have_the_plane(digits_page, compared):
    common = ["settings", "commands", "versions"]
    pictures = ["loss", "reconstructions", "samples", "codes"]
    assert sections_of(digits_page) == ["numbers", *pictures, *common]
    of_points = ["numbers", "loss", "columns", "plane", "codes", *common]
    assert sections_of(page(write_report(compared / "mim"))) == of_points
    (compared / "mim" / "report.html").unlink()
    assert sections_of(page(write_comparison(compared))) == ["summary", *of_points]


def test_a_dark_page_inverts_plots_and_leaves_images_of_data(digits, digits_page):
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
        values = [each[metric.name].marked for each in reports.values()]
        assert read.row(metric.name)[:2] == values
    assert all(line in read.text for line in saved["summary"].splitlines())
    assert read.row("objective") == ["mim", "vae+h"]
    assert "objective (differs)" in read.text
    assert "mimachine compare mixture-2d --objectives mim vae+h --model.hidden 8" in read.text
    write_report(compared / "vae+h")
    check_self_contained(page(write_comparison(compared)), {"vae%2Bh/report.html"})
    (compared / "vae+h" / "report.html").unlink()


def test_a_comparison_keeps_its_metrics_when_a_run_is_evaluated_again(compared):
    file = compared / "mim" / "report.json"
    before = write_comparison(compared).read_bytes()
    original = file.read_text()
    edited(compared / "mim", "report.json", lambda value: value.update(num_samples=77))
    edited(compared / "mim", "report.json", lambda v: v["metrics"][0].update(value=1234.5))
    assert write_comparison(compared).read_bytes() == before
    file.write_text(original)


def test_hostile_names_and_notes_are_text(copied, no_pictures):
    edited(copied, "report.json", lambda value: value.update(advice=f"Try {HOSTILE}"))
    edited(copied, "report.json", lambda v: v["metrics"][0].update(notes=[HOSTILE], unit=HOSTILE))
    new = {"name": HOSTILE, "value": 1.0, "unit": "", "definition": HOSTILE, "latent": "mean"}
    edited(copied, "report.json", lambda v: v["metrics"].append({**new, "notes": []}))
    edited(copied, "report.json", lambda v: v["versions"].update({HOSTILE: HOSTILE}))
    read = page(write_report(copied))
    check_self_contained(read)
    assert read.text.count(HOSTILE) >= 9


def test_hostile_names_of_files_columns_and_classes_are_text(table, table_page):
    check_self_contained(table_page)
    check_accessible(table_page)
    assert table_page.text.startswith(f"mim on {HOSTILE_FILE}")
    # The picture, the table of shares and the key of the classes.
    assert table_page.text.count(HOSTILE) >= 3
    (command,) = [w for w in table_page.words if w.startswith("mimachine train '")]
    words = shlex.split(command)
    assert words[2] == HOSTILE_FILE
    assert words[-1] == f"{table}-again"


def test_names_of_runs_are_neither_read_as_formulas_nor_as_tags(copied):
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


@pytest.mark.parametrize("file", measured_run.FILES)
def test_missing_files_are_named(file, copied):
    (copied / file).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(file)):
        write_report(copied)
    assert not (copied / "report.html").exists()


def test_unreadable_files_are_named_in_the_error(copied, tmp_path):
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
    with pytest.raises(ValueError, match=r"report\.json does not contain a valid report.*extra"):
        write_report(copied)
    (copied / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"metrics\.jsonl has no epochs"):
        write_report(copied)


def test_a_missing_run_of_a_comparison_is_named(copied):
    saved = {
        "reports": {"gone": {"metrics": [], "verdict": "healthy", "advice": ""}},
        "summary": "",
    }
    (copied / "comparison.json").write_text(json.dumps(saved))
    with pytest.raises(FileNotFoundError, match="gone"):
        write_comparison(copied)


def test_two_pages_of_a_run_are_equal_and_leave_the_generator_alone(digits):
    first = write_report(digits).read_bytes()
    torch.randn(3)
    state = torch.get_rng_state()
    assert write_report(digits).read_bytes() == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["digits", "table"])
def test_the_page_of_a_run_that_is_open_is_that_of_the_run_on_the_disk(kind, tmp_path):
    settings, rng = quick("digits", latent=3), np.random.default_rng(0)
    if kind == "table":
        file = tmp_path / "table.csv"
        rows = zip(
            rng.normal(50, 3, 60), rng.integers(0, 9, 60), rng.integers(0, 2, 60), strict=True
        )
        lines = [f"{a:.2f},{b},{['true', 'false'][c]},class {c}" for a, b, c in rows]
        file.write_text("\n".join(["width,count,open,kind", *lines]))
        settings = replace(settings, data=Data(str(file), file=File(labels="kind")))
    path, pages = tmp_path / "run", []

    def write(trained):
        pages.append(write_report(path, trained=trained).read_bytes())

    workflow.train(settings, path, then=write)
    assert write_report(path).read_bytes() == pages[0]


def test_a_page_that_cannot_be_finished_leaves_the_old_one(copied, no_pictures, monkeypatch):
    file = write_report(copied)
    assert file == copied / "report.html"
    before, names = file.read_bytes(), sorted(path.name for path in copied.iterdir())

    def full(self):
        raise OSError("no space left")

    monkeypatch.setattr(run.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_report(copied)
    assert file.read_bytes() == before
    assert sorted(path.name for path in copied.iterdir()) == names


def test_tsne_is_used_only_on_request(digits, digits_page, monkeypatch):
    assert "t-SNE" not in digits_page.text
    monkeypatch.setattr(sections, "_MOST_POINTS", 50)
    read = page(write_report(digits, embedding="tsne"))
    assert "50 codes, t-SNE of 3 latents" in read.text


def test_the_report_of_an_interrupted_run_says_how_to_resume_it(copied, no_pictures):
    (copied / "state.ckpt").write_bytes(b"")
    assert f"mimachine train --resume {copied}" in page(write_report(copied)).text


def test_a_table_has_a_histogram_of_each_of_its_first_columns(table_page):
    captions = [words.strip() for words in table_page.words]
    names = [f"column-{i}" if i != 3 else HOSTILE for i in range(15) if i != 2]
    alts = [image["alt"] for image in table_page.attributes("img")]
    assert [alt.partition(":")[0] for alt in alts[1:13]] == [
        f"Histogram of {n}" for n in names[:12]
    ]
    assert all(name in captions for name in names[:12])
    assert "Only the first 12 of 14 columns are plotted." in table_page.text
    assert sections_of(table_page)[:4] == ["numbers", "loss", "columns", "codes"]


def test_explained_variance_is_that_of_reconstruct_the_worst_first(table, table_page):
    trained = workflow.open_run(table)
    restored = workflow.reconstruct(trained.model, trained.data.test).mean
    before, after = (trained.data.restore(rows) for rows in (trained.data.test, restored))
    names = trained.data.columns
    # In the file's units, by another implementation; the constant column is the third.
    shares = r2_score(before, after, multioutput="raw_values")
    expected = {names[i]: shares[i] for i in range(15) if i != 2}
    worst = sorted(expected, key=expected.get)
    rows = [row for row in table_page.rows if len(row) == 2 and row[0] in expected]
    assert [row[0] for row in rows] == worst
    for name, share in rows:
        assert share == ("none" if expected[name] < 0.005 else f"{expected[name]:.0%}")
    assert f"Lowest R²: '{worst[0]}' (" in table_page.text


def test_classes_have_the_names_of_the_file(table_page):
    # The figure's font lacks the letters of two names, so the caption lists the names.
    assert f"0 is {HOSTILE}, 1 is third, 2 is 猫." in table_page.text


def test_a_page_does_not_reveal_the_folder_of_the_file(table, table_page):
    html = write_report(table).read_text(encoding="utf-8")
    assert str(Path.cwd()) not in html
    assert Path.cwd().name not in html
    assert table_page.row("data.name") == [HOSTILE_FILE]
    assert table_page.row("data.file.labels") == ["kind"]


def test_data_read_on_demand_make_the_same_page(table, monkeypatch):
    before = write_report(table).read_bytes()
    monkeypatch.setattr(memory, "stays_on_disk", lambda size: True)
    assert isinstance(workflow.open_run(table).data.train, Rows)
    assert write_report(table).read_bytes() == before


def test_a_page_is_the_same_in_another_process_and_has_no_absolute_paths(digits, monkeypatch):
    """With another hash seed, and the run given as a relative path."""
    code = (
        "from mimachine.reporting import html_image, page; html_image._STORED_DPI = 20; "
        f"page.write_report({digits.name!r})"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=digits.parent, env=environment, check=True)
    there = (digits / "report.html").read_bytes()
    monkeypatch.chdir(digits.parent)
    assert write_report(digits.name).read_bytes() == there
    html = re.sub('base64,[^"]*', "", there.decode())
    for place in (digits.parent, Path(report.__file__).parent):
        assert str(place) not in html


def test_tips_for_all_runs_of_a_comparison_are_shown_once(compared):
    read = page(write_comparison(compared))
    few = "rows, so all metrics"
    assert few in page(write_report(compared / "mim")).text
    assert read.text.count(few) == 1
    assert "Tips for all models" in read.text
    assert read.text.index("Tips for all models") < read.text.index(few)
    (compared / "mim" / "report.html").unlink()


def test_options_in_tips_are_not_broken_after_their_hyphens(digits, digits_page):
    html = (digits / "report.html").read_text(encoding="utf-8")
    tips = html[html.index('<div class="verdicts">') : html.index("<nav")]
    assert "--training.epochs" in tips
    assert tips.count("--") == tips.count('<span class="option">--')
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert ".option { white-space: nowrap; }" in style


@pytest.mark.parametrize(
    ("columns", "size"),
    [(None, "examples of 3 numbers"), (("a",) * 3, "rows of 3 columns")],
)
def test_named_columns_are_counted_in_the_description_of_data(columns, size):
    learned, _ = learn_preprocessing.learn(np.eye(3), np.ones(3, dtype=bool), columns=columns)
    x = torch.eye(3)
    data = dataset.Dataset("any", x, x, x, preprocessing=learned)
    assert report._described(data).startswith(f"Data: any, {size}; 3 for training")
    single = replace(data, train=x[:, :1], test=x[:, :1], preprocessing=None)
    assert "any, examples of one number;" in report._described(single)


def test_constant_columns_are_not_among_the_worst(digits):
    outcome = open_outcome(digits)
    outcome.__dict__["explained"] = Explained(np.array([1.0, 0.5, 0.0]), np.array([4.0, 1.0, 0.0]))
    expected = ["'b' (50% of its variance)", "'a' (75% of its variance)"]
    assert sections._worst_columns(outcome, "abc") == expected
    outcome.__dict__["explained"] = Explained(np.zeros(3), np.zeros(3))
    assert sections._worst_columns(outcome, "abc") == []


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Two runs on a table with text, dates, holes and hostile names, compared."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    with (folder / "people.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["age", HOSTILE, "two\nlines", "\u202eday", "city", "region"])
        for _ in range(120):
            age, town = int(rng.integers(18, 90)), int(rng.integers(4))
            level = [HOSTILE, "猫", "$a_b", "\u202egnp"][rng.integers(4)]
            day = f"2024-{rng.integers(1, 13):02}-{rng.integers(1, 29):02}"
            holes = ["" if rng.random() < 0.2 else text for text in (str(age), level)]
            writer.writerow([*holes, f"{rng.normal():.2f}", day, f"town {town}", f"r{town // 2}"])
    file = str(folder / "people.csv")
    settings = {n: replace(quick("mixture-2d", n), data=Data(file)) for n in ("a-mim", "vae")}
    path = folder / "both"
    comparison.compare(settings, path)
    return path


def test_the_page_of_a_table_has_its_columns_rows_and_commands(people):
    path = people / "a-mim"
    read = page(write_report(path))
    check_self_contained(read)
    check_accessible(read)
    tables = ["columns", "associations", "explained", "unusual", "kinds"]
    assert sections_of(read) == [
        *("numbers", "loss", *tables, "codes"),
        *("settings", "commands", "versions"),
    ]
    hidden = {"\u202e", "\x00"}
    for image in read.attributes("img"):
        assert not hidden & set(image["alt"])
    html = (path / "report.html").read_text(encoding="utf-8")
    assert "\u202e" not in html
    assert read.text.count(HOSTILE) >= 3
    for name in ("age", "city", "region"):
        assert f"{name}:" in read.text
    assert ["region", "category"] in [row[:2] for row in read.rows]
    for command in ("sample", "score", "impute", "reconstruct", "embed"):
        assert f"mimachine {command} {path}" in read.text
    (command,) = [word for word in read.words if "--given" in word]
    # The first column of levels, and its most frequent one but not a missing value.
    assert shlex.split(command)[-1].startswith(f"{HOSTILE}=")
    (path / "report.html").unlink()


def test_commands_of_the_page_of_a_table_run_as_they_are_written(people):
    read = page(write_report(people / "a-mim"))
    lines = [line for words in read.words for line in words.splitlines()]
    tried = [line for line in lines if re.match("mimachine (sample|score|impute) ", line)]
    assert len(tried) == 4
    with tableruns.brief_proposals():
        assert [main(shlex.split(line)[1:]) for line in tried] == [0, 0, 0, 0]
    for name in ("samples", "scores", "imputed"):
        assert (people / "a-mim" / f"{name}.csv").is_file()
    (people / "a-mim" / "report.html").unlink()


def test_the_page_of_a_comparison_on_a_table_has_every_model(people):
    read = page(write_comparison(people))
    check_self_contained(read)
    check_accessible(read)
    assert {"columns", "associations", "unusual", "kinds"} <= set(sections_of(read))
    captions = [words for words in read.words if words.startswith("The test rows that fit worst")]
    assert [caption.split()[-1] for caption in captions] == ["a-mim", "vae"]
    assert write_comparison(people).read_bytes() == (people / "report.html").read_bytes()
