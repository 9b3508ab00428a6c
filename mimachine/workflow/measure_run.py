"""Evaluate the model of a run and write report.json."""

from __future__ import annotations

import os
import platform
from dataclasses import replace

import torch

from mimachine._support.outputs import check_place
from mimachine._support.version import __version__
from mimachine.evaluation.evaluate_model import evaluate
from mimachine.evaluation.metric import Report
from mimachine.workflow.fitted_prior import fitted_prior_metrics
from mimachine.workflow.load_run import Trained

__all__ = ["measure"]


def measure(trained: Trained, num_samples: int, seconds: float = 600.0) -> Report:
    """Evaluate the model of a run and write report.json.

    Args:
        trained: The run.
        num_samples: Importance samples per test example for the likelihood.
        seconds: Time limit in seconds, as for `evaluate`.

    Raises:
        OSError: If report.json cannot be written.
        ValueError: If metrics.jsonl is damaged.
    """
    if not os.access(trained.run.path, os.W_OK):
        raise PermissionError(f"{trained.run.path} must be writable for report.json")
    check_place(trained.run.path / "report.json", "report.json")
    epochs = len(trained.run.metrics())
    report = evaluated(trained, num_samples, seconds)
    versions = {
        "mimachine": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    measured = {"num_samples": num_samples, "versions": versions, "epochs": epochs}
    trained.run.write_json("report.json", {**report.to_json(), **measured})
    return report


def evaluated(trained: Trained, num_samples: int, seconds: float = 600.0) -> Report:
    """Metrics of a run's model, and those with its fitted prior, on a GPU if available.

    The model returns to its device afterwards.
    """
    model = trained.model
    device = next(model.parameters()).device
    try:
        report = evaluate(
            # Likelihoods of images take hours on a CPU and minutes on a GPU.
            model.to("cuda" if torch.cuda.is_available() else device),
            trained.data,
            num_samples=num_samples,
            seed=trained.experiment.training.seed,
            seconds=seconds,
        )
        fitted = fitted_prior_metrics(trained, num_samples)
        return replace(report, metrics=(*report.metrics, *fitted))
    finally:
        model.to(device)
