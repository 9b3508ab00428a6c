"""Advice: what to try next, from what was measured of a run."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mimachine import workflow
from mimachine._support.messages import quoted
from mimachine.evaluation.glossary import listed
from mimachine.experiment.settings import Model
from mimachine.reporting import columns, command_lines
from mimachine.reporting.measured_run import Outcome
from mimachine.workflow.reports import kept_epoch

__all__ = [
    "tips",
]


# R² below which much is lost; below which a linear map may keep more, and how much more it has to.
_POOR, _GOOD, _MARGIN = 0.8, 0.9, 0.1
_LOST = 0.5
_MOST_NAMED = 5
# Standard deviations that the mean of samples may be off that of the data.
_OFF = 0.5
_FEW_ROWS = 500
# More columns take longer to decompose than a page may.
_MOST_COLUMNS = 5000


def tips(outcome: Outcome, compared: bool = False) -> list[str]:
    """What to try, a sentence or two each, the most pressing first.

    Args:
        outcome: What was measured.
        compared: Whether it is seen beside other objectives, so that none is to be proposed.
    """
    questions = [each for each in _TIPS if not (compared and each is _another)]
    found = [tip for each in questions if (tip := each(outcome)) is not None]
    if found or compared or outcome.report.verdict != "healthy":
        return found
    return [
        "Nothing needs mending. To see whether another objective does better on these data: "
        f"{command_lines.comparing(outcome)}"
    ]


def _interrupted(outcome: Outcome) -> str | None:
    run = outcome.trained.run
    if run.finished:
        return None
    return (
        "The run was interrupted; all here is of its best weights so far. "
        f"Go on with: mimachine train --resume {quoted(run.path)}"
    )


def _is_cut_short(outcome: Outcome) -> bool:
    """Whether the model was at its best when the epochs were over, or the run interrupted."""
    records = outcome.records
    complete = len(records) == outcome.trained.experiment.training.epochs
    return not outcome.trained.run.finished or (complete and kept_epoch(records) is records[-1])


def _cut_short(outcome: Outcome) -> str | None:
    if not outcome.trained.run.finished or not _is_cut_short(outcome):
        return None
    return (
        "The last epoch was the best: the model was still learning when training ended. Try more "
        f"epochs, such as --training.epochs {4 * outcome.trained.experiment.training.epochs}."
    )


def _collapsed(outcome: Outcome) -> str | None:
    if outcome.report.verdict not in ("partly collapsed", "collapsed"):
        return None
    settings = outcome.trained.experiment
    if workflow.objective(settings.objective).family != "mim":
        return (
            f"The objective {settings.objective} lets latents fall idle, and mim rewards codes "
            "that tell of the data: train the same with --objective mim."
        )
    if settings.model.prior == "vampprior":
        tip = "A VampPrior can draw all codes to one point: try --model.prior standard-normal"
        if settings.model.architecture == "mlp":
            tip += ", or a larger --model.encoder-floor"
        return f"{tip}."
    if outcome.report.verdict == "collapsed" or not outcome.report.has("active_units"):
        return None
    active = outcome.report["active_units"].value
    return (
        f"The objective is {settings.objective} already: {active:.0f} of "
        f"{settings.model.num_latents} latents answer to the data, so "
        f"{_enough(settings.model, active)} would lose little."
    )


def _enough(model: Model, active: float) -> str:
    """As few latents as are active, which of two levels one number cannot tell."""
    if model.num_latents == model.latent:
        return f"--model.latent {active:.0f}"
    return f"a --model.latent below {model.latent}"


def _another(outcome: Outcome) -> str | None:
    """Another objective, if this one leaves something to be had."""
    reasons = [reason for reason in (_beaten(outcome), _astray(outcome)) if reason is not None]
    if not reasons or _is_cut_short(outcome):
        return None
    other = "mim" if _is_vae(outcome) else "vae"
    again = command_lines.comparing(outcome, other)
    return f"{' '.join(reasons)} See whether the objective {other} does better: {again}"


def _is_vae(outcome: Outcome) -> bool:
    return workflow.objective(outcome.trained.experiment.objective).family == "vae"


def _beaten(outcome: Outcome) -> str | None:
    """A linear map that keeps more."""
    kept, linear = outcome.explained.total, _linear(outcome)
    if not linear > kept + _MARGIN or not kept < _GOOD:
        return None
    return (
        f"The codes keep {_share(kept)} of the variance of the data; a linear map to as many "
        f"latents (PCA) would keep {_share(linear)}."
    )


def _linear(outcome: Outcome) -> float:
    """What principal components would keep, as many as there are latents; NaN if not known."""
    if outcome.trained.data.test.shape[1:].numel() > _MOST_COLUMNS:
        return math.nan
    return columns.linear(outcome.trained.data, outcome.trained.experiment.model.num_latents).total


def _astray(outcome: Outcome) -> str | None:
    """Samples that miss the data: the codes are not where the prior is."""
    test, samples = outcome.trained.data.test.double(), outcome.samples.double()
    variance = test.var(0, correction=0).sum()
    distance = float(((samples.mean(0) - test.mean(0)).square().sum() / variance).sqrt())
    if not _OFF < distance < math.inf or _is_vae(outcome):
        return None
    return (
        "Data drawn from the model miss the test data, for the codes are not where the prior is: "
        f"their mean is {distance:.1f} standard deviations off."
    )


def _tight(outcome: Outcome) -> str | None:
    """More latents, if all are in use and so many cannot keep much."""
    model = outcome.trained.experiment.model
    kept, latents = outcome.explained.total, model.num_latents
    features = outcome.trained.data.test.shape[1:].numel()
    most = features * model.latent // latents
    active = outcome.report["active_units"].value if outcome.report.has("active_units") else 0
    if active < latents or latents >= features or not kept < _POOR:
        return None
    if _is_cut_short(outcome) or _is_noisy(outcome) or _linear(outcome) > _GOOD:
        return None
    return (
        f"All {latents} latents are in use, and the codes keep {_share(kept)} of the variance of "
        f"the data. Try more latents, such as --model.latent {min(2 * model.latent, most)}."
    )


def _share(share: float) -> str:
    """R² in words; below 0 the mean of the data would be nearer to them."""
    return f"{share:.0%}" if share >= 0.005 else "none"


def _is_noisy(outcome: Outcome) -> bool:
    """Whether grey values were drawn as zeros and ones, a noise that no code can keep."""
    data, model = outcome.trained.data, outcome.trained.experiment.model
    return model.likelihood == "bernoulli" and data.levels != 2


def _lost(outcome: Outcome) -> str | None:
    data = outcome.trained.data
    if data.image_shape is not None:
        return None
    shares, names = outcome.explained.shares, columns.names(data)
    lost = [place for place in np.argsort(shares) if shares[place] < _LOST]
    if not lost:
        return None
    named = [f"'{names[place]}'" for place in lost[:_MOST_NAMED]]
    if len(lost) > _MOST_NAMED:
        named.append(f"{len(lost) - _MOST_NAMED} more")
    return (
        f"The codes keep less than half of the variance of {listed(named)}. See whether more "
        "latents or longer training keep what matters of it; what is noise is better left out."
    )


def _loose(outcome: Outcome) -> str | None:
    if not any("loose-bound" in metric.reasons for metric in outcome.report.metrics):
        return None
    return (
        "For some of the data the likelihood rests on few importance samples, and may be better "
        "than its number. Measure it with more, as told under Commands; if it then changes much, "
        "the encoder is a poor guide to the posterior."
    )


def _few_rows(outcome: Outcome) -> str | None:
    count = len(outcome.trained.data.train)
    if count >= _FEW_ROWS:
        return None
    seed = outcome.trained.experiment.training.seed + 1
    return (
        f"There are only {count} rows for training, so all numbers are less certain than their "
        f"standard errors say. See how they change with --training.seed {seed}."
    )


_TIPS: tuple[Callable[[Outcome], str | None], ...] = (
    _interrupted,
    _cut_short,
    _collapsed,
    _tight,
    _lost,
    _another,
    _loose,
    _few_rows,
)
