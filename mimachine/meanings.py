"""Meanings: what each metric tells a practitioner, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mimachine.metrics import Metric

__all__ = ["MEANINGS", "Meaning", "listed", "meaning"]


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
    "encoder_share_at_floor": Meaning(
        _WIDTH,
        "Encoder scales at their floor",
        "",
        "Near 1, codes are as narrow as model.encoder_floor lets them be.",
    ),
    "decoder_share_at_floor": Meaning(
        _WIDTH,
        "Decoder scales at their floor",
        "",
        "Near 1, the decoder is as sure as its floor lets it be, and the likelihood is a matter "
        "of that floor.",
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
            "Whether the codes keep the classes apart",
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
