"""Advice: what a verdict on the codes means, and what to try."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from mimachine.evaluation.arrays import Encodings
from mimachine.evaluation.metric import Metric
from mimachine.model.distributions import DiagNormal, StandardNormal

__all__ = ["LEARN_PRIOR", "VERDICTS", "advice_for_model", "remedies"]

VERDICTS = {
    "healthy": "The codes depend on the data, and the posteriors are neither points nor the prior.",
    "partly collapsed": "Most latent dimensions carry no information about the data.",
    "collapsed": "The codes carry next to no information about the data: less than 0.1 nat.",
    "deterministic": (
        "The codes are nearly points. That is no fault: they keep the information in the data, and "
        "reconstruct and classify it as well. But the encoder is far narrower than any posterior."
    ),
    "unknown": (
        "The codes vary with the data; without z_std it is unknown whether noise dominates."
    ),
}
_FOR_MODELS = {
    "partly collapsed": "Try the objective mim, or fewer latents.",
    "collapsed": "Try the objective mim, a longer warm-up, or a weaker decoder.",
}
# For nearly point-like codes under a normal prior. Other priors were fitted or learned.
LEARN_PRIOR = (
    "Samples and likelihood are better with a prior fitted to the codes (refit_prior; training a "
    "run does so at its end), or a learned one (such as model.prior learned-normal)."
)

# Differences below this number of standard errors may be chance.
_CERTAIN = 3.0
# Differences of R² and accuracies that do not matter in practice; R² below which much is lost.
_MARGIN, _POOR = 0.02, 0.8
# Reconstructions in other units: correlated with the data, and off by this factor.
_CORRELATED, _FACTOR = 0.5, 1.5
# Energy distances from the prior after a shift of all latents by 0.2 and 0.45 standard deviations.
_OFF, _FAR = 0.02, 0.1
# Nats, and a correlation, below which codes are unrelated to their data.
_UNRELATED = 0.05
_REPEATED_SHARE = 0.25
# More rows would not change a slope over all values.
_MOST_ROWS = 1000


def advice_for_model(verdict: str, prior: Distribution) -> str:
    """What a verdict on a model's codes means, and what to try."""
    texts = [VERDICTS[verdict], _FOR_MODELS.get(verdict, "")]
    if verdict == "deterministic" and isinstance(prior, DiagNormal | StandardNormal):
        texts.append(LEARN_PRIOR)
    return " ".join(filter(None, texts))


class _Measured(NamedTuple):
    data: Encodings
    verdict: str
    metrics: Mapping[str, Metric]

    def value(self, name: str) -> float:
        """A metric's value; NaN, from which nothing follows, if it was not measured."""
        return self.metrics[name].value if name in self.metrics else math.nan

    def error(self, *names: str) -> float:
        """Standard error of a difference of metrics."""
        errors = [self.metrics[n].standard_error or 0.0 for n in names if n in self.metrics]
        return math.hypot(*errors)


def remedies(data: Encodings, verdict: str, metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    """What to try with any auto-encoder, the most important first.

    Args:
        data: The arrays that were measured.
        verdict: The verdict on the codes.
        metrics: The metrics by their names.
    """
    measured = _Measured(data, verdict, metrics)
    found = tuple(tip for each in _REMEDIES if (tip := each(measured)) is not None)
    if found or verdict not in ("healthy", "deterministic"):
        return found
    return ("No problems found.",)


def _other_units(m: _Measured) -> str | None:
    """Reconstructions that would be close after scaling."""
    if m.data.reconstructed is None or m.value("reconstruction_r2") > _POOR:
        return None
    rows = m.data.rows(_MOST_ROWS)
    slope, correlation = _line(m.data.x[rows], m.data.reconstructed[rows])
    if correlation < _CORRELATED or 1 / _FACTOR < slope < _FACTOR:
        return None
    return (
        "x_reconstructed seems to be in other units than x: it would be closer if multiplied by "
        f"{slope:.3g}. Give both in the same units; otherwise all numbers about reconstructions "
        "mislead."
    )


def _line(x: Tensor, reconstructed: Tensor) -> tuple[float, float]:
    """Slope of x over its reconstruction, and their correlation, over all values."""
    x, reconstructed = x.double(), reconstructed.double()
    x, reconstructed = x - x.mean(0), reconstructed - reconstructed.mean(0)
    both = float((x * reconstructed).sum())
    squares = float(x.square().sum()), float(reconstructed.square().sum())
    if not min(squares) > 0:
        return 1.0, 0.0
    return both / squares[1], both / (math.sqrt(squares[0]) * math.sqrt(squares[1]))


def _other_order(m: _Measured) -> str | None:
    """Codes that vary, but independently of their data."""
    information = m.value("mutual_information_ksg")
    strays = information < _UNRELATED + _CERTAIN * m.error("mutual_information_ksg")
    kept = m.value("reconstruction_r2")
    if m.verdict == "collapsed" or not strays or kept > _MARGIN:
        return None
    # In many dimensions the estimate may be 0 for codes that carry information.
    rows = m.data.rows(_MOST_ROWS)
    if _common_distances(m.data.x[rows], m.data.mean[rows]) > _UNRELATED:
        return None
    return (
        "The codes vary, but independently of the data in the same row. Check that x and z_mean "
        "are in the same order; a loader that shuffles gives a different order each time."
    )


def _common_distances(x: Tensor, z: Tensor) -> float:
    """Correlation of the distances of pairs in x and in z."""
    distances = torch.stack([torch.pdist(each.double()) for each in (x, z)])
    return float(distances.corrcoef()[0, 1])


def _collapsed(m: _Measured) -> str | None:
    if m.verdict == "collapsed":
        return (
            "Train with an objective that rewards mutual information, such as mim; or, in a VAE, "
            "with a smaller weight of the KL term (β below 1, warm-up from 0, free bits); or use "
            "a weaker decoder."
        )
    if m.verdict != "partly collapsed":
        return None
    active, dimensions = _active(m)
    return (
        f"{active} of {dimensions} latents respond to the data. If reconstructions are good "
        f"enough, {active} latents suffice; if not, train with an objective that rewards mutual "
        "information, such as mim, or with a smaller weight of the KL term."
    )


def _active(m: _Measured) -> tuple[int, int]:
    name = "active_units" if "active_units" in m.metrics else "varying_units"
    return int(m.value(name)), m.data.mean.shape[1]


def _worse_than_linear(m: _Measured) -> str | None:
    kept, linear = m.value("reconstruction_r2"), m.value("pca_r2")
    least = max(_MARGIN, _CERTAIN * m.error("reconstruction_r2", "pca_r2"))
    # Fixing a collapse fixes this too.
    if m.verdict == "collapsed" or not linear - kept > least:
        return None
    components = m.data.mean.shape[1]
    share = f"{kept:.0%}" if kept >= 0 else "none: the mean of all data is closer"
    return (
        f"{components} principal components explain {max(linear, 0):.0%} of the variance, this "
        f"model {share}. Train longer, with a higher learning rate or more data, or with a larger "
        "decoder."
    )


def _too_few_latents(m: _Measured) -> str | None:
    active, dimensions = _active(m)
    kept = m.value("reconstruction_r2")
    if active < dimensions or not kept < _POOR or m.value("pca_r2") > kept:
        return None
    return (
        f"All latents ({dimensions}) are active, and {max(kept, 0):.0%} of the variance is "
        "explained. If more is needed, try more latents."
    )


def _repeating(m: _Measured) -> str | None:
    active, _ = _active(m)
    repeated = m.value("repeated_units")
    if not repeated >= max(1, _REPEATED_SHARE * active):
        return None
    return (
        f"{repeated:.0f} of {active} active latents repeat others: {active - repeated:.0f} would "
        "carry the same information."
    )


def _far_from_prior(m: _Measured) -> str | None:
    distance = m.value("aggregate_energy_distance")
    certain = distance > _CERTAIN * m.error("aggregate_energy_distance")
    if m.verdict == "collapsed" or not certain or not distance > _OFF:
        return None
    how = "far from" if distance > _FAR else "not quite distributed as"
    return (
        f"As a whole the codes are {how} the standard normal prior (mean off by "
        f"{m.value('aggregate_offset'):.2g}, standard deviation {m.value('aggregate_std'):.2g}), "
        "so samples of N(0, I) do not decode to realistic data. To sample new data, fit a density "
        "to the codes, such as a Gaussian mixture, or train with a learned prior."
    )


def _points(m: _Measured) -> str | None:
    if m.verdict != "deterministic" or m.data.std is None or not (m.data.std > 0).any():
        return None
    return (
        "The posteriors are nearly points. This does not matter for the codes themselves. For a "
        "likelihood, or for smooth interpolation between codes, set a floor on the encoder's "
        "standard deviation, or give the KL term more weight."
    )


def _classes_lost(m: _Measured) -> str | None:
    if m.verdict == "collapsed":
        return None
    for probe, how in (
        ("linear_probe_accuracy", "the accuracy of a linear classifier"),
        ("knn_5_accuracy", "the 5-nearest-neighbour accuracy"),
    ):
        codes, data = m.value(probe), m.value(f"{probe}_of_x")
        if data - codes > max(_MARGIN, _CERTAIN * m.error(probe, f"{probe}_of_x")):
            return (
                f"The codes lose information about the classes: {how} is {codes:.0%} from codes "
                f"and {data:.0%} from the data. If classes matter, try more active latents, or a "
                "loss that uses the labels."
            )
    return None


_REMEDIES: tuple[Callable[[_Measured], str | None], ...] = (
    _other_units,
    _other_order,
    _collapsed,
    _worse_than_linear,
    _repeating,
    _too_few_latents,
    _far_from_prior,
    _classes_lost,
    _points,
)
