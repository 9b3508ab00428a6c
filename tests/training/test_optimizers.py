"""Optimisers: Adam, Muon, weight decay, clipping, and those of the caller."""

import copy
import functools
import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import mimachine as mm
from mimachine._support.digest import ENTRY
from mimachine.training import optimizers
from mimachine.training.recipe import Training
from mimachine.training.steps.step import clip_gradients


def make_loss(seed=0, prior=None):
    torch.manual_seed(seed)
    encoder = mm.Gaussian(mm.MLP(3, 4, (8,)))
    base = mm.StandardNormal(2) if prior is None else prior(encoder)
    return mm.Loss(mm.Joint(encoder, mm.Gaussian(mm.MLP(2, 6, (8,)), 0.1), base), mm.A_MIM)


def vamp(encoder):
    return mm.VampPrior(encoder, torch.randn(4, 3))


def data(count=100):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def weights(loss):
    return [p.detach().clone() for p in loss.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class Recorded(nn.Module):
    """Mean of squares of parameters, whose gradients are known."""

    def __init__(self, **shapes):
        super().__init__()
        self.layers = nn.ModuleDict()
        for name, shape in shapes.items():
            self.layers[name] = nn.Module()
            self.layers[name].weight = nn.Parameter(torch.randn(shape))
            self.layers[name].bias = nn.Parameter(torch.randn(shape[0]))

    def forward(self, x, annealing=1.0):
        return sum(p.square().sum() for p in self.parameters()) / 2 + 0 * x[:, 0]


def test_the_default_is_adam_and_a_factory_of_it_gives_the_same_bits():
    results = []
    for optimizer in (None, functools.partial(torch.optim.Adam, fused=True)):
        loss = make_loss()
        mm.fit(loss, data(), data(50), Training(5, 32, warmup=2), optimizer=optimizer)
        results.append(weights(loss))
    assert same(*results)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(optimizers.Adam, torch.optim.Adam), (optimizers.AdamW, torch.optim.AdamW)],
)
def test_steps_and_states_are_those_of_torch_to_the_bit(ours, theirs):
    """Each goes on with the state of the other."""
    states = []
    for first, second in ((ours, theirs), (theirs, ours), (theirs, theirs)):
        layer = Recorded(a=(3, 2))
        groups = [
            {"params": [layer.layers.a.weight], "weight_decay": 0.1},
            {"params": [layer.layers.a.bias], "lr": 0.2},
        ]
        for value, parameter in enumerate(layer.parameters()):
            nn.init.constant_(parameter, 1 + value)
        saved = None
        for make in (first, second):
            optimizer = make(groups, lr=0.1, fused=True)
            if saved is not None:
                optimizer.load_state_dict(saved)
            for _ in range(3):
                optimizer.zero_grad()
                layer(torch.zeros(1, 1)).backward()
                optimizer.step()
            saved = copy.deepcopy(optimizer.state_dict())
        states.append((list(layer.parameters()), saved))
    expected = states[-1]
    for weights_, state in states[:-1]:
        assert same(weights_, expected[0])
        assert state["param_groups"] == expected[1]["param_groups"]
        for index, moments in expected[1]["state"].items():
            assert same(state["state"][index].values(), moments.values())


@pytest.mark.parametrize(
    "recipe", ["", "weight_decay=0.1", "optimizer='muon'", "ema_decay=0.9, clip_norm=1.0"]
)
def test_training_does_not_load_the_compiler(recipe, tmp_path):
    code = f"""
import sys, torch, mimachine as mm
from mimachine.training.run import Run
model = mm.Joint(mm.Gaussian(mm.MLP(3, 4)), mm.Gaussian(mm.MLP(2, 6), 0.1), mm.StandardNormal(2))
x, recipe = torch.randn(40, 3), mm.Training(epochs=2, warmup=0, {recipe})
with Run.claimed({str(tmp_path / "run")!r}, {{}}) as create:
    mm.fit(mm.Loss(model, mm.A_MIM), x, x, recipe, run=create({{}}, None))
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_factory_gets_the_learning_rate_and_the_schedule_multiplies_that_of_each_group():
    rates = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def factory(parameters, lr):
        assert lr == 0.5
        first, *rest = parameters
        return Spy([{"params": [first], "lr": 0.1}, {"params": rest}], lr=lr)

    recipe = Training(4, 100, 0.5, warmup=0, schedule=mm.Cosine())
    mm.fit(make_loss(), data(), None, recipe, optimizer=factory)
    factors = [mm.Cosine().factor(epoch, 4) for epoch in range(1, 5)]
    expected = [[0.1 * factor, 0.5 * factor] for factor in factors]
    assert torch.tensor(rates).tolist() == torch.tensor(expected).tolist()


def test_a_matrix_moves_as_by_the_muon_of_torch():
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    torch.manual_seed(0)
    start, gradients = torch.randn(7, 5), torch.randn(4, 7, 5)
    moved = []
    for make in (
        lambda p: mm.Muon([{"params": [p], "matrices": True}], lr=0.1),
        lambda p: torch.optim.Muon(
            [p], lr=0.1, weight_decay=0, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
    ):
        parameter = nn.Parameter(start.clone())
        optimizer = make(parameter)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        moved.append(parameter.detach() - start)
    # Torch computes in bfloat16.
    assert (moved[0] - moved[1]).norm() < 0.02 * moved[1].norm()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_steps_of_a_matrix_are_orthogonal_and_as_large_as_those_of_adam(dtype):
    for shape in ((30, 5), (5, 30), (8, 3, 2, 2)):
        parameter = nn.Parameter(torch.zeros(shape))
        parameter.grad = torch.randn(shape)
        mm.Muon([{"params": [parameter], "matrices": True}], lr=1.0, dtype=dtype).step()
        step = parameter.detach().flatten(1)
        values = torch.linalg.svdvals(step) / (0.2 * math.sqrt(max(step.shape)))
        assert values.min() > 0.6
        assert values.max() < 1.3
        assert float(step.square().mean().sqrt()) == pytest.approx(0.2, rel=0.3)


def test_other_parameters_move_as_by_adam():
    torch.manual_seed(0)
    start, gradients = torch.randn(6), torch.randn(5, 6)
    moved = []
    for make in (
        lambda p: mm.Muon([{"params": [p]}], lr=0.1),
        lambda p: torch.optim.Adam([p], lr=0.1),
    ):
        parameter = nn.Parameter(start.clone())
        optimizer = make(parameter)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        moved.append(parameter.detach())
    torch.testing.assert_close(*moved)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_weights_of_layers_decay_and_nothing_else_does(optimizer):
    torch.manual_seed(0)
    changes = []
    for decay in (0.0, 0.5):
        loss = make_loss(prior=vamp)
        start = {name: p.detach().clone() for name, p in loss.named_parameters()}
        recipe = Training(1, 100, 1e-2, warmup=0, optimizer=optimizer, weight_decay=decay)
        mm.fit(loss, data(), None, recipe)
        changes.append({name: p.detach() - start[name] for name, p in loss.named_parameters()})
    for name in start:
        difference = changes[1][name] - changes[0][name]
        if name.endswith("weight"):
            torch.testing.assert_close(difference, -1e-2 * 0.5 * start[name], rtol=1e-3, atol=1e-6)
        else:
            assert not difference.any(), name
    assert any("pseudo" in name for name in start)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_an_ensemble_is_trained_as_its_members_are(optimizer):
    """With clipping and decay; the noise of members is their own, so the loss has none."""
    recipe = Training(3, 50, 1e-2, optimizer=optimizer, weight_decay=0.1, clip_norm=0.5, warmup=0)
    rows = data(100)

    def loss(seed):
        torch.manual_seed(seed)
        model = mm.Joint(
            mm.Gaussian(mm.MLP(3, 2, (8,)), 0.0, scale=1e-6),
            mm.Gaussian(mm.MLP(2, 6, (8,)), 0.1),
            mm.StandardNormal(2),
        )
        return mm.Loss(model, mm.AUTO_ENCODER)

    alone = []
    for seed in (0, 1):
        each = loss(seed)
        mm.fit(each, mm.TensorSource(rows), None, recipe)
        alone.append(weights(each))
    from mimachine.data.sources import Stacked

    together = mm.Ensemble([loss(0), loss(1)])
    mm.fit(together, Stacked([mm.TensorSource(rows)] * 2), None, recipe)
    for index, expected in enumerate(alone):
        for found, value in zip(weights(together.member(index)), expected, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("stacked", [False, True])
def test_gradients_are_scaled_down_to_a_norm(stacked):
    torch.manual_seed(0)
    small, large = ([torch.randn(3, 2) * s, torch.randn(3) * s] for s in (0.01, 10.0))
    for gradients in (small, large):
        parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        clip_gradients(parameters, 1.5, stacked=stacked)
        found = [p.grad for p in parameters]
        if gradients is small:
            assert same(found, gradients)
            continue
        rows = [torch.cat([g.reshape(3, -1) for g in each], 1) for each in (found, gradients)]
        if not stacked:
            rows = [each.reshape(1, -1) for each in rows]
        norms = rows[0].norm(dim=1)
        torch.testing.assert_close(norms, torch.full_like(norms, 1.5))
        torch.testing.assert_close(rows[0] / 1.5, rows[1] / rows[1].norm(dim=1, keepdim=True))


def test_clipping_agrees_with_that_of_torch():
    loss = Recorded(a=(4, 3), b=(2, 5))
    for parameter in loss.parameters():
        parameter.grad = torch.randn_like(parameter)
    expected = [p.grad.clone() for p in loss.parameters()]
    clip_gradients(loss.parameters(), 0.7)
    found = [p.grad.clone() for p in loss.parameters()]
    for parameter, gradient in zip(loss.parameters(), expected, strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(loss.parameters(), 0.7)
    for parameter, gradient in zip(loss.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


OPTIMIZERS = {
    "muon": (Training(6, 32, warmup=2, optimizer="muon", weight_decay=0.1, clip_norm=1.0), None),
    "adamw": (Training(6, 32, warmup=2, weight_decay=0.1), None),
    "sgd": (Training(6, 32, warmup=2), functools.partial(torch.optim.SGD, momentum=0.9)),
    "adafactor": (Training(6, 32, warmup=2), torch.optim.Adafactor),
    "rmsprop": (Training(6, 32, warmup=2), torch.optim.RMSprop),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_is_resumed_to_the_same_bits_with_any_optimiser(tmp_path, name):
    recipe, optimizer = OPTIMIZERS[name]
    results = []
    for stop in (None, 3):
        run = mm.Run.create(tmp_path / str(stop), {})
        for end in (stop, None):
            loss = make_loss()

            def on_epoch(epoch, end=end):
                if epoch.epoch == end:
                    raise KeyboardInterrupt

            options = {"run": run, "on_epoch": on_epoch, "checkpoint_seconds": 0}
            try:
                mm.fit(loss, data(), data(50), recipe, optimizer=optimizer, **options)
            except KeyboardInterrupt:
                continue
            if end is None:
                break
        results.append(weights(loss))
    assert same(*results)


@pytest.mark.parametrize("name", ["muon", "sgd"])
def test_a_forged_state_of_an_optimiser_is_refused(tmp_path, name):
    recipe, optimizer = OPTIMIZERS[name]
    run = mm.Run.create(tmp_path / "run", {})
    mm.fit(make_loss(), data(), data(50), recipe, optimizer=optimizer, run=run)
    state = torch.load(tmp_path / "run" / "state.ckpt")
    for forged in (torch.zeros(10_000), torch.full((), math.nan), "code"):
        state.pop(ENTRY, None)
        moments = state["optimizer"]["state"][0]
        moments[next(iter(moments))] = forged
        torch.save(state, tmp_path / "run" / "state.ckpt")
        with pytest.raises(ValueError, match=r"state\.ckpt"):
            mm.fit(make_loss(), data(), data(50), recipe, optimizer=optimizer, run=run)


class NotOne:
    pass


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (3, TypeError, "optimizer must be a function of the parameters and lr"),
        (lambda p, lr: NotOne(), TypeError, "must return a torch.optim.Optimizer, got a NotOne"),
        (
            lambda p, lr: torch.optim.SGD([torch.zeros(2, requires_grad=True)], lr),
            ValueError,
            "optimizer must be of the parameters that it is called with",
        ),
    ],
)
def test_what_is_no_optimiser_is_refused(optimizer, error, message):
    with pytest.raises(error, match=message):
        mm.fit(make_loss(), data(), None, Training(2, warmup=0), optimizer=optimizer)


def test_settings_that_a_given_optimiser_would_ignore_are_refused():
    recipe = Training(2, warmup=0, weight_decay=0.1)
    with pytest.raises(ValueError, match=r"training.weight_decay must have their defaults"):
        mm.fit(make_loss(), data(), None, recipe, optimizer=torch.optim.AdamW)
    for wrong in ({"weight_decay": -1}, {"clip_norm": 0}, {"optimizer": "lion"}):
        with pytest.raises(ValueError, match=f"training.{next(iter(wrong))} must be"):
            Training(**wrong)
    assert json.dumps(OPTIMIZERS["muon"][0].optimizer) == '"muon"'
