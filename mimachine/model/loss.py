"""Training loss: Algorithms 1 and 2 of the paper, for any objective.

Algorithm 1, for a batch of N examples:

1. Encoding half: draw a latent z ~ q(z|x) for each example x.
2. Decoding half: draw N latents z ~ P(z) and x ~ p(x|z) for each.
3. Average the objective over both halves, Eq. (22).

Algorithm 2 is the same with the decoder's marginal as q(x), Eq. (23), see `Marginal`. Objectives
that sample from the encoder alone, such as A-MIM and the VAE, leave step 2 out.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution

from mimachine._support.checks import real
from mimachine.model.annealing import Annealing
from mimachine.model.distributions import draw
from mimachine.model.hierarchy import weigh_first
from mimachine.model.joint import Joint, LogProbs, Sample, check_joint, log_prior
from mimachine.model.misfit import FAILURES, explained
from mimachine.model.objectives import Objective
from mimachine.model.priors import (
    Anchor,
    Prior,
    Samplable,
    sample_without_gradient,
    without_gradient,
)

__all__ = ["Loss"]


class Loss(nn.Module):
    """Loss of a model under an objective, by Algorithms 1 and 2 of the paper.

    Args:
        model: Encoder, decoder and priors.
        objective: Objective to minimise.
        anchor: P(z), from which latents of the decoding half are drawn. By default it is the
            current model prior. No gradient flows through the latents to its parameters unless the
            objective reparameterises them.
        components: How to sample from a `Mixture` of K components: "draw" one component at random,
            with REINFORCE for its index; or "sum" over one draw of each component, weighted by the
            mixture's weights, with a gradient to the weights. Both have the same expectation; the
            sum varies less and costs up to K times as much. This includes the encoder's second
            latent under `Marginal("importance")`.
        data_anchor: P(x), such as `Fixed(distribution)`, for objectives that need the densities of
            the anchors. They need an `anchor` that gives a distribution, too. No gradient reaches
            the parameters of an anchor that is a module.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `components` is unknown, or the objective needs `data_anchor` and has none.
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
        check_joint("model", model)
        if not isinstance(objective, Objective):
            raise TypeError(
                f"objective must be an Objective, such as mimachine.MIM, got {objective!r}"
            )
        if not (anchor is None or callable(anchor)):
            raise TypeError(
                "anchor must be callable and return an object with a method sample, "
                f"got {type(anchor).__name__}"
            )
        if components not in ("draw", "sum"):
            raise ValueError(f'components must be "draw" or "sum", got {components!r}')
        if data_anchor is None and objective.anchored:
            raise ValueError("data_anchor must give P(x), which the objective needs, got None")
        if not (data_anchor is None or callable(data_anchor)):
            raise TypeError(
                "data_anchor must be callable and return a distribution, got "
                f"{type(data_anchor).__name__}; use a module such as mimachine.Fixed(distribution)"
            )
        self.model, self.objective, self.anchor = model, objective, anchor
        self.components, self.data_anchor = components, data_anchor

    def forward(self, x: Tensor, annealing: Annealing | float = 1.0) -> Tensor:
        """Estimate the loss at each example from one sample, by Algorithm 1 or 2 of the paper.

        With both halves, each example is paired with one latent drawn from the anchor.

        Args:
            x: Data, shape (B, *X).
            annealing: Warm-up state, or its β.

        Returns:
            Shape (B,), in nats. Samples without reparameterisation contribute a REINFORCE gradient
            with a leave-one-out baseline (C.2); they do not change the value.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If the data and the parts of the model do not fit together.
        """
        if not isinstance(annealing, Annealing):
            if not isinstance(annealing, float | Tensor):
                annealing = real("annealing", annealing)
            annealing = Annealing(annealing)
        if torch.compiler.is_compiling():
            return self._estimate(x, annealing)
        try:
            return self._estimate(x, annealing)
        except FAILURES as error:
            found = self._explained(error, x)
            if found is error:
                raise
            raise found from error

    def _explained(self, error: Exception, x: Tensor) -> Exception:
        """The error that names what does not fit; the error itself if that is not known."""
        try:
            return explained(error, self.model, x)
        except Exception:
            # Under transforms such as vmap the parts may not run again.
            return error

    def _estimate(self, x: Tensor, annealing: Annealing) -> Tensor:
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
        """Sample of the decoding half: z from the anchor, x from the decoder or its mean."""
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
        """Objective at the samples of one half, (B,), with REINFORCE terms of value zero."""
        log_probs = self.model.log_probs(sample, prior)
        at_anchors = self._at_anchors(sample, log_probs) if self.objective.anchored else None
        value = self.objective(log_probs, annealing.beta, annealing.terms, at_anchors)
        if sample.weight is not None:
            return _averaged(value, sample.weight, sample.score)
        if sample.score is None:
            return value
        return value + _advantage(value.detach()) * (sample.score - sample.score.detach())

    def _at_anchors(self, sample: Sample, log_probs: LogProbs) -> LogProbs:
        """Log-probabilities with log P(x) and log P(z) as q_x and p_z."""
        anchor = self.model.prior if self.anchor is None else self.anchor
        return log_probs._replace(
            q_x=_log_anchor("data_anchor", self.data_anchor, sample.x),
            p_z=_log_anchor("anchor", anchor, sample.z),
        )


def _reparameterised(anchor: Samplable, count: int) -> tuple[Tensor, Tensor | None]:
    """Draw latents with gradient to the anchor, and the score of what is not reparameterised."""
    if not isinstance(anchor, Distribution):
        raise TypeError(
            "anchor must give a distribution, since the objective takes gradients through its "
            f"samples, got {type(anchor).__name__}"
        )
    z, _, score = draw(anchor, Size((count,)))
    return z, score


def _log_anchor(part: str, anchor: Any, value: Tensor) -> Tensor:
    """Log-density of an anchor at each row, shape (B,), with gradient to the rows only."""
    distribution = without_gradient(anchor)
    message = (
        f"{part} must give a distribution that can be evaluated, since the objective needs its "
        f"density, got {type(distribution).__name__}"
    )
    if not isinstance(distribution, Distribution):
        raise TypeError(message)
    try:
        return log_prior(part, distribution, value)
    except NotImplementedError as error:
        raise TypeError(message) from error


def _advantage(reward: Tensor) -> Tensor:
    """Reward minus the mean reward of the other samples, an unbiased baseline (C.2)."""
    count = len(reward)
    return reward if count == 1 else (reward - reward.mean()) * (count / (count - 1))


def _averaged(value: Tensor, weight: Tensor, score: Tensor | None) -> Tensor:
    """Average the K rows of each of N examples by weights (K, N), with REINFORCE for scores."""
    value = value.reshape(weight.shape)
    total = (weight * value).sum(0)
    if score is None:
        return total
    # Rows of one example share draws, and weights depend on draws. A baseline that is the same for
    # all rows of an example, and made of other examples only, is unbiased nevertheless.
    reward = total.detach()
    baseline = reward - _advantage(reward)
    score = score.reshape(weight.shape)
    terms = (value.detach() - baseline) * (score - score.detach())
    return total + (weight.detach() * terms).sum(0)
