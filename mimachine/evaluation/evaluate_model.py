"""Evaluation: every number that a trained model is judged by, with its unit and definition."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.memory import rows_at_once
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.dataset import Dataset
from mimachine.estimation.codes.aggregate import energy_distance
from mimachine.estimation.codes.collapse import Health, diagnose_codes
from mimachine.estimation.codes.floors import scales
from mimachine.estimation.codes.moments import Codes, closed_mean, codes, mean_of
from mimachine.estimation.codes.probes import knn_accuracies, linear_probe
from mimachine.estimation.codes.reencoding import reencode
from mimachine.estimation.estimate import CorrectedMean, Estimate
from mimachine.estimation.information.bounds import information_bounds
from mimachine.estimation.likelihood.importance import (
    FEWEST_EFFECTIVE,
    log_likelihood,
    mean_log_likelihood,
)
from mimachine.estimation.likelihood.quadrature import quadrature_log_likelihood
from mimachine.evaluation.information import bounds_metrics, ksg_metric, ksg_rows
from mimachine.evaluation.metric import ADVICE, LEARN_PRIOR, Metric, Report
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import DiagNormal, StandardNormal
from mimachine.model.hierarchy import Chain
from mimachine.model.joint import Joint
from mimachine.model.networks import evaluating

__all__ = [
    "evaluate",
    "latents_metrics",
]


_NEIGHBOURS = (1, 3, 5, 10)
# Bounds of the information compare all pairs, by a matrix product where codes are normal.
_MOST_BOUND_DATA, _MOST_PAIRS, _FEWEST_QUERIES = 10_000, 1_000_000, 100
# More training codes change an accuracy little, and cost as much as the training.
_MOST_NEIGHBOURS = 50_000
# As many as take a second or two.
_MOST_PROBED, _MOST_COMPARED, _MOST_REENCODED = 10_000, 4000, 10_000
# Where the decoder's mean is that of draws: how many of them for each datum, how many numbers, such
# as pixels, may be drawn in all, which take ten seconds of a PixelCNN, and data at most.
_DRAWS, _DRAWN_VALUES, _MOST_RECONSTRUCTED = 8, 2**21, 1000
# Shares of the time for many samples of some data, and for few samples of all.
_MANY_SHARE, _FEW_SHARE = 0.6, 0.3
_MOST_FEW, _FEWEST_DATA = 50, 20
# Data of which few latents are integrated over, where importance sampling fails.
_INTEGRATED = 500
_FLAGGED_SHARE = 0.05


def evaluate(
    model: Joint,
    data: Dataset,
    *,
    num_samples: int = 1000,
    seed: int = 0,
    seconds: float = 600.0,
) -> Report:
    """Measure a model on the test split.

    Args:
        model: The model, used in evaluation mode.
        data: The data; its training split serves the k-nearest-neighbour classifier alone.
        num_samples: Importance samples for the likelihood of each datum.
        seed: Seed of the noise; the global generator is left as found.
        seconds: Time that it may take. All but the likelihood takes what it takes, a minute at
            most for data of usual sizes. Where the likelihood of all data would take longer than
            what is left, some have so many samples and the others few (`mean_log_likelihood`), and
            a note says so. Of 20 data and fewer all have so many, whatever it takes. Within the
            time the numbers depend on the seed alone.

    Raises:
        ValueError: If `seconds` is not positive, or `num_samples` is not.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    end = time.monotonic() + seconds
    device = next(model.parameters()).device
    test = data.test.to(device)

    def noise(purpose: str) -> AbstractContextManager[None]:
        """Noise of its own for each measurement, so that none moves the numbers of another."""
        return forked(derived_seed(seed, "evaluation", purpose), device)

    with evaluating(model), torch.no_grad():
        with noise("codes"):
            test_codes = codes(model, test)
        with noise("reconstruction"):
            kept = _reconstruction(model, test, test_codes, data.unit)
        if len(test) >= 4:
            with noise("information"):
                kept = [*_information(model, test, test_codes), *kept]
        if data.train_labels is not None and data.test_labels is not None:
            labels = (data.train_labels[:_MOST_NEIGHBOURS], data.test_labels)
            # To tell one class from no other says nothing.
            if len(labels[0].unique()) > 1:
                with noise("training codes"):
                    train_codes = codes(model, data.train[:_MOST_NEIGHBOURS].to(device))
                kept += _neighbours(train_codes, test_codes, *labels)
                kept.append(_probe(train_codes, test_codes, *labels))
        at_floor = _at_floor(model, test, test_codes)
        of_encoder = (each.value for each in at_floor if each.name == "encoder_share_at_floor")
        health = diagnose_codes(
            test_codes.mean, test_codes.std, share_at_floor=next(of_encoder, 0.0)
        )
        shape = [*latents_metrics(health), *at_floor]
        with noise("re-encoding"):
            shape += _reencoding(model, test, test_codes)
        if len(test) >= 4:
            shape += _aggregate(model.prior(), test_codes)
        with noise("rate"):
            rate = _rate(model, test)
        with noise("likelihood"):
            explained = _likelihood(model, test, num_samples, end)
        metrics = [*(_in_units(metric, data.log_volume) for metric in explained), rate]
        advice = _advice(health.verdict, model.prior())
    return Report((*metrics, *kept, *shape), health.verdict, advice)


def _advice(verdict: str, prior: Distribution) -> str:
    if verdict == "deterministic" and isinstance(prior, DiagNormal | StandardNormal):
        return f"{ADVICE[verdict]} {LEARN_PRIOR}"
    return ADVICE[verdict]


def _in_units(metric: Metric, log_volume: float) -> Metric:
    """A number of nats of the data as the model sees them, in nats of the data in their units."""
    return replace(metric, value=metric.value + log_volume)


def _likelihood(model: Joint, x: Tensor, num_samples: int, end: float) -> list[Metric]:
    """Likelihood and ELBO, and by quadrature where importance sampling fails and that can be."""
    each, left = _seconds_for_one(model, x, num_samples), end - time.monotonic()
    if len(x) * each > left and len(x) > _FEWEST_DATA and num_samples > 1:
        return _likelihood_of_some(model, x, num_samples, left / each)
    result = log_likelihood(model, x, num_samples)
    effective, flagged = result.effective_sample_sizes, float(result.flagged.double().mean())
    note = (
        f"median effective sample size {float(effective.median()):.3g} of {num_samples}, "
        f"median Pareto-k {float(result.pareto_k.median()):.2f}"
    )
    metrics = [
        _negative_log_likelihood(result.mean(), flagged, num_samples, (note,)),
        _negative_elbo(result.evidence_lower_bounds, "from the same samples"),
    ]
    # So few samples that no estimate could be trusted are a choice, and not for want of a better.
    if metrics[0].flagged and num_samples >= FEWEST_EFFECTIVE and _can_be_integrated(model):
        metrics.append(_by_quadrature(model, x, result.values))
    return metrics


def _seconds_for_one(model: Joint, x: Tensor, num_samples: int) -> float:
    """Time that the likelihood of a datum takes; nothing is taken of the noise."""
    taken = []
    with forked(0, x.device):
        for _ in range(2):
            start = time.monotonic()
            float(log_likelihood(model, x[:1], num_samples).values)
            taken.append(time.monotonic() - start)
    return min(taken)


def _likelihood_of_some(
    model: Joint, x: Tensor, num_samples: int, affordable: float
) -> list[Metric]:
    """The same from many samples of as many data as there is time for, and few of the others."""
    subset = max(_FEWEST_DATA, int(_MANY_SHARE * affordable))
    few = int(_FEW_SHARE * affordable * num_samples / len(x))
    few = max(1, min(few, _MOST_FEW, num_samples - 1))
    mean = mean_log_likelihood(model, x, num_samples, subset=subset, few_samples=few)
    note = (
        f"in the time given, {num_samples} samples for {mean.subset:,} of {len(x):,} data and "
        f"{few} for the others, from which comes an error of {mean.subset_error:.2g}"
    )
    single = log_likelihood(model, x, 1)
    return [
        _negative_log_likelihood(mean, mean.flagged, num_samples, (note,)),
        _negative_elbo(single.evidence_lower_bounds, "one sample of each datum"),
    ]


def _negative_log_likelihood(
    mean: Estimate, flagged: float, num_samples: int, notes: tuple[str, ...]
) -> Metric:
    doubtful = flagged > _FLAGGED_SHARE
    if doubtful:
        note = (
            f"{flagged:.0%} of the data flagged: their estimates may be off by over 0.1 nat, an "
            "upper bound that may be loose"
        )
        notes = (*notes, note)
    return Metric.of(
        "negative_log_likelihood",
        Estimate(-mean.value, mean.standard_error),
        "nats",
        f"-log of the mean of {num_samples} importance weights p(x|z) p(z) / q(z|x), z ~ q(z|x); "
        "an upper bound in expectation",
        "sample",
        notes,
        doubtful,
        ("loose-bound",) if doubtful else (),
    )


def _negative_elbo(bounds: Tensor, samples: str) -> Metric:
    return Metric.of(
        "negative_elbo",
        Estimate.mean_of(-bounds),
        "nats",
        f"-E[log p(x|z) + log p(z) - log q(z|x)], z ~ q(z|x), {samples}; what the likelihood's "
        "estimate would be with one sample each",
        "sample",
    )


def _can_be_integrated(model: Joint) -> bool:
    prior = model.prior()
    return prior.event_shape.numel() <= 2 and not is_discrete(prior)


def _by_quadrature(model: Joint, x: Tensor, sampled: Tensor) -> Metric:
    """Likelihood by quadrature of some data, and for the others what that adds to `sampled`."""
    chosen = torch.randperm(len(x))[:_INTEGRATED].to(x.device)
    integral = quadrature_log_likelihood(model, x[chosen])
    mean = CorrectedMean.of(sampled, chosen, integral.values)
    flagged = float(integral.flagged.double().mean())
    notes = [f"{len(chosen)} of {len(x):,} data integrated over"]
    if flagged > _FLAGGED_SHARE:
        notes.append(f"{flagged:.0%} of the integrals did not reach {integral.tolerance:g} nats")
    return Metric.of(
        "negative_log_likelihood_quadrature",
        Estimate(-mean.value, mean.standard_error),
        "nats",
        "-log of the integral of p(x|z) p(z) over z by adaptive quadrature, which does not depend "
        "on the encoder",
        "mean",
        tuple(notes),
        flagged > _FLAGGED_SHARE,
    )


def _rate(model: Joint, x: Tensor) -> Metric:
    rates = []
    for rows in x.split(rows_at_once(x.shape)):
        log_probs = model.log_probs(model.encode(rows))
        rates.append(log_probs.q_z_given_x - log_probs.p_z)
    return Metric.of(
        "rate",
        Estimate.mean_of(torch.cat(rates)),
        "nats",
        "E KL(q(z|x) || p(z)), from one sample of z for each datum; an upper bound of the mutual "
        "information of the encoder",
        "sample",
    )


def _information(model: Joint, x: Tensor, encoded: Codes) -> list[Metric]:
    """Mutual information by KSG and between two bounds, by the known q(z|x)."""
    rows = x[:_MOST_BOUND_DATA]
    product = isinstance(model.encoder(rows[:2]), DiagNormal)
    queries = len(rows) if product else max(_FEWEST_QUERIES, _MOST_PAIRS // len(rows))
    bounds = information_bounds(model, rows, num_queries=min(queries, len(rows)))
    data, sample = x.flatten(1), encoded.sample.flatten(1)
    some = slice(ksg_rows(data.shape[1] + sample.shape[1]))
    by_ksg = ksg_metric(data[some], sample[some], bounds, "no rescaling")
    return [by_ksg, *bounds_metrics(bounds)]


def _has_mean(model: Joint, encoded: Codes) -> bool:
    """Whether the decoder's mean is known, and not only from draws."""
    return closed_mean(model.decoder(encoded.mean[:2])) is not None


def _reconstruction(model: Joint, x: Tensor, encoded: Codes, unit: str) -> list[Metric]:
    known, count = _has_mean(model, encoded), len(x)
    if not known:
        affordable = _DRAWN_VALUES // (_DRAWS * x[0].numel())
        x = x[: max(_FEWEST_DATA, min(_MOST_RECONSTRUCTED, affordable))]
    encoded = Codes(*(part[: len(x)] for part in encoded))
    notes = () if count == len(x) else (f"of the first {len(x)} data",)
    of_draws = f"from {_DRAWS} draws of x for each datum, whose scatter is taken off"
    by_mean, sampled = [], []
    size = rows_at_once(x.shape)
    for rows, mean, sample in zip(
        x.split(size), encoded.mean.split(size), encoded.sample.split(size), strict=True
    ):
        by_mean.append(_squared_error(model.decoder(mean), rows, known))
        sampled.append((model.decoder(sample).sample() - rows).flatten(1).norm(dim=1))
    square = Estimate.mean_of(torch.cat(by_mean))
    root = math.sqrt(max(0.0, square.value))
    error = square.standard_error / (2 * root) if root > 0 else math.nan
    return [
        Metric.of(
            "reconstruction_rmse",
            Estimate(root, error),
            unit,
            "root of the mean squared difference of x and the decoder's mean at the code's mean, "
            "over data and dimensions",
            "mean",
            notes if known else (*notes, of_draws),
        ),
        Metric.of(
            "sampled_reconstruction_distance",
            Estimate.mean_of(torch.cat(sampled)),
            unit,
            "mean Euclidean distance of x and a sample of p(x|z), z ~ q(z|x); the paper's "
            '"reconstruction error"',
            "sample",
            notes,
        ),
    ]


def _squared_error(decoded: Distribution, x: Tensor, known: bool) -> Tensor:
    """Mean over dimensions of (x - E[x|z])², shape (B,), without bias where the mean is not known.

    The mean of S draws is off by their variance over S, on average.
    """
    if known:
        return (mean_of(decoded) - x).flatten(1).square().mean(1)
    draws = decoded.sample(torch.Size((_DRAWS,))).to(x.dtype)
    square = (draws.mean(0) - x).square() - draws.var(0) / _DRAWS
    return square.flatten(1).mean(1)


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


def _probe(train: Codes, test: Codes, train_labels: Tensor, test_labels: Tensor) -> Metric:
    some = slice(_MOST_PROBED)
    return Metric.of(
        "linear_probe_accuracy",
        linear_probe(train.mean[some], train_labels[some], test.mean, test_labels),
        "",
        "share of test codes whose class a logistic regression of the training codes tells, its "
        "penalty chosen on a fifth of them",
    )


def _reencoding(model: Joint, x: Tensor, encoded: Codes) -> list[Metric]:
    """Whether codes come back from their own reconstructions."""
    if is_discrete(model.prior()):
        return []
    known = _has_mean(model, encoded)
    some = x[: _MOST_REENCODED if known else _FEWEST_DATA]
    again = reencode(model, some)
    notes = () if len(some) == len(x) else (f"of the first {len(some)} data",)
    return [
        Metric(
            "reencoding_offset",
            float(again.offset.square().mean().sqrt()),
            "",
            "distance of the means of q(z|x) and q(z|x'), x' the decoder's mean at the first, in "
            "standard deviations of the aggregate posterior: root mean square over data and "
            "latent dimensions",
            "mean",
            notes=notes if known else (*notes, "the decoder's mean is that of 64 draws"),
        )
    ]


def _aggregate(prior: Distribution, encoded: Codes) -> list[Metric]:
    """Whether the codes of all data lie like a normal prior."""
    if not isinstance(prior, DiagNormal | StandardNormal):
        return []
    return [
        Metric.of(
            "aggregate_energy_distance",
            energy_distance(encoded.sample[:_MOST_COMPARED], prior.mean, prior.stddev),
            "",
            "energy distance of the codes from the prior, E|z-ε| twice less E|z-z'| and E|ε-ε'|, "
            "in units of the last; unbiased, so it is around 0 for codes that lie like the prior",
            "sample",
        )
    ]


def latents_metrics(health: Health) -> list[Metric]:
    """How many latents are in use, and how wide codes are."""
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
    prior = model.prior()
    found: dict[str, tuple[str, list[Tensor]]] = {}
    size = rows_at_once(x.shape)
    # A pass of the decoder over all data is spared where its scales, as of binary pixels, have no
    # floor.
    with_decoder = bool(scales(model.decoder(encoded.mean[:2]), x[:2]))
    for rows, mean, sample in zip(
        x.split(size), encoded.mean.split(size), encoded.sample.split(size), strict=True
    ):
        parts = _of_latents(model.encoder(rows), prior, sample)
        if with_decoder:
            parts.append(("decoder", "p(x|z)", model.decoder(mean), rows))
        for name, symbol, distribution, value in parts:
            masks = [each.at_floor.flatten() for each in scales(distribution, value)]
            found.setdefault(name, (symbol, []))[1].extend(masks)
    chained = isinstance(prior, Chain)
    return [
        Metric(
            f"{name}_share_at_floor",
            float(torch.cat(masks).double().mean()),
            "",
            f"share of the scales of {symbol} within 1 % of the smallest they can be",
            "sample" if chained and name != "decoder" else "mean",
        )
        for name, (symbol, masks) in found.items()
        if masks
    ]


def _of_latents(
    encoder: Distribution, prior: Distribution, z: Tensor
) -> list[tuple[str, str, Distribution, Tensor]]:
    """Distributions of latents with what is looked at of each, by a name and a symbol."""
    parts = [("encoder", "q(z|x)", encoder, z)]
    if isinstance(encoder, Chain):
        first, second = encoder.parts(z)
        parts.append(
            ("encoder_first", "q(a|x), of z = (a, b) the part that is drawn first", *first)
        )
        parts.append(
            ("encoder_second", "q(b|x, a), of z = (a, b) the part given the other", *second)
        )
    if isinstance(prior, Chain):
        parts.append(
            ("prior_second", "p(b|a), of z = (a, b) the part given the other", *prior.parts(z)[1])
        )
    return parts
