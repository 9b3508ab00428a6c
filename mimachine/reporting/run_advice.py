"""Advice on what to try next, from the metrics of a run."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mimachine import workflow
from mimachine._support.messages import quoted
from mimachine.evaluation.glossary import listed
from mimachine.experiment.settings import Model
from mimachine.reporting import columns, command_lines
from mimachine.reporting.explained import linear as linear_explained
from mimachine.reporting.explained import percent
from mimachine.reporting.measured_run import Outcome
from mimachine.reporting.tables import advice

__all__ = ["tips"]

# R² below which much is lost; R² below which PCA may do better, and by how much it has to.
_POOR, _GOOD, _MARGIN = 0.8, 0.9, 0.1
_LOST = 0.5
_MOST_NAMED = 5
# Largest offset of the mean of samples from that of the data, in standard deviations.
_OFF = 0.5
_FEW_ROWS = 500
# PCA of more columns would take too long for a report.
_MOST_COLUMNS = 5000


def tips(outcome: Outcome, compared: bool = False) -> list[str]:
    """Suggestions of a sentence or two each, the most urgent first.

    Args:
        outcome: The run and its metrics.
        compared: Whether it is part of a comparison; no other objective is suggested then.
    """
    checks = _CHECKS if outcome.trained.data.schema is None else _TABLE_CHECKS
    checks = tuple(each for each in checks if not (compared and each in _SUGGEST_OTHERS))
    found = [tip for each in checks if (tip := each(outcome)) is not None]
    if found or compared or outcome.report.verdict != "healthy":
        return found
    return [
        "No problems found. To check whether another objective does better on this data set: "
        f"{command_lines.comparing(outcome)}"
    ]


def _interrupted(outcome: Outcome) -> str | None:
    run = outcome.trained.run
    if run.finished:
        return None
    return (
        "The run was interrupted; this report uses its best weights so far. "
        f"Resume it with: mimachine train --resume {quoted(run.path)}"
    )


def _is_cut_short(outcome: Outcome) -> bool:
    """Whether the loss still fell when training ended, or the run was interrupted."""
    return not outcome.trained.run.finished or outcome.convergence.verdict == "still falling"


def _not_converged(outcome: Outcome) -> str | None:
    found, recipe = outcome.convergence, outcome.trained.experiment.training
    is_pca = outcome.trained.experiment.model.architecture == "pca"
    if not outcome.trained.run.finished or is_pca or found.verdict == "converged":
        return None
    remedy = {
        "still falling": f"Train for more epochs, for example --training.epochs {4 * recipe.epochs}"
        ", or with a rate that decays, --training.schedule cosine.",
        "unstable": f"Try a smaller rate, --training.learning-rate {recipe.learning_rate / 3:.1g}, "
        "or --training.clip-norm 1.",
        "best at the start": "The model overfits, or the rate is too high. Try "
        f"--training.learning-rate {recipe.learning_rate / 3:.1g}, --training.weight-decay 0.1, or "
        "a smaller model.",
        "not warmed up": "Train for more epochs, or with a shorter --training.warmup.epochs.",
    }[found.verdict]
    return f"Training did not converge: {found.reason}. {remedy}"


def _collapsed(outcome: Outcome) -> str | None:
    if outcome.report.verdict not in ("partly collapsed", "collapsed"):
        return None
    settings = outcome.trained.experiment
    if workflow.objective(settings.objective).family != "mim":
        return (
            f"The objective {settings.objective} lets the model ignore latents; mim rewards codes "
            "that are informative about the data. Train again with --objective mim."
        )
    if settings.model.prior == "vampprior":
        tip = "A VampPrior can pull all codes to one point. Try --model.prior standard-normal"
        if settings.model.architecture == "mlp":
            tip += ", or a larger --model.encoder-floor"
        return f"{tip}."
    if outcome.report.verdict == "collapsed" or not outcome.report.has("active_units"):
        return None
    active = outcome.report["active_units"].value
    return (
        f"The objective is already {settings.objective}. {active:.0f} of "
        f"{settings.model.num_latents} latents are active, so "
        f"{_fewer_latents(settings.model, active)} would lose little."
    )


def _fewer_latents(model: Model, active: float) -> str:
    """Option for as many latents as are active; with two levels only an upper limit is known."""
    if model.num_latents == model.latent:
        return f"--model.latent {active:.0f}"
    return f"a --model.latent below {model.latent}"


def _other_objective(outcome: Outcome) -> str | None:
    """Suggest another objective if PCA reconstructs better or samples miss the data."""
    reasons = [r for r in (_worse_than_pca(outcome), _samples_off(outcome)) if r is not None]
    if not reasons or _is_cut_short(outcome):
        return None
    other = "mim" if _is_vae(outcome) else "vae"
    again = command_lines.comparing(outcome, other)
    return f"{' '.join(reasons)} Check whether the objective {other} does better: {again}"


def _is_vae(outcome: Outcome) -> bool:
    return workflow.objective(outcome.trained.experiment.objective).family == "vae"


def _worse_than_pca(outcome: Outcome) -> str | None:
    explained, linear = outcome.explained.total, _linear(outcome)
    if not linear > explained + _MARGIN or not explained < _GOOD:
        return None
    return (
        f"Reconstructions explain {percent(explained)} of the variance of the data; PCA "
        f"with the same number of dimensions would explain {percent(linear)}."
    )


def _linear(outcome: Outcome) -> float:
    """R² of PCA with as many components as latents; NaN if too expensive."""
    if outcome.trained.data.test.shape[1:].numel() > _MOST_COLUMNS:
        return math.nan
    return linear_explained(
        outcome.trained.data, outcome.trained.experiment.model.num_latents
    ).total


def _samples_off(outcome: Outcome) -> str | None:
    test, samples = outcome.trained.data.test.double(), outcome.samples.double()
    variance = test.var(0, correction=0).sum()
    distance = float(((samples.mean(0) - test.mean(0)).square().sum() / variance).sqrt())
    if not _OFF < distance < math.inf or _is_vae(outcome):
        return None
    return (
        "Samples of the model do not match the test data because the codes do not match the prior: "
        f"the mean of the samples is off by {distance:.1f} standard deviations."
    )


def _too_few_latents(outcome: Outcome) -> str | None:
    model = outcome.trained.experiment.model
    explained, latents = outcome.explained.total, model.num_latents
    features = outcome.trained.data.test.shape[1:].numel()
    most = features * model.latent // latents
    active = outcome.report["active_units"].value if outcome.report.has("active_units") else 0
    if active < latents or latents >= features or not explained < _POOR:
        return None
    if _is_cut_short(outcome) or _is_noisy(outcome) or _linear(outcome) > _GOOD:
        return None
    return (
        f"All {latents} latents are active, and reconstructions explain "
        f"{percent(explained)} of the variance of the data. Try more latents, for example "
        f"--model.latent {min(2 * model.latent, most)}."
    )


def _is_noisy(outcome: Outcome) -> bool:
    """Whether grey levels were binarised at random, which is noise that no code can predict."""
    data, model = outcome.trained.data, outcome.trained.experiment.model
    return model.likelihood == "bernoulli" and data.levels != 2


def _lost_columns(outcome: Outcome) -> str | None:
    data = outcome.trained.data
    if data.image_shape is not None:
        return None
    shares, names = outcome.explained.shares, columns.names(data)
    lost = [index for index in np.argsort(shares) if shares[index] < _LOST]
    if not lost:
        return None
    named = [f"'{names[index]}'" for index in lost[:_MOST_NAMED]]
    if len(lost) > _MOST_NAMED:
        named.append(f"{len(lost) - _MOST_NAMED} more")
    return (
        f"Reconstructions explain less than half of the variance of {listed(named)}. Try more "
        "latents or longer training if these columns matter; drop columns that are only noise."
    )


def _loose_bound(outcome: Outcome) -> str | None:
    if not any("loose-bound" in metric.reasons for metric in outcome.report.metrics):
        return None
    return (
        "For some examples the likelihood estimate relies on few importance samples, and the true "
        "negative log-likelihood may be lower. Evaluate with more samples (see Commands); if the "
        "estimate changes much, the encoder is a poor approximation of the posterior."
    )


def _few_rows(outcome: Outcome) -> str | None:
    count = len(outcome.trained.data.train)
    if count >= _FEW_ROWS:
        return None
    seed = outcome.trained.experiment.training.seed + 1
    return (
        f"The training set has only {count} rows, so all metrics are less certain than their "
        f"standard errors suggest. Check how they change with --training.seed {seed}."
    )


_CHECKS: tuple[Callable[[Outcome], str | None], ...] = (
    _interrupted,
    _not_converged,
    _collapsed,
    _too_few_latents,
    _lost_columns,
    _other_objective,
    _loose_bound,
    _few_rows,
)
_TABLE_CHECKS: tuple[Callable[[Outcome], str | None], ...] = (
    _interrupted,
    _not_converged,
    _collapsed,
    advice.generated_off,
    advice.with_contradictions,
    advice.told_apart,
    advice.lost_columns,
    _loose_bound,
    _few_rows,
)
_SUGGEST_OTHERS = (_other_objective, advice.told_apart)
