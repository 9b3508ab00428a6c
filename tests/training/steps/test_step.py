"""Training steps: replayed steps train like called ones."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mimachine as mm
from mimachine._support.seeds import forked
from mimachine.data.sources import Shared
from mimachine.model.annealing import Annealing
from mimachine.training.recipe import Training
from mimachine.training.steps.cuda_graphs import Replayed
from mimachine.training.steps.step import Mean, Step, held_out, normalise_gradients

BATCH = 4


def make_loss():
    torch.manual_seed(0)
    pseudo_inputs = torch.rand(3, 1, 4, 4)
    model = mm.conv_hvae((1, 4, 4), pseudo_inputs, latents=(2, 2), hidden=4, channels=2)
    return mm.Loss(model, mm.MIM)


def some_data(count):
    generator = torch.Generator().manual_seed(7)
    return torch.rand(count, 1, 4, 4, generator=generator).round()


def make_step(gradient="normalised"):
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    loss = make_loss()
    optimizer = torch.optim.Adam(loss.parameters(), lr=1e-2, fused=True)
    module, wrapped = fabric.setup(loss, optimizer)
    return Step(module, wrapped, fabric, Training(gradient=gradient))


class Later:
    """A recorder on the CPU: like a capture, it does nothing until it is replayed."""

    def __init__(self):
        self.recorded = 0

    def aside(self):
        return nullcontext()

    def record(self, function):
        self.recorded += 1
        mean = Mean(torch.full((), torch.nan), BATCH)

        def replay():
            mean.loss.copy_(function().loss)

        return mean, replay


def trained(step, call, stages):
    losses = []
    with forked(3):
        for annealing, sizes in stages:
            for x in some_data(sum(sizes)).split(sizes):
                mean = call(x, annealing)
                assert mean.num_data == len(x)
                losses.append(mean.loss)
    return torch.stack(losses), list(step.module.parameters())


@pytest.mark.parametrize("gradient", ["plain", "normalised"])
def test_replayed_steps_end_in_the_same_weights_to_the_bit(gradient):
    """With several β, and batches of another size in between."""
    stages = [
        (Annealing(0.5, ("q_x",), decoding=False), [BATCH] * 6 + [3]),
        (Annealing(), [BATCH] * 5 + [1]),
        (Annealing(), [BATCH] * 2 + [2]),
    ]
    plain, step = make_step(gradient), make_step(gradient)
    recorder = Later()
    expected = trained(plain, plain, stages)
    found = trained(step, Replayed(step, BATCH, recorder), stages)
    assert recorder.recorded == 2
    assert torch.equal(found[0], expected[0])
    assert all(map(torch.equal, found[1], expected[1]))


def test_a_held_out_loss_that_is_replayed_follows_the_weights():
    step, recorder = make_step(), Later()
    measure = held_out(step.module)
    replayed, x = Replayed(measure, BATCH, recorder), some_data(BATCH)
    for _ in range(6):
        with forked(3):
            expected = measure(x, Annealing())
        with forked(3):
            assert torch.equal(replayed(x, Annealing()).loss, expected.loss)
        step(x, Annealing())
    assert recorder.recorded == 1


def test_a_loss_is_shown_before_its_step_is_made():
    step, seen = make_step(), []
    before = [p.clone() for p in step.module.parameters()]

    def stop(loss):
        seen.append(loss.item())
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        step(some_data(BATCH), Annealing(), stop)
    assert len(seen) == 1
    assert all(map(torch.equal, step.module.parameters(), before))


def test_cuda_graphs_without_a_cuda_device_are_refused():
    from lightning_fabric import Fabric

    recipe = Training(1, warmup=0, cuda_graphs=True)
    fabric = Fabric(accelerator="cpu", devices=1)
    with pytest.raises(ValueError, match=r"training\.cuda_graphs needs a CUDA device, got cpu"):
        mm.fit(make_loss(), some_data(8), None, recipe, fabric=fabric)


@pytest.mark.parametrize("interrupted", [False, True])
def test_fit_trains_by_replays_to_the_same_bits_and_is_resumed_to_them(
    tmp_path, monkeypatch, interrupted
):
    """With a recorder on the CPU in place of CUDA graphs, at a rate exact in float32."""
    monkeypatch.setattr("mimachine.training.trainer.CudaGraphs", lambda device: Later())
    monkeypatch.setattr("mimachine.training.trainer._check_can_be_captured", lambda *parts: None)

    def train(epochs, graphs, run=None):
        loss, x = make_loss(), some_data(18)
        recipe = Training(
            epochs,
            batch_size=BATCH,
            learning_rate=2**-7,
            warmup=1,
            patience=9,
            gradient="normalised",
            ema_decay=0.9,
            cuda_graphs=graphs,
        )
        history = mm.fit(loss, x, x[:14], recipe, run=run, progress=False)
        return history, list(loss.parameters())

    expected = train(4, graphs=False)
    run = mm.Run.create(tmp_path / "run", {}) if interrupted else None
    if interrupted:
        train(2, graphs=False, run=run)  # Whose rate is a number; the recording's is a tensor.
    found = train(4, graphs=True, run=run)
    assert found[0] == expected[0]
    assert all(map(torch.equal, found[1], expected[1]))


class Crossings(TorchDispatchMode):
    """Operations that mix CPU tensors with those of another device, or read a value."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        if len(devices) > 1 or function is torch.ops.aten._local_scalar_dense.default:
            self.seen.append(str(function))
        return result


class FromLists(TorchFunctionMode):
    """Tensors made from CPU numbers, which operations do not reveal."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor):
            self.seen.append(function.__name__)
        return function(*args, **(kwargs or {}))


def crossings(function):
    with FromLists() as made, Crossings() as crossed:
        function()
    return made.seen + crossed.seen


def test_crossings_to_a_device_are_seen():
    x = torch.zeros(3, device="meta")
    assert crossings(lambda: x + 1) == []
    assert crossings(lambda: torch.zeros(3).to("meta"))
    assert crossings(lambda: torch.tensor([1.0], device="meta"))
    assert crossings(lambda: x.new_tensor(1.0))
    assert crossings(lambda: x[torch.arange(2)])
    with pytest.raises(RuntimeError, match="meta"):
        x.sum().item()


@pytest.mark.parametrize("objective", [mm.VAE, mm.MIM], ids=["vae", "mim"])
@pytest.mark.parametrize("make", [mm.conv_hvae, mm.pixel_hvae], ids=["conv", "pixel"])
def test_steps_of_image_models_neither_wait_for_a_device_nor_bring_it_anything(
    make, objective, monkeypatch
):
    """What a CUDA graph cannot capture, tested on a device without values."""
    # The device has no autocast either, which the sampler switches off.
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    model = make((1, 4, 4), torch.rand(3, 1, 4, 4), latents=(2, 2), hidden=4, channels=2)
    loss, x = mm.Loss(model, objective).to("meta"), torch.empty(BATCH, 1, 4, 4, device="meta")

    def step():
        loss(x, Annealing()).mean().backward()
        normalise_gradients(loss.parameters())

    step()  # The first fills caches, such as the order of pixels.
    assert crossings(step) == []


gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def pixel_loss():
    torch.manual_seed(0)
    model = mm.pixel_hvae((1, 6, 6), latents=(2, 2), hidden=4, channels=2, layers=2)
    return mm.Loss(model, mm.MIM)


@gpu
@needs_cuda
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", ["full", "bf16-mixed"])
@pytest.mark.parametrize(("make", "side"), [(make_loss, 4), (pixel_loss, 6)])
def test_cuda_graphs_train_to_the_weights_of_training_without(make, side, precision, compiled):
    """Twice with equal results: noise is that of the seed, whatever is replayed."""
    x, results = torch.rand(70, 1, side, side).round(), []
    for graphs in (False, True, True):
        loss = make()
        recipe = Training(
            4,
            batch_size=8,
            warmup=2,
            schedule=mm.Noam(2),
            gradient="normalised",
            ema_decay=0.9,
            precision=precision,
            compile=compiled,
            cuda_graphs=graphs,
        )
        history = mm.fit(loss, x, x[:20], recipe, progress=False)
        losses = [(e.train_loss, e.val_loss) for e in history.epochs]
        results.append((torch.tensor(losses), [p.detach().cpu() for p in loss.parameters()]))
    # The learning rate is a number of double precision without graphs, of single with them, and
    # atomic additions of a backward pass come in any order: 36 steps of at most 1e-3 each.
    for tensors in results[1:]:
        torch.testing.assert_close(tensors[0], results[0][0], rtol=1e-2, atol=1e-2)
        for found, expected in zip(tensors[1], results[0][1], strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(results[1][0], results[2][0], rtol=1e-3, atol=1e-3)


DECIDING = """
import torch, mimachine as mm

class Deciding(mm.Loss):
    def forward(self, x, annealing=1.0):
        return super().forward(x if float(x.sum()) > 0 else -x, annealing)

encoder, decoder = mm.Gaussian(mm.MLP(3, 4)), mm.Gaussian(mm.MLP(2, 6))
loss = Deciding(mm.Joint(encoder, decoder, mm.StandardNormal(2)), mm.MIM)
recipe = mm.Training(1, batch_size=4, warmup=0, cuda_graphs=True)
mm.fit(loss, torch.rand(40, 3), None, recipe, progress=False)
"""


@gpu
@needs_cuda
def test_a_loss_that_looks_at_values_cannot_be_captured():
    """In a separate process, since a failed capture may leave CUDA in an undefined state."""
    done = subprocess.run([sys.executable, "-c", DECIDING], capture_output=True, text=True)
    assert done.returncode
    assert "training.cuda_graphs needs a loss that a CUDA graph can capture" in done.stderr


@gpu
@needs_cuda
def test_cuda_graphs_of_an_ensemble_are_refused():
    ensemble = mm.Ensemble([make_loss(), make_loss()])
    data = Shared(mm.TensorSource(some_data(8)), 2)
    with pytest.raises(ValueError, match=r"training\.cuda_graphs needs the loss of one model"):
        mm.fit(ensemble, data, None, Training(1, warmup=0, cuda_graphs=True))
