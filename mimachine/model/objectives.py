r"""Objectives: functions of four log-probabilities, and the choice where to sample.

Every loss is minimised, in nats, and takes `LogProbs` of shape (B,) to a tensor of shape (B,).
With l the log-probabilities at (x, z):

========================  =========================================  ======================
objective                 loss at a sample                           samples
========================  =========================================  ======================
`MIM`, Eq. (8, 22)        -½ (l_qzx + l_qx + l_pxz + l_pz)           both halves of M_S
`MIM_OF_MEANS`            the same                                   both, decoded to means
`A_MIM`, C.3              the same                                   encoding half
`CE`, Eq. (7)             -log ½ (e^(l_qzx + l_qx) + e^(l_pxz+l_pz)) both halves
`VAE`, Eq. (1, 24)        -(l_pxz + l_pz - l_qzx)                    encoding half
`VAE_H`, E.1              VAE - (l_qzx + l_qx)                       encoding half
`MIM_H`, E.1              MIM + log ½ (e^(...) + e^(...))            both halves
`MIM_H_TRUE`, E.1         the same with the anchors in log ½ (...)   both halves
`SYMMETRIC_KL`, App. B    MIM with the anchors as priors             both halves
`A_MIM_ONE_SAMPLE`        -(l_pxz + ½ (l_qzx + l_pz))                encoding half
`beta_vae(w)`             -l_pxz + w (l_qzx - l_pz)                  encoding half
`AUTO_ENCODER`            -l_pxz                                     encoding half
========================  =========================================  ======================

"The anchors as priors" means log P(x) in place of l_qx and log P(z) in place of l_pz, so both
must be known as densities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mimachine.model.annealing import Term
from mimachine.model.joint import LogProbs

__all__ = [
    "AUTO_ENCODER",
    "A_MIM",
    "A_MIM_ONE_SAMPLE",
    "CE",
    "MIM",
    "MIM_H",
    "MIM_H_TRUE",
    "MIM_OF_MEANS",
    "OBJECTIVES",
    "Objective",
    "SYMMETRIC_KL",
    "VAE",
    "VAE_H",
    "beta_vae",
    "cross_entropy",
    "joint_entropy",
    "mim",
    "vae",
]


def mim(lp: LogProbs, beta: float = 1.0) -> Tensor:
    r"""MIM loss, the upper bound of the cross-entropy loss in Eq. (8).

    .. math:: -\tfrac12 [\log p(x|z) + \log q(z|x) + \beta (\log q(x) + \log p(z))]  \qquad (12)

    Args:
        lp: Log-probabilities at one set of samples, each of shape (B,), in nats.
        beta: Warm-up weight of the two priors, in [0, 1].

    Returns:
        Loss per sample, shape (B,), in nats.
    """
    return -0.5 * (lp.p_x_given_z + lp.q_z_given_x + _scaled(lp.q_x + lp.p_z, beta))


def cross_entropy(lp: LogProbs, beta: float = 1.0) -> Tensor:
    r"""Cross-entropy loss L_CE of Eq. (7), the upper bound of H(M_S) that MIM bounds in turn.

    .. math:: -\log \tfrac12 [q(z|x) q(x)^\beta + p(x|z) p(z)^\beta]

    It bounds, and differs from MIM in earnest, with an explicit q(x) only: with the decoder's
    marginal both factors are equal on encoding samples, and the two losses are one there.

    It is evaluated from logarithms; the naive form overflows in float32 (A.2.3 of the paper).

    Args:
        lp: Log-probabilities, each of shape (B,), in nats.
        beta: Warm-up weight of the two priors, in [0, 1].

    Returns:
        Loss per sample, shape (B,), in nats.
    """
    encoding = lp.q_z_given_x + beta * lp.q_x
    decoding = lp.p_x_given_z + beta * lp.p_z
    return math.log(2) - torch.logaddexp(encoding, decoding)


def vae(lp: LogProbs, beta: float = 1.0) -> Tensor:
    r"""Negative evidence lower bound, Eq. (24), which is minus Eq. (1).

    .. math:: -\log p(x|z) + \beta [\log q(z|x) - \log p(z)]

    Args:
        lp: Log-probabilities at encoding samples, each of shape (B,), in nats.
        beta: Weight of the KL divergence.

    Returns:
        Loss per sample, shape (B,), in nats.
    """
    return _scaled(lp.q_z_given_x - lp.p_z, beta) - lp.p_x_given_z


def joint_entropy(lp: LogProbs, of: Literal["encoding", "mixture"]) -> Tensor:
    r"""Sample terms of the joint entropy that appendix E.1 adds or subtracts.

    "encoding": :math:`-\log q(z|x) - \log q(x)`, the cross-entropy of the encoding samples to the
    model, which stands for H(q(z|x) P(x)). "mixture": :math:`-\log \tfrac12 [q(x,z) + p(x,z)]`,
    the cross-entropy of M_S to the model mixture, which stands for H(M_S).

    Args:
        lp: Log-probabilities, each of shape (B,), in nats.
        of: Which entropy.

    Returns:
        Terms whose mean estimates the entropy from above if q(x) is explicit, shape (B,), in
        nats. With the decoder's marginal "mixture" equals MIM's own terms on encoding samples.
    """
    if of == "encoding":
        return -(lp.q_z_given_x + lp.q_x)
    if of == "mixture":
        return cross_entropy(lp)
    raise ValueError(f'of must be "encoding" or "mixture", got {of!r}')


def _scaled(value: Tensor, factor: float) -> Tensor:
    # Nearly all steps are at β = 1, and small models spend most of their time on such operations.
    return value if factor == 1 else factor * value


@dataclass(frozen=True)
class _WeightedVAE:
    weight: float

    def __call__(self, lp: LogProbs, beta: float = 1.0) -> Tensor:
        return vae(lp, beta * self.weight)


def _encoding_entropy(lp: LogProbs) -> Tensor:
    return joint_entropy(lp, "encoding")


def _minus_joint_entropy(lp: LogProbs) -> Tensor:
    return -joint_entropy(lp, "mixture")


@dataclass(frozen=True)
class Objective:
    """What to minimise and where to sample.

    Attributes:
        loss: Function of the log-probabilities and the warm-up's β to a loss per sample.
        sampling: "mixture" for both halves of M_S, Eq. (4); "encoding" for its encoding half.
        regulariser: Function of the log-probabilities to a term that is added, times the
            warm-up's β; E.1 of the paper adds and subtracts entropies so.
        q_x: "model" for the model's log q(x); "decoder" to put log p(x|z) at the same sample in
            its place, see `A_MIM_ONE_SAMPLE`.
        priors: Whose log-probabilities `loss` has as q_x and p_z: those of the "model", or of the
            "anchors" P(x) and P(z).
        regulariser_priors: Whose `regulariser` has.
        decoded: What data of the decoding half are: "draws" of p(x|z), or its "means", see
            `MIM_OF_MEANS`.
        latents: Whether latents of the decoding half are "fixed", without gradient to the anchor
            that they are drawn from, or "reparameterised" with one.
        family: "mim" for objectives that reward mutual information by MIM's bound, "vae" for
            those with a KL divergence to the prior; None for all others. Presets and advice
            depend on it.
    """

    loss: Callable[[LogProbs, float], Tensor]
    sampling: Literal["encoding", "mixture"]
    regulariser: Callable[[LogProbs], Tensor] | None = None
    q_x: Literal["model", "decoder"] = "model"
    priors: Literal["model", "anchors"] = "model"
    regulariser_priors: Literal["model", "anchors"] = "model"
    decoded: Literal["draws", "means"] = "draws"
    latents: Literal["fixed", "reparameterised"] = "fixed"
    family: Literal["mim", "vae"] | None = None

    def __post_init__(self) -> None:
        choices = {
            "sampling": ("encoding", "mixture"),
            "q_x": ("model", "decoder"),
            "priors": ("model", "anchors"),
            "regulariser_priors": ("model", "anchors"),
            "decoded": ("draws", "means"),
            "latents": ("fixed", "reparameterised"),
        }
        for name, (one, other) in choices.items():
            if getattr(self, name) not in (one, other):
                raise ValueError(
                    f'{name} must be "{one}" or "{other}", got {getattr(self, name)!r}'
                )
        if self.q_x == "decoder" and self.anchored:
            raise ValueError('q_x must be "model" where the anchors take the priors\' place')

    @property
    def anchored(self) -> bool:
        """Whether the densities of the anchors are needed."""
        return "anchors" in (self.priors, self.regulariser_priors)

    def __call__(
        self,
        lp: LogProbs,
        beta: float = 1.0,
        terms: tuple[Term, ...] | None = None,
        at_anchors: LogProbs | None = None,
    ) -> Tensor:
        """Loss per sample, shape (B,), in nats.

        Args:
            lp: Log-probabilities, each of shape (B,), in nats.
            beta: Warm-up weight in [0, 1].
            terms: Log-probabilities that β multiplies, in place of those that `loss` chooses.
            at_anchors: The same with log P(x) and log P(z) as q_x and p_z, for objectives that
                are `anchored`.
        """
        if self.q_x == "decoder":
            lp = lp._replace(q_x=lp.p_x_given_z)
        regularised = lp
        if self.anchored:
            if at_anchors is None:
                raise ValueError("at_anchors must be given to an objective that is anchored")
            lp = at_anchors if self.priors == "anchors" else lp
            regularised = at_anchors if self.regulariser_priors == "anchors" else regularised
        value = self.loss(lp, beta) if terms is None else self.loss(lp.scaled(beta, terms), 1.0)
        return value if self.regulariser is None else value + beta * self.regulariser(regularised)


def beta_vae(weight: float) -> Objective:
    """β-VAE: the VAE with a weight on its KL divergence, in addition to any warm-up.

    References:
        beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl
    """
    if not weight >= 0:
        raise ValueError(f"weight must be 0 or more, got {weight}")
    return Objective(_WeightedVAE(weight), "encoding", family="vae" if weight else None)


MIM = Objective(mim, "mixture", family="mim")
# What the authors' released code minimises on images. It decodes to means in place of draws, from
# latents that are reparameterised through the prior. At the mean of binary pixels the gradient of
# log p(x|z) with respect to their logits, x - E[x|z], is nothing, so the decoding half trains the
# encoder and a learned prior alone, and the encoder on grey images that data are not.
MIM_OF_MEANS = Objective(mim, "mixture", decoded="means", latents="reparameterised", family="mim")
A_MIM = Objective(mim, "encoding", family="mim")
# -[l_pxz + ½ (l_qzx + l_pz)]: log p(x|z) at an encoding sample neither bounds nor estimates
# log q(x), so this bounds no joint entropy. It rewards tight posteriors directly and needs a floor
# on the encoder's variance. Not in the paper; SentenceMIM (Livne et al., 2020,
# https://arxiv.org/abs/2003.02645) and its successors for molecules train so.
A_MIM_ONE_SAMPLE = Objective(mim, "encoding", q_x="decoder", family="mim")
CE = Objective(cross_entropy, "mixture")
VAE = Objective(vae, "encoding", family="vae")
VAE_H = Objective(vae, "encoding", _encoding_entropy, family="vae")
# Subtracts L_CE, an upper bound of H(M_S), as the authors' released code does; what is left is the
# regulariser R_MIM of Eq. (9). With the anchors' densities it is H(M_S) itself that is subtracted,
# and R_MIM + KL(M_S || M_θ) that is left.
MIM_H = Objective(mim, "mixture", _minus_joint_entropy, family="mim")
MIM_H_TRUE = Objective(
    mim, "mixture", _minus_joint_entropy, regulariser_priors="anchors", family="mim"
)
# ½ SKL + R_H = ½ (H(M_S, p(x|z)P(z)) + H(M_S, q(z|x)P(x))): the symmetric KL divergence of the
# anchored encoder and decoder, and their mean entropy. Model priors play no part in it, so a
# learned p(z) stays as it is.
SYMMETRIC_KL = Objective(mim, "mixture", priors="anchors")
AUTO_ENCODER = beta_vae(0.0)
OBJECTIVES = {
    "mim": MIM,
    "mim-of-means": MIM_OF_MEANS,
    "a-mim": A_MIM,
    "a-mim-one-sample": A_MIM_ONE_SAMPLE,
    "ce": CE,
    "vae": VAE,
    "vae+h": VAE_H,
    "mim-h": MIM_H,
    "mim-h-true": MIM_H_TRUE,
    "symmetric-kl": SYMMETRIC_KL,
    "auto-encoder": AUTO_ENCODER,
}
