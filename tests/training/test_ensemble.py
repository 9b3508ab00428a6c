import copy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mimachine as mm
from mimachine._support.seeds import forked
from mimachine.data.sources import Shared, Stacked, TensorSource
from mimachine.model.annealing import Annealing
from mimachine.training.fit import fit
from mimachine.training.recipe import Training, Warmup
from mimachine.training.run import Run

M = 4


@pytest.fixture(autouse=True)
def _double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def gaussian(data_prior=None, prior=None):
    return mm.Joint(
        mm.Gaussian(mm.MLP(3, 4, (5,))),
        mm.Gaussian(mm.MLP(2, 6, (5,)), torch.tensor([0.1, 0.2, 0.3])),
        mm.StandardNormal(2) if prior is None else prior,
        data_prior,
    )


def vamp():
    model = gaussian()
    model.prior = mm.VampPrior(model.encoder, torch.randn(3, 3))
    return model


def binary():
    return mm.Joint(
        mm.Gaussian(mm.MLP(3, 4, (5,))), mm.Bernoulli(mm.MLP(2, 3, (5,))), mm.StandardNormal(2)
    )


MODELS = {
    "marginal": gaussian,
    "importance": lambda: gaussian(mm.Marginal("importance")),
    "mixtures": lambda: gaussian(mm.GaussianMixture(3, 3), mm.LearnedNormal(2)),
    "vampprior": vamp,
    "binary": binary,
}


class Noise(TorchDispatchMode):
    """Records draws, or replays a model's part of recorded draws."""

    def __init__(self, drawn=None, index=None):
        super().__init__()
        self.drawn, self.index, self.count = [] if drawn is None else drawn, index, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        # The order of the data has a separate generator.
        own = (kwargs or {}).get("generator") is not None
        if own or torch.Tag.nondeterministic_seeded not in func.tags:
            return result
        if self.index is None:
            self.drawn.append(result.clone())
            return result
        recorded = self.drawn[self.count]
        self.count += 1
        assert recorded.numel() == M * result.numel()
        mine = recorded.reshape(M, *result.shape)[self.index]
        return result.copy_(mine)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("objective", ["MIM", "A_MIM", "VAE", "CE"])
def test_losses_and_gradients_are_those_of_the_models_alone(name, objective):
    losses = [mm.Loss(MODELS[name](), getattr(mm, objective)) for _ in range(M)]
    ensemble = mm.Ensemble(losses)
    x = torch.randn(M, 6, 3)
    x = (x > 0).double() if name == "binary" else x
    with Noise() as noise:
        together = ensemble(x)
    together.mean(-1).sum().backward()
    for i, loss in enumerate(losses):
        with Noise(noise.drawn, i):
            alone = loss(x[i])
        torch.testing.assert_close(together[i], alone, rtol=1e-12, atol=1e-12)
        alone.mean().backward()
        gradients = dict(ensemble.named_parameters())
        for key, parameter in loss.named_parameters():
            if parameter.grad is not None:
                mine = gradients[key.replace(".", "/")].grad[i]
                torch.testing.assert_close(mine, parameter.grad, rtol=1e-9, atol=1e-11)


def data(rows=40):
    return torch.randn(rows, 3) @ torch.randn(3, 3)


RECIPE = Training(epochs=5, batch_size=16, warmup=Warmup(2), learning_rate=0.01)


def test_training_together_is_training_alone_with_the_same_noise():
    train, val = data(), data(20)
    losses = [mm.Loss(gaussian(), mm.MIM) for _ in range(M)]
    ensemble = mm.Ensemble(losses)
    sources = [TensorSource(train, seed) for seed in range(M)]
    held_out = TensorSource(val, shuffle=False)
    with Noise() as noise:
        history = fit(ensemble, Stacked(sources), Shared(held_out, M), RECIPE)
    for i, loss in enumerate(losses):
        with Noise(noise.drawn, i) as replay:
            alone = fit(loss, sources[i], held_out, RECIPE)
        assert replay.count == len(noise.drawn)
        for together, epoch in zip(history.epochs, alone.epochs, strict=True):
            assert together.train_loss[i] == pytest.approx(epoch.train_loss, rel=1e-9)
            assert together.val_loss[i] == pytest.approx(epoch.val_loss, rel=1e-9)
        assert history.best_epoch[i] == alone.best_epoch
        mine = ensemble.member(i).state_dict()
        for key, value in loss.state_dict().items():
            torch.testing.assert_close(mine[key], value, rtol=1e-8, atol=1e-10)


def test_models_of_an_ensemble_differ_in_weights_data_and_noise():
    loss = mm.Loss(gaussian(), mm.MIM)
    ensemble = mm.Ensemble([loss] * M)
    x = torch.randn(1, 8, 3).expand(M, 8, 3)
    value = ensemble(x)
    # Equal weights and data: only the noise differs.
    assert all((value[0] != value[i]).all() for i in range(1, M))
    orders = Stacked([TensorSource(torch.arange(24.0).reshape(12, 2), seed) for seed in range(M)])
    (batch,) = orders.batches(12, 1)
    assert batch.shape == (M, 12, 2)
    assert not torch.equal(batch[0], batch[1])
    assert torch.equal(batch[0].sort(0).values, batch[1].sort(0).values)


def test_a_member_is_an_ordinary_model_on_its_own():
    losses = [mm.Loss(vamp(), mm.A_MIM) for _ in range(M)]
    ensemble = mm.Ensemble(losses)
    for loss, index in zip(losses, range(M), strict=True):
        member = ensemble.member(index)
        assert member.state_dict().keys() == loss.state_dict().keys()
        for a, b in zip(member.state_dict().values(), loss.state_dict().values(), strict=True):
            assert torch.equal(a, b)
        # The encoder is still shared with the VampPrior.
        assert member.model.prior.encoder is member.model.encoder
    # A call does not leave its parameters in the template.
    ensemble(torch.randn(M, 4, 3))
    assert all(type(p) is torch.nn.Parameter for p in ensemble.member(0).parameters())
    before = copy.deepcopy(ensemble.state_dict())
    torch.nn.init.zeros_(next(ensemble.member(0).parameters()))
    for a, b in zip(before.values(), ensemble.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_models_that_are_done_cost_nothing_and_change_nothing_for_the_others():
    ensemble = mm.Ensemble([mm.Loss(gaussian(), mm.A_MIM) for _ in range(M)])
    x = torch.randn(M, 6, 3)
    ensemble.retire(torch.tensor([False, True, False, True]))
    with Noise() as noise:
        value = ensemble(x)
    assert all(drawn.shape[0] == 2 for drawn in noise.drawn)
    assert (value[[1, 3]] == 0).all()
    value.mean(-1).sum().backward()
    for parameter in ensemble.parameters():
        assert (parameter.grad[[1, 3]] == 0).all()
        assert (parameter.grad[[0, 2]] != 0).any()
    ensemble.retire(torch.zeros(M, dtype=torch.bool))
    assert (ensemble(x) != 0).all()


def test_each_model_stops_early_on_its_own_and_ends_with_its_own_best_weights():
    train, val = data(), data(20)
    recipe = Training(epochs=60, batch_size=16, warmup=0, learning_rate=0.1, patience=3)
    ensemble = mm.Ensemble([mm.Loss(gaussian(), mm.VAE) for _ in range(M)])
    sources = Stacked([TensorSource(train, seed) for seed in range(M)])
    held_out = Shared(TensorSource(val, shuffle=False), M)
    history = fit(ensemble, sources, held_out, recipe)
    assert len(set(history.best_epoch)) > 1
    assert len(history.epochs) == max(history.best_epoch) + 3
    for i, best in enumerate(history.best_epoch):
        losses = [epoch.val_loss[i] for epoch in history.epochs[: best + 3]]
        assert min(losses) == losses[best - 1]


def test_an_ensemble_follows_to_other_types_of_numbers():
    ensemble = mm.Ensemble([mm.Loss(gaussian(), mm.MIM) for _ in range(2)]).float()
    assert ensemble(torch.randn(2, 4, 3, dtype=torch.float32)).dtype == torch.float32
    assert next(ensemble.member(0).parameters()).dtype == torch.float32


def test_what_is_not_alike_is_refused():
    with pytest.raises(ValueError, match="at least one loss, got none"):
        mm.Ensemble([])
    with pytest.raises(ValueError, match="number 1 differs from the first"):
        mm.Ensemble([mm.Loss(gaussian(), mm.MIM), mm.Loss(binary(), mm.MIM)])
    with pytest.raises(ValueError, match="number 1 differs"):
        mm.Ensemble([mm.Loss(gaussian(), mm.MIM), mm.Loss(gaussian(), mm.VAE)])
    ensemble = mm.Ensemble([mm.Loss(gaussian(), mm.MIM) for _ in range(2)])
    with pytest.raises(ValueError, match=r"\(M, B, \*X\) with M = 2, got \(3, 4, 3\)"):
        ensemble(torch.randn(3, 4, 3))
    with pytest.raises(ValueError, match="of the same length, got lengths"):
        Stacked([TensorSource(data(10)), TensorSource(data(11))])


def test_the_warm_up_reaches_every_model():
    losses = [mm.Loss(gaussian(), mm.VAE) for _ in range(M)]
    ensemble, x = mm.Ensemble(losses), torch.randn(M, 6, 3)
    with Noise() as noise:
        value = ensemble(x, Annealing(0.25))
    for i, loss in enumerate(losses):
        with Noise(noise.drawn, i):
            torch.testing.assert_close(value[i], loss(x[i], Annealing(0.25)))


def test_a_model_that_diverges_is_done_with_and_the_others_go_on_as_without_it(tmp_path):
    train = data()
    losses = [mm.Loss(gaussian(), mm.A_MIM) for _ in range(M)]
    ensemble = mm.Ensemble(losses)
    with torch.no_grad():
        # Scales that overflow: the loss is NaN from the first step on.
        dict(ensemble.named_parameters())["model/decoder/network/2/bias"][1] = 1e4
    sources = [TensorSource(train, seed) for seed in range(M)]
    held_out = TensorSource(data(20), shuffle=False)
    run = Run.create(tmp_path / "run", {})
    with Noise() as noise:
        history = fit(ensemble, Stacked(sources), Shared(held_out, M), RECIPE, run=run)
    assert all(epoch.train_loss[1] is None for epoch in history.epochs)
    assert all(record["val_loss"][1] is None for record in run.metrics())
    recorded = [epoch.val_loss[0] for epoch in history.epochs]
    assert all(loss is not None for loss in recorded)
    # Once the diverged model stops, noise is drawn for three models: compare until then.
    full = [drawn for drawn in noise.drawn if drawn.shape[0] == M]
    alone = copy.deepcopy(losses[0])
    with Noise(full, 0):
        first = fit(alone, sources[0], held_out, replace(RECIPE, epochs=2, warmup=Warmup(2)))
    assert first.epochs[0].train_loss == pytest.approx(history.epochs[0].train_loss[0], rel=1e-9)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_the_noise_of_a_compiled_ensemble_is_that_of_the_ensemble(backend):
    losses = [mm.Loss(gaussian(), mm.MIM) for _ in range(M)]
    plain, compiled = mm.Ensemble(losses), mm.Ensemble(losses)
    compiled.compile(backend=backend)
    x = torch.randn(M, 6, 3)
    with forked(3):
        expected = plain(x)
    with forked(3):
        value = compiled(x)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    for loss in (value, expected):
        loss.mean(-1).sum().backward()
    for a, b in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-10)


def test_what_cannot_be_compiled_runs_uncompiled_and_says_so():
    losses = [mm.Loss(gaussian(), mm.MIM) for _ in range(M)]
    plain, compiled = mm.Ensemble(losses), mm.Ensemble(losses)
    compiled.compile(backend=broken)
    x = torch.randn(M, 6, 3)
    with forked(3), pytest.warns(RuntimeWarning, match="uncompiled.*no compiler here"):
        value = compiled(x)
    with forked(3):
        assert torch.equal(value, plain(x))
    with forked(3):
        assert torch.equal(value, compiled(x))


@pytest.mark.slow
def test_each_of_many_ensembles_is_compiled():
    compiled = []

    def counting(graph, inputs):
        compiled.append(graph)
        return graph

    # torch compiles the same code again at most eight times, here twice.
    with torch._dynamo.config.patch(recompile_limit=2):
        for number in range(4):
            ensemble = mm.Ensemble([mm.Loss(gaussian(), mm.VAE) for _ in range(2)])
            ensemble.compile(backend=counting)
            ensemble(torch.randn(2, 4, 3))
            assert len(compiled) == number + 1


def broken(graph, inputs, **options):
    raise OSError("no compiler here")


def test_running_statistics_are_each_models_own_even_when_others_are_done():
    def make():
        model = mm.pixel_hvae((1, 4, 4), latents=(2, 2), hidden=4, channels=2, layers=2)
        # Statistics then depend only on the images, not on the noise of codes.
        with torch.no_grad():
            model.decoder.decoder.network.first.convolution.weight[:, 1:] = 0
        return mm.Loss(model, mm.A_MIM).train()

    def statistics(loss):
        return [buffer for name, buffer in loss.named_buffers() if "running" in name]

    alone = [make() for _ in range(2)]
    ensemble = mm.Ensemble(alone).train()
    for done in ([False, False], [True, False]):
        ensemble.retire(torch.tensor(done))
        x = torch.rand(2, 6, 1, 4, 4).round()
        ensemble(x)
        for index in range(2):
            if not done[index]:
                alone[index](x[index])
            found = statistics(ensemble.member(index))
            for a, b in zip(found, statistics(alone[index]), strict=True):
                torch.testing.assert_close(a, b)
