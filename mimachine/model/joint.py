"""The model: one joint distribution over data x and latents z, factorised in two ways.

q(x, z) = q(z|x) q(x) encodes, p(x, z) = p(x|z) p(z) decodes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, cast

from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine.model.annealing import Term
from mimachine.model.conditionals import Conditional
from mimachine.model.distributions import Draw, Mixture, draw, log_prob_of_drawn
from mimachine.model.priors import Marginal, Prior

__all__ = [
    "Joint",
    "LogProbs",
    "Sample",
    "checked",
    "log_prior",
]


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
        second_log_prob: Its log-probability, shape (B,), or None as above.
        weight: Where each component of a mixture was drawn: weights of its K components, shape
            (K, N). The B = K N rows of the other fields are the N of the first component, then
            those of the second, and so on; the average over k of what a row gives, by these
            weights, is what a draw of one component gives on average. None for one row a datum.
    """

    x: Tensor
    z: Tensor
    source: Literal["encoding", "decoding"]
    log_prob: Tensor | None = None
    score: Tensor | None = None
    second_z: Tensor | None = None
    second_log_prob: Tensor | None = None
    weight: Tensor | None = None


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
        parts = {"encoder": encoder, "decoder": decoder, "prior": prior}
        if not (data_prior is None or isinstance(data_prior, Marginal)):
            parts["data_prior"] = data_prior
        for name, part in parts.items():
            if not callable(part):
                raise TypeError(
                    f"{name} must be callable and return a distribution, "
                    f"got {type(part).__name__}; a module that returns it will do"
                )
        self.encoder = cast(nn.Module, encoder)
        self.decoder = cast(nn.Module, decoder)
        self.prior = cast(nn.Module, prior)
        self.data_prior = Marginal() if data_prior is None else data_prior

    def encode(self, x: Tensor, each_component: bool = False) -> Sample:
        """Draw z ~ q(z|x) for data of shape (B, *X).

        Args:
            x: Data.
            each_component: Draw every component of a `Mixture`, where the encoder gives one, in
                place of one at random; the sample has a `weight` then.
        """
        encoder = checked("encoder", self.encoder(x), len(x))
        (z, log_prob, score), weight = _rows(encoder, each_component)
        return Sample(_repeated(x, weight), z, "encoding", log_prob, score, weight=weight)

    def decode(self, z: Tensor, each_component: bool = False) -> Sample:
        """Draw x ~ p(x|z) for latents of shape (B, *Z).

        Args:
            z: Latents.
            each_component: As for `encode`, of the decoder, and of the encoder where it gives a
                second latent.
        """
        decoder = checked("decoder", self.decoder(z), len(z))
        (x, log_prob, score), weight = _rows(decoder, each_component)
        sample = Sample(x, _repeated(z, weight), "decoding", log_prob, score, weight=weight)
        return self._with_second_latent(sample, each_component)

    def decode_mean(self, z: Tensor, each_component: bool = False) -> Sample:
        """The mean of p(x|z) in place of a draw, for latents of shape (B, *Z).

        No gradient flows through it, and it is no fair draw from M_S: log-probabilities are those
        at the mean, which need be no value that data take.

        Args:
            z: Latents.
            each_component: As for `encode`, of the second latent that the encoder gives.

        Raises:
            TypeError: If the decoder's distribution has no mean in closed form.
        """
        decoder = checked("decoder", self.decoder(z), len(z))
        try:
            x = decoder.mean.detach()
        except NotImplementedError as error:
            raise TypeError(
                "decoder must give a distribution with a mean in closed form, for the objective "
                f"decodes to means; {type(decoder).__name__} has none"
            ) from error
        sample = Sample(x, z, "decoding", _log_prob("decoder", decoder, x))
        return self._with_second_latent(sample, each_component)

    def _with_second_latent(self, sample: Sample, each_component: bool) -> Sample:
        """The same decoding sample, with a second latent where the data prior needs one."""
        if self.data_prior != Marginal("importance"):
            return sample
        x, z, log_prob, score = sample.x, sample.z, sample.log_prob, sample.score
        weight = sample.weight
        encoder = checked("encoder", self.encoder(x), len(x))
        second, each = _rows(encoder, each_component)
        if each is not None:
            x, z = _repeated(x, each), _repeated(z, each)
            log_prob = None if log_prob is None else _repeated(log_prob, each)
            score = None if score is None else _repeated(score, each)
            weight = each if weight is None else _product(each, weight)
        if second.score is not None:
            score = second.score if score is None else score + second.score
        return Sample(x, z, "decoding", log_prob, score, second.value, second.log_prob, weight)

    def log_probs(self, sample: Sample, prior: Distribution | None = None) -> LogProbs:
        """The four log-probabilities at a sample.

        Args:
            sample: From `encode`, `decode`, or put together by hand.
            prior: `self.prior()` where the caller has it already, so that a costly prior is made
                once for several samples.

        Raises:
            ValueError: If a part of the model gives a distribution of another shape than the
                sample has, such as one log-probability for each dimension. If the data prior
                needs a second latent and a decoding sample has none.
        """
        x, z = sample.x, sample.z
        prior = self.prior() if prior is None else prior
        p_z = log_prior("prior", prior, z)
        q_z_given_x = p_x_given_z = sample.log_prob
        if sample.source == "decoding" or q_z_given_x is None:
            q_z_given_x = _log_prob("encoder", checked("encoder", self.encoder(x), len(x)), z)
        if sample.source == "encoding" or p_x_given_z is None:
            p_x_given_z = _log_prob("decoder", checked("decoder", self.decoder(z), len(x)), x)

        if not isinstance(self.data_prior, Marginal):
            q_x = log_prior("data_prior", self.data_prior(), x)
        elif sample.source == "encoding":
            q_x = p_x_given_z + p_z - q_z_given_x
        elif self.data_prior.decoding == "conditional":
            q_x = p_x_given_z
        else:
            q_x = self._importance_sampled(sample, prior)
        return LogProbs(q_z_given_x, q_x, p_x_given_z, p_z)

    def _importance_sampled(self, sample: Sample, prior: Distribution) -> Tensor:
        """Log q(x) of decoded data by their second latent."""
        x, z = sample.x, sample.second_z
        if z is None:
            raise ValueError(
                'a decoding sample needs second_z under Marginal("importance"); '
                "Joint.decode makes one"
            )
        log_q = sample.second_log_prob
        if log_q is None:
            log_q = _log_prob("encoder", checked("encoder", self.encoder(x), len(x)), z)
        decoder = checked("decoder", self.decoder(z), len(x))
        _check_event("decoder", decoder, x)
        return log_prob_of_drawn(decoder, x) + _log_prob("prior", prior, z) - log_q


def _rows(distribution: Distribution, each_component: bool) -> tuple[Draw, Tensor | None]:
    """A row for each place of the batch, or one for each component and the components' weights."""
    if not (each_component and isinstance(distribution, Mixture)):
        return draw(distribution), None
    (value, log_prob, score), weight = distribution.draw_each()
    score = None if score is None else score.flatten(0, 1)
    return Draw(value.flatten(0, 1), log_prob.flatten(0, 1), score), weight


def _repeated(rows: Tensor, weight: Tensor | None) -> Tensor:
    """The same rows for each component."""
    return rows if weight is None else rows.expand(len(weight), *rows.shape).flatten(0, 1)


def _product(inner: Tensor, outer: Tensor) -> Tensor:
    """Weights (J K, N) of components drawn for each of rows with weights (K, N)."""
    product: Tensor = inner.unflatten(1, outer.shape) * outer
    return product.flatten(0, 1)


def checked(part: str, distribution: Distribution, batch: int) -> Distribution:
    """A part's distribution, if it has one event for each row of a batch.

    Raises:
        ValueError: If it has not.
    """
    if distribution.batch_shape != (batch,):
        raise ValueError(
            f"{part} must give a distribution of batch shape ({batch},), one event for each row, "
            f"got batch shape {tuple(distribution.batch_shape)} and event shape "
            f"{tuple(distribution.event_shape)}; wrap independent dimensions in "
            "torch.distributions.Independent(..., 1)"
        )
    return distribution


def log_prior(part: str, distribution: Distribution, value: Tensor) -> Tensor:
    """Log-probability of each row, shape (B,), under a distribution without a condition.

    Raises:
        ValueError: If it has a batch, or events of another shape.
    """
    if distribution.batch_shape:
        raise ValueError(
            f"{part} must give a distribution of batch shape (), got batch shape "
            f"{tuple(distribution.batch_shape)} and event shape {tuple(distribution.event_shape)}"
        )
    return _log_prob(part, distribution, value)


def _log_prob(part: str, distribution: Distribution, value: Tensor) -> Tensor:
    """log_prob after a check of shapes: broadcasting would hide a mistake in a wrong number."""
    _check_event(part, distribution, value)
    log_prob: Tensor = distribution.log_prob(value)
    return log_prob


def _check_event(part: str, distribution: Distribution, value: Tensor) -> None:
    if distribution.event_shape != value.shape[1:]:
        raise ValueError(
            f"{part} gives events of shape {tuple(distribution.event_shape)}, "
            f"but the sample has shape {tuple(value.shape[1:])}"
        )
