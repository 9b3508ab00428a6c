import json
import math
from dataclasses import replace

import pytest
import torch

import mimachine as mm
from mimachine.evaluation.metric import Metric
from mimachine.paper import images
from mimachine.paper.experiments import EXPERIMENTS, reproduce
from mimachine.paper.reference import table_1
from mimachine.paper.reproduction import Request


def cells(request, data="mnist"):
    return [
        images.Cell(data, column, images._settings(data, column, 1, request))
        for column in images.COLUMNS
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
    with pytest.raises(KeyboardInterrupt, match="training 8 of 8 models in 1 processes"):
        images.table1_of("mnist")(Request(tmp_path, quick=True, say=stop))


@pytest.mark.slow
def test_the_quick_table_is_computed_once(tmp_path):
    assert {"table1", "table1-mnist", "table1-fashion-mnist", "table1-omniglot"} <= set(EXPERIMENTS)
    said = []
    request = Request(tmp_path, quick=True, jobs=2, say=said.append)
    directory = reproduce("table1", request)
    results = json.loads((directory / "results.json").read_text())
    assert len(results["cells"]) == 8
    assert {cell["data"] for cell in results["cells"]} == {"digits"}
    for cell in results["cells"]:
        values = {each["name"]: each["value"] for each in cell["report"]["metrics"]}
        # A model must not be worse than 64 pixels of equal probabilities.
        assert 0 < values["negative_log_likelihood"] < 64 * math.log(2)
    assert len(list(directory.glob("*.png"))) == 4 * (2 + 2)
    assert "not comparable" in (directory / "table.md").read_text()

    said.clear()
    again = reproduce("table1-mnist", replace(request, jobs=1))
    assert not said
    assert json.loads((again / "results.json").read_text())["cells"] == results["cells"]
