import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import smallsets
import torch

from mimachine.experiment.presets import published
from mimachine.paper import low_dimensional, sweep
from mimachine.paper.curves import Panel, curves
from mimachine.paper.reference import Reading, readings
from mimachine.paper.reproduction import Request
from mimachine.paper.sweep import Cell, Measured, carry_out, open_member
from mimachine.paper.tables import beside_the_paper, means
from mimachine.training.recipe import Training, Warmup
from mimachine.training.run import Run
from mimachine.training.schedules import Noam

pytestmark = pytest.mark.usefixtures("few_trees")

INFORMATION = Panel("mutual_information_ksg", "MI", "ksg_mutual_information_nats")


def small_cell(curve="MIM", objective="mim", hidden=4, seeds=(1, 2)):
    start = published("mixture-2d", objective)
    training = replace(start.training, epochs=2, warmup=Warmup(1))
    model = replace(start.model, hidden=(hidden,))
    return Cell(curve, hidden, replace(start, model=model, training=training), seeds)


SMALL = [small_cell(), small_cell("VAE", "vae")]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    request = Request(tmp_path_factory.mktemp("sweep"))
    with smallsets.patched():
        return request, carry_out(SMALL, request)


def numbers(measured):
    return [{k: v for k, v in each.to_json().items() if k != "seconds"} for each in measured]


def test_a_sweep_has_a_number_for_every_seed_of_every_cell(done):
    _, measured = done
    assert [each.cell for each in measured] == SMALL
    for each in measured:
        assert each.epochs == [2, 2]
        assert all(len(values) == 2 for values in each.metrics.values())
        for name in (panel.metric for panel in low_dimensional.HONEST_PANELS):
            assert np.isfinite(each.metrics[name]).all()
        # Two seeds are two models.
        assert len(set(each.metrics["negative_elbo"])) == 2


def test_finished_cells_are_not_trained_again(done):
    request, measured = done
    said = []
    again = carry_out(SMALL, replace(request, say=said.append))
    assert numbers(again) == numbers(measured)
    assert not said


def test_an_opened_member_is_the_model_that_was_measured(done, small_sets):
    request, measured = done
    model, data = open_member(SMALL[0], request, 1)
    from mimachine.evaluation.evaluate_model import evaluate

    report = evaluate(model, data, num_samples=50, seed=SMALL[0].seeds[1])
    for name in ("negative_elbo", "knn_5_accuracy_sampled"):
        assert report[name].value == pytest.approx(measured[0].metrics[name][1], rel=1e-6)


@pytest.mark.slow
def test_a_killed_sweep_resumes_in_two_processes_with_the_same_results(tmp_path_factory):
    # Other processes have whole data sets and classifiers.
    measured = carry_out(SMALL, Request(tmp_path_factory.mktemp("whole"), jobs=2))
    tmp_path = tmp_path_factory.mktemp("killed")
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from test_low_dimensional import SMALL, Request, carry_out\n"
        "carry_out(SMALL, Request(Path(sys.argv[1])))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), os.path.dirname(__file__)]
    process = subprocess.Popen(command)
    # Once the first cell has records of an epoch, its training is under way.
    records = SMALL[0].directory(Request(tmp_path)) / "metrics.jsonl"
    while not (records.exists() and records.stat().st_size) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not all((c.directory(Request(tmp_path)) / "result.json").exists() for c in SMALL)
    assert numbers(carry_out(SMALL, Request(tmp_path, jobs=2))) == numbers(measured)


def test_other_settings_or_seeds_have_another_directory(tmp_path):
    here = Request(tmp_path)
    others = [small_cell(hidden=5), small_cell(objective="vae"), small_cell(seeds=(1, 2, 3))]
    places = [cell.directory(here) for cell in (small_cell(), small_cell(), *others)]
    assert places[0] == places[1]
    assert len(set(places)) == 4


def test_requests_for_other_models_have_other_output_directories():
    requests = [Request("."), Request(".", quick=True), Request(".", seeds=1)]
    requests += [Request(".", preset="default"), Request(".", seeds=2)]
    assert len({request.label for request in requests}) == len(requests)
    assert len({request.options for request in requests}) == len(requests)


def test_metrics_survive_json_with_null_for_values_that_are_not_finite():
    metrics = {"a": np.array([1.5, math.nan]), "b": np.array([math.inf, -2.0])}
    measured = Measured(SMALL[0], metrics, [3, 4], [1, 2], (1.0, 2.0))
    value = json.loads(json.dumps(measured.to_json(), allow_nan=False))
    back = Measured.from_json(SMALL[0], value)
    assert value["metrics"]["a"] == [1.5, None]
    np.testing.assert_array_equal(back.metrics["a"], metrics["a"])
    assert math.isnan(back.metrics["b"][0])
    assert (back.epochs, back.best_epochs, back.seconds) == ([3, 4], [1, 2], (1.0, 2.0))


def diverging(monkeypatch, which):
    """Start some models of a cell with scales that overflow, so that no loss is finite."""
    original = sweep._ensemble

    def broken(cell, data):
        ensemble = original(cell, data)
        with torch.no_grad():
            dict(ensemble.named_parameters())["model/decoder/network/2/bias"][which] = 1e4
        return ensemble

    monkeypatch.setattr(sweep, "_ensemble", broken)


def test_a_diverged_model_has_no_metrics_and_does_not_affect_the_others(
    done, small_sets, tmp_path, monkeypatch
):
    diverging(monkeypatch, [1])
    (found,) = carry_out(SMALL[:1], Request(tmp_path))
    assert (found.epochs, found.best_epochs) == ([2, 0], [2, None])
    for values in found.metrics.values():
        assert np.isfinite(values).tolist() == [True, False]
    # It ends in the first epoch; later noise is drawn for fewer models.
    of_epochs = [Run(SMALL[0].directory(r)).metrics()[0] for r in (Request(tmp_path), done[0])]
    first, unbroken = (record["train_loss"] for record in of_epochs)
    assert first == [pytest.approx(unbroken[0], rel=1e-6), None]


def test_a_cell_whose_models_all_diverge_is_finished_and_reported(
    tmp_path, monkeypatch, small_sets
):
    diverging(monkeypatch, [0, 1])
    (found,) = carry_out(SMALL[:1], Request(tmp_path))
    assert (found.epochs, found.best_epochs) == ([0, 0], [None, None])
    assert np.isnan(found.values("negative_elbo")).all()
    assert math.isnan(found.mean("negative_elbo"))
    assert "(2 diverged)" in means([found], low_dimensional.HONEST_PANELS, "units")
    curves([found], low_dimensional.PAPER_PANELS, {}, "units").draw_without_rendering()
    said = []
    carry_out(SMALL[:1], Request(tmp_path, say=said.append))
    assert not said


@pytest.mark.parametrize("name", ["training.json", "result.json"])
@pytest.mark.parametrize("content", ["{}", "[]"])
def test_a_damaged_file_is_named_with_a_remedy(name, content, tmp_path):
    run = Run.create(SMALL[0].directory(Request(tmp_path)), {})
    (run.path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged: .* epochs, .*; remove it"):
        carry_out(SMALL[:1], Request(tmp_path))


# --- the paper's numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("figure", ["figure2_2d_mixture", "figure8_entropy_variants"])
def test_readings_cover_the_widths_of_the_sweep(figure):
    for points in readings(figure).values():
        assert {x for _, x in points} == set(low_dimensional.WIDTHS)
        assert all(reading.std > 0 and reading.error > 0 for reading in points.values())


@pytest.mark.parametrize("figure", ["readme_20d_mixture", "figure3_pca_fashion_mnist"])
def test_readings_cover_the_latents_of_the_sweep(figure):
    for points in readings(figure).values():
        assert {x for _, x in points} == set(low_dimensional.LATENTS)


def test_all_readings_of_mim_are_near_the_ceiling_of_the_estimator():
    # An independent check that curves are not swapped: MIM is near 7, the VAE below 2.
    points = readings("figure2_2d_mixture")["ksg_mutual_information_nats"]
    for (curve, x), reading in points.items():
        if x >= 20:
            assert (reading.mean > 6) == (curve == "MIM")
            assert reading.mean < 7.7


def test_a_difference_is_in_standard_errors_of_both_means():
    reading = Reading(mean=1.0, std=0.3, hidden=False, error=0.0)
    # Our 10 seeds have the same spread: the error of the difference is 0.3 √(2 / 10).
    assert reading.difference(1.6, 0.3, 10) == pytest.approx(0.6 / (0.3 * math.sqrt(0.2)))
    assert reading.difference(1.0, 0.3, 10) == 0
    draws = np.random.default_rng(0).normal(1.0, 0.3, (4000, 2, 10))
    scores = [
        Reading(theirs.mean(), theirs.std(ddof=1), False, 0.0).difference(
            ours.mean(), ours.std(ddof=1), 10
        )
        for theirs, ours in draws
    ]
    # Student's t with 18 degrees of freedom: variance 18/16.
    assert np.var(scores) == pytest.approx(18 / 16, abs=5 * 18 / 16 * math.sqrt(2.4 / 4000))


def test_values_outside_of_the_bands_are_reported():
    metrics = {panel.metric: np.full(3, 99.0) for panel in low_dimensional.PAPER_PANELS}
    cell = replace(small_cell(), x=20)
    outside = Measured(cell, metrics, [1] * 3, [1] * 3, (0.0, 0.0))
    answers = low_dimensional._bands([outside], low_dimensional.FIGURE_2_BANDS)
    assert len(answers) == 4
    assert all(answer.startswith("NO") for _, answer in answers)


def test_the_published_cells_are_those_of_the_released_code():
    for cell in low_dimensional._plane_cells(Request("."), ("MIM", "VAE", "MIM-H")):
        training = cell.settings.training
        assert cell.settings.data.fresh
        assert cell.seeds == tuple(range(1, 11))
        assert (training.schedule, training.batch_size, training.stop_after) == (Noam(3), 128, 4)
        assert (training.annealing.terms is not None) == (cell.curve != "VAE")
    default = low_dimensional._plane_cells(Request(".", preset="default"), ("VAE",))
    # Those of the command line, by the number of rows.
    assert {cell.settings.training for cell in default} == {Training.for_rows(10_000)}


# --- figures and tables --------------------------------------------------------------------------


def made_up(curve, x, values):
    return Measured(
        replace(SMALL[0], curve=curve, x=x),
        {"mutual_information_ksg": np.array(values)},
        [5] * len(values),
        [4] * len(values),
        (0.0, 0.0),
    )


def test_curves_are_means_over_seeds_together_with_the_papers():
    measured = [made_up("MIM", 5, [1.0, 3.0]), made_up("MIM", 20, [4.0, math.nan])]
    paper = {"ksg_mutual_information_nats": {("MIM", 5): Reading(2.5, 0.1, False, 0.01)}}
    figure = curves(measured, [INFORMATION], paper, "hidden units")
    ours, theirs = (container.lines[0] for container in figure.axes[0].containers)
    np.testing.assert_allclose(ours.get_xydata(), [[5, 2], [20, 4]])
    np.testing.assert_allclose(theirs.get_xydata(), [[5, 2.5]])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["MIM, ours", "MIM, paper"]


def test_tables_show_our_values_the_papers_and_diverged_models():
    measured = [made_up("MIM", 5, [1.0, 3.0]), made_up("MIM", 20, [4.0, math.nan])]
    paper = {
        "ksg_mutual_information_nats": {
            ("MIM", 5): Reading(2.5, 0.1, False, 0.01),
            ("MIM", 20): Reading(4.0, 0.2, True, 0.01),
        }
    }
    text = beside_the_paper(measured, [INFORMATION], paper, "hidden units")
    assert "| 5 | 2.00 ± 1.41 | 2.50 ± 0.10 | 0.5 s.e. |" in text
    assert "| 20 | 4.00 (1 diverged) | 4.00 ± < 0.20 |  |" in text
    assert "| MIM | 5 | 2.00 ± 1.41 | 4 ± 0 | 5 ± 0 |" in means(measured, [INFORMATION], "units")


# --- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure12"], "experiment must be one of figure1, .*; got 'figure12'; did you mean"),
        (["figure2", "--seeds", "0"], "seeds must be 1 or more, got 0"),
        (["figure2", "--jobs", "-1"], "jobs must be 1 or more, got -1"),
        (["figure2", "--preset", "papers"], "'papers' for argument '--preset'"),
        ([], "NAME"),
    ],
)
def test_errors_are_one_line_with_exit_code_2(arguments, message, tmp_path, capsys, monkeypatch):
    from mimachine.cli.entry import main

    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_quick_figure_2_shows_the_effect_and_writes_its_files(tmp_path):
    command = [sys.executable, "-m", "mimachine.cli", "reproduce", "figure2", "--quick", "--json"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], check=True, capture_output=True, text=True
    )
    results = json.loads(done.stdout)
    made = tmp_path / "figure2-published-quick"
    assert sorted(path.name for path in made.iterdir()) == [
        "figure2.png",
        "figure2.svg",
        "results.json",
        "table.md",
        "written.jsonl",
    ]
    assert results["command"].startswith("mimachine reproduce figure2 --quick")
    information = {
        (cell["curve"], cell["x"]): np.mean(cell["metrics"]["mutual_information_ksg"])
        for cell in results["cells"]
    }
    for x in (20, 100):
        assert information["MIM", x] > information["VAE", x] + 4
