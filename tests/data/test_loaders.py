"""Torch datasets and data loaders as data to train on."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import mimachine as mm
from mimachine.training.batches import as_source
from mimachine.training.recipe import Training

ROWS = torch.arange(60.0).reshape(20, 3) / 60
LIKE = torch.zeros(())


class Numbered(Dataset):
    """Examples as arrays, with a class."""

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, index):
        return ROWS[index].numpy(), index % 2


class Stream(IterableDataset):
    def __iter__(self):
        return iter(ROWS)


def batches(data, size=7, epoch=1, seed=0):
    return list(as_source("train", data, LIKE, seed).batches(size, epoch))


KINDS = {
    "map-style": Numbered,
    "tensors": lambda: TensorDataset(ROWS, torch.arange(20)),
    "iterable": Stream,
    "loader": lambda: DataLoader(TensorDataset(ROWS), 6, shuffle=True),
    "loader with a generator": lambda: DataLoader(
        ROWS, 6, shuffle=True, generator=torch.Generator().manual_seed(5)
    ),
    "loader with workers": lambda: DataLoader(Numbered(), 6, shuffle=True, num_workers=2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_comes_once_in_an_order_of_the_epoch_and_seed(kind):
    data = KINDS[kind]()
    first = batches(data)
    assert torch.equal(torch.cat(first).sort(0).values, ROWS)
    torch.rand(3)  # The global generator does not matter.
    assert all(map(torch.equal, first, batches(data)))
    if kind != "iterable":
        assert len(as_source("train", data, LIKE, 0)) == 20
        others = batches(data, epoch=2), batches(data, seed=1)
        assert not any(torch.equal(torch.cat(first), torch.cat(each)) for each in others)


def test_held_out_rows_stay_in_their_order():
    found = list(as_source("val", Numbered(), LIKE, None).batches(7, 1))
    assert torch.equal(torch.cat(found), ROWS)
    assert [len(x) for x in found] == [7, 7, 6]


def test_a_loader_has_its_own_batches_and_leaves_generators_alone():
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(ROWS, 6, shuffle=True, drop_last=True, generator=generator)
    before, of_process = generator.get_state(), torch.get_rng_state()
    assert [len(x) for x in batches(loader)] == [6, 6, 6]
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), of_process)


def test_bytes_are_grey_levels_and_other_types_become_the_models():
    for values in (ROWS.double(), ROWS.half(), (255 * ROWS).round().to(torch.uint8)):
        rows = [x for x in batches(TensorDataset(values), seed=None)]
        expected = values.float() if values.is_floating_point() else values
        assert torch.equal(torch.cat(rows), expected)


def make_loss():
    torch.manual_seed(0)
    model = mm.Joint(mm.Gaussian(mm.MLP(3, 4)), mm.Gaussian(mm.MLP(2, 6)), mm.StandardNormal(2))
    return mm.Loss(model, mm.A_MIM)


def test_a_dataset_is_trained_on_as_its_tensor_is():
    weights = []
    for train, val in ((ROWS, ROWS[:5]), (TensorDataset(ROWS), TensorDataset(ROWS[:5]))):
        loss = make_loss()
        history = mm.fit(loss, train, val, Training(3, 8, warmup=1))
        weights.append([p.detach() for p in loss.parameters()])
        assert history.best_epoch is not None
    assert all(map(torch.equal, *weights))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_any_of_them_is_resumed_to_the_same_bits(tmp_path, kind):
    found = []
    for stop in (None, 2):
        run = mm.Run.create(tmp_path / str(stop), {})

        def on_epoch(epoch, stop=stop):
            if epoch.epoch == stop:
                raise KeyboardInterrupt

        options = {"run": run, "checkpoint_seconds": 0}
        loss, recipe = make_loss(), Training(4, 8, warmup=1)
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                mm.fit(make_loss(), KINDS[kind](), ROWS, recipe, on_epoch=on_epoch, **options)
        history = mm.fit(loss, KINDS[kind](), ROWS, recipe, **options)
        found.append((history, [p.detach().tolist() for p in loss.parameters()]))
    assert found[0] == found[1]


class Named(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"image": ROWS[index], "label": 0}


class Words(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return "word"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Named(), "train must give tensors, or tuples .* dictionary of 'image', 'label'"),
        (Words(), "train must"),
        (TensorDataset(torch.full((4, 3), np.nan)), "train must be finite"),
        (TensorDataset(torch.zeros(4, 2)), "train"),
    ],
)
def test_what_cannot_be_trained_on_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        mm.fit(make_loss(), data, None, Training(1, warmup=0))


def test_an_empty_stream_is_named():
    class Nothing(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(ValueError, match="no batch in an epoch"):
        mm.fit(make_loss(), Nothing(), None, Training(1, warmup=0))
