"""Meanings: what each metric tells a practitioner, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mimachine.evaluation.metric import Metric

__all__ = [
    "MEANINGS",
    "Meaning",
    "listed",
    "meaning",
]


class Meaning(NamedTuple):
    """What to make of a metric.

    Attributes:
        group: The question that it helps to answer; metrics of a group are shown together.
        title: What to call it.
        better: Which way is better, or "" if neither is as such.
        text: What it tells.
    """

    group: str
    title: str
    better: Literal["lower", "higher", ""]
    text: str


_LIKELIHOOD = "How well the model explains the data"
_KEPT = "What the codes keep"
_WIDTH = "Shape of the codes"
_PRIOR = "Whether new data can be drawn from the prior"
_CLASSES = "Whether the codes keep the classes apart"
MEANINGS = {
    "negative_log_likelihood": Meaning(
        _LIKELIHOOD,
        "Negative log-likelihood",
        "lower",
        "How much unseen data surprise the model. Only models of the same data with the same kind "
        "of likelihood can be compared by it.",
    ),
    "negative_elbo": Meaning(
        _LIKELIHOOD,
        "Negative ELBO",
        "lower",
        "The same, judged from one code for each datum: what a VAE minimises. The gap to the line "
        "above shows how far the encoder is from the true posterior.",
    ),
    "negative_log_likelihood_quadrature": Meaning(
        _LIKELIHOOD,
        "Negative log-likelihood by quadrature",
        "lower",
        "The likelihood itself, where the estimate above is only an upper bound because the "
        "encoder is narrower than the posterior.",
    ),
    "rate": Meaning(
        _LIKELIHOOD,
        "Rate",
        "",
        "How far the code of a datum is from the prior, on average: no code can tell more than "
        "that. Near 0, codes are ignored; far above the mutual information, the prior does not "
        "match the codes.",
    ),
    "mutual_information_ksg": Meaning(
        _KEPT,
        "Mutual information",
        "higher",
        "How much a code tells of the datum it came from. It can never exceed its ceiling, and in "
        "many dimensions it is far too low: see the notes before trusting it.",
    ),
    "mutual_information_lower": Meaning(
        _KEPT,
        "Mutual information, at least",
        "higher",
        "So much a code tells of its datum for certain, up to its error, in any number of "
        "dimensions. It can never exceed the logarithm of the number of data.",
    ),
    "mutual_information_upper": Meaning(
        _KEPT,
        "Mutual information, at most",
        "",
        "And no more than that. Where the two are one, it is known.",
    ),
    "reconstruction_rmse": Meaning(
        _KEPT,
        "Reconstruction error",
        "lower",
        "How far data are from themselves after encoding and decoding without noise, typically, "
        "in each of their numbers.",
    ),
    "sampled_reconstruction_distance": Meaning(
        _KEPT,
        "Reconstruction distance",
        "lower",
        "The same with the noise of encoder and decoder, as a distance over all numbers of a "
        "datum at once.",
    ),
    "reconstruction_r2": Meaning(
        _KEPT,
        "Variance kept (R²)",
        "higher",
        "Share of the variance of the data that their reconstructions have. At 0 the mean of the "
        "data would do as well.",
    ),
    "reconstruction_r2_of_a_datum": Meaning(
        _KEPT,
        "Variance kept of a typical datum",
        "higher",
        "The same for each datum, of which half do better: far above the line before, a few data "
        "are the trouble.",
    ),
    "pca_r2": Meaning(
        _KEPT,
        "Variance that PCA keeps",
        "",
        "What a linear map to as many numbers would keep: an auto-encoder should do better.",
    ),
    "active_units": Meaning(
        _WIDTH,
        "Active latents",
        "",
        "Latent dimensions that answer to the data; the others could be left out.",
    ),
    "relative_posterior_std": Meaning(
        _WIDTH,
        "Relative width of a code",
        "",
        "Uncertainty of one code against the spread of all. Near 1, codes say nothing; below "
        "0.01, they are nearly points.",
    ),
    "varying_units": Meaning(
        _WIDTH,
        "Latents that vary",
        "",
        "The others could be left out. Without the width of the codes nobody can tell which of "
        "these are more than noise.",
    ),
    "effective_dimensions": Meaning(
        _WIDTH,
        "Effective dimensions",
        "",
        "How many independent latents of equal weight would spread the codes as much. Far below "
        "the active latents, these repeat one another.",
    ),
    "repeated_units": Meaning(
        _WIDTH,
        "Repeated latents",
        "lower",
        "Latents that say again what another one says.",
    ),
    "aggregate_energy_distance": Meaning(
        _PRIOR,
        "Distance of the codes from the prior",
        "lower",
        "0 where codes as a whole lie like the prior, so that what is drawn from it decodes to "
        "something like the data. Half the square of a shift of all latents, in standard "
        "deviations, so 0.02 is a shift by 0.2; 0.1 is far.",
    ),
    "aggregate_offset": Meaning(
        _PRIOR,
        "Offset of the codes",
        "lower",
        "How far the centre of the codes is from 0, typically, in each latent.",
    ),
    "aggregate_std": Meaning(
        _PRIOR,
        "Spread of the codes",
        "",
        "How wide the codes lie, typically, in each latent; the prior's is 1.",
    ),
    "linear_probe_accuracy": Meaning(
        _CLASSES,
        "Linear accuracy",
        "higher",
        "Share of further data whose class a linear classifier tells from the code.",
    ),
    "linear_probe_accuracy_of_x": Meaning(
        _CLASSES,
        "Linear accuracy of the data",
        "",
        "The same from the data themselves, to compare with.",
    ),
    "knn_5_accuracy_of_x": Meaning(
        _CLASSES,
        "5-nearest-neighbour accuracy of the data",
        "",
        "The same from the data themselves, to compare with.",
    ),
    "reencoding_offset": Meaning(
        _WIDTH,
        "Codes of reconstructions",
        "lower",
        "How far a code is from the code of its own reconstruction, in units of the spread of all. "
        "Near 0, encoder and decoder agree.",
    ),
    "encoder_share_at_floor": Meaning(
        _WIDTH,
        "Encoder scales at their floor",
        "",
        "Near 1, codes are as narrow as model.encoder_floor, or the clamp of an image model, lets "
        "them be.",
    ),
    "encoder_first_share_at_floor": Meaning(
        _WIDTH,
        "Scales of the first latent at their floor",
        "",
        "The same of the latent of a hierarchy that is drawn first, q(z2|x).",
    ),
    "encoder_second_share_at_floor": Meaning(
        _WIDTH,
        "Scales of the second latent at their floor",
        "",
        "The same of the latent that is drawn given the first, q(z1|x, z2).",
    ),
    "prior_second_share_at_floor": Meaning(
        _WIDTH,
        "Scales of the second latent's prior at their floor",
        "",
        "Near 1 beside an encoder near 1, the second latent is little more than a copy of what "
        "the first one says.",
    ),
    "decoder_share_at_floor": Meaning(
        _WIDTH,
        "Decoder scales at their floor",
        "",
        "Near 1, the decoder is as sure as its floor or clamp lets it be, and the likelihood is a "
        "matter of that bound.",
    ),
}


def meaning(metric: Metric) -> Meaning:
    """The meaning of a metric; of one that is not in the table, its own definition."""
    known = MEANINGS.get(metric.name)
    if known is not None:
        return known
    parts = metric.name.split("_")
    if parts[0] == "knn" and parts[2:3] == ["accuracy"]:
        near = "nearest training code" if parts[1] == "1" else f"{parts[1]} nearest training codes"
        noisy = metric.latent == "sample"
        return Meaning(
            _CLASSES,
            f"{parts[1]}-nearest-neighbour accuracy" + (", noisy codes" if noisy else ""),
            "higher",
            f"Share of test data whose class can be told from the {near}"
            + (", with the encoder's noise." if noisy else "."),
        )
    # A metric that is newer than this table says what it is by its definition.
    return Meaning("Other numbers", metric.name.replace("_", " "), "", metric.definition)


def listed(names: Sequence[str]) -> str:
    """Names as one speaks them: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
