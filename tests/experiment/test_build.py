"""Models built from settings: their parts, and settings that are rejected."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import mimachine as mm
from mimachine import workflow
from mimachine.data.bundled import digits
from mimachine.data.files.options import File
from mimachine.data.image_sets import published_binarisation
from mimachine.experiment.build import build
from mimachine.experiment.presets import default, paper_images, published, published_image_training
from mimachine.experiment.settings import IMAGE_ARCHITECTURES, Data, Experiment, Model
from mimachine.training import fit
from mimachine.training.progress import Progress
from mimachine.training.recipe import Training

pytestmark = pytest.mark.usefixtures("few_trees")

SIZES = {
    "dense-vae": {},
    "hvae": {},
    "conv-hvae": {"channels": 3},
    "pixel-hvae": {"channels": 3, "layers": 2},
}
every_architecture = pytest.mark.parametrize("architecture", IMAGE_ARCHITECTURES)


def small(architecture, data="digits", **model):
    sizes = {"latent": 2, "hidden": (6,), "components": 5, **SIZES[architecture], **model}
    return Experiment(
        Data(data), Model(architecture=architecture, **sizes), "a-mim", Training(2, warmup=1), 2
    )


@pytest.fixture
def binary(tmp_path):
    """A file of 40 images of 5 x 4 random zeros and ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (40, 5, 4)).astype(np.float32)
    np.save(tmp_path / "binary.npy", images)
    return str(tmp_path / "binary.npy")


def image_model(joint, architecture):
    """The same model built directly, for images instead of rows."""
    build = getattr(mm, architecture.replace("-", "_"))
    latents = 2 if architecture == "dense-vae" else (2, 2)
    return build((1, 8, 8), joint, latents=latents, hidden=6, **SIZES[architecture])


@every_architecture
def test_architectures_are_those_of_the_library(architecture):
    data = digits()
    built = build(small(architecture, likelihood="bernoulli"), data)
    expected = image_model(None, architecture)
    shapes = sorted(tuple(p.shape) for p in built.parameters())
    assert shapes == sorted(tuple(p.shape) for p in expected.parameters())
    assert built.encode(data.test[:3]).z.shape == (3, 2 if architecture == "dense-vae" else 4)


@pytest.mark.parametrize(
    ("likelihood", "pixels"),
    [
        ("auto", mm.GreyPixels(levels=17)),
        ("bernoulli", mm.BinaryPixels()),
        ("gaussian", mm.RealPixels()),
    ],
)
def test_pixels_follow_the_likelihood(likelihood, pixels):
    built = build(small("hvae", likelihood=likelihood), digits())
    assert built.decoder.images.decoder.pixels == pixels


def test_the_floor_of_gaussian_pixels_is_that_given():
    settings = small("conv-hvae", likelihood="gaussian", decoder_floor=0.25)
    decoder = build(settings, digits()).decoder
    for log_scale, expected in ((-9.0, 0.25), (9.0, 1.0)):
        torch.nn.init.constant_(decoder.images.decoder.heads[1].bias, log_scale)
        stddev = decoder(torch.randn(50, 4)).image.stddev
        torch.testing.assert_close(stddev, torch.full_like(stddev, expected))


def first_pseudo_inputs(architecture, settings, data):
    prior = build(settings, data).prior
    return (prior if architecture == "dense-vae" else prior.first).pseudo_inputs.detach()


@every_architecture
def test_pseudo_inputs_start_at_grey_training_images_though_training_sees_draws(architecture):
    settings = small(architecture, prior="vampprior", likelihood="bernoulli")
    data = workflow.prepare(settings)
    assert set(data.train.unique().tolist()) == {0.0, 1.0}
    grey = {tuple(row) for row in digits().train.tolist()}
    found = first_pseudo_inputs(architecture, settings, data)
    assert found.shape == (5, 1, 8, 8)
    assert {tuple(row) for row in found.flatten(1).tolist()} <= grey


def test_published_pseudo_inputs_are_the_first_images_with_noise_and_freeze_outside():
    settings = small("hvae", prior="vampprior", pseudo_inputs="published", components=500)
    data = digits()
    model = build(settings, data)
    noise = model.prior.first.pseudo_inputs.detach().flatten(1) - data.train[:500]
    # Standard errors of 32,000 numbers: 0.4 % for the standard deviation, 6e-5 for the mean.
    assert float(noise.std()) == pytest.approx(0.01, rel=0.02)
    assert abs(float(noise.mean())) < 5 * 0.01 / 32_000**0.5
    settings = replace(settings, model=replace(settings.model, components=5))
    model = build(settings, data)
    inputs = model.prior.first.pseudo_inputs
    loss = mm.Loss(model, mm.VAE)(data.test[:20]).mean()
    (gradient,) = torch.autograd.grad(loss, inputs)
    assert not gradient[(inputs < 0) | (inputs > 1)].any()
    assert gradient[(inputs > 0) & (inputs < 1)].any()


def test_colour_images_are_seen_channel_by_channel(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 5, 4, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index:02}.png")
    settings = small("conv-hvae", str(tmp_path), prior="vampprior")
    data = workflow.prepare(settings)
    found = first_pseudo_inputs("conv-hvae", settings, data)
    assert found.shape == (5, 3, 5, 4)
    pixels = (255 * found).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert {image.tobytes() for image in pixels} <= {image.tobytes() for image in images}


@every_architecture
def test_a_run_is_evaluated_applied_and_loaded_again(architecture, binary, tmp_path):
    settings = small(architecture, binary, prior="vampprior")
    trained, _, report = workflow.train(settings, tmp_path / "run")
    opened = workflow.open_run(tmp_path / "run")
    assert workflow.measure(opened, num_samples=2) == report
    assert report.has("negative_log_likelihood")
    drawn = workflow.sample(workflow.open_model(tmp_path / "run").model, 6)
    assert torch.equal(drawn.x, workflow.sample(trained.model, 6).x)
    assert set(drawn.x.unique().tolist()) <= {0.0, 1.0}
    again = workflow.reconstruct(opened.model, opened.data.test)
    assert again.x.shape == opened.data.test.shape
    if architecture == "pixel-hvae":
        assert drawn.mean is again.mean is None
        assert (drawn.shown is drawn.x, drawn.kind) == (True, "samples")
    else:
        assert (drawn.shown is drawn.mean, again.kind) == (True, "means")


@pytest.mark.parametrize("kind", ["gmm", "vamp"])
@pytest.mark.parametrize("architecture", ["dense-vae", "pixel-hvae"])
def test_a_fitted_prior_has_all_latents_and_is_loaded_again(architecture, kind, binary, tmp_path):
    settings = small(architecture, binary, prior="vampprior")
    workflow.train(settings, tmp_path / "run")
    done = workflow.refit(
        tmp_path / "run", tmp_path / "fitted", kind=kind, components=3, num_samples=2
    )
    prior = workflow.open_run(tmp_path / "fitted").model.prior()
    assert prior.log_weights.shape == (3,)
    z = torch.randn(4, settings.model.num_latents)
    torch.testing.assert_close(prior.log_prob(z), done.after.model.prior().log_prob(z))
    assert workflow.sample(workflow.open_model(tmp_path / "fitted").model, 3).x.shape == (3, 20)


class InterruptedProgress(Progress):
    """Ctrl-C in the third epoch; a thread that sends it might be late on a busy machine."""

    def update(self, epoch):
        super().update(epoch)
        if epoch.epoch == 3:
            raise KeyboardInterrupt


def test_a_resumed_run_has_the_results_of_an_uninterrupted_one(binary, tmp_path, monkeypatch):
    # The statistics of batch normalisation must be restored too.
    settings = small("pixel-hvae", binary, prior="vampprior")
    settings = replace(settings, training=Training(epochs=15, warmup=1, patience=15))
    whole, _, _ = workflow.train(settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(fit, "Progress", InterruptedProgress)
        with pytest.raises(KeyboardInterrupt):
            workflow.train(settings, tmp_path / "run", checkpoint_seconds=0)
    assert not (tmp_path / "run" / "report.json").exists()
    resumed, history, _ = workflow.resume(tmp_path / "run")
    assert len(history.epochs) == 15
    a, b = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_published_settings_draw_held_out_images_as_the_released_code_does():
    settings = published("digits", "vae", "conv-hvae")
    expected = published_binarisation(digits())
    found = workflow.prepare(settings)
    assert torch.equal(found.val, expected.val)
    assert torch.equal(found.test, expected.test)
    assert torch.equal(found.grey, digits().train)
    train, _ = workflow.sources(settings, found)
    first, second = (next(train.batches(2000, epoch)) for epoch in (1, 2))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first.sum(0), second.sum(0))
    assert settings.training == published_image_training("vae")
    assert workflow.prepare(paper_images("digits", None, "hvae")).test.equal(expected.test)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            small("hvae", "mixture-2d"),
            r"model.architecture hvae needs images.*such as image_shape=\(28, 28\)",
        ),
        (small("conv-hvae", prior="flow"), "model.prior must be standard-normal or vampprior"),
        (small("hvae", prior="learned-normal"), "for model.architecture hvae, got learned-normal"),
        (small("hvae", prior="vampprior", components=1258), "components must be at most 1257"),
        (small("hvae", decoder_floor=0.1), "must be None for discretized-logistic pixels"),
        (
            small("hvae", likelihood="gaussian", decoder_floor=1.5),
            "model.decoder_floor must be between 0 and 1, .*got 1.5",
        ),
        (
            replace(small("pixel-hvae"), objective="mim-of-means"),
            "mim-of-means decodes to means, .* pixel-hvae have no closed form: "
            "choose mim, or a-mim",
        ),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused_before_anything_is_written(
    settings, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        workflow.train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is available")
def test_cuda_graphs_without_a_gpu_leave_no_run_behind(tmp_path):
    settings = small("hvae")
    settings = replace(settings, training=replace(settings.training, cuda_graphs=True))
    for begin in (workflow.check, lambda given: workflow.train(given, tmp_path / "run")):
        with pytest.raises(ValueError, match=r"training\.cuda_graphs must be False.*got True"):
            begin(settings)
    assert not (tmp_path / "run").exists()


def test_rows_of_a_table_are_images_if_their_shape_is_given(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2, (40, 12))
    file = tmp_path / "rows.csv"
    np.savetxt(file, rows, "%d", ",", header=",".join(f"c{i}" for i in range(12)), comments="")
    settings = small("hvae", str(file))
    with pytest.raises(ValueError, match=r"rows\.csv has none"):
        workflow.check(settings)
    workflow.check(replace(settings, data=Data(str(file), file=File(image_shape=(3, 4)))))


def test_one_level_of_latents_takes_every_prior():
    for prior in ("learned-normal", "gaussian-mixture", "full-gaussian-mixture"):
        built = build(small("dense-vae", prior=prior), digits())
        assert built.prior().event_shape == (2,)
        assert mm.Loss(built, mm.MIM)(digits().test[:4]).shape == (4,)


def test_defaults_have_the_papers_sizes_and_its_likelihood_for_its_data():
    model = default("mnist", architecture="conv-hvae").model
    assert model == Model(40, (300,), "bernoulli", components=500, architecture="conv-hvae")
    assert default("digits", architecture="hvae").model.likelihood == "auto"
    assert default("mnist", architecture="hvae").training == Training(100, patience=20)


def test_by_default_there_are_no_more_pseudo_inputs_than_training_images(binary, tmp_path):
    start = default(binary, architecture="hvae")
    assert start.model.components == 28
    workflow.check(replace(start, model=replace(start.model, prior="vampprior")))
