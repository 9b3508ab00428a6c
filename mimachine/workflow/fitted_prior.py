"""Measure a run with a prior fitted to its codes, as every model of a comparison is."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from mimachine._support.process import exclusive
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import all_examples
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.refit_prior import refit_prior
from mimachine.evaluation.generated import generated_of_model
from mimachine.evaluation.likelihood import likelihood_of_model
from mimachine.evaluation.metric import Metric, Report
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating
from mimachine.workflow.load_run import Trained
from mimachine.workflow.prepare_run import sources
from mimachine.workflow.reports import read_report

__all__ = ["with_fitted_prior"]

_FILE = "fitted_prior.json"
# Metrics that depend on the prior. Their declarations have this prefix.
_PREFIX = "fitted_prior_"
_KEPT = ("negative_log_likelihood", "generated_auc", "generated_energy_distance")
_SECONDS = 120.0


def with_fitted_prior(trained: Trained, num_samples: int) -> Report:
    """Metrics of a run, and those that depend on the prior with one fitted to its codes.

    The prior is a mixture of normals, see `refit_prior`. The metrics are stored in the run. There
    are none for codes that no mixture can be fitted to.

    Args:
        trained: The run; its files do not change otherwise.
        num_samples: Importance samples per test example for the likelihood.
    """
    run, report = trained.run, trained.report
    if (run.path / _FILE).exists():
        stored = read_report(run.read_json(_FILE, dict[str, Any]), run.path / _FILE)
        return replace(report, metrics=(*report.metrics, *stored.metrics))
    found = tuple(_measured(trained, num_samples))
    run.write_json(_FILE, replace(report, metrics=found).to_json())
    return replace(report, metrics=(*report.metrics, *found))


def _measured(trained: Trained, num_samples: int) -> list[Metric]:
    seed = trained.experiment.training.seed
    train, val = sources(trained.experiment, trained.data)
    try:
        with forked(derived_seed(seed, "fitted prior")):
            model = refit_prior(trained.model, train, val, progress=False)
    except (TypeError, ValueError):
        # Codes that do not vary, or discrete latents.
        return []
    known = {metric.name: metric for metric in _metrics(model, trained, num_samples, seed)}
    prior = "p(z) is a mixture of normals fitted to the codes"
    return [
        replace(found, name=_PREFIX + name, definition=f"{found.definition}; {prior}")
        for name in _KEPT
        if (found := known.get(name)) is not None
    ]


@torch.no_grad()
def _metrics(model: Joint, trained: Trained, num_samples: int, seed: int) -> list[Metric]:
    data = trained.data
    test = all_examples("data.test", data.test, model)
    with exclusive(), evaluating(model), forked(derived_seed(seed, "with fitted prior")):
        metrics = generated_of_model(model, test, codes(model, test))
        end = time.monotonic() + _SECONDS
        return [*metrics, *likelihood_of_model(model, test, num_samples, end, data.log_volume)]
