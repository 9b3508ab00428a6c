"""Joint model of data x and latents z: encoder, decoder and priors, in two factorisations.

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

__all__ = ["Joint", "LogProbs", "Sample", "check_joint", "checked", "log_prior"]


class Sample(NamedTuple):
    """Sample (x, z) from one half of the sample distribution M_S, Eq. (4).

    Attributes:
        x: Data, shape (B, *X).
        z: Latents, shape (B, *Z).
        source: "encoding" for x ~ P(x), z ~ q(z|x); "decoding" for z ~ P(z), x ~ p(x|z).
        log_prob: Log-probability of the drawn part given the other, shape (B,), in nats; None
            if unknown, and then evaluated.
        score: Log-probability of what was drawn without reparameterisation, shape (B,); None
            if gradients flow through the sample itself.
        second_z: Second latent, drawn from q(z|x), if `Marginal("importance")` needs one.
        second_log_prob: Its log-probability, shape (B,), or None as above.
        weight: Weights of the K components, shape (K, N), if each component of a mixture was drawn
            for N examples. The B = K N rows of the other fields are the N rows of the first
            component, then those of the second, and so on. A weighted average over components has
            the expectation of drawing one of them. None for one row per example.
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
        """Multiply some of the log-probabilities by a factor."""
        return self._replace(**{term: factor * getattr(self, term) for term in terms})


class Joint(nn.Module):
    """Encoder, decoder and priors: the two factorisations of one joint distribution.

    Args:
        encoder: q(z|x), any module that maps (B, *X) to a distribution of batch shape (B,).
        decoder: p(x|z), any module that maps (B, *Z) to a distribution of batch shape (B,).
        prior: p(z), any module that returns a distribution when called.
        data_prior: q(x), any module that returns a distribution when called; by default the
            marginal of the decoder, Eq. (23).

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
                    f"got {type(part).__name__}; pass a module that returns one"
                )
        self.encoder = cast(nn.Module, encoder)
        self.decoder = cast(nn.Module, decoder)
        self.prior = cast(nn.Module, prior)
        self.data_prior = Marginal() if data_prior is None else data_prior

    def encode(self, x: Tensor, each_component: bool = False) -> Sample:
        """Draw z ~ q(z|x) for data of shape (B, *X).

        Args:
            x: Data.
            each_component: If the encoder gives a `Mixture`, draw every component in place of one
                at random; the sample then has a `weight`.
        """
        encoder = checked("encoder", self.encoder(x), len(x))
        (z, log_prob, score), weight = _drawn_rows(encoder, each_component)
        return Sample(_repeated(x, weight), z, "encoding", log_prob, score, weight=weight)

    def decode(self, z: Tensor, each_component: bool = False) -> Sample:
        """Draw x ~ p(x|z) for latents of shape (B, *Z).

        Args:
            z: Latents.
            each_component: As for `encode`, for the decoder and for a second latent of the encoder.
        """
        decoder = checked("decoder", self.decoder(z), len(z))
        (x, log_prob, score), weight = _drawn_rows(decoder, each_component)
        sample = Sample(x, _repeated(z, weight), "decoding", log_prob, score, weight=weight)
        return self._with_second_latent(sample, each_component)

    def decode_mean(self, z: Tensor, each_component: bool = False) -> Sample:
        """Decode latents of shape (B, *Z) to the mean of p(x|z) in place of a draw.

        No gradient flows through the mean. It is not a sample from M_S: log-probabilities are
        evaluated at the mean, which may be a value that data never take.

        Args:
            z: Latents.
            each_component: As for `encode`, for a second latent of the encoder.

        Raises:
            TypeError: If the decoder's distribution has no mean in closed form.
        """
        decoder = checked("decoder", self.decoder(z), len(z))
        try:
            x = decoder.mean.detach()
        except NotImplementedError as error:
            raise TypeError(
                "decoder must give a distribution with a mean in closed form, since the objective "
                f"decodes to means; {type(decoder).__name__} has none"
            ) from error
        sample = Sample(x, z, "decoding", _log_prob("decoder", decoder, x))
        return self._with_second_latent(sample, each_component)

    def _with_second_latent(self, sample: Sample, each_component: bool) -> Sample:
        """Add a second latent to a decoding sample if the data prior needs one."""
        if self.data_prior != Marginal("importance"):
            return sample
        x, z, log_prob, score = sample.x, sample.z, sample.log_prob, sample.score
        weight = sample.weight
        encoder = checked("encoder", self.encoder(x), len(x))
        second, each = _drawn_rows(encoder, each_component)
        if each is not None:
            x, z = _repeated(x, each), _repeated(z, each)
            log_prob = None if log_prob is None else _repeated(log_prob, each)
            score = None if score is None else _repeated(score, each)
            weight = each if weight is None else _product(each, weight)
        if second.score is not None:
            score = second.score if score is None else score + second.score
        return Sample(x, z, "decoding", log_prob, score, second.value, second.log_prob, weight)

    def log_probs(self, sample: Sample, prior: Distribution | None = None) -> LogProbs:
        """Evaluate the four log-probabilities at a sample.

        Args:
            sample: From `encode`, `decode`, or constructed by hand.
            prior: Result of `self.prior()` if already computed, to share a costly prior between
                samples.

        Raises:
            ValueError: If the shape of a distribution differs from the sample's, such as one
                log-probability per dimension, or if the data prior needs a second latent and a
                decoding sample has none.
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
        """Importance-sampled log q(x) of decoded data, by their second latent."""
        x, z = sample.x, sample.second_z
        if z is None:
            raise ValueError(
                'a decoding sample needs second_z under Marginal("importance"), got None; '
                "Joint.decode gives one"
            )
        log_q = sample.second_log_prob
        if log_q is None:
            log_q = _log_prob("encoder", checked("encoder", self.encoder(x), len(x)), z)
        decoder = checked("decoder", self.decoder(z), len(x))
        _check_event("decoder", decoder, x)
        return log_prob_of_drawn(decoder, x) + _log_prob("prior", prior, z) - log_q


def check_joint(name: str, model: object) -> None:
    """Check that an argument is a model with the three parts, as a `Joint` or a wrapper of one.

    Raises:
        ValueError: If it is something else, such as a loss or an opened run.
    """
    if _has_parts(model):
        return
    inner = getattr(model, "model", None)
    remedy = f"; give its model, {name}.model" if _has_parts(inner) else ""
    raise ValueError(f"{name} must be a Joint, got a {type(model).__name__}{remedy}")


def _has_parts(model: object) -> bool:
    return all(callable(getattr(model, part, None)) for part in ("encoder", "decoder", "prior"))


def _drawn_rows(distribution: Distribution, each_component: bool) -> tuple[Draw, Tensor | None]:
    """Draw one row per batch entry, or one per component with the components' weights."""
    if not (each_component and isinstance(distribution, Mixture)):
        return draw(distribution), None
    (value, log_prob, score), weight = distribution.draw_each()
    score = None if score is None else score.flatten(0, 1)
    return Draw(value.flatten(0, 1), log_prob.flatten(0, 1), score), weight


def _repeated(rows: Tensor, weight: Tensor | None) -> Tensor:
    """Repeat rows for each component."""
    return rows if weight is None else rows.expand(len(weight), *rows.shape).flatten(0, 1)


def _product(inner: Tensor, outer: Tensor) -> Tensor:
    """Multiply weights (J, K N) of components by the weights (K, N) of their rows: (J K, N)."""
    product: Tensor = inner.unflatten(1, outer.shape) * outer
    return product.flatten(0, 1)


def checked(part: str, distribution: Distribution, batch: int) -> Distribution:
    """Check that a distribution has one event for each row of a batch, and return it.

    Raises:
        TypeError: If it is no distribution.
        ValueError: If its batch shape is not (batch,).
    """
    if not isinstance(distribution, Distribution):
        raise TypeError(
            f"{part} must return a torch.distributions.Distribution, got "
            f"{type(distribution).__name__}"
        )
    if distribution.batch_shape != (batch,):
        raise ValueError(
            f"{part} must give a distribution of batch shape ({batch},), one event for each row, "
            f"got batch shape {tuple(distribution.batch_shape)} and event shape "
            f"{tuple(distribution.event_shape)}; wrap independent dimensions in "
            "torch.distributions.Independent(..., 1)"
        )
    return distribution


def log_prior(part: str, distribution: Distribution, value: Tensor) -> Tensor:
    """Log-probability of each row, shape (B,), under an unconditional distribution.

    Raises:
        ValueError: If its batch shape is not (), or its event shape is not that of a row.
    """
    if distribution.batch_shape:
        raise ValueError(
            f"{part} must give a distribution of batch shape (), got batch shape "
            f"{tuple(distribution.batch_shape)} and event shape {tuple(distribution.event_shape)}"
        )
    return _log_prob(part, distribution, value)


def _log_prob(part: str, distribution: Distribution, value: Tensor) -> Tensor:
    """log_prob with a check of shapes, since broadcasting would turn a mistake into numbers."""
    _check_event(part, distribution, value)
    log_prob: Tensor = distribution.log_prob(value)
    return log_prob


def _check_event(part: str, distribution: Distribution, value: Tensor) -> None:
    if distribution.event_shape != value.shape[1:]:
        raise ValueError(
            f"{part} gives events of shape {tuple(distribution.event_shape)}, "
            f"but the sample has shape {tuple(value.shape[1:])}"
        )
