"""Fit linear models in closed form: probabilistic principal component analysis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mimachine._support.checks import whole
from mimachine._support.process import exclusive
from mimachine._support.seeds import derived_seed, forked
from mimachine.data.examples import Examples, all_examples
from mimachine.data.rows import Rows
from mimachine.model import conditionals, priors
from mimachine.model.joint import Joint
from mimachine.model.loss import Loss
from mimachine.model.networks import MLP
from mimachine.training.fit import History
from mimachine.training.records import Epoch

Array = NDArray[Any]

__all__ = ["fit_in_closed_form", "fit_principal_components", "probabilistic_pca"]

# Least noise of the decoder, as a fraction of the data's standard deviation.
_LEAST_NOISE = 1e-3
_MOST_ROWS = 50_000
# Least probability of a binary value.
_RARE = 1e-3
# Standard deviation of a logistic distribution of scale 1.
_LOGISTIC = math.pi / math.sqrt(3)


def probabilistic_pca(x: Examples, latent: int) -> Joint:
    r"""Probabilistic principal component analysis, as a model with encoder, decoder and prior.

    .. math:: p(z) = N(0, I), \quad p(x|z) = N(W z + \mu, \sigma^2 I)

    at its maximum likelihood, with the exact posterior as q(z|x), a diagonal normal. It is the
    optimum of a VAE with linear networks, so it is the baseline of any auto-encoder.

    Args:
        x: Data, shape (N, D), N at least 2, in any form that `fit` takes.
        latent: Number of latents, 1 or more. Those beyond the rank of the data are not used.

    Raises:
        ValueError: If the data cannot be used, or `latent` is not positive.

    References:
        Probabilistic Principal Component Analysis (Tipping and Bishop, 1999)
        Don't Blame the ELBO! (Lucas et al., 2019), https://arxiv.org/abs/1911.02469
    """
    x = all_examples("x", x)
    if x.dim() != 2 or len(x) < 2:
        raise ValueError(f"x must have shape (N, D), N at least 2, got {tuple(x.shape)}")
    features, latent = x.shape[1], whole("latent", latent, 1)
    model = Joint(
        conditionals.Gaussian(MLP(features, 2 * latent, ()), floor=0.0),
        conditionals.Gaussian(MLP(latent, 2 * features, ()), floor=0.0),
        priors.StandardNormal(latent),
    ).to(x.device, x.dtype)
    fit_principal_components(model, x, posterior=True)
    return model


@torch.no_grad()
def fit_principal_components(
    model: Joint, train: Tensor | Rows, *, posterior: bool = False
) -> None:
    """Set the weights of a model of linear networks to probabilistic principal components.

    A decoder that is a discretised logistic distribution gets the mean and the variance of the
    Gaussian one, and a Bernoulli decoder has logits that are linear in z, with the Gaussian's mean
    to first order. Of over 50,000 rows a random subset is used.

    Args:
        model: A model as `build` makes it for the architecture pca.
        train: Training rows, shape (N, D).
        posterior: Whether means of codes are those of the posterior, which shrinks components of
            little variance towards 0; otherwise their reconstructions are projections, as is usual
            for principal components.

    Raises:
        ValueError: If encoder or decoder are not of one linear layer.
    """
    from sklearn.decomposition import PCA

    encoder, decoder = _linear(model.encoder), _linear(model.decoder)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    rows = train[order[:_MOST_ROWS]].double().cpu().numpy()
    latent, features = decoder.in_features, rows.shape[1]
    with exclusive():
        found = PCA(min(latent, *rows.shape), random_state=0).fit(rows)
    variances, axes = np.zeros(latent), np.zeros((latent, features))
    variances[: found.n_components_] = found.explained_variance_
    axes[: found.n_components_] = found.components_
    noise = max(float(found.noise_variance_), _LEAST_NOISE**2 * float(rows.var(0).mean()))
    kept = np.sqrt(np.maximum(variances - noise, 0.0))
    total = np.maximum(variances, noise)
    gain = kept / total if posterior else np.divide(1, kept, where=kept > 0, out=np.zeros(latent))
    project = gain[:, None] * axes
    scale = _log_scale(np.sqrt(noise / total), model.encoder)
    _set(encoder, project, -project @ found.mean_, scale)
    weight = (kept[:, None] * axes).T
    if isinstance(model.decoder, conditionals.Bernoulli):
        mean = found.mean_.clip(_RARE, 1 - _RARE)
        variance = mean * (1 - mean)
        _set(decoder, weight / variance[:, None], np.log(mean / (1 - mean)))
        return
    width = np.full(features, math.sqrt(noise))
    if isinstance(model.decoder, conditionals.DiscretizedLogistic):
        width /= _LOGISTIC
    _set(decoder, weight, found.mean_, _log_scale(width, model.decoder))


@torch.no_grad()
def fit_in_closed_form(loss: Loss, train: Tensor | Rows, val: Tensor | Rows) -> History:
    """Fit principal components, recorded as a single epoch.

    Args:
        loss: A loss whose model `build` makes for the architecture pca.
        train: Training rows, shape (N, D).
        val: Held-out rows.
    """
    fit_principal_components(loss.model, train)
    with forked(derived_seed(0, "closed form")):
        losses = [
            float(torch.cat([loss(rows).flatten() for rows in part.split(1000)]).mean())
            for part in (train, val)
        ]
    record = Epoch(1, 1.0, 0.0, *losses)
    return History([record], 1, False)


def _linear(conditional: nn.Module) -> nn.Linear:
    network = getattr(conditional, "network", None)
    layers = list(network) if isinstance(network, MLP) else []
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear):
        raise ValueError("principal components need an encoder and a decoder of one linear layer")
    return layers[0]


def _log_scale(scale: Array, conditional: nn.Module) -> Array:
    """Output for a scale, which is exp(output) + floor; a floor above it is all of the scale."""
    floor: Array = torch.as_tensor(conditional.floor).double().cpu().numpy()
    log_scale: Array = np.log(np.maximum(scale - floor, 1e-6 * scale))
    return log_scale


def _set(layer: nn.Linear, weight: Array, bias: Array, constant: Array | None = None) -> None:
    """Set the weights of a layer, whose output may end in constants."""
    if constant is not None:
        weight = np.concatenate([weight, np.zeros_like(weight)])
        bias = np.concatenate([bias, constant])
    layer.weight.copy_(torch.from_numpy(weight))
    layer.bias.copy_(torch.from_numpy(bias))
