"""Moving averages of weights, against averages by hand and torch's own."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import mimachine as mm
from mimachine.data.sources import Shared
from mimachine.training.recipe import Training
from mimachine.training.state import MovingAverage

pytestmark = pytest.mark.usefixtures("few_trees")

DECAY = 0.9


class Quadratic(nn.Module):
    """(w - x)² at each row, with a record of w before every training step."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.seen = []

    def forward(self, x, annealing=1.0):
        if self.training:
            self.seen.append(self.w.item())
        return (self.w - x[:, 0]) ** 2


def recipe(epochs, **options):
    return Training(epochs, batch_size=2, warmup=0, learning_rate=0.1, patience=50, **options)


def data(value, count=6):
    return torch.full((count, 1), value, dtype=torch.float64)


def averages_by_hand(weights):
    averages = [weights[0]]
    for weight in weights[1:]:
        averages.append(DECAY * averages[-1] + (1 - DECAY) * weight)
    return averages


def test_held_out_losses_and_the_weights_that_stay_are_those_of_the_average():
    plain, averaged = Quadratic(), Quadratic()
    mm.fit(plain, data(10.0), None, recipe(5))
    history = mm.fit(averaged, data(10.0), data(1.0, 4), recipe(4, ema_decay=DECAY))
    # The steps are the same; an epoch has three.
    assert averaged.seen == plain.seen[:12]
    by_hand = averages_by_hand(plain.seen[1:13])
    losses = [(average - 1.0) ** 2 for average in by_hand[2::3]]
    assert [epoch.val_loss for epoch in history.epochs] == pytest.approx(losses, abs=1e-12)
    best = losses.index(min(losses))
    assert history.best_epoch == best + 1
    assert averaged.w.item() == pytest.approx(by_hand[3 * best + 2], abs=1e-12)


def test_without_held_out_data_the_last_average_stays(tmp_path):
    plain, averaged = Quadratic(), Quadratic()
    mm.fit(plain, data(10.0), None, recipe(5))
    run = mm.Run.create(tmp_path / "run", {})
    mm.fit(averaged, data(10.0), None, recipe(4, ema_decay=DECAY), run=run)
    expected = averages_by_hand(plain.seen[1:13])[-1]
    assert averaged.w.item() == pytest.approx(expected, abs=1e-12)
    stored = Quadratic()
    run.load_weights(stored)
    assert stored.w.item() == averaged.w.item()


def normalising_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 1)).double()


def test_the_average_is_torchs_and_counts_of_batches_stay_counts():
    model = normalising_model()
    tensors = [t.detach() for t in (*model.parameters(), *model.buffers())]
    average = MovingAverage(tensors, DECAY)
    torchs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(7):
        optimiser.zero_grad()
        model(torch.randn(8, 3, dtype=torch.float64)).square().mean().backward()
        optimiser.step()
        average.update()
        torchs.update_parameters(model)
    expected = [*torchs.module.parameters(), *torchs.module.buffers()]
    for value, tensor, other in zip(average.values, tensors, expected, strict=True):
        if value.is_floating_point():
            assert not torch.equal(value, tensor)
            torch.testing.assert_close(value, other.detach(), rtol=0, atol=1e-12)
        else:
            assert int(value) == 7


def test_averages_are_in_place_for_a_while():
    tensors = [torch.zeros(3), torch.tensor(4), torch.tensor([-torch.inf, 0.0])]
    average = MovingAverage(tensors, 0.5)
    for number in (1.0, 2.0, 4.0):
        tensors[0].fill_(number)
        average.update()
    with average.in_place():
        assert tensors[0].tolist() == [2.75] * 3
        assert int(tensors[1]) == 4
        assert tensors[2].tolist() == [-torch.inf, 0.0]
    assert tensors[0].tolist() == [4.0] * 3


def dense_loss(seed=0):
    torch.manual_seed(seed)
    model = mm.Joint(
        mm.Gaussian(mm.MLP(3, 4, (8,))), mm.Gaussian(mm.MLP(2, 6, (8,)), 0.1), mm.StandardNormal(2)
    )
    return mm.Loss(model, mm.MIM)


def pixel_loss():
    torch.manual_seed(0)
    model = mm.pixel_hvae((1, 4, 4), latents=(2, 2), hidden=4, channels=2, layers=2)
    return mm.Loss(model, mm.A_MIM)


@pytest.mark.parametrize(
    ("make", "shape", "held_out"),
    [
        pytest.param(dense_loss, (3,), True, id="dense"),
        pytest.param(dense_loss, (3,), False, id="dense, none held out"),
        pytest.param(pixel_loss, (1, 4, 4), True, id="pixel"),
        pytest.param(
            pixel_loss, (1, 4, 4), False, id="pixel, none held out", marks=pytest.mark.slow
        ),
    ],
)
def test_a_run_with_averages_is_resumed_to_the_same_bits(tmp_path, make, shape, held_out):
    x, whole, broken = torch.rand(40, *shape).round(), make(), make()
    val = x[:20] if held_out else None
    options = {"ema_decay": 0.95, "gradient": "normalised"}
    expected = mm.fit(whole, x, val, recipe(6, **options))
    run = mm.Run.create(tmp_path / "run", {})
    mm.fit(make(), x, val, recipe(3, **options), run=run)
    assert mm.fit(broken, x, val, recipe(6, **options), run=run) == expected
    stored = make()
    run.load_weights(stored.model)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, broken.model.state_dict()[name])
        assert torch.equal(tensor, stored.model.state_dict()[name])


def test_a_state_without_averages_is_not_gone_on_with_by_a_recipe_with_them(tmp_path):
    run = mm.Run.create(tmp_path / "run", {})
    mm.fit(dense_loss(), torch.randn(10, 3), None, recipe(2), run=run)
    with pytest.raises(ValueError, match="another recipe: its ema_decay differs"):
        mm.fit(dense_loss(), torch.randn(10, 3), None, recipe(3, ema_decay=0.9), run=run)


def test_members_of_an_ensemble_have_averages_of_their_own():
    class Noiseless(mm.Loss):
        """The loss at the encoder's mean, without noise in which members could differ."""

        def forward(self, x, annealing=1.0):
            z = self.model.encoder(x).mean
            return -self.model.decoder(z).log_prob(x) - self.model.prior().log_prob(z)

    def make(seed):
        loss = dense_loss(seed).double()
        return Noiseless(loss.model, loss.objective)

    ensemble = mm.Ensemble([make(seed) for seed in range(2)])
    x = mm.TensorSource(torch.randn(20, 3, dtype=torch.float64))
    val = mm.TensorSource(torch.randn(10, 3, dtype=torch.float64), shuffle=False)
    history = mm.fit(ensemble, Shared(x, 2), Shared(val, 2), recipe(8, ema_decay=DECAY))
    for seed in range(2):
        alone = make(seed)
        single = mm.fit(alone, x, val, recipe(8, ema_decay=DECAY))
        assert history.best_epoch[seed] == single.best_epoch
        for a, b in zip(ensemble.member(seed).parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
