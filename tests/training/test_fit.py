import copy
import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

import mimachine as mm
from mimachine.model.annealing import Annealing
from mimachine.training.recipe import Training, Warmup


def gaussian_model(seed=0, features=3, latent=2, dtype=torch.float32):
    torch.manual_seed(seed)
    model = mm.Joint(
        mm.Gaussian(mm.MLP(features, 2 * latent, (16,))),
        mm.Gaussian(mm.MLP(latent, 2 * features, (16,)), floor=0.1),
        mm.StandardNormal(latent),
    )
    return model.to(dtype)


def some_data(count=200, features=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, features, generator=generator, dtype=dtype)


class Quadratic(nn.Module):
    """(w - x)² at each row, so that training is known in closed form."""

    def __init__(self, start=0.0, shape=()):
        super().__init__()
        self.w = nn.Parameter(torch.full(shape, start))

    def forward(self, x, annealing=1.0):
        return (self.w[..., None] - x[:, 0]) ** 2


@pytest.mark.parametrize("objective", [mm.MIM, mm.VAE, mm.A_MIM, mm.CE])
def test_two_runs_of_one_seed_are_equal_to_the_bit(objective):
    results = []
    for _ in range(2):
        model = gaussian_model()
        history = mm.fit(
            mm.Loss(model, objective), some_data(), some_data(50), Training(epochs=4, warmup=2)
        )
        losses = [(e.train_loss, e.val_loss) for e in history.epochs]
        results.append((losses, [p.clone() for p in model.parameters()]))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def test_another_seed_gives_another_run():
    losses = []
    for seed in (0, 1):
        loss = mm.Loss(gaussian_model(), mm.MIM)
        recipe = Training(epochs=1, warmup=0, seed=seed)
        losses.append(mm.fit(loss, some_data(), None, recipe).epochs[0].train_loss)
    assert losses[0] != losses[1]


def test_training_leaves_the_global_generator_as_it_was():
    loss = mm.Loss(gaussian_model(), mm.MIM)
    before = torch.get_rng_state()
    mm.fit(loss, some_data(), some_data(50), Training(epochs=2, warmup=1))
    assert torch.equal(before, torch.get_rng_state())


def test_the_model_ends_with_the_weights_of_the_epoch_with_the_lowest_held_out_loss():
    model = gaussian_model()
    loss, val = mm.Loss(model, mm.VAE), some_data(60) * 3
    recipe = Training(epochs=30, warmup=0, learning_rate=0.1, patience=30)
    history = mm.fit(loss, some_data(40), val, recipe)
    held_out = [epoch.val_loss for epoch in history.epochs]
    assert history.best_epoch == 1 + held_out.index(min(held_out))
    assert history.best_epoch < len(held_out), "the case is meant to overfit"
    # The same recipe with that number of epochs ends with the same weights.
    again = gaussian_model()
    shorter = Training(epochs=history.best_epoch, warmup=0, learning_rate=0.1, patience=30)
    mm.fit(mm.Loss(again, mm.VAE), some_data(40), val, shorter)
    for kept, last in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(kept, last)


def test_held_out_loss_is_that_of_the_objective_fully_warmed_up_with_halves_as_in_training():
    seen = []

    class Recording(Quadratic):
        def forward(self, x, annealing=1.0):
            seen.append((self.training, annealing))
            return super().forward(x)

    warmup = Warmup(4, ("q_x",), decoding="after", halves="sum")
    mm.fit(Recording(), some_data(10), some_data(5), Training(epochs=5, warmup=warmup))
    assert {annealing for training, annealing in seen if not training} == {Annealing(halves="sum")}
    assert [a.beta for training, a in seen if training] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert [a.decoding for training, a in seen if training] == [False] * 3 + [True] * 2


def test_training_stops_once_the_held_out_loss_has_not_improved_for_patience_epochs():
    # The data pull w from 0 to 10, past the held-out optimum at 1: the best epoch is known.
    train, val = torch.full((4, 1), 10.0), torch.full((4, 1), 1.0)
    loss = Quadratic()
    recipe = Training(epochs=500, warmup=0, learning_rate=0.1, patience=7, batch_size=4)
    history = mm.fit(loss, train, val, recipe)
    held_out = [epoch.val_loss for epoch in history.epochs]
    best = 1 + held_out.index(min(held_out))
    assert history.stopped_early
    assert history.best_epoch == best
    assert len(history.epochs) == best + 7
    assert loss.w.item() == pytest.approx(1.0, abs=0.1)


def test_epochs_of_the_warm_up_are_no_candidates_for_the_best():
    train, val = torch.full((4, 1), 10.0), torch.zeros(4, 1)
    recipe = Training(epochs=20, warmup=5, learning_rate=0.1, patience=3)
    history = mm.fit(Quadratic(), train, val, recipe)
    assert history.epochs[0].val_loss < history.epochs[4].val_loss
    assert history.best_epoch == 5
    assert len(history.epochs) == 8


@pytest.mark.parametrize("patience", [2, 5, 60])
def test_independent_models_trained_as_one_equal_the_same_models_trained_alone(patience):
    # One loss of shape (M, B) whose members have different optima, so that they stop at different
    # epochs; a held-out loss that goes up and down makes later, better epochs that must not count.
    targets = torch.tensor([1.0, 2.0, 6.0])

    class Members(Quadratic):
        def forward(self, x, annealing=1.0):
            if self.training:
                return (self.w[:, None] - x.T) ** 2
            return (self.w[:, None] - targets[:, None].expand(3, len(x))).cos()

    class Alone(Quadratic):
        target = 0.0

        def forward(self, x, annealing=1.0):
            if self.training:
                return super().forward(x)
            return (self.w - self.target).cos().expand(len(x))

    recipe = Training(epochs=80, warmup=0, learning_rate=0.2, patience=patience, batch_size=4)
    together, train = Members(shape=(3,)), torch.full((4, 3), 12.0)
    history = mm.fit(together, train, torch.zeros(4, 3), recipe)
    lengths = set()
    for index, target in enumerate(targets):
        alone = Alone()
        alone.target = float(target)
        single = mm.fit(alone, train[:, :1], torch.zeros(4, 1), recipe)
        assert history.best_epoch[index] == single.best_epoch
        assert together.w[index].item() == alone.w.item()
        lengths.add(len(single.epochs))
    assert len(history.epochs) == max(lengths)
    assert len(lengths) > 1 or patience == 60


def test_without_held_out_data_the_last_weights_stay():
    loss = Quadratic()
    history = mm.fit(loss, torch.full((4, 1), 3.0), None, Training(epochs=400, warmup=0))
    assert history.best_epoch is None
    assert not history.stopped_early
    assert len(history.epochs) == 400
    assert history.epochs[0].val_loss is None


def test_the_recorded_loss_is_the_mean_over_all_data_whatever_the_batches():
    train = some_data(10)
    for batch_size in (3, 10, 64):
        recipe = Training(epochs=1, warmup=0, batch_size=batch_size, learning_rate=1e-12)
        history = mm.fit(Quadratic(2.0), train, train, recipe)
        expected = float(((2.0 - train[:, 0]) ** 2).mean())
        # float32 sums have another order.
        assert history.epochs[0].train_loss == pytest.approx(expected, rel=1e-5)
        assert history.epochs[0].val_loss == pytest.approx(expected, rel=1e-5)


def test_the_learning_rate_follows_its_schedule():
    recipe = Training(epochs=12, warmup=0, learning_rate=0.3, schedule=mm.Noam(3))
    history = mm.fit(Quadratic(), some_data(4), None, recipe)
    rates = [epoch.learning_rate for epoch in history.epochs]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[11] == pytest.approx(0.3 * math.sqrt(3 / 12))


def test_common_validation_noise_makes_the_held_out_loss_a_function_of_the_weights():
    frozen = Training(epochs=3, warmup=0, learning_rate=1e-30)
    held_out = {}
    for noise in ("common", "fresh"):
        loss = mm.Loss(gaussian_model(), mm.MIM)
        recipe = Training(
            epochs=3, warmup=0, learning_rate=frozen.learning_rate, validation_noise=noise
        )
        history = mm.fit(loss, some_data(), some_data(50), recipe)
        held_out[noise] = {epoch.val_loss for epoch in history.epochs}
    assert len(held_out["common"]) == 1
    assert len(held_out["fresh"]) == 3


def test_training_in_double_precision_stays_in_double_precision():
    model = gaussian_model(dtype=torch.float64)
    mm.fit(mm.Loss(model, mm.MIM), some_data(dtype=torch.float64), None, Training(2, warmup=1))
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_a_learned_prior_and_a_vampprior_are_trained_through_both_halves():
    for make in (
        lambda encoder: mm.LearnedNormal(2),
        lambda encoder: mm.GaussianMixture(2, 3),
        lambda encoder: mm.VampPrior(encoder, some_data(5)),
    ):
        base = gaussian_model()
        model = mm.Joint(base.encoder, base.decoder, make(base.encoder))
        before = copy.deepcopy(dict(model.prior.named_parameters()))
        mm.fit(mm.Loss(model, mm.MIM), some_data(), None, Training(2, warmup=0))
        after = dict(model.prior.named_parameters())
        assert all(not torch.equal(before[name], after[name]) for name in before)


def test_a_run_records_every_epoch_and_the_best_weights(tmp_path):
    run = mm.Run.create(tmp_path / "run", {"any": "settings"})
    model = gaussian_model()
    loss, val = mm.Loss(model, mm.MIM), some_data(50)
    history = mm.fit(loss, some_data(), val, Training(epochs=5, warmup=2), run=run)
    assert [record["epoch"] for record in run.metrics()] == [1, 2, 3, 4, 5]
    assert run.metrics()[-1]["val_loss"] == history.epochs[-1].val_loss
    other = gaussian_model(seed=1)
    run.load_weights(other)
    for kept, loaded in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(kept, loaded)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (torch.zeros(0, 3), "N of 1 or more"),
        (torch.zeros(5), r"shape \(N, \*X\)"),
        (torch.zeros(5, 3, dtype=torch.complex64), "train must be of real numbers"),
    ],
)
def test_data_that_make_no_sense_are_refused(train, message):
    with pytest.raises(ValueError, match=message):
        mm.fit(mm.Loss(gaussian_model(), mm.MIM), train, None, Training(1, warmup=0))


def test_a_loss_without_parameters_is_refused():
    class Constant(nn.Module):
        def forward(self, x, annealing):
            return x.sum(1)

    with pytest.raises(ValueError, match="no parameter that can be trained"):
        mm.fit(Constant(), some_data(), None, Training(1, warmup=0))


def test_a_loss_that_is_not_finite_stops_training_and_keeps_the_best_weights(tmp_path):
    run = mm.Run.create(tmp_path / "run", {})
    loss = Quadratic()

    class Poisoned(mm.TensorSource):
        def batches(self, batch_size, epoch):
            for batch in super().batches(batch_size, epoch):
                yield batch * (float("nan") if epoch == 4 else 1.0)

    train, val = Poisoned(torch.full((4, 1), 5.0)), torch.full((4, 1), 5.0)
    with pytest.raises(FloatingPointError, match="training loss is nan in epoch 4, step 1"):
        mm.fit(loss, train, val, Training(9, warmup=0, learning_rate=0.1), run=run)
    assert math.isfinite(loss.w.item())
    assert len(run.metrics()) == 3
    kept = Quadratic()
    run.load_weights(kept)
    assert kept.w.item() == loss.w.item()
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize("prior", ["standard", "mixture"])
@pytest.mark.parametrize("decoder", ["gaussian", "bernoulli", "logistic"])
def test_divergence_is_told_as_such_whatever_is_sampled(prior, decoder):
    torch.manual_seed(0)
    make = {
        "gaussian": lambda: mm.Gaussian(mm.MLP(2, 6, (8,))),
        "bernoulli": lambda: mm.Bernoulli(mm.MLP(2, 3, (8,))),
        "logistic": lambda: mm.DiscretizedLogistic(mm.MLP(2, 6, (8,)), levels=2),
    }[decoder]
    model = mm.Joint(
        mm.Gaussian(mm.MLP(3, 4, (8,))),
        make(),
        mm.StandardNormal(2) if prior == "standard" else mm.GaussianMixture(2, 3),
    )
    x = torch.bernoulli(torch.full((100, 3), 0.5))
    recipe = Training(epochs=9, warmup=0, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"loss is .* in epoch"):
        mm.fit(mm.Loss(model, mm.MIM), x, x, recipe)


def test_divergence_names_epoch_step_term_and_rows():
    x = some_data(100)
    x[37], x[5] = 1e25, -3e22
    recipe = Training(epochs=3, warmup=0, batch_size=10)
    source = mm.TensorSource(x, seed=3)
    step = 1 + source.order(1).tolist().index(37) // 10
    assert step < 1 + source.order(1).tolist().index(5) // 10, "row 37 comes first with this seed"
    with pytest.raises(FloatingPointError) as error:
        mm.fit(mm.Loss(gaussian_model(), mm.MIM), source, None, recipe)
    message = str(error.value)
    assert f"in epoch 1, step {step}: log p(x|z) on encoding samples is not finite" in message
    assert "rows with the largest |x|: 37 (1e+25)" in message


@pytest.mark.parametrize("kind", ["float64 array", "float32 array", "float64 tensor"])
def test_arrays_and_other_precisions_are_taken_as_the_model_needs_them(kind):
    x = some_data()
    other = {
        "float64 array": x.double().numpy(),
        "float32 array": x.numpy(),
        "float64 tensor": x.double(),
    }[kind]
    losses = []
    for data in (x, other):
        loss = mm.Loss(gaussian_model(), mm.MIM)
        losses.append(mm.fit(loss, data, data, Training(2, warmup=0)).epochs)
    assert losses[0] == losses[1]


def test_bytes_are_trained_on_as_the_values_they_stand_for():
    levels = torch.randint(256, (60, 3), generator=torch.Generator().manual_seed(1))
    levels = levels.to(torch.uint8)
    values, results = levels.float().div_(255), []
    for data in (values, levels, levels.numpy()):
        loss = mm.Loss(gaussian_model(), mm.MIM)
        results.append(mm.fit(loss, data, data, Training(2, batch_size=20, warmup=0)).epochs)
    assert results[0] == results[1] == results[2]


def test_an_exception_leaves_the_best_weights_and_evaluation_mode():
    class Breaking(mm.TensorSource):
        def batches(self, batch_size, epoch):
            if epoch == 8:
                raise RuntimeError("no more data")
            yield from super().batches(batch_size, epoch)

    train, val = Breaking(torch.full((4, 1), 10.0)), torch.full((4, 1), 0.3)
    loss = Quadratic()
    with pytest.raises(RuntimeError, match="no more data"):
        mm.fit(loss, train, val, Training(epochs=20, warmup=0, learning_rate=0.1, patience=20))
    # Steps of 0.1 towards 10: the third is the nearest to 0.3.
    assert loss.w.item() == pytest.approx(0.3, abs=0.01)
    assert not loss.training


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_ends_near_training_on_the_processor():
    from lightning_fabric import Fabric

    losses = []
    for accelerator in ("cpu", "cuda"):
        loss = mm.Loss(gaussian_model(), mm.VAE)
        fabric = Fabric(accelerator=accelerator, devices=1)
        recipe = Training(epochs=40, warmup=2, patience=40)
        history = mm.fit(loss, some_data(2000), some_data(2000), recipe, fabric=fabric)
        losses.append(history.epochs[-1].val_loss)
    # Other noise, same optimum: one-sample losses vary by about 2 nats over 2,000 rows.
    assert losses[0] == pytest.approx(losses[1], abs=5 * 2 / math.sqrt(2000) * math.sqrt(2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_source_anywhere_serves_a_model_on_a_gpu(device):
    x = torch.rand(40, 3)
    loss = mm.Loss(gaussian_model(), mm.MIM)
    source = mm.Binarized(mm.TensorSource(x.to(device)))
    mm.fit(loss, source, x, Training(epochs=2, batch_size=8, warmup=0), progress=False)
    assert next(loss.parameters()).is_cuda


def test_a_fabric_of_the_users_own_gives_the_same_run_to_the_bit():
    from lightning_fabric import Fabric

    losses = []
    for fabric in (None, Fabric(accelerator="cpu", devices=1)):
        loss = mm.Loss(gaussian_model(), mm.MIM)
        recipe = Training(epochs=3, warmup=2)
        history = mm.fit(loss, some_data(), some_data(50), recipe, fabric=fabric)
        losses.append([(e.train_loss, e.val_loss) for e in history.epochs])
    assert losses[0] == losses[1]


def test_mixed_precision_trains_near_full_precision():
    from lightning_fabric import Fabric

    losses = []
    for precision in ("32-true", "bf16-mixed"):
        loss = mm.Loss(gaussian_model(), mm.VAE)
        fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
        recipe = Training(epochs=10, warmup=2)
        history = mm.fit(loss, some_data(), some_data(), recipe, fabric=fabric)
        losses.append(history.epochs[-1].val_loss)
        assert {p.dtype for p in loss.parameters()} == {torch.float32}
    # bfloat16 keeps 8 bits: networks' outputs are off by up to 1 %, a loss of about 4.5 nats by
    # a few hundredths.
    assert losses[0] == pytest.approx(losses[1], abs=0.1)


def test_mixed_precision_of_the_recipe_is_that_of_a_fabric_to_the_bit():
    from lightning_fabric import Fabric

    results = []
    for fabric, precision in (
        (Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"), "full"),
        (None, "bf16-mixed"),
        (None, "full"),
    ):
        loss = mm.Loss(gaussian_model(), mm.VAE)
        recipe = Training(epochs=3, warmup=2, precision=precision)
        results.append(mm.fit(loss, some_data(), some_data(), recipe, fabric=fabric).epochs)
        assert {p.dtype for p in loss.parameters()} == {torch.float32}
    assert results[0] == results[1] != results[2]


def test_a_precision_that_contradicts_the_weights_or_the_fabric_is_refused():
    from lightning_fabric import Fabric

    recipe = Training(epochs=1, warmup=0, precision="bf16-mixed")
    double = mm.Loss(gaussian_model(dtype=torch.float64), mm.VAE)
    with pytest.raises(ValueError, match="needs weights of float32, got float64"):
        mm.fit(double, some_data(dtype=torch.float64), None, recipe)
    fabric = Fabric(accelerator="cpu", devices=1)
    with pytest.raises(ValueError, match="is given, which sets the precision; got 'bf16-mixed'"):
        mm.fit(mm.Loss(gaussian_model(), mm.VAE), some_data(), None, recipe, fabric=fabric)


@pytest.mark.parametrize(
    "make",
    [
        lambda: mm.conv_hvae((1, 8, 8), torch.rand(5, 1, 8, 8), hidden=32, channels=8),
        lambda: mm.pixel_hvae((1, 8, 8), hidden=32, channels=8, layers=3),
    ],
    ids=["conv", "pixel"],
)
def test_image_models_of_mixed_precision_have_losses_near_those_of_full_precision(make):
    torch.manual_seed(0)
    loss, x = mm.Loss(make(), mm.A_MIM), torch.rand(200, 1, 8, 8).round()
    rows = []
    for precision in ("full", "bf16-mixed"):
        again = copy.deepcopy(loss)
        recipe = Training(1, batch_size=200, warmup=0, learning_rate=1e-12, precision=precision)
        rows.append(mm.fit(again, x, x, recipe).epochs[0])
    # 64 pixels whose logits are off by 1/256 of numbers of about 1, with signs that cancel in the
    # mean over 200 images.
    assert rows[0].val_loss == pytest.approx(rows[1].val_loss, abs=0.1)
    assert rows[0].train_loss == pytest.approx(rows[1].train_loss, abs=0.1)
    assert rows[0] != rows[1]


@pytest.mark.parametrize(
    "decoder",
    [
        lambda: mm.Gaussian(mm.MLP(2, 2 * 784, (16,))),
        lambda: mm.Bernoulli(mm.MLP(2, 784, (16,))),
        lambda: mm.DiscretizedLogistic(mm.MLP(2, 2 * 784, (16,))),
    ],
)
def test_under_mixed_precision_densities_are_of_single_precision(decoder):
    torch.manual_seed(0)
    part = decoder()
    with torch.autocast("cpu", torch.bfloat16):
        distribution = part(torch.randn(5, 2))
        drawn = distribution.sample()
        log_prob = distribution.log_prob(drawn)
    assert drawn.dtype == log_prob.dtype == torch.float32
    # The same density without autocast: rounding it to 8 bits over 784 pixels would show.
    torch.testing.assert_close(distribution.log_prob(drawn), log_prob, rtol=1e-6, atol=1e-4)


DISTRIBUTED = """
import json, sys, torch, mimachine as mm
from lightning_fabric import Fabric

fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
fabric.launch()
torch.manual_seed(0)
model = mm.Joint(
    mm.Gaussian(mm.MLP(3, 4, (16,))), mm.Gaussian(mm.MLP(2, 6, (16,)), 0.1), mm.StandardNormal(2)
)
x = torch.randn(256, 3, generator=torch.Generator().manual_seed(1))
recipe = mm.Training(epochs=5, batch_size=32, warmup=1)
run = mm.Run.create(sys.argv[1] + "/run", {}) if fabric.is_global_zero else None
history = mm.fit(mm.Loss(model, mm.MIM), x, x, recipe, fabric=fabric, run=run)
result = {
    "weights": [float(p.double().sum()) for p in model.parameters()],
    "val": [e.val_loss for e in history.epochs],
    "best": history.best_epoch,
}
open(f"{sys.argv[1]}/{fabric.global_rank}.json", "w").write(json.dumps(result))
fabric.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    (tmp_path / "script.py").write_text(DISTRIBUTED)
    # The exit code says nothing: gloo can abort at interpreter exit after all work is done.
    subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(tmp_path)],
        check=False,
        capture_output=True,
        timeout=300,
    )
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert len(mm.Run(tmp_path / "run").metrics()) == 5
    assert first["val"][-1] < first["val"][0]
