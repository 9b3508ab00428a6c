"""Remedies: what to try with an auto-encoder of any make, from what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mimachine.evaluation.arrays import Encodings
from mimachine.evaluation.metric import Metric

__all__ = [
    "remedies",
]


# Standard errors by which a difference has to be more than chance.
_CERTAIN = 3.0
# R² and accuracies that differ by less are the same for practical ends; below which much is lost.
_MARGIN, _POOR = 0.02, 0.8
# Reconstructions in other units: correlated with the data, and off by a factor of this.
_CORRELATED, _FACTOR = 0.5, 1.5
# Energy distances from the prior: of a shift of all latents by 0.2 and by 0.45 standard deviations.
_OFF, _FAR = 0.02, 0.1
# Nats, and a correlation, below which codes tell nothing of their data.
_UNRELATED = 0.05
_REPEATED_SHARE = 0.25
# More rows would not change the slope of so many values.
_MOST_ROWS = 1000


class _Measured(NamedTuple):
    data: Encodings
    verdict: str
    metrics: Mapping[str, Metric]

    def value(self, name: str) -> float:
        """A metric's value; NaN, of which nothing follows, where it was not measured."""
        return self.metrics[name].value if name in self.metrics else math.nan

    def error(self, *names: str) -> float:
        """Standard error of a difference of metrics."""
        errors = [self.metrics[n].standard_error or 0.0 for n in names if n in self.metrics]
        return math.hypot(*errors)


def remedies(data: Encodings, verdict: str, metrics: Mapping[str, Metric]) -> tuple[str, ...]:
    """What to try, a sentence or two each, the most pressing first.

    Args:
        data: What was measured.
        verdict: The verdict on the codes.
        metrics: The metrics by their names.
    """
    measured = _Measured(data, verdict, metrics)
    found = tuple(tip for each in _REMEDIES if (tip := each(measured)) is not None)
    if found or verdict not in ("healthy", "deterministic"):
        return found
    return ("Nothing needs mending.",)


def _other_units(m: _Measured) -> str | None:
    """Reconstructions that would be near if they were scaled."""
    if m.data.reconstructed is None or m.value("reconstruction_r2") > _POOR:
        return None
    rows = m.data.rows(_MOST_ROWS)
    slope, correlation = _line(m.data.x[rows], m.data.reconstructed[rows])
    if correlation < _CORRELATED or 1 / _FACTOR < slope < _FACTOR:
        return None
    return (
        f"x_reconstructed seems to be in other units than x: {slope:.3g} times as large, it would "
        "be nearer. Give both in the same units, or all numbers about reconstructions mislead."
    )


def _line(x: Tensor, reconstructed: Tensor) -> tuple[float, float]:
    """Slope of x over its reconstruction, and their correlation, over all numbers at once."""
    x, reconstructed = x.double(), reconstructed.double()
    x, reconstructed = x - x.mean(0), reconstructed - reconstructed.mean(0)
    both = float((x * reconstructed).sum())
    squares = float(x.square().sum()), float(reconstructed.square().sum())
    if not min(squares) > 0:
        return 1.0, 0.0
    return both / squares[1], both / math.sqrt(squares[0] * squares[1])


def _other_order(m: _Measured) -> str | None:
    """Codes that differ, yet have nothing to do with their data."""
    information = m.value("mutual_information_ksg")
    strays = information < _UNRELATED + _CERTAIN * m.error("mutual_information_ksg")
    kept = m.value("reconstruction_r2")
    if m.verdict == "collapsed" or not strays or kept > _MARGIN:
        return None
    # In many dimensions the estimate may be 0 of codes that do tell something.
    rows = m.data.rows(_MOST_ROWS)
    if _common_distances(m.data.x[rows], m.data.mean[rows]) > _UNRELATED:
        return None
    return (
        "The codes vary, but not with the data beside them. Are x and z_mean in the same order? A "
        "loader that shuffles gives another one each time."
    )


def _common_distances(x: Tensor, z: Tensor) -> float:
    """Correlation of the distances of pairs in x and in z."""
    distances = torch.stack([torch.pdist(each.double()) for each in (x, z)])
    return float(distances.corrcoef()[0, 1])


def _collapsed(m: _Measured) -> str | None:
    if m.verdict == "collapsed":
        return (
            "Train so that using the code pays: an objective that rewards mutual information, such "
            "as mim; or, in a VAE, a smaller weight of the KL term (β below 1, warm-up from 0, "
            "free bits); or a decoder that is weaker without the code."
        )
    if m.verdict != "partly collapsed":
        return None
    active, dimensions = _in_use(m)
    return (
        f"{active} of {dimensions} latents answer to the data. If reconstructions are good enough, "
        f"{active} latents are enough; if not, train with an objective that rewards mutual "
        "information, such as mim, or with a smaller weight of the KL term."
    )


def _in_use(m: _Measured) -> tuple[int, int]:
    name = "active_units" if "active_units" in m.metrics else "varying_units"
    return int(m.value(name)), m.data.mean.shape[1]


def _worse_than_linear(m: _Measured) -> str | None:
    kept, linear = m.value("reconstruction_r2"), m.value("pca_r2")
    least = max(_MARGIN, _CERTAIN * m.error("reconstruction_r2", "pca_r2"))
    # What comes of a collapse is mended with it.
    if m.verdict == "collapsed" or not linear - kept > least:
        return None
    components = m.data.mean.shape[1]
    share = f"{kept:.0%}" if kept >= 0 else "none: the mean of all data is nearer"
    return (
        f"{components} principal components keep {max(linear, 0):.0%} of the variance, this model "
        f"{share}. Train longer, with a higher learning rate or more data, or see whether the "
        "decoder is what holds it back."
    )


def _tight(m: _Measured) -> str | None:
    active, dimensions = _in_use(m)
    kept = m.value("reconstruction_r2")
    if active < dimensions or not kept < _POOR or m.value("pca_r2") > kept:
        return None
    return (
        f"All latents ({dimensions}) are in use, and {max(kept, 0):.0%} of the variance comes "
        "back. If more is needed, try more latents."
    )


def _repeating(m: _Measured) -> str | None:
    active, _ = _in_use(m)
    repeated = m.value("repeated_units")
    if not repeated >= max(1, _REPEATED_SHARE * active):
        return None
    return (
        f"{repeated:.0f} of {active} latents in use repeat others: {active - repeated:.0f} would "
        "say as much."
    )


def _far_from_prior(m: _Measured) -> str | None:
    distance = m.value("aggregate_energy_distance")
    certain = distance > _CERTAIN * m.error("aggregate_energy_distance")
    if m.verdict == "collapsed" or not certain or not distance > _OFF:
        return None
    how = "far from" if distance > _FAR else "not quite where"
    end = "the standard normal prior" + ("" if distance > _FAR else " is")
    return (
        f"As a whole the codes lie {how} {end} (mean off by {m.value('aggregate_offset'):.2g}, "
        f"standard deviation {m.value('aggregate_std'):.2g}), so what is drawn from N(0, I) "
        "decodes to something unlike the data. To draw new data, fit a density to the codes, such "
        "as a Gaussian mixture, and draw from that, or train with a learned prior."
    )


def _points(m: _Measured) -> str | None:
    if m.verdict != "deterministic" or m.data.std is None or not (m.data.std > 0).any():
        return None
    return (
        "The posteriors are nearly points. For codes this is no fault; for a likelihood, or for "
        "smooth ways between codes, give the encoder's standard deviation a floor, or the KL term "
        "more weight."
    )


def _classes_lost(m: _Measured) -> str | None:
    if m.verdict == "collapsed":
        return None
    for probe, how in (
        ("linear_probe_accuracy", "a linear classifier is"),
        ("knn_5_accuracy", "5 nearest neighbours are"),
    ):
        codes, data = m.value(probe), m.value(f"{probe}_of_x")
        if data - codes > max(_MARGIN, _CERTAIN * m.error(probe, f"{probe}_of_x")):
            return (
                f"The codes lose some of what tells the classes apart: {how} right for {codes:.0%} "
                f"by the code and for {data:.0%} by the data. If classes matter, try more latents "
                "in use, or a part of the loss that knows the labels."
            )
    return None


_REMEDIES: tuple[Callable[[_Measured], str | None], ...] = (
    _other_units,
    _other_order,
    _collapsed,
    _worse_than_linear,
    _repeating,
    _tight,
    _far_from_prior,
    _classes_lost,
    _points,
)
