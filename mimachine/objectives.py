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
from typing import Any, Literal

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from mimachine.chain import weigh_first
from mimachine.distributions import draw
from mimachine.joint import Joint, LogProbs, Sample, log_prior
from mimachine.priors import (
    Anchor,
    Prior,
    Samplable,
    sample_without_gradient,
    without_gradient,
)
from mimachine.training import Annealing, Term

__all__ = [
    "A_MIM",
    "A_MIM_ONE_SAMPLE",
    "AUTO_ENCODER",
    "CE",
    "MIM",
    "MIM_H",
    "MIM_H_TRUE",
    "MIM_OF_MEANS",
    "OBJECTIVES",
    "SYMMETRIC_KL",
    "VAE",
    "VAE_H",
    "Loss",
    "Objective",
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
    """

    loss: Callable[[LogProbs, float], Tensor]
    sampling: Literal["encoding", "mixture"]
    regulariser: Callable[[LogProbs], Tensor] | None = None
    q_x: Literal["model", "decoder"] = "model"
    priors: Literal["model", "anchors"] = "model"
    regulariser_priors: Literal["model", "anchors"] = "model"
    decoded: Literal["draws", "means"] = "draws"
    latents: Literal["fixed", "reparameterised"] = "fixed"

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
    return Objective(_WeightedVAE(weight), "encoding")


MIM = Objective(mim, "mixture")
# What the authors' released code minimises on images. It decodes to means in place of draws, from
# latents that are reparameterised through the prior. At the mean of binary pixels the gradient of
# log p(x|z) with respect to their logits, x - E[x|z], is nothing, so the decoding half trains the
# encoder and a learned prior alone, and the encoder on grey images that data are not.
MIM_OF_MEANS = Objective(mim, "mixture", decoded="means", latents="reparameterised")
A_MIM = Objective(mim, "encoding")
# -[l_pxz + ½ (l_qzx + l_pz)]: log p(x|z) at an encoding sample neither bounds nor estimates
# log q(x), so this bounds no joint entropy. It rewards tight posteriors directly and needs a floor
# on the encoder's variance. Not in the paper; SentenceMIM (Livne et al., 2020,
# https://arxiv.org/abs/2003.02645) and its successors for molecules train so.
A_MIM_ONE_SAMPLE = Objective(mim, "encoding", q_x="decoder")
CE = Objective(cross_entropy, "mixture")
VAE = Objective(vae, "encoding")
VAE_H = Objective(vae, "encoding", _encoding_entropy)
# Subtracts L_CE, an upper bound of H(M_S), as the authors' released code does; what is left is the
# regulariser R_MIM of Eq. (9). With the anchors' densities it is H(M_S) itself that is subtracted,
# and R_MIM + KL(M_S || M_θ) that is left.
MIM_H = Objective(mim, "mixture", _minus_joint_entropy)
MIM_H_TRUE = Objective(mim, "mixture", _minus_joint_entropy, regulariser_priors="anchors")
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


class Loss(nn.Module):
    """The loss of a model under an objective: all that training has to call.

    Args:
        model: The two factorisations.
        objective: What to minimise.
        anchor: P(z), which latents of the decoding half are drawn from. By default the model
            prior as it is at the time; no gradient reaches its parameters through them, unless the
            objective has them reparameterised.
        components: What to do where a part that is sampled from gives a `Mixture` of K
            components: "draw" one at random, whose index gets its gradient by REINFORCE, or
            "sum" over draws of all of them with their weights, which the gradient flows through.
            Both have the same expectation; the sum varies less and costs up to K times as much.
            Of the encoder's second latent too, under `Marginal("importance")`.
        data_anchor: P(x), for objectives that take the densities of the anchors, such as
            `Fixed(distribution)`. For them `anchor` has to give a distribution too. No gradient
            reaches the parameters of an anchor that is a module.

    Raises:
        TypeError: If something is not what it has to be.
        ValueError: If an objective needs `data_anchor` and there is none.
    """

    def __init__(
        self,
        model: Joint,
        objective: Objective,
        anchor: Anchor | None = None,
        *,
        components: Literal["draw", "sum"] = "draw",
        data_anchor: Prior | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(objective, Objective):
            raise TypeError(
                f"objective must be an Objective, such as mimachine.MIM, got {objective!r}"
            )
        if not (anchor is None or callable(anchor)):
            raise TypeError(
                "anchor must be callable and return something with a method sample, "
                f"got {type(anchor).__name__}"
            )
        if components not in ("draw", "sum"):
            raise ValueError(f'components must be "draw" or "sum", got {components!r}')
        if data_anchor is None and objective.anchored:
            raise ValueError("data_anchor must give P(x), which the objective needs, got None")
        if not (data_anchor is None or callable(data_anchor)):
            raise TypeError(
                "data_anchor must be callable and return a distribution, got "
                f"{type(data_anchor).__name__}; mimachine.Fixed(distribution) will do"
            )
        self.model, self.objective, self.anchor = model, objective, anchor
        self.components, self.data_anchor = components, data_anchor

    def forward(self, x: Tensor, annealing: Annealing | float = 1.0) -> Tensor:
        """One-sample estimate of the loss at each datum, by Algorithm 1 or 2 of the paper.

        With both halves, every datum is paired with one latent drawn from the anchor.

        Args:
            x: Data, shape (B, *X).
            annealing: State of the warm-up, or just its β.

        Returns:
            Shape (B,), in nats. Where something was drawn without reparameterisation, the
            gradient is that of REINFORCE with a leave-one-out baseline; the value is unaffected.
        """
        if not isinstance(annealing, Annealing):
            annealing = Annealing(annealing)
        drawn = prior = self.model.prior()
        if annealing.first_latent:
            prior = weigh_first(prior, annealing.beta)
        encoding = self.model.encode(x, self.components == "sum")
        total = self._half(encoding, prior, annealing)
        if self.objective.sampling == "encoding" or not annealing.decoding:
            return total
        anchor = drawn if self.anchor is None else self.anchor()
        total = total + self._half(self._decoding(anchor, len(x)), prior, annealing)
        return total if annealing.halves == "sum" else 0.5 * total

    def _decoding(self, anchor: Samplable, count: int) -> Sample:
        """A sample of the decoding half, as the objective has it."""
        if self.objective.latents == "reparameterised":
            z, score = _reparameterised(anchor, count)
        else:
            z, score = sample_without_gradient(anchor, count), None
        decode = self.model.decode if self.objective.decoded == "draws" else self.model.decode_mean
        sample = decode(z, self.components == "sum")
        if score is None:
            return sample
        if sample.weight is not None:
            score = score.expand(len(sample.weight), -1).flatten()
        return sample._replace(score=score if sample.score is None else sample.score + score)

    def _half(self, sample: Sample, prior: Distribution, annealing: Annealing) -> Tensor:
        log_probs = self.model.log_probs(sample, prior)
        at_anchors = self._at_anchors(sample, log_probs) if self.objective.anchored else None
        value = self.objective(log_probs, annealing.beta, annealing.terms, at_anchors)
        if sample.weight is not None:
            return _averaged(value, sample.weight, sample.score)
        if sample.score is None:
            return value
        return value + _advantage(value.detach()) * (sample.score - sample.score.detach())

    def _at_anchors(self, sample: Sample, log_probs: LogProbs) -> LogProbs:
        anchor = self.model.prior if self.anchor is None else self.anchor
        return log_probs._replace(
            q_x=_log_anchor("data_anchor", self.data_anchor, sample.x),
            p_z=_log_anchor("anchor", anchor, sample.z),
        )


def _reparameterised(anchor: Samplable, count: int) -> tuple[Tensor, Tensor | None]:
    """Latents with gradients to the parameters of the anchor, and the score of what has none."""
    if not isinstance(anchor, Distribution):
        raise TypeError(
            "anchor must give a distribution, for the objective takes gradients through its "
            f"samples, got {type(anchor).__name__}"
        )
    z, _, score = draw(anchor, Size((count,)))
    return z, score


def _log_anchor(part: str, anchor: Any, value: Tensor) -> Tensor:
    """Log-density of an anchor at each row, shape (B,), with a gradient to the rows alone."""
    distribution = without_gradient(anchor)
    message = (
        f"{part} must give a distribution that can be evaluated, for the objective takes its "
        f"density, got {type(distribution).__name__}"
    )
    if not isinstance(distribution, Distribution):
        raise TypeError(message)
    try:
        return log_prior(part, distribution, value)
    except NotImplementedError as error:
        raise TypeError(message) from error


def _advantage(reward: Tensor) -> Tensor:
    """Reward less the mean of the others': independent of the own sample, so unbiased (C.2)."""
    count = len(reward)
    return reward if count == 1 else (reward - reward.mean()) * (count / (count - 1))


def _averaged(value: Tensor, weight: Tensor, score: Tensor | None) -> Tensor:
    """Values of a datum's rows averaged by weights (K, N), with REINFORCE for what has a score."""
    value = value.reshape(weight.shape)
    total = (weight * value).sum(0)
    if score is None:
        return total
    # Rows of one datum share draws, and weights depend on draws. A baseline that is the same for
    # all rows of a datum, and of other data alone, stays unbiased all the same.
    reward = total.detach()
    baseline = reward - _advantage(reward)
    score = score.reshape(weight.shape)
    terms = (value.detach() - baseline) * (score - score.detach())
    return total + (weight.detach() * terms).sum(0)
