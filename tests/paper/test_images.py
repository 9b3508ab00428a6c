import json
import math
from dataclasses import replace

import pytest
import torch

import mimachine as mm
from mimachine.evaluation.metric import Metric, Report
from mimachine.paper import images
from mimachine.paper.experiments import EXPERIMENTS, reproduce
from mimachine.paper.reference import table_1
from mimachine.paper.reproduction import Request


def cells(request, data="mnist"):
    columns = images.QUICK_COLUMNS if request.quick else images.COLUMNS
    return [
        images.Cell(data, column, images._settings(data, column, 1, request)) for column in columns
    ]


def test_our_table_has_every_entry_of_the_papers():
    titles = {column.title for column in images.COLUMNS}
    likelihoods, accuracies = (
        table_1()[name] for name in ("negative_log_likelihood", "knn_5_accuracy_sampled")
    )
    assert set(likelihoods) == {(data, title) for data in images.DATA for title in titles}
    # Classes of Omniglot are not in the table.
    assert set(accuracies) == {key for key in likelihoods if key[0] != "omniglot"}
    # On every data set and model the paper's VAE has the better likelihood, as its text says.
    for data in images.DATA:
        for mim, vae in zip(images.COLUMNS[::2], images.COLUMNS[1::2], strict=True):
            assert (mim.learning, vae.learning) == ("MIM", "VAE")
            assert (mim.architecture, mim.prior) == (vae.architecture, vae.prior)
            assert likelihoods[data, mim.title].mean > likelihoods[data, vae.title].mean


def test_published_cells_are_those_of_the_released_code():
    for cell in cells(Request(".")):
        settings, column = cell.settings, cell.column
        expected = {"VAE": "vae", "MIM": "mim-of-means"}[column.learning]
        if column.architecture == "pixel-hvae" and column.learning == "MIM":
            expected = "a-mim"
        assert settings.objective == expected
        assert replace(settings.training, seed=0) == mm.published_image_training(expected)
        assert settings.data.binarisation == "published"
        assert settings.model.prior == column.prior
        assert (settings.model.latent, settings.model.components) == (40, 500)
        assert settings.num_samples == 5000


def test_default_cells_decode_to_samples_and_are_evaluated_like_published_ones():
    published, own = cells(Request(".")), cells(Request(".", preset="default"))
    for theirs, ours in zip(published, own, strict=True):
        assert ours.settings.data == theirs.settings.data
        assert ours.settings.num_samples == theirs.settings.num_samples
        assert ours.settings.model.likelihood == theirs.settings.model.likelihood == "bernoulli"
    assert {cell.settings.objective for cell in own} == {"vae", "mim", "a-mim"}


def test_every_model_of_the_table_has_a_separate_directory(tmp_path):
    requests = [Request(tmp_path), Request(tmp_path, preset="default")]
    places = {
        cell.directory(request)
        for request in requests
        for data in images.DATA
        for cell in cells(request, data)
    }
    assert len(places) == 2 * 3 * 8


def test_a_mean_over_seeds_has_its_spread_and_is_marked_if_a_value_is_flagged():
    def metric(value, flagged=False):
        return Metric("nll", value, "nats", "", "sample", 0.1, (), flagged)

    assert images._mean([], 2) == "-"
    assert images._mean([metric(1.0)], 2) == "1.00"
    assert images._mean([metric(1.0), metric(3.0, True)], 2) == f"2.00 ± {math.sqrt(2):.2f} †"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which takes hours")
def test_days_of_training_on_a_cpu_are_announced(tmp_path):
    def stop(text):
        raise KeyboardInterrupt(text)

    with pytest.raises(KeyboardInterrupt, match=r"no GPU found: each training takes days.*--quick"):
        images.table1_of("mnist")(Request(tmp_path, say=stop))
    with pytest.raises(KeyboardInterrupt, match="training 4 of 4 models in 1 processes"):
        images.table1_of("mnist")(Request(tmp_path, quick=True, say=stop))


def test_quick_cells_differ_in_what_their_headings_say():
    for cell in cells(Request(".", quick=True), images.QUICK):
        settings, column = cell.settings, cell.column
        assert settings.model.architecture == column.architecture == "hvae"
        prior = {"standard-normal": "S", "vampprior": "VP"}[settings.model.prior]
        objective = {"a-mim": "A-MIM", "vae": "VAE"}[settings.objective]
        assert column.title == f"dense HVAE ({prior}) {objective}"
        assert settings.training.optimizer == "muon"
        rate = settings.training.learning_rate
        assert settings.training.learning_rate_at(settings.training.epochs) < 0.1 * rate
    titles = [column.title for column in images.QUICK_COLUMNS]
    assert len(set(titles)) == len(titles) == 4
    assert not set(titles) & {column.title for column in images.COLUMNS}


def test_the_quick_table_says_what_agrees_with_the_paper():
    names = ("negative_log_likelihood", "knn_5_accuracy_sampled")
    reports = {
        cell: Report(
            tuple(Metric(name, 0.5, "", "", "sample", 0.1) for name in names), "healthy", ""
        )
        for cell in cells(Request(".", quick=True), images.QUICK)
    }
    table = images._table("5-NN", names[1], 3, images.QUICK_COLUMNS, reports, table_1())
    # Models that are not in the paper have no number of it beside theirs.
    assert "paper" not in table
    assert [line.count("|") for line in table.splitlines()[2:]] == [3] * (2 + 4)
    rows = [line.split(" | ") for line in images._effects(reports, table_1()).splitlines()[4:9]]
    assert {row[0].split(", ")[1] for row in rows} == {"dense HVAE"}
    assert {row[-1] for row in rows} == {"not clear |"}


@pytest.mark.slow
def test_the_quick_table_is_computed_once_and_shows_the_effects(tmp_path):
    assert {"table1", "table1-mnist", "table1-fashion-mnist", "table1-omniglot"} <= set(EXPERIMENTS)
    said = []
    request = Request(tmp_path, quick=True, jobs=2, say=said.append)
    directory = reproduce("table1", request)
    results = json.loads((directory / "results.json").read_text())
    assert len(results["cells"]) == 4
    assert {cell["data"] for cell in results["cells"]} == {"digits"}
    values = {
        cell["column"]: {each["name"]: each["value"] for each in cell["report"]["metrics"]}
        for cell in results["cells"]
    }
    for title, metrics in values.items():
        # 64 pixels of 17 equally probable grey values.
        assert 0 < metrics["negative_log_likelihood"] < 64 * math.log(17)
        assert "A-MIM" not in title or metrics["knn_5_accuracy_sampled"] > 0.9
    of = {
        (prior, learning): values[f"dense HVAE ({prior}) {learning}"]["negative_log_likelihood"]
        for prior in ("S", "VP")
        for learning in ("A-MIM", "VAE")
    }
    # Most of what MIM loses with N(0, I) is recovered by a VampPrior.
    assert of["S", "A-MIM"] > of["S", "VAE"] + 10
    assert of["VP", "A-MIM"] < of["S", "A-MIM"] - 10
    assert len(list(directory.glob("*.png"))) == 2 * (2 + 2)
    table = (directory / "table.md").read_text()
    assert "the effects can be compared, not the values" in table

    said.clear()
    again = reproduce("table1-mnist", replace(request, jobs=1))
    assert not said
    assert json.loads((again / "results.json").read_text())["cells"] == results["cells"]
