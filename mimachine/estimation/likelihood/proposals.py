"""Proposals for the likelihood that are closer to the posterior than the encoder is."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine.estimation.codes.moments import moments
from mimachine.model.annealing import Annealing
from mimachine.model.conditionals import Conditional
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import DiagNormal, Mixture, draw
from mimachine.model.joint import Joint, checked
from mimachine.model.priors import without_gradient
from mimachine.training.fit import Data, fit
from mimachine.training.recipe import Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = [
    "DefensiveProposal",
    "refit_proposal",
]


class DefensiveProposal(nn.Module):
    """Mixture of the encoder's normal, wider copies of it, and the prior's normal.

    With the prior in it the weights p(x|z) p(z) / q(z|x) of a normal prior cannot exceed
    p(x|z) / `prior_share`: their tail is light. In few dimensions that is enough. In many the
    widths have to hit the posterior's: one that is wider by a factor c costs a factor of about
    c^D samples in D dimensions, and the prior finds nothing; `refit_proposal` is for them.

    Every component is normal, with the mean and the standard deviation of what it stands for;
    those of a distribution that does not know its own are estimated from draws of it.

    Args:
        model: The model whose encoder and prior it is made of. It shares their parameters.
        widths: Factors on the encoder's standard deviation, one component each, of equal weight.
        prior_share: Weight of the prior's normal, in [0, 1).

    Raises:
        ValueError: If there are no widths or one is not positive, or the share is out of range.

    References:
        Weighted Average Importance Sampling and Defensive Mixture Distributions (Hesterberg,
        1995), https://doi.org/10.1080/00401706.1995.10484303

    Example:
        >>> model = Joint(
        ...     mm.Gaussian(MLP(3, 4)), mm.Gaussian(MLP(2, 6)), mm.StandardNormal(2)
        ... )
        >>> proposal = mm.DefensiveProposal(model)
        >>> mm.log_likelihood(model, torch.randn(5, 3), 500, proposal=proposal).values.shape
        torch.Size([5])
    """

    def __init__(
        self,
        model: Joint,
        widths: Sequence[float] = (1.0, 3.0, 10.0, 30.0, 100.0),
        prior_share: float = 0.2,
    ) -> None:
        super().__init__()
        if not widths or not all(0 < width < math.inf for width in widths):
            raise ValueError(f"widths must be one or more positive numbers, got {widths!r}")
        if not 0 <= prior_share < 1:
            raise ValueError(f"prior_share must be in [0, 1), got {prior_share}")
        self.encoder, self.prior = model.encoder, model.prior
        self.widths, self.prior_share = tuple(widths), prior_share

    def forward(self, x: Tensor) -> Mixture:
        """Mixture of batch shape (B,) given data (B, *X).

        Raises:
            TypeError: If the latents are discrete.
            ValueError: If encoder and prior give latents of different shapes.
        """
        encoder = checked("encoder", self.encoder(x), len(x))
        mean, std = _normal("encoder", encoder)
        shares = [(1 - self.prior_share) / len(self.widths)] * len(self.widths)
        locs, scales = [mean] * len(shares), [width * std for width in self.widths]
        if self.prior_share:
            prior = self.prior()
            if prior.event_shape != encoder.event_shape:
                raise ValueError(
                    f"encoder must give latents of the prior's shape {tuple(prior.event_shape)}, "
                    f"got {tuple(encoder.event_shape)}"
                )
            for parts, part in zip((locs, scales), _normal("prior", prior), strict=True):
                parts.append(part.expand_as(mean))
            shares.append(self.prior_share)
        components = DiagNormal(torch.stack(locs, 1), torch.stack(scales, 1), mean.dim() - 1)
        return Mixture(mean.new_tensor(shares).log(), components)


def _normal(name: str, distribution: Distribution) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a continuous distribution."""
    if is_discrete(distribution):
        raise TypeError(
            f"{name} must give continuous latents for a mixture of normals, "
            f"got {type(distribution).__name__}"
        )
    mean, std, _ = moments(distribution)
    return mean, std


def refit_proposal(
    model: Joint,
    train: Data,
    val: Data | None = None,
    *,
    start: Conditional | None = None,
    num_samples: int = 16,
    training: Training = Training(epochs=200, warmup=0),
    fabric: Fabric | None = None,
    progress: bool | None = None,
) -> nn.Module:
    r"""Train a copy of the encoder to be a good proposal; the model stays as it is.

    It maximises the importance-weighted bound, which is tight for the posterior alone, and which
    punishes what the proposal misses more than the ELBO does:

    .. math:: E \log \tfrac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x), \quad z_k \sim q(z|x)

    Its gradient is the doubly reparameterised one, which does not drown in noise for many samples.
    The copy is trained in evaluation mode: dropout is off, and batch normalisation keeps its
    statistics, so that a density is that of its draw.

    Args:
        model: The model, whose decoder and prior stay fixed.
        train: Data to train on, as for `fit`. Any proposal is a valid one, so they may be those
            that the likelihood is then measured on; but one trained on other data tells more of
            how it will do.
        val: Held-out data for early stopping, likewise.
        start: What to begin with, a module whose draws are reparameterised; by default the
            encoder. A copy of it is trained.
        num_samples: Number K of samples for each datum.
        training: The recipe. An encoder that is too narrow by a factor c needs at least
            log(c) / learning_rate steps.
        fabric: Device, precision and strategy, as for `fit`.
        progress: Whether to show a progress bar, as for `fit`.

    Returns:
        The trained copy, in evaluation mode, where the model is.

    Raises:
        TypeError: If draws of `start` are not reparameterised.
        ValueError: If `num_samples` is not positive, and for data and recipe as `fit` does.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519;
        Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives (Tucker et al.,
        2019), https://arxiv.org/abs/1810.04152

    Example:
        >>> model = Joint(
        ...     mm.Gaussian(MLP(3, 4)), mm.Gaussian(MLP(2, 6)), mm.StandardNormal(2)
        ... )
        >>> train, test = torch.randn(100, 3), torch.randn(5, 3)
        >>> recipe = mm.Training(epochs=2, warmup=0)
        >>> proposal = mm.refit_proposal(model, train, training=recipe)
        >>> mm.log_likelihood(model, test, 500, proposal=proposal).flagged.shape
        torch.Size([5])
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be 1 or more, got {num_samples}")
    start = cast(Conditional, model.encoder) if start is None else start
    loss = _ImportanceWeighted(model, cast(nn.Module, start), num_samples)
    fit(loss, train, val, training, fabric=fabric, progress=progress)
    place = next(model.parameters(), None)
    return loss.proposal if place is None else loss.proposal.to(place.device)


class _ImportanceWeighted(nn.Module):
    """Minus the importance-weighted bound, of which the proposal alone can be trained."""

    def __init__(self, model: Joint, proposal: nn.Module, num_samples: int) -> None:
        super().__init__()
        # Copies, since training may move them to another device.
        self.proposal = copy.deepcopy(proposal).requires_grad_(True)
        self.decoder = copy.deepcopy(model.decoder).requires_grad_(False)
        self.prior = copy.deepcopy(model.prior).requires_grad_(False)
        self.num_samples = num_samples
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, x: Tensor, annealing: Annealing | None = None) -> Tensor:
        """Loss for each of the data (B, *X), shape (B,), in nats; there is nothing to anneal."""
        z, _, score = draw(checked("start", self.proposal(x), len(x)), (self.num_samples,))
        if score is not None:
            raise TypeError(
                "start must give distributions whose draws are reparameterised, such as "
                "mm.Gaussian does, for gradients to reach it"
            )
        log_q = without_gradient(self.proposal, x).log_prob(z)
        repeated = x.expand(len(z), *x.shape).flatten(0, 1)
        decoder = checked("decoder", self.decoder(z.flatten(0, 1)), len(repeated))
        log_p = decoder.log_prob(repeated).unflatten(0, (len(z), -1))
        log_weights = log_p + self.prior().log_prob(z) - log_q
        bound = torch.logsumexp(log_weights, 0) - math.log(len(z))
        # Its value is the bound, its gradient Σ w̃² ∇ log w through the samples alone.
        surrogate = (log_weights.softmax(0).square().detach() * log_weights).sum(0)
        loss: Tensor = surrogate.detach() - bound.detach() - surrogate
        return loss
