"""Given what was measured, what is told; every tip also has a case in which it is not."""

import numpy as np
import pytest
import torch

from mimachine.data.dataset import Dataset
from mimachine.evaluation.metric import Metric, Report
from mimachine.experiment.settings import Data, Experiment, Model
from mimachine.reporting.columns import Explained
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.run_advice import tips
from mimachine.training.recipe import Training
from mimachine.training.run import Run
from mimachine.workflow.load_run import Trained

LATENT_2 = Model(latent=2)


class Told:
    """Tips for an outcome of which only what is given is out of the ordinary."""

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
        # Of rank 8 all directions are equal: two principal components keep a quarter.
        x = torch.randn(rows, rank) @ torch.eye(8)[:rank] + 1e-3 * torch.randn(rows, 8)
        settings = Experiment(Data("digits"), model, objective, Training(epochs=3, warmup=0))
        records = [{"epoch": i, "beta": 1.0, "val_loss": loss} for i, loss in enumerate(losses, 1)]
        metric = Metric("active_units", float(active), "", "", "mean", reasons=reasons)
        trained = Trained(self.run, settings, Dataset("digits", x, x, x, **data), None)
        outcome = Outcome("name", trained, Report((metric,), verdict, ""), records, {})
        variance = x.double().var(0, correction=0)
        error = (1 - np.array(shares)) * variance.numpy()
        outcome.__dict__["explained"] = Explained(error, variance.numpy())
        # Along one axis by as much as the spread of all together.
        outcome.__dict__["samples"] = x + off * variance.sum().sqrt().float() * torch.eye(8)[0]
        return " ".join(tips(outcome, compared))


@pytest.fixture
def told(tmp_path):
    return Told(tmp_path)


POOR = (0.6,) * 8


def test_a_sound_run_needs_nothing(told):
    assert told() == (
        "Nothing needs mending. To see whether another objective does better on these data: "
        "mimachine compare digits --model.latent 2 --training.epochs 3 --training.batch-size 128 "
        "--training.warmup.epochs 0 --training.patience None"
    )


def test_one_that_was_still_learning_needs_epochs_before_anything_else(told):
    text = told(losses=(1.0, 0.9, 0.8), shares=POOR, off=2.0, rank=2)
    assert text.startswith("The last epoch was the best")
    assert "--training.epochs 12" in text
    assert "latents" not in text
    assert "compare" not in text
    # Stopped early at its best is not cut short.
    assert "epochs" not in told(losses=(1.0, 0.9), shares=POOR)


def test_one_that_was_interrupted_is_to_go_on(told):
    (told.run.path / "state.ckpt").write_bytes(b"")
    text = told(losses=(1.0, 0.9, 0.8), shares=POOR)
    assert text == (
        "The run was interrupted; all here is of its best weights so far. "
        f"Go on with: mimachine train --resume {told.run.path}"
    )


@pytest.mark.parametrize("verdict", ["collapsed", "partly collapsed"])
@pytest.mark.parametrize("objective", ["vae", "vae+h", "auto-encoder"])
def test_latents_that_fall_idle_call_for_mim(told, verdict, objective):
    assert "train the same with --objective mim." in told(objective=objective, verdict=verdict)
    assert "--objective mim" not in told(objective=objective)


@pytest.mark.parametrize("objective", ["mim", "a-mim", "mim-h"])
def test_no_run_is_told_to_take_the_objective_that_it_has(told, objective):
    text = told(objective=objective, verdict="partly collapsed", model=Model(latent=7), active=3)
    assert f"The objective is {objective} already: 3 of 7 latents" in text
    assert "--model.latent 3" in text
    assert "--objective mim." not in text
    vamp = told(verdict="partly collapsed", model=Model(latent=7, prior="vampprior"), active=3)
    assert "--model.prior standard-normal" in vamp
    assert "--model.latent" not in vamp
    assert "--model.encoder-floor" in vamp


def test_two_levels_of_latents_are_told_of_together(told):
    hvae = Model(latent=2, architecture="hvae")
    text = told(verdict="partly collapsed", model=hvae, active=1)
    assert "1 of 4 latents answer to the data, so a --model.latent below 2 would lose" in text
    text = told(shares=POOR, model=hvae, active=4, rank=8)
    assert "All 4 latents are in use" in text
    # Four in each level make as many as there are columns.
    assert "--model.latent 4" in text
    bounded = Model(latent=2, architecture="hvae", prior="vampprior")
    text = told(verdict="collapsed", model=bounded, active=0)
    assert "--model.prior standard-normal." in text
    assert "--model.encoder-floor" not in text


def test_latents_that_are_all_in_use_and_keep_little_call_for_more(told):
    text = told(shares=POOR)
    assert "All 2 latents are in use, and the codes keep 60% of the variance" in text
    assert "--model.latent 4" in text
    # No more than there are columns.
    assert "--model.latent 8" in told(shares=POOR, model=Model(latent=5), active=5)
    for other in (
        {"shares": (0.81,) * 8},
        {"active": 1},
        {"model": Model(latent=8), "active": 8},
        {"model": Model(latent=2, likelihood="bernoulli"), "levels": 256},
    ):
        assert "more latents, such as" not in told(**{"shares": POOR, **other})


def test_a_linear_map_that_keeps_more_calls_for_another_objective_and_not_for_latents(told):
    # Two principal components keep all of data of rank two.
    text = told(shares=POOR, rank=2)
    assert "keep 60% of the variance of the data; a linear map" in text
    assert "(PCA) would keep 100%" in text
    assert "mimachine compare digits --objectives mim vae" in text
    assert "more latents, such as" not in text
    assert "--objectives vae mim" in told(shares=POOR, rank=2, objective="vae")
    assert "(PCA)" not in told(shares=(0.91,) * 8, rank=2)
    # Of eight equal directions two components keep a quarter.
    assert "(PCA)" not in told(shares=(0.2,) * 8)
    assert "keep none of the variance" in told(shares=(-0.5,) * 8, rank=2)


def test_samples_that_miss_the_data_are_told_with_by_how_much(told):
    text = told(off=1.5)
    assert "their mean is 1.5 standard deviations off" in text
    assert "--objectives mim vae" in text
    assert "standard deviations off" not in told(off=0.45)
    assert "compare digits --objectives" not in told(off=1.5, objective="vae")
    assert "standard deviations off" not in told(off=float("nan"))


def test_columns_that_are_lost_are_named_the_worst_first(told):
    shares = (0.95, 0.3, 0.95, -0.2, 0.95, 0.5, 0.95, 0.95)
    assert "less than half of the variance of 'x4' and 'x2'. See" in told(shares=shares)
    many = told(shares=(0.1, 0.2, 0.3, 0.4, 0.45, 0.46, 0.47, 0.48))
    assert "of 'x1', 'x2', 'x3', 'x4', 'x5' and 3 more." in many
    assert "less than half" not in told(shares=shares, image_shape=(1, 2, 4))
    assert "less than half" not in told(shares=(0.5,) * 8)


def test_few_rows_make_numbers_uncertain(told):
    text = told(rows=499)
    assert "only 499 rows for training" in text
    assert "--training.seed 1" in text
    assert "rows for training" not in told(rows=500)


def test_few_importance_samples_are_told(told):
    assert "few importance samples" in told(reasons=("loose-bound",))
    assert "few importance samples" not in told(reasons=("many-ties",))


@pytest.mark.parametrize("verdict", ["collapsed", "deterministic", "not known yet"])
def test_a_run_that_is_not_sound_is_not_told_that_nothing_needs_mending(told, verdict):
    assert "Nothing" not in told(verdict=verdict)


def test_numbers_that_are_none_give_no_advice(told):
    text = told(shares=(float("nan"),) * 8, active=float("nan"), verdict="deterministic")
    assert text == ""


def test_beside_other_objectives_none_is_proposed(told):
    assert told(compared=True) == ""
    assert told(compared=True, off=1.5, shares=POOR, rank=2) == ""
    # What is not about objectives is told all the same.
    assert "--model.latent 4" in told(compared=True, shares=POOR)
