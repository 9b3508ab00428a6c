import math
from dataclasses import replace

import pytest
import torch
from localdata import HERE

import mimachine as mm
from mimachine import workflow
from mimachine.data.image_sets import fashion_mnist
from mimachine.experiment.build import build
from mimachine.experiment.presets import default, published
from mimachine.experiment.settings import Data, Model
from mimachine.model.objectives import OBJECTIVES
from mimachine.reporting import figures
from mimachine.training.recipe import Training
from mimachine.workflow.fitted_prior import fit_prior

pytestmark = pytest.mark.usefixtures("few_trees")


def quick(data="mixture-2d", objective="mim", **model):
    settings = default(data, objective)
    small = {"latent": 2, "hidden": (8,), "components": 5, **model}
    return replace(
        settings,
        model=replace(settings.model, **small),
        training=Training(epochs=2, warmup=1),
        num_samples=2,
    )


def test_a_run_is_loaded_with_the_same_model(tmp_path, small_sets):
    trained, history, report = workflow.train(quick(), tmp_path / "run")
    opened = workflow.open_run(tmp_path / "run")
    assert opened.experiment == trained.experiment
    for a, b in zip(
        trained.model.state_dict().values(), opened.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    assert workflow.measure(opened, num_samples=2) == report
    assert len(history.epochs) == len(opened.run.metrics()) == 2


def test_runs_with_the_same_seed_write_the_same_files(tmp_path, small_sets):
    for name in ("a", "b"):
        workflow.train(quick("digits"), tmp_path / name)
    for file in ("experiment.json", "model.safetensors", "report.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize(
    "prior",
    [
        "standard-normal",
        "learned-normal",
        "gaussian-mixture",
        "full-gaussian-mixture",
        "vampprior",
    ],
)
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "discretized-logistic"])
def test_every_prior_goes_with_every_likelihood(prior, likelihood, tmp_path, small_sets):
    settings = quick("digits", prior=prior, likelihood=likelihood)
    trained, _, report = workflow.train(settings, tmp_path / "run")
    workflow.open_run(tmp_path / "run")
    drawn = workflow.sample(trained.model, 3)
    assert drawn.x.shape == drawn.mean.shape == (3, 64)
    assert report.has("negative_log_likelihood")


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_trains(objective, tmp_path, small_sets):
    _, history, _ = workflow.train(quick(objective=objective), tmp_path / "run")
    assert len(history.epochs) == 2


def test_the_bernoulli_likelihood_binarises_test_data_once_and_training_data_anew():
    settings = quick("digits", likelihood="bernoulli")
    data = workflow.prepare(settings)
    assert set(data.test.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(data.test, workflow.prepare(settings).test)
    train, _ = workflow.sources(settings, data)
    first, second = (next(train.batches(2000, epoch)) for epoch in (1, 2))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first.sum(0), second.sum(0))


@pytest.mark.parametrize("name", {"fashion-mnist"} & {*HERE})
def test_images_of_256_levels_are_stored_as_bytes_and_binarised_as_floats_are(name):
    settings, grey = quick(name, likelihood="bernoulli"), fashion_mnist().train
    train, _ = workflow.sources(settings, workflow.prepare(settings))
    seed = settings.training.seed
    before = mm.Binarized(mm.TensorSource(grey, seed), seed)
    for _, a, b in zip(range(3), train.batches(100, 2), before.batches(100, 2), strict=False):
        assert torch.equal(a, b)
    assert train.source.data.nbytes == 50_000 * 784


def test_fresh_data_come_in_whole_batches_and_change_by_the_epoch():
    settings = published("mixture-2d")
    train, val = workflow.sources(settings, workflow.prepare(settings))
    for source in (train, val):
        batches = list(source.batches(128, 1))
        assert [len(b) for b in batches] == [128] * 78
        assert not torch.equal(batches[0], next(source.batches(128, 2)))
    assert not torch.equal(next(train.batches(128, 1)), next(val.batches(128, 1)))


def test_the_gaussian_floor_follows_the_data():
    grid = build(quick("digits", likelihood="gaussian"), workflow.prepare(quick("digits")))
    # Standard deviation of a uniform distribution over one of 16 grid steps.
    assert float(grid.decoder.floor) == pytest.approx(1 / 16 / 12**0.5)
    data = workflow.prepare(quick())
    free = build(quick(), data)
    torch.testing.assert_close(free.decoder.floor, 1e-3 * data.train.std(0))
    assert float(free.encoder.floor) == pytest.approx(1e-3)
    vamp = build(quick(prior="vampprior"), data)
    assert float(vamp.encoder.floor) == pytest.approx(0.05)
    given = build(quick(decoder_floor=0.5), data)
    assert float(given.decoder.floor) == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (quick(likelihood="bernoulli"), r'"bernoulli" needs grey levels in \[0, 1\]'),
        (quick(likelihood="discretized-logistic"), "needs grey levels"),
        (quick(objective="mimm"), "objective must be one of .* did you mean 'mim'"),
        (replace(quick(), data=Data("digts")), "did you mean 'digits'"),
        (quick("digits", prior="vampprior", components=5000), "components must be at most 1257"),
        (replace(quick("digits"), data=replace(default("digits").data, fresh=True)), "is known"),
        (quick("digits", "symmetric-kl"), r"symmetric-kl needs data whose P\(x\) is known"),
        (quick("digits", "mim-h-true"), r"mim-h-true needs data whose P\(x\) is known"),
    ],
)
def test_invalid_settings_are_rejected_before_anything_is_written(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        workflow.train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_samples_and_reconstructions_are_reproducible():
    settings = quick("digits")
    model = build(settings, workflow.prepare(settings))
    before = torch.get_rng_state()
    first, again, other = (workflow.sample(model, 4, seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)
    x = torch.rand(5, 64)
    assert workflow.reconstruct(model, x).mean.shape == x.shape
    with pytest.raises(ValueError, match="1 or more, got 0"):
        workflow.sample(model, 0)


def test_figures_of_every_kind_of_data(tmp_path):
    digits = quick("digits")
    data = workflow.prepare(digits)
    models = {name: build(digits, data) for name in ("mim", "vae")}
    pictures = [figures.image_reconstructions(models, data)]
    drawn = {name: workflow.sample(model, 10).mean for name, model in models.items()}
    pictures.append(figures.image_samples(drawn, data))
    plane = workflow.prepare(quick())
    model = build(quick(), plane)
    pictures.append(
        figures.plane({"mim": (model, mm.evaluate(model, plane, num_samples=1).values)}, plane)
    )
    records = [
        {"epoch": e, "beta": 1.0, "train_loss": 3.0 / e, "val_loss": 4.0 / e} for e in (1, 2, 3)
    ]
    pictures.append(figures.loss_curves({"mim": records}))
    for index, picture in enumerate(pictures):
        picture.savefig(tmp_path / f"{index}.png")
        assert (tmp_path / f"{index}.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="does not consist of images"):
        figures.image_samples(drawn, plane)


def test_default_model_settings_are_those_of_the_dataclass():
    assert default("digits").model == Model(encoder_floor=0.1)


def test_a_trained_run_has_a_prior_fitted_to_its_codes(tmp_path, small_sets):
    trained, _, report = workflow.train(quick(objective="a-mim"), tmp_path / "run")
    names = [metric.name for metric in report.metrics if metric.name.startswith("fitted_prior")]
    assert names == [
        "fitted_prior_negative_log_likelihood",
        "fitted_prior_generated_auc",
        "fitted_prior_generated_energy_distance",
    ]
    # As of the run that `refit` makes, but from other codes and other samples.
    fitted = workflow.refit(tmp_path / "run", tmp_path / "fitted", num_samples=2)
    assert fitted.report_before.values.keys() == report.values.keys()
    for each in names[1:]:
        one, other = report[each], fitted.report_after[each.removeprefix("fitted_prior_")]
        error = math.hypot(one.standard_error, other.standard_error)
        assert abs(one.value - other.value) < 5 * error
    # Stored with the run: the same prior, and the weights of the model are not changed by it.
    again = mm.load(tmp_path / "run")
    assert again.generator.encoder is again.model.encoder
    z = again.generator.prior().sample((5,))
    assert torch.equal(again.generator.prior().log_prob(z), trained.generator.prior().log_prob(z))
    assert again.report.values == report.values
    # It is as likely as data: codes of test rows are nearer to it than to N(0, I).
    codes = mm.codes(again.model, again.data.test).sample
    gain = again.generator.prior().log_prob(codes) - again.model.prior().log_prob(codes)
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    # A run that was made by fitting a prior has no other.
    assert fitted.after.generator is fitted.after.model


def test_a_run_whose_codes_are_constant_has_no_fitted_prior(tmp_path, small_sets):
    trained, *_ = workflow.train(quick(objective="a-mim"), tmp_path / "run")
    (tmp_path / "run" / "fitted_prior.safetensors").unlink()
    with torch.no_grad():
        trained.model.encoder.network[-1].weight.zero_()
        trained.model.encoder.floor.zero_()
        trained.model.encoder.network[-1].bias.fill_(-1e3)
    fit_prior(trained)
    assert not trained.run.has_fitted_prior


@pytest.mark.parametrize("damage", ["cut", "other", "wrong size"])
def test_a_damaged_fitted_prior_is_an_error_that_names_its_file(tmp_path, small_sets, damage):
    workflow.train(quick(objective="a-mim"), tmp_path / "run")
    file = tmp_path / "run" / "fitted_prior.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    elif damage == "other":
        file.write_bytes((tmp_path / "run" / "model.safetensors").read_bytes())
    else:
        mm.load(tmp_path / "run").run.save_fitted_prior(mm.FullGaussianMixture(3, 2))
    loaded = mm.load(tmp_path / "run")
    with pytest.raises(ValueError, match="fitted"):
        _ = loaded.generator
