"""Whole training steps in one compiled graph."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import mimachine as mm
from mimachine.data.sources import Shared
from mimachine.training.recipe import Training
from mimachine.training.steps import whole_step
from mimachine.training.steps.whole_step import WholeStep, fits

slow = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Graphs that take less time to compile, unless a test is of the compiler's own code."""
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, fullgraph, options: compile_(f, backend="eager")
    )


def make_loss(seed=0, objective=mm.A_MIM, dtype=torch.float64, prior=None):
    torch.manual_seed(seed)
    encoder = mm.Gaussian(mm.MLP(3, 4, (8,)))
    base = mm.StandardNormal(2) if prior is None else prior(encoder)
    model = mm.Joint(encoder, mm.Gaussian(mm.MLP(2, 6, (8,)), 0.1), base)
    return mm.Loss(model.to(dtype), objective)


def some_data(count=48):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, generator=generator, dtype=torch.float64)


def ensemble(*seeds):
    return mm.Ensemble([make_loss(seed) for seed in seeds])


def shared(count=48, models=2):
    return Shared(mm.TensorSource(some_data(count)), models)


CASES = {
    "a-mim": (make_loss, some_data),
    "mim": (lambda: make_loss(objective=mm.MIM), some_data),
    "vampprior": (
        lambda: make_loss(prior=lambda e: mm.VampPrior(e, torch.randn(4, 3))),
        some_data,
    ),
    "mixture": (lambda: make_loss(prior=lambda e: mm.GaussianMixture(2, 3)), some_data),
    "ensemble": (lambda: ensemble(0, 1), shared),
}


@pytest.mark.parametrize("name", CASES)
def test_a_compiled_training_has_the_noise_and_the_weights_of_an_ordinary_one(name):
    make, data = CASES[name]
    # 44 rows leave a smaller last batch; the first two epochs are of the warm-up.
    recipe = Training(4, 8, 1e-2, warmup=3, schedule=mm.Cosine())
    results = []
    for compiled in (False, True):
        loss = make()
        kept = copy.deepcopy(recipe)
        object.__setattr__(kept, "compile", compiled)
        history = mm.fit(loss, data(44), data(8), kept)
        results.append((loss, history))
        assert ("_whole_steps" in vars(loss)) == compiled
    for a, b in zip(results[0][1].epochs, results[1][1].epochs, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-9)
        assert a.val_loss == pytest.approx(b.val_loss, rel=1e-9)
    for a, b in zip(results[0][0].parameters(), results[1][0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


def test_a_compiled_training_is_resumed_to_the_same_bits(tmp_path):
    recipe, results = Training(6, 8, warmup=1, compile=True), []
    for stop in (None, 3):
        run = mm.Run.create(tmp_path / str(stop), {})

        def on_epoch(epoch, stop=stop):
            if epoch.epoch == stop:
                raise KeyboardInterrupt

        options = {"run": run, "checkpoint_seconds": 0}
        if stop is not None:
            with pytest.raises(KeyboardInterrupt):
                mm.fit(make_loss(), some_data(), None, recipe, on_epoch=on_epoch, **options)
        loss = make_loss()
        history = mm.fit(loss, some_data(), None, recipe, **options)
        results.append((history, [p.detach().clone() for p in loss.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(map(torch.equal, results[0][1], results[1][1]))


def test_a_second_training_of_a_loss_compiles_nothing(monkeypatch):
    loss, recipe = make_loss(), Training(3, 8, warmup=1, compile=True)
    mm.fit(loss, some_data(), None, recipe)
    assert len(vars(loss)["_whole_steps"]) == 1

    def compiled(*arguments):
        raise AssertionError("compiled again")

    monkeypatch.setattr(whole_step, "_compiled", compiled)
    mm.fit(loss, some_data(), None, recipe)
    # A copy has its own weights, which a graph has as its inputs, but no graph.
    assert not vars(copy.deepcopy(loss))["_whole_steps"]


@pytest.mark.slow
def test_two_losses_do_not_run_each_others_graph():
    data, recipe = some_data(), Training(3, 8, warmup=1, compile=True)
    found = []
    losses = [make_loss(objective=objective) for objective in (mm.A_MIM, mm.VAE)]
    for loss in (losses[0], losses[1], losses[0]):
        restored = make_loss()
        loss.load_state_dict(restored.state_dict())
        mm.fit(loss, data, None, recipe)
        found.append([p.detach().clone() for p in loss.parameters()])
    assert all(map(torch.equal, found[0], found[2]))
    assert not any(map(torch.equal, found[0], found[1]))


class Linear(nn.Module):
    """w x at each row."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))

    def forward(self, x, annealing=1.0):
        return x @ self.w


class Ordinary:
    """An ordinary step, counted."""

    def __init__(self, loss, optimizer):
        self.loss, self.optimizer, self.calls = loss, optimizer, 0

    def __call__(self, x, annealing, check=None):
        self.calls += 1
        self.optimizer.zero_grad()
        value = self.loss(x, annealing)
        value.mean().backward()
        self.optimizer.step()
        return whole_step.Mean(value.detach().mean(-1), len(x))


def step_of(loss):
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
    ordinary = Ordinary(loss, optimizer)
    return WholeStep(loss, optimizer, ordinary, 4), ordinary


def test_a_batch_whose_loss_is_not_finite_changes_nothing():
    step, ordinary = step_of(Linear())
    x, annealing = torch.ones(4, 3), mm.Annealing()
    step(x, annealing)
    step(x, annealing)
    assert ordinary.calls == 1
    loss, state = step.loss, step.optimizer.state
    before = [loss.w.detach().clone(), *(v.clone() for v in state[loss.w].values())]
    seen = []
    step(torch.full((4, 3), torch.nan), annealing, seen.append)
    assert not seen[0].isfinite()
    assert all(map(torch.equal, before, [loss.w.detach(), *state[loss.w].values()]))
    step(x, annealing)
    assert not torch.equal(before[0], loss.w.detach())


def test_steps_of_the_warm_up_and_of_other_sizes_are_ordinary():
    step, ordinary = step_of(Linear())
    step(torch.ones(4, 3), mm.Annealing())
    step(torch.ones(4, 3), mm.Annealing(0.5))
    step(torch.ones(3, 3), mm.Annealing())
    assert ordinary.calls == 3
    step(torch.ones(4, 3), mm.Annealing())
    assert ordinary.calls == 3
    # Three ordinary steps and one compiled one are four of Adam's.
    assert step.optimizer.state[step.loss.w]["step"] == 4


def test_what_cannot_be_compiled_takes_ordinary_steps_and_says_so_once(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", broken)
    loss, recipe = make_loss(), Training(3, 8, warmup=1, compile=True)
    with pytest.warns(RuntimeWarning, match="steps are not compiled, .* no compiler") as said:
        mm.fit(loss, some_data(), None, recipe)
    assert len(said) == 1
    plain = make_loss()
    mm.fit(plain, some_data(), None, Training(3, 8, warmup=1))
    assert all(map(torch.equal, loss.parameters(), plain.parameters()))


def test_other_optimisers_and_losses_with_running_statistics_are_not_compiled_whole():
    recipe = Training(compile=True)
    loss = Linear()
    assert fits(loss, torch.optim.Adam(loss.parameters()), recipe, CPU)
    assert not fits(loss, torch.optim.AdamW(loss.parameters()), recipe, CPU)
    for changes in ({"gradient": "normalised"}, {"clip_norm": 1.0}, {"precision": "bf16-mixed"}):
        other = Training(compile=True, **changes)
        assert not fits(loss, torch.optim.Adam(loss.parameters()), other, CPU)
    parts = [nn.Linear(2, 2), nn.Linear(2, 2)]
    both = nn.Sequential(*parts)
    rates = [{"params": part.parameters(), "lr": 0.1 * i} for i, part in enumerate(parts)]
    for adam in (
        torch.optim.Adam(rates),
        torch.optim.Adam(parts[0].parameters()),
        torch.optim.Adam(both.parameters(), amsgrad=True),
        torch.optim.Adam(both.parameters(), maximize=True),
        torch.optim.Adam(both.parameters(), weight_decay=0.1),
    ):
        assert not fits(both, adam, recipe, CPU)
    normalised = nn.Sequential(nn.BatchNorm1d(3))
    assert not fits(normalised, torch.optim.Adam(normalised.parameters()), recipe, CPU)


class Unused(Linear):
    """A loss with a parameter that it does not use."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))


def test_a_parameter_without_gradients_takes_ordinary_steps():
    step, ordinary = step_of(Unused())
    for _ in range(3):
        step(torch.ones(4, 3), mm.Annealing())
    assert ordinary.calls == 3
    assert torch.equal(step.loss.unused, torch.ones(2))


@pytest.mark.slow
def test_a_loss_with_another_objective_has_another_graph():
    loss, recipe = make_loss(), Training(3, 8, warmup=1, compile=True)
    mm.fit(loss, some_data(), None, recipe)
    loss.load_state_dict(make_loss().state_dict())
    loss.objective = mm.VAE
    mm.fit(loss, some_data(), None, recipe)
    other = make_loss(objective=mm.VAE)
    mm.fit(other, some_data(), None, recipe)
    assert all(map(torch.equal, loss.parameters(), other.parameters()))


@slow
@pytest.mark.parametrize("name", ["mim", "ensemble"])
def test_the_compilers_own_code_has_the_same_noise(name, monkeypatch):
    monkeypatch.undo()
    make, data = CASES[name]
    found = []
    for compiled in (False, True):
        loss = make()
        history = mm.fit(loss, data(), None, Training(4, 8, warmup=1, compile=compiled))
        found.append([epoch.train_loss for epoch in history.epochs])
    assert np.allclose(found[0], found[1], rtol=1e-6, atol=0)
