"""Evaluation: every number that a trained model is judged by, with its unit and definition."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from mimachine.conditionals import DiscretizedLogistic, Gaussian
from mimachine.datasets import Dataset
from mimachine.estimates import Estimate
from mimachine.information import mutual_information
from mimachine.joint import Joint
from mimachine.likelihood import evaluating, log_likelihood
from mimachine.memory import rows_at_once
from mimachine.randomness import derived_seed, forked
from mimachine.representation import (
    Codes,
    Health,
    at_floor,
    codes,
    diagnose_codes,
    knn_accuracies,
    mean_of,
)

__all__ = ["ADVICE", "Metric", "Report", "evaluate"]

_NEIGHBOURS = (1, 3, 5, 10)
# KSG compares all pairs above a few dimensions. In more than 40 it takes as many data as cost no
# more than 10,000 in 40: its bias leaves nothing there that more data would tell.
_MOST_KSG_DATA, _CHEAP_KSG_DIMENSIONS = 10_000, 40
_TRUSTED_KSG_DIMENSIONS = 20
# More training codes change an accuracy little, and cost as much as the training.
_MOST_NEIGHBOURS = 50_000

ADVICE = {
    "healthy": "The codes depend on the data and have a width of their own.",
    "partly collapsed": (
        "Most latent dimensions say nothing of the data. Try the objective mim, or fewer latents."
    ),
    "collapsed": (
        "The codes say nothing of the data. Try the objective mim, a longer warm-up, or a weaker "
        "decoder."
    ),
    "deterministic": (
        "The codes are nearly points: they keep what the data say, but the encoder is no posterior "
        "to speak of. For better samples and likelihood fit a prior to the codes (mimachine refit "
        "RUN), or train with a learned one (--model.prior learned-normal or vampprior)."
    ),
}


@dataclass(frozen=True)
class Metric:
    """One measured number.

    Attributes:
        name: What it is called.
        value: The number.
        unit: Its unit; "" for a plain number.
        definition: How it is defined, in a sentence.
        latent: Whether it uses the mean of q(z|x) or a sample of it.
        standard_error: Its error where one is known, in the same unit.
        notes: What a reader has to know to trust it or not.
    """

    name: str
    value: float
    unit: str
    definition: str
    latent: Literal["mean", "sample"]
    standard_error: float | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        error = math.nan if self.standard_error is None else self.standard_error
        return str(Estimate(self.value, error))


@dataclass(frozen=True)
class Report:
    """All metrics of one model, and the verdict on its codes.

    Attributes:
        metrics: The metrics; `report["name"]` finds one.
        verdict: "healthy", "partly collapsed", "collapsed" or "deterministic".
        advice: What the verdict means, in plain words.
    """

    metrics: tuple[Metric, ...]
    verdict: str
    advice: str

    def __getitem__(self, name: str) -> Metric:
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"no metric {name!r}; there are {[m.name for m in self.metrics]}")

    def has(self, name: str) -> bool:
        """Whether a metric was measured."""
        return any(metric.name == name for metric in self.metrics)

    @property
    def values(self) -> dict[str, float]:
        """The value of each metric by its name."""
        return {metric.name: metric.value for metric in self.metrics}

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; a metric that is infinite or not a number becomes null."""
        value = dataclasses.asdict(self)
        for metric in value["metrics"]:
            metric["value"] = metric["value"] if math.isfinite(metric["value"]) else None
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Report:
        """A report read back; null becomes NaN."""
        metrics = tuple(
            Metric(
                **{
                    **metric,
                    "value": math.nan if metric["value"] is None else metric["value"],
                    "notes": tuple(metric["notes"]),
                }
            )
            for metric in value["metrics"]
        )
        return cls(metrics, value["verdict"], value["advice"])


def evaluate(model: Joint, data: Dataset, *, num_samples: int = 1000, seed: int = 0) -> Report:
    """Measure a model on the test split.

    Args:
        model: The model, used in evaluation mode.
        data: The data; its training split serves the k-nearest-neighbour classifier alone.
        num_samples: Importance samples for the likelihood of each datum.
        seed: Seed of the noise; the global generator is left as found.
    """
    device = next(model.parameters()).device
    test = data.test.to(device)
    with forked(derived_seed(seed, "evaluation"), device), evaluating(model), torch.no_grad():
        test_codes = codes(model, test)
        metrics = _likelihood(model, test, num_samples, data.log_volume)
        metrics.append(_rate(model, test))
        if len(test) >= 4:
            metrics.append(_information(test, test_codes))
        metrics += _reconstruction(model, test, test_codes, data.unit)
        if data.train_labels is not None and data.test_labels is not None:
            labels = (data.train_labels[:_MOST_NEIGHBOURS], data.test_labels)
            # To tell one class from no other says nothing.
            if len(labels[0].unique()) > 1:
                train = data.train[:_MOST_NEIGHBOURS].to(device)
                metrics += _neighbours(codes(model, train), test_codes, *labels)
        floor = model.encoder.floor if isinstance(model.encoder, Gaussian) else 0.0
        health = diagnose_codes(test_codes.mean, test_codes.std, floor)
        metrics += _latents(health)
        metrics += _at_floor(model, test, test_codes)
    return Report(tuple(metrics), health.verdict, ADVICE[health.verdict])


def _metric(
    name: str,
    estimate: Estimate,
    unit: str,
    definition: str,
    latent: Literal["mean", "sample"],
    notes: tuple[str, ...] = (),
) -> Metric:
    error = estimate.standard_error if math.isfinite(estimate.standard_error) else None
    return Metric(name, estimate.value, unit, definition, latent, error, notes)


def _likelihood(model: Joint, x: Tensor, num_samples: int, log_volume: float) -> list[Metric]:
    """Likelihood and ELBO, of the data in their own units."""
    result = log_likelihood(model, x, num_samples)
    effective = result.effective_sample_sizes
    flagged = float(result.flagged.double().mean())
    notes = [
        f"median effective sample size {float(effective.median()):.3g} of {num_samples}, "
        f"median Pareto-k {float(result.pareto_k.median()):.2f}"
    ]
    if flagged > 0.05:
        notes.append(
            f"{flagged:.0%} of the data flagged: their estimates may be off by over 0.1 nat, an "
            "upper bound that may be loose"
        )
    return [
        _metric(
            "negative_log_likelihood",
            Estimate.mean_of(log_volume - result.values),
            "nats",
            f"-log of the mean of {num_samples} importance weights p(x|z) p(z) / q(z|x), "
            "z ~ q(z|x); an upper bound in expectation",
            "sample",
            notes=tuple(notes),
        ),
        _metric(
            "negative_elbo",
            Estimate.mean_of(log_volume - result.evidence_lower_bounds),
            "nats",
            "-E[log p(x|z) + log p(z) - log q(z|x)], z ~ q(z|x), from the same samples; what the "
            "likelihood's estimate would be with one sample each",
            "sample",
        ),
    ]


def _rate(model: Joint, x: Tensor) -> Metric:
    rates = []
    for rows in x.split(rows_at_once(x.shape)):
        log_probs = model.log_probs(model.encode(rows))
        rates.append(log_probs.q_z_given_x - log_probs.p_z)
    return _metric(
        "rate",
        Estimate.mean_of(torch.cat(rates)),
        "nats",
        "E KL(q(z|x) || p(z)), from one sample of z for each datum; an upper bound of the mutual "
        "information of the encoder",
        "sample",
    )


def _information(x: Tensor, encoded: Codes) -> Metric:
    dimensions = x[0].numel() + encoded.sample[0].numel()
    share = min(1.0, math.sqrt(_CHEAP_KSG_DIMENSIONS / dimensions))
    rows = slice(int(_MOST_KSG_DATA * share))
    k = min(5, (len(x[rows]) - 1) // 2)
    estimate = mutual_information(x[rows], encoded.sample[rows], k)
    notes = [f"ceiling {estimate.ceiling:.2f} nats at N = {estimate.num_data}"]
    if estimate.saturated:
        notes.append("saturated: it tells of the number of data, the truth may be higher")
    if dimensions > _TRUSTED_KSG_DIMENSIONS:
        notes.append(f"far too low in {dimensions} dimensions")
    if estimate.tied > 0.05:
        notes.append(
            f"{estimate.tied:.0%} of the data have ties at their neighbours' distance: data on a "
            "grid, of which it sees no detail"
        )
    error = None if math.isnan(estimate.standard_error) else estimate.standard_error
    return Metric(
        "mutual_information_ksg",
        estimate.value,
        "nats",
        f"I(x; z) by the estimator of Kraskov et al. (KSG-1, k = {k}), no rescaling",
        "sample",
        error,
        tuple(notes),
    )


def _reconstruction(model: Joint, x: Tensor, encoded: Codes, unit: str) -> list[Metric]:
    by_mean, sampled = [], []
    size = rows_at_once(x.shape)
    for rows, mean, sample in zip(
        x.split(size), encoded.mean.split(size), encoded.sample.split(size), strict=True
    ):
        decoded = mean_of(model.decoder(mean))
        by_mean.append((decoded - rows).flatten(1).square().mean(1))
        sampled.append((model.decoder(sample).sample() - rows).flatten(1).norm(dim=1))
    square = Estimate.mean_of(torch.cat(by_mean))
    root = math.sqrt(square.value)
    error = square.standard_error / (2 * root) if root > 0 else math.nan
    return [
        _metric(
            "reconstruction_rmse",
            Estimate(root, error),
            unit,
            "root of the mean squared difference of x and the decoder's mean at the code's mean, "
            "over data and dimensions",
            "mean",
        ),
        _metric(
            "sampled_reconstruction_distance",
            Estimate.mean_of(torch.cat(sampled)),
            unit,
            "mean Euclidean distance of x and a sample of p(x|z), z ~ q(z|x); the paper's "
            '"reconstruction error"',
            "sample",
        ),
    ]


def _neighbours(
    train: Codes, test: Codes, train_labels: Tensor, test_labels: Tensor
) -> list[Metric]:
    metrics = []
    latents: tuple[Literal["mean", "sample"], ...] = ("mean", "sample")
    for latent in latents:
        accuracies = knn_accuracies(
            getattr(train, latent),
            train_labels,
            getattr(test, latent),
            test_labels,
            [k for k in _NEIGHBOURS if k <= len(train.mean)],
        )
        for k, accuracy in accuracies.items():
            metrics.append(
                Metric(
                    f"knn_{k}_accuracy" + ("_sampled" if latent == "sample" else ""),
                    accuracy,
                    "",
                    f"share of test codes whose class the {k} nearest training codes vote for",
                    latent,
                    math.sqrt(accuracy * (1 - accuracy) / len(test_labels)),
                )
            )
    return metrics


def _latents(health: Health) -> list[Metric]:
    return [
        Metric(
            "active_units",
            float(health.active.sum()),
            f"of {health.active.numel()}",
            "latent dimensions in which the posterior means make up over 1 % of the variance of "
            "the aggregate posterior",
            "mean",
        ),
        Metric(
            "relative_posterior_std",
            health.relative_std,
            "",
            "median of the standard deviation of q(z|x) over that of the aggregate posterior",
            "mean",
        ),
    ]


def _at_floor(model: Joint, x: Tensor, encoded: Codes) -> list[Metric]:
    """Share of scales at their floor, for the parts that have one."""
    parts = (("encoder", model.encoder, x), ("decoder", model.decoder, encoded.mean))
    metrics = []
    for name, part, condition in parts:
        if not isinstance(part, Gaussian | DiscretizedLogistic):
            continue
        size = rows_at_once(x.shape)
        near = [at_floor(part(rows).scale, part.floor) for rows in condition.split(size)]
        metrics.append(
            Metric(
                f"{name}_share_at_floor",
                float(torch.cat(near).double().mean()),
                "",
                f"share of the {name}'s scales within 1 % of the smallest they can be",
                "mean",
            )
        )
    return metrics
