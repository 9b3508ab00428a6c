"""Compiled losses: equal values, gradients and trained weights, or the uncompiled loss."""

import copy

import pytest
import torch

import mimachine as mm
from mimachine._support.seeds import forked
from mimachine.data.sources import Shared
from mimachine.model.annealing import Annealing
from mimachine.training.recipe import Training
from mimachine.training.steps.compilation import CompiledLoss, Fused

slow = pytest.mark.slow


def dense():
    return mm.Joint(
        mm.Gaussian(mm.MLP(3, 4, (8,))), mm.Gaussian(mm.MLP(2, 6, (8,)), 0.1), mm.StandardNormal(2)
    )


def image_dense():
    return mm.dense_vae((1, 4, 4), torch.rand(3, 1, 4, 4), latents=2, hidden=4)


def conv():
    pseudo_inputs = torch.rand(3, 1, 4, 4)
    return mm.conv_hvae((1, 4, 4), pseudo_inputs, latents=(2, 2), hidden=4, channels=2)


def make_loss(make, objective=mm.MIM):
    torch.manual_seed(0)
    return mm.Loss(make().double(), objective)


def some_data(*shape):
    generator = torch.Generator().manual_seed(7)
    return torch.rand(shape, generator=generator, dtype=torch.float64).round()


# torch's tracing of a custom autograd function calls what torch deprecates.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("make", [image_dense, pytest.param(conv, marks=slow)])
def test_a_compiled_loss_has_the_values_noise_and_gradients_of_the_loss(make):
    loss, x = make_loss(make), some_data(6, 1, 4, 4)
    compiled = CompiledLoss(copy.deepcopy(loss), backend="aot_eager")
    for part in (loss, compiled):
        part.eval()
    with forked(3):
        expected = loss(x, Annealing(0.5))
    with forked(3):
        value = compiled(x, Annealing(0.5))
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    for each in (value, expected):
        each.mean().backward()
    for a, b in zip(compiled.loss.parameters(), loss.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("count", "warmup"),
    [(16, 1), *(pytest.param(*each, marks=slow) for each in ((16, 2), (20, 4)))],
)
def test_a_compiled_loss_is_trained_to_the_same_weights(count, warmup):
    # Each β and a smaller last batch are recompiled until torch compiles for any value.
    recipe = Training(warmup + 1, batch_size=8, warmup=warmup, ema_decay=0.9)
    x = some_data(count, 3)
    plain, compiled = make_loss(dense), make_loss(dense)
    expected = mm.fit(plain, x, x[:8], recipe)
    history = mm.fit(CompiledLoss(compiled, backend="aot_eager"), x, x[:8], recipe)
    for a, b in zip(history.epochs, expected.epochs, strict=True):
        assert a.train_loss == pytest.approx(b.train_loss, rel=1e-10)
        assert a.val_loss == pytest.approx(b.val_loss, rel=1e-10)
    for a, b in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_a_loss_that_cannot_be_compiled_runs_uncompiled_and_says_so_once():
    def broken(graph, inputs, **options):
        raise OSError("no compiler here")

    loss, x = make_loss(dense), some_data(6, 3)
    compiled = CompiledLoss(loss, backend=broken)
    with forked(3):
        expected = loss(x)
    message = "this loss runs uncompiled.*no compiler here"
    with forked(3), pytest.warns(RuntimeWarning, match=message):
        assert torch.equal(compiled(x), expected)
    with forked(3):
        assert torch.equal(compiled(x), expected)


def test_a_mistake_of_the_functions_own_is_told_as_it_is():
    fused = Fused(make_loss(conv).forward, "this loss", backend="aot_eager")
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 4, 4\), got \(2, 1, 3, 3\)"):
        fused(some_data(2, 1, 3, 3))


def test_convolutions_on_a_cpu_are_not_compiled(monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", never)
    monkeypatch.setattr(torch.nn.Module, "compile", never)
    recipe = Training(1, batch_size=8, warmup=0, compile=True)
    with pytest.warns(RuntimeWarning, match="convolutions on a CPU"):
        mm.fit(make_loss(conv), some_data(8, 1, 4, 4), training=recipe, progress=False)


@slow
@pytest.mark.parametrize("precision", ["full", "bf16-mixed"])
def test_a_recipe_compiles_a_loss_or_an_ensemble(precision):
    x, epochs = some_data(40, 3).float(), []
    for compiled in (False, True):
        recipe = Training(2, batch_size=8, warmup=1, precision=precision, compile=compiled)
        loss = mm.Loss(make_loss(dense).model.float(), mm.MIM)
        epochs.append(mm.fit(loss, x, x, recipe).epochs[-1].val_loss)
    # Sums have another order, and bfloat16 rounds to 8 bits at other steps.
    assert epochs[0] == pytest.approx(epochs[1], rel=1e-5 if precision == "full" else 2e-2)
    ensemble = mm.Ensemble([mm.Loss(make_loss(dense).model.float(), mm.MIM) for _ in range(2)])
    recipe = Training(1, batch_size=8, warmup=0, precision=precision, compile=True)
    history = mm.fit(ensemble, Shared(mm.TensorSource(x), 2), None, recipe)
    # Models have the same weights and data but different noise.
    first, second = history.epochs[-1].train_loss
    assert first != second
    assert first == pytest.approx(second, rel=0.2)
