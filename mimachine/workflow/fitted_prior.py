"""Fit a prior to the codes of a run, to sample from and to compare models fairly, and a proposal.

The proposal is for imputation in tables. It is kept in the run after it was needed for the first
time, with a digest of the model that it was fitted to.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mimachine._support.digest import digest
from mimachine._support.process import exclusive
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import all_examples, device_of
from mimachine.estimation.codes.moments import codes
from mimachine.estimation.refit_prior import refit_prior
from mimachine.estimation.tables.proposal import TableProposal, blank_proposal, fit_proposal
from mimachine.evaluation.generated import generated_of_model
from mimachine.evaluation.likelihood import likelihood_of_model
from mimachine.evaluation.metric import Metric
from mimachine.evaluation.tables import without_holes
from mimachine.model.networks import evaluating
from mimachine.training.weights import load_weights, save_weights
from mimachine.workflow.load_run import Trained
from mimachine.workflow.prepare_run import sources

__all__ = ["PROPOSAL", "fit_prior", "fitted_prior_metrics", "table_proposal"]

# Name of the file in a run.
PROPOSAL = "table_proposal.safetensors"
_MOST_FITTED = 200_000

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


def table_proposal(trained: Trained, refit: bool = False) -> TableProposal:
    """The proposal for imputation that is kept in a run, or a new one, which is then kept.

    It is fitted anew if the run has none, has one of other weights, or its file is damaged. If the
    run cannot be written to, it is not kept.

    Args:
        trained: A run on a table.
        refit: Whether it is fitted anew in any case.
    """
    file = trained.run.path / PROPOSAL
    mark = _mark(trained.generator)
    known = None if refit else _kept(file, mark, trained)
    if known is not None:
        return known
    data, seed = trained.data, trained.experiment.training.seed
    train = data.train[:_MOST_FITTED]
    found = fit_proposal(trained.generator, train, data.val, seed=seed, progress=False)
    with contextlib.suppress(OSError):
        save_weights(file, _Marked(found, mark))
    return found


def _kept(file: Path, mark: Tensor, trained: Trained) -> TableProposal | None:
    """The proposal in a file; None if there is none for this model."""
    model, data = trained.generator, trained.data
    stored = _Marked(blank_proposal(model, data.train.shape[1]), torch.zeros_like(mark))
    try:
        load_weights(file, stored)
    except (OSError, ValueError):
        return None
    return stored.proposal if torch.equal(stored.mark, mark) else None


class _Marked(nn.Module):
    """A proposal, and the digest of the model that it is for."""

    mark: Tensor

    def __init__(self, proposal: TableProposal, mark: Tensor) -> None:
        super().__init__()
        self.proposal = proposal
        self.register_buffer("mark", mark)


def _mark(model: nn.Module) -> Tensor:
    """Digest of all weights of a model, shape (16,)."""

    def parts() -> Iterator[str | Tensor]:
        for name, tensor in sorted(model.state_dict().items()):
            yield name
            yield tensor

    return torch.tensor(list(bytes.fromhex(digest(parts()))), dtype=torch.uint8)
