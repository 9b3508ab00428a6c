"""The model: one joint distribution over data x and latents z, factorised in two ways.

q(x, z) = q(z|x) q(x) encodes, p(x, z) = p(x|z) p(z) decodes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine.conditionals import Conditional
from mimachine.distributions import draw
from mimachine.priors import Marginal, Prior
from mimachine.training import Term

__all__ = ["Joint", "LogProbs", "Sample"]


class Sample(NamedTuple):
    """A fair draw from one half of the sample distribution M_S, Eq. (4).

    Attributes:
        x: Data, shape (B, *X).
        z: Latents, shape (B, *Z).
        source: "encoding" for x ~ P(x), z ~ q(z|x); "decoding" for z ~ P(z), x ~ p(x|z).
        log_prob: Log-probability of the drawn part given the other, shape (B,), in nats; None
            where it is not known and has to be evaluated.
        score: Log-probability of what was drawn without reparameterisation, shape (B,); None
            where gradients flow through the sample itself.
        second_z: A second latent, drawn from q(z|x), where `Marginal("importance")` needs one.
    """

    x: Tensor
    z: Tensor
    source: Literal["encoding", "decoding"]
    log_prob: Tensor | None = None
    score: Tensor | None = None
    second_z: Tensor | None = None


class LogProbs(NamedTuple):
    """The four log-probabilities of a model at the same (x, z), each of shape (B,), in nats."""

    q_z_given_x: Tensor
    q_x: Tensor
    p_x_given_z: Tensor
    p_z: Tensor

    def scaled(self, factor: float, terms: tuple[Term, ...]) -> LogProbs:
        """The same with some of the terms multiplied by a factor."""
        return self._replace(**{term: factor * getattr(self, term) for term in terms})


class Joint(nn.Module):
    """Encoder, decoder and priors: the two factorisations of one joint distribution.

    Args:
        encoder: q(z|x), any module that maps (B, *X) to a distribution of batch shape (B,).
        decoder: p(x|z), any module that maps (B, *Z) to a distribution of batch shape (B,).
        prior: p(z), any module that gives a distribution when called.
        data_prior: q(x), likewise; by default the marginal of the decoder, Eq. (23).

    Example:
        >>> model = Joint(
        ...     encoder=mm.Gaussian(mm.MLP(784, 2 * 40)),
        ...     decoder=mm.Bernoulli(mm.MLP(40, 784)),
        ...     prior=mm.StandardNormal(40),
        ... )
        >>> model.log_probs(model.encode(torch.zeros(5, 784))).p_x_given_z.shape
        torch.Size([5])
    """

    def __init__(
        self,
        encoder: Conditional,
        decoder: Conditional,
        prior: Prior,
        data_prior: Prior | Marginal | None = None,
    ) -> None:
        super().__init__()
        self.encoder = cast(nn.Module, encoder)
        self.decoder = cast(nn.Module, decoder)
        self.prior = cast(nn.Module, prior)
        self.data_prior = Marginal() if data_prior is None else data_prior

    def encode(self, x: Tensor) -> Sample:
        """Draw z ~ q(z|x) for data of shape (B, *X)."""
        z, log_prob, score = draw(_checked("encoder", self.encoder(x), len(x)))
        return Sample(x, z, "encoding", log_prob, score)

    def decode(self, z: Tensor) -> Sample:
        """Draw x ~ p(x|z) for latents of shape (B, *Z)."""
        x, log_prob, score = draw(_checked("decoder", self.decoder(z), len(z)))
        if self.data_prior != Marginal("importance"):
            return Sample(x, z, "decoding", log_prob, score)
        second_z, _, second_score = draw(_checked("encoder", self.encoder(x), len(x)))
        if second_score is not None:
            score = second_score if score is None else score + second_score
        return Sample(x, z, "decoding", log_prob, score, second_z)

    def log_probs(self, sample: Sample, prior: Distribution | None = None) -> LogProbs:
        """The four log-probabilities at a sample.

        Args:
            sample: From `encode`, `decode`, or put together by hand.
            prior: `self.prior()` where the caller has it already, so that a costly prior is made
                once for several samples.

        Raises:
            ValueError: If a part of the model gives a distribution of another shape than the
                sample has, such as one log-probability for each dimension.
        """
        x, z = sample.x, sample.z
        prior = _unconditional("prior", self.prior() if prior is None else prior)
        p_z = _log_prob("prior", prior, z)
        q_z_given_x = p_x_given_z = sample.log_prob
        encoder: Distribution | None = None
        if sample.source == "decoding" or q_z_given_x is None:
            encoder = _checked("encoder", self.encoder(x), len(x))
            q_z_given_x = _log_prob("encoder", encoder, z)
        if sample.source == "encoding" or p_x_given_z is None:
            p_x_given_z = _log_prob("decoder", _checked("decoder", self.decoder(z), len(x)), x)

        if not isinstance(self.data_prior, Marginal):
            q_x = _log_prob("data_prior", _unconditional("data_prior", self.data_prior()), x)
        elif sample.source == "encoding":
            q_x = p_x_given_z + p_z - q_z_given_x
        elif sample.second_z is None:
            q_x = p_x_given_z
        else:
            second = sample.second_z
            assert encoder is not None
            q_x = (
                _log_prob("decoder", _checked("decoder", self.decoder(second), len(x)), x)
                + _log_prob("prior", prior, second)
                - _log_prob("encoder", encoder, second)
            )
        return LogProbs(q_z_given_x, q_x, p_x_given_z, p_z)


def _checked(part: str, distribution: Distribution, batch: int) -> Distribution:
    if distribution.batch_shape != (batch,):
        raise ValueError(
            f"{part} must give a distribution of batch shape ({batch},), one event for each row, "
            f"got batch shape {tuple(distribution.batch_shape)} and event shape "
            f"{tuple(distribution.event_shape)}; wrap independent dimensions in "
            "torch.distributions.Independent(..., 1)"
        )
    return distribution


def _unconditional(part: str, distribution: Distribution) -> Distribution:
    if distribution.batch_shape:
        raise ValueError(
            f"{part} must give a distribution of batch shape (), got batch shape "
            f"{tuple(distribution.batch_shape)} and event shape {tuple(distribution.event_shape)}"
        )
    return distribution


def _log_prob(part: str, distribution: Distribution, value: Tensor) -> Tensor:
    """log_prob after a check of shapes: broadcasting would hide a mistake in a wrong number."""
    if distribution.event_shape != value.shape[1:]:
        raise ValueError(
            f"{part} gives events of shape {tuple(distribution.event_shape)}, "
            f"but the sample has shape {tuple(value.shape[1:])}"
        )
    log_prob: Tensor = distribution.log_prob(value)
    return log_prob
