"""Files of a run that somebody edited or damaged: one line says so, or nothing changes.

With MIMACHINE_MUTATIONS=1000 each test tries that many edits; `-s` prints how they ended. Edits
that crash the process are seen by the slow test, which starts processes of its own.
"""

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import headers, json_texts, raw_bytes, states

from mimachine import workflow
from mimachine.cli.entry import main
from mimachine.data.files.options import File
from mimachine.experiment.presets import default
from mimachine.experiment.settings import Data
from mimachine.reporting.comparison import compare
from mimachine.reporting.measured_run import open_outcome
from mimachine.training.fit import fit
from mimachine.training.recipe import Training
from mimachine.training.run import Run
from mimachine.training.trainer import Trainer
from mimachine.workflow.prepare_run import prepare_training
from mimachine.workflow.stored_settings import stored_settings

pytestmark = pytest.mark.usefixtures("few_trees")

EXAMPLES = int(os.environ.get("MIMACHINE_MUTATIONS", "8"))
ENDS = Counter()
many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def small(data, labels=None, epochs=1, **training):
    start = default("mixture-2d")
    recipe = Training(epochs=epochs, batch_size=16, warmup=0, **training)
    model = replace(start.model, latent=2, hidden=(4,))
    source = Data(str(data), file=File(labels=labels))
    return replace(start, data=source, model=model, training=recipe, num_samples=2)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs on a table, on an array and on images, a comparison, a refit and an interrupted run."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 3)).round(2)
    rows[:, 1] = 7
    lines = [f"{a},{b},{c},{'pq'[i % 2]}" for i, (a, b, c) in enumerate(rows.tolist())]
    (folder / "x.csv").write_text("\n".join(["age,height,weight,kind", *lines]) + "\n")
    np.save(folder / "rows.npy", rows)
    np.save(folder / "images.npy", rng.integers(0, 256, (20, 2, 3)).astype(np.uint8))
    table = small(folder / "x.csv", "kind")
    workflow.train(table, folder / "table", progress=False)
    workflow.train(small(folder / "rows.npy"), folder / "array", progress=False)
    workflow.train(small(folder / "images.npy"), folder / "images", progress=False)
    compare({name: replace(table, objective=name) for name in ("mim", "vae")}, folder / "both")
    workflow.refit(folder / "table", folder / "refit", components=2, num_samples=2, progress=False)
    interrupt(small(folder / "x.csv", "kind", 3, ema_decay=0.5), folder / "stopped")
    return folder


class Interrupted(Exception):
    pass


def interrupt(experiment, path):
    """A run that is interrupted in its third epoch."""
    train = Trainer.epoch

    def epoch(self, number):
        if number == 3:
            raise Interrupted
        return train(self, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "epoch", epoch)
        with pytest.raises(Interrupted):
            workflow.train(experiment, path, progress=False, checkpoint_seconds=0)


def printed(*arguments):
    """What a command prints; a ValueError if it ends with one line on standard error."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main([*map(str, arguments)])
    if code == 0:
        return out.getvalue()
    assert code == 2, errors.getvalue()
    assert errors.getvalue().startswith("mimachine: error: ")
    assert errors.getvalue().count("\n") == 1
    assert len(errors.getvalue()) < 1500
    assert errors.getvalue().strip().isprintable()
    raise ValueError(errors.getvalue())


def inspected(folder):
    return printed("inspect", folder, "--json")


def sampled(folder, prior="model"):
    """Samples in the units of the data."""
    trained = workflow.open_model(folder)
    drawn = workflow.sample(getattr(trained, prior), 3)
    values = trained.data.restore(drawn.x, drawn=True)
    assert np.isfinite(values).all()
    return values.tobytes()


def generated(folder):
    """Samples with the prior fitted to the codes."""
    return sampled(folder, "generator")


def with_data(folder):
    codes = folder / "codes.csv"
    printed("embed", folder, "--out", codes)
    return inspected(folder), sampled(folder), codes.read_text()


def with_metrics(folder):
    return inspected(folder), open_outcome(folder).records


def with_report(folder):
    return inspected(folder), printed("table", folder), str(workflow.load(folder).report)


def with_comparison(folder):
    return printed("table", folder)


def with_refit(folder):
    return inspected(folder), sampled(folder)


def resumed(folder):
    """Weights and records at the end of training."""
    run = Run(folder)
    experiment = stored_settings(run)
    _, loss, *sources = prepare_training(experiment, run)
    fit(loss, *sources, experiment.training, run=run, progress=False)
    weights = [tensor.numpy().tobytes() for tensor in loss.state_dict().values()]
    return weights, run.metrics()


FILES = {
    "data.json of a table": ("table/data.json", with_data),
    "data.json of images": ("images/data.json", with_data),
    "report.json": ("table/report.json", with_report),
    "refit.json": ("refit/refit.json", with_refit),
    "comparison.json": ("both/comparison.json", with_comparison),
    "metrics.jsonl": ("stopped/metrics.jsonl", inspected),
    "metrics.jsonl of a finished run": ("table/metrics.jsonl", with_metrics),
    "model.safetensors": ("table/model.safetensors", sampled),
    "fitted_prior.safetensors": ("table/fitted_prior.safetensors", generated),
    "state.ckpt": ("stopped/state.ckpt", resumed),
    "experiment.json": ("table/experiment.json", sampled),
}
JSON = [name for name in FILES if "json" in name and "metrics" not in name]
SEALED = [name for name in JSON if name != "experiment.json"]
_EXPECTED = {}


def attempt(runs, name, content, strictly):
    """Read a run with another file: an error in one line or, if strictly, the same result."""
    file, use = FILES[name]
    folder = runs / Path(file).parent
    copy = runs / "copy" / folder.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    if name not in _EXPECTED:
        _EXPECTED[name] = use(copy)
        shutil.rmtree(copy)
        shutil.copytree(folder, copy)
    (copy / Path(file).name).write_bytes(content)
    kind = f"{name}, {os.environ['PYTEST_CURRENT_TEST'].split('::')[-1].split('[')[0]}"
    message, found = None, None
    errors: tuple[type[Exception], ...] = (ValueError, FileNotFoundError)
    # From another state, which without a digest may be any finite one, training may diverge.
    errors = errors if strictly else (*errors, FloatingPointError)
    try:
        found = use(copy)
    except errors as error:
        message = str(error)
    ENDS[kind, "accepted" if message is None else "refused"] += 1
    if message is None:
        assert not strictly or found == _EXPECTED[name]
    else:
        assert "\n" not in message.strip()


@pytest.fixture(scope="module", autouse=True)
def ends():
    yield
    for (kind, end), count in sorted(ENDS.items()):
        print(f"{kind}: {count} {end}")


@pytest.mark.parametrize("name", SEALED)
@many
@given(data=st.data())
def test_edits_of_a_json_file_are_refused_or_change_nothing(runs, name, data):
    text = data.draw(json_texts(json.loads((runs / FILES[name][0]).read_text())))
    attempt(runs, name, encoded(text), strictly=has_digest(text))


@pytest.mark.parametrize("name", JSON)
@many
@given(data=st.data())
def test_edits_of_a_json_file_without_digest_give_results_or_one_line(runs, name, data):
    value = json.loads((runs / FILES[name][0]).read_text())
    value.pop("digest", None)
    attempt(runs, name, encoded(data.draw(json_texts(value))), strictly=False)


@pytest.mark.parametrize("name", [name for name in FILES if "metrics" in name])
@pytest.mark.parametrize("sealed", [True, False], ids=["with digest", "without digest"])
@many
@given(data=st.data())
def test_edits_of_records_are_refused_or_change_nothing(runs, name, sealed, data):
    lines = (runs / FILES[name][0]).read_text().splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    value = json.loads(lines[number])
    if not sealed:
        del value["digest"]
    lines[number] = data.draw(json_texts(value)).replace("\n", " ")
    attempt(runs, name, encoded("\n".join(lines) + "\n"), strictly=has_digest(lines[number]))


# Records of an interrupted run may end anywhere; those of a finished one are counted.
@pytest.mark.parametrize(
    "name", [name for name in FILES if name not in ("metrics.jsonl", "experiment.json")]
)
@many
@given(data=st.data())
def test_damaged_bytes_are_refused_or_change_nothing(runs, name, data):
    content = (runs / FILES[name][0]).read_bytes()
    attempt(runs, name, data.draw(raw_bytes(content)), strictly=True)


@pytest.mark.parametrize("name", ["model.safetensors", "fitted_prior.safetensors"])
@many
@given(data=st.data())
def test_edited_headers_of_weights_are_refused_or_change_nothing(runs, name, data):
    content = (runs / FILES[name][0]).read_bytes()
    attempt(runs, name, data.draw(headers(content)), strictly=True)


@pytest.mark.parametrize("sealed", [True, False], ids=["with digest", "without digest"])
@many
@given(data=st.data())
def test_edited_states_are_refused_or_change_nothing(runs, sealed, data):
    saved = torch.load(runs / FILES["state.ckpt"][0], weights_only=True)
    if not sealed:
        del saved["digest"]
    content, has_digest = data.draw(states(saved))
    if content is not None:
        attempt(runs, "state.ckpt", content, strictly=has_digest)


def has_digest(text):
    """Whether a file still has a digest; one of two edits may have removed it."""
    try:
        return "digest" in json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return False


def encoded(text):
    return text.encode("utf-8", "surrogatepass")


def put_pipe(file):
    os.mkfifo(file)


def put_socket(file):
    with contextlib.chdir(file.parent), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(file.name)


SPECIAL = {
    "a pipe": put_pipe,
    "a directory": Path.mkdir,
    "a socket": put_socket,
    "a device": lambda file: file.symlink_to("/dev/zero"),
    "a link to nothing": lambda file: file.symlink_to("nothing"),
    "a link to itself": lambda file: file.symlink_to(file.name),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_regular_file_is_refused_without_waiting(runs, tmp_path, name, kind):
    file, use = FILES[name]
    shutil.copytree(runs / Path(file).parent, copy := tmp_path / "copy")
    (copy / Path(file).name).unlink()
    SPECIAL[kind](copy / Path(file).name)
    with pytest.raises((ValueError, OSError), match=Path(file).name) as refused:
        use(copy)
    assert "\n" not in str(refused.value).strip()


@pytest.fixture
def table(runs, tmp_path):
    """A copy of a finished run to edit."""
    return Path(shutil.copytree(runs / "table", tmp_path / "table"))


def change(file, edit):
    """Edit a file, which then has no digest."""
    value = json.loads(file.read_text())
    value.pop("digest", None)
    edit(value)
    file.write_text(json.dumps(value))


def test_errors_of_settings_name_their_file_and_entry(table):
    file = table / "experiment.json"
    change(file, lambda value: value["model"].update(latent="2"))
    for use in (sampled, with_data, resumed):
        with pytest.raises(ValueError, match=r"experiment\.json: settings .* valid: model\.latent"):
            use(table)


LARGE = {
    "latent": lambda value: value["model"].update(latent=10**7),
    "hidden": lambda value: value["model"].update(hidden=[10**6, 10**6]),
    "components": lambda value: value["model"].update(prior="vampprior", components=10**9),
}


@pytest.mark.parametrize("name", LARGE)
def test_settings_of_a_model_that_the_weights_cannot_be_of_take_no_memory(table, name):
    change(table / "experiment.json", LARGE[name])
    with pytest.raises(ValueError, match=r"model\.safetensors does not hold the weights of this"):
        sampled(table)


@pytest.mark.parametrize("shape", [[10**5, 10**5], [10**7], [10**8]])
def test_a_shape_of_data_that_the_weights_cannot_be_of_takes_no_memory(runs, tmp_path, shape):
    array = Path(shutil.copytree(runs / "array", tmp_path / "array"))
    wide = {"shape": shape, "columns": None, "kept": None, "constants": None}
    wide |= {"shift": 0.0, "scale": 1.0, "floor": 0.1, "decimals": -1, "booleans": False}
    change(array / "data.json", lambda value: value["preprocessing"].update(wide))
    with pytest.raises(ValueError, match=r"does not hold the weights of this|as memory allows"):
        sampled(array)


def test_a_schema_that_the_weights_cannot_be_of_is_refused(table):
    def longer(value):
        column = dict(value["schema"]["columns"][0])
        value["schema"]["columns"] += [{**column, "name": f"more {k}"} for k in range(50)]

    change(table / "data.json", longer)
    with pytest.raises(ValueError, match=r"does not hold the weights of this"):
        sampled(table)


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "a/b", "../table", "a\0"])
def test_names_of_compared_runs_do_not_lead_elsewhere(runs, tmp_path, name):
    both = shutil.copytree(runs / "both", tmp_path / "both")
    change(both / "comparison.json", lambda v: v["reports"].update({name: v["reports"]["mim"]}))
    with pytest.raises(ValueError, match=r"comparison\.json is damaged: .* no name of a directory"):
        with_comparison(both)


def test_records_that_a_finished_run_has_lost_are_missed(table):
    (table / "metrics.jsonl").write_text("")
    with pytest.raises(
        ValueError, match=r"metrics\.jsonl is damaged: it must have 1 epochs, got 0"
    ):
        inspected(table)
    (table / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged"):
        inspected(table)


def test_a_run_on_a_file_needs_what_it_learned_from_it(table):
    (table / "data.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"it has no data\.json"):
        sampled(table)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["json_file_are", "without_digest_give", "records", "bytes", "headers", "states"]
)
def test_a_thousand_edits_crash_no_process(kind):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-s",
            "-p",
            "no:cacheprovider",
            __file__,
            "-k",
            kind,
        ],
        env={**os.environ, "MIMACHINE_MUTATIONS": "1000"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
