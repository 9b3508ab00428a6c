import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mimachine._support import memory
from mimachine.cli.entry import main
from mimachine.data.files.load import data_record, load_file, read_rows
from mimachine.data.files.options import File
from mimachine.data.preprocessing import Preprocessing
from mimachine.data.rows import Rows
from mimachine.experiment.presets import default

pytestmark = pytest.mark.usefixtures("few_trees")

QUICK = [
    *("--training.epochs", "3", "--training.warmup.epochs", "1"),
    *("--num-samples", "4", "--no-report"),
]

# The columns as an array of numbers, as of a .npy file.
LABELLED = ["--labels", "tree", "--model.likelihood", "gaussian"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return main(list(map(str, arguments)))


def measurements(rows=60, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, rows)
    values = rng.normal(size=(rows, 3)) + kind[:, None] * [3.0, 0.0, -3.0]
    return values * scale, np.array(["ash", "birch", "cedar"])[kind]


def write_csv(name, values, labels, names=("height", "girth", "age"), order=(0, 1, 2)):
    with Path(name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(names[i] for i in order), "tree"])
        for row, label in zip(values, labels, strict=True):
            writer.writerow([*(repr(float(row[i])) for i in order), label])
    return name


def read_csv(name):
    with Path(name).open(newline="") as file:
        return list(csv.reader(file))


def test_the_same_table_in_every_format_is_the_same_data():
    values, labels = measurements()
    write_csv("x.csv", values, labels)
    np.savez("x.npz", x=values, y=labels)
    np.save("x.npy", values)
    np.save("labels.npy", labels)
    files = {
        "x.csv": File(labels="tree"),
        "x.npz": File(),
        "x.npy": File(labels="labels.npy"),
    }
    sets = [load_file(name, file, "numbers") for name, file in files.items()]
    for data in sets[1:]:
        for split in ("train", "val", "test", "train_labels", "val_labels", "test_labels"):
            assert torch.equal(getattr(data, split), getattr(sets[0], split))
        assert data.classes == sets[0].classes == ("ash", "birch", "cedar")
        assert data.fingerprint == sets[0].fingerprint


def test_splits_share_no_row_and_lose_none():
    values = np.arange(500.0).reshape(250, 2)
    np.save("x.npy", values)
    data = load_file("x.npy")
    parts = [data.restore(part) for part in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [175, 25, 50]
    found = np.sort(np.concatenate(parts)[:, 0])
    np.testing.assert_allclose(found, values[:, 0], atol=1e-3)


def test_labels_stay_with_their_rows():
    values, _ = measurements(200)
    np.savez("x.npz", x=values, y=(values[:, 0] > 0).astype(int))
    data = load_file("x.npz")
    for split in ("train", "val", "test"):
        sign = data.restore(getattr(data, split))[:, 0] > 0
        np.testing.assert_array_equal(sign, getattr(data, f"{split}_labels").numpy() == 1)


def test_data_on_disk_are_the_data_in_memory(monkeypatch):
    values, labels = measurements(100)
    np.save("x.npy", values)
    np.save("y.npy", labels)
    held = load_file("x.npy", File(labels="y.npy"))
    monkeypatch.setattr(memory, "MAPPED_SHARE", 0)
    mapped = load_file("x.npy", File(labels="y.npy"))
    assert isinstance(mapped.train, Rows)
    assert isinstance(held.train, torch.Tensor)
    assert torch.equal(mapped.train[:], held.train)
    assert torch.equal(mapped.test, held.test)


def test_training_from_disk_ends_as_training_from_memory(monkeypatch):
    values, labels = measurements(100)
    np.save("x.npy", values)
    np.save("y.npy", labels)
    for name in ("memory", "disk"):
        assert run("train", "x.npy", *QUICK, "--labels", "y.npy", "--out", name) == 0
        monkeypatch.setattr(memory, "MAPPED_SHARE", 0)
    for file in ("metrics.jsonl", "model.safetensors", "report.json", "data.json"):
        assert Path("memory", file).read_bytes() == Path("disk", file).read_bytes()


def report_of(run_directory):
    metrics = json.loads(Path(run_directory, "report.json").read_text())["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics}


def test_likelihoods_are_in_nats_of_the_original_units():
    # Metres instead of millimetres: the same standardised rows and the same model, but a density
    # that is 1024 times as large for each column.
    values, labels = measurements(100)
    write_csv("mm.csv", values * 1024, labels)
    write_csv("m.csv", values, labels)
    for name in ("mm", "m"):
        assert run("train", f"{name}.csv", *LABELLED, *QUICK, "--out", name) == 0
    weights = [Path(name, "model.safetensors").read_bytes() for name in ("mm", "m")]
    assert weights[0] == weights[1]
    in_mm, in_m = report_of("mm"), report_of("m")
    for name in ("negative_log_likelihood", "negative_elbo"):
        assert in_mm[name] - in_m[name] == pytest.approx(3 * math.log(1024), abs=1e-9)
    for name in ("rate", "reconstruction_rmse", "knn_5_accuracy", "mutual_information_ksg"):
        assert in_mm[name] == in_m[name]


def test_columns_in_another_order_give_the_same_codes(capsys):
    values, labels = measurements(50)
    write_csv("x.csv", values, labels)
    write_csv("y.csv", values, labels, order=(2, 0, 1))
    assert run("train", "x.csv", *LABELLED, *QUICK, "--out", "run") == 0
    assert run("embed", "run", "--out", "x.npz") == 0
    capsys.readouterr()
    assert run("embed", "run", "y.csv", "--out", "y.npz") == 0
    assert "in a different order than in training" in capsys.readouterr().err
    first, second = np.load("x.npz"), np.load("y.npz")
    np.testing.assert_array_equal(first["mean"], second["mean"])
    np.testing.assert_array_equal(first["labels"], labels)
    np.testing.assert_array_equal(second["labels"], labels)


def test_codes_of_all_rows_are_in_the_order_of_the_file():
    values, _ = measurements(50)
    np.save("x.npy", values)
    assert run("train", "x.npy", *QUICK, "--out", "run") == 0
    np.save("one.npy", values[17:18])
    assert run("embed", "run", "--out", "all.csv") == 0
    assert run("embed", "run", "one.npy", "--out", "one.csv") == 0
    every, one = read_csv("all.csv"), read_csv("one.csv")
    assert len(every) == 51
    assert one[0] == every[0] == ["z1", "z2", "z3", "std1", "std2", "std3"]
    np.testing.assert_allclose(
        np.array(every[18], dtype=float), np.array(one[1], dtype=float), rtol=1e-4, atol=1e-5
    )


def test_samples_and_reconstructions_are_in_the_columns_and_units_of_the_file():
    values, labels = measurements(300)
    values = values * [1e-3, 1.0, 1e4] + [0.0, -50.0, 1e5]
    values = np.column_stack([values, np.full(300, 7.5)])
    names = ("height", "girth", "age", "answer")
    write_csv("x.csv", values, labels, names, order=(0, 1, 2, 3))
    options = ["--training.epochs", 60, "--training.warmup.epochs", 5, "--num-samples", 4]
    assert run("train", "x.csv", *LABELLED, *options, "--out", "run") == 0
    assert run("sample", "run", "--num", 400, "--out", "s.csv") == 0
    rows = read_csv("s.csv")
    assert tuple(rows[0]) == names
    drawn = np.array(rows[1:], dtype=float)
    assert (drawn[:, 3] == 7.5).all()
    # A briefly trained model is rough, but not by the orders of magnitude of the units.
    assert (np.abs(drawn.mean(0) - values.mean(0)) < 2 * values.std(0) + 1e-9).all()
    assert run("reconstruct", "run", "--out", "r.npz") == 0
    done = np.load("r.npz")
    np.testing.assert_allclose(done["x"], values, rtol=1e-4, atol=1e-6)
    assert (np.abs(done["mean"] - values).mean(0)[:3] < values.std(0)[:3]).all()


def discs(folder, count=24, size=(8, 8), mode="RGB"):
    for i in range(count):
        colour = [(200, 0, 0), (0, 200, 0), (0, 0, 200)][i % 3]
        image = Image.new("RGB", size)
        image.paste(colour, (1 + i % 4, 1, 5, 5))
        place = Path(folder, f"kind{i % 3}", f"{i}.png")
        place.parent.mkdir(parents=True, exist_ok=True)
        image.convert(mode).save(place)
    return folder


def test_a_folder_of_images_is_trained_on_and_given_back_as_images(capsys):
    discs("pictures")
    assert run("train", "pictures", *QUICK, "--model.latent", 2, "--out", "run") == 0
    assert "discretized-logistic" in capsys.readouterr().out
    assert run("reconstruct", "run") == 0
    done = np.load("run/reconstructions.npz")
    assert done["x"].shape == done["mean"].shape == done["sample"].shape == (24, 8, 8, 3)
    first = np.asarray(Image.open("pictures/kind0/0.png"))
    np.testing.assert_allclose(done["x"][0], first, atol=1e-3)
    assert done["sample"].max() <= 255
    assert report_of("run")["knn_1_accuracy"] >= 0
    assert run("embed", "run") == 0
    assert set(np.load("run/codes.npz")["labels"]) == {"kind0", "kind1", "kind2"}


def test_new_images_are_brought_to_the_size_and_colours_of_the_run():
    discs("pictures", mode="L")
    discs("large", size=(16, 16))
    resize = ["--resize", 8, 8]
    assert run("train", "pictures", *QUICK, *resize, "--model.latent", 2, "--out", "run") == 0
    assert run("embed", "run", "large") == 0
    assert np.load("run/codes.npz")["mean"].shape == (24, 2)


def test_flat_pixels_become_images_of_a_given_shape():
    from sklearn.datasets import load_digits

    np.save("x.npy", load_digits().data.astype(np.uint8))
    data = load_file("x.npy", File(image_shape=(8, 8)))
    assert data.image_shape == (1, 8, 8)
    assert data.restore(data.test).shape == (len(data.test), 8, 8)


@pytest.mark.parametrize("grey", [False, True])
def test_bernoulli_takes_bits_as_they_are_and_draws_them_from_greys(grey):
    rng = np.random.default_rng(0)
    values = rng.random((40, 6)) if grey else rng.integers(0, 2, (40, 6))
    np.save("x.npy", values)
    options = ["--model.likelihood", "bernoulli"] if grey else []
    assert run("train", "x.npy", *QUICK, *options, "--model.latent", 2, "--out", "run") == 0
    record = json.loads(Path("run/data.json").read_text())
    assert record["preprocessing"]["likelihood"] == "bernoulli"
    assert run("evaluate", "run", "--num-samples", 2) == 0


def test_labels_in_a_file_of_their_own_are_those_of_the_training_file_alone(monkeypatch):
    values, labels = measurements(60)
    write_csv("x.csv", values, labels)
    np.save("x.npy", values)
    np.save("labels.npy", labels)
    assert run("train", "x.npy", "--labels", "labels.npy", *QUICK, "--out", "run") == 0
    np.save("y.npy", values[::-1])
    np.save("z.npy", values[:20])
    for name in ("y", "z"):
        assert run("embed", "run", f"{name}.npy", "--out", f"{name}.npz") == 0
        assert "labels" not in np.load(f"{name}.npz")
    assert run("embed", "run", "--out", "x.npz") == 0
    np.testing.assert_array_equal(np.load("x.npz")["labels"], labels)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert run("evaluate", "../run", "--num-samples", 2) == 0
    assert "knn_5_accuracy" in report_of("../run")


def test_labels_that_changed_or_went_are_noticed(capsys):
    values, labels = measurements(60)
    np.save("x.npy", values)
    np.save("labels.npy", labels)
    assert run("train", "x.npy", "--labels", "labels.npy", *QUICK, "--out", "run") == 0
    np.save("labels.npy", labels[::-1])
    assert run("evaluate", "run", "--num-samples", 2) == 2
    assert "changed since the run began" in capsys.readouterr().err
    Path("labels.npy").unlink()
    assert run("evaluate", "run", "--num-samples", 2) == 2
    assert "labels.npy" in capsys.readouterr().err


def test_a_model_is_used_without_the_data_it_was_trained_on(capsys):
    values, labels = measurements(40)
    write_csv("x.csv", values, labels)
    options = ["--model.prior", "vampprior", "--model.components", 5]
    assert run("train", "x.csv", *LABELLED, *options, *QUICK, "--out", "run") == 0
    assert run("sample", "run", "--out", "before.npz") == 0
    Path("x.csv").rename("y.csv")
    assert run("sample", "run", "--out", "after.npz") == 0
    before, after = np.load("before.npz"), np.load("after.npz")
    np.testing.assert_array_equal(before["sample"], after["sample"])
    assert run("embed", "run", "y.csv") == 0
    capsys.readouterr()
    assert run("evaluate", "run") == 2
    assert "x.csv" in capsys.readouterr().err


def test_results_do_not_take_the_place_of_data(capsys):
    values, labels = measurements(40)
    write_csv("x.csv", values, labels)
    assert run("train", "x.csv", "--labels", "tree", *QUICK, "--out", "run") == 0
    before = Path("x.csv").read_bytes()
    assert run("embed", "run", "x.csv", "--out", "x.csv") == 2
    assert "another file than the data" in capsys.readouterr().err
    assert Path("x.csv").read_bytes() == before


def test_a_link_is_read_by_its_own_name():
    values, labels = measurements(40)
    write_csv("x.csv", values, labels)
    Path("x.csv").rename("blob")
    Path("x.csv").symlink_to("blob")
    assert run("train", "x.csv", "--labels", "tree", *QUICK, "--out", "run") == 0


def test_one_class_gives_no_classification_metric():
    values, _ = measurements(40)
    write_csv("x.csv", values, ["ash"] * 40)
    assert run("train", "x.csv", "--labels", "tree", *QUICK, "--out", "run") == 0
    assert not any(name.startswith("knn") for name in report_of("run"))


def test_images_in_other_units_than_the_runs_are_refused(capsys):
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4)).astype(np.uint8)
    np.save("x.npy", images)
    assert run("train", "x.npy", *QUICK, "--model.latent", 2, "--out", "run") == 0
    np.save("y.npy", images / 255)
    capsys.readouterr()
    assert run("embed", "run", "y.npy") == 2
    assert "256 levels from 0 to 255" in capsys.readouterr().err


def test_a_run_is_used_from_another_directory(monkeypatch):
    values, labels = measurements(40)
    write_csv("x.csv", values, labels)
    assert run("train", "x.csv", "--labels", "tree", *QUICK, "--out", "run") == 0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert run("evaluate", "../run", "--num-samples", 2) == 0


def test_the_record_in_a_run_restores_the_preprocessing():
    values, _ = measurements(50)
    np.save("x.npy", values)
    data = load_file("x.npy")
    stored = json.loads(json.dumps(data_record(data)))
    again = load_file("x.npy", stored=stored)
    assert torch.equal(again.train, data.train)
    learned = Preprocessing.from_json(stored["preprocessing"])
    every = read_rows("x.npy", File(), learned)
    np.testing.assert_allclose(learned.restore(every.rows.numpy()), values, atol=1e-5)


def test_inspect_shows_the_preprocessing(capsys):
    values, labels = measurements(40)
    write_csv("x.csv", values, labels)
    assert run("train", "x.csv", *LABELLED, *QUICK, "--out", "run") == 0
    capsys.readouterr()
    assert run("inspect", "run", "--json") == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["likelihood"], data["columns"]) == ("gaussian", ["height", "girth", "age"])
    assert run("inspect", "run") == 0
    assert "['height', 'girth', 'age']" in capsys.readouterr().out


def test_more_latents_than_values_are_warned_of(capsys):
    np.save("x.npy", measurements(40)[0])
    assert run("train", "x.npy", *QUICK, "--model.latent", 9, "--out", "run") == 0
    assert "warning: model.latent is 9, more than the 3 values" in capsys.readouterr().out


def test_defaults_follow_the_size_of_the_file():
    np.save("few.npy", np.zeros((100, 3)))
    np.save("many.npy", np.zeros((100_000, 600), dtype=np.uint8))
    few, many = default("few.npy"), default("many.npy")
    assert (few.model.latent, many.model.latent) == (3, 40)
    assert few.training.epochs > many.training.epochs >= 10
    assert few.num_samples > many.num_samples >= 50
    assert few.objective == "a-mim"
