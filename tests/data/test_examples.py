"""All public functions take the same kinds of data, and refuse the same by name."""

import numpy as np
import pandas
import polars
import pytest
import torch
from torch import nn

import mimachine as mm
from mimachine import workflow
from mimachine._support.seeds import forked
from mimachine.data.examples import as_tensor, class_numbers, examples, numbers

RECIPE = mm.Training(epochs=1, batch_size=8, warmup=0)
GREY = torch.randint(0, 256, (12, 4), generator=torch.Generator().manual_seed(0))


def frame_of(frames, values):
    return frames.DataFrame({name: values[:, k].numpy() for k, name in enumerate("abcd")})


def model(width=4):
    with forked(0):
        encoder, decoder = mm.Gaussian(mm.MLP(width, 4, (5,))), mm.Gaussian(mm.MLP(2, 8, (5,)))
        return mm.Joint(encoder, decoder, mm.StandardNormal(2))


WIDE = GREY.double() / 255
KINDS = {
    "float32": WIDE.float(),
    "float64": WIDE,
    "bytes": GREY.to(torch.uint8),
    "numpy bytes": GREY.numpy().astype(np.uint8),
    "big-endian": WIDE.numpy().astype(">f8"),
    "negative strides": WIDE.numpy()[::-1][::-1, ::-1][:, ::-1],
    "Fortran order": np.asfortranarray(WIDE.numpy()),
    "long double": WIDE.numpy().astype(np.longdouble),
    "dataset of torch": torch.utils.data.TensorDataset(WIDE.float(), torch.arange(len(WIDE))),
    "list": WIDE.tolist(),
    "list of tensors": list(WIDE),
    "list of arrays": list(WIDE.numpy()),
    "frame of pandas": frame_of(pandas, WIDE),
    "frame of polars": frame_of(polars, WIDE),
    "single precision of polars": frame_of(polars, WIDE.float()),
    "needs a gradient": WIDE.clone().requires_grad_(),
    "masked": np.ma.masked_array(WIDE.numpy()),
}
READ_ONLY = WIDE.numpy().copy()
READ_ONLY.flags.writeable = False
KINDS["read-only"] = READ_ONLY


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_becomes_the_same_rows(kind, dtype):
    like = torch.zeros(1, dtype=dtype)
    found = examples("x", KINDS[kind], like)
    assert found.dtype == dtype
    torch.testing.assert_close(found, WIDE.to(dtype), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.int8, torch.int16, torch.int32, torch.bool]
)
def test_numbers_of_every_type_keep_their_values(dtype):
    values = torch.tensor([[0, 1], [1, 0]])
    for given in (values.to(dtype), values.to(dtype).float().numpy().astype(np.uint16)):
        assert torch.equal(examples("x", given, torch.zeros(1)), values.float())
        assert torch.equal(numbers("x", given), values.to(numbers("x", given).dtype))


def test_data_are_not_copied_if_they_have_the_form_already():
    rows = WIDE.float().numpy()
    assert examples("x", rows, torch.zeros(1)).data_ptr() == rows.ctypes.data


ENTRIES = {
    "fit": lambda m, x: mm.fit(mm.Loss(m, mm.A_MIM), x, x, RECIPE).epochs[0].train_loss,
    "codes": lambda m, x: mm.codes(m, x).mean,
    "reencode": lambda m, x: mm.reencode(m, x).offset,
    "log_likelihood": lambda m, x: mm.log_likelihood(m, x, 9).values,
    "mean_log_likelihood": lambda m, x: (
        mm.mean_log_likelihood(m, x, 9, subset=5, few_samples=2).value
    ),
    "quadrature": lambda m, x: mm.quadrature_log_likelihood(m, x, tolerance=1.0).values,
    "annealed": lambda m, x: mm.annealed_log_likelihood(m, x, num_chains=2, num_steps=2).values,
    "bounds": lambda m, x: mm.information_bounds(m, x).upper.value,
    "bounds of an encoder": lambda m, x: mm.information_bounds(m.encoder, x).upper.value,
    "decompose": lambda m, x: mm.decompose(m, x, num_samples=1).loss.value,
    "refit_prior": lambda m, x: mm.refit_prior(m, x, x).prior.loc,
    "refit_proposal": lambda m, x: next(
        mm.refit_proposal(m, x, num_samples=1, training=RECIPE).parameters()
    ),
    "compare_priors": lambda m, x: mm.compare_priors(m, m, x, 5).after.values,
    "reconstruct": lambda m, x: workflow.reconstruct(m, x).mean,
    "source": lambda m, x: next(mm.TensorSource(x, shuffle=False).batches(12, 1)),
    "energy_distance": lambda m, x: mm.energy_distance(x, WIDE).value,
    "energy_distance of a reference": lambda m, x: mm.energy_distance(WIDE, x).value,
    "energy_distance_from_normal": lambda m, x: mm.energy_distance_from_normal(x).value,
    "two_sample_auc": lambda m, x: mm.two_sample_auc(x, WIDE).value,
    "two_sample_auc of a reference": lambda m, x: mm.two_sample_auc(WIDE, x).value,
    "kl_per_dimension": lambda m, x: mm.kl_per_dimension(x, x),
    "mutual_information": lambda m, x: float(mm.mutual_information(x, x, 2)),
    "leave_one_out": lambda m, x: mm.leave_one_out_accuracy(x, list("ab" * 6)).value,
    "linear_probe": lambda m, x: mm.linear_probe(x, [0, 1] * 6, x, [0, 1] * 6).value,
    "knn_accuracy": lambda m, x: mm.knn_accuracy(x, np.arange(12) % 2, x, [0, 1] * 6, 1),
    "diagnose": lambda m, x: mm.diagnose(x, x, 0.5)["rate"].value,
}
OWN_NAME = {
    **{"fit": "train", "refit_prior": "train", "refit_proposal": "train", "source": "data"},
    **{"energy_distance_from_normal": "z", "kl_per_dimension": "mean", "leave_one_out": "codes"},
    **{"energy_distance of a reference": "y", "two_sample_auc of a reference": "y"},
    **{"linear_probe": "train", "knn_accuracy": "train"},
}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_function_takes_every_kind(name):
    call = ENTRIES[name]
    expected = torch.as_tensor(call(model(), KINDS["float32"])).double()
    for kind in ("numpy bytes", "big-endian", "list", "frame of pandas", "frame of polars"):
        # Without a model, bytes are numbers in their own unit.
        if kind == "numpy bytes" and name.startswith(("energy", "two_", "kl_", "diagnose")):
            continue
        found = torch.as_tensor(call(model(), KINDS[kind])).double()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize("name", [name for name in ENTRIES if name not in ("source", "diagnose")])
def test_a_model_in_double_precision_takes_single_precision(name):
    result = ENTRIES[name](model().double(), KINDS["float32"])
    assert torch.as_tensor(result).isfinite().all()


class Dictionaries(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"a": WIDE[index]}


def test_a_loader_is_read_in_its_order_unless_it_shuffles():
    rows, trained = WIDE.float(), model()
    state = torch.get_rng_state()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), 5)
    assert torch.equal(mm.codes(trained, loader).mean, mm.codes(trained, rows).mean)
    assert torch.equal(torch.get_rng_state(), state)
    shuffled = torch.utils.data.DataLoader(rows, 5, shuffle=True)
    with pytest.raises(ValueError, match="x must not be shuffled"):
        mm.codes(trained, shuffled)


BAD = {
    "a list of rows, got a generator": (row for row in WIDE.float()),
    "must give tensors, .* got a dictionary of 'a'": Dictionaries(),
    "a list of rows, got a str": "table.csv",
    "a list of rows, got a NoneType": None,
    "a list of rows, got a dict": {"a": [1.0]},
    "must be of numbers, got the type object": np.array([["a", 1.0]] * 12, dtype=object),
    "must be of numbers, got the type <U1": [["a", "b"]] * 12,
    "must be of numbers, got the type datetime64": np.zeros((12, 4), "datetime64[s]"),
    "must be of real numbers, got the type torch.complex64": torch.zeros(12, 4) * 1j,
    "must be an array, got rows of different shapes": [[1.0], [1.0, 2.0]],
    "must be rows of one shape on one device": [torch.zeros(2), torch.zeros(3)],
    "must not have masked values, got 1": np.ma.masked_array([[1.0, 2.0]], [[0, 1]]),
    "must be finite; 1 row of 12 is not: 3": torch.where(
        (torch.arange(12) == 3)[:, None], torch.nan, WIDE
    ),
    "column 'b' of .* must be of numbers, got the type String": polars.DataFrame(
        {"a": [1.0, 2.0], "b": ["x", "y"]}
    ),
    "column 'b' of .* must be of numbers, got the type (object|str)": pandas.DataFrame(
        {"a": [1.0, 2.0], "b": ["x", "y"]}
    ),
    "dense tensor": torch.eye(4).to_sparse(),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_function_refuses_the_same_by_the_name_of_its_argument(name):
    argument = OWN_NAME.get(name, "x")
    for message, data in BAD.items():
        with pytest.raises(ValueError, match=message) as caught:
            ENTRIES[name](model(), data)
        assert argument in str(caught.value).split(" must ")[0]


@pytest.mark.parametrize("name", [name for name in list(ENTRIES)[:14] if "bounds" not in name])
def test_every_function_with_a_model_names_rows_that_do_not_fit_it(name):
    argument = OWN_NAME.get(name, "x")
    for data, message in (
        (WIDE[:, :3], f"{argument} must have 4 values per row, as the encoder takes, got 3"),
        (WIDE[0], rf"{argument} must have shape \(N, \*X\) with N of 1 or more, got \(4,\)"),
        (WIDE[:0], rf"{argument} must have shape .* got \(0, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            ENTRIES[name](model(), data)


def test_values_beyond_the_models_type_are_refused():
    with pytest.raises(ValueError, match="x must be within the range of float32; 1 row of 2"):
        examples("x", np.array([[1e300], [1.0]]), torch.zeros(1))
    assert examples("x", np.array([[1e300], [1.0]]), torch.zeros(1).double())[0] == 1e300


@pytest.mark.parametrize("frames", [pandas, polars])
def test_frames_of_pandas_and_polars_are_read_alike(frames):
    frame = frames.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": [True, False]})
    assert as_tensor("x", frame).tolist() == [[1.0, 3.0, 1.0], [2.0, 4.0, 0.0]]
    assert as_tensor("x", frames.Series([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert [each.tolist() for each in class_numbers(labels=frames.Series(["b", "a", "b"]))] == [
        [1, 0, 1]
    ]
    with pytest.raises(ValueError, match="column 'd' of x must be of numbers"):
        as_tensor("x", frames.DataFrame({"a": [1.0], "d": ["no"]}))
    with pytest.raises(ValueError, match="x must be finite; 1 row of 2 is not: 1"):
        numbers("x", frames.DataFrame({"a": [1.0, None]}))
    with pytest.raises(ValueError, match="x must have columns, got none"):
        as_tensor("x", frames.DataFrame())


def test_a_model_that_looks_numbers_up_gets_whole_numbers():
    class Lookup(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4)
            self.head = mm.Gaussian(nn.Identity())

        def forward(self, x):
            return self.head(self.table(x).sum(1))

    tokens = torch.randint(0, 5, (6, 3))
    joint = mm.Joint(Lookup(), mm.Categorical(mm.MLP(2, 15), 5), mm.StandardNormal(2))
    assert mm.codes(joint, tokens).mean.shape == (6, 2)


def test_labels_of_the_same_class_have_the_same_number():
    one, other = class_numbers(a=np.array(["x", "y"]), b=["y", "z", "x"])
    assert one.tolist() == [0, 1]
    assert other.tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="a and b must both be numbers, or both text"):
        class_numbers(a=[1, 2], b=["1"])
    with pytest.raises(ValueError, match=r"a must have shape \(N,\), got \(2, 2\)"):
        class_numbers(a=np.eye(2))
