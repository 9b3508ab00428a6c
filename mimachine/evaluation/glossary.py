"""Glossary: every metric, declared once.

A declaration holds all that does not depend on the model or the data. To add a metric, declare it
here and measure it in the file of its question: `likelihood`, `information`, `reconstruction`,
`codes`, `generated` or `classes`.
"""

from __future__ import annotations

import math

from mimachine.estimation.estimate import Estimate
from mimachine.evaluation.declaration import (
    CODES,
    KEPT,
    LIKELIHOOD,
    PRIOR,
    Declaration,
    Latent,
    linear_probe,
    nearest_neighbours,
    of_the_data,
)
from mimachine.evaluation.metric import Metric, Reason

__all__ = ["GLOSSARY", "Declaration", "declaration", "listed", "measured"]

_DECLARED = [
    Declaration(
        "negative_log_likelihood",
        LIKELIHOOD,
        "Negative log-likelihood",
        "nats",
        "lower",
        "sample",
        "-log of the mean of {num_samples} importance weights p(x|z) p(z) / q(z|x), z ~ q(z|x); "
        "an upper bound in expectation",
        "How much unseen data surprise the model. It compares only models of the same data with "
        "the same kind of likelihood.",
    ),
    Declaration(
        "negative_elbo",
        LIKELIHOOD,
        "Negative ELBO",
        "nats",
        "lower",
        "sample",
        "-E[log p(x|z) + log p(z) - log q(z|x)], z ~ q(z|x), {samples}; the likelihood's estimate "
        "with one sample per row",
        "The negative log-likelihood estimated from one code per row: what a VAE minimises. The "
        "gap to the negative log-likelihood shows how far the encoder is from the true posterior.",
    ),
    Declaration(
        "negative_log_likelihood_quadrature",
        LIKELIHOOD,
        "Negative log-likelihood by quadrature",
        "nats",
        "lower",
        "mean",
        "-log of the integral of p(x|z) p(z) over z by adaptive quadrature, which does not depend "
        "on the encoder",
        "The likelihood itself, where importance sampling gives only an upper bound because the "
        "encoder is narrower than the posterior.",
    ),
    Declaration(
        "rate",
        LIKELIHOOD,
        "Rate",
        "nats",
        "",
        "sample",
        "E KL(q(z|x) || {prior}), {how}; an upper bound on the mutual information between data "
        "and code",
        "Average divergence of a code from the prior, the most that a code can say about its row. "
        "Near 0, codes are ignored. Far above the mutual information, the prior does not match "
        "the codes.",
    ),
    Declaration(
        "mutual_information_ksg",
        KEPT,
        "Mutual information (KSG)",
        "nats",
        "higher",
        "sample",
        "I(x; z) by the estimator of Kraskov et al. (KSG-1, k = {k}), {scaling}",
        "How much a code says about its row, estimated from nearest neighbours. It cannot exceed "
        "its ceiling, and in many dimensions it is far too low: see the notes.",
    ),
    Declaration(
        "mutual_information_lower",
        KEPT,
        "Mutual information, lower bound",
        "nats",
        "higher",
        "sample",
        "lower bound on I(x; z), E log q(z|x) / q(z) with q(z) the mean over {num_data:,} rows, "
        "which cannot exceed log N = {ceiling:.2f}",
        "The least that a code says about its row, reliable in any number of dimensions. It "
        "cannot exceed the logarithm of the number of rows.",
    ),
    Declaration(
        "mutual_information_upper",
        KEPT,
        "Mutual information, upper bound",
        "nats",
        "",
        "sample",
        "upper bound on I(x; z): as the lower bound, with q(z) the mean over all rows except the "
        "code's own; or the rate, if it is smaller with two standard errors added to both",
        "Upper bound. Where both bounds agree, the value is known.",
    ),
    Declaration(
        "reconstruction_rmse",
        KEPT,
        "Reconstruction error",
        "units of x",
        "lower",
        "mean",
        "root mean squared difference between x and its reconstruction, {reconstruction}, over "
        "rows and dimensions",
        "Typical error in each value after encoding and decoding without noise.",
    ),
    Declaration(
        "reconstruction_accuracy",
        KEPT,
        "Reconstructed levels",
        "",
        "higher",
        "mean",
        "share of known values of columns with levels that are the most probable level of p(x|z) "
        "at the mean code",
        "Share of categories that come back after encoding and decoding without noise.",
    ),
    Declaration(
        "reconstruction_mae",
        KEPT,
        "Mean absolute reconstruction error",
        "units of x",
        "lower",
        "mean",
        "mean absolute difference between x and its reconstruction, {reconstruction}, over rows "
        "and dimensions",
        "Average error in each value after encoding and decoding without noise. Far below the "
        "root mean square, a few values cause most of that.",
    ),
    Declaration(
        "sampled_reconstruction_distance",
        KEPT,
        "Reconstruction distance",
        "units of x",
        "lower",
        "sample",
        "mean Euclidean distance between x and a sample of p(x|z), z ~ q(z|x); the paper's "
        '"reconstruction error"',
        "Error with the noise of encoder and decoder, as a distance over all values of a row.",
    ),
    Declaration(
        "reconstruction_r2",
        KEPT,
        "Explained variance (R²)",
        "",
        "higher",
        "mean",
        "1 minus the squared difference between x and its reconstruction over that between x and "
        "the mean of all x, each summed over rows and dimensions",
        "Share of the variance of the data that reconstructions keep. At 0 the mean of the data "
        "does as well.",
    ),
    Declaration(
        "reconstruction_r2_of_a_datum",
        KEPT,
        "Explained variance of a typical row",
        "",
        "higher",
        "mean",
        "median over rows of 1 minus the squared difference between the row and its "
        "reconstruction over that between the row and the mean of all",
        "Explained variance row by row; half of the rows do better. Far above that of all rows "
        "together, a few rows cause most of the error.",
    ),
    Declaration(
        "pca_r2",
        KEPT,
        "Explained variance of PCA",
        "",
        "",
        "mean",
        "explained variance of the first {components} principal components, each half of the rows "
        "projected on the components of the other half",
        "What a linear map to the same number of dimensions keeps. An auto-encoder should do "
        "better.",
    ),
    Declaration(
        "active_units",
        CODES,
        "Active latents",
        "",
        "",
        "mean",
        "latent dimensions in which the posterior means make up over 1 % of the variance of the "
        "aggregate posterior",
        "Latent dimensions that respond to the data; the others could be dropped.",
    ),
    Declaration(
        "varying_units",
        CODES,
        "Varying latents",
        "",
        "",
        "mean",
        "latent dimensions in which the variance of the codes exceeds {share:g} of that of the "
        "widest",
        "The other latents could be dropped. Without the width of the codes it is unknown which "
        "of these are more than noise.",
    ),
    Declaration(
        "relative_posterior_std",
        CODES,
        "Relative width of a code",
        "",
        "",
        "mean",
        "median ratio of the standard deviation of q(z|x) to that of the aggregate posterior",
        "Uncertainty of one code relative to the spread of all. Near 1, codes say nothing; below "
        "0.01, they are nearly points.",
    ),
    Declaration(
        "effective_dimensions",
        CODES,
        "Effective dimensions",
        "",
        "",
        "mean",
        "participation ratio (Σλ)² / Σλ² of the eigenvalues λ of the covariance of the means, "
        "each latent in units of its aggregate standard deviation",
        "Number of independent latents of equal weight that would spread the codes as much. Far "
        "below the number of active latents, latents repeat one another.",
    ),
    Declaration(
        "repeated_units",
        CODES,
        "Repeated latents",
        "",
        "lower",
        "mean",
        "active latents whose means have a correlation above {correlation} with those of an "
        "earlier one, up to the sign",
        "Latents that repeat what another one says.",
    ),
    Declaration(
        "encoder_share_at_floor",
        CODES,
        "Encoder scales at their floor",
        "",
        "",
        "mean",
        "share of the scales of q(z|x) within 1 % of their smallest possible value",
        "Near 1, codes are as narrow as model.encoder_floor, or the clamp of an image model, "
        "allows.",
    ),
    Declaration(
        "encoder_first_share_at_floor",
        CODES,
        "Scales of the first latent at their floor",
        "",
        "",
        "sample",
        "share of the scales of q(a|x) within 1 % of their smallest possible value; a is the part "
        "of z = (a, b) that is drawn first",
        "Encoder scales at their floor, for the latent of a hierarchy that is drawn first, "
        "q(z2|x).",
    ),
    Declaration(
        "encoder_second_share_at_floor",
        CODES,
        "Scales of the second latent at their floor",
        "",
        "",
        "sample",
        "share of the scales of q(b|x, a) within 1 % of their smallest possible value; b is the "
        "part of z = (a, b) given the other",
        "Encoder scales at their floor, for the latent that is drawn given the first, q(z1|x, z2).",
    ),
    Declaration(
        "prior_second_share_at_floor",
        CODES,
        "Scales of the second latent's prior at their floor",
        "",
        "",
        "sample",
        "share of the scales of p(b|a) within 1 % of their smallest possible value; b is the part "
        "of z = (a, b) given the other",
        "If this and the encoder's share are near 1, the second latent adds little to the first.",
    ),
    Declaration(
        "decoder_share_at_floor",
        CODES,
        "Decoder scales at their floor",
        "",
        "",
        "mean",
        "share of the scales of p(x|z) within 1 % of their smallest possible value",
        "Near 1, the decoder is as certain as its floor or clamp allows, and that bound decides "
        "the likelihood.",
    ),
    Declaration(
        "reencoding_offset",
        CODES,
        "Codes of reconstructions",
        "",
        "lower",
        "mean",
        "distance between the means of q(z|x) and q(z|x'), x' the reconstruction of x, in "
        "standard deviations of the aggregate posterior: root mean square over rows and latent "
        "dimensions",
        "Distance between a code and the code of its own reconstruction, in units of the spread "
        "of all codes. Near 0, encoder and decoder agree.",
    ),
    Declaration(
        "aggregate_energy_distance",
        PRIOR,
        "Distance of the codes from the prior",
        "",
        "lower",
        "sample",
        "energy distance between the codes and {prior}, 2 E|z-ε| - E|z-z'| - E|ε-ε'|, in units of "
        "the last; unbiased, so it is around 0 if the codes are distributed as the prior",
        "0 if the codes as a whole are distributed as the prior, so that samples of it decode to "
        "realistic data. A shift of all latents by s standard deviations gives about s²/2.",
    ),
    Declaration(
        "aggregate_offset",
        PRIOR,
        "Offset of the codes",
        "",
        "lower",
        "mean",
        "root mean square over latents of the mean code; 0 for the prior",
        "Typical distance of the centre of the codes from 0, in each latent.",
    ),
    Declaration(
        "aggregate_std",
        PRIOR,
        "Spread of the codes",
        "",
        "",
        "sample",
        "root mean over latents of the variance of the aggregate posterior; 1 for the prior",
        "Typical spread of the codes in each latent; 1 for the prior.",
    ),
    Declaration(
        "generated_auc",
        PRIOR,
        "Generated rows told from data (AUC)",
        "",
        "lower",
        "sample",
        "mean AUC over five folds of gradient-boosted trees that tell {count:,} rows of z ~ p(z), "
        "x ~ p(x|z) from as many of the data",
        "How well a classifier tells new rows of the model from data. At 0.5 it cannot, though a "
        "better one might; at 1 it always can, if only by the noise of p(x|z).",
    ),
    Declaration(
        "generated_contradictions",
        PRIOR,
        "Contradictions in generated rows",
        "",
        "lower",
        "sample",
        "share of {count} rows z ~ p(z), x ~ p(x|z) with a level of a column that another one "
        "settles, and a level of that, which no training row has together",
        "Share of generated rows that cannot be: such as a city in another region than its own.",
    ),
    Declaration(
        "generated_energy_distance",
        PRIOR,
        "Distance of generated rows from data",
        "",
        "lower",
        "sample",
        "energy distance between {count:,} rows x of z ~ p(z), x ~ p(x|z) and as many y of the "
        "data, 2 E|x-y| - E|x-x'| - E|y-y'|, in units of the last; unbiased, so it is around 0 if "
        "both are distributed alike",
        "0 if new rows of the model are distributed as the data, in units of the typical distance "
        "between two rows. Fine detail counts little.",
    ),
    *(nearest_neighbours(k) for k in (1, 3, 5, 10)),
    *(nearest_neighbours(k, noisy=True) for k in (1, 3, 5, 10)),
    of_the_data(nearest_neighbours(5)),
    linear_probe(),
    linear_probe(noisy=True),
    of_the_data(linear_probe()),
]

# In comparisons, where every model gets the same kind of prior.
_OF_THE_PRIOR = (
    "negative_log_likelihood",
    "generated_auc",
    "generated_energy_distance",
    "generated_contradictions",
)
_DECLARED += [
    each._replace(name=f"fitted_prior_{each.name}", title=f"{each.title}, fitted prior")
    for each in _DECLARED
    if each.name in _OF_THE_PRIOR
]

GLOSSARY = {each.name: each for each in _DECLARED}


def measured(
    name: str,
    value: float | Estimate,
    *,
    unit: str | None = None,
    latent: Latent | None = None,
    notes: tuple[str, ...] = (),
    flagged: bool = False,
    reasons: tuple[Reason, ...] = (),
    **fields: object,
) -> Metric:
    """A measured metric.

    Args:
        name: Its name in the glossary.
        value: The number, or an estimate with its standard error.
        unit: Unit, where it differs from the declared one.
        latent: What it uses, where that differs from the declaration.
        notes: What a reader needs to know to trust it or not.
        flagged: Whether it is unreliable.
        reasons: Why, as codes.
        fields: Values of the fields of its definition.
    """
    declared = GLOSSARY[name]
    estimate = value if isinstance(value, Estimate) else Estimate(value, math.nan)
    return Metric.of(
        name,
        estimate,
        declared.unit if unit is None else unit,
        declared.definition.format(**fields),
        declared.latent if latent is None else latent,
        notes,
        flagged,
        reasons,
    )


def declaration(metric: Metric) -> Declaration:
    """The declaration of a metric; one that is not in the glossary is described by itself."""
    known = GLOSSARY.get(metric.name)
    if known is not None:
        return known
    title = metric.name.replace("_", " ")
    definition = metric.definition
    return Declaration(
        metric.name, "Other numbers", title, metric.unit, "", metric.latent, definition, definition
    )


def listed(names: list[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
