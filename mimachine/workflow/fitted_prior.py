"""Fit a prior to the codes of a run, to sample from and to compare models fairly."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from mimachine._support.process import exclusive
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import all_examples, device_of
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.refit_prior import refit_prior
from mimachine.evaluation.generated import generated_of_model
from mimachine.evaluation.likelihood import likelihood_of_model
from mimachine.evaluation.metric import Metric
from mimachine.evaluation.tables import without_holes
from mimachine.model.networks import evaluating
from mimachine.workflow.load_run import Trained
from mimachine.workflow.prepare_run import sources

__all__ = ["fit_prior", "fitted_prior_metrics"]

# Metrics that depend on the prior. Their declarations have this prefix.
_PREFIX = "fitted_prior_"
_KEPT = (
    "negative_log_likelihood",
    "generated_auc",
    "generated_energy_distance",
    "generated_contradictions",
)
_SECONDS = 120.0


def fit_prior(trained: Trained) -> None:
    """Fit a mixture of normals to the codes of a run and store it, for `Trained.generator`.

    Nothing is stored if the run was made by fitting a prior, or if no mixture can be fitted to its
    codes.
    """
    run = trained.run
    if run.refit_record() is not None or run.has_fitted_prior:
        return
    train, val = sources(trained.experiment, trained.data)
    try:
        with forked(derived_seed(trained.experiment.training.seed, "fitted prior")):
            fitted = refit_prior(trained.model, train, val, progress=False)
    except (TypeError, ValueError):
        # Codes that do not vary, or discrete latents.
        return
    run.save_fitted_prior(fitted.prior)


def fitted_prior_metrics(trained: Trained, num_samples: int) -> list[Metric]:
    """Metrics that depend on the prior, with that of `fit_prior`; none if there is none.

    Args:
        trained: The run.
        num_samples: Importance samples per test example for the likelihood.
    """
    if not trained.run.has_fitted_prior:
        return []
    prior = "p(z) is a mixture of normals fitted to the codes"
    known = {metric.name: metric for metric in _metrics(trained, num_samples)}
    return [
        replace(found, name=_PREFIX + name, definition=f"{found.definition}; {prior}")
        for name in _KEPT
        if (found := known.get(name)) is not None
    ]


@torch.no_grad()
def _metrics(trained: Trained, num_samples: int) -> list[Metric]:
    data, model = trained.data, trained.generator
    place, device = device_of(model.prior), device_of(model.decoder)
    model.prior.to(device)
    try:
        test = all_examples("data.test", data.test, model)
        seed = derived_seed(trained.experiment.training.seed, "with fitted prior")
        with exclusive(), evaluating(model), forked(seed, device):
            metrics = generated_of_model(model, test, codes(model, test))
            test = without_holes(model, test)
            end = time.monotonic() + _SECONDS
            return [*metrics, *likelihood_of_model(model, test, num_samples, end, data.log_volume)]
    finally:
        model.prior.to(place)
