"""Commands on tables of any columns, from the file to files of results."""

import json
import re
import shutil
import signal
from pathlib import Path

import commands
import numpy as np
import polars as pl
import pytest
import tableruns
from tableruns import QUICK, customers, read, run, train

import mimachine as mm

pytestmark = pytest.mark.usefixtures("few_trees")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a table and a run on it; each test has a copy."""
    folder = tmp_path_factory.mktemp("tables") / "there"
    folder.mkdir()
    customers().write_csv(folder / "x.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train("x.csv", "run")
    return folder


@pytest.fixture(autouse=True)
def _brief():
    with tableruns.brief_proposals():
        yield


@pytest.fixture
def here(trained, tmp_path, monkeypatch, capsys):
    """A copy of the folder, as the current one."""
    place = tmp_path / "here"
    shutil.copytree(trained, place)
    monkeypatch.chdir(place)
    capsys.readouterr()
    return place


def error_of(capsys, *arguments):
    """The only line of a command that fails."""
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("mimachine: error: ")
    assert not any("Traceback" in line for line in lines)
    return lines[-1]


def test_notes_say_what_was_decided(here, capsys):
    train("x.csv", "again")
    printed = capsys.readouterr()
    said = printed.out + printed.err
    for words in ("categories: city (4), region (3), channel (3)", "small < medium < large",
                  "counts, never below 0: visits", "identifiers: id", "currency ('EUR')",
                  "settled by another column: region by city"):  # fmt: skip
        assert words in said
    weights = [Path(name, "model.safetensors").read_bytes() for name in ("run", "again")]
    assert weights[0] == weights[1]


def test_inspect_shows_the_kinds(here, capsys):
    assert run("inspect", "run", "--json") == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["likelihood"] == "columns"
    assert data["columns"]["city"] == "category"
    assert data["columns"]["joined"] == "date"
    assert data["columns"]["id"] == "identifier"
    assert run("inspect", "run") == 0
    assert "'visits': 'count'" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_are_sampled_into_files(here, capsys, suffix):
    assert run("sample", "run", "--num", 30, "--out", f"s.{suffix}", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": f"s.{suffix}", "rows": 30, "columns": 10,
    }  # fmt: skip
    table = read(f"s.{suffix}")
    assert table.columns == [name for name in customers(2).columns if name != "id"]
    assert table["visits"].dtype == pl.Int64
    assert table["member"].dtype == pl.Boolean


def test_sampled_rows_are_complete_or_as_given_if_asked(here, capsys):
    assert run("sample", "run", "--num", 200, "--complete", "--out", "c.csv") == 0
    assert not any(read("c.csv").null_count().row(0))
    given = ["--given", "city=Lyon", "visits=3"]
    assert run("sample", "run", "--num", 20, *given, "--out", "g.csv") == 0
    assert set(read("g.csv")["city"]) == {"Lyon"}
    assert set(read("g.csv")["visits"]) == {3}
    message = error_of(capsys, "sample", "run", "--given", "city=Paris", "--out", "h.csv")
    assert "--given city=Paris must be a value of a column of kind category" in message
    assert not Path("h.csv").exists()


def test_conditions_are_for_tables(here, capsys):
    np.save("x.npy", np.random.default_rng(0).normal(size=(40, 3)))
    train("x.npy", "array")
    for option in (["--given", "a=1"], ["--complete"]):
        assert f"{option[0]} is for runs on tables" in error_of(capsys, "sample", "array", *option)
    assert "impute is for runs on tables" in error_of(capsys, "impute", "array")
    assert run("score", "array", "--num-samples", 3, "--out", "s.csv") == 0
    assert read("s.csv").columns[:2] == ["row", "log_likelihood"]


def test_cells_that_are_there_are_imputed_to_the_byte(here, capsys):
    # Written in ways that a program would not choose: zeros at the end, quotes and an empty text.
    lines = Path("x.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    income = cells[0].index("income")
    for row in cells[1:41]:
        row[income] = row[income] and f"{float(row[income]):.4f}"
    Path("later.csv").write_text("\n".join(map(",".join, cells[:41])) + "\n")
    assert run("impute", "run", "later.csv", "--draws", 20, "--out", "filled.csv") == 0
    printed = capsys.readouterr().out
    found = [line.split(",") for line in Path("filled.csv").read_text().splitlines()]
    pairs = [
        pair for a, b in zip(cells[:41], found, strict=True) for pair in zip(a, b, strict=True)
    ]
    assert all(after == before for before, after in pairs if before)
    assert all(after for _, after in pairs)
    holes = sum(not before for before, _ in pairs)
    entries = read("filled-entries.csv")
    assert len(entries) == holes > 0
    for row, name, value in entries.select("row", "column", "value").iter_rows():
        assert found[row][found[0].index(name)] == value
    assert f"filled in {holes} values, each in filled-entries.csv" in printed
    assert "in 90% intervals" in printed


def test_rows_are_scored_and_reconstructed_in_order(here):
    assert run("score", "run", "--num-samples", 0, "--out", "s.parquet") == 0
    scores = read("s.parquet")
    assert scores["row"].to_list() == list(range(1, 401))
    assert "log_likelihood" not in scores.columns
    assert run("reconstruct", "run", "--split", "test", "--out", "r.csv") == 0
    assert read("r.csv").columns == [name for name in customers(2).columns if name != "id"]
    assert not any(read("r.csv").null_count().row(0))


def test_a_later_file_may_differ(here, capsys):
    later = customers(40, seed=3).drop("income").with_columns(city=pl.lit("Paris"), extra=1)
    later.select(reversed(later.columns)).write_csv("later.csv")
    assert run("embed", "run", "later.csv", "--out", "z.npz") == 0
    said = capsys.readouterr().err
    for words in (
        "lacks columns, whose values are unknown: income",
        "left out: extra",
        "in another order",
        "40 values of city",
        "first 'Paris' in row 1 (line 2)",
    ):
        assert words in said
    assert np.isfinite(np.load("z.npz")["mean"]).all()
    assert np.load("z.npz")["mean"].shape == (40, 3)


def test_parquet_comes_in_and_goes_out_with_its_types(here):
    table = customers().with_columns(pl.col("channel").cast(pl.Categorical))
    table.write_parquet("x.parquet")
    folder = Path("parts")
    folder.mkdir()
    for k in range(2):
        table[200 * k : 200 * k + 200].write_parquet(folder / f"{k}.parquet")
    train("x.parquet", "whole")
    train("parts", "folder")
    for name in ("whole", "folder"):
        out = f"{name}.parquet"
        assert run("sample", name, "--num", 50, "--out", out) == 0
        assert read(out).schema == table.drop("id").schema
    # The rows are the same, so the models are.
    assert read("whole.parquet").equals(read("folder.parquet"))
    assert run("impute", "whole", "--draws", 10, "--out", "i.parquet") == 0
    assert read("i.parquet").schema == table.schema


def test_kinds_may_be_given(here, capsys):
    train("x.csv", "own", "--columns", "visits=category", "size=category", "member=drop")
    kinds = mm.load("own").data.schema.kinds()
    assert (kinds["visits"], kinds["size"], kinds["member"]) == ("category", "category", "drop")
    for entry, words in {
        "visits": "must be NAME=KIND",
        "vists=count": "'vists'.*did you mean 'visits'",
        "visits=colour": "colour",
        "city=number": "'city'.*number",
    }.items():
        message = error_of(capsys, "train", "x.csv", *QUICK, "--columns", entry, "--out", "bad")
        assert re.search(words, message), message
        assert not Path("bad").exists()
    message = error_of(
        capsys, "train", "x.csv", *QUICK, "--columns", "visits=count", "visits=whole"
    )
    assert "gives 'visits' a second kind" in message


def test_numbers_of_a_table_may_be_taken_as_an_array(here, capsys):
    numbers = np.random.default_rng(0).normal(size=(60, 3)).round(2)
    np.savetxt("n.csv", numbers, delimiter=",", header="a,b,c", comments="", fmt="%.2f")
    train("n.csv", "array", "--model.likelihood", "gaussian")
    trained = mm.load("array")
    assert trained.data.schema is None
    assert trained.data.preprocessing.likelihood == "gaussian"
    assert trained.experiment.model.encoder_floor == 0.1
    train("n.csv", "table")
    assert mm.load("table").experiment.model.encoder_floor == 0.2
    message = error_of(capsys, "train", "x.csv", *QUICK, "--model.likelihood", "gaussian")
    assert "'city'" in message
    message = error_of(capsys, "train", "n.csv", *QUICK, "--model.likelihood", "gaussian",
                       "--columns", "a=count")  # fmt: skip
    assert "--columns a=count is for tables whose columns have kinds" in message


@pytest.mark.parametrize("kind", ["column", "file"])
def test_labels_are_a_column_or_a_file(here, kind):
    labels = customers()["channel"].fill_null("none")
    if kind == "column":
        customers().with_columns(kind=labels).write_csv("y.csv")
    else:
        customers().write_csv("y.csv")
        Path("kind.csv").write_text("\n".join(labels) + "\n")
    name = "kind" if kind == "column" else "kind.csv"
    train("y.csv", "labelled", "--labels", name)
    trained = mm.load("labelled")
    assert trained.data.classes == ("none", "phone", "shop", "web")
    assert "kind" not in trained.data.columns
    assert trained.report.has("knn_5_accuracy")
    assert run("embed", "labelled", "--out", "z.csv") == 0
    assert read("z.csv")["label"].to_list() == labels.to_list()
    assert run("impute", "labelled", "--draws", 10, "--split", "test", "--out", "i.csv") == 0
    assert ("kind" in read("i.csv").columns) == (kind == "column")
    assert len(read("i.csv")) == len(trained.data.test)


def test_a_run_is_used_where_its_table_moved(here, capsys):
    # The run knows this place, and not that of the copied table.
    train("x.csv", "again")
    shutil.rmtree("run")
    Path("again").rename("run")
    capsys.readouterr()
    Path("x.csv").rename("elsewhere.csv")
    assert run("sample", "run", "--num", 5) == 0
    message = error_of(capsys, "evaluate", "run")
    assert "x.csv" in message
    assert "--data" in message
    assert run("evaluate", "run", "--num-samples", 2, "--data", "elsewhere.csv") == 0
    assert run("score", "run", "--num-samples", 0, "--data", "elsewhere.csv") == 0
    with pytest.warns(UserWarning, match="are missing values; model and kinds of columns"):
        trained = mm.load("run")
    assert trained.data.schema.kinds()["city"] == "category"
    customers(seed=1).write_csv("x.csv")
    assert "has changed since the run began" in error_of(capsys, "evaluate", "run")


EDITS = {
    "another kind": lambda c: c[1].update(kind="colour"),
    "a level less": lambda c: c[1]["levels"].pop(),
    "a level twice": lambda c: c[1].update(levels=["Oslo"] * 4),
    "no step": lambda c: c[3].update(step=0),
    "edges that fall": lambda c: c[3].update(edges=c[3]["edges"][::-1]),
    "another parent": lambda c: c[2].update(parent="id"),
    "no columns": lambda c: c.clear(),
    "a name twice": lambda c: c[2].update(name="city"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_schema_is_refused_in_one_line(here, capsys, edit):
    file = Path("run/data.json")
    value = json.loads(file.read_text())
    value.pop("digest", None)
    EDITS[edit](value["schema"]["columns"])
    file.write_text(json.dumps(value))
    for command in ("sample", "evaluate", "inspect"):
        message = error_of(capsys, command, "run")
        assert "schema cannot be read" in message
        assert "data.json" in message


def test_a_training_that_was_killed_goes_on_with_the_same_bits(here):
    options = [*QUICK, "--training.epochs", 40]
    done = [*map(str, ["train", "x.csv", *options, "--checkpoint-seconds", 0])]
    process = commands.start(*done, "--out", "killed")
    metrics = Path("killed/metrics.jsonl")
    commands.wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") >= 5, process)
    process.send_signal(signal.SIGKILL)
    commands.finish(process)
    assert metrics.read_text().count("\n") < 40
    assert run("train", "--resume", "killed", "--no-report") == 0
    assert run(*done, "--out", "whole") == 0
    for name in ("model.safetensors", "fitted_prior.safetensors"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()


def test_models_of_tables_are_compared(here, capsys):
    assert run("compare", "x.csv", *QUICK, "--out", "both") == 0
    reports = json.loads(Path("both/comparison.json").read_text())["reports"]
    # Principal components need numbers, and pseudo-inputs gradients.
    assert {"a-mim", "vae", "rae", "beta-vae"} <= set(reports)
    assert not {"pca", "vae-vampprior"} & set(reports)
    for report in reports.values():
        names = {metric["name"] for metric in report["metrics"]}
        assert {"reconstruction_accuracy", "generated_auc", "generated_contradictions"} <= names
        assert "mutual_information_ksg" not in names


def test_a_prior_is_fitted_to_a_run_on_a_table(here):
    options = ["--components", 2, "--num-samples", 5, "--no-report"]
    assert run("refit", "run", *options, "--out", "refit") == 0
    assert run("sample", "refit", "--num", 20, "--out", "s.csv") == 0
    assert len(read("s.csv")) == 20
    assert run("evaluate", "refit", "--num-samples", 2) == 0
    assert run("impute", "refit", "--draws", 10, "--split", "val", "--out", "i.csv") == 0


def test_results_of_a_table_can_be_read_as_a_table(here):
    # What the commands write is a table again.
    assert run("sample", "run", "--num", 300, "--out", "new.csv") == 0
    train("new.csv", "second")
    kinds = mm.load("second").data.schema.kinds()
    first = mm.load("run").data.schema.kinds()
    assert kinds == {name: kind for name, kind in first.items() if name != "id"}
    assert mm.load("second").data.columns == tableruns.MODELLED


def test_durations_and_levels_without_rows_go_through(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dice = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "took": pl.Series(dice.integers(0, 99, 60)).cast(pl.Duration("ms")) * 60_000,
            "size": pl.Series(dice.choice(["S", "M"], 60), dtype=pl.Enum(["S", "M", "L"])),
            "age": dice.integers(18, 90, 60),
        }
    ).with_columns(took=pl.when(pl.col("age") > 80).then(None).otherwise(pl.col("took")))
    table.write_parquet("x.parquet")
    train("x.parquet", "run")
    assert run("sample", "run", "--num", 5, "--complete", "--out", "s.csv") == 0
    assert read("s.csv")["took"].str.starts_with("PT").all()
    assert run("sample", "run", "--num", 5, "--out", "s.parquet") == 0
    assert read("s.parquet").schema == table.schema
    for command in ("score", "impute", "reconstruct"):
        assert run(command, "run", "x.parquet", "--out", f"{command}.csv") == 0
    assert read("impute-entries.csv")["value"].str.starts_with("PT").all()


def test_ten_rows_are_enough_for_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.csv").write_text("a,b\n" + "".join(f"{k},{k * k % 7}.5\n" for k in range(10)))
    train("x.csv", "run")
    for command in ("score", "impute", "reconstruct", "embed"):
        assert run(command, "run", "x.csv", "--out", f"{command}.csv") == 0
