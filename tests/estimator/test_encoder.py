"""`MIMEncoder` as scikit-learn and its users call it."""

import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from peopleframe import people
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

import mimachine as mm
from mimachine.data.examples import device_of

X = np.random.default_rng(0).normal(size=(120, 5))
Y = (X[:, 0] > 0).astype(int)


def short(**changes):
    return mm.MIMEncoder(**{"max_epochs": 3, "random_state": 0, **changes})


@parametrize_with_checks([short(random_state=None)])
def test_it_keeps_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def table():
    return people()


@pytest.fixture(scope="module")
def of_table(table):
    return short(n_components=4, max_epochs=20).fit(table)


def test_transform_gives_the_mean_codes_of_the_model():
    encoder = short().fit(X)
    expected = mm.codes(encoder.model_, encoder.rows(X)).mean
    np.testing.assert_allclose(encoder.transform(X), expected, rtol=0, atol=1e-12)
    assert encoder.transform(X).shape == (120, encoder.n_components_) == (120, 5)


def test_iris_is_decoded_from_two_components():
    x = load_iris().data
    encoder = mm.MIMEncoder(2, random_state=0).fit(x)
    back = encoder.inverse_transform(encoder.transform(x))
    # Two principal components leave 2 % of the variance.
    assert ((x - back) ** 2).mean() < 0.08 * x.var(0).mean()
    assert encoder.score(x) == pytest.approx(encoder.score_samples(x).mean())


def test_densities_are_those_of_the_original_units():
    small, large = short(likelihood="gaussian").fit(X), short(likelihood="gaussian").fit(1000 * X)
    difference = small.score_samples(X) - large.score_samples(1000 * X)
    np.testing.assert_allclose(difference, 5 * np.log(1000), rtol=1e-3)


def test_principal_components_are_an_objective():
    from sklearn.decomposition import PCA

    x = X[:, :2] @ np.random.default_rng(1).normal(size=(2, 6)) + 0.1 * X[:, [2]]
    encoder = short(objective="pca", n_components=2, validation_fraction=0).fit(x)
    back = encoder.inverse_transform(encoder.transform(x))
    scaled = (x - x.mean(0)) / x.std(0)
    pca = PCA(2).fit(scaled)
    expected = pca.inverse_transform(pca.transform(scaled)) * x.std(0) + x.mean(0)
    np.testing.assert_allclose(back, expected, rtol=0, atol=1e-4)
    assert encoder.n_iter_ == 1


def test_a_table_of_pandas_comes_back_with_its_types(table, of_table):
    back = of_table.inverse_transform(of_table.transform(table))
    assert list(back.columns) == list(table.columns[:-1])
    assert (back.dtypes == table.dtypes[:-1]).all()
    assert not back.isna().any().any()
    drawn = of_table.sample(50)
    assert (drawn.dtypes == back.dtypes).all()
    assert drawn[["age", "city", "joined", "spend"]].isna().any().any()
    assert not of_table.sample(50, complete=True).isna().any().any()


def test_rows_are_drawn_given_values(of_table):
    drawn = of_table.sample(20, given={"city": "Lyon", "vip": True})
    assert (drawn["city"] == "Lyon").all()
    assert drawn["vip"].all()
    with pytest.raises(ValueError, match="town"):
        of_table.sample(1, given={"town": "Lyon"})
    with pytest.raises(ValueError, match="given is for tables"):
        short().fit(X).sample(1, given={"x0": 1})


def test_draws_have_a_seed(of_table):
    assert of_table.sample(5).equals(of_table.sample(5, random_state=0))
    assert not of_table.sample(5).equals(of_table.sample(5, random_state=1))


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_a_frame_that_is_an_array_of_numbers_comes_back(make):
    frame = make({"a": X[:, 0], "b": X[:, 1]})
    encoder = short(likelihood="gaussian").fit(frame)
    back = encoder.inverse_transform(encoder.transform(frame))
    assert type(back) is type(encoder.sample(3)) is type(frame)
    assert list(back.columns) == ["a", "b"]
    array = short(likelihood="gaussian").fit(X[:, :2])
    expected = array.inverse_transform(array.transform(X[:, :2]))
    np.testing.assert_allclose(back.to_numpy(), expected, rtol=0, atol=1e-9)


def test_frames_of_polars_and_arrow_come_back():
    pyarrow = pytest.importorskip("pyarrow")
    frame = pl.DataFrame({"a": X[:, 0], "b": ["u", "v"] * 60})
    encoder = short().fit(frame)
    assert encoder.sample(2).schema == frame.schema
    codes = encoder.set_output(transform="polars").transform(frame)
    assert codes.columns == ["mimencoder0", "mimencoder1"]
    assert isinstance(short().fit(frame.to_arrow()).sample(2), pyarrow.Table)


def test_arrays_of_objects_and_with_holes_are_tables():
    values = np.array([[1.5, "a"], [2.5, "b"], [np.nan, "a"], [3, None]] * 30, dtype=object)
    encoder = short(n_components=2).fit(values)
    drawn = encoder.sample(40)
    assert drawn.dtype == object
    assert set(drawn[:, 1]) <= {"a", "b", None}
    holes = X.copy()
    holes[::7, 1] = np.nan
    encoder = short().fit(holes)
    assert encoder.sample(100).dtype == np.float64
    assert np.isfinite(encoder.transform(holes)).all()


def test_lazy_frames_long_numbers_and_arrays_of_dates_are_taken():
    lazy = pl.DataFrame({"a": X[:, 0], "b": X[:, 1]}).lazy()
    assert short().fit(lazy).transform(lazy).shape == (120, 2)
    assert short().fit(X.astype(np.longdouble)).transform(X).shape == (120, 5)
    days = np.datetime64("2020-01-01") + np.random.default_rng(0).integers(0, 900, (120, 2))
    assert short().fit(days).transform(days).shape == (120, 2)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (18, 17), (18, 17, 3)])
def test_images_keep_their_shape(shape):
    images = np.random.default_rng(0).integers(0, 256, (60, *shape), dtype=np.uint8)
    encoder = short(n_components=3).fit(images)
    # Only large ones are modelled by convolutions.
    assert (encoder.experiment_.model.architecture == "conv") == (shape[0] > 16)
    codes = encoder.transform(images)
    assert codes.shape == (60, 3)
    assert codes.dtype == np.float64
    scores = encoder.score_samples(images[:4])
    np.testing.assert_allclose(encoder.score_samples(images[2:4]), scores[2:], rtol=1e-5)
    assert encoder.inverse_transform(encoder.transform(images)).shape == images.shape
    drawn = encoder.sample(4)
    assert drawn.shape == (4, *shape)
    assert drawn.dtype == np.uint8
    with pytest.raises(ValueError, match="images of shape"):
        encoder.transform(images[:, :3])


def test_a_sparse_matrix_is_an_array():
    x = sparse.random(80, 9, 0.3, format="csr", random_state=0)
    np.testing.assert_allclose(
        short().fit(x).transform(x), short().fit(x.toarray()).transform(x.toarray())
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_are_kept(dtype):
    encoder = short().fit(X.astype(dtype))
    assert encoder.transform(X.astype(dtype)).dtype == dtype
    assert encoder.sample(2).dtype == dtype


def test_pipelines_searches_and_copies(table):
    pipe = make_pipeline(StandardScaler(), short(), LogisticRegression())
    assert cross_val_score(pipe, X, Y, cv=2).shape == (2,)
    columns = ColumnTransformer([("codes", short(n_components=2), ["age", "city"])])
    columns.fit(table)
    assert list(columns.get_feature_names_out()) == ["codes__mimencoder0", "codes__mimencoder1"]
    half = np.where(np.arange(120) % 2, Y, -1)
    assert SelfTrainingClassifier(pipe).fit(X, half).predict(X).shape == (120,)
    search = GridSearchCV(short(), {"objective": ["a-mim", "rae"]}, cv=2, n_jobs=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert clone(search.best_estimator_).get_params() == search.best_estimator_.get_params()


def test_it_is_stored_by_joblib(of_table, table, tmp_path):
    joblib.dump(of_table, tmp_path / "encoder")
    again = joblib.load(tmp_path / "encoder")
    np.testing.assert_array_equal(again.transform(table), of_table.transform(table))
    pd.testing.assert_frame_equal(again.sample(5), of_table.sample(5))


def test_warm_start_goes_on_from_the_weights(tmp_path):
    encoder = short(warm_start=True).fit(X)
    before = encoder.transform(X)
    encoder.set_params(training=mm.Training(1, learning_rate=1e-12, warmup=0), max_epochs=None)
    np.testing.assert_allclose(encoder.fit(X).transform(X), before, rtol=0, atol=1e-6)
    # Its data are now others.
    encoder.fit(X[:80]).save(tmp_path / "run", X[:80])
    with pytest.raises(ValueError, match="X must be the data"):
        encoder.save(tmp_path / "other", X)
    fresh = encoder.set_params(warm_start=False).fit(X)
    assert np.abs(fresh.transform(X) - before).max() > 1e-3


def test_without_validation_all_rows_train():
    encoder = short(validation_fraction=0).fit(X)
    assert encoder.history_.best_epoch is None
    assert encoder.history_.epochs[-1].val_loss is None


def test_the_seed_decides():
    np.testing.assert_array_equal(short().fit(X).transform(X), short().fit(X).transform(X))
    other = short(random_state=1).fit(X)
    assert np.abs(other.transform(X) - short().fit(X).transform(X)).max() > 1e-3


def test_the_global_generators_stay():
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    expected = torch.rand(1), np.random.RandomState(3).rand()
    np.random.seed(3)  # noqa: NPY002
    torch.manual_seed(3)
    short().fit(X).sample(3)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


def test_new_levels_are_warned_of(of_table, table):
    changed = table.astype({"city": object})
    changed.loc[1100, "city"] = "Brest"
    with pytest.warns(UserWarning, match="Brest"):
        of_table.transform(changed)


def test_columns_have_given_kinds():
    frame = pd.DataFrame({"code": np.arange(120) % 4, "x": X[:, 0]})
    encoder = short(columns={"code": "category"}).fit(frame)
    (kind, *_) = (column.kind for column in encoder._reader.data.schema.columns)
    assert kind == "category"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"objective": "amim"}, "did you mean 'a-mim'"),
        ({"prior": "gauss"}, "prior"),
        ({"likelihood": "poisson"}, "likelihood"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"hidden": (0,)}, "hidden"),
        ({"device": "abacus"}, "device"),
        ({"columns": {"age": "category"}}, "age"),
        ({"likelihood": "gaussian", "columns": {"x0": "category"}}, "columns"),
    ],
)
def test_wrong_parameters_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        short(**change).fit(X)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((5, 3)), "no column that varies"),
        (np.full((20, 3), np.nan), "no column that can be modelled"),
        (np.full((20, 2), np.inf), "infinity"),
        ([1, 2, 3], "Reshape your data"),
        (X[:1], "1 sample"),
        (pd.DataFrame({"a": [1.0]}), "1 sample"),
        (pd.DataFrame({"a": []}), "no rows"),
        (np.zeros((9, 2, 2, 2, 2)), "dim"),
        (pd.DataFrame(X[:, :2], columns=["a", "a"]), "'a'"),
        (pd.DataFrame({"a": X[:, 0], "b": [[1]] * 120}), "'b'"),
    ],
)
def test_unusable_data_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        short().fit(values)


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [people(), X, (255 * np.random.default_rng(0).random((60, 4, 4)))])
def test_a_saved_run_is_read_back(data, tmp_path):
    data = data.astype(np.uint8) if getattr(data, "ndim", 0) == 3 else data
    encoder = short(n_components=3).fit(data)
    encoder.save(tmp_path / "run")
    again = mm.MIMEncoder.from_run(tmp_path / "run")
    np.testing.assert_array_equal(again.transform(data), encoder.transform(data))
    np.testing.assert_array_equal(again.score_samples(data), encoder.score_samples(data))
    assert again.n_features_in_ == encoder.n_features_in_
    with pytest.warns(UserWarning, match="does not exist"):
        trained = mm.load(tmp_path / "run")
    assert device_of(trained.model).type == "cpu"
    with pytest.raises(FileExistsError):
        encoder.save(tmp_path / "run")


def test_a_run_with_its_data_can_be_evaluated(tmp_path, few_trees):
    encoder = short().fit(X)
    encoder.save(tmp_path / "run", X)
    trained = mm.load(tmp_path / "run")
    assert len(trained.data.train) == 108
    assert len(trained.data.val) == len(trained.data.test) == 12
    assert any("no rows are for a test" in note for note in trained.data.notes)
    rows = torch.cat([trained.data.train[:], trained.data.val])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, encoder.rows(X).tolist()))
    with pytest.raises(ValueError, match="X must be the data"):
        encoder.save(tmp_path / "other", X + 1)
    assert not (tmp_path / "other" / "experiment.json").exists()


@pytest.mark.slow
def test_a_run_of_a_file_is_an_estimator(tmp_path, few_trees):
    frame = people()
    _, _, _ = mm.train(frame, tmp_path / "run")
    encoder = mm.MIMEncoder.from_run(tmp_path / "run")
    assert encoder.transform(frame).shape == (200, encoder.n_components_)
    with pytest.raises(FileNotFoundError):
        mm.MIMEncoder.from_run(tmp_path / "nothing")


def test_the_package_loads_without_scikit_learn():
    code = "import sys, mimachine; print('sklearn' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
