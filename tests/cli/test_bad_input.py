"""Malformed inputs: each gives one error line and exit code 2, and creates no run."""

import io
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mimachine.cli.entry import main
from mimachine.data.files.load import load_file

pytestmark = pytest.mark.usefixtures("few_trees")

ROWS = np.random.default_rng(0).normal(size=(40, 4))
NAMES = ("age", "height", "weight", "dose")
QUICK = ("--training.epochs", "1", "--training.warmup.epochs", "0", "--num-samples", "2")


NUMBERS = ("--model.likelihood", "gaussian")


def csv_text(rows=ROWS, names=NAMES, delimiter=","):
    lines = [delimiter.join(names)] + [delimiter.join(map(str, row)) for row in rows]
    return "\n".join(lines) + "\n"


def with_cell(row, column, text):
    cells = [list(map(str, each)) for each in ROWS]
    cells[row][column] = text
    return csv_text(cells)


def write(name, content):
    file = Path(name)
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, str):
        file.write_text(content)
    elif isinstance(content, dict):
        np.savez(file, **content)
    else:
        np.save(file, content, allow_pickle=True)
    return name


def picture(file, size=(8, 8), mode="L", colour=100):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file)


def folder(count=12, sizes=((8, 8),), name="pictures"):
    for i in range(count):
        picture(Path(name) / f"{i}.png", sizes[i % len(sizes)], colour=i * 10)
    return name


def spoilt(name, content):
    folder()
    (Path("pictures") / name).write_bytes(content)
    return "pictures"


def png_bytes():
    picture(Path("one.png"), (64, 64))
    return Path("one.png").read_bytes()


def npy_bytes():
    np.save("whole.npy", ROWS)
    return Path("whole.npy").read_bytes()


# Each case: a function that creates a file or folder, and a pattern of the error message.
FILES = {
    # Values that are not finite numbers.
    "nan in npy": (lambda: write("x.npy", put(2, 1, np.nan)), "1 value.*column 2.*row 3"),
    "inf in npy": (lambda: write("x.npy", put(0, 3, np.inf)), "column 4.*row 1"),
    "minus inf in npy": (lambda: write("x.npy", put(39, 0, -np.inf)), "column 1.*row 40"),
    "nan in npz": (lambda: write("x.npz", {"x": put(2, 1, np.nan)}), "column 2.*row 3"),
    "two bad columns": (
        lambda: write("x.csv", csv_text(np.where(np.eye(40, 4, -5) > 0, np.inf, ROWS))),
        "4 values.*'age'.*'height'.*'weight'.*'dose'",
    ),
    "nan in csv": (lambda: write("x.csv", with_cell(4, 2, "nan")), "'weight'.*row 5"),
    "NA in csv": (lambda: write("x.csv", with_cell(4, 2, "NA")), "'weight'.*row 5"),
    "empty cell in csv": (lambda: write("x.csv", with_cell(16, 0, "")), "'age'.*row 17"),
    "inf in csv": (lambda: write("x.csv", with_cell(0, 3, "inf")), "'dose'.*row 1"),
    "nan in images": (
        lambda: write("x.npy", put(3, 2, np.nan).reshape(40, 2, 2)),
        "not finite.*row 4",
    ),
    "words in a column": (lambda: write("x.csv", with_cell(4, 2, "heavy")), "'weight'.*'heavy'"),
    "a date in a column": (
        lambda: write("x.csv", with_cell(0, 1, "2020-01-02")),
        "'height'.*'2020-01-02'.*--drop",
    ),
    "a unit after a number": (lambda: write("x.csv", with_cell(7, 3, "5mg")), "'dose'.*'5mg'"),
    "two decimal signs": (
        lambda: write("x.csv", with_cell(3, 1, "1,5").replace(",", ";").replace("1;5", "1,5")),
        "comma",
    ),
    "a formula": (lambda: write("x.csv", with_cell(1, 1, "=A1*2")), "'height'.*'=A1"),
    # Shapes.
    "a short line": (lambda: write("x.csv", csv_text() + "1,2\n"), "4 cells.*got 2 .*line 42"),
    "a long line": (lambda: write("x.csv", csv_text() + "1,2,3,4,5\n"), "4 cells.*got 5 .*line 42"),
    "ragged lines": (lambda: write("x.csv", "a,b\n1,2\n3\n4,5,6\n" * 9), "2 cells.*got 1 .*line 3"),
    "one axis": (lambda: write("x.npy", ROWS[:, 0]), r"one axis|\(40,\)"),
    "no axis": (lambda: write("x.npy", np.float64(3)), r"x\.npy"),
    "no rows": (lambda: write("x.npy", ROWS[:0]), r"rows of values.*\(0, 4\)"),
    "no columns": (lambda: write("x.npy", ROWS[:, :0]), r"rows of values.*\(40, 0\)"),
    "one row": (lambda: write("x.npy", ROWS[:1]), "10 rows or more.*got 1"),
    "nine rows": (lambda: write("x.npy", ROWS[:9]), "10 rows or more.*got 9"),
    "one row in csv": (lambda: write("x.csv", csv_text(ROWS[:1])), "10 rows or more.*got 1"),
    "nothing varies": (lambda: write("x.npy", np.ones((40, 3))), "no column that varies"),
    "an empty file": (lambda: write("x.csv", ""), r"x\.csv.*(empty|no )"),
    "an empty npy": (lambda: write("x.npy", b""), r"x\.npy"),
    "an empty npz": (lambda: write("x.npz", b""), r"x\.npz"),
    "only a header": (lambda: write("x.csv", "a,b,c\n"), "no rows|no data"),
    "blank lines": (lambda: write("x.csv", "\n\n\n"), r"x\.csv"),
    "a column twice": (
        lambda: write("x.csv", csv_text(names=("a", "b", "a", "c"))),
        "several columns called 'a'",
    ),
    # Types.
    "objects": (lambda: write("x.npy", np.array([[1, "a"]] * 20, dtype=object)), "object"),
    "complex numbers": (lambda: write("x.npy", ROWS + 1j), "complex"),
    "strings": (lambda: write("x.npy", ROWS.astype(str)), r"x\.npy.*(string|text|<U)"),
    "records": (lambda: write("x.npy", np.zeros(40, dtype="f4,i4")), r"x\.npy"),
    "times": (lambda: write("x.npy", np.zeros((40, 2), dtype="M8[s]")), r"datetime"),
    "objects in npz": (
        lambda: write("x.npz", {"x": np.array([[1, "a"]] * 20, dtype=object)}),
        "object",
    ),
    "complex in npz": (lambda: write("x.npz", {"x": ROWS + 1j}), "complex"),
    # Files with the wrong content.
    "text called npy": (lambda: write("x.npy", "hello"), r"x\.npy"),
    "text called npz": (lambda: write("x.npz", "hello"), r"x\.npz"),
    "text called parquet": (lambda: write("x.parquet", "hello"), r"x\.parquet|pyarrow"),
    "a truncated npy": (lambda: write("x.npy", npy_bytes()[:700]), r"x\.npy"),
    "a truncated header": (lambda: write("x.npy", npy_bytes()[:20]), r"x\.npy"),
    "a truncated npz": (lambda: truncated_npz(), r"x\.npz"),
    "a pickle called npy": (lambda: write("x.npy", b"\x80\x04\x95\x00."), r"x\.npy"),
    "bytes called csv": (lambda: write("x.csv", bytes(range(256)) * 9), r"x\.csv"),
    "damaged utf-8": (
        lambda: write("x.csv", csv_text(names=("Größe", "b", "c", "d")).encode() + b"1,2,3,\xf6"),
        "UTF-8",
    ),
    "utf-16 without a mark": (
        lambda: write("x.csv", csv_text().encode("utf-16-le")),
        r"x\.csv",
    ),
    "an unknown suffix": (lambda: write("x.xlsx", "hello"), r"\.csv.*\.npy"),
    "no suffix": (lambda: write("table", csv_text()), r"\.csv.*\.npy"),
    "a missing file": (lambda: "nowhere.csv", "no file or folder nowhere.csv"),
    "a missing folder": (lambda: "no/where", "no file or folder"),
    "a misspelt name": (lambda: "mnits", "did you mean 'mnist'"),
    "an unknown name": (lambda: "cifar", "no data set or file called 'cifar'.*'digits'"),
    "npz of two arrays": (
        lambda: write("x.npz", {"a": ROWS, "b": ROWS}),
        r"a.*\(40, 4\).*b.*--array",
    ),
    "npz of nothing": (lambda: write("x.npz", {}), r"x\.npz"),
    # Folders of images.
    "an empty folder": (lambda: made("pictures"), "pictures must hold images.*no files"),
    "a folder of text": (lambda: text_folder(), r"pictures must hold images.*got 1 \.txt"),
    "two sizes": (lambda: folder(sizes=((8, 8), (9, 8))), "8.*9.*--resize"),
    "three sizes": (lambda: folder(sizes=((8, 8), (9, 8), (5, 5))), "3.*sizes.*--resize"),
    "a truncated image": (lambda: spoilt("z.png", png_bytes()[:60]), r"z\.png"),
    "an empty image": (lambda: spoilt("z.png", b""), r"z\.png"),
    "text called png": (lambda: spoilt("z.png", b"hello"), r"z\.png"),
    "text called jpg": (lambda: spoilt("deep.jpg", b"hello"), r"deep\.jpg"),
    "nine images": (lambda: folder(9), "10 rows or more.*got 9"),
    "one image": (lambda: folder(1), "10 rows or more.*got 1"),
    # Numbers that floating-point numbers cannot tell apart.
    "long identifiers in csv": (
        lambda: write("x.csv", with_cell(3, 1, "1577134800018164900")),
        "'height'.*1577134800018164900.*15 digits.*(--drop height|drop=)",
    ),
    "long identifiers in npy": (
        lambda: write("x.npy", 2**60 + np.arange(80).reshape(40, 2)),
        "column 1 of x.npy.*1152921504606846976.*15 digits",
    ),
    "negative identifiers in npz": (
        lambda: write("x.npz", {"x": np.full((40, 2), -(2**63))}),
        "column 1 of x.npz.*-9223372036854775808",
    ),
    "digits that are lost": (
        lambda: write("x.csv", csv_text([[f"0.{10**24 + i}", i] for i in range(40)], "ab")),
        "'a' of x.csv.*15 digits",
    ),
    # Booleans.
    "true, false and maybe": (
        lambda: write("x.csv", csv_text([["true", i] for i in range(60)], "ab") + "maybe,1\n"),
        "column 'a' has 'maybe' in row 61",
    ),
    "a flag that is missing": (
        lambda: write("x.csv", csv_text([["True", i] for i in range(60)], "ab") + ",1\n"),
        "column 'a' has 1 empty cell, first in row 61",
    ),
    # Endless and unbounded input.
    "a pipe called csv": (lambda: pipe("x.csv"), "x.csv must be a regular file, got a pipe"),
    "a pipe called npy": (lambda: pipe("x.npy"), "x.npy must be a regular file, got a pipe"),
    "a device": (lambda: "/dev/zero", "/dev/zero must be a regular file, got a device"),
    "a link to a device": (lambda: link("x.csv", "/dev/zero"), "x.csv.*got a device"),
    "a pipe among images": (lambda: folder() and pipe("pictures/z.png") and "pictures", r"z\.png"),
    "an archive of terabytes": (lambda: huge_npz(), "array 'x' of x.npz takes 80.0 TB of memory"),
    "a header of gigabytes": (
        lambda: write("x.npy", np.lib.format.magic(2, 0) + b"\xff\xff\xff\x7f"),
        "x.npy.*header is too long",
    ),
    "an npy of more than its bytes": (
        lambda: write("x.npy", huge_header()),
        "x.npy is truncated: it must have 80,000,000,000,",
    ),
    "a link to itself": (lambda: link("x.csv", "x.csv"), r"x\.csv"),
}


def pipe(name):
    os.mkfifo(name)
    return name


def link(name, target):
    Path(name).symlink_to(target)
    return name


def huge_header():
    text = repr({"descr": "<f8", "fortran_order": False, "shape": (10**9, 10**4)}).encode()
    return np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text


def huge_npz():
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("x.npy", huge_header())
    return "x.npz"


def put(row, column, value):
    values = ROWS.copy()
    values[row, column] = value
    return values


def truncated_npz():
    np.savez("x.npz", x=ROWS)
    whole = Path("x.npz").read_bytes()
    return write("x.npz", whole[: len(whole) // 2])


def made(name):
    Path(name).mkdir()
    return name


def text_folder():
    made("pictures")
    Path("pictures/a.txt").write_text("hello")
    return "pictures"


def csv_file():
    return write("x.csv", csv_text())


def npy_file():
    return write("x.npy", ROWS)


def npz_file():
    return write("x.npz", {"x": ROWS, "y": np.arange(40) % 3})


# Valid files with unsuitable options: file, options, and a pattern of the error message.
OPTIONS = {
    "an unknown label column": (csv_file, ["--labels", "ages"], "'ages'.*did you mean 'age'"),
    "an unknown column to drop": (csv_file, ["--drop", "hieght"], "did you mean 'height'"),
    "all columns dropped": (csv_file, ["--drop", *NAMES], "column"),
    "labels that are measurements": (csv_file, ["--labels", "age"], "labels.*classes"),
    "labels of another length": (
        lambda: npy_file() and write("y.npy", np.arange(39)) and "x.npy",
        ["--labels", "y.npy"],
        "39.*40|40.*39",
    ),
    "labels of another length in npz": (
        lambda: write("x.npz", {"x": ROWS, "y": np.arange(41)}),
        ["--labels", "y"],
        "41.*40|40.*41",
    ),
    "labels nowhere": (npy_file, ["--labels", "z.npy"], r"z\.npy"),
    "an unknown array": (npz_file, ["--array", "xx"], "--array xx is not an array of x.npz.*'x'"),
    "columns to drop of an array": (npy_file, ["--drop", "a"], "drop|column"),
    "pixels that are not as many": (
        npy_file,
        ["--image-shape", 3, 3],
        r"--image-shape.*4.*\(3, 3\)",
    ),
    "bernoulli on measurements": (csv_file, ["--model.likelihood", "bernoulli"], r"\[0, 1\]"),
    "grey levels of measurements": (
        npy_file,
        ["--model.likelihood", "discretized-logistic"],
        "grey levels",
    ),
    "an unknown likelihood": (csv_file, ["--model.likelihood", "gausian"], "gaussian"),
    "an unknown objective": (csv_file, ["--objective", "min"], "did you mean 'mim'"),
    "an unknown prior": (csv_file, ["--model.prior", "vamp"], "vampprior"),
    "the published preset": (csv_file, ["--preset", "published"], "mixture-2d"),
    "no latents": (csv_file, ["--model.latent", 0], "model.latent.*1 or more.*0"),
    "a word for a number": (csv_file, ["--model.latent", "two"], "two"),
    "layers of nothing": (csv_file, ["--model.hidden", 0], "model.hidden"),
    "more pseudo-inputs than data": (
        csv_file,
        ["--model.prior", "vampprior", "--model.components", 1000, *NUMBERS],
        "model.components.*at most 28",
    ),
    "no epochs": (csv_file, ["--training.epochs", 0], "training.epochs.*1 or more"),
    "no batches": (csv_file, ["--training.batch-size", 0], "training.batch_size"),
    "an endless learning rate": (
        csv_file,
        ["--training.learning-rate", "inf"],
        "learning_rate must be a finite number",
    ),
    "a learning rate below zero": (csv_file, ["--training.learning-rate", -1], "learning_rate"),
    "a warm-up longer than the training": (
        csv_file,
        ["--training.epochs", 3, "--training.warmup.epochs", 9],
        "warm-up.*9.*got 3",
    ),
    "no samples": (csv_file, ["--num-samples", 0], "num_samples must be 1 or more"),
    "an unknown option": (csv_file, ["--latent", 3], "--latent"),
    "a run where something is": (csv_file, ["--out", "."], "already exists"),
    "a file where the run should be": (csv_file, ["--out", "x.csv"], "already exists"),
    "a place that cannot be written": (csv_file, ["--out", "/proc/run"], "/proc"),
    "no data directory": (csv_file, ["--data-dir", "nowhere"], "--data-dir.*'nowhere'"),
    "labels of a folder": (folder, ["--labels", "a"], "--labels applies to files"),
    "labels of a named data set": (
        lambda: "digits",
        ["--labels", "y"],
        "--labels, do not apply to digits",
    ),
    "a size for a table": (csv_file, ["--resize", 8, 8], "--resize applies to folders"),
    "an image of no height": (npy_file, ["--image-shape", -2, -2], "--image-shape must be"),
    "images of no height": (
        folder,
        ["--resize", 0, 4],
        "resize",
    ),
    "a header of an array": (npy_file, ["--header"], "--header applies to .csv and .tsv files"),
    "no header of an array": (npz_file, ["--no-header"], "--no-header applies to .csv and .tsv"),
    "a header of a folder": (folder, ["--header"], "--header applies to files"),
    "names as a row": (csv_file, ["--no-header", *NUMBERS], "column 1 has 'age' in row 1"),
    "splits of a table": (csv_file, ["--split-folders"], "--split-folders applies to folders"),
    "splits that are not there": (
        folder,
        ["--split-folders"],
        "--split-folders needs images in sub-folders.*train",
    ),
    "nothing left to train on": (
        csv_file,
        ["--training.drop-last", "--training.batch-size", 64],
        "training.drop_last leaves nothing to train on.*28 rows.*64",
    ),
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def message_of(capsys, *arguments):
    """The error line of a command that fails."""
    assert main(list(map(str, arguments))) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if line.startswith("mimachine: error: ")]
    assert len(errors) == 1
    assert errors[0] == lines[-1]
    assert not any("Traceback" in line for line in lines)
    return errors[0]


def assert_no_run():
    assert not list(Path().rglob("experiment.json"))
    assert not list(Path().rglob("metrics.jsonl"))


# Arrays of numbers cannot have these, but tables can.
FINE_IN_TABLES = {
    *("two bad columns", "nan in csv", "NA in csv", "empty cell in csv", "inf in csv"),
    *("words in a column", "a date in a column", "a unit after a number", "two decimal signs"),
    *("a formula", "long identifiers in csv", "digits that are lost", "true, false and maybe"),
    "a flag that is missing",
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_named(case, capsys):
    make, expected = FILES[case]
    data = make()
    options = NUMBERS if case in FINE_IN_TABLES else ()
    message = message_of(capsys, "train", data, *QUICK, *options, "--out", "run")
    assert re.search(expected, message), message
    assert not re.search(r"\b(labels|drop|array|image_shape|resize)=", message)
    assert_no_run()
    with pytest.raises((ValueError, OSError)) as caught:
        load_file(data, likelihood="gaussian" if options else "auto")
    assert "--" not in str(caught.value)


@pytest.mark.parametrize("case", sorted(FINE_IN_TABLES))
def test_a_table_may_have_what_an_array_cannot(case):
    data = load_file(FILES[case][0]())
    assert data.schema is not None
    assert data.train[:, 0].isfinite().any()


@pytest.mark.parametrize("case", OPTIONS)
def test_unsuitable_options_are_named(case, capsys):
    make, options, expected = OPTIONS[case]
    data = make()
    out = [] if "--out" in options else ["--out", "run"]
    quick = QUICK if not {"--training.epochs", "--num-samples"} & set(options) else QUICK[2:4]
    quick = () if "--training.warmup.epochs" in options else quick
    message = message_of(capsys, "train", data, *quick, *options, *out)
    assert re.search(expected, message), message
    assert_no_run()


@pytest.fixture(scope="module")
def folder_of_run(tmp_path_factory):
    """A folder with runs on an array and a table, and their data, and a copy of the folder."""
    path = tmp_path_factory.mktemp("trained") / "here"
    path.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        write("x.csv", csv_text())
        quick = [*QUICK, "--model.hidden", "8", "--no-report"]
        assert main(["train", "x.csv", *quick, *NUMBERS, "--out", "run"]) == 0
        assert main(["train", "x.csv", *quick, "--out", "table"]) == 0
    return path, shutil.copytree(path, path.with_name("kept"))


@pytest.fixture
def trained(folder_of_run, monkeypatch):
    """A run to damage, beside its data, where it was trained."""
    here, kept = folder_of_run
    shutil.rmtree(here)
    shutil.copytree(kept, here)
    monkeypatch.chdir(here)
    return Path("run")


LATER = {
    "fewer columns": (lambda: write("y.csv", csv_text(ROWS[:, :3], NAMES[:3])), "'dose'"),
    "another name": (
        lambda: write("y.csv", csv_text(names=("age", "hight", "weight", "dose"))),
        "'height'",
    ),
    "fewer columns without names": (lambda: write("y.npy", ROWS[:, :3]), r"4 columns.*\(3,\)"),
    "images": (lambda: write("y.npy", ROWS.reshape(40, 2, 2)), r"4 columns.*\(2, 2\)"),
    "missing values": (lambda: write("y.csv", with_cell(3, 1, "")), "'height'.*row 4"),
    "a folder of images": (folder, r"\(4,\).*\(8, 8\)"),
    "nothing there": (lambda: "z.csv", r"z\.csv"),
    "a named data set of other columns": (lambda: "digits", "a file or a folder like x.csv"),
}
UNLIKE_A_TABLE = {
    "other columns": (
        lambda: write("y.csv", csv_text(names="abcd")),
        "columns of the training table such as 'age', 'dose'.*got 'a', 'b'",
    ),
    "an array": (lambda: write("y.npy", ROWS), r"y\.npy.*\.csv.*\.parquet"),
    "words in a column": (
        lambda: write("y.csv", csv_text([["tall", *row[1:]] for row in ROWS[:, :4]])),
        r"numbers in column 'age'.*'tall' in row 1 \(line 2\)",
    ),
    "dates in a column": (
        lambda: write("y.csv", csv_text([["2020-01-02", *row[1:]] for row in ROWS[:, :4]])),
        r"numbers in column 'age'.*'2020-01-02' in row 1 \(line 2\)",
    ),
    "a folder of images": (folder, r"pictures.*\.parquet"),
    "nothing there": (lambda: "z.csv", r"z\.csv"),
    "a named data set": (lambda: "digits", "a file or a folder like x.csv"),
    "no rows": (lambda: write("y.csv", "age,height,weight,dose\n"), "no rows"),
}


@pytest.mark.parametrize("command", ["embed", "reconstruct", "score", "impute"])
@pytest.mark.parametrize("case", UNLIKE_A_TABLE)
def test_data_unlike_the_training_table_are_rejected(case, command, trained, capsys):
    make, expected = UNLIKE_A_TABLE[case]
    before = set(Path("table").iterdir())
    message = message_of(capsys, command, "table", make())
    assert re.search(expected, message), message
    assert set(Path("table").iterdir()) == before


@pytest.mark.parametrize("case", LATER)
def test_data_unlike_the_training_data_are_rejected(case, trained, capsys):
    make, expected = LATER[case]
    message = message_of(capsys, "embed", "run", make())
    assert re.search(expected, message), message
    assert not (trained / "codes.npz").exists()


def changed(name, change):
    def spoil(run):
        value = json.loads((run / name).read_text())
        change(value)
        (run / name).write_text(json.dumps(value))

    return spoil


def replaced(name, content):
    return lambda run: (run / name).write_bytes(content)


def cut(name):
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-20])


def removed(name):
    return lambda run: (run / name).unlink()


def foreign_weights(run):
    from safetensors.numpy import save_file

    save_file({"other": np.zeros(3, dtype=np.float32)}, str(run / "model.safetensors"))


RUNS = {
    "weights cut off": (cut("model.safetensors"), r"model\.safetensors"),
    "weights of nothing": (replaced("model.safetensors", b""), r"model\.safetensors"),
    "weights of text": (replaced("model.safetensors", b"hello" * 9), r"model\.safetensors"),
    "weights of another model": (foreign_weights, r"model\.safetensors.*weights of this model"),
    "no weights": (removed("model.safetensors"), "no weights"),
    "no settings": (removed("experiment.json"), r"no experiment\.json"),
    "settings cut off": (cut("experiment.json"), r"experiment\.json is not valid JSON"),
    "settings of a later version": (
        changed("experiment.json", lambda v: v.update(format_version=99)),
        "version 99",
    ),
    "settings of the wrong type": (
        changed("experiment.json", lambda v: v["model"].update(latent="many")),
        "model.latent",
    ),
    "settings with a stranger": (
        changed("experiment.json", lambda v: v["model"].update(colour=3)),
        "model.colour",
    ),
    "settings without something": (
        changed("experiment.json", lambda v: v["model"].pop("latent")),
        "model.latent.*missing",
    ),
    "settings of another size": (
        changed("experiment.json", lambda v: v["model"].update(latent=7)),
        r"model\.safetensors.*weights of this model",
    ),
    "no preprocessing": (changed("data.json", lambda v: v.pop("preprocessing")), r"data\.json"),
    "preprocessing cut off": (cut("data.json"), r"data\.json is not valid JSON"),
    "preprocessing of something else": (
        changed("data.json", lambda v: v["preprocessing"].pop("scale")),
        "preprocessing cannot be read.*scale",
    ),
    "data gone": (lambda run: Path("x.csv").unlink(), r"no .*x\.csv|x\.csv.*not"),
    "data changed": (
        lambda run: write("x.csv", csv_text(ROWS + 1)),
        "changed since the run began",
    ),
    "data of fewer rows": (
        lambda run: write("x.csv", csv_text(ROWS[:30])),
        "changed since the run began",
    ),
    "no run at all": (lambda run: shutil.rmtree(run), "no run at"),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_damaged_run_is_named(case, trained, capsys):
    spoil, expected = RUNS[case]
    spoil(trained)
    message = message_of(capsys, "evaluate", "run", "--num-samples", "2")
    assert re.search(expected, message), message


def with_header(header):
    return len(header).to_bytes(8, "little") + header


def torch_bytes(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


DEEP = b"[" * 100_000
INSPECTED = {
    **{f"report.json {content!r}": ("report.json", content) for content in (
        b"{}", b"[]", b"null", b'{"metrics": [1], "verdict": ""}', b"{", b"\xff", DEEP,
        b'{"metrics": [{"name": "a", "unit": "", "value": "b"}], "verdict": ""}',
    )},
    **{f"metrics.jsonl {content!r}": ("metrics.jsonl", content) for content in (
        b"{}\n", b"xx{\n", b"[1]\n", b"\xff\n", b"\n", DEEP + b"\n",
        b'{"epoch": 1, "beta": 1, "learning_rate": 1, "train_loss": null, "val_loss": 1}\n',
        b'{"epoch": 1, "beta": "x", "learning_rate": 1, "train_loss": 1, "val_loss": 1}\n',
    )},
    **{f"data.json {content!r}": ("data.json", content) for content in (
        b'{"fingerprint": "", "preprocessing": null}', b"[]", b"null", b"{}",
    )},
    **{f"weights {content!r}": ("model.safetensors", with_header(content)) for content in (
        b"[1]", b"1", b"null", b'{"a": 1}', b'{"a": {"shape": 1}}', b'{"a": {"shape": ["b"]}}',
        DEEP,
    )},
    **{f"settings {content!r}": ("experiment.json", content) for content in (
        b"[1]", b"null", b"1", b"", b"{",
    )},
}  # fmt: skip


@pytest.mark.parametrize("case", INSPECTED.values(), ids=[name[:60] for name in INSPECTED])
def test_a_damaged_file_is_named_by_inspect(case, trained, capsys):
    name, content = case
    (trained / name).write_bytes(content)
    message = message_of(capsys, "inspect", "run")
    assert f"run/{name}" in message
    assert len(message) < 1000


def test_damaged_records_are_named_when_a_report_is_written(trained, capsys):
    (trained / "metrics.jsonl").write_text("{}\n")
    assert "line 1 of run/metrics.jsonl is damaged" in message_of(capsys, "report", "run")


STATES = {
    "nothing": b"",
    "random bytes": np.random.default_rng(0).bytes(1000),
    "a pickle": b"\x80\x04\x95\x00.",
    "an empty object": torch_bytes({}),
    "a list": torch_bytes([1]),
    "no tensors": torch_bytes({"epoch": 0, "tensors": [1], "optimizer": {}, "best": {}}),
    "no epoch": torch_bytes({"epoch": "a", "tensors": [], "optimizer": {}, "best": {}}),
    "an array": torch_bytes(torch.zeros(3)),
}


@pytest.mark.parametrize("case", STATES)
def test_a_damaged_state_is_named_when_a_run_is_resumed(case, trained, capsys):
    (trained / "state.ckpt").write_bytes(STATES[case])
    message = message_of(capsys, "train", "--resume", "run")
    assert message.startswith("mimachine: error: run/state.ckpt is damaged: it ")
    assert len(message) < 100


def test_damaged_records_are_named_when_a_run_is_resumed(trained, capsys):
    (trained / "state.ckpt").write_bytes(torch_bytes({"epoch": 1}))
    (trained / "metrics.jsonl").write_text("xx{\n")
    assert "line 1 of run/metrics.jsonl is damaged" in message_of(
        capsys, "train", "--resume", "run"
    )


@pytest.mark.parametrize("command", ["inspect", "evaluate", "sample"])
def test_where_a_run_is_expected_a_comparison_names_its_runs(command, capsys):
    for name in ("a b/vae", "a b/mim"):
        Path(name).mkdir(parents=True)
        (Path(name) / "experiment.json").write_text("{}")
    Path("a b/comparison.json").write_text("{}")
    message = message_of(capsys, command, "a b")
    assert "a b is a comparison and has no experiment.json; " in message
    assert message.endswith("its runs are 'a b/mim', 'a b/vae'")


def test_there_are_a_hundred_kinds_of_bad_input():
    assert len(FILES) + len(OPTIONS) + len(LATER) + len(RUNS) >= 100
