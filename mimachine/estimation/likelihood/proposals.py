"""Importance-sampling proposals that are closer to the posterior than the encoder."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from mimachine._support.checks import instance, real, whole
from mimachine.estimation.codes.moments import moments
from mimachine.model.annealing import Annealing
from mimachine.model.conditionals import Conditional
from mimachine.model.discrete import is_discrete
from mimachine.model.distributions import DiagNormal, Mixture, draw
from mimachine.model.joint import Joint, check_joint, checked
from mimachine.model.priors import Prior, without_gradient
from mimachine.training.batches import Data
from mimachine.training.fit import fit
from mimachine.training.recipe import Training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["DefensiveProposal", "refit_proposal"]


class DefensiveProposal(nn.Module):
    """Defensive proposal: a mixture of the encoder's normal, wider copies, and the prior's normal.

    With a normal prior in the mixture, the weights p(x|z) p(z) / q(z|x) cannot exceed
    p(x|z) / `prior_share`, so their tail is light. This is enough in few dimensions. In many, one
    of the widths must match the posterior's: a proposal that is wider by a factor c needs about c^D
    times as many samples in D dimensions, and samples from the prior are useless. Use
    `refit_proposal` there.

    All components are normal, with the mean and the standard deviation of the encoder or prior.
    Moments without a closed form are estimated from samples.

    Args:
        model: The model whose encoder and prior form the mixture. Their parameters are shared.
        widths: Factors on the encoder's standard deviation, one component each, of equal weight.
        prior_share: Weight of the prior's normal, in [0, 1).

    Raises:
        ValueError: If there are no widths, one is not positive, or the share is out of range.

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
        instance("widths", widths, Sequence, "a list of positive numbers")
        if not widths:
            raise ValueError(f"widths must be one or more positive numbers, got {widths!r}")
        check_joint("model", model)
        self.encoder, self.prior = model.encoder, model.prior
        self.widths = tuple(real("widths", width, 0, above=True) for width in widths)
        self.prior_share = real("prior_share", prior_share, 0, below=1)

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
    r"""Train a copy of the encoder as an importance-sampling proposal; the model is unchanged.

    It maximises the importance-weighted bound, which is tight only for the posterior, and which
    penalises missed modes more than the ELBO does:

    .. math:: E \log \tfrac1K \sum_k p(x|z_k) p(z_k) / q(z_k|x), \quad z_k \sim q(z|x)

    The gradient is doubly reparameterised, so it is not dominated by noise for many samples. The
    copy is trained in evaluation mode: dropout is off and batch normalisation keeps its statistics,
    so that the density is that of the draw.

    Args:
        model: The model, whose decoder and prior stay fixed.
        train: Data to train on, as for `fit`. Any proposal is valid, so these may be the data that
            the likelihood is measured on.
        val: Held-out data for early stopping, as for `fit`.
        start: Initial proposal, a module whose draws are reparameterised; by default the encoder. A
            copy of it is trained.
        num_samples: Number K of samples per example.
        training: The recipe. An encoder that is too narrow by a factor c needs at least
            log(c) / learning_rate steps.
        fabric: Device, precision and strategy, as for `fit`.
        progress: Whether to show a progress bar, as for `fit`.

    Returns:
        The trained copy, in evaluation mode, on the model's device.

    Raises:
        TypeError: If draws of `start` are not reparameterised.
        ValueError: If `num_samples` is not positive, and as for `fit`.

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
    check_joint("model", model)
    num_samples = whole("num_samples", num_samples, 1)
    start = cast(Conditional, model.encoder) if start is None else start
    instance("start", start, nn.Module, "a module that returns a distribution")
    loss = _ImportanceWeighted(model, cast(nn.Module, start), num_samples)
    fit(loss, train, val, training, fabric=fabric, progress=progress)
    place = next(model.parameters(), None)
    return loss.proposal if place is None else loss.proposal.to(place.device)


class _ImportanceWeighted(nn.Module):
    """Negative importance-weighted bound, in which only the proposal is trained."""

    def __init__(self, model: Joint, proposal: nn.Module, num_samples: int) -> None:
        super().__init__()
        # Copies, since training may move them to another device.
        self.proposal = copy.deepcopy(proposal).requires_grad_(True)
        self.decoder = copy.deepcopy(model.decoder).requires_grad_(False)
        self.prior = copy.deepcopy(model.prior).requires_grad_(False)
        self.num_samples = num_samples
        self.eval()

    @property
    def model(self) -> Joint:
        """The parts as a model, to explain what does not fit."""
        return Joint(self.proposal, self.decoder, cast(Prior, self.prior))

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, x: Tensor, annealing: Annealing | None = None) -> Tensor:
        """Loss of each row of x (B, *X), shape (B,), in nats; annealing is ignored."""
        z, _, score = draw(checked("start", self.proposal(x), len(x)), (self.num_samples,))
        if score is not None:
            raise TypeError(
                "start must give distributions whose draws are reparameterised, as mm.Gaussian "
                "does, to have gradients"
            )
        log_q = without_gradient(self.proposal, x).log_prob(z)
        repeated = x.expand(len(z), *x.shape).flatten(0, 1)
        decoder = checked("decoder", self.decoder(z.flatten(0, 1)), len(repeated))
        log_p = decoder.log_prob(repeated).unflatten(0, (len(z), -1))
        log_weights = log_p + self.prior().log_prob(z) - log_q
        bound = torch.logsumexp(log_weights, 0) - math.log(len(z))
        # The value is the bound; the gradient is Σ w̃² ∇ log w, through the samples only.
        surrogate = (log_weights.softmax(0).square().detach() * log_weights).sum(0)
        loss: Tensor = surrogate.detach() - bound.detach() - surrogate
        return loss
