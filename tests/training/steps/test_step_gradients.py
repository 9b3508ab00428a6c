"""Normalised gradients, against the released code's loop over tensors."""

import math

import pytest
import torch
from torch import nn

import mimachine as mm
from mimachine.data.sources import Shared
from mimachine.training.recipe import Training
from mimachine.training.steps.step import normalise_gradients


def small_conv_hvae(dtype=torch.float64):
    torch.manual_seed(0)
    model = mm.conv_hvae((1, 6, 6), torch.rand(3, 1, 6, 6), latents=(3, 2), hidden=5, channels=2)
    return model.to(dtype)


def normalised_by_hand(gradients):
    return [gradient / (gradient.pow(2).sum().sqrt() + 1e-7) for gradient in gradients]


class AdamByHand:
    """Adam per tensor, with ε added before or after the bias correction."""

    def __init__(self, parameters, rate, before, betas=(0.9, 0.999), epsilon=1e-8):
        self.parameters, self.rate, self.betas = list(parameters), rate, betas
        self.before, self.epsilon, self.count = before, epsilon, 0
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self):
        self.count += 1
        (a, b), gradients = self.betas, normalised_by_hand(p.grad for p in self.parameters)
        for p, g, m, v in zip(self.parameters, gradients, self.first, self.second, strict=True):
            m.mul_(a).add_((1 - a) * g)
            v.mul_(b).add_((1 - b) * g**2)
            correction = math.sqrt(1 - b**self.count)
            # Added before the correction, ε counts 1 / √(1 - b^t) times as much.
            scale = v.sqrt() + self.epsilon * (1 if self.before else correction)
            p.sub_(self.rate * correction / (1 - a**self.count) * m / scale)


def trained_by_hand(model, batches, before=False):
    loss = mm.Loss(model, mm.A_MIM)
    optimiser = AdamByHand(loss.parameters(), 5e-4, before)
    for seed, x in enumerate(batches):
        torch.manual_seed(seed)
        loss.zero_grad()
        loss(x).mean().backward()
        optimiser.step()
    return list(loss.parameters())


def trained(model, batches, epsilon_at=None):
    loss = mm.Loss(model, mm.A_MIM)
    optimiser = torch.optim.Adam(loss.parameters(), lr=5e-4, fused=True)
    for seed, x in enumerate(batches):
        if epsilon_at is not None:
            optimiser.param_groups[0]["eps"] = epsilon_at(seed + 1)
        torch.manual_seed(seed)
        optimiser.zero_grad()
        loss(x).mean().backward()
        normalise_gradients(loss.parameters())
        optimiser.step()
    return list(loss.parameters())


def images(count=6):
    generator = torch.Generator().manual_seed(3)
    shape = (count, 8, 1, 6, 6)
    return torch.rand(shape, generator=generator, dtype=torch.float64).round()


@torch.no_grad()
def difference(a, b):
    return max(float((p - q).abs().max()) for p, q in zip(a, b, strict=True))


def test_a_step_is_that_of_a_loop_over_tensors():
    by_hand = trained_by_hand(small_conv_hvae(), images())
    ours = trained(small_conv_hvae(), images())
    assert difference(small_conv_hvae().parameters(), ours) > 1e-3
    assert difference(by_hand, ours) < 1e-12


def test_the_released_adam_is_torchs_with_a_larger_epsilon_in_the_first_steps():
    released = trained_by_hand(small_conv_hvae(), images(), before=True)
    larger = trained(small_conv_hvae(), images(), lambda t: 1e-8 / math.sqrt(1 - 0.999**t))
    assert difference(released, larger) < 1e-12
    assert difference(released, trained(small_conv_hvae(), images())) > 1e-9


def test_norms_are_one_whatever_the_scale():
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in [(), (3,), (2, 3), (4, 1, 2, 2)]]
    for scale, parameter in zip((1e-3, 1.0, 1e10, 1e-10), parameters, strict=True):
        parameter.grad = scale * torch.randn(parameter.shape)
    before = [p.grad.clone() for p in parameters]
    normalise_gradients(parameters)
    for parameter, gradient in zip(parameters, before, strict=True):
        size = float(gradient.norm())
        assert float(parameter.grad.norm()) == pytest.approx(size / (size + 1e-7), rel=1e-5)
        torch.testing.assert_close(parameter.grad * (size + 1e-7), gradient)


@pytest.mark.parametrize("stacked", [False, True])
def test_gradients_of_zeros_stay_zeros_and_missing_ones_missing(stacked):
    zero, none = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3))
    zero.grad = torch.zeros(3, 2)
    normalise_gradients([zero, none], stacked=stacked)
    assert torch.equal(zero.grad, torch.zeros(3, 2))
    assert none.grad is None
    normalise_gradients([none], stacked=stacked)


def test_of_stacked_models_each_has_a_norm_of_its_own():
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in [(4,), (4, 3), (4, 2, 1, 5)]]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, dtype=torch.float32)
    alone = [normalised_by_hand(p.grad[i] for p in parameters) for i in range(4)]
    normalise_gradients(parameters, stacked=True)
    for i in range(4):
        for parameter, expected in zip(parameters, alone[i], strict=True):
            torch.testing.assert_close(parameter.grad[i], expected)


# --- as a recipe -----------------------------------------------------------------------------


def dense_loss(seed=0):
    torch.manual_seed(seed)
    model = mm.Joint(
        mm.Gaussian(mm.MLP(3, 4, (8,))), mm.Gaussian(mm.MLP(2, 6, (8,)), 0.1), mm.StandardNormal(2)
    )
    return mm.Loss(model.double(), mm.VAE)


def some_data(count=60):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 3, generator=generator, dtype=torch.float64)


class Scaled(nn.Module):
    def __init__(self, loss, factor):
        super().__init__()
        self.loss, self.factor = loss, factor

    def forward(self, x, annealing):
        return self.factor * self.loss(x, annealing)


def test_under_the_recipe_the_scale_of_the_loss_does_not_count():
    recipe = Training(epochs=3, batch_size=20, warmup=0, gradient="normalised")
    results = []
    for factor in (1.0, 1000.0):
        loss = dense_loss()
        mm.fit(Scaled(loss, factor), some_data(), None, recipe)
        results.append([p.detach().clone() for p in loss.parameters()])
    # Norms of about 1 have 1e-7 added to them, so steps of 1e-3 differ by 1e-10 and the less so
    # do their effects on later gradients.
    assert difference(*results) < 1e-8
    plain = dense_loss()
    mm.fit(plain, some_data(), None, Training(epochs=3, batch_size=20, warmup=0))
    assert difference(results[0], plain.parameters()) > 1e-6


def test_members_of_an_ensemble_are_normalised_as_if_alone():
    class Noiseless(mm.Loss):
        """The loss at the encoder's mean, without noise in which members could differ."""

        def forward(self, x, annealing=1.0):
            z = self.model.encoder(x).mean
            return -self.model.decoder(z).log_prob(x) - self.model.prior().log_prob(z)

    def make(seed):
        loss = dense_loss(seed)
        return Noiseless(loss.model, loss.objective)

    recipe = Training(epochs=4, batch_size=20, warmup=0, gradient="normalised")
    ensemble = mm.Ensemble([make(seed) for seed in range(3)])
    x = mm.TensorSource(some_data())
    mm.fit(ensemble, Shared(x, 3), None, recipe)
    for seed in range(3):
        alone = make(seed)
        mm.fit(alone, x, None, recipe)
        assert difference(ensemble.member(seed).parameters(), alone.parameters()) < 1e-10


def test_a_run_with_normalised_gradients_is_resumed_to_the_same_bits(tmp_path):
    whole, parts = dense_loss(), [dense_loss() for _ in range(2)]
    recipe = Training(epochs=6, batch_size=20, warmup=0, gradient="normalised", patience=20)
    first = Training(epochs=3, batch_size=20, warmup=0, gradient="normalised", patience=20)
    expected = mm.fit(whole, some_data(), some_data(20), recipe)
    run = mm.Run.create(tmp_path / "run", {})
    mm.fit(parts[0], some_data(), some_data(20), first, run=run)
    assert mm.fit(parts[1], some_data(), some_data(20), recipe, run=run) == expected
    for p, q in zip(whole.parameters(), parts[1].parameters(), strict=True):
        assert torch.equal(p, q)


def test_gradients_under_a_scaler_are_refused():
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision

    scaler = torch.amp.GradScaler("cpu")
    fabric = Fabric(
        accelerator="cpu",
        devices=1,
        plugins=MixedPrecision("16-mixed", device="cpu", scaler=scaler),
    )
    recipe = Training(epochs=1, warmup=0, gradient="normalised")
    with pytest.raises(ValueError, match="16-mixed scales them: use bf16-mixed"):
        mm.fit(dense_loss(), some_data(), None, recipe, fabric=fabric)
