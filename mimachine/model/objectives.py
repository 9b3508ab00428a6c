r"""Objectives: MIM, A-MIM, VAE and related losses as functions of four log-probabilities.

An objective maps `LogProbs` of shape (B,) to losses of shape (B,), in nats, to be minimised. It
also says where to sample: from both halves of M_S, Eq. (4), or from the encoding half alone. With
l_qzx = log q(z|x), l_qx = log q(x), l_pxz = log p(x|z) and l_pz = log p(z) at a sample (x, z):

===================  ==============  ==========================================  ==============
objective            in the paper    loss at a sample                            samples
===================  ==============  ==========================================  ==============
`MIM`                Eq. (8, 22)     -½ (l_qzx + l_qx + l_pxz + l_pz)            both halves
`MIM_OF_MEANS`       released code   the same                                    both, x as means
`A_MIM`              App. C.3        the same                                    encoding half
`A_MIM_ONE_SAMPLE`   -               -(l_pxz + ½ (l_qzx + l_pz))                 encoding half
`CE`                 Eq. (7)         -log ½ (e^(l_qzx+l_qx) + e^(l_pxz+l_pz))    both halves
`VAE`                Eq. (1, 24)     -(l_pxz + l_pz - l_qzx)                     encoding half
`beta_vae(w)`        -               -l_pxz + w (l_qzx - l_pz)                   encoding half
`rae(w)`             -               -l_pxz - w l_pz                             encoding half
`AUTO_ENCODER`       -               -l_pxz                                      encoding half
`VAE_H`              App. E.1        VAE - (l_qzx + l_qx)                        encoding half
`MIM_H`              E.1, Eq. (10)   MIM - CE                                    both halves
`MIM_H_TRUE`         App. E.1        MIM - (CE with the anchors as priors)       both halves
`SYMMETRIC_KL`       App. B          MIM with the anchors as priors              both halves
===================  ==============  ==========================================  ==============

"The anchors as priors" means log P(x) in place of l_qx and log P(z) in place of l_pz; the densities
of both anchors must be known. The warm-up weight β of Eq. (12) is an argument of every objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mimachine._support.checks import function, instance, one_of, real
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
    "RAE",
    "SYMMETRIC_KL",
    "VAE",
    "VAE_H",
    "beta_vae",
    "cross_entropy",
    "joint_entropy",
    "mim",
    "rae",
    "vae",
]


def _checked(lp: LogProbs, beta: float) -> float:
    """The β of a loss, after a check of both arguments at the cost of two tests of a type."""
    if not isinstance(lp, LogProbs):
        instance("lp", lp, LogProbs, "a LogProbs")
    # A tensor may be captured in a graph.
    return beta if isinstance(beta, float | Tensor) else real("beta", beta)


def _check_terms(terms: tuple[Term, ...]) -> None:
    names = LogProbs._fields
    if not (isinstance(terms, tuple | list) and all(term in names for term in terms)):
        raise ValueError(f"terms must be a tuple of {', '.join(names)}, or None, got {terms!r}")


def mim(lp: LogProbs, beta: float = 1.0) -> Tensor:
    r"""MIM loss L_MIM, Eq. (8), with the warm-up of Eq. (12); an upper bound of L_CE.

    .. math:: -\tfrac12 [\log p(x|z) + \log q(z|x) + \beta (\log q(x) + \log p(z))]  \qquad (12)

    Args:
        lp: Log-probabilities at one set of samples, each of shape (B,), in nats.
        beta: Warm-up weight of the two priors, in [0, 1].

    Returns:
        Loss per sample, shape (B,), in nats.
    """
    beta = _checked(lp, beta)
    return -0.5 * (lp.p_x_given_z + lp.q_z_given_x + _scaled(lp.q_x + lp.p_z, beta))


def cross_entropy(lp: LogProbs, beta: float = 1.0) -> Tensor:
    r"""Cross-entropy loss L_CE, Eq. (7), an upper bound of H(M_S) and a lower bound of L_MIM.

    .. math:: -\log \tfrac12 [q(z|x) q(x)^\beta + p(x|z) p(z)^\beta]

    It is a bound, and differs from MIM on both halves, only with an explicit q(x). With the
    decoder's marginal the two terms are equal on encoding samples, and L_CE equals L_MIM there.

    It is computed from logarithms; the naive form overflows in float32 (A.2.3 of the paper).

    Args:
        lp: Log-probabilities, each of shape (B,), in nats.
        beta: Warm-up weight of the two priors, in [0, 1].

    Returns:
        Loss per sample, shape (B,), in nats.
    """
    beta = _checked(lp, beta)
    encoding = lp.q_z_given_x + beta * lp.q_x
    decoding = lp.p_x_given_z + beta * lp.p_z
    return math.log(2) - torch.logaddexp(encoding, decoding)


def vae(lp: LogProbs, beta: float = 1.0) -> Tensor:
    r"""VAE loss, the negative evidence lower bound (ELBO), Eq. (24), which is minus Eq. (1).

    .. math:: -\log p(x|z) + \beta [\log q(z|x) - \log p(z)]

    Args:
        lp: Log-probabilities at encoding samples, each of shape (B,), in nats.
        beta: Weight of the KL divergence.

    Returns:
        Loss per sample, shape (B,), in nats.
    """
    beta = _checked(lp, beta)
    return _scaled(lp.q_z_given_x - lp.p_z, beta) - lp.p_x_given_z


def joint_entropy(lp: LogProbs, of: Literal["encoding", "mixture"]) -> Tensor:
    r"""Estimate of the joint entropy that appendix E.1 adds to or subtracts from a loss.

    The entropies of the anchored distributions are unknown; cross-entropies to the model replace
    them:

    - "encoding": :math:`-\log q(z|x) - \log q(x)` in place of H(q(z|x) P(x));
    - "mixture": :math:`-\log \tfrac12 [q(x,z) + p(x,z)]` in place of H(M_S), the loss of Eq. (7).

    Args:
        lp: Log-probabilities, each of shape (B,), in nats.
        of: Which entropy.

    Returns:
        Terms of shape (B,), in nats. Their mean is an upper bound of the entropy if q(x) is
        explicit. With the decoder's marginal "mixture" equals the MIM loss on encoding samples.
    """
    _checked(lp, 1.0)
    if of == "encoding":
        return -(lp.q_z_given_x + lp.q_x)
    if of == "mixture":
        return cross_entropy(lp)
    raise ValueError(f'of must be "encoding" or "mixture", got {of!r}')


def _scaled(value: Tensor, factor: float) -> Tensor:
    # Most steps have β = 1, and small models spend most of their time on such operations.
    return value if factor == 1 else factor * value


@dataclass(frozen=True)
class _WeightedVAE:
    weight: float

    def __call__(self, lp: LogProbs, beta: float = 1.0) -> Tensor:
        return vae(lp, beta * self.weight)


@dataclass(frozen=True)
class _Regularised:
    weight: float

    def __call__(self, lp: LogProbs, beta: float = 1.0) -> Tensor:
        return -lp.p_x_given_z - _scaled(lp.p_z, beta * self.weight)


def _encoding_entropy(lp: LogProbs) -> Tensor:
    return joint_entropy(lp, "encoding")


def _minus_joint_entropy(lp: LogProbs) -> Tensor:
    return -joint_entropy(lp, "mixture")


@dataclass(frozen=True)
class Objective:
    """Loss to minimise, and the distribution to sample from.

    Attributes:
        loss: Maps the log-probabilities and the warm-up's β to a loss per sample.
        sampling: "mixture" for both halves of M_S, Eq. (4); "encoding" for the encoding half.
        regulariser: Maps the log-probabilities to a term that is multiplied by the warm-up's β
            and added, such as the entropies of appendix E.1.
        q_x: "model" for the model's log q(x); "decoder" for log p(x|z) at the same sample in its
            place, see `A_MIM_ONE_SAMPLE`.
        priors: Source of q_x and p_z in `loss`: the "model", or the "anchors" P(x) and P(z).
        regulariser_priors: Source of q_x and p_z in `regulariser`.
        decoded: x of the decoding half: "draws" from p(x|z), or its "means", see `MIM_OF_MEANS`.
        latents: z of the decoding half: "fixed", without gradient to the anchor that they are
            drawn from, or "reparameterised", with one.
        family: "mim" for objectives that reward mutual information by the bound of MIM, "vae" for
            those with a KL divergence to the prior, None for all others. Presets and advice use
            it.
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
        function("loss", self.loss, "a loss per sample")
        if self.regulariser is not None:
            function("regulariser", self.regulariser, "a term per sample")
        one_of("family", self.family, ("mim", "vae", None))
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
            raise ValueError('q_x must be "model" if the anchors replace the priors, got "decoder"')

    @property
    def anchored(self) -> bool:
        """Whether the objective needs the densities of the anchors."""
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
            terms: Log-probabilities that β multiplies; None for those that `loss` chooses.
            at_anchors: `lp` with log P(x) and log P(z) as q_x and p_z; required if `anchored`.

        Raises:
            ValueError: If `anchored` and there is no `at_anchors`.
        """
        beta = _checked(lp, beta)
        if not (at_anchors is None or isinstance(at_anchors, LogProbs)):
            instance("at_anchors", at_anchors, LogProbs, "a LogProbs")
        if terms is not None:
            _check_terms(terms)
        if self.q_x == "decoder":
            lp = lp._replace(q_x=lp.p_x_given_z)
        regularised = lp
        if self.anchored:
            if at_anchors is None:
                raise ValueError("at_anchors must be given if the objective is anchored, got None")
            lp = at_anchors if self.priors == "anchors" else lp
            regularised = at_anchors if self.regulariser_priors == "anchors" else regularised
        value = self.loss(lp, beta) if terms is None else self.loss(lp.scaled(beta, terms), 1.0)
        return value if self.regulariser is None else value + beta * self.regulariser(regularised)


def beta_vae(weight: float) -> Objective:
    """β-VAE: VAE loss with a weight on the KL divergence, multiplied by any warm-up weight.

    Args:
        weight: Weight of the KL divergence, 0 or more.

    Raises:
        ValueError: If the weight is negative.

    References:
        beta-VAE (Higgins et al., 2017), https://openreview.net/forum?id=Sy2fzU9gl
    """
    weight = real("weight", weight, 0)
    return Objective(_WeightedVAE(weight), "encoding", family="vae" if weight else None)


def rae(weight: float = 1.0) -> Objective:
    r"""Regularised auto-encoder: reconstruction from noisy codes, and a penalty on the codes.

    .. math:: -\log p(x|z) - w \beta \log p(z)

    With p(z) = N(0, I) the penalty is w |z|² / 2 plus a constant. The width of q(z|x) has no term
    of its own, so it should be constant: `Gaussian(network, scale=0.05)`. With such an encoder
    A-MIM is this objective: with weight 1 if q(x) is importance sampled, and ½ for
    `A_MIM_ONE_SAMPLE`, up to constants.

    Args:
        weight: Weight w of the penalty, 0 or more, which any warm-up weight multiplies.

    Raises:
        ValueError: If the weight is negative.

    References:
        From Variational to Deterministic Autoencoders (Ghosh et al., 2020),
        https://arxiv.org/abs/1903.12436
    """
    return Objective(_Regularised(real("weight", weight, 0)), "encoding")


# Eq. (8), estimated by Eq. (22).
MIM = Objective(mim, "mixture", family="mim")
# The MIM loss of the authors' released image code. It decodes to means in place of draws, from
# latents that are reparameterised through the prior. At the mean of binary pixels the gradient of
# log p(x|z) with respect to the logits, x - E[x|z], is zero. The decoding half thus trains only the
# encoder and a learned prior, and trains the encoder on grey images, unlike the data.
MIM_OF_MEANS = Objective(mim, "mixture", decoded="means", latents="reparameterised", family="mim")
# Appendix C.3: A-MIM, which never samples from the decoder.
A_MIM = Objective(mim, "encoding", family="mim")
# A-MIM with log p(x|z) in place of log q(x), as in SentenceMIM (Livne et al., 2020,
# https://arxiv.org/abs/2003.02645) and its successors for molecules; not in the paper. At an
# encoding sample log p(x|z) neither bounds nor estimates log q(x), so the loss does not bound a
# joint entropy. It rewards narrow posteriors directly and needs a floor on the encoder's variance.
A_MIM_ONE_SAMPLE = Objective(mim, "encoding", q_x="decoder", family="mim")
# Eq. (7).
CE = Objective(cross_entropy, "mixture")
# Eq. (24), minus Eq. (1).
VAE = Objective(vae, "encoding", family="vae")
# Appendix E.1: the VAE loss plus the entropy of the encoding joint.
VAE_H = Objective(vae, "encoding", _encoding_entropy, family="vae")
# Appendix E.1: the MIM loss minus an entropy. MIM_H subtracts L_CE, an upper bound of H(M_S), as
# the authors' released code does; this leaves the regulariser R_MIM of Eq. (9, 10). MIM_H_TRUE
# subtracts H(M_S) itself, by the densities of the anchors; this leaves R_MIM + KL(M_S || M_θ).
MIM_H = Objective(mim, "mixture", _minus_joint_entropy, family="mim")
MIM_H_TRUE = Objective(
    mim, "mixture", _minus_joint_entropy, regulariser_priors="anchors", family="mim"
)
# Appendix B: ½ SKL + R_H = ½ (H(M_S, p(x|z)P(z)) + H(M_S, q(z|x)P(x))), the symmetric KL
# divergence of the anchored encoder and decoder plus their mean entropy R_H, Eq. (5). It does not
# contain the model priors, so a learned p(z) is not trained.
SYMMETRIC_KL = Objective(mim, "mixture", priors="anchors")
# The reconstruction term of the VAE loss alone.
AUTO_ENCODER = beta_vae(0.0)
# Not in the paper: the noisy auto-encoder with an L2 penalty that A-MIM becomes if the encoder's
# width is constant.
RAE = rae(1.0)

# Objectives by the names that settings and the command line use.
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
    "rae": RAE,
    "beta-vae": beta_vae(0.01),
}
