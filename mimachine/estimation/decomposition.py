"""Decomposition of a MIM loss into entropies and divergences, with standard errors.

Encoding samples e are x ~ P(x), z ~ q(z|x), and decoding samples d are z ~ P(z), x ~ p(x|z). Every
term is a mean over e, over d, or over both. All terms use the same samples, so the identities of
the paper hold among the estimates up to rounding:

- L_MIM = L_CE + R_MIM, Eq. (9, 10);
- L_MIM = R_H + ¼ of the sum of four KL divergences, Eq. (11), where the paper prints ½;
- L_MIM = R_H + JSD + KL(M_S ‖ M_θ) + R_MIM, from Eq. (6, 7, 9); all but R_H are 0 or more.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from mimachine._support.checks import UNLIMITED, function, instance, whole
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import Examples, device_of, examples
from mimachine.estimation.estimate import Estimate
from mimachine.model.joint import Joint, LogProbs, check_joint
from mimachine.model.misfit import naming_misfits
from mimachine.model.networks import evaluating
from mimachine.model.objectives import cross_entropy, mim
from mimachine.model.priors import Anchor, Marginal, sample_without_gradient

__all__ = ["Decomposition", "decompose", "geometric_mean_log_normaliser"]

# Fields of a decomposition and their weights in the loss, for two forms of Eq. (11): with and
# without the entropies of the anchors, which cancel in the sum.
_EQ_11 = {
    "entropy": 1.0,
    "kl_prior": 0.25,
    "kl_data_prior": 0.25,
    "kl_encoding": 0.25,
    "kl_decoding": 0.25,
}
_WITHOUT_ANCHORS = {
    "conditional_entropy": 1.0,
    "prior_cross_entropy": 0.25,
    "data_prior_cross_entropy": 0.25,
    "vae_loss": 0.25,
    "mirrored_vae_loss": 0.25,
}
_SYMBOLS = {
    "loss": "L_MIM",
    "cross_entropy": "L_CE",
    "regulariser": "R_MIM",
    "encoding_log_ratio": "E_e log q(x,z) / p(x,z)",
    "decoding_log_ratio": "E_d log p(x,z) / q(x,z)",
    "entropy": "R_H",
    "kl_prior": "KL( P(z) ‖ p(z) )",
    "kl_data_prior": "KL( P(x) ‖ q(x) )",
    "kl_encoding": "KL( q(z|x)P(x) ‖ p(x,z) )",
    "kl_decoding": "KL( p(x|z)P(z) ‖ q(x,z) )",
    "conditional_entropy": "½ H(z|x) + ½ H(x|z)",
    "prior_cross_entropy": "H( P(z), p(z) )",
    "data_prior_cross_entropy": "H( P(x), q(x) )",
    "vae_loss": "L_VAE",
    "mirrored_vae_loss": "L_VAE, x and z exchanged",
    "sample_entropy": "H(M_S)",
    "jensen_shannon": "JSD",
    "kl_model": "KL( M_S ‖ M_θ )",
    "anchor_entropy": "H(P(z))",
    "data_entropy": "H(P(x))",
}
_BLOCKS = (
    ("L_MIM = L_CE + R_MIM, Eq. (9)", ("loss", "cross_entropy", "regulariser")),
    ("Eq. (11)", tuple(_EQ_11)),
    ("the same without H(P(x)) and H(P(z)), which cancel", tuple(_WITHOUT_ANCHORS)),
    (
        "L_MIM = R_H + JSD + KL( M_S ‖ M_θ ) + R_MIM, Eq. (6, 7, 9)",
        ("jensen_shannon", "kl_model", "sample_entropy"),
    ),
    ("anchors", ("data_entropy", "anchor_entropy")),
    (
        "consistency, 0 where q(x,z) = p(x,z)",
        ("encoding_log_ratio", "decoding_log_ratio"),
    ),
)


@dataclass(frozen=True)
class Decomposition:
    """Terms of a model's MIM loss with standard errors, in nats.

    A term that cannot be estimated is None, and `notes` say why. The standard errors are over new
    data and new noise.

    Attributes:
        loss: L_MIM, Eq. (8).
        conditional_entropy: ½(H(q(z|x) | P(x)) + H(p(x|z) | P(z))): R_H without the entropies of
            the anchors.
        prior_cross_entropy: H(P(z), p(z)).
        vae_loss: -E[log p(x|z) + log p(z) - log q(z|x)] on encoding samples, Eq. (24).
        cross_entropy: L_CE, Eq. (7).
        regulariser: R_MIM, Eq. (10); 0 or more for every sample.
        data_prior_cross_entropy: H(P(x), q(x)).
        mirrored_vae_loss: -E[log q(z|x) + log q(x) - log p(x|z)] on decoding samples: the VAE loss
            of the model with x and z exchanged.
        encoding_log_ratio: E[log q(x, z) - log p(x, z)] on encoding samples, which is
            KL(q(z|x)P(x) ‖ p(x, z)) - KL(P(x) ‖ q(x)), where H(P(x)) cancels.
        decoding_log_ratio: E[log p(x, z) - log q(x, z)] on decoding samples.
        anchor_entropy: H(P(z)).
        kl_prior: KL(P(z) ‖ p(z)).
        kl_decoding: KL(p(x|z)P(z) ‖ q(x, z)).
        data_entropy: H(P(x)).
        kl_data_prior: KL(P(x) ‖ q(x)).
        kl_encoding: KL(q(z|x)P(x) ‖ p(x, z)), the VAE loss minus H(P(x)), Eq. (13).
        entropy: R_H, Eq. (5).
        sample_entropy: H(M_S), which L_CE and L_MIM bound.
        jensen_shannon: JSD, Eq. (3).
        kl_model: KL(M_S ‖ M_θ), the gap of Eq. (7).
        num_data: Number of rows of data.
        num_samples: Encoding and decoding samples per row, each.
        notes: Explanations of missing terms.
    """

    loss: Estimate
    conditional_entropy: Estimate
    prior_cross_entropy: Estimate
    vae_loss: Estimate
    num_data: int
    num_samples: int
    cross_entropy: Estimate | None = None
    regulariser: Estimate | None = None
    data_prior_cross_entropy: Estimate | None = None
    mirrored_vae_loss: Estimate | None = None
    encoding_log_ratio: Estimate | None = None
    decoding_log_ratio: Estimate | None = None
    anchor_entropy: Estimate | None = None
    kl_prior: Estimate | None = None
    kl_decoding: Estimate | None = None
    data_entropy: Estimate | None = None
    kl_data_prior: Estimate | None = None
    kl_encoding: Estimate | None = None
    entropy: Estimate | None = None
    sample_entropy: Estimate | None = None
    jensen_shannon: Estimate | None = None
    kl_model: Estimate | None = None
    notes: tuple[str, ...] = ()

    def shares(self) -> dict[str, float]:
        """Contributions of the terms to the loss by Eq. (11), in nats; their sum is the loss.

        If an anchor's entropy is unknown, the terms without it are used: it cancels.

        Raises:
            ValueError: If q(x) is the decoder's marginal, for which Eq. (11) does not hold.
        """
        for weights in (_EQ_11, _WITHOUT_ANCHORS):
            terms = {name: getattr(self, name) for name in weights}
            if None not in terms.values():
                return {name: weight * terms[name].value for name, weight in weights.items()}
        raise ValueError("Eq. (11) needs an explicit data prior q(x)")

    def to_json(self) -> dict[str, Any]:
        """The decomposition as JSON values; infinite numbers and NaN become null."""
        value = dataclasses.asdict(self)
        for term in value.values():
            if isinstance(term, dict):
                term.update({k: v if math.isfinite(v) else None for k, v in term.items()})
        return value

    def __str__(self) -> str:
        samples = f"{self.num_samples:,} sample{'s' * (self.num_samples != 1)}"
        lines = [f"{self.num_data:,} rows, {samples} of each half per row; in nats"]
        for title, names in _BLOCKS:
            lines += ["", title]
            for name in names:
                weight = "¼" if (_EQ_11 | _WITHOUT_ANCHORS).get(name) == 0.25 else " "
                estimate = getattr(self, name)
                shown = "unknown" if estimate is None else str(estimate)
                lines.append(f"  {weight} {_SYMBOLS[name]:<28}{shown:>22}")
        return "\n".join([*lines, *(f"\nnote: {note}" for note in self.notes)])


class _Half(NamedTuple):
    """Log-probabilities and nonlinear functions of them, in float64 nats, each of shape (N,).

    The values of an unknown density are NaN.
    """

    q_z_given_x: Tensor
    q_x: Tensor
    p_x_given_z: Tensor
    p_z: Tensor
    data: Tensor
    anchor: Tensor
    mim: Tensor
    cross_entropy: Tensor
    regulariser: Tensor
    sample_entropy: Tensor


@torch.no_grad()
def decompose(
    model: Joint,
    x: Examples,
    *,
    anchor: Anchor | None = None,
    data_distribution: Distribution | None = None,
    num_samples: int = 10,
    seed: int = 0,
    chunk_size: int = 5_000,
) -> Decomposition:
    r"""Decompose a model's MIM loss into entropies and divergences.

    .. math::
        L_{MIM} = R_H + \tfrac14 [KL(P(z) \| p(z)) + KL(P(x) \| q(x))
        + KL(q(z|x) P(x) \| p(x, z)) + KL(p(x|z) P(z) \| q(x, z))]  \qquad (11)

    Data are usually known only by samples. Terms with the entropy H(P(x)) are then unknown; it
    cancels in the sum, and the result also has the terms without it.

    Args:
        model: The model, used in evaluation mode.
        x: Data, shape (N, *X), independent draws of P(x), in any form that `fit` takes.
        anchor: P(z); by default the model's prior. If its density cannot be evaluated, terms with
            its entropy are unknown.
        data_distribution: P(x), if its density can be evaluated, on the model's device.
        num_samples: Encoding and decoding samples per row, each.
        seed: Seed of the noise; the global generator is not changed.
        chunk_size: Largest number of samples at once; bounds the memory.

    Raises:
        ValueError: If the data cannot be used or do not fit the model, `num_samples` or
            `chunk_size` is not positive, or an anchor does not give one log-probability per event.
    """
    _check_positive(num_samples, chunk_size)
    check_joint("model", model)
    x = examples("x", x, model)
    if anchor is not None:
        function("anchor", anchor, "an object with a method sample")
    if data_distribution is not None:
        instance("data_distribution", data_distribution, Distribution, "a distribution")
    device = device_of(model)
    noise = forked(derived_seed(whole("seed", seed), "decomposition"), device)
    with noise, evaluating(model), evaluating(anchor), naming_misfits(model, x):
        prior = model.prior()
        source = prior if anchor is None else anchor()
        anchor_density = source if hasattr(source, "log_prob") else None

        def half(log_probs: LogProbs, x: Tensor, z: Tensor) -> Tensor:
            at_x = _log_prob("data_distribution", data_distribution, x)
            # Use the same number if the prior is the anchor, so that rounding cannot separate them.
            at_z = log_probs.p_z if anchor is None else _log_prob("anchor", anchor_density, z)
            return _columns(log_probs, at_x, at_z)

        sums = [torch.zeros(len(_Half._fields), len(x), dtype=torch.float64) for _ in range(2)]
        for _, start in itertools.product(range(num_samples), range(0, len(x), chunk_size)):
            rows = x[start : start + chunk_size].to(device)
            z = sample_without_gradient(source, len(rows))
            for total, sample in zip(sums, (model.encode(rows), model.decode(z)), strict=True):
                columns = half(model.log_probs(sample, prior), sample.x, sample.z)
                total[:, start : start + len(rows)] += columns.cpu()
        explicit = not isinstance(model.data_prior, Marginal)
        known = _Known(explicit, data_distribution is not None, anchor_density is not None)
    encoding, decoding = (_Half(*(total / num_samples)) for total in sums)
    terms = _terms(encoding, decoding, known)
    return Decomposition(**terms, num_data=len(x), num_samples=num_samples, notes=_notes(known))


@torch.no_grad()
def geometric_mean_log_normaliser(
    model: Joint, num_samples: int = 10_000, *, seed: int = 0, chunk_size: int = 5_000
) -> Estimate:
    r"""Estimate log β of Eq. (15), the normaliser of √(q(x, z) p(x, z)), in nats.

    .. math:: \beta = \int \sqrt{q p} = E_{M_\theta} [1 / \cosh(\tfrac12 \log q / p)] \le 1

    It is 1 if the two factorisations agree, and L_MIM + log β is the cross-entropy of M_S to the
    normalised geometric mean. The weights are at most 1, so their mean is well-behaved unless β is
    tiny. Then few samples dominate, and the error, by the delta method, is too small. An error near
    1 means that a single sample dominates and β is unknown.

    Args:
        model: The model, used in evaluation mode.
        num_samples: Samples from each of the two factorisations.
        seed: Seed of the noise; the global generator is not changed.
        chunk_size: Largest number of samples at once; bounds the memory.

    Raises:
        ValueError: If q(x) is the decoder's marginal, or `num_samples` or `chunk_size` is not
            positive.
    """
    _check_positive(num_samples, chunk_size)
    check_joint("model", model)
    seed = whole("seed", seed)
    if isinstance(model.data_prior, Marginal):
        raise ValueError("data_prior must be explicit, got the decoder's marginal")
    log_weights: tuple[list[Tensor], list[Tensor]] = ([], [])
    with forked(derived_seed(seed, "normaliser"), device_of(model)), evaluating(model):
        prior, data_prior = model.prior(), model.data_prior()
        for start in range(0, num_samples, chunk_size):
            count = min(chunk_size, num_samples - start)
            x = sample_without_gradient(data_prior, count)
            z = sample_without_gradient(prior, count)
            for part, sample in zip(log_weights, (model.encode(x), model.decode(z)), strict=True):
                log_ratio = _log_ratio(_double(model.log_probs(sample, prior)))
                part.append(-_log_cosh(0.5 * log_ratio).cpu())
    parts = [torch.cat(part) for part in log_weights]
    # Relative to the largest weight, because a tiny β would underflow.
    largest = max(float(part.max()) for part in parts)
    mean = _sum_of_means(*(0.5 * (part - largest).exp() for part in parts))
    return Estimate(largest + math.log(mean.value), mean.standard_error / mean.value)


class _Known(NamedTuple):
    """Which densities can be evaluated: q(x), P(x), P(z)."""

    data_prior: bool
    data: bool
    anchor: bool


def _columns(log_probs: LogProbs, at_x: Tensor | None, at_z: Tensor | None) -> Tensor:
    """Fields of `_Half` for a batch of samples, shape (fields, B)."""
    lp = _double(log_probs)
    unknown = torch.full_like(lp.p_z, math.nan)
    data = unknown if at_x is None else at_x.double()
    anchor = unknown if at_z is None else at_z.double()
    anchored = lp._replace(q_x=data, p_z=anchor)
    regulariser = _log_cosh(0.5 * _log_ratio(lp))
    nonlinear = (mim(lp), cross_entropy(lp), regulariser, cross_entropy(anchored))
    return torch.stack([*lp, data, anchor, *nonlinear])


def _terms(e: _Half, d: _Half, known: _Known) -> dict[str, Estimate]:
    """All known terms, from the encoding and the decoding half."""
    terms = {
        "loss": _sum_of_means(0.5 * e.mim, 0.5 * d.mim),
        "conditional_entropy": _sum_of_means(-0.5 * e.q_z_given_x, -0.5 * d.p_x_given_z),
        "prior_cross_entropy": _sum_of_means(-d.p_z),
        "vae_loss": _sum_of_means(e.q_z_given_x - e.p_x_given_z - e.p_z),
    }
    if known.data_prior:
        terms |= _data_prior_terms(e, d)
    if known.anchor:
        terms["anchor_entropy"] = _sum_of_means(-d.anchor)
        terms["kl_prior"] = _sum_of_means(d.anchor - d.p_z)
    if known.data:
        terms["data_entropy"] = _sum_of_means(-e.data)
        terms["kl_encoding"] = _sum_of_means(e.q_z_given_x + e.data - e.p_x_given_z - e.p_z)
    if known.data_prior and known.anchor:
        terms["kl_decoding"] = _sum_of_means(d.p_x_given_z + d.anchor - d.q_z_given_x - d.q_x)
    if known.data_prior and known.data:
        terms["kl_data_prior"] = _sum_of_means(e.data - e.q_x)
    if known.data and known.anchor:
        terms |= _sample_distribution_terms(e, d, known)
    return terms


def _data_prior_terms(e: _Half, d: _Half) -> dict[str, Estimate]:
    """Terms that need an explicit q(x)."""
    return {
        "cross_entropy": _sum_of_means(0.5 * e.cross_entropy, 0.5 * d.cross_entropy),
        "regulariser": _sum_of_means(0.5 * e.regulariser, 0.5 * d.regulariser),
        "data_prior_cross_entropy": _sum_of_means(-e.q_x),
        "mirrored_vae_loss": _sum_of_means(d.p_x_given_z - d.q_z_given_x - d.q_x),
        "encoding_log_ratio": _sum_of_means(_log_ratio(e)),
        "decoding_log_ratio": _sum_of_means(-_log_ratio(d)),
    }


def _sample_distribution_terms(e: _Half, d: _Half, known: _Known) -> dict[str, Estimate]:
    """Terms that need the density of M_S."""
    at_e, at_d = -(e.q_z_given_x + e.data), -(d.p_x_given_z + d.anchor)
    terms = {
        "entropy": _sum_of_means(0.5 * at_e, 0.5 * at_d),
        "sample_entropy": _sum_of_means(0.5 * e.sample_entropy, 0.5 * d.sample_entropy),
        "jensen_shannon": _jensen_shannon(
            0.5 * (e.sample_entropy - at_e), 0.5 * (d.sample_entropy - at_d)
        ),
    }
    if known.data_prior:
        terms["kl_model"] = _sum_of_means(
            *(0.5 * (half.cross_entropy - half.sample_entropy) for half in (e, d))
        )
    return terms


def _notes(known: _Known) -> tuple[str, ...]:
    notes = []
    if not known.data_prior:
        notes.append(
            "q(x) is the decoder's marginal, and log q(x) is a one-sample estimate: the loss is "
            "the training loss, but no upper bound of H(M_S), and Eq. (7-11) do not hold; terms "
            "with q(x) are omitted"
        )
    sampled = [name for name, is_known in (("x", known.data), ("z", known.anchor)) if not is_known]
    for name in sampled:
        notes.append(
            f"P({name}) is known only by samples: terms with its entropy H(P({name})) are "
            "omitted; the terms without it are given"
        )
    return tuple(notes)


def _sum_of_means(*parts: Tensor) -> Estimate:
    """Sum of the means of independent sets of samples."""
    means = [Estimate.mean_of(part) for part in parts]
    error = math.hypot(*(mean.standard_error for mean in means))
    return Estimate(sum(mean.value for mean in means), error)


def _jensen_shannon(*parts: Tensor) -> Estimate:
    """Sum of the means of two parts whose terms are at most ½ log 2.

    Near log 2 few rows make up what is missing, and a sample may lack them. As for a proportion
    near 1, the error is therefore that of two more rows, one in each half, whose terms are 0.
    """
    found = _sum_of_means(*parts)
    of_more = math.hypot(*(float(part.mean()) / len(part) for part in parts))
    return Estimate(found.value, math.hypot(found.standard_error, of_more))


def _double(log_probs: LogProbs) -> LogProbs:
    return LogProbs(*(term.double() for term in log_probs))


def _log_ratio(lp: LogProbs | _Half) -> Tensor:
    """Log q(x, z) / p(x, z)."""
    return lp.q_z_given_x + lp.q_x - lp.p_x_given_z - lp.p_z


def _log_cosh(value: Tensor) -> Tensor:
    """Log cosh without overflow, 0 or more: R_MIM is log cosh(½ log q/p) (A.2.1)."""
    size = value.abs()
    return (size + F.softplus(-2 * size) - math.log(2)).clamp_min(0)


def _log_prob(name: str, distribution: Any, value: Tensor) -> Tensor | None:
    """Log-probability of each event, or None if there is no distribution."""
    if distribution is None:
        return None
    log_prob: Tensor = distribution.log_prob(value)
    if log_prob.shape != value.shape[:1]:
        raise ValueError(
            f"{name} must give one log-probability per event, shape ({len(value)},), "
            f"got {tuple(log_prob.shape)}"
        )
    return log_prob


def _check_positive(num_samples: int, chunk_size: int) -> None:
    whole("num_samples", num_samples, 1)
    whole("chunk_size", chunk_size, 1, UNLIMITED)
