"""Each tip, in a case where it is given and in a case where it is not."""

import numpy as np
import pytest
import torch

from mimachine.data.dataset import Dataset
from mimachine.evaluation.metric import Metric, Report
from mimachine.experiment.settings import Data, Experiment, Model
from mimachine.reporting.explained import Explained
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.run_advice import tips
from mimachine.training.recipe import Training
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained

LATENT_2 = Model(latent=2)


class Advice:
    """Tips for an outcome that is ordinary except for the arguments."""

    def __init__(self, directory):
        (directory / "report.json").write_text("{}")
        self.run = Run(directory)

    def __call__(
        self,
        *,
        objective="mim",
        verdict="healthy",
        model=LATENT_2,
        active=2,
        losses=(1.0, 0.5, 0.8),
        shares=(0.95,) * 8,
        rank=8,
        off=0.0,
        rows=1000,
        reasons=(),
        compared=False,
        **data,
    ):
        # With rank 8 all directions are equal: two principal components explain a quarter.
        x = torch.randn(rows, rank) @ torch.eye(8)[:rank] + 1e-3 * torch.randn(rows, 8)
        settings = Experiment(Data("digits"), model, objective, Training(epochs=3, warmup=0))
        records = [
            {"epoch": i, "beta": 1.0, "learning_rate": 1e-3, "train_loss": loss, "val_loss": loss}
            for i, loss in enumerate(losses, 1)
        ]
        metric = Metric("active_units", float(active), "", "", "mean", reasons=reasons)
        trained = Trained(self.run, settings, Dataset("digits", x, x, x, **data), None)
        outcome = Outcome("name", trained, Report((metric,), verdict, ""), records, {})
        variance = x.double().var(0, correction=0)
        error = (1 - np.array(shares)) * variance.numpy()
        outcome.__dict__["explained"] = Explained(error, variance.numpy())
        # An offset along one axis, in units of the total standard deviation.
        outcome.__dict__["samples"] = x + off * variance.sum().sqrt().float() * torch.eye(8)[0]
        return " ".join(tips(outcome, compared))


@pytest.fixture
def advice(tmp_path):
    return Advice(tmp_path)


POOR = (0.6,) * 8


def test_a_healthy_run_has_no_problems(advice):
    assert advice() == (
        "No problems found. To check whether another objective does better on this data set: "
        "mimachine compare digits --model.latent 2 --model.encoder-floor None --training.epochs 3 "
        "--training.learning-rate 0.001 --training.schedule None --training.warmup.epochs 0"
    )


def test_a_run_that_was_still_improving_needs_epochs_before_anything_else(advice):
    text = advice(losses=(1.0, 0.9, 0.8), shares=POOR, off=2.0, rank=2)
    assert text.startswith("Training did not converge: the loss still fell when training reached")
    assert "--training.epochs 12" in text
    assert "latents" not in text
    assert "compare" not in text
    # Stopped early at its best is not cut short.
    assert "epochs" not in advice(losses=(1.0, 0.9), shares=POOR)


def test_spikes_and_rising_losses_call_for_a_smaller_rate(advice):
    falling = [1 / e for e in range(1, 30)]
    text = advice(losses=(*falling, 5.0, *falling[::-1]), shares=POOR)
    assert "1 spikes" not in text
    assert "--training.clip-norm 1" in text
    text = advice(losses=(1.0, 1.1, 1.2))
    assert text.startswith("Training did not converge: the loss was lowest in epoch 1")
    assert "--training.learning-rate 0.0003" in text
    assert "did not converge" not in advice(losses=(1.0, 0.8, 0.9))


def test_an_interrupted_run_is_to_be_resumed(advice):
    (advice.run.path / "state.ckpt").write_bytes(b"")
    text = advice(losses=(1.0, 0.9, 0.8), shares=POOR)
    assert text == (
        "The run was interrupted; this report uses its best weights so far. "
        f"Resume it with: mimachine train --resume {advice.run.path}"
    )


@pytest.mark.parametrize("verdict", ["collapsed", "partly collapsed"])
@pytest.mark.parametrize("objective", ["vae", "vae+h", "auto-encoder"])
def test_inactive_latents_call_for_mim(advice, verdict, objective):
    assert "Train again with --objective mim." in advice(objective=objective, verdict=verdict)
    assert "--objective mim" not in advice(objective=objective)


@pytest.mark.parametrize("objective", ["mim", "a-mim", "mim-h"])
def test_no_run_is_advised_to_use_its_own_objective(advice, objective):
    text = advice(objective=objective, verdict="partly collapsed", model=Model(latent=7), active=3)
    assert f"The objective is already {objective}. 3 of 7 latents" in text
    assert "--model.latent 3" in text
    assert "--objective mim." not in text
    vamp = advice(verdict="partly collapsed", model=Model(latent=7, prior="vampprior"), active=3)
    assert "--model.prior standard-normal" in vamp
    assert "--model.latent" not in vamp
    assert "--model.encoder-floor" in vamp


def test_two_levels_of_latents_are_counted_together(advice):
    hvae = Model(latent=2, architecture="hvae")
    text = advice(verdict="partly collapsed", model=hvae, active=1)
    assert "1 of 4 latents are active, so a --model.latent below 2 would lose" in text
    text = advice(shares=POOR, model=hvae, active=4, rank=8)
    assert "All 4 latents are active" in text
    # Four in each level make as many as there are columns.
    assert "--model.latent 4" in text
    bounded = Model(latent=2, architecture="hvae", prior="vampprior")
    text = advice(verdict="collapsed", model=bounded, active=0)
    assert "--model.prior standard-normal." in text
    assert "--model.encoder-floor" not in text


def test_latents_that_are_all_active_and_explain_little_call_for_more(advice):
    text = advice(shares=POOR)
    assert "All 2 latents are active, and reconstructions explain 60% of the variance" in text
    assert "--model.latent 4" in text
    # No more than there are columns.
    assert "--model.latent 8" in advice(shares=POOR, model=Model(latent=5), active=5)
    for other in (
        {"shares": (0.81,) * 8},
        {"active": 1},
        {"model": Model(latent=8), "active": 8},
        {"model": Model(latent=2, likelihood="bernoulli"), "levels": 256},
    ):
        assert "more latents, for example" not in advice(**{"shares": POOR, **other})


def test_worse_reconstructions_than_pca_call_for_another_objective_and_not_for_latents(advice):
    # Two principal components explain all variance of data of rank two.
    text = advice(shares=POOR, rank=2)
    assert "explain 60% of the variance of the data; PCA with" in text
    assert "would explain 100%" in text
    assert "mimachine compare digits --objectives mim vae" in text
    assert "more latents, for example" not in text
    assert "--objectives vae mim" in advice(shares=POOR, rank=2, objective="vae")
    assert "PCA" not in advice(shares=(0.91,) * 8, rank=2)
    # Of eight equal directions two components explain a quarter.
    assert "PCA" not in advice(shares=(0.2,) * 8)
    assert "explain none of the variance" in advice(shares=(-0.5,) * 8, rank=2)


def test_samples_that_miss_the_data_are_reported_with_their_offset(advice):
    text = advice(off=1.5)
    assert "the mean of the samples is off by 1.5 standard deviations" in text
    assert "--objectives mim vae" in text
    assert "is off by" not in advice(off=0.45)
    assert "compare digits --objectives" not in advice(off=1.5, objective="vae")
    assert "is off by" not in advice(off=float("nan"))


def test_poorly_reconstructed_columns_are_named_the_worst_first(advice):
    shares = (0.95, 0.3, 0.95, -0.2, 0.95, 0.5, 0.95, 0.95)
    assert "less than half of the variance of 'x4' and 'x2'. Try" in advice(shares=shares)
    many = advice(shares=(0.1, 0.2, 0.3, 0.4, 0.45, 0.46, 0.47, 0.48))
    assert "of 'x1', 'x2', 'x3', 'x4', 'x5' and 3 more." in many
    assert "less than half" not in advice(shares=shares, image_shape=(1, 2, 4))
    assert "less than half" not in advice(shares=(0.5,) * 8)


def test_few_rows_make_metrics_uncertain(advice):
    text = advice(rows=499)
    assert "training set has only 499 rows" in text
    assert "--training.seed 1" in text
    assert "training set has" not in advice(rows=500)


def test_few_importance_samples_are_reported(advice):
    assert "few importance samples" in advice(reasons=("loose-bound",))
    assert "few importance samples" not in advice(reasons=("many-ties",))


@pytest.mark.parametrize("verdict", ["collapsed", "deterministic", "not known yet"])
def test_an_unhealthy_run_is_not_said_to_have_no_problems(advice, verdict):
    assert "No problems" not in advice(verdict=verdict)


def test_nan_metrics_give_no_advice(advice):
    text = advice(shares=(float("nan"),) * 8, active=float("nan"), verdict="deterministic")
    assert text == ""


def test_a_comparison_suggests_no_other_objective(advice):
    assert advice(compared=True) == ""
    assert advice(compared=True, off=1.5, shares=POOR, rank=2) == ""
    # Other tips are still given.
    assert "--model.latent 4" in advice(compared=True, shares=POOR)


@pytest.mark.parametrize(
    ("verdict", "values", "tone"),
    [
        ("healthy", {}, "good"),
        ("collapsed", {"generated_auc": 0.5}, "warning"),
        ("deterministic", {}, "plain"),
        ("deterministic", {"generated_auc": 0.99, "fitted_prior_generated_auc": 0.6}, "plain"),
        ("deterministic", {"generated_auc": 0.99, "fitted_prior_generated_auc": 0.95}, "warning"),
        ("deterministic", {"generated_auc": float("nan")}, "warning"),
    ],
)
def test_point_like_codes_are_a_warning_only_where_samples_are_poor(verdict, values, tone):
    metrics = tuple(Metric(name, value, "", "", "sample") for name, value in values.items())
    assert Outcome("name", None, Report(metrics, verdict, ""), [], {}).tone == tone
