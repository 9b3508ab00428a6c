"""How well does the model explain the data? Likelihood, ELBO and rate."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch
from torch import Tensor

from mimachine._support.memory import rows_at_once
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import reader_of_missing
from mimachine.estimation.codes.aggregate import kl_terms
from mimachine.estimation.estimate import CorrectedMean, Estimate
from mimachine.estimation.likelihood.importance import (
    FEWEST_EFFECTIVE,
    LogLikelihood,
    log_likelihood,
    mean_log_likelihood,
)
from mimachine.estimation.likelihood.quadrature import quadrature_log_likelihood
from mimachine.evaluation.arrays import Encodings
from mimachine.evaluation.glossary import measured
from mimachine.evaluation.metric import Metric
from mimachine.evaluation.pilot import pilot_of_model
from mimachine.model.discrete import is_discrete
from mimachine.model.joint import Joint

__all__ = ["likelihood_of_model", "rate_of_arrays", "rate_of_model"]

# Shares of the time for many samples of some rows, and for few samples of all.
_MANY_SHARE, _FEW_SHARE = 0.6, 0.3
_MOST_FEW, _FEWEST_ROWS = 50, 20
# Rows of a table with many samples. More would take most of the time of a short training, for an
# error that is small beside that of the choice of the test rows.
_ENOUGH = 1000
# Samples of the rows beside those of a pilot.
_FEW_BESIDE_PILOT = 10
# Rows whose few latents are integrated over, where importance sampling fails.
_INTEGRATED = 500
_FLAGGED_SHARE = 0.05


def likelihood_of_model(
    model: Joint, x: Tensor, num_samples: int, end: float, log_volume: float
) -> list[Metric]:
    """Likelihood and ELBO, and the likelihood by quadrature where importance sampling fails.

    Args:
        model: The model, in evaluation mode.
        x: Data as the model sees them, shape (N, *X).
        num_samples: Importance samples per row; for a pilot's rows alone, if these show that the
            encoder is not a proposal that works.
        end: Time by `time.monotonic` at which to be done.
        log_volume: Nats to add for likelihoods in the units of the data's file.
    """
    metrics = _likelihood(model, x, num_samples, end)
    return [replace(metric, value=metric.value + log_volume) for metric in metrics]


def _likelihood(model: Joint, x: Tensor, num_samples: int, end: float) -> list[Metric]:
    # With noise of its own, so that a pilot does not change the numbers of all rows.
    with forked(derived_seed(torch.initial_seed(), "pilot"), x.device):
        pilot = pilot_of_model(model, x, num_samples, end)
    affordable = (end - time.monotonic()) / pilot.seconds
    if pilot.estimates is not None:
        return _likelihood_of_pilot(model, x, pilot.rows, pilot.estimates, affordable)
    most = math.inf if reader_of_missing(model) is None else 2 * _ENOUGH
    if len(x) > min(affordable, most) and len(x) > _FEWEST_ROWS and num_samples > 1:
        return _likelihood_of_some(model, x, num_samples, affordable)
    result = log_likelihood(model, x, num_samples)
    flagged = float(result.flagged.double().mean())
    metrics = [
        _negative_log_likelihood(result.mean(), flagged, num_samples, (_tails(result),)),
        _negative_elbo(result.evidence_lower_bounds, "from the same samples"),
    ]
    # With so few samples no estimate could be reliable: that is a choice, not a failure.
    if metrics[0].flagged and num_samples >= FEWEST_EFFECTIVE and _can_be_integrated(model):
        metrics.append(_by_quadrature(model, x, result.values))
    return metrics


def _tails(found: LogLikelihood) -> str:
    effective = float(found.effective_sample_sizes.median())
    return (
        f"median effective sample size {effective:.3g} of {found.num_samples}, "
        f"median Pareto-k {float(found.pareto_k.median()):.2f}"
    )


def _likelihood_of_pilot(
    model: Joint, x: Tensor, rows: Tensor, found: LogLikelihood, affordable: float
) -> list[Metric]:
    """From a pilot whose estimates are flagged, and few samples of all rows."""
    num_samples = found.num_samples
    few = log_likelihood(model, x, _few(len(x), num_samples, affordable, _FEW_BESIDE_PILOT))
    mean = CorrectedMean.of(few.values, rows, found.values)
    flagged = float(found.flagged.double().mean())
    note = (
        f"{num_samples} samples for {len(rows)} random rows of {len(x):,} and {few.num_samples} "
        "for the others, as no number of samples would be enough; a proposal that fits better than "
        "the encoder may give a reliable estimate, see mm.refit_proposal"
    )
    metrics = [
        _negative_log_likelihood(mean, flagged, num_samples, (_tails(found), note)),
        _negative_elbo(few.evidence_lower_bounds, f"{few.num_samples} samples per row"),
    ]
    if _can_be_integrated(model):
        metrics.append(_by_quadrature(model, x, few.values))
    return metrics


def _few(count: int, num_samples: int, affordable: float, most: int) -> int:
    """A number of samples for each of all rows, which take a share of the time."""
    few = int(_FEW_SHARE * affordable * num_samples / count)
    return max(1, min(few, most, num_samples - 1))


def _likelihood_of_some(
    model: Joint, x: Tensor, num_samples: int, affordable: float
) -> list[Metric]:
    """Many samples of as many rows as time allows or are enough, and few samples of the others."""
    subset = max(_FEWEST_ROWS, int(_MANY_SHARE * affordable))
    if reader_of_missing(model) is not None:
        subset = min(subset, _ENOUGH)
    few = _few(len(x), num_samples, affordable, _MOST_FEW)
    why = "for the time limit" if len(x) > affordable else "to save time"
    mean = mean_log_likelihood(model, x, num_samples, subset=subset, few_samples=few)
    note = (
        f"{why}, {num_samples} samples for {mean.subset:,} of {len(x):,} rows and "
        f"{few} for the others, which contributes an error of {mean.subset_error:.2g}"
    )
    single = log_likelihood(model, x, 1)
    return [
        _negative_log_likelihood(mean, mean.flagged, num_samples, (note,)),
        _negative_elbo(single.evidence_lower_bounds, "one sample per row"),
    ]


def _negative_log_likelihood(
    mean: Estimate, flagged: float, num_samples: int, notes: tuple[str, ...]
) -> Metric:
    doubtful = flagged > _FLAGGED_SHARE
    if doubtful:
        note = (
            f"{flagged:.0%} of the rows flagged: the estimate is an upper bound and may be too "
            "large by more than 0.1 nat a row"
        )
        notes = (*notes, note)
    return measured(
        "negative_log_likelihood",
        Estimate(-mean.value, mean.standard_error),
        notes=notes,
        flagged=doubtful,
        reasons=("loose-bound",) if doubtful else (),
        num_samples=num_samples,
    )


def _negative_elbo(bounds: Tensor, samples: str) -> Metric:
    return measured("negative_elbo", Estimate.mean_of(-bounds), samples=samples)


def _can_be_integrated(model: Joint) -> bool:
    prior = model.prior()
    return prior.event_shape.numel() <= 2 and not is_discrete(prior)


def _by_quadrature(model: Joint, x: Tensor, sampled: Tensor) -> Metric:
    """Likelihood by quadrature of some rows, which corrects `sampled` for the others."""
    chosen = torch.randperm(len(x))[:_INTEGRATED].to(x.device)
    integral = quadrature_log_likelihood(model, x[chosen])
    mean = CorrectedMean.of(sampled, chosen, integral.values)
    flagged = float(integral.flagged.double().mean())
    notes = [f"{len(chosen)} of {len(x):,} rows integrated over"]
    doubtful = flagged > _FLAGGED_SHARE
    if doubtful:
        notes.append(f"{flagged:.0%} of the integrals did not reach {integral.tolerance:g} nats")
    return measured(
        "negative_log_likelihood_quadrature",
        Estimate(-mean.value, mean.standard_error),
        notes=tuple(notes),
        flagged=doubtful,
        reasons=("unconverged",) if doubtful else (),
    )


def rate_of_model(model: Joint, x: Tensor) -> Metric:
    """KL divergence of codes from the prior, from one sample per row."""
    rates = []
    for rows in x.split(rows_at_once(x.shape)):
        log_probs = model.log_probs(model.encode(rows))
        rates.append(log_probs.q_z_given_x - log_probs.p_z)
    rate = Estimate.mean_of(torch.cat(rates))
    return measured("rate", rate, prior="p(z)", how="from one sample of z per row")


def rate_of_arrays(data: Encodings) -> list[Metric]:
    """KL divergence of normal codes from N(0, I), in closed form; none without their width."""
    if data.std is None or not (data.std > 0).all():
        return []
    rate = Estimate.mean_of(kl_terms(data.mean, data.std).sum(1))
    return [measured("rate", rate, latent="mean", prior="N(0, I)", how="in closed form")]
