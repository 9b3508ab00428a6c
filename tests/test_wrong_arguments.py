"""Arguments of the wrong kind or an impossible size are refused by the name of the argument."""

import math

import pytest
import torch
from torch import nn

import mimachine as mm
from mimachine import workflow
from mimachine.reporting import comparison

HUGE = 10**30
X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
NORMAL = mm.DiagNormal(torch.zeros(12, 2), torch.ones(12, 2))
PRIOR = mm.DiagNormal(torch.zeros(2), torch.ones(2))
RECIPE = mm.Training(epochs=1, batch_size=6, warmup=0)
LOG_PROBS = mm.LogProbs(*torch.zeros(4, 3))
REPORT = mm.Report((), "healthy", "")


def model(data_prior=None):
    encoder, decoder = mm.Gaussian(mm.MLP(3, 4, (5,))), mm.Gaussian(mm.MLP(2, 6, (5,)))
    return mm.Joint(encoder, decoder, mm.StandardNormal(2), data_prior)


def shared():
    before = model()
    return before, mm.Joint(before.encoder, before.decoder, mm.LearnedNormal(2))


MODEL, EXPLICIT = model(), model(mm.StandardNormal(3))
BEFORE, AFTER = shared()
LOSS = mm.Loss(MODEL, mm.MIM)
SOURCE = mm.TensorSource(X.sigmoid())
# Functions with valid arguments, some of which the tests replace.
VALID = {
    mm.Bound: {"module": mm.MLP(3, 4)},
    mm.MLP: {"in_features": 3, "out_features": 2, "hidden": (4,), "activation": nn.Tanh},
    mm.MaskedConv2d: {"in_channels": 1, "out_channels": 1, "centre": True},
    mm.PixelCNN: {"channels": 1, "condition_channels": 1, "pixels": mm.BinaryPixels(), "width": 2},
    mm.pixel_hvae: {"shape": (1, 8, 8), "hidden": 2, "channels": 2, "latent_maps": "earlier"},
    mm.hvae: {"shape": (1, 8, 8), "pseudo_inputs": None, "constraint": None, "hidden": 2},
    mm.flattened: {"model": mm.dense_vae((1, 8, 8), latents=2, hidden=2), "shape": (1, 8, 8)},
    mm.VampPrior: {"encoder": MODEL.encoder, "pseudo_inputs": X, "constraint": None},
    mm.GaussianMixture: {"features": 2, "components": 2},
    mm.StandardNormal: {"shape": 2},
    mm.DiagNormal: {"loc": torch.zeros(2), "scale": torch.ones(2), "event_dims": 1},
    mm.Mixture: {"logits": torch.zeros(12), "components": NORMAL},
    mm.Chain: {"first": PRIOR, "second": lambda a: PRIOR, "second_size": 2},
    mm.ChainConditional: {"first": nn.Identity(), "second": nn.Identity(), "second_size": 2},
    mm.ChainPrior: {"first": nn.Identity(), "second": nn.Identity(), "second_size": 2},
    mm.draw: {"distribution": PRIOR, "shape": ()},
    mm.Objective: {"loss": mm.mim, "sampling": "mixture", "regulariser": None, "family": None},
    mm.MIM: {"lp": LOG_PROBS, "beta": 1.0, "terms": None, "at_anchors": None},
    mm.mim: {"lp": LOG_PROBS, "beta": 1.0},
    mm.vae: {"lp": LOG_PROBS, "beta": 1.0},
    mm.cross_entropy: {"lp": LOG_PROBS, "beta": 1.0},
    mm.Ensemble: {"losses": [LOSS, LOSS]},
    LOSS: {"x": X, "annealing": 1.0},
    mm.fit: {"loss": LOSS, "train": X, "training": RECIPE, "fabric": None, "run": None},
    mm.TensorSource: {"data": X, "seed": 0, "shuffle": True, "dtype": None},
    mm.Versions: {"versions": X[None], "seed": 0},
    mm.Binarized: {"source": SOURCE, "seed": 0},
    mm.FreshDraws: {"distribution": PRIOR, "num_data": 3, "seed": 0},
    mm.log_likelihood: {"model": MODEL, "x": X, "num_samples": 2, "proposal": None, "fabric": None},
    mm.mean_log_likelihood: {"model": MODEL, "x": X, "num_samples": 4, "few_samples": 2},
    mm.annealed_log_likelihood: {"model": MODEL, "x": X, "num_chains": 2, "num_steps": 2},
    mm.bidirectional_check: {"model": MODEL, "num_data": 2, "num_chains": 2, "num_steps": 2},
    mm.quadrature_log_likelihood: {"model": MODEL, "x": X[:1], "tolerance": 1.0},
    mm.compare_priors: {"before": BEFORE, "after": AFTER, "x": X, "num_samples": 2, "seed": 0},
    mm.refit_prior: {"model": MODEL, "train": X, "components": 2, "training": None, "fabric": None},
    mm.refit_proposal: {"model": MODEL, "train": X, "start": None, "training": RECIPE},
    mm.DefensiveProposal: {"model": MODEL, "widths": (1.0,)},
    mm.decompose: {"model": MODEL, "x": X, "anchor": None, "data_distribution": None},
    mm.geometric_mean_log_normaliser: {"model": EXPLICIT, "num_samples": 2, "seed": 0},
    mm.information_bounds: {"model": MODEL, "x": X, "num_samples": 1, "batch_size": None},
    mm.bounds_from_conditionals: {"conditionals": [NORMAL], "prior": None, "seed": 0},
    mm.codes: {"model": MODEL, "x": X, "batch_size": None, "seed": 0},
    mm.diagnose_codes: {"mean": X, "std": X.exp(), "floor": 0.0, "information": None},
    mm.mutual_information: {"x": X, "z": X, "k": 2, "standardize": True},
    mm.two_sample_auc: {"x": X, "y": X + 1, "standardize": True},
    mm.energy_distance: {"x": X, "y": X + 1, "standardize": True},
    mm.ksg_calibration: {"x_dim": 1, "z_dim": 1, "num_data": 9, "information": (0.0,), "k": 2},
    mm.probabilistic_pca: {"x": X, "latent": 2},
    mm.knn_accuracy: {"train": X, "train_labels": [1] * 12, "test": X, "test_labels": [1] * 12},
    mm.markdown_table: {"reports": {"a": REPORT}, "metrics": ()},
    mm.latex_table: {"reports": {"a": REPORT}, "metrics": ()},
    mm.published_image_training: {"objective": "mim"},
    mm.published_binarisation: {"data": mm.Dataset("a", X, X.sigmoid(), X.sigmoid())},
    mm.evaluate: {"model": MODEL, "data": mm.Dataset("a", X, X, X), "num_samples": 2},
    workflow.sample: {"model": MODEL, "count": 2, "seed": 0},
}
# Arguments that are objects, functions or paths.
OBJECTS = {
    mm.Bound: ["module"],
    mm.MLP: ["activation"],
    mm.MaskedConv2d: ["centre"],
    mm.PixelCNN: ["pixels"],
    mm.pixel_hvae: ["pixels", "latent_maps"],
    mm.hvae: ["pseudo_inputs", "constraint"],
    mm.flattened: ["model", "shape"],
    mm.VampPrior: ["encoder", "pseudo_inputs", "constraint"],
    mm.DiagNormal: ["loc", "scale"],
    mm.Mixture: ["logits", "components"],
    mm.Chain: ["first", "second"],
    mm.ChainConditional: ["first", "second"],
    mm.ChainPrior: ["first", "second"],
    mm.draw: ["distribution"],
    mm.Objective: ["loss", "regulariser", "family"],
    mm.MIM: ["lp", "terms", "at_anchors"],
    mm.mim: ["lp"],
    mm.vae: ["lp"],
    mm.cross_entropy: ["lp"],
    mm.Ensemble: ["losses"],
    LOSS: ["x"],
    mm.fit: ["loss", "train", "training", "fabric", "run"],
    mm.TensorSource: ["data", "shuffle", "dtype"],
    mm.Versions: ["versions"],
    mm.Binarized: ["source"],
    mm.FreshDraws: ["distribution"],
    mm.log_likelihood: ["model", "x", "proposal", "fabric"],
    mm.mean_log_likelihood: ["model", "x", "proposal", "fabric"],
    mm.annealed_log_likelihood: ["model", "x", "start"],
    mm.bidirectional_check: ["model", "start"],
    mm.quadrature_log_likelihood: ["model", "x"],
    mm.compare_priors: ["before", "after", "x", "proposal"],
    mm.refit_prior: ["model", "train", "training", "fabric"],
    mm.refit_proposal: ["model", "train", "start", "training", "fabric"],
    mm.DefensiveProposal: ["model", "widths"],
    mm.decompose: ["model", "x", "anchor", "data_distribution"],
    mm.geometric_mean_log_normaliser: ["model"],
    mm.information_bounds: ["model", "x"],
    mm.bounds_from_conditionals: ["conditionals", "prior"],
    mm.codes: ["model", "x"],
    mm.mutual_information: ["x", "standardize"],
    mm.two_sample_auc: ["x", "y", "standardize"],
    mm.energy_distance: ["x", "y", "standardize"],
    mm.ksg_calibration: ["information"],
    mm.markdown_table: ["reports"],
    mm.latex_table: ["reports"],
    mm.published_image_training: ["objective"],
    mm.published_binarisation: ["data"],
    mm.evaluate: ["model", "data"],
    workflow.sample: ["model"],
}
# Whole numbers, which must not be larger than any machine can hold, and real numbers and seeds.
SIZES = {
    mm.MLP: ["in_features", "out_features", "hidden"],
    mm.MaskedConv2d: ["in_channels", "out_channels"],
    mm.PixelCNN: ["channels", "condition_channels", "width", "layers"],
    mm.pixel_hvae: ["hidden", "channels", "layers"],
    mm.hvae: ["hidden"],
    mm.GaussianMixture: ["features", "components"],
    mm.StandardNormal: ["shape"],
    mm.DiagNormal: ["event_dims"],
    mm.Chain: ["second_size"],
    mm.FreshDraws: ["num_data"],
    mm.log_likelihood: ["num_samples", "chunk_size"],
    mm.mean_log_likelihood: ["num_samples", "few_samples", "chunk_size"],
    mm.annealed_log_likelihood: ["num_chains", "num_steps", "num_leapfrog", "chunk_size"],
    mm.bidirectional_check: ["num_data", "num_chains", "num_steps", "num_leapfrog"],
    mm.quadrature_log_likelihood: ["most_evaluations"],
    mm.compare_priors: ["num_samples"],
    mm.refit_prior: ["components"],
    mm.refit_proposal: ["num_samples"],
    mm.decompose: ["num_samples", "chunk_size"],
    mm.geometric_mean_log_normaliser: ["num_samples", "chunk_size"],
    mm.information_bounds: ["num_samples", "num_queries", "batch_size"],
    mm.codes: ["batch_size"],
    mm.mutual_information: ["k"],
    mm.two_sample_auc: ["most"],
    mm.probabilistic_pca: ["latent"],
    mm.ksg_calibration: ["x_dim", "z_dim", "num_data", "num_draws", "k"],
    mm.knn_accuracy: ["k"],
    mm.evaluate: ["num_samples"],
    workflow.sample: ["count"],
}
NUMBERS = {
    **SIZES,
    mm.DiagNormal: ["event_dims"],
    mm.ChainPrior: ["second_size"],
    mm.ChainConditional: ["second_size"],
    mm.draw: ["shape"],
    mm.MIM: ["beta"],
    mm.mim: ["beta"],
    LOSS: ["annealing"],
    mm.fit: ["checkpoint_seconds", "progress"],
    mm.TensorSource: ["seed"],
    mm.Versions: ["seed"],
    mm.Binarized: ["seed"],
    mm.log_likelihood: ["num_samples", "seed"],
    mm.compare_priors: ["seed"],
    mm.geometric_mean_log_normaliser: ["seed"],
    mm.bounds_from_conditionals: ["seed"],
    mm.codes: ["seed"],
    mm.diagnose_codes: ["floor", "share_at_floor", "information"],
    workflow.sample: ["count", "seed"],
}


def cases(arguments):
    return [
        pytest.param(called, name, id=f"{getattr(called, '__name__', 'object')}-{name}")
        for called, names in arguments.items()
        for name in names
    ]


def refused(called, name, value):
    """The message by which a value is refused."""
    with pytest.raises((TypeError, ValueError)) as caught:
        called(**{**VALID[called], name: value})
    # Not by Python or torch, and not further inside.
    text = str(caught.value)
    assert name in text, text
    assert "got" in text, text
    return text


@pytest.mark.parametrize(("called", "name"), cases(OBJECTS))
def test_an_object_of_the_wrong_kind_is_refused_by_its_argument(called, name):
    for value in ("x", 3, object(), [object()]):
        text = refused(called, name, value)
        assert "object at 0x" not in text or len(text) < 200
    if VALID[called].get(name) is not None:
        refused(called, name, None)


@pytest.mark.parametrize(("called", "name"), cases(SIZES))
def test_an_impossible_size_is_refused_by_its_argument(called, name):
    assert str(HUGE) in refused(called, name, HUGE)


@pytest.mark.parametrize(("called", "name"), cases(NUMBERS))
def test_what_is_no_number_is_refused_by_its_argument(called, name):
    for value in ("x", object()):
        refused(called, name, value)


def test_a_number_of_more_digits_than_python_writes_is_refused():
    assert "a number of 16,610 bits" in refused(mm.evaluate, "num_samples", 10**5000)
    with pytest.raises(ValueError, match="floor must be a finite number, 0 or more, got"):
        mm.LearnedNormal(2, floor=10**5000)


def test_arguments_that_may_stand_for_everything_at_once_may_be_large():
    most = 2**63 - 1
    mm.codes(MODEL, X, batch_size=most)
    mm.log_likelihood(MODEL, X, 2, chunk_size=most)
    recipe = mm.Training(epochs=1, batch_size=most, patience=most, warmup=0)
    mm.fit(mm.Loss(model(), mm.MIM), X, X, recipe, checkpoint_seconds=math.inf)
    assert mm.codes(MODEL, X, seed=HUGE).mean.shape == (12, 2)
    assert mm.diagnose(X, X[:, :2], seed=HUGE).verdict == mm.diagnose(X, X[:, :2]).verdict


@pytest.mark.parametrize("name", ["epochs", "batch_size", "patience", "warmup"])
def test_an_impossible_size_in_a_recipe_is_refused_by_its_setting(name):
    with pytest.raises(ValueError, match=rf"{name}.* must be \d+ or less, got {HUGE}"):
        mm.Training(**{name: HUGE})


@pytest.mark.parametrize("path", ["", None, 3, b"run"])
def test_what_is_no_path_is_refused_by_its_argument(path, tmp_path):
    calls = {
        "path": [mm.load, mm.Run, workflow.resume, comparison.resume, workflow.open_model],
        "out": [lambda out: mm.train("digits", out), lambda out: comparison.compare({}, out)],
    }
    for name, functions in calls.items():
        for each in functions:
            with pytest.raises((TypeError, ValueError), match=f"{name} must be a path, got"):
                each(path)
    if path is not None:
        with pytest.raises((TypeError, ValueError), match="data must be a path, got"):
            mm.load(tmp_path, path)


def test_rows_that_do_not_fit_into_memory_are_refused_before_they_are_drawn():
    wide = mm.Joint(MODEL.encoder, MODEL.decoder, mm.StandardNormal((1000, 1000)))
    with pytest.raises(ValueError, match=r"2,000,000,000 rows of 1,000,000 values takes .* use"):
        workflow.sample(wide, 2 * 10**9)
