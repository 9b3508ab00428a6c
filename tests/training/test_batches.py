"""Batches of an epoch: a last one that is too small, and batch normalisation."""

import copy

import pytest
import torch
from torch import nn

import mimachine as mm
from mimachine.data.sources import Shared, Stacked, TensorSource
from mimachine.training.batches import whole_batches


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))

    def forward(self, x):
        mean, log_std = self.net(x).chunk(2, -1)
        return mm.DiagNormal(mean, log_std.exp())


def loss():
    torch.manual_seed(0)
    model = mm.Joint(Encoder(), mm.Gaussian(mm.MLP(2, 8, (5,))), mm.StandardNormal(2))
    return mm.Loss(model, mm.A_MIM)


def recipe(**options):
    return mm.Training(**{"epochs": 2, "batch_size": 8, "warmup": 0, **options})


def sizes(*counts, **options):
    batches = [torch.zeros(count, 3) for count in counts]
    options = {"drop_last": False, "join_single": False, **options}
    return [len(x) for x in whole_batches(iter(batches), 8, 0, **options)]


def test_a_smaller_last_batch_is_used_joined_or_left_out():
    assert sizes(8, 8, 1) == [8, 8, 1]
    assert sizes(8, 8, 1, join_single=True) == [8, 9]
    assert sizes(8, 8, 2, join_single=True) == [8, 8, 2]
    assert sizes(1, join_single=True) == [1]
    assert sizes(8, 8, 7, drop_last=True) == [8, 8]
    assert sizes(8, 8, drop_last=True) == [8, 8]
    assert sizes(8, 1, drop_last=True, join_single=True) == [9]
    assert sizes(drop_last=True) == []


@pytest.mark.parametrize("options", [{}, {"drop_last": True}])
@pytest.mark.parametrize("rows", [16, 17, 19])
def test_batch_normalisation_trains_whatever_the_number_of_rows(rows, options):
    history = mm.fit(loss(), torch.randn(rows, 4), torch.randn(1, 4), recipe(**options))
    assert len(history.epochs) == 2


def test_without_batch_normalisation_a_single_row_is_a_batch_of_its_own():
    counts = []

    class Counted(mm.Loss):
        def forward(self, x, annealing=1.0):
            counts.append(len(x))
            return super().forward(x, annealing)

    model = mm.Joint(mm.Gaussian(mm.MLP(4, 4)), mm.Gaussian(mm.MLP(2, 8)), mm.StandardNormal(2))
    mm.fit(Counted(model, mm.A_MIM), torch.randn(17, 4), None, recipe(epochs=1))
    # The first batch is also tried once, to check it.
    assert counts == [8, 8, 8, 1]


def test_dropping_the_last_batch_trains_on_the_rows_before_it():
    data = torch.randn(19, 4)
    order = TensorSource(data, 0).order(1)
    one, other = loss(), loss()
    mm.fit(one, data, None, recipe(epochs=1, drop_last=True))
    mm.fit(other, TensorSource(data[order[:16]], shuffle=False), None, recipe(epochs=1))
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_an_ensemble_joins_the_single_row_of_all_its_models():
    losses, data = [loss(), loss()], torch.randn(17, 4)
    ensemble = mm.Ensemble(losses)
    history = mm.fit(ensemble, Stacked([TensorSource(data), TensorSource(data, 1)]), None, recipe())
    assert len(history.epochs[0].train_loss) == 2
    with pytest.raises(ValueError, match=r"training\.batch_size 1"):
        mm.fit(ensemble, Shared(TensorSource(data), 2), None, recipe(batch_size=1))


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (17, {"batch_size": 1}, "needs two rows or more in a batch.*got training.batch_size 1"),
        (1, {}, "needs two rows or more in a batch.*got 1 row of train"),
        (7, {"drop_last": True}, "drop_last leaves nothing.*train has 7 rows.*batch_size 8"),
    ],
)
def test_what_leaves_nothing_to_train_on_is_refused_before_training(rows, options, message):
    trained = loss()
    before = copy.deepcopy(trained.state_dict())
    with pytest.raises(ValueError, match=message):
        mm.fit(trained, torch.randn(rows, 4), None, recipe(**options))
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name])


def test_frozen_batch_normalisation_trains_on_single_rows():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = Encoder().eval(), nn.Linear(2, 1)

        def train(self, mode=True):
            super().train(mode)
            self.encoder.eval()
            return self

        def forward(self, x, annealing=1.0):
            return self.head(self.encoder(x).mean).squeeze(-1).square()

    assert len(mm.fit(Frozen(), torch.randn(9, 4), None, recipe(batch_size=1)).epochs) == 2
