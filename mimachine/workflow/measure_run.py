"""Measure a trained run and write report.json."""

from __future__ import annotations

import os
import platform

import torch

from mimachine._support.version import __version__
from mimachine.evaluation.evaluate_model import evaluate
from mimachine.evaluation.metric import Report
from mimachine.workflow.load_run import Trained

__all__ = [
    "measure",
]


def measure(trained: Trained, num_samples: int, seconds: float = 600.0) -> Report:
    """Evaluate a run's model and write report.json.

    Args:
        trained: The run.
        num_samples: Importance samples for the likelihood of each datum.
        seconds: Time that it may take, as for `evaluate`.
    """
    if not os.access(trained.run.path, os.W_OK):
        raise PermissionError(f"{trained.run.path} must be writable for report.json")
    report = evaluated(trained, num_samples, seconds)
    versions = {
        "mimachine": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    trained.run.write_json(
        "report.json", {**report.to_json(), "num_samples": num_samples, "versions": versions}
    )
    return report


def evaluated(trained: Trained, num_samples: int, seconds: float = 600.0) -> Report:
    """What `evaluate` gives on the best device there is; the model stays where it is."""
    model = trained.model
    before = next(model.parameters()).device
    try:
        return evaluate(
            # Likelihoods of images take hours on a processor, and minutes on a GPU.
            model.to("cuda" if torch.cuda.is_available() else before),
            trained.data,
            num_samples=num_samples,
            seed=trained.experiment.training.seed,
            seconds=seconds,
        )
    finally:
        model.to(before)
