"""Training loss: an objective averaged over samples of a batch, Algorithms 1 and 2 of the paper."""

from __future__ import annotations

from typing import Any, Literal

from torch import Size, Tensor, nn
from torch.distributions import Distribution

from mimachine.model.annealing import Annealing
from mimachine.model.distributions import draw
from mimachine.model.hierarchy import weigh_first
from mimachine.model.joint import Joint, LogProbs, Sample, log_prior
from mimachine.model.objectives import Objective
from mimachine.model.priors import (
    Anchor,
    Prior,
    Samplable,
    sample_without_gradient,
    without_gradient,
)

__all__ = [
    "Loss",
]


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
