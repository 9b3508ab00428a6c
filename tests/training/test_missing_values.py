"""Rows with missing values are taken where the encoder says so, and refused otherwise."""

import numpy as np
import pytest
import torch
from tablemodels import INF, MIXED, NAN, distribution, model

import mimachine as mm
from mimachine.data.examples import examples, reader_of_missing

RECIPE = mm.Training(epochs=2, batch_size=16, warmup=0)


def rows(count=40):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = distribution(MIXED).sample((count,)).float()
        return x.masked_fill(torch.rand_like(x) < 0.1, INF)


def plain():
    return mm.Joint(mm.Gaussian(mm.MLP(6, 6)), mm.Gaussian(mm.MLP(3, 12)), mm.StandardNormal(3))


ENTRIES = {
    "fit": lambda m, x: mm.fit(mm.Loss(m, mm.A_MIM), x, x, RECIPE).epochs[-1].val_loss,
    "codes": lambda m, x: mm.codes(m, x).mean,
    "log_likelihood": lambda m, x: mm.log_likelihood(m, x, 20).values,
    "annealed": lambda m, x: mm.annealed_log_likelihood(m, x, num_chains=2, num_steps=2).values,
    "refit_prior": lambda m, x: mm.refit_prior(m, x, x, components=2).prior().sample(),
    "refit_proposal": lambda m, x: next(
        mm.refit_proposal(m, x, x, num_samples=2, training=RECIPE).parameters()
    ),
}
OWN_NAME = {"fit": "train", "refit_prior": "train", "refit_proposal": "train"}
every_entry = pytest.mark.parametrize("name", ENTRIES)


@every_entry
def test_rows_of_a_table_may_have_missing_and_hidden_values(name):
    x = rows()
    for given in (x, x.double().numpy(), torch.utils.data.TensorDataset(x)):
        torch.manual_seed(0)
        assert torch.as_tensor(ENTRIES[name](model(MIXED), given)).isfinite().all()


@every_entry
@pytest.mark.parametrize("value", [NAN, INF])
def test_other_models_refuse_them(name, value):
    x = torch.zeros(20, 6)
    x[3, 2] = value
    argument = OWN_NAME.get(name, "x")
    with pytest.raises(ValueError, match=f"{argument} must be finite; 1 row of 20 is not: 3"):
        ENTRIES[name](plain(), x)


@every_entry
def test_values_that_a_column_cannot_take_are_refused_by_column_and_row(name):
    argument = OWN_NAME.get(name, "x")
    for column, value, expected in (
        (0, 3.0, r"levels 0 to 2, NaN \(missing\) or inf \(hidden\) in column 0, got 3 in row 7"),
        (1, 0.5, r"whole numbers of steps, NaN .* in column 1, got 0\.5 in row 7"),
        (3, -1.0, r"whole numbers of steps from 0, NaN .* in column 3, got -1 in row 7"),
        (5, 5.0, r"whole numbers of steps from 0 up to 4, NaN .* in column 5, got 5 in row 7"),
        (4, -INF, r"levels 0 to 6, NaN .* in column 4, got -inf in row 7"),
    ):
        x = rows()
        x[7, column] = value
        with pytest.raises(ValueError, match=f"{argument} must have {expected}"):
            ENTRIES[name](model(MIXED), x)
    with pytest.raises(ValueError, match=f"{argument} must have 6 values per row, .* got 5"):
        ENTRIES[name](model(MIXED), rows()[:, :5])


def test_values_beyond_the_type_of_the_model_are_not_taken_for_hidden_ones():
    x = rows().double().numpy()
    x[2, 1] = 1e300
    with pytest.raises(ValueError, match="x must be within the range of float32; 1 row of 40"):
        mm.codes(model(MIXED), x)


def test_bytes_are_levels_not_grey_values():
    levels = np.array([[2, 5, 1, 3, 6, 4]], dtype=np.uint8)
    assert examples("x", levels, model(MIXED)).tolist() == levels.tolist()
    data = np.repeat(levels, 8, 0)
    torch.manual_seed(0)
    found = ENTRIES["fit"](model(MIXED), data)
    torch.manual_seed(0)
    assert found == ENTRIES["fit"](model(MIXED), data.astype(np.float32))


def test_the_part_that_takes_missing_values_is_found_in_models_losses_and_ensembles():
    joint = model(MIXED)
    reader = reader_of_missing(joint)
    assert isinstance(reader, mm.TableFeatures)
    loss = mm.Loss(joint, mm.A_MIM)
    assert reader_of_missing(loss) is reader
    assert reader_of_missing(joint.encoder) is reader
    assert isinstance(reader_of_missing(mm.Ensemble([loss, loss])), mm.TableFeatures)
    assert reader_of_missing(plain()) is None
    assert reader_of_missing(joint.decoder) is None
    assert reader_of_missing(None) is None


def test_a_source_says_whether_its_rows_may_have_missing_values():
    x = rows()
    with pytest.raises(ValueError, match="data must be finite"):
        mm.TensorSource(x)
    with pytest.raises(ValueError, match="missing must be True or False, got 1"):
        mm.TensorSource(x, missing=1)
    source = mm.TensorSource(x, shuffle=False, missing=True)
    assert torch.equal(next(source.batches(40, 1)).nan_to_num(-1), x.nan_to_num(-1))


def test_rows_of_a_source_are_checked_with_the_first_batch():
    x = rows()
    x[:, 4] = 7
    source = mm.TensorSource(x, missing=True)
    with pytest.raises(ValueError, match=r"train must have levels 0 to 6, .* in column 4, got 7"):
        mm.fit(mm.Loss(model(MIXED), mm.A_MIM), source, training=RECIPE)


def test_models_of_tables_train_together():
    torch.manual_seed(0)
    ensemble = mm.Ensemble([mm.Loss(model(MIXED), mm.MIM) for _ in range(2)])
    x = rows().expand(2, 40, 6)
    from mimachine.data.sources import Shared

    history = mm.fit(ensemble, Shared(mm.TensorSource(x[0], missing=True), 2), training=RECIPE)
    assert torch.tensor(history.epochs[-1].train_loss).isfinite().all()


@pytest.mark.parametrize("precision", ["full", "bf16-mixed"])
def test_training_runs_in_every_precision(precision):
    torch.manual_seed(0)
    recipe = mm.Training(epochs=3, batch_size=20, warmup=0, precision=precision)
    history = mm.fit(mm.Loss(model(MIXED), mm.A_MIM), rows(), rows(), recipe)
    assert history.epochs[-1].val_loss < history.epochs[0].val_loss
